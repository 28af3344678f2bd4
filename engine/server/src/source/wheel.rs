//! Files out of a wheel, which is a ZIP archive: just enough of the format to find a file and copy it out.
//!
//! Source: PKWARE's APPNOTE, sections 4.3 and 4.5 (ZIP64).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use flate2::CrcWriter;
use flate2::read::DeflateDecoder;

use super::error::FetchError;

const END_BYTES: u64 = 22;
const COMMENT_BYTES_MAX: u64 = 1 << 16;
const DIRECTORY_BYTES_MAX: u64 = 64 << 20;
const FILE_BYTES_MAX: u64 = 1 << 42;
const BUFFER_BYTES: usize = 1 << 18;
/// How much longer than in the archive a file may be.
const RATIO_MAX: u64 = 64;
const SMALL_BYTES_MAX: u64 = 64 << 20;

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) bytes: u64,
    method: u16,
    crc: u32,
    compressed: u64,
    header: u64,
}

/// Lists the files of an archive.
pub(super) fn members(archive: &mut File, path: &Path) -> Result<Vec<Member>, FetchError> {
    let fail = |source| FetchError::cache(path, source);
    let size = archive.seek(SeekFrom::End(0)).map_err(fail)?;
    let tail_start = size.saturating_sub(END_BYTES + COMMENT_BYTES_MAX);
    let tail = read_at(archive, tail_start, size - tail_start).map_err(fail)?;
    let end = find_end(&tail).ok_or_else(|| broken(path, "it has no directory"))?;
    let (mut start, mut length) = (u64::from(u32_at(end, 16)), u64::from(u32_at(end, 12)));
    if start == u64::from(u32::MAX) || length == u64::from(u32::MAX) {
        (start, length) = zip64_directory(archive, &tail, path)?;
    }
    if DIRECTORY_BYTES_MAX < length || size < start.saturating_add(length) {
        return Err(broken(path, "its directory does not fit"));
    }
    let directory = read_at(archive, start, length).map_err(fail)?;
    read_directory(&directory).ok_or_else(|| broken(path, "its directory is malformed"))
}

/// Copies a file out of an archive, checking its length and its checksum.
pub(super) fn extract(
    archive: &mut File,
    member: &Member,
    target: &mut File,
    progress: &dyn Fn(u64),
) -> Result<(), ExtractError> {
    let header = read_at(archive, member.header, 30).map_err(ExtractError::Read)?;
    if u32_at(&header, 0) != 0x0403_4b50 {
        return Err(ExtractError::Broken("a file has no header"));
    }
    // Deflate itself shrinks a thousandfold at most; weights hardly shrink at all.
    if member
        .compressed
        .saturating_mul(RATIO_MAX)
        .max(SMALL_BYTES_MAX)
        < member.bytes
    {
        return Err(ExtractError::Broken(
            "a file says that it is far longer than the archive can hold",
        ));
    }
    let skip = 30 + u64::from(u16_at(&header, 26)) + u64::from(u16_at(&header, 28));
    archive
        .seek(SeekFrom::Start(member.header + skip))
        .map_err(ExtractError::Read)?;
    let stored = archive.take(member.compressed);
    let mut reader: Box<dyn Read + '_> = match member.method {
        0 => Box::new(stored),
        8 => Box::new(DeflateDecoder::new(stored)),
        _ => {
            return Err(ExtractError::Broken(
                "a file is compressed in an unknown way",
            ));
        }
    };
    let mut writer = CrcWriter::new(target);
    let (mut buffer, mut done) = (vec![0; BUFFER_BYTES], 0);
    loop {
        let count = reader.read(&mut buffer).map_err(ExtractError::Read)?;
        if count == 0 {
            break;
        }
        done += count as u64;
        if member.bytes < done {
            return Err(ExtractError::Broken("a file is longer than it says"));
        }
        writer
            .write_all(&buffer[..count])
            .map_err(ExtractError::Write)?;
        progress(done);
    }
    if done != member.bytes || writer.crc().sum() != member.crc {
        return Err(ExtractError::Broken("a file does not have its checksum"));
    }
    Ok(())
}

