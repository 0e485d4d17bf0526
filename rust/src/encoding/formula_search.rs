//! Finds what a column follows from, on a sample of its cells.

use crate::encoding::classify::classify;
use crate::encoding::encode::Learned;
use crate::encoding::formula::{Formula, Operands, Operation, PAIRS, SINGLES};
use crate::encoding::formula_pairs::Pairs;
use crate::encoding::formula_scan::{AGREEMENT, Scan, Wanted};
use crate::encoding::numbers::Input;
use crate::encoding::numbers_plan::profile;
use crate::encoding::residuals::common_divisor;
use crate::encoding::row_view::{RowView, number};
use crate::encoding::sampling::{pick, sample_of};
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

/// The numbers of another column on the sample, and the base's.
type Sampled = (Vec<f64>, Vec<f64>);

/// The columns that may explain another: all in a few rows, those that look promising on the whole sample.
struct Columns<'a> {
    view: &'a RowView<'a>,
    list: &'a [u32],
    places: &'a [usize],
    with_base: bool,
    scan: Scan<'a>,
    sampled: Vec<Option<Sampled>>,
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
pub(crate) struct FormulaSearch<'a> {
    /// All rows of the column, and where the sample stands in them.
    list: &'a [u32],
    places: Vec<usize>,
    rows: Vec<u32>,
    /// They are ints beyond all scales.
    large: bool,
    goal: Goal,
    /// The target as values, and the base's.
    values: Vec<f64>,
    old: Vec<f64>,
    has_base: bool,
    own: u32,
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

