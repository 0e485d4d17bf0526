//! The values of a column, read where they are.

use crate::format::datetime::{self, DATETIME_END, Delta};
use crate::format::decimal;
use crate::format::value::{Payload, Tag, is_text, tag, text_cell, trim_big_int, write_inline};
use crate::format::writer::Writer;
use crate::python::convert_error::{ConvertError, ConvertResult, PathStep};
use crate::python::ffi::object::push_code_point;
use crate::python::ffi::shared_bytes::SharedBytes;
use crate::python::from_python::columns::block::BlockColumn;
use crate::python::from_python::columns::types::{DAY, ListSpan, Moment, Span, Type, Unit, Zone, malformed};

/// Microseconds from 0001-01-01 to 1970-01-01.
const EPOCH: i128 = 719_162 * DAY as i128;

/// Which values are null.
#[derive(Clone)]
pub(crate) enum Nulls {
    None,
    All,
    /// A bit a value: 0 is null.
    Bits(SharedBytes),
    /// A byte a value: not 0 is null.
    Mask(SharedBytes),
}

/// Values of one type, side by side. Item 0 stands at place `first` of the buffers.
pub(crate) struct Array {
    pub(crate) first: usize,
    pub(crate) length: usize,
    pub(crate) nulls: Nulls,
    pub(crate) buffers: Vec<SharedBytes>,
    /// The fields of a struct, item for item; the items of a list; the values of a dictionary.
    pub(crate) children: Vec<Array>,
}

impl Array {
    #[inline(always)]
    pub(crate) fn is_null(&self, at: usize) -> bool {
        match &self.nulls {
            Nulls::None => false,
            Nulls::All => true,
            Nulls::Bits(bits) => !bits.bit(self.first + at),
            Nulls::Mask(mask) => mask.bytes()[self.first + at] != 0,
        }
    }

