//! Walks lists of rows block by block, so that each block of the table stays in the cache for all.

use std::ops::Range;

/// Cells that are worked on together, and the least and the most rows: few enough for the processor's cache.
const BLOCK_CELLS: usize = 4096;
const BLOCK_ROWS: (usize, usize) = (128, 512);

/// What comes next on the way through lists of rows.
pub(crate) enum BlockStep<'a> {
    /// Most of the rows of the parts up to the next such step, and how many cells of a row the parts have on average.
    Ahead(&'a [u32], usize),
    /// The number of a list, and a part of it.
    Part(usize, Range<usize>),
}

/// Walks ascending lists of rows in parallel, one block of rows after the other. So the caller meets all entries of a row
/// while the row is in the cache.
pub(crate) fn for_each_block(lists: &[&[u32]], mut take: impl FnMut(BlockStep<'_>)) {
    let rows = lists.iter().filter_map(|list| list.last()).max().map_or(0, |row| *row as usize + 1);
    let cells: usize = lists.iter().map(|list| list.len()).sum();
    let block_rows = (BLOCK_CELLS.saturating_mul(rows) / cells.max(1)).clamp(BLOCK_ROWS.0, BLOCK_ROWS.1);
    let blocks = rows.div_ceil(block_rows);
    // a list with less than a row a block goes by itself: the blocks would cost more than its rows
    let (mut long, short): (Vec<usize>, Vec<usize>) =
        (0..lists.len()).partition(|at| lists[*at].len() >= blocks);
    for at in short {
        take(BlockStep::Part(at, 0..lists[at].len()));
    }
    long.sort_by_key(|at| std::cmp::Reverse(lists[*at].len()));
    let cells: usize = long.iter().map(|at| lists[*at].len()).sum();
    let mut starts = vec![0; lists.len()];
    for end in (1..=blocks).map(|block| (block * block_rows) as u32) {
        for (i, &at) in long.iter().enumerate() {
            let start = starts[at];
            // the rows are distinct: no more are in one block
            let next = &lists[at][start..lists[at].len().min(start + block_rows)];
            let n = next.partition_point(|row| *row < end);
            starts[at] += n;
            if i == 0 {
                take(BlockStep::Ahead(&lists[at][start..start + n], cells / lists[at].len().max(1)));
            }
            take(BlockStep::Part(at, start..start + n));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_bring_all_of_each_list_in_order() {
        let every = |step: usize| (0..1000).step_by(step).collect::<Vec<u32>>();
        let all = [every(1), every(3), vec![], every(90), every(200), vec![5], vec![127, 128, 999]];
        let lists: Vec<&[u32]> = all.iter().map(Vec::as_slice).collect();
        let mut seen = vec![Vec::new(); lists.len()];
        let mut ahead = Vec::new();
        for_each_block(&lists, |step| match step {
            BlockStep::Ahead(rows, cells) => {
                assert_eq!(cells, (1000 + 334 + 12) / 1000);
                ahead.extend_from_slice(rows);
            }
            BlockStep::Part(at, part) => seen[at].extend_from_slice(&lists[at][part]),
        });
        assert_eq!(seen, all);
        assert_eq!(ahead, every(1));
        for_each_block(&[&[], &[]], |step| {
            assert!(matches!(step, BlockStep::Part(_, part) if part.is_empty()));
        });
    }
}
