//! A container as a sandbox specification. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use workspaces_sandbox::{Limits, Mount, MountKind, Rootfs, SandboxSpec};

use crate::runtime::{Launch, StartError};

/// The user of a container that names none; never root.
const USER_DEFAULT: u32 = 1000;
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const HOSTNAME_BYTES_MAX: usize = 63;

/// Translates a launch; what a sandbox never grants is refused rather than ignored.
pub(super) fn specify(launch: &Launch) -> Result<SandboxSpec, StartError> {
    let invalid = |message: &str| StartError::new("CreateContainerConfigError", message);
    let security = &launch.security;
    if security.privileged == Some(true) {
        return Err(invalid("this node runs no privileged containers"));
    }
    let added = security
        .capabilities
        .as_ref()
        .and_then(|capabilities| capabilities.add.as_ref());
    if added.is_some_and(|added| !added.is_empty()) {
        return Err(invalid("this node grants no capabilities"));
    }
    let uid = user(launch)?;
    let non_root = security
        .run_as_non_root
        .or(launch.pod_security.run_as_non_root)
        == Some(true);
    if non_root && uid == 0 {
        return Err(invalid(
            "container has runAsNonRoot and image will run as root",
        ));
    }
    let gid = security.run_as_group.or(launch.pod_security.run_as_group);
    let gid = gid.and_then(|gid| u32::try_from(gid).ok()).unwrap_or(uid);
    let mut env: BTreeMap<String, String> = launch.environment.iter().cloned().collect();
    env.entry("PATH".to_owned())
        .or_insert_with(|| SEARCH_PATH.to_owned());
    env.entry("HOSTNAME".to_owned())
        .or_insert_with(|| launch.hostname.clone());
    let command = command(launch);
    if command.is_empty() {
        return Err(invalid(
            "neither the container nor its image names a command",
        ));
    }
    let cwd = launch
        .working_dir
        .clone()
        .or_else(|| launch.image.defaults.working_dir.clone());
    Ok(SandboxSpec {
        id: format!("{}-{}-{}", launch.pod.uid, launch.name, launch.attempt),
        rootfs: launch
            .image
            .rootfs
            .clone()
            .map_or(Rootfs::HostUsr, Rootfs::Directory),
        command,
        env,
        cwd: cwd.map_or_else(|| PathBuf::from("/"), PathBuf::from),
        mounts: launch.mounts.iter().map(mount).collect(),
        uid,
        gid,
        hostname: launch.hostname.chars().take(HOSTNAME_BYTES_MAX).collect(),
        limits: Limits {
            cpu_millis: launch
                .limits
                .cpu_milli
                .and_then(|milli| u32::try_from(milli).ok()),
            memory_bytes: launch.limits.memory_bytes,
            pids: None,
        },
        terminal: launch.tty,
    })
}

/// The container's command and arguments over those of its image, as Kubernetes combines them.
fn command(launch: &Launch) -> Vec<String> {
    let defaults = &launch.image.defaults;
    let (entrypoint, arguments) = match (&launch.command, &launch.args) {
        (Some(command), args) if !command.is_empty() => (command, args.as_ref()),
        (_, Some(args)) => (&defaults.entrypoint, Some(args)),
        (_, None) => (&defaults.entrypoint, Some(&defaults.arguments)),
    };
    entrypoint
        .iter()
        .chain(arguments.into_iter().flatten())
        .cloned()
        .collect()
}

fn user(launch: &Launch) -> Result<u32, StartError> {
    if let Some(uid) = launch
        .security
        .run_as_user
        .or(launch.pod_security.run_as_user)
    {
        return u32::try_from(uid).map_err(|_| {
            StartError::new(
                "CreateContainerConfigError",
                format!("there is no user {uid}"),
            )
        });
    }
    let Some(user) = &launch.image.defaults.user else {
        return Ok(USER_DEFAULT);
    };
    let name = user.split(':').next().unwrap_or_default();
    match name.parse() {
        Ok(uid) => Ok(uid),
        Err(_) if name == "root" => Ok(0),
        Err(_) => Err(StartError::new(
            "CreateContainerConfigError",
            format!("the image's user {name} is not a number: set securityContext.runAsUser"),
        )),
    }
}

fn mount(mount: &crate::runtime::Mount) -> Mount {
    Mount {
        target: PathBuf::from(mount.target.trim_end_matches('/')),
        kind: MountKind::Bind {
            source: mount.source.clone(),
            writable: !mount.read_only,
        },
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodSecurityContext, SecurityContext};

    use super::*;
    use crate::images::{Defaults, Image, Source};
    use crate::pod::wanted::PodId;

    fn launch() -> Launch {
        let defaults = Defaults {
            entrypoint: vec!["/entry".to_owned()],
            arguments: vec!["image-arg".to_owned()],
            ..Defaults::default()
        };
        Launch {
            pod: PodId {
                namespace: "n".to_owned(),
                name: "p".to_owned(),
                uid: "u".to_owned(),
            },
            name: "c".to_owned(),
            attempt: 2,
            image: Image {
                source: Source::HostUsr,
                id: String::new(),
                rootfs: None,
                defaults,
            },
            command: None,
            args: None,
            environment: Vec::new(),
            working_dir: None,
            hostname: "p".to_owned(),
            mounts: Vec::new(),
            limits: crate::runtime::Limits::default(),
            security: SecurityContext::default(),
            pod_security: PodSecurityContext::default(),
            stdin: false,
            tty: false,
            folder: PathBuf::new(),
        }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Launch), expected: Result<(&[&str], u32), &str>) {
        let mut launch = launch();
        change(&mut launch);
        let got = specify(&launch)
            .map(|spec| (spec.command, spec.uid))
            .map_err(|error| error.message);
        let expected = expected
            .map(|(words, uid)| (words.iter().map(|word| (*word).to_owned()).collect(), uid));
        assert_eq!(got, expected.map_err(ToOwned::to_owned));
    }

    #[test]
    fn command_arguments_and_user_combine_as_kubernetes_says() {
        let words = |words: &[&str]| {
            Some(
                words
                    .iter()
                    .map(|word| (*word).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        check(|_| {}, Ok((&["/entry", "image-arg"], 1000)));
        check(
            |launch| launch.args = words(&["x"]),
            Ok((&["/entry", "x"], 1000)),
        );
        check(
            |launch| launch.command = words(&["sh"]),
            Ok((&["sh"], 1000)),
        );
        check(
            |launch| (launch.command, launch.args) = (words(&["sh"]), words(&["-c"])),
            Ok((&["sh", "-c"], 1000)),
        );
        check(
            |launch| launch.pod_security.run_as_user = Some(7),
            Ok((&["/entry", "image-arg"], 7)),
        );
        check(
            |launch| launch.image.defaults.user = Some("42:1".to_owned()),
            Ok((&["/entry", "image-arg"], 42)),
        );
    }

    #[test]
    fn what_a_sandbox_never_grants_is_refused() {
        check(
            |launch| launch.security.privileged = Some(true),
            Err("this node runs no privileged containers"),
        );
        check(
            |launch| {
                launch.security.run_as_user = Some(0);
                launch.pod_security.run_as_non_root = Some(true);
            },
            Err("container has runAsNonRoot and image will run as root"),
        );
        check(
            |launch| launch.image.defaults = Defaults::default(),
            Err("neither the container nor its image names a command"),
        );
    }
}
