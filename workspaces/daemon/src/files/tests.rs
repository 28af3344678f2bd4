use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// A home beside a secret.
struct House {
    dir: tempfile::TempDir,
    home: Home,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("home/sub")).unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        std::fs::write(dir.path().join("home/sub/a"), "inside").unwrap();
        let home = Home::open(&dir.path().join("home")).unwrap();
        Self { dir, home }
    }

    fn read(&self, path: &str) -> Result<String, Refusal> {
        let file = self
            .home
            .parse(path)
            .and_then(|path| self.home.read(&path))?;
        Ok(String::from_utf8(read_bounded(&file, 100).unwrap()).unwrap())
    }

    fn write(&self, path: &str, text: &str, condition: &Precondition) -> Result<String, Refusal> {
        let path = self.home.parse(path)?;
        let mut upload = self.home.begin(&path)?;
        upload.write(text.as_bytes(), &path)?;
        self.home.finish(&path, upload, condition)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }
}

fn code(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Denied(_) => "denied",
        Refusal::Invalid(_) => "invalid",
        Refusal::NotFound(_) => "not_found",
        Refusal::Conflict(_) => "conflict",
        Refusal::Stale => "stale",
        _ => "other",
    }
}

#[track_caller]
fn check(house: &House, path: &str, expected: Result<&str, &str>) {
    let outcome = house.read(path);
    assert_eq!(
        outcome.as_deref().map_err(code),
        expected,
        "{path}: {outcome:?}"
    );
}

#[test]
fn no_path_leads_out_of_the_home() {
    let house = House::new();
    symlink("/etc", house.at("home/to_etc")).unwrap();
    symlink("../secret", house.at("home/to_secret")).unwrap();
    symlink(house.at("secret"), house.at("home/to_absolute")).unwrap();
    symlink("/proc/self/root/etc/passwd", house.at("home/magic")).unwrap();
    symlink("sub/a", house.at("home/within")).unwrap();
    let absolute = house.at("home/sub/a");
    check(&house, "sub/a", Ok("inside"));
    check(&house, "./sub//a", Ok("inside"));
    check(&house, absolute.to_str().unwrap(), Ok("inside"));
    check(&house, "within", Ok("inside"));
    check(&house, "../secret", Err("denied"));
    check(&house, "sub/../../secret", Err("denied"));
    check(&house, "/etc/passwd", Err("denied"));
    check(&house, "/proc/self/environ", Err("denied"));
    check(&house, "to_etc/passwd", Err("denied"));
    check(&house, "to_secret", Err("denied"));
    check(&house, "to_absolute", Err("denied"));
    check(&house, "magic", Err("denied"));
    check(&house, "sub/a\0/../../secret", Err("invalid"));
    check(&house, "%2e%2e/secret", Err("not_found"));
    check(&house, &"x".repeat(PATH_BYTES_MAX + 1), Err("invalid"));
    check(&house, "sub", Err("invalid"));
    check(&house, "none", Err("not_found"));
}

#[test]
fn what_is_no_file_is_not_read_and_holds_nobody_up() {
    let house = House::new();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        house.at("home/pipe"),
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    check(&house, "pipe", Err("invalid"));
}

#[test]
fn a_write_appears_at_once_and_nowhere_else() {
    let house = House::new();
    symlink("/etc", house.at("home/to_etc")).unwrap();
    symlink("../secret", house.at("home/link")).unwrap();
    house
        .write("new/deep/b", "text", &Precondition::Always)
        .unwrap();
    check(&house, "new/deep/b", Ok("text"));
    // A link is replaced, not followed.
    house.write("link", "text", &Precondition::Always).unwrap();
    assert_eq!(
        std::fs::read_to_string(house.at("secret")).unwrap(),
        "secret"
    );
    for (path, expected) in [
        ("to_etc/x", "denied"),
        ("../x", "denied"),
        ("", "invalid"),
        ("sub", "conflict"),
    ] {
        let refusal = house
            .write(path, "text", &Precondition::Always)
            .unwrap_err();
        assert_eq!(code(&refusal), expected, "{path}: {refusal:?}");
    }
    let path = house.home.parse("unfinished").unwrap();
    drop(house.home.begin(&path).unwrap());
    let names: Vec<String> = house
        .home
        .list(&house.home.parse(".").unwrap())
        .unwrap()
        .entries
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(names, ["link", "new", "sub", "to_etc"]);
}

#[test]
fn a_write_happens_only_under_its_condition() {
    let house = House::new();
    let tag = house.write("a", "1", &Precondition::Absent).unwrap();
    assert_eq!(
        house.write("a", "2", &Precondition::Absent),
        Err(Refusal::Stale)
    );
    assert_eq!(
        house.write("b", "2", &Precondition::Exists),
        Err(Refusal::Stale)
    );
    let newer = house
        .write("a", "22", &Precondition::Tag(vec![tag.clone()]))
        .unwrap();
    assert_ne!(tag, newer);
    assert_eq!(
        house.write("a", "3", &Precondition::Tag(vec![tag])),
        Err(Refusal::Stale)
    );
    check(&house, "a", Ok("22"));
}

#[test]
fn deleting_takes_files_links_and_empty_folders() {
    let house = House::new();
    symlink("../secret", house.at("home/link")).unwrap();
    let delete = |path: &str| {
        house
            .home
            .parse(path)
            .and_then(|path| house.home.delete(&path))
    };
    assert_eq!(delete("link"), Ok(()));
    assert!(house.at("secret").exists());
    assert_eq!(code(&delete("sub").unwrap_err()), "conflict");
    assert_eq!(delete("sub/a"), Ok(()));
    assert_eq!(delete("sub"), Ok(()));
    assert_eq!(code(&delete("sub").unwrap_err()), "not_found");
    assert_eq!(code(&delete(".").unwrap_err()), "denied");
}

#[test]
fn a_folder_swapped_for_a_link_meanwhile_leads_nowhere() {
    let house = House::new();
    std::fs::create_dir(house.at("outside")).unwrap();
    std::fs::write(house.at("outside/a"), "secret").unwrap();
    symlink("../outside", house.at("home/evil")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = std::thread::spawn({
        let (stop, home) = (Arc::clone(&stop), house.at("home"));
        move || {
            let dir =
                rustix::fs::open(&home, OFlags::DIRECTORY | OFlags::PATH, Mode::empty()).unwrap();
            while !stop.load(Ordering::Relaxed) {
                renameat_with(&dir, "sub", &dir, "evil", RenameFlags::EXCHANGE).unwrap();
            }
        }
    });
    let (mut read, mut refused) = (0, 0);
    for round in 0..20_000 {
        match house.read("sub/a") {
            Ok(text) => {
                assert_eq!(text, "inside");
                read += 1;
            }
            Err(_) => refused += 1,
        }
        if round % 100 == 0 {
            // Either refused or written inside; never to the folder outside.
            let _either = house.write("sub/b", "text", &Precondition::Always);
            assert!(!house.at("outside/b").exists());
        }
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    assert!(
        read > 0 && refused > 0,
        "the race was not run: {read} read, {refused} refused"
    );
}
