//! Signature Version 4 over a request without a body.
//!
//! Source: AWS, "Authenticating Requests: Using the Authorization Header (Signature Version 4)".

use jiff::Timestamp;
use protocol::secret::SecretString;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use ring::hmac;

use super::stamp;
use crate::source::access::secret_value;
use crate::source::digest::{of_bytes, to_hex};
use crate::source::error::FetchError;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "s3";
/// SHA-256 of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A key and what it is used for.
#[derive(Debug)]
pub(in crate::source) struct Signer {
    pub(in crate::source) id: String,
    pub(in crate::source) secret: SecretString,
    pub(in crate::source) session: Option<SecretString>,
    pub(in crate::source) region: String,
}

impl Signer {
    /// The headers that a GET of `url` needs now.
    pub(in crate::source) fn headers(
        &self,
        url: &Url,
        now: Timestamp,
    ) -> Result<HeaderMap, FetchError> {
        let stamp = stamp(now);
        let host = match (url.host_str().unwrap_or_default(), url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        let mut signed = vec![
            ("host", host),
            ("x-amz-content-sha256", EMPTY.to_owned()),
            ("x-amz-date", stamp.clone()),
        ];
        if let Some(session) = &self.session {
            signed.push(("x-amz-security-token", session.expose().trim().to_owned()));
        }
        let authorization = self.authorization(url, &signed, SERVICE, &stamp);
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, secret_value(&authorization)?);
        for (name, value) in signed.iter().filter(|(name, _)| *name != "host") {
            let mut value: HeaderValue = secret_value(value)?;
            value.set_sensitive(*name == "x-amz-security-token");
            headers.insert(HeaderName::from_static(name), value);
        }
        Ok(headers)
    }

    /// The `Authorization` of a GET with these headers, which are in order.
    fn authorization(
        &self,
        url: &Url,
        headers: &[(&'static str, String)],
        service: &str,
        stamp: &str,
    ) -> String {
        let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}:{}\n", value.trim()))
            .collect();
        let request = format!(
            "GET\n{}\n{}\n{lines}\n{names}\n{EMPTY}",
            url.path(),
            canonical_query(url)
        );
        let day = &stamp[..8];
        let scope = format!("{day}/{}/{service}/aws4_request", self.region);
        let text = format!(
            "{ALGORITHM}\n{stamp}\n{scope}\n{}",
            of_bytes(request.as_bytes())
        );
        let first = format!("AWS4{}", self.secret.expose());
        let mut key = first.into_bytes();
        for part in [day, &self.region, service, "aws4_request"] {
            key = sign(&key, part);
        }
        let signature = to_hex(&sign(&key, &text));
        let id = &self.id;
        format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}")
    }
}

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

/// The query, sorted by name and then by value; it is escaped already.
fn canonical_query(url: &Url) -> String {
    let mut pairs: Vec<(&str, &str)> = url
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// Escapes all but letters, digits and four signs, as signatures want it; slashes stay in paths.
pub(in crate::source) fn encode(text: &str, is_path: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let is_plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if is_plain || (is_path && byte == b'/') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use protocol::secret::SecretString;

    use super::{EMPTY, Signer, encode};

    /// A vector of AWS: the key, the headers, the address, the service and its day, and the signature.
    #[track_caller]
    fn check(id: &str, secret: &str, url: &str, headers: &[(&'static str, &str)], expected: &str) {
        let (service, stamp) = match id {
            "AKIDEXAMPLE" => ("service", "20150830T123600Z"),
            _ => ("s3", "20130524T000000Z"),
        };
        let signer = Signer {
            id: id.to_owned(),
            secret: SecretString::new(secret.to_owned()),
            session: None,
            region: "us-east-1".to_owned(),
        };
        let headers: Vec<(&'static str, String)> = headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        let authorization = signer.authorization(&url.parse().unwrap(), &headers, service, stamp);
        let (_, signature) = authorization.split_once("Signature=").unwrap();
        assert_eq!(signature, expected, "{url}: {authorization}");
        assert!(authorization.starts_with(&format!("AWS4-HMAC-SHA256 Credential={id}/")));
    }

    /// Source: the examples of "Authenticating Requests" in the S3 API reference.
    #[test]
    fn signatures_are_those_of_the_s3_reference() {
        let id = "AKIAIOSFODNN7EXAMPLE";
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let host = ("host", "examplebucket.s3.amazonaws.com");
        let (body, date) = (
            ("x-amz-content-sha256", EMPTY),
            ("x-amz-date", "20130524T000000Z"),
        );
        let at = |rest: &str| format!("https://examplebucket.s3.amazonaws.com/{rest}");
        let range = ("range", "bytes=0-9");
        for (rest, headers, expected) in [
            (
                "test.txt",
                vec![host, range, body, date],
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            ),
            (
                "?lifecycle",
                vec![host, body, date],
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "?prefix=J&max-keys=2",
                vec![host, body, date],
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ] {
            check(id, secret, &at(rest), &headers, expected);
        }
    }

    /// Source: the Signature Version 4 test suite, `get-vanilla` and `get-vanilla-query-order-key-case`.
    #[test]
    fn signatures_are_those_of_the_test_suite() {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let headers = [
            ("host", "example.amazonaws.com"),
            ("x-amz-date", "20150830T123600Z"),
        ];
        for (rest, expected) in [
            (
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "?Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
        ] {
            let url = format!("https://example.amazonaws.com/{rest}");
            check("AKIDEXAMPLE", secret, &url, &headers, expected);
        }
    }

    #[test]
    fn what_is_not_plain_is_escaped() {
        assert_eq!(encode("a b/c+d~é", true), "a%20b/c%2Bd~%C3%A9");
        assert_eq!(encode("a/b=", false), "a%2Fb%3D");
    }
}
