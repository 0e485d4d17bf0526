//! Row sets, coded inside one another: FORMAT.md section 6.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::error::Result;
use crate::format::budget::{Budget, MEMBER, SET};
use crate::format::reader::Reader;
use crate::format::row_set_kind::{BITMAP, EXCLUSIONS, MEMBERS, WRONG, WRONG_BITMAP};
use crate::format::writer::Writer;

struct Set<'a> {
    members: &'a [u32],
    /// A bit for each row of the base; none if that would be much more than the members.
    bits: Vec<u64>,
}

impl Set<'_> {
    fn new(members: &[u32], universe: usize) -> Set<'_> {
        let words = universe.div_ceil(64);
        let mut bits = Vec::new();
        if members.len() * WORDS_A_MEMBER >= words {
            bits.resize(words, 0u64);
            for row in members {
                bits[*row as usize / 64] |= 1 << (row % 64);
            }
        }
        Set { members, bits }
    }

    fn contains(&self, row: u32) -> bool {
        if self.bits.is_empty() {
            return self.members.binary_search(&row).is_ok();
        }
        self.bits[row as usize / 64] >> (row % 64) & 1 == 1
    }

    /// Members of both, which have bits.
    fn in_common(&self, other: &Set<'_>) -> u32 {
        self.bits.iter().zip(&other.bits).map(|(a, b)| (a & b).count_ones()).sum()
    }

    fn covers(&self, other: &Set<'_>) -> bool {
        if self.members.len() < other.members.len() {
            return false;
        }
        if self.bits.is_empty() || other.bits.is_empty() {
            return other.members.iter().all(|row| self.contains(*row));
        }
        self.bits.iter().zip(&other.bits).all(|(a, b)| b & !a == 0)
    }
}

/// Collects the distinct row sets of a frame.
#[derive(Default)]
pub(crate) struct RowSetWriter {
    sets: Vec<Vec<u32>>,
    /// Handles by what is quickly told of a set.
    alike: HashMap<[u32; 4], Vec<usize>>,
}

/// So many earlier sets are tried as parents, or compared. (A set may be written twice.)
const PARENTS: usize = 64;
/// A set has bits if they take at most so many words for each member.
const WORDS_A_MEMBER: usize = 4;
/// So many earlier sets are tried as predictions.
const PREDICTIONS: usize = 32;
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

    /// Writes the sets, largest first, each inside the smallest that covers it. Returns the number of each handle.
    pub(crate) fn write(&self, w: &mut Writer, base_rows: usize) -> Vec<u64> {
        if self.sets.is_empty() {
            return Vec::new();
        }
        let mut order: Vec<usize> = (0..self.sets.len()).collect();
        order.sort_by_key(|handle| std::cmp::Reverse(self.sets[*handle].len()));
        let all: Vec<u32> = (0..base_rows as u32).collect();
        let mut written: Vec<Set<'_>> = Vec::new();
        let mut numbers = vec![0; self.sets.len()];
        w.size(self.sets.len());
        for handle in order {
            let set = Set::new(&self.sets[handle], base_rows);
            let recent = written.len().saturating_sub(PARENTS);
            let parent = written[recent..].iter().rposition(|earlier| earlier.covers(&set));
            let parent = parent.map(|at| at + recent);
            w.size(parent.map_or(0, |at| at + 1));
            let within = parent.map_or(&*all, |at| written[at].members);
            let predicted = predict(&set, parent.map(|at| &written[at]), &written, within.len());
            match predicted {
                Some(prediction) => write_predicted(w, &set, within, &prediction, &written),
                None => write_set(w, &set, within),
            }
            written.push(set);
            numbers[handle] = written.len() as u64;
        }
        numbers
    }
}

/// Bits that a list of `count` of so many takes, about.
fn listed(count: usize, of: usize) -> f64 {
    count as f64 * (2.5 + (of as f64 / count.max(1) as f64).log2())
}

