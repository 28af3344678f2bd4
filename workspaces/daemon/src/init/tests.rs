use std::time::{Duration, Instant};

use axum::body::Body;
use base64::Engine as _;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use protocol::workspace::{ExecEvent, Exit, Fault};
use tower::ServiceExt;

use super::*;
use crate::init::orphans::Orphans;

/// A first process without the process: its API over a home.
struct House {
    dir: tempfile::TempDir,
    router: Router,
    tasks: TaskTracker,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Arc::new(Home::open(dir.path()).unwrap());
        let confinement = Confinement::new(&ConfinementSpec {
            writable: vec![dir.path().to_owned()],
            hidden: vec![PathBuf::from("/run/quarterdeck")],
            open_files_max: 1_024,
            processes_max: None,
        })
        .unwrap();
        let info = facts::gather(dir.path(), &confinement);
        let tasks = TaskTracker::new();
        let base = program::base_environment(dir.path(), 3128);
        let execs = Execs::new(
            confinement,
            Arc::clone(&home),
            base,
            Orphans::ignoring(),
            tasks.clone(),
            CancellationToken::new(),
        );
        let router = router(Arc::new(Shared { info, execs }), home);
        Self { dir, router, tasks }
    }

    async fn send(&self, body: serde_json::Value) -> http::Response<Body> {
        let request = Request::post("/v1/exec").header("content-type", "application/json");
        self.router
            .clone()
            .oneshot(request.body(Body::from(body.to_string())).unwrap())
            .await
            .unwrap()
    }

    async fn exec(&self, body: serde_json::Value) -> Told {
        let response = self.send(body).await;
        assert_eq!(response.status(), StatusCode::OK);
        Told::of(&response.into_body().collect().await.unwrap().to_bytes())
    }

    async fn fault(&self, body: serde_json::Value) -> (StatusCode, Fault) {
        let response = self.send(body).await;
        let status = response.status();
        (
            status,
            serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes())
                .unwrap(),
        )
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    stdout: String,
    stderr: String,
    exit: Option<Exit>,
}

impl Told {
    fn of(lines: &[u8]) -> Self {
        let mut told = Self::default();
        let decode = |data: &str| {
            String::from_utf8(
                base64::engine::general_purpose::STANDARD
                    .decode(data)
                    .unwrap(),
            )
            .unwrap()
        };
        for line in lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            assert!(told.exit.is_none(), "something follows the exit");
            match serde_json::from_slice(line).unwrap() {
                ExecEvent::Started { pid } => assert!(pid > 0),
                ExecEvent::Stdout { data } => told.stdout.push_str(&decode(&data)),
                ExecEvent::Stderr { data } => told.stderr.push_str(&decode(&data)),
                ExecEvent::Exit(exit) => told.exit = Some(exit),
            }
        }
        told
    }
}

fn shell(script: &str) -> serde_json::Value {
    serde_json::json!({ "command": ["sh", "-c", script] })
}

fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn a_program_is_told_about_from_start_to_end() {
    let house = House::new();
    let mut request = shell("cat; echo bad >&2; echo $WORD $HOME $https_proxy; pwd; exit 3");
    request["stdin"] = "aGVsbG8K".into();
    request["env"] = serde_json::json!({ "WORD": "word" });
    let told = house.exec(request).await;
    let home = house.dir.path().display();
    assert_eq!(
        told.stdout,
        format!("hello\nword {home} http://127.0.0.1:3128\n{home}\n")
    );
    assert_eq!(told.stderr, "bad\n");
    assert_eq!(
        told.exit,
        Some(Exit {
            code: 3,
            timed_out: false,
            truncated: false
        })
    );
}

#[tokio::test]
async fn a_program_that_cannot_run_is_a_fault() {
    let house = House::new();
    let (status, fault) = house
        .fault(serde_json::json!({ "command": ["no-such-program"] }))
        .await;
    assert_eq!(
        (status, fault.code.as_str()),
        (StatusCode::NOT_FOUND, "not_found")
    );
    let (status, fault) = house.fault(serde_json::json!({ "command": [] })).await;
    assert_eq!(
        (status, fault.code.as_str()),
        (StatusCode::BAD_REQUEST, "invalid")
    );
}

