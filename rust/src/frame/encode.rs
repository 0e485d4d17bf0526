//! Change set -> body.

use std::cell::RefCell;

use crate::encoding::blobs::Text;
use crate::encoding::encode::{self as cells, ColumnInput};
use crate::encoding::formula_scan::CANDIDATES;
use crate::encoding::left_out::{Part as LeftOut, left_out};
use crate::encoding::numbers::Input;
use crate::encoding::row_view::{Inserts, RowView, Side};
use crate::encoding::split::Split;
use crate::encoding::split_search;
use crate::error::Result;
use crate::format::column_flag::{BASE_VALUES, INSERTS, UPDATES};
use crate::format::entropy;
use crate::format::section;
use crate::format::value::{Tag, is_blob, tag, write_inline, write_text_value};
use crate::format::writer::Writer;
use crate::frame::learning::{Knowledge, Part, Subject};
use crate::frame::paths::FrameSchema;
use crate::frame::row_order;
use crate::frame::row_set_writer::RowSetWriter;
use crate::frame::shapes;
use crate::frame::text::{FrameText, FrameTextBuilder, is_worth};
use crate::state::change_set::{Added, ChangeSet, ColumnPatch, Record};
use crate::state::schema::{PathId, Schema, ShapeId};
use crate::state::table::{Cell, Table};

/// Columns with at most this many cells go row by row: more share a header, and what is known of the column.
const MAX_SPARSE: usize = 1;

/// Room for the steps of a frame is made at once, for so many a cell, up to a limit.
const STEPS_A_CELL: usize = 2;
const STEPS_AT_ONCE: usize = 1 << 16;

/// The records that bring inserted cells: reshaped, then added ones.
fn new_records<'a>(
    table: &'a Table,
    changes: &'a ChangeSet,
) -> impl Iterator<Item = (Option<ShapeId>, Record)> + 'a {
    let reshaped = changes.reshaped.iter();
    let reshaped = reshaped.map(|(row, record)| (Some(table.rows[*row as usize].shape), *record));
    reshaped.chain(changes.added.iter().map(|added| (None, added.record)))
}

/// The cells of a new record that its row did not have before: their positions and paths.
fn inserted(
    schema: &Schema,
    old_shape: Option<ShapeId>,
    record: Record,
) -> impl Iterator<Item = (usize, PathId)> {
    let old = old_shape.map(|old| &schema.shapes[old as usize]);
    let paths = schema.shapes[record.shape as usize].paths.iter().copied().enumerate();
    paths.filter(move |(_, path)| old.is_none_or(|old| old.position(*path).is_none()))
}

/// A column with so many inserts will have one in most added rows. Room for all at once would be rows x columns.
const COMMON_COLUMN: usize = 64;
/// `collect_inserts` moves so many added rows at a time: their cells fit into the processor's cache.
const INSERTED_TOGETHER: usize = 64;

