//! A capture on its way: where each row of the target comes from, and records as they become part of a change set.

use std::collections::HashSet;

use pyo3::prelude::*;

use crate::error::key_text;
use crate::format::writer::Writer;
use crate::python::convert_error::{ConvertError, ConvertResult};
use crate::python::errors;
use crate::python::ffi::prefetch::prefetch_slice;
use crate::python::from_python::cache::ConversionCache;
use crate::python::from_python::deferred::{CellPlace, DeferredCell, DeferredRecord, RecordItem, RowOwner};
use crate::state::change_set::{Added, ChangeSet, Record, Source};
use crate::state::schema::{PathId, ShapeId};
use crate::state::table::{Cell, Table};

/// A capture on its way: the change set, and what is still to be resolved.
pub(crate) struct Capture<'a> {
    pub(crate) table: &'a mut Table,
    pub(crate) cache: &'a mut ConversionCache,
    pub(crate) changes: ChangeSet,
    pub(crate) deferred_cells: Vec<DeferredCell>,
    pub(crate) deferred_records: Vec<DeferredRecord>,
    pub(super) target: Vec<Source>,
    /// By row of the target: all of it is of types that are built back alike.
    pub(crate) exact_types: Vec<bool>,
    /// The row at hand.
    pub(super) row: usize,
    /// The shape of the record before, which new ones mostly share.
    pub(super) last_shape: Option<ShapeId>,
    /// Positions in the record at hand whose leaves take more than a look.
    pub(super) open: Vec<u32>,
    pub(super) text: Vec<u8>,
    pub(super) writer: Writer,
}

impl<'a> Capture<'a> {
    /// Brings a row of the base, if there is one, into the processor's cache.
    #[inline(always)]
    pub(super) fn fetch_row(&self, at: usize) {
        if let Some(row) = self.table.rows.get(at) {
            row.symbol.boxed().into_iter().for_each(prefetch_slice);
            prefetch_slice(&row.tags);
            prefetch_slice(&row.words);
        }
    }

    pub(crate) fn new(table: &'a mut Table, cache: &'a mut ConversionCache) -> Self {
        Capture {
            changes: ChangeSet::over(table),
            last_shape: table.rows.first().map(|row| row.shape),
            table,
            cache,
            deferred_cells: Vec::new(),
            deferred_records: Vec::new(),
            target: Vec::new(),
            exact_types: Vec::new(),
            row: 0,
            open: Vec::new(),
            text: Vec::new(),
            writer: Writer::default(),
        }
    }

    /// The next row of the target has this symbol.
    pub(super) fn enter_symbol(&mut self, symbol: &[u8]) -> Source {
        let row = self.target.len();
        let after_last = match self.target.last() {
            Some(Source::Base(last)) => *last as usize + 1,
            _ => row,
        };
        let is_at = |row: usize| self.table.rows.get(row).is_some_and(|row| *row.symbol == *symbol);
        let base = if is_at(after_last) {
            Some(after_last)
        } else if after_last != row && is_at(row) {
            Some(row)
        } else {
            self.table.position(symbol)
        };
        let source = match base {
            Some(base) => Source::Base(base as u32),
            None => {
                let record = Record { shape: 0, start: 0 };
                self.changes.added.push(Added { symbol: symbol.into(), record });
                Source::Added(self.changes.added.len() as u32 - 1)
            }
        };
        self.target.push(source);
        self.exact_types.push(true);
        source
    }

    pub(super) fn assemble(&mut self, owner: RowOwner, items: Vec<RecordItem>) -> ConvertResult<()> {
        let cell = |item: &RecordItem| match item {
            RecordItem::Cell(path, cell) => Some((*path, *cell)),
            RecordItem::Deferred(..) => None,
        };
        match items.iter().map(cell).collect::<Option<Vec<_>>>() {
            Some(cells) => self.add_record(owner, &cells),
            None => {
                // if all of it stays leaves, the next records are expected to look like it
                if let Some(paths) = items.iter().map(RecordItem::leaf_path).collect::<Option<Vec<_>>>() {
                    self.last_shape = self.table.schema.shape(&paths).or(self.last_shape);
                }
                self.deferred_records.push(DeferredRecord { row: self.row, owner, items });
                Ok(())
            }
        }
    }

