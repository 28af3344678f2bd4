//! The system call filter: an allow list compiled to BPF once, loaded in each program just before it is run.
//!
//! Not on the list is refused with `EPERM`, so that programs see a missing right; numbers newer than the list and `clone3`
//! (whose flags a filter cannot see) with `ENOSYS`, so that libraries fall back to what is on it.

mod syscalls;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use crate::SandboxError;

/// Flags of `clone` that make namespaces.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
/// Type bits of `socket` without `SOCK_CLOEXEC` and `SOCK_NONBLOCK`.
const SOCKET_TYPE_MASK: u64 = 0xf;
const SOCK_STREAM: u64 = 1;
const SOCK_DGRAM: u64 = 2;
const SOCK_SEQPACKET: u64 = 5;
const NETLINK_ROUTE: u64 = 0;
/// Requests that type into or take over somebody's terminal.
const TERMINAL_REQUESTS: [u64; 4] = [0x5412, 0x541c, 0x541d, 0x5423];
/// Personalities that do not weaken anything: Linux, 32 bits, a 2.6 version number, both, and the question.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The filter, one number an instruction, for sending it to a helper.
pub(crate) fn program() -> Result<Vec<u64>, SandboxError> {
    Ok(compiled()?.iter().map(pack).collect())
}

/// The filter, ready to be loaded.
pub(crate) fn compiled() -> Result<&'static BpfProgram, SandboxError> {
    static PROGRAM: OnceLock<Result<BpfProgram, String>> = OnceLock::new();
    PROGRAM
        .get_or_init(|| compile().map_err(|error| error.to_string()))
        .as_ref()
        .map_err(|reason| SandboxError::Helper {
            step: "compile the system call filter".to_owned(),
            reason: reason.clone(),
        })
}

/// The inverse of [`program`].
pub(crate) fn unpack(program: &[u64]) -> BpfProgram {
    program
        .iter()
        .map(|word| {
            let [code_low, code_high, jt, jf, k @ ..] = word.to_le_bytes();
            sock_filter {
                code: u16::from_le_bytes([code_low, code_high]),
                jt,
                jf,
                k: u32::from_le_bytes(k),
            }
        })
        .collect()
}

fn pack(instruction: &sock_filter) -> u64 {
    let [code_low, code_high] = instruction.code.to_le_bytes();
    let [a, b, c, d] = instruction.k.to_le_bytes();
    u64::from_le_bytes([
        code_low,
        code_high,
        instruction.jt,
        instruction.jf,
        a,
        b,
        c,
        d,
    ])
}

fn compile() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = syscalls::ALLOWED
        .iter()
        .chain(syscalls::ALLOWED_HERE)
        .map(|number| (*number, Vec::new()))
        .collect();
    for (number, conditional) in conditional()? {
        rules.insert(number, conditional);
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(nix::libc::EPERM.unsigned_abs()),
        SeccompAction::Allow,
        TargetArch::try_from(std::env::consts::ARCH)?,
    )?;
    let main: BpfProgram = filter.try_into()?;
    Ok(prefix().into_iter().chain(main).collect())
}

/// Three answers that the allow list cannot give. Jumps are relative, and the list's program loads what it needs anew.
fn prefix() -> [sock_filter; 4] {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const RETURN_ERRNO: u32 = 0x0005_0000;
    let clone3 = u32::try_from(nix::libc::SYS_clone3).unwrap_or(u32::MAX);
    [
        sock_filter {
            code: LOAD_WORD,
            jt: 0,
            jf: 0,
            k: 0,
        },
        sock_filter {
            code: JUMP_EQUAL,
            jt: 1,
            jf: 0,
            k: clone3,
        },
        sock_filter {
            code: JUMP_GREATER_OR_EQUAL,
            jt: 0,
            jf: 1,
            k: syscalls::NEWER_THAN_KNOWN,
        },
        sock_filter {
            code: RETURN,
            jt: 0,
            jf: 0,
            k: RETURN_ERRNO | nix::libc::ENOSYS.unsigned_abs(),
        },
    ]
}

