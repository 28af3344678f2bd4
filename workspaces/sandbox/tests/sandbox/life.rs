//! What a sandbox is for: programs run in it, and nothing is left of it.

use crate::bench::{Bench, exec, spec};
use crate::harness::Test;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new("a_program_runs_and_its_output_and_exit_code_arrive", runs),
        Test::new("a_program_added_later_runs_in_the_same_sandbox", execs),
    ]
}

fn runs() {
    let bench = Bench::hard();
    let outcome = bench.run(spec("a", &["sh", "-c", "id -u; hostname; pwd; ls /; echo bad >&2; exit 3"]));
    println!("{outcome:?}");
    assert_eq!(outcome.status.code, 3);
    assert!(outcome.stdout.starts_with("1000\nworkspace\n/\n"), "{outcome:?}");
    assert_eq!(outcome.stderr, "bad\n");
}

fn execs() {
    let bench = Bench::hard();
    let sandbox = bench.idle(spec("a", &[]));
    let outcome = exec(&sandbox, &["sh", "-c", "cat /proc/1/comm; id; cat /proc/self/status | grep -E 'Cap|NoNew|Seccomp'; exit 7"]);
    println!("{outcome:?}");
    assert_eq!(outcome.status.code, 7);
    assert!(outcome.stdout.starts_with("sleep\n"), "{outcome:?}");
}
