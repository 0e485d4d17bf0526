//! What a body holds. The names of its columns are told where its base is known.

use std::collections::BTreeSet;

use crate::encoding::formula::Operation;
use crate::error::{Result, text_of_keys};
use crate::format::budget::{Budget, KEY, ROW};
use crate::format::entropy::EntropyReader;
use crate::format::number::{Form, Scale};
use crate::format::reader::Reader;
use crate::format::value::{is_text, tag};
use crate::format::{cells, fixed64, numbers, order, predictor, section};
use crate::frame::column_headers::{self, ColumnHeader};
use crate::frame::paths::{FrameSchema, NewPaths};
use crate::frame::row_set_reader;
use crate::frame::sections::split;
use crate::frame::shapes::ShapeList;
use crate::frame::text::symbols_in_text;
use crate::state::table::Table;

#[derive(Debug, Default)]
pub(crate) struct BodySummary {
    pub(crate) base_rows: usize,
    pub(crate) removed: usize,
    pub(crate) added: usize,
    /// None if they are in the text, which takes the base to read.
    pub(crate) added_symbols: Option<Vec<Vec<u8>>>,
    pub(crate) reshaped: usize,
    /// Base rows with at least one updated cell or another shape.
    pub(crate) updated: usize,
    /// By base row, as far as it goes: which these are.
    pub(crate) changed_rows: Vec<bool>,

