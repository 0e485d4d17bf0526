//! Blob streams: FORMAT.md section 8.3.

use std::cell::RefCell;
use std::collections::HashSet;

use crate::encoding::integers;
use crate::error::Result;
use crate::format::budget::{BLOB_ENTRY, Budget, PREFIX_ROW};
use crate::format::bytes::{BASE_VALUES, DICTIONARY, DIRECT};
use crate::format::fixed64::MAX_DICTIONARY;
use crate::format::reader::Reader;
use crate::format::value::{Tag, read_text_value, write_text_value};
use crate::format::writer::Writer;
use crate::state::id_map::IdMap;
use crate::state::schema::PathId;
use crate::state::table::Table;

/// The text of a frame while it is written; none if bytes payloads stand in the streams themselves.
pub(crate) type TextWriter<'a> = Option<&'a RefCell<Text>>;

#[derive(Default)]
pub(crate) struct Text {
    pub(crate) values: Writer,
    /// Since last asked, a stream named values of the base.
    pub(crate) with_base_values: bool,
}

/// Base rows that are looked at for each byte of text: what that saves is bounded by the text.
const LOOKS: usize = 16;
/// A flag for each id of the pool, up to so many for each look.
const POOL_A_LOOK: usize = 64;
/// Bytes that a value takes in the text which the prefix has, about.
const REPEATED: f64 = 4.0;

/// Every so many rows of the base, for so many bytes of text: few for few.
pub(crate) fn step_for(table: &Table, text: usize) -> usize {
    table.rows.len().div_ceil(LOOKS * text.max(1))
}

/// The distinct payloads of this tag that a column of the base has, in every `step`-th row.
fn base_values(table: &Table, path: PathId, tag: Tag, step: usize) -> Vec<u64> {
    let looks = table.rows.len().div_ceil(step);
    let ids = table.pool.mark();
    // few looks must not cost what the whole pool does
    let mut seen = vec![false; if looks * POOL_A_LOOK < ids { 0 } else { ids }];
    let mut seen_few = HashSet::new();
    let mut is_new = |id: u64| match seen.get_mut(id as usize) {
        Some(seen) => !std::mem::replace(seen, true),
        None => seen_few.insert(id),
    };
    let cells = table.rows.iter().step_by(step).filter_map(|row| {
        let position = table.schema.shapes[row.shape as usize].position(path)?;
        Some(row.cell(position)).filter(|cell| cell.tag == tag)
    });
    cells.map(|cell| cell.word).filter(|id| is_new(*id)).collect()
}

pub(crate) fn write(
    w: &mut Writer,
    text: TextWriter<'_>,
    tag: Tag,
    ids: &[u64],
    (table, path): (&Table, PathId),
) {
    let pool = &table.pool;
    let mut entries: Vec<u64> = Vec::new();
    let mut numbers: IdMap<u64, u64> = IdMap::default();
    let indices: Vec<u64> = ids
        .iter()
        .map(|id| {
            *numbers.entry(*id).or_insert_with(|| {
                entries.push(*id);
                entries.len() as u64 - 1
            })
        })
        .collect();
    if let Some(text) = text
        && write_with_base(w, text, tag, ids, &entries, (table, path))
    {
        text.borrow_mut().with_base_values = true;
        return;
    }
    if entries.len() <= MAX_DICTIONARY && entries.len() * 2 <= ids.len() {
        w.u8(DICTIONARY);
        w.size(entries.len());
        write_values(w, text, tag, entries.iter().map(|id| pool.get(*id)));
        integers::write(w, &indices);
    } else {
        w.u8(DIRECT);
        write_values(w, text, tag, ids.iter().map(|id| pool.get(*id)));
    }
}

