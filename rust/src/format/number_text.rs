//! Numbers in text: `$1,234.50`, `-0.31%`, `4.00000200`. FORMAT.md section 8.4.

use crate::error::Result;
use crate::format::numbers::{SHORTEST, SHORTEST_WITH_POINT, text_flag};
use crate::format::powers::{POWERS, power};
use crate::format::reader::Reader;
use crate::format::text::is_text;
use crate::format::writer::Writer;

const MAX_LENGTH: usize = 40;
const MAX_AFFIX: usize = 4;
const MAX_DIGITS: usize = 18;
const MAX_INTEGER: u64 = 1 << 53;

/// The parts of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NumberText<'a> {
    pub(crate) prefix: &'a [u8],
    pub(crate) suffix: &'a [u8],
    /// `+`, `-`, or 0 without a sign.
    pub(crate) sign: u8,
    pub(crate) sign_after_prefix: bool,
    pub(crate) grouped: bool,
    pub(crate) decimals: u8,
    pub(crate) magnitude: u64,
}

fn is_affix(byte: u8) -> bool {
    !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b',')
}

/// Splits before the first byte that fails the test.
fn split(text: &[u8], passes: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|byte| !passes(*byte)).unwrap_or(text.len()))
}

fn take_sign(text: &[u8]) -> (u8, &[u8]) {
    match text {
        [sign @ (b'+' | b'-'), rest @ ..] => (*sign, rest),
        _ => (0, text),
    }
}

/// True if the digits after the first group are in groups of three.
fn is_grouped(whole: &[u8]) -> bool {
    let mut groups = whole.split(|byte| *byte == b',');
    let first = groups.next().map_or(0, <[u8]>::len);
    (1..=3).contains(&first) && groups.all(|group| group.len() == 3)
}

/// None if the text is not a number.
pub(crate) fn parse(text: &[u8]) -> Option<NumberText<'_>> {
    if text.len() > MAX_LENGTH {
        return None;
    }
    let (first_sign, rest) = take_sign(text);
    let (prefix, rest) = split(rest, is_affix);
    let (second_sign, rest) = if prefix.is_empty() { (0, rest) } else { take_sign(rest) };
    let (whole, rest) = split(rest, |byte| byte.is_ascii_digit() || byte == b',');
    let (fraction, suffix) = match rest {
        [b'.', rest @ ..] => split(rest, |byte| byte.is_ascii_digit()),
        _ => (&[][..], rest),
    };
    let grouped = whole.contains(&b',');
    let digits = whole.iter().chain(fraction).filter(|byte| **byte != b',');
    let count = digits.clone().count();
    let padded = whole.len() > 1 && whole[0] == b'0';
    let pointless = rest.first() == Some(&b'.') && fraction.is_empty();
    let fits = !whole.is_empty()
        && !padded
        && !pointless
        && (first_sign == 0 || second_sign == 0)
        && prefix.len() <= MAX_AFFIX
        && suffix.len() <= MAX_AFFIX
        && suffix.iter().all(|byte| is_affix(*byte))
        && count <= MAX_DIGITS
        && (!grouped || is_grouped(whole));
    if !fits {
        return None;
    }
    let magnitude = digits.fold(0u64, |all, byte| all * 10 + u64::from(byte - b'0'));
    (magnitude <= MAX_INTEGER).then_some(NumberText {
        prefix,
        suffix,
        sign: first_sign | second_sign,
        sign_after_prefix: second_sign != 0,
        grouped,
        decimals: fraction.len() as u8,
        magnitude,
    })
}

impl NumberText<'_> {
    pub(crate) fn value(&self) -> f64 {
        let integer = self.magnitude as i64;
        let signed = if self.sign == b'-' { -integer } else { integer };
        signed as f64 / POWERS[usize::from(self.decimals)]
    }
}

/// The form of numbers in the text of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) flags: u8,
    pub(crate) decimals: u8,
    pub(crate) prefix: Box<[u8]>,
    pub(crate) suffix: Box<[u8]>,
}

/// The digits of a number with its decimals, and how many decimals these are; None if it has more.
#[inline]
pub(crate) fn at_decimals(mut magnitude: u64, exponent: u8, decimals: u8) -> Option<(u64, u8)> {
    let least = match decimals {
        SHORTEST => 0,
        SHORTEST_WITH_POINT => 1,
        fixed => {
            let power = power(exponent - fixed);
            return magnitude.is_multiple_of(power).then(|| (magnitude / power, fixed));
        }
    };
    let mut d = exponent;
    while d > least && magnitude.is_multiple_of(10) {
        magnitude /= 10;
        d -= 1;
    }
    Some((magnitude, d))
}

