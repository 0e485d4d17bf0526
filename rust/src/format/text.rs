//! Strings as payloads.

use crate::format::tag::{Payload, Tag, tag};

pub(crate) const MAX_DIGITS: u64 = 9_999_999_999_999_999_999;
pub(crate) const SHORT_LENGTH: usize = 7;

/// The word of a string of 1 to 19 ASCII digits without a leading zero.
#[inline]
pub(crate) fn digits_word(text: &[u8]) -> Option<u64> {
    let (&first, rest) = text.split_first()?;
    if !first.is_ascii_digit() || text.len() > 19 || (first == b'0' && !rest.is_empty()) {
        return None;
    }
    let mut word = 0u64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        word = word * 10 + u64::from(digit);
    }
    Some(word)
}

/// The text of a DIGITS word.
pub(crate) fn decimal_digits(mut word: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (word % 10) as u8;
        word /= 10;
        if word == 0 {
            return &buffer[at..];
        }
    }
}

/// The word of at most 7 bytes.
#[inline]
pub(crate) fn short_word(text: &[u8]) -> u64 {
    let n = text.len();
    // two pieces that overlap say the same of what they share
    let bytes = match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << (8 * (n - 4))
        }
        _ => text.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    bytes | (n as u64) << 56
}

/// The canonical cell of a string; a long one keeps its bytes.
#[inline]
pub(crate) fn text_cell(text: &[u8]) -> (Tag, Payload<'_>) {
    if let Some(word) = digits_word(text) {
        (tag::DIGITS, Payload::Fixed64(word))
    } else if text.len() <= SHORT_LENGTH {
        (tag::SHORT, Payload::Fixed64(short_word(text)))
    } else {
        (tag::TEXT, Payload::Bytes(text))
    }
}

/// The text of a SHORT word: the bytes and their count.
pub(crate) fn short_text(word: u64) -> ([u8; 8], usize) {
    let bytes = word.to_le_bytes();
    (bytes, usize::from(bytes[7]))
}

/// UTF-8 that may encode surrogates like characters.
pub(crate) fn is_text(mut bytes: &[u8]) -> bool {
    loop {
        match std::str::from_utf8(bytes) {
            Ok(_) => return true,
            Err(error) => match &bytes[error.valid_up_to()..] {
                [0xED, 0xA0..=0xBF, 0x80..=0xBF, rest @ ..] => bytes = rest,
                _ => return false,
            },
        }
    }
}
