//! Reads cell streams: FORMAT.md section 8.1.

use std::borrow::Cow;

use crate::encoding::blobs;
use crate::encoding::numbers::{self, Numbers};
use crate::encoding::predictor::{Context, other_path};
use crate::encoding::row_view::{MISSING, RowView};
use crate::encoding::split::partition;
use crate::encoding::words;
use crate::error::Result;
use crate::format::budget::{Budget, weight_of};
use crate::format::cells::{COPY, MAX_COPIES, MIXED, NUMBERS, SPLIT};
use crate::format::number::Form;
use crate::format::reader::Reader;
use crate::format::value::{Payload, PayloadForm, Tag, are_words, check_blob, is_blob, payload_form, tag};
use crate::state::change_set::ChangeSet;
use crate::state::schema::PathId;
use crate::state::table::{Cell, Cells, Table};

/// One column's updates or inserts as they are read.
pub(crate) struct ColumnContext<'a> {
    pub(crate) base: Option<&'a Cells>,
    pub(crate) rows: &'a [u32],
    pub(crate) view: RowView<'a>,
    /// Those of the frame.
    pub(crate) row_sets: &'a [Vec<u32>],
    /// The path of each path id of the frame.
    pub(crate) paths: &'a [PathId],
    /// It declares that it names values of other rows of the base.
    pub(crate) with_base_values: bool,
    /// The column's own path.
    pub(crate) path: PathId,
    /// Keys that lead to it.
    pub(crate) depth: usize,
}

/// Cells whose blobs are not yet in the pool: the word is an index into `blobs`, or a number in the pool with `COPIED`.
#[derive(Default)]
pub(crate) struct DecodedCells<'a> {
    /// Keys that lead to the column.
    depth: usize,
    cells: Cells,
    blobs: Vec<FrameBlob<'a>>,
}

struct FrameBlob<'a> {
    bytes: Cow<'a, [u8]>,
    /// What its items are charged with.
    weight: u64,
    /// Its number, once it is in the pool.
    number: Option<u64>,
}

const COPIED: u64 = 1 << 63;

impl DecodedCells<'_> {
    /// Puts the blobs into the pool; the change set owns them. Every cell is charged for its blob.
    pub(crate) fn intern_blobs(
        mut self,
        table: &mut Table,
        changes: &mut ChangeSet,
        budget: &mut Budget,
    ) -> Result<Cells> {
        if !self.cells.may_have_blobs() {
            return Ok(self.cells);
        }
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
                    table.pool.retain(word);
                    Cell { tag, word }
                }
                None => {
                    let blob = &mut self.blobs[word as usize];
                    let cell = table.acquire(tag, Payload::Bytes(&blob.bytes));
                    blob.number = Some(cell.word);
                    cell
                }
            };
            changes.retain(cell);
            self.cells.set(i, cell);
        }
        Ok(self.cells)
    }

    fn set(&mut self, at: usize, cell: Cell) {
        self.cells.set(at, cell);
    }

    /// Makes room for all cells of the column.
    fn open(&mut self, n: usize) {
        self.cells.tags.resize(n, tag::NONE);
        self.cells.words.resize(n, 0);
    }
}

/// The caller has checked that `column.rows` is within the budget.
pub(crate) fn read<'a>(
    r: &mut Reader<'a>,
    text: &mut Option<Reader<'a>>,
    column: &ColumnContext<'_>,
    budget: &mut Budget,
) -> Result<DecodedCells<'a>> {
    let mut decoded = DecodedCells { depth: column.depth, ..DecodedCells::default() };
    read_level(r, text, column, Places::All(column.rows.len()), &mut decoded, 0, budget)?;
    Ok(decoded)
}

/// Which cells of the column a level brings.
enum Places {
    /// All of so many.
    All(usize),
    /// Those at these places.
    At(Vec<u32>),
}

impl Places {
    fn len(&self) -> usize {
        match self {
            Places::All(n) => *n,
            Places::At(places) => places.len(),
        }
    }

    fn are_all(&self) -> bool {
        matches!(self, Places::All(_))
    }

