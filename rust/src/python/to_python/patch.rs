//! A dict and a change set -> the next dict, in which unchanged records are the same objects.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::python::ffi::build::{pair_at, replace_at, set_item};
use crate::python::ffi::types::Types;
use crate::python::to_python::base::Base;
use crate::python::to_python::build::{Builder, ObjectCache, text};
use crate::state::change_set::ChangeSet;
use crate::state::schema::{PathId, ROOT, Shape, ShapeId, ShapePlace, ShapePlaces};
use crate::state::table::{Cell, Table};

/// The base with the changes made to it, in which unchanged records are the same objects.
pub(crate) fn patch<'py>(
    py: Python<'py>,
    base: &Base<'py>,
    table: &Table,
    changes: &ChangeSet,
    objects: &mut ObjectCache,
) -> PyResult<Bound<'py, PyDict>> {
    let Base { snapshot: previous, is_private, exact_types, .. } = base;
    let types = Types::get(py)?;
    let builder = Builder::new(py, table, objects)?.without_gc();
    let mut patcher = Patcher { types, table, changes, builder, copies: Copies::new(*is_private) };
    let updates = group_by_row(table.rows.len(), changes);
    let mut removed = changes.removed.iter().copied().peekable();
    let mut reshaped = changes.reshaped.iter().map(|(row, _)| *row).peekable();
    // a copy keeps the order: only what differs is set anew
    let next = previous.copy()?;
    let pairs = DictPairs::of(previous, types);
    let mut gone = Vec::new();
    for (at, exact_types) in exact_types.iter().enumerate() {
        let row = at as u32;
        if removed.next_if_eq(&row).is_some() {
            gone.push(pairs.get(at)?.0);
        } else if reshaped.next_if_eq(&row).is_some() || !updates.of(at).is_empty() || !exact_types {
            let (symbol, record) = pairs.get(at)?;
            let record = patcher.row(at, record, updates.of(at), *exact_types)?;
            if let Some(record) = replace_at(&next, at, record, types) {
                set_item(&next, &symbol.unbind(), record)?;
            }
        }
    }
    // last: what is gone leaves a gap
    gone.into_iter().try_for_each(|symbol| next.del_item(symbol))?;
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

/// The pairs of a dict by their place: where they stand, or listed.
struct DictPairs<'a, 'py> {
    dict: &'a Bound<'py, PyDict>,
    types: &'py Types,
    listed: Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
}

impl<'a, 'py> DictPairs<'a, 'py> {
    fn of(dict: &'a Bound<'py, PyDict>, types: &'py Types) -> Self {
        let listed = if pair_at(dict, 0, types).is_none() { dict.iter().collect() } else { Vec::new() };
        DictPairs { dict, types, listed }
    }

    fn get(&self, at: usize) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let listed = || self.listed.get(at).cloned();
        let pair = pair_at(self.dict, at, self.types).filter(|_| self.listed.is_empty()).or_else(listed);
        pair.ok_or_else(|| PyRuntimeError::new_err("the dict changed while a delta was applied to it"))
    }
}

/// The dicts of the record at hand that are written to.
struct Copies<'py> {
    /// The record and its dicts are copies already.
    is_private: bool,
    shape: ShapeId,
    places: ShapePlaces,
    /// By number in the shape.
    dicts: Vec<Option<Bound<'py, PyDict>>>,
}

impl<'py> Copies<'py> {
    fn new(is_private: bool) -> Copies<'py> {
        Copies { is_private, shape: ShapeId::MAX, places: ShapePlaces::default(), dicts: Vec::new() }
    }

    /// The dict to write to in the place of this one.
    fn of(&self, dict: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
        if self.is_private { Ok(dict.clone()) } else { dict.copy() }
    }

    /// The next record begins: its copy.
    fn start(
        &mut self,
        id: ShapeId,
        shape: &Shape,
        record: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyDict>> {
        if self.shape != id {
            self.shape = id;
            self.places = shape.places();
        }
        self.dicts.clear();
        self.dicts.resize(self.places.dicts.len(), None);
        let copy = self.of(record)?;
        self.dicts[0] = Some(copy.clone());
        Ok(copy)
    }
}

struct Patcher<'a, 'py> {
    types: &'py Types,
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
            Ok(dict) if exact_types && !dict.is_empty() => self.copy_with(at, dict, updates),
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
        at: usize,
        record: &Bound<'py, PyDict>,
        updates: &[(PathId, Cell)],
    ) -> PyResult<Bound<'py, PyAny>> {
        let id = self.table.rows[at].shape;
        let shape = &self.table.schema.shapes[id as usize];
        let copy = self.copies.start(id, shape, record)?;
        for (path, cell) in updates {
            let Some(position) = shape.position(*path) else { continue };
            let ShapePlace { dict: number, at: place } = self.copies.places.leaves[position];
            let value = self.builder.cell(*cell)?;
            let copied;
            let dict = match &self.copies.dicts[number as usize] {
                Some(dict) => dict,
                None => {
                    copied = self.copy_dict(shape, number)?;
                    &copied
                }
            };
            if let Some(value) = replace_at(dict, place, value, self.types) {
                let key = shape.dict(number)[place].key;
                set_item(dict, self.builder.key(key)?, value)?;
            }
        }
        Ok(copy.into_any())
    }

    /// A copy of a dict of the record, in its place in the copy of the one that holds it.
    fn copy_dict(&mut self, shape: &Shape, number: u32) -> PyResult<Bound<'py, PyDict>> {
        let ShapePlace { dict: above_number, at: place } = self.copies.places.dicts[number as usize];
        let key = shape.dict(above_number)[place].key;
        let above = match &self.copies.dicts[above_number as usize] {
            Some(above) => above.clone(),
            None => self.copy_dict(shape, above_number)?,
        };
        let inside = match pair_at(&above, place, self.types) {
            Some((_, inside)) => inside,
            None => above.as_any().get_item(self.builder.key(key)?)?,
        };
        let dict = self.copies.of(inside.cast::<PyDict>()?)?;
        self.copies.dicts[number as usize] = Some(dict.clone());
        if let Some(dict) = replace_at(&above, place, dict.clone().into_any(), self.types) {
            set_item(&above, self.builder.key(key)?, dict)?;
        }
        Ok(dict)
    }
}
