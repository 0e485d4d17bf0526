//! Numbers in cells of any tag: their values, and the forms that give a cell back. FORMAT.md section 8.4.

use crate::error::Result;
use crate::format::number_text::{self, Template};
use crate::format::numbers::{MAX_EXPONENT, RAW, form};
use crate::format::powers::{POWERS, power};
use crate::format::reader::Reader;
use crate::format::tag::{Payload, Tag, tag};
use crate::format::text::{short_text, text_cell};
use crate::format::writer::Writer;

const LIMIT: f64 = (1u64 << 51) as f64;
/// Adding and subtracting it rounds half to even, within the limit.
const ROUNDER: f64 = 1.5 * (1u64 << 52) as f64;

const COEFFICIENT: u64 = (1 << 55) - 1;

/// The value of a cell, or NaN without one.
#[inline]
pub(crate) fn value(tag: Tag, payload: Payload<'_>) -> f64 {
    match (tag, payload) {
        (tag::INT, Payload::Fixed64(word)) => word as i64 as f64,
        (tag::FLOAT, Payload::Fixed64(word)) => f64::from_bits(word),
        (tag::DIGITS, Payload::Fixed64(word)) => word as f64,
        (tag::DECIMAL, Payload::Fixed64(word)) => decimal_value(word),
        (tag::SHORT, Payload::Fixed64(word)) => {
            let (bytes, n) = short_text(word);
            text_value(&bytes[..n])
        }
        (tag::TEXT, Payload::Bytes(text)) => text_value(text),
        _ => f64::NAN,
    }
}

fn text_value(text: &[u8]) -> f64 {
    number_text::parse(text).map_or(f64::NAN, |number| number.value())
}

fn decimal_value(word: u64) -> f64 {
    let coefficient = (word & COEFFICIENT) as f64;
    let negative = word >> 55 & 1 == 1 && word & COEFFICIENT != 0;
    let signed = if negative { -coefficient } else { coefficient };
    let exponent = (word >> 56) as u8 as i8;
    match POWERS.get(usize::from(exponent.unsigned_abs())) {
        Some(power) if exponent < 0 => signed / power,
        Some(power) => signed * power,
        None => f64::NAN,
    }
}

/// Rounds half to even; None beyond 2^51.
#[inline(always)]
pub(crate) fn round(value: f64) -> Option<f64> {
    (value.abs() <= LIMIT).then_some((value + ROUNDER) - ROUNDER)
}

/// How the numbers of a column become integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale {
    pub(crate) exponent: u8,
    pub(crate) unit: u64,
}

impl Scale {
    pub(crate) const BITS: Scale = Scale { exponent: RAW, unit: 1 };

    pub(crate) fn is_raw(self) -> bool {
        self.exponent == RAW
    }

    /// The integer nearest to a value.
    #[inline(always)]
    pub(crate) fn integer(self, value: f64) -> Option<u64> {
        if self.is_raw() {
            return (!value.is_nan()).then_some(value.to_bits());
        }
        let mut scaled = value * POWERS[usize::from(self.exponent)];
        if self.unit > 1 {
            scaled /= self.unit as f64;
        }
        round(scaled).map(|rounded| rounded as i64 as u64)
    }

    /// As `integer` for each value, which comes with what `take` needs; what kind of scale it is is asked once.
    #[inline(always)]
    pub(crate) fn for_each_integer<T>(
        self,
        values: impl Iterator<Item = (f64, T)>,
        mut take: impl FnMut(Option<u64>, T),
    ) {
        if self.is_raw() || self.unit > 1 {
            values.for_each(|(value, with)| take(self.integer(value), with));
            return;
        }
        let power = POWERS[usize::from(self.exponent)];
        let integer = |value: f64| round(value * power).map(|rounded| rounded as i64 as u64);
        values.for_each(|(value, with)| take(integer(value), with));
    }

    /// The number that an integer stands for, in units of the exponent.
    #[inline(always)]
    fn number(self, integer: u64) -> Option<i64> {
        let number = (integer as i64).checked_mul(self.unit as i64)?;
        (number.unsigned_abs() <= 1 << 51).then_some(number)
    }

    pub(crate) fn write(self, w: &mut Writer) {
        w.u8(self.exponent);
        w.uvarint(self.unit);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Scale> {
        let exponent = r.u8()?;
        if exponent > MAX_EXPONENT && exponent != RAW {
            return Err(r.reserved("exponent", exponent));
        }
        let unit = r.uvarint()?;
        if unit == 0 || unit > 1 << 51 || exponent == RAW && unit > 1 {
            return Err(r.corrupt("the unit is out of range"));
        }
        Ok(Scale { exponent, unit })
    }
}

/// The form of a number in a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    Absent,
    Int,
    Float,
    IntOrFloat,
    Decimal(u8),
    Text(Template),
}

