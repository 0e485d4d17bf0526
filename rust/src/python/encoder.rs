//! Encoder and its captured frames.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};

use pyo3::exceptions::PyOverflowError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::codec::encoder::Encoder as Core;
use crate::error::grouped;
use crate::format::header::{FrameKind, Position};
use crate::python::convert_error::ConvertResult;
use crate::python::decoder::Decoder;
use crate::python::errors;
use crate::python::from_python::cache::ConversionCache;
use crate::python::from_python::columns::capture_columns;
use crate::python::from_python::{capture, capture_update};
use crate::python::level::check_level;
use crate::python::symbol_list::SymbolList;
use crate::python::tolerance::tolerances;
use crate::state::change_set::ChangeSet;
use crate::state::table::Table;

/// An epoch or sequence argument.
fn number(value: &Bound<'_, PyAny>, name: &str, most: u64) -> PyResult<u64> {
    match value.extract::<u64>() {
        Ok(number) if number <= most => Ok(number),
        Err(error) if !error.is_instance_of::<PyOverflowError>(value.py()) => Err(error),
        _ => Err(errors::usage(value.py(), &format!("{name}: {value} is not from 0 to {most}"))),
    }
}

fn epoch(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    number(value, "epoch", u64::MAX)
}

/// Another must follow.
fn sequence(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    number(value, "sequence", u64::MAX - 1)
}

struct EncoderState {
    core: Core,
    cache: ConversionCache,
    default: Option<Py<PyAny>>,
}

/// Owns the previous state natively and encodes changes as frames.
///
/// `level` is the zstd level (1 to 22). The Encoder calls `default`, if given, with each unsupported value;
/// it returns a supported one. Every frame has the `epoch`. The first frame is a full one.
///
/// `tolerance`, a dict of column -> Absolute or Relative, is the only lossy setting: the Encoder publishes a number
/// only if it differs by more from the number published last, also in full frames. A column is a tuple of
/// keys or its text, as in `Decoder.column`. Anything else raises a UsageError.
///
/// With `verify`, the Encoder decodes every frame before it returns it, and compares the digest. If a delta
/// fails, it returns a full frame with the same sequence; if a full frame fails, it raises an EncodingError.
#[pyclass(frozen, module = "snapdelta")]
pub(crate) struct Encoder {
    inner: Mutex<EncoderState>,
    /// The latest ticket of a captured frame that was dropped: an older one may be dropped after a newer one.
    dropped: AtomicU64,
}

impl Encoder {
    fn lock<'a>(&'a self, py: Python<'_>) -> PyResult<MutexGuard<'a, EncoderState>> {
        match self.inner.try_lock() {
            Ok(inner) => Ok(inner),
            Err(TryLockError::WouldBlock) => Err(errors::busy(
                py,
                "another call on this Encoder has not ended yet; use one Encoder a thread",
            )),
            Err(TryLockError::Poisoned(_)) => Err(errors::broken()),
        }
    }

    /// The lock, while no captured frame is unfinished.
    fn free<'a>(&'a self, py: Python<'_>) -> PyResult<MutexGuard<'a, EncoderState>> {
        let mut inner = self.lock(py)?;
        let dropped = self.dropped.load(Ordering::Acquire);
        if inner.core.drop_up_to(dropped) {
            inner.forget_keys();
        }
        if inner.core.is_pending() {
            return Err(errors::busy(
                py,
                "a captured frame has not been finished yet; finish or drop it first",
            ));
        }
        Ok(inner)
    }

    /// The changes of an update.
    fn read_update(
        &self,
        py: Python<'_>,
        inner: &mut EncoderState,
        changes: &Bound<'_, PyAny>,
        removed: &[Vec<u8>],
    ) -> PyResult<ChangeSet> {
        if !inner.core.state.started {
            return Err(errors::usage(py, "there is no state to update yet; encode a snapshot first"));
        }
        inner.capture(py, |table, cache, default| capture_update(changes, removed, table, cache, default))
    }

    /// Keeps captured changes until their frame is made or dropped.
    fn keep(
        slf: &Bound<'_, Self>,
        inner: &mut EncoderState,
        changes: ChangeSet,
        full: bool,
    ) -> CapturedFrame {
        let kind = inner.core.kind(full);
        let base = inner.core.state.table.rows.len();
        let [added, removed] = [changes.added.len(), changes.removed.len()];
        let held_cells = changes.held_cells;
        let updated = changes.updated(base).into_iter().filter(|updated| *updated).count();
        CapturedFrame {
            encoder: slf.clone().unbind(),
            ticket: inner.core.keep(changes, kind),
            symbols: base - removed + added,
            added,
            removed,
            updated,
            held_cells,
            requested: kind,
            made: OnceLock::new(),
        }
    }

