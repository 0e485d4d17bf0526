//! dict -> change set: one walk over the snapshot against the native state.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::format::MAX_DEPTH;
use crate::format::value::{Payload, Tag, is_blob, tag, text_cell};
use crate::format::writer::Writer;
use crate::python::convert_error::{ConvertError, ConvertResult};
use crate::python::ffi::object::{Dict, Obj, ObjectView, Pair, Str, Walk, prefetch_slice};
use crate::python::ffi::types::Types;
use crate::python::from_python::cache::ConversionCache;
use crate::python::from_python::deferred::{
    CellPlace, DeferredCell, DeferredRecord, DeferredValue, RecordItem, RowOwner,
};
use crate::python::from_python::prefetch::Prefetcher;
use crate::python::from_python::scalars;
use crate::state::change_set::{Added, ChangeSet, Record, Source};
use crate::state::schema::{Child, PathId, ROOT, Shape, ShapeEntry, ShapeId};
use crate::state::table::{Cell, Table};

/// The tag of a cell that is resolved after the walk.
const DEFERRED_CELL: Cell = Cell { tag: 254, word: 0 };

/// Native rows are fetched so far ahead.
const ROWS_AHEAD: usize = 8;

/// What a leaf is found to be.
pub(crate) enum Found<'w> {
    Cell(Cell),
    /// A dict that is not empty.
    Dict(Dict<'w>),
    Deferred(DeferredValue),
}

/// A capture on its way: the change set, and what is still to be resolved.
pub(crate) struct Capture<'a> {
    pub(crate) table: &'a mut Table,
    pub(crate) cache: &'a mut ConversionCache,
    pub(crate) changes: ChangeSet,
    pub(crate) deferred_cells: Vec<DeferredCell>,
    pub(crate) deferred_records: Vec<DeferredRecord>,
    target: Vec<Source>,
    /// By row of the target: all of it is of types that are built back alike.
    pub(crate) exact_types: Vec<bool>,
    /// The shape of the record before, which new ones mostly share.
    last_shape: Option<ShapeId>,
    text: Vec<u8>,
    writer: Writer,
}

/// What a record is read against: the shape that it had, or that the record before has; where its cells begin.
struct Expected<'s> {
    shape: &'s Shape,
    owner: RowOwner,
    start: usize,
}

enum Lockstep {
    Same,
    /// Other keys, or a dict where there was none.
    Other,
}

impl<'a> Capture<'a> {
    pub(crate) fn new(table: &'a mut Table, cache: &'a mut ConversionCache) -> Self {
        Capture {
            changes: ChangeSet::over(table),
            table,
            cache,
            deferred_cells: Vec::new(),
            deferred_records: Vec::new(),
            target: Vec::new(),
            exact_types: Vec::new(),
            last_shape: None,
            text: Vec::new(),
            writer: Writer::default(),
        }
    }

    /// Reads the whole snapshot. No Python code runs. Records not wanted (`only`) are taken as `None`.
    pub(crate) fn walk(
        &mut self,
        py: Python<'_>,
        snapshot: &Bound<'_, PyDict>,
        only: Option<&[bool]>,
    ) -> ConvertResult<()> {
        let walk = Walk::new(py, Types::get(py)?);
        let Some(dict) = Dict::of(walk.root(snapshot.as_any()), walk.types) else {
            return Err(ConvertError::unsupported("a snapshot is a dict"));
        };
        let records: Vec<Pair<'_>> = dict.items().collect();
        self.target.reserve(records.len());
        self.exact_types.reserve(records.len());
        let mut symbol = Vec::new();
        let mut prefetcher = Prefetcher::new(&walk, &records, only);
        let mut expected = None;
        for (at, Pair { key, value }) in records.iter().enumerate() {
            let shape = self.table.rows.get(at).map(|row| row.shape).or(self.last_shape);
            if let Some(shape) = shape.filter(|_| shape != expected) {
                expected = Some(shape);
                prefetcher.expect(self.table.schema.shapes[shape as usize].nested_positions());
            }
            prefetcher.before(at);
            if let Some(row) = self.table.rows.get(at + ROWS_AHEAD) {
                prefetch_slice(&row.tags);
                prefetch_slice(&row.words);
            }
            let Some(text) = Str::of(*key, walk.types) else {
                return Err(key.refused_key("symbols", &walk));
            };
            let text = text.text(&mut symbol)?;
            let record = prefetcher.is_wanted(at).then_some(*value);
            self.row(&walk, text, record).map_err(|error| error.below_key(text))?;
        }
        Ok(())
    }

