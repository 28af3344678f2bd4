//! Options of all user commands: where the cluster is, and how results are printed.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{client::Cluster, data::DataFolder, output::Format};

/// Options of all user commands.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Global {
    /// Where `qd up` keeps its state [default: ~/.local/share/quarterdeck]
    #[arg(long, global = true, env = "QD_DATA", value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Use this cluster instead of the embedded one
    #[arg(long, global = true, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The namespace
    #[arg(long, short, global = true, default_value = "default")]
    pub(crate) namespace: String,
    /// How results are printed
    #[arg(long, short, global = true, value_enum, default_value_t)]
    pub(crate) output: Format,
}

impl Global {
    /// The data folder of the embedded cluster.
    pub(crate) fn data(&self) -> Result<DataFolder> {
        match &self.data {
            Some(path) => Ok(DataFolder::new(
                std::path::absolute(path).context("resolving --data")?,
            )),
            None => DataFolder::of_user(),
        }
    }

    /// The cluster that commands talk to: the one of `--kubeconfig`, else the embedded one.
    pub(crate) async fn cluster(&self) -> Result<Cluster> {
        let path = match &self.kubeconfig {
            Some(path) => path.clone(),
            None => self.data()?.kubeconfig(),
        };
        Cluster::connect(&path).await
    }
}
