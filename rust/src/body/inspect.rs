//! What a body holds, without its base.

use super::split;
use crate::error::Result;
use crate::format::reader::Reader;
use crate::format::value::tag;
use crate::format::{cells, column_flag, predictor, section, words};

#[derive(Debug, Default)]
pub struct Contents {
    pub base_rows: usize,
    pub removed: usize,
    pub added: Vec<Vec<u8>>,
    pub reshaped: usize,
    /// Base rows with at least one updated cell or another shape.
    pub changed: usize,
    /// By base row, as far as it goes: which these are.
    pub touched: Vec<bool>,
    /// The order is predicted from a column, which takes every row's cell.
    pub sorted: bool,
    pub moved: usize,
    pub columns: Vec<ColumnInfo>,
    pub loose_updates: usize,
    /// Bytes of each section before zstd.
    pub sections: Vec<(&'static str, usize)>,
}

#[derive(Debug)]
pub struct ColumnInfo {
    pub keys: Vec<Vec<u8>>,
    pub updates: usize,
    pub has_inserts: bool,
    pub encoding: String,
    /// Before zstd.
    pub bytes: usize,
}

const NAMES: [&str; 8] = ["", "rows", "paths", "shapes", "sets", "loose", "columns", "order"];

pub fn inspect(body: &[u8]) -> Result<Contents> {
    let mut parts = split(body)?;
    let mut contents = Contents::default();
    for (id, part) in parts.iter().enumerate() {
        if let Some(part) = part {
            contents.sections.push((NAMES[id], part.left()));
        }
    }
    let mut part = |id: u8| parts[usize::from(id)].take().unwrap_or_else(|| Reader::new(&[]));
    let mut r = part(section::ROWS);
    contents.base_rows = r.uv()? as usize;
    contents.removed = r.counted_gaps(contents.base_rows)?.len();
    let n = r.count("rows")?;
    contents.added = r.strings(n)?.into_iter().map(<[u8]>::to_vec).collect();
    let paths = read_paths(part(section::PATHS))?;
    let mut changed: Vec<bool> = Vec::new();
    let mut mark = |row: u32| {
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
                r.sv()?;
            }
        }
        let rows = r.counted_gaps(contents.base_rows)?;
        contents.reshaped = rows.len();
        rows.into_iter().for_each(&mut mark);
    }
    let sets = read_sets(part(section::SETS), contents.base_rows)?;
    let mut r = part(section::LOOSE);
    if !r.is_empty() {
        contents.loose_updates = r.count("cells")?;
        let mut row = 0u64;
        for _ in 0..contents.loose_updates {
            row = row.saturating_add(r.uv()?);
            mark(row.min(contents.base_rows as u64) as u32);
        }
    }
    let mut r = part(section::COLUMNS);
    if !r.is_empty() {
        let mut node = -1i64;
        for _ in 0..r.count("columns")? {
            contents.columns.push(read_column(&mut r, &mut node, &paths, &sets, &mut mark)?);
        }
    }
    contents.changed = changed.iter().filter(|changed| **changed).count();
    contents.touched = changed;
    let mut r = part(section::ORDER);
    if !r.is_empty() {
        contents.sorted = r.u8()? != 0;
        if contents.sorted {
            r.uv()?;
            r.u8()?;
        }
        contents.moved = r.count("moves")?;
    }
    Ok(contents)
}

/// The base rows that must be known to read the body; None if all must.
pub fn touched_rows(body: &[u8]) -> Result<Option<Vec<bool>>> {
    let contents = inspect(body)?;
    Ok((!contents.sorted).then_some(contents.touched))
}

fn read_paths(mut r: Reader<'_>) -> Result<Vec<Vec<Vec<u8>>>> {
    let mut paths: Vec<Vec<Vec<u8>>> = vec![Vec::new()];
    if r.is_empty() {
        return Ok(paths);
    }
    let n = r.count("keys")?;
    let keys = r.strings(n)?;
    let (mut parent, mut key) = (0i64, -1i64);
    for _ in 0..r.count("paths")? {
        parent = parent.wrapping_add(r.sv()?);
        key = key.wrapping_add(r.sv()?).wrapping_add(1);
        let above = usize::try_from(parent).ok().and_then(|p| paths.get(p));
        let bytes = usize::try_from(key).ok().and_then(|k| keys.get(k));
        let (Some(above), Some(bytes)) = (above, bytes) else {
            return Err(r.corrupt("a path names a parent or key that is not there"));
        };
        if above.len() >= crate::format::MAX_DEPTH {
            return Err(r.corrupt("nested too deep"));
        }
        let mut path = above.clone();
        path.push(bytes.to_vec());
        paths.push(path);
    }
    Ok(paths)
}