    /// Tag and payload of one value; what is no word and stands nowhere as it is, is written to `w`.
    pub(crate) fn value<'b>(
        &'b self,
        kind: &Type,
        at: usize,
        w: &'b mut Writer,
    ) -> ConvertResult<(Tag, Payload<'b>)> {
        let word = |tag, word| Ok((tag, Payload::Fixed64(word)));
        if self.is_null(at) {
            return word(tag::NONE, 0);
        }
        let place = self.first + at;
        match kind {
            Type::Null => word(tag::NONE, 0),
            Type::Empty | Type::Struct(_) => word(tag::EMPTY, 0),
            Type::Bool => word(bool_tag(self.buffers[0].bit(place)), 0),
            Type::ByteBool => word(bool_tag(self.buffers[0].bytes()[place] != 0), 0),
            Type::Int { bytes, signed } => {
                let value = integer(&self.buffers[0], *bytes, *signed, place);
                match i64::try_from(value) {
                    Ok(value) => word(tag::INT, value as u64),
                    Err(_) => {
                        w.bytes.clear();
                        w.raw(&value.to_le_bytes());
                        Ok((tag::BIG_INT, Payload::Bytes(trim_big_int(&w.bytes))))
                    }
                }
            }
            Type::Float { bytes } => word(tag::FLOAT, float(&self.buffers[0], *bytes, place).to_bits()),
            Type::Text(span) => text(self.span(*span, place)?),
            Type::Binary(span) => Ok((tag::BYTES, Payload::Bytes(self.span(*span, place)?))),
            Type::FixedBinary(width) => {
                Ok((tag::BYTES, Payload::Bytes(&self.buffers[0].bytes()[place * width..][..*width])))
            }
            Type::PaddedBytes(width) => {
                let bytes = &self.buffers[0].bytes()[place * width..][..*width];
                let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                Ok((tag::BYTES, Payload::Bytes(&bytes[..end])))
            }
            Type::Utf32(units) => {
                self.utf32(*units, place, &mut w.bytes)?;
                text(&w.bytes)
            }
            Type::Moment { bytes, unit, moment, has_nat } => {
                let value = integer(&self.buffers[0], *bytes, true, place);
                if *has_nat && value == i128::from(i64::MIN) {
                    return word(tag::NONE, 0);
                }
                read_moment(value, *unit, moment, w)
            }
            Type::Decimal { bytes, scale } => {
                let digits = decimal_digits(&self.buffers[0].bytes()[place * bytes..][..*bytes]);
                let text = format!("{digits}E{}", -i64::from(*scale));
                decimal::parse(&text, w)
                    .ok_or_else(|| ConvertError::unsupported(format!("a Decimal in the unknown form {text}")))
            }
            Type::List(span, item) => {
                let (start, length) = self.list(*span, place)?;
                w.bytes.clear();
                w.size(length);
                for i in 0..length {
                    self.children[0]
                        .write(item, start + i, w)
                        .map_err(|error| error.below(PathStep::Index(i)))?;
                }
                Ok((tag::LIST, Payload::Bytes(&w.bytes)))
            }
            Type::Dictionary { values, .. } => {
                let index = self.index(kind, place)?;
                self.children[0].value(values, index, w)
            }
        }
    }

    /// The text of one value, in place or written to the buffer; None if it is null or no text.
    pub(crate) fn text<'b>(
        &'b self,
        kind: &Type,
        at: usize,
        buffer: &'b mut Vec<u8>,
    ) -> ConvertResult<Option<&'b [u8]>> {
        let place = self.first + at;
        let text = match kind {
            _ if self.is_null(at) => return Ok(None),
            Type::Text(span) => self.span(*span, place)?,
            Type::Utf32(units) => {
                self.utf32(*units, place, buffer)?;
                buffer
            }
            Type::Dictionary { values, .. } => {
                let index = self.index(kind, place)?;
                return self.children[0].text(values, index, buffer);
            }
            _ => return Ok(None),
        };
        checked_text(text).map(Some)
    }

    /// The place of a value in its dictionary.
    fn index(&self, kind: &Type, place: usize) -> ConvertResult<usize> {
        let Type::Dictionary { bytes, signed, .. } = kind else { return Err(malformed()) };
        let index = usize::try_from(integer(&self.buffers[0], *bytes, *signed, place));
        index.ok().filter(|index| *index < self.children[0].length).ok_or_else(malformed)
    }

    /// Writes a value in inline encoding.
    fn write(&self, kind: &Type, at: usize, w: &mut Writer) -> ConvertResult<()> {
        if let Type::Struct(fields) = kind
            && !self.is_null(at)
        {
            w.u8(tag::DICT);
            w.size(fields.len());
            for ((name, field), values) in fields.iter().zip(&self.children) {
                w.text(name);
                values.write(field, at, w).map_err(|error| error.below_key(name))?;
            }
            return Ok(());
        }
        let mut own = Writer::default();
        let (tag, payload) = self.value(kind, at, &mut own)?;
        write_inline(w, tag, payload);
        Ok(())
    }

    /// The bytes of a text that is not null, if they stand somewhere as they are; they may be no text.
    pub(super) fn text_in_place(&self, kind: &Type, at: usize) -> Option<&[u8]> {
        if self.is_null(at) {
            return None;
        }
        let place = self.first + at;
        match kind {
            Type::Text(span) => self.span(*span, place).ok(),
            Type::Dictionary { values, .. } => {
                self.children[0].text_in_place(values, self.index(kind, place).ok()?)
            }
            _ => None,
        }
    }

    /// Sets cells to the values from `start` on, if all of them are words that need no more than a look.
    pub(super) fn words(&self, kind: &Type, start: usize, cells: &mut BlockColumn<'_>) -> bool {
        let (from, n) = (self.first + start, cells.rows());
        match kind {
            Type::Int { bytes: 8, signed: true } => {
                let items = self.items(from, n);
                cells.set_tag(tag::INT);
                cells.set_words(|i| u64::from_le_bytes(items[i]));
            }
            Type::Float { bytes: 8 } => {
                let items = self.items(from, n);
                cells.set_tag(tag::FLOAT);
                cells.set_words(|i| u64::from_le_bytes(items[i]));
            }
            Type::Float { bytes: 4 } => {
                let items = self.items(from, n);
                cells.set_tag(tag::FLOAT);
                cells.set_words(|i| f64::from(f32::from_le_bytes(items[i])).to_bits());
            }
            Type::Int { bytes, signed } if *bytes < 8 => {
                cells.set_tag(tag::INT);
                cells.set_words(|i| integer(&self.buffers[0], *bytes, *signed, from + i) as u64);
            }
            Type::Bool => {
                cells.set_tags(|i| bool_tag(self.buffers[0].bit(from + i)));
                cells.set_words(|_| 0);
            }
            _ => return false,
        }
        if !matches!(self.nulls, Nulls::None) {
            for i in 0..n {
                if self.is_null(start + i) {
                    cells.set_none(i);
                }
            }
        }
        true
    }

    /// Items of N bytes each, side by side.
    #[inline(always)]
    fn items<const N: usize>(&self, from: usize, n: usize) -> &[[u8; N]] {
        self.buffers[0].bytes()[from * N..(from + n) * N].as_chunks().0
    }

    fn span(&self, span: Span, place: usize) -> ConvertResult<&[u8]> {
        let found = match span {
            Span::Offsets32 | Span::Offsets64 => {
                let (start, end) = self.offsets(span == Span::Offsets64, place);
                self.buffers[1].bytes().get(start..end)
            }
            Span::Views => {
                let view = &self.buffers[0].bytes()[16 * place..][..16];
                let number = |at: usize| u32::from_le_bytes(exact(&view[at..at + 4])) as usize;
                let length = number(0);
                if length <= 12 {
                    Some(&view[4..4 + length])
                } else {
                    let (buffer, start) = (number(8), number(12));
                    self.buffers.get(1 + buffer).and_then(|data| data.bytes().get(start..start + length))
                }
            }
        };
        found.ok_or_else(malformed)
    }

    fn offsets(&self, wide: bool, place: usize) -> (usize, usize) {
        // a negative one becomes one that is too large
        let offset = |at| {
            if wide {
                i64::from_le_bytes(self.buffers[0].item(at)) as usize
            } else {
                i32::from_le_bytes(self.buffers[0].item(at)) as usize
            }
        };
        (offset(place), offset(place + 1))
    }

    /// The first item of a list, and how many there are.
    fn list(&self, span: ListSpan, place: usize) -> ConvertResult<(usize, usize)> {
        let (start, end) = match span {
            ListSpan::Offsets32 | ListSpan::Offsets64 => self.offsets(span == ListSpan::Offsets64, place),
            ListSpan::Views32 | ListSpan::Views64 => {
                let wide = span == ListSpan::Views64;
                let of = |data: &SharedBytes| integer(data, if wide { 8 } else { 4 }, true, place) as usize;
                let start = of(&self.buffers[0]);
                (start, start.wrapping_add(of(&self.buffers[1])))
            }
            ListSpan::Fixed(length) => (place * length, (place + 1) * length),
        };
        if start <= end && end <= self.children[0].length {
            Ok((start, end - start))
        } else {
            Err(malformed())
        }
    }

    fn utf32(&self, units: usize, place: usize, out: &mut Vec<u8>) -> ConvertResult<()> {
        out.clear();
        let text = &self.buffers[0].bytes()[4 * units * place..][..4 * units];
        let mut zeros = 0;
        for unit in text.chunks_exact(4) {
            let code = u32::from_le_bytes(exact(unit));
            if code == 0 {
                zeros += 1;
                continue;
            }
            out.resize(out.len() + zeros, 0);
            zeros = 0;
            if code > 0x10_FFFF {
                return Err(ConvertError::unsupported("a character beyond Unicode"));
            }
            push_code_point(out, code);
        }
        Ok(())
    }
}

