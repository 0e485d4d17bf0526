//! The choice between the codings of a word stream, by what they would cost on a sample.

use crate::encoding::decimal;
use crate::encoding::predictor::{Predictor, Scale};
use crate::encoding::row_view::View;
use crate::encoding::sampling::{bits_of, pick, residual_bits, sample_of};
use crate::encoding::words::{Plan, Stream};
use crate::format::value::{Tag, tag};
use crate::format::words::{MAX_DICTIONARY, MAX_EXPONENT};
use crate::state::schema::PathId;
use crate::state::table::Cell;

const SAMPLE: usize = 64;
/// Other columns are tried on this many cells first.
const FIRST_LOOK: usize = 8;
/// A decimal exponent is taken if it fits this share of a sample.
const DECIMAL_SHARE: f64 = 0.85;

/// A plan and what it is expected to cost, in bits a cell.
#[derive(Clone, Copy)]
pub struct Choice {
    pub plan: Plan,
    pub bits: f64,
}

/// What is known of a stream at the places of a sample.
struct Probe<'a> {
    stream: &'a Stream<'a>,
    rows: Vec<u32>,
    words: Vec<u64>,
    before: Vec<u64>,
    old: Option<Vec<u64>>,
}

impl<'a> Probe<'a> {
    fn new(stream: &'a Stream<'a>, sample: &[usize]) -> Self {
        let before = sample.iter().map(|i| i.checked_sub(1).map_or(0, |i| stream.words[i]));
        Probe {
            stream,
            rows: pick(stream.rows, sample),
            words: pick(stream.words, sample),
            before: before.collect(),
            old: stream.old.map(|old| pick(old, sample)),
        }
    }

    /// The best predictor that needs no other column; `view` is asked for nothing.
    fn own(&self, scale: Scale, view: &View<'_>) -> (Predictor, f64) {
        let integers: Vec<u64> = self.words.iter().map(|w| scale.operand(*w)).collect();
        let before: Vec<u64> = self.before.iter().map(|w| scale.operand(*w)).collect();
        let mut best = (Predictor::Zero, residual_bits(&integers, &vec![0; integers.len()]));
        let mut offer = |predictor, bits| {
            if bits < best.1 {
                best = (predictor, bits);
            }
        };
        if let Some(old) = &self.old {
            let predictions = Predictor::Old.predictions(Some(old), &self.rows, self.stream.tag, scale, view);
            offer(Predictor::Old, residual_bits(&integers, &predictions));
        }
        offer(Predictor::Before, residual_bits(&integers, &before));
        if let Some(newest) = integers.iter().map(|i| *i as i64).max() {
            let newest = newest as u64;
            // 8 bytes of argument, spread over the stream
            let argument = 64.0 / self.stream.words.len() as f64;
            let bits = residual_bits(&integers, &vec![newest; integers.len()]) + argument;
            offer(Predictor::Reference(newest), bits);
        }
        best
    }

