//! Samples, and what numbers cost on them.

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
pub(crate) fn bits_of(numbers: &mut [u64]) -> f64 {
    let n = numbers.len() as f64;
    let length: u32 = numbers.iter().map(|z| 64 - z.leading_zeros()).sum();
    let length = f64::from(length) / n;
    if length <= 1.0 {
        return length;
    }
    numbers.sort_unstable();
    let runs = numbers.chunk_by(|a, b| a == b);
    let (mut distinct, mut entropy) = (0, 0.0);
    for run in runs {
        let share = run.len() as f64 / n;
        distinct += 1;
        entropy -= share * share.log2();
    }
    if distinct * 4 <= numbers.len() { length.min(entropy + 0.1) } else { length }
}

pub(crate) fn residual_bits(integers: &[u64], predictions: &[u64]) -> f64 {
    let pairs = integers.iter().zip(predictions);
    let mut residuals: Vec<u64> = pairs.map(|(i, p)| zigzag(i.wrapping_sub(*p))).collect();
    bits_of(&mut residuals)
}
