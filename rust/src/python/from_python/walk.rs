//! dict -> change set: one walk over the snapshot against the native state.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::format::MAX_DEPTH;
use crate::format::value::{Payload, Tag, is_blob, tag, text_cell};
use crate::format::writer::Writer;
use crate::python::convert_error::{Outcome, Trouble};
use crate::python::ffi::object::{Dict, Obj, Pair, Str, View, Walk, prefetch_slice};
use crate::python::ffi::types::Types;
use crate::python::from_python::cache::Memory;
use crate::python::from_python::deferred::{Deferred, Foreign, Hole, Item, Owner, Place};
use crate::python::from_python::prefetch::Fetcher;
use crate::python::from_python::scalars;
use crate::state::change_set::{Added, ChangeSet, Record, Source};
use crate::state::schema::{Child, Entry, PathId, ROOT, Shape, ShapeId};
use crate::state::table::{Cell, Table};

/// The tag of a cell that is resolved after the walk.
const HOLE: Cell = Cell { tag: 254, word: 0 };

/// Native rows are fetched so far ahead.
const ROWS_AHEAD: usize = 8;

/// What a leaf is found to be.
pub enum Found<'w> {
    Cell(Cell),
    /// A dict that is not empty.
    Dict(Dict<'w>),
    Hole(Foreign),
}

/// A capture on its way: the change set, and what is still to be resolved.
pub struct Capture<'a> {
    pub table: &'a mut Table,
    pub memory: &'a mut Memory,
    pub changes: ChangeSet,
    pub holes: Vec<Hole>,
    pub deferred: Vec<Deferred>,
    target: Vec<Source>,
    /// By row of the target: all of it is of types that are built back alike.
    pub plain: Vec<bool>,
    /// The shape of the record before, which new ones mostly share.
    last_shape: Option<ShapeId>,
    text: Vec<u8>,
    writer: Writer,
}

/// What a record is read against: the shape that it had, or that the record before has; where its cells begin.
struct Expected<'s> {
    shape: &'s Shape,
    owner: Owner,
    start: usize,
}

enum Lockstep {
    Same,
    /// Other keys, or a dict where there was none.
    Other,
}

impl<'a> Capture<'a> {
    pub fn new(table: &'a mut Table, memory: &'a mut Memory) -> Self {
        Capture {
            changes: ChangeSet::over(table),
            table,
            memory,
            holes: Vec::new(),
            deferred: Vec::new(),
            target: Vec::new(),
            plain: Vec::new(),
            last_shape: None,
            text: Vec::new(),
            writer: Writer::default(),
        }
    }

    /// Reads the whole snapshot. No Python code runs. Records not wanted (`only`) are taken as `None`.
    pub fn walk(
        &mut self,
        py: Python<'_>,
        snapshot: &Bound<'_, PyDict>,
        only: Option<&[bool]>,
    ) -> Outcome<()> {
        let walk = Walk::new(py, Types::get(py)?);
        let Some(dict) = Dict::of(walk.root(snapshot.as_any()), walk.types) else {
            return Err(Trouble::unsupported("a snapshot is a dict"));
        };
        let records: Vec<Pair<'_>> = dict.items().collect();
        self.target.reserve(records.len());
        self.plain.reserve(records.len());
        let mut symbol = Vec::new();
        let mut fetcher = Fetcher::new(&walk, &records, only);
        let mut expected = None;
        for (at, Pair { key, value }) in records.iter().enumerate() {
            let shape = self.table.rows.get(at).map(|row| row.shape).or(self.last_shape);
            if let Some(shape) = shape.filter(|_| shape != expected) {
                expected = Some(shape);
                fetcher.expect(self.table.names.shapes[shape as usize].inner_places());
            }
            fetcher.before(at);
            if let Some(row) = self.table.rows.get(at + ROWS_AHEAD) {
                prefetch_slice(&row.tags);
                prefetch_slice(&row.words);
            }
            let Some(text) = Str::of(*key, walk.types) else {
                return Err(key.refused_key("symbols", &walk));
            };
            let text = text.text(&mut symbol)?;
            let record = fetcher.is_wanted(at).then_some(*value);
            self.row(&walk, text, record).map_err(|trouble| trouble.below_key(text))?;
        }
        Ok(())
    }

