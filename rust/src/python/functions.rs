//! The stateless functions: diff, apply, dumps, loads, inspect.

use std::collections::BTreeSet;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::codec::bundle::{Delta, bundle, deltas_of};
use crate::codec::compose::compose as compose_deltas;
use crate::codec::decoder::{check_base, open_full};
use crate::codec::state::{State, check_rows, check_target};
use crate::error::Result;
use crate::format::budget::Budget;
use crate::format::header::{FrameKind, Header};
use crate::frame::container::{self, FrameWriter};
use crate::frame::decode;
use crate::frame::inspect as inspection;
use crate::python::arrow_table::ArrowTable;
use crate::python::convert_error::ConvertResult;
use crate::python::errors;
use crate::python::ffi::build::set_item;
use crate::python::frame_bytes::FrameBytes;
use crate::python::frame_info::FrameInfo;
use crate::python::from_python::cache::ConversionCache;
use crate::python::from_python::{as_snapshot, capture};
use crate::python::level::check_level;
use crate::python::limits::max_bytes;
use crate::python::symbol_list::SymbolList;
use crate::python::to_python::base::Base;
use crate::python::to_python::build::{Builder, ObjectCache, text};
use crate::python::to_python::patch::patch;

/// The delta that leads from one snapshot to another. Stateless: epoch and sequence 0, checked by digest.
///
/// `level` is zstd's (1 to 22); `default` is called with values of kinds that are not supported.
/// Raises UnsupportedTypeError, whose message names the path.
#[pyfunction]
#[pyo3(signature = (prev, curr, /, *, level = 3, default = None))]
pub(crate) fn diff<'py>(
    py: Python<'py>,
    prev: &Bound<'py, PyAny>,
    curr: &Bound<'py, PyAny>,
    level: i32,
    default: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let frame = stateless(py, Some(prev), curr, level, default).map_err(|e| errors::to_python(py, e))?;
    Ok(PyBytes::new(py, &frame))
}

/// A snapshot as a full frame.
#[pyfunction]
#[pyo3(signature = (snapshot, /, *, level = 3, default = None))]
pub(crate) fn dumps<'py>(
    py: Python<'py>,
    snapshot: &Bound<'py, PyAny>,
    level: i32,
    default: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let frame = stateless(py, None, snapshot, level, default).map_err(|e| errors::to_python(py, e))?;
    Ok(PyBytes::new(py, &frame))
}

/// The snapshot of a full frame. `limits` bounds the memory that it may take.
///
/// Raises CorruptDeltaError, LimitExceededError, UnsupportedVersionError, UnknownZoneError; BaseMismatchError for a delta.
#[pyfunction]
#[pyo3(signature = (frame, /, *, limits = None))]
pub(crate) fn loads<'py>(
    py: Python<'py>,
    frame: FrameBytes<'_>,
    limits: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let limit = max_bytes(limits)?;
    let state = py.detach(|| open_full(&frame, limit)).map_err(|e| errors::core(py, &e))?;
    build(py, &state)
}

fn build<'py>(py: Python<'py>, state: &State) -> PyResult<Bound<'py, PyDict>> {
    let mut objects = ObjectCache::default();
    let mut builder = Builder::new(py, &state.table, &mut objects)?.without_gc();
    let snapshot = PyDict::new(py);
    for (at, row) in state.table.rows.iter().enumerate() {
        let record = builder.row(at)?;
        set_item(&snapshot, &text(py, &row.symbol)?.unbind(), record)?;
    }
    Ok(snapshot)
}

