//! Streams of numbers of any tag: FORMAT.md section 8.4. Writing follows the plan; reading obeys the bytes.

use std::cell::OnceCell;

use crate::encoding::classify::{Classified, classify};
use crate::encoding::formula::Formula;
use crate::encoding::residuals;
use crate::encoding::row_view::{RowView, number};
use crate::encoding::sampling::{listed, share};
use crate::error::Result;
use crate::format::entropy::Steps;
use crate::format::number::{Form, Scale, is_number};
use crate::format::numbers::{MAX_FORMS, mode, predictor};
use crate::format::reader::Reader;
use crate::format::writer::Writer;
use crate::state::schema::PathId;
use crate::state::table::{Cells, Table};

/// What the integers are predicted from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum NumberPredictor {
    Zero,
    Previous,
    Reference(u64),
    Formula(Formula),
}

impl NumberPredictor {
    fn write(self, w: &mut Writer, frame_path: impl Fn(PathId) -> u64) {
        match self {
            NumberPredictor::Zero => w.u8(predictor::ZERO),
            NumberPredictor::Previous => w.u8(predictor::PREVIOUS),
            NumberPredictor::Reference(word) => {
                w.u8(predictor::REFERENCE);
                w.u64(word);
            }
            NumberPredictor::Formula(formula) => {
                w.u8(predictor::FORMULA);
                formula.write(w, frame_path);
            }
        }
    }

    fn read(
        r: &mut Reader<'_>,
        has_base: bool,
        path: impl FnMut(&mut Reader<'_>) -> Result<PathId>,
    ) -> Result<NumberPredictor> {
        Ok(match r.u8()? {
            predictor::ZERO => NumberPredictor::Zero,
            predictor::PREVIOUS => NumberPredictor::Previous,
            predictor::REFERENCE => NumberPredictor::Reference(r.u64()?),
            predictor::FORMULA => NumberPredictor::Formula(Formula::read(r, has_base, path)?),
            code => return Err(r.reserved("predictor of numbers", code)),
        })
    }
}

/// How the numbers of one stream are coded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NumbersPlan {
    pub(crate) scale: Scale,
    pub(crate) forms: Vec<Form>,
    pub(crate) predictor: NumberPredictor,
}

fn absent_form(forms: &[Form]) -> Option<u8> {
    forms.iter().position(|form| *form == Form::Absent).map(|at| at as u8)
}

/// What the form of a cell is predicted from.
struct FormContext<'a> {
    plan: &'a NumbersPlan,
    table: &'a Table,
    base: Option<&'a Cells>,
    results: Option<&'a [f64]>,
    n: usize,
    /// Worked out when it is first asked for.
    of_base: OnceCell<Vec<u8>>,
}

impl FormContext<'_> {
    /// The form of each cell as a mode predicts it.
    fn predicted(&self, mode: u8) -> Vec<u8> {
        match (mode, self.results, absent_form(&self.plan.forms)) {
            (mode::BASE, ..) => {
                let none = self.plan.forms.len() as u8;
                self.of_base().iter().map(|form| if *form == none { 0 } else { *form }).collect()
            }
            (mode::PRESENCE, Some(results), Some(absent)) => {
                results.iter().map(|result| if result.is_nan() { absent } else { 0 }).collect()
            }
            _ => vec![0; self.n],
        }
    }

    /// The form of each base's cell; the number of forms where it has none.
    fn of_base(&self) -> &[u8] {
        self.of_base.get_or_init(|| {
            let forms = &self.plan.forms;
            let none = forms.len() as u8;
            let Some(base) = self.base else { return vec![none; self.n] };
            classify(self.table, self.plan.scale, forms, base).forms
        })
    }

    /// How many contexts there are, and that of each cell.
    fn contexts(&self) -> (usize, Vec<u8>) {
        let mut contexts = self.of_base().to_vec();
        for (at, context) in contexts.iter_mut().enumerate() {
            let is_missing = self.results.is_some_and(|results| results[at].is_nan());
            *context = 2 * *context + u8::from(is_missing);
        }
        (2 * self.plan.forms.len() + 2, contexts)
    }
}

