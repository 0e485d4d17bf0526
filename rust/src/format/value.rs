//! Cells: tags, canonical payloads and the plain form. FORMAT.md section 1.1.

use super::MAX_DEPTH;
use super::decimal;
use super::limits::{DICT, ITEM, weight_of};
use super::reader::Reader;
use super::time;
use super::writer::Writer;
use crate::error::{Error, Result};

pub type Tag = u8;

pub mod tag {
    use super::Tag;

    pub const NONE: Tag = 0;
    pub const FALSE: Tag = 1;
    pub const TRUE: Tag = 2;
    pub const EMPTY: Tag = 3;
    pub const INT: Tag = 4;
    pub const FLOAT: Tag = 5;
    pub const DIGITS: Tag = 6;
    pub const SHORT: Tag = 7;
    pub const TEXT: Tag = 8;
    pub const BYTES: Tag = 9;
    pub const BIG_INT: Tag = 10;
    pub const LIST: Tag = 11;
    pub const TUPLE: Tag = 12;
    pub const DATE: Tag = 13;
    pub const DATETIME: Tag = 14;
    pub const DATETIME_UTC: Tag = 15;
    pub const DATETIME_ZONED: Tag = 16;
    pub const TIME: Tag = 17;
    pub const TIMEDELTA: Tag = 18;
    pub const DECIMAL: Tag = 19;
    pub const DECIMAL_OTHER: Tag = 20;
    pub const UUID: Tag = 21;
    pub const DICT: Tag = 22;
    /// Tags of cells are below this; DICT stands only inside lists and tuples.
    pub const CELL_TAGS: Tag = 22;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Nothing,
    Word,
    Blob,
}

/// What kind of payload a tag has.
#[inline(always)]
pub fn form_of(tag: Tag) -> Form {
    use tag::{DATE, DATETIME, DATETIME_UTC, DECIMAL, DIGITS, FLOAT, INT, SHORT};
    match tag {
        0..=3 => Form::Nothing,
        INT | FLOAT | DIGITS | SHORT | DATE | DATETIME | DATETIME_UTC | DECIMAL => Form::Word,
        _ => Form::Blob,
    }
}

