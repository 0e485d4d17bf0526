//! Body -> change set.

use std::collections::{HashMap, HashSet};

use crate::encoding::decode::{self as cells, ColumnContext};
use crate::encoding::row_view::{Inserts, MISSING, RowView, Side, gather_all};
use crate::error::{Error, Result};
use crate::format::budget::{Budget, CELL, COLUMN, DICT, ROW, weight_of};
use crate::format::entropy::EntropyReader;
use crate::format::reader::Reader;
use crate::format::section;
use crate::format::value::{Payload, is_blob, is_text, read_cell, read_inline};
use crate::frame::column_headers::{self, ColumnHeader};
use crate::frame::container::{self, Contents};
use crate::frame::paths::{FrameSchema, NewPaths};
use crate::frame::sections::split;
use crate::frame::shapes::ShapeList;
use crate::frame::text::{Prefix, TextSection, symbols_in_text};
use crate::frame::{row_order, row_set_reader};
use crate::state::change_set::{Added, ChangeSet, Record};
use crate::state::schema::{PathId, ROOT, ShapeId};
use crate::state::symbol::Symbol;
use crate::state::table::{Cell, Cells, Table};

const WEIGHTS: &str = "bytes of Decimals";
const MISSING_CELL: &str = "an updated cell is not there";

/// Reads a frame's contents against the table's state. The change set owns its blobs; after an error nothing is held.
pub(crate) fn read(contents: &Contents<'_>, table: &mut Table, budget: &mut Budget) -> Result<ChangeSet> {
    let mut reading = BodyReader {
        changes: ChangeSet::over(table),
        table,
        budget,
        paths: vec![ROOT],
        inserts: Vec::new(),
        replaced: HashSet::new(),
        base_cells: 0,
    };
    match reading.body(contents) {
        Ok(()) => Ok(reading.changes),
        Err(error) => {
            let BodyReader { table, changes, .. } = reading;
            changes.rollback(table);
            Err(error)
        }
    }
}

struct BodyReader<'t> {
    table: &'t mut Table,
    budget: &'t mut Budget,
    changes: ChangeSet,
    /// The path of each path id.
    paths: Vec<PathId>,
    /// By path: which records bring cells, and the cells.
    inserts: Vec<Inserts>,
    /// Places in `ChangeSet::cells` where an update stands in for a cell that stayed.
    replaced: HashSet<usize>,
    /// The number of the base's cells, which the budget was charged for.
    base_cells: u64,
}

/// A column of COLUMNS with the base cells that it updates.
struct ListedColumn<'a> {
    path: PathId,
    updates: Option<usize>,
    base: Cells,
    has_inserts: bool,
    with_base_values: bool,
    contents: Reader<'a>,
}

