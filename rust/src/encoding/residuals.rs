//! What is left when a prediction is taken away: the one place that knows how residuals are coded.

use crate::encoding::integers;
use crate::error::Result;
use crate::format::number::Scale;
use crate::format::reader::{Reader, unzigzag};
use crate::format::writer::{Writer, zigzag};

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The largest number that divides all of these signed integers; 0 if all are 0.
fn common_divisor(integers: impl Iterator<Item = u64>) -> u64 {
    let mut divisor = 0;
    for integer in integers {
        if divisor == 1 {
            break;
        }
        divisor = gcd((integer as i64).unsigned_abs(), divisor);
    }
    divisor
}

/// Divides the integers of a scale by the largest number that divides all of them. The scale with that as its unit.
pub(crate) fn divide_by_unit<T>(
    mut scale: Scale,
    all: &mut [T],
    integer: impl Fn(&mut T) -> &mut u64,
) -> Scale {
    let unit = if scale.is_raw() { 1 } else { common_divisor(all.iter_mut().map(|item| *integer(item))) };
    if unit > 1 {
        scale.unit = unit;
        all.iter_mut().map(integer).for_each(|m| *m = (*m as i64 / unit as i64) as u64);
    }
    scale
}

/// Writes residuals, which are used up: the stride, then integers.
pub(crate) fn write(w: &mut Writer, mut residuals: Vec<u64>) {
    let stride = common_divisor(residuals.iter().copied());
    let stride = if i64::try_from(stride).is_ok() { stride.max(1) } else { 1 };
    w.uvarint(stride);
    for residual in &mut residuals {
        let quotient = if stride == 1 { *residual as i64 } else { *residual as i64 / stride as i64 };
        *residual = zigzag(quotient as u64);
    }
    integers::write(w, &residuals);
}

/// So many residuals.
pub(crate) fn read(r: &mut Reader<'_>, n: usize) -> Result<Vec<u64>> {
    let stride = r.uvarint()?;
    if stride == 0 {
        return Err(r.corrupt("a stride is 0"));
    }
    let mut residuals = r.integers(n)?;
    residuals.iter_mut().for_each(|z| *z = unzigzag(*z));
    if stride > 1 {
        residuals.iter_mut().for_each(|residual| *residual = stride.wrapping_mul(*residual));
    }
    Ok(residuals)
}