/// The snapshot that a delta makes of `prev`, which is not changed. A full frame is taken as it is.
///
/// Records that did not change are shared with `prev`. Unchanged dicts and lists of a changed record may be shared too.
///
/// With `verify` (the default) the digest of `prev` is checked before, and that of the result; without, only the
/// number of rows and the symbols that the delta names. `default` is the one that `prev` was encoded with.
/// Raises BaseMismatchError, CorruptDeltaError, LimitExceededError, UnsupportedVersionError, UnsupportedTypeError.
#[pyfunction]
#[pyo3(signature = (prev, frame, /, *, verify = true, default = None, limits = None))]
pub(crate) fn apply<'py>(
    py: Python<'py>,
    prev: &Bound<'py, PyAny>,
    frame: FrameBytes<'_>,
    verify: bool,
    default: Option<&Bound<'py, PyAny>>,
    limits: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let limit = max_bytes(limits)?;
    let (header, payload) = py.detach(|| Header::read(&frame)).map_err(|e| errors::core(py, &e))?;
    if header.kind == FrameKind::Full {
        return loads(py, frame, limits);
    }
    let apply_frame = if header.is_bundle { apply_bundle } else { apply_delta };
    let applied = apply_frame(prev, &header, payload, verify, default, Budget::new(limit));
    applied.map_err(|e| errors::to_python(py, e))
}

fn apply_bundle<'py>(
    previous: &Bound<'py, PyAny>,
    header: &Header,
    payload: &[u8],
    verify: bool,
    default: Option<&Bound<'py, PyAny>>,
    mut budget: Budget,
) -> ConvertResult<Bound<'py, PyDict>> {
    let py = previous.py();
    check_rows(header, as_snapshot(previous)?.len())?;
    budget.check_required(header.required_bytes)?;
    let contents = py.detach(|| container::read_contents(header, payload, &mut budget))?;
    let mut snapshot = previous.clone();
    for Delta { header, payload, .. } in py.detach(|| deltas_of(header, &contents.body, &mut budget))? {
        snapshot = apply_delta(&snapshot, &header, payload, verify, default, budget.rest())?.into_any();
    }
    Ok(snapshot.cast_into::<PyDict>().map_err(PyErr::from)?)
}

fn apply_delta<'py>(
    previous: &Bound<'py, PyAny>,
    header: &Header,
    payload: &[u8],
    verify: bool,
    default: Option<&Bound<'py, PyAny>>,
    mut budget: Budget,
) -> ConvertResult<Bound<'py, PyDict>> {
    let py = previous.py();
    let snapshot = as_snapshot(previous)?;
    check_rows(header, snapshot.len())?;
    budget.check_required(header.required_bytes)?;
    let contents = py.detach(|| container::read_contents(header, payload, &mut budget))?;
    let mut state = State::new(0);
    let table = &mut state.table;
    let (mut base, read) = Base::read(snapshot, &contents, table, default, &budget)?;
    let preview = read.preview(table);
    if verify {
        check_base(header, preview.digest)?;
    }
    read.commit(table, &preview);
    // what was read: the dict may have changed since it was counted
    check_rows(header, table.rows.len())?;
    let changes = base.changes(py, &contents, table, &mut budget)?;
    if verify {
        check_target(header, changes.preview(table).digest)?;
    }
    let mut objects = std::mem::take(&mut base.objects);
    Ok(patch(py, &base, table, &changes, &mut objects)?)
}

