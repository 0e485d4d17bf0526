//! Blob streams: FORMAT.md section 8.3.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::error::Result;
use crate::format::budget::{BLOB_ENTRY, Budget};
use crate::format::bytes::{DICTIONARY, DIRECT};
use crate::format::fixed64::MAX_DICTIONARY;
use crate::format::reader::Reader;
use crate::format::value::{Tag, read_text_value, write_text_value};
use crate::format::writer::Writer;
use crate::state::blob_pool::BlobPool;

/// The text of a frame while it is written; none if bytes payloads stand in the streams themselves.
pub(crate) type TextWriter<'a> = Option<&'a RefCell<Writer>>;

pub(crate) fn write(w: &mut Writer, text: TextWriter<'_>, tag: Tag, ids: &[u64], pool: &BlobPool) {
    let mut entries: Vec<u64> = Vec::new();
    let mut numbers: HashMap<u64, u64> = HashMap::new();
    let indices: Vec<u64> = ids
        .iter()
        .map(|id| {
            *numbers.entry(*id).or_insert_with(|| {
                entries.push(*id);
                entries.len() as u64 - 1
            })
        })
        .collect();
    if entries.len() <= MAX_DICTIONARY && entries.len() * 2 <= ids.len() {
        w.u8(DICTIONARY);
        w.size(entries.len());
        write_values(w, text, tag, entries.iter().map(|id| pool.get(*id)));
        w.byte_planes(&indices);
    } else {
        w.u8(DIRECT);
        write_values(w, text, tag, ids.iter().map(|id| pool.get(*id)));
    }
}

fn write_values<'a>(
    w: &mut Writer,
    text: TextWriter<'_>,
    tag: Tag,
    values: impl Iterator<Item = &'a [u8]> + Clone,
) {
    match text {
        None => w.strings(values),
        Some(text) => {
            let mut text = text.borrow_mut();
            values.for_each(|value| write_text_value(&mut text, tag, value));
        }
    }
}

fn read_values<'a>(
    r: &mut Reader<'a>,
    text: &mut Option<Reader<'a>>,
    tag: Tag,
    n: usize,
) -> Result<Vec<&'a [u8]>> {
    match text {
        None => r.strings(n),
        Some(text) if n > text.left() => Err(text.corrupt("the text ends too early")),
        Some(text) => (0..n).map(|_| read_text_value(text, tag)).collect(),
    }
}

/// Distinct or direct entries, and for each cell its entry.
pub(crate) fn read<'a>(
    r: &mut Reader<'a>,
    text: &mut Option<Reader<'a>>,
    tag: Tag,
    n: usize,
    budget: &mut Budget,
) -> Result<(Vec<&'a [u8]>, Vec<u64>)> {
    match r.u8()? {
        DIRECT => Ok((read_values(r, text, tag, n)?, (0..n as u64).collect())),
        DICTIONARY => {
            let k = r.up_to(MAX_DICTIONARY, "entries")?;
            if k == 0 {
                return Err(r.corrupt("a dictionary has 1 to 65,536 entries"));
            }
            budget.charge(k as u64, BLOB_ENTRY, "entries of dictionaries")?;
            let entries = read_values(r, text, tag, k)?;
            let indices = r.byte_planes(n)?;
            if indices.iter().any(|i| *i >= k as u64) {
                return Err(r.corrupt("an index is beyond its dictionary"));
            }
            Ok((entries, indices))
        }
        code => Err(r.reserved("encoding of a bytes stream", code)),
    }
}