impl BodyReader<'_> {
    fn body(&mut self, contents: &Contents<'_>) -> Result<()> {
        let mut parts = split(&contents.body)?;
        let mut part = |id: u8| parts[usize::from(id)].take().unwrap_or_else(|| Reader::new(&[]));
        let entropy = EntropyReader::new(part(section::ENTROPY).rest())?;
        let mut part = |id: u8| part(id).with_entropy(&entropy);
        let (rows, text) = (part(section::ROWS), part(section::TEXT));
        let symbols_in_text = symbols_in_text(&text);
        self.rows(rows, symbols_in_text)?;
        self.schema(part(section::PATHS), part(section::SHAPES))?;
        let row_sets = self.row_sets(part(section::ROW_SETS))?;
        let headers =
            column_headers::read(part(section::COLUMNS), self.paths.len(), row_sets.len(), self.budget)?;
        let mut columns: Vec<ListedColumn<'_>> = headers
            .into_iter()
            .map(|ColumnHeader { path_id, updates, has_inserts, with_base_values, contents }| ListedColumn {
                path: self.paths[path_id],
                updates,
                base: Cells::default(),
                has_inserts,
                with_base_values,
                contents,
            })
            .collect();
        let mut updates_done = vec![true; self.table.schema.paths.len()];
        let mut inserts_done = updates_done.clone();
        for column in &columns {
            updates_done[column.path as usize] &= column.updates.is_none();
            inserts_done[column.path as usize] &= !column.has_inserts;
        }
        self.load_base_cells(&mut columns, &row_sets)?;
        let mut sparse = part(section::SPARSE);
        let places = self.sparse_places(&mut sparse, &updates_done)?;
        let bytes;
        let mut text = if text.is_empty() && contents.text.is_empty() {
            None
        } else {
            bytes = self.text(text, contents.text, &places, &columns)?;
            Some(Reader::new(&bytes))
        };
        if symbols_in_text && let Some(text) = &mut text {
            let symbols = (0..self.changes.added.len()).map(|_| text.text()).collect::<Result<Vec<_>>>()?;
            self.set_symbols(&symbols, text)?;
        }
        self.sparse(sparse, &mut text, places, &inserts_done)?;
        for column in columns {
            self.column(column, &mut text, &row_sets, &mut updates_done, &mut inserts_done)?;
        }
        text.map_or(Ok(()), |text| text.finish())?;
        self.retain_unchanged();
        let mut r = part(section::ORDER);
        if !r.is_empty() {
            row_order::read(&mut r, self.table, &mut self.changes, &self.paths)?;
        }
        r.finish()?;
        entropy.finish()
    }

    /// The frame's text, which needs nothing but the base and what the sections say of rows and columns.
    fn text(
        &mut self,
        section: Reader<'_>,
        compressed: &[u8],
        places: &[(u32, PathId, Cell)],
        columns: &[ListedColumn<'_>],
    ) -> Result<Vec<u8>> {
        let section = TextSection::read(section, &self.paths)?;
        let mut prefix = Prefix::new(self.table);
        prefix.symbols(section.symbols, self.budget)?;
        prefix.sparse(places.iter().map(|(.., old)| *old), self.budget)?;
        let listed = columns.iter().filter(|column| column.updates.is_some());
        let updated: HashMap<PathId, &Cells> = listed.map(|column| (column.path, &column.base)).collect();
        for part in &section.parts {
            let updated = updated.get(&part.path).copied().filter(|_| part.updated);
            if part.updated && updated.is_none() {
                return Err(section.corrupt("the prefix names updates that are not listed"));
            }
            prefix.part(*part, updated, self.budget)?;
        }
        let prefix = prefix.bytes.bytes;
        let chunks = section.chunks(prefix.len(), compressed.len(), self.budget)?;
        container::decompress_text(&chunks, compressed, &prefix)
    }

    fn rows(&mut self, mut r: Reader<'_>, symbols_in_text: bool) -> Result<()> {
        let here = self.table.rows.len();
        let mut n = 0;
        if !r.is_empty() {
            self.changes.removed = r.counted_gaps(here)?;
            n = if symbols_in_text { r.uvarint()? } else { r.count("rows")? as u64 };
        }
        let target = ((here - self.changes.removed.len()) as u64).saturating_add(n);
        self.budget.charge(target.saturating_add(here as u64), ROW, "rows")?;
        let record = Record { shape: 0, start: 0 };
        self.changes.added.resize_with(n as usize, || Added { symbol: Symbol::default(), record });
        if !symbols_in_text {
            let symbols = r.strings(n as usize)?;
            self.set_symbols(&symbols, &r)?;
        }
        r.finish()
    }

    /// The symbols of the added rows.
    fn set_symbols(&mut self, symbols: &[&[u8]], r: &Reader<'_>) -> Result<()> {
        self.budget.charge_names(symbols)?;
        let mut seen = HashSet::with_capacity(symbols.len());
        for symbol in symbols {
            let twice = match self.table.position(symbol) {
                Some(row) => self.changes.removed.binary_search(&(row as u32)).is_err(),
                None => false,
            };
            if twice || !seen.insert(*symbol) {
                return Err(r.corrupt("duplicate symbol"));
            }
            if !is_text(symbol) {
                return Err(r.corrupt("a symbol is not UTF-8"));
            }
        }
        for (added, symbol) in self.changes.added.iter_mut().zip(symbols) {
            added.symbol = (*symbol).into();
        }
        Ok(())
    }

    /// Reads the paths and shapes that the base has not, and makes room for the records that have them.
    fn schema(&mut self, paths: Reader<'_>, shapes: Reader<'_>) -> Result<()> {
        let mut numbers = FrameSchema::of_base(&self.table.schema, &self.table.rows);
        let end = paths.clone();
        NewPaths::read(paths, numbers.base_keys, numbers.base_paths, self.budget)?.number(
            &mut numbers,
            &mut self.table.schema,
            &end,
        )?;
        let end = shapes.clone();
        let (base_rows, added) = (self.table.rows.len(), self.changes.added.len());
        let list = ShapeList::read(shapes, base_rows, added, Some(&numbers), self.budget)?;
        if list.reshaped.iter().any(|(row, _)| self.changes.removed.binary_search(row).is_ok()) {
            return Err(end.corrupt("a removed row has a new shape"));
        }
        let records = list.records(self.table, &mut numbers, self.budget).map_err(|e| e.at(end.offset()))?;
        self.paths = numbers.paths.members;
        self.make_records(&records)
    }

    /// Makes room for the cells of reshaped and added records, and lists which columns have inserts.
    fn make_records(&mut self, records: &[(Option<u32>, ShapeId)]) -> Result<()> {
        let cells = self.charge_target(records)?;
        self.inserts.resize_with(self.table.schema.paths.len(), Inserts::default);
        self.changes.cells.tags.resize(cells as usize, MISSING);
        self.changes.cells.words.resize(cells as usize, 0);
        let mut start = 0;
        let mut added = self.changes.added.iter_mut();
        for (number, (row, shape_id)) in (0..).zip(records) {
            let record = Record { shape: *shape_id, start };
            let shape = &self.table.schema.shapes[*shape_id as usize];
            for (position, path) in shape.paths.iter().enumerate() {
                let kept = row.and_then(|row| self.table.cell(row as usize, *path));
                match kept {
                    None => self.inserts[*path as usize].rows.push(number),
                    Some(cell) => self.changes.cells.set(start + position, cell),
                }
            }
            start += shape.len();
            match row {
                Some(row) => self.changes.reshaped.push((*row, record)),
                None => {
                    if let Some(added) = added.next() {
                        added.record = record;
                    }
                }
            }
        }
        Ok(())
    }

    /// Charges the records of the target. Returns the number of cells of the new ones.
    fn charge_target(&mut self, records: &[(Option<u32>, ShapeId)]) -> Result<u64> {
        let shapes = &self.table.schema.shapes;
        let size = |shape: ShapeId| {
            let shape = &shapes[shape as usize];
            (shape.len() as u64, shape.dicts() as u64)
        };
        let sum = |all: &mut dyn Iterator<Item = ShapeId>| {
            all.map(size).fold((0, 0), |sum, (cells, dicts)| (sum.0 + cells, sum.1 + dicts))
        };
        let new = sum(&mut records.iter().map(|(_, shape)| *shape));
        let reshaped = records.iter().filter_map(|(row, _)| *row);
        let mut replaced = reshaped.chain(self.changes.removed.iter().copied());
        let gone = sum(&mut replaced.by_ref().map(|row| self.table.rows[row as usize].shape));
        let base = (0..).zip(&self.table.schema.rows).fold((0, 0), |sum, (shape, rows)| {
            let (cells, dicts) = size(shape);
            (sum.0 + cells * u64::from(*rows), sum.1 + dicts * u64::from(*rows))
        });
        self.base_cells = base.0;
        self.budget.charge(base.0 - gone.0 + new.0, CELL, "cells")?;
        self.budget.charge(base.1 - gone.1 + new.1, DICT, "dicts")?;
        Ok(new.0)
    }

    fn row_sets(&mut self, mut r: Reader<'_>) -> Result<Vec<Vec<u32>>> {
        if r.is_empty() {
            return Ok(Vec::new());
        }
        let row_sets =
            row_set_reader::read(&mut r, self.table.rows.len(), &self.changes.removed, self.budget)?;
        r.finish()?;
        Ok(row_sets)
    }

    /// A record by its number: reshaped, then added ones.
    fn record(&self, number: usize) -> Record {
        match self.changes.reshaped.get(number) {
            Some((_, record)) => *record,
            None => self.changes.added[number - self.changes.reshaped.len()].record,
        }
    }

    /// The place of an insert in `ChangeSet::cells`.
    fn cell_index(&self, number: u32, path: PathId) -> usize {
        let record = self.record(number as usize);
        let shape = &self.table.schema.shapes[record.shape as usize];
        record.start + shape.position(path).unwrap_or(0)
    }

    /// Rows, paths and base cells of SPARSE's updates.
    fn sparse_places(
        &mut self,
        r: &mut Reader<'_>,
        sparse_updates: &[bool],
    ) -> Result<Vec<(u32, PathId, Cell)>> {
        let n = if r.is_empty() { 0 } else { r.count("cells")? };
        self.budget.charge(n as u64, COLUMN, "sparse cells")?;
        let mut places = Vec::with_capacity(n);
        let mut row = 0u64;
        for _ in 0..n {
            row = row.saturating_add(r.uvarint()?);
            if row >= self.table.rows.len() as u64 {
                return Err(r.corrupt("a row is out of range"));
            }
            places.push((row as u32, 0));
        }
        for place in &mut places {
            place.1 = r.up_to(self.paths.len() - 1, "path id")?;
        }
        if !places.is_sorted_by(|a, b| a < b) {
            return Err(r.corrupt("sparse cells are out of order"));
        }
        let mut found = Vec::with_capacity(n);
        for (row, frame_path) in places {
            let path = self.paths[frame_path];
            let old = self.table.cell(row as usize, path).ok_or_else(|| r.corrupt(MISSING_CELL))?;
            if self.changes.removed.binary_search(&row).is_ok() {
                return Err(r.corrupt("a removed row is updated"));
            }
            self.check_kept(row, path).map_err(|e| e.at(r.offset()))?;
            if !sparse_updates[path as usize] {
                return Err(r.corrupt("a column has both listed and sparse updates"));
            }
            found.push((row, path, old));
        }
        Ok(found)
    }

    fn sparse<'a>(
        &mut self,
        mut r: Reader<'a>,
        text: &mut Option<Reader<'a>>,
        places: Vec<(u32, PathId, Cell)>,
        sparse_inserts: &[bool],
    ) -> Result<()> {
        for (row, path, old) in places {
            let new = self.read_cell(&mut r, text, path)?;
            self.changes.update(path, row, old, new);
            self.update_record(path, row, new);
        }
        for number in 0..self.changes.reshaped.len() + self.changes.added.len() {
            self.sparse_record(&mut r, text, number, sparse_inserts)?;
        }
        r.finish()
    }

    fn sparse_record<'a>(
        &mut self,
        r: &mut Reader<'a>,
        text: &mut Option<Reader<'a>>,
        number: usize,
        sparse_inserts: &[bool],
    ) -> Result<()> {
        let record = self.record(number);
        for position in 0..self.table.schema.shapes[record.shape as usize].len() {
            let path = self.table.schema.shapes[record.shape as usize].paths[position];
            let at = record.start + position;
            if !sparse_inserts[path as usize] || self.changes.cells.tags[at] != MISSING {
                continue;
            }
            let cell = self.read_cell(r, text, path)?;
            self.changes.cells.set(at, cell);
            self.inserts[path as usize].cells.push(cell);
        }
        Ok(())
    }

    fn read_cell<'a>(
        &mut self,
        r: &mut Reader<'a>,
        text: &mut Option<Reader<'a>>,
        path: PathId,
    ) -> Result<Cell> {
        let depth = self.table.schema.paths[path as usize].depth;
        let (tag, payload, weight) = match text {
            None => read_inline(r, depth)?,
            Some(text) => read_cell(r, text, depth)?,
        };
        match payload {
            Payload::Bytes(bytes) => self.budget.charge_blob(bytes.len(), weight)?,
            Payload::Fixed64(_) => self.budget.charge(1, weight_of(tag), WEIGHTS)?,
        }
        let cell = self.table.acquire(tag, payload);
        self.changes.retain(cell);
        Ok(cell)
    }

    /// Checks that an updated cell is also in the row's new shape, if it has one.
    fn check_kept(&self, row: u32, path: PathId) -> Result<()> {
        match self.changes.reshaped.binary_search_by_key(&row, |r| r.0) {
            Ok(i) if !self.is_kept(i, path) => {
                Err(Error::corrupt("an updated cell is not in the row's new shape"))
            }
            _ => Ok(()),
        }
    }

    /// Gets the base's cells that the columns update, all at once: those of one row lie together.
    fn load_base_cells(&self, columns: &mut [ListedColumn<'_>], row_sets: &[Vec<u32>]) -> Result<()> {
        let lists: Vec<&[u32]> =
            columns.iter().map(|column| column.updates.map_or(&[][..], |set| &row_sets[set])).collect();
        // no column stands twice, so that more cannot all be there
        let n: usize = lists.iter().map(|rows| rows.len()).sum();
        let not_there = |at: usize| columns[at].contents.corrupt(MISSING_CELL);
        if n as u64 > self.base_cells {
            return Err(not_there(0));
        }
        let paths: Vec<PathId> = columns.iter().map(|column| column.path).collect();
        let fetched = gather_all(self.table, &paths, &lists).map_err(not_there)?;
        for (column, base) in columns.iter_mut().zip(fetched) {
            column.base = base;
        }
        if !self.changes.reshaped.is_empty() {
            for (column, rows) in columns.iter().zip(&lists) {
                for row in *rows {
                    self.check_kept(*row, column.path).map_err(|e| e.at(column.contents.offset()))?;
                }
            }
        }
        Ok(())
    }

    fn is_kept(&self, reshaped: usize, path: PathId) -> bool {
        let shape = self.changes.reshaped[reshaped].1.shape;
        self.table.schema.shapes[shape as usize].position(path).is_some()
    }

    /// Brings an update into the record of a reshaped row.
    fn update_record(&mut self, path: PathId, row: u32, new: Cell) {
        if let Ok(i) = self.changes.reshaped.binary_search_by_key(&row, |r| r.0) {
            let at = self.cell_index(i as u32, path);
            self.changes.cells.set(at, new);
            self.replaced.insert(at);
        }
    }

    /// Cells that stay in a reshaped row get a second holder: the row is replaced as a whole.
    fn retain_unchanged(&mut self) {
        for i in 0..self.changes.reshaped.len() {
            let (row, record) = self.changes.reshaped[i];
            for position in 0..self.table.schema.shapes[record.shape as usize].len() {
                let at = record.start + position;
                let path = self.table.schema.shapes[record.shape as usize].paths[position];
                let cell = self.changes.cells.get(at);
                if is_blob(cell.tag)
                    && !self.replaced.contains(&at)
                    && self.table.cell(row as usize, path).is_some()
                {
                    self.table.pool.retain(cell.word);
                    self.changes.retain(cell);
                }
            }
        }
    }

    fn column<'a>(
        &mut self,
        listed: ListedColumn<'a>,
        text: &mut Option<Reader<'a>>,
        row_sets: &[Vec<u32>],
        updates_done: &mut [bool],
        inserts_done: &mut [bool],
    ) -> Result<()> {
        let ListedColumn { path, updates, base, has_inserts, with_base_values, mut contents } = listed;
        let depth = self.table.schema.paths[path as usize].depth;
        if let Some(set) = updates {
            let rows = &row_sets[set];
            if rows.is_empty() {
                return Err(contents.corrupt("a column is listed for no cells"));
            }
            let column = ColumnContext {
                base: Some(&base),
                rows,
                view: RowView {
                    table: self.table,
                    side: Side::Updates(&self.changes.updates),
                    done: updates_done,
                },
                row_sets,
                paths: &self.paths,
                with_base_values,
                path,
                depth,
            };
            let pending = cells::read(&mut contents, text, &column, self.budget)?;
            let new = pending.intern_blobs(self.table, &mut self.changes, self.budget)?;
            if !self.changes.reshaped.is_empty() {
                for (row, cell) in rows.iter().zip(new.iter()) {
                    self.update_record(path, *row, cell);
                }
            }
            let updates = self.changes.column(path);
            updates.rows.clone_from(rows);
            updates.old = base;
            updates.new = new;
            updates_done[path as usize] = true;
        }
        if has_inserts {
            let rows = std::mem::take(&mut self.inserts[path as usize].rows);
            if rows.is_empty() {
                return Err(contents.corrupt("a column is listed for no cells"));
            }
            let column = ColumnContext {
                base: None,
                rows: &rows,
                view: RowView { table: self.table, side: Side::Inserts(&self.inserts), done: inserts_done },
                row_sets,
                paths: &self.paths,
                with_base_values,
                path,
                depth,
            };
            let pending = cells::read(&mut contents, text, &column, self.budget)?;
            let new = pending.intern_blobs(self.table, &mut self.changes, self.budget)?;
            for (number, cell) in rows.iter().zip(new.iter()) {
                let at = self.cell_index(*number, path);
                self.changes.cells.set(at, cell);
            }
            self.inserts[path as usize] = Inserts { rows, cells: new };
            inserts_done[path as usize] = true;
        }
        contents.finish()
    }
}
