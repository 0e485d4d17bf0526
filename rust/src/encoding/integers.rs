//! The cheaper form of a list of integers: byte planes, or classes in the entropy stream with a table of their own.

use crate::encoding::left_out::{Part, left_out};
use crate::encoding::sampling::log2;
use crate::format::integers::{CLASSES, Table, WHOLE, class_of, table_bits};
use crate::format::writer::Writer;

/// Shorter lists do not pay for a table.
const MIN_CODED: usize = 8;
/// The longest mantissa of classes with open bits.
const LONGEST: u8 = 2;
/// What reaches zstd of a byte of a table, in bits.
const TABLE_BYTE: f64 = 5.0;
/// What each value that comes in a plane costs besides, in bits: tables, and what they cannot tell.
const PLANE_SYMBOL: f64 = 8.0;
/// zstd has one table for the planes of many columns.
const SHARED_TABLE: f64 = 1.2;
/// Bytes of shorter lists cost half of what they are at least: few values tell a table nothing.
const SHORT: usize = 64;

pub(crate) fn write(w: &mut Writer, numbers: &[u64]) {
    match best_table(numbers) {
        Some(table) => w.coded_integers(numbers, &table),
        None => w.byte_planes(numbers),
    }
}

/// The table with which the numbers are shorter than as byte planes.
fn best_table(numbers: &[u64]) -> Option<Table> {
    let all = numbers.iter().fold(0, |all, number| all | number);
    let n = numbers.len();
    if n < MIN_CODED || all == 0 || left_out(Part::Entropy) {
        return None;
    }
    let mut best = (f64::INFINITY, WHOLE, 0);
    let mut best_counts = [0u32; CLASSES];
    let mut offer = |counts: &[u32], mantissa: u8| {
        let cost = cost_of(counts, n, mantissa);
        if cost < best.0 {
            best = (cost, mantissa, counts.len());
            best_counts[..counts.len()].copy_from_slice(counts);
        }
    };
    // no number is above what all have together, and no class above its class
    let highest = |mantissa: u8| usize::from(class_of(all, mantissa).0);
    let mut counts = [0u32; CLASSES];
    if all >> WHOLE == 0 {
        let mut whole = [0u32; CLASSES];
        numbers.iter().for_each(|number| whole[usize::from(*number as u8)] += 1);
        offer(&whole[..=highest(WHOLE)], WHOLE);
        for (number, count) in (0..=all).zip(whole) {
            counts[usize::from(class_of(number, LONGEST).0)] += count;
        }
    } else {
        numbers.iter().for_each(|number| counts[usize::from(class_of(*number, LONGEST).0)] += 1);
    }
    for mantissa in (0..=LONGEST).rev() {
        if mantissa < LONGEST {
            merge_classes(&mut counts[..=highest(mantissa + 1)], mantissa);
        }
        offer(&counts[..=highest(mantissa)], mantissa);
    }
    let (cost, mantissa, classes) = best;
    costs_more(numbers, all, cost).then(|| table_of(&best_counts[..classes], n, mantissa))
}

/// Counts of classes become those with one bit of mantissa less.
fn merge_classes(counts: &mut [u32], mantissa: u8) {
    // Up to the last class that stands for one number, classes are numbers.
    let single = 2 << mantissa;
    for class in single + 1..counts.len() {
        let count = std::mem::take(&mut counts[class]);
        counts[(class - single) / 2 + single] += count;
    }
}

/// The classes that come, from the first to the last.
fn used(counts: &[u32]) -> (usize, &[u32]) {
    let comes = |count: &u32| *count != 0;
    let lowest = counts.iter().position(comes).unwrap_or(0);
    let highest = counts.iter().rposition(comes).unwrap_or(0);
    (lowest, &counts[lowest..=highest])
}

/// Bits that the numbers and their table cost, about.
fn cost_of(counts: &[u32], n: usize, mantissa: u8) -> f64 {
    let (lowest, counts) = used(counts);
    let most = (n << 7) >> table_bits(n);
    let all = log2(n);
    let mut cost = TABLE_BYTE * 3.0;
    for (class, count) in (lowest..).zip(counts) {
        if *count == 0 {
            cost += 2.0;
            continue;
        }
        let open = if mantissa == WHOLE { 0.0 } else { (class >> mantissa).saturating_sub(1) as f64 };
        cost += f64::from(*count) * (all - log2(*count as usize) + open);
        cost += TABLE_BYTE + if *count as usize > most { TABLE_BYTE } else { 0.0 };
    }
    cost
}

