//! Finds what a column follows from, on a sample of its cells.

use crate::encoding::classify::classify;
use crate::encoding::encode::Learned;
use crate::encoding::formula::{Formula, Operation, PAIRS, SINGLES};
use crate::encoding::formula_pairs::Pairs;
use crate::encoding::formula_sample::{Columns, Depth, Goal, Numbers, PlacesByPath, SAMPLE, bits};
use crate::encoding::formula_scan::{AGREEMENT, Scan, Wanted};
use crate::encoding::numbers::Input;
use crate::encoding::numbers_plan::profile;
use crate::encoding::residuals::divide_by_unit;
use crate::encoding::row_view::{RowView, number};
use crate::encoding::sampling::sample_of;
use crate::format::number::{Scale, is_number};
use crate::format::powers::POWERS;
use crate::format::value::tag;
use crate::state::schema::{PathId, ROOT};
use crate::state::table::Cells;

/// Cells are looked at for the sample at most so often.
const PROBES: usize = 96;
/// So many alternatives are kept of one column: the best may make a cycle.
const KEPT: usize = 6;
/// Nothing is looked for where a cell costs no more bits.
const CHEAP: f64 = 1.5;
/// A column's search may look at so many rows for each bit that the column costs by itself.
const ROWS_A_BIT: f64 = 6.0;
/// Alternatives may cost so much more than the best.
const GOOD: u32 = SAMPLE as u32 / 4;
/// So many columns in a scan cost as much as a row of a formula that is tried.
const SCANS: usize = 8;
/// A look for second columns costs as much as so many rows.
const LOOKUP: usize = 2;
/// As does what goes before the rows of a formula that is tried.
const TRY: usize = 3;

/// A way to work out a column, and its bits a cell on the sample.
pub(crate) struct Finding {
    pub(crate) learned: Learned,
    pub(crate) bits: f64,
}

/// The search for what one column follows from.
pub(crate) struct FormulaSearch {
    /// How many cells the column has.
    cells: usize,
    rows: Vec<u32>,
    /// They are ints beyond all scales.
    large: bool,
    goal: Goal,
    has_base: bool,
    own: u32,
}

fn sum_of_bits(target: &[u64], predictions: impl Iterator<Item = u64>) -> u32 {
    target.iter().zip(predictions).map(|(target, prediction)| bits(prediction, *target)).sum()
}

impl FormulaSearch {
    /// None if the column has too few numbers, or costs next to nothing.
    pub(crate) fn new(input: &Input<'_>) -> Option<FormulaSearch> {
        let table = input.view.table;
        let words = profile(table, input.cells).and_then(|(scale, forms)| {
            let numbers_among = |probes: Vec<usize>| -> Vec<(usize, u64)> {
                let classified = classify(table, scale, &forms, &input.cells.pick(&probes));
                let all = probes.iter().copied().zip(classified.integers).zip(classified.forms);
                let numeric =
                    all.filter(|((_, integer), form)| is_number(&forms, *form) && integer << 1 != 0);
                let mut numbers = Vec::with_capacity(probes.len());
                numbers.extend(numeric.map(|(numeric, _)| numeric));
                numbers
            };
            // where all are numbers, these are what would be taken of more
            let mut all = numbers_among(sample_of(input.cells.len(), SAMPLE));
            if all.len() < SAMPLE.min(input.cells.len()) {
                all = numbers_among(sample_of(input.cells.len(), PROBES));
            }
            (all.len() >= 2).then(|| (divide_by_unit(scale, &mut all, |(_, integer)| integer), all))
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
            cells: input.rows.len(),
            rows: sample.iter().map(|(i, _)| input.rows[*i]).collect(),
            large,
            goal: Goal {
                scale,
                target,
                fallback,
                values: sample.iter().map(|(i, _)| number(table, input.cells.get(*i))).collect(),
                old,
            },
            has_base: input.base.is_some(),
            own,
        })
    }

    /// What a cell costs by itself.
    pub(crate) fn own_bits(&self) -> f64 {
        f64::from(self.own) / self.goal.len() as f64
    }

