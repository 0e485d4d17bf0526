//! Columns -> change set: block of rows after block, column after column in each.

use std::collections::HashSet;

use pyo3::prelude::*;

use crate::format::value::{Payload, Tag, tag};
use crate::format::writer::Writer;
use crate::python::convert_error::{ConvertError, ConvertResult, key_text};
use crate::python::ffi::object::{Obj, ObjectView, Str, Walk, prefetch_slice};
use crate::python::ffi::types::Types;
use crate::python::from_python::columns::array::Nulls;
use crate::python::from_python::columns::source::{Chunks, Leaf, Table, Values};
use crate::python::from_python::columns::types::Type;
use crate::python::from_python::deferred::{CellPlace, DeferredCell, DeferredValue, RecordItem, RowOwner};
use crate::python::from_python::walk::{Capture, Found, Hint, intern};
use crate::state::change_set::{Record, Source};
use crate::state::schema::{PathId, ROOT, ShapeId};
use crate::state::table::Cell;

/// Rows that are read together: so few that the cells of the state stay in the processor's cache.
const BLOCK: usize = 32;

/// Where a row's cells belong.
#[derive(Clone, Copy)]
enum Destination {
    /// A row of the base that has the shape of the columns.
    Row(u32),
    /// An added record, whose cells begin there.
    Added(usize),
    /// It has another shape, now or before: it is put together leaf by leaf.
    Apart(RowOwner),
}

/// A column with its path, and its objects if it has such.
struct Column<'w, 'py> {
    leaf: &'w Leaf<'py>,
    path: PathId,
    objects: Vec<Obj<'w>>,
}

/// Buffers of one block.
struct Block {
    start: usize,
    places: Vec<Destination>,
    tags: [Tag; BLOCK],
    words: [u64; BLOCK],
}

