//! The server name in a TLS hello.

/// What the first bytes of a tunnel say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServerName {
    /// More bytes are needed.
    Incomplete,
    /// No TLS, or TLS without a name.
    Absent,
    /// The name.
    Name(String),
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// Reads the name. A hello that is split over several records is put together first.
pub(super) fn server_name(bytes: &[u8]) -> ServerName {
    match hello(bytes) {
        Hello::Incomplete => ServerName::Incomplete,
        Hello::None => ServerName::Absent,
        Hello::Whole(hello) => name_in(&hello).map_or(ServerName::Absent, ServerName::Name),
    }
}

enum Hello {
    Incomplete,
    None,
    Whole(Vec<u8>),
}

fn hello(bytes: &[u8]) -> Hello {
    let mut rest = bytes;
    let mut message = Vec::new();
    loop {
        let [kind, _, _, high, low, tail @ ..] = rest else {
            let may_become = rest.first().is_none_or(|kind| *kind == HANDSHAKE);
            return if may_become {
                Hello::Incomplete
            } else {
                Hello::None
            };
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if *kind != HANDSHAKE || length == 0 {
            return Hello::None;
        }
        message.extend_from_slice(&tail[..length.min(tail.len())]);
        if let [kind, a, b, c, body @ ..] = message.as_slice() {
            let wanted = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap_or(usize::MAX);
            if *kind != CLIENT_HELLO {
                return Hello::None;
            }
            if body.len() >= wanted {
                return Hello::Whole(body[..wanted].to_vec());
            }
        }
        if tail.len() < length {
            return Hello::Incomplete;
        }
        rest = &tail[length..];
    }
}

/// Walks over version, random, session, ciphers and compressions to the extensions.
fn name_in(hello: &[u8]) -> Option<String> {
    let mut reader = Reader(hello);
    reader.take(2 + 32)?;
    reader.block8()?;
    reader.block16()?;
    reader.block8()?;
    let mut extensions = Reader(reader.block16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let body = extensions.block16()?;
        if kind == SERVER_NAME {
            let mut names = Reader(Reader(body).block16()?);
            if names.take(1)? != [HOST_NAME] {
                return None;
            }
            return String::from_utf8(names.block16()?.to_vec()).ok();
        }
    }
    None
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn block8(&mut self) -> Option<&'a [u8]> {
        let length = *self.take(1)?.first()?;
        self.take(usize::from(length))
    }

    fn block16(&mut self) -> Option<&'a [u8]> {
        let length = self.number16()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A minimal hello.
    pub(in crate::gate) fn hello_for(name: &str) -> Vec<u8> {
        let length16 = |length: usize| u16::try_from(length).unwrap().to_be_bytes();
        let mut names = vec![HOST_NAME];
        names.extend(length16(name.len()));
        names.extend(name.as_bytes());
        let mut extension = vec![0, 0];
        extension.extend(length16(names.len() + 2));
        extension.extend(length16(names.len()));
        extension.extend(names);
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend(length16(extension.len()));
        body.extend(extension);
        let mut message = vec![CLIENT_HELLO, 0];
        message.extend(length16(body.len()));
        message.extend(body);
        let mut record = vec![HANDSHAKE, 3, 1];
        record.extend(length16(message.len()));
        record.extend(message);
        record
    }

    #[test]
    fn a_name_is_read_as_soon_as_the_hello_is_whole() {
        let hello = hello_for("example.com");
        for end in 0..hello.len() {
            assert_eq!(server_name(&hello[..end]), ServerName::Incomplete, "{end}");
        }
        assert_eq!(
            server_name(&hello),
            ServerName::Name("example.com".to_owned())
        );
    }

    #[test]
    fn a_hello_in_two_records_is_put_together() {
        let hello = hello_for("example.com");
        let (first, second) = hello[5..].split_at(20);
        let mut split = vec![HANDSHAKE, 3, 1, 0, 20];
        split.extend(first);
        split.extend([HANDSHAKE, 3, 1, 0, u8::try_from(second.len()).unwrap()]);
        split.extend(second);
        assert_eq!(
            server_name(&split),
            ServerName::Name("example.com".to_owned())
        );
    }

    #[test]
    fn what_is_no_hello_has_no_name() {
        assert_eq!(server_name(b"GET / HTTP/1.1"), ServerName::Absent);
        assert_eq!(server_name(b"SSH-2.0"), ServerName::Absent);
        assert_eq!(server_name(&[HANDSHAKE, 3, 1, 0, 0]), ServerName::Absent);
        let mut broken = hello_for("example.com");
        broken[43] = 255;
        assert_eq!(server_name(&broken), ServerName::Absent);
    }
}
