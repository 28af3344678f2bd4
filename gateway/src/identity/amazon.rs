//! Amazon's keys that end: for a role that trusts the tokens of the gateway's Pod, from the agent of EKS beside the Pod,
//! or for a role that keys of a Secret may take.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{Request, Uri, header};
use http_body_util::Full;
use jiff::Timestamp;
use protocol::{
    address::host_of,
    provider::{Role, Workload},
    secret::SecretString,
};
use serde::Deserialize;

use super::{
    NoToken, Unusable,
    asking::{address, ask, encoded, file, form, read, sensitive, unreachable, until},
    held::{Fresh, Source},
    own::Own,
    secret,
};
use crate::{
    provider::{BEDROCK, Signer},
    upstream::Upstream,
};

/// The version of the API that gives keys for roles.
const VERSION: (&str, &str) = ("Version", "2011-06-15");
/// The service that requests for keys are signed for.
const SERVICE: &str = "sts";
/// Characters of a session's name.
const SESSION_LENGTH_MAX: usize = 64;
/// Hosts that agents with keys answer at, besides the loopback interface: those of ECS and of EKS.
const AGENTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// Keys, of which those that end come with a token.
#[derive(Clone)]
pub(super) struct Keys {
    /// Their id.
    pub(super) id: SecretString,
    /// The key that signs.
    pub(super) secret: SecretString,
    /// The token of keys that end.
    pub(super) token: Option<SecretString>,
}

/// A role that is taken for a namespace.
pub(super) struct Assumed {
    arn: String,
    external_id: Option<SecretString>,
    session: String,
}

/// Where the first keys come from.
pub(super) enum Origin {
    /// A Secret.
    Keys(Keys),
    /// The gateway's token in this file, for which keys of this role are given.
    Web(PathBuf, Assumed),
    /// The agent at this address, which is shown what is in this file.
    Agent(Uri, Option<PathBuf>),
}

/// Keys for Bedrock in a region.
pub(super) struct Amazon {
    region: String,
    sts: Uri,
    origin: Origin,
    role: Option<Assumed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Given {
    access_key_id: SecretString,
    secret_access_key: SecretString,
    token: SecretString,
    expiration: String,
}

impl Assumed {
    /// A role, taken in a session that is named after the namespace, so that the role can tell namespaces apart.
    pub(super) fn new(role: &Role, namespace: &str) -> Self {
        let mut session = format!("quarterdeck-{namespace}");
        session.truncate(SESSION_LENGTH_MAX);
        Self {
            arn: role.arn.clone(),
            external_id: role.external_id.clone(),
            session: session.trim_end_matches('-').to_owned(),
        }
    }

    /// The form that asks for its keys.
    fn pairs<'a>(&'a self, action: &'a str) -> Vec<(&'a str, &'a str)> {
        let mut pairs = vec![
            ("Action", action),
            VERSION,
            ("RoleArn", &*self.arn),
            ("RoleSessionName", &*self.session),
        ];
        let external_id = self.external_id.as_ref();
        pairs.extend(external_id.map(|id| ("ExternalId", id.expose())));
        pairs
    }
}

impl Amazon {
    /// Keys that come from there, perhaps for a role.
    pub(super) fn new(
        region: &str,
        origin: Origin,
        role: Option<Assumed>,
        own: &Own,
    ) -> Result<Self, Unusable> {
        let suffix = match region.starts_with("cn-") {
            true => "amazonaws.com.cn",
            false => "amazonaws.com",
        };
        let known = || format!("https://sts.{region}.{suffix}/");
        Ok(Self {
            region: region.to_owned(),
            sts: address(&own.amazon.sts.clone().unwrap_or_else(known))?,
            origin,
            role,
        })
    }

    /// Keys of the gateway's own, as its environment says where they are.
    pub(super) fn of_own(
        region: &str,
        workload: &Workload,
        namespace: &str,
        own: &Own,
    ) -> Result<Self, Unusable> {
        let amazon = &own.amazon;
        let role = |arn: &String| {
            let role = Role {
                arn: arn.clone(),
                external_id: None,
            };
            Assumed::new(&role, namespace)
        };
        let named = workload.role_arn.as_ref();
        if let Some(file) = &amazon.web_token_file {
            let arn = named.or(amazon.role.as_ref()).ok_or_else(|| {
                Unusable("no role of Amazon's is named; see --aws-role-arn".to_owned())
            })?;
            return Self::new(region, Origin::Web(file.clone(), role(arn)), None, own);
        }
        let Some(url) = &amazon.agent_url else {
            let message =
                "the gateway has no identity of Amazon's; see --aws-web-identity-token-file";
            return Err(Unusable(message.to_owned()));
        };
        let origin = Origin::Agent(agent(url)?, amazon.agent_token_file.clone());
        Self::new(region, origin, named.map(role), own)
    }