    fn read_columns(
        py: Python<'_>,
        inner: &mut EncoderState,
        data: &Bound<'_, PyAny>,
        symbol: &str,
    ) -> PyResult<ChangeSet> {
        inner.capture(py, |table, cache, default| {
            capture_columns(data, symbol.as_bytes(), table, cache, default)
        })
    }

    fn read(
        &self,
        py: Python<'_>,
        inner: &mut EncoderState,
        snapshot: &Bound<'_, PyAny>,
    ) -> PyResult<ChangeSet> {
        inner.capture(py, |table, cache, default| capture(snapshot, table, cache, default))
    }
}

impl EncoderState {
    /// The captured changes, without those that a tolerance holds.
    fn capture<'py>(
        &mut self,
        py: Python<'py>,
        read: impl FnOnce(
            &mut Table,
            &mut ConversionCache,
            Option<&Bound<'py, PyAny>>,
        ) -> ConvertResult<ChangeSet>,
    ) -> PyResult<ChangeSet> {
        let EncoderState { core, cache, default } = self;
        let default = default.as_ref().map(|default| default.bind(py));
        let captured = read(&mut core.state.table, cache, default);
        let mut changes = captured.map_err(|error| errors::to_python(py, error))?;
        core.hold_back(&mut changes);
        Ok(changes)
    }

    /// Forgets key objects whose keys a rollback removed from the schema.
    fn forget_keys(&mut self) {
        self.cache.forget_keys_beyond(&self.core.state.table.schema);
    }

    /// The frame and its kind; encoded without the GIL.
    fn encode_frame<'py>(
        &mut self,
        py: Python<'py>,
        changes: ChangeSet,
        kind: FrameKind,
    ) -> PyResult<(Bound<'py, PyBytes>, FrameKind)> {
        let made = py.detach(|| self.core.encode(changes, kind));
        if made.is_err() {
            self.forget_keys();
        }
        let (frame, kind) = made.map_err(|error| errors::core(py, &error))?;
        if self.core.state.refresh_schema() {
            self.cache.forget_schema();
        }
        Ok((PyBytes::new(py, &frame), kind))
    }
}

#[pymethods]
impl Encoder {
    #[new]
    #[pyo3(signature = (*, level = 3, default = None, epoch = 0, verify = false, tolerance = None))]
    fn new(
        py: Python<'_>,
        level: i32,
        default: Option<Py<PyAny>>,
        #[pyo3(from_py_with = epoch)] epoch: u64,
        verify: bool,
        tolerance: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let tolerances = tolerance.map(tolerances).transpose()?.unwrap_or_default();
        let level = check_level(py, level)?;
        let core = Core::new(level, epoch, verify, tolerances).map_err(|e| errors::core(py, &e))?;
        let inner = EncoderState { core, cache: ConversionCache::default(), default };
        Ok(Encoder { inner: Mutex::new(inner), dropped: AtomicU64::new(0) })
    }

    // a lock that is held belongs to a call, and so to a live object; only who has the GIL takes or frees it
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.inner.try_lock() {
            Ok(inner) => {
                visit.call(&inner.default)?;
                inner.cache.traverse(&visit)
            }
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let gone = self.inner.try_lock().ok().map(|mut inner| {
            let EncoderState { default, cache, .. } = &mut *inner;
            (default.take(), std::mem::take(cache))
        });
        // their finalizers may call this Encoder
        drop(gone);
    }

    /// The position at which the stream begins: the first frame has this epoch and `sequence + 1`.
    ///
    /// Allowed only before the first frame (ValueError afterwards), even while that frame is captured but
    /// unfinished.
    #[pyo3(signature = (epoch, sequence = 0))]
    fn begin(
        &self,
        py: Python<'_>,
        #[pyo3(from_py_with = epoch)] epoch: u64,
        #[pyo3(from_py_with = sequence)] sequence: u64,
    ) -> PyResult<()> {
        let state = &mut self.lock(py)?.core.state;
        if state.started {
            let message = format!(
                "the stream is at {}-{} already; begin a new one with a new Encoder",
                state.position.epoch, state.position.sequence
            );
            return Err(errors::usage(py, &message));
        }
        state.position = Position { epoch, sequence };
        Ok(())
    }

