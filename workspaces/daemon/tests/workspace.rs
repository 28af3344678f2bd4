//! A whole workspace: a sandbox with init as its first process, and a gate before it.
//!
//! The executable plays four parts: the test, the sandbox helper, init, and a program that tries to reach init's socket.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is all test code; without the standard harness clippy cannot see that"
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use base64::Engine as _;
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use protocol::workspace::{ExecEvent, Exit, FileList, Info};
use tokio_util::sync::CancellationToken;
use workspaces_daemon::{GateArgs, InitArgs, run_gate, run_init};
use workspaces_sandbox::{
    Helper, Limits, Mount, MountKind, Profile, Rootfs, Sandbox, SandboxSpec, Sandboxes,
    SandboxesConfig, Stdio,
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const NAME: &str = "a_workspace_runs_programs_keeps_files_and_lets_nothing_out";

#[derive(Debug, Parser)]
struct InitCommand {
    #[command(flatten)]
    args: InitArgs,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("sandbox-helper") => workspaces_sandbox::helper_main(&[]),
        Some("init") => run_init(InitCommand::parse_from(&args).args).map_or_else(
            |error| {
                eprintln!("{error:?}");
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        ),
        Some("intrude") => intrude(),
        _ if args.iter().any(|arg| arg == "--list") => {
            if !args.iter().any(|arg| arg == "--ignored") {
                println!("{NAME}: test");
            }
            ExitCode::SUCCESS
        }
        _ => {
            tokio::runtime::Runtime::new().unwrap().block_on(test());
            ExitCode::SUCCESS
        }
    }
}

/// A program of the workspace asks init for something directly.
fn intrude() -> ExitCode {
    let mut answer = String::new();
    let outcome = UnixStream::connect("/run/quarterdeck/init.sock").and_then(|mut stream| {
        stream.write_all(b"GET /v1/info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        stream.read_to_string(&mut answer)
    });
    println!("{outcome:?} {answer}");
    ExitCode::SUCCESS
}

struct Workspace {
    dir: tempfile::TempDir,
    sandbox: Sandbox,
    url: String,
}

impl Workspace {
    fn start(address: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["state", "socket", "home"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        std::fs::write(dir.path().join("token"), TOKEN).unwrap();
        let program = std::env::current_exe().unwrap();
        let helper = Helper {
            program: program.clone(),
            args: vec!["sandbox-helper".into()],
        };
        let sandboxes = Sandboxes::new(SandboxesConfig {
            state_dir: dir.path().join("state"),
            helper,
            profile: Profile::hard(),
        })
        .unwrap();
        let bind = |source: PathBuf, target: &str, writable| Mount {
            target: PathBuf::from(target),
            kind: MountKind::Bind { source, writable },
        };
        let spec = SandboxSpec {
            id: "workspace".to_owned(),
            rootfs: Rootfs::HostUsr,
            command: [
                "/.qd/qd",
                "init",
                "--socket-dir",
                "/run/quarterdeck",
                "--home",
                "/work",
            ]
            .map(str::to_owned)
            .to_vec(),
            env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
            mounts: vec![
                bind(program, "/.qd/qd", false),
                bind(dir.path().join("socket"), "/run/quarterdeck", true),
                bind(dir.path().join("home"), "/work", true),
            ],
            limits: Limits {
                memory_bytes: Some(256 << 20),
                pids: Some(256),
                cpu_millis: None,
            },
            ..SandboxSpec::default()
        };
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let stdio = Stdio {
            stdin: std::fs::File::open("/dev/null").unwrap().into(),
            stdout: log.try_clone().unwrap().into(),
            stderr: log.into(),
        };
        let sandbox = sandboxes.create(spec, &stdio).unwrap();
        sandbox.start().unwrap();
        Self {
            dir,
            sandbox,
            url: format!("http://{address}"),
        }
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        body: impl Into<bytes::Bytes>,
    ) -> (u16, bytes::Bytes) {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<bytes::Bytes>>();
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .unwrap();
        let response = client.request(request).await.unwrap();
        let status = response.status().as_u16();
        (
            status,
            response.into_body().collect().await.unwrap().to_bytes(),
        )
    }

    /// Runs a shell script and answers with both streams and how it ended.
    async fn shell(&self, script: &str) -> (String, Exit) {
        self.exec(serde_json::json!({ "command": ["bash", "-c", script] }))
            .await
    }

    async fn exec(&self, request: serde_json::Value) -> (String, Exit) {
        let (status, lines) = self.send("POST", "/v1/exec", request.to_string()).await;
        assert_eq!(status, 200, "{lines:?}");
        let (mut text, mut end) = (String::new(), None);
        for line in lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            match serde_json::from_slice(line).unwrap() {
                ExecEvent::Started { .. } => {}
                ExecEvent::Stdout { data } | ExecEvent::Stderr { data } => {
                    let bytes = base64::engine::general_purpose::STANDARD
                        .decode(data)
                        .unwrap();
                    text.push_str(&String::from_utf8_lossy(&bytes));
                }
                ExecEvent::Exit(exit) => end = Some(exit),
            }
        }
        (text, end.unwrap())
    }

    async fn until_ready(&self) {
        let until = Instant::now() + Duration::from_secs(10);
        while self.send("GET", "/readyz", "").await.0 != 200 {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
            assert!(
                Instant::now() < until && self.sandbox.try_wait().unwrap().is_none(),
                "not ready: {log}"
            );
            tokio::task::yield_now().await;
        }
    }
}

async fn test() {
    let id = std::process::id();
    // A loopback address of its own: the gate's port is fixed before it starts.
    let octets = [
        127,
        77,
        u8::try_from(id >> 8 & 0xff).unwrap(),
        u8::try_from(id & 0xff).unwrap(),
    ];
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::from(octets)), 7681);
    let workspace = Workspace::start(address);
    let shutdown = CancellationToken::new();
    let gate = run_gate(gate_args(workspace.dir.path(), address), shutdown.clone());
    let checks = async {
        workspace.until_ready().await;
        tells_what_is_enforced(&workspace).await;
        runs_programs(&workspace).await;
        keeps_files(&workspace).await;
        lets_nothing_out(&workspace).await;
        keeps_programs_from_the_daemon(&workspace).await;
        runs_an_id_once(&workspace).await;
        stops_programs_that_get_out_of_reach(&workspace).await;
        ends_what_nobody_waits_for(&workspace).await;
        shutdown.cancel();
    };
    let (outcome, ()) = tokio::join!(gate, checks);
    outcome.unwrap();
    workspace.sandbox.signal(15).unwrap();
    assert_eq!(
        workspace.sandbox.wait().unwrap().code,
        0,
        "init stops when it is asked to"
    );
}