/// The inserted cells, column by column, with the numbers of their records in `new_records`.
fn collect_inserts(table: &Table, changes: &ChangeSet) -> Vec<Inserts> {
    let mut inserts: Vec<Inserts> = Vec::new();
    inserts.resize_with(table.schema.paths.len(), Inserts::default);
    for (number, (old_shape, record)) in (0..).zip(new_records(table, changes)).take(changes.reshaped.len()) {
        for (position, path) in inserted(&table.schema, old_shape, record) {
            let column = &mut inserts[path as usize];
            column.rows.push(number);
            column.cells.push(changes.cells.get(record.start + position));
        }
    }
    let mut number = changes.reshaped.len() as u32;
    let alike = changes.added.chunk_by(|a, b| a.record.shape == b.record.shape);
    for block in alike.flat_map(|alike| alike.chunks(INSERTED_TOGETHER)) {
        let numbers = number..number + block.len() as u32;
        number = numbers.end;
        let shape = &table.schema.shapes[block[0].record.shape as usize];
        for (position, path) in shape.paths.iter().enumerate() {
            let column = &mut inserts[*path as usize];
            let n = column.rows.len();
            if n >= COMMON_COLUMN && n + block.len() > column.rows.capacity() {
                let more = changes.added.len().saturating_sub(n).min(15 * n).max(block.len());
                column.rows.reserve(more);
                column.cells.reserve(more);
            }
            column.rows.extend(numbers.clone());
            column.cells.extend(block.iter().map(|added| changes.cells.get(added.record.start + position)));
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
    numbers: FrameSchema,
    /// What has no fixed length, if that is worth a stream of its own.
    text: Option<RefCell<Text>>,
}

/// The body of a frame that leads from the table's state (or, with `base_rows` 0, from nothing) to the next.
pub(crate) fn write(
    table: &Table,
    changes: &ChangeSet,
    base_rows: usize,
    knowledge: &mut Knowledge,
) -> Result<Body> {
    let mut numbers = FrameSchema::of_base(&table.schema, &table.rows[..base_rows]);
    let shapes = shapes::write(table, changes, &mut numbers);
    let mut paths = Writer::default();
    numbers.write_new_paths(&mut paths, &table.schema);
    let inserts = collect_inserts(table, changes);
    let new = changes.updates.iter().map(|column| &column.new);
    let new = new.chain(inserts.iter().map(|column| &column.cells));
    let with_text = base_rows > 0 && (are_long(&changes.added) || is_worth(table, new));
    let text = with_text.then(RefCell::default);
    let body = BodyWriter { table, changes, base_rows, inserts, numbers, text };
    let mut text = FrameTextBuilder::new(table);
    let rows = body.rows();
    text.symbols(body.text_length())?;
    let plan = body.plan_columns();
    let sparse = body.sparse(&plan, &mut text)?;
    text.anchor(body.text_length());
    let (sets, columns) = body.columns(&plan, knowledge, &mut text)?;
    let mut order = Writer::default();
    let mut frame_path = |path| body.frame_path(path);
    row_order::write(&mut order, table, changes, base_rows, &mut frame_path);

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
        w.section(id, contents);
    }
    let text = body.text.map(|bytes| text.finish(bytes.into_inner().values.bytes));
    Ok(Body { sections: w.bytes, text: text.unwrap_or_default(), entropy: entropy::write(&w.steps) })
}

/// The sections of a body up to TEXT, and what the sections after it are made of.
pub(crate) struct Body {
    pub(crate) sections: Vec<u8>,
    pub(crate) text: FrameText,
    pub(crate) entropy: Vec<u8>,
}

/// From so many bytes on, the symbols of added rows are worth a text, if nothing else is.
const LONG_SYMBOLS: usize = 64;

fn are_long(added: &[Added]) -> bool {
    added.iter().map(|added| added.symbol.len()).sum::<usize>() >= LONG_SYMBOLS
}

impl BodyWriter<'_> {
    /// The path id of a path that is the base's, or that a new shape has.
    fn frame_path(&self, path: PathId) -> u64 {
        self.numbers.paths.number(path).map_or(0, u64::from)
    }

    /// Bytes of text so far.
    fn text_length(&self) -> usize {
        self.text.as_ref().map_or(0, |text| text.borrow().values.bytes.len())
    }

    /// True if a stream named values of the base since this was last asked.
    fn takes_base_values(&self) -> bool {
        self.text.as_ref().is_some_and(|text| std::mem::take(&mut text.borrow_mut().with_base_values))
    }

    fn rows(&self) -> Writer {
        let mut w = Writer::default();
        if self.changes.removed.is_empty() && self.changes.added.is_empty() {
            return w;
        }
        w.counted_gaps(&self.changes.removed);
        w.size(self.changes.added.len());
        let symbols = self.changes.added.iter().map(|added| &*added.symbol);
        match &self.text {
            Some(text) => {
                let text = &mut text.borrow_mut().values;
                symbols.for_each(|symbol| text.text(symbol));
            }
            _ => w.strings(symbols),
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
            for (position, path) in inserted(&self.table.schema, old_shape, record) {
                if !in_columns[path as usize].1 {
                    cells.push((path, self.changes.cells.get(record.start + position)));
                }
            }
        }
        cells
    }

    fn columns(
        &self,
        plan: &[ColumnPlan],
        knowledge: &mut Knowledge,
        text: &mut FrameTextBuilder<'_>,
    ) -> Result<(Writer, Writer)> {
        let mut sets = Writer::default();
        if plan.is_empty() {
            return Ok((sets, Writer::default()));
        }
        let mut set_writer = RowSetWriter::default();
        let handles: Vec<usize> = plan
            .iter()
            .map(|column| match self.updates(column.path) {
                Some(updates) if column.updates => set_writer.add(&updates.rows),
                _ => 0,
            })
            .collect();
        let cells = self.cells_of(plan);
        sets.steps.reserve((STEPS_A_CELL * (cells.0 + cells.1)).min(STEPS_AT_ONCE));
        let numbers = set_writer.write(&mut sets, self.base_rows);
        // SPARSE, which comes between the two, has no steps
        let mut w = sets.open_part();
        w.size(plan.len());
        let mut last = -1;
        self.learn(plan, cells, knowledge);
        let main_part = |column: &ColumnPlan| if column.updates { Part::Updates } else { Part::Inserts };
        let parts: Vec<(PathId, Part)> = plan.iter().map(|column| (column.path, main_part(column))).collect();
        let splits =
            plan.iter().zip(&handles).filter(|(column, _)| column.updates).map(|(column, &handle)| {
                (column.path, Split { number: numbers[handle], members: set_writer.members(handle) })
            });
        let mut column_writer = ColumnWriter::new(self, plan, splits.collect());
        for at in knowledge.order(&parts) {
            let column = &plan[at];
            let frame_path = self.frame_path(column.path) as i64;
            w.svarint(frame_path - last - 1);
            last = frame_path;
            let contents = column_writer.column(w.open_part(), self, column, knowledge, text)?;
            let flags = [
                (column.updates, UPDATES),
                (column.inserts, INSERTS),
                (self.takes_base_values(), BASE_VALUES),
            ];
            w.u8(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum());
            if column.updates {
                w.uvarint(numbers[handles[at]]);
            }
            w.part(contents);
        }
        Ok((sets, w))
    }

    /// How many cells are listed in COLUMNS: updates, inserts.
    fn cells_of(&self, plan: &[ColumnPlan]) -> (usize, usize) {
        let inserts = plan.iter().filter(|column| column.inserts);
        let inserts = inserts.map(|column| self.inserts[column.path as usize].rows.len()).sum();
        let updates = plan.iter().filter(|column| column.updates);
        let updates = updates.map(|column| self.changes.updates[column.path as usize].rows.len()).sum();
        (updates, inserts)
    }

    /// Finds out what columns follow from others, where it is time to.
    fn learn(&self, plan: &[ColumnPlan], cells: (usize, usize), knowledge: &mut Knowledge) {
        if left_out(LeftOut::Columns) {
            return;
        }
        let all = vec![true; self.table.schema.paths.len()];
        let mut parts: Vec<(PathId, Part)> = Vec::with_capacity(plan.len());
        for column in plan {
            parts.extend(column.updates.then_some((column.path, Part::Updates)));
            parts.extend(column.inserts.then_some((column.path, Part::Inserts)));
        }
        knowledge.learn(&parts, cells, |path, part| {
            let input = self.input(path, part, &all);
            Subject { path, part, columns: self.neighbours(path, part, &input), input }
        });
    }

    /// The columns of the first row that stand nearest to one of them.
    fn neighbours(&self, path: PathId, part: Part, input: &Input<'_>) -> Vec<PathId> {
        let row = input.rows[0] as usize;
        let shape = match part {
            Part::Updates => self.table.rows[row].shape,
            Part::Inserts => match self.changes.reshaped.get(row) {
                Some((_, record)) => record.shape,
                None => self.changes.added[row - self.changes.reshaped.len()].record.shape,
            },
        };
        let shape = &self.table.schema.shapes[shape as usize];
        let at = shape.position(path).unwrap_or(0);
        let first = at.saturating_sub(CANDIDATES / 2).min(shape.len().saturating_sub(CANDIDATES));
        let near = shape.paths.iter().skip(first).take(CANDIDATES);
        let mut others = Vec::with_capacity(CANDIDATES);
        others.extend(near.copied().filter(|other| *other != path));
        others
    }

    /// The cells of a part of a column; `done` tells which columns the reader has by then.
    fn input<'b>(&'b self, path: PathId, part: Part, done: &'b [bool]) -> Input<'b> {
        let table = self.table;
        match part {
            Part::Updates => {
                let ColumnPatch { rows, old, new } = &self.changes.updates[path as usize];
                let view = RowView { table, side: Side::Updates(&self.changes.updates), done };
                Input { cells: new, base: Some(old), rows, view }
            }
            Part::Inserts => {
                let Inserts { rows, cells } = &self.inserts[path as usize];
                let view = RowView { table, side: Side::Inserts(&self.inserts), done };
                Input { cells, base: None, rows, view }
            }
        }
    }
}

