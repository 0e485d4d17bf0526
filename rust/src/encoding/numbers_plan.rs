//! The plan for a stream of numbers: scale and forms from a sample, the predictor by what it would cost.

use crate::encoding::classify::{Classified, classify};
use crate::encoding::formula::{Formula, Operation};
use crate::encoding::numbers::{Input, NumberPredictor, NumbersPlan, round_all};
use crate::encoding::residuals::divide_by_unit;
use crate::encoding::row_view::number;
use crate::encoding::sampling::{Cheapest, PRESAMPLE, SAMPLE_SIZE, newest, pick, residual_bits, sample_of};
use crate::format::number::{Form, Scale, exact_integer, is_number};
use crate::format::number_text::{NumberText, Template, parse};
use crate::format::numbers::{MAX_EXPONENT, MAX_FORMS, SHORTEST, SHORTEST_WITH_POINT, text_flag};
use crate::format::tag::{Payload, PayloadForm, Tag, payload_form, tag};
use crate::format::text::short_text;
use crate::state::schema::PathId;
use crate::state::table::{Cell, Cells, Table};

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
    let mut shorts = [[0u8; 8]; SAMPLE_SIZE];
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
    let (scale, forms) = profile(input.view.table, input.cells)?;
    if formula.is_none() && scale.is_raw() && uniform.is_some() {
        return None;
    }
    let draft = Draft::new(input, scale, forms)?;
    let (mut predictor, mut bits) = draft.own_predictor();
    // mostly a formula pays, and is asked for all cells
    let tried = formula.map(|formula| (formula, draft.try_formula(formula)));
    let mut tried = tried.filter(|(_, tried)| tried.bits < bits * 0.97);
    if let Some((formula, tried)) = &tried {
        (predictor, bits) = (NumberPredictor::Formula(*formula), tried.bits);
    }
    let explains_absence = tried.as_ref().is_some_and(|(_, tried)| tried.explains_absence);
    if bits >= 3.0
        && uniform == Some(tag::FLOAT)
        && !draft.scale.is_raw()
        && let Some((formula, less)) = draft.other_column(candidates, bits)
    {
        (predictor, bits) = (NumberPredictor::Formula(formula), less);
        tried = None;
    }
    Some(draft.finish(predictor, bits, explains_absence, tried.map(|(_, tried)| tried.results)))
}

/// Cells as numbers of a scale and forms, of which a predictor is looked for.
struct Draft<'a> {
    input: &'a Input<'a>,
    scale: Scale,
    forms: Vec<Form>,
    classified: Classified,
    /// Where a sample of the numbers stands, and their integers.
    sample: Vec<usize>,
    integers: Vec<u64>,
}

/// What a formula gives for all cells, and what they would cost.
struct TriedFormula {
    results: Vec<f64>,
    bits: f64,
    /// It has no result just where the sample has no numbers.
    explains_absence: bool,
}

