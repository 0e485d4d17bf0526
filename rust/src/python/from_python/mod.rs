//! The whole way in: walk, then resolve, then a change set; or nothing at all.

pub(crate) mod cache;
pub(crate) mod capture;
pub(crate) mod columns;
pub(crate) mod deferred;
mod fields;
pub(crate) mod gather;
mod key_list;
pub(crate) mod leaf;
pub(crate) mod resolve;
pub(crate) mod scalars;
pub(crate) mod walk;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::python::convert_error::{ConvertError, ConvertResult};
use crate::python::ffi::types::Types;
use crate::python::from_python::cache::ConversionCache;
use crate::python::from_python::capture::Capture;
use crate::python::from_python::resolve::Resolver;
use crate::state::change_set::ChangeSet;
use crate::state::table::Table;

/// The change set that leads from the table's state to the snapshot. After an error the state is what it was.
pub(crate) fn capture(
    snapshot: &Bound<'_, PyAny>,
    table: &mut Table,
    cache: &mut ConversionCache,
    default: Option<&Bound<'_, PyAny>>,
) -> ConvertResult<ChangeSet> {
    capture_dict(&as_snapshot(snapshot)?, table, cache, default, |_| Ok(())).map(|(changes, _)| changes)
}

/// The change set that replaces or adds these records and removes these symbols; symbols that are not there are
/// passed over. After an error the state is what it was.
pub(crate) fn capture_update(
    changes: &Bound<'_, PyAny>,
    removed: &[Vec<u8>],
    table: &mut Table,
    cache: &mut ConversionCache,
    default: Option<&Bound<'_, PyAny>>,
) -> ConvertResult<ChangeSet> {
    let changes = as_snapshot(changes)?;
    let capture = Capture::new(table, cache);
    let read = |capture: &mut Capture<'_>| capture.remove(changes.py(), removed);
    finish(&changes, capture, default, read).map(Capture::into_update)
}

/// The change set, and for each record whether it is built back from the same types. `walked` is called when all
/// was seen and before Python code runs, with whether some will.
pub(crate) fn capture_dict(
    snapshot: &Bound<'_, PyDict>,
    table: &mut Table,
    cache: &mut ConversionCache,
    default: Option<&Bound<'_, PyAny>>,
    walked: impl FnOnce(bool) -> ConvertResult<()>,
) -> ConvertResult<(ChangeSet, Vec<bool>)> {
    let capture = Capture::new(table, cache);
    finish(snapshot, capture, default, |capture| walked(capture.is_open())).map(Capture::into_changes)
}

/// Reads all records of a dict, or rolls back. `walked` is called before Python code runs.
fn finish<'a>(
    records: &Bound<'_, PyDict>,
    mut capture: Capture<'a>,
    default: Option<&Bound<'_, PyAny>>,
    walked: impl FnOnce(&mut Capture<'a>) -> ConvertResult<()>,
) -> ConvertResult<Capture<'a>> {
    let py = records.py();
    let resolver = Types::get(py).map(|types| Resolver { py, types, default });
    let read = resolver.map_err(ConvertError::from).and_then(|resolver| {
        capture.walk(py, records)?;
        walked(&mut capture)?;
        resolver.resolve(&mut capture)
    });
    capture.cache.keys.release_replaced();
    match read {
        Ok(()) => Ok(capture),
        Err(error) => {
            capture.rollback();
            Err(error)
        }
    }
}

/// The dict that a snapshot is.
pub(crate) fn as_snapshot<'py>(snapshot: &Bound<'py, PyAny>) -> ConvertResult<Bound<'py, PyDict>> {
    let py = snapshot.py();
    if let Ok(dict) = snapshot.cast_exact::<PyDict>() {
        return Ok(dict.clone());
    }
    let types = Types::get(py)?;
    let class = snapshot.get_type();
    if class.is(&types.ordered_dict) || class.is(&types.default_dict) {
        // in the order of its own iteration
        let copy = py.get_type::<PyDict>().call1((snapshot,))?;
        return Ok(copy.cast_into::<PyDict>().map_err(PyErr::from)?);
    }
    Err(ConvertError::unsupported(format!("a snapshot is a dict, not {}", class.name()?)))
}
