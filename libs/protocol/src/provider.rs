//! Providers: whose API a target speaks, and what the gateway shows there to be let in.

use serde::{Deserialize, Serialize};

use crate::secret::SecretString;

/// Whose API a target speaks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
pub enum Provider {
    /// OpenAI's, as our engine, vLLM, SGLang and most vendors do.
    #[default]
    OpenAI,
    /// Azure's variant of OpenAI's.
    AzureOpenAI {
        /// The version in the query, as 2024-10-21; without one, URLs are those of `/openai/v1`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        api_version: Option<String>,
    },
    /// Anthropic's.
    Anthropic,
    /// The Converse API of Amazon Bedrock.
    Bedrock {
        /// The region, as us-east-1.
        region: String,
    },
    /// The Gemini API of Google AI Studio.
    Gemini,
    /// Google's Vertex AI: Gemini, and Anthropic's models.
    VertexAI {
        /// The project.
        project: String,
        /// The location, as europe-west1 or global.
        location: String,
    },
    /// Ollama's own API.
    Ollama,
}

impl Provider {
    /// Whether it is the one that is not written down.
    pub fn is_default(&self) -> bool {
        matches!(self, Self::OpenAI)
    }

    /// The base URL where it has one of its own.
    pub fn base_url(&self) -> Option<String> {
        match self {
            Self::OpenAI | Self::AzureOpenAI { .. } | Self::Ollama => None,
            Self::Anthropic => Some("https://api.anthropic.com/v1".to_owned()),
            Self::Bedrock { region } => {
                Some(format!("https://bedrock-runtime.{region}.amazonaws.com"))
            }
            Self::Gemini => Some("https://generativelanguage.googleapis.com/v1beta".to_owned()),
            Self::VertexAI { location, .. } if location == "global" => {
                Some("https://aiplatform.googleapis.com/v1".to_owned())
            }
            Self::VertexAI { location, .. } => {
                Some(format!("https://{location}-aiplatform.googleapis.com/v1"))
            }
        }
    }
}

/// A part of an API that a target answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Api {
    /// OpenAI's chat completions.
    Chat,
    /// OpenAI's completions.
    Completions,
    /// OpenAI's embeddings.
    Embeddings,
    /// OpenAI's responses.
    Responses,
    /// Anthropic's messages.
    Messages,
    /// Anthropic's count of a message's tokens.
    CountTokens,
}

impl Api {
    /// All of them, as our engine answers.
    pub const ALL: [Self; 6] = [
        Self::Chat,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::Messages,
        Self::CountTokens,
    ];
}

/// What the gateway shows to be let in. A token is written as the bare string that it was before there were others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Credential {
    /// A bearer token or an API key.
    Token(SecretString),
    /// Keys of Amazon's, which sign requests.
    #[serde(rename_all = "camelCase")]
    Aws {
        /// The key's id.
        access_key_id: SecretString,
        /// The key.
        secret_access_key: SecretString,
        /// The token of keys that end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session_token: Option<SecretString>,
        /// The role that they take, whose keys sign then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<Role>,
    },
    /// The key file of a service account of Google's, or the credential file of a person.
    #[serde(rename_all = "camelCase")]
    ServiceAccount {
        /// The file's text, which is JSON.
        service_account: SecretString,
    },
    /// An application of Entra ID.
    Entra(Application),
    /// What the gateway itself is at the provider's cloud.
    #[serde(rename_all = "camelCase")]
    Workload {
        /// Which of it.
        workload_identity: Workload,
    },
}

/// A role of Amazon's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Role {
    /// Its name, as arn:aws:iam::111122223333:role/models.
    pub arn: String,
    /// What it asks of others for, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<SecretString>,
}

/// An application of Entra ID, with its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Application {
    /// The tenant.
    pub tenant_id: String,
    /// The application.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretString,
    /// Where tokens are given; that of the gateway's cloud if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