    /// Takes a record that was put together leaf by leaf. The change set owns its blobs.
    pub(crate) fn add_record(&mut self, owner: RowOwner, items: &[(PathId, Cell)]) -> ConvertResult<()> {
        let paths: Vec<PathId> = items.iter().map(|item| item.0).collect();
        let Some(shape) = self.table.schema.shape(&paths) else {
            return Err(ConvertError::unsupported("the record changed while it was read"));
        };
        let start = self.changes.cells.len();
        let record = Record { shape, start };
        match owner {
            RowOwner::Added(number) => {
                items.iter().for_each(|item| self.changes.cells.push(item.1));
                self.changes.added[number as usize].record = record;
                self.last_shape = Some(shape);
            }
            RowOwner::Base(at) => {
                let row = &self.table.rows[at as usize];
                let same_shape = row.shape == shape;
                let old_shape = &self.table.schema.shapes[row.shape as usize];
                for (path, new) in items {
                    match old_shape.position(*path).map(|position| row.cell(position)) {
                        Some(old) if old != *new => self.changes.update(*path, at, old, *new),
                        Some(_) if same_shape => self.changes.discard(*new),
                        _ => {}
                    }
                }
                if !same_shape {
                    items.iter().for_each(|item| self.changes.cells.push(item.1));
                    self.changes.reshaped.push((at, record));
                }
            }
        }
        Ok(())
    }

    /// Something is left to be resolved, by Python code.
    pub(crate) fn is_open(&self) -> bool {
        !self.deferred_cells.is_empty() || !self.deferred_records.is_empty()
    }

    /// Puts a resolved cell where its deferred cell was.
    pub(crate) fn fill(&mut self, place: &CellPlace, path: PathId, new: Cell) {
        match *place {
            CellPlace::New(at) => self.changes.cells.set(at, new),
            CellPlace::Row(row, position) => {
                let old = self.table.rows[row as usize].cell(position);
                if old == new {
                    self.changes.discard(new);
                } else {
                    self.changes.update(path, row, old, new);
                }
            }
        }
    }

    /// The symbol of a row of the target.
    pub(crate) fn symbol(&self, row: usize) -> &[u8] {
        match self.target[row] {
            Source::Base(at) => &self.table.rows[at as usize].symbol,
            Source::Added(number) => &self.changes.added[number as usize].symbol,
        }
    }

    /// Ends the capture, once nothing is left to be resolved.
    pub(crate) fn into_changes(mut self) -> (ChangeSet, Vec<bool>) {
        self.sort();
        self.changes.set_target(self.table.rows.len(), &self.target);
        (self.changes, self.exact_types)
    }

    /// Removes these symbols, as far as they are there. None may be among the records that were read.
    pub(crate) fn remove(&mut self, py: Python<'_>, symbols: &[Vec<u8>]) -> ConvertResult<()> {
        let mut removed: Vec<u32> = Vec::with_capacity(symbols.len());
        removed.extend(symbols.iter().filter_map(|symbol| self.table.position(symbol)).map(|row| row as u32));
        removed.sort_unstable();
        removed.dedup();
        let named: HashSet<&[u8]> = symbols.iter().map(|symbol| &**symbol).collect();
        let mut read = (0..self.target.len()).map(|row| self.symbol(row));
        if let Some(symbol) = read.find(|symbol| named.contains(symbol)) {
            let message = format!("removed: {} is among the changes as well", key_text(symbol));
            return Err(errors::usage(py, &message).into());
        }
        self.changes.removed = removed;
        Ok(())
    }

    /// The change set of an update: rows that the update does not name keep their order, and added rows come last.
    pub(crate) fn into_update(mut self) -> ChangeSet {
        self.sort();
        self.changes
    }

    fn sort(&mut self) {
        self.changes.sort_updates();
        self.changes.reshaped.sort_unstable_by_key(|reshaped| reshaped.0);
    }

    /// Gives up: the state is what it was.
    pub(crate) fn rollback(self) {
        let Capture { table, changes, cache, .. } = self;
        changes.rollback(table);
        cache.forget_keys_beyond(&table.schema);
    }

    /// The row at hand holds something that is built back as another type.
    pub(super) fn mark_inexact(&mut self) {
        self.exact_types[self.row] = false;
    }
}
