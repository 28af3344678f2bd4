//! Claims about wheels.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

use crate::source::pypi;
use crate::source::uri::{Address, Source};
use crate::source::wheel::{ExtractError, extract, members};

/// Writes a ZIP archive by the book; each file says whether it is compressed.
fn archive(files: &[(&str, &[u8], bool)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, content, is_compressed) in files {
        let mut crc = Crc::new();
        crc.update(content);
        let data = if *is_compressed {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        } else {
            content.to_vec()
        };
        let mut common = vec![
            20,
            0,
            0,
            0,
            if *is_compressed { 8 } else { 0 },
            0,
            0,
            0,
            0,
            0,
        ];
        for number in [crc.sum(), data.len() as u32, content.len() as u32] {
            common.extend(number.to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend((out.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(data);
    }
    let start = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\x00\x00\x00\x00");
    out.extend([(files.len() as u16).to_le_bytes(); 2].concat());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

fn unpack(bytes: &[u8], name: &str) -> Result<Vec<u8>, String> {
    let folder = tempfile::tempdir().unwrap();
    let (path, target) = (folder.path().join("a.whl"), folder.path().join("out"));
    fs::write(&path, bytes).unwrap();
    let mut file = File::open(&path).unwrap();
    let members = members(&mut file, Path::new("a.whl")).map_err(|error| error.to_string())?;
    let member = members
        .iter()
        .find(|member| member.name == name)
        .ok_or("no such file")?;
    let mut out = File::create(&target).unwrap();
    extract(&mut file, member, &mut out, &|_| {}).map_err(|error| match error {
        ExtractError::Read(error) | ExtractError::Write(error) => error.to_string(),
        ExtractError::Broken(what) => what.to_owned(),
    })?;
    let mut content = Vec::new();
    File::open(&target)
        .unwrap()
        .read_to_end(&mut content)
        .unwrap();
    Ok(content)
}

#[test]
fn files_come_out_as_they_went_in() {
    let long: Vec<u8> = (0..100_000_u32)
        .flat_map(|number| (number % 251).to_le_bytes())
        .collect();
    let bytes = archive(&[
        ("a/stored", &long, false),
        ("a/packed", &long, true),
        ("empty", b"", false),
    ]);
    assert_eq!(unpack(&bytes, "a/stored").as_deref(), Ok(long.as_slice()));
    assert_eq!(unpack(&bytes, "a/packed").as_deref(), Ok(long.as_slice()));
    assert_eq!(unpack(&bytes, "empty").as_deref(), Ok([].as_slice()));
    assert_eq!(unpack(&bytes, "other"), Err("no such file".to_owned()));
}

#[test]
fn a_damaged_archive_is_noticed() {
    let bytes = archive(&[("packed", &[7; 5000], true), ("stored", &[8; 50], false)]);
    for length in 0..bytes.len() {
        assert!(
            unpack(&bytes[..length], "stored").is_err(),
            "cut to {length} bytes"
        );
    }
    for place in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[place] ^= 0x55;
        // Damage in what is not looked at may pass, but the content is never wrong.
        if let Ok(content) = unpack(&bytes, "stored") {
            assert_eq!(content, [8; 50], "damaged at {place}");
        }
    }
}

/// What is taken out of a wheel with these files, by their names under the target.
#[track_caller]
fn check_wheel(uri: &str, files: &[&str], expected: Result<&[&str], &str>) {
    let Source::Package(package) = uri.parse::<Address>().unwrap().source else {
        panic!("{uri} is no package");
    };
    let folder = tempfile::tempdir().unwrap();
    let (wheel, target) = (folder.path().join("a.whl"), folder.path().join("files"));
    let files: Vec<(&str, &[u8], bool)> =
        files.iter().map(|name| (*name, &b"x"[..], true)).collect();
    fs::write(&wheel, archive(&files)).unwrap();
    match (
        pypi::extract(&package, &wheel, &target, &|_, _| {}),
        expected,
    ) {
        (Ok(choice), Ok(expected)) => {
            let names: Vec<&str> = choice.names().iter().map(|name| name.as_str()).collect();
            assert_eq!(names, expected, "{uri}");
            assert!(
                names.iter().all(|name| target.join(name).is_file()),
                "{uri}"
            );
        }
        (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{uri}: {error}"),
        (found, expected) => panic!("{uri}: {found:?}, not {expected:?}"),
    }
}

#[test]
fn a_wheel_gives_the_file_or_the_folder_that_is_named() {
    let two = ["a/x.gguf", "a/y.gguf", "a/z/x.gguf"];
    check_wheel("pypi://p@1/y.gguf", &two, Ok(&["a/y.gguf"]));
    check_wheel("pypi://p@1/a/x.gguf", &two, Ok(&["a/x.gguf"]));
    check_wheel(
        "pypi://p@1/x.gguf",
        &two,
        Err("name one of a/x.gguf, a/z/x.gguf"),
    );
    check_wheel("pypi://p@1", &two, Err("name one of"));
    check_wheel("pypi://p@1/w.gguf", &two, Err("the package has a/x.gguf"));
    check_wheel("pypi://p@1", &two[..1], Ok(&["a/x.gguf"]));
    let folder = ["p/__init__.py", "p/m/config.json", "p/m/model.safetensors"];
    check_wheel("pypi://p@1", &folder, Ok(&folder[1..]));
    check_wheel("pypi://p@1/m", &folder, Ok(&folder[1..]));
    check_wheel("pypi://p@1/p/m/", &folder, Ok(&folder[1..]));
    check_wheel("pypi://p@1/n", &folder, Err("was not found"));
    check_wheel("pypi://p@1", &["../x.gguf"], Err("outside of its folder"));
}

#[test]
fn a_file_that_is_far_longer_than_its_archive_is_refused() {
    let zeros = vec![0; 70 << 20];
    let bomb = archive(&[("m.gguf", &zeros, true), ("small", b"s", true)]);
    assert!(bomb.len() < 1 << 20);
    let error = unpack(&bomb, "m.gguf").unwrap_err();
    assert!(error.contains("far longer"), "{error}");
    assert_eq!(unpack(&bomb, "small").as_deref(), Ok(&b"s"[..]));
}
