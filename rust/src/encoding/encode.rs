//! Writes cell streams: FORMAT.md section 8.1.

use std::borrow::Cow;
use std::cell::LazyCell;

use crate::encoding::blobs::{self, TextWriter};
use crate::encoding::formula::Formula;
use crate::encoding::left_out::{Part, left_out};
use crate::encoding::numbers::{self, Input};
use crate::encoding::numbers_plan::{self, PlannedNumbers};
use crate::encoding::predictor::Predictor;
use crate::encoding::row_view::{MISSING, RowView};
use crate::encoding::sampling::{pick, sample_of};
use crate::encoding::select::{Candidate, select};
use crate::encoding::split::{Split, sides};
use crate::encoding::words::{self, Encoding, Stream};
use crate::format::cells::{COPY, MAX_COPIES, MIXED, NUMBERS, SPLIT};
use crate::format::value::{PayloadForm, Tag, payload_form, tag};
use crate::format::writer::Writer;
use crate::state::schema::PathId;
use crate::state::table::Cells;

/// How a column follows from others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Learned {
    Formula(Formula),
    /// The larger of two columns of ints.
    Larger(PathId, PathId),
}

impl Learned {
    pub(crate) fn columns(self) -> impl Iterator<Item = PathId> {
        let (formula, pair) = match self {
            Learned::Formula(formula) => (Some(formula.columns()), None),
            Learned::Larger(a, b) => (None, Some([a, b])),
        };
        formula.into_iter().flatten().chain(pair.into_iter().flatten())
    }

    fn formula(self) -> Option<Formula> {
        match self {
            Learned::Formula(formula) => Some(formula),
            Learned::Larger(..) => None,
        }
    }

    fn predictor(self) -> Option<Predictor> {
        match self {
            Learned::Formula(_) => None,
            Learned::Larger(a, b) => Some(Predictor::Max(a, b)),
        }
    }
}

/// One column's updates or inserts, and what they may refer to.
pub(crate) struct ColumnInput<'a> {
    pub(crate) cells: &'a Cells,
    pub(crate) base: Option<&'a Cells>,
    pub(crate) rows: &'a [u32],
    pub(crate) view: RowView<'a>,
    /// Columns that the reader has before this one.
    pub(crate) candidates: &'a [PathId],
    /// How most of it was found to follow from others.
    pub(crate) learned: Option<Learned>,
    /// A row set that tells its cells apart.
    pub(crate) split: Option<Split<'a>>,
    pub(crate) text: TextWriter<'a>,
    pub(crate) path: PathId,
    /// The path id of a path in this frame.
    pub(crate) frame_path: &'a dyn Fn(PathId) -> u64,
}

/// With a formula that leaves so few bits, nothing else is tried.
const CHEAP_BITS: f64 = 3.0;
/// What a cell costs at the most where nothing better is known.
const MOST_BITS: f64 = 24.0;

const COPY_SAMPLE: usize = 48;
const COPY_PRESAMPLE: usize = 4;

/// Writes the stream. Returns false if what was learned was tried and did not pay.
pub(crate) fn write(w: &mut Writer, column: &ColumnInput<'_>) -> bool {
    write_level(w, column, 0)
}

fn write_level(w: &mut Writer, column: &ColumnInput<'_>, copies: usize) -> bool {
    let tags = &column.cells.tags;
    let uniform = column.cells.all_have(tags[0]).then(|| tags[0]);
    // a tag that says it all is shorter than any copy
    if let Some(tag) = uniform.filter(|tag| payload_form(*tag) == PayloadForm::Empty) {
        w.u8(tag);
        return write_tag(w, column, tag, None);
    }
    let may_nest = copies < MAX_COPIES;
    let repeated = if may_nest { repeated_columns(column) } else { Vec::new() };
    // a column that is repeated outright needs nothing at all
    if let Some(&(path, 0.0)) = repeated.last() {
        return write_copy(w, column, path, copies);
    }
    if let Some(pays) = column.split.and_then(|split| write_split(w, column, split, copies)) {
        return pays;
    }
    let numbers = if may_nest { plan_numbers(column, uniform, copies) } else { None };
    let is_cheap = numbers.as_ref().is_some_and(|numbers| numbers.uses_formula && numbers.bits < CHEAP_BITS);
    let candidate =
        uniform.filter(|_| !is_cheap).and_then(|tag| select_uniform(column, tag, numbers.as_ref()));
    let bits = candidate.as_ref().map_or(f64::INFINITY, |candidate| candidate.bits);
    let numbers = numbers.filter(|numbers| numbers.bits < bits);
    let bits = numbers.as_ref().map_or(bits, |numbers| numbers.bits);
    if let Some(path) = find_copy(column, &repeated, bits.min(MOST_BITS)) {
        write_copy(w, column, path, copies)
    } else if let Some(numbers) = numbers {
        write_numbers(w, column, numbers, copies)
    } else if let Some(tag) = uniform {
        w.u8(tag);
        write_tag(w, column, tag, candidate)
    } else {
        write_mixed(w, column)
    }
}

