//! The plan for a stream of numbers: scale and forms from a sample, the predictor by what it would cost.

use std::iter::repeat_n;

use crate::encoding::formula::{Formula, Operation};
use crate::encoding::numbers::{Classified, Input, NumberPredictor, NumbersPlan, classify, round_all};
use crate::encoding::residuals::common_divisor;
use crate::encoding::row_view::number;
use crate::encoding::sampling::{SAMPLE_SIZE, pick, residual_bits, sample_of};
use crate::format::number::{Form, Scale, exact_integer};
use crate::format::number_text::{NumberText, Template, parse};
use crate::format::numbers::{MAX_EXPONENT, MAX_FORMS, SHORTEST, SHORTEST_WITH_POINT, text_flag};
use crate::format::tag::{Payload, PayloadForm, Tag, payload_form, tag};
use crate::format::text::short_text;
use crate::state::schema::PathId;
use crate::state::table::{Cell, Cells, Table};

/// Other columns are tried on this many cells first.
const PRESAMPLE: usize = 8;
/// This share of a sample must be numbers, and fit the scale.
const SHARE: f64 = 0.9;
/// Bits that a cell costs that is no number of the plan, and one whose form is corrected.
const OTHER_BITS: f64 = 72.0;
const CORRECTION_BITS: f64 = 10.0;

/// A plan, the cells as it sees them, and what they are expected to cost, in bits a cell.
pub(crate) struct PlannedNumbers {
    pub(crate) plan: NumbersPlan,
    pub(crate) classified: Classified,
    pub(crate) bits: f64,
    /// The formula that was offered is part of the plan.
    pub(crate) uses_formula: bool,
    /// Its result for each cell.
    pub(crate) results: Option<Vec<f64>>,
}

/// The least exponent at which nearly all of these floats are integers.
fn exponent_of(floats: &[u64]) -> Option<u8> {
    let most = (floats.len() as f64 * (1.0 - SHARE)) as usize;
    let fits = |exponent: &u8| {
        let mut misses = 0;
        floats.iter().all(|word| {
            misses += usize::from(exact_integer(*word, *exponent).is_none());
            misses <= most
        })
    };
    (0..=MAX_EXPONENT).find(fits)
}

/// What a sample of cells shows.
#[derive(Default)]
struct Tally<'a> {
    cells: usize,
    ints: usize,
    floats: Vec<u64>,
    /// Of each Decimal its decimals, and if its last digit is a zero that could be left out.
    decimals: Vec<(u8, bool)>,
    texts: Vec<NumberText<'a>>,
}

fn text_of<'a>(table: &'a Table, cell: Cell, short: &'a mut [u8; 8]) -> Option<NumberText<'a>> {
    match (cell.tag, table.payload(cell)) {
        (tag::SHORT, _) => {
            let (bytes, n) = short_text(cell.word);
            *short = bytes;
            parse(&short[..n])
        }
        (_, Payload::Bytes(text)) => parse(text),
        _ => None,
    }
}

impl<'a> Tally<'a> {
    fn add(&mut self, table: &'a Table, cell: Cell, short: &'a mut [u8; 8]) {
        if cell.tag == tag::NONE {
            return;
        }
        self.cells += 1;
        match cell.tag {
            tag::INT => self.ints += 1,
            tag::FLOAT => self.floats.push(cell.word),
            tag::DECIMAL => {
                let exponent = (cell.word >> 56) as u8 as i8;
                if exponent <= 0 && exponent >= -(MAX_EXPONENT as i8) {
                    let coefficient = cell.word & ((1 << 55) - 1);
                    self.decimals
                        .push((exponent.unsigned_abs(), exponent < 0 && coefficient.is_multiple_of(10)));
                }
            }
            tag::DIGITS => self.texts.push(NumberText {
                prefix: &[],
                suffix: &[],
                sign: 0,
                sign_after_prefix: false,
                grouped: false,
                decimals: 0,
                magnitude: cell.word,
            }),
            tag::SHORT | tag::TEXT => self.texts.extend(text_of(table, cell, short)),
            _ => {}
        }
    }

    fn numbers(&self) -> usize {
        self.ints + self.floats.len() + self.decimals.len() + self.texts.len()
    }

