//! The choice between the encodings of a word stream, by what they would cost on a sample.

use crate::encoding::decimal;
use crate::encoding::predictor::{DecimalExponent, Predictor};
use crate::encoding::row_view::RowView;
use crate::encoding::sampling::{bits_of, pick, residual_bits, sample_of};
use crate::encoding::words::{Encoding, Stream};
use crate::format::fixed64::{MAX_DICTIONARY, MAX_EXPONENT};
use crate::format::value::{Tag, tag};
use crate::state::schema::PathId;
use crate::state::table::Cell;

const SAMPLE_SIZE: usize = 64;
/// Other columns are tried on this many cells first.
const PRESAMPLE: usize = 8;
/// A decimal exponent is taken if it fits this share of a sample.
const DECIMAL_SHARE: f64 = 0.85;

/// A plan and what it is expected to cost, in bits a cell.
#[derive(Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) encoding: Encoding,
    pub(crate) bits: f64,
}

/// What is known of a stream at the places of a sample.
struct Sample<'a> {
    stream: &'a Stream<'a>,
    rows: Vec<u32>,
    words: Vec<u64>,
    previous: Vec<u64>,
    base: Option<Vec<u64>>,
}

impl<'a> Sample<'a> {
    fn new(stream: &'a Stream<'a>, indices: &[usize]) -> Self {
        let previous = indices.iter().map(|i| i.checked_sub(1).map_or(0, |i| stream.words[i]));
        Sample {
            stream,
            rows: pick(stream.rows, indices),
            words: pick(stream.words, indices),
            previous: previous.collect(),
            base: stream.base.map(|base| pick(base, indices)),
        }
    }

    /// The best predictor that needs no other column; `view` is asked for nothing.
    fn without_columns(&self, decimal_exponent: DecimalExponent, view: &RowView<'_>) -> (Predictor, f64) {
        let integers: Vec<u64> = self.words.iter().map(|w| decimal_exponent.operand(*w)).collect();
        let previous: Vec<u64> = self.previous.iter().map(|w| decimal_exponent.operand(*w)).collect();
        let mut best = (Predictor::Zero, residual_bits(&integers, &vec![0; integers.len()]));
        let mut offer = |predictor, bits| {
            if bits < best.1 {
                best = (predictor, bits);
            }
        };
        if let Some(base) = &self.base {
            let predictions =
                Predictor::Base.predictions(Some(base), &self.rows, self.stream.tag, decimal_exponent, view);
            offer(Predictor::Base, residual_bits(&integers, &predictions));
        }
        offer(Predictor::Previous, residual_bits(&integers, &previous));
        if let Some(newest) = integers.iter().map(|i| *i as i64).max() {
            let newest = newest as u64;
            // 8 bytes of argument, spread over the stream
            let argument = 64.0 / self.stream.words.len() as f64;
            let bits = residual_bits(&integers, &vec![newest; integers.len()]) + argument;
            offer(Predictor::Reference(newest), bits);
        }
        best
    }

    fn with_predictor(
        &self,
        predictor: Predictor,
        decimal_exponent: DecimalExponent,
        view: &RowView<'_>,
    ) -> f64 {
        let integers: Vec<u64> = self.words.iter().map(|w| decimal_exponent.operand(*w)).collect();
        let base = self.base.as_deref();
        let predictions = predictor.predictions(base, &self.rows, self.stream.tag, decimal_exponent, view);
        residual_bits(&integers, &predictions)
    }

    /// The least exponent that makes nearly all of the sample integers, and the share that it misses.
    fn exponent(&self) -> Option<(u8, f64)> {
        let n = self.words.len() as f64;
        (0..=MAX_EXPONENT).find_map(|exponent| {
            let fits = |word: &&u64| decimal::to_integer(**word, exponent).is_some();
            let share = self.words.iter().filter(fits).count() as f64 / n;
            (share >= DECIMAL_SHARE).then_some((exponent, 1.0 - share))
        })
    }

    fn dictionary(&self) -> Option<f64> {
        let mut sorted = self.words.clone();
        let n = self.stream.words.len();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() * 3 > self.words.len() || n < SAMPLE_SIZE {
            return None;
        }
        let mut distinct = self.stream.words.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() > MAX_DICTIONARY.min(n / 4) {
            return None;
        }
        // the numbers of the entries, as their places in the sample's own order would be
        let mut indices: Vec<u64> =
            self.words.iter().map(|word| sorted.partition_point(|entry| entry < word) as u64).collect();
        Some(bits_of(&mut indices) + 64.0 * distinct.len() as f64 / n as f64)
    }
}

