//! What must hold of requests' bodies, whatever their bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    Decoded, Edit,
    fields::{self, Fields},
    members::{InvalidObject, Member, Members},
    multipart::{InvalidForm, PartHead, Piece, Scanner},
    splice,
};
use crate::{call::Operation, fuzzing::Cut, provider::openai};

/// A part of a form: its head, where its content begins, that, and where it ends.
type Part = (PartHead, u64, Vec<u8>, u64);

/// Members are found where a parser finds them, edits change nothing else, and what is edited is read as it was meant.
pub fn json(bytes: &[u8]) {
    let walked = members(bytes);
    let parsed = serde_json::from_slice::<BTreeMap<String, &RawValue>>(bytes);
    match (&walked, parsed) {
        (Ok(walked), Ok(parsed)) => {
            let parsed = parsed.iter();
            let parsed = parsed.map(|(name, value)| (name.clone(), value.get().as_bytes()));
            assert_eq!(*walked, parsed.collect());
        }
        // What is inside of strings is not looked at.
        (Ok(_), Err(error)) => {
            let is_odd = |byte: &u8| *byte == b'\\' || *byte < b' ' || 127 < *byte;
            assert!(bytes.iter().any(is_odd), "{error}");
        }
        (Err(error), parsed) => assert!(parsed.is_err(), "{error}"),
    }
    let body = Bytes::copy_from_slice(bytes);
    assert_eq!(splice(&body, Vec::new()), body);
    if let Ok(named) = fields::name_model(&body, Some("na\"med"), None) {
        check_model(&body, &named, "\"na\\\"med\"");
    }
    if let Ok(fields) = fields::find(bytes) {
        check_edits(&body, fields);
    }
}

/// The members by their names; of two the last.
fn members(text: &[u8]) -> Result<BTreeMap<String, &[u8]>, InvalidObject> {
    let mut members = Members::of(text)?;
    let mut found = BTreeMap::new();
    while let Some(Member { name, range }) = members.next()? {
        found.insert(name.into_owned(), &text[range]);
    }
    Ok(found)
}

/// The body differs in its model only, which is this one.
fn check_model(before: &[u8], after: &[u8], model: &str) {
    let mut members = [before, after].map(members);
    let models = members
        .each_mut()
        .map(|members| members.as_mut().ok()?.remove("model"));
    assert_eq!(models[1], Some(model.as_bytes()));
    let [before, after] = members;
    assert_eq!(before, after);
}

fn check_edits(body: &Bytes, found: Fields) {
    let edit = Edit {
        range: found.model_range.clone(),
        replacement: "\"other\"".to_owned(),
    };
    check_model(body, &splice(body, vec![edit]), "\"other\"");
    let decoded = Decoded {
        body: body.clone(),
        fields: found,
        operation: Operation::Chat,
        fallbacks: Vec::new(),
        original: None,
    };
    let sent = openai::encode_request(&decoded, "other");
    let again = fields::find(&sent);
    assert!(again.is_ok(), "{again:?}");
    if let Ok(again) = again {
        assert_eq!(
            (again.model.as_str(), again.stream),
            ("other", decoded.fields.stream)
        );
        let options = again.stream_options.map(|options| options.include_usage);
        assert!(
            options == Some(true) || !again.stream,
            "no usage is asked for"
        );
    }
}

/// Parts are the same however the bytes are cut, and lie where they are said to.
pub fn form(bytes: &[u8]) {
    let cut = Cut::of(bytes);
    let whole = scan([cut.whole].into_iter());
    assert_eq!(whole, scan(cut.chunks()));
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    for (_, begin, content, end) in whole.into_iter().flatten() {
        let there = cut.whole.get(place(begin)..place(end));
        assert_eq!(there, Some(content.as_slice()));
    }
}

fn scan<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Part>, InvalidForm> {
    let mut scanner = Scanner::new("XX");
    let mut parts: Vec<Part> = Vec::new();
    for chunk in chunks {
        scanner.push(chunk)?;
        while let Some(piece) = scanner.next() {
            match (piece, parts.last_mut()) {
                (Piece::Begin(head, begin), _) => parts.push((head, begin, Vec::new(), begin)),
                (Piece::Content(content), Some(part)) => part.2.extend_from_slice(&content),
                (Piece::End(end), Some(part)) => part.3 = end,
                (outside, None) => assert_eq!(None, Some(outside)),
            }
        }
    }
    scanner.finish()?;
    Ok(parts)
}
