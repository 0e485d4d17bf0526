//! Samples, and what numbers cost on them.

use std::iter::repeat_n;
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

/// Cells that a sample has at the most.
pub(crate) const SAMPLE_SIZE: usize = 64;
/// Other columns are tried on this many cells first.
pub(crate) const PRESAMPLE: usize = 8;
/// Of a sample, more different numbers are not counted.
const MOST_DISTINCT: usize = SAMPLE_SIZE / 3;

/// The different numbers of a sample, each with how often it comes.
struct Distinct {
    counts: [(u64, usize); MOST_DISTINCT],
    len: usize,
    /// A bit for the hash of each: one that is not set is of a new number.
    seen: u64,
}

impl Distinct {
    /// None if there are more than `most`, or than can be counted.
    fn of(numbers: impl Iterator<Item = u64>, most: usize) -> Option<Distinct> {
        let mut distinct = Distinct { counts: [(0, 0); MOST_DISTINCT], len: 0, seen: 0 };
        let most = most.min(MOST_DISTINCT);
        for number in numbers {
            let bit = 1 << (number.wrapping_mul(HASH) >> 58);
            let mut counts = distinct.counts[..distinct.len].iter_mut();
            let known = if distinct.seen & bit == 0 { None } else { counts.find(|known| known.0 == number) };
            match known {
                Some((_, count)) => *count += 1,
                None if distinct.len < most => {
                    distinct.counts[distinct.len] = (number, 1);
                    distinct.len += 1;
                    distinct.seen |= bit;
                }
                None => return None,
            }
        }
        Some(distinct)
    }

    fn counts(&self) -> &[(u64, usize)] {
        &self.counts[..self.len]
    }
}

/// An odd number whose multiples differ in their highest bits.
const HASH: u64 = 0x9E37_79B9_7F4A_7C15;

/// True if of all words at most a third are different.
pub(crate) fn has_few(words: &[u64]) -> bool {
    Distinct::of(words.iter().copied(), words.len() / 3).is_some()
}

/// Bits a value that compressed planes of these numbers take: their length, or less where few numbers come often.
pub(crate) fn bits_of(numbers: impl ExactSizeIterator<Item = u64> + Clone) -> f64 {
    bits_below(numbers, f64::INFINITY)
}

/// As `bits_of` where that is below the limit, and not below it where it is not.
#[inline]
fn bits_below(numbers: impl ExactSizeIterator<Item = u64> + Clone, limit: f64) -> f64 {
    let n = numbers.len();
    let most = (limit * n as f64) as u32;
    let mut length = 0;
    for number in numbers.clone() {
        length += 64 - number.leading_zeros();
        if length > most {
            break;
        }
    }
    let is_below = length <= most;
    let length = f64::from(length) / n as f64;
    if is_below && length <= 1.0 {
        return length;
    }
    // where many are different, they cost their length
    let Some(distinct) = Distinct::of(numbers, n / 4) else { return length };
    let known: f64 = distinct.counts().iter().map(|(_, count)| *count as f64 * log2(*count)).sum();
    length.min(log2(n) - known / n as f64 + 0.1)
}

fn residuals<'a>(
    integers: &'a [u64],
    predictions: impl ExactSizeIterator<Item = u64> + Clone + 'a,
) -> impl ExactSizeIterator<Item = u64> + Clone + 'a {
    integers.iter().zip(predictions).map(|(i, p)| zigzag(i.wrapping_sub(p)))
}

/// Bits a value that residuals take.
pub(crate) fn residual_bits(
    integers: &[u64],
    predictions: impl ExactSizeIterator<Item = u64> + Clone,
) -> f64 {
    bits_of(residuals(integers, predictions))
}

/// The predictor by which the integers of a sample cost least.
pub(crate) struct Cheapest<'a, P> {
    integers: &'a [u64],
    pub(crate) predictor: P,
    pub(crate) bits: f64,
}

impl<'a, P> Cheapest<'a, P> {
    /// Begins with a predictor of zeros.
    pub(crate) fn new(integers: &'a [u64], predictor: P) -> Self {
        Cheapest { integers, predictor, bits: residual_bits(integers, repeat_n(0, integers.len())) }
    }

    /// Takes a predictor if it is cheaper with what it adds for itself.
    pub(crate) fn offer(
        &mut self,
        predictor: P,
        predictions: impl ExactSizeIterator<Item = u64> + Clone,
        argument: f64,
    ) {
        let bits = bits_below(residuals(self.integers, predictions), self.bits) + argument;
        if bits < self.bits {
            (self.predictor, self.bits) = (predictor, bits);
        }
    }

    /// Offers the newest of them, for a stream of so many: 8 bytes of argument are spread over it.
    pub(crate) fn offer_newest(&mut self, n: usize, predictor: impl FnOnce(u64) -> P) {
        let newest = newest(self.integers);
        self.offer(predictor(newest), repeat_n(newest, self.integers.len()), 64.0 / n as f64);
    }
}

/// The largest of signed integers.
pub(crate) fn newest(integers: &[u64]) -> u64 {
    integers.iter().map(|integer| *integer as i64).max().unwrap_or(0) as u64
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

    fn sorted(numbers: &[u64]) -> Vec<u64> {
        let mut sorted = numbers.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        sorted
    }

    fn lists() -> impl Iterator<Item = Vec<u64>> {
        let list = |(n, different): (u64, u64)| (0..n).map(|i| (i * i % different) << (n % 50)).collect();
        (1..=SAMPLE_SIZE as u64).flat_map(|n| (1..40).map(move |different| (n, different))).map(list)
    }

    #[test]
    fn few_different_words_are_told_as_by_sorting() {
        for words in lists() {
            assert_eq!(has_few(&words), sorted(&words).len() * 3 <= words.len(), "{words:?}");
        }
    }

    #[test]
    fn a_limit_changes_nothing_below_it() {
        for numbers in lists() {
            let n = numbers.len();
            let length: u32 = numbers.iter().map(|number| 64 - number.leading_zeros()).sum();
            let mut bits = f64::from(length) / n as f64;
            let distinct = sorted(&numbers);
            if bits > 1.0 && distinct.len() <= n / 4 {
                let count = |number: &u64| numbers.iter().filter(|other| *other == number).count();
                let known: f64 = distinct.iter().map(count).map(|count| count as f64 * log2(count)).sum();
                bits = bits.min(log2(n) - known / n as f64 + 0.1);
            }
            assert!((bits_of(numbers.iter().copied()) - bits).abs() < 1e-9);
            let bits = bits_of(numbers.iter().copied());
            for limit in [0.5, 1.0, 1.5, 3.0, 20.0, bits, bits.next_up()] {
                let below = bits_below(numbers.iter().copied(), limit);
                assert!(if bits < limit { below == bits } else { below >= limit }, "{numbers:?} {limit}");
            }
        }
    }

    #[test]
    fn a_third_of_a_sample_is_the_sample_of_a_third() {
        for n in 0..2_000 {
            let all = sample_of(n, 96);
            assert_eq!(pick(&all, &sample_of(all.len(), 32)), sample_of(n, 32));
        }
    }
}
