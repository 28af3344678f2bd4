//! `qd apply`: server-side apply, like `kubectl apply --server-side`.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};

use crate::{
    client::apply::{display, parse},
    global::Global,
    output::{self, Format},
};

/// Arguments of `qd apply`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file, a folder of YAML files, or `-` for standard input; may be given several times
    #[arg(long = "filename", short, required = true, value_name = "FILE")]
    filenames: Vec<PathBuf>,
}

/// Applies the manifests.
pub(crate) async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    let mut objects = Vec::new();
    for name in &args.filenames {
        for (path, text) in read(name)? {
            objects.extend(parse(&text).with_context(|| format!("reading {}", path.display()))?);
        }
    }
    if objects.is_empty() {
        bail!("there is nothing to apply in the files");
    }
    let cluster = global.cluster().await?;
    let applied = cluster.apply(&objects, &global.namespace).await?;
    match global.output {
        Format::Json => output::print_json(&applied),
        Format::Text => {
            for object in &applied {
                output::print(format_args!("{} serverside-applied", display(object)));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read(name: &Path) -> Result<Vec<(PathBuf, String)>> {
    let attempt = || format!("reading {}", name.display());
    if name == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .with_context(attempt)?;
        return Ok(vec![(name.to_owned(), text)]);
    }
    if !name.is_dir() {
        return Ok(vec![(
            name.to_owned(),
            fs::read_to_string(name).with_context(attempt)?,
        )]);
    }
    let mut paths: Vec<PathBuf> = fs::read_dir(name)
        .with_context(attempt)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml" || extension == "yml")
        })
        .collect();
    paths.sort();
    let text = |path: PathBuf| {
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok((path, text))
    };
    paths.into_iter().map(text).collect()
}
