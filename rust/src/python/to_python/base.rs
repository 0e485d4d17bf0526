//! The dict that a delta is applied to: what was read of it is what is verified, and what is copied.
//!
//! As long as the GIL is held and no Python code runs, nobody changes the caller's dict. Before either may happen, what
//! the patch will need is copied: the dict itself, and the dicts of the records that the delta changes.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::format::budget::Budget;
use crate::format::value::{Tag, tag};
use crate::frame::container::Contents;
use crate::frame::{decode, inspect};
use crate::python::convert_error::ConvertResult;
use crate::python::ffi::object::GcPause;
use crate::python::from_python::Read;
use crate::python::from_python::as_snapshot;
use crate::python::from_python::cache::ConversionCache;
use crate::state::change_set::ChangeSet;
use crate::state::table::Table;

/// Other threads may run while a body of so many bytes is read.
const LONG: usize = 1 << 20;

pub(crate) struct Base<'py> {
    /// As it was read.
    pub(crate) snapshot: Bound<'py, PyDict>,
    /// The dict, and the dicts of the records that the delta changes, are ours.
    pub(crate) is_private: bool,
    /// By record: its objects may be shared.
    pub(crate) exact_types: Vec<bool>,
}

impl<'py> Base<'py> {
    /// Reads the dict for a delta with this body. Unverified, only the records that the delta touches.
    pub(crate) fn read(
        previous: &Bound<'py, PyAny>,
        contents: &Contents<'_>,
        verify: bool,
        table: &mut Table,
        default: Option<&Bound<'py, PyAny>>,
        budget: &Budget,
    ) -> ConvertResult<(Base<'py>, ChangeSet)> {
        let py = previous.py();
        let snapshot = as_snapshot(previous)?;
        let summary = || inspect::inspect(&contents.body, &mut budget.clone());
        let only = if verify {
            None
        } else {
            Some(summary()?).filter(|c| !c.needs_all_rows).map(|c| c.changed_rows)
        };
        let mut copy = None;
        let read = Read { snapshot: &snapshot, only: only.as_deref() };
        let walked = |open: bool| {
            if open || contents.body.len() > LONG {
                copy = Some(private_copy(&snapshot, &summary()?.changed_rows)?);
            }
            Ok(())
        };
        let (changes, exact_types) =
            read.capture(py, table, &mut ConversionCache::default(), default, walked)?;
        let is_private = copy.is_some();
        Ok((Base { snapshot: copy.unwrap_or(snapshot), is_private, exact_types }, changes))
    }

    /// Reads the body against what was read of the dict.
    pub(crate) fn changes(
        &mut self,
        py: Python<'py>,
        contents: &Contents<'_>,
        table: &mut Table,
        budget: &mut Budget,
    ) -> ConvertResult<ChangeSet> {
        if self.is_private {
            return Ok(py.detach(|| decode::read(contents, table, budget))?);
        }
        let changes = decode::read(contents, table, budget)?;
        if builds_with_python(&changes) {
            self.snapshot = private_copy(&self.snapshot, &changes.updated(table.rows.len()))?;
            self.is_private = true;
        }
        Ok(changes)
    }
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
fn builds_with_python(changes: &ChangeSet) -> bool {
    let tags = changes.updates.iter().map(|column| &column.new.tags).chain([&changes.cells.tags]);
    tags.flatten().any(|tag| !is_made_without_python(*tag))
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
