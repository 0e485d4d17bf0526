//! What a column sees of the others in its row: the *present* and *base* cells of FORMAT.md section 8.

use crate::format::number::value;
use crate::format::tag::{Tag, tag};
use crate::state::change_set::{BlockStep, ColumnPatch, for_each_block};
use crate::state::schema::{PathId, ShapeId};
use crate::state::table::{Cell, Cells, Table};

/// The tag of a cell that is not there.
pub(crate) const MISSING: Tag = 255;
const NO_CELL: Cell = Cell { tag: MISSING, word: 0 };

/// The value of a cell of the table, NaN where there is none.
#[inline(always)]
pub(crate) fn number(table: &Table, cell: Cell) -> f64 {
    match cell.tag {
        tag::FLOAT => f64::from_bits(cell.word),
        tag::INT => cell.word as i64 as f64,
        MISSING => f64::NAN,
        tag => value(tag, table.payload(cell)),
    }
}

/// The values of cells.
pub(crate) fn numbers_of(table: &Table, cells: &Cells) -> Vec<f64> {
    if cells.tags.iter().all(|tag| *tag == tag::FLOAT) {
        return cells.words.iter().map(|word| f64::from_bits(*word)).collect();
    }
    let pairs = cells.tags.iter().zip(&cells.words);
    pairs.map(|(tag, word)| number(table, Cell { tag: *tag, word: *word })).collect()
}

/// The inserted cells of one column; `rows` are numbers of reshaped, then added records.
#[derive(Default)]
pub(crate) struct Inserts {
    pub(crate) rows: Vec<u32>,
    pub(crate) cells: Cells,
}

#[derive(Clone, Copy)]
pub(crate) enum Side<'a> {
    /// Updates by path.
    Updates(&'a [ColumnPatch]),
    /// Inserts by path.
    Inserts(&'a [Inserts]),
}

#[derive(Clone, Copy)]
pub(crate) struct RowView<'a> {
    pub(crate) table: &'a Table,
    pub(crate) side: Side<'a>,
    /// By path: the column is already listed, or sparse.
    pub(crate) done: &'a [bool],
}

/// Finds ascending rows in an ascending list: all at once, by bisection, or by one pass.
#[inline(always)]
fn join(list: &[u32], wanted: &[u32], mut found: impl FnMut(usize, Option<usize>)) {
    if list == wanted {
        (0..wanted.len()).for_each(|i| found(i, Some(i)));
        return;
    }
    if wanted.len() * 16 < list.len() {
        for (i, row) in wanted.iter().enumerate() {
            found(i, list.binary_search(row).ok());
        }
        return;
    }
    let mut at = 0;
    for (i, row) in wanted.iter().enumerate() {
        while list.get(at).is_some_and(|other| other < row) {
            at += 1;
        }
        found(i, (list.get(at) == Some(row)).then_some(at));
    }
}

/// Cells of one column in rows that mostly share their shape.
struct ColumnGather<'a> {
    table: &'a Table,
    path: PathId,
    last: (ShapeId, Option<usize>),
}

impl<'a> ColumnGather<'a> {
    fn new(table: &'a Table, path: PathId) -> Self {
        ColumnGather { table, path, last: (ShapeId::MAX, None) }
    }

    #[inline(always)]
    fn cell(&mut self, row: u32) -> Option<Cell> {
        let row = &self.table.rows[row as usize];
        if row.shape != self.last.0 {
            let shape = &self.table.schema.shapes[row.shape as usize];
            self.last = (row.shape, shape.position(self.path));
        }
        self.last.1.map(|position| row.cell(position))
    }

    /// Appends the cells of these rows. False if one is not there.
    // by itself, so that all of the loop fits into registers
    #[inline(never)]
    fn append(&mut self, rows: &[u32], cells: &mut Cells) -> bool {
        let mut has_all = true;
        for (row, (tag, word)) in rows.iter().zip(cells.append(rows.len())) {
            match self.cell(*row) {
                Some(cell) => (*tag, *word) = (cell.tag, cell.word),
                None => has_all = false,
            }
        }
        has_all
    }
}

/// The cells of several columns, each in rows of its own; those of one row are fetched together. The number of a
/// column if it lacks one. The caller has checked that the cells fit into memory.
pub(crate) fn gather_all(table: &Table, paths: &[PathId], lists: &[&[u32]]) -> Result<Vec<Cells>, usize> {
    let mut gathers: Vec<ColumnGather<'_>> =
        paths.iter().map(|path| ColumnGather::new(table, *path)).collect();
    let mut all: Vec<Cells> = Vec::new();
    all.resize_with(lists.len(), Cells::default);
    all.iter_mut().zip(lists).for_each(|(cells, rows)| cells.reserve(rows.len()));
    let mut lacking = None;
    for_each_block(lists, |step| {
        let (at, part) = match step {
            BlockStep::Ahead(rows, cells) => return table.touch(rows, cells),
            BlockStep::Part(at, part) => (at, part),
        };
        // the parts of a list come in its order
        if !gathers[at].append(&lists[at][part], &mut all[at]) {
            lacking = Some(at);
        }
    });
    match lacking {
        None => Ok(all),
        Some(at) => Err(at),
    }
}

