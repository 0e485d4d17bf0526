//! The change set: what leads from one state to the next. Both encoder and decoder make one, and commit it.

use crate::format::value::is_blob;
use crate::state::schema::{PathId, ShapeId};
use crate::state::symbol::Symbol;
use crate::state::table::{Cell, Cells, Mark, Table};

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
    pub(super) retained_blobs: Vec<u64>,
    /// Owned blobs that turned out not to be needed: let go at the commit.
    pub(super) discarded: Vec<u64>,
    /// What the table knew before; None if the change set brings it no names and no blobs.
    pub(super) before: Option<Mark>,
    /// Rows of the table that it is made over.
    base_rows: usize,
    /// By path: how many cells of a column the change set before this one changed.
    latest_updates: Vec<u32>,
    /// At least so many rows will be added.
    expected_rows: usize,
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
}