    /// The least exponent at which nearly all are integers.
    fn exponent(&self) -> Option<u8> {
        let of_floats = exponent_of(&self.floats)?;
        let of_decimals = self.decimals.iter().map(|(decimals, _)| *decimals).max();
        let of_texts = self.texts.iter().map(|text| text.decimals).max();
        let exponent = of_floats.max(of_decimals.unwrap_or(0)).max(of_texts.unwrap_or(0));
        (exponent <= MAX_EXPONENT).then_some(exponent)
    }

    /// The forms, the most frequent first.
    fn forms(&self) -> Vec<Form> {
        let mut counted: Vec<(usize, Form)> = Vec::new();
        let is_whole = |word: &u64| f64::from_bits(*word).fract() == 0.0;
        if self.ints > 0 && !self.floats.is_empty() && !self.floats.iter().any(is_whole) {
            counted.push((self.ints + self.floats.len(), Form::IntOrFloat));
        } else {
            counted.push((self.ints, Form::Int));
            counted.push((self.floats.len(), Form::Float));
        }
        let is_plain = !self.decimals.iter().any(|(_, padded)| *padded);
        for (count, decimals) in decimals_forms(&self.decimals, is_plain, SHORTEST) {
            counted.push((count, Form::Decimal(decimals)));
        }
        self.text_forms(&mut counted);
        counted.retain(|(count, _)| *count > 0);
        counted.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        counted.truncate(MAX_FORMS - 1);
        counted.into_iter().map(|(_, form)| form).collect()
    }

