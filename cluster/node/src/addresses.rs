//! Loopback addresses for Pods: one each, remembered across restarts and not reused soon.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The network of Pods: 127.88.0.0/16.
const NETWORK: [u8; 2] = [127, 88];
/// The last two bytes run from 0.2 to 255.254.
const FIRST: u32 = 2;
const LAST: u32 = 0xffff - 1;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Book {
    next: u32,
    lent: BTreeMap<String, Ipv4Addr>,
}

/// Lends addresses to Pods by uid.
#[derive(Debug)]
pub(crate) struct Addresses {
    path: PathBuf,
    book: Mutex<Book>,
}

impl Addresses {
    /// Reads the book; one that cannot be read is begun anew.
    pub(crate) fn open(path: PathBuf) -> Self {
        let book = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { path, book: Mutex::new(book) }
    }

    /// The Pod's address, lent now if it has none.
    pub(crate) fn lend(&self, uid: &str) -> io::Result<Ipv4Addr> {
        let mut book = self.book.lock();
        if let Some(address) = book.lent.get(uid) {
            return Ok(*address);
        }
        for _ in FIRST..=LAST {
            let number = book.next.clamp(FIRST, LAST);
            book.next = if number == LAST { FIRST } else { number + 1 };
            let [_, _, high, low] = number.to_be_bytes();
            let address = Ipv4Addr::new(NETWORK[0], NETWORK[1], high, low);
            if low != 0 && low != 255 && !book.lent.values().any(|lent| *lent == address) {
                book.lent.insert(uid.to_owned(), address);
                self.save(&book)?;
                return Ok(address);
            }
        }
        Err(io::Error::other("every Pod address is lent"))
    }

    /// Takes an address back.
    pub(crate) fn give_back(&self, uid: &str) {
        let mut book = self.book.lock();
        if book.lent.remove(uid).is_some()
            && let Err(error) = self.save(&book)
        {
            tracing::warn!(%error, "pod addresses not saved");
        }
    }

    /// Takes back the addresses of all Pods but these.
    pub(crate) fn keep_only(&self, uids: &[String]) {
        let mut book = self.book.lock();
        book.lent.retain(|uid, _| uids.contains(uid));
        if let Err(error) = self.save(&book) {
            tracing::warn!(%error, "pod addresses not saved");
        }
    }

    fn save(&self, book: &Book) -> io::Result<()> {
        let staged = self.path.with_extension("new");
        fs::write(&staged, serde_json::to_vec(book)?)?;
        fs::rename(staged, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_across_restarts_and_not_lent_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("addresses.json");
        let addresses = Addresses::open(path.clone());
        let first = addresses.lend("a").unwrap();
        let second = addresses.lend("b").unwrap();
        assert_ne!(first, second);
        let again = Addresses::open(path);
        assert_eq!(again.lend("a").unwrap(), first);
        again.give_back("a");
        assert_ne!(again.lend("c").unwrap(), first, "an address is not reused at once");
        assert_eq!(again.lend("b").unwrap(), second);
    }
}