    pub(crate) moved: usize,
    pub(crate) columns: Vec<ColumnInfo>,
    pub(crate) sparse_updates: usize,
    /// Bytes of each section before zstd.
    pub(crate) sections: Vec<(&'static str, usize)>,
}

#[derive(Debug)]
pub(crate) struct ColumnInfo {
    pub(crate) path_id: usize,
    /// The keys that lead to it, where the base is known.
    pub(crate) keys: Option<Vec<Vec<u8>>>,
    pub(crate) updates: usize,
    pub(crate) has_inserts: bool,
    pub(crate) encoding: String,
    /// Before zstd.
    pub(crate) bytes: usize,
}

const NAMES: [&str; section::LAST as usize + 1] =
    ["", "rows", "paths", "shapes", "row_sets", "sparse", "columns", "order", "text", "entropy"];

/// A body made from so many rows; `base` is the state that they are of, where it is known.
pub(crate) fn inspect(
    body: &[u8],
    base_rows: usize,
    base: Option<&Table>,
    budget: &mut Budget,
) -> Result<BodySummary> {
    let mut parts = split(body)?;
    let mut contents = BodySummary::default();
    for (id, part) in parts.iter().enumerate() {
        if let Some(part) = part {
            contents.sections.push((NAMES[id], part.left()));
        }
    }
    let mut part = |id: u8| parts[usize::from(id)].take().unwrap_or_else(|| Reader::new(&[]));
    let mut r = part(section::ROWS);
    budget.charge(base_rows as u64, ROW, "rows")?;
    contents.base_rows = base_rows;
    let symbols_in_text = symbols_in_text(&part(section::TEXT));
    if !r.is_empty() {
        contents.removed = r.counted_gaps(base_rows)?.len();
        let n = if symbols_in_text { r.uvarint()? } else { r.count("rows")? as u64 };
        budget.charge(n, KEY, "symbols")?;
        contents.added = n as usize;
    }
    if !symbols_in_text {
        contents.added_symbols = Some(owned_texts(&r.strings(contents.added)?, &r)?);
    }
    let nothing = Table::default();
    let base = if contents.base_rows == 0 { Some(&nothing) } else { base };
    let names = match base {
        Some(base) => Some(PathNames::read(part(section::PATHS), base, budget)?),
        None => None,
    };
    let mut changed: Vec<bool> = Vec::new();
    let mut mark_changed = |row: u32| {
        let at = row as usize;
        if changed.len() <= at {
            changed.resize(at + 1, false);
        }
        changed[at] = true;
    };
    let r = part(section::SHAPES);
    let shapes = ShapeList::read(r, contents.base_rows, contents.added, None, budget)?;
    contents.reshaped = shapes.reshaped.len();
    shapes.reshaped.iter().for_each(|(row, _)| mark_changed(*row));
    // the first section that takes steps of it
    let entropy = EntropyReader::new(part(section::ENTROPY).rest())?;
    let mut r = part(section::ROW_SETS).with_entropy(&entropy);
    let row_sets = if r.is_empty() {
        Vec::new()
    } else {
        row_set_reader::read(&mut r, contents.base_rows, &[], budget)?
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
    let path_ids = names.as_ref().map_or(usize::MAX, |names| names.paths.len());
    let headers = column_headers::read(part(section::COLUMNS), path_ids, row_sets.len(), budget)?;
    // each once: many columns may name one set
    let named: BTreeSet<usize> = headers.iter().filter_map(|header| header.updates).collect();
    named.into_iter().for_each(|set| row_sets[set].iter().copied().for_each(&mut mark_changed));
    for header in headers {
        contents.columns.push(column_info(header, names.as_ref(), &row_sets, budget)?);
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

/// The names of a frame's paths: its keys, and by path id the id of the parent and the number of the key.
struct PathNames {
    keys: Vec<Box<[u8]>>,
    paths: Vec<(usize, usize)>,
}

impl PathNames {
    fn read(r: Reader<'_>, base: &Table, budget: &mut Budget) -> Result<PathNames> {
        let schema = &base.schema;
        let numbers = FrameSchema::of_base(schema, &base.rows);
        let new = NewPaths::read(r, numbers.base_keys, numbers.base_paths, budget)?;
        let number = |number: Option<u32>| number.map_or(0, |number| number as usize);
        let parent_and_key = |path: &u32| {
            let path = &schema.paths[*path as usize];
            (number(numbers.paths.number(path.parent)), number(numbers.keys.number(path.key)))
        };
        let keys = numbers.keys.members.iter().map(|key| schema.keys[*key as usize].clone());
        Ok(PathNames {
            keys: keys.chain(new.keys).collect(),
            paths: numbers.paths.members.iter().map(parent_and_key).chain(new.paths).collect(),
        })
    }

    /// The keys that lead to a path.
    fn keys_of(&self, path_id: usize, budget: &mut Budget, r: &Reader<'_>) -> Result<Vec<Vec<u8>>> {
        if path_id >= self.paths.len() {
            return Err(r.corrupt("a column names a missing path"));
        }
        let mut at = path_id;
        let mut keys = Vec::new();
        while at != 0 {
            let (parent, key) = self.paths[at];
            let key = &self.keys[key];
            budget.charge(1, KEY + 2 * key.len() as u64, "keys of columns")?;
            keys.push(key.to_vec());
            at = parent;
        }
        keys.reverse();
        Ok(keys)
    }
}

fn name_of(r: &mut Reader<'_>, names: Option<&PathNames>, budget: &mut Budget) -> Result<String> {
    let path_id = r.up_to(u32::MAX as usize, "path id")?;
    let Some(names) = names else { return Ok(format!("path id {path_id}")) };
    Ok(text_of_keys(&names.keys_of(path_id, budget, r)?))
}

fn column_info(
    header: ColumnHeader<'_>,
    names: Option<&PathNames>,
    row_sets: &[Vec<u32>],
    budget: &mut Budget,
) -> Result<ColumnInfo> {
    let ColumnHeader { path_id, updates, has_inserts, mut contents, .. } = header;
    let bytes = contents.left();
    let keys = match names {
        Some(names) => Some(names.keys_of(path_id, budget, &contents)?),
        None => None,
    };
    Ok(ColumnInfo {
        path_id,
        keys,
        updates: updates.map_or(0, |set| row_sets[set].len()),
        has_inserts,
        encoding: encoding_of(&mut contents, names, budget)?,
        bytes,
    })
}

/// The encoding of the first stream, in words.
fn encoding_of(r: &mut Reader<'_>, names: Option<&PathNames>, budget: &mut Budget) -> Result<String> {
    let first = r.u8()?;
    if first == cells::COPY {
        return Ok(format!("copy of {}", name_of(r, names, budget)?));
    }
    if first == cells::SPLIT {
        let set = r.up_to(u32::MAX as usize, "row set")?;
        return Ok(format!("split by row set {set}"));
    }
    if first == cells::MIXED {
        return Ok("mixed".into());
    }
    if first == cells::NUMBERS {
        return numbers_of(r, names, budget);
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
        fixed64::RESIDUALS => format!("residuals from {}", predictor_of(r, names, budget)?),
        code => return Err(r.reserved("encoding of a fixed64 stream", code)),
    })
}

fn numbers_of(r: &mut Reader<'_>, names: Option<&PathNames>, budget: &mut Budget) -> Result<String> {
    let scale = Scale::read(r)?;
    let forms = r.u8()?;
    for _ in 0..forms {
        Form::read(r, scale.exponent)?;
    }
    if r.u8()? == numbers::mode::BY_CONTEXT {
        let others = r.count("forms")?;
        r.byte_planes(others)?;
        r.raw(2 * usize::from(forms) + 2)?;
    } else {
        let corrections = r.counted_gaps(u32::MAX as usize)?;
        r.byte_planes(corrections.len())?;
    }
    let digits = if scale.is_raw() { "doubles".into() } else { format!("{} decimals", scale.exponent) };
    let from = match r.u8()? {
        numbers::predictor::ZERO => "zero".into(),
        numbers::predictor::PREVIOUS => "the previous number".into(),
        numbers::predictor::REFERENCE => "a reference number".into(),
        numbers::predictor::FORMULA => {
            let code = r.u8()?;
            let operation = Operation::of(code).ok_or_else(|| r.reserved("operation", code))?;
            let columns = (0..operation.columns()).map(|_| name_of(r, names, budget));
            let columns = columns.collect::<Result<Vec<String>>>()?;
            format!("{operation:?}({})", columns.join(", "))
        }
        code => return Err(r.reserved("predictor of numbers", code)),
    };
    Ok(format!("numbers with {digits} from {from}"))
}

fn predictor_of(r: &mut Reader<'_>, names: Option<&PathNames>, budget: &mut Budget) -> Result<String> {
    let mut other = |r: &mut Reader<'_>| name_of(r, names, budget);
    Ok(match r.u8()? {
        predictor::ZERO => "zero".into(),
        predictor::BASE => "the base value".into(),
        predictor::PREVIOUS => "the previous value".into(),
        predictor::REFERENCE => "a reference value".into(),
        predictor::COLUMN => other(r)?,
        predictor::COLUMN_CHANGE => format!("the change of {}", other(r)?),
        predictor::MAX => format!("the maximum of {} and {}", other(r)?, other(r)?),
        code => return Err(r.reserved("predictor", code)),
    })
}