/// The integer of a base's cell, 0 where it has none.
#[inline(never)]
fn old_integer(scale: Scale, base: Option<&Cells>, i: usize, table: &Table) -> u64 {
    let cell = base.map(|base| base.get(i));
    cell.and_then(|cell| scale.integer(number(table, cell))).unwrap_or(0)
}

/// Calls `take` with what a formula predicts for each cell: its result, rounded to the scale, or the old number where it
/// has none.
#[inline(always)]
fn for_each_prediction(
    scale: Scale,
    results: &[f64],
    (base, table): (Option<&Cells>, &Table),
    integers: &mut [u64],
    mut take: impl FnMut(&mut u64, u64),
) {
    let values = results.iter().copied().zip(integers.iter_mut().enumerate());
    scale.for_each_integer(values, |found, (i, integer)| {
        take(integer, found.unwrap_or_else(|| old_integer(scale, base, i, table)));
    });
}

/// What a formula predicts for each cell.
pub(crate) fn round_all(scale: Scale, results: &[f64], base: Option<&Cells>, table: &Table) -> Vec<u64> {
    let mut all = vec![0; results.len()];
    for_each_prediction(scale, results, (base, table), &mut all, |integer, prediction| *integer = prediction);
    all
}

/// Residuals of all cells become their integers.
fn add_predictions(integers: &mut [u64], context: &FormContext<'_>) {
    let FormContext { plan, table, base, results, .. } = *context;
    match (plan.predictor, results) {
        (_, Some(results)) => {
            let add = |integer: &mut u64, prediction| *integer = integer.wrapping_add(prediction);
            for_each_prediction(plan.scale, results, (base, table), integers, add);
        }
        (NumberPredictor::Reference(word), _) => {
            integers.iter_mut().for_each(|integer| *integer = integer.wrapping_add(word));
        }
        (NumberPredictor::Previous, _) => {
            let mut previous = 0u64;
            for integer in integers {
                *integer = integer.wrapping_add(previous);
                previous = *integer;
            }
        }
        (NumberPredictor::Zero | NumberPredictor::Formula(_), None) => {}
    }
}

/// The cells of a stream and what the reader has beside them.
pub(crate) struct Input<'a> {
    pub(crate) cells: &'a Cells,
    pub(crate) base: Option<&'a Cells>,
    pub(crate) rows: &'a [u32],
    pub(crate) view: RowView<'a>,
}

fn formula_results(
    predictor: NumberPredictor,
    base: Option<&Cells>,
    rows: &[u32],
    view: &RowView<'_>,
) -> Option<Vec<f64>> {
    match predictor {
        NumberPredictor::Formula(formula) => Some(formula.results(base, rows, view)),
        _ => None,
    }
}

/// Writes the stream. Returns the indices of the other cells, whose stream is to follow if there are some. `results` are
/// those of the plan's formula, if they are known.
pub(crate) fn write(
    w: &mut Writer,
    input: &Input<'_>,
    plan: &NumbersPlan,
    classified: Classified,
    results: Option<Vec<f64>>,
    frame_path: impl Fn(PathId) -> u64,
) -> Vec<usize> {
    let Input { base, rows, view, .. } = input;
    let table = view.table;
    let n = classified.forms.len();
    let results = results.or_else(|| formula_results(plan.predictor, *base, rows, view));
    plan.scale.write(w);
    w.u8(plan.forms.len() as u8);
    plan.forms.iter().for_each(|form| form.write(w));
    let context =
        FormContext { plan, table, base: *base, results: results.as_deref(), n, of_base: OnceCell::new() };
    write_forms(w, &context, &classified);
    plan.predictor.write(w, frame_path);
    let is_number = |form: u8| is_number(&plan.forms, form);
    let all_numbers = classified.are_first() && is_number(0);
    let Classified { forms, mut integers, others, .. } = classified;
    take_predictions(&mut integers, &context, |i| all_numbers || is_number(forms[i]));
    if !all_numbers {
        let mut forms = forms.iter();
        integers.retain(|_| forms.next().is_some_and(|form| is_number(*form)));
    }
    residuals::write(w, integers);
    if others == 0 {
        return Vec::new();
    }
    (0..n).filter(|i| usize::from(forms[*i]) == plan.forms.len()).collect()
}

