//! Landlock: which files programs may touch, and whom they may signal.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};

/// The newest version whose rights we know; an older kernel gets what it knows of them.
const NEWEST: ABI = ABI::V6;
const VERSION_QUESTION: u32 = 1;

/// What programs may touch; everything else is refused.
#[derive(Debug, Clone, Default)]
pub(crate) struct Domain {
    /// Read and execute below.
    pub readable: Vec<PathBuf>,
    /// List directories below.
    pub listable: Vec<PathBuf>,
    /// Everything below.
    pub writable: Vec<PathBuf>,
    /// Read, write and control devices below.
    pub devices: Vec<PathBuf>,
}

impl Domain {
    /// The rule set as a descriptor; `None` where the kernel has no Landlock. What does not exist is left out.
    pub(crate) fn open(&self) -> Result<Option<OwnedFd>, landlock::RulesetError> {
        let ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?;
        let device = AccessFs::ReadFile
            | AccessFs::WriteFile
            | AccessFs::ReadDir
            | AccessFs::IoctlDev
            | AccessFs::Truncate;
        let mut ruleset = add(ruleset, &self.readable, AccessFs::from_read(NEWEST))?;
        ruleset = add(ruleset, &self.listable, AccessFs::ReadDir.into())?;
        // Device files cannot be made there: the mounts are `nodev`, and nobody inside may make one.
        ruleset = add(
            ruleset,
            &self.writable,
            AccessFs::from_all(NEWEST) & !BitFlags::from(AccessFs::IoctlDev),
        )?;
        ruleset = add(ruleset, &self.devices, device)?;
        Ok(ruleset.into())
    }

    /// All top-level directories except one folder somewhere below them, which nothing in the domain may read.
    pub(crate) fn readable_except(hidden: &[PathBuf]) -> Vec<PathBuf> {
        let mut readable = Vec::new();
        collect_except(Path::new("/"), hidden, &mut readable);
        readable
    }
}

fn collect_except(folder: &Path, hidden: &[PathBuf], readable: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if hidden.contains(&path) {
            continue;
        }
        if hidden.iter().any(|hidden| hidden.starts_with(&path)) {
            collect_except(&path, hidden, readable);
        } else {
            readable.push(path);
        }
    }
}

fn add(
    ruleset: RulesetCreated,
    paths: &[PathBuf],
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, landlock::RulesetError> {
    let mut ruleset = ruleset;
    for path in paths {
        let Ok(descriptor) = PathFd::new(path) else {
            continue;
        };
        let access = if path.is_dir() {
            access
        } else {
            access & AccessFs::from_file(NEWEST)
        };
        ruleset = ruleset.add_rule(PathBeneath::new(descriptor, access))?;
    }
    Ok(ruleset)
}

/// The kernel's version of Landlock; 0 if it has none or was booted without.
pub(crate) fn abi() -> u32 {
    // SAFETY: with a null attribute, size 0 and this flag the call only returns the version; nothing is read or written.
    // JUSTIFICATION: the landlock crate does not tell the version.
    let version = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            VERSION_QUESTION,
        )
    };
    u32::try_from(version).unwrap_or(0)
}

/// Puts the calling thread into a domain; needs `no_new_privs`. Only makes system calls: usable between fork and exec.
pub(crate) fn enter(ruleset: &OwnedFd) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open for as long as the borrow lasts and the call takes no pointers.
    // JUSTIFICATION: the landlock crate's own call allocates and cannot be used between fork and exec.
    let outcome = unsafe {
        nix::libc::syscall(
            nix::libc::SYS_landlock_restrict_self,
            ruleset.as_raw_fd(),
            0_u32,
        )
    };
    if outcome == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_folder_is_in_no_readable_one() {
        let hidden = PathBuf::from("/proc/self");
        let readable = Domain::readable_except(std::slice::from_ref(&hidden));
        assert!(
            !readable.iter().any(|path| hidden.starts_with(path)),
            "{readable:?}"
        );
        assert!(readable.contains(&PathBuf::from("/usr")));
        assert!(readable.contains(&PathBuf::from("/proc/version")));
    }
}