/// Calls that are allowed with some arguments.
fn conditional() -> Result<Vec<(i64, Vec<SeccompRule>)>, seccompiler::BackendError> {
    use nix::libc::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX};
    let family = |family: i32, kind: u64| {
        rule(&[
            word(0, SeccompCmpOp::Eq, u64::from(family.unsigned_abs()))?,
            word(1, SeccompCmpOp::MaskedEq(SOCKET_TYPE_MASK), kind)?,
        ])
    };
    let mut sockets = Vec::new();
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        sockets.push(family(AF_UNIX, kind)?);
    }
    for inet in [AF_INET, AF_INET6] {
        sockets.push(family(inet, SOCK_STREAM)?);
        sockets.push(family(inet, SOCK_DGRAM)?);
    }
    // Interface lists are read through it; the namespace has nothing that could be changed, and no capability to do it.
    sockets.push(rule(&[
        word(0, SeccompCmpOp::Eq, u64::from(AF_NETLINK.unsigned_abs()))?,
        word(2, SeccompCmpOp::Eq, NETLINK_ROUTE)?,
    ])?);
    let terminals = TERMINAL_REQUESTS
        .iter()
        .map(|request| word(1, SeccompCmpOp::Ne, *request))
        .collect::<Result<Vec<_>, _>>()?;
    let personalities = PERSONALITIES
        .iter()
        .map(|value| rule(&[word(0, SeccompCmpOp::Eq, *value)?]))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(vec![
        (nix::libc::SYS_socket, sockets),
        (
            nix::libc::SYS_socketpair,
            vec![rule(&[word(
                0,
                SeccompCmpOp::Eq,
                u64::from(AF_UNIX.unsigned_abs()),
            )?])?],
        ),
        (nix::libc::SYS_ioctl, vec![rule(&terminals)?]),
        (nix::libc::SYS_personality, personalities),
        (
            nix::libc::SYS_clone,
            vec![rule(&[SeccompCondition::new(
                0,
                SeccompCmpArgLen::Qword,
                SeccompCmpOp::MaskedEq(CLONE_NAMESPACES),
                0,
            )?])?],
        ),
    ])
}

fn rule(conditions: &[SeccompCondition]) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(conditions.to_vec())
}

/// A condition on the low half of an argument: the kernel ignores the upper half of these, so the filter must too.
fn word(
    argument: u8,
    compare: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_survives_the_way_to_the_helper() {
        let program = compiled().unwrap();
        assert_eq!(&unpack(&super::program().unwrap()), program);
        assert!(program.len() < 4096, "the kernel's limit");
    }

    #[test]
    fn nothing_that_makes_namespaces_or_mounts_is_allowed() {
        let refused = [
            nix::libc::SYS_mount,
            nix::libc::SYS_umount2,
            nix::libc::SYS_pivot_root,
            nix::libc::SYS_unshare,
            nix::libc::SYS_setns,
            nix::libc::SYS_bpf,
            nix::libc::SYS_perf_event_open,
            nix::libc::SYS_keyctl,
            nix::libc::SYS_add_key,
            nix::libc::SYS_request_key,
            nix::libc::SYS_userfaultfd,
            nix::libc::SYS_io_uring_setup,
            nix::libc::SYS_io_uring_enter,
            nix::libc::SYS_io_uring_register,
            nix::libc::SYS_ptrace,
            nix::libc::SYS_process_vm_readv,
            nix::libc::SYS_process_vm_writev,
            nix::libc::SYS_pidfd_getfd,
            nix::libc::SYS_kcmp,
            nix::libc::SYS_open_by_handle_at,
            nix::libc::SYS_init_module,
            nix::libc::SYS_finit_module,
            nix::libc::SYS_kexec_load,
            nix::libc::SYS_reboot,
            nix::libc::SYS_open_tree,
            nix::libc::SYS_move_mount,
            nix::libc::SYS_fsopen,
            nix::libc::SYS_mount_setattr,
            nix::libc::SYS_clone3,
            nix::libc::SYS_fanotify_init,
        ];
        for number in refused {
            let allowed = syscalls::ALLOWED.iter().chain(syscalls::ALLOWED_HERE);
            assert!(!allowed.copied().any(|known| known == number), "{number}");
        }
    }
}
