//! Decoder: frames in, dicts out.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, TryLockError};

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule, PyDict, PyList, PyString, PyTuple};

use crate::codec::decoder::Decoder as Core;
use crate::codec::state::State;
use crate::error::grouped;
use crate::format::budget::Budget;
use crate::format::header::FrameKind;
use crate::frame::container::FrameWriter;
use crate::python::arrow_table::ArrowTable;
use crate::python::convert_error::keys_of_text;
use crate::python::errors;
use crate::python::ffi::build::set_item;
use crate::python::frame_bytes::FrameBytes;
use crate::python::level::check_level;
use crate::python::limits::max_bytes;
use crate::python::symbol_list::symbol_bytes;
use crate::python::to_python::build::{Builder, ObjectCache, text};
use crate::python::to_python::numpy;

struct DecoderState {
    core: Core,
    objects: ObjectCache,
    /// Records returned by `snapshot(shared=True)` that have not changed since, by symbol.
    shared: HashMap<Box<[u8]>, Py<PyAny>>,
}

/// Follows a stream of frames. It takes full frames at any time, and deltas only if their base has the
/// state's epoch, sequence and digest.
///
/// `limits` bounds the memory that a frame may take (Limits, 1 GiB by default).
#[pyclass(frozen, module = "snapdelta")]
pub(crate) struct Decoder {
    inner: Mutex<DecoderState>,
}

impl Decoder {
    /// Calls `then` with the state.
    pub(crate) fn with_state<T>(&self, py: Python<'_>, then: impl FnOnce(&State) -> T) -> PyResult<T> {
        let inner = self.lock(py)?;
        Ok(then(&inner.core.state))
    }

    fn lock<'a>(&'a self, py: Python<'_>) -> PyResult<MutexGuard<'a, DecoderState>> {
        match self.inner.try_lock() {
            Ok(inner) => Ok(inner),
            Err(TryLockError::WouldBlock) => Err(errors::busy(
                py,
                "another call on this Decoder has not ended yet; use one Decoder a thread",
            )),
            Err(TryLockError::Poisoned(_)) => Err(errors::broken()),
        }
    }
}

/// The keys of a path, given as a tuple of str or as text.
pub(crate) fn path_keys(path: &Bound<'_, PyAny>) -> PyResult<Vec<Vec<u8>>> {
    if path.is_instance_of::<PyString>() {
        return Ok(keys_of_text(&symbol_bytes(path)?));
    }
    match path.cast::<PyTuple>() {
        Ok(keys) => keys.iter().map(|key| symbol_bytes(&key)).collect(),
        Err(_) => Err(PyTypeError::new_err("path: must be a tuple of str, or its text")),
    }
}

fn symbols<'py, 's>(
    py: Python<'py>,
    symbols: impl Iterator<Item = &'s [u8]>,
) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, symbols.map(|symbol| text(py, symbol)).collect::<PyResult<Vec<_>>>()?)
}

#[pymethods]
impl Decoder {
    #[new]
    #[pyo3(signature = (limits = None))]
    fn new(limits: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let core = Core::new(max_bytes(limits)?);
        let inner = DecoderState { core, objects: ObjectCache::default(), shared: HashMap::new() };
        Ok(Decoder { inner: Mutex::new(inner) })
    }

    // a lock that is held belongs to a call, and so to a live object; only who has the GIL takes or frees it
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.inner.try_lock() {
            Ok(inner) => {
                inner.shared.values().try_for_each(|record| visit.call(record))?;
                inner.objects.traverse(&visit)
            }
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let gone = self.inner.try_lock().ok().map(|mut inner| {
            let DecoderState { objects, shared, .. } = &mut *inner;
            (std::mem::take(objects), std::mem::take(shared))
        });
        // their finalizers may call this Decoder
        drop(gone);
    }

