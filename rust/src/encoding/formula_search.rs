//! Finds what a column follows from, on a sample of its cells.

use crate::encoding::encode::Learned;
use crate::encoding::formula::{Formula, Operands, Operation, PAIRS, SINGLES};
use crate::encoding::numbers::{Input, classify};
use crate::encoding::numbers_plan::profile;
use crate::encoding::row_view::{RowView, number};
use crate::encoding::sampling::sample_of;
use crate::format::number::{Form, Scale};
use crate::format::powers::POWERS;
use crate::format::value::tag;
use crate::format::writer::zigzag;
use crate::state::schema::{PathId, ROOT};
use crate::state::table::Cells;

const SAMPLE: usize = 32;
/// Cells are looked at for the sample at most so often.
const PROBES: usize = 96;
/// So many alternatives are kept of one column: the best may make a cycle.
const KEPT: usize = 6;
/// Nothing is looked for where a cell costs no more bits.
const CHEAP: f64 = 1.5;
/// Alternatives may cost so much more than the best.
const GOOD: u32 = SAMPLE as u32 / 4;
/// So many columns in a scan cost as much as a row of a formula that is tried.
const SCANS: usize = 8;
/// Ratios that agree this well are one constant.
const AGREEMENT: f64 = 0.02;

/// Another column at the places of a sample.
struct SampledColumn {
    path: PathId,
    present: Vec<f64>,
    base: Vec<f64>,
    /// The present words, if all are ints.
    ints: Option<Vec<i64>>,
    /// The value is not the same all over.
    varies: bool,
    /// Some value differs from the base's.
    moves: bool,
}

/// A way to work out a column, and its bits a cell on the sample.
pub(crate) struct Finding {
    pub(crate) learned: Learned,
    pub(crate) bits: f64,
}

/// What is to be found, on the sample.
struct Goal {
    scale: Scale,
    target: Vec<u64>,
    /// What is predicted where a formula has no result.
    fallback: Vec<u64>,
}

/// The search for what one column follows from.
pub(crate) struct FormulaSearch {
    rows: Vec<u32>,
    /// They are ints beyond all scales.
    large: bool,
    goal: Goal,
    /// The target as values, and the base's.
    values: Vec<f64>,
    old: Vec<f64>,
    has_base: bool,
    own: u32,
    operands: Vec<SampledColumn>,
    found: Vec<(u32, Learned)>,
}

fn bits(prediction: u64, target: u64) -> u32 {
    64 - zigzag(target.wrapping_sub(prediction)).leading_zeros()
}

impl Goal {
    /// The bits of the sample under a formula, if they are below the limit.
    #[inline]
    fn cost(
        &self,
        formula: Formula,
        limit: u32,
        budget: &mut usize,
        operands: impl Fn(usize) -> Operands,
    ) -> Option<u32> {
        let n = self.target.len() as u32;
        let mut sum = 0;
        for (i, target) in self.target.iter().enumerate() {
            let result = formula.operation.apply(formula.k, operands(i));
            // a result that is missing is a sign that another row would do worse
            sum += match self.scale.integer(result) {
                Some(prediction) => bits(prediction, *target),
                None => bits(self.fallback[i], *target) + 2,
            };
            // one row may be an exception, two tell enough
            let seen = i as u32 + 1;
            if sum >= limit || seen >= 2 && sum * n >= limit * (seen + 1) {
                *budget = budget.saturating_sub(i + 1);
                return None;
            }
        }
        *budget = budget.saturating_sub(self.target.len());
        Some(sum)
    }
}

fn sum_of_bits(target: &[u64], predictions: impl Iterator<Item = u64>) -> u32 {
    target.iter().zip(predictions).map(|(target, prediction)| bits(prediction, *target)).sum()
}

