//! What a column sees of the others in its row: the *present* and *base* cells of FORMAT.md section 8.

use crate::encoding::row_places::RowPlaces;
use crate::format::number::value;
use crate::format::tag::{Tag, tag};
use crate::state::change_set::ColumnPatch;
use crate::state::row_blocks::{BlockStep, for_each_block};
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

/// The place of a row that a list does not have.
const ABSENT: u32 = u32::MAX;
/// Rows are looked up one by one in a list that is so many times as long.
const LONG: usize = 16;

/// Where rows stand in a list, or `ABSENT`; both ascend.
struct Places {
    /// So many that a sample takes no allocation.
    few: [u32; Places::FEW],
    all: Vec<u32>,
    n: usize,
}

impl Places {
    const FEW: usize = 64;

    #[inline(always)]
    fn new(list: &[u32], rows: &[u32]) -> Places {
        let n = rows.len();
        let all = if n <= Places::FEW { Vec::new() } else { vec![ABSENT; n] };
        let mut places = Places { few: [ABSENT; Places::FEW], all, n };
        find_places(list, rows, if n <= Places::FEW { &mut places.few[..n] } else { &mut places.all });
        places
    }

    #[inline(always)]
    fn get(&self, i: usize) -> Option<usize> {
        let at = self.as_slice()[i];
        (at != ABSENT).then_some(at as usize)
    }

    #[inline(always)]
    fn as_slice(&self) -> &[u32] {
        if self.n <= Places::FEW { &self.few[..self.n] } else { &self.all }
    }
}

// by itself, so that all of the loop fits into registers
#[inline(never)]
fn find_places(list: &[u32], rows: &[u32], places: &mut [u32]) {
    if rows.len() * LONG < list.len() {
        for (row, place) in rows.iter().zip(places) {
            *place = list.binary_search(row).map_or(ABSENT, |at| at as u32);
        }
        return;
    }
    let mut at = 0;
    for (row, place) in rows.iter().zip(places) {
        while at < list.len() && list[at] < *row {
            at += 1;
        }
        if list.get(at) == Some(row) {
            *place = at as u32;
        }
    }
}

/// The numbers of the cells at these places, NaN for `ABSENT`.
fn numbers_of_places(table: &Table, cells: &Cells, places: &[u32], numbers: &mut Vec<f64>) {
    numbers.clear();
    if cells.len() <= places.len() * LONG && cells.all_have(tag::FLOAT) {
        let word = |place: &u32| cells.words.get(*place as usize);
        numbers.extend(places.iter().map(|place| word(place).map_or(f64::NAN, |word| f64::from_bits(*word))));
        return;
    }
    let number_at = |place: u32| {
        if place == ABSENT { f64::NAN } else { number(table, cells.get(place as usize)) }
    };
    numbers.extend(places.iter().map(|place| number_at(*place)));
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

/// What is known of a column: the rows that change, their new cells, and their old ones if there are any.
#[derive(Clone, Copy)]
struct Known<'a> {
    rows: &'a [u32],
    new: &'a Cells,
    old: Option<&'a Cells>,
}

/// The present and the base's cells of one column in some rows.
struct Lookup<'a> {
    gather: ColumnGather<'a>,
    /// What the column was read to be so far, and where the rows stand in it.
    known: Option<(Known<'a>, Places)>,
    /// What is not known is the base's.
    has_base: bool,
}

impl Lookup<'_> {
    /// The cell in the row at index `i`.
    #[inline(always)]
    fn present(&mut self, i: usize, row: u32) -> Cell {
        if let Some((known, places)) = &self.known
            && let Some(at) = places.get(i)
        {
            return known.new.get(at);
        }
        self.unknown(row)
    }

    #[inline(always)]
    fn present_and_base(&mut self, i: usize, row: u32) -> (Cell, Cell) {
        if let Some((known, places)) = &self.known
            && let Some(at) = places.get(i)
        {
            return (known.new.get(at), known.old.map_or(NO_CELL, |old| old.get(at)));
        }
        let cell = self.unknown(row);
        (cell, cell)
    }

    #[inline(always)]
    fn unknown(&mut self, row: u32) -> Cell {
        if self.has_base { self.gather.cell(row).unwrap_or(NO_CELL) } else { NO_CELL }
    }
}

