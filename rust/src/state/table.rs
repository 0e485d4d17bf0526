//! The state table: rows of cells, found by symbol, and the digest over them.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::ops::Range;

use hashbrown::HashTable;

use crate::format::hash::{Chain, hash_bytes, hash_cell};
use crate::format::tag::LAST_WITHOUT_BLOBS;
use crate::format::value::{Payload, Tag, is_blob, tag};
use crate::state::blob_pool::BlobPool;
use crate::state::schema::{self, PathId, ROOT, Schema, ShapeId};
use crate::state::symbol::Symbol;

/// A cell's word is its payload, or the number of its blob in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) tag: Tag,
    pub(crate) word: u64,
}

impl Cell {
    /// None, or a cell that is still to be written.
    pub(crate) const NONE: Cell = Cell { tag: tag::NONE, word: 0 };
}

/// Cells side by side, tags and words apart.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Cells {
    pub(crate) tags: Vec<Tag>,
    pub(crate) words: Vec<u64>,
}

impl Cells {
    pub(crate) fn len(&self) -> usize {
        self.tags.len()
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, cell: Cell) {
        self.tags.push(cell.tag);
        self.words.push(cell.word);
    }

    #[inline(always)]
    pub(crate) fn get(&self, i: usize) -> Cell {
        Cell { tag: self.tags[i], word: self.words[i] }
    }

    /// False if it is seen at once that no cell is a blob, as of nearly all columns.
    pub(crate) fn may_have_blobs(&self) -> bool {
        // without a look at each by itself
        self.tags.iter().fold(0, |greatest, tag| greatest.max(*tag)) > LAST_WITHOUT_BLOBS
    }

    /// All cells have this tag.
    pub(crate) fn all_have(&self, tag: Tag) -> bool {
        self.tags.iter().fold(0, |differences, other| differences | (other ^ tag)) == 0
    }

    pub(crate) fn set(&mut self, i: usize, cell: Cell) {
        self.tags[i] = cell.tag;
        self.words[i] = cell.word;
    }

    /// Sets cells that are there, from `start` on.
    pub(crate) fn write(&mut self, start: usize, (tags, words): (&[Tag], &[u64])) {
        self.tags[start..][..tags.len()].copy_from_slice(tags);
        self.words[start..][..words.len()].copy_from_slice(words);
    }

    /// So many cells fit in without another allocation.
    pub(crate) fn capacity(&self) -> usize {
        self.tags.capacity().min(self.words.capacity())
    }

    pub(crate) fn reserve(&mut self, more: usize) {
        self.tags.reserve(more);
        self.words.reserve(more);
    }

    pub(crate) fn extend(&mut self, cells: impl ExactSizeIterator<Item = Cell>) {
        let start = self.len();
        self.tags.resize(start + cells.len(), 0);
        // as long as the tags: no word is cleared before it is written, or asked for room
        let pairs = cells.zip(&mut self.tags[start..]);
        self.words.extend(pairs.map(|(cell, tag)| {
            *tag = cell.tag;
            cell.word
        }));
    }

    /// So many cells, all to be written over.
    pub(crate) fn unset(n: usize) -> Cells {
        // stored by a plain loop: for some hundred cells that costs less than what clears memory
        const ANY: u64 = 1;
        Cells { tags: vec![0; n], words: vec![ANY; n] }
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&mut Tag, &mut u64)> {
        self.tags.iter_mut().zip(&mut self.words)
    }

    /// The cells at these places.
    pub(crate) fn pick(&self, places: &[usize]) -> Cells {
        Cells {
            tags: places.iter().map(|at| self.tags[*at]).collect(),
            words: places.iter().map(|at| self.words[*at]).collect(),
        }
    }

    pub(crate) fn truncate(&mut self, n: usize) {
        self.tags.truncate(n);
        self.words.truncate(n);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Cell> + '_ {
        self.part(0..self.len())
    }

