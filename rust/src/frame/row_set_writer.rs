//! Row sets, coded inside one another: section ROW_SETS of FORMAT.md section 6.

use std::collections::HashMap;

use crate::encoding::sampling::listed;
use crate::format::row_set_kind::{BITMAP, EXCLUSIONS, MEMBERS, WRONG};
use crate::format::writer::Writer;
use crate::frame::row_set::{Set, count_common, has};
use crate::frame::row_set_contexts::{Contexts, Overlap, overlaps};

/// What a step is worth that the reader is spared, in bits.
const STEP: f64 = 0.05;

/// Collects the distinct row sets of a frame.
#[derive(Default)]
pub(crate) struct RowSetWriter {
    sets: Vec<Vec<u32>>,
    /// Handles by what is quickly told of a set.
    alike: HashMap<[u32; 4], Vec<usize>>,
}

/// So many earlier sets are tried as parents, or compared. (A set may be written twice.)
const PARENTS: usize = 64;
/// The rows of all sets are at most such a part of the base's where they are written before.
const SPARSE_UNION: usize = 2;
/// Members are looked up one by one in a parent that is so many times as long.
const SPARSE: usize = 16;

impl RowSetWriter {
    /// A handle to the set; its number in the frame is known after `write`.
    pub(crate) fn add(&mut self, members: &[u32]) -> usize {
        let at = |i: usize| members.get(i).copied().unwrap_or(0);
        let n = members.len();
        let alike = self.alike.entry([n as u32, at(0), at(n / 2), at(n.saturating_sub(1))]).or_default();
        if let Some(&handle) = alike.iter().rev().take(PARENTS).find(|handle| self.sets[**handle] == members)
        {
            return handle;
        }
        alike.push(self.sets.len());
        self.sets.push(members.to_vec());
        self.sets.len() - 1
    }

    /// The members of the set behind a handle.
    pub(crate) fn members(&self, handle: usize) -> &[u32] {
        &self.sets[handle]
    }

    /// Writes the sets, largest first, each inside the smallest that covers it. Returns the number of each handle.
    pub(crate) fn write(&self, w: &mut Writer, base_rows: usize) -> Vec<u64> {
        if self.sets.is_empty() {
            return Vec::new();
        }
        let mut order: Vec<usize> = (0..self.sets.len()).collect();
        order.sort_by_key(|handle| std::cmp::Reverse(self.sets[*handle].len()));
        let all: Vec<u32> = (0..base_rows as u32).collect();
        let mut written: Vec<Set<'_>> = Vec::new();
        let mut insides = Vec::new();
        let mut numbers = vec![0; self.sets.len()];
        let sets: Vec<Set<'_>> =
            order.iter().map(|handle| Set::new(&self.sets[*handle], base_rows)).collect();
        let union = union(&sets, base_rows);
        w.size(usize::from(union.is_some()) + sets.len());
        let union = union.iter().map(|members| (None, Set::new(members, base_rows)));
        let handles = order.into_iter().map(Some).zip(sets);
        for (handle, set) in union.chain(handles) {
            let recent = written.len().saturating_sub(PARENTS);
            let parent = written[recent..].iter().rposition(|earlier| earlier.covers(&set));
            let parent = parent.map(|at| at + recent);
            w.size(parent.map_or(0, |at| at + 1));
            let within = parent.map_or(&*all, |at| written[at].members);
            let of = within.len();
            let parent = parent.map(|at| (at, &written[at]));
            let overlaps = overlaps(&set, parent, &written, &mut insides);
            let parent = parent.map(|(_, parent)| parent);
            let predicted = predict(&set, &overlaps, of);
            let bits = match &predicted {
                Some(prediction) => listed(prediction.wrong, of),
                None => plain_bits(set.members.len(), of),
            };
            let steps = STEP * of as f64;
            match Contexts::of(&set, parent, &written, base_rows, &overlaps) {
                Some(contexts) if contexts.bits + steps < bits => contexts.write(w, &set, within, &written),
                _ => match predicted {
                    Some(prediction) => write_predicted(w, &set, within, &prediction, &written),
                    None => write_set(w, &set, within),
                },
            }
            written.push(set);
            insides.push((usize::MAX, 0));
            if let Some(handle) = handle {
                numbers[handle] = written.len() as u64;
            }
        }
        numbers
    }
}

