//! Finds the formula by which one column is worked out from others.

use crate::encoding::formula::{Formula, OPERATIONS, Operation, number, word};
use crate::encoding::predictor::{DecimalExponent, Predictor};
use crate::encoding::row_view::RowView;
use crate::encoding::sampling::sample_of;
use crate::format::value::{Tag, tag};
use crate::format::writer::zigzag;
use crate::state::schema::{PathId, ROOT};
use crate::state::table::{Cell, Cells};
use Operation::{OldOverRatio, OldTimesRatio};

const SAMPLE: usize = 16;
/// Cells are looked at for the sample at most so often.
const PROBES: usize = 64;
/// Candidates must be this close, in units in the last place, on the first cells they are tried on.
const CLOSE: u64 = 8;
const FIRST_TRIES: usize = 3;
/// This share of a sample must be close.
const SHARE: f64 = 0.6;

fn is_close(prediction: u64, target: u64) -> bool {
    zigzag(target.wrapping_sub(prediction)) <= 2 * CLOSE
}

/// Another column at the places of a sample.
struct SampledColumn {
    path: PathId,
    present: Vec<f64>,
    base: Vec<f64>,
    /// The present words, if all are ints.
    ints: Option<Vec<i64>>,
}

/// The search for what one costly column can be worked out from, while column after column becomes known.
pub(crate) struct FormulaSearch {
    tag: Tag,
    rows: Vec<u32>,
    target: Vec<u64>,
    old: Option<Vec<u64>>,
    operands: Vec<SampledColumn>,
}

impl FormulaSearch {
    /// None if the column's numbers tell too little.
    pub(crate) fn new(cells: &Cells, old: Option<&Cells>, rows: &[u32]) -> Option<FormulaSearch> {
        let probes = sample_of(cells.len(), PROBES);
        let count = |tag: Tag| probes.iter().filter(|i| cells.tags[**i] == tag).count();
        let tag = if count(tag::FLOAT) >= count(tag::INT) { tag::FLOAT } else { tag::INT };
        // cells that are zero tell nothing
        let informative = |i: &usize| cells.tags[*i] == tag && cells.words[*i] << 1 != 0;
        let all: Vec<usize> = probes.into_iter().filter(informative).collect();
        let sample: Vec<usize> = sample_of(all.len(), SAMPLE).into_iter().map(|i| all[i]).collect();
        let old_word = |cell: Cell| if cell.tag == tag { cell.word } else { 0 };
        (sample.len() >= 2).then(|| FormulaSearch {
            tag,
            rows: sample.iter().map(|i| rows[*i]).collect(),
            target: sample.iter().map(|i| cells.words[*i]).collect(),
            old: old.map(|old| sample.iter().map(|i| old_word(old.get(*i))).collect()),
            operands: Vec::new(),
        })
    }

    fn fits(&self, predict: impl Fn(usize) -> u64) -> bool {
        let close = |i: &usize| is_close(predict(*i), self.target[*i]);
        let n = self.target.len();
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

    /// True if a predictor that was found in an earlier frame serves in this one.
    pub(crate) fn still_fits(&self, predictor: Predictor, view: &RowView<'_>) -> bool {
        let fitting = match predictor {
            Predictor::Formula(_) => self.tag == tag::FLOAT,
            Predictor::Max(..) => self.tag == tag::INT,
            _ => false,
        };
        if !fitting || predictor.needs_base() && self.old.is_none() {
            return false;
        }
        let old = self.old.as_deref();
        let predictions = predictor.predictions(old, &self.rows, self.tag, DecimalExponent(None), view);
        self.fits(|i| predictions[i])
    }

    /// What taking in another column costs, in cells and pairs to look at.
    pub(crate) fn cost(&self) -> usize {
        SAMPLE + 2 * self.operands.len()
    }

    /// Takes in a column that has become known. Returns a predictor that it makes possible.
    pub(crate) fn add_column(&mut self, path: PathId, view: &RowView<'_>) -> Option<Predictor> {
        let mut added = SampledColumn { path, present: Vec::new(), base: Vec::new(), ints: Some(Vec::new()) };
        view.visit(path, &self.rows, |_, present, base| {
            added.present.push(number(present));
            added.base.push(number(base));
            match &mut added.ints {
                Some(ints) if present.tag == tag::INT => ints.push(present.word as i64),
                ints => *ints = None,
            }
        });
        let found = if self.tag == tag::INT {
            self.find_max(&added)
        } else {
            self.find_pair(&added).or_else(|| self.find_ratio(&added)).map(Predictor::Formula)
        };
        self.operands.push(added);
        found
    }

    fn find_max(&self, added: &SampledColumn) -> Option<Predictor> {
        let first = added.ints.as_ref()?;
        self.operands.iter().find_map(|other| {
            let second = other.ints.as_ref()?;
            let mut pairs = first.iter().zip(second).zip(&self.target);
            let all = pairs.all(|((x, y), target)| *x.max(y) == *target as i64);
            all.then_some(Predictor::Max(added.path, other.path))
        })
    }

    fn find_pair(&self, added: &SampledColumn) -> Option<Formula> {
        for other in &self.operands {
            for (a, b) in [(added, other), (other, added)] {
                for operation in OPERATIONS {
                    let predict = |i: usize| word(operation.apply(a.present[i], b.present[i]));
                    if !operation.needs_base() && self.fits(predict) {
                        return Some(Formula { operation, a: a.path, b: b.path });
                    }
                }
            }
        }
        None
    }

    fn find_ratio(&self, a: &SampledColumn) -> Option<Formula> {
        let old = self.old.as_ref()?;
        // an operand that stays the same would only repeat the old value
        let moves = a.present.iter().zip(&a.base).any(|(present, base)| present != base);
        let fits = |operation: &Operation| {
            let old = |i: usize| f64::from_bits(old[i]);
            self.fits(|i| word(operation.apply_to_old(old(i), a.present[i], a.base[i])))
        };
        let operation = [OldTimesRatio, OldOverRatio].into_iter().find(fits).filter(|_| moves)?;
        Some(Formula { operation, a: a.path, b: ROOT })
    }
}
