//! Blob streams: FORMAT.md section 8.3.

use std::collections::HashMap;

use crate::encoding::integers;
use crate::error::Result;
use crate::format::budget::{BLOB_ENTRY, Budget};
use crate::format::bytes::{DICTIONARY, DIRECT};
use crate::format::fixed64::MAX_DICTIONARY;
use crate::format::reader::Reader;
use crate::format::writer::Writer;
use crate::state::blob_pool::BlobPool;

pub(crate) fn write(w: &mut Writer, ids: &[u64], pool: &BlobPool) {
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
        w.strings(entries.iter().map(|id| pool.get(*id)));
        integers::write(w, &indices);
    } else {
        w.u8(DIRECT);
        w.strings(ids.iter().map(|id| pool.get(*id)));
    }
}

/// Distinct or direct entries, and for each cell its entry.
pub(crate) fn read<'a>(
    r: &mut Reader<'a>,
    n: usize,
    budget: &mut Budget,
) -> Result<(Vec<&'a [u8]>, Vec<u64>)> {
    match r.u8()? {
        DIRECT => Ok((r.strings(n)?, (0..n as u64).collect())),
        DICTIONARY => {
            let k = r.count("entries")?;
            if k == 0 || k > MAX_DICTIONARY {
                return Err(r.corrupt("a dictionary has 1 to 65,536 entries"));
            }
            budget.charge(k as u64, BLOB_ENTRY, "entries of dictionaries")?;
            let entries = r.strings(k)?;
            let indices = r.integers(n)?;
            if indices.iter().any(|i| *i >= k as u64) {
                return Err(r.corrupt("an index is beyond its dictionary"));
            }
            Ok((entries, indices))
        }
        code => Err(r.reserved("encoding of a bytes stream", code)),
    }
}
