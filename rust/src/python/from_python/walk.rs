//! dict -> change set: one walk over the snapshot against the native state.

use std::collections::HashSet;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::key_text;
use crate::format::MAX_DEPTH;
use crate::format::value::{Payload, Tag, is_blob, tag, text_cell, write_inline};
use crate::format::writer::Writer;
use crate::python::convert_error::{ConvertError, ConvertResult};
use crate::python::errors;
use crate::python::ffi::object::{Dict, Obj, ObjectView, Pair, Sequence, Str, Walk, prefetch_slice};
use crate::python::ffi::types::{FieldsIn, InPlace, Types};
use crate::python::from_python::cache::ConversionCache;
use crate::python::from_python::deferred::{
    CellPlace, DeferredCell, DeferredRecord, DeferredValue, RecordItem, RowOwner,
};
use crate::python::from_python::gather::{self, BlockRow, Gather, Gathered};
use crate::python::from_python::scalars::{self, is_scalar};
use crate::python::symbol_list::symbol_bytes;
use crate::state::change_set::{Added, ChangeSet, Record, Source};
use crate::state::schema::{PathId, ROOT, Shape, ShapeId};
use crate::state::table::{Cell, Table};

/// So many values of a block are in the processor's cache together.
const BLOCK_VALUES: usize = 1024;

/// What a leaf is found to be.
pub(crate) enum Found<'w> {
    Cell(Cell),
    /// A dict that is not empty.
    Dict(Dict<'w>),
    Deferred(DeferredValue),
}

/// A cell that the one at hand may be.
#[derive(Clone, Copy)]
pub(super) enum Hint {
    None,
    /// The base's: then it changes nothing, and nothing is held for it.
    Old(Cell),
    /// That of a record before.
    Like(Cell),
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
    /// The row at hand.
    pub(super) row: usize,
    /// The shape of the record before, which new ones mostly share.
    last_shape: Option<ShapeId>,
    /// Positions in the record at hand whose leaves take more than a look.
    open: Vec<u32>,
    text: Vec<u8>,
    writer: Writer,
}

/// Where a record's cells belong.
#[derive(Clone, Copy)]
struct RecordPlace<'s> {
    shape: &'s Shape,
    owner: RowOwner,
    /// Where those of an added one begin.
    start: usize,
    /// An added record before it, of the same shape, whose cells begin there.
    like: Option<usize>,
}

impl<'a> Capture<'a> {
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

    /// Reads the whole snapshot. No Python code runs.
    pub(crate) fn walk(&mut self, py: Python<'_>, snapshot: &Bound<'_, PyDict>) -> ConvertResult<()> {
        let types = Types::get(py)?;
        let classes = self.classes_of(snapshot, types)?;
        if let Some((_, first)) = snapshot.iter().next() {
            self.expect_fields(&first, &classes);
        }
        let walk = Walk::new(py, types);
        let Some(dict) = Dict::of(walk.root(snapshot.as_any()), walk.types) else {
            return Err(ConvertError::unsupported("a snapshot is a dict"));
        };
        let records: Vec<Pair<'_>> = dict.items().collect();
        self.target.reserve(records.len());
        self.exact_types.reserve(records.len());
        let mut gather = Gather::new(&walk, classes);
        let read = self.blocks(&walk, &records, &mut gather);
        gather.finish(&mut self.cache.keys);
        read
    }

    /// The classes whose instances are read in place; that of the first record is made known here, others when they
    /// are met.
    fn classes_of(
        &mut self,
        snapshot: &Bound<'_, PyDict>,
        types: &Types,
    ) -> ConvertResult<Vec<Arc<InPlace>>> {
        let classes = &mut self.cache.classes;
        classes.forget_changed(snapshot.py());
        if let Some((symbol, record)) = snapshot.iter().next()
            && !record.is_exact_instance_of::<PyDict>()
        {
            let known = classes.get(&record.get_type(), types);
            known.map_err(|error| match symbol_bytes(&symbol) {
                Ok(symbol) => ConvertError::from(error).below_key(&symbol),
                Err(_) => error.into(),
            })?;
        }
        Ok(classes.in_place(snapshot.py())?)
    }