/// Names the values that the base's column has by their numbers there, if that is cheaper.
fn write_with_base(
    w: &mut Writer,
    text: &RefCell<Text>,
    tag: Tag,
    ids: &[u64],
    entries: &[u64],
    (table, path): (&Table, PathId),
) -> bool {
    let bytes: usize = entries.iter().map(|id| table.pool.get(*id).len()).sum();
    let step = step_for(table, bytes);
    let known = base_values(table, path, tag, step);
    let mut numbers: IdMap<u64, u64> = known.iter().copied().zip(0..).collect();
    let new: Vec<u64> = entries.iter().copied().filter(|id| !numbers.contains_key(id)).collect();
    let hits = |all: &[u64]| all.iter().filter(|id| numbers.contains_key(id)).count() as f64;
    let index = |of: usize| ids.len() as f64 * (of.max(1) as f64).log2() / 8.0;
    let direct = REPEATED * hits(ids);
    let dictionary = REPEATED * hits(entries) + index(entries.len());
    if known.len() + new.len() > MAX_DICTIONARY || index(known.len() + new.len()) >= direct.min(dictionary) {
        return false;
    }
    numbers.extend(new.iter().copied().zip(known.len() as u64..));
    w.u8(BASE_VALUES);
    w.size(step);
    w.size(new.len());
    write_values(w, Some(text), tag, new.iter().map(|id| table.pool.get(*id)));
    integers::write(w, &ids.iter().map(|id| numbers[id]).collect::<Vec<u64>>());
    true
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
            let text = &mut text.borrow_mut().values;
            values.for_each(|value| write_text_value(text, tag, value));
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

/// The values of a stream: those that the base has, those that the frame brings, and for each cell the index of its
/// value in the two lists, one after the other.
pub(crate) struct BlobStream<'a> {
    pub(crate) known: Vec<u64>,
    pub(crate) entries: Vec<&'a [u8]>,
    pub(crate) indices: Vec<u64>,
}

pub(crate) fn read<'a>(
    r: &mut Reader<'a>,
    text: &mut Option<Reader<'a>>,
    tag: Tag,
    n: usize,
    (table, path, with_base_values): (&Table, PathId, bool),
    budget: &mut Budget,
) -> Result<BlobStream<'a>> {
    match r.u8()? {
        DIRECT => {
            let entries = read_values(r, text, tag, n)?;
            Ok(BlobStream { known: Vec::new(), entries, indices: (0..n as u64).collect() })
        }
        DICTIONARY => {
            let k = r.up_to(MAX_DICTIONARY, "entries")?;
            if k == 0 {
                return Err(r.corrupt("a dictionary has 1 to 65,536 entries"));
            }
            budget.charge(k as u64, BLOB_ENTRY, "entries of dictionaries")?;
            let entries = read_values(r, text, tag, k)?;
            let indices = read_indices(r, n, k)?;
            Ok(BlobStream { known: Vec::new(), entries, indices })
        }
        BASE_VALUES if !with_base_values => {
            Err(r.corrupt("values of the base that the column does not declare"))
        }
        BASE_VALUES => {
            let step = usize::try_from(r.uvarint()?).unwrap_or(usize::MAX);
            if step == 0 {
                return Err(r.corrupt("a step of 0"));
            }
            budget.charge(table.rows.len().div_ceil(step) as u64, PREFIX_ROW, "rows of the base")?;
            let known = base_values(table, path, tag, step);
            let k = r.up_to(MAX_DICTIONARY, "entries")?;
            let all = known.len() + k;
            budget.charge(all as u64, BLOB_ENTRY, "entries of dictionaries")?;
            let entries = read_values(r, text, tag, k)?;
            Ok(BlobStream { known, entries, indices: read_indices(r, n, all)? })
        }
        code => Err(r.reserved("encoding of a bytes stream", code)),
    }
}

fn read_indices(r: &mut Reader<'_>, n: usize, entries: usize) -> Result<Vec<u64>> {
    let indices = r.integers(n)?;
    if indices.iter().any(|i| *i >= entries as u64) {
        return Err(r.corrupt("an index is beyond its dictionary"));
    }
    Ok(indices)
}
