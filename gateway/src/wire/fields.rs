//! Reads objects of requests field by field, so that faults name their place and unknown fields are kept.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    InvalidRequest,
    json::{Extra, Json},
};

/// An object whose fields are taken one by one.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    /// Where the object is, as `messages[2]`; empty for the whole body.
    at: String,
    entries: Vec<(Cow<'a, str>, &'a RawValue)>,
}

/// A value and its place.
#[derive(Debug)]
pub(super) struct Item<'a> {
    /// Where it is, as `messages[2].content[0]`.
    pub(super) at: String,
    /// Its text.
    pub(super) raw: &'a RawValue,
}

impl<'a> Fields<'a> {
    /// The fields of a request's body.
    ///
    /// # Errors
    /// [`InvalidRequest`] for anything but an object.
    pub(super) fn of_body(body: &'a [u8]) -> Result<Self, InvalidRequest> {
        let fields: Entries<'a> = serde_json::from_slice(body).map_err(|error| {
            InvalidRequest::new("", format!("the body is not a JSON object: {error}"))
        })?;
        Ok(Self {
            at: String::new(),
            entries: fields.0,
        })
    }

    /// Where a field is.
    pub(super) fn path(&self, name: &str) -> String {
        match self.at.as_str() {
            "" => name.to_owned(),
            at => format!("{at}.{name}"),
        }
    }

    /// Where the object is.
    pub(super) fn at(&self) -> &str {
        &self.at
    }

    /// A complaint about a field.
    pub(super) fn invalid(&self, name: &str, message: impl Into<String>) -> InvalidRequest {
        InvalidRequest::new(self.path(name), message)
    }

    /// Takes a field; one that is `null` counts as absent, and of doubled ones the last is taken.
    pub(super) fn take(&mut self, name: &str) -> Option<Item<'a>> {
        let mut found = None;
        self.entries.retain(|(key, raw)| {
            let is_other = key != name;
            if !is_other {
                found = Some(*raw);
            }
            is_other
        });
        let raw = found.filter(|raw| raw.get() != "null")?;
        Some(Item {
            at: self.path(name),
            raw,
        })
    }

    /// Takes a field and reads it.
    ///
    /// # Errors
    /// [`InvalidRequest`] if it has another type.
    pub(super) fn value<T: Deserialize<'a>>(
        &mut self,
        name: &str,
    ) -> Result<Option<T>, InvalidRequest> {
        self.take(name).map(|item| item.read()).transpose()
    }

    /// Takes a field that must be there and reads it.
    ///
    /// # Errors
    /// [`InvalidRequest`] if it is absent or has another type.
    pub(super) fn need<T: Deserialize<'a>>(&mut self, name: &str) -> Result<T, InvalidRequest> {
        self.value(name)?
            .ok_or_else(|| self.invalid(name, "is missing"))
    }

    /// Takes a field that is passed on as it is written.
    pub(super) fn json(&mut self, name: &str) -> Option<Json> {
        self.take(name).map(|item| item.raw.into())
    }

    /// Takes an object.
    ///
    /// # Errors
    /// [`InvalidRequest`] if it is something else.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>, InvalidRequest> {
        self.take(name).map(Item::fields).transpose()
    }

    /// Takes a list; an absent one is empty.
    ///
    /// # Errors
    /// [`InvalidRequest`] if it is something else.
    pub(super) fn list(&mut self, name: &str) -> Result<Vec<Item<'a>>, InvalidRequest> {
        self.take(name)
            .map_or_else(|| Ok(Vec::new()), |item| item.items())
    }

    /// Leaves out fields that change nothing of the answer.
    pub(super) fn ignore(&mut self, names: &[&str]) {
        self.entries
            .retain(|(key, _)| !names.contains(&key.as_ref()));
    }

    /// Refuses a field that says something which cannot be said elsewhere.
    ///
    /// # Errors
    /// [`InvalidRequest`] if it is there.
    pub(super) fn refuse(&mut self, name: &str, message: &str) -> Result<(), InvalidRequest> {
        match self.take(name) {
            Some(item) => Err(InvalidRequest::new(item.at, message)),
            None => Ok(()),
        }
    }

    /// The fields that nobody took.
    pub(super) fn rest(self) -> Extra {
        let fields = self.entries.into_iter();
        Extra::new(
            fields
                .map(|(name, raw)| (name.into_owned(), raw.into()))
                .collect(),
        )
    }
}

impl<'a> Item<'a> {
    /// Reads the value.
    ///
    /// # Errors
    /// [`InvalidRequest`] if it has another type.
    pub(super) fn read<T: Deserialize<'a>>(&self) -> Result<T, InvalidRequest> {
        serde_json::from_str(self.raw.get())
            .map_err(|error| InvalidRequest::new(self.at.clone(), format!("is invalid: {error}")))
    }

    /// The fields of the object.
    ///
    /// # Errors
    /// [`InvalidRequest`] if it is none.
    pub(super) fn fields(self) -> Result<Fields<'a>, InvalidRequest> {
        let entries: Entries<'a> = self.read()?;
        Ok(Fields {
            at: self.at,
            entries: entries.0,
        })
    }

    /// The items of the list.
    ///
    /// # Errors
    /// [`InvalidRequest`] if it is none.
    pub(super) fn items(&self) -> Result<Vec<Self>, InvalidRequest> {
        let items: Vec<&'a RawValue> = self.read()?;
        let place = |(index, raw)| Self {
            at: format!("{}[{index}]", self.at),
            raw,
        };
        Ok(items.into_iter().enumerate().map(place).collect())
    }

    /// The text, if the value is one.
    pub(super) fn text(&self) -> Option<String> {
        serde_json::from_str(self.raw.get()).ok()
    }

    /// Whether the value is an object.
    pub(super) fn is_object(&self) -> bool {
        self.raw.get().starts_with('{')
    }
}

/// The fields of an object in their order.
struct Entries<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// A name, borrowed where it holds no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((Name(name), raw)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            entries.push((name, raw));
        }
        Ok(Entries(entries))
    }
}
