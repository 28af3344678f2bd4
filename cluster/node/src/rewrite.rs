//! Paths inside a container as paths of the host, for containers without a mount namespace.

use std::path::PathBuf;

use crate::runtime::Mount;

/// The mounts of one container, longest target first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paths {
    mounts: Vec<(String, PathBuf)>,
}

impl Paths {
    pub(crate) fn new(mounts: &[Mount]) -> Self {
        let mut mounts: Vec<(String, PathBuf)> = mounts
            .iter()
            .map(|mount| {
                (
                    mount.target.trim_end_matches('/').to_owned(),
                    mount.source.clone(),
                )
            })
            .filter(|(target, _)| !target.is_empty())
            .collect();
        mounts.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        Self { mounts }
    }

    /// Rewrites a value that is a path under a mount, also behind `--flag=`.
    pub(crate) fn rewrite(&self, value: &str) -> String {
        if let Some(path) = self.path(value) {
            return path;
        }
        if value.starts_with('-')
            && let Some((flag, rest)) = value.split_once('=')
            && let Some(path) = self.path(rest)
        {
            return format!("{flag}={path}");
        }
        value.to_owned()
    }

    fn path(&self, value: &str) -> Option<String> {
        self.mounts.iter().find_map(|(target, source)| {
            let rest = value.strip_prefix(target.as_str())?;
            (rest.is_empty() || rest.starts_with('/'))
                .then(|| format!("{}{rest}", source.display()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: &str) {
        let mount = |target: &str, source: &str| Mount {
            source: source.into(),
            target: target.into(),
            read_only: false,
        };
        let paths = Paths::new(&[
            mount("/var/lib", "/d/lib"),
            mount("/var/lib/weights/", "/d/weights"),
            mount("/", "/d/root"),
        ]);
        assert_eq!(paths.rewrite(value), expected);
    }

    #[test]
    fn values_under_a_mount_point_at_the_host() {
        check("/var/lib", "/d/lib");
        check("/var/lib/x", "/d/lib/x");
        check("/var/lib/weights/a.gguf", "/d/weights/a.gguf");
        check("--cache-dir=/var/lib/weights", "--cache-dir=/d/weights");
        check("/var/library", "/var/library");
        check("http://host/var/lib", "http://host/var/lib");
        check("--listen=127.0.0.1:80", "--listen=127.0.0.1:80");
        check("NAME=/var/lib", "NAME=/var/lib");
    }
}