    /// Continues from the state of a Decoder, which keeps it. The next frame is a delta from that state, and
    /// names its epoch, sequence and digest. Readers with the same state apply it.
    ///
    /// Allowed only before the first frame, and if the epoch is above the Decoder's (ValueError otherwise).
    #[pyo3(signature = (decoder, /))]
    fn resume(&self, py: Python<'_>, decoder: &Bound<'_, Decoder>) -> PyResult<()> {
        let mut inner = self.free(py)?;
        let EncoderState { core, cache, .. } = &mut *inner;
        let state = &mut core.state;
        let problem = decoder.get().with_state(py, |base| {
            if state.started {
                Some("the stream has begun already; resume with a new Encoder".to_string())
            } else if !base.started {
                Some("the Decoder has no state yet; apply a full frame first".to_string())
            } else if state.position.epoch <= base.position.epoch {
                let [own, other] = [state.position.epoch, base.position.epoch];
                Some(format!("epoch {own} is not above {other}, the Decoder's; begin() with a new one"))
            } else {
                state.resume(base);
                None
            }
        })?;
        if let Some(problem) = problem {
            return Err(errors::usage(py, &problem));
        }
        cache.forget_schema();
        Ok(())
    }

    /// The frame from the last snapshot to this one; a full frame for `full=True`, or the first time.
    ///
    /// Raises UnsupportedTypeError (the message names the path), EncoderBusyError, EncodingError. An error
    /// leaves the state unchanged.
    #[pyo3(signature = (snapshot, /, full = false))]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        snapshot: &Bound<'py, PyAny>,
        full: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut inner = self.free(py)?;
        let changes = self.read(py, &mut inner, snapshot)?;
        let kind = inner.core.kind(full);
        Ok(inner.encode_frame(py, changes, kind)?.0)
    }

    /// Reads the snapshot and returns at once; `finish()` of the result encodes the frame. Later changes of
    /// the snapshot have no effect. Until you finish or drop the frame, other calls raise EncoderBusyError.
    #[pyo3(signature = (snapshot, /, full = false))]
    fn capture(slf: &Bound<'_, Self>, snapshot: &Bound<'_, PyAny>, full: bool) -> PyResult<CapturedFrame> {
        let py = slf.py();
        let this = slf.get();
        let mut inner = this.free(py)?;
        let changes = this.read(py, &mut inner, snapshot)?;
        Ok(Encoder::keep(slf, &mut inner, changes, full))
    }

    /// The frame from the last snapshot to the one in columns: `encode` of `{symbol: {column: value}}`,
    /// without a Python object for each cell. `data` is a dict of arrays, or an object with Arrow's PyCapsule
    /// interface; `symbol` names the column with the symbols. Nulls become None. docs/columns.md lists the
    /// types.
    ///
    /// Raises UsageError (no symbols, a duplicate or null symbol, columns of different lengths),
    /// UnsupportedTypeError (the message names the column), EncoderBusyError, EncodingError. An error leaves
    /// the state unchanged.
    #[pyo3(signature = (data, /, *, symbol = "_symbol", full = false))]
    fn encode_columns<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyAny>,
        symbol: &str,
        full: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut inner = self.free(py)?;
        let changes = Encoder::read_columns(py, &mut inner, data, symbol)?;
        let kind = inner.core.kind(full);
        Ok(inner.encode_frame(py, changes, kind)?.0)
    }

    /// Reads columns and returns at once, like `capture`.
    #[pyo3(signature = (data, /, *, symbol = "_symbol", full = false))]
    fn capture_columns(
        slf: &Bound<'_, Self>,
        data: &Bound<'_, PyAny>,
        symbol: &str,
        full: bool,
    ) -> PyResult<CapturedFrame> {
        let py = slf.py();
        let mut inner = slf.get().free(py)?;
        let changes = Encoder::read_columns(py, &mut inner, data, symbol)?;
        Ok(Encoder::keep(slf, &mut inner, changes, full))
    }

    /// The delta to the state with these records and without the removed symbols, for callers who know what
    /// changed. Known symbols keep their position, new ones come last; it ignores unknown removed ones. The
    /// cost is proportional to the changes.
    ///
    /// Raises UsageError before the first frame, and for a symbol that is both changed and removed; else what
    /// `encode` raises.
    #[pyo3(signature = (changes, /, removed = SymbolList::default()))]
    fn update<'py>(
        &self,
        py: Python<'py>,
        changes: &Bound<'py, PyAny>,
        removed: SymbolList,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut inner = self.free(py)?;
        let changes = self.read_update(py, &mut inner, changes, &removed.0)?;
        let kind = inner.core.kind(false);
        Ok(inner.encode_frame(py, changes, kind)?.0)
    }

    /// Reads an update and returns at once, like `capture`.
    #[pyo3(signature = (changes, /, removed = SymbolList::default()))]
    fn capture_update(
        slf: &Bound<'_, Self>,
        changes: &Bound<'_, PyAny>,
        removed: SymbolList,
    ) -> PyResult<CapturedFrame> {
        let py = slf.py();
        let this = slf.get();
        let mut inner = this.free(py)?;
        let changes = this.read_update(py, &mut inner, changes, &removed.0)?;
        Ok(Encoder::keep(slf, &mut inner, changes, false))
    }

    /// The state as a full frame, with the state's epoch, sequence and digest. The state does not change.
    fn full<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let mut inner = self.free(py)?;
        if !inner.core.state.started {
            return Err(errors::usage(py, "there is no state yet; encode a snapshot first"));
        }
        if inner.core.state.resumed_from.is_some() {
            let message = "the state is another writer's; encode a snapshot first";
            return Err(errors::usage(py, message));
        }
        let core = &mut inner.core;
        let frame = py.detach(|| core.full()).map_err(|e| errors::core(py, &e))?;
        Ok(PyBytes::new(py, &frame))
    }

    /// Goes into every frame.
    #[getter]
    fn epoch(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.lock(py)?.core.state.position.epoch)
    }

    /// Number of the last frame; before the first frame 0, or the argument of `begin()`.
    #[getter]
    fn sequence(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.lock(py)?.core.state.position.sequence)
    }

    /// Digest of the state.
    #[getter]
    fn digest(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.lock(py)?.core.state.digest)
    }

    /// The bytes that a reader's Limits must allow for the latest frames, counted as in FORMAT.md section 10.
    /// None without `verify`, because only decoding finds them.
    #[getter]
    fn required_bytes(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        Ok(self.lock(py)?.core.state.required_bytes())
    }

    /// Bytes of memory that the native state takes.
    #[getter]
    fn memory(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.lock(py)?.core.state.table.memory_bytes())
    }

    fn __repr__(&self) -> String {
        match self.inner.try_lock() {
            Ok(inner) => {
                let state = &inner.core.state;
                let rows = grouped(state.table.rows.len());
                format!(
                    "<snapdelta.Encoder {}-{}, {rows} symbols>",
                    state.position.epoch, state.position.sequence
                )
            }
            Err(_) => "<snapdelta.Encoder, busy>".into(),
        }
    }
}

