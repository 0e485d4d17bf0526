//! The dict that a delta is applied to: what was read of it is what is verified, and what is copied.
//!
//! As long as the GIL is held and no Python code runs, nobody changes the caller's dict. Before either may happen, what
//! the patch will need is copied: the dict itself, and the dicts of the records that the delta changes.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::format::budget::Budget;
use crate::format::reader::Reader;
use crate::format::value::{Payload, Tag, read_item, tag};
use crate::frame::container::Contents;
use crate::frame::{decode, inspect};
use crate::python::convert_error::ConvertResult;
use crate::python::ffi::gc_pause::GcPause;
use crate::python::from_python::cache::ConversionCache;
use crate::python::from_python::capture_dict;
use crate::python::to_python::build::ObjectCache;
use crate::state::change_set::ChangeSet;
use crate::state::table::{Cells, Table};

/// The decoder may hold the GIL for a body of this many bytes.
const LONG: usize = 1 << 20;
/// At this many bytes a cell of the base, the body is read sooner than the base was, or than it is copied.
const BODY_BYTES_A_CELL: usize = 4;

pub(crate) struct Base<'py> {
    /// As it was read.
    pub(crate) snapshot: Bound<'py, PyDict>,
    /// The dict, and the dicts of the records that the delta changes, are ours.
    pub(crate) is_private: bool,
    /// By record: its objects may be shared.
    pub(crate) exact_types: Vec<bool>,
    /// The objects of its keys.
    pub(crate) objects: ObjectCache,
}

impl<'py> Base<'py> {
    /// Reads the dict for a delta with this body: all of it, as the delta's numbers are those of all its keys and shapes.
    pub(crate) fn read(
        snapshot: Bound<'py, PyDict>,
        contents: &Contents<'_>,
        table: &mut Table,
        default: Option<&Bound<'py, PyAny>>,
        budget: &Budget,
    ) -> ConvertResult<(Base<'py>, ChangeSet)> {
        let py = snapshot.py();
        let mut copy = None;
        let walked = |open: bool| {
            if open {
                copy = Some(copy_for(&snapshot, contents, budget)?);
            }
            Ok(())
        };
        let mut cache = ConversionCache::default();
        let (changes, exact_types) = capture_dict(&snapshot, table, &mut cache, default, walked)?;
        let is_private = copy.is_some();
        let objects = ObjectCache::with_keys(py, cache.keys.objects());
        Ok((Base { snapshot: copy.unwrap_or(snapshot), is_private, exact_types, objects }, changes))
    }

    /// Reads the body against what was read of the dict.
    pub(crate) fn changes(
        &mut self,
        py: Python<'py>,
        contents: &Contents<'_>,
        table: &mut Table,
        budget: &mut Budget,
    ) -> ConvertResult<ChangeSet> {
        if !self.is_private && is_long(contents.body.len(), table) {
            self.snapshot = copy_for(&self.snapshot, contents, budget)?;
            self.is_private = true;
        }
        if self.is_private {
            return Ok(py.detach(|| decode::read(contents, table, budget))?);
        }
        let changes = decode::read(contents, table, budget)?;
        if builds_with_python(&changes, table) {
            self.snapshot = private_copy(&self.snapshot, &changes.updated(table.rows.len()))?;
            self.is_private = true;
        }
        Ok(changes)
    }
}

/// True if the decoder releases the GIL for this body.
fn is_long(body: usize, base: &Table) -> bool {
    body > LONG && body > BODY_BYTES_A_CELL * base.rows.iter().map(|row| row.tags.len()).sum::<usize>()
}

/// A copy for what the body changes.
fn copy_for<'py>(
    snapshot: &Bound<'py, PyDict>,
    contents: &Contents<'_>,
    budget: &Budget,
) -> ConvertResult<Bound<'py, PyDict>> {
    let summary = inspect::inspect(&contents.body, snapshot.len(), None, &mut budget.rest())?;
    Ok(private_copy(snapshot, &summary.changed_rows)?)
}

/// A copy in which the touched records are copies as well, down to their last dict. No Python code runs.
fn private_copy<'py>(snapshot: &Bound<'py, PyDict>, changed: &[bool]) -> PyResult<Bound<'py, PyDict>> {
    let _pause = GcPause::new(snapshot.py());
    let copy = snapshot.copy()?;
    for ((symbol, record), _) in snapshot.iter().zip(changed).filter(|(_, changed)| **changed) {
        if let Ok(record) = record.cast_exact::<PyDict>() {
            copy.set_item(symbol, deep_copy(record)?)?;
        }
    }
    Ok(copy)
}

/// A copy of a dict and of the dicts in it, which a walk has found to be no deeper than a record may be.
fn deep_copy<'py>(dict: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
    let copy = dict.copy()?;
    for (key, value) in dict.iter() {
        if let Ok(inside) = value.cast_exact::<PyDict>() {
            copy.set_item(key, deep_copy(inside)?)?;
        }
    }
    Ok(copy)
}

/// True if some of the new values are made by Python code, during which the base may change.
fn builds_with_python(changes: &ChangeSet, table: &Table) -> bool {
    let columns = changes.updates.iter().map(|column| &column.new).chain([&changes.cells]);
    columns.flat_map(Cells::iter).any(|cell| match cell.tag {
        tag::LIST | tag::TUPLE => !are_made_without_python(cell.tag, table.pool.get(cell.word)),
        tag => !is_made_without_python(tag),
    })
}

/// The items of a list, tuple or dict, at any depth.
fn are_made_without_python(tag: Tag, blob: &[u8]) -> bool {
    let mut r = Reader::new(blob);
    let Ok(n) = r.count("items") else { return false };
    (0..n).all(|_| {
        let key = if tag == tag::DICT { r.text().is_ok() } else { true };
        key && match read_item(&mut r) {
            Ok((tag @ (tag::LIST | tag::TUPLE | tag::DICT), Payload::Bytes(below))) => {
                are_made_without_python(tag, below)
            }
            Ok((tag, _)) => is_made_without_python(tag),
            Err(_) => false,
        }
    })
}

fn is_made_without_python(tag: Tag) -> bool {
    matches!(
        tag,
        tag::NONE
            | tag::FALSE
            | tag::TRUE
            | tag::EMPTY
            | tag::INT
            | tag::FLOAT
            | tag::DIGITS
            | tag::SHORT
            | tag::TEXT
            | tag::BYTES
            | tag::DATE
            | tag::DATETIME
            | tag::DATETIME_UTC
            | tag::TIMEDELTA
    )
}
