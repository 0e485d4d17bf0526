//! Pairs of columns that may explain another: the first and the operation given, the second is looked up.

use crate::encoding::formula::{Operands, Operation};
use crate::encoding::formula_inverse::{Interval, Second, second, second_over_second};
use crate::encoding::formula_scan::{AGREEMENT, CANDIDATES, SCANNED, Scan};

/// Results of floats lie so much beside what is worked out backwards, at the most.
const SLACK: f64 = 1e-9;

/// The last bits of a key are the column, those from here on tell keys apart at a glance.
const COLUMN: u64 = 0xff;
const BUCKET: u32 = 48;
const BUCKETS: usize = 256;

/// Columns in the order of a number of theirs.
#[derive(Default)]
struct Sorted {
    /// Numbers as integers of the same order, with the column in place of the last bits.
    keys: Vec<u64>,
    /// A bit for each bucket of keys that is not empty.
    buckets: [u64; BUCKETS / 64],
}

/// An integer in the order of the numbers; both zeros are one.
#[inline(always)]
fn key(number: f64) -> u64 {
    let bits = (number + 0.0).to_bits();
    bits ^ ((bits as i64 >> 63) as u64 | 1 << 63)
}

impl Sorted {
    fn of(numbers: impl Iterator<Item = (f64, u8)>) -> Sorted {
        let mut buckets = [0; BUCKETS / 64];
        let mut keys = Vec::with_capacity(CANDIDATES);
        for (number, column) in numbers.filter(|(number, _)| !number.is_nan()) {
            let key = key(number) & !COLUMN | u64::from(column);
            let bucket = (key >> BUCKET) as usize % BUCKETS;
            buckets[bucket / 64] |= 1 << (bucket % 64);
            keys.push(key);
        }
        keys.sort_unstable();
        Sorted { keys, buckets }
    }

    #[inline(always)]
    fn has_bucket(&self, bucket: u64) -> bool {
        let bucket = bucket as usize % BUCKETS;
        self.buckets[bucket / 64] >> (bucket % 64) & 1 == 1
    }

    /// Adds the columns whose numbers lie in an interval.
    #[inline(always)]
    fn find(&self, (low, high): Interval, found: &mut Vec<usize>) {
        let (low, high) = (low - low.abs() * SLACK, high + high.abs() * SLACK);
        // not where one is NaN either
        if low <= high {
            let (low, high) = (key(low) & !COLUMN, key(high) | COLUMN);
            let (first, last) = (low >> BUCKET, high >> BUCKET);
            // most intervals are narrow, and most of those empty
            if last - first > 1 || self.has_bucket(first) || self.has_bucket(last) {
                self.find_keys(low, high, found);
            }
        }
    }

    fn find_keys(&self, low: u64, high: u64, found: &mut Vec<usize>) {
        let from = self.keys.partition_point(|key| *key < low);
        let hits = self.keys[from..].iter().take_while(|key| **key <= high);
        found.extend(hits.map(|key| (key & COLUMN) as usize));
    }
}

/// The second operands of a scan, by what operations are turned round to.
pub(crate) struct Pairs {
    values: [Sorted; SCANNED],
    changes: [Sorted; SCANNED],
    /// The value in one row over that in the other.
    quotients: Sorted,
}

impl Pairs {
    pub(crate) fn new(scan: &Scan<'_>, has_base: bool) -> Pairs {
        let columns = || (0..scan.len()).filter(|at| scan.varies(*at)).map(|at| (at, at as u8));
        let value = |side: usize, at: usize| scan.operands(side, None, Some(at)).b;
        let change = |side: usize, at: usize| {
            let x = scan.operands(side, None, Some(at));
            x.b - x.b_old
        };
        let values = std::array::from_fn(|side| Sorted::of(columns().map(|(at, id)| (value(side, at), id))));
        let changes = std::array::from_fn(|side| {
            let all = columns().take_while(|_| has_base);
            Sorted::of(all.map(|(at, id)| (change(side, at), id)))
        });
        let quotients = Sorted::of(columns().map(|(at, id)| (value(0, at) / value(1, at), id)));
        Pairs { values, changes, quotients }
    }

    /// The columns with which an operation comes within an interval in its row, one column being the first; with a
    /// constant, those with which the same one serves in two rows.
    pub(crate) fn seconds(
        &self,
        scan: &Scan<'_>,
        (operation, first): (Operation, usize),
        within: &[Interval; SCANNED],
        found: &mut Vec<usize>,
    ) {
        found.clear();
        if operation.has_constant() {
            self.of_constant(scan, (operation, first), found);
        } else {
            for (side, within) in within.iter().enumerate() {
                let x = scan.operands(side, Some(first), None);
                let (by, intervals) = second(operation, x, *within);
                let sorted = match by {
                    Second::Value => &self.values[side],
                    Second::Change => &self.changes[side],
                };
                intervals.into_iter().for_each(|interval| sorted.find(interval, found));
            }
        }
        if found.is_empty() {
            return;
        }
        let is_symmetric = operation.is_symmetric();
        found.retain(|at| if is_symmetric { *at < first } else { *at != first });
        if found.len() > 1 {
            found.sort_unstable();
            found.dedup();
        }
    }

