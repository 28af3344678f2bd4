//! The byte alphabet of GPT-2: each byte as one visible character.
//!
//! Printable bytes stand for themselves; the others are numbered from U+0100 on.

/// The character of each byte.
const CHARACTERS: [char; 256] = characters();
/// Characters of bytes that are not printable: U+0100 to U+0143.
const HIDDEN: usize = 68;
const HIDDEN_BYTES: [u8; HIDDEN] = hidden_bytes();

/// The character of a byte.
pub(super) const fn to_char(byte: u8) -> char {
    CHARACTERS[byte as usize]
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
        Err(_) => HIDDEN_BYTES
            .get((character as usize).checked_sub(0x100)?)
            .copied(),
    }
}

const fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

const fn hidden_bytes() -> [u8; HIDDEN] {
    let (mut bytes, mut count, mut byte) = ([0; HIDDEN], 0, 0);
    while byte < 256 {
        if !is_printable(byte as u8) {
            bytes[count] = byte as u8;
            count += 1;
        }
        byte += 1;
    }
    bytes
}

const fn characters() -> [char; 256] {
    let (mut characters, mut count, mut byte) = (['\0'; 256], 0, 0);
    while byte < 256 {
        characters[byte] = byte as u8 as char;
        if !is_printable(byte as u8) {
            if let Some(character) = char::from_u32(0x100 + count) {
                characters[byte] = character;
            }
            count += 1;
        }
        byte += 1;
    }
    characters
}

#[cfg(test)]
mod tests {
    use super::{to_bytes, to_char};

    #[test]
    fn each_byte_has_a_character_of_its_own() {
        let text: String = (0..=u8::MAX).map(to_char).collect();
        assert_eq!(to_bytes(&text), (0..=u8::MAX).collect::<Vec<_>>());
        assert_eq!(
            [to_char(b' '), to_char(b'\n'), to_char(b'a'), to_char(0xad)],
            ['Ġ', 'Ċ', 'a', '\u{143}']
        );
    }
}
