use std::fs::File;

use super::*;

fn spec(writable: &Path, hidden: &Path) -> ConfinementSpec {
    ConfinementSpec {
        writable: vec![writable.to_owned()],
        hidden: vec![hidden.to_owned()],
        open_files_max: 256,
        processes_max: None,
    }
}

fn start(confinement: &Confinement, cwd: &Path, script: &str) -> (Confined, File) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let stdio = Stdio {
        stdin: File::open("/dev/null").unwrap().into(),
        stdout: write.try_clone().unwrap(),
        stderr: write,
    };
    let program = ProgramSpec {
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into(),
        cwd: cwd.to_owned(),
    };
    (
        confinement.spawn(&program, stdio).unwrap(),
        File::from(read),
    )
}

fn run(confinement: &Confinement, cwd: &Path, script: &str) -> (String, i32) {
    let (mut program, mut output) = start(confinement, cwd, script);
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    (text, program.keeper.wait().unwrap().code().unwrap())
}

#[test]
fn a_program_writes_where_it_may_and_reads_nothing_hidden() {
    let (home, hidden) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(hidden.path().join("secret"), "secret").unwrap();
    let confinement = Confinement::new(&spec(home.path(), hidden.path())).unwrap();
    assert!(
        confinement.missing().is_empty(),
        "this kernel cannot prove it: {:?}",
        confinement.missing()
    );
    let script = format!(
        "echo here > a && cat a; cat {0}/secret; echo x > {0}/b; echo x > /var/tmp/quarterdeck-confine-test; ulimit -n; exit 5",
        hidden.path().display()
    );
    let (text, code) = run(&confinement, home.path(), &script);
    assert_eq!(code, 5, "{text}");
    assert!(
        text.starts_with("here\n") && text.contains("\n256\n"),
        "{text}"
    );
    assert!(
        !text.contains("secret\nsecret") && text.contains("ermission denied"),
        "{text}"
    );
    assert!(
        !hidden.path().join("b").exists()
            && !Path::new("/var/tmp/quarterdeck-confine-test").exists()
    );
}

#[test]
fn what_daemonized_itself_is_killed_with_its_program() {
    let (home, hidden) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let confinement = Confinement::new(&spec(home.path(), hidden.path())).unwrap();
    let script =
        "(setsid sh -c '(sleep 1000 & echo $! > inner; echo ready; wait) &' &) ; sleep 1000";
    let (mut program, mut output) = start(&confinement, home.path(), script);
    let mut ready = [0; 6];
    output.read_exact(&mut ready).unwrap();
    let inner: u32 = std::fs::read_to_string(home.path().join("inner"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(keeper::living_descendants(program.keeper_pid()).contains(&inner));
    program.kill_all();
    assert!(program.keeper.wait().unwrap().code().is_none());
    let stat = std::fs::read_to_string(format!("/proc/{inner}/stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
}

#[test]
fn a_program_that_does_not_exist_is_the_callers_fault() {
    let (home, hidden) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let confinement = Confinement::new(&spec(home.path(), hidden.path())).unwrap();
    let program = ProgramSpec {
        command: vec!["no-such-program".to_owned()],
        env: BTreeMap::new(),
        cwd: home.path().into(),
    };
    let outcome = confinement.spawn(&program, Stdio::null().unwrap());
    assert!(
        matches!(outcome, Err(SandboxError::Program { .. })),
        "{outcome:?}"
    );
}

#[test]
fn programs_may_signal_each_other_but_not_the_daemon() {
    let (home, hidden) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let confinement = Confinement::new(&spec(home.path(), hidden.path())).unwrap();
    let (mut server, _output) = start(&confinement, home.path(), "exec sleep 1000");
    let own = std::process::id();
    let script = format!("kill -0 {own} || kill -9 {}", server.pid());
    let (text, code) = run(&confinement, home.path(), &script);
    assert!(code == 0 && text.contains("ermitted"), "{text}");
    assert_eq!(server.reap().unwrap(), Some(137));
}
