//! What a body holds, without its base.

use crate::error::Result;
use crate::format::budget::{Budget, COLUMN, KEY, MEMBER, NODE};
use crate::format::reader::Reader;
use crate::format::value::{is_text, tag};
use crate::format::{cells, column_flag, fixed64, order, predictor, section};
use crate::frame::sections::split;

#[derive(Debug, Default)]
pub(crate) struct BodySummary {
    pub(crate) base_rows: usize,
    pub(crate) removed: usize,
    pub(crate) added: Vec<Vec<u8>>,
    pub(crate) reshaped: usize,
    /// Base rows with at least one updated cell or another shape.
    pub(crate) updated: usize,
    /// By base row, as far as it goes: which these are.
    pub(crate) changed_rows: Vec<bool>,
    /// The order is predicted from a column, which takes every row's cell.
    pub(crate) sorted: bool,
    pub(crate) moved: usize,
    pub(crate) columns: Vec<ColumnInfo>,
    pub(crate) sparse_updates: usize,
    /// Bytes of each section before zstd.
    pub(crate) sections: Vec<(&'static str, usize)>,
}

#[derive(Debug)]
pub(crate) struct ColumnInfo {
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) updates: usize,
    pub(crate) has_inserts: bool,
    pub(crate) encoding: String,
    /// Before zstd.
    pub(crate) bytes: usize,
}

const NAMES: [&str; 8] = ["", "rows", "paths", "shapes", "row_sets", "sparse", "columns", "order"];

pub(crate) fn inspect(body: &[u8], budget: &mut Budget) -> Result<BodySummary> {
    let mut parts = split(body)?;
    let mut contents = BodySummary::default();
    for (id, part) in parts.iter().enumerate() {
        if let Some(part) = part {
            contents.sections.push((NAMES[id], part.left()));
        }
    }
    let mut part = |id: u8| parts[usize::from(id)].take().unwrap_or_else(|| Reader::new(&[]));
    let mut r = part(section::ROWS);
    let base_rows = r.uvarint()?;
    budget.charge(base_rows, MEMBER, "rows")?;
    contents.base_rows = base_rows as usize;
    contents.removed = r.counted_gaps(contents.base_rows)?.len();
    let n = r.count("rows")?;
    budget.charge(n as u64, KEY, "symbols")?;
    contents.added = owned_texts(&r.strings(n)?, &r)?;
    let paths = Paths::read(part(section::PATHS), budget)?;
    let mut changed: Vec<bool> = Vec::new();
    let mut mark_changed = |row: u32| {
        let at = row as usize;
        if changed.len() <= at {
            changed.resize(at + 1, false);
        }
        changed[at] = true;
    };
    let mut r = part(section::SHAPES);
    if !r.is_empty() {
        for _ in 0..r.count("shapes")? {
            for _ in 0..r.count("paths")? {
                r.svarint()?;
            }
        }
        let rows = r.counted_gaps(contents.base_rows)?;
        contents.reshaped = rows.len();
        rows.into_iter().for_each(&mut mark_changed);
    }
    let mut r = part(section::ROW_SETS);
    let sets = if r.is_empty() {
        Vec::new()
    } else {
        crate::frame::row_sets::read(&mut r, contents.base_rows, &[], budget)?
    };
    let mut r = part(section::SPARSE);
    if !r.is_empty() {
        contents.sparse_updates = r.count("cells")?;
        let mut row = 0u64;
        for _ in 0..contents.sparse_updates {
            row = row.saturating_add(r.uvarint()?);
            mark_changed(row.min(contents.base_rows as u64) as u32);
        }
    }
    let mut r = part(section::COLUMNS);
    if !r.is_empty() {
        let mut frame_path = -1i64;
        for _ in 0..r.count("columns")? {
            contents.columns.push(read_column(
                &mut r,
                &mut frame_path,
                &paths,
                &sets,
                &mut mark_changed,
                budget,
            )?);
        }
    }
    contents.updated = changed.iter().filter(|changed| **changed).count();
    contents.changed_rows = changed;
    let mut r = part(section::ORDER);
    if !r.is_empty() {
        let mode = r.u8()?;
        if mode > order::SORTED {
            return Err(r.reserved("mode of an order", mode));
        }
        contents.sorted = mode == order::SORTED;
        if contents.sorted {
            r.uvarint()?;
            r.u8()?;
        }
        contents.moved = r.count("moves")?;
    }
    Ok(contents)
}

fn owned_texts(texts: &[&[u8]], r: &Reader<'_>) -> Result<Vec<Vec<u8>>> {
    if !texts.iter().all(|text| is_text(text)) {
        return Err(r.corrupt("a name is not UTF-8"));
    }
    Ok(texts.iter().map(|text| text.to_vec()).collect())
}

/// The paths of a frame; a node is its parent and its key.
struct Paths {
    keys: Vec<Vec<u8>>,
    frame_paths: Vec<(usize, usize)>,
}