pub(crate) fn read_decimals(r: &mut Reader<'_>, exponent: u8, is_text: bool) -> Result<u8> {
    let decimals = r.u8()?;
    let fits = decimals <= exponent
        || decimals == SHORTEST
        || decimals == SHORTEST_WITH_POINT && is_text && exponent > 0;
    if fits { Ok(decimals) } else { Err(r.corrupt("decimals are out of range")) }
}

impl Template {
    /// Writes the text of a number at an exponent; None if the template cannot have it.
    pub(crate) fn write_number(&self, number: i64, exponent: u8, out: &mut Vec<u8>) -> Option<()> {
        let (magnitude, d) = at_decimals(number.unsigned_abs(), exponent, self.decimals)?;
        let sign = match number {
            ..0 => Some(b'-'),
            0 => (self.flags & text_flag::PLUS_ON_ZERO != 0).then_some(b'+'),
            _ => (self.flags & text_flag::PLUS != 0).then_some(b'+'),
        };
        out.clear();
        let after = self.flags & text_flag::SIGN_AFTER_PREFIX != 0;
        if !after {
            out.extend(sign);
        }
        out.extend_from_slice(&self.prefix);
        if after {
            out.extend(sign);
        }
        let (whole, fraction) = (magnitude / power(d), magnitude % power(d));
        let start = out.len();
        push_digits(out, whole, 1);
        if self.flags & text_flag::GROUPED != 0 {
            let digits = out.len() - start;
            for group in 1..=(digits - 1) / 3 {
                out.insert(start + digits - 3 * group, b',');
            }
        }
        if d > 0 {
            out.push(b'.');
            push_digits(out, fraction, usize::from(d));
        }
        out.extend_from_slice(&self.suffix);
        Some(())
    }

    pub(crate) fn write(&self, w: &mut Writer) {
        w.u8(self.flags);
        w.u8(self.decimals);
        w.text(&self.prefix);
        w.text(&self.suffix);
    }

    pub(crate) fn read(r: &mut Reader<'_>, exponent: u8) -> Result<Template> {
        let flags = r.u8()?;
        if flags > text_flag::ALL {
            return Err(r.reserved("flags of a number in text", flags));
        }
        let decimals = read_decimals(r, exponent, true)?;
        let [prefix, suffix] = [r.text()?, r.text()?];
        for affix in [prefix, suffix] {
            if affix.len() > MAX_AFFIX || !affix.iter().all(|byte| is_affix(*byte)) || !is_text(affix) {
                return Err(r.corrupt("no number in text stands between these"));
            }
        }
        Ok(Template { flags, decimals, prefix: prefix.into(), suffix: suffix.into() })
    }
}

/// At least `least` digits.
fn push_digits(out: &mut Vec<u8>, mut number: u64, least: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while number > 0 || digits.len() - at < least {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_taken_apart_and_put_together() {
        for (text, flags, decimals, exponent, number) in [
            ("4.00000200", 0, 8, 8, 400_000_200),
            ("$1,234.50", text_flag::GROUPED, 2, 2, 123_450),
            ("-12.3%", 0, 1, 2, -1230),
            ("$-0.07", text_flag::SIGN_AFTER_PREFIX, 2, 2, -7),
            ("+5", text_flag::PLUS, SHORTEST, 3, 5000),
            ("1,000,000", text_flag::GROUPED, 0, 0, 1_000_000),
            ("187.0", 0, SHORTEST_WITH_POINT, 2, 18_700),
            ("€0.5 m", 0, SHORTEST, 2, 50),
        ] {
            let parsed = parse(text.as_bytes());
            let value = parsed.map(|parsed| parsed.value());
            assert_eq!(value, Some(number as f64 / POWERS[usize::from(exponent)]), "{text}");
            let affixes = parsed.map_or((&[][..], &[][..]), |parsed| (parsed.prefix, parsed.suffix));
            let (prefix, suffix) = (affixes.0.into(), affixes.1.into());
            let template = Template { flags, decimals, prefix, suffix };
            let mut out = Vec::new();
            assert!(template.write_number(number, exponent, &mut out).is_some());
            assert_eq!(String::from_utf8_lossy(&out), text);
        }
    }

    #[test]
    fn other_texts_are_no_numbers() {
        for text in [
            "",
            "AAPL",
            "-",
            "1.",
            ".5",
            "01.5",
            "1,23",
            "1,2345",
            ",123",
            "1.2.3",
            "-$-1",
            "12-13",
            "2026-01-01",
            "10:30",
            "dollar 5",
            "1234567890123456789",
            "9007199254740993",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
