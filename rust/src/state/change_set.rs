//! The change set: what leads from one state to the next. Both encoder and decoder make one, and commit it.

use std::ops::Range;

use crate::format::hash::hash_cell;
use crate::format::value::{Tag, is_blob};
use crate::state::blob_pool::BlobPool;
use crate::state::schema::{PathId, ShapeId};
use crate::state::symbol::Symbol;
use crate::state::table::{Cell, Cells, ColumnPlaces, Mark, Row, Table, digest, symbol_hash};

/// The changed cells of one column, in ascending order of their rows.
#[derive(Default, PartialEq)]
pub(crate) struct ColumnPatch {
    pub(crate) rows: Vec<u32>,
    pub(crate) old: Cells,
    pub(crate) new: Cells,
}

impl ColumnPatch {
    #[inline(always)]
    fn push(&mut self, row: u32, old: Cell, new: Cell) {
        self.rows.push(row);
        self.old.push(old);
        self.new.push(new);
    }

    /// Makes room for as many as were changed last. Then for more, as if the rest of the rows change like those before.
    #[cold]
    fn grow(&mut self, row: u32, base_rows: usize, latest: usize) {
        let (n, row) = (self.rows.len(), row as usize);
        let likely = n.saturating_mul(base_rows.saturating_sub(row)) / (row + 1);
        let more = match n {
            0 => (latest + latest / 4).clamp(FIRST_ROOM, base_rows.clamp(FIRST_ROOM, MOST_FIRST_ROOM)),
            _ => (likely + likely / 4).clamp(n.max(FIRST_ROOM), (MOST_GROWTH * n).max(FIRST_ROOM)),
        };
        self.rows.reserve_exact(more);
        self.old.reserve(more);
        self.new.reserve(more);
    }
}

/// So many lists of rows before are compared with another.
const SAME_ROWS: usize = 8;
const FIRST_ROOM: usize = 16;
/// A frame that changes next to nothing may follow one that changed all.
const MOST_FIRST_ROOM: usize = 1 << 16;
const MOST_GROWTH: usize = 63;

/// A record with all its cells, which stand in `ChangeSet::cells`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    pub(crate) shape: ShapeId,
    pub(crate) start: usize,
}

pub(crate) struct Added {
    pub(crate) symbol: Symbol,
    pub(crate) record: Record,
}

/// Where a row of the target comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Base(u32),
    Added(u32),
}

#[derive(Default)]
pub(crate) struct ChangeSet {
    /// Rows that are gone, by base position, ascending.
    pub(crate) removed: Vec<u32>,
    /// Rows with another shape, by base position, ascending. Their cells stand in the new shape, also those that stayed.
    pub(crate) reshaped: Vec<(u32, Record)>,
    pub(crate) added: Vec<Added>,
    /// The cells of reshaped and added records.
    pub(crate) cells: Cells,
    /// By path. Those of reshaped rows are the cells that stand in both shapes and differ.
    pub(crate) updates: Vec<ColumnPatch>,
    /// For each row of the target its place in the reference (retained rows, then added); None if they are the same.
    pub(crate) order: Option<Vec<u32>>,
    /// How many cells were found to be another number and keep the one they have.
    pub(crate) held_cells: u64,
    /// Blobs that the new cells hold.
    retained_blobs: Vec<u64>,
    /// Owned blobs that turned out not to be needed: let go at the commit.
    discarded: Vec<u64>,
    /// What the table knew before; None if the change set brings it no names and no blobs.
    before: Option<Mark>,
    /// Rows of the table that it is made over.
    base_rows: usize,
    /// By path: how many cells of a column the change set before this one changed.
    latest_updates: Vec<u32>,
    /// At least so many rows will be added.
    expected_rows: usize,
}

/// What a change set leads to, worked out before anything is changed.
pub(crate) struct Preview {
    pub(crate) digest: u64,
    /// Hashes of symbols and records in the order of the reference.
    symbols: Vec<u64>,
    hashes: Vec<u64>,
}