    fn of_constant(&self, scan: &Scan<'_>, (operation, first): (Operation, usize), found: &mut Vec<usize>) {
        let on_old = operation.adds_to_old();
        let [(x, p), (y, q)] = [0, 1].map(|side| {
            let Operands { old, a, a_old, .. } = scan.operands(side, Some(first), None);
            let value = scan.wanted_value(side);
            if on_old { (a - a_old, value - old) } else { (a, value) }
        });
        self.quotients.find(second_over_second(operation, (x, y), (p, q), AGREEMENT), found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::formula::PAIRS;
    use crate::encoding::formula_scan::Wanted;
    use crate::format::number::Scale;
    use crate::state::schema::PathId;

    const ROWS: usize = 8;
    const COLUMNS: usize = 24;

    /// Draws the same numbers in every run.
    struct Draws(u64);

    impl Draws {
        fn below(&mut self, most: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % most
        }

        /// With two decimals, never 0, sometimes negative.
        fn number(&mut self) -> f64 {
            let number = (1 + self.below(5_000)) as f64 / 100.0;
            if self.below(4) == 0 { -number } else { number }
        }

        fn numbers(&mut self) -> Vec<f64> {
            (0..ROWS).map(|_| self.number()).collect()
        }
    }

    /// What a look at every pair finds, with ends that lie so much further out.
    fn plain(scan: &Scan<'_>, (operation, first): (Operation, usize), bits: u32, more: f64) -> Vec<usize> {
        let is_close = |second: usize| {
            let in_row = |row: usize| {
                let x = scan.operands(row, Some(first), Some(second));
                let old = if operation.adds_to_old() { x.old } else { 0.0 };
                (operation.apply(1.0, x), old)
            };
            if operation.has_constant() {
                let [p, q] = [0, 1].map(|row| {
                    let (result, old) = in_row(row);
                    (result - old) / (scan.wanted_value(row) - old)
                });
                return (p / q - 1.0).abs() < AGREEMENT * (1.0 + more);
            }
            (0..SCANNED).any(|row| {
                let (low, high) = scan.within(bits)[row];
                let more = more * low.abs().max(high.abs()).max(1.0);
                (low - more..=high + more).contains(&in_row(row).0)
            })
        };
        let seconds = if operation.is_symmetric() { 0..first } else { 0..scan.len() };
        seconds.filter(|second| *second != first && is_close(*second)).collect()
    }

    fn compare(scale: Scale, draws: &mut Draws, hits: &mut usize) {
        let columns: Vec<(Vec<f64>, Vec<f64>)> =
            (0..COLUMNS).map(|_| (draws.numbers(), draws.numbers())).collect();
        let (values, old) = (draws.numbers(), draws.numbers());
        let integers: Vec<u64> = values.iter().filter_map(|value| scale.integer(*value)).collect();
        let wanted = Wanted { scale, integers: &integers, values: &values, old: &old };
        let mut scan = Scan::new(wanted, COLUMNS);
        for (path, (present, base)) in (0..).zip(&columns) {
            scan.add(path as PathId, |now, before| {
                now.copy_from_slice(present);
                before.copy_from_slice(base);
            });
        }
        let pairs = Pairs::new(&scan, true);
        let mut found = Vec::new();
        for operation in PAIRS {
            for first in 0..scan.len() {
                let bits = if scale.is_raw() { 40 + draws.below(12) } else { draws.below(11) } as u32;
                pairs.seconds(&scan, (operation, first), &scan.within(bits), &mut found);
                let sure = plain(&scan, (operation, first), bits, -1e-9);
                let possible = plain(&scan, (operation, first), bits, 1e-3);
                *hits += sure.len();
                let missed: Vec<_> = sure.iter().filter(|second| !found.contains(second)).collect();
                assert!(missed.is_empty(), "{operation:?} of {first} within {bits} bits misses {missed:?}");
                let wrong: Vec<_> = found.iter().filter(|second| !possible.contains(second)).collect();
                assert!(wrong.is_empty(), "{operation:?} of {first} within {bits} bits finds {wrong:?}");
            }
        }
    }

    #[test]
    fn what_a_look_at_every_pair_finds_is_looked_up() {
        let mut draws = Draws(88_172_645_463_325_252);
        let mut hits = 0;
        for _ in 0..20 {
            compare(Scale { exponent: 2, unit: 1 }, &mut draws, &mut hits);
            compare(Scale { exponent: 2, unit: 5 }, &mut draws, &mut hits);
            compare(Scale::BITS, &mut draws, &mut hits);
        }
        assert!(hits > 10_000);
    }
}
