//! The dict that a delta is applied to: what was read of it is what is proven, and what is copied.
//!
//! As long as the GIL is held and no Python code runs, nobody changes the caller's dict. Before either may happen, what
//! the patch will need is copied: the dict itself, and the dicts of the records that the delta changes.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::format::budget::Budget;
use crate::frame::{decode, inspect};
use crate::python::convert_error::Outcome;
use crate::python::ffi::object::GcPause;
use crate::python::from_python::Read;
use crate::python::from_python::as_snapshot;
use crate::python::from_python::cache::Memory;
use crate::python::to_python::patch::builds_with_python;
use crate::state::change_set::ChangeSet;
use crate::state::table::Table;

/// Other threads may run while a body of so many bytes is read.
const LONG: usize = 1 << 20;

pub struct Base<'py> {
    /// As it was read.
    pub snapshot: Bound<'py, PyDict>,
    /// The dict, and the dicts of the records that the delta changes, are ours.
    pub own: bool,
    /// By record: its objects may be shared.
    pub plain: Vec<bool>,
}

impl<'py> Base<'py> {
    /// Reads the dict for a delta with this body. Unverified, only the records that the delta touches.
    pub fn read(
        previous: &Bound<'py, PyAny>,
        contents: &[u8],
        verify: bool,
        table: &mut Table,
        default: Option<&Bound<'py, PyAny>>,
        budget: &Budget,
    ) -> Outcome<(Base<'py>, ChangeSet)> {
        let py = previous.py();
        let snapshot = as_snapshot(previous)?;
        let touched = || inspect::inspect(contents, &mut budget.clone());
        let only = if verify { None } else { Some(touched()?).filter(|c| !c.sorted).map(|c| c.touched) };
        let mut copy = None;
        let read = Read { snapshot: &snapshot, only: only.as_deref() };
        let walked = |open: bool| {
            if open || contents.len() > LONG {
                copy = Some(own_copy(&snapshot, &touched()?.touched)?);
            }
            Ok(())
        };
        let (changes, plain) = read.capture(py, table, &mut Memory::default(), default, walked)?;
        let own = copy.is_some();
        Ok((Base { snapshot: copy.unwrap_or(snapshot), own, plain }, changes))
    }

    /// Reads the body against what was read of the dict.
    pub fn changes(
        &mut self,
        py: Python<'py>,
        contents: &[u8],
        table: &mut Table,
        budget: &mut Budget,
    ) -> Outcome<ChangeSet> {
        if self.own {
            return Ok(py.detach(|| decode::read(contents, table, budget))?);
        }
        let changes = decode::read(contents, table, budget)?;
        if builds_with_python(&changes) {
            self.snapshot = own_copy(&self.snapshot, &changes.updated(table.rows.len()))?;
            self.own = true;
        }
        Ok(changes)
    }
}

/// A copy in which the touched records are copies as well, down to their last dict. No Python code runs.
fn own_copy<'py>(snapshot: &Bound<'py, PyDict>, touched: &[bool]) -> PyResult<Bound<'py, PyDict>> {
    let _pause = GcPause::new(snapshot.py());
    let copy = snapshot.copy()?;
    for ((symbol, record), _) in snapshot.iter().zip(touched).filter(|(_, touched)| **touched) {
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
