//! Columns -> change set: block of rows after block, column after column in each.

use std::collections::HashSet;

use pyo3::prelude::*;

use crate::error::key_text;
use crate::format::text::{SHORT_LENGTH, short_word};
use crate::format::value::{Payload, Tag, tag};
use crate::format::writer::Writer;
use crate::python::convert_error::{ConvertError, ConvertResult};
use crate::python::ffi::object::{Obj, ObjectView, Str, Walk};
use crate::python::ffi::types::Types;
use crate::python::from_python::capture::Capture;
use crate::python::from_python::columns::array::{Array, Nulls};
use crate::python::from_python::columns::block::{BLOCK, Block, for_each_difference};
use crate::python::from_python::columns::source::{Chunks, Leaf, Table, Values};
use crate::python::from_python::columns::types::Type;
use crate::python::from_python::deferred::{CellPlace, DeferredCell, DeferredValue, RecordItem, RowOwner};
use crate::python::from_python::leaf::{Found, Hint, intern};
use crate::state::change_set::{Record, Source};
use crate::state::schema::{PathId, ROOT, ShapeId};
use crate::state::table::Cell;

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

/// Rows of a block, the first of them, and where they belong.
struct Rows {
    start: usize,
    places: Vec<Destination>,
}

/// A column with its path, and its objects if it has such.
struct Column<'w, 'py> {
    leaf: &'w Leaf<'py>,
    path: PathId,
    objects: Vec<Obj<'w>>,
}

