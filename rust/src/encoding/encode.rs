//! Writes cell streams: FORMAT.md section 8.1.

use crate::encoding::blobs::{self, TextWriter};
use crate::encoding::predictor::Predictor;
use crate::encoding::row_view::{MISSING, RowView};
use crate::encoding::sampling::sample_of;
use crate::encoding::select::{Candidate, cost_without_columns, select};
use crate::encoding::words::{self, Stream};
use crate::format::cells::{COPY, MAX_COPIES, MIXED};
use crate::format::value::{PayloadForm, Tag, payload_form, tag};
use crate::format::writer::Writer;
use crate::state::schema::PathId;
use crate::state::table::Cells;

/// One column's updates or inserts, and what they may refer to.
pub(crate) struct ColumnInput<'a> {
    pub(crate) cells: &'a Cells,
    pub(crate) base: Option<&'a Cells>,
    pub(crate) rows: &'a [u32],
    pub(crate) view: RowView<'a>,
    /// Columns that the reader has before this one.
    pub(crate) candidates: &'a [PathId],
    /// How most of it can be worked out from others.
    pub(crate) formula: Option<Predictor>,
    pub(crate) text: TextWriter<'a>,
    pub(crate) path: PathId,
    /// The path id of a path in this frame.
    pub(crate) frame_path: &'a dyn Fn(PathId) -> u64,
}

const COPY_SAMPLE: usize = 48;
const COPY_PRESAMPLE: usize = 4;

pub(crate) fn write(w: &mut Writer, column: &ColumnInput<'_>) {
    write_level(w, column, 0);
}

fn write_level(w: &mut Writer, column: &ColumnInput<'_>, copies: usize) {
    let tags = &column.cells.tags;
    let uniform = tags.iter().all(|tag| *tag == tags[0]);
    let candidate = uniform.then(|| select_uniform(column)).flatten();
    let bits = match &candidate {
        Some(candidate) => candidate.bits,
        None if uniform && payload_form(tags[0]) == PayloadForm::Empty => 0.0,
        None => 24.0,
    };
    if copies < MAX_COPIES
        && let Some(path) = find_copy(column, bits)
    {
        write_copy(w, column, path, copies);
    } else if uniform {
        w.u8(tags[0]);
        write_tag(w, column, tags[0], candidate);
    } else {
        write_mixed(w, column);
    }
}

fn select_uniform(column: &ColumnInput<'_>) -> Option<Candidate> {
    let tag = column.cells.tags[0];
    if payload_form(tag) != PayloadForm::Fixed64 {
        return None;
    }
    let base = base_words(column, tag);
    let stream = Stream { tag, words: &column.cells.words, base: base.as_deref(), rows: column.rows };
    Some(select(&stream, column.candidates, formula_for(column, tag), &column.view))
}

fn formula_for(column: &ColumnInput<'_>, tag: Tag) -> Option<Predictor> {
    column.formula.filter(|predictor| match predictor {
        Predictor::Formula(_) => tag == tag::FLOAT,
        _ => tag == tag::INT,
    })
}

/// From this many bits a cell on, it is worth looking for a formula.
const EXPENSIVE: f64 = 14.0;

/// True if the column's numbers cost much when coded by themselves.
pub(crate) fn is_expensive(column: &ColumnInput<'_>) -> bool {
    with_numbers(column, |stream, view| cost_without_columns(stream, view) > EXPENSIVE).unwrap_or(false)
}

/// The floats of a column, or its ints, whichever are more.
fn with_numbers<T>(column: &ColumnInput<'_>, then: impl FnOnce(&Stream<'_>, &RowView<'_>) -> T) -> Option<T> {
    let tags = &column.cells.tags;
    let count = |wanted: Tag| tags.iter().filter(|tag| **tag == wanted).count();
    let (floats, ints) = (count(tag::FLOAT), count(tag::INT));
    let tag = if floats >= ints { tag::FLOAT } else { tag::INT };
    let of_tag = |column: &ColumnInput<'_>| {
        let base = base_words(column, tag);
        let words = &column.cells.words;
        then(&Stream { tag, words, base: base.as_deref(), rows: column.rows }, &column.view)
    };
    match floats.max(ints) {
        0 => None,
        all if all == tags.len() => Some(of_tag(column)),
        _ => {
            let part: Vec<usize> = (0..tags.len()).filter(|i| tags[*i] == tag).collect();
            Some(with_part(column, &part, of_tag))
        }
    }
}