    /// Looks through columns, as far as the budget goes, which counts rows looked at.
    pub(crate) fn run<'v>(
        &self,
        paths: &[PathId],
        (known, depth): (Option<Learned>, Depth),
        (view, places): (&RowView<'v>, &mut PlacesByPath<'v>),
        budget: &mut usize,
    ) -> Vec<Finding> {
        let mut found = Found { own: self.own, all: Vec::new() };
        let share = self.most_rows(self.own).min(*budget);
        let mut left = share;
        if self.large {
            self.find_larger(paths, view, &mut left, &mut found);
        } else {
            let Goal { scale, target, values, old, .. } = &self.goal;
            let wanted = Wanted { scale: *scale, integers: target, values, old };
            let scan = Scan::new(wanted, paths.len());
            let few = self.goal.pick(scan.probes());
            let columns = Columns::new(scan, paths, (view, places), &self.rows, &mut left);
            let mut look = Look { search: self, depth, few, columns, found };
            if let Some(Learned::Formula(formula)) = known {
                look.offer_known(formula, view);
            }
            self.find_constant(depth, &mut left, &mut look.found);
            look.find_singles(&mut left);
            // what is left to gain tells how much it may cost
            let best = look.found.all.first().filter(|_| depth == Depth::Quick);
            let pairs = self.most_rows(best.map_or(self.own, |(sum, _)| *sum)).min(left);
            let mut of_pairs = pairs;
            look.find_pairs(&mut of_pairs);
            left -= pairs - of_pairs;
            found = look.found;
        }
        *budget -= share - left;
        let n = self.goal.len() as f64;
        let finding = |(sum, learned)| Finding { learned, bits: f64::from(sum) / n };
        found.all.into_iter().map(finding).collect()
    }

    /// The rows that may be looked at for a column of which the sample costs so many bits.
    fn most_rows(&self, sum: u32) -> usize {
        (ROWS_A_BIT * f64::from(sum) / self.goal.len() as f64 * self.cells as f64) as usize
    }

    fn find_constant(&self, depth: Depth, budget: &mut usize, found: &mut Found) {
        if !self.has_base || self.goal.scale.is_raw() {
            return;
        }
        let changes =
            self.goal.target.iter().zip(&self.goal.fallback).map(|(new, old)| new.wrapping_sub(*old));
        let mut changes: Vec<i64> = changes.map(|change| change as i64).collect();
        changes.sort_unstable();
        let runs = changes.chunk_by(|a, b| a == b);
        let Some(run) = runs.max_by_key(|run| run.len()).filter(|run| run.len() > 2) else { return };
        let Scale { exponent, unit } = self.goal.scale;
        let k = run[0] as f64 * unit as f64 / POWERS[usize::from(exponent)];
        let formula = Formula { operation: Operation::OldPlusConstant, k, ..Formula::OLD };
        self.offer(formula, (Numbers::ABSENT, Numbers::ABSENT), depth, budget, found);
    }

    /// Takes a formula in if it does better than others.
    fn offer(
        &self,
        formula: Formula,
        numbers: (Numbers<'_>, Numbers<'_>),
        depth: Depth,
        budget: &mut usize,
        found: &mut Found,
    ) {
        if let Some(sum) = self.goal.cost(formula, numbers, (found.limit(), depth), budget) {
            found.keep(sum, Learned::Formula(formula));
        }
    }

    /// The constant that a formula needs, if a few rows agree on one.
    fn constant(&self, operation: Operation, numbers: (Numbers<'_>, Numbers<'_>)) -> Option<f64> {
        let n = self.goal.len();
        let ratio = |i: usize| self.goal.ratio(operation, i, numbers);
        // of three rows two must agree
        let [x, y, z] = [0, n / 2, n - 1].map(ratio);
        let near = |x: f64, y: f64| ((x - y) / x).abs() <= AGREEMENT;
        if !near(x, y) && !near(y, z) && !near(x, z) {
            return None;
        }
        let (mut ratios, mut usable) = ([0.0; SAMPLE], 0);
        for ratio in (0..n).map(ratio).filter(|ratio| ratio.is_finite() && *ratio != 0.0) {
            ratios[usable] = ratio;
            usable += 1;
        }
        if usable == 0 {
            return None;
        }
        let median = *ratios[..usable].select_nth_unstable_by(usable / 2, f64::total_cmp).1;
        Some(simple(median)).filter(|constant| *constant != 1.0)
    }

    /// Two columns of which the larger is always the one that is looked for.
    fn find_larger(&self, paths: &[PathId], view: &RowView<'_>, budget: &mut usize, found: &mut Found) {
        let mut ints: Vec<(PathId, Vec<i64>)> = Vec::new();
        for path in paths {
            if *budget == 0 {
                break;
            }
            *budget = budget.saturating_sub(1);
            // one row tells most columns off
            if view.present_cell(*path, self.rows[0], 0).tag != tag::INT {
                continue;
            }
            *budget = budget.saturating_sub(SAMPLE);
            let cells = view.present(*path, &self.rows);
            if cells.tags.iter().all(|tag| *tag == tag::INT) {
                ints.push((*path, cells.words.iter().map(|word| *word as i64).collect()));
            }
        }
        for (at, (one, a)) in ints.iter().enumerate() {
            for (other, b) in &ints[..at] {
                let mut pairs = a.iter().zip(b).zip(&self.goal.target);
                if pairs.all(|((a, b), target)| *a.max(b) == *target as i64) {
                    found.keep(0, Learned::Larger(*one, *other));
                }
            }
        }
    }
}