    #[inline(always)]
    pub(crate) fn part(&self, part: Range<usize>) -> impl Iterator<Item = Cell> + '_ {
        let pairs = self.tags[part.clone()].iter().zip(&self.words[part]);
        pairs.map(|(&tag, &word)| Cell { tag, word })
    }
}

/// The position of one column in rows that mostly share their shape.
pub(crate) struct ColumnPlaces<'a> {
    schema: &'a Schema,
    path: PathId,
    shape: ShapeId,
    position: usize,
}

impl<'a> ColumnPlaces<'a> {
    pub(crate) fn new(schema: &'a Schema, path: PathId) -> Self {
        ColumnPlaces { schema, path, shape: ShapeId::MAX, position: usize::MAX }
    }

    /// Beyond all cells if the shape lacks the column.
    #[inline(always)]
    pub(crate) fn position(&mut self, shape: ShapeId) -> usize {
        if shape != self.shape {
            self.change_to(shape);
        }
        self.position
    }

    #[cold]
    fn change_to(&mut self, shape: ShapeId) {
        self.shape = shape;
        self.position = self.schema.shapes[shape as usize].position(self.path).unwrap_or(usize::MAX);
    }
}

#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) symbol: Symbol,
    pub(crate) symbol_hash: u64,
    pub(crate) shape: ShapeId,
    /// Hash of the record.
    pub(crate) hash: u64,
    pub(crate) tags: Box<[Tag]>,
    pub(crate) words: Box<[u64]>,
}

impl Row {
    #[inline(always)]
    pub(crate) fn cell(&self, position: usize) -> Cell {
        Cell { tag: self.tags[position], word: self.words[position] }
    }
}

/// Where symbols stand; made when many were asked for, dropped when rows move.
#[derive(Default, Clone)]
struct Index {
    positions: Option<HashTable<u32>>,
    // keyed, so that hostile symbols cannot be made to collide
    hasher: RandomState,
    /// How many symbols were asked for without it.
    searches: usize,
}

/// So many symbols are looked for row by row before there is an index: it costs more than that.
const SEARCHES: usize = 16;

/// The sizes of the schema and of the blob pool at one moment.
pub(crate) struct Mark {
    schema: schema::SchemaMark,
    blobs: usize,
}

#[derive(Default, Clone)]
pub(crate) struct Table {
    pub(crate) pool: BlobPool,
    pub(crate) schema: Schema,
    pub(crate) rows: Vec<Row>,
    index: Index,
    /// By path: how many cells the latest change set changed; a path's number may be another's by now.
    pub(crate) latest_updates: Vec<u32>,
}

impl Table {
    #[inline]
    pub(crate) fn cell(&self, row: usize, path: PathId) -> Option<Cell> {
        let row = &self.rows[row];
        let position = self.schema.shapes[row.shape as usize].position(path)?;
        Some(row.cell(position))
    }

    /// Prefetches rows into the processor's cache, of which the caller needs `cells` cells next. It waits for many
    /// cache misses at a time; the work on the rows would wait for one after the other.
    pub(crate) fn touch(&self, rows: &[u32], cells: usize) {
        const WORDS_A_LINE: usize = 8;
        let mut all = 0;
        for row in rows {
            let row = &self.rows[*row as usize];
            if row.words.len() <= cells * WORDS_A_LINE {
                all ^= row.tags.first().map_or(0, |tag| u64::from(*tag));
                row.words.iter().step_by(WORDS_A_LINE).for_each(|word| all ^= word);
            }
        }
        black_box(all);
    }

