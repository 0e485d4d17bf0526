//! What a column sees of the others in its row: the *present* and *base* cells of FORMAT.md section 8.

use crate::encoding::row_places::RowPlaces;
use crate::format::number::value;
use crate::format::tag::{Tag, tag};
use crate::state::change_set::{BlockStep, ColumnPatch, for_each_block};
use crate::state::schema::PathId;
use crate::state::table::{Cell, Cells, ColumnPlaces, Row, Table};

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
    if cells.all_have(tag::FLOAT) {
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

/// Finds ascending rows in an ascending list.
struct Search<'a> {
    list: &'a [u32],
    by: By<'a>,
}

enum By<'a> {
    /// One pass, which is here.
    Pass(usize),
    Bisection,
    Places(&'a RowPlaces<'a>),
}

impl<'a> Search<'a> {
    fn new(list: &'a [u32], wanted: &[u32]) -> Search<'a> {
        Search { list, by: if wanted.len() * 16 < list.len() { By::Bisection } else { By::Pass(0) } }
    }

    /// Where a row stands, if it does.
    #[inline(always)]
    fn find(&mut self, row: u32) -> Option<usize> {
        match &mut self.by {
            By::Places(places) => places.find(row),
            By::Bisection => self.list.binary_search(&row).ok(),
            By::Pass(at) => loop {
                match self.list.get(*at) {
                    Some(other) if *other < row => *at += 1,
                    Some(other) if *other == row => return Some(*at),
                    _ => return None,
                }
            },
        }
    }
}

/// Cells of one column in rows that mostly share their shape.
struct ColumnGather<'a> {
    rows: &'a [Row],
    places: ColumnPlaces<'a>,
}

impl<'a> ColumnGather<'a> {
    fn new(table: &'a Table, path: PathId) -> Self {
        ColumnGather { rows: &table.rows, places: ColumnPlaces::new(&table.schema, path) }
    }

    #[inline(always)]
    fn cell(&mut self, row: u32) -> Option<Cell> {
        let row = &self.rows[row as usize];
        let position = self.places.position(row.shape);
        Some(Cell { tag: *row.tags.get(position)?, word: *row.words.get(position)? })
    }

    /// Fetches the cells of these rows. False if one is not there.
    // by itself, so that all of the loop fits into registers
    #[inline(never)]
    fn fetch(&mut self, rows: &[u32], tags: &mut [Tag], words: &mut [u64]) -> bool {
        let mut has_all = true;
        for (row, (tag, word)) in rows.iter().zip(tags.iter_mut().zip(words)) {
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
    let mut all: Vec<Cells> = lists.iter().map(|rows| Cells::unset(rows.len())).collect();
    let mut lacking = None;
    for_each_block(lists, |step| {
        let (at, part) = match step {
            BlockStep::Ahead(rows, cells) => return table.touch(rows, cells),
            BlockStep::Part(at, part) => (at, part),
        };
        let Cells { tags, words } = &mut all[at];
        if !gathers[at].fetch(&lists[at][part.clone()], &mut tags[part.clone()], &mut words[part]) {
            lacking = Some(at);
        }
    });
    match lacking {
        None => Ok(all),
        Some(at) => Err(at),
    }
}

/// The present and the base's cells of one column, asked for row by row.
struct Lookup<'a> {
    gather: ColumnGather<'a>,
    /// What the column was read to be so far, and what it was.
    known: Option<(Search<'a>, &'a Cells, Option<&'a Cells>)>,
    /// What is not known is the base's.
    has_base: bool,
}

impl Lookup<'_> {
    #[inline(always)]
    fn present(&mut self, row: u32) -> Cell {
        match &mut self.known {
            Some((search, new, _)) => match search.find(row) {
                Some(at) => new.get(at),
                None => self.unknown(row),
            },
            None => self.unknown(row),
        }
    }

    #[inline(always)]
    fn present_and_base(&mut self, row: u32) -> (Cell, Cell) {
        if let Some((search, new, old)) = &mut self.known
            && let Some(at) = search.find(row)
        {
            return (new.get(at), old.map_or(NO_CELL, |old| old.get(at)));
        }
        let cell = self.unknown(row);
        (cell, cell)
    }

    #[inline(always)]
    fn unknown(&mut self, row: u32) -> Cell {
        if self.has_base { self.gather.cell(row).unwrap_or(NO_CELL) } else { NO_CELL }
    }
}

/// The rows of a column, its cells there and the base's.
type Known<'a> = (&'a [u32], &'a Cells, Option<&'a Cells>);