    fn row(&mut self, walk: &Walk<'_>, symbol: &[u8], record: Option<Obj<'_>>) -> ConvertResult<()> {
        let row = self.target.len();
        let base = match self.table.rows.get(row) {
            Some(expected) if *expected.symbol == *symbol => Some(row),
            _ => self.table.position(symbol),
        };
        let owner = match base {
            Some(base) => RowOwner::Base(base as u32),
            None => RowOwner::Added(self.changes.added.len() as u32),
        };
        match owner {
            RowOwner::Base(base) => self.target.push(Source::Base(base)),
            RowOwner::Added(number) => {
                self.target.push(Source::Added(number));
                let record = Record { shape: 0, start: 0 };
                self.changes.added.push(Added { symbol: symbol.into(), record });
            }
        }
        self.exact_types.push(true);
        let Some(record) = record else {
            return self.placeholder(owner);
        };
        match Dict::of(record, walk.types) {
            Some(dict) if dict.len() > 0 => self.dict_record(walk, owner, dict),
            _ => self.leaf_record(walk, owner, record),
        }
    }

    /// A row whose record is not looked at, in a table made for one delta.
    fn placeholder(&mut self, owner: RowOwner) -> ConvertResult<()> {
        let last = self.last_shape;
        self.add_record(owner, &[(ROOT, Cell { tag: tag::NONE, word: 0 })])?;
        // the next record is like the one before, not like this
        self.last_shape = last;
        Ok(())
    }

    fn dict_record(&mut self, walk: &Walk<'_>, owner: RowOwner, dict: Dict<'_>) -> ConvertResult<()> {
        let shape_id = match owner {
            RowOwner::Base(base) => Some(self.table.rows[base as usize].shape),
            RowOwner::Added(_) => self.last_shape,
        };
        if let Some(shape_id) = shape_id {
            let shape = Arc::clone(&self.table.schema.shapes[shape_id as usize]);
            let start = self.changes.cells.len();
            let (retained_blobs, items) = (self.changes.retained_mark(), self.deferred_cells.len());
            let expected = Expected { shape: &shape, owner, start };
            if !shape.is_leaf()
                && let Lockstep::Same = self.lockstep(walk, dict, 0, &expected)?
            {
                self.compare_cells(owner, &shape, shape_id, start);
                return Ok(());
            }
            self.changes.cells.truncate(start);
            self.changes.release_since(retained_blobs, self.table);
            self.deferred_cells.truncate(items);
        }
        let mut items = Vec::new();
        self.leaves(walk, dict, ROOT, &mut items)?;
        self.assemble(owner, items)
    }

    fn leaf_record(&mut self, walk: &Walk<'_>, owner: RowOwner, record: Obj<'_>) -> ConvertResult<()> {
        let item = match self.leaf(walk, record, None, 0)? {
            Found::Cell(cell) => RecordItem::Cell(ROOT, cell),
            Found::Deferred(value) => RecordItem::Deferred(ROOT, value),
            Found::Dict(_) => return Err(ConvertError::unsupported("a dict is no leaf")),
        };
        self.assemble(owner, vec![item])
    }

    /// Reads a dict against a shape and appends its cells. Dict and shape go side by side; the first difference ends it.
    fn lockstep(
        &mut self,
        walk: &Walk<'_>,
        dict: Dict<'_>,
        number: u32,
        expected: &Expected<'_>,
    ) -> ConvertResult<Lockstep> {
        let entries = expected.shape.dict(number);
        if dict.len() != entries.len() {
            return Ok(Lockstep::Other);
        }
        match dict.entries(walk.types) {
            Some(pairs) => self.match_entries(walk, pairs.iter().copied(), entries, expected),
            None => self.match_entries(walk, dict.items(), entries, expected),
        }
    }

