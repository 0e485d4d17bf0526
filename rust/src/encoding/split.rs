//! A column as two streams, told apart by a row set: FORMAT.md section 8.1.

/// A row set by its number in the frame.
#[derive(Clone, Copy)]
pub(crate) struct Split<'a> {
    pub(crate) number: u64,
    pub(crate) members: &'a [u32],
}

/// A smaller side does not pay for its header.
const LEAST_SIDE: usize = 16;
/// Members are looked up one by one in a set that is so many times as long as the rows.
const LONG: usize = 16;

/// Indices of the rows that a set holds, and of the others. Rows and members ascend.
pub(crate) fn partition(rows: &[u32], members: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let is_long = members.len() / LONG > rows.len();
    let n = rows.len();
    let (mut inside, mut outside) = (Vec::with_capacity(n), Vec::with_capacity(n));
    let mut rest = members;
    for (i, row) in (0..).zip(rows) {
        let before = if is_long {
            rest.partition_point(|member| member < row)
        } else {
            rest.iter().take_while(|member| *member < row).count()
        };
        rest = &rest[before..];
        if rest.first() == Some(row) { inside.push(i) } else { outside.push(i) }
    }
    (inside, outside)
}

/// The two sides of rows; None if one is too small to pay.
pub(crate) fn sides(rows: &[u32], members: &[u32]) -> Option<[Vec<u32>; 2]> {
    let (inside, outside) = partition(rows, members);
    (inside.len().min(outside.len()) >= LEAST_SIDE).then_some([inside, outside])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_what_a_look_at_each_row_gives() {
        let rows: Vec<u32> = (0..900).filter(|row| row % 7 != 3).collect();
        let sets =
            [vec![], vec![0], vec![899], (0..20_000).collect(), (0..20_000).step_by(3).collect::<Vec<u32>>()];
        for part in [&rows[..], &rows[..5], &rows[400..], &[]] {
            for set in &sets {
                let holds = |i: &u32| set.contains(&part[*i as usize]);
                let by_look = (0..part.len() as u32).partition::<Vec<u32>, _>(holds);
                assert_eq!(partition(part, set), by_look);
            }
        }
    }
}
