//! Reads cell streams: FORMAT.md section 8.1.

use std::borrow::Cow;

use crate::encoding::blobs;
use crate::encoding::predictor::Context;
use crate::encoding::row_view::{MISSING, View};
use crate::encoding::words;
use crate::error::Result;
use crate::format::budget::{Budget, weight_of};
use crate::format::cells::{COPY, MAX_COPIES, MIXED};
use crate::format::reader::Reader;
use crate::format::value::{Form, Payload, Tag, are_words, check_blob, form_of, is_blob, tag};
use crate::state::change_set::ChangeSet;
use crate::state::schema::PathId;
use crate::state::table::{Cell, Cells, Table};

/// One column's updates or inserts as they are read.
pub struct Column<'a> {
    pub old: Option<&'a Cells>,
    pub rows: &'a [u32],
    pub view: View<'a>,
    /// The path of each node of the frame.
    pub paths: &'a [PathId],
    /// The column's own path.
    pub path: PathId,
    /// Keys that lead to it.
    pub depth: usize,
}

/// Cells whose blobs are not yet in the pool: the word is an index into `blobs`, or a number in the pool with `COPIED`.
#[derive(Default)]
pub struct Pending<'a> {
    /// Keys that lead to the column.
    depth: usize,
    cells: Cells,
    blobs: Vec<Blob<'a>>,
}

struct Blob<'a> {
    bytes: &'a [u8],
    /// What its items are charged with.
    weight: u64,
    /// Its number, once it is in the pool.
    number: Option<u64>,
}

const COPIED: u64 = 1 << 63;

impl Pending<'_> {
    /// Puts the blobs into the pool; the change set owns them. Every cell is charged for its blob.
    pub fn settle(
        mut self,
        table: &mut Table,
        changes: &mut ChangeSet,
        budget: &mut Budget,
    ) -> Result<Cells> {
        let weight = self.cells.tags.iter().filter(|tag| !is_blob(**tag)).map(|tag| weight_of(*tag)).sum();
        budget.charge(1, weight, "bytes of Decimals")?;
        for i in 0..self.cells.len() {
            let Cell { tag, word } = self.cells.get(i);
            if !is_blob(tag) {
                continue;
            }
            let known = if word & COPIED == 0 {
                let blob = &self.blobs[word as usize];
                budget.charge_blob(blob.bytes.len(), blob.weight)?;
                blob.number
            } else {
                let bytes = table.pool.get(word & !COPIED);
                // the length first: so much is walked through at the most
                budget.charge_blob(bytes.len(), 0)?;
                budget.charge(1, check_blob(tag, bytes, self.depth)?, "bytes of lists in a cell")?;
                Some(word & !COPIED)
            };
            let cell = match known {
                Some(word) => {
                    table.pool.hold(word);
                    Cell { tag, word }
                }
                None => {
                    let blob = &mut self.blobs[word as usize];
                    let cell = table.acquire(tag, Payload::Blob(blob.bytes));
                    blob.number = Some(cell.word);
                    cell
                }
            };
            changes.own(cell);
            self.cells.set(i, cell);
        }
        Ok(self.cells)
    }

    fn put(&mut self, at: usize, cell: Cell) {
        self.cells.set(at, cell);
    }
}

/// The caller has checked that `column.rows` is within the budget.
pub fn read<'a>(r: &mut Reader<'a>, column: &Column<'_>, budget: &mut Budget) -> Result<Pending<'a>> {
    let n = column.rows.len();
    let mut pending = Pending {
        depth: column.depth,
        cells: Cells { tags: vec![tag::NONE; n], words: vec![0; n] },
        blobs: Vec::new(),
    };
    let places: Vec<u32> = (0..n as u32).collect();
    read_level(r, column, places, &mut pending, 0, budget)?;
    Ok(pending)
}

