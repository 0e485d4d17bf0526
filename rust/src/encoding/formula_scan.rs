//! A first look, in a few rows, at all columns at once: which of them may explain another.

use crate::encoding::formula::{Operands, Operation};
use crate::encoding::formula_inverse::Interval;
use crate::encoding::sampling::sample_of;
use crate::format::number::Scale;
use crate::format::powers::POWERS;
use crate::state::schema::PathId;

/// Rows of a sample in which every column is looked at, and those of them in which operations are tried.
const PROBED: usize = 8;
pub(crate) const SCANNED: usize = 2;
/// So many columns are looked at for what explains another: those that stand nearest.
pub(crate) const CANDIDATES: usize = 96;
/// Ratios that agree this well are one constant.
pub(crate) const AGREEMENT: f64 = 0.02;
const ABSENT: f64 = f64::NAN;

/// What is looked for, by row of the sample.
pub(crate) struct Wanted<'a> {
    pub(crate) scale: Scale,
    pub(crate) integers: &'a [u64],
    pub(crate) values: &'a [f64],
    pub(crate) old: &'a [f64],
}

/// The columns, row after row, so that one operation runs over all of them at once.
pub(crate) struct Scan<'a> {
    wanted: Wanted<'a>,
    probes: Vec<usize>,
    /// Rows of the sample in which operations are tried, far apart.
    rows: [usize; SCANNED],
    columns: Vec<PathId>,
    /// Column after column, their values at the probes, and the base's; then perhaps one that was not taken in.
    probed: Vec<f64>,
    probed_base: Vec<f64>,
    present: [Vec<f64>; SCANNED],
    base: [Vec<f64>; SCANNED],
    /// By column: its values differ, and they differ from the base's.
    varies: Vec<bool>,
    moves: Vec<bool>,
    /// By column: in how many of the rows it comes close.
    hits: Vec<u64>,
}

