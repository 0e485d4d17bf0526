//! Change set -> body.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::encoding::encode::{self as cells, Column};
use crate::encoding::formula_search::Search;
use crate::encoding::predictor::Predictor;
use crate::encoding::row_view::{Inserts, Side, View};
use crate::format::column_flag::{INSERTS, UPDATES};
use crate::format::section;
use crate::format::value::{Tag, tag, write_plain};
use crate::format::writer::Writer;
use crate::frame::paths::Nodes;
use crate::frame::row_order;
use crate::frame::row_sets::SetWriter;
use crate::state::change_set::{ChangeSet, Record, Updates};
use crate::state::schema::{PathId, ShapeId};
use crate::state::table::{Cells, Table};

/// Columns with at most this many cells go row by row.
const LOOSE: usize = 4;

/// Formulas found in earlier frames, by path: tried first, so that the search is not made for every frame.
pub type Hints = HashMap<PathId, Predictor>;

/// So many columns are looked at for what repeats or explains another: records with thousands of fields stay linear.
const CANDIDATES: usize = 96;

/// Cells and pairs of columns that the search for formulas may look at in one frame: some ten times what a market takes.
const EFFORT: usize = 400_000;

/// The records that bring inserted cells: reshaped, then added ones.
fn records<'a>(
    table: &'a Table,
    changes: &'a ChangeSet,
) -> impl Iterator<Item = (Option<ShapeId>, Record)> + 'a {
    let reshaped = changes.reshaped.iter();
    let reshaped = reshaped.map(|(row, record)| (Some(table.rows[*row as usize].shape), *record));
    reshaped.chain(changes.added.iter().map(|added| (None, added.record)))
}

/// A column with so many inserts will have one in most added rows. Room for all at once would be rows x columns.
const COMMON: usize = 64;

