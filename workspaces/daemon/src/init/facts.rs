//! What holds around and on programs here, as far as it can be seen from inside.

use std::fs;
use std::path::Path;

use protocol::workspace::Info;
use workspaces_sandbox::confine::Confinement;

/// Gathers it once, at the start.
pub(super) fn gather(home: &Path, confinement: &Confinement) -> Info {
    let mut enforced = confinement.enforced().to_vec();
    let mut missing = confinement.missing().to_vec();
    let mut tell = |holds: bool, name: &str, otherwise: &str| {
        if holds {
            enforced.push(name.to_owned());
        } else {
            missing.push(format!("{name}: {otherwise}"));
        }
    };
    tell(
        std::process::id() == 1,
        "pid-namespace",
        "this container shares the processes of others",
    );
    tell(
        !is_initial_user_namespace(&read("/proc/self/uid_map")),
        "user-namespace",
        "user ids here are the host's; set hostUsers: false",
    );
    tell(
        only_loopback(&read("/proc/net/dev")),
        "network:loopback-only",
        "this container has other interfaces; a NetworkPolicy must deny them",
    );
    tell(
        status_field(&read("/proc/self/status"), "CapBnd") == Some("0000000000000000"),
        "no-capabilities",
        "the container does not drop them all",
    );
    Info {
        home: home.display().to_string(),
        enforced,
        missing,
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The initial one maps every id to itself.
fn is_initial_user_namespace(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn only_loopback(interfaces: &str) -> bool {
    let mut names = interfaces
        .lines()
        .skip(2)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim());
    names.all(|name| name == "lo")
}

fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_as_the_kernel_writes_them() {
        assert!(is_initial_user_namespace(
            "         0          0 4294967295\n"
        ));
        assert!(!is_initial_user_namespace(
            "         0 1879048192      65536\n"
        ));
        let header = "Inter-|   Receive\n face |bytes\n";
        assert!(only_loopback(&format!("{header}    lo: 0 0\n")));
        assert!(!only_loopback(&format!(
            "{header}    lo: 0 0\n  eth0: 1 1\n"
        )));
        assert_eq!(
            status_field("Name:\tx\nCapBnd:\t00\n", "CapBnd"),
            Some("00")
        );
    }
}