fn base_words(column: &ColumnInput<'_>, tag: Tag) -> Option<Vec<u64>> {
    let words = |cell: crate::state::table::Cell| if cell.tag == tag { cell.word } else { 0 };
    column.base.map(|base| base.iter().map(words).collect())
}

fn write_tag(w: &mut Writer, column: &ColumnInput<'_>, tag: Tag, candidate: Option<Candidate>) {
    match payload_form(tag) {
        PayloadForm::Empty => {}
        PayloadForm::Bytes => {
            blobs::write(w, column.text, tag, &column.cells.words, (column.view.table, column.path));
        }
        PayloadForm::Fixed64 => {
            let base = base_words(column, tag);
            let stream = Stream { tag, words: &column.cells.words, base: base.as_deref(), rows: column.rows };
            let candidate = candidate.unwrap_or_else(|| {
                select(&stream, column.candidates, formula_for(column, tag), &column.view)
            });
            words::write(w, &stream, candidate.encoding, &column.view, column.frame_path);
        }
    }
}

fn write_mixed(w: &mut Writer, column: &ColumnInput<'_>) {
    w.u8(MIXED);
    w.raw(&column.cells.tags);
    let mut tags = column.cells.tags.clone();
    tags.sort_unstable();
    tags.dedup();
    for tag in tags {
        if payload_form(tag) != PayloadForm::Empty {
            let chosen = |i: &usize| column.cells.tags[*i] == tag;
            let part: Vec<usize> = (0..column.cells.len()).filter(chosen).collect();
            with_part(column, &part, |column| write_tag(w, column, tag, None));
        }
    }
}

/// A column of some of the cells.
fn with_part<T>(column: &ColumnInput<'_>, part: &[usize], then: impl FnOnce(&ColumnInput<'_>) -> T) -> T {
    let pick = |cells: &Cells| {
        let mut picked = Cells::default();
        part.iter().for_each(|i| picked.push(cells.get(*i)));
        picked
    };
    let cells = pick(column.cells);
    let base = column.base.map(pick);
    let rows: Vec<u32> = part.iter().map(|i| column.rows[*i]).collect();
    then(&ColumnInput { cells: &cells, base: base.as_ref(), rows: &rows, ..*column })
}

/// The column that most cells repeat, if that is cheaper than `bits` a cell.
fn find_copy(column: &ColumnInput<'_>, bits: f64) -> Option<PathId> {
    let n = column.cells.len();
    let matches = |path: PathId, sample: &[usize]| {
        let rows: Vec<u32> = sample.iter().map(|i| column.rows[*i]).collect();
        let present = column.view.present(path, &rows);
        let pairs = sample.iter().zip(present.iter());
        pairs.filter(|(i, cell)| column.cells.get(**i) == *cell).count()
    };
    let first = sample_of(n, COPY_PRESAMPLE);
    let sample = sample_of(n, COPY_SAMPLE);
    // some bytes of its own
    let overhead = 48.0 / n as f64;
    let mut best = (bits, None);
    for &path in column.candidates {
        if matches(path, &first) * 3 < first.len() {
            continue;
        }
        let missed = 1.0 - matches(path, &sample) as f64 / sample.len() as f64;
        let cost = overhead + missed * bits + (8.0 * missed).min(1.5);
        // a column that is repeated outright needs nothing at all
        if missed == 0.0 {
            return Some(path);
        }
        if cost < best.0 * 0.98 {
            best = (cost, Some(path));
        }
    }
    best.1
}

fn write_copy(w: &mut Writer, column: &ColumnInput<'_>, path: PathId, copies: usize) {
    let present = column.view.present(path, column.rows);
    let differs = |i: &usize| present.tags[*i] == MISSING || present.get(*i) != column.cells.get(*i);
    let exceptions: Vec<usize> = (0..column.cells.len()).filter(differs).collect();
    w.u8(COPY);
    w.uvarint((column.frame_path)(path));
    w.size(exceptions.len());
    w.gaps(exceptions.iter().map(|i| *i as u32));
    if !exceptions.is_empty() {
        with_part(column, &exceptions, |column| write_level(w, column, copies + 1));
    }
}
