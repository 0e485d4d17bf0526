//! FrameInfo: the result of `inspect`.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::error::text_of_keys;
use crate::format::header::{FrameKind, Header};
use crate::frame::inspect::BodySummary;
use crate::python::to_python::build::text;

/// What is in a frame.
#[pyclass(frozen, get_all, module = "snapdelta")]
pub(crate) struct FrameInfo {
    /// "full", "delta", or "bundle": of deltas, whose counts are summed up
    kind: &'static str,
    version: u8,
    epoch: u64,
    sequence: u64,
    /// the base's position in its stream; None in a full frame
    base_epoch: Option<u64>,
    base_sequence: Option<u64>,
    base_digest: u64,
    target_digest: u64,
    /// bytes that a reader's Limits must allow; None if the writer does not know
    required_bytes: Option<u64>,
    /// the states are published within a tolerance
    within_tolerance: bool,
    /// then how many cells kept the number published last; else 0
    held_cells: u64,
    /// bytes of the frame
    size: usize,
    /// bytes of the body before zstd
    body_size: usize,
    /// rows of the base and of the target
    base_symbols: usize,
    target_symbols: usize,
    /// new symbols, in the frame's order; None if reading them needs the base
    added: Py<PyAny>,
    /// how many symbols are removed; neither added nor removed, with another record; moved out of the predicted order
    removed: usize,
    updated: usize,
    moved: usize,
    /// bytes of each section before zstd
    sections: Py<PyDict>,
    /// one ColumnInfo a column
    columns: Py<PyAny>,
    /// changed cells that go row by row
    sparse_cells: usize,
}

/// How one column is coded in a frame.
#[pyclass(frozen, get_all, module = "snapdelta")]
pub(crate) struct ColumnInfo {
    /// its number in the frame
    path_id: usize,
    /// keys that lead to it; None in a delta that is inspected without its base
    path: Option<Py<PyAny>>,
    /// the same as text, or the number
    name: String,
    /// changed cells
    cells: usize,
    /// it has cells of new records too
    inserts: bool,
    encoding: String,
    /// before zstd
    size: usize,
}

#[pymethods]
impl ColumnInfo {
    fn __repr__(&self) -> String {
        format!("<ColumnInfo {}: {} cells, {} bytes, {}>", self.name, self.cells, self.size, self.encoding)
    }
}

#[pymethods]
impl FrameInfo {
    fn __repr__(&self) -> String {
        format!(
            "<FrameInfo {} {}-{}: {} bytes, {} symbols, {} updated>",
            self.kind, self.epoch, self.sequence, self.size, self.target_symbols, self.updated
        )
    }
}

impl FrameInfo {
    pub(crate) fn new(
        py: Python<'_>,
        size: usize,
        header: &Header,
        summary: BodySummary,
        body_size: usize,
    ) -> PyResult<FrameInfo> {
        let sections = PyDict::new(py);
        for (name, bytes) in summary.sections {
            sections.set_item(name, bytes)?;
        }
        let mut columns = Vec::new();
        for column in summary.columns {
            let (path, name) = match &column.keys {
                None => (None, format!("path id {}", column.path_id)),
                Some(keys) => {
                    let path: Vec<_> = keys.iter().map(|key| text(py, key)).collect::<PyResult<_>>()?;
                    (Some(PyTuple::new(py, path)?.into_any().unbind()), text_of_keys(keys))
                }
            };
            columns.push(Py::new(
                py,
                ColumnInfo {
                    path_id: column.path_id,
                    path,
                    name,
                    cells: column.updates,
                    inserts: column.has_inserts,
                    encoding: column.encoding,
                    size: column.bytes,
                },
            )?);
        }
        let added = match summary.added_symbols {
            None => py.None(),
            Some(all) => {
                let all: Vec<_> = all.iter().map(|symbol| text(py, symbol)).collect::<PyResult<_>>()?;
                PyTuple::new(py, all)?.into_any().unbind()
            }
        };
        let base = (header.kind == FrameKind::Delta).then_some(header.base.position);
        Ok(FrameInfo {
            kind: if header.is_bundle { "bundle" } else { header.kind.name() },
            version: crate::format::VERSION,
            epoch: header.position.epoch,
            sequence: header.position.sequence,
            base_epoch: base.map(|base| base.epoch),
            base_sequence: base.map(|base| base.sequence),
            base_digest: header.base.digest,
            target_digest: header.target_digest,
            required_bytes: Some(header.required_bytes).filter(|bytes| *bytes > 0),
            within_tolerance: header.held_cells.is_some(),
            held_cells: header.held_cells.unwrap_or_default(),
            size,
            body_size,
            base_symbols: summary.base_rows,
            target_symbols: (summary.base_rows + summary.added).saturating_sub(summary.removed),
            added,
            removed: summary.removed,
            updated: summary.updated,
            moved: summary.moved,
            sections: sections.unbind(),
            columns: PyTuple::new(py, columns)?.into_any().unbind(),
            sparse_cells: summary.sparse_updates,
        })
    }
}
