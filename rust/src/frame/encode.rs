//! Change set -> body.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::encoding::blobs::Text;
use crate::encoding::encode::{self as cells, ColumnInput};
use crate::encoding::formula_search::FormulaSearch;
use crate::encoding::predictor::Predictor;
use crate::encoding::row_view::{Inserts, RowView, Side};
use crate::error::Result;
use crate::format::column_flag::{BASE_VALUES, INSERTS, UPDATES};
use crate::format::section;
use crate::format::value::{Tag, is_blob, tag, write_inline, write_text_value};
use crate::format::writer::Writer;
use crate::frame::paths::FramePaths;
use crate::frame::row_order;
use crate::frame::row_sets::RowSetWriter;
use crate::frame::text::{FrameText, FrameTextBuilder, is_worth};
use crate::state::change_set::{Added, ChangeSet, ColumnPatch, Record};
use crate::state::schema::{PathId, ShapeId};
use crate::state::table::{Cell, Table};

/// Columns with at most this many cells go row by row.
const MAX_SPARSE: usize = 4;

/// Formulas found in earlier frames, by path: tried first, so that the search is not made for every frame.
pub(crate) type FormulaCache = HashMap<PathId, Predictor>;

/// So many columns are looked at for what repeats or explains another: records with thousands of fields stay linear.
const CANDIDATES: usize = 96;

/// Cells and pairs of columns that the search for formulas may look at in one frame: some ten times what a market takes.
const SEARCH_BUDGET: usize = 400_000;

/// The records that bring inserted cells: reshaped, then added ones.
fn new_records<'a>(
    table: &'a Table,
    changes: &'a ChangeSet,
) -> impl Iterator<Item = (Option<ShapeId>, Record)> + 'a {
    let reshaped = changes.reshaped.iter();
    let reshaped = reshaped.map(|(row, record)| (Some(table.rows[*row as usize].shape), *record));
    reshaped.chain(changes.added.iter().map(|added| (None, added.record)))
}

/// A column with so many inserts will have one in most added rows. Room for all at once would be rows x columns.
const COMMON_COLUMN: usize = 64;

fn collect_inserts(table: &Table, changes: &ChangeSet) -> Vec<Inserts> {
    let mut inserts: Vec<Inserts> = Vec::new();
    inserts.resize_with(table.schema.paths.len(), Inserts::default);
    for (number, (old_shape, record)) in (0..).zip(new_records(table, changes)) {
        let shape = &table.schema.shapes[record.shape as usize];
        for (position, path) in shape.paths.iter().enumerate() {
            if old_shape.is_some_and(|old| table.schema.shapes[old as usize].position(*path).is_some()) {
                continue;
            }
            let column = &mut inserts[*path as usize];
            let n = column.rows.len();
            if n >= COMMON_COLUMN && n == column.rows.capacity() {
                let more = changes.added.len().saturating_sub(n).clamp(1, 15 * n);
                column.rows.reserve(more);
                column.cells.reserve(more);
            }
            column.rows.push(number);
            column.cells.push(changes.cells.get(record.start + position));
        }
    }
    inserts
}

/// Which of a column's cells are listed in COLUMNS.
struct ColumnPlan {
    path: PathId,
    updates: bool,
    inserts: bool,
}

struct BodyWriter<'a> {
    table: &'a Table,
    changes: &'a ChangeSet,
    base_rows: usize,
    inserts: Vec<Inserts>,
    /// What has no fixed length, if that is worth a stream of its own.
    text: Option<RefCell<Text>>,
    /// Path ids are numbered as they turn out to be needed.
    frame_paths: RefCell<FramePaths<'a>>,
}

