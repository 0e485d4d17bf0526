//! Encoder and its captured frames.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::capture::capture;
use super::errors;
use super::memory::Memory;
use super::trouble::{Outcome, Trouble};
use crate::codec::State;
use crate::format::header::Kind;
use crate::frame::Sealer;
use crate::table::changes::ChangeSet;

/// The levels that zstd has.
pub fn check_level(level: i32) -> PyResult<i32> {
    if (1..=22).contains(&level) {
        Ok(level)
    } else {
        Err(PyValueError::new_err(format!("level: {level} is not from 1 to 22")))
    }
}

struct Pending {
    ticket: u64,
    changes: ChangeSet,
    kind: Kind,
}

struct Inner {
    state: State,
    memory: Memory,
    sealer: Sealer,
    pending: Option<Pending>,
    tickets: u64,
}

/// Owns the previous state natively and makes frames of what changed.
///
/// `level` is zstd's (1 to 22). `default`, if given, is called with each value of a kind that is not supported and
/// returns one that is. `epoch` goes into every frame. The first frame is a full one.
#[pyclass(frozen, module = "snapdelta")]
pub struct Encoder {
    inner: Mutex<Inner>,
    default: Option<Py<PyAny>>,
    /// Ticket of a captured frame that was dropped unfinished.
    dropped: AtomicU64,
}

impl Encoder {
    fn lock<'a>(&'a self, py: Python<'_>) -> PyResult<MutexGuard<'a, Inner>> {
        match self.inner.try_lock() {
            Ok(inner) => Ok(inner),
            Err(TryLockError::WouldBlock) => Err(errors::busy(
                py,
                "another call on this Encoder has not ended yet; use one Encoder a thread",
            )),
            Err(TryLockError::Poisoned(_)) => Err(errors::broken()),
        }
    }

    /// The lock, with no captured frame on its way.
    fn free<'a>(&'a self, py: Python<'_>) -> PyResult<MutexGuard<'a, Inner>> {
        let mut inner = self.lock(py)?;
        let dropped = self.dropped.load(Ordering::Acquire);
        if let Some(pending) = inner.pending.take_if(|pending| pending.ticket == dropped) {
            pending.changes.abandon(&mut inner.state.table);
        }
        if inner.pending.is_some() {
            return Err(errors::busy(
                py,
                "a captured frame has not been finished yet; finish or drop it first",
            ));
        }
        Ok(inner)
    }

    fn read(&self, py: Python<'_>, inner: &mut Inner, snapshot: &Bound<'_, PyAny>) -> PyResult<ChangeSet> {
        let default = self.default.as_ref().map(|default| default.bind(py));
        let Inner { state, memory, .. } = inner;
        let captured = capture(py, snapshot, &mut state.table, memory, default, None);
        captured.map(|(changes, _)| changes).map_err(|trouble| errors::to_python(py, trouble))
    }
}

impl Inner {
    fn kind(&self, full: bool) -> Kind {
        if full || self.state.sequence == 0 { Kind::Full } else { Kind::Delta }
    }

    fn code(&mut self, changes: ChangeSet, kind: Kind) -> Outcome<Vec<u8>> {
        let Some(sequence) = self.state.sequence.checked_add(1) else {
            changes.abandon(&mut self.state.table);
            return Err(Trouble::unsupported("the sequence has come to its end; start a new epoch"));
        };
        Ok(self.state.encode(changes, kind, sequence, &mut self.sealer)?)
    }

    fn settle(&mut self) {
        if self.state.refresh_names() {
            self.memory.forget_names();
        }
    }
}

#[pymethods]
impl Encoder {
    #[new]
    #[pyo3(signature = (*, level = 3, default = None, epoch = 0))]
    fn new(py: Python<'_>, level: i32, default: Option<Py<PyAny>>, epoch: u64) -> PyResult<Self> {
        let sealer = Sealer::new(check_level(level)?).map_err(|e| errors::core(py, &e))?;
        let inner =
            Inner { state: State::new(epoch), memory: Memory::default(), sealer, pending: None, tickets: 0 };
        Ok(Encoder { inner: Mutex::new(inner), default, dropped: AtomicU64::new(0) })
    }