impl Capture<'_> {
    /// Reads all columns. Python code runs only before the first value is read.
    pub(super) fn columns<'py>(&mut self, py: Python<'py>, given: &Table<'py>) -> ConvertResult<()> {
        let types = Types::get(py)?;
        self.cache.forget_changed(py);
        let walk = Walk::new(py, types);
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
        let mut block = Block::new(columns.len());
        let mut w = Writer::default();
        for start in (0..given.rows).step_by(BLOCK) {
            let rows = BLOCK.min(given.rows - start);
            (start + rows..start + rows + BLOCK).for_each(|row| self.fetch_row(row));
            let mut places = Vec::with_capacity(rows);
            for row in start..start + rows {
                let symbol = symbol_at(walk, &given.symbols, symbols, row, &mut w)?;
                let source = self.enter_symbol(symbol);
                let is_new = match source {
                    Source::Base(at) => !std::mem::replace(&mut is_met[at as usize], true),
                    Source::Added(_) => added.insert(symbol.to_vec()),
                };
                if !is_new {
                    return Err(ConvertError::usage(format!("symbol: {} is there twice", key_text(symbol))));
                }
                places.push(self.place(walk, given, &with_objects, shape, row, source));
            }
            let rows = Rows { start, places };
            for (position, column) in columns.iter().enumerate() {
                self.column(walk, column, position, &rows, &mut block, &mut w)?;
            }
            for (i, place) in rows.places.iter().enumerate() {
                match *place {
                    Destination::Row(at) => self.compare_row(at, columns, block.row(i)),
                    Destination::Added(start) => self.changes.cells.write(start, block.row(i)),
                    Destination::Apart(owner) => {
                        self.row = start + i;
                        let items = self.items(walk, given, columns, &structs, self.row, &mut w)?;
                        self.assemble(owner, items)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A row of the base against what is there now: nothing is written for what stayed.
    fn compare_row(&mut self, at: u32, columns: &[Column<'_, '_>], (tags, words): (&[Tag], &[u64])) {
        let row = &self.table.rows[at as usize];
        for_each_difference((&row.tags, &row.words), (tags, words), |position| {
            let new = Cell { tag: tags[position], word: words[position] };
            self.changes.update(columns[position].path, at, row.cell(position), new);
        });
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
                self.changes.cells.extend(std::iter::repeat_n(Cell::NONE, cells));
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
        Rows { start, places }: &Rows,
        block: &mut Block,
        w: &mut Writer,
    ) -> ConvertResult<()> {
        let (start, rows) = (*start, places.len());
        let named = |capture: &Self, row: usize, error: ConvertError| {
            let keys: Vec<&[u8]> = column.leaf.keys.iter().map(|key| &**key).collect();
            error.below_keys(&keys).below_key(capture.symbol(row))
        };
        match &column.leaf.values {
            Values::Empty => {
                let mut cells = block.column(position, 0..rows);
                cells.set_tag(tag::EMPTY);
                cells.set_words(|_| 0);
            }
            Values::Arrays(kind, chunks) => {
                let mut done = 0;
                while done < rows {
                    let (array, at) = chunks.at(start + done);
                    let part = done..rows.min(done + array.length - at);
                    done = part.end;
                    if array.words(kind, at, &mut block.column(position, part.clone())) {
                        continue;
                    }
                    for (i, at) in part.zip(at..) {
                        let Some(hint) = self.hint(places[i], position) else { continue };
                        let read = self.array_cell(array, kind, at, hint, w);
                        block.set(i, position, read.map_err(|error| named(self, start + i, error))?);
                    }
                }
            }
            Values::Objects(_, nulls) => {
                for (i, place) in places.iter().enumerate() {
                    let Some(hint) = self.hint(*place, position) else { continue };
                    self.row = start + i;
                    let cell = if is_masked(nulls, self.row) {
                        Cell::NONE
                    } else {
                        self.object_cell(walk, column, position, *place, hint)
                            .map_err(|error| named(self, self.row, error))?
                    };
                    block.set(i, position, cell);
                }
            }
        }
        Ok(())
    }

    /// What a cell may be; None if the row is put together apart.
    #[inline(always)]
    fn hint(&self, place: Destination, position: usize) -> Option<Hint> {
        match place {
            Destination::Row(at) => Some(Hint::Old(self.table.rows[at as usize].cell(position))),
            Destination::Added(_) => Some(Hint::None),
            Destination::Apart(_) => None,
        }
    }

    fn array_cell(
        &mut self,
        array: &Array,
        kind: &Type,
        at: usize,
        hint: Hint,
        w: &mut Writer,
    ) -> ConvertResult<Cell> {
        if let Hint::Old(old) = hint
            && let Some(text) = array.text_in_place(kind, at)
            && self.is_text(old, text)
        {
            return Ok(old);
        }
        let (tag, payload) = array.value(kind, at, w)?;
        Ok(intern(self.table, &mut self.changes, tag, payload, hint))
    }

    /// True only if a cell is this text. Text that is a number, in another kind of cell, is not looked at.
    fn is_text(&self, cell: Cell, text: &[u8]) -> bool {
        match cell.tag {
            tag::SHORT => text.len() <= SHORT_LENGTH && short_word(text) == cell.word,
            tag::TEXT => self.table.pool.get(cell.word) == text,
            _ => false,
        }
    }

    /// The cell of the object at hand, which is known to be one leaf. One that is deferred stays as it is for now.
    fn object_cell(
        &mut self,
        walk: &Walk<'_>,
        column: &Column<'_, '_>,
        position: usize,
        place: Destination,
        hint: Hint,
    ) -> ConvertResult<Cell> {
        let value = match self.leaf(walk, column.objects[self.row], hint, column.leaf.keys.len())? {
            Found::Cell(cell) => return Ok(cell),
            Found::Deferred(value) => value,
            Found::Dict(_) => return Err(ConvertError::unsupported("a dict is no leaf")),
        };
        let place = match place {
            Destination::Row(at) => CellPlace::Row(at, position),
            Destination::Added(start) => CellPlace::New(start + position),
            Destination::Apart(_) => return Err(ConvertError::unsupported("a row apart has no cells")),
        };
        self.deferred_cells.push(DeferredCell { row: self.row, place, path: column.path, value });
        Ok(if let Hint::Old(old) = hint { old } else { Cell::NONE })
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
        let mut items = Vec::with_capacity(columns.len());
        let mut last_null = None;
        for column in columns {
            let is_null = |number: &&usize| {
                let (array, at) = given.structs[**number].chunks.at(row);
                array.is_null(at)
            };
            if let Some(number) = column.leaf.within.iter().find(is_null) {
                if last_null != Some(*number) {
                    items.push(RecordItem::Cell(structs[*number], Cell::NONE));
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