/// The cheapest plan for a stream; `candidates` are columns that it may be predicted from, `formula` one that was found.
pub(crate) fn select(
    stream: &Stream<'_>,
    candidates: &[PathId],
    formula: Option<Predictor>,
    view: &RowView<'_>,
) -> Candidate {
    let words = stream.words;
    if words.iter().all(|word| *word == words[0]) {
        return Candidate { encoding: Encoding::Constant, bits: 64.0 / words.len() as f64 };
    }
    let sample = Sample::new(stream, &sample_of(words.len(), SAMPLE_SIZE));
    let (predictor, bits) = sample.without_columns(DecimalExponent(None), view);
    let mut best = Candidate { encoding: Encoding::Residuals(predictor), bits };
    let mut decimal_exponent = DecimalExponent(None);
    let mut missed = 0.0;
    if stream.tag == tag::FLOAT
        && let Some((exponent, share)) = sample.exponent()
    {
        let (predictor, bits) = sample.without_columns(DecimalExponent(Some(exponent)), view);
        let bits = bits + 72.0 * share;
        if bits < best.bits {
            decimal_exponent = DecimalExponent(Some(exponent));
            missed = 72.0 * share;
            best = Candidate { encoding: Encoding::Decimals(exponent, predictor), bits };
        }
    }
    if let Some(bits) = sample.dictionary()
        && bits < best.bits
    {
        best = Candidate { encoding: Encoding::Dictionary, bits };
    }
    if let Some(formula) = formula {
        let bits = sample.with_predictor(formula, DecimalExponent(None), view);
        if bits < best.bits {
            best = Candidate { encoding: Encoding::Residuals(formula), bits };
            decimal_exponent = DecimalExponent(None);
            missed = 0.0;
        }
    }
    consider_columns(&sample, candidates, decimal_exponent, missed, view, &mut best);
    refit_reference(stream, &mut best);
    best
}

fn consider_columns(
    sample: &Sample<'_>,
    candidates: &[PathId],
    decimal_exponent: DecimalExponent,
    missed: f64,
    view: &RowView<'_>,
    best: &mut Candidate,
) {
    // nothing to gain where a cell costs next to nothing
    if best.bits < 3.0 {
        return;
    }
    let estimate = Estimate::new(sample.stream, decimal_exponent);
    for &path in candidates {
        for (predictor, bits) in estimate.at(path, view) {
            if bits + missed > best.bits * 0.9 {
                continue;
            }
            let bits = sample.with_predictor(predictor, decimal_exponent, view) + missed;
            if bits < best.bits * 0.95 {
                best.bits = bits;
                best.encoding = match decimal_exponent.0 {
                    None => Encoding::Residuals(predictor),
                    Some(exponent) => Encoding::Decimals(exponent, predictor),
                };
            }
        }
    }
}

/// A first look at other columns, on a few cells.
struct Estimate {
    tag: Tag,
    decimal_exponent: DecimalExponent,
    rows: Vec<u32>,
    integers: Vec<u64>,
    base: Option<Vec<u64>>,
}

impl Estimate {
    fn new(stream: &Stream<'_>, decimal_exponent: DecimalExponent) -> Self {
        let indices = sample_of(stream.words.len(), PRESAMPLE);
        let operands = |words: &[u64]| indices.iter().map(|i| decimal_exponent.operand(words[*i])).collect();
        Estimate {
            tag: stream.tag,
            decimal_exponent,
            rows: pick(stream.rows, &indices),
            integers: operands(stream.words),
            base: stream.base.map(operands),
        }
    }

    /// The predictors that the column offers, with what they would cost.
    fn at(&self, path: PathId, view: &RowView<'_>) -> impl Iterator<Item = (Predictor, f64)> {
        let (now, base_cells) = view.present_and_base(path, &self.rows);
        let number =
            |cell: Cell| if cell.tag == self.tag { self.decimal_exponent.operand(cell.word) } else { 0 };
        let useful = now.tags.iter().filter(|tag| **tag == self.tag).count() * 2 > self.rows.len();
        let direct = useful.then(|| {
            let predictions: Vec<u64> = now.iter().map(number).collect();
            (Predictor::Column(path), residual_bits(&self.integers, &predictions))
        });
        let base = self.base.as_ref().filter(|_| useful);
        let change = base.map(|base| {
            let changes = now
                .iter()
                .zip(base_cells.iter())
                .map(|(now, before)| number(now).wrapping_sub(number(before)));
            let predictions: Vec<u64> =
                base.iter().zip(changes).map(|(base, change)| base.wrapping_add(change)).collect();
            (Predictor::ColumnChange(path), residual_bits(&self.integers, &predictions))
        });
        direct.into_iter().chain(change)
    }
}

/// The sample's newest value gives way to the stream's.
fn refit_reference(stream: &Stream<'_>, best: &mut Candidate) {
    let newest = |decimal_exponent: DecimalExponent| {
        let integers = stream.words.iter().map(|w| decimal_exponent.operand(*w) as i64);
        integers.max().unwrap_or(0) as u64
    };
    match &mut best.encoding {
        Encoding::Residuals(Predictor::Reference(word)) => *word = newest(DecimalExponent(None)),
        Encoding::Decimals(exponent, Predictor::Reference(word)) => {
            *word = newest(DecimalExponent(Some(*exponent)));
        }
        _ => {}
    }
}

/// What a stream costs, in bits a cell, without any other column.
pub(crate) fn cost_without_columns(stream: &Stream<'_>, view: &RowView<'_>) -> f64 {
    select(stream, &[], None, view).bits
}