/// True if cells of this form are numbers; the number of forms stands for another cell.
#[inline(always)]
pub(crate) fn is_number(forms: &[Form], form: u8) -> bool {
    forms.get(usize::from(form)).is_some_and(|form| *form != Form::Absent)
}

impl Form {
    /// True if a cell of this tag may have the form.
    #[inline(always)]
    pub(crate) fn may_have(&self, tag: Tag) -> bool {
        match self {
            Form::Absent => tag == tag::NONE,
            Form::Int => tag == tag::INT,
            Form::Float => tag == tag::FLOAT,
            Form::IntOrFloat => matches!(tag, tag::INT | tag::FLOAT),
            Form::Decimal(_) => tag == tag::DECIMAL,
            Form::Text(_) => matches!(tag, tag::DIGITS | tag::SHORT | tag::TEXT),
        }
    }

    /// The cell of an integer in this form; a text is written to `buffer`. None if the form cannot have it.
    #[inline]
    pub(crate) fn cell<'a>(
        &self,
        scale: Scale,
        integer: u64,
        buffer: &'a mut Vec<u8>,
    ) -> Option<(Tag, Payload<'a>)> {
        if scale.is_raw() {
            return Some((tag::FLOAT, Payload::Fixed64(integer)));
        }
        let number = scale.number(integer)?;
        let exponent = scale.exponent;
        let float = || Some((tag::FLOAT, Payload::Fixed64(float_word(number, exponent))));
        let int = || {
            let power = power(exponent) as i64;
            (number % power == 0).then(|| (tag::INT, Payload::Fixed64((number / power) as u64)))
        };
        match self {
            Form::Absent => None,
            Form::Int => int(),
            Form::Float => float(),
            Form::IntOrFloat => int().or_else(float),
            Form::Decimal(decimals) => {
                let magnitude = number.unsigned_abs();
                let (coefficient, d) = number_text::at_decimals(magnitude, exponent, *decimals)?;
                let sign = u64::from(number < 0) << 55;
                let word = u64::from((d as i8).wrapping_neg() as u8) << 56 | sign | coefficient;
                Some((tag::DECIMAL, Payload::Fixed64(word)))
            }
            Form::Text(template) => {
                template.write_number(number, exponent, buffer)?;
                Some(text_cell(buffer))
            }
        }
    }

    /// The tag of all cells of this form whose words are told together.
    pub(crate) fn word_tag(&self) -> Option<Tag> {
        match self {
            Form::Int => Some(tag::INT),
            Form::Float => Some(tag::FLOAT),
            _ => None,
        }
    }

    /// Turns integers into the words of their cells, for forms that have a `word_tag`. False if one has no such cell.
    pub(crate) fn turn_into_words(&self, scale: Scale, integers: &mut [u64]) -> bool {
        if scale.is_raw() {
            return true;
        }
        let exponent = scale.exponent;
        let power = power(exponent) as i64;
        let is_float = *self == Form::Float;
        let mut fits = true;
        for integer in integers {
            match scale.number(*integer) {
                Some(number) if is_float => *integer = float_word(number, exponent),
                Some(number) if power == 1 || number % power == 0 => *integer = (number / power) as u64,
                _ => fits = false,
            }
        }
        fits
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        match self {
            Form::Absent => w.u8(form::ABSENT),
            Form::Int => w.u8(form::INT),
            Form::Float => w.u8(form::FLOAT),
            Form::IntOrFloat => w.u8(form::INT_OR_FLOAT),
            Form::Decimal(decimals) => {
                w.u8(form::DECIMAL);
                w.u8(*decimals);
            }
            Form::Text(template) => {
                w.u8(form::TEXT);
                template.write(w);
            }
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>, exponent: u8) -> Result<Form> {
        let kind = r.u8()?;
        if exponent == RAW && kind != form::ABSENT && kind != form::FLOAT {
            return Err(r.corrupt("doubles have no other form"));
        }
        Ok(match kind {
            form::ABSENT => Form::Absent,
            form::INT => Form::Int,
            form::FLOAT => Form::Float,
            form::INT_OR_FLOAT => Form::IntOrFloat,
            form::DECIMAL => Form::Decimal(number_text::read_decimals(r, exponent, false)?),
            form::TEXT => Form::Text(Template::read(r, exponent)?),
            kind => return Err(r.reserved("form of numbers", kind)),
        })
    }
}

