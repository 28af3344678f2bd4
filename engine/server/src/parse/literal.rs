//! Values as Python writes them, turned into JSON: `{'a': None}` becomes `{"a": null}`.

use std::iter::Peekable;
use std::str::Chars;

/// Deeper values are not understood.
const DEPTH_MAX: usize = 100;

/// The JSON of a Python literal; nothing if it is no literal, or too deep.
pub(super) fn to_json(text: &str) -> Option<String> {
    let mut reader = Reader {
        rest: text.trim().chars().peekable(),
        json: String::new(),
    };
    reader.value(0)?;
    reader.skip_space();
    reader.rest.next().is_none().then_some(reader.json)
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    json: String,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Option<()> {
        if DEPTH_MAX < depth {
            return None;
        }
        self.skip_space();
        match *self.rest.peek()? {
            '[' => self.list(']', depth),
            '(' => self.list(')', depth),
            '{' => self.map_or_set(depth),
            '"' | '\'' => self.text(false),
            '+' | '-' | '.' | '0'..='9' => self.number(),
            _ => self.word(),
        }
    }

    fn list(&mut self, close: char, depth: usize) -> Option<()> {
        self.rest.next();
        self.json.push('[');
        self.items(close, depth)?;
        self.json.push(']');
        Some(())
    }

    /// Items up to the closing bracket; a comma may follow the last.
    fn items(&mut self, close: char, depth: usize) -> Option<()> {
        loop {
            self.skip_space();
            if self.take(close) {
                return Some(());
            }
            self.separate('[');
            self.value(depth + 1)?;
            self.next_item(close)?;
        }
    }

    fn map_or_set(&mut self, depth: usize) -> Option<()> {
        self.rest.next();
        let start = self.json.len();
        self.json.push('{');
        self.skip_space();
        if self.take('}') {
            self.json.push('}');
            return Some(());
        }
        let mut is_map = None;
        loop {
            self.skip_space();
            if self.take('}') {
                break;
            }
            self.separate('{');
            let key_start = self.json.len();
            self.value(depth + 1)?;
            self.skip_space();
            let has_value = self.take(':');
            if *is_map.get_or_insert(has_value) != has_value {
                return None;
            }
            if has_value {
                self.make_key(key_start);
                self.json.push_str(": ");
                self.value(depth + 1)?;
            }
            self.next_item('}')?;
        }
        if is_map == Some(true) {
            self.json.push('}');
        } else {
            self.json.replace_range(start..=start, "[");
            self.json.push(']');
        }
        Some(())
    }

    /// A comma, unless nothing but the opening bracket stands there.
    fn separate(&mut self, open: char) {
        if !self.json.ends_with(open) {
            self.json.push_str(", ");
        }
    }

    /// Behind an item stands a comma or the closing bracket, which stays.
    fn next_item(&mut self, close: char) -> Option<()> {
        self.skip_space();
        (self.take(',') || self.rest.peek() == Some(&close)).then_some(())
    }

    /// Keys of JSON objects are text: the key from `start` on becomes that.
    fn make_key(&mut self, start: usize) {
        if !self.json[start..].starts_with('"') {
            let key = self.json.split_off(start);
            self.json
                .push_str(&serde_json::Value::String(key).to_string());
        }
    }

    /// `True`, `None`, their likes in JSON, and texts with letters in front.
    fn word(&mut self) -> Option<()> {
        let mut word = String::new();
        while let Some(next) = self.rest.next_if(char::is_ascii_alphabetic) {
            word.push(next);
        }
        if matches!(self.rest.peek(), Some('"' | '\'')) && word.len() <= 2 {
            let prefix = word.to_ascii_lowercase();
            return prefix
                .chars()
                .all(|letter| "rbuf".contains(letter))
                .then(|| self.text(prefix.contains('r')))?;
        }
        let json = match word.as_str() {
            "True" | "true" => "true",
            "False" | "false" => "false",
            "None" | "null" => "null",
            _ => return None,
        };
        self.json.push_str(json);
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        let mut text = String::new();
        while let Some(next) = self
            .rest
            .next_if(|next| next.is_ascii_alphanumeric() || "+-._".contains(*next))
        {
            text.push(next);
        }
        self.json.push_str(&number_to_json(&text.replace('_', ""))?);
        Some(())
    }

    /// A text, and any that follow it at once, which Python joins.
    fn text(&mut self, is_raw: bool) -> Option<()> {
        let mut text = String::new();
        loop {
            self.one_text(is_raw, &mut text)?;
            self.skip_space();
            if !matches!(self.rest.peek(), Some('"' | '\'')) {
                break;
            }
        }
        self.json
            .push_str(&serde_json::Value::String(text).to_string());
        Some(())
    }

    fn one_text(&mut self, is_raw: bool, text: &mut String) -> Option<()> {
        let quote = self.rest.next()?;
        let mut is_long = false;
        if self.take(quote) {
            if !self.take(quote) {
                return Some(());
            }
            is_long = true;
        }
        loop {
            let next = self.rest.next()?;
            if next == quote {
                if !is_long {
                    return Some(());
                }
                if self.closes_long(quote, text) {
                    return Some(());
                }
            } else if next == '\\' {
                self.escape(is_raw, text)?;
            } else {
                text.push(next);
            }
        }
    }

    /// Whether the quote just read is the first of the three that end a long text.
    fn closes_long(&mut self, quote: char, text: &mut String) -> bool {
        if !self.take(quote) {
            text.push(quote);
            return false;
        }
        if !self.take(quote) {
            text.push(quote);
            text.push(quote);
            return false;
        }
        true
    }

    fn escape(&mut self, is_raw: bool, text: &mut String) -> Option<()> {
        let next = self.rest.next()?;
        if is_raw {
            text.push('\\');
            text.push(next);
            return Some(());
        }
        match next {
            '\n' => {}
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'a' => text.push('\u{7}'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'v' => text.push('\u{b}'),
            '\\' | '\'' | '"' | '/' => text.push(next),
            '0'..='7' => {
                let mut number = next.to_digit(8)?;
                for _ in 0..2 {
                    let digit = self.rest.next_if(|next| next.is_digit(8));
                    let Some(digit) = digit.and_then(|digit| digit.to_digit(8)) else {
                        break;
                    };
                    number = number * 8 + digit;
                }
                text.push(char::from_u32(number)?);
            }
            'x' => text.push(char::from_u32(self.hexadecimal(2)?)?),
            'u' => text.push(self.unicode()?),
            'U' => text.push(char::from_u32(self.hexadecimal(8)?)?),
            // Python leaves what it does not know.
            other => {
                text.push('\\');
                text.push(other);
            }
        }
        Some(())
    }

    /// `\u0041`, or two of them for one character, as JSON writes it.
    fn unicode(&mut self) -> Option<char> {
        let first = self.hexadecimal(4)?;
        if !(0xd800..0xdc00).contains(&first) {
            return Some(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let (slash, letter) = (self.rest.next()?, self.rest.next()?);
        if (slash, letter) != ('\\', 'u') {
            return None;
        }
        let second = self
            .hexadecimal(4)?
            .checked_sub(0xdc00)
            .filter(|low| *low < 0x400)?;
        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + second)
    }

    fn hexadecimal(&mut self, digits: usize) -> Option<u32> {
        let mut number = 0;
        for _ in 0..digits {
            number = number * 16 + self.rest.next()?.to_digit(16)?;
        }
        Some(number)
    }

    fn skip_space(&mut self) {
        while self.rest.next_if(|next| next.is_whitespace()).is_some() {}
    }

    fn take(&mut self, wanted: char) -> bool {
        self.rest.next_if_eq(&wanted).is_some()
    }
}

/// A number that JSON allows: Python also writes `+1`, `.5`, `5.`, `007` never, and other bases.
fn number_to_json(text: &str) -> Option<String> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    for (prefix, base) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = lower.strip_prefix(prefix) {
            let number = u128::from_str_radix(digits, base).ok()?;
            return Some(format!("{sign}{number}"));
        }
    }
    let (mantissa, exponent) = lower.split_once('e').unwrap_or((&lower, ""));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut json = sign.to_owned();
    let whole = whole.trim_start_matches('0');
    json.push_str(if whole.is_empty() { "0" } else { whole });
    if !fraction.is_empty() {
        json.push('.');
        json.push_str(fraction);
    }
    if lower.contains('e') {
        json.push('e');
        json.push_str(exponent);
    }
    // Whatever else it is, JSON decides.
    serde_json::from_str::<&serde_json::value::RawValue>(&json)
        .is_ok()
        .then_some(json)
}