impl<'a> RowView<'a> {
    /// What a column was read to be so far, and what it was.
    #[inline]
    fn known(&self, path: PathId) -> Option<Known<'a>> {
        let at = path as usize;
        if self.done.get(at) != Some(&true) {
            return None;
        }
        match self.side {
            Side::Updates(updates) => {
                let column = updates.get(at).filter(|column| !column.rows.is_empty());
                column.map(|c| (&c.rows[..], &c.new, Some(&c.old)))
            }
            Side::Inserts(inserts) => inserts.get(at).map(|c| (&c.rows[..], &c.cells, None)),
        }
    }

    #[inline(always)]
    fn lookup(&self, path: PathId, rows: &[u32]) -> Lookup<'a> {
        self.lookup_by(path, |list| Search::new(list, rows))
    }

    #[inline(always)]
    fn lookup_by(&self, path: PathId, search: impl FnOnce(&'a [u32]) -> Search<'a>) -> Lookup<'a> {
        let known = self.known(path).map(|(list, new, old)| (search(list), new, old));
        let gather = ColumnGather::new(self.table, path);
        Lookup { gather, known, has_base: matches!(self.side, Side::Updates(_)) }
    }

    /// Calls `take` for each row with the present and the base cell of another column.
    #[inline(always)]
    pub(crate) fn visit(&self, path: PathId, rows: &[u32], mut take: impl FnMut(usize, Cell, Cell)) {
        let mut lookup = self.lookup(path, rows);
        for (i, row) in rows.iter().enumerate() {
            let (now, before) = lookup.present_and_base(*row);
            take(i, now, before);
        }
    }

    /// The numbers of another column in these rows: present, and, if they are wanted, the base's.
    pub(crate) fn numbers(&self, path: PathId, rows: &[u32], with_base: bool) -> (Vec<f64>, Vec<f64>) {
        if let Some((_, new, old)) = self.known(path).filter(|(list, ..)| *list == rows)
            && (old.is_some() || !with_base)
        {
            let old = old.filter(|_| with_base);
            return (
                numbers_of(self.table, new),
                old.map(|old| numbers_of(self.table, old)).unwrap_or_default(),
            );
        }
        let mut lookup = self.lookup(path, rows);
        let mut present = vec![f64::NAN; rows.len()];
        if !with_base {
            for (row, now) in rows.iter().zip(&mut present) {
                *now = number(self.table, lookup.present(*row));
            }
            return (present, Vec::new());
        }
        let mut base = vec![f64::NAN; rows.len()];
        self.fill(&mut lookup, rows, &mut present, &mut base);
        (present, base)
    }

    /// As `numbers` with the base's, into what is there; `places` are those of the column.
    pub(crate) fn numbers_by<'p>(
        &self,
        (path, places): (PathId, &'p RowPlaces<'p>),
        rows: &[u32],
        present: &mut [f64],
        base: &mut [f64],
    ) where
        'a: 'p,
    {
        let view: &RowView<'p> = self;
        let mut lookup = view.lookup_by(path, |list| Search { list, by: By::Places(places) });
        view.fill(&mut lookup, rows, present, base);
    }

    #[inline(always)]
    fn fill(&self, lookup: &mut Lookup<'_>, rows: &[u32], present: &mut [f64], base: &mut [f64]) {
        for (row, (now, before)) in rows.iter().zip(present.iter_mut().zip(base)) {
            let (present, base) = lookup.present_and_base(*row);
            (*now, *before) = (number(self.table, present), number(self.table, base));
        }
    }

    /// Where rows stand in the list of a column.
    pub(crate) fn places(&self, path: PathId) -> RowPlaces<'a> {
        RowPlaces::new(self.known(path).map_or(&[], |(list, ..)| list))
    }

    /// The present cell of another column in one row, which is listed `near` that place if it is.
    pub(crate) fn present_cell(&self, path: PathId, row: u32, near: usize) -> Cell {
        let found = self.known(path).and_then(|(list, cells, _)| {
            // columns mostly change in the same rows
            let at = if list.get(near) == Some(&row) { Some(near) } else { list.binary_search(&row).ok() };
            at.map(|at| cells.get(at))
        });
        let base = || match self.side {
            Side::Updates(_) => self.table.cell(row as usize, path),
            Side::Inserts(_) => None,
        };
        found.or_else(base).unwrap_or(NO_CELL)
    }

    /// The present cells of another column in these rows.
    pub(crate) fn present(&self, path: PathId, rows: &[u32]) -> Cells {
        let mut lookup = self.lookup(path, rows);
        let mut now = Cells::unset(rows.len());
        for (row, (tag, word)) in rows.iter().zip(now.iter_mut()) {
            let cell = lookup.present(*row);
            (*tag, *word) = (cell.tag, cell.word);
        }
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
