//! Forms in one piece and in many, and forms that two readers could understand differently.

use http::HeaderValue;
use proptest::{collection::vec, prelude::*, test_runner::TestCaseError};

use super::{InvalidForm, Piece, Scanner, boundary};

/// A part: its name, its file's name, its content and where that begins and ends.
type Part = (String, Option<String>, Vec<u8>, u64, u64);

fn read(form: &[u8], size: usize) -> Result<Vec<Part>, InvalidForm> {
    let mut scanner = Scanner::new("XX");
    let mut parts: Vec<Part> = Vec::new();
    for chunk in form.chunks(size.max(1)) {
        scanner.push(chunk)?;
        while let Some(piece) = scanner.next() {
            match piece {
                Piece::Begin(head, at) => {
                    parts.push((head.name, head.filename, Vec::new(), at, 0));
                }
                Piece::Content(content) => parts.last_mut().unwrap().2.extend(content),
                Piece::End(at) => parts.last_mut().unwrap().4 = at,
            }
        }
    }
    scanner.finish()?;
    Ok(parts)
}

/// A part's name, its file's name and its content.
type Shown<'a> = (&'a str, Option<&'a str>, &'a str);

/// Reads a form split into chunks of every size: it must be the same each time.
#[track_caller]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the rows of a table read better without references"
)]
fn check(form: &str, expected: Result<&[Shown<'_>], InvalidForm>) {
    for size in 1..=form.len() {
        let parts = read(form.as_bytes(), size);
        let shown = parts.map(|parts| {
            for (.., content, begin, end) in &parts {
                let (begin, end) = (
                    usize::try_from(*begin).unwrap(),
                    usize::try_from(*end).unwrap(),
                );
                assert_eq!(&form.as_bytes()[begin..end], content, "in chunks of {size}");
            }
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            let parts = parts.into_iter();
            parts
                .map(|part| (part.0, part.1, text(part.2)))
                .collect::<Vec<_>>()
        });
        let expected = expected.clone().map(|parts| {
            let owned = |part: &Shown<'_>| {
                (
                    part.0.to_owned(),
                    part.1.map(str::to_owned),
                    part.2.to_owned(),
                )
            };
            parts.iter().map(owned).collect::<Vec<_>>()
        });
        assert_eq!(shown, expected, "{form:?} in chunks of {size}");
    }
}

const HEAD: &str = "Content-Disposition: form-data; name=\"a\"\r\n\r\n";

#[test]
fn parts_are_found_however_the_bytes_come() {
    let file = "Content-Disposition: form-data; name=\"file\"; filename=\"a b.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n";
    let form = format!("--XX\r\n{HEAD}x\r\n--XX \t\r\n{file}\r\n\r\n--X\r\n-\r--XX\r\n--XX--\r\n");
    let parts = [
        ("a", None, "x"),
        ("file", Some("a b.mp3"), "\r\n\r\n--X\r\n-\r--XX"),
    ];
    // A dash at the content's first line's end is no boundary, but one at the beginning of a line is.
    check(
        &form.replace("\r--XX\r\n--XX--", "\r-\r\n--XX--"),
        Ok(&[parts[0], ("file", Some("a b.mp3"), "\r\n\r\n--X\r\n-\r-")]),
    );
    check(&form, Ok(&parts));
    check(
        &format!("\r\n--XX\r\n{HEAD}\r\n--XX--"),
        Ok(&[("a", None, "")]),
    );
    check("--XX--", Ok(&[]));
    let unquoted =
        "--XX\r\nX-More: 1\r\ncontent-disposition:form-data;name=a;filename=b\r\n\r\n1\r\n--XX--";
    check(unquoted, Ok(&[("a", Some("b"), "1")]));
    let twice = "--XX\r\nContent-Disposition: form-data; name=\"a\"; filename=\"?\"; filename*=utf-8''%C3%BC\r\n\r\n1\r\n--XX--";
    check(twice, Ok(&[("a", Some("?"), "1")]));
}