    /// The keys that sign, and how long they last.
    async fn keys(&self, upstream: &Upstream) -> Result<(Keys, Duration), NoToken> {
        let (keys, lasts) = match &self.origin {
            Origin::Web(path, role) => {
                let token = file(path).await?;
                let mut pairs = role.pairs("AssumeRoleWithWebIdentity");
                pairs.push(("WebIdentityToken", token.expose()));
                let request = form(&self.sts, encoded(&pairs))?;
                return given(&ask(upstream, request).await?);
            }
            Origin::Keys(keys) => (keys.clone(), Duration::MAX),
            Origin::Agent(url, token) => from_agent(upstream, url, token.as_deref()).await?,
        };
        match &self.role {
            None => Ok((keys, lasts)),
            Some(role) => self.assume(upstream, &keys, role).await,
        }
    }

    /// The keys of a role that these keys may take.
    async fn assume(
        &self,
        upstream: &Upstream,
        keys: &Keys,
        role: &Assumed,
    ) -> Result<(Keys, Duration), NoToken> {
        let body = encoded(&role.pairs("AssumeRole"));
        let mut request = form(&self.sts, body.clone())?;
        let signer = self.signer(keys, SERVICE)?;
        let (method, uri) = (request.method().clone(), self.sts.clone());
        let headers = request.headers_mut();
        signer.sign((&method, &uri), headers, &body, Timestamp::now());
        given(&ask(upstream, request).await?)
    }

    fn signer(&self, keys: &Keys, service: &'static str) -> Result<Signer, NoToken> {
        let pair = (&keys.id, &keys.secret);
        Signer::new(pair, keys.token.as_ref(), &self.region, service)
            .ok_or_else(|| unreachable("the keys cannot be sent"))
    }

    async fn fetched(&self, upstream: &Upstream) -> Result<Fresh<Arc<Signer>>, NoToken> {
        let (keys, lasts) = self.keys(upstream).await?;
        let value = Arc::new(self.signer(&keys, BEDROCK)?);
        Ok(Fresh { value, lasts })
    }
}

impl Source<Arc<Signer>> for Amazon {
    fn fetch<'a>(
        &'a self,
        upstream: &'a Upstream,
    ) -> BoxFuture<'a, Result<Fresh<Arc<Signer>>, NoToken>> {
        self.fetched(upstream).boxed()
    }
}

/// The address of an agent beside the Pod. It is the one use of a link-local address, and the gateway's environment names
/// it: tokens for keys are shown to nobody farther away.
pub(super) fn agent(url: &str) -> Result<Uri, Unusable> {
    let host = host_of(url).unwrap_or_default();
    let is_near = AGENTS.contains(&host)
        || host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    let unusable = || Unusable("the address of the agent with Amazon's keys is none".to_owned());
    if !is_near {
        return Err(unusable());
    }
    url.parse().map_err(|_| unusable())
}

/// The keys that an agent gives.
async fn from_agent(
    upstream: &Upstream,
    url: &Uri,
    token: Option<&Path>,
) -> Result<(Keys, Duration), NoToken> {
    let mut request = Request::get(url.clone())
        .body(Full::new(Bytes::new()))
        .map_err(|_| unreachable("the agent's address makes no request"))?;
    if let Some(path) = token {
        let token = sensitive(file(path).await?.expose())?;
        request.headers_mut().insert(header::AUTHORIZATION, token);
    }
    let body = ask(upstream, request).await?;
    let given: Given = read(&body)?;
    let keys = Keys {
        id: given.access_key_id,
        secret: given.secret_access_key,
        token: Some(given.token),
    };
    Ok((keys, until(&given.expiration)?))
}

/// The keys in an answer of the service that gives them for roles.
fn given(body: &[u8]) -> Result<(Keys, Duration), NoToken> {
    let missing = || unreachable("the token server's answer holds no keys");
    let text = std::str::from_utf8(body).map_err(|_| missing())?;
    let credentials = between(text, "Credentials").ok_or_else(missing)?;
    let part = |name: &str| element(credentials, name).ok_or_else(missing);
    let keys = Keys {
        id: secret(&part("AccessKeyId")?),
        secret: secret(&part("SecretAccessKey")?),
        token: Some(secret(&part("SessionToken")?)),
    };
    Ok((keys, until(part("Expiration")?.trim())?))
}

/// The text of the first element of this name; the service writes no attributes, no comments and no CDATA.
pub(super) fn element(text: &str, name: &str) -> Option<String> {
    let text = between(text, name)?;
    let known = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        // Last, so that what it uncovers stays as it is.
        ("&amp;", "&"),
    ];
    let plain = |text: String, (written, meant): (&str, &str)| text.replace(written, meant);
    Some(known.into_iter().fold(text.to_owned(), plain))
}

/// What is between the first beginning of an element and its end.
fn between<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once(&format!("</{name}>"))?;
    Some(inner)
}
