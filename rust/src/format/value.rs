//! Cells: tags, canonical payloads and the inline encoding. FORMAT.md section 1.1.

use crate::error::{Error, Result};
use crate::format::MAX_DEPTH;
use crate::format::budget::{DICT, ITEM, weight_of};
use crate::format::datetime;
use crate::format::decimal;
use crate::format::reader::Reader;
pub(crate) use crate::format::tag::{Payload, PayloadForm, Tag, is_blob, payload_form, tag};
use crate::format::text::{MAX_DIGITS, SHORT_LENGTH, digits_word, short_word};
pub(crate) use crate::format::text::{is_text, short_text, text_cell};
use crate::format::writer::Writer;

/// True if values of this tag may have these words.
pub(crate) fn are_words(tag: Tag, words: &[u64]) -> bool {
    matches!(tag, tag::INT | tag::FLOAT) || words.iter().all(|word| is_word(tag, *word))
}

/// True if a value of this tag may have this word.
pub(crate) fn is_word(tag: Tag, word: u64) -> bool {
    match tag {
        tag::DIGITS => word <= MAX_DIGITS,
        tag::SHORT => {
            let (bytes, n) = short_text(word);
            n <= SHORT_LENGTH
                && bytes[n..7].iter().all(|b| *b == 0)
                && digits_word(&bytes[..n]).is_none()
                && is_text(&bytes[..n])
        }
        tag::DATE => datetime::is_date(word),
        tag::DATETIME | tag::DATETIME_UTC => word < datetime::DATETIME_END,
        _ => payload_form(tag) == PayloadForm::Fixed64 || word == 0,
    }
}

/// Checks that a blob is the canonical one of a value; `depth` is the nesting around it. Returns the weight
/// of its items, at any depth (FORMAT.md section 10).
pub(crate) fn check_blob(tag: Tag, blob: &[u8], depth: usize) -> Result<u64> {
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
        tag::DATETIME_ZONED => datetime::is_zoned_datetime(blob),
        tag::TIME => datetime::is_time(blob),
        tag::TIMEDELTA => datetime::is_timedelta(blob),
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
        return Err(r.corrupt("duplicate key"));
    }
    Ok(weight)
}

/// A value, and the weight of its items.
fn read_any<'a>(r: &mut Reader<'a>, depth: usize) -> Result<(Tag, Payload<'a>, u64)> {
    let start = r.offset();
    let tag = r.u8()?;
    let mut weight = 0;
    let payload = match tag {
        tag::NONE | tag::FALSE | tag::TRUE | tag::EMPTY => Payload::Fixed64(0),
        tag::INT => Payload::Fixed64(r.svarint()? as u64),
        tag::DIGITS | tag::DATE => Payload::Fixed64(r.uvarint()?),
        tag::FLOAT | tag::DATETIME | tag::DATETIME_UTC | tag::DECIMAL => {
            Payload::Fixed64(r.u64_highest_first()?)
        }
        tag::SHORT => {
            let n = r.up_to(SHORT_LENGTH, "length")?;
            Payload::Fixed64(short_word(r.raw(n)?))
        }
        tag::LIST | tag::TUPLE | tag::DICT => {
            let mut probe = r.clone();
            weight = read_container(&mut probe, tag, depth + 1)?;
            Payload::Bytes(r.raw(probe.offset() - r.offset())?)
        }
        _ => {
            let blob = r.text()?;
            if !leaf_blob_is_canonical(tag, blob) {
                return Err(Error::corrupt_at(start, "a value is not in its canonical form"));
            }
            weight = weight_of(tag);
            Payload::Bytes(blob)
        }
    };
    if let Payload::Fixed64(word) = payload
        && !is_word(tag, word)
    {
        return Err(Error::corrupt_at(start, "a value is not in its canonical form"));
    }
    Ok((tag, payload, weight))
}

/// The length of a tag's payloads, if it is fixed.
fn fixed_length(tag: Tag) -> Option<usize> {
    match tag {
        tag::TIMEDELTA => Some(12),
        tag::UUID => Some(16),
        _ => None,
    }
}

