//! The cells of a sample: what a formula is to give in its rows, and what it works from.

use crate::encoding::formula::{Formula, Operands, Operation};
use crate::encoding::formula_scan::{AGREEMENT, Scan};
use crate::encoding::row_places::RowPlaces;
use crate::encoding::row_view::RowView;
use crate::encoding::sampling::pick;
use crate::format::number::Scale;
use crate::format::writer::zigzag;
use crate::state::schema::PathId;

/// Rows of a sample.
pub(crate) const SAMPLE: usize = 32;
/// Most searches look at no more columns on the whole sample.
const FEW_COLUMNS: usize = 8;
const ABSENT: &[f64] = &[f64::NAN; SAMPLE];

/// How much a search may miss to be done soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// For one frame only: the search skips what looks unlikely in a few rows, and what gains little.
    Quick,
    /// For many frames to come.
    Thorough,
}

/// Where rows stand in the lists of columns, by path; each is worked out when it is first asked for.
#[derive(Default)]
pub(crate) struct PlacesByPath<'a> {
    all: Vec<Option<RowPlaces<'a>>>,
}

impl<'a> PlacesByPath<'a> {
    fn of(&mut self, view: &RowView<'a>, path: PathId) -> &RowPlaces<'a> {
        let at = path as usize;
        if at >= self.all.len() {
            self.all.resize_with(at + 1, || None);
        }
        self.all[at].get_or_insert_with(|| view.places(path))
    }
}

/// A column in rows of a sample: the present numbers and the base's.
#[derive(Clone, Copy)]
pub(crate) struct Numbers<'a> {
    pub(crate) present: &'a [f64],
    pub(crate) base: &'a [f64],
}

impl Numbers<'_> {
    pub(crate) const ABSENT: Numbers<'static> = Numbers { present: ABSENT, base: ABSENT };
}

/// Rows of a sample, and what is to be found in them.
pub(crate) struct Goal {
    pub(crate) scale: Scale,
    pub(crate) target: Vec<u64>,
    /// What is predicted where a formula has no result.
    pub(crate) fallback: Vec<u64>,
    /// The target as values, and the base's.
    pub(crate) values: Vec<f64>,
    pub(crate) old: Vec<f64>,
}

pub(crate) fn bits(prediction: u64, target: u64) -> u32 {
    64 - zigzag(target.wrapping_sub(prediction)).leading_zeros()
}

