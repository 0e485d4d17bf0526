//! dict -> change set: one walk over the snapshot against the native state.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::format::MAX_DEPTH;
use crate::format::value::tag;
use crate::python::convert_error::{ConvertError, ConvertResult};
use crate::python::ffi::object::{Dict, Obj, Pair, Str, Walk};
use crate::python::ffi::types::{FieldsIn, InPlace, Types};
use crate::python::from_python::capture::Capture;
use crate::python::from_python::deferred::{CellPlace, DeferredCell, RecordItem, RowOwner};
use crate::python::from_python::gather::{self, BlockRow, Gather, Gathered};
use crate::python::from_python::leaf::{Found, Hint, fast_leaf};
use crate::python::from_python::scalars::is_scalar;
use crate::python::symbol_list::symbol_bytes;
use crate::state::change_set::{Record, Source};
use crate::state::schema::{PathId, ROOT, Shape, ShapeId};
use crate::state::table::Cell;

/// So many values of a block are in the processor's cache together.
const BLOCK_VALUES: usize = 1024;

/// Models that may hold two each, ten deep, have more: the first record will tell which of them are there.
const MAX_EXPECTED: usize = 1024;

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

impl Capture<'_> {
    /// Reads the whole snapshot. Python code runs only before the first value is read.
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
        let records = dict.pairs(walk.types);
        self.target.reserve(records.len());
        self.exact_types.reserve(records.len());
        self.changes.expect_rows(records.len());
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
        self.cache.forget_changed(snapshot.py());
        let classes = &mut self.cache.classes;
        if let Some((symbol, record)) = snapshot.iter().next()
            && !record.is_exact_instance_of::<PyDict>()
        {
            let known = classes.get(&record.get_type(), types);
            known.map_err(|error| match symbol_bytes(&symbol) {
                Ok(symbol) => ConvertError::from(error).below_key(&symbol),
                Err(_) => error.into(),
            })?;
        }
        Ok(classes.in_place())
    }

    /// Without a record before, the first is expected to have the fields of its class, and models in them where it says so.
    fn expect_fields(&mut self, record: &Bound<'_, PyAny>, classes: &[Arc<InPlace>]) {
        let address = record.get_type().as_ptr() as usize;
        if self.last_shape.is_none() && classes.iter().any(|class| class.address == address) {
            let mut paths = Vec::new();
            self.add_fields(ROOT, address, classes, &mut paths);
            self.last_shape = if paths.len() < MAX_EXPECTED { self.table.schema.shape(&paths) } else { None };
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
        if paths.len() >= MAX_EXPECTED {
            return;
        }
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
        records.iter().take(2 * gather::BLOCK).for_each(prefetch_heads);
        records.iter().take(gather::BLOCK).for_each(|record| record.value.prefetch_table(walk.types));
        let mut at = 0;
        while at < records.len() {
            let n = self.block_length().min(records.len() - at);
            let now = &records[at..at + n];
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
                self.fetch_ahead(walk.types, records, n);
                self.record(walk, row, i, gather).map_err(|error| error.below_key(self.symbol(self.row)))?;
            }
            refused?;
            at += n;
        }
        Ok(())
    }

    /// While the walk reads a record, it fetches a table of the next block and a head of the block after that.
    // where blocks become longer, some records are read without
    #[inline(always)]
    fn fetch_ahead(&self, types: &Types, records: &[Pair<'_>], block: usize) {
        if let Some(record) = records.get(self.row + 2 * block) {
            prefetch_heads(record);
        }
        if let Some(record) = records.get(self.row + block) {
            record.value.prefetch_table(types);
        }
        self.fetch_row(self.row + block);
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
        if let Some(id) = *shape
            && let Some(gathered) = gather.values(i)
            && self.gathered(walk, owner, id, &gathered)?
        {
            if gathered.instances.any {
                self.mark_inexact();
            }
            return Ok(());
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
        gathered: &Gathered<'_, '_>,
    ) -> ConvertResult<bool> {
        let Gathered { shape, values, instances } = *gathered;
        let start = self.changes.cells.len();
        let (retained_blobs, items) = (self.changes.retained_mark(), self.deferred_cells.len());
        self.open.clear();
        let mut like = None;
        match owner {
            RowOwner::Base(base) => self.compare(walk.types, base, shape, values),
            RowOwner::Added(number) => {
                let before = number.checked_sub(1).map(|before| self.changes.added[before as usize].record);
                like = before.filter(|before| before.shape == id && before.start < start).map(|b| b.start);
                self.append(walk.types, values);
                self.changes.added[number as usize].record = Record { shape: id, start };
            }
        }
        let place = RecordPlace { shape, owner, start, like };
        for i in 0..self.open.len() {
            let position = self.open[i] as usize;
            let value = values[position];
            let fits = !instances.models || is_scalar(value, walk.types, self.cache);
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
    fn compare(&mut self, types: &Types, base: u32, shape: &Shape, values: &[Obj<'_>]) {
        let Capture { table, changes, open, .. } = self;
        let row = &table.rows[base as usize];
        let cells = row.tags.iter().zip(&row.words);
        for (position, (value, (&tag, &word))) in values.iter().zip(cells).enumerate() {
            // most leaves are floats: they are compared before they are anything else
            if let Some(value) = value.float(types)
                && value.to_bits() == word
                && tag == tag::FLOAT
            {
                continue;
            }
            match fast_leaf(*value, types) {
                Some(new) if new.tag == tag && new.word == word => {}
                Some(new) => changes.update(shape.paths[position], base, Cell { tag, word }, new),
                None => {
                    // it is read when the rest of the record has been
                    value.prefetch_items(types);
                    open.push(position as u32);
                }
            }
        }
    }

    /// Values as the cells of an added record.
    #[inline(never)]
    fn append(&mut self, types: &Types, values: &[Obj<'_>]) {
        let Capture { changes, open, .. } = self;
        changes.extend(values.iter().enumerate().map(|(position, value)| {
            fast_leaf(*value, types).unwrap_or_else(|| {
                open.push(position as u32);
                Cell::NONE
            })
        }));
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
        let found = match self.fast_sequence(walk.types, value, hint, depth) {
            Some(cell) => Found::Cell(cell),
            None => {
                let found = self.slow_leaf(walk, value, hint, depth);
                found.map_err(|error| error.below_keys(&self.table.schema.keys_of(path)))?
            }
        };
        match found {
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
}

#[inline(always)]
fn prefetch_heads(record: &Pair<'_>) {
    record.key.prefetch();
    record.value.prefetch();
}
