//! What a column sees of the others in its row: the *present* and *base* cells of FORMAT.md section 8.

use crate::format::value::Tag;
use crate::state::change_set::{BlockStep, ColumnPatch, for_each_block};
use crate::state::schema::{PathId, ShapeId};
use crate::state::table::{Cell, Cells, Table};

/// The tag of a cell that is not there.
pub(crate) const MISSING: Tag = 255;
const NO_CELL: Cell = Cell { tag: MISSING, word: 0 };

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
}

/// The cells of several columns, each in rows of its own; those of one row are fetched together. The number of a
/// column if it lacks one. The caller has checked that the cells fit into memory.
pub(crate) fn gather_all(table: &Table, paths: &[PathId], lists: &[&[u32]]) -> Result<Vec<Cells>, usize> {
    let mut gathers: Vec<ColumnGather<'_>> =
        paths.iter().map(|path| ColumnGather::new(table, *path)).collect();
    let room = |rows: &&[u32]| Cells { tags: vec![MISSING; rows.len()], words: vec![0; rows.len()] };
    let mut all: Vec<Cells> = lists.iter().map(room).collect();
    let mut lacking = None;
    for_each_block(lists, |step| {
        let (at, part) = match step {
            BlockStep::Ahead(rows, cells) => return table.touch(rows, cells),
            BlockStep::Part(at, part) => (at, part),
        };
        let Cells { tags, words } = &mut all[at];
        let places = tags[part.clone()].iter_mut().zip(&mut words[part.clone()]);
        for (row, (tag, word)) in lists[at][part].iter().zip(places) {
            match gathers[at].cell(*row) {
                Some(cell) => (*tag, *word) = (cell.tag, cell.word),
                None => lacking = Some(at),
            }
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