impl<'a> RowView<'a> {
    fn known(&self, path: PathId) -> Option<Known<'a>> {
        let at = path as usize;
        if self.done.get(at) != Some(&true) {
            return None;
        }
        let known = match self.side {
            Side::Updates(updates) => {
                let ColumnPatch { rows, old, new } = updates.get(at)?;
                Known { rows, new, old: Some(old) }
            }
            Side::Inserts(inserts) => {
                let Inserts { rows, cells } = inserts.get(at)?;
                Known { rows, new: cells, old: None }
            }
        };
        Some(known).filter(|known| !known.rows.is_empty())
    }

    #[inline(always)]
    fn lookup(&self, path: PathId, rows: &[u32]) -> Lookup<'a> {
        let known = self.known(path).map(|known| (known, Places::new(known.rows, rows)));
        Lookup { known, ..self.lookup_in_base(path) }
    }

    /// Nothing is known of the column but what the base has.
    #[inline(always)]
    fn lookup_in_base(&self, path: PathId) -> Lookup<'a> {
        let has_base = matches!(self.side, Side::Updates(_));
        Lookup { gather: ColumnGather::new(self.table, path), known: None, has_base }
    }

    /// Calls `take` for each row with the present and the base cell of another column.
    #[inline(always)]
    pub(crate) fn visit(&self, path: PathId, rows: &[u32], mut take: impl FnMut(usize, Cell, Cell)) {
        let mut lookup = self.lookup(path, rows);
        for (i, row) in rows.iter().enumerate() {
            let (now, before) = lookup.present_and_base(i, *row);
            take(i, now, before);
        }
    }

    /// The numbers of another column in these rows: present, and, if they are wanted, the base's.
    pub(crate) fn numbers(&self, path: PathId, rows: &[u32], with_base: bool) -> (Vec<f64>, Vec<f64>) {
        if let Some(Known { new, old, .. }) = self.known(path).filter(|known| known.rows == rows)
            && (old.is_some() || !with_base)
        {
            let old = old.filter(|_| with_base);
            return (
                numbers_of(self.table, new),
                old.map(|old| numbers_of(self.table, old)).unwrap_or_default(),
            );
        }
        let mut present = Vec::with_capacity(rows.len());
        let mut base = Vec::with_capacity(if with_base { rows.len() } else { 0 });
        self.numbers_into(path, rows, with_base, &mut present, &mut base);
        (present, base)
    }

    /// As `numbers`, in place of what is there. It pays for many rows; for the few of a sample, `numbers_by` does.
    fn numbers_into(
        &self,
        path: PathId,
        rows: &[u32],
        with_base: bool,
        present: &mut Vec<f64>,
        base: &mut Vec<f64>,
    ) {
        let Lookup { mut gather, known, has_base } = self.lookup(path, rows);
        let places = known.as_ref().map(|(_, places)| places.as_slice());
        base.clear();
        match &known {
            Some((Known { new, old, .. }, places)) => {
                numbers_of_places(self.table, new, places.as_slice(), present);
                if let Some(old) = old.filter(|_| with_base) {
                    numbers_of_places(self.table, old, places.as_slice(), base);
                }
            }
            None => {
                present.clear();
                present.resize(rows.len(), f64::NAN);
            }
        }
        if with_base {
            base.resize(rows.len(), f64::NAN);
        }
        if !has_base || places.is_some_and(|places| !places.contains(&ABSENT)) {
            return;
        }
        for (i, row) in rows.iter().enumerate() {
            if places.is_none_or(|places| places[i] == ABSENT) {
                let number = gather.cell(*row).map_or(f64::NAN, |cell| number(self.table, cell));
                present[i] = number;
                if with_base {
                    base[i] = number;
                }
            }
        }
    }

    /// As `numbers` with the base's, into what is there; `places` are those of the column.
    pub(crate) fn numbers_by(
        &self,
        (path, places): (PathId, &RowPlaces<'_>),
        rows: &[u32],
        present: &mut [f64],
        base: &mut [f64],
    ) {
        let known = self.known(path);
        let mut lookup = self.lookup_in_base(path);
        let of = |cell: Cell| number(self.table, cell);
        for (row, (now, before)) in rows.iter().zip(present.iter_mut().zip(base)) {
            if let Some(Known { new, old, .. }) = known
                && let Some(at) = places.find(*row)
            {
                (*now, *before) = (of(new.get(at)), old.map_or(f64::NAN, |old| of(old.get(at))));
            } else {
                *now = of(lookup.unknown(*row));
                *before = *now;
            }
        }
    }

    /// Where rows stand in the list of a column.
    pub(crate) fn places(&self, path: PathId) -> RowPlaces<'a> {
        RowPlaces::new(self.known(path).map_or(&[], |known| known.rows))
    }

    /// The present cell of another column in one row, which is listed `near` that place if it is.
    pub(crate) fn present_cell(&self, path: PathId, row: u32, near: usize) -> Cell {
        let found = self.known(path).and_then(|Known { rows, new, .. }| {
            // columns mostly change in the same rows
            let at = if rows.get(near) == Some(&row) { Ok(near) } else { rows.binary_search(&row) };
            at.ok().map(|at| new.get(at))
        });
        let of_base = || match self.side {
            Side::Updates(_) => self.table.cell(row as usize, path),
            Side::Inserts(_) => None,
        };
        found.or_else(of_base).unwrap_or(NO_CELL)
    }

    /// The present cells of another column in these rows.
    pub(crate) fn present(&self, path: PathId, rows: &[u32]) -> Cells {
        let mut lookup = self.lookup(path, rows);
        let mut now = Cells::unset(rows.len());
        for (i, (row, (tag, word))) in rows.iter().zip(now.iter_mut()).enumerate() {
            let cell = lookup.present(i, *row);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_that_a_search_for_each_row_finds() {
        let every = |step: usize, from: u32| (from..3000).step_by(step).collect::<Vec<u32>>();
        let lists = [vec![], vec![0], vec![2999], every(1, 0), every(3, 1), every(7, 2), every(500, 40)];
        for (list, rows) in lists.iter().flat_map(|list| lists.iter().map(move |rows| (list, rows))) {
            let places = Places::new(list, rows);
            let found: Vec<Option<usize>> = (0..rows.len()).map(|i| places.get(i)).collect();
            let searched: Vec<Option<usize>> = rows.iter().map(|row| list.binary_search(row).ok()).collect();
            assert_eq!(found, searched);
        }
    }
}