fn gate_args(dir: &Path, listen: SocketAddr) -> GateArgs {
    GateArgs {
        listen,
        socket_dir: dir.join("socket"),
        token_file: dir.join("token"),
        home_dir: dir.join("home"),
        data_dir: None,
        egress_allow: vec!["allowed.invalid".to_owned()],
    }
}

async fn tells_what_is_enforced(workspace: &Workspace) {
    let (_, info) = workspace.send("GET", "/v1/info", "").await;
    let info: Info = serde_json::from_slice(&info).unwrap();
    assert_eq!(info.home, "/work");
    for claim in [
        "seccomp",
        "no-new-privs",
        "pid-namespace",
        "user-namespace",
        "network:loopback-only",
        "no-capabilities",
    ] {
        assert!(
            info.enforced.iter().any(|enforced| enforced == claim),
            "{claim}: {info:?}"
        );
    }
    assert_eq!(info.missing, Vec::<String>::new());
}

async fn runs_programs(workspace: &Workspace) {
    let (text, exit) = workspace
        .shell("id -u; pwd; echo $HOME; ulimit -c; exit 3")
        .await;
    assert_eq!((text.as_str(), exit.code), ("1000\n/work\n/work\n0\n", 3));
    let started = Instant::now();
    let slow = serde_json::json!({ "command": ["bash", "-c", "setsid sleep 1000 & sleep 1000"], "timeoutSeconds": 1 });
    let (_, exit) = workspace.exec(slow).await;
    assert!(
        exit.timed_out && started.elapsed() < Duration::from_secs(5),
        "{exit:?}"
    );
    let (left, _) = workspace
        .shell("cat /proc/[0-9]*/comm | grep -c sleep")
        .await;
    assert_eq!(left, "0\n");
    // Orphans of programs that ended are adopted and reaped, not kept as zombies.
    workspace
        .shell("for i in 1 2 3 4 5; do (setsid sh -c 'exit 0' &); done")
        .await;
    let until = Instant::now() + Duration::from_secs(5);
    while workspace
        .shell("grep -l 'State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l")
        .await
        .0
        != "0\n"
    {
        assert!(Instant::now() < until, "zombies stay");
    }
}

