//! What a body holds, without its base.

use crate::error::Result;
use crate::format::budget::{Budget, KEY, MEMBER};
use crate::format::reader::Reader;
use crate::format::value::{is_text, tag};
use crate::format::{cells, fixed64, order, predictor, section};
use crate::frame::column_headers::{self, ColumnHeader};
use crate::frame::paths::{self, PathList};
use crate::frame::row_sets;
use crate::frame::sections::split;
use crate::frame::text::TextSection;
use crate::state::schema::ROOT;

#[derive(Debug, Default)]
pub(crate) struct BodySummary {
    pub(crate) base_rows: usize,
    pub(crate) removed: usize,
    pub(crate) added: usize,
    /// None if they are in the text, which takes the base.
    pub(crate) added_symbols: Option<Vec<Vec<u8>>>,
    pub(crate) reshaped: usize,
    /// Base rows with at least one updated cell or another shape.
    pub(crate) updated: usize,
    /// By base row, as far as it goes: which these are.
    pub(crate) changed_rows: Vec<bool>,
    /// The order or the text is predicted from a column, which takes every row's cell.
    pub(crate) needs_all_rows: bool,
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

const NAMES: [&str; section::LAST as usize + 1] =
    ["", "rows", "paths", "shapes", "row_sets", "sparse", "columns", "order", "text"];

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
    let names = PathNames(paths::read(part(section::PATHS), budget)?);
    let text = part(section::TEXT);
    let mut symbols_in_text = false;
    if !text.is_empty() {
        let text = TextSection::read(text, &vec![ROOT; names.0.paths.len()])?;
        symbols_in_text = text.symbols > 0;
        contents.needs_all_rows = text.parts.iter().any(|part| part.step > 0);
    }
    if symbols_in_text {
        let n = r.uvarint()?;
        budget.charge(n, KEY, "symbols")?;
        contents.added = n as usize;
    } else {
        contents.added = r.count("rows")?;
        budget.charge(contents.added as u64, KEY, "symbols")?;
        contents.added_symbols = Some(owned_texts(&r.strings(contents.added)?, &r)?);
    }
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
    let row_sets =
        if r.is_empty() { Vec::new() } else { row_sets::read(&mut r, contents.base_rows, &[], budget)? };
    let mut r = part(section::SPARSE);
    if !r.is_empty() {
        contents.sparse_updates = r.count("cells")?;
        let mut row = 0u64;
        for _ in 0..contents.sparse_updates {
            row = row.saturating_add(r.uvarint()?);
            mark_changed(row.min(contents.base_rows as u64) as u32);
        }
    }
    let headers = column_headers::read(part(section::COLUMNS), names.0.paths.len(), row_sets.len(), budget)?;
    for header in headers {
        contents.needs_all_rows |= header.with_base_values;
        if let Some(set) = header.updates {
            row_sets[set].iter().copied().for_each(&mut mark_changed);
        }
        contents.columns.push(column_info(header, &names, &row_sets, budget)?);
    }
    contents.updated = changed.iter().filter(|changed| **changed).count();
    contents.changed_rows = changed;
    let mut r = part(section::ORDER);
    if !r.is_empty() {
        let mode = r.u8()?;
        if mode > order::SORTED {
            return Err(r.reserved("mode of an order", mode));
        }
        if mode == order::SORTED {
            contents.needs_all_rows = true;
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

/// The names of a frame's paths.
struct PathNames<'a>(PathList<'a>);

impl PathNames<'_> {
    /// The keys that lead to a path.
    fn keys_of(&self, path_id: usize, budget: &mut Budget, r: &Reader<'_>) -> Result<Vec<Vec<u8>>> {
        if path_id >= self.0.paths.len() {
            return Err(r.corrupt("a column names a missing path"));
        }
        let mut at = path_id;
        let mut keys = Vec::new();
        while at != 0 {
            let (parent, key) = self.0.paths[at];
            let key = self.0.keys[key];
            budget.charge(1, KEY + 2 * key.len() as u64, "keys of columns")?;
            keys.push(key.to_vec());
            at = parent;
        }
        keys.reverse();
        Ok(keys)
    }

    fn name_of(&self, r: &mut Reader<'_>, budget: &mut Budget) -> Result<String> {
        let path_id = r.uvarint()?;
        let keys = self.keys_of(usize::try_from(path_id).unwrap_or(usize::MAX), budget, r)?;
        Ok(keys.iter().map(|key| String::from_utf8_lossy(key)).collect::<Vec<_>>().join("."))
    }
}

fn column_info(
    header: ColumnHeader<'_>,
    names: &PathNames<'_>,
    row_sets: &[Vec<u32>],
    budget: &mut Budget,
) -> Result<ColumnInfo> {
    let ColumnHeader { path_id, updates, has_inserts, mut contents, .. } = header;
    let bytes = contents.left();
    Ok(ColumnInfo {
        keys: names.keys_of(path_id, budget, &contents)?,
        updates: updates.map_or(0, |set| row_sets[set].len()),
        has_inserts,
        encoding: encoding_of(&mut contents, names, budget)?,
        bytes,
    })
}

/// The encoding of the first stream, in words.
fn encoding_of(r: &mut Reader<'_>, paths: &PathNames<'_>, budget: &mut Budget) -> Result<String> {
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
        code => return Err(r.reserved("encoding of a fixed64 stream", code)),
    })
}

fn predictor_of(r: &mut Reader<'_>, paths: &PathNames<'_>, budget: &mut Budget) -> Result<String> {
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
