//! Other people's gateways: installed out of the Python package registry, each into an environment of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::report::say;

/// The only file of its kind that a fresh environment has; others run code at every start of Python.
const KNOWN_PTH: &str = "distutils-precedence.pth";

/// A gateway that can be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    VllmRouter,
    Smg,
    LiteLlm,
}

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::VllmRouter, Self::Smg, Self::LiteLlm];

    /// Its name in the results.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::VllmRouter => "vllm-router 0.1.17",
            Self::Smg => "smg 1.13.0",
            Self::LiteLlm => "LiteLLM 1.106.2",
        }
    }

    /// Its program, which is also its folder's name.
    const fn program(self) -> &'static str {
        match self {
            Self::VllmRouter => "vllm-router",
            Self::Smg => "smg",
            Self::LiteLlm => "litellm",
        }
    }

    /// What pip installs: exact, as some releases of LiteLLM stole credentials.
    const fn requirement(self) -> &'static str {
        match self {
            Self::VllmRouter => "vllm-router==0.1.17",
            Self::Smg => "smg==1.13.0",
            Self::LiteLlm => "litellm[proxy]==1.106.2",
        }
    }

    /// Installs it below a folder, unless it is there; gives its program.
    pub(crate) fn install(self, folder: &Path) -> Result<PathBuf> {
        let place = folder.join(self.program());
        let program = place.join("bin").join(self.program());
        let stamp = place.join("installed.txt");
        if !fs::read_to_string(&stamp).is_ok_and(|text| text == self.requirement()) {
            say(&format!("installing {}", self.requirement()));
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
            let python = place.join("bin/python");
            run(Command::new("python3").args(["-m", "venv"]).arg(&place))?;
            let mut pip = Command::new(python);
            pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]);
            pip.args(["install", "--only-binary", ":all:", self.requirement()]);
            run(&mut pip)?;
            check_hooks(&place)?;
            fs::write(&stamp, self.requirement()).context("noting what is installed")?;
        }
        Ok(program)
    }

    /// Its words on the command line.
    pub(crate) fn configure(
        self,
        command: &mut Command,
        ports: Ports<'_>,
        folder: &Path,
    ) -> Result<()> {
        let Ports {
            listen,
            upstreams,
            metrics,
            policy,
        } = ports;
        let workers = upstreams
            .iter()
            .map(|port| format!("http://127.0.0.1:{port}"));
        let workers: Vec<String> = workers.collect();
        let router = [
            "--policy",
            policy,
            "--worker-startup-check-interval",
            "1",
            "--prometheus-host",
            "127.0.0.1",
            "--prometheus-port",
            &metrics.to_string(),
        ];
        match self {
            Self::VllmRouter => {
                command.arg("--worker-urls").args(workers);
                command.args(router).args(["--log-level", "error"]);
            }
            Self::Smg => {
                command.args(["launch", "--worker-urls"]).args(workers);
                command.args(router);
                command.args(["--log-level", "error", "--disable-tokenizer-autoload"]);
            }
            Self::LiteLlm => {
                let config = folder.join("litellm.yaml");
                fs::write(&config, litellm_config(upstreams)).context("writing a configuration")?;
                command.arg("--config").arg(config);
                command.args(["--num_workers", "1", "--telemetry", "False"]);
                command.env("LITELLM_MASTER_KEY", super::script::KEY);
                command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
                command.env("LITELLM_LOG", "ERROR");
            }
        }
        command.args(["--host", "127.0.0.1", "--port", &listen.to_string()]);
        Ok(())
    }

    /// The path that says 200 when it is ready.
    pub(crate) const fn ready_path(self) -> &'static str {
        match self {
            Self::VllmRouter | Self::Smg => "/health",
            Self::LiteLlm => "/health/liveliness",
        }
    }
}

/// Where a peer listens, and to whom it forwards: ports of the loopback interface.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports<'a> {
    pub(crate) listen: u16,
    pub(crate) upstreams: &'a [u16],
    pub(crate) metrics: u16,
    /// How a router picks; LiteLLM has one upstream only.
    pub(crate) policy: &'static str,
}

fn litellm_config(upstreams: &[u16]) -> String {
    let upstream = upstreams.first().copied().unwrap_or_default();
    let model = super::script::MODEL;
    format!(
        "model_list:\n  - model_name: {model}\n    litellm_params:\n      model: openai/{model}\n      \
         api_base: http://127.0.0.1:{upstream}/v1\n      api_key: sk-upstream\n"
    )
}

/// Refuses an environment in which a package has left code that runs at every start.
fn check_hooks(place: &Path) -> Result<()> {
    let versions = fs::read_dir(place.join("lib")).context("reading an environment")?;
    for version in versions.flatten() {
        let packages = fs::read_dir(version.path().join("site-packages"));
        for package in packages.context("reading an environment")?.flatten() {
            let name = package.file_name().to_string_lossy().into_owned();
            ensure!(
                !name.ends_with(".pth") || name == KNOWN_PTH,
                "a package has left {name}, which runs at every start of Python"
            );
        }
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let last = errors.lines().last().unwrap_or_default();
    ensure!(
        output.status.success(),
        "{} ended with {}: {last}",
        command.get_program().display(),
        output.status
    );
    Ok(())
}
