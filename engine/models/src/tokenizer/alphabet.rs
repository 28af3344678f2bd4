//! The byte alphabet of GPT-2: each byte as one visible character.
//!
//! Printable bytes stand for themselves; the others are numbered from U+0100 on.

/// The character of a byte.
pub(super) fn to_char(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let number = (0..byte).filter(|byte| !is_printable(*byte)).count() as u32;
    char::from_u32(0x100 + number).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The bytes of a token's text; characters outside the alphabet stand for their own bytes.
pub(super) fn to_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match to_byte(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

fn to_byte(character: char) -> Option<u8> {
    match u8::try_from(character) {
        Ok(byte) => is_printable(byte).then_some(byte),
        Err(_) => {
            let number = (character as usize).checked_sub(0x100)?;
            (0..=u8::MAX)
                .filter(|byte| !is_printable(*byte))
                .nth(number)
        }
    }
}

const fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

#[cfg(test)]
mod tests {
    use super::{to_bytes, to_char};

    #[test]
    fn each_byte_has_a_character_of_its_own() {
        let text: String = (0..=u8::MAX).map(to_char).collect();
        assert_eq!(to_bytes(&text), (0..=u8::MAX).collect::<Vec<_>>());
        assert_eq!(
            [to_char(b' '), to_char(b'\n'), to_char(b'a')],
            ['Ġ', 'Ċ', 'a']
        );
    }
}