/// Why a file cannot be copied out.
#[derive(Debug)]
pub(super) enum ExtractError {
    Read(io::Error),
    Write(io::Error),
    Broken(&'static str),
}

fn broken(path: &Path, what: &str) -> FetchError {
    FetchError::Broken(format!("the archive {} is broken: {what}", path.display()))
}

fn read_at(file: &mut File, start: u64, length: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < length {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok(bytes)
    }
}

/// The end record: the last place that looks like one.
fn find_end(tail: &[u8]) -> Option<&[u8]> {
    let last = tail.len().checked_sub(END_BYTES as usize)?;
    (0..=last)
        .rev()
        .map(|start| &tail[start..])
        .find(|end| u32_at(end, 0) == 0x0605_4b50)
}

/// Where the directory is and how long, out of the ZIP64 end record.
fn zip64_directory(archive: &mut File, tail: &[u8], path: &Path) -> Result<(u64, u64), FetchError> {
    let locator = (0..tail.len().saturating_sub(19))
        .rev()
        .find(|start| u32_at(&tail[*start..], 0) == 0x0706_4b50);
    let locator = locator.ok_or_else(|| broken(path, "its end is malformed"))?;
    let end = read_at(archive, u64_at(&tail[locator..], 8), 56)
        .map_err(|source| FetchError::cache(path, source))?;
    if u32_at(&end, 0) != 0x0606_4b50 {
        return Err(broken(path, "its end is malformed"));
    }
    Ok((u64_at(&end, 48), u64_at(&end, 40)))
}

fn read_directory(mut bytes: &[u8]) -> Option<Vec<Member>> {
    let mut members = Vec::new();
    while 46 <= bytes.len() && u32_at(bytes, 0) == 0x0201_4b50 {
        let (name, extra, comment) = (u16_at(bytes, 28), u16_at(bytes, 30), u16_at(bytes, 32));
        let name_end = 46 + usize::from(name);
        let extra_end = name_end + usize::from(extra);
        let mut member = Member {
            name: String::from_utf8_lossy(bytes.get(46..name_end)?).into_owned(),
            bytes: u32_at(bytes, 24).into(),
            method: u16_at(bytes, 10),
            crc: u32_at(bytes, 16),
            compressed: u32_at(bytes, 20).into(),
            header: u32_at(bytes, 42).into(),
        };
        widen(&mut member, bytes.get(name_end..extra_end)?)?;
        if FILE_BYTES_MAX < member.bytes {
            return None;
        }
        members.push(member);
        bytes = bytes.get(extra_end + usize::from(comment)..)?;
    }
    Some(members)
}

/// Reads the 64-bit sizes of a member that does not fit 32 bits: they come in this order, if they are needed.
fn widen(member: &mut Member, mut extra: &[u8]) -> Option<()> {
    while 4 <= extra.len() {
        let (id, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let mut fields = extra.get(4..4 + length)?;
        if id == 1 {
            for size in [
                &mut member.bytes,
                &mut member.compressed,
                &mut member.header,
            ] {
                if *size == u64::from(u32::MAX) {
                    *size = u64_at(fields.get(..8)?, 0);
                    fields = &fields[8..];
                }
            }
        }
        extra = &extra[4 + length..];
    }
    Some(())
}

/// Little-endian numbers; what is not there is zero, and no record is made of zeros.
fn number<const N: usize>(bytes: &[u8], start: usize) -> [u8; N] {
    bytes
        .get(start..start + N)
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], start: usize) -> u16 {
    u16::from_le_bytes(number(bytes, start))
}

fn u32_at(bytes: &[u8], start: usize) -> u32 {
    u32::from_le_bytes(number(bytes, start))
}

fn u64_at(bytes: &[u8], start: usize) -> u64 {
    u64::from_le_bytes(number(bytes, start))
}