async fn keeps_files(workspace: &Workspace) {
    let (status, _) = workspace
        .send("PUT", "/v1/files?path=notes/a.txt", "hello")
        .await;
    assert_eq!(status, 204);
    assert_eq!(
        workspace
            .shell("cat notes/a.txt; echo more >> notes/a.txt")
            .await
            .0,
        "hello"
    );
    let (_, body) = workspace
        .send("GET", "/v1/files?path=/work/notes/a.txt", "")
        .await;
    assert_eq!(&body[..], b"hellomore\n");
    let (_, list) = workspace.send("GET", "/v1/files/list?path=notes", "").await;
    let list: FileList = serde_json::from_slice(&list).unwrap();
    assert_eq!(
        (list.entries[0].name.as_str(), list.entries[0].size),
        ("a.txt", 10)
    );
    workspace.shell("ln -s /etc etc; ln -s / root").await;
    for path in [
        "../log",
        "etc/passwd",
        "root/etc/passwd",
        "/etc/passwd",
        "notes/../../log",
    ] {
        let (status, body) = workspace
            .send("GET", &format!("/v1/files?path={path}"), "")
            .await;
        assert_eq!(status, 403, "{path}: {body:?}");
    }
}

async fn lets_nothing_out(workspace: &Workspace) {
    let connect = |target: &str| {
        format!(
            "exec 3<>/dev/tcp/127.0.0.1/3128; printf 'CONNECT {target} HTTP/1.1\\r\\nHost: {target}\\r\\n\\r\\n' >&3; head -1 <&3"
        )
    };
    for target in [
        "example.com:443",
        "127.0.0.1:80",
        "169.254.169.254:80",
        "allowed.invalid:22",
        "allowed.invalid:443",
    ] {
        let (text, _) = workspace.shell(&connect(target)).await;
        assert_eq!(text.trim_end(), "HTTP/1.1 403 Forbidden", "{target}");
    }
    let (text, exit) = workspace.shell("exec 3<>/dev/tcp/1.1.1.1/443").await;
    assert!(exit.code != 0 && text.contains("unreachable"), "{text}");
    let audit = std::fs::read_to_string(workspace.dir.path().join("home/.quarterdeck/audit.jsonl"))
        .unwrap();
    assert!(
        audit.contains(r#""host":"169.254.169.254","port":80,"allowed":false"#),
        "{audit}"
    );
    assert!(audit.contains("the domain does not exist"), "{audit}");
}

async fn keeps_programs_from_the_daemon(workspace: &Workspace) {
    let script = "kill -9 1; ls /run/quarterdeck/ && cat /run/quarterdeck/init.sock; head -c1 /proc/1/environ; \
         echo x > /run/quarterdeck/x; cat .quarterdeck/audit.jsonl; rm /run/quarterdeck/init.sock; echo end";
    let (text, exit) = workspace.shell(script).await;
    assert!(exit.code == 0 && text.ends_with("end\n"), "{text}");
    assert_eq!(workspace.sandbox.try_wait().unwrap(), None);
    assert!(
        !workspace.dir.path().join("socket/x").exists()
            && workspace.dir.path().join("socket/init.sock").exists()
    );
    assert!(!text.contains("\"kind\""), "the audit was read: {text}");
    let (text, _) = workspace
        .exec(serde_json::json!({ "command": ["/.qd/qd", "intrude"] }))
        .await;
    assert!(
        !text.contains("enforced"),
        "init answered a program: {text}"
    );
}

async fn stops_programs_that_get_out_of_reach(workspace: &Workspace) {
    // A program may stop one that was started earlier.
    let (server, _) = workspace.shell("sleep 5432 & echo $!").await;
    let (text, exit) = workspace.shell(&format!("kill {server}")).await;
    assert_eq!(exit.code, 0, "{text}");
    // One that kills what keeps it is ended with all that has no keeper.
    let (_, exit) = workspace.shell("kill -9 $PPID; exec sleep 5432").await;
    assert_eq!(exit.code, 137);
    let count = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 543[2]'";
    let until = Instant::now() + Duration::from_secs(5);
    while workspace.shell(count).await.0 != "0\n" {
        assert!(Instant::now() < until, "it goes on");
    }
}

async fn runs_an_id_once(workspace: &Workspace) {
    let request = serde_json::json!({ "command": ["bash", "-c", "echo run >> count; cat count"], "id": "step-1" });
    assert_eq!(workspace.exec(request.clone()).await.0, "run\n");
    assert_eq!(workspace.exec(request).await.0, "run\n");
}

async fn ends_what_nobody_waits_for(workspace: &Workspace) {
    let request = serde_json::json!({ "command": ["sleep", "4321"] });
    let left = tokio::time::timeout(Duration::from_millis(500), workspace.exec(request));
    assert!(left.await.is_err(), "it sleeps");
    let until = Instant::now() + Duration::from_secs(5);
    while workspace
        .shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 432[1]'")
        .await
        .0
        != "0\n"
    {
        assert!(Instant::now() < until, "it goes on");
    }
}