#[inline(always)]
fn float_word(number: i64, exponent: u8) -> u64 {
    (number as f64 / POWERS[usize::from(exponent)]).to_bits()
}

/// The integer at a scale of a float that is exactly such a decimal.
#[inline(always)]
pub(crate) fn exact_integer(word: u64, exponent: u8) -> Option<i64> {
    let rounded = round(f64::from_bits(word) * POWERS[usize::from(exponent)])?;
    let integer = rounded as i64;
    (float_word(integer, exponent) == word).then_some(integer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_decimals_are_taken() {
        assert_eq!(exact_integer(12.34f64.to_bits(), 2), Some(1234));
        assert_eq!(exact_integer((-0.07f64).to_bits(), 2), Some(-7));
        for odd in [-0.0, f64::NAN, f64::INFINITY, 1.0 / 3.0, 1e300] {
            assert_eq!(exact_integer(odd.to_bits(), 4), None);
        }
        let scale = Scale { exponent: 2, unit: 1 };
        for cents in -100_000i64..100_000 {
            let word = float_word(cents, 2);
            assert_eq!(exact_integer(word, 2), Some(cents));
            assert_eq!(scale.integer(f64::from_bits(word)), Some(cents as u64));
        }
    }

    #[test]
    fn integers_of_many_values_are_those_of_each() {
        let values = [0.0, -0.0, 0.125, 12.34, -7.5, 3e15, 1e300, f64::NAN, f64::INFINITY];
        let scales = [(0, 1), (2, 1), (2, 5), (15, 1)].map(|(exponent, unit)| Scale { exponent, unit });
        for scale in scales.into_iter().chain([Scale::BITS]) {
            let mut all = Vec::new();
            scale.for_each_integer(values.into_iter().zip(0..), |integer, i| all.push((integer, i)));
            let each: Vec<_> = values.into_iter().map(|value| scale.integer(value)).zip(0..).collect();
            assert_eq!(all, each, "{scale:?}");
        }
    }

    #[test]
    fn words_are_those_of_the_cells() {
        let integers = [0, 1, 3, 7, 40, 1000, 123_457, 1 << 51, (1 << 51) + 1, 1 << 62, i64::MAX as u64];
        let integers = integers.into_iter().flat_map(|integer: u64| [integer, integer.wrapping_neg()]);
        let scales =
            [(0, 1), (2, 1), (2, 5), (4, 1 << 40), (15, 1)].map(|(exponent, unit)| Scale { exponent, unit });
        let mut buffer = Vec::new();
        for scale in scales.into_iter().chain([Scale::BITS]) {
            for form in [Form::Int, Form::Float].into_iter().filter(|f| !scale.is_raw() || *f == Form::Float)
            {
                for integer in integers.clone() {
                    let cell = match form.cell(scale, integer, &mut buffer) {
                        Some((tag, Payload::Fixed64(word))) => Some((tag, word)),
                        _ => None,
                    };
                    let mut words = [integer];
                    let fits = form.turn_into_words(scale, &mut words);
                    let found = form.word_tag().filter(|_| fits).map(|tag| (tag, words[0]));
                    assert_eq!(found, cell, "{form:?} {scale:?} {integer}");
                }
            }
        }
    }

    #[test]
    fn a_number_has_the_cell_of_its_form() {
        let mut buffer = Vec::new();
        let scale = Scale { exponent: 2, unit: 5 };
        let word = |cell: Option<(Tag, Payload<'_>)>| match cell {
            Some((tag, Payload::Fixed64(word))) => Some((tag, word)),
            _ => None,
        };
        assert_eq!(word(Form::Float.cell(scale, 3, &mut buffer)), Some((tag::FLOAT, 0.15f64.to_bits())));
        assert_eq!(word(Form::Int.cell(scale, 3, &mut buffer)), None);
        assert_eq!(word(Form::IntOrFloat.cell(scale, 40, &mut buffer)), Some((tag::INT, 2)));
        let decimal = Form::Decimal(2).cell(scale, (-3i64) as u64, &mut buffer);
        assert_eq!(word(decimal), Some((tag::DECIMAL, 0xFE << 56 | 1 << 55 | 15)));
        assert_eq!(value(tag::DECIMAL, Payload::Fixed64(0xFE << 56 | 1 << 55 | 15)), -0.15);
        assert_eq!(word(Form::Float.cell(scale, 1 << 62, &mut buffer)), None);
    }
}