/// Integers of all cells become their residuals; what becomes of those of cells that are no numbers is of no matter.
fn take_predictions(integers: &mut [u64], context: &FormContext<'_>, is_number: impl Fn(usize) -> bool) {
    let FormContext { plan, table, base, results, .. } = *context;
    match (plan.predictor, results) {
        (_, Some(results)) => {
            let take = |integer: &mut u64, prediction| *integer = integer.wrapping_sub(prediction);
            for_each_prediction(plan.scale, results, (base, table), integers, take);
        }
        (NumberPredictor::Reference(word), _) => {
            integers.iter_mut().for_each(|integer| *integer = integer.wrapping_sub(word));
        }
        (NumberPredictor::Previous, _) => {
            let mut previous = 0u64;
            for (i, integer) in integers.iter_mut().enumerate() {
                if is_number(i) {
                    let now = *integer;
                    *integer = now.wrapping_sub(previous);
                    previous = now;
                }
            }
        }
        (NumberPredictor::Zero | NumberPredictor::Formula(_), None) => {}
    }
}

/// The cheapest mode, and what tells forms that differ from what it predicts.
fn write_forms(w: &mut Writer, context: &FormContext<'_>, classified: &Classified) {
    let forms = &classified.forms[..];
    let corrections = |predicted: &[u8]| -> Vec<u32> {
        (0..).zip(forms.iter().zip(predicted)).filter_map(|(i, (f, p))| (f != p).then_some(i)).collect()
    };
    let of_first = || corrections(&vec![0; forms.len()]);
    let mut best = (mode::FIRST, if classified.are_first() { Vec::new() } else { of_first() });
    for other in [mode::PRESENCE, mode::BASE] {
        if best.1.is_empty() || context.plan.forms.len() == 1 && other == mode::BASE {
            break;
        }
        let wrong = corrections(&context.predicted(other));
        if wrong.len() < best.1.len() {
            best = (other, wrong);
        }
    }
    let form_of = |i: &u32| u64::from(forms[*i as usize]);
    if !best.1.is_empty() {
        let (count, contexts) = context.contexts();
        let mut counts = vec![(0, 0); count];
        for (form, context) in forms.iter().zip(&contexts) {
            let (first, all) = &mut counts[usize::from(*context)];
            *first += usize::from(*form == 0);
            *all += 1;
        }
        let shares: Vec<(u8, f64)> = counts.into_iter().map(|(first, all)| share(first, all)).collect();
        let bits: f64 = shares.iter().map(|(_, bits)| bits).sum();
        if bits < listed(best.1.len(), forms.len()) {
            w.u8(mode::BY_CONTEXT);
            let others: Vec<u64> =
                forms.iter().filter(|form| **form != 0).map(|form| u64::from(*form)).collect();
            w.size(others.len());
            w.byte_planes(&others);
            shares.iter().for_each(|(share, _)| w.u8(*share));
            for (form, context) in forms.iter().zip(contexts) {
                w.choice(shares[usize::from(context)].0, *form == 0);
            }
            return;
        }
    }
    w.u8(best.0);
    w.counted_gaps(&best.1);
    w.byte_planes(&best.1.iter().map(form_of).collect::<Vec<u64>>());
}

/// The part of a stream that tells forms, before the predictor.
enum FormsRead<'a> {
    /// What differs from the prediction of a mode.
    Corrections { mode: u8, places: Vec<u32>, forms: Vec<u64> },
    /// The forms that are not the first, and the shares of those that are.
    ByContext { others: Vec<u64>, shares: &'a [u8] },
}

impl<'a> FormsRead<'a> {
    /// True if nothing differs from the first form.
    fn are_first(&self) -> bool {
        matches!(self, FormsRead::Corrections { mode: mode::FIRST, places, .. } if places.is_empty())
    }

