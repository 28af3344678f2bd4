//! Demand: a gateway tells the operator which Models are wanted that have replicas only while they are.
//!
//! `POST /v1/snapshots/gateway/demand` with a bearer token takes a [`Demand`]. Whoever is told twice, or by two gateways,
//! knows no more than before; what could not be told is told again.

use std::{io, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::snapshot::{GatewaySnapshot, Snapshot};

/// Models that one report may name.
pub const MODELS_MAX: usize = 256;
/// How often a gateway reports what is in use.
pub const PERIOD: Duration = Duration::from_secs(5);
/// How long the operator may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What requests came for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Demand {
    /// Which replica of the gateway reports.
    pub node: String,
    /// The Models, as `NAMESPACE/NAME`, that requests came for since the last report, wait for or are in progress at.
    pub models: Vec<String>,
}

/// Why the operator was not told.
#[derive(Debug, Error)]
pub enum NotTold {
    /// The token's file cannot be read.
    #[error("reading the token from {path}")]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The operator did not answer, or refused.
    #[error("telling the operator which models are wanted")]
    Http(#[from] reqwest::Error),
}

/// Tells the operator.
#[derive(Debug)]
pub struct Teller {
    client: reqwest::Client,
    url: String,
    token_file: PathBuf,
    node: String,
}

impl Teller {
    /// For an operator at a base URL; the token's file is read for each report, since tokens rotate.
    pub fn new(url: &str, token_file: PathBuf, node: String) -> Self {
        // Another part of the process may have installed the provider already; it is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            client: reqwest::Client::new(),
            url: format!("{url}/v1/snapshots/{}/demand", GatewaySnapshot::PLANE),
            token_file,
            node,
        }
    }

    /// Reports that these Models are wanted.
    ///
    /// # Errors
    /// [`NotTold`]; some of them may have been noted then.
    pub async fn tell(&self, models: &[String]) -> Result<(), NotTold> {
        let token = std::fs::read_to_string(&self.token_file);
        let token = token.map_err(|source| NotTold::Token {
            path: self.token_file.clone(),
            source,
        })?;
        for models in models.chunks(MODELS_MAX) {
            let demand = Demand {
                node: self.node.clone(),
                models: models.to_vec(),
            };
            let request = self.client.post(&self.url).bearer_auth(token.trim());
            let request = request.json(&demand).timeout(TIMEOUT);
            request.send().await?.error_for_status()?;
        }
        Ok(())
    }
}
