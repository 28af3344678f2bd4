//! The head of a part: its name and whether it is a file; and the boundary that a content type names. Pure.

use http::HeaderValue;

use super::InvalidForm;

/// Bytes of a boundary, by RFC 2046.
const BOUNDARY_BYTES_MAX: usize = 70;

/// What stands before a part's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartHead {
    /// The part's name.
    pub(crate) name: String,
    /// The file's name, where the part is a file.
    pub(crate) filename: Option<String>,
}

impl PartHead {
    /// Reads the lines of a head, without the empty one at its end.
    ///
    /// # Errors
    /// Another reader could understand it differently.
    pub(super) fn parse(lines: &[u8]) -> Result<Self, InvalidForm> {
        let text =
            std::str::from_utf8(lines).map_err(|_| InvalidForm::Head("it is not in UTF-8"))?;
        let mut disposition = None;
        for line in text.split("\r\n") {
            if line.contains(['\r', '\n', '\0']) || line.starts_with([' ', '\t']) {
                return Err(InvalidForm::Head("a line is broken"));
            }
            let (name, value) = line
                .split_once(':')
                .ok_or(InvalidForm::Head("a line has no colon"))?;
            if name.eq_ignore_ascii_case("content-disposition")
                && disposition.replace(value).is_some()
            {
                return Err(InvalidForm::Head("it says twice what it is"));
            }
            let is_plain = ["binary", "8bit", "7bit"]
                .iter()
                .any(|plain| value.trim().eq_ignore_ascii_case(plain));
            if name.eq_ignore_ascii_case("content-transfer-encoding") && !is_plain {
                return Err(InvalidForm::Head("its content is encoded"));
            }
        }
        Self::of(disposition.ok_or(InvalidForm::Head("it does not say what it is"))?)
    }

    /// Reads `form-data; name="..."; filename="..."`.
    fn of(disposition: &str) -> Result<Self, InvalidForm> {
        let mut parameters = Parameters(disposition);
        if !parameters.kind().eq_ignore_ascii_case("form-data") {
            return Err(InvalidForm::Head("it is no part of a form"));
        }
        let (mut name, mut filename) = (None, None);
        while let Some(parameter) = parameters.next() {
            let (key, value) = parameter.ok_or(InvalidForm::Head("a parameter is broken"))?;
            let place = match key.to_ascii_lowercase().as_str() {
                "name" => &mut name,
                "filename" => &mut filename,
                // The file's name once more, for readers who understand its characters.
                "filename*" => continue,
                _ => return Err(InvalidForm::Head("a parameter is unknown")),
            };
            if place.replace(value).is_some() {
                return Err(InvalidForm::Head("a parameter comes twice"));
            }
        }
        let name = name.ok_or(InvalidForm::Head("it has no name"))?;
        let is_plain = |character: char| {
            character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.' | '[' | ']')
        };
        if name.is_empty() || !name.chars().all(is_plain) {
            return Err(InvalidForm::Head("its name has uncommon characters"));
        }
        Ok(Self {
            name: name.to_owned(),
            filename: filename.map(str::to_owned),
        })
    }
}

/// The boundary of a form with this content type.
///
/// # Errors
/// [`InvalidForm::Boundary`].
pub(crate) fn boundary(content_type: Option<&HeaderValue>) -> Result<String, InvalidForm> {
    let text = content_type.and_then(|value| value.to_str().ok());
    let mut parameters = Parameters(text.unwrap_or_default());
    if !parameters
        .kind()
        .eq_ignore_ascii_case("multipart/form-data")
    {
        return Err(InvalidForm::Boundary);
    }
    let mut boundary = None;
    while let Some(parameter) = parameters.next() {
        let (key, value) = parameter.ok_or(InvalidForm::Boundary)?;
        if key.eq_ignore_ascii_case("boundary") && boundary.replace(value).is_some() {
            return Err(InvalidForm::Boundary);
        }
    }
    let boundary = boundary.unwrap_or_default();
    let is_allowed =
        |character: char| character.is_ascii_alphanumeric() || "'()+_,-./:=? ".contains(character);
    let is_sound = !boundary.is_empty()
        && boundary.len() <= BOUNDARY_BYTES_MAX
        && !boundary.ends_with(' ')
        && boundary.chars().all(is_allowed);
    match is_sound {
        true => Ok(boundary.to_owned()),
        false => Err(InvalidForm::Boundary),
    }
}

/// What is left of `kind; key=value; key="value"`.
struct Parameters<'a>(&'a str);

impl<'a> Parameters<'a> {
    /// What stands before the parameters.
    fn kind(&mut self) -> &'a str {
        let (kind, _) = self.0.split_once(';').unwrap_or((self.0, ""));
        self.0 = self.0.get(kind.len()..).unwrap_or_default();
        kind.trim()
    }

    /// The next parameter; `Some(None)` for one that can be read in several ways, or in none.
    fn next(&mut self) -> Option<Option<(&'a str, &'a str)>> {
        let rest = self.0.trim();
        if rest.is_empty() {
            return None;
        }
        Some(self.parameter(rest))
    }

    fn parameter(&mut self, rest: &'a str) -> Option<(&'a str, &'a str)> {
        let (key, value) = rest.strip_prefix(';')?.split_once('=')?;
        let key = key.trim();
        let is_token = |text: &str| {
            let is_word =
                |byte: u8| byte.is_ascii_alphanumeric() || b"-_*.'%+/:?()@".contains(&byte);
            !text.is_empty() && text.bytes().all(is_word)
        };
        let value = value.trim_start();
        let (value, rest) = match value.strip_prefix('"') {
            Some(quoted) => {
                let (value, rest) = quoted.split_once('"')?;
                // Readers differ in whether a backslash takes the quotation mark's meaning away.
                if value.ends_with('\\') {
                    return None;
                }
                (value, rest)
            }
            None => {
                let end = value.find(';').unwrap_or(value.len());
                let (value, rest) = value.split_at(end);
                let value = value.trim_end();
                if !is_token(value) {
                    return None;
                }
                (value, rest)
            }
        };
        self.0 = rest;
        let follows = rest.trim_start();
        let is_sound = is_token(key) && (follows.is_empty() || follows.starts_with(';'));
        is_sound.then_some((key, value))
    }
}