/// The body of a frame that leads from the table's state (or, with `base_rows` 0, from nothing) to the next.
pub(crate) fn write(
    table: &Table,
    changes: &ChangeSet,
    base_rows: usize,
    formulas: &mut FormulaCache,
) -> Result<Body> {
    let inserts = collect_inserts(table, changes);
    let new = changes.updates.iter().map(|column| &column.new);
    let new = new.chain(inserts.iter().map(|column| &column.cells));
    let with_text = base_rows > 0 && (are_long(&changes.added) || is_worth(table, new));
    let body = BodyWriter {
        table,
        changes,
        base_rows,
        inserts,
        text: with_text.then(RefCell::default),
        frame_paths: RefCell::new(FramePaths::new(&table.schema)),
    };
    let mut text = FrameTextBuilder::new(table);
    let rows = body.rows();
    text.symbols(body.text_length())?;
    let shapes = body.shapes();
    let plan = body.plan_columns();
    let sparse = body.sparse(&plan, &mut text)?;
    text.anchor(body.text_length());
    let (sets, columns) = body.columns(&plan, formulas, &mut text)?;
    let mut order = Writer::default();
    let mut frame_path = |path| body.frame_path(path);
    row_order::write(&mut order, table, changes, base_rows, &mut frame_path);
    let mut paths = Writer::default();
    body.frame_paths.borrow().write(&mut paths);

    let mut w = Writer::default();
    for (id, contents) in [
        (section::ROWS, rows),
        (section::PATHS, paths),
        (section::SHAPES, shapes),
        (section::ROW_SETS, sets),
        (section::SPARSE, sparse),
        (section::COLUMNS, columns),
        (section::ORDER, order),
    ] {
        w.section(id, &contents.bytes);
    }
    let text = body.text.map(|bytes| text.finish(bytes.into_inner().values.bytes));
    Ok(Body { sections: w.bytes, text: text.unwrap_or_default() })
}

/// The sections of a body up to TEXT, and the text.
pub(crate) struct Body {
    pub(crate) sections: Vec<u8>,
    pub(crate) text: FrameText,
}

/// From so many bytes on, the symbols of added rows go into the text.
const LONG_SYMBOLS: usize = 64;

fn are_long(added: &[Added]) -> bool {
    added.iter().map(|added| added.symbol.len()).sum::<usize>() >= LONG_SYMBOLS
}