#[tokio::test]
async fn a_timeout_kills_what_a_program_started_too() {
    let house = House::new();
    let mut request = shell("(setsid sleep 1000 & echo $!); sleep 1000");
    request["timeoutSeconds"] = 1.into();
    let started = Instant::now();
    let told = house.exec(request).await;
    assert_eq!(
        told.exit,
        Some(Exit {
            code: 137,
            timed_out: true,
            truncated: false
        })
    );
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
    assert!(
        !told.stdout.trim().is_empty() && !is_alive(&told.stdout),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_program_nobody_listens_to_is_killed() {
    let house = House::new();
    let response = house.send(shell("echo $$ > pid; sleep 1000")).await;
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    let pid = loop {
        match std::fs::read_to_string(house.dir.path().join("pid")) {
            Ok(pid) if !pid.trim().is_empty() => break pid,
            _ => tokio::task::yield_now().await,
        }
    };
    drop(body);
    house.tasks.close();
    house.tasks.wait().await;
    assert!(!is_alive(&pid));
}

#[tokio::test]
async fn the_same_id_runs_once() {
    let house = House::new();
    let mut request = shell("echo run >> count; cat count");
    request["id"] = "step-1".into();
    let (first, second) = tokio::join!(house.exec(request.clone()), house.exec(request.clone()));
    assert_eq!(first.stdout, "run\n");
    assert_eq!(first, second);
    assert_eq!(house.exec(request.clone()).await, first);
    request["command"] = serde_json::json!(["true"]);
    let (status, fault) = house.fault(request).await;
    assert_eq!(
        (status, fault.code.as_str()),
        (StatusCode::CONFLICT, "conflict")
    );
}

#[tokio::test]
async fn output_is_cut_at_the_limit_and_the_program_goes_on() {
    let house = House::new();
    let told = house
        .exec(shell("head -c 5000000 /dev/zero | tr '\\0' x; exit 4"))
        .await;
    assert_eq!(told.stdout.len(), 4 << 20);
    assert_eq!(
        told.exit,
        Some(Exit {
            code: 4,
            timed_out: false,
            truncated: true
        })
    );
}

#[tokio::test]
async fn many_programs_run_at_once() {
    let house = House::new();
    let runs = (0..16).map(|index| house.exec(shell(&format!("echo {index}"))));
    let told = futures::future::join_all(runs).await;
    for (index, told) in told.iter().enumerate() {
        assert_eq!(told.stdout, format!("{index}\n"));
    }
}

#[tokio::test]
async fn a_background_program_does_not_hold_up_the_end() {
    let house = House::new();
    let told = house.exec(shell("sleep 1000 & echo $!")).await;
    assert_eq!(
        told.exit,
        Some(Exit {
            code: 0,
            timed_out: false,
            truncated: false
        })
    );
    assert!(is_alive(&told.stdout));
    let pid = rustix::process::Pid::from_raw(told.stdout.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_program_cannot_reach_the_daemon() {
    let house = House::new();
    let own = std::process::id();
    let told = house
        .exec(shell(&format!(
            "kill -0 {own}; kill -9 {own}; head -c 1 /proc/{own}/environ | wc -c"
        )))
        .await;
    assert!(told.stderr.matches("ermitted").count() >= 2, "{told:?}");
}

#[tokio::test]
async fn what_is_enforced_is_told() {
    let house = House::new();
    let request = Request::get("/v1/info").body(Body::empty()).unwrap();
    let response = house.router.clone().oneshot(request).await.unwrap();
    let info: Info =
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    for claim in ["seccomp", "no-new-privs"] {
        assert!(
            info.enforced.iter().any(|enforced| enforced == claim),
            "{info:?}"
        );
    }
    assert!(
        info.enforced
            .iter()
            .any(|enforced| enforced.starts_with("landlock:abi-")),
        "{info:?}"
    );
    assert!(
        info.missing
            .iter()
            .any(|missing| missing.starts_with("pid-namespace")),
        "{info:?}"
    );
}
