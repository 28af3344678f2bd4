use super::*;

#[track_caller]
fn check(dir: &str, own: &str, expected: Option<&str>) {
    assert_eq!(origin_of(Path::new(dir), own), expected.map(PathBuf::from));
}

#[test]
fn the_helper_finds_the_way_back() {
    // The unified line of a hybrid host has no controllers and is never the way back for a version 1 directory.
    if Path::new(ROOT).join("cgroup.controllers").exists() {
        check(
            "/sys/fs/cgroup/a/quarterdeck/x",
            "0::/a/b",
            Some("/sys/fs/cgroup/a/b"),
        );
    } else {
        let own = "4:memory:/process_api/1\n1:cpu:/\n0::/";
        check(
            "/sys/fs/cgroup/memory/quarterdeck/x",
            own,
            Some("/sys/fs/cgroup/memory/process_api/1"),
        );
        check(
            "/sys/fs/cgroup/cpu/quarterdeck/x",
            own,
            Some("/sys/fs/cgroup/cpu/"),
        );
        check("/sys/fs/cgroup/pids/quarterdeck/x", own, None);
    }
}

#[test]
fn a_quota_is_never_below_what_the_kernel_takes() {
    assert_eq!(cpu_quota_micros(1), 1_000);
    assert_eq!(cpu_quota_micros(10), 1_000);
    assert_eq!(cpu_quota_micros(1_500), 150_000);
}
