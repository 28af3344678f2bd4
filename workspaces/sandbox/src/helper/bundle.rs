//! The OCI bundle that libcontainer is given.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxIdMapping, LinuxIdMappingBuilder,
    LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, MountBuilder, ProcessBuilder,
    RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use super::stage;
use crate::ids::RANGE_IDS;
use crate::plan::{Identity, RunPlan};
use crate::{Defence, SandboxError};

/// Tells about the host, or would.
const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/sys/fs/binfmt_misc",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
];
/// Changes the host, or would.
const READONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
const SHARED_MEMORY_BYTES_MAX: u64 = 64 << 20;

/// Writes the bundle to the stage.
pub(super) fn write(plan: &RunPlan) -> Result<(), SandboxError> {
    let spec = build(plan).map_err(SandboxError::step("describe the container"))?;
    spec.save(Path::new(stage::BUNDLE).join("config.json"))
        .map_err(SandboxError::step("write the bundle"))
}

/// The container as libcontainer understands it.
fn build(plan: &RunPlan) -> Result<Spec, OciSpecError> {
    let spec = &plan.spec;
    let has = |defence| plan.profile.has(defence);
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(plan)?)
        .cgroups_path(PathBuf::from("/unused"))
        .devices(Vec::new())
        .masked_paths(paths(&MASKED, has(Defence::MaskedPaths)))
        .readonly_paths(paths(&READONLY, has(Defence::ReadonlyPaths)))
        .rootfs_propagation("private");
    if has(Defence::UserNamespace) {
        linux = linux
            .uid_mappings(vec![mapping(plan.identity)?])
            .gid_mappings(vec![mapping(plan.identity)?]);
    }
    let mut linux = linux.build()?;
    // Cgroups are ours; the builder's default would have libcontainer want a hierarchy for devices.
    linux.set_resources(None);
    let capabilities = if has(Defence::NoCapabilities) {
        HashSet::new()
    } else {
        every_capability(plan.identity)
    };
    let env = spec
        .env
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>();
    let process = ProcessBuilder::default()
        .args(spec.command.clone())
        .env(env)
        .cwd(spec.cwd.clone())
        .user(
            UserBuilder::default()
                .uid(spec.uid)
                .gid(spec.gid)
                .umask(0o022_u32)
                .build()?,
        )
        .capabilities(
            LinuxCapabilitiesBuilder::default()
                .bounding(capabilities.clone())
                .effective(capabilities.clone())
                .permitted(capabilities.clone())
                .inheritable(capabilities.clone())
                .ambient(capabilities)
                .build()?,
        )
        .rlimits(Vec::new())
        .no_new_privileges(has(Defence::NoNewPrivileges))
        .terminal(false)
        .build()?;
    SpecBuilder::default()
        .version("1.0.2")
        .root(
            RootBuilder::default()
                .path(stage::ROOTFS)
                .readonly(has(Defence::ReadonlyRootfs) && has(Defence::OwnRootfs))
                .build()?,
        )
        .hostname(spec.hostname.clone())
        .mounts(mounts(plan)?)
        .process(process)
        .linux(linux)
        .annotations(HashMap::new())
        .build()
}

fn namespaces(plan: &RunPlan) -> Result<Vec<LinuxNamespace>, OciSpecError> {
    // The network namespace is made by the helper, in the helper's own user namespace: nobody inside has rights over it.
    [
        (
            LinuxNamespaceType::User,
            plan.profile.has(Defence::UserNamespace),
        ),
        (
            LinuxNamespaceType::Pid,
            plan.profile.has(Defence::PidNamespace),
        ),
        (
            LinuxNamespaceType::Ipc,
            plan.profile.has(Defence::IpcNamespace),
        ),
        (LinuxNamespaceType::Mount, true),
        (LinuxNamespaceType::Uts, true),
        (LinuxNamespaceType::Cgroup, true),
    ]
    .into_iter()
    .filter(|(_, wanted)| *wanted)
    .map(|(kind, _)| LinuxNamespaceBuilder::default().typ(kind).build())
    .collect()
}

fn mapping(identity: Identity) -> Result<LinuxIdMapping, OciSpecError> {
    let (host, size) = match identity {
        Identity::Range(range) => (range.first, RANGE_IDS),
        // The helper's own user namespace has one id, the caller, as 0.
        Identity::Caller => (0, 1),
    };
    LinuxIdMappingBuilder::default()
        .container_id(0_u32)
        .host_id(host)
        .size(size)
        .build()
}

fn mounts(plan: &RunPlan) -> Result<Vec<Mount>, OciSpecError> {
    let shared_memory = format!("size={SHARED_MEMORY_BYTES_MAX}");
    let mut mounts = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"])?,
        mount(
            "/dev",
            "tmpfs",
            &["nosuid", "noexec", "mode=755", "size=65536"],
        )?,
        mount(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
            ],
        )?,
        mount(
            "/dev/shm",
            "tmpfs",
            &["nosuid", "noexec", "nodev", "mode=1777", &shared_memory],
        )?,
    ];
    // Without a namespace of its own the queues would be the host's.
    if plan.profile.has(Defence::IpcNamespace) {
        mounts.push(mount(
            "/dev/mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        )?);
    }
    Ok(mounts)
}

fn mount(target: &str, kind: &str, options: &[&str]) -> Result<Mount, OciSpecError> {
    MountBuilder::default()
        .destination(target)
        .typ(kind)
        .source(kind)
        .options(
            options
                .iter()
                .map(|option| (*option).to_owned())
                .collect::<Vec<_>>(),
        )
        .build()
}

fn paths(all: &[&str], wanted: bool) -> Vec<String> {
    if !wanted {
        return Vec::new();
    }
    all.iter().map(|path| (*path).to_owned()).collect()
}

/// The capabilities that the tests' attacks need, by their bits; only those that the helper itself can give.
fn every_capability(identity: Identity) -> HashSet<Capability> {
    let all = [
        (0, Capability::Chown),
        (1, Capability::DacOverride),
        (2, Capability::DacReadSearch),
        (3, Capability::Fowner),
        (5, Capability::Kill),
        (6, Capability::Setgid),
        (7, Capability::Setuid),
        (12, Capability::NetAdmin),
        (13, Capability::NetRaw),
        (16, Capability::SysModule),
        (17, Capability::SysRawio),
        (18, Capability::SysChroot),
        (19, Capability::SysPtrace),
        (21, Capability::SysAdmin),
        (22, Capability::SysBoot),
        (24, Capability::SysResource),
        (27, Capability::Mknod),
        (38, Capability::Perfmon),
        (39, Capability::Bpf),
    ];
    let held = match identity {
        Identity::Range(_) => {
            rustix::thread::capabilities(None).map_or(0, |sets| sets.permitted.bits())
        }
        Identity::Caller => u64::MAX,
    };
    all.into_iter()
        .filter(|(bit, _)| held & (1 << bit) != 0)
        .map(|(_, capability)| capability)
        .collect()
}