fn exact<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut exact = [0; N];
    exact.copy_from_slice(bytes);
    exact
}

fn bool_tag(value: bool) -> Tag {
    if value { tag::TRUE } else { tag::FALSE }
}

fn text(bytes: &[u8]) -> ConvertResult<(Tag, Payload<'_>)> {
    checked_text(bytes).map(text_cell)
}

fn checked_text(bytes: &[u8]) -> ConvertResult<&[u8]> {
    if bytes.is_ascii() || is_text(bytes) {
        Ok(bytes)
    } else {
        Err(ConvertError::unsupported("text that is not UTF-8"))
    }
}

#[inline(always)]
fn integer(data: &SharedBytes, bytes: usize, signed: bool, at: usize) -> i128 {
    match (bytes, signed) {
        (1, true) => i128::from(i8::from_le_bytes(data.item(at))),
        (1, false) => i128::from(u8::from_le_bytes(data.item(at))),
        (2, true) => i128::from(i16::from_le_bytes(data.item(at))),
        (2, false) => i128::from(u16::from_le_bytes(data.item(at))),
        (4, true) => i128::from(i32::from_le_bytes(data.item(at))),
        (4, false) => i128::from(u32::from_le_bytes(data.item(at))),
        (_, true) => i128::from(i64::from_le_bytes(data.item(at))),
        (_, false) => i128::from(u64::from_le_bytes(data.item(at))),
    }
}

fn float(data: &SharedBytes, bytes: usize, at: usize) -> f64 {
    match bytes {
        2 => half(u16::from_le_bytes(data.item(at))),
        4 => f64::from(f32::from_le_bytes(data.item(at))),
        _ => f64::from_le_bytes(data.item(at)),
    }
}

/// An IEEE 754 half as a double: exact.
fn half(bits: u16) -> f64 {
    let (sign, exponent, fraction) = (u64::from(bits >> 15), bits >> 10 & 31, u64::from(bits & 1023));
    if exponent == 0 {
        let magnitude = fraction as f64 / f64::from(1 << 24);
        return if sign == 1 { -magnitude } else { magnitude };
    }
    let exponent = if exponent == 31 { 2047 } else { u64::from(exponent) + 1023 - 15 };
    f64::from_bits(sign << 63 | exponent << 52 | fraction << 42)
}

