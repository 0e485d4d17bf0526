//! How many bits are set, by the processor's own instruction where it has one.

#![allow(unsafe_code)]

/// Bits that are set in both.
pub(crate) fn count_common(a: &[u64], b: &[u64]) -> usize {
    count_inside(a, b, &[]).0
}

/// Bits that are set in both of the first two, and in all three.
pub(crate) fn count_inside(a: &[u64], b: &[u64], c: &[u64]) -> (usize, usize) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("popcnt") {
        // SAFETY: the processor has the instruction
        return unsafe { with_instruction(a, b, c) };
    }
    plain(a, b, c)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
fn with_instruction(a: &[u64], b: &[u64], c: &[u64]) -> (usize, usize) {
    plain(a, b, c)
}

#[inline(always)]
fn plain(a: &[u64], b: &[u64], c: &[u64]) -> (usize, usize) {
    let ones = |word: u64| word.count_ones() as usize;
    if c.is_empty() {
        return (a.iter().zip(b).map(|(a, b)| ones(a & b)).sum(), 0);
    }
    let both = a.iter().zip(b).zip(c);
    both.fold((0, 0), |(two, three), ((a, b), c)| (two + ones(a & b), three + ones(a & b & c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instruction_counts_as_the_plain_way_does() {
        let words = |seed: u64| {
            (0..99u64).map(|i| (i + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect::<Vec<_>>()
        };
        let (a, b, c) = (words(1), words(2), words(3));
        for n in [0, 1, 7, 99] {
            let (a, b, c) = (&a[..n], &b[..n], &c[..n]);
            assert_eq!(count_inside(a, b, c), plain(a, b, c));
            let bit = |words: &[u64], at: usize| words[at / 64] >> (at % 64) & 1 == 1;
            let common = (0..64 * n).filter(|at| bit(a, *at) && bit(b, *at)).count();
            assert_eq!(count_common(a, b), common);
        }
    }
}