/// What of the gateway's own identity a target uses; what is not given is as the gateway's environment says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// The tenant of Entra ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// The application of Entra ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The role of Amazon's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// The service account of Google's, by its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
}

impl From<SecretString> for Credential {
    fn from(token: SecretString) -> Self {
        Self::Token(token)
    }
}

/// A header that every request to a target carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value, which may be a credential.
    pub value: SecretString,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Application, Credential, Provider, Role, Workload};
    use crate::{secret::SecretString, snapshot::Target};

    #[track_caller]
    fn check(credential: &Credential, expected: &Value) {
        assert_eq!(&serde_json::to_value(credential).unwrap(), expected);
        assert_eq!(
            &serde_json::from_value::<Credential>(expected.clone()).unwrap(),
            credential
        );
        assert!(
            !format!("{credential:?}").contains("hush"),
            "{credential:?}"
        );
    }

    #[test]
    fn credentials_keep_the_bare_string_and_show_nothing() {
        let secret = || SecretString::new("hush".to_owned());
        check(&Credential::Token(secret()), &json!("hush"));
        let aws = |session_token| Credential::Aws {
            access_key_id: secret(),
            secret_access_key: secret(),
            session_token,
            role: None,
        };
        let keys = json!({"accessKeyId": "hush", "secretAccessKey": "hush"});
        check(&aws(None), &keys);
        let mut ending = keys;
        ending["sessionToken"] = json!("hush");
        check(&aws(Some(secret())), &ending);
        let account = Credential::ServiceAccount {
            service_account: secret(),
        };
        check(&account, &json!({"serviceAccount": "hush"}));
        let mut taken = aws(None);
        if let Credential::Aws { role, .. } = &mut taken {
            *role = Some(Role {
                arn: "arn:aws:iam::1:role/r".to_owned(),
                external_id: Some(secret()),
            });
        }
        let role = json!({"arn": "arn:aws:iam::1:role/r", "externalId": "hush"});
        check(
            &taken,
            &json!({"accessKeyId": "hush", "secretAccessKey": "hush", "role": role}),
        );
        let application = Application {
            tenant_id: "t".to_owned(),
            client_id: "c".to_owned(),
            client_secret: secret(),
            authority: None,
        };
        check(
            &Credential::Entra(application),
            &json!({"tenantId": "t", "clientId": "c", "clientSecret": "hush"}),
        );
        let own = |workload_identity| Credential::Workload { workload_identity };
        check(&own(Workload::default()), &json!({"workloadIdentity": {}}));
        let role_arn = Some("r".to_owned());
        let named = Workload {
            role_arn,
            ..Workload::default()
        };
        check(&own(named), &json!({"workloadIdentity": {"roleArn": "r"}}));
    }

    #[test]
    fn a_target_of_openais_api_is_written_as_before() {
        let target = Target {
            name: "t".to_owned(),
            credential: Some(SecretString::new("k".to_owned()).into()),
            ..Target::default()
        };
        let written = json!({"name": "t", "model": "", "endpoints": [], "weight": 0, "priority": 0, "credential": "k"});
        assert_eq!(serde_json::to_value(&target).unwrap(), written);
        assert_eq!(serde_json::from_value::<Target>(written).unwrap(), target);
    }

    #[test]
    fn providers_are_told_apart_by_their_type() {
        let vertex = Provider::VertexAI {
            project: "p".to_owned(),
            location: "global".to_owned(),
        };
        let written = json!({"type": "VertexAI", "project": "p", "location": "global"});
        assert_eq!(serde_json::to_value(&vertex).unwrap(), written);
        assert_eq!(
            vertex.base_url().as_deref(),
            Some("https://aiplatform.googleapis.com/v1")
        );
        let azure = json!({"type": "AzureOpenAI", "apiVersion": "2024-10-21"});
        let expected = Provider::AzureOpenAI {
            api_version: Some("2024-10-21".to_owned()),
        };
        assert_eq!(serde_json::from_value::<Provider>(azure).unwrap(), expected);
    }
}