impl<'a> Scan<'a> {
    /// Of at most so many columns.
    pub(crate) fn new(wanted: Wanted<'a>, columns: usize) -> Scan<'a> {
        let columns = columns.min(CANDIDATES);
        let probes = sample_of(wanted.integers.len(), PROBED);
        let rows = std::array::from_fn(|side| probes[side * probes.len() / SCANNED]);
        let [present, base] = std::array::from_fn(|_| std::array::from_fn(|_| Vec::with_capacity(columns)));
        Scan {
            wanted,
            rows,
            columns: Vec::with_capacity(columns),
            probed: Vec::with_capacity((columns + 1) * probes.len()),
            probed_base: Vec::with_capacity((columns + 1) * probes.len()),
            probes,
            present,
            base,
            varies: Vec::with_capacity(columns),
            moves: Vec::with_capacity(columns),
            hits: Vec::with_capacity(columns),
        }
    }

    /// The rows of the sample in which it wants to see each column.
    pub(crate) fn probes(&self) -> &[usize] {
        &self.probes
    }

    /// Takes a column in, unless it repeats another one or has few numbers; `fetch` looks at it, at the probes.
    pub(crate) fn add(&mut self, path: PathId, fetch: impl FnOnce(&mut [f64], &mut [f64])) {
        let (at, n) = (self.len(), self.probes.len());
        self.probed.resize((at + 1) * n, ABSENT);
        self.probed_base.resize((at + 1) * n, ABSENT);
        fetch(&mut self.probed[at * n..], &mut self.probed_base[at * n..]);
        let (present, base) = (self.present_at(at), self.base_at(at));
        let there = present.iter().filter(|value| !value.is_nan()).count();
        if there * 2 < n || self.has_twin(present, base) {
            // the next one takes its place
            return;
        }
        let varies = present.windows(2).any(|pair| pair[0] != pair[1]);
        let moves = present.iter().zip(base).any(|(now, before)| now != before);
        for side in 0..SCANNED {
            let probe = at * n + side * n / SCANNED;
            self.present[side].push(self.probed[probe]);
            self.base[side].push(self.probed_base[probe]);
        }
        self.varies.push(varies);
        self.moves.push(moves);
        self.columns.push(path);
        self.hits.push(0);
    }

    /// True if a column has the same values.
    fn has_twin(&self, present: &[f64], base: &[f64]) -> bool {
        let is_same = |p: &[f64], q: &[f64]| p.iter().zip(q).all(|(p, q)| p == q || p.is_nan() && q.is_nan());
        // one value tells most columns apart
        let mut alike = (0..self.len()).filter(|at| self.present[0][*at] == present[0]);
        alike.any(|at| self.present_at(at) == present && is_same(self.base_at(at), base))
    }

    /// A column at the probes.
    pub(crate) fn probed(&self, at: usize) -> (&[f64], &[f64]) {
        (self.present_at(at), self.base_at(at))
    }

    fn present_at(&self, at: usize) -> &[f64] {
        let n = self.probes.len();
        &self.probed[at * n..(at + 1) * n]
    }

    fn base_at(&self, at: usize) -> &[f64] {
        let n = self.probes.len();
        &self.probed_base[at * n..(at + 1) * n]
    }

    pub(crate) fn len(&self) -> usize {
        self.columns.len()
    }

    pub(crate) fn path(&self, at: usize) -> PathId {
        self.columns[at]
    }

    /// The value is not the same all over.
    pub(crate) fn varies(&self, at: usize) -> bool {
        self.varies[at]
    }

    /// Some value differs from the base's.
    pub(crate) fn moves(&self, at: usize) -> bool {
        self.moves[at]
    }

    /// The columns with which an operation on one column comes within so many bits in some row.
    pub(crate) fn singles(&mut self, operation: Operation, bits: u32, found: &mut Vec<usize>) {
        macro_rules! run {
            ($($name:ident)*) => {
                match operation {
                    $(Operation::$name => {
                        self.look(operation, bits, |x| Operation::$name.apply(1.0, x), found);
                    })*
                    // the closes that are implied differ a little from those rounded
                    Operation::PercentOnRoundedClose => {
                        self.singles(Operation::PercentOnClose, bits + 2, found);
                    }
                    _ => {}
                }
            };
        }
        run!(Other OtherOld OldPlusChange OldMinusChange OldTimesRatio OldOverRatio Multiple OldPlusMultipleOfChange
            LargerOfOld SmallerOfOld PercentOnClose MinusOld PlusOld Change ChangePercent);
    }

    /// What an operation on these columns works from in a scanned row.
    #[inline]
    pub(crate) fn operands(&self, side: usize, a: Option<usize>, b: Option<usize>) -> Operands {
        let at = |values: &[f64], column: Option<usize>| column.map_or(ABSENT, |column| values[column]);
        let (present, base) = (&self.present[side], &self.base[side]);
        let old = self.wanted.old[self.rows[side]];
        Operands { old, a: at(present, a), a_old: at(base, a), b: at(present, b), b_old: at(base, b) }
    }

    /// The value that is looked for in a scanned row.
    pub(crate) fn wanted_value(&self, side: usize) -> f64 {
        self.wanted.values[self.rows[side]]
    }

    /// The results that come within so many bits, by scanned row.
    pub(crate) fn within(&self, bits: u32) -> [Interval; SCANNED] {
        std::array::from_fn(|side| self.wanted_within(side, bits))
    }

    /// The results that come within so many bits in a scanned row.
    fn wanted_within(&self, side: usize, bits: u32) -> Interval {
        let Scale { exponent, unit } = self.wanted.scale;
        let integer = self.wanted.integers[self.rows[side]] as i64;
        let bound = 1i64 << bits.min(62);
        if !self.wanted.scale.is_raw() {
            let factor = POWERS[usize::from(exponent)] / unit as f64;
            let (target, bound) = (integer as f64, bound as f64);
            return ((target - bound) / factor, (target + bound) / factor);
        }
        // of the same sign: words of floats are in the order of their magnitudes
        let float = |word: i64| f64::from_bits(word as u64);
        if integer >= 0 {
            let most = f64::INFINITY.to_bits() as i64;
            (float((integer - bound).max(0)), float(integer.saturating_add(bound).min(most)))
        } else {
            let most = f64::NEG_INFINITY.to_bits() as i64;
            (float(integer.saturating_add(bound).min(most)), float(integer.saturating_sub(bound)))
        }
    }

    #[inline(always)]
    fn look(
        &mut self,
        operation: Operation,
        bits: u32,
        apply: impl Fn(Operands) -> f64,
        found: &mut Vec<usize>,
    ) {
        found.clear();
        self.hits.fill(0);
        if operation.has_constant() {
            self.compare_ratios(operation, apply);
        } else {
            self.compare(bits, apply);
        }
        // mostly there are none, which is quickly told
        if self.hits.iter().fold(0, |all, hits| all | hits) != 0 {
            found.extend((0..self.len()).filter(|at| self.hits[*at] > 0));
        }
    }

    #[inline(always)]
    fn compare(&mut self, bits: u32, apply: impl Fn(Operands) -> f64) {
        for side in 0..SCANNED {
            let (low, high) = self.wanted_within(side, bits);
            self.sweep(side, &apply, |_, result| low <= result && result <= high);
        }
    }

    /// Counts columns with which the same constant serves in two rows.
    #[inline(always)]
    fn compare_ratios(&mut self, operation: Operation, apply: impl Fn(Operands) -> f64) {
        let on_old = operation.adds_to_old();
        let olds = self.rows.map(|row| if on_old { self.wanted.old[row] } else { 0.0 });
        let [x, y] = [0, 1].map(|side| self.wanted.values[self.rows[side]] - olds[side]);
        let mut lefts = Vec::with_capacity(self.len());
        self.sweep(0, &apply, |_, result| {
            lefts.push((result - olds[0]) * y);
            false
        });
        self.sweep(1, &apply, |at, result| {
            let right = (result - olds[1]) * x;
            (lefts[at] - right).abs() <= AGREEMENT * right.abs()
        });
    }

    /// Counts the columns that are close in one of the rows.
    #[inline(always)]
    fn sweep(
        &mut self,
        side: usize,
        apply: &impl Fn(Operands) -> f64,
        mut is_close: impl FnMut(usize, f64) -> bool,
    ) {
        let old = self.wanted.old[self.rows[side]];
        let values = self.present[side].iter().zip(&self.base[side]);
        for (at, (hits, (a, a_old))) in self.hits.iter_mut().zip(values).enumerate() {
            let result = apply(Operands { old, a: *a, a_old: *a_old, b: ABSENT, b_old: ABSENT });
            *hits += u64::from(is_close(at, result));
        }
    }
}