/// Deltas that follow each other as one frame: it leads from the base of the first to the target of the last.
///
/// With `base` it is one delta, as small as a `diff` of the two ends. Without, it is a bundle: the deltas themselves,
/// which a reader applies in one call; bundles among them count as their deltas. None is decoded, so that `level`,
/// `default` and `limits` do not matter.
///
/// `base` is the snapshot that the first was made from, as a dict or as a full frame; `default` is the one that it was
/// encoded with. Raises UsageError without a delta, BaseMismatchError where the deltas or the base do not follow,
/// EncodingError where the composed delta does not read back, and what `Decoder.apply` raises.
#[pyfunction]
#[pyo3(signature = (deltas, /, base = None, *, level = 3, default = None, limits = None))]
pub(crate) fn compose<'py>(
    py: Python<'py>,
    deltas: Vec<Bound<'py, PyAny>>,
    base: Option<&Bound<'py, PyAny>>,
    level: i32,
    default: Option<&Bound<'py, PyAny>>,
    limits: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyBytes>> {
    if deltas.is_empty() {
        return Err(errors::usage(py, "deltas: the list is empty; give one or more"));
    }
    let limit = max_bytes(limits)?;
    let mut frame_writer = FrameWriter::new(check_level(py, level)?).map_err(|e| errors::core(py, &e))?;
    let Some(base) = base else {
        let frames: Vec<FrameBytes<'_>> =
            deltas.iter().map(PyAnyMethods::extract).collect::<PyResult<_>>()?;
        let frames: Vec<&[u8]> = frames.iter().map(|frame| &**frame).collect();
        let made = py.detach(|| bundle(&frames));
        return Ok(PyBytes::new(py, &made.map_err(|e| errors::core(py, &e))?));
    };
    let mut state = match base.extract::<FrameBytes<'_>>() {
        Ok(full) => py.detach(|| open_full(&full, limit)).map_err(|e| errors::core(py, &e))?,
        Err(_) => {
            let mut state = State::new(0);
            read_base(base, &mut state, &mut ConversionCache::default(), default)
                .map_err(|e| errors::to_python(py, e))?;
            state
        }
    };
    let deltas: Vec<FrameBytes<'_>> = deltas.iter().map(PyAnyMethods::extract).collect::<PyResult<_>>()?;
    let deltas: Vec<&[u8]> = deltas.iter().map(|delta| &**delta).collect();
    let composed = py.detach(|| compose_deltas(&mut state, &deltas, limit, &mut frame_writer));
    Ok(PyBytes::new(py, &composed.map_err(|e| errors::core(py, &e))?))
}

/// A snapshot as columns; with `symbols`, their rows alone, in the order of the snapshot and with the types of all rows.
///
/// `flat`: a column a path (`day.v`), in place of a struct a dict. `default` is called with values of kinds that are not
/// supported. Raises UnsupportedTypeError, LimitExceededError, UsageError.
#[pyfunction]
#[pyo3(signature = (snapshot, /, *, symbols = None, flat = false, default = None, limits = None))]
pub(crate) fn arrow_table<'py>(
    py: Python<'py>,
    snapshot: &Bound<'py, PyAny>,
    symbols: Option<SymbolList>,
    flat: bool,
    default: Option<&Bound<'py, PyAny>>,
    limits: Option<&Bound<'py, PyAny>>,
) -> PyResult<ArrowTable> {
    let limit = max_bytes(limits)?;
    let mut state = State::new(0);
    read_base(snapshot, &mut state, &mut ConversionCache::default(), default)
        .map_err(|e| errors::to_python(py, e))?;
    let table = &mut state.table;
    let rows = symbols.map(|symbols| {
        let rows = symbols.0.iter().filter_map(|symbol| table.position(symbol));
        rows.map(|row| row as u32).collect::<BTreeSet<_>>().into_iter().collect()
    });
    let made = ArrowTable::of(py, table, rows, flat, &mut ObjectCache::default(), limit);
    made.map_err(|e| errors::to_python(py, e))
}