impl Capture<'_> {
    /// Reads all columns. No Python code runs.
    pub(super) fn columns<'py>(&mut self, py: Python<'py>, given: &Table<'py>) -> ConvertResult<()> {
        let walk = Walk::new(py, Types::get(py)?);
        let symbols = objects(&walk, &given.symbols);
        let mut columns = Vec::with_capacity(given.leaves.len());
        for leaf in &given.leaves {
            let path = self.path_of(&leaf.keys);
            columns.push(Column { leaf, path, objects: objects(&walk, &leaf.values) });
        }
        let nothing = Leaf { keys: Vec::new(), values: Values::Empty, within: Vec::new() };
        if columns.is_empty() {
            columns.push(Column { leaf: &nothing, path: ROOT, objects: Vec::new() });
        }
        let paths: Vec<PathId> = columns.iter().map(|column| column.path).collect();
        let Some(shape) = self.table.schema.shape(&paths) else {
            return Err(ConvertError::usage("data: two columns have the same path"));
        };
        self.read_blocks(&walk, given, &symbols, &columns, shape)
    }

    fn path_of(&mut self, keys: &[Vec<u8>]) -> PathId {
        keys.iter().fold(ROOT, |path, key| {
            let key = self.table.schema.key(key);
            self.table.schema.path(path, key)
        })
    }

    fn read_blocks(
        &mut self,
        walk: &Walk<'_>,
        given: &Table<'_>,
        symbols: &[Obj<'_>],
        columns: &[Column<'_, '_>],
        shape: ShapeId,
    ) -> ConvertResult<()> {
        let structs: Vec<PathId> = given.structs.iter().map(|null| self.path_of(&null.keys)).collect();
        let with_objects: Vec<&Column<'_, '_>> =
            columns.iter().filter(|column| !column.objects.is_empty()).collect();
        let mut is_met = vec![false; self.table.rows.len()];
        let mut added = HashSet::new();
        let mut block = Block { start: 0, places: Vec::new(), tags: [0; BLOCK], words: [0; BLOCK] };
        let mut w = Writer::default();
        while block.start < given.rows {
            let rows = BLOCK.min(given.rows - block.start);
            let base = self.table.rows.get(block.start + rows..).unwrap_or_default();
            for row in base.iter().take(BLOCK) {
                prefetch_slice(&row.symbol);
                prefetch_slice(&row.tags);
                prefetch_slice(&row.words);
            }
            block.places.clear();
            for row in block.start..block.start + rows {
                let symbol = symbol_at(walk, &given.symbols, symbols, row, &mut w)?;
                let source = self.enter_symbol(symbol);
                let is_new = match source {
                    Source::Base(at) => !std::mem::replace(&mut is_met[at as usize], true),
                    Source::Added(_) => added.insert(symbol.to_vec()),
                };
                if !is_new {
                    return Err(ConvertError::usage(format!("symbol: {} is there twice", key_text(symbol))));
                }
                let place = self.place(walk, given, &with_objects, shape, row, source);
                block.places.push(place);
            }
            for (position, column) in columns.iter().enumerate() {
                self.column(walk, column, position, &mut block, &mut w)?;
            }
            for i in 0..rows {
                if let Destination::Apart(owner) = block.places[i] {
                    self.row = block.start + i;
                    let items = self.items(walk, given, columns, &structs, self.row, &mut w)?;
                    self.assemble(owner, items)?;
                }
            }
            block.start += rows;
        }
        Ok(())
    }

    fn place(
        &mut self,
        walk: &Walk<'_>,
        given: &Table<'_>,
        with_objects: &[&Column<'_, '_>],
        shape: ShapeId,
        row: usize,
        source: Source,
    ) -> Destination {
        let has_null_struct = given.structs.iter().any(|null| {
            let (array, at) = null.chunks.at(row);
            array.is_null(at)
        });
        let is_plain =
            !has_null_struct && with_objects.iter().all(|column| is_leaf(walk, column.objects[row], self));
        match source {
            Source::Base(at) if is_plain && self.table.rows[at as usize].shape == shape => {
                Destination::Row(at)
            }
            Source::Base(at) => Destination::Apart(RowOwner::Base(at)),
            Source::Added(number) if is_plain => {
                let start = self.changes.cells.len();
                let cells = self.table.schema.shapes[shape as usize].len();
                let _ = self.changes.cells.append(cells);
                self.changes.added[number as usize].record = Record { shape, start };
                Destination::Added(start)
            }
            Source::Added(number) => Destination::Apart(RowOwner::Added(number)),
        }
    }

    /// The cells of one column in a block.
    fn column(
        &mut self,
        walk: &Walk<'_>,
        column: &Column<'_, '_>,
        position: usize,
        block: &mut Block,
        w: &mut Writer,
    ) -> ConvertResult<()> {
        let rows = block.places.len();
        let named = |capture: &Self, row: usize, error: ConvertError| {
            let keys: Vec<&[u8]> = column.leaf.keys.iter().map(|key| &**key).collect();
            error.below_keys(&keys).below_key(capture.symbol(row))
        };
        match &column.leaf.values {
            Values::Empty => {
                block.tags[..rows].fill(tag::EMPTY);
                block.words[..rows].fill(0);
                self.compare_words(column.path, position, block, 0..rows);
            }
            Values::Arrays(kind, chunks) => {
                let mut done = 0;
                while done < rows {
                    let (array, at) = chunks.at(block.start + done);
                    let part = done..rows.min(done + array.length - at);
                    done = part.end;
                    let (tags, words) = (&mut block.tags[part.clone()], &mut block.words[part.clone()]);
                    if array.words(kind, at, tags, words) {
                        self.compare_words(column.path, position, block, part);
                        continue;
                    }
                    for (i, at) in part.zip(at..) {
                        let place = block.places[i];
                        let value = array.value(kind, at, w);
                        let (tag, payload) = value.map_err(|error| named(self, block.start + i, error))?;
                        self.put(column.path, position, place, tag, payload);
                    }
                }
            }
            Values::Objects(_, nulls) => {
                for i in 0..rows {
                    self.row = block.start + i;
                    let place = block.places[i];
                    if is_masked(nulls, self.row) {
                        self.put(column.path, position, place, tag::NONE, Payload::Fixed64(0));
                        continue;
                    }
                    let object = column.objects[self.row];
                    self.object(walk, column, position, place, object)
                        .map_err(|error| named(self, self.row, error))?;
                }
            }
        }
        Ok(())
    }

    /// Words of a part of a block against the state: nothing is written for what stayed.
    #[inline(always)]
    fn compare_words(&mut self, path: PathId, position: usize, block: &Block, part: std::ops::Range<usize>) {
        for i in part {
            let new = Cell { tag: block.tags[i], word: block.words[i] };
            match block.places[i] {
                Destination::Row(at) => self.change(path, at, position, new),
                Destination::Added(start) => self.changes.cells.set(start + position, new),
                Destination::Apart(_) => {}
            }
        }
    }

    /// A cell of a row of the base: nothing is written if it is the one that is there.
    #[inline(always)]
    fn change(&mut self, path: PathId, row: u32, position: usize, new: Cell) {
        let old = self.table.rows[row as usize].cell(position);
        if old != new {
            self.changes.update(path, row, old, new);
        }
    }

    fn put(&mut self, path: PathId, position: usize, place: Destination, tag: Tag, payload: Payload<'_>) {
        match place {
            Destination::Row(at) => {
                let old = self.table.rows[at as usize].cell(position);
                let new = intern(self.table, &mut self.changes, tag, payload, Hint::Old(old));
                self.change(path, at, position, new);
            }
            Destination::Added(start) => {
                let new = self.intern(tag, payload);
                self.changes.cells.set(start + position, new);
            }
            Destination::Apart(_) => {}
        }
    }

    /// An object that is known to be one leaf.
    fn object(
        &mut self,
        walk: &Walk<'_>,
        column: &Column<'_, '_>,
        position: usize,
        place: Destination,
        object: Obj<'_>,
    ) -> ConvertResult<()> {
        let hint = match place {
            Destination::Row(at) => Hint::Old(self.table.rows[at as usize].cell(position)),
            Destination::Added(_) => Hint::None,
            Destination::Apart(_) => return Ok(()),
        };
        match (self.leaf(walk, object, hint, column.leaf.keys.len())?, place) {
            (Found::Cell(new), Destination::Row(at)) => self.change(column.path, at, position, new),
            (Found::Cell(new), Destination::Added(start)) => self.changes.cells.set(start + position, new),
            (Found::Deferred(value), place) => {
                let place = match place {
                    Destination::Row(at) => CellPlace::Row(at, position),
                    Destination::Added(start) => CellPlace::New(start + position),
                    Destination::Apart(_) => return Ok(()),
                };
                self.deferred_cells.push(DeferredCell { row: self.row, place, path: column.path, value });
            }
            (Found::Dict(_), _) => return Err(ConvertError::unsupported("a dict is no leaf")),
            (Found::Cell(_), Destination::Apart(_)) => {}
        }
        Ok(())
    }

    /// All leaves of one row.
    fn items(
        &mut self,
        walk: &Walk<'_>,
        given: &Table<'_>,
        columns: &[Column<'_, '_>],
        structs: &[PathId],
        row: usize,
        w: &mut Writer,
    ) -> ConvertResult<Vec<RecordItem>> {
        let none = Cell { tag: tag::NONE, word: 0 };
        let mut items = Vec::with_capacity(columns.len());
        let mut last_null = None;
        for column in columns {
            let is_null = |number: &&usize| {
                let (array, at) = given.structs[**number].chunks.at(row);
                array.is_null(at)
            };
            if let Some(number) = column.leaf.within.iter().find(is_null) {
                if last_null != Some(*number) {
                    items.push(RecordItem::Cell(structs[*number], none));
                }
                last_null = Some(*number);
                continue;
            }
            let read = self.item(walk, column, row, w, &mut items);
            read.map_err(|error| {
                let keys: Vec<&[u8]> = column.leaf.keys.iter().map(|key| &**key).collect();
                error.below_keys(&keys).below_key(self.symbol(row))
            })?;
        }
        Ok(items)
    }

    fn item(
        &mut self,
        walk: &Walk<'_>,
        column: &Column<'_, '_>,
        row: usize,
        w: &mut Writer,
        items: &mut Vec<RecordItem>,
    ) -> ConvertResult<()> {
        let path = column.path;
        let (tag, payload) = match &column.leaf.values {
            Values::Empty => (tag::EMPTY, Payload::Fixed64(0)),
            Values::Arrays(kind, chunks) => {
                let (array, at) = chunks.at(row);
                array.value(kind, at, w)?
            }
            Values::Objects(_, nulls) if is_masked(nulls, row) => (tag::NONE, Payload::Fixed64(0)),
            Values::Objects(..) => {
                match self.leaf(walk, column.objects[row], Hint::None, column.leaf.keys.len())? {
                    Found::Cell(cell) => items.push(RecordItem::Cell(path, cell)),
                    Found::Deferred(value) => items.push(RecordItem::Deferred(path, value)),
                    Found::Dict(dict) => self.leaves(walk, dict, path, items)?,
                }
                return Ok(());
            }
        };
        let cell = self.intern(tag, payload);
        items.push(RecordItem::Cell(path, cell));
        Ok(())
    }
}