impl BodyWriter<'_> {
    fn frame_path(&self, path: PathId) -> u64 {
        self.frame_paths.borrow_mut().of(path)
    }

    /// Bytes of text so far.
    fn text_length(&self) -> usize {
        self.text.as_ref().map_or(0, |text| text.borrow().values.bytes.len())
    }

    fn rows(&self) -> Writer {
        let mut w = Writer::default();
        w.size(self.base_rows);
        w.counted_gaps(&self.changes.removed);
        w.size(self.changes.added.len());
        let symbols = self.changes.added.iter().map(|added| &*added.symbol);
        match &self.text {
            Some(text) if are_long(&self.changes.added) => {
                let text = &mut text.borrow_mut().values;
                symbols.for_each(|symbol| text.text(symbol));
            }
            _ => w.strings(symbols),
        }
        w
    }

    fn shapes(&self) -> Writer {
        let mut w = Writer::default();
        let changes = self.changes;
        if changes.reshaped.is_empty() && changes.added.is_empty() {
            return w;
        }
        let mut numbers = vec![u64::MAX; self.table.schema.shapes.len()];
        let mut shapes: Vec<ShapeId> = Vec::new();
        for (_, record) in new_records(self.table, changes) {
            let number = &mut numbers[record.shape as usize];
            if *number == u64::MAX {
                *number = shapes.len() as u64;
                shapes.push(record.shape);
            }
        }
        w.size(shapes.len());
        for shape in shapes {
            let paths = &self.table.schema.shapes[shape as usize].paths;
            w.size(paths.len());
            let mut last = -1;
            for path in paths {
                let frame_path = self.frame_path(*path) as i64;
                w.svarint(frame_path - last - 1);
                last = frame_path;
            }
        }
        w.size(changes.reshaped.len());
        w.gaps(changes.reshaped.iter().map(|(row, _)| *row));
        for (_, record) in &changes.reshaped {
            w.uvarint(numbers[record.shape as usize]);
        }
        for run in changes.added.chunk_by(|a, b| a.record.shape == b.record.shape) {
            w.uvarint(numbers[run[0].record.shape as usize]);
            w.size(run.len());
        }
        w
    }

    fn updates(&self, path: PathId) -> Option<&ColumnPatch> {
        self.changes.updates.get(path as usize).filter(|column| !column.rows.is_empty())
    }

    /// The columns with more than a few cells, in the order of their paths.
    fn plan_columns(&self) -> Vec<ColumnPlan> {
        let paths = 0..self.table.schema.paths.len() as PathId;
        paths
            .map(|path| ColumnPlan {
                path,
                updates: self.updates(path).is_some_and(|column| column.rows.len() > MAX_SPARSE),
                inserts: self.inserts[path as usize].rows.len() > MAX_SPARSE,
            })
            .filter(|plan| plan.updates || plan.inserts)
            .collect()
    }

    fn sparse(&self, plan: &[ColumnPlan], prefix: &mut FrameTextBuilder<'_>) -> Result<Writer> {
        let mut w = Writer::default();
        let mut in_columns = vec![(false, false); self.table.schema.paths.len()];
        for column in plan {
            in_columns[column.path as usize] = (column.updates, column.inserts);
        }
        let mut updates = Vec::new();
        for (path, column) in (0..).zip(&self.changes.updates) {
            if !in_columns[path as usize].0 {
                let frame_path = if column.rows.is_empty() { 0 } else { self.frame_path(path) };
                let cells = column.rows.iter().zip(column.old.iter().zip(column.new.iter()));
                updates.extend(cells.map(|(row, (old, new))| (*row, frame_path, old, new)));
            }
        }
        updates.sort_unstable_by_key(|(row, frame_path, ..)| (*row, *frame_path));
        let inserted = self.sparse_inserts(&in_columns);
        if updates.is_empty() && inserted.is_empty() {
            return Ok(w);
        }
        w.size(updates.len());
        let mut last = 0;
        for (row, ..) in &updates {
            w.uvarint(u64::from(row - last));
            last = *row;
        }
        for (_, frame_path, ..) in &updates {
            w.uvarint(*frame_path);
        }
        prefix.sparse(updates.iter().map(|(_, _, old, _)| *old))?;
        let updates = updates.iter().map(|(.., cell)| (None, *cell));
        for (path, cell) in updates.chain(inserted.into_iter().map(|(path, cell)| (Some(path), cell))) {
            match &self.text {
                Some(text) if is_blob(cell.tag) => {
                    w.u8(cell.tag);
                    let payload = self.table.pool.get(cell.word);
                    write_text_value(&mut text.borrow_mut().values, cell.tag, payload);
                    if let Some(path) = path {
                        prefix.sparse_insert(path, self.frame_path(path), payload.len())?;
                    }
                }
                _ => write_inline(&mut w, cell.tag, self.table.payload(cell)),
            }
        }
        Ok(w)
    }

    fn sparse_inserts(&self, in_columns: &[(bool, bool)]) -> Vec<(PathId, Cell)> {
        let mut cells = Vec::new();
        let has_sparse = self.inserts.iter().zip(in_columns).any(|(i, c)| !i.rows.is_empty() && !c.1);
        if !has_sparse {
            return cells;
        }
        for (old_shape, record) in new_records(self.table, self.changes) {
            let shapes = &self.table.schema.shapes;
            for (position, path) in shapes[record.shape as usize].paths.iter().enumerate() {
                let stays = old_shape.is_some_and(|old| shapes[old as usize].position(*path).is_some());
                if !stays && !in_columns[*path as usize].1 {
                    cells.push((*path, self.changes.cells.get(record.start + position)));
                }
            }
        }
        cells
    }

    fn columns(
        &self,
        plan: &[ColumnPlan],
        formulas: &mut FormulaCache,
        text: &mut FrameTextBuilder<'_>,
    ) -> Result<(Writer, Writer)> {
        let (mut sets, mut w) = (Writer::default(), Writer::default());
        if plan.is_empty() {
            return Ok((sets, w));
        }
        let mut set_writer = RowSetWriter::default();
        let handles: Vec<usize> = plan
            .iter()
            .map(|column| match self.updates(column.path) {
                Some(updates) if column.updates => set_writer.add(&updates.rows),
                _ => 0,
            })
            .collect();
        let numbers = set_writer.write(&mut sets, self.base_rows);
        w.size(plan.len());
        let mut last = -1;
        let mut column_writer = ColumnWriter::new(self, plan);
        let mut write_column = |w: &mut Writer,
                                column_writer: &mut ColumnWriter,
                                at: usize,
                                formula: Option<Predictor>|
         -> Result<()> {
            let column = &plan[at];
            let frame_path = self.frame_path(column.path) as i64;
            w.svarint(frame_path - last - 1);
            last = frame_path;
            let contents = column_writer.column(self, column, formula, text)?;
            let with_base_values = self
                .text
                .as_ref()
                .is_some_and(|text| std::mem::take(&mut text.borrow_mut().with_base_values));
            w.u8(u8::from(column.updates) * UPDATES
                + u8::from(column.inserts) * INSERTS
                + u8::from(with_base_values) * BASE_VALUES);
            if column.updates {
                w.uvarint(numbers[handles[at]]);
            }
            w.text(&contents.bytes);
            Ok(())
        };
        // what is costly by itself waits for the columns that it may be worked out from
        let mut pending: Vec<DeferredColumn> = Vec::new();
        for (at, column) in plan.iter().enumerate() {
            if column_writer.is_expensive(self, column) {
                let search = column_writer.search(self, column);
                pending.push(DeferredColumn { at, search, formula: None, written: false });
            } else {
                write_column(&mut w, &mut column_writer, at, None)?;
            }
        }
        pending.sort_by_key(|deferred| self.cells_of(&plan[deferred.at]));
        let mut known = column_writer.known_columns(self, plan);
        // a round costs the columns that are searched for, not those that tell nothing
        let mut searched: Vec<usize> = (0..pending.len()).filter(|i| pending[*i].search.is_some()).collect();
        let mut first = 0;
        while first < pending.len() {
            for &i in &searched {
                let deferred = &mut pending[i];
                let column = &plan[deferred.at];
                deferred.formula = column_writer.find(self, column, &mut deferred.search, &known, formulas);
                if let Some(formula) = deferred.formula {
                    formulas.insert(column.path, formula);
                }
            }
            // all that were found; if none was, the shortest goes by itself, and if all is tried that may be, everything
            let over = column_writer.search_budget == 0;
            let mut taken: Vec<usize> = if over {
                (first..pending.len()).filter(|i| !pending[*i].written).collect()
            } else {
                searched.iter().copied().filter(|i| pending[*i].formula.is_some()).collect()
            };
            if taken.is_empty() {
                taken.push(first);
            }
            known.clear();
            for i in taken {
                let deferred = &mut pending[i];
                write_column(&mut w, &mut column_writer, deferred.at, deferred.formula)?;
                known.push(plan[deferred.at].path);
                deferred.written = true;
            }
            searched.retain(|i| !pending[*i].written);
            while pending.get(first).is_some_and(|deferred| deferred.written) {
                first += 1;
            }
        }
        Ok((sets, w))
    }

    fn cells_of(&self, plan: &ColumnPlan) -> usize {
        let updates = self.updates(plan.path).map_or(0, |column| column.rows.len());
        updates + self.inserts[plan.path as usize].rows.len()
    }
}