/// A bytes payload in the text of a frame, or in the prefix of it: FORMAT.md section 8.5.
pub(crate) fn write_text_value(text: &mut Writer, tag: Tag, payload: &[u8]) {
    if fixed_length(tag).is_none() {
        text.size(payload.len());
    }
    text.raw(payload);
}

pub(crate) fn read_text_value<'a>(text: &mut Reader<'a>, tag: Tag) -> Result<&'a [u8]> {
    match fixed_length(tag) {
        Some(length) => text.raw(length),
        None => text.text(),
    }
}

/// Reads a cell of SPARSE whose bytes payload is in the frame's text.
pub(crate) fn read_cell<'a>(
    r: &mut Reader<'a>,
    text: &mut Reader<'a>,
    depth: usize,
) -> Result<(Tag, Payload<'a>, u64)> {
    match r.clone().u8()? {
        tag if is_blob(tag) => {
            r.u8()?;
            let payload = read_text_value(text, tag)?;
            Ok((tag, Payload::Bytes(payload), check_blob(tag, payload, depth)?))
        }
        _ => read_inline(r, depth),
    }
}

/// Reads a cell in inline encoding; `depth` is the nesting around it. The last number is the weight of its items.
pub(crate) fn read_inline<'a>(r: &mut Reader<'a>, depth: usize) -> Result<(Tag, Payload<'a>, u64)> {
    let (tag, payload, weight) = read_any(r, depth)?;
    if tag >= tag::CELL_TAGS {
        return Err(r.corrupt("a dict cannot be a cell"));
    }
    Ok((tag, payload, weight))
}

/// Reads a value inside a list, tuple or dict whose bytes were checked before.
pub(crate) fn read_item<'a>(r: &mut Reader<'a>) -> Result<(Tag, Payload<'a>)> {
    let (tag, payload, _) = read_any(r, 0)?;
    Ok((tag, payload))
}

pub(crate) fn write_inline(w: &mut Writer, tag: Tag, payload: Payload<'_>) {
    w.u8(tag);
    match payload {
        Payload::Fixed64(word) => match tag {
            tag::INT => w.svarint(word as i64),
            tag::DIGITS | tag::DATE => w.uvarint(word),
            tag::SHORT => {
                let (bytes, n) = short_text(word);
                w.u8(n as u8);
                w.raw(&bytes[..n]);
            }
            _ if payload_form(tag) == PayloadForm::Fixed64 => w.u64_highest_first(word),
            _ => {}
        },
        Payload::Bytes(blob) => match tag {
            tag::LIST | tag::TUPLE | tag::DICT => w.raw(blob),
            _ => w.text(blob),
        },
    }
}

/// The shortest form of a little-endian two's complement.
pub(crate) fn trim_big_int(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., before, last] = bytes {
        let extends = if before & 0x80 == 0 { 0 } else { 0xFF };
        if *last != extends {
            break;
        }
        bytes = &bytes[..=rest.len()];
    }
    bytes
}

/// The number of a BIG_INT payload; None beyond 128 bits.
pub(crate) fn big_int(bytes: &[u8]) -> Option<i128> {
    let negative = bytes.last()? & 0x80 != 0;
    let mut extended = [if negative { 0xFF } else { 0 }; 16];
    extended.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i128::from_le_bytes(extended))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_have_one_form() {
        assert_eq!(text_cell(b"0"), (tag::DIGITS, Payload::Fixed64(0)));
        assert_eq!(text_cell(b"007").0, tag::SHORT);
        assert_eq!(text_cell(b"9999999999999999999"), (tag::DIGITS, Payload::Fixed64(MAX_DIGITS)));
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
            (tag::NONE, Payload::Fixed64(0)),
            (tag::INT, Payload::Fixed64(-5i64 as u64)),
            (tag::FLOAT, Payload::Fixed64(1.5f64.to_bits())),
            text_cell(b"42"),
            text_cell(b"abc"),
            text_cell(b"a longer text"),
            (tag::LIST, Payload::Bytes(&list)),
            (tag::UUID, Payload::Bytes(&[7; 16])),
        ];
        for (tag, payload) in cells {
            let mut w = Writer::default();
            write_inline(&mut w, tag, payload);
            let mut r = Reader::new(&w.bytes);
            assert!(matches!(read_inline(&mut r, 0), Ok(read) if (read.0, read.1) == (tag, payload)));
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