    /// Without a record before, the first is expected to have the fields of its class, and models in them where it says so.
    fn expect_fields(&mut self, record: &Bound<'_, PyAny>, classes: &[Arc<InPlace>]) {
        let address = record.get_type().as_ptr() as usize;
        if self.last_shape.is_none() && classes.iter().any(|class| class.address == address) {
            let mut paths = Vec::new();
            self.add_fields(ROOT, address, classes, &mut paths);
            self.last_shape = self.table.schema.shape(&paths);
        }
    }

    fn add_fields(
        &mut self,
        above: PathId,
        address: usize,
        classes: &[Arc<InPlace>],
        paths: &mut Vec<PathId>,
    ) {
        let Some(class) = classes.iter().find(|class| class.address == address) else {
            return paths.push(above);
        };
        for (at, name) in class.names.iter().enumerate() {
            let key = self.table.schema.key(name);
            let path = self.table.schema.path(above, key);
            match &class.fields {
                FieldsIn::Dict(inner) => self.add_fields(path, inner[at], classes, paths),
                FieldsIn::Slots(_) => paths.push(path),
            }
        }
    }

    fn blocks<'w>(
        &mut self,
        walk: &Walk<'_>,
        records: &[Pair<'w>],
        gather: &mut Gather<'w>,
    ) -> ConvertResult<()> {
        let mut block: Vec<BlockRow<'w>> = Vec::with_capacity(gather::BLOCK);
        let mut at = 0;
        while at < records.len() {
            let n = self.block_length().min(records.len() - at);
            let (now, next) = records[at..].split_at(n);
            for Pair { key, value } in next.iter().take(gather::BLOCK) {
                key.prefetch();
                value.prefetch();
            }
            let base = self.table.rows.get(at..).unwrap_or_default();
            for row in base.iter().skip(n).take(gather::BLOCK) {
                prefetch_slice(&row.symbol);
                prefetch_slice(&row.tags);
                prefetch_slice(&row.words);
            }
            block.clear();
            let mut refused = Ok(());
            for (at, Pair { key, value }) in (at..).zip(now) {
                refused = self.enter(walk, *key);
                if refused.is_err() {
                    break;
                }
                block.push(BlockRow { record: *value, shape: self.expected_shape(at) });
            }
            gather.block(&block, &self.table.schema, &mut self.cache.keys);
            for (i, row) in block.iter().enumerate() {
                self.row = at + i;
                self.record(walk, row, i, gather).map_err(|error| error.below_key(self.symbol(self.row)))?;
            }
            refused?;
            at += n;
        }
        Ok(())
    }

    fn block_length(&self) -> usize {
        match self.last_shape {
            // the first one tells what the others are like
            None => 1,
            Some(shape) => {
                let leaves = self.table.schema.shapes[shape as usize].len();
                (BLOCK_VALUES / leaves).clamp(4, gather::BLOCK)
            }
        }
    }

    /// Finds where the next row of the target comes from.
    fn enter(&mut self, walk: &Walk<'_>, key: Obj<'_>) -> ConvertResult<()> {
        let Some(text) = Str::of(key, walk.types) else {
            return Err(key.refused_key("symbols", walk));
        };
        let mut buffer = std::mem::take(&mut self.text);
        self.enter_symbol(text.text(&mut buffer)?);
        self.text = buffer;
        Ok(())
    }