#[inline(always)]
pub fn is_blob(tag: Tag) -> bool {
    form_of(tag) == Form::Blob
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Also for tags without a payload, then 0.
    Word(u64),
    Blob(&'a [u8]),
}

const MAX_DIGITS: u64 = 9_999_999_999_999_999_999;
const SHORT_LENGTH: usize = 7;

/// The word of a string of 1 to 19 ASCII digits without a leading zero.
#[inline]
fn digits_word(text: &[u8]) -> Option<u64> {
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

fn short_word(text: &[u8]) -> u64 {
    let bytes = text.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    bytes | (text.len() as u64) << 56
}

/// The canonical cell of a string; a long one keeps its bytes.
#[inline]
pub fn text_cell(text: &[u8]) -> (Tag, Payload<'_>) {
    if let Some(word) = digits_word(text) {
        (tag::DIGITS, Payload::Word(word))
    } else if text.len() <= SHORT_LENGTH {
        (tag::SHORT, Payload::Word(short_word(text)))
    } else {
        (tag::TEXT, Payload::Blob(text))
    }
}

/// The text of a SHORT word: the bytes and how many of them count.
pub fn short_text(word: u64) -> ([u8; 8], usize) {
    let bytes = word.to_le_bytes();
    (bytes, usize::from(bytes[7]))
}

/// UTF-8 in which surrogates may stand as if they were characters.
pub fn is_text(mut bytes: &[u8]) -> bool {
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

/// True if the words are such as values of this tag have.
pub fn are_words(tag: Tag, words: &[u64]) -> bool {
    matches!(tag, tag::INT | tag::FLOAT) || words.iter().all(|word| is_word(tag, *word))
}

/// True if the word is one that a value of this tag has.
pub fn is_word(tag: Tag, word: u64) -> bool {
    match tag {
        tag::DIGITS => word <= MAX_DIGITS,
        tag::SHORT => {
            let (bytes, n) = short_text(word);
            n <= SHORT_LENGTH
                && bytes[n..7].iter().all(|b| *b == 0)
                && digits_word(&bytes[..n]).is_none()
                && is_text(&bytes[..n])
        }
        tag::DATE => time::is_date(word),
        tag::DATETIME | tag::DATETIME_UTC => word < time::DATETIME_END,
        _ => form_of(tag) == Form::Word || word == 0,
    }
}

/// Checks that a blob is the canonical one of a value; `depth` is the nesting around it. Returns what the
/// items in it are charged with, at any depth (FORMAT.md section 10).
pub fn check_blob(tag: Tag, blob: &[u8], depth: usize) -> Result<u64> {
    let mut r = Reader::new(blob);
    match tag {
        tag::LIST | tag::TUPLE | tag::DICT => {
            let weight = read_container(&mut r, tag, depth + 1)?;
            r.finish()?;
            Ok(weight)
        }
        _ if leaf_blob_is_canonical(tag, blob) => Ok(weight_of(tag)),
        _ => Err(Error::corrupt("a value is not in its canonical form")),
    }
}

fn leaf_blob_is_canonical(tag: Tag, blob: &[u8]) -> bool {
    match tag {
        tag::TEXT => blob.len() > SHORT_LENGTH && digits_word(blob).is_none() && is_text(blob),
        tag::BYTES => true,
        tag::BIG_INT => match blob {
            [.., before, last] if blob.len() > 8 => {
                let extends = if before & 0x80 == 0 { 0 } else { 0xFF };
                *last != extends
            }
            _ => false,
        },
        tag::DATETIME_ZONED => time::is_zoned_datetime(blob),
        tag::TIME => time::is_time(blob),
        tag::TIMEDELTA => time::is_timedelta(blob),
        tag::DECIMAL_OTHER => decimal::is_other(blob),
        tag::UUID => blob.len() == 16,
        _ => false,
    }
}

/// Returns the weight of its items.
fn read_container<'a>(r: &mut Reader<'a>, tag: Tag, depth: usize) -> Result<u64> {
    if depth > MAX_DEPTH {
        return Err(r.corrupt("nested too deep"));
    }
    let n = r.count("items")?;
    if tag == tag::DICT && n == 0 {
        return Err(r.corrupt("an empty dict has a tag of its own"));
    }
    let mut keys: Vec<&'a [u8]> = Vec::new();
    let mut weight = n as u64 * ITEM + if tag == tag::DICT { DICT } else { 0 };
    for _ in 0..n {
        if tag == tag::DICT {
            let key = r.text()?;
            if !is_text(key) {
                return Err(r.corrupt("a key is not UTF-8"));
            }
            keys.push(key);
        }
        weight += read_any(r, depth)?.2;
    }
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(r.corrupt("a key stands twice"));
    }
    Ok(weight)
}

/// A value, and the weight of its items.
fn read_any<'a>(r: &mut Reader<'a>, depth: usize) -> Result<(Tag, Payload<'a>, u64)> {
    let start = r.offset();
    let tag = r.u8()?;
    let mut weight = 0;
    let payload = match tag {
        tag::NONE | tag::FALSE | tag::TRUE | tag::EMPTY => Payload::Word(0),
        tag::INT => Payload::Word(r.sv()? as u64),
        tag::DIGITS | tag::DATE => Payload::Word(r.uv()?),
        tag::FLOAT | tag::DATETIME | tag::DATETIME_UTC | tag::DECIMAL => Payload::Word(r.u64()?),
        tag::SHORT => {
            let n = r.up_to(SHORT_LENGTH, "length")?;
            Payload::Word(short_word(r.raw(n)?))
        }
        tag::LIST | tag::TUPLE | tag::DICT => {
            let mut probe = r.clone();
            weight = read_container(&mut probe, tag, depth + 1)?;
            Payload::Blob(r.raw(probe.offset() - r.offset())?)
        }
        _ => {
            let blob = r.text()?;
            if !leaf_blob_is_canonical(tag, blob) {
                return Err(Error::corrupt_at(start, "a value is not in its canonical form"));
            }
            weight = weight_of(tag);
            Payload::Blob(blob)
        }
    };
    if let Payload::Word(word) = payload
        && !is_word(tag, word)
    {
        return Err(Error::corrupt_at(start, "a value is not in its canonical form"));
    }
    Ok((tag, payload, weight))
}

/// Reads a cell in plain form; `depth` is the nesting around it. The last number is the weight of its items.
pub fn read_plain<'a>(r: &mut Reader<'a>, depth: usize) -> Result<(Tag, Payload<'a>, u64)> {
    let (tag, payload, weight) = read_any(r, depth)?;
    if tag >= tag::CELL_TAGS {
        return Err(r.corrupt("a dict is no cell"));
    }
    Ok((tag, payload, weight))
}