impl FormulaSearch {
    /// None if the column has too few numbers, or costs next to nothing.
    pub(crate) fn new(input: &Input<'_>) -> Option<FormulaSearch> {
        let table = input.view.table;
        let words = profile(table, input.cells).and_then(|(scale, forms)| {
            let probes = sample_of(input.cells.len(), PROBES);
            let cells: Vec<_> = probes.iter().map(|i| input.cells.get(*i)).collect();
            let classified = classify(table, scale, &forms, cells.into_iter());
            let is_number = |form: u8| forms.get(usize::from(form)).is_some_and(|f| *f != Form::Absent);
            let all: Vec<(usize, u64)> = probes
                .into_iter()
                .zip(classified.integers)
                .zip(classified.forms)
                .filter(|((_, integer), form)| is_number(*form) && integer << 1 != 0)
                .map(|(numeric, _)| numeric)
                .collect();
            (all.len() >= 2).then_some((scale, all))
        });
        let large = words.is_none();
        let (scale, all) = words.or_else(|| Some((Scale::BITS, large_ints(input.cells)?)))?;
        let sample: Vec<(usize, u64)> = sample_of(all.len(), SAMPLE).into_iter().map(|i| all[i]).collect();
        let base = |i: usize| input.base.map_or(f64::NAN, |base| number(table, base.get(i)));
        let old: Vec<f64> = sample.iter().map(|(i, _)| base(*i)).collect();
        let target: Vec<u64> = sample.iter().map(|(_, integer)| *integer).collect();
        let fallback: Vec<u64> = match input.base.filter(|_| large) {
            Some(base) => sample.iter().map(|(i, _)| base.words[*i]).collect(),
            None => old.iter().map(|old| scale.integer(*old).unwrap_or(0)).collect(),
        };
        let zero = sum_of_bits(&target, std::iter::repeat(0));
        let newest = target.iter().map(|integer| *integer as i64).max().unwrap_or(0) as u64;
        let own = sum_of_bits(&target, fallback.iter().copied())
            .min(zero)
            .min(sum_of_bits(&target, std::iter::repeat(newest)));
        (f64::from(own) > CHEAP * target.len() as f64).then(|| FormulaSearch {
            rows: sample.iter().map(|(i, _)| input.rows[*i]).collect(),
            large,
            goal: Goal { scale, target, fallback },
            values: sample.iter().map(|(i, _)| number(table, input.cells.get(*i))).collect(),
            old,
            has_base: input.base.is_some(),
            own,
            operands: Vec::new(),
            found: Vec::new(),
        })
    }

    /// What a cell costs by itself.
    pub(crate) fn own_bits(&self) -> f64 {
        f64::from(self.own) / self.goal.target.len() as f64
    }

    /// Looks through columns, as far as the budget goes, which counts rows looked at.
    pub(crate) fn run(
        mut self,
        columns: &[PathId],
        known: Option<Learned>,
        view: &RowView<'_>,
        budget: &mut usize,
    ) -> Vec<Finding> {
        if let Some(known) = known {
            self.offer_known(known, view);
        }
        if self.large {
            self.add_columns(columns, view, budget);
            self.find_larger();
        } else {
            self.find_constant(budget);
            self.add_columns(columns, view, budget);
            for at in 0..self.operands.len() {
                self.find_single(at, budget);
            }
            self.find_pairs(budget);
        }
        let n = self.goal.target.len() as f64;
        let finding = |(sum, learned)| Finding { learned, bits: f64::from(sum) / n };
        self.found.into_iter().map(finding).collect()
    }

    fn offer_known(&mut self, known: Learned, view: &RowView<'_>) {
        if let Learned::Formula(formula) = known {
            let none = Operands { old: f64::NAN, a: f64::NAN, a_old: f64::NAN, b: f64::NAN, b_old: f64::NAN };
            let mut operands = vec![none; self.rows.len()];
            operands.iter_mut().zip(&self.old).for_each(|(x, old)| x.old = *old);
            for (at, path) in formula.columns().enumerate() {
                view.visit(path, &self.rows, |i, now, base| {
                    let pair = (number(view.table, now), number(view.table, base));
                    let x = &mut operands[i];
                    if at == 0 { (x.a, x.a_old) = pair } else { (x.b, x.b_old) = pair }
                });
            }
            let mut budget = usize::MAX;
            self.offer(formula, &mut budget, |i| operands[i]);
        }
    }

