//! Who the gateway itself is at clouds, as its environment says, and for which namespaces it shows that.
//!
//! No resource of a tenant names a file of the gateway's or a server that gives tokens, and what shows the gateway goes
//! to hosts of its cloud alone: a tenant who writes the address of a model would get the token otherwise.

use std::path::PathBuf;

use protocol::{address::host_of, provider::Provider};

use super::Unusable;

/// Where Azure's public cloud gives tokens.
const AUTHORITY: &str = "https://login.microsoftonline.com";
/// Where Google's metadata service answers machines.
const METADATA: &str = "http://169.254.169.254";
/// Where Google gives tokens for other accounts.
const ACCOUNTS: &str = "https://iamcredentials.googleapis.com";
/// What stands for every namespace.
const EVERY: &str = "*";

/// Ends of the names of Azure's hosts of models.
const AZURE_HOSTS: [&str; 7] = [
    ".openai.azure.com",
    ".cognitiveservices.azure.com",
    ".services.ai.azure.com",
    ".openai.azure.us",
    ".cognitiveservices.azure.us",
    ".openai.azure.cn",
    ".cognitiveservices.azure.cn",
];
/// Google's host of models, and the end of the names of those at a location.
const GOOGLE_HOST: (&str, &str) = ("aiplatform.googleapis.com", "-aiplatform.googleapis.com");

/// Who the gateway itself is at clouds.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Workload identity")]
pub struct IdentityArgs {
    /// Namespaces whose Models may use what the gateway itself is at clouds, by workloadIdentity, separated by commas; *
    /// for all, none if not given
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub workload_identity_namespaces: Vec<String>,
    /// Hosts besides those of the clouds that tokens for it may go to, as of a proxy, separated by commas
    #[arg(long, value_name = "HOSTS", value_delimiter = ',')]
    pub workload_identity_hosts: Vec<String>,
    /// Tenant of Entra ID
    #[arg(long, value_name = "ID", env = "AZURE_TENANT_ID")]
    pub azure_tenant_id: Option<String>,
    /// Application of Entra ID that trusts the Pod's token
    #[arg(long, value_name = "ID", env = "AZURE_CLIENT_ID")]
    pub azure_client_id: Option<String>,
    /// File with the Pod's token for Entra ID
    #[arg(long, value_name = "FILE", env = "AZURE_FEDERATED_TOKEN_FILE")]
    pub azure_federated_token_file: Option<PathBuf>,
    /// Where Entra ID gives tokens; that of the public cloud if not given
    #[arg(long, value_name = "URL", env = "AZURE_AUTHORITY_HOST")]
    pub azure_authority_host: Option<String>,
    /// Role of Amazon's that trusts the Pod's token
    #[arg(long, value_name = "ARN", env = "AWS_ROLE_ARN")]
    pub aws_role_arn: Option<String>,
    /// File with the Pod's token for Amazon
    #[arg(long, value_name = "FILE", env = "AWS_WEB_IDENTITY_TOKEN_FILE")]
    pub aws_web_identity_token_file: Option<PathBuf>,
    /// Where Amazon's agent gives the Pod keys
    #[arg(long, value_name = "URL", env = "AWS_CONTAINER_CREDENTIALS_FULL_URI")]
    pub aws_container_credentials_full_uri: Option<String>,
    /// File with what that agent is shown
    #[arg(
        long,
        value_name = "FILE",
        env = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
    )]
    pub aws_container_authorization_token_file: Option<PathBuf>,
    /// Where Amazon gives keys for roles; that of each region if not given
    #[arg(long, value_name = "URL", env = "AWS_ENDPOINT_URL_STS")]
    pub aws_endpoint_url_sts: Option<String>,
    /// Credential file of Google's; the machine's metadata service is asked if not given
    #[arg(long, value_name = "FILE", env = "GOOGLE_APPLICATION_CREDENTIALS")]
    pub google_application_credentials: Option<PathBuf>,
    /// Host of Google's metadata service, if it is not 169.254.169.254
    #[arg(long, value_name = "HOST", env = "GCE_METADATA_HOST")]
    pub gce_metadata_host: Option<String>,
}

/// Who the gateway itself is, and to whom it lends that.
#[derive(Debug)]
pub(crate) struct Own {
    namespaces: Vec<String>,
    hosts: Vec<String>,
    pub(super) azure: OwnAzure,
    pub(super) amazon: OwnAmazon,
    pub(super) google: OwnGoogle,
}

