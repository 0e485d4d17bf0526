//! Streams of numbers of any tag: FORMAT.md section 8.4. Writing follows the plan; reading obeys the bytes.

use crate::encoding::formula::Formula;
use crate::encoding::residuals;
use crate::encoding::row_view::{MISSING, RowView, number};
use crate::error::Result;
use crate::format::number::{Form, Scale, exact_integer};
use crate::format::numbers::{MAX_FORMS, mode, predictor};
use crate::format::reader::Reader;
use crate::format::tag::{Payload, Tag, tag};
use crate::format::writer::Writer;
use crate::state::schema::PathId;
use crate::state::table::{Cell, Cells, Table};

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

/// Cells as integers at a scale: the form of each, and the integer where the form has one. The number of forms stands
/// for another cell.
pub(crate) struct Classified {
    pub(crate) forms: Vec<u8>,
    pub(crate) integers: Vec<u64>,
}

fn same_payload(table: &Table, cell: Cell, (tag, payload): (Tag, Payload<'_>)) -> bool {
    tag == cell.tag && table.payload(cell) == payload
}

/// The first form that gives the cell, and its integer.
#[inline]
fn form_of(
    table: &Table,
    scale: Scale,
    forms: &[Form],
    cell: Cell,
    buffer: &mut Vec<u8>,
) -> Option<(u8, u64)> {
    if cell.tag == MISSING {
        return None;
    }
    let mut integer = None;
    for (i, form) in (0u8..).zip(forms) {
        if !form.may_have(cell.tag) {
            continue;
        }
        if cell.tag == tag::NONE {
            return Some((i, 0));
        }
        let integer = *integer.get_or_insert_with(|| scale.integer(number(table, cell)));
        let of_form = integer.and_then(|integer| form.cell(scale, integer, buffer));
        if let Some(of_form) = of_form
            && same_payload(table, cell, of_form)
        {
            return integer.map(|integer| (i, integer));
        }
    }
    None
}

/// The tag of cells that have the first form if they have any, and whose integer is quickly told.
fn plain_tag(scale: Scale, first: &Form) -> Option<Tag> {
    match first {
        _ if scale.unit > 1 => None,
        Form::Float => Some(tag::FLOAT),
        Form::Int => Some(tag::INT),
        _ => None,
    }
}

pub(crate) fn classify(
    table: &Table,
    scale: Scale,
    forms: &[Form],
    cells: impl Iterator<Item = Cell>,
) -> Classified {
    let n = cells.size_hint().0;
    let mut classified = Classified { forms: Vec::with_capacity(n), integers: Vec::with_capacity(n) };
    let mut buffer = Vec::new();
    let plain = plain_tag(scale, &forms[0]);
    for cell in cells {
        let found = match cell.tag {
            tag if Some(tag) != plain => form_of(table, scale, forms, cell, &mut buffer),
            tag::FLOAT if scale.is_raw() => (!f64::from_bits(cell.word).is_nan()).then_some((0, cell.word)),
            tag::FLOAT => exact_integer(cell.word, scale.exponent).map(|integer| (0, integer as u64)),
            _ => scale.integer(cell.word as i64 as f64).map(|integer| (0, integer)),
        };
        let (form, integer) = found.unwrap_or((forms.len() as u8, 0));
        classified.forms.push(form);
        classified.integers.push(integer);
    }
    classified
}

fn absent_form(forms: &[Form]) -> Option<u8> {
    forms.iter().position(|form| *form == Form::Absent).map(|at| at as u8)
}

/// The form of each cell as a mode predicts it.
fn predicted_forms(
    mode: u8,
    table: &Table,
    plan: &NumbersPlan,
    base: Option<&Cells>,
    results: Option<&[f64]>,
    n: usize,
) -> Vec<u8> {
    match (mode, base, results, absent_form(&plan.forms)) {
        (mode::BASE, Some(base), ..) => {
            let mut buffer = Vec::new();
            let form = |cell| form_of(table, plan.scale, &plan.forms, cell, &mut buffer);
            base.iter().map(form).map(|found| found.map_or(0, |(form, _)| form)).collect()
        }
        (mode::PRESENCE, _, Some(results), Some(absent)) => {
            results.iter().map(|result| if result.is_nan() { absent } else { 0 }).collect()
        }
        _ => vec![0; n],
    }
}

/// What a formula predicts, rounded to the scale; the old number where it has no result.
pub(crate) fn round_all(scale: Scale, results: &[f64], base: Option<&Cells>, table: &Table) -> Vec<u64> {
    let old = |i: usize| {
        let cell = base.map(|base| base.get(i));
        cell.and_then(|cell| scale.integer(number(table, cell))).unwrap_or(0)
    };
    let rounded = results.iter().enumerate();
    rounded.map(|(i, result)| scale.integer(*result).unwrap_or_else(|| old(i))).collect()
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

/// Writes the stream. Returns the indices of the other cells, whose stream is to follow if there are some.
pub(crate) fn write(
    w: &mut Writer,
    input: &Input<'_>,
    plan: &NumbersPlan,
    Classified { forms, integers }: &Classified,
    frame_path: impl Fn(PathId) -> u64,
) -> Vec<usize> {
    let Input { base, rows, view, .. } = input;
    let table = view.table;
    let n = forms.len();
    let results = formula_results(plan.predictor, *base, rows, view);
    plan.scale.write(w);
    w.u8(plan.forms.len() as u8);
    plan.forms.iter().for_each(|form| form.write(w));
    write_forms(w, plan, forms, table, *base, results.as_deref());
    plan.predictor.write(w, frame_path);
    let is_number = |i: &usize| plan.forms.get(usize::from(forms[*i])).is_some_and(|f| *f != Form::Absent);
    let all_numbers = (0..n).all(|i| is_number(&i));
    let numbers: Vec<usize> = if all_numbers { Vec::new() } else { (0..n).filter(is_number).collect() };
    let predictions = match (plan.predictor, &results) {
        (NumberPredictor::Reference(word), _) => vec![word; n],
        (_, Some(results)) => round_all(plan.scale, results, *base, table),
        _ => vec![0; n],
    };
    let mut residuals = Vec::with_capacity(n);
    let mut previous = 0;
    let mut take = |i: usize| {
        let prediction = if plan.predictor == NumberPredictor::Previous { previous } else { predictions[i] };
        residuals.push(integers[i].wrapping_sub(prediction));
        previous = integers[i];
    };
    if all_numbers {
        (0..n).for_each(&mut take);
    } else {
        numbers.iter().for_each(|i| take(*i));
    }
    residuals::write(w, residuals);
    (0..n).filter(|i| usize::from(forms[*i]) == plan.forms.len()).collect()
}

/// The mode that needs the fewest corrections, and these.
fn write_forms(
    w: &mut Writer,
    plan: &NumbersPlan,
    forms: &[u8],
    table: &Table,
    base: Option<&Cells>,
    results: Option<&[f64]>,
) {
    let corrections = |predicted: &[u8]| -> Vec<u32> {
        (0..).zip(forms.iter().zip(predicted)).filter_map(|(i, (f, p))| (f != p).then_some(i)).collect()
    };
    let mut best = (mode::FIRST, corrections(&vec![0; forms.len()]));
    for other in [mode::PRESENCE, mode::BASE] {
        if best.1.is_empty() || plan.forms.len() == 1 && other == mode::BASE {
            break;
        }
        let wrong = corrections(&predicted_forms(other, table, plan, base, results, forms.len()));
        if wrong.len() < best.1.len() {
            best = (other, wrong);
        }
    }
    w.u8(best.0);
    w.counted_gaps(&best.1);
    let corrected: Vec<u64> = best.1.iter().map(|i| u64::from(forms[*i as usize])).collect();
    w.byte_planes(&corrected);
}

/// A stream as it is read: what becomes of each cell.
pub(crate) struct Numbers {
    pub(crate) scale: Scale,
    pub(crate) forms: Vec<Form>,
    /// By cell: its form.
    pub(crate) form: Vec<u8>,
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
    let mode = r.u8()?;
    if mode > mode::PRESENCE {
        return Err(r.reserved("mode of forms", mode));
    }
    let corrections = r.counted_gaps(n)?;
    let corrected = r.byte_planes(corrections.len())?;
    let predictor = NumberPredictor::read(r, base.is_some(), path)?;
    let plan = NumbersPlan { scale, forms, predictor };
    let results = formula_results(predictor, base, rows, view);
    let mut form = predicted_forms(mode, view.table, &plan, base, results.as_deref(), n);
    for (at, corrected) in corrections.into_iter().zip(corrected) {
        if corrected > count as u64 {
            return Err(r.corrupt("a form is out of range"));
        }
        form[at as usize] = corrected as u8;
    }
    let is_number = |form: &u8| plan.forms.get(usize::from(*form)).is_some_and(|f| *f != Form::Absent);
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
    Ok(Numbers { scale, forms: plan.forms, form, integers })
}
