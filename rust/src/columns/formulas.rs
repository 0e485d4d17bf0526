//! Columns that are arithmetic on others: change = price - close, percent = change / close × 100, mid, spread.
//! Full-precision floats that no compressor can shrink; the formula is found on a sample.

use super::plan::sample_of;
use super::view::View;
use super::words::{Predictor, Scale, Stream};
use crate::format::value::tag;
use crate::format::writer::zigzag;
use crate::table::names::PathId;
use crate::table::{Cell, Cells};

/// FORMAT.md section 8.2, predictor 6; in the order of their codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Difference,
    Sum,
    Product,
    Quotient,
    Mean,
    Percent,
    PercentChange,
    AbsoluteProduct,
    OldTimesRatio,
    OldOverRatio,
    PercentAbove,
}

use Operation::{
    AbsoluteProduct, Difference, Mean, OldOverRatio, OldTimesRatio, Percent, PercentAbove, PercentChange,
    Product, Quotient, Sum,
};

const OPERATIONS: [Operation; 11] = [
    Difference,
    Sum,
    Product,
    Quotient,
    Mean,
    Percent,
    PercentChange,
    AbsoluteProduct,
    OldTimesRatio,
    OldOverRatio,
    PercentAbove,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formula {
    pub operation: Operation,
    pub a: PathId,
    pub b: PathId,
}

impl Operation {
    pub fn code(self) -> u8 {
        self as u8
    }

    pub fn of(code: u8) -> Option<Operation> {
        OPERATIONS.get(usize::from(code)).copied()
    }

    /// It has one operand, and the old value.
    pub fn needs_old(self) -> bool {
        matches!(self, OldTimesRatio | OldOverRatio)
    }

    /// Operands are NaN where there is none.
    #[inline(always)]
    fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Difference => a - b,
            Sum => a + b,
            Product => a * b,
            Quotient => a / b,
            Mean => (a + b) / 2.0,
            Percent => a / b * 100.0,
            PercentChange => (a - b) / b * 100.0,
            AbsoluteProduct => a.abs() * b,
            PercentAbove => (a / b - 1.0) * 100.0,
            OldTimesRatio | OldOverRatio => f64::NAN,
        }
    }

    #[inline(always)]
    fn apply_to_old(self, old: f64, now: f64, before: f64) -> f64 {
        match self {
            OldTimesRatio => old * now / before,
            _ => old * before / now,
        }
    }
}

/// NaN where there is no number.
#[inline(always)]
fn number(cell: Cell) -> f64 {
    match cell.tag {
        tag::FLOAT => f64::from_bits(cell.word),
        tag::INT => cell.word as i64 as f64,
        _ => f64::NAN,
    }
}

fn numbers(cells: &Cells) -> Vec<f64> {
    cells.iter().map(number).collect()
}

#[inline(always)]
fn word(result: f64) -> u64 {
    if result.is_nan() { 0 } else { result.to_bits() }
}

pub fn predictions(formula: Formula, old: Option<&[u64]>, rows: &[u32], view: &View<'_>) -> Vec<u64> {
    let Formula { operation, a, b } = formula;
    let mut made = Vec::with_capacity(rows.len());
    if operation.needs_old() {
        let old = old.unwrap_or_default();
        view.visit(a, rows, |i, now, before| {
            let old = f64::from_bits(old[i]);
            made.push(word(operation.apply_to_old(old, number(now), number(before))));
        });
        return made;
    }
    let mut first = Vec::with_capacity(rows.len());
    view.visit(a, rows, |_, now, _| first.push(number(now)));
    view.visit(b, rows, |i, now, _| made.push(word(operation.apply(first[i], number(now)))));
    made
}

const SAMPLE: usize = 16;
/// Candidates must be this close, in units in the last place, on the first cells they are tried on.
const CLOSE: u64 = 8;
const FIRST_TRIES: usize = 3;
/// This share of a sample must be close.
const SHARE: f64 = 0.6;

fn is_close(prediction: f64, wanted: u64) -> bool {
    zigzag(wanted.wrapping_sub(word(prediction))) <= 2 * CLOSE
}

struct Search {
    /// The words at the sample.
    wanted: Vec<u64>,
    old: Option<Vec<f64>>,
    /// Present and base numbers of each operand at the sample.
    now: Vec<Vec<f64>>,
    before: Vec<Vec<f64>>,
}

impl Formula {
    pub fn operands(self) -> impl Iterator<Item = PathId> {
        let b = (!self.operation.needs_old()).then_some(self.b);
        std::iter::once(self.a).chain(b)
    }
}

impl Search {
    /// True if the first few cells agree, and most of the others.
    fn fits(&self, predict: impl Fn(usize) -> f64) -> bool {
        let close = |i: &usize| is_close(predict(*i), self.wanted[*i]);
        let n = self.wanted.len();
        let first = n.min(FIRST_TRIES);
        // one miss is forgiven early on: rows may be exceptions
        let mut missed = 0;
        for i in 0..first {
            missed += usize::from(!close(&i));
            if missed > 1 || missed == first {
                return false;
            }
        }
        (0..n).filter(close).count() as f64 >= SHARE * n as f64
    }
}

