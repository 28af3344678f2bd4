use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Runs a shell script and gives what it wrote and how it ended.
async fn run(script: &str, input: Option<&str>, tty: bool) -> (String, String, i32) {
    let spawner = Spawner::start().unwrap();
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script);
    let request = ExecRequest {
        command: Vec::new(),
        stdin: input.is_some(),
        tty,
    };
    let session = open(&spawner, command, &request).await.unwrap();
    if let (Some(input), Some(mut stdin)) = (input, session.stdin) {
        stdin.write_all(input.as_bytes()).await.unwrap();
    }
    let (mut out, mut err) = (String::new(), String::new());
    if let Some(mut stdout) = session.stdout {
        stdout.read_to_string(&mut out).await.unwrap();
    }
    if let Some(mut stderr) = session.stderr {
        stderr.read_to_string(&mut err).await.unwrap();
    }
    (out, err, session.ended.await.unwrap().code)
}

#[tokio::test]
async fn a_command_has_its_own_streams_and_exit_code() {
    let check = async |script: &str, input, tty, expected: (&str, &str, i32)| {
        let (out, err, code) = run(script, input, tty).await;
        assert_eq!((out.as_str(), err.as_str(), code), expected, "{script}");
    };
    check(
        "echo out; echo err >&2; exit 7",
        None,
        false,
        ("out\n", "err\n", 7),
    )
    .await;
    check("cat", Some("hello"), false, ("hello", "", 0)).await;
    check("kill -9 $$", None, false, ("", "", 137)).await;
    check(
        "test -t 0 && echo terminal",
        None,
        true,
        ("terminal\r\n", "", 0),
    )
    .await;
}

#[tokio::test]
async fn a_command_ends_when_its_session_is_dropped() {
    let spawner = Spawner::start().unwrap();
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg("echo $$; exec sleep 1000");
    let request = ExecRequest {
        command: Vec::new(),
        stdin: false,
        tty: false,
    };
    let session = open(&spawner, command, &request).await.unwrap();
    let mut out = session.stdout.unwrap();
    let mut byte = [0];
    out.read_exact(&mut byte).await.unwrap();
    drop(session.ended);
    let mut rest = String::new();
    // The pipe ends only when the process has.
    out.read_to_string(&mut rest).await.unwrap();
}