/// A table for these counts.
fn table_of(counts: &[u32], n: usize, mantissa: u8) -> Table {
    let (lowest, counts) = used(counts);
    let bits = table_bits(n);
    Table { mantissa, bits, lowest: lowest as u8, frequencies: frequencies_of(counts, n, bits) }
}

/// Frequencies in proportion to the counts that sum up to `1 << bits`; none is 0 where the count is not.
fn frequencies_of(counts: &[u32], n: usize, bits: u8) -> Vec<u16> {
    let total = 1i64 << bits;
    let share = total as f64 / n as f64;
    let of_count = |count: &u32| match count {
        0 => 0,
        count => two_leading_bits((f64::from(*count) * share).round() as i64),
    };
    let mut frequencies: Vec<i64> = counts.iter().map(of_count).collect();
    let mut excess = frequencies.iter().sum::<i64>() - total;
    while excess != 0 {
        // From the largest, where it is felt least.
        let Some(largest) = frequencies.iter_mut().max() else { break };
        let step = if excess > 0 { excess.min(*largest / 2) } else { excess };
        *largest -= step;
        excess -= step;
    }
    frequencies.into_iter().map(|frequency| frequency as u16).collect()
}

/// The nearest frequency of which only the two leading bits are set. So a frame's tables have few distinct bytes, which
/// saves zstd more than the numbers lose.
fn two_leading_bits(frequency: i64) -> i64 {
    let frequency = frequency.max(1);
    let dropped = frequency.ilog2().saturating_sub(1);
    (frequency + (1 << dropped >> 1)) >> dropped << dropped
}

