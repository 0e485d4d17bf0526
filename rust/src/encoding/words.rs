//! Word streams: FORMAT.md section 8.2. Writing follows a plan; reading obeys the bytes.

use crate::encoding::decimal;
use crate::encoding::predictor::{Context, Predictor, Scale};
use crate::encoding::row_view::View;
use crate::error::Result;
use crate::format::budget::{Budget, ENTRY};
use crate::format::reader::{Reader, unzigzag};
use crate::format::value::{Tag, tag};
use crate::format::words::{CONSTANT, DECIMALS, DICTIONARY, MAX_DICTIONARY, MAX_EXPONENT, RESIDUALS};
use crate::format::writer::{Writer, zigzag};
use crate::state::schema::PathId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    Constant,
    Dictionary,
    Residuals(Predictor),
    Decimals(u8, Predictor),
}

/// The words of the cells of one tag in one cell stream.
pub struct Stream<'a> {
    pub tag: Tag,
    pub words: &'a [u64],
    /// Old words, 0 where the old cell has another tag; None in inserts.
    pub old: Option<&'a [u64]>,
    pub rows: &'a [u32],
}

pub fn write(w: &mut Writer, stream: &Stream<'_>, plan: Plan, view: &View<'_>, node: impl Fn(PathId) -> u64) {
    match plan {
        Plan::Constant => {
            w.u8(CONSTANT);
            w.u64(stream.words[0]);
        }
        Plan::Dictionary => write_dictionary(w, stream.words),
        Plan::Residuals(predictor) => {
            w.u8(RESIDUALS);
            predictor.write(w, node);
            let predictions = predictor.predictions(stream.old, stream.rows, stream.tag, Scale(None), view);
            write_residuals(w, predictor, predictions, stream.words.iter().map(|w| Some(*w)));
        }
        Plan::Decimals(exponent, predictor) => {
            w.u8(DECIMALS);
            w.u8(exponent);
            let integers: Vec<Option<u64>> = stream
                .words
                .iter()
                .map(|word| decimal::to_integer(*word, exponent).map(|m| m as u64))
                .collect();
            let exceptions: Vec<u32> =
                (0..).zip(&integers).filter_map(|(i, m)| m.is_none().then_some(i)).collect();
            w.counted_gaps(&exceptions);
            let words: Vec<u64> = exceptions.iter().map(|i| stream.words[*i as usize]).collect();
            w.planes(&words);
            predictor.write(w, node);
            let scale = Scale(Some(exponent));
            let predictions = predictor.predictions(stream.old, stream.rows, stream.tag, scale, view);
            write_residuals(w, predictor, predictions, integers.into_iter());
        }
    }
}

fn write_dictionary(w: &mut Writer, words: &[u64]) {
    let mut entries = words.to_vec();
    entries.sort_unstable();
    entries.dedup();
    let indices: Vec<u64> =
        words.iter().map(|word| entries.partition_point(|entry| entry < word) as u64).collect();
    w.u8(DICTIONARY);
    w.size(entries.len());
    w.planes(&entries);
    w.planes(&indices);
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Scale and planes; None stands for an exception, whose residual is 0.
fn write_residuals(
    w: &mut Writer,
    predictor: Predictor,
    mut predictions: Vec<u64>,
    integers: impl Iterator<Item = Option<u64>>,
) {
    let mut before = 0u64;
    let mut scale = 0;
    for (prediction, integer) in predictions.iter_mut().zip(integers) {
        if predictor == Predictor::Before {
            *prediction = before;
        }
        let integer = integer.unwrap_or(*prediction);
        before = integer;
        let residual = integer.wrapping_sub(*prediction);
        if scale != 1 {
            scale = gcd((residual as i64).unsigned_abs(), scale);
        }
        *prediction = residual;
    }
    let scale = if scale <= i64::MAX as u64 { scale.max(1) } else { 1 };
    w.uv(scale);
    for residual in &mut predictions {
        let quotient = if scale == 1 { *residual as i64 } else { *residual as i64 / scale as i64 };
        *residual = zigzag(quotient as u64);
    }
    w.planes(&predictions);
}

pub fn read(r: &mut Reader<'_>, context: &Context<'_>, budget: &mut Budget) -> Result<Vec<u64>> {
    let n = context.rows.len();
    match r.u8()? {
        CONSTANT => Ok(vec![r.u64()?; n]),
        DICTIONARY => {
            let k = r.up_to(MAX_DICTIONARY, "number of entries")?;
            if k == 0 {
                return Err(r.corrupt("a dictionary has at least one entry"));
            }
            budget.charge(k as u64, ENTRY, "entries of dictionaries")?;
            let entries = r.planes(k)?;
            let indices = r.planes(n)?;
            indices
                .into_iter()
                .map(|i| entries.get(i as usize).copied())
                .collect::<Option<_>>()
                .ok_or_else(|| r.corrupt("an index is beyond its dictionary"))
        }
        RESIDUALS => read_residuals(r, context, Scale(None)),
        DECIMALS if context.tag == tag::FLOAT => read_decimals(r, context),
        DECIMALS => Err(r.corrupt("only floats are coded as decimals")),
        code => Err(r.reserved("coding of words", code)),
    }
}

fn read_decimals(r: &mut Reader<'_>, context: &Context<'_>) -> Result<Vec<u64>> {
    let exponent = r.u8()?;
    if exponent > MAX_EXPONENT {
        return Err(r.corrupt("an exponent is out of range"));
    }
    let exceptions = r.counted_gaps(context.rows.len())?;
    let words = r.planes(exceptions.len())?;
    let mut values = read_residuals(r, context, Scale(Some(exponent)))?;
    let mut exceptions = exceptions.into_iter().zip(words).peekable();
    for (i, value) in (0u32..).zip(&mut values) {
        if let Some((_, word)) = exceptions.next_if(|exception| exception.0 == i) {
            *value = word;
        } else if decimal::is_in_range(*value as i64) {
            *value = decimal::from_integer(*value as i64, exponent);
        } else {
            return Err(r.corrupt("a decimal is out of range"));
        }
    }
    Ok(values)
}

fn read_residuals(r: &mut Reader<'_>, context: &Context<'_>, scale: Scale) -> Result<Vec<u64>> {
    let predictor = Predictor::read(r, context)?;
    match predictor {
        Predictor::Formula(_) | Predictor::Larger(..) if scale.0.is_some() => {
            return Err(r.corrupt("decimals are not predicted that way"));
        }
        Predictor::Formula(formula) if context.tag != tag::FLOAT => {
            return Err(r.corrupt(format!("{formula:?} predicts floats only")));
        }
        Predictor::Formula(formula) if formula.operation.needs_old() && context.old.is_none() => {
            return Err(r.corrupt("an inserted cell has no old one"));
        }
        _ => {}
    }
    let step = r.uv()?;
    if step == 0 {
        return Err(r.corrupt("a scale is 0"));
    }
    let mut words = r.planes(context.rows.len())?;
    if predictor == Predictor::Before {
        let mut before = 0u64;
        for word in &mut words {
            before = before.wrapping_add(step.wrapping_mul(unzigzag(*word)));
            *word = before;
        }
        return Ok(words);
    }
    let predictions = predictor.predictions(context.old, context.rows, context.tag, scale, &context.view);
    for (word, prediction) in words.iter_mut().zip(predictions) {
        *word = prediction.wrapping_add(step.wrapping_mul(unzigzag(*word)));
    }
    Ok(words)
}