/// The columns that are written: a column of other values tells nothing, so they are kept by the tag of their first cell.
#[derive(Default)]
struct Candidates {
    by_tag: [Vec<PathId>; tag::CELL_TAGS as usize],
}

impl Candidates {
    fn push(&mut self, path: PathId, tag: Tag) {
        self.by_tag[usize::from(tag)].push(path);
    }

    /// The last ones written, the very last first.
    fn latest(&self, tag: Tag) -> Vec<PathId> {
        if left_out(LeftOut::Columns) {
            return Vec::new();
        }
        self.by_tag[usize::from(tag)].iter().rev().take(CANDIDATES).copied().collect()
    }
}

/// What one column after the other is written with: which the reader already has, and what may split one.
struct ColumnWriter<'a> {
    updates_done: Vec<bool>,
    inserts_done: Vec<bool>,
    update_candidates: Candidates,
    insert_candidates: Candidates,
    /// The row sets of the updates, by the paths of the columns, which ascend.
    splits: Vec<(PathId, Split<'a>)>,
}

impl<'a> ColumnWriter<'a> {
    fn new(body: &BodyWriter<'_>, plan: &[ColumnPlan], splits: Vec<(PathId, Split<'a>)>) -> ColumnWriter<'a> {
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
            splits,
        }
    }

    fn column(
        &mut self,
        mut w: Writer,
        body: &BodyWriter<'_>,
        plan: &ColumnPlan,
        knowledge: &mut Knowledge,
        text: &mut FrameTextBuilder<'_>,
    ) -> Result<Writer> {
        let path = plan.path as usize;
        let start = body.text_length();
        if plan.updates {
            self.part(&mut w, body, plan.path, Part::Updates, knowledge);
        }
        let middle = body.text_length();
        if plan.inserts {
            self.part(&mut w, body, plan.path, Part::Inserts, knowledge);
        }
        let end = body.text_length();
        if end > start {
            let updated = (middle > start).then(|| &body.changes.updates[path].old);
            text.column(plan.path, body.frame_path(plan.path), end - middle, updated)?;
            text.anchor(end);
        }
        Ok(w)
    }

    fn part(
        &mut self,
        w: &mut Writer,
        body: &BodyWriter<'_>,
        path: PathId,
        part: Part,
        knowledge: &mut Knowledge,
    ) {
        let (done, candidates) = match part {
            Part::Updates => (&mut self.updates_done, &mut self.update_candidates),
            Part::Inserts => (&mut self.inserts_done, &mut self.insert_candidates),
        };
        let Input { cells, base, rows, view } = body.input(path, part, done);
        let mut column = ColumnInput {
            cells,
            base,
            rows,
            view,
            candidates: &candidates.latest(cells.tags[0]),
            learned: knowledge.of(path, part),
            split: None,
            text: body.text.as_ref(),
            path,
            frame_path: &|path: PathId| body.frame_path(path),
        };
        if part == Part::Updates {
            let is_possible = || split_search::is_possible(&column);
            let find = |known| split_search::find(&column, &nearest(&self.splits, path, rows), known);
            knowledge.learn_split(path, is_possible, find);
            column.split = knowledge.split(path).and_then(|by| {
                let at = self.splits.binary_search_by_key(&by, |(of, _)| *of).ok()?;
                Some(self.splits[at].1)
            });
        }
        let pays = cells::write(w, &column);
        knowledge.note(path, part, pays);
        candidates.push(path, cells.tags[0]);
        done[path as usize] = true;
    }
}

/// So many row sets are looked at for one that tells the cells of a column apart.
const SPLITS: usize = 16;

/// The row sets of the columns that stand nearest, each once and without the column's own.
fn nearest<'a>(splits: &[(PathId, Split<'a>)], path: PathId, rows: &[u32]) -> Vec<(PathId, Split<'a>)> {
    let at = splits.partition_point(|(of, _)| *of < path);
    let first = at.saturating_sub(SPLITS).min(splits.len().saturating_sub(2 * SPLITS));
    let mut chosen: Vec<(PathId, Split<'a>)> = Vec::new();
    for (of, split) in splits.iter().skip(first).take(2 * SPLITS) {
        let is_known = chosen.iter().any(|(_, known)| known.number == split.number);
        if !is_known && split.members != rows && chosen.len() < SPLITS {
            chosen.push((*of, *split));
        }
    }
    chosen
}
