//! A state as an Arrow table, for all libraries that read one.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyString};

use crate::error::grouped;
use crate::format::budget::Budget;
use crate::python::convert_error::ConvertResult;
use crate::python::ffi::arrow::{schema_capsule, stream_capsule};
use crate::python::to_python::build::ObjectCache;
use crate::python::to_python::column_arrays::{Array, Field};
use crate::python::to_python::columns::Columns;
use crate::state::table::Table;

/// A snapshot as columns: one row a symbol; `_symbol` and one column a key. Libraries with Arrow's PyCapsule
/// interface read it without a copy: `polars.DataFrame(table)`, `pyarrow.table(table)`,
/// `duckdb.from_arrow(table)`.
///
/// docs/columns.md says which type a column gets.
#[pyclass(frozen, module = "snapdelta")]
pub(crate) struct ArrowTable {
    field: Arc<Field>,
    batch: Arc<Array>,
}

impl ArrowTable {
    /// The columns of a table, of these rows or of all; the types are those of all rows.
    pub(crate) fn of(
        py: Python<'_>,
        table: &Table,
        rows: Option<Vec<u32>>,
        flat: bool,
        objects: &mut ObjectCache,
        max_bytes: u64,
    ) -> ConvertResult<ArrowTable> {
        let rows = rows.unwrap_or_else(|| (0..table.rows.len() as u32).collect());
        let mut budget = Budget::new(max_bytes);
        let (field, batch) = Columns::of(table, &mut budget)?.batch(py, &rows, flat, objects, &mut budget)?;
        Ok(ArrowTable { field: Arc::new(field), batch: Arc::new(batch) })
    }
}

#[pymethods]
impl ArrowTable {
    /// A capsule with a stream of one batch. It ignores `requested_schema`: consumers cast.
    #[pyo3(signature = (requested_schema = None))]
    pub(crate) fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        stream_capsule(py, &self.field, &self.batch)
    }

    /// A capsule with the schema.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        schema_capsule(py, &self.field)
    }

    /// Names of the columns.
    #[getter]
    fn columns(&self, py: Python<'_>) -> Vec<Py<PyString>> {
        let names = self.field.children.iter().map(|field| field.name.to_string_lossy());
        names.map(|name| PyString::new(py, &name).unbind()).collect()
    }

    fn __len__(&self) -> usize {
        self.batch.length
    }

    fn __repr__(&self) -> String {
        let [rows, columns] = [self.batch.length, self.field.children.len()].map(grouped);
        format!("<snapdelta.ArrowTable, {rows} rows, {columns} columns>")
    }
}
