//! Row sets by context: which earlier sets tell most of another's members.

use crate::encoding::left_out::{Part, left_out};
use crate::encoding::sampling::share;
use crate::format::entropy::Step;
use crate::format::integers::choice;
use crate::format::row_set_kind::{BY_CONTEXT, MAX_CONTEXT_SETS};
use crate::format::writer::Writer;
use crate::frame::row_set::{Set, all_bits, count_inside, one_row_later};

/// So many earlier sets are tried as predictions.
const PREDICTIONS: usize = 16;
/// Bits that a set more has to save.
const WORTH_A_SET: f64 = 10.0;

pub(crate) const CONTEXTS: usize = 1 << MAX_CONTEXT_SETS;

/// Names the set itself, asked for an earlier row.
pub(crate) const ITSELF: usize = 0;

/// Numbers of earlier sets (from 1) or `ITSELF`, and the share of members in each context that they make.
pub(crate) struct Contexts {
    pub(super) sets: Vec<usize>,
    pub(super) shares: Vec<u8>,
    pub(crate) bits: f64,
}

impl Contexts {
    /// Those of the latest sets that tell most, one after the other.
    pub(crate) fn of(
        set: &Set<'_>,
        parent: Option<&Set<'_>>,
        written: &[Set<'_>],
        base_rows: usize,
        overlaps: &[Overlap],
    ) -> Option<Contexts> {
        if set.bits.is_empty() || left_out(Part::RowSets) {
            return None;
        }
        let rows = match parent {
            Some(parent) if parent.bits.is_empty() => return None,
            Some(parent) => parent.bits.clone(),
            None => all_bits(base_rows),
        };
        let mut groups = vec![Group::new(rows, set)];
        let mut sets = Vec::new();
        let mut before = one_row_later(&set.bits, base_rows);
        let mut best = groups[0].share().1;
        while sets.len() < MAX_CONTEXT_SETS && best > WORTH_A_SET {
            let earlier = latest(written).map(|(at, other)| (at + 1, other.bits.as_slice()));
            let candidates = earlier.chain([(ITSELF, before.as_slice())]);
            let costs = candidates.enumerate().map(|(i, (number, bits))| {
                let cost = match overlaps.get(i) {
                    Some(overlap) if sets.is_empty() => groups[0].cost_of(overlap.inside, overlap.common),
                    _ => groups.iter().map(|group| group.cost_by(bits, set)).sum::<f64>(),
                };
                (cost, number, bits)
            });
            let Some((cost, number, bits)) = costs.min_by(|a, b| a.0.total_cmp(&b.0)) else { break };
            if cost + WORTH_A_SET > best {
                break;
            }
            best = cost;
            sets.push(number);
            let half = |is_in: bool| groups.iter().map(move |group| group.half(bits, is_in, set));
            groups = half(false).chain(half(true)).collect();
            if number == ITSELF {
                before = one_row_later(&before, base_rows);
            }
        }
        let shares = groups.iter().map(|group| group.share().0).collect();
        Some(Contexts { sets, shares, bits: best })
    }

    pub(crate) fn write(&self, w: &mut Writer, set: &Set<'_>, parent: &[u32], written: &[Set<'_>]) {
        w.u8(BY_CONTEXT);
        w.size(self.sets.len());
        self.sets.iter().for_each(|number| w.size(*number));
        let shares: Vec<u8> = self.shares.iter().map(|share| w.share(*share)).collect();
        // a set at a time: most contexts ask for few
        let mut contexts = vec![0u8; parent.len()];
        let mut distance = 0;
        for (bit, number) in self.sets.iter().enumerate() {
            if *number != ITSELF {
                written[number - 1].mark(parent, &mut contexts, bit);
                continue;
            }
            distance += 1;
            for (context, row) in contexts.iter_mut().zip(parent) {
                let before = row.checked_sub(distance);
                *context |= u8::from(before.is_some_and(|row| set.contains(row))) << bit;
            }
        }
        let choices = |is_taken| std::array::from_fn(|at| choice(shares.get(at).copied()?, is_taken));
        let choices: [[Option<Step>; CONTEXTS]; 2] = [choices(false), choices(true)];
        w.steps.reserve(parent.len());
        for (context, row) in contexts.into_iter().zip(parent) {
            let choices = &choices[usize::from(set.contains(*row))];
            w.steps.extend(choices[usize::from(context) % CONTEXTS]);
        }
    }
}

/// Rows of one context.
struct Group {
    bits: Vec<u64>,
    of: usize,
    members: usize,
}

impl Group {
    fn new(bits: Vec<u64>, set: &Set<'_>) -> Group {
        let (of, members) = count_inside(&bits, &bits, &set.bits);
        Group { bits, of, members }
    }

    /// The share of members, and the bits that it takes to tell them with it.
    fn share(&self) -> (u8, f64) {
        share(self.members, self.of)
    }

    /// The bits that it takes to tell the members where another set divides the group.
    fn cost_by(&self, other: &[u64], set: &Set<'_>) -> f64 {
        let (of, members) = count_inside(&self.bits, other, &set.bits);
        self.cost_of(of, members)
    }

    /// As `cost_by`, for another set of which so many rows are in the group, and so many of them members.
    fn cost_of(&self, of: usize, members: usize) -> f64 {
        share(members, of).1 + share(self.members - members, self.of - of).1
    }

    /// The rows that another set holds, or does not.
    fn half(&self, other: &[u64], is_in: bool, set: &Set<'_>) -> Group {
        let flip = if is_in { 0 } else { u64::MAX };
        Group::new(self.bits.iter().zip(other).map(|(group, other)| group & (other ^ flip)).collect(), set)
    }
}

/// What a set has in common with an earlier one, inside its parent.
pub(crate) struct Overlap {
    pub(crate) number: usize,
    /// Rows of the earlier one in the parent.
    pub(crate) inside: usize,
    pub(crate) common: usize,
}

/// The overlaps with the latest sets; none if it would take too long to tell them. `insides` keeps, for each written set,
/// the parent that was asked last and the rows in it.
pub(crate) fn overlaps(
    set: &Set<'_>,
    parent: Option<(usize, &Set<'_>)>,
    written: &[Set<'_>],
    insides: &mut [(usize, usize)],
) -> Vec<Overlap> {
    let has_no_bits = set.bits.is_empty() || parent.is_some_and(|(_, parent)| parent.bits.is_empty());
    if has_no_bits || left_out(Part::RowSets) {
        return Vec::new();
    }
    let one = |(number, other): (usize, &Set<'_>)| {
        let inside = match parent {
            None => other.members.len(),
            Some((at, _)) if insides[number].0 == at => insides[number].1,
            Some((at, parent)) => {
                insides[number] = (at, parent.in_common(other));
                insides[number].1
            }
        };
        Overlap { number, inside, common: set.in_common(other) }
    };
    latest(written).map(one).collect()
}

/// The latest sets that have bits, by number.
fn latest<'a, 'b>(written: &'b [Set<'a>]) -> impl Iterator<Item = (usize, &'b Set<'a>)> {
    let recent = written.len().saturating_sub(PREDICTIONS);
    written.iter().enumerate().skip(recent).filter(|(_, other)| !other.bits.is_empty())
}