    /// Moves to the frame's state. An error leaves the state unchanged.
    ///
    /// Raises BaseMismatchError, CorruptDeltaError, LimitExceededError, UnsupportedVersionError.
    #[pyo3(signature = (frame, /))]
    fn apply(&self, py: Python<'_>, frame: FrameBytes<'_>) -> PyResult<()> {
        let mut inner = self.lock(py)?;
        let DecoderState { core, objects, shared } = &mut *inner;
        let kind = py.detach(|| core.apply(&frame)).map_err(|e| errors::core(py, &e))?;
        if kind == FrameKind::Full || core.state.refresh_schema() {
            objects.forget_schema();
        }
        if !shared.is_empty() {
            let removed = core.changed_keys.removed.iter().map(|symbol| &**symbol);
            for symbol in core.updated().chain(removed) {
                shared.remove(symbol);
            }
        }
        Ok(())
    }

    /// The state as a full frame, under the epoch, sequence and digest that it has; it says so if the writer published the
    /// state within a tolerance. `level` is zstd's (1 to 22).
    ///
    /// The frame is made of a native copy of the state, without the GIL: other calls may use the Decoder meanwhile.
    /// Raises UsageError before the first frame.
    #[pyo3(signature = (*, level = 3))]
    fn full<'py>(&self, py: Python<'py>, level: i32) -> PyResult<Bound<'py, PyBytes>> {
        let mut frame_writer = FrameWriter::new(check_level(py, level)?).map_err(|e| errors::core(py, &e))?;
        let mut state = self.with_state(py, State::clone)?;
        if !state.started {
            return Err(errors::usage(py, "there is no state yet; apply a full frame first"));
        }
        let made = py.detach(move || state.full(&mut frame_writer));
        Ok(PyBytes::new(py, &made.map_err(|e| errors::core(py, &e))?))
    }

    /// The whole snapshot as a new dict. With `shared`, records that did not change since the last such call
    /// are the same objects: do not change them. `start` and `stop` select a part of it, by position in the
    /// order of the symbols. Build parts in turn so that the event loop runs in between.
    #[pyo3(signature = (shared = false, *, start = 0, stop = None))]
    fn snapshot<'py>(
        &self,
        py: Python<'py>,
        shared: bool,
        start: usize,
        stop: Option<usize>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let mut inner = self.lock(py)?;
        let DecoderState { core, objects, shared: known } = &mut *inner;
        let table = &core.state.table;
        let mut builder = Builder::new(py, table, objects)?.without_gc();
        let snapshot = PyDict::new(py);
        let stop = stop.unwrap_or(usize::MAX).min(table.rows.len());
        for at in start..stop {
            let row = &table.rows[at];
            let record = match known.get(&*row.symbol).filter(|_| shared) {
                Some(record) => record.bind(py).clone(),
                None => {
                    let record = builder.row(at)?;
                    if shared {
                        known.insert((*row.symbol).into(), record.clone().unbind());
                    }
                    record
                }
            };
            set_item(&snapshot, &text(py, &row.symbol)?.unbind(), record)?;
        }
        Ok(snapshot)
    }

    /// The record of one symbol as a new object, or None.
    #[pyo3(signature = (symbol, /))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        symbol: &Bound<'py, PyString>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let mut inner = self.lock(py)?;
        let DecoderState { core, objects, .. } = &mut *inner;
        let bytes = symbol_bytes(symbol)?;
        match core.state.table.position(&bytes) {
            None => Ok(None),
            Some(at) => Builder::new(py, &core.state.table, objects)?.row(at).map(Some),
        }
    }

    /// The values at a path, one row a symbol, as a numpy masked array that masks None and missing values.
    ///
    /// `path` is a tuple of keys, or its text (`day.v`, with `.`, `[` and `\\` escaped). docs/columns.md
    /// lists the dtypes; a column without one is an array of objects.
    /// Raises UsageError if no record has a value there, MissingExtraError without numpy.
    #[pyo3(signature = (path, /))]
    fn column<'py>(&self, py: Python<'py>, path: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let keys = path_keys(path)?;
        let mut inner = self.lock(py)?;
        let DecoderState { core, objects, .. } = &mut *inner;
        let table = &core.state.table;
        let found = table.schema.find(&keys);
        let name = match keys[..] {
            // its text is that of the key "" as well
            [] => "(), the path without keys; the key \"\" has the path (\"\",)".to_string(),
            _ => path.to_string(),
        };
        let refused = |what: &str| Err(errors::usage(py, &format!("path: {what} {name}")));
        let Some(found) = found else { return refused("no record has") };
        if table.schema.is_dict(found) {
            return refused("name one below it: there are dicts at");
        }
        if !table.rows.iter().any(|row| table.schema.shapes[row.shape as usize].position(found).is_some()) {
            return refused("no record has");
        }
        let mut budget = Budget::new(core.max_bytes);
        numpy::column(py, table, found, objects, &mut budget).map_err(|e| errors::to_python(py, e))
    }

    /// The state as columns; with `changed`, only the rows of the symbols in `changed`, in the order of the
    /// state and with the types of all rows. `flat`: one column for each path (`day.v`), instead of one
    /// struct for each dict.
    ///
    /// Raises LimitExceededError, UsageError, and UnsupportedTypeError for names that Arrow cannot represent.
    #[pyo3(signature = (*, changed = false, flat = false))]
    fn arrow_table(&self, py: Python<'_>, changed: bool, flat: bool) -> PyResult<ArrowTable> {
        let mut inner = self.lock(py)?;
        let DecoderState { core, objects, .. } = &mut *inner;
        let rows = changed.then(|| core.changed_rows());
        let made = ArrowTable::of(py, &core.state.table, rows, flat, objects, core.max_bytes);
        made.map_err(|e| errors::to_python(py, e))
    }

    /// `arrow_table()` as a capsule: `polars.DataFrame(decoder)`.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        self.arrow_table(py, false, false)?.__arrow_c_stream__(py, requested_schema)
    }

    /// Symbols with a new record after the last frame: `added`, then `updated`. Each is in the snapshot.
    #[getter]
    fn changed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let inner = self.lock(py)?;
        let added = inner.core.changed_keys.added.iter().map(|symbol| &**symbol);
        symbols(py, added.chain(inner.core.updated()))
    }

    /// Symbols that the last frame neither added nor removed and whose record it changed.
    #[getter]
    fn updated<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        symbols(py, self.lock(py)?.core.updated())
    }

    /// The fewest symbols whose moves explain the new order; empty if the retained symbols keep their order.
    #[getter]
    fn moved<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        symbols(py, self.lock(py)?.core.moved().into_iter())
    }

    /// Symbols that the last frame added.
    #[getter]
    fn added<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        symbols(py, self.lock(py)?.core.changed_keys.added.iter().map(|symbol| &**symbol))
    }

    /// Symbols that the last frame removed.
    #[getter]
    fn removed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        symbols(py, self.lock(py)?.core.changed_keys.removed.iter().map(|symbol| &**symbol))
    }

    /// Epoch of the last frame, 0 before the first.
    #[getter]
    fn epoch(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.lock(py)?.core.state.position.epoch)
    }

    /// Sequence of the last frame, 0 before the first.
    #[getter]
    fn sequence(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.lock(py)?.core.state.position.sequence)
    }

    /// Digest of the state.
    #[getter]
    fn digest(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.lock(py)?.core.state.digest)
    }

    fn __repr__(&self) -> String {
        match self.inner.try_lock() {
            Ok(inner) => {
                let state = &inner.core.state;
                let rows = grouped(state.table.rows.len());
                format!(
                    "<snapdelta.Decoder {}-{}, {rows} symbols>",
                    state.position.epoch, state.position.sequence
                )
            }
            Err(_) => "<snapdelta.Decoder, busy>".into(),
        }
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.lock(py)?.core.state.table.rows.len())
    }
}
