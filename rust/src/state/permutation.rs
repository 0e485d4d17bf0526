//! Which rows stay in place when an order changes.

/// Marks one longest increasing subsequence (patience sorting).
pub(crate) fn longest_increasing(sequence: &[u32]) -> Vec<bool> {
    let mut tails: Vec<u32> = Vec::new(); // indices whose values ascend
    let mut previous: Vec<u32> = vec![u32::MAX; sequence.len()];
    for (i, value) in (0u32..).zip(sequence) {
        let at = tails.partition_point(|tail| sequence[*tail as usize] < *value);
        if at > 0 {
            previous[i as usize] = tails[at - 1];
        }
        if at == tails.len() {
            tails.push(i);
        } else {
            tails[at] = i;
        }
    }
    let mut is_member = vec![false; sequence.len()];
    let mut at = tails.last().copied().unwrap_or(u32::MAX);
    while at != u32::MAX {
        is_member[at as usize] = true;
        at = previous[at as usize];
    }
    is_member
}
