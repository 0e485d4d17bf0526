//! The whole way in: walk, then resolve, then a change set; or nothing at all.

use pyo3::prelude::*;

use super::encoder::as_snapshot;
use super::foreign::Resolver;
use super::memory::Memory;
use super::trouble::Outcome;
use super::types::Types;
use super::walk::Capture;
use crate::table::Table;
use crate::table::changes::ChangeSet;

/// The change set that leads from the table's state to the snapshot, and for each of its rows whether it is built back
/// from the same types. After an error the state is what it was.
pub fn capture(
    py: Python<'_>,
    snapshot: &Bound<'_, PyAny>,
    table: &mut Table,
    memory: &mut Memory,
    default: Option<&Bound<'_, PyAny>>,
    only: Option<&[bool]>,
) -> Outcome<(ChangeSet, Vec<bool>)> {
    let snapshot = as_snapshot(snapshot)?;
    let types = Types::get(py)?;
    let mut capture = Capture::new(table, memory);
    let resolver = Resolver { py, types, default };
    let read = capture.walk(py, &snapshot, only).and_then(|()| resolver.resolve(&mut capture));
    capture.memory.keys.settle();
    match read {
        Ok(()) => Ok(capture.finished()),
        Err(trouble) => {
            capture.abandon();
            Err(trouble)
        }
    }
}