#[test]
fn what_readers_could_understand_differently_is_refused() {
    let outside = || Err(InvalidForm::Outside);
    check(&format!("x--XX\r\n{HEAD}x\r\n--XX--"), outside());
    check(
        &format!("--XX\r\n{HEAD}x\r\n--XX--\r\n--XX\r\n{HEAD}y\r\n--XX--"),
        outside(),
    );
    check(&format!("--XX\r\n{HEAD}x\r\n--XXY\r\n--XX--"), outside());
    check(
        &format!("--XX\r\n{HEAD}x\n--XX\r\n{HEAD}y\r\n--XX--"),
        outside(),
    );
    check(&format!("--XX\n{HEAD}x\r\n--XX--"), outside());
    for cut in ["", "--X", "--XX", "--XX\r\n", "--XX-"] {
        check_cut(cut);
    }
    check_cut(&format!("--XX\r\n{HEAD}x\r\n--XX"));
    let head = |head: &str, why| {
        let form = format!("--XX\r\n{head}\r\n\r\nx\r\n--XX--");
        check(&form, Err(InvalidForm::Head(why)));
    };
    head("Content-Type: text/plain", "it does not say what it is");
    head("Content-Disposition form-data", "a line has no colon");
    head(
        "Content-Disposition: form-data;\r\n name=\"a\"",
        "a line is broken",
    );
    head(
        "Content-Disposition: attachment; name=\"a\"",
        "it is no part of a form",
    );
    head(
        "Content-Disposition: form-data; filename=\"a\"",
        "it has no name",
    );
    let twice =
        "Content-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"b\"";
    head(twice, "it says twice what it is");
    head(
        "Content-Disposition: form-data; name=\"a\"; name=\"b\"",
        "a parameter comes twice",
    );
    head(
        "Content-Disposition: form-data; name*=utf-8''a",
        "a parameter is unknown",
    );
    head(
        "Content-Disposition: form-data; name=\"a\\\"; x=\"",
        "a parameter is broken",
    );
    head(
        "Content-Disposition: form-data; name=\"a",
        "a parameter is broken",
    );
    head(
        "Content-Disposition: form-data; name=\"mod%65l\"",
        "its name has uncommon characters",
    );
    let encoded = "Content-Disposition: form-data; name=\"a\"\r\nContent-Transfer-Encoding: base64";
    head(encoded, "its content is encoded");
    let bare = "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n--XX--";
    check(bare, Err(InvalidForm::Head("a boundary follows at once")));
}

#[track_caller]
fn check_cut(form: &str) {
    for size in 1..=form.len().max(1) {
        assert_eq!(
            read(form.as_bytes(), size),
            Err(InvalidForm::Cut),
            "{form:?}"
        );
    }
}

#[test]
fn heads_and_parts_are_bounded() {
    let long = format!("--XX\r\nX: {}", "x".repeat(9000));
    assert_eq!(
        read(long.as_bytes(), 100),
        Err(InvalidForm::Head("it is too long"))
    );
    let many = format!("--XX\r\n{HEAD}x\r\n").repeat(257);
    assert_eq!(read(many.as_bytes(), 1000), Err(InvalidForm::TooManyParts));
}

#[track_caller]
fn check_boundary(content_type: &str, expected: Option<&str>) {
    let value = HeaderValue::from_str(content_type).unwrap();
    assert_eq!(
        boundary(Some(&value)).ok().as_deref(),
        expected,
        "{content_type}"
    );
}

#[test]
fn a_boundary_is_known_by_the_content_type() {
    check_boundary("multipart/form-data; boundary=XX", Some("XX"));
    check_boundary(
        "Multipart/Form-Data;charset=utf-8;BOUNDARY=\"X X:\"",
        Some("X X:"),
    );
    for refused in [
        "",
        "application/json",
        "multipart/mixed; boundary=XX",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"\"",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=\"a\" b",
        "multipart/form-data; boundary=\"a",
        "multipart/form-data; boundary=\"a \"",
    ] {
        check_boundary(refused, None);
    }
    check_boundary(
        &format!("multipart/form-data; boundary={}", "x".repeat(71)),
        None,
    );
}

proptest! {
    #[test]
    fn any_contents_come_out_as_they_went_in(
        contents in vec(vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'X'), any::<u8>()], 0..40), 0..5),
        size in 1..64_usize,
    ) {
        let mut form = Vec::new();
        let has_boundary = contents.iter().any(|content| {
            content.windows(5).any(|window| window == b"\n--XX") || content.starts_with(b"--XX")
        });
        prop_assume!(!has_boundary);
        for content in &contents {
            form.extend_from_slice(format!("--XX\r\n{HEAD}").as_bytes());
            form.extend_from_slice(content);
            form.extend_from_slice(b"\r\n");
        }
        form.extend_from_slice(b"--XX--");
        let parts = read(&form, size).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let read: Vec<Vec<u8>> = parts.into_iter().map(|part| part.2).collect();
        prop_assert_eq!(read, contents);
    }

    #[test]
    fn any_bytes_are_read_the_same_however_they_come(
        bytes in vec(prop_oneof![
            Just(b"\r\n".to_vec()), Just(b"--XX".to_vec()), Just(b"--".to_vec()), Just(HEAD.as_bytes().to_vec()),
            vec(any::<u8>(), 0..6),
        ], 0..12),
        size in 1..64_usize,
    ) {
        let form = bytes.concat();
        let whole = read(&form, form.len());
        prop_assert_eq!(read(&form, size), whole);
    }
}
