//! Doubles that are decimals with few digits, as integers with a common exponent.
//!
//! The idea is that of ALP (Afroozeh, Kuffo, Boncz: "ALP: Adaptive Lossless floating-Point Compression", 2023).

use crate::format::fixed64::MAX_EXPONENT;

const POWERS: [f64; MAX_EXPONENT as usize + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];
const LIMIT: f64 = (1u64 << 51) as f64;
/// Adding and taking it away rounds half to even what is within the limit.
const ROUNDER: f64 = 1.5 * (1u64 << 52) as f64;

/// The integer m with `m / 10^exponent` = value bit for bit, if there is one.
#[inline(always)]
pub(crate) fn to_integer(word: u64, exponent: u8) -> Option<i64> {
    let scaled = f64::from_bits(word) * POWERS[exponent as usize];
    let within = scaled.abs() <= LIMIT;
    let rounded = if within { (scaled + ROUNDER) - ROUNDER } else { 0.0 };
    let integer = rounded as i64;
    (within && from_integer(integer, exponent) == word).then_some(integer)
}

#[inline(always)]
pub(crate) fn from_integer(integer: i64, exponent: u8) -> u64 {
    (integer as f64 / POWERS[exponent as usize]).to_bits()
}

pub(crate) fn is_in_range(integer: i64) -> bool {
    integer.unsigned_abs() <= 1 << 51
}

/// The m of a word, 0 where there is none: what predictions are made from.
#[inline(always)]
pub(crate) fn operand(word: u64, exponent: u8) -> u64 {
    to_integer(word, exponent).unwrap_or(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_decimals_are_taken() {
        assert_eq!(to_integer(12.34f64.to_bits(), 2), Some(1234));
        assert_eq!(to_integer((-0.07f64).to_bits(), 2), Some(-7));
        assert_eq!(to_integer(0.1f64.to_bits(), 22), None);
        for odd in [-0.0, f64::NAN, f64::INFINITY, 1.0 / 3.0, 1e300] {
            assert_eq!(to_integer(odd.to_bits(), 4), None);
        }
        for cents in -100_000i64..100_000 {
            assert_eq!(to_integer(from_integer(cents, 2), 2), Some(cents));
        }
    }
}
