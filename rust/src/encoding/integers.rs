//! The cheaper form of a list of integers: byte planes, or classes in the entropy stream with a table of their own.

use crate::format::integers::{CLASSES, MAX_MANTISSA, Table, class_of, table_bits};
use crate::format::writer::Writer;

/// Shorter lists do not pay for a table.
const MIN_CODED: usize = 8;
/// What reaches zstd of a byte of a table, in bits.
const TABLE_BYTE: f64 = 6.0;
/// What each value that comes in a plane costs besides, in bits: tables, and what they cannot tell.
const PLANE_SYMBOL: f64 = 4.0;

pub(crate) fn write(w: &mut Writer, numbers: &[u64]) {
    match best_table(numbers) {
        Some(table) => w.coded_integers(numbers, &table),
        None => w.byte_planes(numbers),
    }
}

/// The table with which the numbers are shorter than as byte planes.
fn best_table(numbers: &[u64]) -> Option<Table> {
    if numbers.len() < MIN_CODED || numbers.iter().all(|number| *number == 0) {
        return None;
    }
    let mut counts = [0u32; CLASSES];
    for number in numbers {
        counts[usize::from(class_of(*number, MAX_MANTISSA).0)] += 1;
    }
    let mut best: Option<(f64, Table)> = None;
    for mantissa in (0..=MAX_MANTISSA).rev() {
        if mantissa < MAX_MANTISSA {
            counts = merge_classes(&counts, mantissa);
        }
        let (cost, table) = table_of(&counts, numbers.len(), mantissa);
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, table));
        }
    }
    let (cost, table) = best?;
    (cost < planes_cost(numbers)).then_some(table)
}

/// Counts of classes with one bit of mantissa less.
fn merge_classes(counts: &[u32; CLASSES], mantissa: u8) -> [u32; CLASSES] {
    let mut merged = [0; CLASSES];
    for (class, count) in counts.iter().enumerate() {
        // Up to the last class that stands for one number, classes are numbers.
        let to = if class < 2 << mantissa { class } else { (class - (2 << mantissa)) / 2 + (2 << mantissa) };
        merged[to] += count;
    }
    merged
}

/// Bits that the numbers and their table cost, and the table.
fn table_of(counts: &[u32; CLASSES], n: usize, mantissa: u8) -> (f64, Table) {
    let used = |count: &u32| *count != 0;
    let lowest = counts.iter().position(used).unwrap_or(0);
    let highest = counts.iter().rposition(used).unwrap_or(0);
    let counts = &counts[lowest..=highest];
    let bits = table_bits(n);
    let frequencies = frequencies_of(counts, n, bits);
    let mut cost = TABLE_BYTE * 3.0;
    for (class, (count, frequency)) in (lowest..).zip(counts.iter().zip(&frequencies)) {
        if *count == 0 {
            cost += 2.0;
            continue;
        }
        let open = (class >> mantissa).saturating_sub(1) as f64;
        cost += f64::from(*count) * (f64::from(bits) - f64::from(*frequency).log2() + open);
        cost += TABLE_BYTE + if *frequency > 127 { TABLE_BYTE } else { 0.0 };
    }
    (cost, Table { mantissa, bits, lowest: lowest as u8, frequencies })
}

/// Frequencies in proportion to the counts that sum up to `1 << bits`; none is 0 where the count is not.
fn frequencies_of(counts: &[u32], n: usize, bits: u8) -> Vec<u16> {
    let total = 1i64 << bits;
    let share = total as f64 / n as f64;
    let mut frequencies: Vec<i64> = counts
        .iter()
        .map(|count| if *count == 0 { 0 } else { ((f64::from(*count) * share).round() as i64).max(1) })
        .collect();
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

/// Bits that byte planes cost behind zstd: each plane's entropy.
fn planes_cost(numbers: &[u64]) -> f64 {
    let all = numbers.iter().fold(0, |all, number| all | number);
    let n = numbers.len() as f64;
    let mut cost = 0.0;
    let mut shift = 0;
    while shift < 64 && all >> shift != 0 {
        let mut counts = [0u32; 256];
        for number in numbers {
            counts[usize::from((number >> shift) as u8)] += 1;
        }
        let mut plane = 0.0;
        let mut distinct = 0;
        for count in counts.into_iter().filter(|count| *count != 0) {
            plane += f64::from(count) * (n / f64::from(count)).log2();
            distinct += 1;
        }
        // A table of its own for what comes at all.
        cost += if distinct == 1 {
            8.0
        } else {
            (plane.max(n) + PLANE_SYMBOL * f64::from(distinct)).min(8.0 * n)
        };
        shift += 8;
    }
    cost
}