fn select_uniform(column: &ColumnInput<'_>, tag: Tag, numbers: Option<&PlannedNumbers>) -> Option<Candidate> {
    if payload_form(tag) != PayloadForm::Fixed64 {
        return None;
    }
    let base = base_words(column, tag);
    let stream = Stream { tag, words: &column.cells.words, base: base.as_deref(), rows: column.rows };
    // floats that are decimals have looked at other columns as such
    let is_decimal = tag == tag::FLOAT && numbers.is_some_and(|numbers| !numbers.plan.scale.is_raw());
    let candidates = if is_decimal { &[] } else { column.candidates };
    Some(select(&stream, candidates, predictor_for(column, tag), &column.view))
}

fn predictor_for(column: &ColumnInput<'_>, tag: Tag) -> Option<Predictor> {
    column.learned.filter(|_| tag == tag::INT).and_then(Learned::predictor)
}

fn number_input<'a>(column: &ColumnInput<'a>) -> Input<'a> {
    Input { cells: column.cells, base: column.base, rows: column.rows, view: column.view }
}

fn plan_numbers(column: &ColumnInput<'_>, uniform: Option<Tag>, copies: usize) -> Option<PlannedNumbers> {
    if left_out(Part::Numbers) {
        return None;
    }
    let formula = column.learned.and_then(Learned::formula);
    // the search looks at updates again and again, but not at the exceptions of a copy, and at inserts but once
    let candidates = if copies > 0 || column.base.is_none() { column.candidates } else { &[] };
    numbers_plan::plan(&number_input(column), uniform, formula, candidates)
}

fn write_numbers(w: &mut Writer, column: &ColumnInput<'_>, planned: PlannedNumbers, copies: usize) -> bool {
    let PlannedNumbers { plan, classified, uses_formula, results, .. } = planned;
    w.u8(NUMBERS);
    let input = number_input(column);
    let others = numbers::write(w, &input, &plan, classified, results, column.frame_path);
    if !others.is_empty() {
        with_part(column, &others, |column| write_level(w, column, copies + 1));
    }
    uses_formula || column.learned.is_none()
}

fn base_words<'a>(column: &ColumnInput<'a>, tag: Tag) -> Option<Cow<'a, [u64]>> {
    let words = |base: &'a Cells| {
        if base.all_have(tag) {
            return Cow::Borrowed(&*base.words);
        }
        base.iter().map(|cell| if cell.tag == tag { cell.word } else { 0 }).collect()
    };
    column.base.map(words)
}

fn write_tag(w: &mut Writer, column: &ColumnInput<'_>, tag: Tag, candidate: Option<Candidate>) -> bool {
    match payload_form(tag) {
        PayloadForm::Empty => true,
        PayloadForm::Bytes => {
            blobs::write(w, column.text, tag, &column.cells.words, (column.view.table, column.path));
            true
        }
        PayloadForm::Fixed64 => {
            let base = base_words(column, tag);
            let stream = Stream { tag, words: &column.cells.words, base: base.as_deref(), rows: column.rows };
            let learned = predictor_for(column, tag);
            let candidate =
                candidate.unwrap_or_else(|| select(&stream, column.candidates, learned, &column.view));
            words::write(w, &stream, candidate.encoding, &column.view, column.frame_path);
            let pays = learned.is_some_and(|learned| candidate.encoding == Encoding::Residuals(learned));
            pays || column.learned.is_none() || candidate.encoding == Encoding::Constant
        }
    }
}

