//! The headers of the columns of COLUMNS: FORMAT.md section 8.

use std::collections::HashSet;

use crate::error::Result;
use crate::format::budget::{Budget, COLUMN};
use crate::format::column_flag::{BASE_VALUES, INSERTS, UPDATES};
use crate::format::reader::Reader;

/// One column before its cells are read.
pub(crate) struct ColumnHeader<'a> {
    pub(crate) path_id: usize,
    /// Index of the row set of its updates.
    pub(crate) updates: Option<usize>,
    pub(crate) has_inserts: bool,
    /// It names values of any row of the base.
    pub(crate) with_base_values: bool,
    pub(crate) contents: Reader<'a>,
}

/// Reads all headers of a frame with so many path ids and row sets.
pub(crate) fn read<'a>(
    mut r: Reader<'a>,
    path_ids: usize,
    row_sets: usize,
    budget: &mut Budget,
) -> Result<Vec<ColumnHeader<'a>>> {
    let mut headers = Vec::new();
    if r.is_empty() {
        return Ok(headers);
    }
    let n = r.count("columns")?;
    budget.charge(n as u64, COLUMN, "columns")?;
    let mut id = -1i64;
    let mut seen = HashSet::new();
    for _ in 0..n {
        id = id.wrapping_add(r.svarint()?).wrapping_add(1);
        let Some(path_id) = usize::try_from(id).ok().filter(|id| *id < path_ids) else {
            return Err(r.corrupt("a column names a missing path"));
        };
        if !seen.insert(path_id) {
            return Err(r.corrupt("duplicate column"));
        }
        let flags = r.u8()?;
        if flags & (UPDATES | INSERTS) == 0 || flags > UPDATES + INSERTS + BASE_VALUES {
            return Err(r.reserved("flags of a column", flags));
        }
        let updates = match flags & UPDATES {
            0 => None,
            _ => {
                let set = r.up_to(row_sets, "row set")?;
                Some(set.checked_sub(1).ok_or_else(|| r.corrupt("a column's updates name no row set"))?)
            }
        };
        let length = r.count("bytes")?;
        let contents = r.part(length)?;
        headers.push(ColumnHeader {
            path_id,
            updates,
            has_inserts: flags & INSERTS != 0,
            with_base_values: flags & BASE_VALUES != 0,
            contents,
        });
    }
    r.finish()?;
    Ok(headers)
}