/// Reads the cells that belong at `places` of the column.
fn read_level<'a>(
    r: &mut Reader<'a>,
    column: &Column<'_>,
    places: Vec<u32>,
    pending: &mut Pending<'a>,
    copies: usize,
    budget: &mut Budget,
) -> Result<()> {
    match r.u8()? {
        COPY if copies < MAX_COPIES => {
            let node = r.up_to(column.paths.len() - 1, "node")?;
            if column.paths[node] == column.path {
                return Err(r.corrupt("a column copies itself"));
            }
            let exceptions = r.counted_gaps(places.len())?;
            let rows: Vec<u32> = places.iter().map(|at| column.rows[*at as usize]).collect();
            let present = column.view.present(column.paths[node], &rows);
            let mut left = Vec::with_capacity(exceptions.len());
            let mut exceptions = exceptions.into_iter().peekable();
            for (i, &at) in places.iter().enumerate() {
                if exceptions.next_if(|e| *e as usize == i).is_some() {
                    left.push(at);
                    continue;
                }
                let mut cell = present.get(i);
                if cell.tag == MISSING {
                    return Err(r.corrupt("a copied cell is not there"));
                }
                if is_blob(cell.tag) {
                    cell.word |= COPIED;
                }
                pending.put(at as usize, cell);
            }
            if left.is_empty() {
                return Ok(());
            }
            read_level(r, column, left, pending, copies + 1, budget)
        }
        COPY => Err(r.corrupt("copies of copies are nested too deep")),
        MIXED => {
            let tags = r.raw(places.len())?;
            let mut used = [false; tag::CELL_TAGS as usize];
            for tag in tags {
                match used.get_mut(usize::from(*tag)) {
                    Some(used) => *used = true,
                    None => return Err(r.reserved("tag", *tag)),
                }
            }
            for (tag, _) in (0..).zip(used).filter(|(_, used)| *used) {
                let part = places.iter().zip(tags).filter(|(_, t)| **t == tag);
                read_tag(r, column, tag, part.map(|(at, _)| *at).collect(), pending, budget)?;
            }
            Ok(())
        }
        tag if tag < tag::CELL_TAGS => read_tag(r, column, tag, places, pending, budget),
        code => Err(r.reserved("tag", code)),
    }
}

fn read_tag<'a>(
    r: &mut Reader<'a>,
    column: &Column<'_>,
    tag: Tag,
    places: Vec<u32>,
    pending: &mut Pending<'a>,
    budget: &mut Budget,
) -> Result<()> {
    let whole = places.len() == column.rows.len();
    match form_of(tag) {
        Form::Nothing => {
            for at in places {
                pending.put(at as usize, Cell { tag, word: 0 });
            }
        }
        Form::Blob => {
            let (entries, indices) = blobs::read(r, places.len(), budget)?;
            let first = pending.blobs.len() as u64;
            let mut named = vec![false; entries.len()];
            indices.iter().for_each(|i| named[*i as usize] = true);
            for (bytes, named) in entries.into_iter().zip(named) {
                // an entry that no index names is skipped, whatever it is
                let weight = if named {
                    check_blob(tag, bytes, column.depth).map_err(|e| e.at(r.offset()))?
                } else {
                    0
                };
                pending.blobs.push(Blob { bytes, weight, number: None });
            }
            for (i, at) in indices.into_iter().zip(places) {
                let word = first + i;
                pending.put(at as usize, Cell { tag, word });
            }
        }
        Form::Word => {
            let rows: Vec<u32>;
            let rows = if whole {
                column.rows
            } else {
                rows = places.iter().map(|at| column.rows[*at as usize]).collect();
                &rows
            };
            let old: Option<Cow<'_, [u64]>> = column.old.map(|old| {
                if whole && old.tags.iter().all(|old| *old == tag) {
                    return Cow::Borrowed(&*old.words);
                }
                let cells = places.iter().map(|at| old.get(*at as usize));
                cells.map(|cell| if cell.tag == tag { cell.word } else { 0 }).collect()
            });
            let context = Context {
                tag,
                old: old.as_deref(),
                rows,
                view: column.view,
                paths: column.paths,
                path: column.path,
            };
            let words = words::read(r, &context, budget)?;
            if !are_words(tag, &words) {
                return Err(r.corrupt("a value is not in its canonical form"));
            }
            if whole {
                pending.cells.tags.fill(tag);
                pending.cells.words = words;
            } else {
                for (at, word) in places.into_iter().zip(words) {
                    pending.put(at as usize, Cell { tag, word });
                }
            }
        }
    }
    Ok(())
}