/// Cells that are worked on together, and the least and the most rows: few enough for the processor's cache.
const BLOCK_CELLS: usize = 4096;
const BLOCK_ROWS: (usize, usize) = (128, 512);

/// What comes next on the way through lists of rows.
pub(crate) enum BlockStep<'a> {
    /// Most of the rows of the parts up to the next such step, and how many cells of a row the parts have on average.
    Ahead(&'a [u32], usize),
    /// The number of a list, and a part of it.
    Part(usize, Range<usize>),
}

/// Walks ascending lists of rows in parallel, one block of rows after the other. So the caller meets all entries of a row
/// while the row is in the cache.
pub(crate) fn for_each_block(lists: &[&[u32]], mut take: impl FnMut(BlockStep<'_>)) {
    let rows = lists.iter().filter_map(|list| list.last()).max().map_or(0, |row| *row as usize + 1);
    let cells: usize = lists.iter().map(|list| list.len()).sum();
    let block_rows = (BLOCK_CELLS.saturating_mul(rows) / cells.max(1)).clamp(BLOCK_ROWS.0, BLOCK_ROWS.1);
    let blocks = rows.div_ceil(block_rows);
    // a list with less than a row a block goes by itself: the blocks would cost more than its rows
    let (mut long, short): (Vec<usize>, Vec<usize>) =
        (0..lists.len()).partition(|at| lists[*at].len() >= blocks);
    for at in short {
        take(BlockStep::Part(at, 0..lists[at].len()));
    }
    long.sort_by_key(|at| std::cmp::Reverse(lists[*at].len()));
    let cells: usize = long.iter().map(|at| lists[*at].len()).sum();
    let mut starts = vec![0; lists.len()];
    for end in (1..=blocks).map(|block| (block * block_rows) as u32) {
        for (i, &at) in long.iter().enumerate() {
            let start = starts[at];
            // the rows are distinct: no more are in one block
            let next = &lists[at][start..lists[at].len().min(start + block_rows)];
            let n = next.partition_point(|row| *row < end);
            starts[at] += n;
            if i == 0 {
                take(BlockStep::Ahead(&lists[at][start..start + n], cells / lists[at].len().max(1)));
            }
            take(BlockStep::Part(at, start..start + n));
        }
    }
}

impl ChangeSet {
    /// An empty change set that may bring names and blobs to the table. Of two at a time the later is rolled back first.
    pub(crate) fn over(table: &Table) -> ChangeSet {
        ChangeSet {
            before: Some(table.mark()),
            base_rows: table.rows.len(),
            latest_updates: table.latest_updates.clone(),
            ..ChangeSet::default()
        }
    }

    /// Remembers a new cell's blob, so that it can be given back.
    #[inline]
    pub(crate) fn retain(&mut self, cell: Cell) {
        if is_blob(cell.tag) {
            self.retained_blobs.push(cell.word);
        }
    }

    /// An owned cell that is the old one: it changes nothing.
    pub(crate) fn discard(&mut self, cell: Cell) {
        if is_blob(cell.tag) {
            self.discarded.push(cell.word);
        }
    }

    pub(crate) fn retained_mark(&self) -> usize {
        self.retained_blobs.len()
    }

    /// Gives back what was owned since the mark.
    pub(crate) fn release_since(&mut self, mark: usize, table: &mut Table) {
        for id in self.retained_blobs.drain(mark..) {
            table.pool.release(id);
        }
    }

    /// Gives everything back: the state, and the memory that it takes, is as if there had been no change set.
    pub(crate) fn rollback(mut self, table: &mut Table) {
        self.release_since(0, table);
        if let Some(before) = self.before {
            table.rollback_to(&before);
        }
    }

    pub(crate) fn column(&mut self, path: PathId) -> &mut ColumnPatch {
        let at = path as usize;
        if self.updates.len() <= at {
            self.updates.resize_with(at + 1, ColumnPatch::default);
        }
        &mut self.updates[at]
    }

    #[inline(always)]
    pub(crate) fn update(&mut self, path: PathId, row: u32, old: Cell, new: Cell) {
        let at = path as usize;
        if self.updates.len() <= at {
            self.column(path);
        }
        let column = &mut self.updates[at];
        if column.rows.len() == column.rows.capacity() {
            column.grow(row, self.base_rows, self.latest_updates.get(at).copied().unwrap_or(0) as usize);
        }
        column.push(row, old, new);
    }

    /// The target has so many rows: makes room for those that must be added ones.
    pub(crate) fn expect_rows(&mut self, rows: usize) {
        self.expected_rows = rows.saturating_sub(self.base_rows);
        self.added.reserve(self.expected_rows);
    }

    /// The cells of an added record, which the others are likely to resemble.
    pub(crate) fn extend(&mut self, record: impl ExactSizeIterator<Item = Cell>) {
        let (cells, n) = (self.cells.len(), record.len());
        if cells + n > self.cells.capacity() {
            let likely = (self.expected_rows * n).saturating_sub(cells);
            self.cells.reserve(likely.min(MOST_GROWTH * (cells + n)).max(n));
        }
        self.cells.extend(record);
    }

    /// Takes the latest updates back, of those columns that were updated in this row.
    pub(crate) fn take_back(&mut self, paths: &[PathId], row: u32) {
        for path in paths {
            if let Some(column) = self.updates.get_mut(*path as usize).filter(|c| c.rows.last() == Some(&row))
            {
                column.rows.pop();
                let n = column.rows.len();
                column.old.truncate(n);
                column.new.truncate(n);
            }
        }
    }

    /// Takes the updates of a column back whose old and new cells are so: the old cells stay, also in reshaped rows.
    pub(crate) fn hold_back(
        &mut self,
        path: PathId,
        table: &mut Table,
        is_held: impl Fn(&Table, Cell, Cell) -> bool,
    ) {
        let Some(column) = self.updates.get_mut(path as usize) else { return };
        let all = std::mem::take(column);
        let mut left = ColumnPatch::default();
        for (row, (old, new)) in all.rows.iter().zip(all.old.iter().zip(all.new.iter())) {
            if !is_held(table, old, new) {
                left.push(*row, old, new);
                continue;
            }
            self.held_cells += 1;
            self.discard(new);
            if let Ok(at) = self.reshaped.binary_search_by_key(row, |reshaped| reshaped.0) {
                let record = self.reshaped[at].1;
                if let Some(position) = table.schema.shapes[record.shape as usize].position(path) {
                    self.cells.set(record.start + position, old);
                }
                if is_blob(old.tag) {
                    table.pool.retain(old.word);
                    self.retain(old);
                }
            }
        }
        self.updates[path as usize] = left;
    }

    /// Brings columns into row order whose cells were found out of order.
    pub(crate) fn sort_updates(&mut self) {
        for column in &mut self.updates {
            if column.rows.is_sorted() {
                continue;
            }
            let mut order: Vec<usize> = (0..column.rows.len()).collect();
            order.sort_by_key(|i| column.rows[*i]);
            let mut sorted = ColumnPatch::default();
            for i in order {
                sorted.push(column.rows[i], column.old.get(i), column.new.get(i));
            }
            *column = sorted;
        }
    }

    /// Finds removed rows and the order from where each row of the target comes from.
    pub(crate) fn set_target(&mut self, base_rows: usize, target: &[Source]) {
        if target.len() == base_rows && (0..).zip(target).all(|(row, source)| *source == Source::Base(row)) {
            return;
        }
        let mut is_retained = vec![false; base_rows];
        for source in target {
            if let Source::Base(row) = source {
                is_retained[*row as usize] = true;
            }
        }
        let mut place = vec![0u32; base_rows];
        let mut retained = 0;
        for (row, is_retained) in is_retained.iter().enumerate() {
            place[row] = retained;
            if *is_retained {
                retained += 1;
            } else {
                self.removed.push(row as u32);
            }
        }
        let order: Vec<u32> = target
            .iter()
            .map(|source| match source {
                Source::Base(row) => place[*row as usize],
                Source::Added(n) => retained + n,
            })
            .collect();
        let moved = order.iter().enumerate().any(|(i, at)| i != *at as usize);
        self.order = moved.then_some(order);
    }

    /// Rows of the reference: retained rows by base position.
    pub(crate) fn retained(&self, base_rows: usize) -> Vec<u32> {
        if self.removed.is_empty() {
            return (0..base_rows as u32).collect();
        }
        let mut removed = self.removed.iter().copied().peekable();
        (0..base_rows as u32).filter(|row| removed.next_if_eq(row).is_none()).collect()
    }

    /// By row of the base: it has another record now.
    pub(crate) fn updated(&self, base_rows: usize) -> Vec<bool> {
        let mut updated = vec![false; base_rows];
        // many columns change in the same rows
        let mut latest: [&[u32]; SAME_ROWS] = [&[]; SAME_ROWS];
        for (i, column) in self.updates.iter().enumerate() {
            if !latest.contains(&&*column.rows) {
                latest[i % SAME_ROWS] = &column.rows;
                column.rows.iter().for_each(|row| updated[*row as usize] = true);
            }
        }
        self.reshaped.iter().for_each(|(row, _)| updated[*row as usize] = true);
        updated
    }

    /// The cells of a record of this change set.
    pub(crate) fn record<'a>(&'a self, table: &Table, record: Record) -> (&'a [u8], &'a [u64]) {
        let end = record.start + table.schema.shapes[record.shape as usize].len();
        (&self.cells.tags[record.start..end], &self.cells.words[record.start..end])
    }

    /// True if another change set of this table, with the same numbers, changes the same: then its outcome is the same.
    pub(crate) fn is_same(&self, other: &ChangeSet, table: &Table) -> bool {
        let same =
            |a: Record, b: Record| a.shape == b.shape && self.record(table, a) == other.record(table, b);
        let (added, reshaped) = (&self.added, &self.reshaped);
        let columns = self.updates.len().max(other.updates.len()) as PathId;
        self.removed == other.removed
            && self.order == other.order
            && reshaped.len() == other.reshaped.len()
            && reshaped.iter().zip(&other.reshaped).all(|(a, b)| a.0 == b.0 && same(a.1, b.1))
            && added.len() == other.added.len()
            && added.iter().zip(&other.added).all(|(a, b)| a.symbol == b.symbol && same(a.record, b.record))
            && (0..columns).all(|path| self.updated_cells(path) == other.updated_cells(path))
    }

    fn updated_cells(&self, path: PathId) -> Option<&ColumnPatch> {
        self.updates.get(path as usize).filter(|column| !column.rows.is_empty())
    }

    pub(crate) fn preview(&self, table: &Table) -> Preview {
        let mut hashes: Vec<u64> = table.rows.iter().map(|row| row.hash).collect();
        for (path, column) in self.updates.iter().enumerate() {
            if column.rows.is_empty() {
                continue;
            }
            let path_hash = table.schema.paths[path].hash;
            let ColumnPatch { rows, old, new } = column;
            let [old_tag, new_tag] = [old.tags[0], new.tags[0]];
            if !is_blob(old_tag) && !is_blob(new_tag) && old.all_have(old_tag) && new.all_have(new_tag) {
                let hash_of = move |(old, new): (&u64, &u64)| {
                    (hash_cell(path_hash, old_tag, *old), hash_cell(path_hash, new_tag, *new))
                };
                add_changes(&mut hashes, rows, old.words.iter().zip(&new.words).map(hash_of));
            } else {
                let hash_of = |cell| table.hash_cell(path_hash, cell);
                add_changes(&mut hashes, rows, old.iter().map(hash_of).zip(new.iter().map(hash_of)));
            }
        }
        let record_hash = |record| {
            let (tags, words) = self.record(table, record);
            table.hash_record(record.shape, tags, words)
        };
        for (row, record) in &self.reshaped {
            hashes[*row as usize] = record_hash(*record);
        }
        let mut symbols: Vec<u64> = Vec::with_capacity(hashes.len() + self.added.len());
        if self.removed.is_empty() {
            symbols.extend(table.rows.iter().map(|row| row.symbol_hash));
        } else {
            let retained = self.retained(table.rows.len());
            symbols.extend(retained.iter().map(|r| table.rows[*r as usize].symbol_hash));
            hashes = retained.iter().map(|r| hashes[*r as usize]).collect();
        }
        hashes.reserve(self.added.len());
        for added in &self.added {
            symbols.push(symbol_hash(&added.symbol));
            hashes.push(record_hash(added.record));
        }
        let pair = |i: usize| (symbols[i], hashes[i]);
        let digest = match &self.order {
            None => digest((0..hashes.len()).map(pair)),
            Some(order) => digest(order.iter().map(|i| pair(*i as usize))),
        };
        Preview { digest, symbols, hashes }
    }

    /// Brings the table to the new state.
    pub(crate) fn commit(mut self, table: &mut Table, preview: &Preview) {
        self.retained_blobs.clear();
        self.discarded.iter().for_each(|id| table.pool.release(*id));
        self.commit_updates(table);
        let reshaped = std::mem::take(&mut self.reshaped);
        for (row, record) in reshaped {
            let old = &mut table.rows[row as usize];
            let (symbol, symbol_hash) = (std::mem::take(&mut old.symbol), old.symbol_hash);
            let new = self.new_row(table, symbol, symbol_hash, record);
            let gone = std::mem::replace(&mut table.rows[row as usize], new);
            drop_row(table, &gone);
        }
        let added = std::mem::take(&mut self.added);
        let rows_move = !self.removed.is_empty() || self.order.is_some();
        if !self.removed.is_empty() {
            let mut rows = std::mem::take(&mut table.rows);
            self.removed.iter().for_each(|row| drop_row(table, &rows[*row as usize]));
            let mut removed = self.removed.iter().copied().peekable();
            let mut at = 0..;
            rows.retain(|_| at.next().is_none_or(|at| removed.next_if_eq(&at).is_none()));
            table.rows = rows;
        }
        let retained = table.rows.len();
        table.rows.reserve(added.len());
        for (Added { symbol, record }, hash) in added.into_iter().zip(&preview.symbols[retained..]) {
            let row = self.new_row(table, symbol, *hash, record);
            table.rows.push(row);
        }
        for (row, hash) in table.rows.iter_mut().zip(&preview.hashes) {
            row.hash = *hash;
        }
        if let Some(order) = &self.order {
            let mut rows: Vec<Option<Row>> = std::mem::take(&mut table.rows).into_iter().map(Some).collect();
            table.rows = order.iter().filter_map(|at| rows[*at as usize].take()).collect();
        }
        if rows_move {
            table.forget_positions();
        } else {
            table.rows_were_added(retained);
        }
    }

    fn commit_updates(&mut self, table: &mut Table) {
        table.latest_updates = self.updates.iter().map(|column| column.rows.len() as u32).collect();
        let lists: Vec<&[u32]> = self.updates.iter().map(|column| &*column.rows).collect();
        let has_blobs: Vec<bool> = self.updates.iter().map(|column| column.old.may_have_blobs()).collect();
        let new_tags: Vec<bool> =
            self.updates.iter().map(|column| column.old.tags != column.new.tags).collect();
        for_each_block(&lists, |step| {
            let (path, part) = match step {
                BlockStep::Ahead(rows, cells) => return table.touch(rows, cells),
                BlockStep::Part(path, part) => (path, part),
            };
            let ColumnPatch { rows, old, new } = &self.updates[path];
            let rows = &rows[part.clone()];
            // reshaped rows are replaced as a whole
            let stays = |row: u32| self.reshaped.binary_search_by_key(&row, |r| r.0).is_err();
            if self.reshaped.is_empty() || rows.iter().all(|row| stays(*row)) {
                if has_blobs[path] {
                    release(&mut table.pool, old.part(part.clone()));
                }
                if new_tags[path] {
                    put_tags(table, path as PathId, rows, &new.tags[part.clone()]);
                }
                put_words(table, path as PathId, rows, &new.words[part]);
                return;
            }
            for (i, row) in part.zip(rows) {
                if stays(*row) {
                    release(&mut table.pool, old.part(i..i + 1));
                    put_tags(table, path as PathId, &[*row], &new.tags[i..=i]);
                    put_words(table, path as PathId, &[*row], &new.words[i..=i]);
                }
            }
        });
    }

    fn new_row(&self, table: &mut Table, symbol: Symbol, symbol_hash: u64, record: Record) -> Row {
        let (tags, words) = self.record(table, record);
        table.schema.rows[record.shape as usize] += 1;
        Row { symbol, symbol_hash, shape: record.shape, hash: 0, tags: tags.into(), words: words.into() }
    }
}