fn collect_inserts(table: &Table, changes: &ChangeSet) -> Vec<Inserts> {
    let mut inserts: Vec<Inserts> = Vec::new();
    inserts.resize_with(table.names.paths.len(), Inserts::default);
    for (number, (old_shape, record)) in (0..).zip(records(table, changes)) {
        let shape = &table.names.shapes[record.shape as usize];
        for (position, path) in shape.paths.iter().enumerate() {
            if old_shape.is_some_and(|old| table.names.shapes[old as usize].position(*path).is_some()) {
                continue;
            }
            let column = &mut inserts[*path as usize];
            let n = column.rows.len();
            if n >= COMMON && n == column.rows.capacity() {
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
struct Listed {
    path: PathId,
    updates: bool,
    inserts: bool,
}

struct Body<'a> {
    table: &'a Table,
    changes: &'a ChangeSet,
    base_rows: usize,
    inserts: Vec<Inserts>,
    /// Nodes are numbered as they turn out to be needed.
    nodes: RefCell<Nodes<'a>>,
}

/// The body of a frame that leads from the table's state (or, with `base_rows` 0, from nothing) to the next.
pub fn write(table: &Table, changes: &ChangeSet, base_rows: usize, hints: &mut Hints) -> Vec<u8> {
    let body = Body {
        table,
        changes,
        base_rows,
        inserts: collect_inserts(table, changes),
        nodes: RefCell::new(Nodes::new(&table.names)),
    };
    let rows = body.rows();
    let shapes = body.shapes();
    let listed = body.list();
    let loose = body.loose(&listed);
    let (sets, columns) = body.columns(&listed, hints);
    let mut order = Writer::default();
    let mut node = |path| body.node(path);
    row_order::write(&mut order, table, changes, base_rows, &mut node);
    let mut paths = Writer::default();
    body.nodes.borrow().write(&mut paths);

    let mut w = Writer::default();
    for (id, contents) in [
        (section::ROWS, rows),
        (section::PATHS, paths),
        (section::SHAPES, shapes),
        (section::SETS, sets),
        (section::LOOSE, loose),
        (section::COLUMNS, columns),
        (section::ORDER, order),
    ] {
        w.section(id, &contents.bytes);
    }
    w.bytes
}

impl Body<'_> {
    fn node(&self, path: PathId) -> u64 {
        self.nodes.borrow_mut().of(path)
    }

    fn rows(&self) -> Writer {
        let mut w = Writer::default();
        w.size(self.base_rows);
        w.counted_gaps(&self.changes.removed);
        w.size(self.changes.added.len());
        w.strings(self.changes.added.iter().map(|added| &*added.symbol));
        w
    }

    fn shapes(&self) -> Writer {
        let mut w = Writer::default();
        let changes = self.changes;
        if changes.reshaped.is_empty() && changes.added.is_empty() {
            return w;
        }
        let mut numbers = vec![u64::MAX; self.table.names.shapes.len()];
        let mut shapes: Vec<ShapeId> = Vec::new();
        for (_, record) in records(self.table, changes) {
            let number = &mut numbers[record.shape as usize];
            if *number == u64::MAX {
                *number = shapes.len() as u64;
                shapes.push(record.shape);
            }
        }
        w.size(shapes.len());
        for shape in shapes {
            let paths = &self.table.names.shapes[shape as usize].paths;
            w.size(paths.len());
            let mut last = -1;
            for path in paths {
                let node = self.node(*path) as i64;
                w.sv(node - last - 1);
                last = node;
            }
        }
        w.size(changes.reshaped.len());
        w.gaps(changes.reshaped.iter().map(|(row, _)| *row));
        for (_, record) in &changes.reshaped {
            w.uv(numbers[record.shape as usize]);
        }
        for run in changes.added.chunk_by(|a, b| a.record.shape == b.record.shape) {
            w.uv(numbers[run[0].record.shape as usize]);
            w.size(run.len());
        }
        w
    }

    fn updates(&self, path: PathId) -> Option<&Updates> {
        self.changes.updates.get(path as usize).filter(|column| !column.rows.is_empty())
    }

    /// The columns with more than a few cells, in the order of their paths.
    fn list(&self) -> Vec<Listed> {
        let paths = 0..self.table.names.paths.len() as PathId;
        paths
            .map(|path| Listed {
                path,
                updates: self.updates(path).is_some_and(|column| column.rows.len() > LOOSE),
                inserts: self.inserts[path as usize].rows.len() > LOOSE,
            })
            .filter(|listed| listed.updates || listed.inserts)
            .collect()
    }

    fn loose(&self, listed: &[Listed]) -> Writer {
        let mut w = Writer::default();
        let mut in_columns = vec![(false, false); self.table.names.paths.len()];
        for column in listed {
            in_columns[column.path as usize] = (column.updates, column.inserts);
        }
        let mut updates = Vec::new();
        for (path, column) in (0..).zip(&self.changes.updates) {
            if !in_columns[path as usize].0 {
                let node = if column.rows.is_empty() { 0 } else { self.node(path) };
                let cells = column.rows.iter().zip(column.new.iter());
                updates.extend(cells.map(|(row, cell)| (*row, node, cell)));
            }
        }
        updates.sort_unstable_by_key(|(row, node, _)| (*row, *node));
        let inserted = self.loose_inserts(&in_columns);
        if updates.is_empty() && inserted.is_empty() {
            return w;
        }
        w.size(updates.len());
        let mut last = 0;
        for (row, _, _) in &updates {
            w.uv(u64::from(row - last));
            last = *row;
        }
        for (_, node, _) in &updates {
            w.uv(*node);
        }
        let cells = updates.iter().map(|(_, _, cell)| *cell);
        for cell in cells.chain(inserted.iter()) {
            write_plain(&mut w, cell.tag, self.table.payload(cell));
        }
        w
    }

    fn loose_inserts(&self, in_columns: &[(bool, bool)]) -> Cells {
        let mut cells = Cells::default();
        let has_loose = self.inserts.iter().zip(in_columns).any(|(i, c)| !i.rows.is_empty() && !c.1);
        if !has_loose {
            return cells;
        }
        for (old_shape, record) in records(self.table, self.changes) {
            let shapes = &self.table.names.shapes;
            for (position, path) in shapes[record.shape as usize].paths.iter().enumerate() {
                let stays = old_shape.is_some_and(|old| shapes[old as usize].position(*path).is_some());
                if !stays && !in_columns[*path as usize].1 {
                    cells.push(self.changes.cells.get(record.start + position));
                }
            }
        }
        cells
    }

    fn columns(&self, listed: &[Listed], hints: &mut Hints) -> (Writer, Writer) {
        let (mut sets, mut w) = (Writer::default(), Writer::default());
        if listed.is_empty() {
            return (sets, w);
        }
        let mut set_writer = SetWriter::default();
        let handles: Vec<usize> = listed
            .iter()
            .map(|column| match self.updates(column.path) {
                Some(updates) if column.updates => set_writer.add(&updates.rows),
                _ => 0,
            })
            .collect();
        let numbers = set_writer.write(&mut sets, self.base_rows);
        w.size(listed.len());
        let mut last = -1;
        let mut coder = Coder::new(self, listed);
        let mut put = |w: &mut Writer, coder: &mut Coder, at: usize, formula: Option<Predictor>| {
            let column = &listed[at];
            let node = self.node(column.path) as i64;
            w.sv(node - last - 1);
            last = node;
            w.u8(u8::from(column.updates) * UPDATES + u8::from(column.inserts) * INSERTS);
            if column.updates {
                w.uv(numbers[handles[at]]);
            }
            w.text(&coder.column(self, column, formula).bytes);
        };
        // what is costly by itself waits for the columns that it may be worked out from
        let mut left: Vec<Waiting> = Vec::new();
        for (at, column) in listed.iter().enumerate() {
            if coder.is_costly(self, column) {
                let search = coder.search(self, column);
                left.push(Waiting { at, search, formula: None, written: false });
            } else {
                put(&mut w, &mut coder, at, None);
            }
        }
        left.sort_by_key(|waiting| self.cells_of(&listed[waiting.at]));
        let mut known = coder.operands(self, listed);
        // a round costs the columns that are searched for, not those that tell nothing
        let mut searched: Vec<usize> = (0..left.len()).filter(|i| left[*i].search.is_some()).collect();
        let mut first = 0;
        while first < left.len() {
            for &i in &searched {
                let waiting = &mut left[i];
                let column = &listed[waiting.at];
                waiting.formula = coder.find(self, column, &mut waiting.search, &known, hints);
                if let Some(formula) = waiting.formula {
                    hints.insert(column.path, formula);
                }
            }
            // all that were found; if none was, the shortest goes by itself, and if all is tried that may be, everything
            let over = coder.effort == 0;
            let mut taken: Vec<usize> = if over {
                (first..left.len()).filter(|i| !left[*i].written).collect()
            } else {
                searched.iter().copied().filter(|i| left[*i].formula.is_some()).collect()
            };
            if taken.is_empty() {
                taken.push(first);
            }
            known.clear();
            for i in taken {
                let waiting = &mut left[i];
                put(&mut w, &mut coder, waiting.at, waiting.formula);
                known.push(listed[waiting.at].path);
                waiting.written = true;
            }
            searched.retain(|i| !left[*i].written);
            while left.get(first).is_some_and(|waiting| waiting.written) {
                first += 1;
            }
        }
        (sets, w)
    }

    fn cells_of(&self, listed: &Listed) -> usize {
        let updates = self.updates(listed.path).map_or(0, |column| column.rows.len());
        updates + self.inserts[listed.path as usize].rows.len()
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
struct Coder {
    updates_done: Vec<bool>,
    inserts_done: Vec<bool>,
    update_candidates: Candidates,
    insert_candidates: Candidates,
    /// What the search for formulas may still cost in this frame.
    effort: usize,
}

impl Coder {
    fn new(body: &Body<'_>, listed: &[Listed]) -> Coder {
        // what is loose is there from the start
        let mut updates_done = vec![true; body.table.names.paths.len()];
        let mut inserts_done = updates_done.clone();
        for column in listed {
            updates_done[column.path as usize] = !column.updates;
            inserts_done[column.path as usize] = !column.inserts;
        }
        Coder {
            updates_done,
            inserts_done,
            update_candidates: Candidates::default(),
            insert_candidates: Candidates::default(),
            effort: EFFORT,
        }
    }

    fn column(&mut self, body: &Body<'_>, listed: &Listed, formula: Option<Predictor>) -> Writer {
        let mut w = Writer::default();
        let path = listed.path as usize;
        if listed.updates {
            self.with(body, listed, Part::Updates, formula, |column| cells::write(&mut w, column));
            self.updates_done[path] = true;
            self.update_candidates.push(listed.path, body.changes.updates[path].new.tags[0]);
        }
        if listed.inserts {
            self.with(body, listed, Part::Inserts, formula, |column| cells::write(&mut w, column));
            self.inserts_done[path] = true;
            self.insert_candidates.push(listed.path, body.inserts[path].cells.tags[0]);
        }
        w
    }

    /// The column's updates or inserts as they are coded now.
    fn with<T>(
        &self,
        body: &Body<'_>,
        listed: &Listed,
        part: Part,
        formula: Option<Predictor>,
        then: impl FnOnce(&Column<'_>) -> T,
    ) -> T {
        let node = |path: PathId| body.node(path);
        let (table, path) = (body.table, listed.path as usize);
        match part {
            Part::Updates => {
                let Updates { rows, old, new } = &body.changes.updates[path];
                let view =
                    View { table, side: Side::Updates(&body.changes.updates), done: &self.updates_done };
                let candidates = self.update_candidates.latest(new.tags[0]);
                then(&Column {
                    cells: new,
                    old: Some(old),
                    rows,
                    view,
                    candidates: &candidates,
                    formula,
                    node: &node,
                })
            }
            Part::Inserts => {
                let Inserts { rows, cells } = &body.inserts[path];
                let view = View { table, side: Side::Inserts(&body.inserts), done: &self.inserts_done };
                let candidates = self.insert_candidates.latest(cells.tags[0]);
                let formula = formula.filter(|predictor| !predictor.needs_old());
                then(&Column { cells, old: None, rows, view, candidates: &candidates, formula, node: &node })
            }
        }
    }

    fn main_part(listed: &Listed) -> Part {
        if listed.updates { Part::Updates } else { Part::Inserts }
    }

    fn is_costly(&self, body: &Body<'_>, listed: &Listed) -> bool {
        self.with(body, listed, Self::main_part(listed), None, cells::is_costly)
    }

    /// The search for a column's formula.
    fn search(&self, body: &Body<'_>, listed: &Listed) -> Option<Search> {
        self.with(body, listed, Self::main_part(listed), None, |column| {
            Search::new(column.cells, column.old, column.rows)
        })
    }

    /// A formula of an earlier frame, or one that the newly known columns make possible.
    fn find(
        &mut self,
        body: &Body<'_>,
        listed: &Listed,
        search: &mut Option<Search>,
        known: &[PathId],
        hints: &Hints,
    ) -> Option<Predictor> {
        let search = search.as_mut()?;
        let mut effort = self.effort;
        let found = self.with(body, listed, Self::main_part(listed), None, |column| {
            let view = &column.view;
            let hint = hints.get(&listed.path).copied();
            let ready =
                |hint: &Predictor| hint.operands().all(|path| view.done.get(path as usize) == Some(&true));
            let served = hint.filter(ready).filter(|hint| search.serves(*hint, view));
            served.or_else(|| {
                known.iter().filter(|path| **path != listed.path).find_map(|path| {
                    effort = effort.saturating_sub(search.effort());
                    if effort == 0 { None } else { search.add(*path, view) }
                })
            })
        });
        self.effort = effort;
        found
    }

    /// The columns that the reader has so far: those listed, and for updates all that do not change in this frame.
    fn operands(&self, body: &Body<'_>, listed: &[Listed]) -> Vec<PathId> {
        let updated = listed.iter().find(|column| column.updates);
        let row = updated.and_then(|column| body.changes.updates[column.path as usize].rows.first());
        match row {
            None => self.insert_candidates.first.clone(),
            Some(row) => {
                let shape = body.table.rows[*row as usize].shape;
                let paths = body.table.names.shapes[shape as usize].paths.iter().copied();
                paths.filter(|path| self.updates_done[*path as usize]).take(CANDIDATES).collect()
            }
        }
    }
}

/// A costly column that waits for others.
struct Waiting {
    at: usize,
    search: Option<Search>,
    formula: Option<Predictor>,
    written: bool,
}

enum Part {
    Updates,
    Inserts,
}
