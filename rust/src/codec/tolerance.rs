//! Tolerances of columns: which changes of numbers are not published.

use crate::format::decimal;
use crate::format::tag::{Payload, tag};
use crate::state::change_set::ChangeSet;
use crate::state::table::{Cell, Table};

/// How far a number may be from the one published last, inclusive.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tolerance {
    Absolute(f64),
    /// Times the magnitude of the published number.
    Relative(f64),
}

/// The tolerances of an Encoder, by the keys that lead to a column.
#[derive(Default)]
pub(crate) struct Tolerances {
    columns: Vec<(Vec<Vec<u8>>, Tolerance)>,
}

impl Tolerances {
    pub(crate) fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// False if the column has one already.
    pub(crate) fn add(&mut self, keys: Vec<Vec<u8>>, tolerance: Tolerance) -> bool {
        let is_new = self.columns.iter().all(|(other, _)| *other != keys);
        if is_new {
            self.columns.push((keys, tolerance));
        }
        is_new
    }

    pub(crate) fn hold_back(&self, changes: &mut ChangeSet, table: &mut Table) {
        for (keys, tolerance) in &self.columns {
            if let Some(path) = table.schema.find(keys) {
                changes.hold_back(path, table, |table, old, new| tolerance.allows(table, old, new));
            }
        }
    }
}

impl Tolerance {
    /// True if both are numbers of one type, and the new one is within the tolerance of the published one.
    fn allows(self, table: &Table, published: Cell, new: Cell) -> bool {
        match (published.tag, new.tag) {
            (tag::FLOAT, tag::FLOAT) => {
                let (published, new) = (f64::from_bits(published.word), f64::from_bits(new.word));
                let distance = (new - published).abs();
                // to an infinity it is infinite, to a NaN it is a NaN
                distance.is_finite() && distance <= self.bound(published)
            }
            (tag::INT, tag::INT) => {
                let (published, new) = (published.word as i64, new.word as i64);
                // a bound is not negative; what is above all distances becomes the largest number
                new.abs_diff(published) <= self.bound(published as f64) as u64
            }
            (tag::DECIMAL | tag::DECIMAL_OTHER, tag::DECIMAL | tag::DECIMAL_OTHER) => {
                let (published, new) = (table.payload(published), table.payload(new));
                let within = |published| {
                    Some(decimal_distance(published, new)? <= self.bound(decimal_value(published)?))
                };
                within(published).unwrap_or(false)
            }
            _ => false,
        }
    }

    fn bound(self, published: f64) -> f64 {
        match self {
            Tolerance::Absolute(amount) => amount,
            Tolerance::Relative(ratio) => ratio * published.abs(),
        }
    }
}

fn decimal_value(payload: Payload<'_>) -> Option<f64> {
    let (coefficient, exponent) = decimal::number(payload)?;
    nearest(coefficient, exponent)
}

/// The exact distance as the nearest double; None where it is not known.
fn decimal_distance(a: Payload<'_>, b: Payload<'_>) -> Option<f64> {
    let [a, b] = [decimal::number(a)?, decimal::number(b)?];
    let exponent = a.1.min(b.1);
    let at_exponent = |(coefficient, own): (i128, i64)| {
        let power = 10i128.checked_pow(u32::try_from(own - exponent).ok()?)?;
        coefficient.checked_mul(power)
    };
    nearest(at_exponent(a)?.checked_sub(at_exponent(b)?)?.checked_abs()?, exponent)
}

/// The double nearest to a decimal; None beyond the largest.
fn nearest(coefficient: i128, exponent: i64) -> Option<f64> {
    format!("{coefficient}e{exponent}").parse::<f64>().ok().filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::writer::Writer;

    fn allows(tolerance: Tolerance, published: (u8, u64), new: (u8, u64)) -> bool {
        let [published, new] = [published, new].map(|(tag, word)| Cell { tag, word });
        tolerance.allows(&Table::default(), published, new)
    }

    #[test]
    fn floats_are_compared_as_doubles() {
        let float = |value: f64| (tag::FLOAT, value.to_bits());
        let absolute = |a, b| allows(Tolerance::Absolute(0.5), float(a), float(b));
        assert!(absolute(1.0, 1.5) && absolute(1.5, 1.0) && absolute(0.0, -0.0));
        assert!(!absolute(1.0, 1.500_001) && !absolute(1.0, f64::NAN) && !absolute(f64::NAN, f64::NAN));
        assert!(!absolute(f64::INFINITY, 1.0) && !absolute(1.0, f64::INFINITY));
        let relative = |a, b| allows(Tolerance::Relative(0.25), float(a), float(b));
        assert!(relative(4.0, 5.0) && relative(-4.0, -3.0) && !relative(4.0, 5.1) && !relative(0.0, 1e-300));
        assert!(!relative(f64::INFINITY, 1.0) && !relative(-f64::MAX, f64::MAX));
    }

    #[test]
    fn ints_have_exact_distances() {
        let int = |value: i64| (tag::INT, value as u64);
        let absolute = |amount, a, b| allows(Tolerance::Absolute(amount), int(a), int(b));
        assert!(absolute(1.5, 10, 11) && !absolute(1.5, 10, 12) && !absolute(0.5, 10, 11));
        assert!(absolute(1.0, i64::MAX - 1, i64::MAX) && !absolute(1.0, i64::MAX - 2, i64::MAX));
        assert!(absolute(1e300, i64::MIN, i64::MAX) && !absolute(1e18, i64::MIN, i64::MAX));
        assert!(allows(Tolerance::Relative(0.001), int(-1000), int(-1001)));
        assert!(!allows(Tolerance::Relative(0.001), int(999), int(1000)));
    }

    #[test]
    fn a_change_of_type_is_no_change_of_a_number() {
        let all = Tolerance::Absolute(1e9);
        let cells =
            [(tag::INT, 1), (tag::FLOAT, 1f64.to_bits()), (tag::TRUE, 0), (tag::NONE, 0), (tag::DIGITS, 1)];
        for a in cells {
            for b in cells.into_iter().filter(|b| b.0 != a.0) {
                assert!(!allows(all, a, b));
            }
        }
        assert!(!allows(all, (tag::DIGITS, 1), (tag::DIGITS, 2)));
    }

    #[test]
    fn decimals_are_compared_by_value() {
        let mut table = Table::default();
        let mut cell = |text: &str| {
            let mut buffer = Writer::default();
            decimal::parse(text, &mut buffer).map(|(tag, payload)| table.acquire(tag, payload))
        };
        let cases = [
            ("0.1", "0.4", true),
            ("0.1", "0.401", false),
            ("1.20", "1.2", true),
            ("1E+5", "100000.3", true),
            ("12345678901234567890.1", "12345678901234567890.4", true),
            ("1E+120", "1.1E+120", false),
            ("1", "NaN", false),
            ("Infinity", "-Infinity", false),
            ("1E-400", "2E-400", true),
            ("1E+400", "2E+400", false),
        ];
        let cells = cases.map(|(a, b, within)| (cell(a), cell(b), within));
        for (a, b, within) in cells {
            let allowed = a.zip(b).map(|(a, b)| Tolerance::Absolute(0.3).allows(&table, a, b));
            assert_eq!(allowed, Some(within));
        }
    }
}