impl RowView<'_> {
    /// Calls `take` for each row with the present and the base cell of another column.
    #[inline(always)]
    pub(crate) fn visit(&self, path: PathId, rows: &[u32], mut take: impl FnMut(usize, Cell, Cell)) {
        let done = self.done.get(path as usize) == Some(&true);
        match self.side {
            Side::Updates(updates) => {
                match updates.get(path as usize).filter(|column| done && !column.rows.is_empty()) {
                    None => {
                        let mut gather = ColumnGather::new(self.table, path);
                        for (i, row) in rows.iter().enumerate() {
                            let cell = gather.cell(*row).unwrap_or(NO_CELL);
                            take(i, cell, cell);
                        }
                    }
                    Some(column) => {
                        let mut gather = ColumnGather::new(self.table, path);
                        join(&column.rows, rows, |i, at| match at {
                            Some(at) => take(i, column.new.get(at), column.old.get(at)),
                            None => {
                                let cell = gather.cell(rows[i]).unwrap_or(NO_CELL);
                                take(i, cell, cell);
                            }
                        });
                    }
                }
            }
            Side::Inserts(inserts) => match inserts.get(path as usize).filter(|_| done) {
                None => (0..rows.len()).for_each(|i| take(i, NO_CELL, NO_CELL)),
                Some(column) => join(&column.rows, rows, |i, at| {
                    let cell = at.map_or(NO_CELL, |at| column.cells.get(at));
                    take(i, cell, NO_CELL);
                }),
            },
        }
    }

    /// The numbers of another column in these rows: present, and, if they are wanted, the base's.
    pub(crate) fn numbers(&self, path: PathId, rows: &[u32], with_base: bool) -> (Vec<f64>, Vec<f64>) {
        if let Side::Updates(updates) = self.side
            && self.done.get(path as usize) == Some(&true)
            && let Some(column) = updates.get(path as usize)
            && column.rows == rows
        {
            let base = if with_base { numbers_of(self.table, &column.old) } else { Vec::new() };
            return (numbers_of(self.table, &column.new), base);
        }
        let mut present = Vec::with_capacity(rows.len());
        let mut base = Vec::with_capacity(if with_base { rows.len() } else { 0 });
        self.numbers_into(path, rows, with_base, &mut present, &mut base);
        (present, base)
    }

    /// As `numbers`, in place of what is there.
    pub(crate) fn numbers_into(
        &self,
        path: PathId,
        rows: &[u32],
        with_base: bool,
        present: &mut Vec<f64>,
        base: &mut Vec<f64>,
    ) {
        present.clear();
        base.clear();
        self.visit(path, rows, |_, now, before| {
            present.push(number(self.table, now));
            if with_base {
                base.push(number(self.table, before));
            }
        });
    }

    /// The present cell of another column in one row, which is listed `near` that place if it is.
    pub(crate) fn present_cell(&self, path: PathId, row: u32, near: usize) -> Cell {
        let done = self.done.get(path as usize) == Some(&true);
        let found = |rows: &[u32], cells: &Cells| {
            // columns mostly change in the same rows
            let at = if rows.get(near) == Some(&row) { Ok(near) } else { rows.binary_search(&row) };
            at.ok().map(|at| cells.get(at))
        };
        match self.side {
            Side::Updates(updates) => {
                let column = updates.get(path as usize).filter(|_| done);
                let new = column.and_then(|column| found(&column.rows, &column.new));
                new.or_else(|| self.table.cell(row as usize, path)).unwrap_or(NO_CELL)
            }
            Side::Inserts(inserts) => {
                let column = inserts.get(path as usize).filter(|_| done);
                column.and_then(|column| found(&column.rows, &column.cells)).unwrap_or(NO_CELL)
            }
        }
    }

    /// The present cells of another column in these rows.
    pub(crate) fn present(&self, path: PathId, rows: &[u32]) -> Cells {
        let mut now = Cells::default();
        now.reserve(rows.len());
        self.visit(path, rows, |_, present, _| now.push(present));
        now
    }

    /// The present and the base's cells of another column in these rows.
    pub(crate) fn present_and_base(&self, path: PathId, rows: &[u32]) -> (Cells, Cells) {
        let (mut now, mut before) = (Cells::default(), Cells::default());
        now.reserve(rows.len());
        before.reserve(rows.len());
        self.visit(path, rows, |_, present, base| {
            now.push(present);
            before.push(base);
        });
        (now, before)
    }
}
