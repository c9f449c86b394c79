//! The byte-level alphabet of GPT-2: every byte has a printable character, so that vocabularies and merges are text.
//!
//! The 188 printable bytes of Latin-1 stand for themselves, the other 68 for U+0100, U+0101, … in order.

/// The character of a byte.
pub(super) fn byte_to_char(byte: u8) -> char {
    match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
        0x00..=0x20 => char::from_u32(0x100 + u32::from(byte)).expect("below the surrogates"),
        0x7F..=0xA0 => char::from_u32(0x100 + 33 + u32::from(byte) - 0x7F).expect("below the surrogates"),
        0xAD => '\u{143}',
    }
}

/// The byte of a character, if it is one of the 256.
pub(super) fn char_to_byte(c: char) -> Option<u8> {
    match u32::from(c) {
        c @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => Some(c as u8),
        c @ 0x100..=0x120 => Some((c - 0x100) as u8),
        c @ 0x121..=0x142 => Some((c - 0x121 + 0x7F) as u8),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// Whether a byte occurs in UTF-8 at all: a vocabulary may lack the others.
pub(super) fn occurs_in_utf8(byte: u8) -> bool {
    !matches!(byte, 0xC0 | 0xC1 | 0xF5..=0xFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_a_bijection() {
        let mut fresh = 0x100;
        for byte in 0..=255u8 {
            let c = byte_to_char(byte);
            assert_eq!(char_to_byte(c), Some(byte));
            if c as u32 != u32::from(byte) {
                assert_eq!(c as u32, fresh);
                fresh += 1;
            }
        }
        assert_eq!((byte_to_char(b' '), byte_to_char(b'\n'), byte_to_char(b'a')), ('Ġ', 'Ċ', 'a'));
        assert_eq!((char_to_byte(' '), char_to_byte('\u{144}'), char_to_byte('▁')), (None, None, None));
    }
}
