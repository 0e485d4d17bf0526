//! The section ROW_SETS as it is read. FORMAT.md section 6.

use std::cmp::Ordering;

use crate::error::Result;
use crate::format::budget::{Budget, MEMBER, ROW_STEP, SET};
use crate::format::entropy::Steps;
use crate::format::reader::Reader;
use crate::format::row_set_kind::{BITMAP, BY_CONTEXT, EXCLUSIONS, MAX_CONTEXT_SETS, MEMBERS, WRONG};
use crate::frame::row_set::Set;
use crate::frame::row_set_contexts::{CONTEXTS, ITSELF};

pub(crate) fn read(
    r: &mut Reader<'_>,
    base_rows: usize,
    removed: &[u32],
    budget: &mut Budget,
) -> Result<Vec<Vec<u32>>> {
    let count = r.count("row sets")?;
    budget.charge(count as u64, SET, "row sets")?;
    let mut sets: Vec<Vec<u32>> = Vec::with_capacity(count);
    let gone = Set::new(removed, base_rows);
    let all: Vec<u32> = (0..base_rows as u32).collect();
    let mut marks = Marks::new(base_rows);
    for _ in 0..count {
        let parent = match r.up_to(sets.len(), "row set")? {
            0 => &all,
            number => &sets[number - 1],
        };
        let set = read_set(r, parent, &sets, &mut marks, budget)?;
        budget.charge(set.len() as u64, MEMBER, "members of row sets")?;
        if !removed.is_empty() && set.iter().any(|row| gone.contains(*row)) {
            return Err(r.corrupt("a row set holds a removed row"));
        }
        sets.push(set);
    }
    Ok(sets)
}

/// What the reader works with, for each row of the base.
struct Marks {
    /// All are 0 between sets.
    of_rows: Vec<u8>,
    /// Room for the members of a set.
    chosen: Vec<u32>,
}

impl Marks {
    fn new(base_rows: usize) -> Marks {
        Marks { of_rows: vec![0; base_rows], chosen: (0..base_rows as u32).collect() }
    }
}

/// At most as long as its parent, which was charged.
fn read_set(
    r: &mut Reader<'_>,
    parent: &[u32],
    earlier: &[Vec<u32>],
    marks: &mut Marks,
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
            let without = r.counted_gaps(of)?;
            let mut set = Vec::with_capacity(of - without.len());
            let mut next = 0;
            for i in without {
                set.extend_from_slice(&parent[next..i as usize]);
                next = i as usize + 1;
            }
            set.extend_from_slice(&parent[next..]);
            set
        }
        WRONG => {
            let code = r.up_to((earlier.len() << 1).saturating_sub(1), "prediction")?;
            let predicted = earlier.get(code >> 1).ok_or_else(|| r.corrupt("no set is there yet"))?;
            budget.charge((of + predicted.len()) as u64, ROW_STEP, "rows that are predicted")?;
            let complement = code & 1 == 1;
            let wrong = r.counted_gaps(of)?;
            if of == marks.of_rows.len() && !complement {
                return Ok(symmetric_difference(predicted, &wrong));
            }
            let Marks { of_rows, chosen } = marks;
            predicted.iter().for_each(|row| of_rows[*row as usize] = 1);
            wrong.iter().for_each(|i| of_rows[parent[*i as usize] as usize] ^= 1);
            let mut n = 0;
            for row in parent {
                chosen[n] = *row;
                n += usize::from((of_rows[*row as usize] == 1) != complement);
            }
            predicted.iter().for_each(|row| of_rows[*row as usize] = 0);
            wrong.iter().for_each(|i| of_rows[parent[*i as usize] as usize] = 0);
            chosen[..n].to_vec()
        }
        BY_CONTEXT => read_by_context(r, parent, earlier, marks, budget)?,
        kind => return Err(r.reserved("kind of row set", kind)),
    })
}

fn read_by_context(
    r: &mut Reader<'_>,
    parent: &[u32],
    earlier: &[Vec<u32>],
    Marks { of_rows, chosen }: &mut Marks,
    budget: &mut Budget,
) -> Result<Vec<u32>> {
    budget.charge(parent.len() as u64, ROW_STEP, "rows that have a context")?;
    let count = r.up_to(MAX_CONTEXT_SETS, "sets of a context")?;
    // what the other sets tell of each row is a bit for each
    let mut named: [&[u32]; MAX_CONTEXT_SETS] = [&[]; MAX_CONTEXT_SETS];
    // by what the set itself holds of the rows before, the nearest lowest: what that tells
    let mut told = [0u8; CONTEXTS];
    let mut distance = 0;
    for (bit, members) in named.iter_mut().enumerate().take(count) {
        let number = r.up_to(earlier.len(), "row set")?;
        if number == ITSELF {
            (0u8..).zip(&mut told).for_each(|(latest, told)| *told |= (latest >> distance & 1) << bit);
            distance += 1;
            continue;
        }
        *members = &earlier[number - 1];
        budget.charge(members.len() as u64, ROW_STEP, "members of a context")?;
        members.iter().for_each(|row| of_rows[*row as usize] |= 1 << bit);
    }
    let mut shares = [0; CONTEXTS];
    for share in &mut shares[..1 << count] {
        *share = r.share()?;
    }
    let n = if distance == 0 {
        r.choices(|steps| choose::<false>(steps, parent, of_rows, &told, &shares, chosen))?
    } else {
        r.choices(|steps| choose::<true>(steps, parent, of_rows, &told, &shares, chosen))?
    };
    named.into_iter().flatten().for_each(|row| of_rows[*row as usize] = 0);
    Ok(chosen[..n].to_vec())
}