fn read_moment<'b>(
    value: i128,
    unit: Unit,
    moment: &Moment,
    w: &'b mut Writer,
) -> ConvertResult<(Tag, Payload<'b>)> {
    let scaled = value * i128::from(unit.multiply);
    let divide = i128::from(unit.divide);
    let microseconds = scaled / divide;
    if scaled % divide != 0 {
        return Err(ConvertError::unsupported("nanoseconds are not supported, except whole microseconds"));
    }
    let beyond = |what: &str| ConvertError::unsupported(format!("a {what} outside Python's range"));
    w.bytes.clear();
    match moment {
        Moment::Date => {
            let days = (microseconds + EPOCH) / i128::from(DAY);
            if (microseconds + EPOCH) % i128::from(DAY) != 0 {
                return Err(ConvertError::unsupported("a date with a time of day"));
            }
            let word = clock_word(days * i128::from(DAY)).ok_or_else(|| beyond("date"))?;
            Ok((tag::DATE, Payload::Fixed64(datetime::datetime_fields(word).0.word())))
        }
        Moment::DateTime(zone) => {
            let offset = if let Zone::Offset(seconds) = zone { *seconds } else { 0 };
            let local = microseconds + EPOCH + i128::from(offset) * 1_000_000;
            let word = clock_word(local).ok_or_else(|| beyond("datetime"))?;
            match zone {
                Zone::None => Ok((tag::DATETIME, Payload::Fixed64(word))),
                Zone::Utc => Ok((tag::DATETIME_UTC, Payload::Fixed64(word))),
                Zone::Offset(seconds) => {
                    let offset = Delta {
                        days: seconds.div_euclid(86_400),
                        seconds: seconds.rem_euclid(86_400) as u32,
                        microseconds: 0,
                    };
                    datetime::write_stamp(w, word, 0, datetime::Zone::Offset(offset));
                    Ok((tag::DATETIME_ZONED, Payload::Bytes(&w.bytes)))
                }
                Zone::Key(_) => Err(ConvertError::unsupported("a timestamp in this time zone")),
            }
        }
        Moment::Time => match u64::try_from(microseconds) {
            Ok(microseconds) if microseconds < DAY as u64 => {
                datetime::write_stamp(w, microseconds, 0, datetime::Zone::None);
                Ok((tag::TIME, Payload::Bytes(&w.bytes)))
            }
            _ => Err(beyond("time")),
        },
        Moment::Duration => {
            let day = i128::from(DAY);
            let (days, rest) = (microseconds.div_euclid(day), microseconds.rem_euclid(day) as u64);
            match i32::try_from(days) {
                Ok(days) if days.unsigned_abs() <= 999_999_999 => {
                    let (seconds, microseconds) = ((rest / 1_000_000) as u32, (rest % 1_000_000) as u32);
                    Delta { days, seconds, microseconds }.write(w);
                    Ok((tag::TIMEDELTA, Payload::Bytes(&w.bytes)))
                }
                _ => Err(beyond("timedelta")),
            }
        }
    }
}

/// Microseconds since 0001-01-01, of the years that Python has.
fn clock_word(microseconds: i128) -> Option<u64> {
    u64::try_from(microseconds).ok().filter(|word| *word < DATETIME_END)
}

/// Microseconds since 1970 of a timestamp; None if it is no whole number of them.
pub(crate) fn moment_microseconds(array: &Array, bytes: usize, unit: Unit, at: usize) -> Option<i64> {
    let scaled = integer(&array.buffers[0], bytes, true, array.first + at) * i128::from(unit.multiply);
    let divide = i128::from(unit.divide);
    (scaled % divide == 0).then(|| i64::try_from(scaled / divide).ok()).flatten()
}

/// Digits are worked out nine at a time.
const BILLION: u64 = 1_000_000_000;

/// A two's complement number as text.
fn decimal_digits(bytes: &[u8]) -> String {
    if bytes.len() <= 16 {
        let extends = if bytes.last().is_some_and(|last| last & 0x80 != 0) { 0xFF } else { 0 };
        let mut extended = [extends; 16];
        extended[..bytes.len()].copy_from_slice(bytes);
        return i128::from_le_bytes(extended).to_string();
    }
    let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut limbs: Vec<u32> = bytes.chunks_exact(4).map(|limb| u32::from_le_bytes(exact(limb))).collect();
    if negative {
        let mut carry = true;
        for limb in &mut limbs {
            (*limb, carry) = (!*limb).overflowing_add(u32::from(carry));
        }
    }
    let mut parts = Vec::new();
    while limbs.iter().any(|limb| *limb != 0) {
        let mut rest = 0;
        for limb in limbs.iter_mut().rev() {
            let all = rest << 32 | u64::from(*limb);
            (*limb, rest) = ((all / BILLION) as u32, all % BILLION);
        }
        parts.push(rest);
    }
    let first = parts.pop().unwrap_or(0);
    let rest: Vec<String> = parts.iter().rev().map(|part| format!("{part:09}")).collect();
    format!("{}{first}{}", if negative { "-" } else { "" }, rest.concat())
}