/// A snapshot that was read and is not a frame yet.
#[pyclass(frozen, module = "snapdelta")]
pub(crate) struct CapturedFrame {
    encoder: Py<Encoder>,
    ticket: u64,
    /// Number of symbols in the snapshot.
    #[pyo3(get)]
    symbols: usize,
    /// Number of symbols that the previous state lacks.
    #[pyo3(get)]
    added: usize,
    /// Number of symbols of the previous state that are gone.
    #[pyo3(get)]
    removed: usize,
    /// Number of retained symbols with another record; a symbol that only moved does not count.
    #[pyo3(get)]
    updated: usize,
    /// Number of cells that keep the number published last, because the new one is within the tolerance.
    #[pyo3(get)]
    held_cells: u64,
    requested: FrameKind,
    made: OnceLock<FrameKind>,
}

#[pymethods]
impl CapturedFrame {
    // a cycle through it is one through its Encoder, which can be cleared
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.encoder)
    }

    /// The frame, encoded without the GIL. Works once.
    ///
    /// Raises EncodingError; then there is no frame, and the state is that before the capture.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let encoder = self.encoder.get();
        let mut inner = encoder.lock(py)?;
        let Some((changes, kind)) = inner.core.take(self.ticket) else {
            return Err(errors::usage(py, "this frame was finished before; capture the snapshot again"));
        };
        let (frame, kind) = inner.encode_frame(py, changes, kind)?;
        self.made.get_or_init(|| kind);
        Ok(frame)
    }

    /// "full" or "delta": the kind that `finish()` returned; before that, the requested kind.
    #[getter]
    fn kind(&self) -> &'static str {
        self.made.get().unwrap_or(&self.requested).name()
    }

    fn __repr__(&self) -> String {
        let finished = if self.made.get().is_some() { "finished" } else { "not finished" };
        let symbols = grouped(self.symbols);
        format!("<snapdelta.CapturedFrame {}, {symbols} symbols, {finished}>", self.kind())
    }
}

impl Drop for CapturedFrame {
    fn drop(&mut self) {
        // the lock may be held by a thread that waits for the GIL: leave a note instead
        self.encoder.get().dropped.fetch_max(self.ticket, Ordering::AcqRel);
    }
}
