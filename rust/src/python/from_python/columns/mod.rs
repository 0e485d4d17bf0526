//! Columns in: Arrow's and numpy's arrays -> change set, without a Python object a cell.

pub(crate) mod array;
mod block;
mod capture;
mod source;
pub(crate) mod types;

use pyo3::prelude::*;

use crate::python::convert_error::ConvertResult;
use crate::python::ffi::types::Types;
use crate::python::from_python::cache::ConversionCache;
use crate::python::from_python::capture::Capture;
use crate::python::from_python::columns::source::Table as Columns;
use crate::python::from_python::resolve::Resolver;
use crate::state::change_set::ChangeSet;
use crate::state::table::Table;

/// The change set that leads from the table's state to what the columns hold: a record a row, whose symbol is in the
/// column `symbol`. After an error the state is what it was.
pub(crate) fn capture_columns(
    data: &Bound<'_, PyAny>,
    symbol: &[u8],
    table: &mut Table,
    cache: &mut ConversionCache,
    default: Option<&Bound<'_, PyAny>>,
) -> ConvertResult<ChangeSet> {
    let py = data.py();
    let types = Types::get(py)?;
    let columns = Columns::of(data, symbol)?;
    let mut capture = Capture::new(table, cache);
    let read =
        capture.columns(py, &columns).and_then(|()| Resolver { py, types, default }.resolve(&mut capture));
    match read {
        Ok(()) => Ok(capture.into_changes().0),
        Err(error) => {
            capture.rollback();
            Err(error)
        }
    }
}
