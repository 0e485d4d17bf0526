//! One column as a numpy array.

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict, PyList};

use crate::format::budget::Budget;
use crate::format::value::tag;
use crate::python::convert_error::ConvertResult;
use crate::python::errors;
use crate::python::to_python::build::{Builder, ObjectCache};
use crate::python::to_python::column_arrays::{float, integer};
use crate::python::to_python::column_types::{ColumnType, Seen, Value};
use crate::state::schema::PathId;
use crate::state::table::{Cell, Table};

/// A masked array with a row a symbol: None and what a record has not are masked.
pub(crate) fn column<'py>(
    py: Python<'py>,
    table: &Table,
    path: PathId,
    objects: &mut ObjectCache,
    budget: &mut Budget,
) -> ConvertResult<Bound<'py, PyAny>> {
    let numpy = import(py)?;
    budget.charge(table.rows.len() as u64, 24, "rows of a column")?;
    let cells: Vec<Option<Cell>> =
        (0..table.rows.len()).map(|row| table.cell(row, path).filter(|cell| cell.tag != tag::NONE)).collect();
    let value = |cell: Cell| Value { tag: cell.tag, payload: table.payload(cell) };
    let mut seen = Seen::default();
    for cell in cells.iter().flatten() {
        seen.add(value(*cell), budget)?;
    }
    let integers = |dtype: &str| {
        let numbers = cells.iter().map(|cell| cell.map_or(0, |cell| integer(value(cell))));
        array(&numpy, dtype, &numbers.flat_map(i64::to_ne_bytes).collect::<Vec<u8>>())
    };
    let data = match seen.column_type() {
        ColumnType::Bool => {
            let bits = cells.iter().map(|cell| u8::from(cell.is_some_and(|cell| cell.tag == tag::TRUE)));
            array(&numpy, "?", &bits.collect::<Vec<u8>>())?
        }
        ColumnType::Float => {
            let numbers = cells.iter().map(|cell| cell.map_or(f64::NAN, |cell| float(value(cell))));
            array(&numpy, "f8", &numbers.flat_map(f64::to_ne_bytes).collect::<Vec<u8>>())?
        }
        ColumnType::Int => integers("i8")?,
        ColumnType::Date => integers("M8[D]")?,
        ColumnType::Duration => integers("m8[us]")?,
        ColumnType::Timestamp { .. } if !seen.has_zone_key() => integers("M8[us]")?,
        _ => {
            let mut builder = Builder::new(py, table, objects)?;
            let values = cells.iter().map(|cell| match cell {
                None => Ok(py.None().into_bound(py)),
                Some(cell) => builder.cell(*cell),
            });
            let values = PyList::new(py, values.collect::<PyResult<Vec<_>>>()?)?;
            numpy.call_method1("fromiter", (values, "O"))?
        }
    };
    let mask: Vec<u8> = cells.iter().map(|cell| u8::from(cell.is_none())).collect();
    let named = PyDict::new(py);
    named.set_item("mask", array(&numpy, "?", &mask)?)?;
    Ok(numpy.getattr("ma")?.call_method("array", (data,), Some(&named))?)
}

/// An array with memory of its own, in the byte order of the machine.
fn array<'py>(numpy: &Bound<'py, PyAny>, dtype: &str, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    numpy.call_method1("frombuffer", (PyByteArray::new(numpy.py(), bytes), dtype))
}

fn import(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    match py.import("numpy") {
        Ok(numpy) => Ok(numpy.into_any()),
        Err(error) if error.is_instance_of::<PyImportError>(py) => Err(errors::missing_extra(
            py,
            "a column needs numpy; install it with the extra: snapdelta-rs[numpy]",
            error,
        )),
        Err(error) => Err(error),
    }
}
