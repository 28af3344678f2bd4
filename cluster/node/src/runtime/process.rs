//! Containers of `builtin://qd`: our own executable as a supervised process of the host, in its own process group.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::cgroup::{Cgroup, Cgroups};
use super::launcher::LAUNCH_COMMAND;
use super::leftovers::{self, MARK, POD_ADDRESS};
use super::session::{self, ended};
use super::spawner::Spawner;
use super::{Ended, ExecRequest, Launch, RunningContainer, Runtime, Session, StartError, Started};
use crate::environment::Variables;
use crate::images::Source;
use crate::rewrite::Paths;

/// What every process container of this node shares.
#[derive(Clone, Debug)]
pub(crate) struct ProcessRuntime {
    pub(crate) executable: PathBuf,
    /// Variables of the node that its processes get too (the search path, proxies).
    pub(crate) inherited: Variables,
    pub(crate) spawner: Spawner,
    pub(crate) cgroups: Cgroups,
    /// Tells the processes of this node from those of another one.
    pub(crate) mark: String,
    pub(crate) allow_unisolated_exec: bool,
    pub(crate) tasks: TaskTracker,
}

impl Runtime for ProcessRuntime {
    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<Started, StartError>> {
        self.start_process(launch).boxed()
    }
}

impl ProcessRuntime {
    async fn start_process(&self, launch: Launch) -> Result<Started, StartError> {
        if launch
            .command
            .as_ref()
            .is_some_and(|command| !command.is_empty())
        {
            return Err(StartError::new(
                "InvalidCommand",
                "image builtin://qd runs only our own executable: use `args`, not `command`",
            ));
        }
        let (program, arguments) = (
            self.executable.clone(),
            launch.args.clone().unwrap_or_default(),
        );
        self.start_program(launch, program, &arguments).await
    }

    /// Runs a program of the host where the user has accepted that nothing isolates it.
    pub(crate) async fn start_host_program(&self, launch: Launch) -> Result<Started, StartError> {
        if launch.image.source != Source::HostUsr {
            return Err(StartError::new(
                "IsolationUnavailable",
                "without isolation only image builtin://host can run, as a plain process of the host",
            ));
        }
        let words = launch
            .command
            .iter()
            .flatten()
            .chain(launch.args.iter().flatten());
        let words: Vec<String> = words.cloned().collect();
        let Some((program, arguments)) = words.split_first() else {
            return Err(StartError::new(
                "CreateContainerConfigError",
                "the container names no command",
            ));
        };
        let program = PathBuf::from(Paths::new(&launch.mounts).rewrite(program));
        self.start_program(launch, program, arguments).await
    }

    async fn start_program(
        &self,
        launch: Launch,
        program: PathBuf,
        arguments: &[String],
    ) -> Result<Started, StartError> {
        let paths = Paths::new(&launch.mounts);
        let group = format!("{}-{}-{}", launch.pod.uid, launch.name, launch.attempt);
        let cgroup = match self.cgroups.create(&group, launch.limits) {
            Ok(cgroup) => cgroup,
            Err(error) => {
                tracing::warn!(pod = %launch.pod.name, container = %launch.name, %error, "container runs without limits");
                Cgroup::default()
            }
        };
        let environment = self.environment(&launch, &paths);
        let mut command = self.command(&cgroup, &environment, &paths, &launch, false);
        command
            .arg(&program)
            .args(arguments.iter().map(|argument| paths.rewrite(argument)));
        command.stdin(if launch.stdin {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match self.spawner.spawn(command).await {
            Ok(child) => child,
            Err(error) => {
                cgroup.remove().await;
                return Err(StartError::new(
                    "RunContainerError",
                    format!("cannot start {}: {error}", program.display()),
                ));
            }
        };
        let Some((pid, stdout, stderr)) = taken(&mut child) else {
            return Err(StartError::new(
                "RunContainerError",
                "the process ended before it was seen",
            ));
        };
        let stdin = child
            .stdin
            .take()
            .map(|stdin| Box::new(stdin) as super::Writer);
        let record = leftovers::record(&launch.folder, &launch.name, pid);
        let container = ProcessContainer {
            runtime: self.clone(),
            pid,
            attempt: launch.attempt,
            ended: self.supervise(child, pid, cgroup.clone()),
            cgroup,
            environment,
            paths,
            launch: Arc::new(launch),
            record,
        };
        Ok(Started {
            container: Arc::new(container),
            stdin,
            stdout,
            stderr: Some(stderr),
        })
    }

    fn environment(&self, launch: &Launch, paths: &Paths) -> Variables {
        let own = [
            (MARK.to_owned(), self.mark.clone()),
            ("HOSTNAME".to_owned(), launch.hostname.clone()),
        ];
        let given = launch
            .environment
            .iter()
            .map(|(name, value)| (name.clone(), paths.rewrite(value)));
        self.inherited
            .iter()
            .cloned()
            .chain(given)
            .chain(own)
            .collect()
    }

    /// The launcher, set up to become a program of this container.
    fn command(
        &self,
        cgroup: &Cgroup,
        environment: &Variables,
        paths: &Paths,
        launch: &Launch,
        terminal: bool,
    ) -> Command {
        let mut command = Command::new(&self.executable);
        command
            .arg(LAUNCH_COMMAND)
            .arg("--parent")
            .arg(std::process::id().to_string());
        for entrance in cgroup.entrances() {
            command.arg("--cgroup").arg(entrance);
        }
        let folder = launch
            .working_dir
            .as_deref()
            .map(|folder| PathBuf::from(paths.rewrite(folder)));
        if terminal {
            // It starts a session, which a leader of a group may not.
            command.arg("--terminal");
        } else {
            command.process_group(0);
        }
        command
            .arg("--")
            .env_clear()
            .envs(environment.iter().cloned())
            .current_dir(folder.unwrap_or_else(|| launch.folder.clone()));
        command
    }

    /// Waits for the process; what it left in its group ends with it.
    fn supervise(
        &self,
        mut child: Child,
        pid: Pid,
        cgroup: Cgroup,
    ) -> watch::Receiver<Option<Ended>> {
        let (sender, receiver) = watch::channel(None);
        self.tasks.spawn(async move {
            let result = match child.wait().await {
                Ok(status) => Ended { out_of_memory: cgroup.ran_out_of_memory(), ..ended(status) },
                Err(error) => {
                    tracing::warn!(pid = pid.as_raw_nonzero().get(), %error, "process could not be waited for");
                    Ended { code: 255, signal: None, out_of_memory: false }
                }
            };
            kill_all(pid, &cgroup);
            sender.send_replace(Some(result));
        });
        receiver
    }
}

fn taken(child: &mut Child) -> Option<(Pid, super::Reader, super::Reader)> {
    let pid = i32::try_from(child.id()?).ok().and_then(Pid::from_raw)?;
    Some((
        pid,
        Box::new(child.stdout.take()?),
        Box::new(child.stderr.take()?),
    ))
}

fn kill_all(pid: Pid, cgroup: &Cgroup) {
    // The group may be empty already.
    let _ = kill_process_group(pid, Signal::KILL);
    cgroup.kill();
}

struct ProcessContainer {
    runtime: ProcessRuntime,
    pid: Pid,
    attempt: u32,
    ended: watch::Receiver<Option<Ended>>,
    cgroup: Cgroup,
    environment: Variables,
    paths: Paths,
    launch: Arc<Launch>,
    record: Option<PathBuf>,
}

impl ProcessContainer {
    fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Only our own program may run unconfined: anything else would be a shell on the host for whoever may exec.
    fn program(&self, name: &str) -> io::Result<PathBuf> {
        let own = self
            .runtime
            .executable
            .file_name()
            .is_some_and(|file| Path::new(name) == Path::new(file));
        if own || name == "qd" || Path::new(name) == self.runtime.executable {
            return Ok(self.runtime.executable.clone());
        }
        if self.runtime.allow_unisolated_exec {
            return Ok(PathBuf::from(self.paths.rewrite(name)));
        }
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "container {} is a process of the host and not isolated, so only `qd` may run in it, not `{name}`",
                self.launch.name
            ),
        ))
    }
}