    #[inline(always)]
    fn match_entries<'w>(
        &mut self,
        walk: &Walk<'_>,
        pairs: impl Iterator<Item = Pair<'w>>,
        entries: &[ShapeEntry],
        expected: &Expected<'_>,
    ) -> ConvertResult<Lockstep> {
        for (Pair { key, value }, entry) in pairs.zip(entries) {
            if !self.cache.keys.matches(walk, &self.table.schema, key, entry.key) {
                return Ok(Lockstep::Other);
            }
            if let Child::Dict(below) = entry.child {
                match Dict::of(value, walk.types) {
                    Some(dict) if dict.len() > 0 => {
                        if let Lockstep::Other = self.lockstep(walk, dict, below, expected)? {
                            return Ok(Lockstep::Other);
                        }
                    }
                    _ => return Ok(Lockstep::Other),
                }
                continue;
            }
            match fast_leaf(value, walk.types) {
                Some(cell) => self.changes.cells.push(cell),
                None => {
                    if !self.expected_leaf(walk, value, expected)? {
                        return Ok(Lockstep::Other);
                    }
                }
            }
        }
        Ok(Lockstep::Same)
    }

    /// A leaf that takes more than a look. False if it is none, or may turn out to be none.
    #[inline(never)]
    fn expected_leaf(
        &mut self,
        walk: &Walk<'_>,
        value: Obj<'_>,
        expected: &Expected<'_>,
    ) -> ConvertResult<bool> {
        let Expected { shape, owner, start } = *expected;
        let position = self.changes.cells.len() - start;
        let path = shape.paths[position];
        let depth = self.table.schema.paths[path as usize].depth;
        let (old, place) = match owner {
            RowOwner::Base(row) => {
                (Some(self.table.rows[row as usize].cell(position)), CellPlace::Row(row, position))
            }
            RowOwner::Added(_) => (None, CellPlace::New(start + position)),
        };
        let found = self.leaf(walk, value, old, depth);
        match found.map_err(|error| error.below_keys(&self.table.schema.keys_of(path)))? {
            Found::Cell(cell) => self.changes.cells.push(cell),
            Found::Deferred(value) if value.is_leaf() => {
                let row = self.target.len() - 1;
                self.deferred_cells.push(DeferredCell { row, place, path, value });
                self.changes.cells.push(DEFERRED_CELL);
            }
            Found::Dict(_) | Found::Deferred(_) => return Ok(false),
        }
        Ok(true)
    }

    /// The cells of a record in a shape that it had before, or that is known for a new one.
    fn compare_cells(&mut self, owner: RowOwner, shape: &Shape, shape_id: ShapeId, start: usize) {
        match owner {
            RowOwner::Added(number) => {
                self.changes.added[number as usize].record = Record { shape: shape_id, start };
            }
            RowOwner::Base(at) => {
                let row = &self.table.rows[at as usize];
                let cells = &self.changes.cells;
                if cells.tags[start..] != *row.tags || cells.words[start..] != *row.words {
                    for (position, path) in shape.paths.iter().enumerate() {
                        let (old, new) = (row.cell(position), self.changes.cells.get(start + position));
                        if old != new && new.tag != DEFERRED_CELL.tag {
                            self.changes.update(*path, at, old, new);
                        }
                    }
                }
                self.changes.cells.truncate(start);
            }
        }
    }

    /// All leaves below a dict.
    pub(crate) fn leaves(
        &mut self,
        walk: &Walk<'_>,
        dict: Dict<'_>,
        path: PathId,
        items: &mut Vec<RecordItem>,
    ) -> ConvertResult<()> {
        let depth = self.table.schema.paths[path as usize].depth + 1;
        if depth > MAX_DEPTH {
            return Err(ConvertError::too_deep());
        }
        for Pair { key, value } in dict.items() {
            let Some(text) = Str::of(key, walk.types) else {
                return Err(key.refused_key("keys", walk));
            };
            let id = self.table.schema.key(text.text(&mut self.text)?);
            let below = self.table.schema.path(path, id);
            let found = self.leaf(walk, value, None, depth).and_then(|found| match found {
                Found::Cell(cell) => {
                    items.push(RecordItem::Cell(below, cell));
                    Ok(())
                }
                Found::Deferred(value) => {
                    items.push(RecordItem::Deferred(below, value));
                    Ok(())
                }
                Found::Dict(dict) => self.leaves(walk, dict, below, items),
            });
            found.map_err(|error| error.below_key(&self.table.schema.keys[id as usize]))?;
        }
        Ok(())
    }

    fn assemble(&mut self, owner: RowOwner, items: Vec<RecordItem>) -> ConvertResult<()> {
        let cell = |item: &RecordItem| match item {
            RecordItem::Cell(path, cell) => Some((*path, *cell)),
            RecordItem::Deferred(..) => None,
        };
        match items.iter().map(cell).collect::<Option<Vec<_>>>() {
            Some(cells) => self.add_record(owner, &cells),
            None => {
                let row = self.target.len() - 1;
                self.deferred_records.push(DeferredRecord { row, owner, items });
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
        self.changes.sort_updates();
        self.changes.reshaped.sort_unstable_by_key(|reshaped| reshaped.0);
        self.changes.set_target(self.table.rows.len(), &self.target);
        (self.changes, self.exact_types)
    }

    /// Gives up: the state is what it was.
    pub(crate) fn rollback(self) {
        let Capture { table, changes, .. } = self;
        changes.rollback(table);
    }

    /// A cell that the change set owns, unless it is the old one.
    pub(crate) fn intern(&mut self, tag: Tag, payload: Payload<'_>, old: Option<Cell>) -> Cell {
        intern(self.table, &mut self.changes, tag, payload, old)
    }

    fn leaf<'w>(
        &mut self,
        walk: &Walk<'_>,
        object: Obj<'w>,
        old: Option<Cell>,
        depth: usize,
    ) -> ConvertResult<Found<'w>> {
        if let Some(cell) = fast_leaf(object, walk.types) {
            return Ok(Found::Cell(cell));
        }
        let (items, kind) = match object.view(walk.types) {
            ObjectView::Str(text) => {
                let (tag, payload) = text_cell(text.text(&mut self.text)?);
                return Ok(Found::Cell(intern(self.table, &mut self.changes, tag, payload, old)));
            }
            ObjectView::Dict(dict) if dict.len() == 0 => {
                return Ok(Found::Cell(Cell { tag: tag::EMPTY, word: 0 }));
            }
            ObjectView::Dict(dict) => return Ok(Found::Dict(dict)),
            ObjectView::List(items) => (items, tag::LIST),
            ObjectView::Tuple(items) => (items, tag::TUPLE),
            view => return self.slow_path(walk, object, &view, old),
        };
        self.writer.bytes.clear();
        let items = scalars::write(walk, items, &mut self.writer, self.cache, depth + 1)?;
        if items.is_empty() {
            let payload = Payload::Bytes(&self.writer.bytes);
            Ok(Found::Cell(intern(self.table, &mut self.changes, kind, payload, old)))
        } else {
            self.mark_inexact();
            let bytes = std::mem::take(&mut self.writer.bytes);
            Ok(Found::Deferred(DeferredValue::Sequence { tag: kind, bytes, items }))
        }
    }

    fn slow_path<'w>(
        &mut self,
        walk: &Walk<'_>,
        object: Obj<'w>,
        view: &ObjectView<'_>,
        old: Option<Cell>,
    ) -> ConvertResult<Found<'w>> {
        self.writer.bytes.clear();
        let mut scalar = scalars::scalar(view, &mut self.writer, self.cache);
        if scalar.is_none() {
            scalar = scalars::in_converted_zone(view, &mut self.writer, self.cache);
            if scalar.is_some() {
                self.mark_inexact();
            }
        }
        if let Some((tag, word)) = scalar {
            let payload = match word {
                Some(word) => Payload::Fixed64(word),
                None => Payload::Bytes(&self.writer.bytes),
            };
            return Ok(Found::Cell(intern(self.table, &mut self.changes, tag, payload, old)));
        }
        if let Some((tag, payload)) = self.cache.known_enum(object) {
            let cell = intern(self.table, &mut self.changes, tag, payload, old);
            self.mark_inexact();
            return Ok(Found::Cell(cell));
        }
        let value = DeferredValue::of(walk, object, view, self.cache);
        Ok(Found::Deferred(value))
    }

    /// The row at hand holds something that is built back as another type.
    fn mark_inexact(&mut self) {
        if let Some(exact_types) = self.exact_types.last_mut() {
            *exact_types = false;
        }
    }
}