impl Goal {
    /// The same in some of the rows.
    pub(crate) fn pick(&self, rows: &[usize]) -> Goal {
        Goal {
            scale: self.scale,
            target: pick(&self.target, rows),
            fallback: pick(&self.fallback, rows),
            values: pick(&self.values, rows),
            old: pick(&self.old, rows),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.target.len()
    }

    #[inline(always)]
    pub(crate) fn operands(&self, i: usize, a: Numbers<'_>, b: Numbers<'_>) -> Operands {
        Operands { old: self.old[i], a: a.present[i], a_old: a.base[i], b: b.present[i], b_old: b.base[i] }
    }

    #[inline(always)]
    fn bits_in(&self, i: usize, formula: Formula, (a, b): (Numbers<'_>, Numbers<'_>)) -> u32 {
        let result = formula.operation.apply(formula.k, self.operands(i, a, b));
        // a result that is missing is a sign that another row would do worse
        match self.scale.integer(result) {
            Some(prediction) => bits(prediction, self.target[i]),
            None => bits(self.fallback[i], self.target[i]) + 2,
        }
    }

    /// The bits of the rows under a formula, if they stay below the limit.
    pub(crate) fn cost(
        &self,
        formula: Formula,
        numbers: (Numbers<'_>, Numbers<'_>),
        (limit, depth): (u32, Depth),
        budget: &mut usize,
    ) -> Option<u32> {
        let (mut sum, n) = (0, self.len());
        for i in 0..n {
            sum += self.bits_in(i, formula, numbers);
            // one row may be an exception, two tell enough where no others were looked at before
            let seen = i as u32 + 1;
            let is_dear = depth == Depth::Thorough && seen >= 2 && sum * n as u32 >= limit * (seen + 1);
            if sum >= limit || is_dear {
                *budget = budget.saturating_sub(i + 1);
                return None;
            }
        }
        *budget = budget.saturating_sub(self.len());
        Some(sum)
    }

    /// False if a formula is unlikely to stay below a limit for so many rows, of which these are some.
    #[inline]
    pub(crate) fn may_cost(
        &self,
        formula: Formula,
        numbers: (Numbers<'_>, Numbers<'_>),
        (limit, rows): (u32, usize),
        budget: &mut usize,
    ) -> bool {
        let mut sum = 0;
        for i in 0..self.len() {
            // a few rows may be exceptions, however bad
            sum += (self.bits_in(i, formula, numbers) * rows as u32).min(2 * limit);
            let seen = i as u32 + 1;
            if seen >= 2 && sum >= limit * (seen + 1) {
                *budget = budget.saturating_sub(i + 1);
                return false;
            }
        }
        *budget = budget.saturating_sub(self.len());
        true
    }

    /// In a row, the constant that makes the operation give what is looked for.
    #[inline]
    pub(crate) fn ratio(&self, operation: Operation, i: usize, (a, b): (Numbers<'_>, Numbers<'_>)) -> f64 {
        let x = self.operands(i, a, b);
        let old = if operation.adds_to_old() { x.old } else { 0.0 };
        (self.values[i] - old) / (operation.apply(1.0, x) - old)
    }

    /// True if one of two rows agrees with the first on a constant, as those do that are scanned.
    pub(crate) fn agrees(&self, operation: Operation, numbers: (Numbers<'_>, Numbers<'_>)) -> bool {
        let n = self.len();
        let first = self.ratio(operation, 0, numbers);
        let agrees = |i: usize| (self.ratio(operation, i, numbers) / first - 1.0).abs() <= AGREEMENT;
        agrees((n / 4).max(1)) || agrees(3 * n / 4)
    }
}

/// The columns that may explain another: all in a few rows, those that look promising on the whole sample.
pub(crate) struct Columns<'a, 'v> {
    pub(crate) scan: Scan<'a>,
    view: &'a RowView<'v>,
    places: &'a mut PlacesByPath<'v>,
    rows: &'a [u32],
    /// By column, from where on its numbers and the base's stand in those of the sample.
    sampled: Vec<Option<usize>>,
    numbers: Vec<f64>,
}

impl<'a, 'v> Columns<'a, 'v> {
    /// Looks at columns in a few of the rows.
    pub(crate) fn new(
        mut scan: Scan<'a>,
        paths: &[PathId],
        (view, places): (&'a RowView<'v>, &'a mut PlacesByPath<'v>),
        rows: &'a [u32],
        budget: &mut usize,
    ) -> Columns<'a, 'v> {
        let probes = pick(rows, scan.probes());
        for path in paths {
            if *budget == 0 {
                break;
            }
            *budget = budget.saturating_sub(probes.len());
            let of_column = places.of(view, *path);
            scan.add(*path, |present, base| view.numbers_by((*path, of_column), &probes, present, base));
        }
        let sampled = vec![None; scan.len()];
        let numbers = Vec::with_capacity(2 * FEW_COLUMNS * rows.len());
        Columns { scan, view, places, rows, sampled, numbers }
    }

    /// A column in the few rows.
    pub(crate) fn probed(&self, at: Option<usize>) -> Numbers<'_> {
        let probed = |at| self.scan.probed(at);
        at.map(probed).map_or(Numbers::ABSENT, |(present, base)| Numbers { present, base })
    }

    /// Looks at a column on the whole sample.
    pub(crate) fn sample(&mut self, at: usize, budget: &mut usize) {
        if self.sampled[at].is_none() {
            let n = self.rows.len();
            *budget = budget.saturating_sub(n);
            let start = self.numbers.len();
            self.sampled[at] = Some(start);
            self.numbers.resize(start + 2 * n, f64::NAN);
            let (present, base) = self.numbers[start..].split_at_mut(n);
            let path = self.scan.path(at);
            self.view.numbers_by((path, self.places.of(self.view, path)), self.rows, present, base);
        }
    }

    /// A column that was looked at on the whole sample.
    pub(crate) fn sampled(&self, at: Option<usize>) -> Numbers<'_> {
        let n = self.rows.len();
        let start = at.and_then(|at| self.sampled[at]);
        start.map_or(Numbers::ABSENT, |start| {
            let (present, base) = self.numbers[start..start + 2 * n].split_at(n);
            Numbers { present, base }
        })
    }
}