/// The columns that are written: a column of other values tells nothing, so they are kept by the tag of their first cell.
#[derive(Default)]
struct Candidates {
    first: Vec<PathId>,
    by_tag: [Vec<PathId>; tag::CELL_TAGS as usize],
}

impl Candidates {
    fn push(&mut self, path: PathId, tag: Tag) {
        if self.first.len() < CANDIDATES {
            self.first.push(path);
        }
        self.by_tag[usize::from(tag)].push(path);
    }

    /// The last ones written, the very last first.
    fn latest(&self, tag: Tag) -> Vec<PathId> {
        self.by_tag[usize::from(tag)].iter().rev().take(CANDIDATES).copied().collect()
    }
}

/// Which columns the reader already has, while one after the other is written.
struct ColumnWriter {
    updates_done: Vec<bool>,
    inserts_done: Vec<bool>,
    update_candidates: Candidates,
    insert_candidates: Candidates,
    /// What the search for formulas may still cost in this frame.
    search_budget: usize,
}

impl ColumnWriter {
    fn new(body: &BodyWriter<'_>, plan: &[ColumnPlan]) -> ColumnWriter {
        // what is sparse is there from the start
        let mut updates_done = vec![true; body.table.schema.paths.len()];
        let mut inserts_done = updates_done.clone();
        for column in plan {
            updates_done[column.path as usize] = !column.updates;
            inserts_done[column.path as usize] = !column.inserts;
        }
        ColumnWriter {
            updates_done,
            inserts_done,
            update_candidates: Candidates::default(),
            insert_candidates: Candidates::default(),
            search_budget: SEARCH_BUDGET,
        }
    }

    fn column(
        &mut self,
        body: &BodyWriter<'_>,
        plan: &ColumnPlan,
        formula: Option<Predictor>,
        text: &mut FrameTextBuilder<'_>,
    ) -> Result<Writer> {
        let mut w = Writer::default();
        let path = plan.path as usize;
        let start = body.text_length();
        if plan.updates {
            self.with(body, plan, Part::Updates, formula, |column| cells::write(&mut w, column));
            self.updates_done[path] = true;
            self.update_candidates.push(plan.path, body.changes.updates[path].new.tags[0]);
        }
        let middle = body.text_length();
        if plan.inserts {
            self.with(body, plan, Part::Inserts, formula, |column| cells::write(&mut w, column));
            self.inserts_done[path] = true;
            self.insert_candidates.push(plan.path, body.inserts[path].cells.tags[0]);
        }
        let end = body.text_length();
        if end > start {
            let updated = (middle > start).then(|| &body.changes.updates[path].old);
            text.column(plan.path, body.frame_path(plan.path), end - middle, updated)?;
            text.anchor(end);
        }
        Ok(w)
    }

