//! Decimals as payloads: sign, digits and exponent, never a number. FORMAT.md section 1.1.

use crate::format::reader::Reader;
use crate::format::tag::{Payload, Tag, tag};
use crate::format::writer::Writer;

const COEFFICIENT_BITS: u32 = 55;
const LEAST_EXPONENT: i64 = -1_999_999_999_999_999_997;
const HIGHEST_EXPONENT: i64 = 999_999_999_999_999_999;
const FINITE: u8 = 0;
const INFINITY: u8 = 1;
const QUIET_NAN: u8 = 2;
const SIGNALING_NAN: u8 = 3;

struct Parts<'a> {
    kind: u8,
    negative: bool,
    exponent: i64,
    /// ASCII, no leading zero but for `0` itself.
    digits: &'a [u8],
}

/// The canonical cell of `str(Decimal)`; a long one is written to `buffer`. None for any other text.
pub(crate) fn parse<'a>(text: &str, buffer: &'a mut Writer) -> Option<(Tag, Payload<'a>)> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut digits = Vec::with_capacity(rest.len());
    let (kind, exponent) = if rest == "Infinity" {
        (INFINITY, 0)
    } else if let Some(payload) = rest.strip_prefix("sNaN") {
        digits.extend_from_slice(payload.as_bytes());
        (SIGNALING_NAN, 0)
    } else if let Some(payload) = rest.strip_prefix("NaN") {
        digits.extend_from_slice(payload.as_bytes());
        (QUIET_NAN, 0)
    } else {
        let (number, exponent) = match rest.split_once(['E', 'e']) {
            Some((number, exponent)) => (number, exponent.parse::<i64>().ok()?),
            None => (rest, 0),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        digits.extend_from_slice(whole.as_bytes());
        digits.extend_from_slice(fraction.as_bytes());
        let zeros = digits.iter().take_while(|d| **d == b'0').count();
        digits.drain(..zeros.min(digits.len().saturating_sub(1)));
        (FINITE, exponent - fraction.len() as i64)
    };
    let parts = Parts { kind, negative, exponent, digits: &digits };
    if !is_canonical(&parts) {
        return None;
    }
    if let Some(word) = small_word(&parts) {
        return Some((tag::DECIMAL, Payload::Fixed64(word)));
    }
    buffer.bytes.clear();
    buffer.u8(kind);
    buffer.u8(u8::from(negative));
    buffer.u64(exponent as u64);
    buffer.raw(&digits);
    Some((tag::DECIMAL_OTHER, Payload::Bytes(&buffer.bytes)))
}

fn small_word(parts: &Parts<'_>) -> Option<u64> {
    let exponent = i8::try_from(parts.exponent).ok()?;
    if parts.kind != FINITE || parts.digits.len() > 17 {
        return None;
    }
    let coefficient = parts.digits.iter().fold(0u64, |all, d| all * 10 + u64::from(d - b'0'));
    if coefficient >> COEFFICIENT_BITS != 0 {
        return None;
    }
    let sign = u64::from(parts.negative) << COEFFICIENT_BITS;
    Some(u64::from(exponent as u8) << 56 | sign | coefficient)
}

fn is_canonical(parts: &Parts<'_>) -> bool {
    let leads = parts.digits.first() == Some(&b'0');
    parts.digits.iter().all(u8::is_ascii_digit)
        && match parts.kind {
            FINITE => !parts.digits.is_empty() && (!leads || parts.digits.len() == 1) && is_in_range(parts),
            INFINITY => parts.digits.is_empty() && parts.exponent == 0,
            QUIET_NAN | SIGNALING_NAN => !leads && parts.exponent == 0,
            _ => false,
        }
}

/// The limits of Python's decimal.
fn is_in_range(parts: &Parts<'_>) -> bool {
    let highest = parts.exponent.saturating_add(parts.digits.len() as i64 - 1);
    parts.exponent >= LEAST_EXPONENT && highest <= HIGHEST_EXPONENT
}

fn read_other(blob: &[u8]) -> Option<Parts<'_>> {
    let mut r = Reader::new(blob);
    let [kind, sign] = [r.u8().ok()?, r.u8().ok()?];
    let exponent = r.u64().ok()? as i64;
    let digits = r.raw(r.left()).ok()?;
    (sign <= 1).then_some(Parts { kind, negative: sign == 1, exponent, digits })
}

pub(crate) fn is_other(blob: &[u8]) -> bool {
    read_other(blob).is_some_and(|parts| is_canonical(&parts) && small_word(&parts).is_none())
}

/// The text from which `Decimal` makes exactly this value; None if the payload is not one.
pub(crate) fn text(payload: Payload<'_>) -> Option<String> {
    let sign = |negative| if negative { "-" } else { "" };
    match payload {
        Payload::Fixed64(word) => {
            let negative = word >> COEFFICIENT_BITS & 1 == 1;
            let coefficient = word & ((1 << COEFFICIENT_BITS) - 1);
            let exponent = (word >> 56) as u8 as i8;
            Some(format!("{}{coefficient}E{exponent}", sign(negative)))
        }
        Payload::Bytes(blob) => {
            let parts = read_other(blob)?;
            let digits = std::str::from_utf8(parts.digits).ok()?;
            let sign = sign(parts.negative);
            Some(match parts.kind {
                FINITE => format!("{sign}{digits}E{}", parts.exponent),
                INFINITY => format!("{sign}Infinity"),
                QUIET_NAN => format!("{sign}NaN{digits}"),
                _ => format!("{sign}sNaN{digits}"),
            })
        }
    }
}

/// The coefficient with its sign, and the exponent; None if it is not finite or longer than 38 digits.
pub(crate) fn number(payload: Payload<'_>) -> Option<(i128, i64)> {
    let signed = |negative, coefficient: i128| if negative { -coefficient } else { coefficient };
    match payload {
        Payload::Fixed64(word) => {
            let coefficient = i128::from(word & ((1 << COEFFICIENT_BITS) - 1));
            let exponent = i64::from((word >> 56) as u8 as i8);
            Some((signed(word >> COEFFICIENT_BITS & 1 == 1, coefficient), exponent))
        }
        Payload::Bytes(blob) => {
            let parts = read_other(blob).filter(|parts| parts.kind == FINITE && parts.digits.len() <= 38)?;
            let coefficient = parts.digits.iter().fold(0, |all, d| all * 10 + i128::from(d - b'0'));
            Some((signed(parts.negative, coefficient), parts.exponent))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sign_digits_and_exponent_survive() {
        for (written, read) in [
            ("1.20", "120E-2"),
            ("-0.00", "-0E-2"),
            ("0E+5", "0E5"),
            ("1.2E-130", "12E-131"),
            ("-Infinity", "-Infinity"),
            ("sNaN123", "sNaN123"),
            ("NaN", "NaN"),
            ("36028797018963968", "36028797018963968E0"),
            ("0.000001", "1E-6"),
        ] {
            let mut buffer = Writer::default();
            let cell = parse(written, &mut buffer);
            assert_eq!(cell.and_then(|(_, payload)| text(payload)).as_deref(), Some(read));
            if let Some((tag::DECIMAL_OTHER, Payload::Bytes(blob))) = cell {
                assert!(is_other(blob));
            }
        }
        assert!(parse("abc", &mut Writer::default()).is_none());
        assert!(parse("", &mut Writer::default()).is_none());
    }
}