/// The rows of any set, if that saves much to those that come after: a set that no column names. The largest is first.
fn union(sets: &[Set<'_>], base_rows: usize) -> Option<Vec<u32>> {
    let mut bits = vec![0u64; base_rows.div_ceil(64)];
    sets.iter().for_each(|set| set.add_to(&mut bits));
    let n = count_common(&bits, &bits);
    let is_worth = n > sets[0].members.len() && n * SPARSE_UNION < base_rows;
    let rows = (0..base_rows as u32).filter(|row| has(&bits, *row));
    is_worth.then(|| rows.collect())
}

/// Bits that a set by itself takes: as a list of members or of the others, or as a bitmap.
fn plain_bits(n: usize, of: usize) -> f64 {
    listed(n, of).min(listed(of - n, of)).min(of as f64)
}

/// Bits that it takes to tell `count` of so many, once they are compressed.
fn entropy(count: usize, of: usize) -> f64 {
    let part = |count: usize| count as f64 * (of as f64 / count.max(1) as f64).log2();
    1.05 * (part(count) + part(of - count)) + 8.0
}

/// An earlier set, or its complement, that tells most members of another.
struct Prediction {
    number: usize,
    complement: bool,
    wrong: usize,
}

/// The best prediction among the latest sets, if it is cheaper than none.
fn predict(set: &Set<'_>, overlaps: &[Overlap], of: usize) -> Option<Prediction> {
    let n = set.members.len();
    let all = overlaps.iter().flat_map(|Overlap { number, inside, common }| {
        let wrong = n + inside - 2 * common;
        [(*number, false, wrong), (*number, true, of - wrong)]
    });
    let (number, complement, wrong) = all.min_by_key(|(.., wrong)| *wrong)?;
    // the number of the prediction is a byte, and the reader goes through what is predicted
    (listed(wrong, of) < of as f64 && entropy(wrong, of) < entropy(n, of)).then_some(Prediction {
        number,
        complement,
        wrong,
    })
}

fn write_predicted(
    w: &mut Writer,
    set: &Set<'_>,
    parent: &[u32],
    prediction: &Prediction,
    written: &[Set<'_>],
) {
    let predicted = &written[prediction.number];
    let is_wrong = |row: u32| (predicted.contains(row) != prediction.complement) != set.contains(row);
    let wrong: Vec<u32> = (0..).zip(parent).filter(|(_, row)| is_wrong(**row)).map(|(i, _)| i).collect();
    w.u8(WRONG);
    w.uvarint(((prediction.number as u64) << 1) | u64::from(prediction.complement));
    w.counted_gaps(&wrong);
}

fn bitmap(indices: &[u32], of: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; of.div_ceil(8)];
    for i in indices {
        bytes[*i as usize / 8] |= 1 << (i % 8);
    }
    bytes
}

fn write_set(w: &mut Writer, set: &Set<'_>, parent: &[u32]) {
    let (n, of) = (set.members.len(), parent.len());
    let listed = |count: usize| listed(count, of);
    let inside = |wanted: bool| {
        let chosen = (0..).zip(parent).filter(move |(_, row)| set.contains(**row) == wanted);
        chosen.map(|(i, _)| i).collect::<Vec<u32>>()
    };
    if listed(of - n) < (of as f64).min(listed(n)) {
        w.u8(EXCLUSIONS);
        w.counted_gaps(&inside(false));
    } else if listed(n) < of as f64 {
        w.u8(MEMBERS);
        let places = || set.members.iter().filter_map(|row| Some(parent.binary_search(row).ok()? as u32));
        let members = if n * SPARSE < of { places().collect() } else { inside(true) };
        w.counted_gaps(&members);
    } else {
        w.u8(BITMAP);
        w.raw(&bitmap(&inside(true), of));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::budget::{Budget, DEFAULT_MAX_BYTES};
    use crate::format::entropy::{self, EntropyReader};
    use crate::format::reader::Reader;
    use crate::format::row_set_kind::BY_CONTEXT;
    use crate::frame::row_set::bits_of;
    use crate::frame::row_set_reader::read;

    /// The sets as a reader has them; none if it refuses them, or leaves something.
    fn read_back(w: &Writer, rows: usize) -> Vec<Vec<u32>> {
        let steps = entropy::write(&w.steps);
        let Ok(entropy) = EntropyReader::new(&steps) else { return Vec::new() };
        let mut r = Reader::new(&w.bytes).with_entropy(&entropy);
        let sets = read(&mut r, rows, &[], &mut Budget::new(DEFAULT_MAX_BYTES));
        sets.ok().filter(|_| r.is_empty() && entropy.finish().is_ok()).unwrap_or_default()
    }

    #[test]
    fn sparse_and_dense_sets_cover_each_other_as_their_members_do() {
        const ROWS: u32 = 2000;
        let every = |step: u32, from: u32| (from..ROWS).step_by(step as usize).collect::<Vec<u32>>();
        let mut lists: Vec<Vec<u32>> = vec![vec![], vec![1999]];
        for step in [1, 2, 6, 30, 60, 64, 90, 180, 360, 1000] {
            lists.extend([every(step, 0), every(step, step / 2)]);
        }
        let sets: Vec<Set<'_>> = lists.iter().map(|list| Set::new(list, ROWS as usize)).collect();
        let (mut sparse, mut covered) = (0, 0);
        for a in &sets {
            sparse += usize::from(a.bits.is_empty());
            let mut bits = bits_of(&[3, 700], ROWS as usize);
            a.add_to(&mut bits);
            assert_eq!(bits, bits_of(a.members.iter().chain(&[3, 700]), ROWS as usize));
            (0..ROWS).for_each(|row| assert_eq!(a.contains(row), a.members.contains(&row)));
            for b in &sets {
                let plain = b.members.iter().all(|row| a.members.contains(row));
                assert_eq!(a.covers(b), plain, "{:?} covers {:?}", a.members, b.members);
                covered += usize::from(plain);
            }
        }
        assert!(sparse > 5 && sparse < sets.len() - 5 && covered > 2 * sets.len(), "{sparse} {covered}");
        let mut writer = RowSetWriter::default();
        let handles: Vec<usize> = lists.iter().map(|list| writer.add(list)).collect();
        let mut w = Writer::default();
        let numbers = writer.write(&mut w, ROWS as usize);
        let read = read_back(&w, ROWS as usize);
        for (list, handle) in lists.iter().zip(handles) {
            assert_eq!(read[numbers[handle] as usize - 1], *list);
        }
    }

    #[test]
    fn a_set_that_looks_like_many_others_may_be_written_twice() {
        // the same size, first, middle and last row
        let list = |i: u32| vec![0, 1 + i, 500, 999];
        let mut writer = RowSetWriter::default();
        let first = writer.add(&list(0));
        assert_eq!(writer.add(&list(0)), first);
        (1..=PARENTS as u32).for_each(|i| _ = writer.add(&list(i)));
        let again = writer.add(&list(0));
        assert_ne!(again, first);
        let mut w = Writer::default();
        let numbers = writer.write(&mut w, 1000);
        let read = read_back(&w, 1000);
        assert_eq!(read[numbers[first] as usize - 1], list(0));
        assert_eq!(read[numbers[again] as usize - 1], list(0));
    }

    #[test]
    fn a_set_that_overlaps_an_earlier_one_is_predicted() {
        // of what either of two changes, the second changes nearly all that the first does not
        let either: Vec<u32> =
            (0..4000u32).filter(|i| (i.wrapping_mul(2_654_435_761) >> 7) % 97 < 40).collect();
        let first: Vec<u32> =
            either.iter().copied().filter(|i| (i.wrapping_mul(40_503) >> 3) % 89 < 60).collect();
        let mut second: Vec<u32> =
            either.iter().copied().filter(|i| first.binary_search(i).is_err()).collect();
        second.extend([either[0], either[7]]);
        second.sort_unstable();
        second.dedup();
        // neither holds the other, but for a few
        let shifted: Vec<u32> = first[3..].iter().copied().chain([4001, 4002]).collect();
        let sets = [either, first, second, shifted];
        let mut writer = RowSetWriter::default();
        let handles: Vec<usize> = sets.iter().map(|set| writer.add(set)).collect();
        let mut w = Writer::default();
        let numbers = writer.write(&mut w, 4100);
        assert!(w.bytes.len() + entropy::write(&w.steps).len() < 1500, "{}", w.bytes.len());
        let read = read_back(&w, 4100);
        for (set, handle) in sets.iter().zip(handles) {
            assert_eq!(read[numbers[handle] as usize - 1], *set);
        }
    }

    #[test]
    fn sets_round_trip_inside_one_another() {
        let all: Vec<u32> = (0..1000).collect();
        let sets: Vec<Vec<u32>> = vec![
            all.iter().copied().filter(|i| i % 7 == 0).collect(),
            all.clone(),
            all.iter().copied().filter(|i| i % 14 == 0).collect(),
            all.iter().copied().filter(|i| i % 2 == 0).collect(),
            vec![3],
            all.iter().copied().filter(|i| *i != 77).collect(),
        ];
        let mut writer = RowSetWriter::default();
        let handles: Vec<usize> = sets.iter().map(|set| writer.add(set)).collect();
        assert_eq!(writer.add(&sets[2]), handles[2]);
        let mut w = Writer::default();
        let numbers = writer.write(&mut w, 1000);
        let read = read_back(&w, 1000);
        for (set, handle) in sets.iter().zip(handles) {
            assert_eq!(read[numbers[handle] as usize - 1], *set);
        }
    }

    #[test]
    fn rows_that_come_in_runs_cost_their_ends() {
        let members = |row: &u32| row.wrapping_div(37).wrapping_mul(2_654_435_761) >> 7 & 1 == 0;
        let runs: Vec<u32> = (0..6000).filter(members).collect();
        let mut writer = RowSetWriter::default();
        writer.add(&runs);
        let mut w = Writer::default();
        writer.write(&mut w, 6000);
        assert_eq!(w.bytes[2], BY_CONTEXT);
        assert!(w.bytes.len() + entropy::write(&w.steps).len() < 200);
        assert_eq!(read_back(&w, 6000), [runs]);
    }

    #[test]
    fn what_follows_from_three_sets_costs_next_to_nothing() {
        let every = |step: u32, from: u32| (from..4000).step_by(step as usize).collect::<Vec<u32>>();
        let mut one = every(3, 0);
        one.retain(|row| row.wrapping_mul(2_654_435_761) >> 9 & 3 != 0);
        let mut other = every(5, 1);
        other.retain(|row| row.wrapping_mul(40_503) >> 5 & 3 != 0);
        let third = every(7, 2);
        let odd = |row: &u32| [&one, &other, &third].iter().filter(|set| set.contains(row)).count() == 1;
        let exactly_one: Vec<u32> = (0..4000).filter(odd).collect();
        let mut sizes = Vec::new();
        for sets in [vec![&one, &other, &third], vec![&one, &other, &third, &exactly_one]] {
            let mut writer = RowSetWriter::default();
            let handles: Vec<usize> = sets.iter().map(|set| writer.add(set)).collect();
            let mut w = Writer::default();
            let numbers = writer.write(&mut w, 4000);
            let read = read_back(&w, 4000);
            for (set, handle) in sets.iter().zip(handles) {
                assert_eq!(read.get(numbers[handle] as usize - 1), Some(*set));
            }
            sizes.push(w.bytes.len() + entropy::write(&w.steps).len());
        }
        // the four are coded in another order, largest first: what the last one tells is not told again
        assert!(sizes[1] < sizes[0] + sizes[0] / 5, "{sizes:?}");
    }
}