/// True if byte planes cost more bits than that behind zstd: each plane's entropy.
fn costs_more(numbers: &[u64], all: u64, most: f64) -> bool {
    let n = numbers.len() as f64;
    let least = if numbers.len() < SHORT { 4.0 } else { 1.0 };
    let bits = log2(numbers.len());
    let mut cost = 0.0;
    let mut shift = 0;
    while cost <= most && shift < 64 && all >> shift != 0 {
        let mut counts = [0u32; 256];
        for number in numbers {
            counts[usize::from((number >> shift) as u8)] += 1;
        }
        let mut plane = 0.0;
        let mut distinct = 0;
        // no byte is above what all have together
        let counts = &counts[..=usize::from((all >> shift) as u8)];
        for &count in counts.iter().filter(|count| **count != 0) {
            plane += f64::from(count) * (bits - log2(count as usize));
            distinct += 1;
        }
        // A table of its own for what comes at all.
        cost += if distinct == 1 {
            8.0
        } else {
            (SHARED_TABLE * plane.max(least * n) + PLANE_SYMBOL * f64::from(distinct)).min(8.0 * n)
        };
        shift += 8;
    }
    cost > most
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorKind, Result};
    use crate::format::entropy::{self, EntropyReader};
    use crate::format::reader::Reader;

    /// The lists of one frame, read back from its two streams.
    fn read(bytes: &[u8], entropy: &[u8], lengths: &[usize]) -> Result<Vec<Vec<u64>>> {
        let entropy = EntropyReader::new(entropy)?;
        let mut r = Reader::new(bytes).with_entropy(&entropy);
        let lists = lengths.iter().map(|n| r.integers(*n)).collect::<Result<_>>()?;
        r.finish()?;
        entropy.finish()?;
        Ok(lists)
    }

    fn lists() -> Vec<Vec<u64>> {
        let mut seed = 1u64;
        let mut random = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 33
        };
        let mut lists = vec![
            vec![],
            vec![0; 40],
            vec![7],
            vec![7; 40],
            vec![u64::MAX; 20],
            (0..300).map(|i| 1u64 << (i % 64)).collect(),
            (0..300).map(|i| (1u64 << (i % 64)) - 1).collect(),
            (0..9000).map(|i| u64::from(i == 8999)).collect(),
        ];
        for bits in [1, 3, 8, 13, 31] {
            for n in [8, 20, 500, 5000] {
                lists.push((0..n).map(|_| random() & ((1 << (random() % (bits + 1))) - 1)).collect());
            }
        }
        lists
    }

    fn written(lists: &[Vec<u64>]) -> (Writer, Vec<u8>) {
        let mut w = Writer::default();
        lists.iter().for_each(|list| write(&mut w, list));
        let entropy = entropy::write(&w.steps);
        (w, entropy)
    }

    #[test]
    fn merged_classes_are_those_of_the_numbers() {
        let numbers = lists().concat();
        let counts_at = |mantissa: u8| {
            let mut counts = [0u32; CLASSES];
            numbers.iter().for_each(|number| counts[usize::from(class_of(*number, mantissa).0)] += 1);
            counts
        };
        for mantissa in 0..LONGEST {
            let mut counts = counts_at(mantissa + 1);
            merge_classes(&mut counts, mantissa);
            assert_eq!(counts, counts_at(mantissa));
        }
    }

    #[test]
    fn lists_round_trip_through_one_stream() {
        let lists = lists();
        let (w, entropy) = written(&lists);
        assert!(!entropy.is_empty());
        let lengths: Vec<usize> = lists.iter().map(Vec::len).collect();
        assert_eq!(read(&w.bytes, &entropy, &lengths), Ok(lists));
    }

    #[test]
    fn geometric_numbers_cost_about_their_entropy() {
        // Class k with probability 2^-(k + 1): two bits for each class, and its open bits.
        let list: Vec<u64> = (0..8192u64).map(|i| 1 << (i + 1).trailing_zeros().min(40)).collect();
        let (w, entropy) = written(std::slice::from_ref(&list));
        let open: u32 = list.iter().map(|v| v.trailing_zeros()).sum();
        let bits = 2.0 * list.len() as f64 + f64::from(open);
        assert!(((w.bytes.len() + entropy.len()) as f64 * 8.0) < 1.02 * bits + 300.0);
    }

    #[test]
    fn frequencies_have_two_leading_bits_and_are_near() {
        for frequency in 1..=4096i64 {
            let near = two_leading_bits(frequency);
            let low = near.ilog2().saturating_sub(1);
            assert_eq!(near >> low << low, near);
            assert!(4 * (near - frequency).abs() <= frequency);
        }
        assert_eq!(two_leading_bits(0), 1);
        let frequencies = frequencies_of(&[700, 0, 1, 45, 278], 1024, 11);
        assert_eq!(frequencies.iter().map(|frequency| u32::from(*frequency)).sum::<u32>(), 2048);
        assert_eq!(frequencies[1..4], [0, 2, 96]);
    }

    #[test]
    fn every_cut_and_every_flip_is_an_error_or_another_list() {
        let list: Vec<u64> = (0..200u64).map(|i| i * i % 97).collect();
        let (w, entropy) = written(std::slice::from_ref(&list));
        for length in 0..entropy.len() {
            let cut = read(&w.bytes, &entropy[..length], &[200]);
            assert_eq!(cut.map_err(|error| error.kind), Err(ErrorKind::Corrupt));
        }
        for bit in 0..entropy.len() * 8 {
            let mut flipped = entropy.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(read(&w.bytes, &flipped, &[200]), Ok(vec![list.clone()]), "bit {bit}");
        }
        let longer = [&entropy[..], &[0; 4]].concat();
        assert!(read(&w.bytes, &longer, &[200]).is_err());
    }

    #[test]
    fn tables_that_do_not_add_up_are_corrupt() {
        let entropy = entropy::write(&[]);
        for table in [
            // one class too high; a first frequency of 0; more than all; a last one of 0; a mode that is none
            &[18u8, 251, 1, 1][..],
            &[16, 0, 1, 0],
            &[16, 0, 2, 8, 9],
            &[16, 0, 1, 16],
            &[9],
        ] {
            let read = read(table, &entropy, &[8]);
            assert_eq!(read.map_err(|error| error.kind), Err(ErrorKind::Corrupt), "{table:?}");
        }
        let newer = read(&[19], &entropy, &[8]);
        assert_eq!(newer.map_err(|error| error.kind), Err(ErrorKind::Version));
    }
}