    /// The frame that leads from the last snapshot to this one; a full frame if asked for, or the first time.
    ///
    /// Raises UnsupportedTypeError (the message names the path), EncoderBusyError. After an error the state is what it was.
    #[pyo3(signature = (snapshot, /, full = false))]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        snapshot: &Bound<'py, PyAny>,
        full: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut inner = self.free(py)?;
        let changes = self.read(py, &mut inner, snapshot)?;
        let kind = inner.kind(full);
        let frame = {
            let inner = &mut *inner;
            py.detach(|| inner.code(changes, kind)).map_err(|trouble| errors::to_python(py, trouble))?
        };
        inner.settle();
        Ok(PyBytes::new(py, &frame))
    }

    /// Reads the snapshot and returns at once; `finish()` of the result makes the frame. What happens to the snapshot
    /// after this call is not seen. Until the frame is finished or dropped, other calls raise EncoderBusyError.
    #[pyo3(signature = (snapshot, /, full = false))]
    fn capture(slf: &Bound<'_, Self>, snapshot: &Bound<'_, PyAny>, full: bool) -> PyResult<CapturedFrame> {
        let py = slf.py();
        let this = slf.get();
        let mut inner = this.free(py)?;
        let changes = this.read(py, &mut inner, snapshot)?;
        let kind = inner.kind(full);
        inner.tickets += 1;
        let ticket = inner.tickets;
        inner.pending = Some(Pending { ticket, changes, kind });
        Ok(CapturedFrame { encoder: slf.clone().unbind(), ticket })
    }

    /// The state as a full frame, under the epoch, sequence and digest that it has. The state does not move.
    fn full<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let mut inner = self.free(py)?;
        let Inner { state, sealer, .. } = &mut *inner;
        if state.sequence == 0 {
            return Err(PyValueError::new_err("nothing was encoded yet"));
        }
        let frame = py.detach(|| state.full(sealer)).map_err(|e| errors::core(py, &e))?;
        Ok(PyBytes::new(py, &frame))
    }

    /// Goes into every frame.
    #[getter]
    fn epoch(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.lock(py)?.state.epoch)
    }

    /// Number of the last frame, 0 before the first.
    #[getter]
    fn sequence(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.lock(py)?.state.sequence)
    }

    /// Digest of the state.
    #[getter]
    fn digest(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.lock(py)?.state.digest)
    }

    /// Bytes of memory that the native state takes.
    #[getter]
    fn memory(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.lock(py)?.state.table.memory())
    }
}

/// A snapshot that was read and is not a frame yet.
#[pyclass(frozen, module = "snapdelta")]
pub struct CapturedFrame {
    encoder: Py<Encoder>,
    ticket: u64,
}

#[pymethods]
impl CapturedFrame {
    /// The frame. The GIL is not held while it is made. Works once.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let encoder = self.encoder.get();
        let mut inner = encoder.lock(py)?;
        let Some(pending) = inner.pending.take_if(|pending| pending.ticket == self.ticket) else {
            return Err(PyValueError::new_err("this frame was finished before"));
        };
        let frame = {
            let inner = &mut *inner;
            py.detach(|| inner.code(pending.changes, pending.kind))
                .map_err(|trouble| errors::to_python(py, trouble))?
        };
        inner.settle();
        Ok(PyBytes::new(py, &frame))
    }
}

impl Drop for CapturedFrame {
    fn drop(&mut self) {
        // the lock may be held by a thread that waits for the GIL: leave a note instead
        self.encoder.get().dropped.store(self.ticket, Ordering::Release);
    }
}

/// A snapshot's whole frame, or a delta: the stateless ways in.
pub fn stateless(
    py: Python<'_>,
    previous: Option<&Bound<'_, PyAny>>,
    current: &Bound<'_, PyAny>,
    level: i32,
    default: Option<&Bound<'_, PyAny>>,
) -> Outcome<Vec<u8>> {
    let mut sealer = Sealer::new(check_level(level)?)?;
    let mut memory = Memory::default();
    let mut state = State::new(0);
    let kind = match previous {
        None => Kind::Full,
        Some(previous) => {
            let (changes, _) = capture(py, previous, &mut state.table, &mut memory, default, None)?;
            let outcome = changes.outcome(&state.table);
            state.digest = outcome.digest;
            changes.commit(&mut state.table, &outcome);
            Kind::Delta
        }
    };
    let (changes, _) = capture(py, current, &mut state.table, &mut memory, default, None)?;
    Ok(py.detach(|| state.encode(changes, kind, 0, &mut sealer))?)
}

/// The dict that a snapshot is.
pub fn as_snapshot<'py>(snapshot: &Bound<'py, PyAny>) -> Outcome<Bound<'py, PyDict>> {
    let py = snapshot.py();
    if let Ok(dict) = snapshot.cast_exact::<PyDict>() {
        return Ok(dict.clone());
    }
    let types = super::types::Types::get(py)?;
    let class = snapshot.get_type();
    if class.is(&types.ordered_dict) || class.is(&types.default_dict) {
        // in the order of its own iteration
        let copy = py.get_type::<PyDict>().call1((snapshot,))?;
        return Ok(copy.cast_into::<PyDict>().map_err(PyErr::from)?);
    }
    Err(Trouble::unsupported(format!("a snapshot is a dict, not {}", class.name()?)))
}
