//! Images: our own binary, the host's own programs, OCI layouts on this machine and registries.

pub(crate) mod layout;
pub(crate) mod registry;
pub(crate) mod store;
pub(crate) mod unpack;

use std::path::PathBuf;

/// The reference of our own executable.
pub(crate) const OWN_BINARY: &str = "builtin://qd";
/// The reference of the host's own `/usr`.
pub(crate) const HOST_USR: &str = "builtin://host";

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    OwnBinary,
    HostUsr,
    Layout { path: PathBuf, tag: Option<String> },
    Registry(String),
}

impl Source {
    /// Reads an image reference of a container.
    pub(crate) fn parse(reference: &str) -> Result<Self, ImageError> {
        let invalid =
            |why: &str| ImageError::new("InvalidImageName", format!("image \"{reference}\" {why}"));
        match reference {
            OWN_BINARY => return Ok(Self::OwnBinary),
            HOST_USR => return Ok(Self::HostUsr),
            "" => {
                return Err(ImageError::new(
                    "InvalidImageName",
                    "the container names no image",
                ));
            }
            _ => {}
        }
        if let Some(name) = reference.strip_prefix("builtin://") {
            return Err(invalid(&format!(
                "is not built in: there are qd and host, not {name}"
            )));
        }
        if let Some(layout) = reference.strip_prefix("oci-layout://") {
            let (path, tag) = match layout.rsplit_once(':') {
                Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_owned())),
                _ => (layout, None),
            };
            if !path.starts_with('/') {
                return Err(invalid("must name an absolute path"));
            }
            return Ok(Self::Layout {
                path: path.into(),
                tag,
            });
        }
        if reference.parse::<oci_client::Reference>().is_err() {
            return Err(invalid("is no image reference"));
        }
        Ok(Self::Registry(reference.to_owned()))
    }
}

/// An image that is ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) source: Source,
    /// What a container status calls it.
    pub(crate) id: String,
    /// The unpacked root file system, for all but the built-in ones.
    pub(crate) rootfs: Option<PathBuf>,
    pub(crate) defaults: Defaults,
}

/// What an image says about running it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Defaults {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) working_dir: Option<String>,
    pub(crate) user: Option<String>,
}

/// Why an image is not there, in the words of a container status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ImageError {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl ImageError {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    pub(crate) fn pull(message: impl Into<String>) -> Self {
        Self::new("ErrImagePull", message)
    }
}

#[cfg(test)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "rows of a table read best as values"
)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reference: &str, expected: Result<Source, &str>) {
        assert_eq!(
            Source::parse(reference).map_err(|error| error.reason),
            expected,
            "{reference}"
        );
    }

    #[test]
    fn references_name_their_source() {
        let layout = |path: &str, tag: Option<&str>| Source::Layout {
            path: path.into(),
            tag: tag.map(ToOwned::to_owned),
        };
        check("builtin://qd", Ok(Source::OwnBinary));
        check("builtin://host", Ok(Source::HostUsr));
        check(
            "oci-layout:///images/busybox",
            Ok(layout("/images/busybox", None)),
        );
        check(
            "oci-layout:///images/busybox:1.36",
            Ok(layout("/images/busybox", Some("1.36"))),
        );
        check(
            "busybox:1.36",
            Ok(Source::Registry("busybox:1.36".to_owned())),
        );
        check("builtin://engine", Err("InvalidImageName"));
        check("oci-layout://images", Err("InvalidImageName"));
        check("UPPER/Case", Err("InvalidImageName"));
        check("", Err("InvalidImageName"));
    }
}