/// Leaves whose cell needs nothing but the object.
#[inline(always)]
fn fast_leaf(object: Obj<'_>, types: &Types) -> Option<Cell> {
    match object.view(types) {
        ObjectView::Float(value) => Some(Cell { tag: tag::FLOAT, word: value.to_bits() }),
        ObjectView::Int(value) => Some(Cell { tag: tag::INT, word: value as u64 }),
        ObjectView::Str(text) => match text_cell(text.ascii()?) {
            (tag, Payload::Fixed64(word)) => Some(Cell { tag, word }),
            _ => None,
        },
        ObjectView::None => Some(Cell { tag: tag::NONE, word: 0 }),
        ObjectView::False => Some(Cell { tag: tag::FALSE, word: 0 }),
        ObjectView::True => Some(Cell { tag: tag::TRUE, word: 0 }),
        _ => None,
    }
}

#[inline]
fn intern(
    table: &mut Table,
    changes: &mut ChangeSet,
    tag: Tag,
    payload: Payload<'_>,
    old: Option<Cell>,
) -> Cell {
    if let (Some(old), Payload::Bytes(bytes)) = (old, payload)
        && old.tag == tag
        && is_blob(tag)
        && table.pool.get(old.word) == bytes
    {
        return old;
    }
    let cell = table.acquire(tag, payload);
    changes.retain(cell);
    cell
}