    fn read(r: &mut Reader<'a>, n: usize, forms: usize) -> Result<FormsRead<'a>> {
        let mode = r.u8()?;
        if mode > mode::BY_CONTEXT {
            return Err(r.reserved("mode of forms", mode));
        }
        if mode == mode::BY_CONTEXT {
            let count = r.up_to(n, "forms")?;
            let others = r.byte_planes(count)?;
            return Ok(FormsRead::ByContext { others, shares: r.raw(2 * forms + 2)? });
        }
        let places = r.counted_gaps(n)?;
        let forms = r.byte_planes(places.len())?;
        Ok(FormsRead::Corrections { mode, places, forms })
    }

    /// The form of each cell.
    fn resolve(self, r: &mut Reader<'_>, context: &FormContext<'_>) -> Result<Vec<u8>> {
        let most = context.plan.forms.len() as u64;
        let checked = |r: &Reader<'_>, form: u64| {
            if form <= most { Ok(form as u8) } else { Err(r.corrupt("a form is out of range")) }
        };
        match self {
            FormsRead::Corrections { mode, places, forms } => {
                let mut all = context.predicted(mode);
                for (at, form) in places.into_iter().zip(forms) {
                    all[at as usize] = checked(r, form)?;
                }
                Ok(all)
            }
            FormsRead::ByContext { others, shares } => {
                let mut others = others.into_iter();
                let mut all = context.contexts().1;
                let end = r.clone();
                let read = |steps: &mut Steps<'_>| {
                    for form in &mut all {
                        if steps.choice(shares[usize::from(*form)])? {
                            *form = 0;
                            continue;
                        }
                        let other = others.next().ok_or_else(|| end.corrupt("a form is missing"));
                        match other.and_then(|other| checked(&end, other)) {
                            Ok(other) => *form = other,
                            Err(error) => return Some(Err(error)),
                        }
                    }
                    Some(Ok(()))
                };
                r.choices(read)??;
                match others.next() {
                    None => Ok(all),
                    Some(_) => Err(r.corrupt("there are forms left")),
                }
            }
        }
    }
}

/// A stream as it is read: what becomes of each cell.
pub(crate) struct Numbers {
    pub(crate) scale: Scale,
    pub(crate) forms: Vec<Form>,
    /// By cell: its form; None if all are numbers of the first.
    pub(crate) form: Option<Vec<u8>>,
    /// By cell: its integer, 0 where it has none.
    pub(crate) integers: Vec<u64>,
}

/// Reads all but the other cells.
pub(crate) fn read(
    r: &mut Reader<'_>,
    base: Option<&Cells>,
    rows: &[u32],
    view: &RowView<'_>,
    path: impl FnMut(&mut Reader<'_>) -> Result<PathId>,
) -> Result<Numbers> {
    let n = rows.len();
    let scale = Scale::read(r)?;
    let count = usize::from(r.u8()?);
    if count == 0 || count > MAX_FORMS {
        return Err(r.corrupt("numbers have 1 to 15 forms"));
    }
    let forms = (0..count).map(|_| Form::read(r, scale.exponent)).collect::<Result<Vec<Form>>>()?;
    let form = FormsRead::read(r, n, count)?;
    let predictor = NumberPredictor::read(r, base.is_some(), path)?;
    let plan = NumbersPlan { scale, forms, predictor };
    let results = formula_results(predictor, base, rows, view);
    let context = FormContext {
        plan: &plan,
        table: view.table,
        base,
        results: results.as_deref(),
        n,
        of_base: OnceCell::new(),
    };
    if form.are_first() && plan.forms[0] != Form::Absent {
        let mut integers = residuals::read(r, n)?;
        add_predictions(&mut integers, &context);
        return Ok(Numbers { scale, forms: plan.forms, form: None, integers });
    }
    let form = form.resolve(r, &context)?;
    let is_number = |form: &u8| is_number(&plan.forms, *form);
    let residuals = residuals::read(r, form.iter().filter(|form| is_number(form)).count())?;
    let mut integers = match (predictor, &results) {
        (NumberPredictor::Reference(word), _) => vec![word; n],
        (_, Some(results)) => round_all(scale, results, base, view.table),
        _ => vec![0; n],
    };
    let mut residuals = residuals.into_iter();
    let mut previous = 0u64;
    for (integer, form) in integers.iter_mut().zip(&form) {
        if !is_number(form) {
            *integer = 0;
            continue;
        }
        let prediction = if predictor == NumberPredictor::Previous { previous } else { *integer };
        *integer = prediction.wrapping_add(residuals.next().unwrap_or(0));
        previous = *integer;
    }
    let form = Some(form);
    Ok(Numbers { scale, forms: plan.forms, form, integers })
}
