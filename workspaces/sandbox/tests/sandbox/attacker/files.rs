//! Attacks on files: the host's, the kernel's, the root file system's.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::libc;

use super::{Attack, Outcome, call};

pub(super) const ALL: &[(&str, Attack)] = &[
    ("read_shadow_of_the_host", |_| read("/etc/shadow")),
    ("read_through_the_root_of_a_host_process", |args| {
        read(&format!("/proc/{}/root/etc/shadow", args[0]))
    }),
    ("read_kernel_memory", |_| kernel_file("/proc/kcore")),
    ("read_kernel_keys", |_| kernel_file("/proc/keys")),
    ("read_kernel_timers", |_| kernel_file("/proc/timer_list")),
    ("read_firmware", |_| list("/sys/firmware")),
    ("write_sysrq", |_| write("/proc/sysrq-trigger")),
    ("write_core_pattern", |_| {
        write("/proc/sys/kernel/core_pattern")
    }),
    ("write_modprobe_path", |_| {
        write("/proc/sys/kernel/modprobe")
    }),
    ("write_uevent_helper", |_| {
        write("/sys/kernel/uevent_helper")
    }),
    ("write_sysctl_of_the_host", |_| {
        write("/proc/sys/vm/overcommit_memory")
    }),
    ("write_root_file_system", |_| create("/quarterdeck-attack")),
    ("write_programs_of_the_host", |_| create_unnamed("/usr")),
    ("lower_oom_score", |_| lower_oom_score()),
    ("make_block_device", make_block_device),
    ("open_by_handle", open_by_handle),
    ("become_root_by_set_user_id", become_root),
];

fn read(path: &str) -> Outcome {
    let mut text = String::new();
    match File::open(path).and_then(|mut file| file.read_to_string(&mut text)) {
        Ok(_) if text.contains("root:") => Outcome::Through("the host's passwords".to_owned()),
        Ok(_) => Outcome::Stopped("another file".to_owned()),
        Err(error) => Outcome::Stopped(error.to_string()),
    }
}

/// A covered file is a device, and an absent one cannot be attacked.
fn kernel_file(path: &str) -> Outcome {
    let mut byte = [0];
    match File::open(path).and_then(|mut file| {
        let kind = file.metadata()?.file_type();
        if kind.is_char_device() {
            return Err(io::Error::other("it is covered"));
        }
        file.read(&mut byte)
    }) {
        Ok(_) => Outcome::Through("it can be read".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Outcome::Absent(format!("this kernel has no {path}"))
        }
        Err(error) => Outcome::Stopped(error.to_string()),
    }
}

fn list(path: &str) -> Outcome {
    match fs::read_dir(path).map(Iterator::count) {
        Ok(0) => Outcome::Stopped("it is empty".to_owned()),
        Ok(count) => Outcome::Through(format!("{count} entries")),
        Err(error) => Outcome::Stopped(error.to_string()),
    }
}

/// Opened for writing is enough.
fn write(path: &str) -> Outcome {
    match OpenOptions::new().write(true).open(path) {
        Ok(file)
            if file
                .metadata()
                .is_ok_and(|meta| meta.file_type().is_char_device()) =>
        {
            Outcome::Stopped("it is covered".to_owned())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Outcome::Absent(format!("there is no {path}"))
        }
        outcome => Outcome::of(outcome),
    }
}

fn create(path: &str) -> Outcome {
    let outcome = OpenOptions::new().write(true).create_new(true).open(path);
    if outcome.is_ok() {
        fs::remove_file(path).unwrap();
    }
    Outcome::of(outcome)
}

/// A file without a name: nothing stays on the host if it works.
fn create_unnamed(folder: &str) -> Outcome {
    Outcome::of(
        OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .open(folder),
    )
}

/// Needs the right to exceed limits, which a root in a machine of somebody else's may lack itself.
fn lower_oom_score() -> Outcome {
    const SYS_RESOURCE: u64 = 1 << 24;
    let outcome = fs::write("/proc/self/oom_score_adj", "-1000");
    let held = rustix::thread::capabilities(None).unwrap().permitted.bits();
    if outcome.is_err() && held != 0 && held & SYS_RESOURCE == 0 {
        return Outcome::Absent("root has not got this right here".to_owned());
    }
    Outcome::of(outcome)
}

fn make_block_device(_: &[String]) -> Outcome {
    let path = CString::new("/tmp/disk").unwrap();
    // SAFETY: the path is a terminated string.
    let outcome =
        unsafe { libc::mknod(path.as_ptr(), libc::S_IFBLK | 0o600, libc::makedev(254, 0)) };
    Outcome::of(call(outcome.into()))
}

/// The way out of containers that may use handles: a handle names a file of the whole file system, not of the mount.
fn open_by_handle(_: &[String]) -> Outcome {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        data: [u8; 128],
    }
    let mut handle = Handle {
        bytes: 128,
        kind: 0,
        data: [0; 128],
    };
    let mut mount = 0;
    let path = CString::new("/usr").unwrap();
    // SAFETY: the handle has the room that it says it has, and the path is a terminated string.
    let named = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw mut handle,
            &raw mut mount,
            0,
        )
    };
    if let Err(error) = call(named) {
        return Outcome::Stopped(format!("name_to_handle_at: {error}"));
    }
    let folder = File::open("/usr").unwrap();
    // SAFETY: the handle was filled in by the call above.
    let opened = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            std::os::fd::AsRawFd::as_raw_fd(&folder),
            &raw mut handle,
            libc::O_RDONLY,
        )
    };
    Outcome::of(call(opened))
}

/// Runs as a set-user-id program of root in the image, started by another user.
fn become_root(_: &[String]) -> Outcome {
    assert!(Path::new("/attacker").exists());
    // SAFETY: these only read ids.
    let (real, effective) = unsafe { (libc::getuid(), libc::geteuid()) };
    if effective == 0 && real != 0 {
        Outcome::Through("it runs as root".to_owned())
    } else {
        Outcome::Stopped(format!("it runs as {effective}"))
    }
}