    fn row(&mut self, walk: &Walk<'_>, symbol: &[u8], record: Option<Obj<'_>>) -> Outcome<()> {
        let row = self.target.len();
        let base = match self.table.rows.get(row) {
            Some(expected) if *expected.symbol == *symbol => Some(row),
            _ => self.table.position(symbol),
        };
        let owner = match base {
            Some(base) => Owner::Base(base as u32),
            None => Owner::Added(self.changes.added.len() as u32),
        };
        match owner {
            Owner::Base(base) => self.target.push(Source::Base(base)),
            Owner::Added(number) => {
                self.target.push(Source::Added(number));
                let record = Record { shape: 0, start: 0 };
                self.changes.added.push(Added { symbol: symbol.into(), record });
            }
        }
        self.plain.push(true);
        let Some(record) = record else {
            return self.stand_in(owner);
        };
        match Dict::of(record, walk.types) {
            Some(dict) if dict.len() > 0 => self.dict_record(walk, owner, dict),
            _ => self.leaf_record(walk, owner, record),
        }
    }

    /// A row whose record is not looked at, in a table made for one delta.
    fn stand_in(&mut self, owner: Owner) -> Outcome<()> {
        let last = self.last_shape;
        self.finish(owner, &[(ROOT, Cell { tag: tag::NONE, word: 0 })])?;
        // the next record is like the one before, not like this
        self.last_shape = last;
        Ok(())
    }

    fn dict_record(&mut self, walk: &Walk<'_>, owner: Owner, dict: Dict<'_>) -> Outcome<()> {
        let shape_id = match owner {
            Owner::Base(base) => Some(self.table.rows[base as usize].shape),
            Owner::Added(_) => self.last_shape,
        };
        if let Some(shape_id) = shape_id {
            let shape = Arc::clone(&self.table.names.shapes[shape_id as usize]);
            let start = self.changes.cells.len();
            let (owned, holes) = (self.changes.owned_mark(), self.holes.len());
            let expected = Expected { shape: &shape, owner, start };
            if !shape.is_leaf()
                && let Lockstep::Same = self.lockstep(walk, dict, 0, &expected)?
            {
                self.take_cells(owner, &shape, shape_id, start);
                return Ok(());
            }
            self.changes.cells.truncate(start);
            self.changes.disown_since(owned, self.table);
            self.holes.truncate(holes);
        }
        let mut items = Vec::new();
        self.leaves(walk, dict, ROOT, &mut items)?;
        self.put_together(owner, items)
    }

    fn leaf_record(&mut self, walk: &Walk<'_>, owner: Owner, record: Obj<'_>) -> Outcome<()> {
        let item = match self.leaf(walk, record, None, 0)? {
            Found::Cell(cell) => Item::Cell(ROOT, cell),
            Found::Hole(foreign) => Item::Hole(ROOT, foreign),
            Found::Dict(_) => return Err(Trouble::unsupported("a dict is no leaf")),
        };
        self.put_together(owner, vec![item])
    }

    /// Reads a dict against a shape and appends its cells. Dict and shape go side by side; the first difference ends it.
    fn lockstep(
        &mut self,
        walk: &Walk<'_>,
        dict: Dict<'_>,
        number: u32,
        expected: &Expected<'_>,
    ) -> Outcome<Lockstep> {
        let entries = expected.shape.dict(number);
        if dict.len() != entries.len() {
            return Ok(Lockstep::Other);
        }
        match dict.entries(walk.types) {
            Some(pairs) => self.side_by_side(walk, pairs.iter().copied(), entries, expected),
            None => self.side_by_side(walk, dict.items(), entries, expected),
        }
    }