/// Who it is at Azure.
#[derive(Debug)]
pub(super) struct OwnAzure {
    pub(super) authority: String,
    pub(super) tenant: Option<String>,
    pub(super) client: Option<String>,
    pub(super) token_file: Option<PathBuf>,
}

/// Who it is at Amazon.
#[derive(Debug)]
pub(super) struct OwnAmazon {
    pub(super) sts: Option<String>,
    pub(super) role: Option<String>,
    pub(super) web_token_file: Option<PathBuf>,
    pub(super) agent_url: Option<String>,
    pub(super) agent_token_file: Option<PathBuf>,
}

/// Who it is at Google.
#[derive(Debug)]
pub(super) struct OwnGoogle {
    pub(super) file: Option<PathBuf>,
    pub(super) metadata: String,
    /// Where tokens for other accounts are given.
    pub(super) accounts: String,
}

impl Default for Own {
    fn default() -> Self {
        Self::of(IdentityArgs::default())
    }
}

impl Own {
    /// As the environment says. A variable that is set to nothing says nothing.
    pub(crate) fn of(args: IdentityArgs) -> Self {
        let IdentityArgs {
            workload_identity_namespaces,
            workload_identity_hosts,
            azure_tenant_id,
            azure_client_id,
            azure_federated_token_file,
            azure_authority_host,
            aws_role_arn,
            aws_web_identity_token_file,
            aws_container_credentials_full_uri,
            aws_container_authorization_token_file,
            aws_endpoint_url_sts,
            google_application_credentials,
            gce_metadata_host,
        } = args;
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        let path = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
        Self {
            namespaces: workload_identity_namespaces,
            hosts: workload_identity_hosts,
            azure: OwnAzure {
                authority: text(azure_authority_host).unwrap_or_else(|| AUTHORITY.to_owned()),
                tenant: text(azure_tenant_id),
                client: text(azure_client_id),
                token_file: path(azure_federated_token_file),
            },
            amazon: OwnAmazon {
                sts: text(aws_endpoint_url_sts),
                role: text(aws_role_arn),
                web_token_file: path(aws_web_identity_token_file),
                agent_url: text(aws_container_credentials_full_uri),
                agent_token_file: path(aws_container_authorization_token_file),
            },
            google: OwnGoogle {
                file: path(google_application_credentials),
                metadata: text(gce_metadata_host)
                    .map_or_else(|| METADATA.to_owned(), |host| format!("http://{host}")),
                accounts: ACCOUNTS.to_owned(),
            },
        }
    }

    /// Whether Models of a namespace may use it.
    ///
    /// # Errors
    /// They may not.
    pub(super) fn lends_to(&self, namespace: &str) -> Result<(), Unusable> {
        let mut names = self.namespaces.iter();
        match names.any(|name| name == EVERY || name == namespace) {
            true => Ok(()),
            false => Err(Unusable(format!(
                "the namespace `{namespace}` may not use the gateway's own identity; see --workload-identity-namespaces"
            ))),
        }
    }

    /// Whether tokens for it may go to all of these addresses.
    ///
    /// # Errors
    /// They may not go to one.
    pub(super) fn may_reach(
        &self,
        provider: &Provider,
        endpoints: &[String],
    ) -> Result<(), Unusable> {
        let refused = endpoints.iter().find(|url| !self.is_trusted(provider, url));
        match refused {
            None => Ok(()),
            Some(url) => Err(Unusable(format!(
                "the gateway's own token may not go to {url}; see --workload-identity-hosts"
            ))),
        }
    }

    fn is_trusted(&self, provider: &Provider, url: &str) -> bool {
        let host = host_of(url).unwrap_or_default().to_ascii_lowercase();
        if self.hosts.contains(&host) {
            return true;
        }
        let is_of_cloud = match provider {
            Provider::AzureOpenAI { .. } => AZURE_HOSTS.iter().any(|end| host.ends_with(end)),
            Provider::VertexAI { .. } => host == GOOGLE_HOST.0 || host.ends_with(GOOGLE_HOST.1),
            Provider::OpenAI
            | Provider::Anthropic
            | Provider::Bedrock { .. }
            | Provider::Gemini
            | Provider::Ollama => false,
        };
        is_of_cloud && url.starts_with("https://")
    }
}
