//! The choice between the encodings of a word stream, by what they would cost on a sample.

use std::iter::repeat_n;

use crate::encoding::predictor::Predictor;
use crate::encoding::row_view::RowView;
use crate::encoding::sampling::{SAMPLE_SIZE, bits_of, pick, residual_bits, sample_of};
use crate::encoding::words::{Encoding, Stream};
use crate::format::fixed64::MAX_DICTIONARY;
use crate::format::value::Tag;
use crate::state::schema::PathId;
use crate::state::table::Cell;

/// Other columns are tried on this many cells first.
const PRESAMPLE: usize = 8;

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

    /// The best predictor that needs no other column.
    fn without_columns(&self) -> (Predictor, f64) {
        let n = self.words.len();
        let mut best = (Predictor::Zero, residual_bits(&self.words, repeat_n(0, n)));
        let mut offer = |predictor, bits| {
            if bits < best.1 {
                best = (predictor, bits);
            }
        };
        if let Some(base) = &self.base {
            offer(Predictor::Base, residual_bits(&self.words, base.iter().copied()));
        }
        offer(Predictor::Previous, residual_bits(&self.words, self.previous.iter().copied()));
        if let Some(newest) = self.words.iter().map(|i| *i as i64).max() {
            let newest = newest as u64;
            // 8 bytes of argument, spread over the stream
            let argument = 64.0 / self.stream.words.len() as f64;
            let bits = residual_bits(&self.words, repeat_n(newest, n)) + argument;
            offer(Predictor::Reference(newest), bits);
        }
        best
    }

    fn with_predictor(&self, predictor: Predictor, view: &RowView<'_>) -> f64 {
        let predictions = predictor.predictions(self.base.as_deref(), &self.rows, self.stream.tag, view);
        residual_bits(&self.words, predictions.into_iter())
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

/// True if of all words at most a third are different: told without sorting them, as mostly they are more.
fn has_few(words: &[u64]) -> bool {
    let mut distinct: Vec<u64> = Vec::with_capacity(words.len() / 3);
    words.iter().all(|word| {
        let is_known = distinct.contains(word);
        let has_room = distinct.len() < words.len() / 3;
        if !is_known && has_room {
            distinct.push(*word);
        }
        is_known || has_room
    })
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
    let sample = Sample::new(stream, &sample_of(words.len(), SAMPLE_SIZE));
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
        *word = words.iter().map(|word| *word as i64).max().unwrap_or(0) as u64;
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
            (Predictor::Column(path), residual_bits(&self.words, predictions.into_iter()))
        });
        let base = self.base.as_ref().filter(|_| useful);
        let change = base.map(|base| {
            let changes = now
                .iter()
                .zip(base_cells.iter())
                .map(|(now, before)| number(now).wrapping_sub(number(before)));
            let predictions: Vec<u64> =
                base.iter().zip(changes).map(|(base, change)| base.wrapping_add(change)).collect();
            (Predictor::ColumnChange(path), residual_bits(&self.words, predictions.into_iter()))
        });
        direct.into_iter().chain(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_different_words_are_told_as_by_sorting() {
        for n in 0..80u64 {
            for different in 1..40 {
                let words: Vec<u64> = (0..n).map(|i| i * i % different).collect();
                let mut sorted = words.clone();
                sorted.sort_unstable();
                sorted.dedup();
                assert_eq!(has_few(&words), sorted.len() * 3 <= words.len(), "{words:?}");
            }
        }
    }
}
