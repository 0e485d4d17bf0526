//! A dict and a change set -> the next dict, in which unchanged records are the same objects.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::python::ffi::object::{GcPause, set_item};
use crate::python::to_python::base::Base;
use crate::python::to_python::build::{Builder, ObjectCache, text};
use crate::state::change_set::ChangeSet;
use crate::state::schema::{PathId, ROOT};
use crate::state::table::{Cell, Table};

/// The base with the changes made to it, in which unchanged records are the same objects.
pub(crate) fn patch<'py>(
    py: Python<'py>,
    base: &Base<'py>,
    table: &Table,
    changes: &ChangeSet,
    objects: &mut ObjectCache,
) -> PyResult<Bound<'py, PyDict>> {
    let _pause = GcPause::new(py);
    let Base { snapshot: previous, is_private, exact_types, .. } = base;
    let copies = Copies { is_private: *is_private, by_path: Vec::new(), made: Vec::new() };
    let mut patcher = Patcher { py, table, changes, builder: Builder::new(py, table, objects)?, copies };
    let updates = group_by_row(table.rows.len(), changes);
    let mut removed = changes.removed.iter().copied().peekable();
    let mut reshaped = changes.reshaped.iter().map(|(row, _)| *row).peekable();
    // a copy keeps the order: only what differs is set anew
    let next = previous.copy()?;
    for (at, (symbol, record)) in previous.iter().enumerate() {
        let row = at as u32;
        if removed.next_if_eq(&row).is_some() {
            next.del_item(symbol)?;
        } else if reshaped.next_if_eq(&row).is_some() || !updates.of(at).is_empty() || !exact_types[at] {
            let record = patcher.row(at, record, updates.of(at), exact_types[at])?;
            set_item(&next, &symbol.unbind(), record)?;
        }
    }
    for added in &changes.added {
        let (tags, words) = changes.record(table, added.record);
        let record = patcher.builder.record(added.record.shape, tags, words)?;
        set_item(&next, &text(py, &added.symbol)?.unbind(), record)?;
    }
    match &changes.order {
        None => Ok(next),
        Some(order) => reordered(&next, order),
    }
}

/// The rows of the reference in the order of the target.
fn reordered<'py>(reference: &Bound<'py, PyDict>, order: &[u32]) -> PyResult<Bound<'py, PyDict>> {
    let rows: Vec<_> = reference.iter().map(|(symbol, record)| (symbol.unbind(), record)).collect();
    let next = PyDict::new(reference.py());
    for at in order {
        let (symbol, record) = &rows[*at as usize];
        set_item(&next, symbol, record.clone())?;
    }
    Ok(next)
}

/// Updated cells by row, in the order of their paths.
struct ByRow {
    starts: Vec<u32>,
    cells: Vec<(PathId, Cell)>,
}

impl ByRow {
    fn of(&self, row: usize) -> &[(PathId, Cell)] {
        &self.cells[self.starts[row] as usize..self.starts[row + 1] as usize]
    }
}

/// A counting sort: one pass to count, one to place.
fn group_by_row(rows: usize, changes: &ChangeSet) -> ByRow {
    let mut starts = vec![0u32; rows + 1];
    for column in &changes.updates {
        column.rows.iter().for_each(|row| starts[*row as usize + 1] += 1);
    }
    for row in 0..rows {
        starts[row + 1] += starts[row];
    }
    let mut next = starts.clone();
    let nothing = (ROOT, Cell { tag: 0, word: 0 });
    let mut cells = vec![nothing; starts[rows] as usize];
    for (path, column) in (0..).zip(&changes.updates) {
        for (row, cell) in column.rows.iter().zip(column.new.iter()) {
            let at = &mut next[*row as usize];
            cells[*at as usize] = (path, cell);
            *at += 1;
        }
    }
    ByRow { starts, cells }
}