    fn other(&self, predictor: Predictor, scale: Scale, view: &View<'_>) -> f64 {
        let integers: Vec<u64> = self.words.iter().map(|w| scale.operand(*w)).collect();
        let old = self.old.as_deref();
        let predictions = predictor.predictions(old, &self.rows, self.stream.tag, scale, view);
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
        if sorted.len() * 3 > self.words.len() || n < SAMPLE {
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
pub fn choose(
    stream: &Stream<'_>,
    candidates: &[PathId],
    formula: Option<Predictor>,
    view: &View<'_>,
) -> Choice {
    let words = stream.words;
    if words.iter().all(|word| *word == words[0]) {
        return Choice { plan: Plan::Constant, bits: 64.0 / words.len() as f64 };
    }
    let probe = Probe::new(stream, &sample_of(words.len(), SAMPLE));
    let (predictor, bits) = probe.own(Scale(None), view);
    let mut best = Choice { plan: Plan::Residuals(predictor), bits };
    let mut scale = Scale(None);
    let mut missed = 0.0;
    if stream.tag == tag::FLOAT
        && let Some((exponent, share)) = probe.exponent()
    {
        let (predictor, bits) = probe.own(Scale(Some(exponent)), view);
        let bits = bits + 72.0 * share;
        if bits < best.bits {
            scale = Scale(Some(exponent));
            missed = 72.0 * share;
            best = Choice { plan: Plan::Decimals(exponent, predictor), bits };
        }
    }
    if let Some(bits) = probe.dictionary()
        && bits < best.bits
    {
        best = Choice { plan: Plan::Dictionary, bits };
    }
    if let Some(formula) = formula {
        let bits = probe.other(formula, Scale(None), view);
        if bits < best.bits {
            best = Choice { plan: Plan::Residuals(formula), bits };
            scale = Scale(None);
            missed = 0.0;
        }
    }
    consider_others(&probe, candidates, scale, missed, view, &mut best);
    fix_reference(stream, &mut best);
    best
}

fn consider_others(
    probe: &Probe<'_>,
    candidates: &[PathId],
    scale: Scale,
    missed: f64,
    view: &View<'_>,
    best: &mut Choice,
) {
    // nothing to gain where a cell costs next to nothing
    if best.bits < 3.0 {
        return;
    }
    let glance = Glance::new(probe.stream, scale);
    for &path in candidates {
        for (predictor, bits) in glance.at(path, view) {
            if bits + missed > best.bits * 0.9 {
                continue;
            }
            let bits = probe.other(predictor, scale, view) + missed;
            if bits < best.bits * 0.95 {
                best.bits = bits;
                best.plan = match scale.0 {
                    None => Plan::Residuals(predictor),
                    Some(exponent) => Plan::Decimals(exponent, predictor),
                };
            }
        }
    }
}

/// A first look at other columns, on a few cells.
struct Glance {
    tag: Tag,
    scale: Scale,
    rows: Vec<u32>,
    integers: Vec<u64>,
    old: Option<Vec<u64>>,
}

impl Glance {
    fn new(stream: &Stream<'_>, scale: Scale) -> Self {
        let sample = sample_of(stream.words.len(), FIRST_LOOK);
        let operands = |words: &[u64]| sample.iter().map(|i| scale.operand(words[*i])).collect();
        Glance {
            tag: stream.tag,
            scale,
            rows: pick(stream.rows, &sample),
            integers: operands(stream.words),
            old: stream.old.map(operands),
        }
    }

    /// The predictors that the column offers, with what they would cost.
    fn at(&self, path: PathId, view: &View<'_>) -> impl Iterator<Item = (Predictor, f64)> {
        let (now, base) = view.present_and_base(path, &self.rows);
        let number = |cell: Cell| if cell.tag == self.tag { self.scale.operand(cell.word) } else { 0 };
        let useful = now.tags.iter().filter(|tag| **tag == self.tag).count() * 2 > self.rows.len();
        let direct = useful.then(|| {
            let predictions: Vec<u64> = now.iter().map(number).collect();
            (Predictor::Other(path), residual_bits(&self.integers, &predictions))
        });
        let old = self.old.as_ref().filter(|_| useful);
        let change = old.map(|old| {
            let changes =
                now.iter().zip(base.iter()).map(|(now, base)| number(now).wrapping_sub(number(base)));
            let predictions: Vec<u64> =
                old.iter().zip(changes).map(|(old, change)| old.wrapping_add(change)).collect();
            (Predictor::OtherChange(path), residual_bits(&self.integers, &predictions))
        });
        direct.into_iter().chain(change)
    }
}

/// The sample's newest value gives way to the stream's.
fn fix_reference(stream: &Stream<'_>, best: &mut Choice) {
    let newest = |scale: Scale| {
        let integers = stream.words.iter().map(|w| scale.operand(*w) as i64);
        integers.max().unwrap_or(0) as u64
    };
    match &mut best.plan {
        Plan::Residuals(Predictor::Reference(word)) => *word = newest(Scale(None)),
        Plan::Decimals(exponent, Predictor::Reference(word)) => {
            *word = newest(Scale(Some(*exponent)));
        }
        _ => {}
    }
}

/// What a stream costs, in bits a cell, without any other column.
pub fn own_cost(stream: &Stream<'_>, view: &View<'_>) -> f64 {
    choose(stream, &[], None, view).bits
}
