//! Signatures of Amazon's APIs, version 4: a request is let in by a hash over it, keyed with a secret that is not sent.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use jiff::Timestamp;
use protocol::{key::hex, secret::SecretString};
use ring::{
    digest::{SHA256, digest},
    hmac::{self, HMAC_SHA256, Key},
};

use super::path::segment;

/// The name of the algorithm.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The header with the time of the signature.
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
/// The header with the token of keys that end.
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Keys, and what they sign for.
pub(crate) struct Signer {
    key_id: String,
    secret: SecretString,
    token: Option<HeaderValue>,
    region: String,
    service: &'static str,
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Signer")
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// A signer with these keys; `None` if no header can carry the id or the token.
    pub(crate) fn new(
        (key_id, secret): (&SecretString, &SecretString),
        token: Option<&SecretString>,
        region: &str,
        service: &'static str,
    ) -> Option<Self> {
        HeaderValue::from_str(key_id.expose()).ok()?;
        let token = token.map(|token| {
            let mut value = HeaderValue::from_str(token.expose()).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Some(Self {
            key_id: key_id.expose().to_owned(),
            secret: secret.clone(),
            token: match token {
                Some(token) => Some(token?),
                None => None,
            },
            region: region.to_owned(),
            service,
        })
    }

    /// Adds the signature of a request to its headers. What is signed: the method, the path, the query, the body, the host,
    /// the content type, and the headers that this adds.
    pub(crate) fn sign(
        &self,
        (method, uri): (&Method, &Uri),
        headers: &mut HeaderMap,
        body: &[u8],
        now: Timestamp,
    ) {
        let time = now.strftime("%Y%m%dT%H%M%SZ").to_string();
        let day = time.get(..8).unwrap_or_default();
        // Digits and letters, and a token that was a header's value before.
        headers.insert(
            DATE,
            HeaderValue::from_str(&time).unwrap_or(HeaderValue::from_static("")),
        );
        if let Some(token) = &self.token {
            headers.insert(TOKEN, token.clone());
        }
        let (names, lines) = canonical_headers(uri, headers);
        let request = [
            method.as_str(),
            &canonical_path(uri.path()),
            &canonical_query(uri.query().unwrap_or_default()),
            &lines,
            &names,
            &hex(digest(&SHA256, body).as_ref()),
        ]
        .join("\n");
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let hashed = hex(digest(&SHA256, request.as_bytes()).as_ref());
        let to_sign = [ALGORITHM, &time, &scope, &hashed].join("\n");
        let signature = hex(&mac(&self.key(day), to_sign.as_bytes()));
        let id = &self.key_id;
        let value = format!(
            "{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"
        );
        if let Ok(mut value) = HeaderValue::from_str(&value) {
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
    }

    /// The key of a day.
    fn key(&self, day: &str) -> Vec<u8> {
        let secret = format!("AWS4{}", self.secret.expose());
        [day, &self.region, self.service, "aws4_request"]
            .iter()
            .fold(secret.into_bytes(), |key, part| mac(&key, part.as_bytes()))
    }
}

fn mac(key: &[u8], data: &[u8]) -> Vec<u8> {
    hmac::sign(&Key::new(HMAC_SHA256, key), data)
        .as_ref()
        .to_vec()
}

/// The names of the headers that are signed, and their lines.
fn canonical_headers(uri: &Uri, headers: &HeaderMap) -> (String, String) {
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let mut signed = vec![(header::HOST, host.to_owned())];
    for name in [header::CONTENT_TYPE, DATE, TOKEN] {
        if let Some(value) = headers.get(&name).and_then(|value| value.to_str().ok()) {
            let words: Vec<&str> = value.split_whitespace().collect();
            signed.push((name, words.join(" ")));
        }
    }
    signed.sort_unstable_by(|(left, _), (right, _)| left.as_str().cmp(right.as_str()));
    let names: Vec<&str> = signed.iter().map(|(name, _)| name.as_str()).collect();
    let lines = signed
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"));
    (names.join(";"), lines.collect())
}

/// The path with each segment encoded once more than it is sent.
fn canonical_path(path: &str) -> String {
    let segments: Vec<String> = path.split('/').map(segment).collect();
    segments.join("/")
}

/// The parameters, sorted; they are sent encoded.
fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.contains('=') {
            true => pair.to_owned(),
            false => format!("{pair}="),
        })
        .collect();
    pairs.sort_unstable();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method, Uri};
    use protocol::secret::SecretString;

    use super::Signer;

    /// The keys and the time of the examples that Amazon publishes.
    #[track_caller]
    fn check(
        (method, path): (Method, &str),
        content_type: Option<&'static str>,
        (token, body): (Option<&str>, &str),
        expected: &str,
    ) {
        let secret = |text: &str| SecretString::new(text.to_owned());
        let token = token.map(secret);
        let signer = Signer::new(
            (
                &secret("AKIDEXAMPLE"),
                &secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            ),
            token.as_ref(),
            "us-east-1",
            "service",
        )
        .unwrap();
        let mut headers = HeaderMap::new();
        if let Some(content_type) = content_type {
            headers.insert("content-type", HeaderValue::from_static(content_type));
        }
        let uri: Uri = format!("https://example.amazonaws.com{path}")
            .parse()
            .unwrap();
        let now = "2015-08-30T12:36:00Z".parse().unwrap();
        signer.sign((&method, &uri), &mut headers, body.as_bytes(), now);
        assert_eq!(headers["x-amz-date"], "20150830T123600Z");
        let scope = "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request";
        let expected = format!("AWS4-HMAC-SHA256 Credential={scope}, {expected}");
        assert_eq!(headers["authorization"], expected.as_str());
        assert!(headers["authorization"].is_sensitive());
        assert!(!format!("{signer:?}").contains("EXAMPLE"), "{signer:?}");
    }

    #[test]
    fn signatures_are_those_of_amazons_examples() {
        let plain = "SignedHeaders=host;x-amz-date, Signature=";
        let get = |path: &'static str, signature: &str| {
            check(
                (Method::GET, path),
                None,
                (None, ""),
                &format!("{plain}{signature}"),
            );
        };
        get(
            "/",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        );
        get(
            "/?Param2=value2&Param1=value1",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        );
        check(
            (Method::POST, "/"),
            None,
            (None, ""),
            &format!("{plain}5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        );
        let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
        check(
            (Method::POST, "/"),
            None,
            (Some(token), ""),
            "SignedHeaders=host;x-amz-date;x-amz-security-token, \
             Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
        );
        check(
            (Method::POST, "/"),
            Some("application/x-www-form-urlencoded"),
            (None, "Param1=value1"),
            "SignedHeaders=content-type;host;x-amz-date, \
             Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        );
    }
}
