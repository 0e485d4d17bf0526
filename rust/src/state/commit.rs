//! Ends a change set: previews its digest, then commits it or rolls it back.

use crate::format::hash::hash_cell;
use crate::format::value::{Tag, is_blob};
use crate::state::blob_pool::BlobPool;
use crate::state::change_set::{Added, ChangeSet, ColumnPatch, Record};
use crate::state::row_blocks::{BlockStep, for_each_block};
use crate::state::schema::PathId;
use crate::state::symbol::Symbol;
use crate::state::table::{Cell, ColumnPlaces, Row, Table, digest, symbol_hash};

/// What a change set leads to, worked out before anything is changed.
pub(crate) struct Preview {
    pub(crate) digest: u64,
    /// Hashes of symbols and records in the order of the reference.
    symbols: Vec<u64>,
    hashes: Vec<u64>,
}

impl ChangeSet {
    /// Gives everything back: the state, and the memory that it takes, is as if there had been no change set.
    pub(crate) fn rollback(mut self, table: &mut Table) {
        self.release_since(0, table);
        if let Some(before) = self.before {
            table.rollback_to(&before);
        }
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

/// Sets the words, or the tags, of a column in these rows.
// by itself, so that all of the loop fits into registers
#[inline(never)]
fn put<T: Copy>(
    table: &mut Table,
    path: PathId,
    rows: &[u32],
    values: &[T],
    of_row: impl Fn(&mut Row) -> &mut [T],
) {
    let mut places = ColumnPlaces::new(&table.schema, path);
    let all = &mut *table.rows;
    for (row, value) in rows.iter().zip(values) {
        let target = &mut all[*row as usize];
        let position = places.position(target.shape);
        if let Some(place) = of_row(target).get_mut(position) {
            *place = *value;
        }
    }
}

fn put_words(table: &mut Table, path: PathId, rows: &[u32], words: &[u64]) {
    put(table, path, rows, words, |row| &mut row.words);
}

fn put_tags(table: &mut Table, path: PathId, rows: &[u32], tags: &[Tag]) {
    put(table, path, rows, tags, |row| &mut row.tags);
}

fn drop_row(table: &mut Table, row: &Row) {
    table.schema.rows[row.shape as usize] -= 1;
    for (&tag, &word) in row.tags.iter().zip(&row.words) {
        if is_blob(tag) {
            table.pool.release(word);
        }
    }
}