fn is_masked(nulls: &Nulls, row: usize) -> bool {
    matches!(nulls, Nulls::Mask(mask) if mask.bytes()[row] != 0)
}

/// The items of a column of objects.
fn objects<'w, 'py>(walk: &'w Walk<'py>, values: &'w Values<'py>) -> Vec<Obj<'w>> {
    match values {
        Values::Objects(list, _) => match walk.root(list.as_any()).view(walk.types) {
            ObjectView::List(items) => items.items().collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// False if an object is, or may become, a dict.
fn is_leaf(walk: &Walk<'_>, object: Obj<'_>, capture: &Capture<'_>) -> bool {
    match object.view(walk.types) {
        ObjectView::Dict(dict) => dict.len() == 0,
        ObjectView::None
        | ObjectView::False
        | ObjectView::True
        | ObjectView::Float(_)
        | ObjectView::Int(_)
        | ObjectView::Str(_) => true,
        view => DeferredValue::of(walk, object, &view, capture.cache).is_leaf(),
    }
}

/// The symbol of a row.
fn symbol_at<'b>(
    walk: &Walk<'_>,
    values: &'b Values<'_>,
    objects: &[Obj<'b>],
    row: usize,
    w: &'b mut Writer,
) -> ConvertResult<&'b [u8]> {
    let refused = |what: &str| ConvertError::usage(format!("symbol: {what} in row {row}; symbols are text"));
    match values {
        Values::Objects(_, nulls) if !is_masked(nulls, row) => match Str::of(objects[row], walk.types) {
            Some(text) => Ok(text.text(&mut w.bytes)?),
            None => Err(refused("there is no str")),
        },
        Values::Arrays(kind, chunks) => {
            symbol_text(kind, chunks, row, w)?.ok_or_else(|| refused("there is none"))
        }
        _ => Err(refused("there is none")),
    }
}

/// None if it is null or no text.
fn symbol_text<'b>(
    kind: &Type,
    chunks: &'b Chunks,
    row: usize,
    w: &'b mut Writer,
) -> ConvertResult<Option<&'b [u8]>> {
    let (array, at) = chunks.at(row);
    array.text(kind, at, &mut w.bytes).map_err(|error| error.below_keys(&[b"symbol"]))
}