/// Reads a value inside a list, tuple or dict whose bytes were checked before.
pub fn read_item<'a>(r: &mut Reader<'a>) -> Result<(Tag, Payload<'a>)> {
    let (tag, payload, _) = read_any(r, 0)?;
    Ok((tag, payload))
}

pub fn write_plain(w: &mut Writer, tag: Tag, payload: Payload<'_>) {
    w.u8(tag);
    match payload {
        Payload::Word(word) => match tag {
            tag::INT => w.sv(word as i64),
            tag::DIGITS | tag::DATE => w.uv(word),
            tag::SHORT => {
                let (bytes, n) = short_text(word);
                w.u8(n as u8);
                w.raw(&bytes[..n]);
            }
            _ if form_of(tag) == Form::Word => w.u64(word),
            _ => {}
        },
        Payload::Blob(blob) => match tag {
            tag::LIST | tag::TUPLE | tag::DICT => w.raw(blob),
            _ => w.text(blob),
        },
    }
}

/// The shortest two's complement of a little-endian one.
pub fn trim_big_int(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., before, last] = bytes {
        let extends = if before & 0x80 == 0 { 0 } else { 0xFF };
        if *last != extends {
            break;
        }
        bytes = &bytes[..rest.len() + 1];
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_have_one_form() {
        assert_eq!(text_cell(b"0"), (tag::DIGITS, Payload::Word(0)));
        assert_eq!(text_cell(b"007").0, tag::SHORT);
        assert_eq!(text_cell(b"9999999999999999999"), (tag::DIGITS, Payload::Word(MAX_DIGITS)));
        assert_eq!(text_cell(b"10000000000000000000").0, tag::TEXT);
        assert_eq!(text_cell(b"").0, tag::SHORT);
        assert_eq!(text_cell(b"REGULAR").0, tag::SHORT);
        assert_eq!(text_cell(b"CLOSED\0\0").0, tag::TEXT);
        assert_ne!(text_cell(b"a").1, text_cell(b"a\0").1);
    }

    #[test]
    fn surrogates_are_text_and_other_garbage_is_not() {
        assert!(is_text(b"\xED\xA0\x80\xED\xB0\x80 x"));
        assert!(is_text("é€😀".as_bytes()));
        for bad in [&b"\xC0\x80"[..], b"\xFF", b"\xED\xA0", b"\xF8\x88\x80\x80\x80"] {
            assert!(!is_text(bad));
        }
    }

    #[test]
    fn plain_form_round_trips() {
        let list = [2, tag::INT, 2, tag::NONE];
        let cells = [
            (tag::NONE, Payload::Word(0)),
            (tag::INT, Payload::Word(-5i64 as u64)),
            (tag::FLOAT, Payload::Word(1.5f64.to_bits())),
            text_cell(b"42"),
            text_cell(b"abc"),
            text_cell(b"a longer text"),
            (tag::LIST, Payload::Blob(&list)),
            (tag::UUID, Payload::Blob(&[7; 16])),
        ];
        for (tag, payload) in cells {
            let mut w = Writer::default();
            write_plain(&mut w, tag, payload);
            let mut r = Reader::new(&w.bytes);
            assert!(matches!(read_plain(&mut r, 0), Ok(read) if (read.0, read.1) == (tag, payload)));
            assert!(r.is_empty());
        }
    }

    #[test]
    fn what_is_not_canonical_is_corrupt() {
        assert!(check_blob(tag::TEXT, b"short", 0).is_err());
        assert!(check_blob(tag::TEXT, b"12345678", 0).is_err());
        assert!(check_blob(tag::BIG_INT, &[1, 0, 0, 0, 0, 0, 0, 0, 0], 0).is_err());
        assert!(check_blob(tag::BIG_INT, &[0, 0, 0, 0, 0, 0, 0, 0x80, 0], 0).is_ok());
        assert!(check_blob(tag::DICT, &[2, 1, b'a', 0, 1, b'a', 0], 0).is_err());
        assert_eq!(trim_big_int(&[5, 0, 0]), &[5]);
        assert_eq!(trim_big_int(&[0x80, 0, 0]), &[0x80, 0]);
        assert_eq!(trim_big_int(&[0xFF, 0xFF]), &[0xFF]);
        let mut deep = vec![0];
        for _ in 0..63 {
            deep = [&[1, tag::LIST][..], &deep].concat();
        }
        assert!(check_blob(tag::LIST, &deep, 0).is_ok());
        assert!(check_blob(tag::LIST, &deep, 1).is_err());
    }
}