    /// The column's updates or inserts as they are coded now.
    fn with<T>(
        &self,
        body: &BodyWriter<'_>,
        plan: &ColumnPlan,
        part: Part,
        formula: Option<Predictor>,
        then: impl FnOnce(&ColumnInput<'_>) -> T,
    ) -> T {
        let frame_path = |path: PathId| body.frame_path(path);
        let (table, path) = (body.table, plan.path as usize);
        match part {
            Part::Updates => {
                let ColumnPatch { rows, old, new } = &body.changes.updates[path];
                let view =
                    RowView { table, side: Side::Updates(&body.changes.updates), done: &self.updates_done };
                let candidates = self.update_candidates.latest(new.tags[0]);
                then(&ColumnInput {
                    cells: new,
                    base: Some(old),
                    rows,
                    view,
                    candidates: &candidates,
                    formula,
                    text: body.text.as_ref(),
                    path: plan.path,
                    frame_path: &frame_path,
                })
            }
            Part::Inserts => {
                let Inserts { rows, cells } = &body.inserts[path];
                let view = RowView { table, side: Side::Inserts(&body.inserts), done: &self.inserts_done };
                let candidates = self.insert_candidates.latest(cells.tags[0]);
                let formula = formula.filter(|predictor| !predictor.needs_base());
                then(&ColumnInput {
                    cells,
                    base: None,
                    rows,
                    view,
                    candidates: &candidates,
                    formula,
                    text: body.text.as_ref(),
                    path: plan.path,
                    frame_path: &frame_path,
                })
            }
        }
    }

    fn main_part(plan: &ColumnPlan) -> Part {
        if plan.updates { Part::Updates } else { Part::Inserts }
    }

    fn is_expensive(&self, body: &BodyWriter<'_>, plan: &ColumnPlan) -> bool {
        self.with(body, plan, Self::main_part(plan), None, cells::is_expensive)
    }

    /// The search for a column's formula.
    fn search(&self, body: &BodyWriter<'_>, plan: &ColumnPlan) -> Option<FormulaSearch> {
        self.with(body, plan, Self::main_part(plan), None, |column| {
            FormulaSearch::new(column.cells, column.base, column.rows)
        })
    }

    /// A formula of an earlier frame, or one that the newly known columns make possible.
    fn find(
        &mut self,
        body: &BodyWriter<'_>,
        plan: &ColumnPlan,
        search: &mut Option<FormulaSearch>,
        known: &[PathId],
        formulas: &FormulaCache,
    ) -> Option<Predictor> {
        let search = search.as_mut()?;
        let mut search_budget = self.search_budget;
        let found = self.with(body, plan, Self::main_part(plan), None, |column| {
            let view = &column.view;
            let hint = formulas.get(&plan.path).copied();
            let ready =
                |hint: &Predictor| hint.operands().all(|path| view.done.get(path as usize) == Some(&true));
            let served = hint.filter(ready).filter(|hint| search.still_fits(*hint, view));
            served.or_else(|| {
                known.iter().filter(|path| **path != plan.path).find_map(|path| {
                    search_budget = search_budget.saturating_sub(search.cost());
                    if search_budget == 0 { None } else { search.add_column(*path, view) }
                })
            })
        });
        self.search_budget = search_budget;
        found
    }

    /// The columns that the reader has so far: those listed, and for updates all that do not change in this frame.
    fn known_columns(&self, body: &BodyWriter<'_>, plan: &[ColumnPlan]) -> Vec<PathId> {
        let updated = plan.iter().find(|column| column.updates);
        let row = updated.and_then(|column| body.changes.updates[column.path as usize].rows.first());
        match row {
            None => self.insert_candidates.first.clone(),
            Some(row) => {
                let shape = body.table.rows[*row as usize].shape;
                let paths = body.table.schema.shapes[shape as usize].paths.iter().copied();
                paths.filter(|path| self.updates_done[*path as usize]).take(CANDIDATES).collect()
            }
        }
    }
}

/// A costly column that waits for others.
struct DeferredColumn {
    at: usize,
    search: Option<FormulaSearch>,
    formula: Option<Predictor>,
    written: bool,
}

enum Part {
    Updates,
    Inserts,
}
