//! What an External engine wants, checked: where the provider is, what it answers, how the gateway is let in.

use std::collections::BTreeMap;

use crds::{
    external::{self, CredentialsRef, External, ProviderKind},
    reference::SecretKeyRef,
};
use protocol::{
    address::{host_of, is_forbidden_host},
    provider::{Api, Application, Credential, Header, Provider, Role, Workload},
    secret::SecretString,
    snapshot::Adapter,
    vendor::{self, Vendor},
};

use super::validate::{BadCredential, InvalidModel, Secrets, credential};

/// Where credentials are named.
const PATH: &str = "spec.engine.external.credentialsRef";
/// The key of a Secret with an API key.
const API_KEY: &str = "API_KEY";
/// The key of a Secret with the key file of a Google service account.
const SERVICE_ACCOUNT: &str = "service-account.json";
/// The key of a Secret with an API key of Bedrock's.
const BEDROCK_KEY: &str = "AWS_BEARER_TOKEN_BEDROCK";

/// The key of a Secret with the secret of an application of Entra ID.
const AZURE_SECRET: &str = "AZURE_CLIENT_SECRET";
/// The key of a Secret with the address where Entra ID gives tokens, if it is not that of the gateway's cloud.
const AZURE_AUTHORITY: &str = "AZURE_AUTHORITY_HOST";

/// A provider's model that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExternalEngine {
    pub(crate) base_url: String,
    pub(crate) model: String,
    pub(crate) provider: Provider,
    pub(crate) vendor: Option<String>,
    pub(crate) apis: Vec<Api>,
    pub(crate) headers: Vec<Header>,
    pub(crate) credential: Option<Credential>,
    pub(crate) adapters: Vec<Adapter>,
}

/// Checks an External engine of a Model with this name.
pub(super) fn external(
    external: &External,
    served_name: &str,
    secrets: &Secrets,
) -> Result<ExternalEngine, InvalidModel> {
    let provider = provider(external)?;
    let named = external.vendor.as_deref().map(find).transpose()?;
    let base_url = base_url(external, &provider, named)?;
    let is_openai = matches!(provider, Provider::OpenAI);
    // Who wrote the address of a vendor gets its peculiarities too.
    let vendor = named.or_else(|| vendor::at(&base_url).filter(|_| is_openai));
    Ok(ExternalEngine {
        model: external
            .model
            .clone()
            .unwrap_or_else(|| served_name.to_owned()),
        apis: apis(external, vendor),
        headers: external.headers.iter().map(header).collect(),
        vendor: vendor.map(|vendor| vendor.name.clone()),
        credential: credential_of(external, &provider, secrets)?,
        provider,
        base_url,
        adapters: external.adapters.iter().map(adapter).collect(),
    })
}

fn adapter(adapter: &external::ExternalAdapter) -> Adapter {
    let external::ExternalAdapter { name, path } = adapter;
    Adapter {
        name: name.clone(),
        model: name.clone(),
        path: path.clone(),
    }
}

fn provider(external: &External) -> Result<Provider, InvalidModel> {
    Ok(match external.provider {
        ProviderKind::OpenAI => Provider::OpenAI,
        ProviderKind::AzureOpenAI => Provider::AzureOpenAI {
            api_version: external
                .azure
                .as_ref()
                .and_then(|azure| azure.api_version.clone()),
        },
        ProviderKind::Anthropic => Provider::Anthropic,
        ProviderKind::Gemini => Provider::Gemini,
        ProviderKind::Ollama => Provider::Ollama,
        ProviderKind::Bedrock => match &external.bedrock {
            Some(bedrock) => Provider::Bedrock {
                region: bedrock.region.clone(),
            },
            None => return Err(InvalidModel::NoPlace("bedrock")),
        },
        ProviderKind::VertexAI => match &external.vertex {
            Some(vertex) => Provider::VertexAI {
                project: vertex.project.clone(),
                location: vertex.location.clone(),
            },
            None => return Err(InvalidModel::NoPlace("vertex")),
        },
    })
}

fn find(name: &str) -> Result<&'static Vendor, InvalidModel> {
    vendor::find(name).ok_or_else(|| InvalidModel::Vendor(name.to_owned()))
}