    #[inline(always)]
    fn get(&self, i: usize) -> u32 {
        match self {
            Places::All(_) => i as u32,
            Places::At(places) => places[i],
        }
    }

    fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.len()).map(|i| self.get(i))
    }

    /// What the column has at these places.
    fn of<'a, T: Clone>(&self, column: &'a [T]) -> Cow<'a, [T]> {
        match self {
            Places::All(_) => Cow::Borrowed(column),
            Places::At(places) => places.iter().map(|at| column[*at as usize].clone()).collect(),
        }
    }
}

/// Reads the cells that belong at `places` of the column.
fn read_level<'a>(
    r: &mut Reader<'a>,
    text: &mut Option<Reader<'a>>,
    column: &ColumnContext<'_>,
    places: Places,
    decoded: &mut DecodedCells<'a>,
    copies: usize,
    budget: &mut Budget,
) -> Result<()> {
    match r.u8()? {
        COPY if copies < MAX_COPIES => {
            let path = other_path(r, column.paths, column.path)?;
            let exceptions = r.counted_gaps(places.len())?;
            let present = column.view.present(path, &places.of(column.rows));
            // a cell that is missing is refused below: its tag is beyond those of blobs
            if places.are_all() && exceptions.is_empty() && !present.may_have_blobs() {
                decoded.cells = present;
                return Ok(());
            }
            decoded.open(column.rows.len());
            let mut left = Vec::with_capacity(exceptions.len());
            let mut exceptions = exceptions.into_iter().peekable();
            for (i, at) in places.iter().enumerate() {
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
                decoded.set(at as usize, cell);
            }
            if left.is_empty() {
                return Ok(());
            }
            read_level(r, text, column, Places::At(left), decoded, copies + 1, budget)
        }
        NUMBERS if copies < MAX_COPIES => read_numbers(r, text, column, &places, decoded, copies, budget),
        SPLIT if copies < MAX_COPIES => {
            let set = r.up_to(column.row_sets.len(), "row set")?;
            let set = set.checked_sub(1).filter(|_| column.base.is_some());
            let set = set.ok_or_else(|| r.corrupt("a split names no row set, or is of inserts"))?;
            let rows = places.of(column.rows);
            let (inside, outside) = partition(&rows, &column.row_sets[set]);
            if inside.is_empty() || outside.is_empty() {
                return Err(r.corrupt("a split has a side of no cells"));
            }
            for side in [inside, outside] {
                let side = Places::At(side.into_iter().map(|i| places.get(i as usize)).collect());
                read_level(r, text, column, side, decoded, copies + 1, budget)?;
            }
            Ok(())
        }
        COPY | NUMBERS | SPLIT => Err(r.corrupt("streams are nested too deep")),
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
                let part = Places::At(part.map(|(at, _)| at).collect());
                read_tag(r, text, column, tag, &part, decoded, budget)?;
            }
            Ok(())
        }
        tag if tag < tag::CELL_TAGS => read_tag(r, text, column, tag, &places, decoded, budget),
        code => Err(r.reserved("tag", code)),
    }
}