    fn add_columns(&mut self, columns: &[PathId], view: &RowView<'_>, budget: &mut usize) {
        for path in columns {
            if *budget == 0 {
                return;
            }
            *budget = budget.saturating_sub(SAMPLE);
            let mut added = SampledColumn {
                path: *path,
                present: Vec::with_capacity(SAMPLE),
                base: Vec::with_capacity(SAMPLE),
                ints: Some(Vec::new()),
                varies: false,
                moves: false,
            };
            view.visit(*path, &self.rows, |_, present, base| {
                let (now, before) = (number(view.table, present), number(view.table, base));
                added.varies |= added.present.last().is_some_and(|last| *last != now);
                added.moves |= now != before;
                added.present.push(now);
                added.base.push(before);
                match &mut added.ints {
                    Some(ints) if present.tag == tag::INT => ints.push(present.word as i64),
                    ints => *ints = None,
                }
            });
            let there = added.present.iter().filter(|value| !value.is_nan()).count();
            let is_twin = |other: &SampledColumn| other.present == added.present && other.base == added.base;
            if there * 2 >= self.rows.len() && !self.operands.iter().any(is_twin) {
                self.operands.push(added);
            }
        }
    }

    /// What a finding must stay below to be of use: alternatives that are much worse than the best are not.
    fn limit(&self) -> u32 {
        let own = self.own - self.own / 4;
        let near = self.found.first().map_or(own, |best| 2 * best.0 + GOOD);
        let last = self.found.get(KEPT - 1).map_or(own, |last| last.0);
        own.min(near).min(last)
    }

    fn keep(&mut self, sum: u32, learned: Learned) {
        let at = self.found.partition_point(|found| found.0 <= sum);
        self.found.insert(at, (sum, learned));
        self.found.truncate(KEPT);
    }

    /// Takes a formula in if it does better than others.
    fn offer(&mut self, formula: Formula, budget: &mut usize, operands: impl Fn(usize) -> Operands) {
        if let Some(sum) = self.goal.cost(formula, self.limit(), budget, operands) {
            self.keep(sum, Learned::Formula(formula));
        }
    }

    fn single(&self, at: usize, i: usize) -> Operands {
        let a = &self.operands[at];
        Operands { old: self.old[i], a: a.present[i], a_old: a.base[i], b: f64::NAN, b_old: f64::NAN }
    }

    fn find_constant(&mut self, budget: &mut usize) {
        if !self.has_base || self.goal.scale.is_raw() {
            return;
        }
        let changes =
            self.goal.target.iter().zip(&self.goal.fallback).map(|(new, old)| new.wrapping_sub(*old));
        let mut changes: Vec<i64> = changes.map(|change| change as i64).collect();
        changes.sort_unstable();
        let runs = changes.chunk_by(|a, b| a == b);
        let Some(run) = runs.max_by_key(|run| run.len()).filter(|run| run.len() > 2) else { return };
        let k = run[0] as f64 / POWERS[usize::from(self.goal.scale.exponent)];
        let formula = Formula { operation: Operation::OldPlusConstant, k, ..Formula::OLD };
        let old = self.old.clone();
        let nan = f64::NAN;
        self.offer(formula, budget, |i| Operands { old: old[i], a: nan, a_old: nan, b: nan, b_old: nan });
    }

    fn find_single(&mut self, at: usize, budget: &mut usize) {
        for operation in SINGLES {
            let a = &self.operands[at];
            // an operand that stays the same would only repeat the old value
            let repeats = operation.needs_base() && !a.moves && operation != Operation::OtherOld;
            if operation.needs_base() && !self.has_base || repeats || *budget == 0 {
                continue;
            }
            let k = match operation {
                Operation::PercentOnRoundedClose => Some(POWERS[usize::from(decimals(&a.base))]),
                _ if operation.has_constant() => self.constant(operation, |i| self.single(at, i)),
                _ => Some(1.0),
            };
            let Some(k) = k else { continue };
            let formula = Formula { operation, a: a.path, b: ROOT, k };
            let cost = self.goal.cost(formula, self.limit(), budget, |i| self.single(at, i));
            if let Some(sum) = cost {
                self.keep(sum, Learned::Formula(formula));
            }
        }
    }

    /// Two columns at a time. A look at a few rows tells which pairs are worth more.
    fn find_pairs(&mut self, budget: &mut usize) {
        let mut scan = PairScan::new(&self.operands, self.goal.target.len());
        let mut promising: Vec<usize> = Vec::new();
        for at in 0..self.operands.len() {
            for operation in PAIRS {
                let a = &self.operands[at];
                if !a.varies || operation.needs_base() && !(self.has_base && a.moves) {
                    continue;
                }
                if *budget == 0 || self.found.first().is_some_and(|best| best.0 == 0) {
                    return;
                }
                // a scan costs a fraction of a formula that is tried
                *budget = budget.saturating_sub(1 + self.operands.len() / SCANS);
                scan.promising(self, operation, at, &mut promising);
                for &other in &promising {
                    self.find_pair(operation, at, other, budget);
                }
            }
        }
    }