/// The address that is written, or else the vendor's, or else the provider's.
fn base_url(
    external: &External,
    provider: &Provider,
    vendor: Option<&Vendor>,
) -> Result<String, InvalidModel> {
    let of_vendor = vendor.map(|vendor| match provider {
        Provider::Anthropic => vendor.anthropic_url.clone(),
        _ => vendor.base_url.clone(),
    });
    let known = match of_vendor {
        Some(url) => url,
        None => provider.base_url(),
    };
    let url = external
        .base_url
        .clone()
        .or(known)
        .ok_or(InvalidModel::NoAddress)?;
    if host_of(&url).is_none_or(is_forbidden_host) {
        return Err(InvalidModel::Address(url));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// Empty where the provider decides.
fn apis(external: &External, vendor: Option<&Vendor>) -> Vec<Api> {
    if !external.apis.is_empty() {
        return external.apis.iter().map(|api| as_protocol(*api)).collect();
    }
    match (external.provider, vendor) {
        (ProviderKind::OpenAI, Some(vendor)) => vendor.apis.clone(),
        (ProviderKind::OpenAI, None) => vendor::PLAIN.to_vec(),
        _ => Vec::new(),
    }
}

const fn as_protocol(api: external::Api) -> Api {
    match api {
        external::Api::Chat => Api::Chat,
        external::Api::Completions => Api::Completions,
        external::Api::Embeddings => Api::Embeddings,
        external::Api::Responses => Api::Responses,
        external::Api::Messages => Api::Messages,
        external::Api::CountTokens => Api::CountTokens,
    }
}

fn header(header: &external::Header) -> Header {
    Header {
        name: header.name.clone(),
        value: SecretString::new(header.value.clone()),
    }
}

/// What lets the gateway in: what its own Pod is, or what a Secret holds.
fn credential_of(
    external: &External,
    provider: &Provider,
    secrets: &Secrets,
) -> Result<Option<Credential>, BadCredential> {
    if let Some(identity) = &external.workload_identity {
        let external::WorkloadIdentity {
            tenant_id,
            client_id,
            role_arn,
            service_account,
        } = identity.clone();
        let workload_identity = Workload {
            tenant_id,
            client_id,
            role_arn,
            service_account,
        };
        return Ok(Some(Credential::Workload { workload_identity }));
    }
    let reference = external.credentials_ref.as_ref();
    reference
        .map(|reference| credentials(provider, reference, secrets))
        .transpose()
}

fn credentials(
    provider: &Provider,
    reference: &CredentialsRef,
    secrets: &Secrets,
) -> Result<Credential, BadCredential> {
    let text = |key: &str| {
        let reference = SecretKeyRef {
            name: reference.name.clone(),
            key: key.to_owned(),
        };
        credential(&reference, PATH, secrets)
    };
    let key = reference.key.as_deref();
    match provider {
        Provider::VertexAI { .. } => {
            let key = key.unwrap_or(SERVICE_ACCOUNT);
            let service_account = text(key)?;
            if !is_google(service_account.expose()) {
                return Err(BadCredential::Malformed {
                    name: reference.name.clone(),
                    key: key.to_owned(),
                });
            }
            Ok(Credential::ServiceAccount { service_account })
        }
        Provider::Bedrock { .. } if key.is_none() => aws(reference, secrets, text),
        Provider::AzureOpenAI { .. } if key.is_none() => azure(reference, secrets, text),
        _ => text(key.unwrap_or(API_KEY)).map(Credential::Token),
    }
}

/// Bedrock's API key if the Secret has one, or else keys that sign.
fn aws(
    reference: &CredentialsRef,
    secrets: &Secrets,
    text: impl Fn(&str) -> Result<SecretString, BadCredential>,
) -> Result<Credential, BadCredential> {
    let has = |key: &str| has(secrets, reference, key);
    if has(BEDROCK_KEY) {
        return Ok(Credential::Token(text(BEDROCK_KEY)?));
    }
    let maybe = |key: &str| has(key).then(|| text(key)).transpose();
    let external_id = maybe("AWS_EXTERNAL_ID")?;
    let role = maybe("AWS_ROLE_ARN")?.map(|arn| Role {
        arn: arn.expose().to_owned(),
        external_id,
    });
    Ok(Credential::Aws {
        access_key_id: text("AWS_ACCESS_KEY_ID")?,
        secret_access_key: text("AWS_SECRET_ACCESS_KEY")?,
        session_token: maybe("AWS_SESSION_TOKEN")?,
        role,
    })
}

/// An API key if the Secret has one, or has nothing of an application of Entra ID.
fn azure(
    reference: &CredentialsRef,
    secrets: &Secrets,
    text: impl Fn(&str) -> Result<SecretString, BadCredential>,
) -> Result<Credential, BadCredential> {
    let has = |key: &str| has(secrets, reference, key);
    if has(API_KEY) || !has(AZURE_SECRET) {
        return Ok(Credential::Token(text(API_KEY)?));
    }
    let plain = |key: &str| text(key).map(|text| text.expose().to_owned());
    let authority = has(AZURE_AUTHORITY).then(|| plain(AZURE_AUTHORITY));
    Ok(Credential::Entra(Application {
        tenant_id: plain("AZURE_TENANT_ID")?,
        client_id: plain("AZURE_CLIENT_ID")?,
        client_secret: text(AZURE_SECRET)?,
        authority: authority.transpose()?,
    }))
}

fn has(secrets: &Secrets, reference: &CredentialsRef, key: &str) -> bool {
    let data = secrets.get(&reference.name).and_then(Option::as_ref);
    data.is_some_and(|data| data.contains_key(key))
}

/// Whether a text is the key file of a service account, or the credential file of a person.
fn is_google(text: &str) -> bool {
    let fields: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(text).unwrap_or_default();
    let is_person = fields
        .get("type")
        .is_some_and(|kind| kind == "authorized_user");
    match is_person {
        true => fields.contains_key("refresh_token"),
        false => fields.contains_key("private_key"),
    }
}