/// Brings the hashes of records, by row, to the new cells of a column: hashes of its cells, old and new.
#[inline(always)]
fn add_changes(hashes: &mut [u64], rows: &[u32], cells: impl Iterator<Item = (u64, u64)>) {
    for (row, (old, new)) in rows.iter().zip(cells) {
        let hash = &mut hashes[*row as usize];
        *hash = hash.wrapping_sub(old).wrapping_add(new);
    }
}

fn release(pool: &mut BlobPool, cells: impl Iterator<Item = Cell>) {
    cells.filter(|cell| is_blob(cell.tag)).for_each(|cell| pool.release(cell.word));
}

/// Sets the words of a column in these rows.
// by itself, so that all of the loop fits into registers
#[inline(never)]
fn put_words(table: &mut Table, path: PathId, rows: &[u32], words: &[u64]) {
    let mut places = ColumnPlaces::new(&table.schema, path);
    let all = &mut *table.rows;
    for (row, word) in rows.iter().zip(words) {
        let target = &mut all[*row as usize];
        if let Some(place) = target.words.get_mut(places.position(target.shape)) {
            *place = *word;
        }
    }
}

/// Sets the tags of a column in these rows.
#[inline(never)]
fn put_tags(table: &mut Table, path: PathId, rows: &[u32], tags: &[Tag]) {
    let mut places = ColumnPlaces::new(&table.schema, path);
    let all = &mut *table.rows;
    for (row, tag) in rows.iter().zip(tags) {
        let target = &mut all[*row as usize];
        if let Some(place) = target.tags.get_mut(places.position(target.shape)) {
            *place = *tag;
        }
    }
}

fn drop_row(table: &mut Table, row: &Row) {
    table.schema.rows[row.shape as usize] -= 1;
    for (&tag, &word) in row.tags.iter().zip(&row.words) {
        if is_blob(tag) {
            table.pool.release(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_bring_all_of_each_list_in_order() {
        let every = |step: usize| (0..1000).step_by(step).collect::<Vec<u32>>();
        let all = [every(1), every(3), vec![], every(90), every(200), vec![5], vec![127, 128, 999]];
        let lists: Vec<&[u32]> = all.iter().map(Vec::as_slice).collect();
        let mut seen = vec![Vec::new(); lists.len()];
        let mut ahead = Vec::new();
        for_each_block(&lists, |step| match step {
            BlockStep::Ahead(rows, cells) => {
                assert_eq!(cells, (1000 + 334 + 12) / 1000);
                ahead.extend_from_slice(rows);
            }
            BlockStep::Part(at, part) => seen[at].extend_from_slice(&lists[at][part]),
        });
        assert_eq!(seen, all);
        assert_eq!(ahead, every(1));
        for_each_block(&[&[], &[]], |step| {
            assert!(matches!(step, BlockStep::Part(_, part) if part.is_empty()));
        });
    }
}