impl Paths {
    fn read(mut r: Reader<'_>, budget: &mut Budget) -> Result<Paths> {
        let mut paths = Paths { keys: Vec::new(), frame_paths: vec![(0, 0)] };
        if r.is_empty() {
            return Ok(paths);
        }
        let n = r.count("keys")?;
        budget.charge(n as u64, KEY, "keys")?;
        paths.keys = owned_texts(&r.strings(n)?, &r)?;
        let (mut parent, mut key) = (0i64, -1i64);
        let n = r.count("paths")?;
        budget.charge(n as u64, NODE, "paths")?;
        for _ in 0..n {
            parent = parent.wrapping_add(r.svarint()?);
            key = key.wrapping_add(r.svarint()?).wrapping_add(1);
            let above = usize::try_from(parent).ok().filter(|p| *p < paths.frame_paths.len());
            let known = usize::try_from(key).ok().filter(|k| *k < paths.keys.len());
            let (Some(above), Some(known)) = (above, known) else {
                return Err(r.corrupt("a path names a parent or key that is not there"));
            };
            paths.frame_paths.push((above, known));
        }
        Ok(paths)
    }

    /// The keys that lead to a node.
    fn keys_of(&self, frame_path: i64, budget: &mut Budget, r: &Reader<'_>) -> Result<Vec<Vec<u8>>> {
        let mut at = match usize::try_from(frame_path) {
            Ok(frame_path) if frame_path < self.frame_paths.len() => frame_path,
            _ => return Err(r.corrupt("a column's path is not there")),
        };
        let mut keys = Vec::new();
        while at != 0 {
            let (parent, key) = self.frame_paths[at];
            budget.charge(1, KEY + 2 * self.keys[key].len() as u64, "keys of columns")?;
            keys.push(self.keys[key].clone());
            at = parent;
        }
        keys.reverse();
        Ok(keys)
    }

    fn name_of(&self, r: &mut Reader<'_>, budget: &mut Budget) -> Result<String> {
        let frame_path = r.uvarint()?;
        let keys = self.keys_of(i64::try_from(frame_path).unwrap_or(-1), budget, r)?;
        Ok(keys.iter().map(|key| String::from_utf8_lossy(key)).collect::<Vec<_>>().join("."))
    }
}

fn read_column(
    r: &mut Reader<'_>,
    frame_path: &mut i64,
    paths: &Paths,
    sets: &[Vec<u32>],
    mark_changed: &mut impl FnMut(u32),
    budget: &mut Budget,
) -> Result<ColumnInfo> {
    *frame_path = frame_path.wrapping_add(r.svarint()?).wrapping_add(1);
    budget.charge(1, COLUMN, "columns")?;
    let keys = paths.keys_of(*frame_path, budget, r)?;
    let flags = r.u8()?;
    if flags == 0 || flags > column_flag::UPDATES + column_flag::INSERTS {
        return Err(r.reserved("flags of a column", flags));
    }
    let mut updates = 0;
    if flags & column_flag::UPDATES != 0 {
        let set = r.up_to(sets.len(), "row set")?;
        let Some(rows) = set.checked_sub(1).map(|set| &sets[set]) else {
            return Err(r.corrupt("updates without a row set"));
        };
        updates = rows.len();
        rows.iter().copied().for_each(mark_changed);
    }
    let length = r.count("bytes")?;
    let mut contents = r.part(length)?;
    Ok(ColumnInfo {
        keys,
        updates,
        has_inserts: flags & column_flag::INSERTS != 0,
        encoding: encoding_of(&mut contents, paths, budget)?,
        bytes: length,
    })
}

/// The coding of the first stream, in words.
fn encoding_of(r: &mut Reader<'_>, paths: &Paths, budget: &mut Budget) -> Result<String> {
    let first = r.u8()?;
    if first == cells::COPY {
        return Ok(format!("copy of {}", paths.name_of(r, budget)?));
    }
    if first == cells::MIXED {
        return Ok("mixed".into());
    }
    if !matches!(
        first,
        tag::INT
            | tag::FLOAT
            | tag::DIGITS
            | tag::SHORT
            | tag::DATE
            | tag::DATETIME
            | tag::DATETIME_UTC
            | tag::DECIMAL
    ) {
        return Ok(if first <= tag::EMPTY { "constant" } else { "blobs" }.into());
    }
    Ok(match r.u8()? {
        fixed64::CONSTANT => "constant".into(),
        fixed64::DICTIONARY => "dictionary".into(),
        fixed64::RESIDUALS => format!("residuals from {}", predictor_of(r, paths, budget)?),
        fixed64::DECIMALS => {
            let exponent = r.u8()?;
            let exceptions = r.counted_gaps(u32::MAX as usize)?;
            r.byte_planes(exceptions.len())?;
            format!("decimals with {exponent} places from {}", predictor_of(r, paths, budget)?)
        }
        code => return Err(r.reserved("coding of words", code)),
    })
}

fn predictor_of(r: &mut Reader<'_>, paths: &Paths, budget: &mut Budget) -> Result<String> {
    let mut other = |r: &mut Reader<'_>| paths.name_of(r, budget);
    Ok(match r.u8()? {
        predictor::ZERO => "zero".into(),
        predictor::BASE => "the base value".into(),
        predictor::PREVIOUS => "the previous value".into(),
        predictor::REFERENCE => "a reference value".into(),
        predictor::COLUMN => other(r)?,
        predictor::COLUMN_CHANGE => format!("the change of {}", other(r)?),
        predictor::FORMULA => {
            let operation = r.u8()?;
            format!("operation {operation} on {} and {}", other(r)?, other(r)?)
        }
        predictor::MAX => format!("the maximum of {} and {}", other(r)?, other(r)?),
        code => return Err(r.reserved("predictor", code)),
    })
}
