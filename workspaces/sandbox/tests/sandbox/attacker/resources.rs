//! Attacks on what the host shares out: processes, memory, processor time, descriptors.

use std::time::{Duration, Instant};

use nix::libc;

use super::{Attack, Outcome};

pub(super) const ALL: &[(&str, Attack)] = &[
    ("fork_without_end", |_| fork_without_end()),
    ("take_all_memory", |_| take_memory()),
    ("take_all_processor_time", |_| take_processor()),
    ("dump_core", |_| limit(libc::RLIMIT_CORE, 1)),
];

/// Far above the limit of the test, far below what would hurt the host.
const PROCESSES: usize = 200;
const MEMORY_BYTES: usize = 256 << 20;

fn fork_without_end() -> Outcome {
    let mut children = Vec::new();
    let mut refusal = None;
    for _ in 0..PROCESSES {
        // SAFETY: this process is single-threaded; a child only waits.
        match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            },
            -1 => {
                refusal = Some(std::io::Error::last_os_error());
                break;
            }
            pid => children.push(pid),
        }
    }
    for pid in &children {
        // SAFETY: the children are ours and not reaped.
        unsafe {
            libc::kill(*pid, libc::SIGKILL);
            libc::waitpid(*pid, std::ptr::null_mut(), 0);
        }
    }
    refusal.map_or(
        Outcome::Through(format!("{} processes", children.len())),
        |error| Outcome::Stopped(format!("{error} after {}", children.len())),
    )
}

fn take_memory() -> Outcome {
    let mut memory = vec![0_u8; MEMORY_BYTES];
    for page in memory.chunks_mut(4_096) {
        page[0] = 1;
    }
    Outcome::Through(format!("{} bytes", std::hint::black_box(memory).len()))
}

/// Works for a while and looks how much of that time it got.
fn take_processor() -> Outcome {
    let (wall, before) = (Instant::now(), processor_time());
    let mut number = 1_u64;
    while wall.elapsed() < Duration::from_millis(1_500) {
        number = std::hint::black_box(number.wrapping_mul(31).wrapping_add(7));
    }
    let share = (processor_time() - before).as_secs_f64() / wall.elapsed().as_secs_f64();
    // The limit of the test is a twentieth.
    if share > 0.15 {
        Outcome::Through(format!("a share of {share}"))
    } else {
        Outcome::Stopped(format!("a share of {share}"))
    }
}

fn processor_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the structure is live.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}

/// Whether this process may use at least so much.
fn limit(resource: u32, wanted: u64) -> Outcome {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure is live.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    if limit.rlim_max >= wanted {
        Outcome::Through(format!("up to {}", limit.rlim_max))
    } else {
        Outcome::Stopped(format!("up to {}", limit.rlim_max))
    }
}
