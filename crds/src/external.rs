//! External engines: a provider's API, where it is, and how the gateway is let in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A model of a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.baseURL) || has(self.vendor) || !(self.provider in ['OpenAI', 'AzureOpenAI', 'Ollama'])",
        "message": "says not where the provider is; write its address, or with provider OpenAI a vendor, as openai",
        "fieldPath": ".baseURL"
    },
    {
        "rule": "!has(self.vendor) || self.provider in ['OpenAI', 'Anthropic']",
        "message": "only the providers OpenAI and Anthropic have vendors; remove vendor",
        "fieldPath": ".vendor"
    },
    {
        "rule": "!has(self.apis) || self.provider in ['OpenAI', 'AzureOpenAI']",
        "message": "only the providers OpenAI and AzureOpenAI differ in their APIs; remove apis",
        "fieldPath": ".apis"
    },
    {
        "rule": "!has(self.adapters) || self.provider == 'OpenAI'",
        "message": "only engines that speak OpenAI's API, as vLLM, have adapters; remove adapters",
        "fieldPath": ".adapters"
    },
    {
        "rule": "!has(self.azure) || self.provider == 'AzureOpenAI'",
        "message": "belongs to provider AzureOpenAI, and only to it",
        "fieldPath": ".azure"
    },
    {
        "rule": "has(self.bedrock) == (self.provider == 'Bedrock')",
        "message": "belongs to provider Bedrock, which needs its region, and only to it",
        "fieldPath": ".bedrock"
    },
    {
        "rule": "has(self.vertex) == (self.provider == 'VertexAI')",
        "message": "belongs to provider VertexAI, which needs its project and location, and only to it",
        "fieldPath": ".vertex"
    },
    {
        "rule": "has(self.credentialsRef) || has(self.workloadIdentity) || !(self.provider in ['Bedrock', 'VertexAI'])",
        "message": "is missing; Bedrock and VertexAI answer nobody without credentials",
        "fieldPath": ".credentialsRef"
    },
    {
        "rule": "!has(self.workloadIdentity) || !has(self.credentialsRef)",
        "message": "takes the place of a Secret; remove credentialsRef or workloadIdentity",
        "fieldPath": ".workloadIdentity"
    },
    {
        "rule": "!has(self.workloadIdentity) || self.provider in ['AzureOpenAI', 'Bedrock', 'VertexAI']",
        "message": "is known to AzureOpenAI, Bedrock and VertexAI only; use credentialsRef",
        "fieldPath": ".workloadIdentity"
    },
    {
        "rule": "!has(self.workloadIdentity) || self.provider == 'AzureOpenAI' || !(has(self.workloadIdentity.tenantID) || has(self.workloadIdentity.clientID))",
        "message": "has tenantID and clientID with provider AzureOpenAI only",
        "fieldPath": ".workloadIdentity"
    },
    {
        "rule": "!has(self.workloadIdentity) || self.provider == 'Bedrock' || !has(self.workloadIdentity.roleARN)",
        "message": "has roleARN with provider Bedrock only",
        "fieldPath": ".workloadIdentity"
    },
    {
        "rule": "!has(self.workloadIdentity) || self.provider == 'VertexAI' || !has(self.workloadIdentity.serviceAccount)",
        "message": "has serviceAccount with provider VertexAI only",
        "fieldPath": ".workloadIdentity"
    }
]))]
pub struct External {
    /// Whose API is spoken. OpenAI is that of our engine, vLLM, SGLang and most vendors.
    #[serde(default)]
    pub provider: ProviderKind,
    /// A vendor whose address and peculiarities are known, as groq; a list is in the documentation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::DNS_LABEL))]
    pub vendor: Option<String>,
    /// The base URL with its version, as https://llm.example/v1; that of the vendor or the provider if not given.
    #[serde(rename = "baseURL", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 1024), extend("x-kubernetes-validations" = [
        {
            "rule": "self.matches('^https?://[^/?#]+(/[^?#]*)?$')",
            "message": "must be an http or https URL without query, as https://llm.example/v1"
        },
        {
            "rule": "!self.matches('^https?://[^/]*@')",
            "message": "must not hold a password; use credentialsRef"
        },
        {
            "rule": "!self.matches('^https?://(169[.]254[.]|\\\\[fe80:|metadata[.]google[.]internal)')",
            "message": "must not be a metadata service or a link-local address"
        }
    ]))]
    pub base_url: Option<String>,
    /// The model's name there; the served name if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub model: Option<String>,
    /// The Secret with the provider's credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<CredentialsRef>,
    /// Lets the gateway in as what its Pod is at the provider's cloud, without a Secret. The platform says which
    /// namespaces may, by the gateway's --workload-identity-namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<WorkloadIdentity>,
    /// What of OpenAI's and Anthropic's APIs it answers itself; the gateway translates the rest. If not given, the
    /// vendor's, or Chat, Completions and Embeddings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 6), extend("x-kubernetes-list-type" = "set"))]
    pub apis: Vec<Api>,
    /// LoRA adapters that the engine has or can load, as vLLM does; requests name them as MODEL:ADAPTER.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub adapters: Vec<ExternalAdapter>,
    /// Headers that every request carries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Vec<Header>,
    /// What belongs to Azure; only with provider AzureOpenAI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<Azure>,
    /// Where Amazon Bedrock answers; only with provider Bedrock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bedrock: Option<Bedrock>,
    /// Where Vertex AI answers; only with provider VertexAI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vertex: Option<Vertex>,
}