    pub(crate) fn payload(&self, cell: Cell) -> Payload<'_> {
        if is_blob(cell.tag) { Payload::Bytes(self.pool.get(cell.word)) } else { Payload::Fixed64(cell.word) }
    }

    /// A cell of this payload; a blob is held by the caller.
    pub(crate) fn acquire(&mut self, tag: Tag, payload: Payload<'_>) -> Cell {
        let word = match payload {
            Payload::Fixed64(word) => word,
            Payload::Bytes(bytes) => self.pool.acquire(bytes),
        };
        Cell { tag, word }
    }

    /// A cell's share in the hash of its record.
    #[inline(always)]
    pub(crate) fn hash_cell(&self, path_hash: u64, cell: Cell) -> u64 {
        let x = if is_blob(cell.tag) { self.pool.hash(cell.word) } else { cell.word };
        hash_cell(path_hash, cell.tag, x)
    }

    pub(crate) fn hash_record(&self, shape: ShapeId, tags: &[Tag], words: &[u64]) -> u64 {
        let shape = &self.schema.shapes[shape as usize];
        let cells = tags.iter().zip(words).zip(&shape.path_hashes);
        cells.fold(shape.hash, |sum, ((&tag, &word), &path)| {
            sum.wrapping_add(self.hash_cell(path, Cell { tag, word }))
        })
    }

    /// True if a row has the same cells as one of another table. It compares what hashes may be made to agree on.
    pub(crate) fn has_cells_of(&self, row: &Row, other: &Table, theirs: &Row) -> bool {
        row.tags == theirs.tags
            && (0..row.tags.len()).all(|at| match row.tags[at] {
                tag if is_blob(tag) => self.pool.get(row.words[at]) == other.pool.get(theirs.words[at]),
                _ => row.words[at] == theirs.words[at],
            })
    }

    #[cfg(test)]
    pub(crate) fn digest(&self) -> u64 {
        digest(self.rows.iter().map(|row| (row.symbol_hash, row.hash)))
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark { schema: self.schema.mark(), blobs: self.pool.mark() }
    }

    /// Forgets names and blobs that came after the mark; no row uses them, and nobody holds them.
    pub(crate) fn rollback_to(&mut self, mark: &Mark) {
        self.schema.rollback_to(&mark.schema);
        self.pool.rollback_to(mark.blobs);
    }

    /// The position of a symbol.
    pub(crate) fn position(&mut self, symbol: &[u8]) -> Option<usize> {
        let Index { positions, hasher, searches } = &mut self.index;
        let rows = &self.rows;
        if rows.is_empty() {
            return None;
        }
        if positions.is_none() && *searches < SEARCHES {
            *searches += 1;
            let hash = symbol_hash(symbol);
            return rows.iter().position(|row| row.symbol_hash == hash && *row.symbol == *symbol);
        }
        let positions = positions.get_or_insert_with(|| {
            let mut table = HashTable::with_capacity(rows.len());
            for (at, row) in rows.iter().enumerate() {
                let key = hasher.hash_one(&*row.symbol);
                table.insert_unique(key, at as u32, |&at| hasher.hash_one(&*rows[at as usize].symbol));
            }
            table
        });
        let key = hasher.hash_one(symbol);
        let found = positions.find(key, |&at| *rows[at as usize].symbol == *symbol);
        found.map(|&at| at as usize)
    }

    /// Rows were added behind the others: what is known of positions stays right.
    pub(crate) fn rows_were_added(&mut self, first: usize) {
        let Index { positions: Some(positions), hasher, .. } = &mut self.index else { return };
        let rows = &self.rows;
        for (at, row) in rows.iter().enumerate().skip(first) {
            let key = hasher.hash_one(&*row.symbol);
            positions.insert_unique(key, at as u32, |&at| hasher.hash_one(&*rows[at as usize].symbol));
        }
    }

    /// Starts names anew once most of them are no longer used. True if it did: all numbers of keys, paths and shapes
    /// are others then.
    pub(crate) fn refresh_schema(&mut self) -> bool {
        if !self.schema.is_stale() {
            return false;
        }
        let old = std::mem::take(&mut self.schema);
        let mut numbers: Vec<Option<ShapeId>> = vec![None; old.shapes.len()];
        for row in &mut self.rows {
            let number = &mut numbers[row.shape as usize];
            let shape = match *number {
                Some(shape) => shape,
                None => {
                    let shape = copy_shape(&old, &mut self.schema, row.shape);
                    *number = Some(shape);
                    shape
                }
            };
            self.schema.rows[shape as usize] += 1;
            row.shape = shape;
        }
        true
    }

    /// Lets `then` work on a table without rows that has the keys, shapes and blobs of this one.
    pub(crate) fn without_rows<T>(&mut self, then: impl FnOnce(&mut Table) -> T) -> T {
        let (rows, index) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.index));
        let result = then(self);
        (self.rows, self.index) = (rows, index);
        result
    }

    pub(crate) fn forget_positions(&mut self) {
        self.index.positions = None;
        self.index.searches = 0;
    }

    /// Bytes of memory that the state holds, allocations counted with 16 bytes each.
    pub(crate) fn memory_bytes(&self) -> usize {
        const ALLOCATION: usize = 16;
        let row = size_of::<Row>() + 2 * ALLOCATION;
        let symbol = |row: &Row| row.symbol.boxed().map_or(0, |symbol| symbol.len() + ALLOCATION);
        let rows: usize = self.rows.iter().map(|r| row + symbol(r) + 9 * r.tags.len()).sum();
        let positions = self.index.positions.as_ref().map_or(0, |t| t.capacity() * 6);
        let (blobs, bytes) = self.pool.size();
        let schema = self.schema.paths.len() * 120 + self.schema.keys.len() * 120;
        let shapes: usize = self.schema.shapes.iter().map(|s| size_of_val(s) + 40 * s.len()).sum();
        rows + positions + blobs * (48 + ALLOCATION) + bytes + schema + shapes
    }
}

