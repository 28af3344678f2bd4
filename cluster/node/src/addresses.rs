//! Loopback addresses for Pods: one each, remembered across restarts and not reused soon.
//!
//! Several nodes may run on one host (tests do), so each claims a network 127.N.0.0/16 of its own for as long as it runs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Networks for Pods: 127.128.0.0/16 to 127.223.0.0/16.
const NETWORKS: std::ops::RangeInclusive<u8> = 128..=223;
/// Whoever listens on this port of a network's first address has claimed the network.
const CLAIM_PORT: u16 = 61_088;
/// The last two bytes run from 0.2 to 255.254.
const FIRST: u32 = 2;
const LAST: u32 = 0xffff - 1;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Book {
    #[serde(default)]
    network: u8,
    next: u32,
    lent: BTreeMap<String, Ipv4Addr>,
}

/// Lends addresses to Pods by uid.
#[derive(Debug)]
pub(crate) struct Addresses {
    path: PathBuf,
    book: Mutex<Book>,
    _claim: TcpListener,
}

impl Addresses {
    /// Reads the book and claims its network; one that cannot be read, or whose network is another's, is begun anew.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        let mut book: Book = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let usual = path
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte));
        let (network, claim) = claim(book.network, usual)?;
        if network != book.network {
            book = Book {
                network,
                ..Book::default()
            };
        }
        Ok(Self {
            path,
            book: Mutex::new(book),
            _claim: claim,
        })
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
            let address = Ipv4Addr::new(127, book.network, high, low);
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

/// Claims the network that was used last, or else the first free one from `usual` on.
fn claim(last: u8, usual: u8) -> io::Result<(u8, TcpListener)> {
    let (first, count) = (*NETWORKS.start(), NETWORKS.len());
    let from = usize::from(usual) % count;
    let others =
        (0..count).filter_map(|step| Some(first + u8::try_from((from + step) % count).ok()?));
    let mut refused = io::Error::from(io::ErrorKind::AddrInUse);
    for network in std::iter::once(last)
        .filter(|last| NETWORKS.contains(last))
        .chain(others)
    {
        match TcpListener::bind((Ipv4Addr::new(127, network, 0, 1), CLAIM_PORT)) {
            Ok(claim) => return Ok((network, claim)),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_across_restarts_and_not_lent_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("addresses.json");
        let addresses = Addresses::open(path.clone()).unwrap();
        let first = addresses.lend("a").unwrap();
        let second = addresses.lend("b").unwrap();
        assert_ne!(first, second);
        let saved = fs::read(&path).unwrap();
        let other = Addresses::open(path.clone()).unwrap();
        assert_ne!(
            other.lend("a").unwrap(),
            first,
            "a second node has another network"
        );
        other.give_back("a");
        drop(addresses);
        drop(other);
        fs::write(&path, saved).unwrap();
        let again = Addresses::open(path).unwrap();
        assert_eq!(again.lend("a").unwrap(), first);
        again.give_back("a");
        assert_ne!(
            again.lend("c").unwrap(),
            first,
            "an address is not reused at once"
        );
        assert_eq!(again.lend("b").unwrap(), second);
    }
}