/// The formula by which most of a stream of floats, or the two columns by which most of one of ints, can be predicted.
pub fn find(stream: &Stream<'_>, operands: &[PathId], view: &View<'_>) -> Option<Predictor> {
    // cells that are zero tell nothing
    let telling: Vec<usize> = (0..stream.words.len()).filter(|i| stream.words[*i] << 1 != 0).collect();
    let sample: Vec<usize> = sample_of(telling.len(), SAMPLE).into_iter().map(|i| telling[i]).collect();
    if sample.len() < 2 {
        return None;
    }
    let rows: Vec<u32> = sample.iter().map(|i| stream.rows[*i]).collect();
    let wanted: Vec<u64> = sample.iter().map(|i| stream.words[*i]).collect();
    if stream.tag == tag::INT {
        return find_larger(&wanted, &rows, operands, view);
    }
    let search = Search {
        wanted,
        old: stream.old.map(|old| sample.iter().map(|i| f64::from_bits(old[*i])).collect()),
        now: operands.iter().map(|path| numbers(&view.present(*path, &rows))).collect(),
        before: Vec::new(),
    };
    let found = find_pair(&search, operands).or_else(|| {
        let before = operands.iter().map(|path| numbers(&view.present_and_base(*path, &rows).1));
        find_ratio(&Search { before: before.collect(), ..search }, operands)
    });
    found.map(Predictor::Formula)
}

/// True if a predictor that was found before still serves.
pub fn serves(predictor: Predictor, stream: &Stream<'_>, operands: &[PathId], view: &View<'_>) -> bool {
    let known = |path: PathId| operands.contains(&path);
    let ready = match predictor {
        Predictor::Formula(formula) => stream.tag == tag::FLOAT && formula.operands().all(known),
        Predictor::Larger(a, b) => stream.tag == tag::INT && known(a) && known(b),
        _ => false,
    };
    if !ready || predictor.needs_old() && stream.old.is_none() {
        return false;
    }
    let sample = sample_of(stream.words.len(), SAMPLE);
    let rows: Vec<u32> = sample.iter().map(|i| stream.rows[*i]).collect();
    let old: Option<Vec<u64>> = stream.old.map(|old| sample.iter().map(|i| old[*i]).collect());
    let predictions = predictor.predictions(old.as_deref(), &rows, stream.tag, Scale(None), view);
    let close =
        |(i, prediction): (&usize, u64)| zigzag(stream.words[*i].wrapping_sub(prediction)) <= 2 * CLOSE;
    let hits = sample.iter().zip(predictions).filter(|(i, prediction)| close((i, *prediction))).count();
    hits as f64 >= SHARE * sample.len() as f64
}

fn find_pair(search: &Search, operands: &[PathId]) -> Option<Formula> {
    for (&a, now) in operands.iter().zip(&search.now) {
        for (&b, other) in operands.iter().zip(&search.now) {
            for operation in OPERATIONS {
                if !operation.needs_old() && a != b && search.fits(|i| operation.apply(now[i], other[i])) {
                    return Some(Formula { operation, a, b });
                }
            }
        }
    }
    None
}

fn find_ratio(search: &Search, operands: &[PathId]) -> Option<Formula> {
    let old = search.old.as_ref()?;
    for ((&a, now), before) in operands.iter().zip(&search.now).zip(&search.before) {
        for operation in [OldTimesRatio, OldOverRatio] {
            // an operand that stays the same would only repeat the old value
            let moves = now.iter().zip(before).any(|(now, before)| now != before);
            if moves && search.fits(|i| operation.apply_to_old(old[i], now[i], before[i])) {
                return Some(Formula { operation, a, b: crate::table::names::ROOT });
            }
        }
    }
    None
}

fn find_larger(wanted: &[u64], rows: &[u32], operands: &[PathId], view: &View<'_>) -> Option<Predictor> {
    let words = |path: &PathId| {
        let cells = view.present(*path, rows);
        let words = cells.iter().map(|cell| (cell.tag == tag::INT).then_some(cell.word as i64));
        words.collect::<Option<Vec<i64>>>()
    };
    let columns: Vec<(PathId, Vec<i64>)> =
        operands.iter().filter_map(|path| words(path).map(|words| (*path, words))).collect();
    for (i, (a, first)) in columns.iter().enumerate() {
        for (b, second) in &columns[..i] {
            let pairs = first.iter().zip(second).zip(wanted);
            if pairs.clone().all(|((x, y), wanted)| *x.max(y) == *wanted as i64) {
                return Some(Predictor::Larger(*a, *b));
            }
        }
    }
    None
}