fn copy_shape(old: &Schema, schema: &mut Schema, shape: ShapeId) -> ShapeId {
    let mut paths = Vec::new();
    for path in &old.shapes[shape as usize].paths {
        let mut copy = ROOT;
        for key in old.keys_of(*path) {
            let key = schema.key(key);
            copy = schema.path(copy, key);
        }
        paths.push(copy);
    }
    // a shape that was one stays one
    schema.shape(&paths).unwrap_or_default()
}

/// The digest of rows given as (hash of the symbol, hash of the record), in order.
pub(crate) fn digest(rows: impl Iterator<Item = (u64, u64)>) -> u64 {
    let mut chain = Chain::default();
    let mut n = 0;
    for (symbol, record) in rows {
        chain.feed(symbol);
        chain.feed(record);
        n += 1;
    }
    chain.finish(n)
}

pub(crate) fn symbol_hash(symbol: &[u8]) -> u64 {
    hash_bytes(symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_is_found_with_and_without_an_index() {
        let row = |i: usize| {
            let symbol = Symbol::from(format!("symbol {i}").as_bytes());
            let symbol_hash = symbol_hash(&symbol);
            let (tags, words) = (Box::default(), Box::default());
            Row { symbol, symbol_hash, shape: 0, hash: 0, tags, words }
        };
        let mut table = Table::default();
        assert_eq!(table.position(b"symbol 0"), None);
        table.rows.extend((0..100).map(row));
        for round in 0..3 {
            let n = table.rows.len();
            for i in 0..n + 3 {
                assert_eq!(table.index.positions.is_some(), i > SEARCHES || round == 1);
                let symbol = table
                    .rows
                    .get(i)
                    .map_or(Symbol::from(format!("none {i}").as_bytes()), |row| row.symbol.clone());
                assert_eq!(table.position(&symbol), (i < n).then_some(i));
            }
            table.rows.extend((n..n + 10).map(row));
            table.rows_were_added(n);
            if round == 1 {
                table.rows.rotate_left(5);
                table.forget_positions();
            }
        }
    }
}