/// Bits that it takes to tell `count` of so many, once they are compressed.
fn entropy(count: usize, of: usize) -> f64 {
    let part = |count: usize| count as f64 * (of as f64 / count.max(1) as f64).log2();
    part(count) + part(of - count)
}

/// An earlier set, or its complement, that tells most members of another.
struct Prediction {
    number: usize,
    complement: bool,
    wrong: usize,
}

/// The best prediction among the latest sets, if it is cheaper than none.
fn predict(set: &Set<'_>, parent: Option<&Set<'_>>, written: &[Set<'_>], of: usize) -> Option<Prediction> {
    let n = set.members.len();
    if set.bits.is_empty() || parent.is_some_and(|parent| parent.bits.is_empty()) {
        return None;
    }
    let recent = written.len().saturating_sub(PREDICTIONS);
    let candidates = written.iter().enumerate().skip(recent).filter(|(_, other)| !other.bits.is_empty());
    let all = candidates.flat_map(|(number, other)| {
        let inside = parent.map_or(other.members.len(), |parent| parent.in_common(other) as usize);
        let wrong = n + inside - 2 * set.in_common(other) as usize;
        [(number, false, wrong), (number, true, of - wrong)]
    });
    let (number, complement, wrong) = all.min_by_key(|(.., wrong)| *wrong)?;
    // the number of the prediction is a byte, and the reader goes through what is predicted
    (1.05 * entropy(wrong, of) + 8.0 < entropy(n, of)).then_some(Prediction { number, complement, wrong })
}

fn write_predicted(
    w: &mut Writer,
    set: &Set<'_>,
    parent: &[u32],
    prediction: &Prediction,
    written: &[Set<'_>],
) {
    let of = parent.len();
    let predicted = &written[prediction.number];
    let is_wrong = |row: u32| (predicted.contains(row) != prediction.complement) != set.contains(row);
    let wrong: Vec<u32> = (0..).zip(parent).filter(|(_, row)| is_wrong(**row)).map(|(i, _)| i).collect();
    let as_list = listed(prediction.wrong, of) < of as f64;
    w.u8(if as_list { WRONG } else { WRONG_BITMAP });
    w.uvarint(((prediction.number as u64) << 1) | u64::from(prediction.complement));
    if as_list {
        w.counted_gaps(&wrong);
    } else {
        w.raw(&bitmap(&wrong, of));
    }
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

pub(crate) fn read(
    r: &mut Reader<'_>,
    base_rows: usize,
    removed: &[u32],
    budget: &mut Budget,
) -> Result<Vec<Vec<u32>>> {
    let count = r.count("row sets")?;
    budget.charge(count as u64, SET, "row sets")?;
    let mut sets: Vec<Vec<u32>> = Vec::new();
    let gone = Set::new(removed, base_rows);
    let all: Vec<u32> = (0..base_rows as u32).collect();
    for _ in 0..count {
        let parent = match r.up_to(sets.len(), "row set")? {
            0 => &all,
            number => &sets[number - 1],
        };
        let set = read_set(r, parent, &sets, base_rows, budget)?;
        budget.charge(set.len() as u64, MEMBER, "members of row sets")?;
        if !removed.is_empty() && set.iter().any(|row| gone.contains(*row)) {
            return Err(r.corrupt("a row set holds a removed row"));
        }
        sets.push(set);
    }
    Ok(sets)
}

/// At most as long as its parent, which was charged.
fn read_set(
    r: &mut Reader<'_>,
    parent: &[u32],
    earlier: &[Vec<u32>],
    base_rows: usize,
    budget: &mut Budget,
) -> Result<Vec<u32>> {
    let of = parent.len();
    Ok(match r.u8()? {
        MEMBERS => {
            let chosen = r.counted_gaps(of)?;
            chosen.into_iter().map(|i| parent[i as usize]).collect()
        }
        BITMAP => {
            let bytes = read_bitmap(r, of)?;
            let mut set = Vec::with_capacity(bytes.iter().map(|byte| byte.count_ones() as usize).sum());
            for (rows, &byte) in parent.chunks(8).zip(bytes) {
                let mut left = byte;
                while left != 0 {
                    set.push(rows[left.trailing_zeros() as usize]);
                    left &= left - 1;
                }
            }
            set
        }
        EXCLUSIONS => {
            let mut without = r.counted_gaps(of)?.into_iter().peekable();
            let left = (0u32..).zip(parent).filter(|(i, _)| without.next_if_eq(i).is_none());
            left.map(|(_, row)| *row).collect()
        }
        kind @ (WRONG | WRONG_BITMAP) => {
            let code = r.up_to((earlier.len() << 1).saturating_sub(1), "prediction")?;
            let predicted = earlier.get(code >> 1).ok_or_else(|| r.corrupt("no set is there yet"))?;
            budget.charge((of + predicted.len()) as u64, 1, "rows that are predicted")?;
            let complement = code & 1 == 1;
            // both ascend: one pass, which is what was charged
            let mut at = 0;
            let mut holds = |row: u32| {
                while predicted.get(at).is_some_and(|other| *other < row) {
                    at += 1;
                }
                (predicted.get(at) == Some(&row)) != complement
            };
            if kind == WRONG && of == base_rows && !complement {
                symmetric_difference(predicted, &r.counted_gaps(of)?)
            } else if kind == WRONG {
                let mut wrong = r.counted_gaps(of)?.into_iter().peekable();
                let all = (0u32..).zip(parent);
                let kept = all.filter(|(i, row)| holds(**row) != wrong.next_if_eq(i).is_some());
                kept.map(|(_, row)| *row).collect()
            } else {
                let bytes = read_bitmap(r, of)?;
                let is_wrong = |i: usize| bytes[i / 8] >> (i % 8) & 1 == 1;
                let all = parent.iter().enumerate();
                all.filter(|(i, row)| holds(**row) != is_wrong(*i)).map(|(_, row)| *row).collect()
            }
        }
        kind => return Err(r.reserved("kind of row set", kind)),
    })
}

/// What one of two ascending lists has and the other has not.
fn symmetric_difference(mut a: &[u32], mut b: &[u32]) -> Vec<u32> {
    let mut found = Vec::with_capacity(a.len() + b.len());
    while let ([x, rest_a @ ..], [y, rest_b @ ..]) = (a, b) {
        match x.cmp(y) {
            Ordering::Less => {
                found.push(*x);
                a = rest_a;
            }
            Ordering::Greater => {
                found.push(*y);
                b = rest_b;
            }
            Ordering::Equal => (a, b) = (rest_a, rest_b),
        }
    }
    found.extend_from_slice(a);
    found.extend_from_slice(b);
    found
}

fn read_bitmap<'a>(r: &mut Reader<'a>, of: usize) -> Result<&'a [u8]> {
    let bytes = r.raw(of.div_ceil(8))?;
    if !of.is_multiple_of(8) && bytes.last().is_some_and(|last| last >> (of % 8) != 0) {
        return Err(r.corrupt("an unused bit is set"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::budget::DEFAULT_MAX_BYTES;

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
        let read = read(&mut Reader::new(&w.bytes), ROWS as usize, &[], &mut Budget::new(DEFAULT_MAX_BYTES));
        let read = read.unwrap_or_default();
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
        let read = read(&mut Reader::new(&w.bytes), 1000, &[], &mut Budget::new(DEFAULT_MAX_BYTES));
        let read = read.unwrap_or_default();
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
        assert!(w.bytes.len() < 3000 && w.bytes.contains(&WRONG), "{}", w.bytes.len());
        let read = read(&mut Reader::new(&w.bytes), 4100, &[], &mut Budget::new(DEFAULT_MAX_BYTES));
        let read = read.unwrap_or_default();
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
        let mut r = Reader::new(&w.bytes);
        let read = read(&mut r, 1000, &[], &mut Budget::new(DEFAULT_MAX_BYTES));
        let read = read.unwrap_or_default();
        assert!(r.is_empty());
        for (set, handle) in sets.iter().zip(handles) {
            assert_eq!(read[numbers[handle] as usize - 1], *set);
        }
    }
}