/// A search under way.
struct Look<'a, 'v> {
    search: &'a FormulaSearch,
    depth: Depth,
    /// The rows in which all columns were looked at.
    few: Goal,
    columns: Columns<'a, 'v>,
    found: Found,
}

impl Look<'_, '_> {
    fn offer_known(&mut self, formula: Formula, view: &RowView<'_>) {
        let FormulaSearch { rows, has_base, .. } = self.search;
        let sampled: Vec<_> = formula.columns().map(|path| view.numbers(path, rows, true)).collect();
        let numbers =
            |at: usize| sampled.get(at).map_or(Numbers::ABSENT, |(present, base)| Numbers { present, base });
        if *has_base || !formula.operation.needs_base() {
            let mut budget = usize::MAX;
            self.search.offer(formula, (numbers(0), numbers(1)), self.depth, &mut budget, &mut self.found);
        }
    }

    /// What a finding may cost a cell, in whole bits.
    fn reach(&self) -> u32 {
        self.found.limit() / self.search.goal.len() as u32
    }

    /// There are so many pairs that, in a quick search, one must come closer in some row than what it may cost.
    fn reach_of_pairs(&self) -> u32 {
        match self.depth {
            Depth::Quick => 2 * self.reach() / 5,
            Depth::Thorough => self.reach(),
        }
    }

    fn find_singles(&mut self, budget: &mut usize) {
        let mut promising: Vec<usize> = Vec::with_capacity(self.columns.scan.len());
        for operation in SINGLES {
            if operation.needs_base() && !self.search.has_base {
                continue;
            }
            if *budget == 0 {
                return;
            }
            *budget = budget.saturating_sub(1 + self.columns.scan.len() / SCANS);
            let reach = self.reach();
            self.columns.scan.singles(operation, reach, &mut promising);
            for &at in &promising {
                // an operand that stays the same would only repeat the old value
                let repeats = operation.needs_base() && operation != Operation::OtherOld;
                if !repeats || self.columns.scan.moves(at) {
                    self.try_columns(operation, at, None, budget);
                }
            }
        }
    }