fn read_sets(mut r: Reader<'_>, base_rows: usize) -> Result<Vec<Vec<u32>>> {
    if r.is_empty() {
        return Ok(Vec::new());
    }
    let limit = crate::format::limits::DEFAULT_MAX_BYTES;
    let mut budget = crate::format::limits::Budget::new(limit);
    budget.charge(base_rows as u64, crate::format::limits::MEMBER, "rows")?;
    crate::sets::read(&mut r, base_rows, &[], &mut budget)
}

fn read_column(
    r: &mut Reader<'_>,
    node: &mut i64,
    paths: &[Vec<Vec<u8>>],
    sets: &[Vec<u32>],
    mark: &mut impl FnMut(u32),
) -> Result<ColumnInfo> {
    *node = node.wrapping_add(r.sv()?).wrapping_add(1);
    let Some(keys) = usize::try_from(*node).ok().and_then(|node| paths.get(node)) else {
        return Err(r.corrupt("a column's path is not there"));
    };
    let flags = r.u8()?;
    let mut updates = 0;
    if flags & column_flag::UPDATES != 0 {
        let set = r.up_to(sets.len(), "row set")?;
        let Some(rows) = set.checked_sub(1).map(|set| &sets[set]) else {
            return Err(r.corrupt("updates without a row set"));
        };
        updates = rows.len();
        rows.iter().copied().for_each(mark);
    }
    let length = r.count("bytes")?;
    let mut contents = r.part(length)?;
    Ok(ColumnInfo {
        keys: keys.clone(),
        updates,
        has_inserts: flags & column_flag::INSERTS != 0,
        encoding: encoding_of(&mut contents, paths)?,
        bytes: length,
    })
}

fn other(paths: &[Vec<Vec<u8>>], node: u64) -> String {
    let keys = usize::try_from(node).ok().and_then(|node| paths.get(node));
    let keys = keys.map(|keys| keys.iter().map(|key| String::from_utf8_lossy(key)).collect::<Vec<_>>());
    keys.map_or_else(|| "?".into(), |keys| keys.join("."))
}

/// The coding of the first stream, in words.
fn encoding_of(r: &mut Reader<'_>, paths: &[Vec<Vec<u8>>]) -> Result<String> {
    let first = r.u8()?;
    if first == cells::COPY {
        let node = r.uv()?;
        return Ok(format!("copy of {}", other(paths, node)));
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
        words::CONSTANT => "constant".into(),
        words::DICTIONARY => "dictionary".into(),
        words::RESIDUALS => format!("residuals from {}", predictor_of(r, paths)?),
        words::DECIMALS => {
            let exponent = r.u8()?;
            let exceptions = r.counted_gaps(u32::MAX as usize)?;
            r.planes(exceptions.len())?;
            format!("decimals with {exponent} places from {}", predictor_of(r, paths)?)
        }
        code => return Err(r.reserved("coding of words", code)),
    })
}

fn predictor_of(r: &mut Reader<'_>, paths: &[Vec<Vec<u8>>]) -> Result<String> {
    Ok(match r.u8()? {
        predictor::ZERO => "zero".into(),
        predictor::OLD => "the old value".into(),
        predictor::BEFORE => "the value before".into(),
        predictor::REFERENCE => "a reference".into(),
        predictor::OTHER => other(paths, r.uv()?),
        predictor::OTHER_CHANGE => format!("the change of {}", other(paths, r.uv()?)),
        predictor::FORMULA => {
            let operation = r.u8()?;
            format!("operation {operation} on {} and {}", other(paths, r.uv()?), other(paths, r.uv()?))
        }
        predictor::LARGER => format!("the larger of {} and {}", other(paths, r.uv()?), other(paths, r.uv()?)),
        code => return Err(r.reserved("predictor", code)),
    })
}