fn read_numbers<'a>(
    r: &mut Reader<'a>,
    text: &mut Option<Reader<'a>>,
    column: &ColumnContext<'_>,
    places: &Places,
    decoded: &mut DecodedCells<'a>,
    copies: usize,
    budget: &mut Budget,
) -> Result<()> {
    let rows = places.of(column.rows);
    let base = column.base.map(|base| match places {
        Places::All(_) => Cow::Borrowed(base),
        Places::At(_) => Cow::Owned(Cells {
            tags: places.of(&base.tags).into_owned(),
            words: places.of(&base.words).into_owned(),
        }),
    });
    let path = |r: &mut Reader<'_>| other_path(r, column.paths, column.path);
    let Numbers { scale, forms, form, mut integers } =
        numbers::read(r, base.as_deref(), &rows, &column.view, path)?;
    let no_cell = "a number is out of range or not of its form";
    if places.are_all()
        && form.is_none()
        && let Some(tag) = forms[0].word_tag()
    {
        if !forms[0].turn_into_words(scale, &mut integers) {
            return Err(r.corrupt(no_cell));
        }
        decoded.cells = Cells { tags: vec![tag; integers.len()], words: integers };
        return Ok(());
    }
    decoded.open(column.rows.len());
    let mut others = Vec::new();
    let mut buffer = Vec::new();
    for (i, (at, integer)) in places.iter().zip(integers).enumerate() {
        let form = form.as_ref().map_or(0, |form| form[i]);
        let cell = match forms.get(usize::from(form)) {
            None => {
                others.push(at);
                continue;
            }
            Some(Form::Absent) => Cell { tag: tag::NONE, word: 0 },
            Some(form) => match form.cell(scale, integer, &mut buffer) {
                Some((tag, Payload::Fixed64(word))) => Cell { tag, word },
                Some((tag, Payload::Bytes(bytes))) => {
                    decoded.blobs.push(FrameBlob {
                        bytes: Cow::Owned(bytes.to_vec()),
                        weight: 0,
                        number: None,
                    });
                    Cell { tag, word: decoded.blobs.len() as u64 - 1 }
                }
                None => return Err(r.corrupt(no_cell)),
            },
        };
        decoded.set(at as usize, cell);
    }
    if others.is_empty() {
        return Ok(());
    }
    read_level(r, text, column, Places::At(others), decoded, copies + 1, budget)
}

fn read_tag<'a>(
    r: &mut Reader<'a>,
    text: &mut Option<Reader<'a>>,
    column: &ColumnContext<'_>,
    tag: Tag,
    places: &Places,
    decoded: &mut DecodedCells<'a>,
    budget: &mut Budget,
) -> Result<()> {
    match payload_form(tag) {
        PayloadForm::Empty => {
            decoded.open(column.rows.len());
            for at in places.iter() {
                decoded.set(at as usize, Cell { tag, word: 0 });
            }
        }
        PayloadForm::Bytes => {
            let base = (column.view.table, column.path, column.with_base_values);
            let blobs::BlobStream { known, entries, indices } =
                blobs::read(r, text, tag, places.len(), base, budget)?;
            let first = decoded.blobs.len() as u64;
            let mut named = vec![false; entries.len()];
            let new = |i: u64| i.checked_sub(known.len() as u64);
            indices.iter().filter_map(|i| new(*i)).for_each(|i| named[i as usize] = true);
            for (bytes, named) in entries.into_iter().zip(named) {
                // an entry that no index names is skipped, whatever it is
                let weight = if named {
                    check_blob(tag, bytes, column.depth).map_err(|e| e.at(r.offset()))?
                } else {
                    0
                };
                decoded.blobs.push(FrameBlob { bytes: Cow::Borrowed(bytes), weight, number: None });
            }
            decoded.open(column.rows.len());
            for (i, at) in indices.into_iter().zip(places.iter()) {
                let word = new(i).map_or_else(|| known[i as usize] | COPIED, |i| first + i);
                decoded.set(at as usize, Cell { tag, word });
            }
        }
        PayloadForm::Fixed64 => {
            let rows = places.of(column.rows);
            let base: Option<Cow<'_, [u64]>> = column.base.map(|base| {
                if places.are_all() && base.all_have(tag) {
                    return Cow::Borrowed(&*base.words);
                }
                let cells = places.iter().map(|at| base.get(at as usize));
                cells.map(|cell| if cell.tag == tag { cell.word } else { 0 }).collect()
            });
            let context = Context {
                tag,
                base: base.as_deref(),
                rows: &rows,
                view: column.view,
                paths: column.paths,
                path: column.path,
            };
            let words = words::read(r, &context, budget)?;
            if !are_words(tag, &words) {
                return Err(r.corrupt("a value is not in its canonical form"));
            }
            if places.are_all() {
                decoded.cells = Cells { tags: vec![tag; words.len()], words };
            } else {
                decoded.open(column.rows.len());
                for (at, word) in places.iter().zip(words) {
                    decoded.set(at as usize, Cell { tag, word });
                }
            }
        }
    }
    Ok(())
}
