//! Word streams: FORMAT.md section 8.2. Writing follows the chosen encoding; reading obeys the bytes.

use crate::encoding::predictor::{Context, DecimalExponent, Predictor};
use crate::encoding::row_view::RowView;
use crate::encoding::{decimal, integers};
use crate::error::Result;
use crate::format::budget::{Budget, ENTRY};
use crate::format::fixed64::{CONSTANT, DECIMALS, DICTIONARY, MAX_DICTIONARY, MAX_EXPONENT, RESIDUALS};
use crate::format::reader::{Reader, unzigzag};
use crate::format::value::{Tag, tag};
use crate::format::writer::{Writer, zigzag};
use crate::state::schema::PathId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Constant,
    Dictionary,
    Residuals(Predictor),
    Decimals(u8, Predictor),
}

/// The words of the cells of one tag in one cell stream.
pub(crate) struct Stream<'a> {
    pub(crate) tag: Tag,
    pub(crate) words: &'a [u64],
    /// Old words, 0 where the old cell has another tag; None in inserts.
    pub(crate) base: Option<&'a [u64]>,
    pub(crate) rows: &'a [u32],
}

pub(crate) fn write(
    w: &mut Writer,
    stream: &Stream<'_>,
    encoding: Encoding,
    view: &RowView<'_>,
    frame_path: impl Fn(PathId) -> u64,
) {
    match encoding {
        Encoding::Constant => {
            w.u8(CONSTANT);
            w.u64(stream.words[0]);
        }
        Encoding::Dictionary => write_dictionary(w, stream.words),
        Encoding::Residuals(predictor) => {
            w.u8(RESIDUALS);
            predictor.write(w, frame_path);
            let predictions =
                predictor.predictions(stream.base, stream.rows, stream.tag, DecimalExponent(None), view);
            write_residuals(w, predictor, predictions, stream.words.iter().map(|w| Some(*w)));
        }
        Encoding::Decimals(exponent, predictor) => {
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
            w.byte_planes(&words);
            predictor.write(w, frame_path);
            let decimal_exponent = DecimalExponent(Some(exponent));
            let predictions =
                predictor.predictions(stream.base, stream.rows, stream.tag, decimal_exponent, view);
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
    w.byte_planes(&entries);
    integers::write(w, &indices);
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Stride and byte planes; None stands for an exception, whose residual is 0.
fn write_residuals(
    w: &mut Writer,
    predictor: Predictor,
    mut predictions: Vec<u64>,
    integers: impl Iterator<Item = Option<u64>>,
) {
    let mut previous = 0u64;
    let mut stride = 0;
    for (prediction, integer) in predictions.iter_mut().zip(integers) {
        if predictor == Predictor::Previous {
            *prediction = previous;
        }
        let integer = integer.unwrap_or(*prediction);
        previous = integer;
        let residual = integer.wrapping_sub(*prediction);
        if stride != 1 {
            stride = gcd((residual as i64).unsigned_abs(), stride);
        }
        *prediction = residual;
    }
    let stride = if i64::try_from(stride).is_ok() { stride.max(1) } else { 1 };
    w.uvarint(stride);
    for residual in &mut predictions {
        let quotient = if stride == 1 { *residual as i64 } else { *residual as i64 / stride as i64 };
        *residual = zigzag(quotient as u64);
    }
    integers::write(w, &predictions);
}

pub(crate) fn read(r: &mut Reader<'_>, context: &Context<'_>, budget: &mut Budget) -> Result<Vec<u64>> {
    let n = context.rows.len();
    match r.u8()? {
        CONSTANT => Ok(vec![r.u64()?; n]),
        DICTIONARY => {
            let k = r.up_to(MAX_DICTIONARY, "number of entries")?;
            if k == 0 {
                return Err(r.corrupt("a dictionary has at least one entry"));
            }
            budget.charge(k as u64, ENTRY, "entries of dictionaries")?;
            let entries = r.byte_planes(k)?;
            let indices = r.integers(n)?;
            indices
                .into_iter()
                .map(|i| entries.get(i as usize).copied())
                .collect::<Option<_>>()
                .ok_or_else(|| r.corrupt("an index is beyond its dictionary"))
        }
        RESIDUALS => read_residuals(r, context, DecimalExponent(None)),
        DECIMALS if context.tag == tag::FLOAT => read_decimals(r, context),
        DECIMALS => Err(r.corrupt("only floats are encoded as decimals")),
        code => Err(r.reserved("encoding of a fixed64 stream", code)),
    }
}

fn read_decimals(r: &mut Reader<'_>, context: &Context<'_>) -> Result<Vec<u64>> {
    let exponent = r.u8()?;
    if exponent > MAX_EXPONENT {
        return Err(r.corrupt("an exponent is out of range"));
    }
    let exceptions = r.counted_gaps(context.rows.len())?;
    let words = r.byte_planes(exceptions.len())?;
    let mut values = read_residuals(r, context, DecimalExponent(Some(exponent)))?;
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

fn read_residuals(
    r: &mut Reader<'_>,
    context: &Context<'_>,
    decimal_exponent: DecimalExponent,
) -> Result<Vec<u64>> {
    let predictor = Predictor::read(r, context)?;
    match predictor {
        Predictor::Formula(_) | Predictor::Max(..) if decimal_exponent.0.is_some() => {
            return Err(r.corrupt("decimals are not predicted that way"));
        }
        Predictor::Formula(formula) if context.tag != tag::FLOAT => {
            return Err(r.corrupt(format!("{formula:?} predicts floats only")));
        }
        Predictor::Formula(formula) if formula.operation.needs_base() && context.base.is_none() => {
            return Err(r.corrupt("an inserted cell has no old one"));
        }
        _ => {}
    }
    let stride = r.uvarint()?;
    if stride == 0 {
        return Err(r.corrupt("a stride is 0"));
    }
    let mut words = r.integers(context.rows.len())?;
    if predictor == Predictor::Previous {
        let mut previous = 0u64;
        for word in &mut words {
            previous = previous.wrapping_add(stride.wrapping_mul(unzigzag(*word)));
            *word = previous;
        }
        return Ok(words);
    }
    let predictions =
        predictor.predictions(context.base, context.rows, context.tag, decimal_exponent, &context.view);
    for (word, prediction) in words.iter_mut().zip(predictions) {
        *word = prediction.wrapping_add(stride.wrapping_mul(unzigzag(*word)));
    }
    Ok(words)
}
