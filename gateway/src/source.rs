//! Where snapshots come from: the operator's stream, or a file.

mod file;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use protocol::{
    demand::Teller,
    follow::{FollowConfig, follow},
    snapshot::GatewaySnapshot,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::file::{InvalidFile, Stamp};
use crate::{demand, gateway::Gateway};

/// The last good snapshot's file in the data folder.
const LAST_GOOD: &str = "snapshot.json";
/// How often a file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Where snapshots come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A file, read again when it changes and at SIGHUP.
    File(PathBuf),
    /// An operator.
    Operator {
        /// Its base URL.
        url: String,
        /// The file with the token.
        token_file: PathBuf,
        /// This replica's name.
        node: String,
        /// The data folder.
        data_dir: PathBuf,
    },
}

/// Takes the file into use.
///
/// # Errors
/// [`InvalidFile`]; the table in use stays.
pub(crate) fn load(gateway: &Gateway, path: &Path) -> Result<(), InvalidFile> {
    let snapshot = file::read(path)?;
    gateway
        .apply(&snapshot)
        .map_err(|source| InvalidFile::Invalid {
            path: path.to_owned(),
            source,
        })
}

/// Feeds the gateway until shutdown.
///
/// # Errors
/// The signal that a file is read again at cannot be listened to.
pub(crate) async fn feed(
    gateway: Arc<Gateway>,
    source: Source,
    shutdown: CancellationToken,
) -> io::Result<()> {
    match source {
        Source::File(path) => reload(&gateway, &path, &shutdown).await,
        Source::Operator {
            url,
            token_file,
            node,
            data_dir,
        } => {
            let teller = Teller::new(&url, token_file.clone(), node.clone());
            let telling = demand::tell(Arc::clone(&gateway), teller, shutdown.clone());
            let config = FollowConfig {
                url,
                token_file,
                node,
                last_good: data_dir.join(LAST_GOOD),
            };
            let apply = move |snapshot: GatewaySnapshot| {
                gateway.apply(&snapshot).map_err(|error| error.to_string())
            };
            tokio::join!(follow(config, apply, shutdown), telling);
            Ok(())
        }
    }
}

async fn reload(gateway: &Gateway, path: &Path, shutdown: &CancellationToken) -> io::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    let mut looks = tokio::time::interval(LOOK);
    let mut stamp = Stamp::of(path);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = hangups.recv() => stamp = Stamp::default(),
            _ = looks.tick() => {}
        }
        look(gateway, path, &mut stamp);
    }
}

/// Takes a file into use if it does not look as it did; whether it was taken, and `None` if it looks the same.
fn look(gateway: &Gateway, path: &Path, stamp: &mut Stamp) -> Option<bool> {
    let now = Stamp::of(path);
    if now == *stamp {
        return None;
    }
    *stamp = now;
    match load(gateway, path) {
        Ok(()) => {
            info!(path = %path.display(), "configuration read again");
            Some(true)
        }
        Err(error) => {
            let cause = std::error::Error::source(&error)
                .map(ToString::to_string)
                .unwrap_or_default();
            warn!(%error, cause, "the configuration in use stays");
            Some(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Stamp, load, look};
    use crate::tests::harness::Harness;

    #[tokio::test]
    async fn a_file_is_read_again_when_it_changes_and_a_broken_one_is_not_used() {
        let harness = Harness::empty().await;
        let gateway = &harness.gateway;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        let route = |name: &str| format!("routes: [{{name: r, models: [{name}], targets: []}}]");
        std::fs::write(&path, route("a")).unwrap();
        load(gateway, &path).unwrap();
        let models = || gateway.table().unwrap().routes[0].models.clone();
        let (first, mut stamp) = (models(), Stamp::of(&path));
        assert_eq!(look(gateway, &path, &mut stamp), None);
        std::fs::write(&path, "routes: [").unwrap();
        assert_eq!(look(gateway, &path, &mut stamp), Some(false));
        assert_eq!(models(), first);
        std::fs::write(&path, route("bb")).unwrap();
        assert_eq!(look(gateway, &path, &mut stamp), Some(true));
        assert_ne!(models(), first);
        // A signal makes it look changed.
        assert_eq!(look(gateway, &path, &mut Stamp::default()), Some(true));
    }
}