/// A LoRA adapter of an engine elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalAdapter {
    /// Its name there, and in requests after the model's name and a colon.
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$")
    )]
    pub name: String,
    /// Where the engine finds it, a folder of its machine or what it knows as a name. With it the gateway has a replica
    /// load the adapter that lacks it, by POST /v1/load_lora_adapter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: Option<String>,
}

/// Whose API is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProviderKind {
    /// OpenAI's.
    #[default]
    OpenAI,
    /// Azure's variant of OpenAI's.
    AzureOpenAI,
    /// Anthropic's.
    Anthropic,
    /// Amazon Bedrock's Converse.
    Bedrock,
    /// The Gemini API of Google AI Studio.
    Gemini,
    /// Google's Vertex AI: Gemini, and models of Anthropic's.
    VertexAI,
    /// Ollama's own.
    Ollama,
}

/// A part of OpenAI's or Anthropic's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Api {
    /// POST /chat/completions.
    Chat,
    /// POST /completions.
    Completions,
    /// POST /embeddings.
    Embeddings,
    /// POST /responses.
    Responses,
    /// POST /messages.
    Messages,
    /// POST /messages/count_tokens.
    CountTokens,
}

/// What the gateway's Pod is at a cloud; what is not given is as the gateway's environment says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadIdentity {
    /// The tenant of Entra ID; only with provider AzureOpenAI.
    #[serde(rename = "tenantID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = "^[A-Za-z0-9][A-Za-z0-9.-]*$")
    )]
    pub tenant_id: Option<String>,
    /// The application, or managed identity, of Entra ID that trusts the Pod's token; only with provider AzureOpenAI.
    #[serde(rename = "clientID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub client_id: Option<String>,
    /// The role of Amazon's that trusts the Pod, as arn:aws:iam::111122223333:role/models; only with provider Bedrock.
    #[serde(rename = "roleARN", default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 20, max = 256),
        regex(pattern = "^arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$")
    )]
    pub role_arn: Option<String>,
    /// The service account of Google's that is spoken for, as models@my-project.iam.gserviceaccount.com; only with
    /// provider VertexAI.
    #[serde(
        rename = "serviceAccount",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(
        length(min = 6, max = 128),
        regex(pattern = "^[a-z0-9-]+@[a-z0-9.-]+$")
    )]
    pub service_account: Option<String>,
}

/// A Secret with a provider's credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialsRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key of the Secret with the API key, or with the credential file of a Google service account or person. If not
    /// given: API_KEY; for AzureOpenAI also AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET in its place; for
    /// VertexAI service-account.json; for Bedrock AWS_BEARER_TOKEN_BEDROCK, or else AWS_ACCESS_KEY_ID,
    /// AWS_SECRET_ACCESS_KEY and perhaps AWS_SESSION_TOKEN or AWS_ROLE_ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}

/// A header that every request carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// Its name.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9-]+$"), extend("x-kubernetes-validations" = [{
        "rule": "!(self.lowerAscii() in ['host', 'content-length', 'content-type', 'transfer-encoding', 'connection', 'accept-encoding'])",
        "message": "belongs to the gateway; remove it"
    }]))]
    pub name: String,
    /// Its value; never a credential, those go into credentialsRef.
    #[schemars(length(max = 1024), regex(pattern = "^[ -~]*$"))]
    pub value: String,
}

/// What belongs to Azure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Azure {
    /// The API's version, as 2024-10-21: URLs then name the deployment. Without it they are those of /openai/v1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = "^[A-Za-z0-9.-]+$"))]
    pub api_version: Option<String>,
}

/// Where Amazon Bedrock answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bedrock {
    /// The region, as us-east-1.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-z0-9-]+$"))]
    pub region: String,
}

/// Where Vertex AI answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Vertex {
    /// The project's id.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-z0-9:.-]+$"))]
    pub project: String,
    /// The location, as europe-west1 or global.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-z0-9-]+$"))]
    pub location: String,
}