    /// The next row of the target has this symbol.
    pub(super) fn enter_symbol(&mut self, symbol: &[u8]) -> Source {
        let after_last = match self.target.last() {
            Some(Source::Base(last)) => *last as usize + 1,
            _ => self.target.len(),
        };
        let base = [after_last, self.target.len()]
            .into_iter()
            .find(|row| self.table.rows.get(*row).is_some_and(|expected| *expected.symbol == *symbol));
        let source = match base.or_else(|| self.table.position(symbol)) {
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

    fn expected_shape(&self, row: usize) -> Option<ShapeId> {
        match self.target[row] {
            Source::Base(base) => Some(self.table.rows[base as usize].shape),
            Source::Added(_) => self.last_shape,
        }
    }

    /// The record of the row at hand, which is number `i` of its block.
    fn record<'w>(
        &mut self,
        walk: &Walk<'_>,
        BlockRow { record, shape }: &BlockRow<'w>,
        i: usize,
        gather: &Gather<'w>,
    ) -> ConvertResult<()> {
        let owner = match self.target[self.row] {
            Source::Base(base) => RowOwner::Base(base),
            Source::Added(number) => RowOwner::Added(number),
        };
        if let Some(id) = *shape {
            let shape = Arc::clone(&self.table.schema.shapes[id as usize]);
            if let Some(values) = gather.values(i)
                && self.gathered(walk, owner, id, &shape, &values)?
            {
                if values.has_instances {
                    self.mark_inexact();
                }
                return Ok(());
            }
        }
        match Dict::of(*record, walk.types) {
            Some(dict) if dict.len() > 0 => {
                let mut items = Vec::new();
                self.leaves(walk, dict, ROOT, &mut items)?;
                self.assemble(owner, items)
            }
            _ => self.leaf_record(walk, owner, *record),
        }
    }

    fn leaf_record(&mut self, walk: &Walk<'_>, owner: RowOwner, record: Obj<'_>) -> ConvertResult<()> {
        let item = match self.leaf(walk, record, Hint::None, 0)? {
            Found::Cell(cell) => RecordItem::Cell(ROOT, cell),
            Found::Deferred(value) => RecordItem::Deferred(ROOT, value),
            Found::Dict(_) => return Err(ConvertError::unsupported("a dict is no leaf")),
        };
        self.assemble(owner, vec![item])
    }

    /// A record whose values stand in the order of a shape. False if one of them is no leaf, or may turn out to be none.
    fn gathered(
        &mut self,
        walk: &Walk<'_>,
        owner: RowOwner,
        id: ShapeId,
        shape: &Shape,
        gathered: &Gathered<'_, '_>,
    ) -> ConvertResult<bool> {
        let Gathered { values, slots, has_models, .. } = *gathered;
        let start = self.changes.cells.len();
        let (retained_blobs, items) = (self.changes.retained_mark(), self.deferred_cells.len());
        self.open.clear();
        let mut like = None;
        match owner {
            RowOwner::Base(base) => self.compare(walk.types, base, shape, values, slots),
            RowOwner::Added(number) => {
                let before = number.checked_sub(1).map(|before| self.changes.added[before as usize].record);
                like = before.filter(|before| before.shape == id && before.start < start).map(|b| b.start);
                self.append(walk.types, values, slots);
                self.changes.added[number as usize].record = Record { shape: id, start };
            }
        }
        let place = RecordPlace { shape, owner, start, like };
        for i in 0..self.open.len() {
            let position = self.open[i] as usize;
            let value = values[slots[position] as usize];
            let fits = !has_models || is_scalar(value, walk.types, self.cache);
            if !fits || !self.open_leaf(walk, value, position, place)? {
                self.changes.cells.truncate(start);
                if let RowOwner::Base(base) = owner {
                    self.changes.take_back(&shape.paths, base);
                }
                self.changes.release_since(retained_blobs, self.table);
                self.deferred_cells.truncate(items);
                return Ok(false);
            }
        }
        if let RowOwner::Added(_) = owner {
            self.last_shape = Some(id);
        }
        Ok(true)
    }

    /// Values against the cells of a base row: nothing is written for what stayed.
    // by itself, so that all of the loop fits into registers
    #[inline(never)]
    fn compare(&mut self, types: &Types, base: u32, shape: &Shape, values: &[Obj<'_>], slots: &[u32]) {
        let Capture { table, changes, open, .. } = self;
        let row = &table.rows[base as usize];
        let cells = row.tags.iter().zip(&row.words);
        for (position, (slot, (&tag, &word))) in slots.iter().zip(cells).enumerate() {
            let object = values[*slot as usize];
            // most leaves are floats: they are compared before they are anything else
            if let Some(value) = object.float(types)
                && value.to_bits() == word
                && tag == tag::FLOAT
            {
                continue;
            }
            match fast_leaf(object, types) {
                Some(new) if new.tag == tag && new.word == word => {}
                Some(new) => changes.update(shape.paths[position], base, Cell { tag, word }, new),
                None => {
                    // it is read when the rest of the record has been
                    values[*slot as usize].prefetch_items(types);
                    open.push(position as u32);
                }
            }
        }
    }

    /// Values as the cells of an added record.
    fn append(&mut self, types: &Types, values: &[Obj<'_>], slots: &[u32]) {
        let Capture { changes, open, .. } = self;
        let cells = changes.cells.append(slots.len());
        for (position, (slot, (tag, word))) in slots.iter().zip(cells).enumerate() {
            match fast_leaf(values[*slot as usize], types) {
                Some(cell) => (*tag, *word) = (cell.tag, cell.word),
                None => open.push(position as u32),
            }
        }
    }

    /// A leaf that takes more than a look. False if it is none, or may turn out to be none.
    #[inline(never)]
    fn open_leaf(
        &mut self,
        walk: &Walk<'_>,
        value: Obj<'_>,
        position: usize,
        place: RecordPlace<'_>,
    ) -> ConvertResult<bool> {
        let RecordPlace { shape, owner, start, like } = place;
        let path = shape.paths[position];
        let depth = self.table.schema.paths[path as usize].depth;
        let hint = match owner {
            RowOwner::Base(row) => Hint::Old(self.table.rows[row as usize].cell(position)),
            RowOwner::Added(_) => {
                like.map_or(Hint::None, |like| Hint::Like(self.changes.cells.get(like + position)))
            }
        };
        let found = self.slow_leaf(walk, value, hint, depth);
        match found.map_err(|error| error.below_keys(&self.table.schema.keys_of(path)))? {
            Found::Cell(new) => match (owner, hint) {
                (RowOwner::Base(row), Hint::Old(old)) => {
                    if old != new {
                        self.changes.update(path, row, old, new);
                    }
                }
                _ => self.changes.cells.set(start + position, new),
            },
            Found::Deferred(value) if value.is_leaf() => {
                let place = match owner {
                    RowOwner::Base(row) => CellPlace::Row(row, position),
                    RowOwner::Added(_) => CellPlace::New(start + position),
                };
                self.deferred_cells.push(DeferredCell { row: self.row, place, path, value });
            }
            Found::Dict(_) | Found::Deferred(_) => return Ok(false),
        }
        Ok(true)
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
            let found = self.leaf(walk, value, Hint::None, depth).and_then(|found| match found {
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

    /// A cell that the change set owns.
    pub(crate) fn intern(&mut self, tag: Tag, payload: Payload<'_>) -> Cell {
        intern(self.table, &mut self.changes, tag, payload, Hint::None)
    }

    pub(super) fn leaf<'w>(
        &mut self,
        walk: &Walk<'_>,
        object: Obj<'w>,
        hint: Hint,
        depth: usize,
    ) -> ConvertResult<Found<'w>> {
        match fast_leaf(object, walk.types) {
            Some(cell) => Ok(Found::Cell(cell)),
            None => self.slow_leaf(walk, object, hint, depth),
        }
    }

    /// A leaf that takes more than a look.
    fn slow_leaf<'w>(
        &mut self,
        walk: &Walk<'_>,
        object: Obj<'w>,
        hint: Hint,
        depth: usize,
    ) -> ConvertResult<Found<'w>> {
        if let Some(items) = Sequence::of(object, walk.types) {
            return self.sequence(walk, items, hint, depth);
        }
        match object.view(walk.types) {
            ObjectView::Str(text) => {
                let (tag, payload) = text_cell(text.text(&mut self.text)?);
                Ok(Found::Cell(intern(self.table, &mut self.changes, tag, payload, hint)))
            }
            ObjectView::Dict(dict) if dict.len() == 0 => Ok(Found::Cell(Cell { tag: tag::EMPTY, word: 0 })),
            ObjectView::Dict(dict) => Ok(Found::Dict(dict)),
            view => self.slow_path(walk, object, &view, hint),
        }
    }

    /// A list or tuple: most hold leaves that need no more than a look.
    fn sequence<'w>(
        &mut self,
        walk: &Walk<'_>,
        items: Sequence<'_>,
        hint: Hint,
        depth: usize,
    ) -> ConvertResult<Found<'w>> {
        let kind = if items.is_list() { tag::LIST } else { tag::TUPLE };
        let mut open = Vec::new();
        if depth >= MAX_DEPTH || !self.write_fast_leaves(items, walk.types) {
            self.writer.bytes.clear();
            open = scalars::write(walk, items, &mut self.writer, self.cache, depth + 1)?;
        }
        if open.is_empty() {
            let payload = Payload::Bytes(&self.writer.bytes);
            Ok(Found::Cell(intern(self.table, &mut self.changes, kind, payload, hint)))
        } else {
            let bytes = std::mem::take(&mut self.writer.bytes);
            Ok(Found::Deferred(DeferredValue::Sequence { tag: kind, bytes, items: open }))
        }
    }