/// What is in a frame: kind, version, place in its stream, digests, counts, and how each column is coded.
///
/// A delta names only the columns that its base lacks. `base`, the snapshot that it was made from, gives the names of the
/// others; another snapshot is a BaseMismatchError. A full frame has no base, so that `base` is ignored. `default` is the function that the delta was encoded with.
#[pyfunction]
#[pyo3(signature = (frame, /, *, base = None, default = None, limits = None))]
pub(crate) fn inspect<'py>(
    py: Python<'py>,
    frame: FrameBytes<'_>,
    base: Option<&Bound<'py, PyAny>>,
    default: Option<&Bound<'py, PyAny>>,
    limits: Option<&Bound<'py, PyAny>>,
) -> PyResult<FrameInfo> {
    let limit = max_bytes(limits)?;
    let (header, payload) = py.detach(|| Header::read(&frame)).map_err(|e| errors::core(py, &e))?;
    let mut state = State::new(0);
    let base = match base.filter(|_| header.kind == FrameKind::Delta) {
        None => None,
        Some(base) => {
            read_base(base, &mut state, &mut ConversionCache::default(), default)
                .map_err(|e| errors::to_python(py, e))?;
            Some(&mut state)
        }
    };
    let inspected = py.detach(|| {
        if let Some(base) = &base {
            check_base(&header, base.digest)?;
            check_rows(&header, base.table.rows.len())?;
        }
        let mut budget = Budget::new(limit);
        let contents = container::read_contents(&header, payload, &mut budget)?;
        if header.is_bundle {
            let deltas = deltas_of(&header, &contents.body, &mut budget)?;
            return Ok((inspect_bundle(&deltas, &budget)?, contents.body.len()));
        }
        let table = base.as_deref().map(|base| &base.table);
        // what this reading charges is free again before the next one, but for the names
        let mut summary = inspection::inspect(&contents.body, header.base.rows, table, &mut budget.rest())?;
        if let Some(base) = base.filter(|_| summary.added_symbols.is_none()) {
            let changes = decode::read(&contents, &mut base.table, &mut budget)?;
            summary.added_symbols = Some(changes.added.iter().map(|added| added.symbol.to_vec()).collect());
        }
        Ok((summary, contents.body.len()))
    });
    let (summary, length) = inspected.map_err(|e| errors::core(py, &e))?;
    FrameInfo::new(py, frame.len(), &header, summary, length)
}

/// What the deltas of a bundle do, each counted by itself.
fn inspect_bundle(deltas: &[Delta<'_>], budget: &Budget) -> Result<inspection::BodySummary> {
    let mut all = inspection::BodySummary::default();
    for (at, Delta { header, payload, .. }) in deltas.iter().enumerate() {
        let mut own = budget.rest();
        let contents = container::read_contents(header, payload, &mut own)?;
        let one = inspection::inspect(&contents.body, header.base.rows, None, &mut own)?;
        if at == 0 {
            all.base_rows = one.base_rows;
        }
        all.removed += one.removed;
        all.added += one.added;
        all.updated += one.updated;
        all.moved += one.moved;
        all.sparse_updates += one.sparse_updates;
    }
    Ok(all)
}

/// Brings an empty state to a snapshot.
fn read_base(
    snapshot: &Bound<'_, PyAny>,
    state: &mut State,
    cache: &mut ConversionCache,
    default: Option<&Bound<'_, PyAny>>,
) -> ConvertResult<()> {
    let changes = capture(snapshot, &mut state.table, cache, default)?;
    let preview = changes.preview(&state.table);
    state.digest = preview.digest;
    changes.commit(&mut state.table, &preview);
    Ok(())
}

/// A snapshot's whole frame, or a delta: the stateless ways in.
fn stateless(
    py: Python<'_>,
    previous: Option<&Bound<'_, PyAny>>,
    current: &Bound<'_, PyAny>,
    level: i32,
    default: Option<&Bound<'_, PyAny>>,
) -> ConvertResult<Vec<u8>> {
    let mut frame_writer = FrameWriter::new(check_level(py, level)?)?;
    let mut cache = ConversionCache::default();
    let mut state = State::new(0);
    let kind = match previous {
        None => FrameKind::Full,
        Some(previous) => {
            read_base(previous, &mut state, &mut cache, default)?;
            FrameKind::Delta
        }
    };
    let changes = capture(current, &mut state.table, &mut cache, default)?;
    // the state ends here: nothing is committed to it
    let frame = py.detach(|| {
        let target = changes.preview(&state.table).digest;
        state.frame(&changes, target, kind, 0, &mut frame_writer)
    });
    Ok(frame?.0)
}
