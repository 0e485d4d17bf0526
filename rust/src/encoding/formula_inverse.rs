//! Operations turned round: where a second operand lies if the result is to lie between two values.

use crate::encoding::formula::{Operands, Operation};

pub(crate) type Interval = (f64, f64);

/// Holds nothing.
const NOWHERE: Interval = (f64::NAN, f64::NAN);

/// What of a column its second operand is looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Second {
    Value,
    Change,
}

const EVERYWHERE: Interval = (f64::NEG_INFINITY, f64::INFINITY);

/// Zero is all that can come of it.
fn of_zero((low, high): Interval) -> Interval {
    if low <= 0.0 && high >= 0.0 { EVERYWHERE } else { NOWHERE }
}

fn ascending(p: f64, q: f64) -> Interval {
    if p <= q { (p, q) } else { (q, p) }
}

/// Results divided by a factor of theirs.
fn divided((low, high): Interval, factor: f64) -> Interval {
    if factor == 0.0 { of_zero((low, high)) } else { ascending(low / factor, high / factor) }
}

/// What divides a number with such results; the results may lie on both sides of zero.
fn divisors((low, high): Interval, number: f64) -> [Interval; 2] {
    if number == 0.0 {
        return [of_zero((low, high)), NOWHERE];
    }
    if low > 0.0 || high < 0.0 {
        return [ascending(number / low, number / high), NOWHERE];
    }
    let beyond = |end: f64| if end > 0.0 { (end, f64::INFINITY) } else { (f64::NEG_INFINITY, end) };
    let part = |end: f64| if end == 0.0 { NOWHERE } else { beyond(number / end) };
    [part(low), part(high)]
}

/// Where the second operand of an operation without a constant lies, given the others.
#[inline]
pub(crate) fn second(operation: Operation, x: Operands, results: Interval) -> (Second, [Interval; 2]) {
    let Operands { old, a, a_old, .. } = x;
    let (low, high) = results;
    let change = a - a_old;
    let one = |interval: Interval| (Second::Value, [interval, NOWHERE]);
    match operation {
        Operation::Difference => one((a - high, a - low)),
        Operation::Sum => one((low - a, high - a)),
        Operation::Mean => one((2.0 * low - a, 2.0 * high - a)),
        Operation::Product => one(divided(results, a)),
        Operation::AbsoluteProduct => one(divided(results, a.abs())),
        Operation::Quotient => (Second::Value, divisors(results, a)),
        Operation::Percent => (Second::Value, divisors(results, a * 100.0)),
        Operation::PercentChange | Operation::PercentAbove => {
            (Second::Value, divisors((1.0 + low / 100.0, 1.0 + high / 100.0), a))
        }
        Operation::PercentOfRest => {
            (Second::Value, divisors(results, a * 100.0).map(|(low, high)| (low + a, high + a)))
        }
        Operation::Larger if a < low => one(results),
        Operation::Larger if a <= high => one((f64::NEG_INFINITY, high)),
        Operation::Smaller if a > high => one(results),
        Operation::Smaller if a >= low => one((low, f64::INFINITY)),
        Operation::OldPlusChangeTimes => one(divided((low - old, high - old), change)),
        Operation::WeightedMean => {
            let kept = old * a_old;
            let (low, high) = ascending(low * a - kept, high * a - kept);
            one(divided((low, high), change))
        }
        Operation::OldPlusChanges => (Second::Change, [(low - old - change, high - old - change), NOWHERE]),
        Operation::OldPlusDifferenceOfChanges => {
            (Second::Change, [(old + change - high, old + change - low), NOWHERE])
        }
        _ => one(NOWHERE),
    }
}

/// Where the second operand in one row, over that in another, lies, so that one constant serves in both: `x` and `y` are
/// the first operands (or their changes) in the rows, `p` and `q` what the constant and they make.
pub(crate) fn second_over_second(
    operation: Operation,
    (x, y): (f64, f64),
    (p, q): (f64, f64),
    agreement: f64,
) -> Interval {
    let (least, most) = (1.0 - agreement, 1.0 + agreement);
    let middle = match operation {
        Operation::MultipleOfQuotient => (x * q) / (y * p),
        _ => (p * y) / (q * x),
    };
    match operation {
        Operation::MultipleOfQuotient => ascending(middle / least, middle / most),
        _ => ascending(middle * least, middle * most),
    }
}
