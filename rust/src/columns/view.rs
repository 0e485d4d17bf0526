//! What a column sees of the others in its row: the *present* and *base* cells of FORMAT.md section 8.

use crate::format::value::Tag;
use crate::table::changes::Updates;
use crate::table::names::{PathId, ShapeId};
use crate::table::{Cells, Table};

/// The tag of a cell that is not there.
pub const MISSING: Tag = 255;

/// The inserted cells of one column; `rows` are numbers of reshaped, then added records.
#[derive(Default)]
pub struct Inserts {
    pub rows: Vec<u32>,
    pub cells: Cells,
}

#[derive(Clone, Copy)]
pub enum Side<'a> {
    /// Updates by path.
    Updates(&'a [Updates]),
    /// Inserts by path.
    Inserts(&'a [Inserts]),
}

#[derive(Clone, Copy)]
pub struct View<'a> {
    pub table: &'a Table,
    pub side: Side<'a>,
    /// By path: the column is already listed, or loose.
    pub done: &'a [bool],
}

/// Finds ascending rows in an ascending list, by one pass or by bisection.
fn join(list: &[u32], wanted: &[u32], mut found: impl FnMut(usize, Option<usize>)) {
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

impl View<'_> {
    fn is_done(&self, path: PathId) -> bool {
        self.done.get(path as usize) == Some(&true)
    }

    /// The present cells of another column in these rows.
    pub fn present(&self, path: PathId, rows: &[u32]) -> Cells {
        self.present_over(&self.base(path, rows), path, rows)
    }

    /// The same, where the base's cells are known.
    pub fn present_over(&self, base: &Cells, path: PathId, rows: &[u32]) -> Cells {
        let mut cells = base.clone();
        if !self.is_done(path) {
            return cells;
        }
        let mut put = |list: &[u32], new: &Cells| {
            join(list, rows, |i, at| {
                if let Some(at) = at {
                    cells.set(i, new.get(at));
                }
            });
        };
        match self.side {
            Side::Updates(updates) => {
                if let Some(column) = updates.get(path as usize) {
                    put(&column.rows, &column.new);
                }
            }
            Side::Inserts(inserts) => {
                if let Some(column) = inserts.get(path as usize) {
                    put(&column.rows, &column.cells);
                }
            }
        }
        cells
    }

    /// The base's cells of another column in these rows.
    pub fn base(&self, path: PathId, rows: &[u32]) -> Cells {
        match self.side {
            Side::Inserts(_) => missing(rows.len()),
            Side::Updates(_) => {
                let (rows_of, shapes) = (&self.table.rows, &self.table.names.shapes);
                let mut cells = missing(rows.len());
                // rows mostly share their shape
                let mut last = (ShapeId::MAX, None);
                for (i, row) in rows.iter().enumerate() {
                    let row = &rows_of[*row as usize];
                    if row.shape != last.0 {
                        last = (row.shape, shapes[row.shape as usize].position(path));
                    }
                    if let Some(position) = last.1 {
                        cells.set(i, row.cell(position));
                    }
                }
                cells
            }
        }
    }
}

fn missing(n: usize) -> Cells {
    Cells { tags: vec![MISSING; n], words: vec![0; n] }
}