/// Reads which rows are members, by the shares of their contexts, to which the set itself may belong. Returns how many
/// were chosen.
// by itself, so that all of the loop fits into registers
#[inline(never)]
fn choose<const WITH_ITSELF: bool>(
    steps: &mut Steps<'_>,
    parent: &[u32],
    of_rows: &[u8],
    told: &[u8; CONTEXTS],
    shares: &[u8; CONTEXTS],
    chosen: &mut [u32],
) -> Option<usize> {
    let mut here = *steps;
    let (mut n, mut latest, mut next) = (0, 0u32, 0);
    for row in parent {
        let mut context = of_rows[*row as usize];
        if WITH_ITSELF {
            if *row != next {
                latest = latest.checked_shl(row - next).unwrap_or(0);
            }
            next = row + 1;
            context |= told[latest as usize % CONTEXTS];
            latest <<= 1;
        }
        if here.choice(shares[usize::from(context) % CONTEXTS])? {
            latest |= 1;
            chosen[n] = *row;
            n += 1;
        }
    }
    *steps = here;
    Some(n)
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
    use crate::format::entropy::{self, EntropyReader};
    use crate::format::writer::Writer;
    use crate::frame::row_set_contexts::Contexts;

    #[test]
    fn contexts_are_read_as_they_were_written() {
        const ROWS: u32 = 4000;
        let hash = |row: u32, salt: u32| row.wrapping_add(salt).wrapping_mul(2_654_435_761) >> 9;
        let of = |salt: u32, part: u32| -> Vec<u32> {
            (0..ROWS).filter(|row| hash(*row, salt) % 100 < part).collect()
        };
        // the last has no bits
        let earlier = [of(1, 70), of(2, 40), vec![7, 8, 2000]];
        let written: Vec<Set<'_>> = earlier.iter().map(|set| Set::new(set, ROWS as usize)).collect();
        assert!(written[2].bits.is_empty());
        // rows side by side, and with gaps of more and of less than a word
        let parents: [Vec<u32>; 3] = [
            (0..ROWS).collect(),
            of(3, 30),
            (0..ROWS).filter(|row| row % 90 < 7 && hash(*row, 5) & 3 > 0).collect(),
        ];
        let sets_of_contexts: [&[usize]; 7] =
            [&[], &[1], &[ITSELF], &[3, ITSELF], &[ITSELF; 4], &[ITSELF, 2, ITSELF, 1], &[1, 2, 3, ITSELF]];
        for (parent, sets) in parents.iter().flat_map(|parent| sets_of_contexts.map(|sets| (parent, sets))) {
            let shares = (0..1u32 << sets.len()).map(|i| (hash(i, 9) % 254 + 1) as u8).collect();
            let contexts = Contexts { sets: sets.to_vec(), shares, bits: 0.0 };
            let members: Vec<u32> = parent.iter().copied().filter(|row| hash(row / 5, 4) & 1 == 0).collect();
            let mut w = Writer::default();
            contexts.write(&mut w, &Set::new(&members, ROWS as usize), parent, &written);
            let steps = entropy::write(&w.steps);
            let stream = EntropyReader::new(&steps);
            assert!(stream.is_ok());
            let Ok(stream) = stream else { continue };
            let mut r = Reader::new(&w.bytes[1..]).with_entropy(&stream);
            let mut budget = Budget::new(DEFAULT_MAX_BYTES);
            let mut marks = Marks::new(ROWS as usize);
            let read = read_by_context(&mut r, parent, &earlier, &mut marks, &mut budget);
            assert_eq!(read, Ok(members), "{sets:?}");
            assert!(r.is_empty() && stream.finish().is_ok());
            // a stream that ends early is refused
            let Ok(short) = EntropyReader::new(&steps[..steps.len() - 4]) else { continue };
            let mut r = Reader::new(&w.bytes[1..]).with_entropy(&short);
            assert!(read_by_context(&mut r, parent, &earlier, &mut marks, &mut budget).is_err());
        }
    }
}