impl<'r> FormulaSearch<'r> {
    /// None if the column has too few numbers, or costs next to nothing.
    pub(crate) fn new(input: &Input<'r>) -> Option<FormulaSearch<'r>> {
        let table = input.view.table;
        let words = profile(table, input.cells).and_then(|(scale, forms)| {
            let probes = sample_of(input.cells.len(), PROBES);
            let classified = classify(table, scale, &forms, &input.cells.pick(&probes));
            let is_number = |form: u8| forms.get(usize::from(form)).is_some_and(|f| *f != Form::Absent);
            let all: Vec<(usize, u64)> = probes
                .into_iter()
                .zip(classified.integers)
                .zip(classified.forms)
                .filter(|((_, integer), form)| is_number(*form) && integer << 1 != 0)
                .map(|(numeric, _)| numeric)
                .collect();
            (all.len() >= 2).then(|| in_units(scale, all))
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
            list: input.rows,
            places: sample.iter().map(|(i, _)| *i).collect(),
            rows: sample.iter().map(|(i, _)| input.rows[*i]).collect(),
            large,
            goal: Goal { scale, target, fallback },
            values: sample.iter().map(|(i, _)| number(table, input.cells.get(*i))).collect(),
            old,
            has_base: input.base.is_some(),
            own,
        })
    }

    /// What a cell costs by itself.
    pub(crate) fn own_bits(&self) -> f64 {
        f64::from(self.own) / self.goal.target.len() as f64
    }

    /// Looks through columns, as far as the budget goes, which counts rows looked at.
    pub(crate) fn run(
        self,
        columns: &[PathId],
        known: Option<Learned>,
        view: &RowView<'_>,
        budget: &mut usize,
    ) -> Vec<Finding> {
        let mut found = Found { own: self.own, all: Vec::new() };
        if self.large {
            self.find_larger(columns, view, budget, &mut found);
        } else {
            let mut columns = self.columns(columns, view, budget);
            if let Some(Learned::Formula(formula)) = known {
                self.offer_known(formula, view, &mut found);
            }
            self.find_constant(budget, &mut found);
            self.find_singles(&mut columns, budget, &mut found);
            self.find_pairs(&mut columns, budget, &mut found);
        }
        let n = self.goal.target.len() as f64;
        let finding = |(sum, learned)| Finding { learned, bits: f64::from(sum) / n };
        found.all.into_iter().map(finding).collect()
    }

    /// Looks at columns in a few rows.
    fn columns<'a>(&'a self, paths: &[PathId], view: &'a RowView<'a>, budget: &mut usize) -> Columns<'a> {
        let wanted = Wanted {
            scale: self.goal.scale,
            integers: &self.goal.target,
            values: &self.values,
            old: &self.old,
        };
        let mut scan = Scan::new(wanted);
        let probes = pick(&self.places, scan.probes());
        let (mut present, mut base) = (Vec::new(), Vec::new());
        for path in paths {
            if *budget == 0 {
                break;
            }
            *budget = budget.saturating_sub(probes.len());
            view.numbers_at(*path, (self.list, &probes), self.has_base, &mut present, &mut base);
            scan.add(*path, &present, &base);
        }
        let mut sampled = Vec::new();
        sampled.resize_with(scan.len(), || None);
        Columns { view, list: self.list, places: &self.places, with_base: self.has_base, scan, sampled }
    }

    /// Takes a formula in if it does better than others.
    fn offer(
        &self,
        formula: Formula,
        operands: impl Fn(usize) -> Operands,
        budget: &mut usize,
        found: &mut Found,
    ) {
        if let Some(sum) = self.goal.cost(formula, found.limit(), budget, operands) {
            found.keep(sum, Learned::Formula(formula));
        }
    }

    fn operands<'a>(
        &'a self,
        a: Option<&'a Sampled>,
        b: Option<&'a Sampled>,
    ) -> impl Fn(usize) -> Operands + 'a {
        let at = |numbers: &[f64], i: usize| numbers.get(i).copied().unwrap_or(f64::NAN);
        let pair = move |sampled: Option<&Sampled>, i: usize| {
            sampled.map_or((f64::NAN, f64::NAN), |(present, base)| (at(present, i), at(base, i)))
        };
        move |i| {
            let ((a, a_old), (b, b_old)) = (pair(a, i), pair(b, i));
            Operands { old: self.old[i], a, a_old, b, b_old }
        }
    }

    fn offer_known(&self, formula: Formula, view: &RowView<'_>, found: &mut Found) {
        let mut budget = usize::MAX;
        let sampled: Vec<Sampled> =
            formula.columns().map(|path| view.numbers(path, &self.rows, self.has_base)).collect();
        self.offer(formula, self.operands(sampled.first(), sampled.get(1)), &mut budget, found);
    }

    fn find_constant(&self, budget: &mut usize, found: &mut Found) {
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
        self.offer(formula, self.operands(None, None), budget, found);
    }

    /// What a finding may cost a cell, in whole bits.
    fn reach(&self, found: &Found) -> u32 {
        found.limit() / self.goal.target.len() as u32
    }

    fn find_singles(&self, columns: &mut Columns<'_>, budget: &mut usize, found: &mut Found) {
        let mut promising: Vec<usize> = Vec::new();
        for operation in SINGLES {
            if operation.needs_base() && !self.has_base {
                continue;
            }
            if *budget == 0 {
                return;
            }
            *budget = budget.saturating_sub(1 + columns.scan.len() / SCANS);
            columns.scan.singles(operation, self.reach(found), &mut promising);
            for &at in &promising {
                // an operand that stays the same would only repeat the old value
                let repeats = operation.needs_base() && operation != Operation::OtherOld;
                if repeats && !columns.scan.moves(at) {
                    continue;
                }
                columns.sample(at, budget);
                let operands = self.operands(columns.sampled[at].as_ref(), None);
                let k = match operation {
                    Operation::PercentOnRoundedClose => columns.sampled[at].as_ref().map(power_of_base),
                    _ if operation.has_constant() => self.constant(operation, &operands),
                    _ => Some(1.0),
                };
                if let Some(k) = k {
                    let formula = Formula { operation, a: columns.scan.path(at), b: ROOT, k };
                    self.offer(formula, operands, budget, found);
                }
            }
        }
    }

    /// Two columns at a time.
    fn find_pairs(&self, columns: &mut Columns<'_>, budget: &mut usize, found: &mut Found) {
        let pairs = Pairs::new(&columns.scan, self.has_base);
        let mut promising: Vec<usize> = Vec::new();
        for first in 0..columns.scan.len() {
            if !columns.scan.varies(first) {
                continue;
            }
            let has_change = self.has_base && columns.scan.moves(first);
            for operation in PAIRS {
                if operation.needs_base() && !has_change {
                    continue;
                }
                if *budget == 0 || found.all.first().is_some_and(|best| best.0 == 0) {
                    return;
                }
                *budget = budget.saturating_sub(1 + columns.scan.len() / SCANS);
                pairs.seconds(&columns.scan, (operation, first), self.reach(found), &mut promising);
                for &second in &promising {
                    self.find_pair(operation, first, second, columns, budget, found);
                }
            }
        }
    }

    fn find_pair(
        &self,
        operation: Operation,
        first: usize,
        second: usize,
        columns: &mut Columns<'_>,
        budget: &mut usize,
        found: &mut Found,
    ) {
        columns.sample(first, budget);
        columns.sample(second, budget);
        let operands = self.operands(columns.sampled[first].as_ref(), columns.sampled[second].as_ref());
        let (a, b) = (columns.scan.path(first), columns.scan.path(second));
        let mut formula = Formula { operation, a, b, k: 1.0 };
        if operation.has_constant() {
            *budget = budget.saturating_sub(3);
            match self.constant(operation, &operands) {
                Some(k) => formula.k = k,
                None => return,
            }
        }
        self.offer(formula, operands, budget, found);
    }

    /// The constant that a formula needs, if a few rows agree on one.
    fn constant(&self, operation: Operation, operands: &impl Fn(usize) -> Operands) -> Option<f64> {
        let n = self.goal.target.len();
        let ratio = |i: usize| {
            let x = operands(i);
            let old = if operation.adds_to_old() { x.old } else { 0.0 };
            (self.values[i] - old) / (operation.apply(1.0, x) - old)
        };
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

impl Columns<'_> {
    /// Looks at a column on the whole sample.
    fn sample(&mut self, at: usize, budget: &mut usize) {
        if self.sampled[at].is_none() {
            *budget = budget.saturating_sub(self.places.len());
            let n = self.places.len();
            let (mut present, mut base) =
                (Vec::with_capacity(n), Vec::with_capacity(if self.with_base { n } else { 0 }));
            let rows = (self.list, self.places);
            self.view.numbers_at(self.scan.path(at), rows, self.with_base, &mut present, &mut base);
            self.sampled[at] = Some((present, base));
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

    fn keep(&mut self, sum: u32, learned: Learned) {
        let at = self.all.partition_point(|found| found.0 <= sum);
        self.all.insert(at, (sum, learned));
        self.all.truncate(KEPT);
    }
}

/// The integers of a sample in their common unit.
fn in_units(mut scale: Scale, mut integers: Vec<(usize, u64)>) -> (Scale, Vec<(usize, u64)>) {
    let unit = if scale.is_raw() { 1 } else { common_divisor(integers.iter().map(|(_, m)| *m)) };
    if unit > 1 {
        scale.unit = unit;
        integers.iter_mut().for_each(|(_, m)| *m = (*m as i64 / unit as i64) as u64);
    }
    (scale, integers)
}

/// Ints that are too large for a scale.
fn large_ints(cells: &Cells) -> Option<Vec<(usize, u64)>> {
    let probes = sample_of(cells.len(), SAMPLE);
    let ints = probes.iter().filter(|i| cells.tags[**i] == tag::INT);
    let ints: Vec<(usize, u64)> = ints.map(|i| (*i, cells.words[*i])).collect();
    (ints.len() >= 2 && ints.len() == probes.len()).then_some(ints)
}

/// The power of ten that makes integers of a column's old values.
fn power_of_base((_, base): &Sampled) -> f64 {
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