fn write_mixed(w: &mut Writer, column: &ColumnInput<'_>) -> bool {
    w.u8(MIXED);
    w.raw(&column.cells.tags);
    let mut tags = column.cells.tags.clone();
    tags.sort_unstable();
    tags.dedup();
    let mut pays = true;
    for tag in tags {
        if payload_form(tag) != PayloadForm::Empty {
            let chosen = |i: &usize| column.cells.tags[*i] == tag;
            let part: Vec<usize> = (0..column.cells.len()).filter(chosen).collect();
            pays &= with_part(column, &part, |column| write_tag(w, column, tag, None));
        }
    }
    pays
}

/// A column of some of the cells.
pub(crate) fn with_part<T>(
    column: &ColumnInput<'_>,
    part: &[usize],
    then: impl FnOnce(&ColumnInput<'_>) -> T,
) -> T {
    let cells = column.cells.pick(part);
    let base = column.base.map(|base| base.pick(part));
    let rows = pick(column.rows, part);
    then(&ColumnInput { cells: &cells, base: base.as_ref(), rows: &rows, split: None, ..*column })
}

/// Columns that many cells repeat, with the share of cells that do not; one that all cells repeat is the last.
fn repeated_columns(column: &ColumnInput<'_>) -> Vec<(PathId, f64)> {
    let n = column.cells.len();
    let repeats =
        |path: PathId, at: usize| column.view.present_cell(path, column.rows[at], at) == column.cells.get(at);
    let first = sample_of(n, COPY_PRESAMPLE);
    // few columns come so far
    let sample = LazyCell::new(|| {
        let sample = sample_of(n, COPY_SAMPLE);
        let rows = pick(column.rows, &sample);
        (sample, rows)
    });
    let mut repeated = Vec::new();
    for &path in column.candidates {
        // most columns are told off by a look at a few cells
        let mut missed = 0;
        let is_told_off = |at: &usize| {
            missed += usize::from(!repeats(path, *at));
            (first.len() - missed) * 3 < first.len()
        };
        if first.iter().any(is_told_off) {
            continue;
        }
        let (sample, sample_rows) = &*sample;
        let mut missed = 0;
        column.view.visit(path, sample_rows, |i, present, _| {
            missed += usize::from(column.cells.get(sample[i]) != present);
        });
        repeated.push((path, missed as f64 / sample.len() as f64));
        if missed == 0 {
            break;
        }
    }
    repeated
}

/// The column that most cells repeat, if that is cheaper than `bits` a cell.
fn find_copy(column: &ColumnInput<'_>, repeated: &[(PathId, f64)], bits: f64) -> Option<PathId> {
    // some bytes of its own
    let overhead = 48.0 / column.cells.len() as f64;
    let mut best = (bits, None);
    for (path, missed) in repeated {
        let cost = overhead + missed * bits + (8.0 * missed).min(1.5);
        if cost < best.0 * 0.98 {
            best = (cost, Some(*path));
        }
    }
    best.1
}

/// Writes the column as two, if that leaves each side enough cells.
fn write_split(w: &mut Writer, column: &ColumnInput<'_>, split: Split<'_>, copies: usize) -> Option<bool> {
    let sides = sides(column.rows, split.members)?;
    w.u8(SPLIT);
    w.uvarint(split.number);
    let mut pays = false;
    for side in sides {
        let side: Vec<usize> = side.into_iter().map(|i| i as usize).collect();
        pays |= with_part(column, &side, |column| write_level(w, column, copies + 1));
    }
    Some(pays)
}

fn write_copy(w: &mut Writer, column: &ColumnInput<'_>, path: PathId, copies: usize) -> bool {
    let present = column.view.present(path, column.rows);
    let differs = |i: &usize| present.tags[*i] == MISSING || present.get(*i) != column.cells.get(*i);
    let exceptions: Vec<usize> = (0..column.cells.len()).filter(differs).collect();
    w.u8(COPY);
    w.uvarint((column.frame_path)(path));
    w.size(exceptions.len());
    w.gaps(exceptions.iter().map(|i| *i as u32));
    exceptions.is_empty() || with_part(column, &exceptions, |column| write_level(w, column, copies + 1))
}
