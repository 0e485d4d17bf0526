//! The choice between the encodings of a word stream, by what they would cost on a sample.

use crate::encoding::predictor::Predictor;
use crate::encoding::row_view::RowView;
use crate::encoding::sampling::{
    Cheapest, PRESAMPLE, SAMPLE_SIZE, bits_of, has_few, newest, pick, residual_bits, sample_of,
};
use crate::encoding::words::{Encoding, Stream};
use crate::format::fixed64::MAX_DICTIONARY;
use crate::format::value::Tag;
use crate::state::schema::PathId;
use crate::state::table::Cell;

/// A plan and what it is expected to cost, in bits a cell.
#[derive(Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) encoding: Encoding,
    pub(crate) bits: f64,
}

/// A sample of a stream.
struct Sample<'a> {
    stream: &'a Stream<'a>,
    indices: Vec<usize>,
    words: Vec<u64>,
}

impl<'a> Sample<'a> {
    fn new(stream: &'a Stream<'a>) -> Self {
        let indices = sample_of(stream.words.len(), SAMPLE_SIZE);
        let words = pick(stream.words, &indices);
        Sample { stream, indices, words }
    }

    /// The best predictor that needs no other column.
    fn without_columns(&self) -> (Predictor, f64) {
        let Stream { words, base, .. } = *self.stream;
        let mut best = Cheapest::new(&self.words, Predictor::Zero);
        if let Some(base) = base {
            best.offer(Predictor::Base, self.indices.iter().map(|i| base[*i]), 0.0);
        }
        let previous = self.indices.iter().map(|i| i.checked_sub(1).map_or(0, |i| words[i]));
        best.offer(Predictor::Previous, previous, 0.0);
        best.offer_newest(words.len(), Predictor::Reference);
        (best.predictor, best.bits)
    }

    fn with_predictor(&self, predictor: Predictor, view: &RowView<'_>) -> f64 {
        let Stream { tag, base, rows, .. } = *self.stream;
        let base = base.map(|base| pick(base, &self.indices));
        let predictions = predictor.predictions(base.as_deref(), &pick(rows, &self.indices), tag, view);
        residual_bits(&self.words, predictions.iter().copied())
    }

    fn dictionary(&self) -> Option<f64> {
        let n = self.stream.words.len();
        if n < SAMPLE_SIZE || !has_few(&self.words) {
            return None;
        }
        let mut sorted = self.words.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let mut distinct = self.stream.words.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() > MAX_DICTIONARY.min(n / 4) {
            return None;
        }
        // the numbers of the entries, as their places in the sample's own order would be
        let indices = self.words.iter().map(|word| sorted.partition_point(|entry| entry < word) as u64);
        Some(bits_of(indices) + 64.0 * distinct.len() as f64 / n as f64)
    }
}

/// The cheapest plan for a stream; `candidates` are columns that it may be predicted from, `learned` a predictor that
/// was found to fit.
pub(crate) fn select(
    stream: &Stream<'_>,
    candidates: &[PathId],
    learned: Option<Predictor>,
    view: &RowView<'_>,
) -> Candidate {
    let words = stream.words;
    if words.iter().all(|word| *word == words[0]) {
        return Candidate { encoding: Encoding::Constant, bits: 64.0 / words.len() as f64 };
    }
    let sample = Sample::new(stream);
    let (predictor, bits) = sample.without_columns();
    let mut best = Candidate { encoding: Encoding::Residuals(predictor), bits };
    if let Some(bits) = sample.dictionary()
        && bits < best.bits
    {
        best = Candidate { encoding: Encoding::Dictionary, bits };
    }
    if let Some(learned) = learned {
        let bits = sample.with_predictor(learned, view);
        if bits < best.bits {
            best = Candidate { encoding: Encoding::Residuals(learned), bits };
        }
    }
    consider_columns(&sample, candidates, view, &mut best);
    if let Encoding::Residuals(Predictor::Reference(word)) = &mut best.encoding {
        // the sample's newest value gives way to the stream's
        *word = newest(words);
    }
    best
}

fn consider_columns(sample: &Sample<'_>, candidates: &[PathId], view: &RowView<'_>, best: &mut Candidate) {
    // nothing to gain where a cell costs next to nothing
    if best.bits < 3.0 {
        return;
    }
    let estimate = Estimate::new(sample.stream);
    for &path in candidates {
        for (predictor, bits) in estimate.at(path, view) {
            if bits > best.bits * 0.9 {
                continue;
            }
            let bits = sample.with_predictor(predictor, view);
            if bits < best.bits * 0.95 {
                *best = Candidate { encoding: Encoding::Residuals(predictor), bits };
            }
        }
    }
}

/// A first look at other columns, on a few cells.
struct Estimate {
    tag: Tag,
    rows: Vec<u32>,
    words: Vec<u64>,
    base: Option<Vec<u64>>,
}

impl Estimate {
    fn new(stream: &Stream<'_>) -> Self {
        let indices = sample_of(stream.words.len(), PRESAMPLE);
        Estimate {
            tag: stream.tag,
            rows: pick(stream.rows, &indices),
            words: pick(stream.words, &indices),
            base: stream.base.map(|base| pick(base, &indices)),
        }
    }

    /// The predictors that the column offers, with what they would cost.
    fn at(&self, path: PathId, view: &RowView<'_>) -> impl Iterator<Item = (Predictor, f64)> {
        let (now, base_cells) = view.present_and_base(path, &self.rows);
        let number = |cell: Cell| if cell.tag == self.tag { cell.word } else { 0 };
        let useful = now.tags.iter().filter(|tag| **tag == self.tag).count() * 2 > self.rows.len();
        let direct = useful.then(|| {
            let predictions: Vec<u64> = now.iter().map(number).collect();
            (Predictor::Column(path), residual_bits(&self.words, predictions.iter().copied()))
        });
        let base = self.base.as_ref().filter(|_| useful);
        let change = base.map(|base| {
            let changes = now
                .iter()
                .zip(base_cells.iter())
                .map(|(now, before)| number(now).wrapping_sub(number(before)));
            let predictions: Vec<u64> =
                base.iter().zip(changes).map(|(base, change)| base.wrapping_add(change)).collect();
            (Predictor::ColumnChange(path), residual_bits(&self.words, predictions.iter().copied()))
        });
        direct.into_iter().chain(change)
    }
}