/// The dicts of the record at hand that are written to, by the path that leads to them.
struct Copies<'py> {
    /// The record and its dicts are copies already.
    is_private: bool,
    by_path: Vec<Option<Bound<'py, PyDict>>>,
    made: Vec<PathId>,
}

impl<'py> Copies<'py> {
    /// The dict to write to in the place of this one.
    fn of(&self, dict: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
        if self.is_private { Ok(dict.clone()) } else { dict.copy() }
    }

    fn get(&self, path: PathId) -> Option<&Bound<'py, PyDict>> {
        self.by_path.get(path as usize)?.as_ref()
    }

    fn put(&mut self, path: PathId, dict: Bound<'py, PyDict>) {
        let at = path as usize;
        if self.by_path.len() <= at {
            self.by_path.resize(at + 1, None);
        }
        self.by_path[at] = Some(dict);
        self.made.push(path);
    }

    /// The next record begins.
    fn clear(&mut self) {
        self.made.drain(..).for_each(|path| self.by_path[path as usize] = None);
    }
}

struct Patcher<'a, 'py> {
    py: Python<'py>,
    table: &'a Table,
    changes: &'a ChangeSet,
    builder: Builder<'a, 'py>,
    copies: Copies<'py>,
}

impl<'py> Patcher<'_, 'py> {
    fn row(
        &mut self,
        at: usize,
        record: Bound<'py, PyAny>,
        updates: &[(PathId, Cell)],
        exact_types: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let reshaped = self.changes.reshaped.binary_search_by_key(&(at as u32), |r| r.0);
        if let Ok(i) = reshaped {
            let new = self.changes.reshaped[i].1;
            let (tags, words) = self.changes.record(self.table, new);
            return self.builder.record(new.shape, tags, words);
        }
        if exact_types && updates.is_empty() {
            return Ok(record);
        }
        match record.cast_exact::<PyDict>() {
            // `{}` is a leaf
            Ok(dict) if exact_types && !dict.is_empty() => self.copy_with(dict, updates),
            _ => self.rebuild(at, updates),
        }
    }

    /// A record whose objects may not be shared, or that is one leaf.
    fn rebuild(&mut self, at: usize, updates: &[(PathId, Cell)]) -> PyResult<Bound<'py, PyAny>> {
        let row = &self.table.rows[at];
        let (mut tags, mut words) = (row.tags.clone(), row.words.clone());
        let shape = &self.table.schema.shapes[row.shape as usize];
        for (path, cell) in updates {
            if let Some(position) = shape.position(*path) {
                tags[position] = cell.tag;
                words[position] = cell.word;
            }
        }
        self.builder.record(row.shape, &tags, &words)
    }

    /// A copy of the record, and of the dicts in it that lead to a change.
    fn copy_with(
        &mut self,
        record: &Bound<'py, PyDict>,
        updates: &[(PathId, Cell)],
    ) -> PyResult<Bound<'py, PyAny>> {
        let copy = self.copies.of(record)?;
        self.copies.clear();
        self.copies.put(ROOT, copy.clone());
        for (path, cell) in updates {
            let value = self.builder.cell(*cell)?;
            let frame_path = &self.table.schema.paths[*path as usize];
            let dict = self.copy_of(frame_path.parent)?;
            set_item(&dict, self.builder.key(frame_path.key)?, value)?;
        }
        Ok(copy.into_any())
    }

    fn copy_of(&mut self, path: PathId) -> PyResult<Bound<'py, PyDict>> {
        if let Some(dict) = self.copies.get(path) {
            return Ok(dict.clone());
        }
        let frame_path = &self.table.schema.paths[path as usize];
        let above = self.copy_of(frame_path.parent)?;
        let key = self.builder.key(frame_path.key)?.clone_ref(self.py);
        let dict = match above.get_item(&key)? {
            Some(inside) => self.copies.of(inside.cast::<PyDict>()?)?,
            None => PyDict::new(self.py),
        };
        set_item(&above, &key, dict.clone().into_any())?;
        self.copies.put(path, dict.clone());
        Ok(dict)
    }
}
