//! Row sets, coded inside one another: FORMAT.md section 6.

use std::collections::HashMap;

use crate::error::Result;
use crate::format::budget::{Budget, MEMBER, SET};
use crate::format::reader::Reader;
use crate::format::row_set_kind::{BITMAP, EXCLUSIONS, MEMBERS};
use crate::format::writer::Writer;

struct Set<'a> {
    members: &'a [u32],
    /// A bit for each row of the base; none if that would be more than the members.
    bits: Vec<u64>,
}

impl Set<'_> {
    fn new(members: &[u32], universe: usize) -> Set<'_> {
        let words = universe.div_ceil(64);
        let mut bits = Vec::new();
        if members.len() >= words {
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
            write_set(w, &set, within);
            written.push(set);
            numbers[handle] = written.len() as u64;
        }
        numbers
    }
}

fn write_set(w: &mut Writer, set: &Set<'_>, parent: &[u32]) {
    let (n, of) = (set.members.len(), parent.len());
    let listed = |count: usize| count as f64 * (2.5 + (of as f64 / count.max(1) as f64).log2());
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
        let mut bytes = vec![0u8; of.div_ceil(8)];
        for i in inside(true) {
            bytes[i as usize / 8] |= 1 << (i % 8);
        }
        w.raw(&bytes);
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
        let set = read_set(r, parent)?;
        budget.charge(set.len() as u64, MEMBER, "members of row sets")?;
        if !removed.is_empty() && set.iter().any(|row| gone.contains(*row)) {
            return Err(r.corrupt("a row set holds a removed row"));
        }
        sets.push(set);
    }
    Ok(sets)
}

/// At most as long as its parent, which was charged.
fn read_set(r: &mut Reader<'_>, parent: &[u32]) -> Result<Vec<u32>> {
    let of = parent.len();
    Ok(match r.u8()? {
        MEMBERS => {
            let chosen = r.counted_gaps(of)?;
            chosen.into_iter().map(|i| parent[i as usize]).collect()
        }
        BITMAP => {
            let bytes = r.raw(of.div_ceil(8))?;
            if !of.is_multiple_of(8) && bytes.last().is_some_and(|last| last >> (of % 8) != 0) {
                return Err(r.corrupt("an unused bit is set"));
            }
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
        kind => return Err(r.reserved("kind of row set", kind)),
    })
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