    /// As `scalars::write`, for items that need nothing but the objects. False if one of them needs more.
    fn write_fast_leaves(&mut self, items: Sequence<'_>, types: &Types) -> bool {
        let w = &mut self.writer;
        w.bytes.clear();
        w.size(items.len());
        items.items().all(|item| match fast_leaf(item, types) {
            Some(Cell { tag, word }) => {
                write_inline(w, tag, Payload::Fixed64(word));
                true
            }
            None => false,
        })
    }

    fn slow_path<'w>(
        &mut self,
        walk: &Walk<'_>,
        object: Obj<'w>,
        view: &ObjectView<'_>,
        hint: Hint,
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
            return Ok(Found::Cell(intern(self.table, &mut self.changes, tag, payload, hint)));
        }
        if let Some((tag, payload)) = self.cache.known_enum(object) {
            let cell = intern(self.table, &mut self.changes, tag, payload, hint);
            self.mark_inexact();
            return Ok(Found::Cell(cell));
        }
        let value = DeferredValue::of(walk, object, view, self.cache);
        Ok(Found::Deferred(value))
    }

    /// The row at hand holds something that is built back as another type.
    fn mark_inexact(&mut self) {
        self.exact_types[self.row] = false;
    }
}

/// Leaves whose cell needs nothing but the object.
#[inline(always)]
fn fast_leaf(object: Obj<'_>, types: &Types) -> Option<Cell> {
    if let Some(value) = object.float(types) {
        return Some(Cell { tag: tag::FLOAT, word: value.to_bits() });
    }
    if let Some(value) = object.small_int(types) {
        return Some(Cell { tag: tag::INT, word: value as u64 });
    }
    if let Some(text) = Str::of(object, types) {
        return match text_cell(text.ascii()?) {
            (tag, Payload::Fixed64(word)) => Some(Cell { tag, word }),
            _ => None,
        };
    }
    let tag = match object.view(types) {
        ObjectView::None => tag::NONE,
        ObjectView::False => tag::FALSE,
        ObjectView::True => tag::TRUE,
        ObjectView::Int(value) => return Some(Cell { tag: tag::INT, word: value as u64 }),
        _ => return None,
    };
    Some(Cell { tag, word: 0 })
}

#[inline]
pub(super) fn intern(
    table: &mut Table,
    changes: &mut ChangeSet,
    tag: Tag,
    payload: Payload<'_>,
    hint: Hint,
) -> Cell {
    if let (Hint::Old(near) | Hint::Like(near), Payload::Bytes(bytes)) = (hint, payload)
        && near.tag == tag
        && is_blob(tag)
        && table.pool.get(near.word) == bytes
    {
        if let Hint::Like(_) = hint {
            table.pool.retain(near.word);
            changes.retain(near);
        }
        return near;
    }
    let cell = table.acquire(tag, payload);
    changes.retain(cell);
    cell
}