    fn find_pair(&mut self, operation: Operation, at: usize, other: usize, budget: &mut usize) {
        let [a, b] = [&self.operands[at], &self.operands[other]];
        if !b.varies || at == other || operation.is_symmetric() && at > other {
            return;
        }
        let operands = |i: usize| Operands {
            old: self.old[i],
            a: a.present[i],
            a_old: a.base[i],
            b: b.present[i],
            b_old: b.base[i],
        };
        let mut formula = Formula { operation, a: a.path, b: b.path, k: 1.0 };
        if operation.has_constant() {
            *budget = budget.saturating_sub(3);
            match self.constant(operation, operands) {
                Some(k) => formula.k = k,
                None => return,
            }
        }
        if let Some(sum) = self.goal.cost(formula, self.limit(), budget, operands) {
            self.keep(sum, Learned::Formula(formula));
        }
    }

    /// The constant that a formula needs, if a few rows agree on one.
    fn constant(&self, operation: Operation, operands: impl Fn(usize) -> Operands) -> Option<f64> {
        let n = self.goal.target.len();
        let on_old =
            matches!(operation, Operation::OldPlusMultipleOfChange | Operation::OldPlusMultipleOfChangeTimes);
        let ratio = |i: usize| {
            let x = operands(i);
            let old = if on_old { x.old } else { 0.0 };
            (self.values[i] - old) / (operation.apply(1.0, x) - old)
        };
        let usable = |ratio: &f64| ratio.is_finite() && *ratio != 0.0;
        // of three rows two must agree
        let [x, y, z] = [0, n / 2, n - 1].map(ratio);
        let near = |x: f64, y: f64| ((x - y) / x).abs() <= AGREEMENT;
        if !near(x, y) && !near(y, z) && !near(x, z) {
            return None;
        }
        let mut ratios: Vec<f64> = (0..n).map(ratio).filter(usable).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).map(|k| simple(*k)).filter(|k| *k != 1.0)
    }

    fn find_larger(&mut self) {
        let mut found = None;
        for (at, one) in self.operands.iter().enumerate() {
            for other in &self.operands[..at] {
                let (Some(a), Some(b)) = (&one.ints, &other.ints) else { continue };
                let mut pairs = a.iter().zip(b).zip(&self.goal.target);
                if pairs.all(|((a, b), target)| *a.max(b) == *target as i64) {
                    found = Some(Learned::Larger(one.path, other.path));
                }
            }
        }
        if let Some(found) = found {
            self.keep(0, found);
        }
    }
}

/// Rows of the sample that a scan looks at, and in how many of them a column has to come close.
const SCANNED: usize = 4;
const CLOSE: u64 = 2;

/// Some rows of the sample, column after column, so that one operation runs over all columns at once.
struct PairScan {
    rows: [usize; SCANNED],
    present: [Vec<f64>; SCANNED],
    base: [Vec<f64>; SCANNED],
    /// By column: the rows in which it comes close.
    hits: Vec<u64>,
}

impl PairScan {
    fn new(operands: &[SampledColumn], n: usize) -> PairScan {
        let rows = std::array::from_fn(|i| i * n / SCANNED);
        let present = rows.map(|row| operands.iter().map(|column| column.present[row]).collect());
        let base = rows.map(|row| operands.iter().map(|column| column.base[row]).collect());
        PairScan { rows, present, base, hits: vec![0; operands.len()] }
    }

    /// The second columns with which an operation comes close in most rows, or needs one constant in two.
    fn promising(&mut self, search: &FormulaSearch, operation: Operation, at: usize, found: &mut Vec<usize>) {
        self.hits.fill(0);
        macro_rules! run {
            ($($name:ident)*) => {
                match operation {
                    $(Operation::$name => self.sweep(search, at, operation, |x| Operation::$name.apply(1.0, x)),)*
                    _ => {}
                }
            };
        }
        run!(Difference Sum Product Quotient Mean Percent PercentChange AbsoluteProduct PercentAbove PercentOfRest
            Larger Smaller OldPlusChanges OldPlusDifferenceOfChanges OldPlusChangeTimes WeightedMean
            MultipleOfQuotient MultipleOfProduct OldPlusMultipleOfChangeTimes);
        found.clear();
        found.extend(self.hits.iter().enumerate().filter(|(_, hits)| **hits >= CLOSE).map(|(at, _)| at));
    }

