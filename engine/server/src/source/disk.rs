//! Space on disks: said before hours of a download, not after.

use std::path::Path;

use super::error::FetchError;

/// Checks that a folder's disk has room for so many bytes more. A disk that says nothing is believed to have.
pub(super) fn check_room(folder: &Path, needed: u64) -> Result<(), FetchError> {
    let Ok(disk) = rustix::fs::statvfs(folder) else {
        return Ok(());
    };
    compare(folder, needed, disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn compare(folder: &Path, needed: u64, free: u64) -> Result<(), FetchError> {
    if needed <= free {
        return Ok(());
    }
    Err(FetchError::NoRoom {
        path: folder.to_owned(),
        needed,
        free,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{check_room, compare};

    #[test]
    fn both_sides_of_a_full_disk() {
        assert!(compare(Path::new("/c"), 10, 10).is_ok());
        let error = compare(Path::new("/c"), 3 << 30, 1 << 30).unwrap_err();
        let said = "the weights need 3.0 GiB more, and the disk that holds /c has 1.0 GiB free; free some space or enlarge the volume";
        assert_eq!(error.to_string(), said);
        assert!(check_room(Path::new("/"), 0).is_ok());
        assert!(check_room(Path::new("/"), u64::MAX).is_err());
    }
}