    fn text_forms(&self, counted: &mut Vec<(usize, Form)>) {
        let mut rest: Vec<&NumberText<'_>> = self.texts.iter().collect();
        while let Some(first) = rest.first().copied() {
            let is_alike =
                |text: &&NumberText<'_>| text.prefix == first.prefix && text.suffix == first.suffix;
            let (alike, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_alike);
            rest = others;
            let any = |holds: &dyn Fn(&NumberText<'_>) -> bool| alike.iter().any(|text| holds(text));
            let mut flags = 0;
            flags |= text_flag::SIGN_AFTER_PREFIX * u8::from(any(&|text| text.sign_after_prefix));
            flags |= text_flag::PLUS * u8::from(any(&|text| text.sign == b'+' && text.magnitude > 0));
            flags |=
                text_flag::PLUS_ON_ZERO * u8::from(any(&|text| text.sign == b'+' && text.magnitude == 0));
            flags |= text_flag::GROUPED * u8::from(any(&|text| text.grouped));
            let padded = |text: &NumberText<'_>| text.decimals > 0 && text.magnitude.is_multiple_of(10);
            let decimals: Vec<(u8, bool)> = alike.iter().map(|text| (text.decimals, padded(text))).collect();
            let with_point = alike.iter().all(|text| text.decimals > 0);
            let is_plain = decimals.iter().all(|(decimals, padded)| !padded || with_point && *decimals == 1);
            let shortest = if with_point { SHORTEST_WITH_POINT } else { SHORTEST };
            for (count, decimals) in decimals_forms(&decimals, is_plain, shortest) {
                let (prefix, suffix) = (first.prefix.into(), first.suffix.into());
                counted.push((count, Form::Text(Template { flags, decimals, prefix, suffix })));
            }
            if counted.len() > MAX_FORMS {
                return;
            }
        }
    }
}

/// The decimals that numbers have: always so many, as many as they need, or several.
fn decimals_forms(all: &[(u8, bool)], is_plain: bool, shortest: u8) -> Vec<(usize, u8)> {
    let Some((first, _)) = all.first() else { return Vec::new() };
    if all.iter().all(|(decimals, _)| decimals == first) {
        return vec![(all.len(), *first)];
    }
    if is_plain {
        return vec![(all.len(), shortest)];
    }
    let mut counts = [0; MAX_EXPONENT as usize + 1];
    all.iter().for_each(|(decimals, _)| counts[usize::from(*decimals).min(counts.len() - 1)] += 1);
    (0..).zip(counts).filter(|(_, count)| *count > 0).map(|(decimals, count)| (count, decimals)).collect()
}

/// The scale and the forms of cells that are mostly numbers.
pub(crate) fn profile(table: &Table, cells: &Cells) -> Option<(Scale, Vec<Form>)> {
    let sample = sample_of(cells.len(), SAMPLE_SIZE);
    let numeric =
        |i: &&usize| payload_form(cells.tags[**i]) != PayloadForm::Empty || cells.tags[**i] == tag::NONE;
    if sample.iter().filter(numeric).count() * 2 < sample.len() {
        return None;
    }
    let mut shorts = vec![[0u8; 8]; sample.len()];
    let mut tally = Tally { floats: Vec::with_capacity(sample.len()), ..Tally::default() };
    for (i, short) in sample.iter().zip(&mut shorts) {
        tally.add(table, cells.get(*i), short);
    }
    if tally.numbers() == 0 || (tally.numbers() as f64) < SHARE * tally.cells as f64 {
        return None;
    }
    let scale = match tally.exponent() {
        Some(exponent) => Scale { exponent, unit: 1 },
        None if tally.texts.is_empty() && tally.decimals.is_empty() && tally.ints * 10 < tally.cells => {
            Scale::BITS
        }
        None => return None,
    };
    let mut forms = if scale.is_raw() { vec![Form::Float] } else { tally.forms() };
    if cells.tags.contains(&tag::NONE) {
        forms.push(Form::Absent);
    }
    Some((scale, forms))
}

/// True if nothing but a formula is won by coding cells of this one tag as numbers.
fn is_coded_as_well_alone(uniform: Option<Tag>) -> bool {
    matches!(uniform, Some(tag::INT | tag::DIGITS | tag::DATE | tag::DATETIME | tag::DATETIME_UTC))
}

/// The best plan, if the cells are numbers; `formula` is one that was learned.
pub(crate) fn plan(
    input: &Input<'_>,
    uniform: Option<Tag>,
    formula: Option<Formula>,
    candidates: &[PathId],
) -> Option<PlannedNumbers> {
    if formula.is_none() && is_coded_as_well_alone(uniform) {
        return None;
    }
    let table = input.view.table;
    let (mut scale, forms) = profile(table, input.cells)?;
    if formula.is_none() && scale.is_raw() && uniform.is_some() {
        return None;
    }
    let mut classified = classify(table, scale, &forms, input.cells);
    let n = classified.forms.len();
    let is_number = |form: u8| forms.get(usize::from(form)).is_some_and(|form| *form != Form::Absent);
    if !scale.is_raw() {
        // the integer of a cell that is no number is 0, which every unit divides
        let unit = common_divisor(classified.integers.iter().copied());
        if unit > 1 {
            scale.unit = unit;
            classified.integers.iter_mut().for_each(|m| *m = (*m as i64 / unit as i64) as u64);
        }
    }
    let numeric: Vec<usize> = sample_of(n, SAMPLE_SIZE);
    let numeric: Vec<usize> = numeric.into_iter().filter(|i| is_number(classified.forms[*i])).collect();
    if numeric.is_empty() {
        return None;
    }
    let Classified { first, others, .. } = classified;
    let share = |count: usize| count as f64 / n as f64;
    let mut overhead = share(others) * OTHER_BITS;
    let corrected = share(n - first - others) * CORRECTION_BITS;
    let (own, own_bits) = own_predictor(input, scale, &classified, &numeric);
    let mut plan = NumbersPlan { scale, forms, predictor: own };
    let mut bits = own_bits;
    let mut uses_formula = false;
    let mut results = None;
    if let Some(formula) = formula {
        // mostly it pays, and is asked for all cells
        let all = formula.results(input.base, input.rows, &input.view);
        let sampled = pick(&all, &numeric);
        results = Some(all);
        let (formula_bits, explains_absence) =
            cost_of(input, scale, &classified, &numeric, formula, &sampled);
        if formula_bits < bits * 0.97 {
            plan.predictor = NumberPredictor::Formula(formula);
            bits = formula_bits;
            uses_formula = true;
        }
        overhead += if explains_absence && uses_formula { 0.0 } else { corrected };
    } else {
        overhead += corrected;
    }
    if bits >= 3.0 && uniform == Some(tag::FLOAT) && !scale.is_raw() {
        let found = other_column(input, scale, &classified, &numeric, candidates, bits);
        if let Some((formula, less)) = found {
            plan.predictor = NumberPredictor::Formula(formula);
            bits = less;
            uses_formula = false;
        }
    }
    if let NumberPredictor::Reference(newest) = &mut plan.predictor {
        *newest = classified.integers.iter().map(|m| *m as i64).max().unwrap_or(0) as u64;
    }
    let bits = bits * share(n - others) + overhead;
    let results = results.filter(|_| uses_formula);
    Some(PlannedNumbers { plan, classified, bits, uses_formula, results })
}

/// The best predictor without another column.
fn own_predictor(
    input: &Input<'_>,
    scale: Scale,
    classified: &Classified,
    sample: &[usize],
) -> (NumberPredictor, f64) {
    let integers = pick(&classified.integers, sample);
    let mut best = (NumberPredictor::Zero, residual_bits(&integers, repeat_n(0, integers.len())));
    let mut offer = |predictor, bits| {
        if bits < best.1 {
            best = (predictor, bits);
        }
    };
    if let Some(base) = input.base {
        let table = input.view.table;
        let old = sample.iter().map(|i| scale.integer(number(table, base.get(*i))).unwrap_or(0));
        let old: Vec<u64> = old.collect();
        offer(NumberPredictor::Formula(Formula::OLD), residual_bits(&integers, old.into_iter()));
    }
    let previous = sample.iter().map(|i| i.checked_sub(1).map_or(0, |i| classified.integers[i]));
    offer(NumberPredictor::Previous, residual_bits(&integers, previous));
    if let Some(newest) = integers.iter().map(|m| *m as i64).max() {
        let newest = newest as u64;
        // 8 bytes of argument, spread over the stream
        let argument = 64.0 / classified.integers.len() as f64;
        let bits = residual_bits(&integers, repeat_n(newest, integers.len())) + argument;
        offer(NumberPredictor::Reference(newest), bits);
    }
    best
}

/// Another column, or its change, if it makes cells cheaper than `bits`.
fn other_column(
    input: &Input<'_>,
    scale: Scale,
    classified: &Classified,
    sample: &[usize],
    candidates: &[PathId],
    bits: f64,
) -> Option<(Formula, f64)> {
    let few: Vec<usize> = sample_of(sample.len(), PRESAMPLE).into_iter().map(|i| sample[i]).collect();
    let operations: &[Operation] = match input.base {
        Some(_) => &[Operation::Other, Operation::OldPlusChange],
        None => &[Operation::Other],
    };
    let mut best = None;
    let mut least = bits * 0.95;
    for &a in candidates {
        for &operation in operations {
            let formula = Formula { operation, a, ..Formula::OLD };
            if formula_cost(input, scale, classified, &few, formula).0 < least {
                let bits = formula_cost(input, scale, classified, sample, formula).0;
                if bits < least {
                    (best, least) = (Some((formula, bits)), bits);
                }
            }
        }
    }
    best
}

/// What a formula would cost, and if it has no result just where the sample has no numbers.
fn formula_cost(
    input: &Input<'_>,
    scale: Scale,
    classified: &Classified,
    sample: &[usize],
    formula: Formula,
) -> (f64, bool) {
    let rows = pick(input.rows, sample);
    let base = input.base.map(|base| base.pick(sample));
    let results = formula.results(base.as_ref(), &rows, &input.view);
    cost_of(input, scale, classified, sample, formula, &results)
}

/// As `formula_cost`, for the results of the formula on the sample.
fn cost_of(
    input: &Input<'_>,
    scale: Scale,
    classified: &Classified,
    sample: &[usize],
    formula: Formula,
    results: &[f64],
) -> (f64, bool) {
    let missing = results.iter().filter(|result| result.is_nan()).count();
    // old numbers stand in where there is no result
    let all_round = results.iter().all(|result| scale.integer(*result).is_some());
    let base = input.base.filter(|_| !all_round).map(|base| base.pick(sample));
    let predictions = round_all(scale, results, base.as_ref(), input.view.table);
    let arguments = (3 + 8 * usize::from(formula.operation.has_constant())) as f64 * 8.0;
    let bits = residual_bits(&pick(&classified.integers, sample), predictions.into_iter());
    (bits + arguments / classified.integers.len() as f64, missing * 8 <= results.len())
}