    /// Counts the columns that come close in one of the rows.
    #[inline(always)]
    fn count(
        &mut self,
        side: usize,
        at: usize,
        old: f64,
        apply: &impl Fn(Operands) -> f64,
        mut is_close: impl FnMut(usize, f64) -> bool,
    ) {
        let (present, base) = (&self.present[side], &self.base[side]);
        let (a, a_old) = (present[at], base[at]);
        let columns = self.hits.iter_mut().zip(present).zip(base);
        for (other, ((hits, b), b_old)) in columns.enumerate() {
            let result = apply(Operands { old, a, a_old, b: *b, b_old: *b_old });
            *hits += u64::from(is_close(other, result));
        }
    }

    #[inline(always)]
    fn sweep(
        &mut self,
        search: &FormulaSearch,
        at: usize,
        operation: Operation,
        apply: impl Fn(Operands) -> f64,
    ) {
        let goal = &search.goal;
        let bound = (1u64 << (search.limit() / goal.target.len() as u32).min(62)) as f64;
        let rows = self.rows;
        let olds = rows.map(|row| search.old[row]);
        if operation.has_constant() {
            let on_old = operation == Operation::OldPlusMultipleOfChangeTimes;
            let old = |side: usize| if on_old { olds[side] } else { 0.0 };
            let [first, second] = [0, SCANNED / 2];
            let [x, y] = [first, second].map(|side| search.values[rows[side]] - old(side));
            let mut lefts = Vec::with_capacity(self.hits.len());
            self.count(first, at, olds[first], &apply, |_, result| {
                lefts.push((result - old(first)) * y);
                false
            });
            self.count(second, at, olds[second], &apply, |other, result| {
                let right = (result - old(second)) * x;
                (lefts[other] - right).abs() <= AGREEMENT * right.abs()
            });
            self.hits.iter_mut().for_each(|hits| *hits *= CLOSE);
            return;
        }
        let factor = POWERS[usize::from(goal.scale.exponent) % POWERS.len()] / goal.scale.unit as f64;
        for (side, row) in rows.into_iter().enumerate() {
            let target = goal.target[row];
            if goal.scale.is_raw() {
                self.count(side, at, olds[side], &apply, |_, result| {
                    let difference = result.to_bits().wrapping_sub(target) as i64;
                    difference.unsigned_abs() as f64 <= bound
                });
            } else {
                let target = target as i64 as f64;
                self.count(side, at, olds[side], &apply, |_, result| {
                    (result * factor - target).abs() <= bound
                });
            }
        }
    }
}

/// Ints that are too large for a scale.
fn large_ints(cells: &Cells) -> Option<Vec<(usize, u64)>> {
    let probes = sample_of(cells.len(), SAMPLE);
    let ints = probes.iter().filter(|i| cells.tags[**i] == tag::INT);
    let ints: Vec<(usize, u64)> = ints.map(|i| (*i, cells.words[*i])).collect();
    (ints.len() >= 2 && ints.len() == probes.len()).then_some(ints)
}

/// The decimals that values of a column have.
fn decimals(values: &[f64]) -> u8 {
    let exact = |e: &u8| {
        values.iter().all(|value| {
            let scaled = value * POWERS[usize::from(*e)];
            value.is_nan() || (scaled - scaled.round()).abs() <= 1e-6 * scaled.abs().max(1.0)
        })
    };
    (0..6).find(exact).unwrap_or(6)
}

/// A number that a person would write, if one is close.
fn simple(ratio: f64) -> f64 {
    for digits in 1..=3 {
        let magnitude = 10f64.powi(digits - 1 - ratio.abs().log10().floor() as i32);
        let rounded = (ratio * magnitude).round() / magnitude;
        if ((rounded - ratio) / ratio).abs() < 2e-3 {
            return rounded;
        }
    }
    ratio
}
