//! Samples, and what numbers cost on them.

use std::sync::LazyLock;

use crate::format::share;
use crate::format::writer::zigzag;

/// At most `size` indices, evenly spread.
pub(crate) fn sample_of(n: usize, size: usize) -> Vec<usize> {
    if n <= size {
        return (0..n).collect();
    }
    (0..size).map(|i| (2 * i + 1) * n / (2 * size)).collect()
}

pub(crate) fn pick<T: Copy>(all: &[T], sample: &[usize]) -> Vec<T> {
    sample.iter().map(|i| all[*i]).collect()
}

/// Bits a value that compressed planes of these numbers take: their length, or less where few numbers come often.
pub(crate) fn bits_of(numbers: impl ExactSizeIterator<Item = u64> + Clone) -> f64 {
    let n = numbers.len();
    let length: u32 = numbers.clone().map(|z| 64 - z.leading_zeros()).sum();
    let length = f64::from(length) / n as f64;
    if length <= 1.0 {
        return length;
    }
    let mut counts: Vec<(u64, usize)> = Vec::with_capacity(n / 4);
    for number in numbers {
        if let Some((_, count)) = counts.iter_mut().find(|(other, _)| *other == number) {
            *count += 1;
        } else if counts.len() < n / 4 {
            counts.push((number, 1));
        } else {
            // so many different ones cost their length
            return length;
        }
    }
    let known: f64 = counts.iter().map(|(_, count)| *count as f64 * log2(*count)).sum();
    length.min(log2(n) - known / n as f64 + 0.1)
}

/// Bits a value that residuals take.
pub(crate) fn residual_bits(
    integers: &[u64],
    predictions: impl ExactSizeIterator<Item = u64> + Clone,
) -> f64 {
    bits_of(integers.iter().zip(predictions).map(|(i, p)| zigzag(i.wrapping_sub(p))))
}

const TABLE: usize = 4097;
static LOGARITHMS: LazyLock<Vec<f64>> = LazyLock::new(|| (0..TABLE).map(|n| (n as f64).log2()).collect());

/// The binary logarithm; small ones are kept.
pub(crate) fn log2(n: usize) -> f64 {
    LOGARITHMS.get(n).copied().unwrap_or_else(|| (n as f64).log2())
}

/// Bits that a share takes.
const SHARE: f64 = 5.0;

/// The share of choices that are taken, and the bits that they take with it.
pub(crate) fn share(taken: usize, of: usize) -> (u8, f64) {
    if taken == 0 || taken == of {
        return (if taken == 0 { share::NONE } else { share::ALL }, SHARE);
    }
    let share = ((256 * taken + of / 2) / of).clamp(1, 254);
    let others = of - taken;
    let bits = 8.0 * of as f64 - taken as f64 * log2(share) - others as f64 * log2(256 - share);
    (share as u8, SHARE + bits)
}

/// Bits that a list of `count` of so many takes, about.
pub(crate) fn listed(count: usize, of: usize) -> f64 {
    count as f64 * (2.5 + (of as f64 / count.max(1) as f64).log2())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_a_sample_is_the_sample_of_a_third() {
        for n in 0..2_000 {
            let all = sample_of(n, 96);
            assert_eq!(pick(&all, &sample_of(all.len(), 32)), sample_of(n, 32));
        }
    }
}