impl RunningContainer for ProcessContainer {
    fn id(&self) -> String {
        format!(
            "process://{}-{}-{}-{}",
            self.launch.pod.uid,
            self.launch.name,
            self.attempt,
            self.pid.as_raw_nonzero()
        )
    }

    fn isolation(&self) -> String {
        let limits = match &self.runtime.cgroups {
            Cgroups::Unavailable(why) => format!("resource limits are not enforced ({why})"),
            Cgroups::Unified(_) | Cgroups::Split(_) => {
                "memory and cpu limits are enforced".to_owned()
            }
        };
        format!("not isolated: our own executable as a process of the host; {limits}")
    }

    fn ended(&self) -> BoxFuture<'static, Ended> {
        let mut receiver = self.ended.clone();
        async move {
            match receiver.wait_for(Option::is_some).await {
                Ok(ended) => (*ended).unwrap_or(Ended {
                    code: 255,
                    signal: None,
                    out_of_memory: false,
                }),
                Err(_) => Ended {
                    code: 255,
                    signal: None,
                    out_of_memory: false,
                },
            }
        }
        .boxed()
    }

    fn terminate(&self) {
        if !self.has_ended() {
            let _ = kill_process(self.pid, Signal::TERM);
        }
    }

    fn kill(&self) {
        if !self.has_ended() {
            kill_all(self.pid, &self.cgroup);
        }
    }

    fn remove(&self) -> BoxFuture<'static, ()> {
        let (cgroup, record) = (self.cgroup.clone(), self.record.clone());
        async move {
            cgroup.remove().await;
            if let Some(record) = record {
                drop(std::fs::remove_file(record));
            }
        }
        .boxed()
    }

    fn exec(&self, request: ExecRequest) -> BoxFuture<'static, io::Result<Session>> {
        let prepared = request.command.first().map_or_else(
            || {
                Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "no command was given",
                ))
            },
            |name| self.program(name),
        );
        let mut command = self.runtime.command(
            &self.cgroup,
            &self.environment,
            &self.paths,
            &self.launch,
            request.tty,
        );
        let spawner = self.runtime.spawner.clone();
        let arguments: Vec<String> = request
            .command
            .iter()
            .skip(1)
            .map(|word| self.paths.rewrite(word))
            .collect();
        async move {
            let program = prepared?;
            command.arg(program).args(arguments);
            session::open(&spawner, command, &request).await
        }
        .boxed()
    }

    fn connect(&self, port: u16, limit: Duration) -> BoxFuture<'static, io::Result<TcpStream>> {
        let ip = self
            .environment
            .iter()
            .find(|(name, _)| name == POD_ADDRESS);
        let ip = ip
            .and_then(|(_, ip)| ip.parse().ok())
            .unwrap_or(Ipv4Addr::LOCALHOST);
        connect(SocketAddr::from((ip, port)), limit).boxed()
    }
}

/// Connects within a limit.
pub(crate) async fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    match timeout(limit, TcpStream::connect(address)).await {
        Ok(stream) => stream,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
    }
}