    /// Two columns at a time.
    fn find_pairs(&mut self, budget: &mut usize) {
        if self.found.is_exact() {
            return;
        }
        let pairs = Pairs::new(&self.columns.scan, self.search.has_base);
        let mut promising: Vec<usize> = Vec::with_capacity(self.columns.scan.len());
        let mut within = self.columns.scan.within(self.reach_of_pairs());
        for first in 0..self.columns.scan.len() {
            if !self.columns.scan.varies(first) {
                continue;
            }
            let has_change = self.search.has_base && self.columns.scan.moves(first);
            for operation in PAIRS {
                if operation.needs_base() && !has_change {
                    continue;
                }
                if *budget == 0 || self.found.is_exact() {
                    return;
                }
                *budget = budget.saturating_sub(LOOKUP);
                pairs.seconds(&self.columns.scan, (operation, first), &within, &mut promising);
                for &second in &promising {
                    self.try_columns(operation, first, Some(second), budget);
                }
                if !promising.is_empty() {
                    within = self.columns.scan.within(self.reach_of_pairs());
                }
            }
        }
    }

    /// Tries an operation on columns: in a few rows first, then on the whole sample.
    fn try_columns(&mut self, operation: Operation, a: usize, b: Option<usize>, budget: &mut usize) {
        *budget = budget.saturating_sub(TRY);
        let (search, columns) = (self.search, &mut self.columns);
        let path = |at: usize| columns.scan.path(at);
        let mut formula = Formula { operation, a: path(a), b: b.map_or(ROOT, path), k: 1.0 };
        let probed = (columns.probed(Some(a)), columns.probed(b));
        let is_promising = match operation {
            _ if self.depth == Depth::Thorough && !operation.has_constant() => true,
            _ if operation.has_constant() && operation != Operation::PercentOnRoundedClose => {
                *budget = budget.saturating_sub(4);
                self.few.agrees(operation, probed)
            }
            _ => {
                if operation == Operation::PercentOnRoundedClose {
                    formula.k = power_of_base(probed.0.base);
                }
                let limit = (self.found.limit(), search.goal.len());
                self.few.may_cost(formula, probed, limit, budget)
            }
        };
        if !is_promising {
            return;
        }
        [Some(a), b].into_iter().flatten().for_each(|at| columns.sample(at, budget));
        let sampled = (columns.sampled(Some(a)), columns.sampled(b));
        let constant = match operation {
            Operation::PercentOnRoundedClose => Some(power_of_base(sampled.0.base)),
            _ if operation.has_constant() => search.constant(operation, sampled),
            _ => Some(1.0),
        };
        if let Some(k) = constant {
            formula.k = k;
            search.offer(formula, sampled, self.depth, budget, &mut self.found);
        }
    }
}

/// What was found so far, the best first.
struct Found {
    /// What the sample costs by itself.
    own: u32,
    all: Vec<(u32, Learned)>,
}

impl Found {
    /// What a finding must stay below to be of use: alternatives that are much worse than the best are not.
    fn limit(&self) -> u32 {
        let own = self.own - self.own / 4;
        let near = self.all.first().map_or(own, |best| 2 * best.0 + GOOD);
        let last = self.all.get(KEPT - 1).map_or(own, |last| last.0);
        own.min(near).min(last)
    }

    /// Nothing better can be found.
    fn is_exact(&self) -> bool {
        self.all.first().is_some_and(|best| best.0 == 0)
    }

    fn keep(&mut self, sum: u32, learned: Learned) {
        let at = self.all.partition_point(|found| found.0 <= sum);
        self.all.insert(at, (sum, learned));
        self.all.truncate(KEPT);
    }
}

/// Ints that are too large for a scale.
fn large_ints(cells: &Cells) -> Option<Vec<(usize, u64)>> {
    let probes = sample_of(cells.len(), SAMPLE);
    let ints = probes.iter().filter(|i| cells.tags[**i] == tag::INT);
    let ints: Vec<(usize, u64)> = ints.map(|i| (*i, cells.words[*i])).collect();
    (ints.len() >= 2 && ints.len() == probes.len()).then_some(ints)
}

/// The power of ten that makes integers of a column's old values.
fn power_of_base(base: &[f64]) -> f64 {
    POWERS[usize::from(decimals(base))]
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
