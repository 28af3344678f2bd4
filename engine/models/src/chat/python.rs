//! What templates expect of Python: methods of strings and maps, and the spacing of JSON.

use std::io;

use minijinja::value::{ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use serde_json::ser::Formatter;

/// Calls a method that Jinja values have in Python and not in minijinja.
pub(super) fn call_method(
    _: &State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => string_method(value.as_str().unwrap_or_default(), method, args),
        ValueKind::Map => map_method(value, method, args),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let characters = || -> Result<Option<String>, Error> {
        from_args::<(Option<String>,)>(args).map(|(set,)| set)
    };
    let is_stripped = |set: &Option<String>, character: char| match set {
        Some(set) => set.contains(character),
        None => character.is_whitespace(),
    };
    Ok(match method {
        "strip" => {
            let set = characters()?;
            text.trim_matches(|character| is_stripped(&set, character))
                .into()
        }
        "lstrip" => {
            let set = characters()?;
            text.trim_start_matches(|character| is_stripped(&set, character))
                .into()
        }
        "rstrip" => {
            let set = characters()?;
            text.trim_end_matches(|character| is_stripped(&set, character))
                .into()
        }
        "upper" => text.to_uppercase().into(),
        "lower" => text.to_lowercase().into(),
        "title" => title(text).into(),
        "capitalize" => capitalize(text).into(),
        "startswith" => from_args::<(&str,)>(args)
            .map(|(start,)| text.starts_with(start))?
            .into(),
        "endswith" => from_args::<(&str,)>(args)
            .map(|(end,)| text.ends_with(end))?
            .into(),
        "replace" => from_args::<(&str, &str)>(args)
            .map(|(from, to)| text.replace(from, to))?
            .into(),
        "find" => from_args::<(&str,)>(args)
            .map(|(part,)| character_index(text, part))?
            .into(),
        "split" => split(text, args)?,
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

fn map_method(map: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let pairs = || -> Result<Vec<(Value, Value)>, Error> {
        map.try_iter()?
            .map(|key| map.get_item(&key).map(|value| (key, value)))
            .collect()
    };
    match method {
        "get" => {
            let (key, default) = from_args::<(Value, Option<Value>)>(args)?;
            let value = map.get_item(&key)?;
            Ok(if value.is_undefined() {
                default.unwrap_or(Value::from(()))
            } else {
                value
            })
        }
        "items" => Ok(pairs()?
            .into_iter()
            .map(|(key, value)| Value::from(vec![key, value]))
            .collect()),
        "keys" => Ok(pairs()?.into_iter().map(|(key, _)| key).collect()),
        "values" => Ok(pairs()?.into_iter().map(|(_, value)| value).collect()),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn split(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator, limit) = from_args::<(Option<&str>, Option<usize>)>(args)?;
    let parts = |parts: Vec<&str>| -> Value { parts.into_iter().map(Value::from).collect() };
    Ok(match (separator, limit) {
        (None, _) => parts(text.split_whitespace().collect()),
        (Some(separator), None) => parts(text.split(separator).collect()),
        (Some(separator), Some(limit)) => {
            parts(text.splitn(limit.saturating_add(1), separator).collect())
        }
    })
}

fn character_index(text: &str, part: &str) -> i64 {
    text.find(part)
        .map_or(-1, |index| text[..index].chars().count() as i64)
}

fn title(text: &str) -> String {
    let mut is_inside = false;
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if is_inside {
            out.extend(character.to_lowercase());
        } else {
            out.extend(character.to_uppercase());
        }
        is_inside = character.is_alphabetic();
    }
    out
}

fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase);
    first
        .chain(characters.flat_map(char::to_lowercase))
        .collect()
}

/// Writes `, ` and `: `, as Python does.
pub(super) struct Separators;

impl Formatter for Separators {
    fn begin_array_value<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        is_first: bool,
    ) -> io::Result<()> {
        if is_first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_key<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        is_first: bool,
    ) -> io::Result<()> {
        if is_first {
            Ok(())
        } else {
            writer.write_all(b", ")
        }
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