impl<'a> Draft<'a> {
    /// None if a sample shows no numbers.
    fn new(input: &'a Input<'a>, scale: Scale, forms: Vec<Form>) -> Option<Draft<'a>> {
        let mut classified = classify(input.view.table, scale, &forms, input.cells);
        // the integer of a cell that is no number is 0, which every unit divides
        let scale = divide_by_unit(scale, &mut classified.integers, |integer| integer);
        let mut sample = sample_of(classified.forms.len(), SAMPLE_SIZE);
        if !classified.are_first() {
            sample.retain(|i| is_number(&forms, classified.forms[*i]));
        }
        let integers = pick(&classified.integers, &sample);
        (!sample.is_empty()).then_some(Draft { input, scale, forms, classified, sample, integers })
    }

    /// The best predictor without another column.
    fn own_predictor(&self) -> (NumberPredictor, f64) {
        let Draft { input, scale, classified, sample, integers, .. } = self;
        let mut best = Cheapest::new(integers, NumberPredictor::Zero);
        if let Some(base) = input.base {
            let old = |i: &usize| scale.integer(number(input.view.table, base.get(*i))).unwrap_or(0);
            let old: Vec<u64> = sample.iter().map(old).collect();
            best.offer(NumberPredictor::Formula(Formula::OLD), old.iter().copied(), 0.0);
        }
        let previous = sample.iter().map(|i| i.checked_sub(1).map_or(0, |i| classified.integers[i]));
        best.offer(NumberPredictor::Previous, previous, 0.0);
        best.offer_newest(classified.integers.len(), NumberPredictor::Reference);
        (best.predictor, best.bits)
    }

    fn try_formula(&self, formula: Formula) -> TriedFormula {
        let results = formula.results(self.input.base, self.input.rows, &self.input.view);
        let sampled = pick(&results, &self.sample);
        let (bits, missing) = self.cost_of(&self.sample, formula, &sampled);
        TriedFormula { results, bits, explains_absence: missing * 8 <= sampled.len() }
    }

    /// Another column, or its change, if it makes cells cheaper than `bits`.
    fn other_column(&self, candidates: &[PathId], bits: f64) -> Option<(Formula, f64)> {
        let few = sample_of(self.sample.len(), PRESAMPLE);
        let few: Vec<usize> = few.into_iter().map(|i| self.sample[i]).collect();
        let operations: &[Operation] = match self.input.base {
            Some(_) => &[Operation::Other, Operation::OldPlusChange],
            None => &[Operation::Other],
        };
        let mut best = None;
        let mut least = bits * 0.95;
        for &a in candidates {
            for &operation in operations {
                let formula = Formula { operation, a, ..Formula::OLD };
                if self.formula_cost(&few, formula) < least {
                    let bits = self.formula_cost(&self.sample, formula);
                    if bits < least {
                        (best, least) = (Some((formula, bits)), bits);
                    }
                }
            }
        }
        best
    }

    /// What a formula would cost.
    fn formula_cost(&self, sample: &[usize], formula: Formula) -> f64 {
        let rows = pick(self.input.rows, sample);
        let base = self.input.base.map(|base| base.pick(sample));
        let results = formula.results(base.as_ref(), &rows, &self.input.view);
        self.cost_of(sample, formula, &results).0
    }

    /// As `formula_cost`, for the results of the formula on the sample; and how many are missing.
    fn cost_of(&self, sample: &[usize], formula: Formula, results: &[f64]) -> (f64, usize) {
        let Draft { input, scale, classified, .. } = self;
        let missing = results.iter().filter(|result| result.is_nan()).count();
        // old numbers stand in where there is no result
        let all_round = results.iter().all(|result| scale.integer(*result).is_some());
        let base = input.base.filter(|_| !all_round).map(|base| base.pick(sample));
        let predictions = round_all(*scale, results, base.as_ref(), input.view.table);
        let arguments = (3 + 8 * usize::from(formula.operation.has_constant())) as f64 * 8.0;
        let bits = residual_bits(&pick(&classified.integers, sample), predictions.iter().copied());
        (bits + arguments / classified.integers.len() as f64, missing)
    }

    /// The plan with this predictor, of so many bits a number; with the results, if it is the formula that was tried.
    fn finish(
        self,
        mut predictor: NumberPredictor,
        bits: f64,
        explains_absence: bool,
        results: Option<Vec<f64>>,
    ) -> PlannedNumbers {
        let Draft { scale, forms, classified, .. } = self;
        if let NumberPredictor::Reference(word) = &mut predictor {
            *word = newest(&classified.integers);
        }
        let n = classified.forms.len();
        let Classified { first, others, .. } = classified;
        let share = |count: usize| count as f64 / n as f64;
        let corrected = if explains_absence { 0.0 } else { share(n - first - others) * CORRECTION_BITS };
        let bits = bits * share(n - others) + (share(others) * OTHER_BITS + corrected);
        let plan = NumbersPlan { scale, forms, predictor };
        PlannedNumbers { plan, classified, bits, uses_formula: results.is_some(), results }
    }
}