    #[inline(always)]
    fn side_by_side<'w>(
        &mut self,
        walk: &Walk<'_>,
        pairs: impl Iterator<Item = Pair<'w>>,
        entries: &[Entry],
        expected: &Expected<'_>,
    ) -> Outcome<Lockstep> {
        for (Pair { key, value }, entry) in pairs.zip(entries) {
            if !self.memory.keys.matches(walk, &self.table.names, key, entry.key) {
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
    fn expected_leaf(&mut self, walk: &Walk<'_>, value: Obj<'_>, expected: &Expected<'_>) -> Outcome<bool> {
        let Expected { shape, owner, start } = *expected;
        let position = self.changes.cells.len() - start;
        let path = shape.paths[position];
        let depth = self.table.names.paths[path as usize].depth;
        let (old, place) = match owner {
            Owner::Base(row) => {
                (Some(self.table.rows[row as usize].cell(position)), Place::Row(row, position))
            }
            Owner::Added(_) => (None, Place::New(start + position)),
        };
        let found = self.leaf(walk, value, old, depth);
        match found.map_err(|trouble| trouble.below_keys(&self.table.names.keys_of(path)))? {
            Found::Cell(cell) => self.changes.cells.push(cell),
            Found::Hole(foreign) if foreign.is_leaf() => {
                let row = self.target.len() - 1;
                self.holes.push(Hole { row, place, path, foreign });
                self.changes.cells.push(HOLE);
            }
            Found::Dict(_) | Found::Hole(_) => return Ok(false),
        }
        Ok(true)
    }

    /// The cells of a record in a shape that it had before, or that is known for a new one.
    fn take_cells(&mut self, owner: Owner, shape: &Shape, shape_id: ShapeId, start: usize) {
        match owner {
            Owner::Added(number) => {
                self.changes.added[number as usize].record = Record { shape: shape_id, start };
            }
            Owner::Base(at) => {
                let row = &self.table.rows[at as usize];
                let cells = &self.changes.cells;
                if cells.tags[start..] != *row.tags || cells.words[start..] != *row.words {
                    for (position, path) in shape.paths.iter().enumerate() {
                        let (old, new) = (row.cell(position), self.changes.cells.get(start + position));
                        if old != new && new.tag != HOLE.tag {
                            self.changes.update(*path, at, old, new);
                        }
                    }
                }
                self.changes.cells.truncate(start);
            }
        }
    }

    /// All leaves below a dict.
    pub fn leaves(
        &mut self,
        walk: &Walk<'_>,
        dict: Dict<'_>,
        path: PathId,
        items: &mut Vec<Item>,
    ) -> Outcome<()> {
        let depth = self.table.names.paths[path as usize].depth + 1;
        if depth > MAX_DEPTH {
            return Err(Trouble::too_deep());
        }
        for Pair { key, value } in dict.items() {
            let Some(text) = Str::of(key, walk.types) else {
                return Err(key.refused_key("keys", walk));
            };
            let id = self.table.names.key(text.text(&mut self.text)?);
            let below = self.table.names.path(path, id);
            let found = self.leaf(walk, value, None, depth).and_then(|found| match found {
                Found::Cell(cell) => {
                    items.push(Item::Cell(below, cell));
                    Ok(())
                }
                Found::Hole(foreign) => {
                    items.push(Item::Hole(below, foreign));
                    Ok(())
                }
                Found::Dict(dict) => self.leaves(walk, dict, below, items),
            });
            found.map_err(|trouble| trouble.below_key(&self.table.names.keys[id as usize]))?;
        }
        Ok(())
    }

    fn put_together(&mut self, owner: Owner, items: Vec<Item>) -> Outcome<()> {
        let cell = |item: &Item| match item {
            Item::Cell(path, cell) => Some((*path, *cell)),
            Item::Hole(..) => None,
        };
        match items.iter().map(cell).collect::<Option<Vec<_>>>() {
            Some(cells) => self.finish(owner, &cells),
            None => {
                let row = self.target.len() - 1;
                self.deferred.push(Deferred { row, owner, items });
                Ok(())
            }
        }
    }

    /// Takes a record that was put together leaf by leaf. The change set owns its blobs.
    pub fn finish(&mut self, owner: Owner, items: &[(PathId, Cell)]) -> Outcome<()> {
        let paths: Vec<PathId> = items.iter().map(|item| item.0).collect();
        let Some(shape) = self.table.names.shape(&paths) else {
            return Err(Trouble::unsupported("the record changed while it was read"));
        };
        let start = self.changes.cells.len();
        let record = Record { shape, start };
        match owner {
            Owner::Added(number) => {
                items.iter().for_each(|item| self.changes.cells.push(item.1));
                self.changes.added[number as usize].record = record;
                self.last_shape = Some(shape);
            }
            Owner::Base(at) => {
                let row = &self.table.rows[at as usize];
                let same_shape = row.shape == shape;
                let old_shape = &self.table.names.shapes[row.shape as usize];
                for (path, new) in items {
                    match old_shape.position(*path).map(|position| row.cell(position)) {
                        Some(old) if old != *new => self.changes.update(*path, at, old, *new),
                        Some(_) if same_shape => self.changes.spare(*new),
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
    pub fn is_open(&self) -> bool {
        !self.holes.is_empty() || !self.deferred.is_empty()
    }

    /// Puts a resolved cell where its hole was.
    pub fn fill(&mut self, place: &Place, path: PathId, new: Cell) {
        match *place {
            Place::New(at) => self.changes.cells.set(at, new),
            Place::Row(row, position) => {
                let old = self.table.rows[row as usize].cell(position);
                if old == new {
                    self.changes.spare(new);
                } else {
                    self.changes.update(path, row, old, new);
                }
            }
        }
    }

    /// The symbol of a row of the target.
    pub fn symbol(&self, row: usize) -> &[u8] {
        match self.target[row] {
            Source::Base(at) => &self.table.rows[at as usize].symbol,
            Source::Added(number) => &self.changes.added[number as usize].symbol,
        }
    }

    /// Ends the capture, once nothing is left to be resolved.
    pub fn finished(mut self) -> (ChangeSet, Vec<bool>) {
        self.changes.sort_updates();
        self.changes.reshaped.sort_unstable_by_key(|reshaped| reshaped.0);
        self.changes.set_target(self.table.rows.len(), &self.target);
        (self.changes, self.plain)
    }

    /// Gives up: the state is what it was.
    pub fn abandon(self) {
        let Capture { table, changes, .. } = self;
        changes.abandon(table);
    }

    /// A cell that the change set owns, unless it is the old one.
    pub fn take(&mut self, tag: Tag, payload: Payload<'_>, old: Option<Cell>) -> Cell {
        take(self.table, &mut self.changes, tag, payload, old)
    }

    fn leaf<'w>(
        &mut self,
        walk: &Walk<'_>,
        object: Obj<'w>,
        old: Option<Cell>,
        depth: usize,
    ) -> Outcome<Found<'w>> {
        if let Some(cell) = fast_leaf(object, walk.types) {
            return Ok(Found::Cell(cell));
        }
        let (items, kind) = match object.view(walk.types) {
            View::Str(text) => {
                let (tag, payload) = text_cell(text.text(&mut self.text)?);
                return Ok(Found::Cell(take(self.table, &mut self.changes, tag, payload, old)));
            }
            View::Dict(dict) if dict.len() == 0 => return Ok(Found::Cell(Cell { tag: tag::EMPTY, word: 0 })),
            View::Dict(dict) => return Ok(Found::Dict(dict)),
            View::List(items) => (items, tag::LIST),
            View::Tuple(items) => (items, tag::TUPLE),
            view => return self.rarer(walk, object, &view, old),
        };
        self.writer.bytes.clear();
        let holes = scalars::write(walk, items, &mut self.writer, self.memory, depth + 1)?;
        if holes.is_empty() {
            let payload = Payload::Blob(&self.writer.bytes);
            Ok(Found::Cell(take(self.table, &mut self.changes, kind, payload, old)))
        } else {
            self.not_plain();
            let bytes = std::mem::take(&mut self.writer.bytes);
            Ok(Found::Hole(Foreign::Sequence { tag: kind, bytes, holes }))
        }
    }

    fn rarer<'w>(
        &mut self,
        walk: &Walk<'_>,
        object: Obj<'w>,
        view: &View<'_>,
        old: Option<Cell>,
    ) -> Outcome<Found<'w>> {
        self.writer.bytes.clear();
        let mut scalar = scalars::scalar(view, &mut self.writer, self.memory);
        if scalar.is_none() {
            scalar = scalars::in_converted_zone(view, &mut self.writer, self.memory);
            if scalar.is_some() {
                self.not_plain();
            }
        }
        if let Some((tag, word)) = scalar {
            let payload = match word {
                Some(word) => Payload::Word(word),
                None => Payload::Blob(&self.writer.bytes),
            };
            return Ok(Found::Cell(take(self.table, &mut self.changes, tag, payload, old)));
        }
        if let Some((tag, payload)) = self.memory.known_enum(object) {
            let cell = take(self.table, &mut self.changes, tag, payload, old);
            self.not_plain();
            return Ok(Found::Cell(cell));
        }
        let foreign = Foreign::of(walk, object, view, self.memory);
        Ok(Found::Hole(foreign))
    }

    /// The row at hand holds something that is built back as another type.
    fn not_plain(&mut self) {
        if let Some(plain) = self.plain.last_mut() {
            *plain = false;
        }
    }
}

/// Leaves whose cell needs nothing but the object.
#[inline(always)]
fn fast_leaf(object: Obj<'_>, types: &Types) -> Option<Cell> {
    match object.view(types) {
        View::Float(value) => Some(Cell { tag: tag::FLOAT, word: value.to_bits() }),
        View::Int(value) => Some(Cell { tag: tag::INT, word: value as u64 }),
        View::Str(text) => match text_cell(text.ascii()?) {
            (tag, Payload::Word(word)) => Some(Cell { tag, word }),
            _ => None,
        },
        View::None => Some(Cell { tag: tag::NONE, word: 0 }),
        View::False => Some(Cell { tag: tag::FALSE, word: 0 }),
        View::True => Some(Cell { tag: tag::TRUE, word: 0 }),
        _ => None,
    }
}

#[inline]
fn take(
    table: &mut Table,
    changes: &mut ChangeSet,
    tag: Tag,
    payload: Payload<'_>,
    old: Option<Cell>,
) -> Cell {
    if let (Some(old), Payload::Blob(bytes)) = (old, payload)
        && old.tag == tag
        && is_blob(tag)
        && table.pool.get(old.word) == bytes
    {
        return old;
    }
    let cell = table.acquire(tag, payload);
    changes.own(cell);
    cell
}
