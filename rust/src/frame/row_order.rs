//! The order of the target: FORMAT.md section 9.

use crate::encoding::integers;
use crate::error::Result;
use crate::format::order::{DESCENDING, MOVES, SORTED};
use crate::format::reader::{Reader, unzigzag};
use crate::format::value::tag;
use crate::format::writer::{Writer, zigzag};
use crate::state::change_set::{ChangeSet, Record};
use crate::state::permutation::longest_increasing;
use crate::state::schema::PathId;
use crate::state::table::{Cell, Table};

/// A predicted order is looked for from this many moves on.
const FEW_MOVES: usize = 8;
const SAMPLE: usize = 64;

fn sort_key(cell: Option<Cell>) -> u64 {
    let bits = match cell {
        Some(Cell { tag: tag::FLOAT, word }) => word,
        Some(Cell { tag: tag::INT, word }) => (word as i64 as f64).to_bits(),
        _ => return 0,
    };
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn record_key(table: &Table, changes: &ChangeSet, record: Record, path: PathId) -> u64 {
    let position = table.schema.shapes[record.shape as usize].position(path);
    sort_key(position.map(|p| changes.cells.get(record.start + p)))
}

/// Where the record of a row of the target is.
#[derive(Clone, Copy)]
enum RecordSource {
    Base(u32),
    New(Record),
}

impl RecordSource {
    fn sort_key(self, table: &Table, changes: &ChangeSet, path: PathId) -> u64 {
        let row = match self {
            RecordSource::New(record) => return record_key(table, changes, record, path),
            RecordSource::Base(row) => row,
        };
        let updates = changes.updates.get(path as usize);
        let updated = updates.and_then(|column| Some((column, column.rows.binary_search(&row).ok()?)));
        sort_key(match updated {
            Some((column, at)) => Some(column.new.get(at)),
            None => table.cell(row as usize, path),
        })
    }
}

/// The place of a row of the reference.
fn place_of(changes: &ChangeSet, retained: &[u32], at: u32) -> RecordSource {
    match retained.get(at as usize) {
        None => RecordSource::New(changes.added[at as usize - retained.len()].record),
        Some(row) => match changes.reshaped.binary_search_by_key(row, |reshaped| reshaped.0) {
            Ok(i) => RecordSource::New(changes.reshaped[i].1),
            Err(_) => RecordSource::Base(*row),
        },
    }
}

/// Neighbours in the target, evenly spread.
fn sampled_pairs(changes: &ChangeSet, retained: &[u32], target: &[u32]) -> Vec<[RecordSource; 2]> {
    let place = |at: u32| place_of(changes, retained, at);
    let step = (target.len() / SAMPLE).max(1);
    target.windows(2).step_by(step).map(|pair| [place(pair[0]), place(pair[1])]).collect()
}

/// The sort keys of all rows of the reference by a column of the target.
fn sort_keys(table: &Table, changes: &ChangeSet, base_rows: usize, path: PathId) -> Vec<u64> {
    let mut keys: Vec<u64> = (0..base_rows).map(|row| sort_key(table.cell(row, path))).collect();
    if let Some(column) = changes.updates.get(path as usize) {
        for (row, cell) in column.rows.iter().zip(column.new.iter()) {
            keys[*row as usize] = sort_key(Some(cell));
        }
    }
    let record_key = |record: Record| record_key(table, changes, record, path);
    for (row, record) in &changes.reshaped {
        keys[*row as usize] = record_key(*record);
    }
    let retained = changes.retained(base_rows);
    let retained = retained.into_iter().map(|row| keys[row as usize]);
    retained.chain(changes.added.iter().map(|added| record_key(added.record))).collect()
}

/// The reference, stably sorted.
fn sorted(keys: &[u64], descending: bool) -> Vec<u32> {
    let mut reference: Vec<u32> = (0..keys.len() as u32).collect();
    if descending {
        reference.sort_by_key(|i| std::cmp::Reverse(keys[*i as usize]));
    } else {
        reference.sort_by_key(|i| keys[*i as usize]);
    }
    reference
}

/// Moves that lead from the predicted order to the target: (predicted position, target position), ascending.
fn moves(predicted: Option<&[u32]>, target: &[u32]) -> Vec<(u32, u32)> {
    let mut place: Vec<u32> = (0..target.len() as u32).collect();
    if let Some(predicted) = predicted {
        for (at, row) in (0..).zip(predicted) {
            place[*row as usize] = at;
        }
    }
    let sequence: Vec<u32> = target.iter().map(|row| place[*row as usize]).collect();
    let stays = longest_increasing(&sequence);
    let mut moved: Vec<(u32, u32)> = (0..)
        .zip(&sequence)
        .zip(stays)
        .filter_map(|((to, from), stays)| (!stays).then_some((*from, to)))
        .collect();
    moved.sort_unstable();
    moved
}

/// The column and direction by which most of the target seems sorted.
fn find_sort(table: &Table, changes: &ChangeSet, base_rows: usize, target: &[u32]) -> Option<(PathId, bool)> {
    let numeric = |cell: Option<Cell>| matches!(cell, Some(Cell { tag: tag::INT | tag::FLOAT, .. }));
    let retained = changes.retained(base_rows);
    let columns: Vec<PathId> = match (retained.first(), changes.added.first()) {
        (Some(row), _) => {
            let shape = table.rows[*row as usize].shape;
            let paths = table.schema.shapes[shape as usize].paths.iter().copied();
            paths.filter(|path| numeric(table.cell(*row as usize, *path))).collect()
        }
        (None, Some(added)) => table.schema.shapes[added.record.shape as usize].paths.to_vec(),
        (None, None) => return None,
    };
    let pairs = sampled_pairs(changes, &retained, target);
    let mut best = None;
    for path in columns {
        let (mut up, mut down) = (0, 0);
        for (seen, pair) in (1..).zip(&pairs) {
            let [a, b] = pair.map(|place| place.sort_key(table, changes, path));
            up += usize::from(a < b);
            down += usize::from(a > b);
            // most columns sort nothing: stop as soon as four fifths cannot be reached
            if (seen - up.max(down)) * 5 > pairs.len() {
                break;
            }
        }
        let good = up.max(down);
        if good * 5 >= pairs.len() * 4 && best.is_none_or(|(_, _, most)| good > most) {
            best = Some((path, down > up, good));
        }
    }
    best.map(|(path, descending, _)| (path, descending))
}

/// Writes ORDER; `frame_path` gives the path id of a path.
pub(crate) fn write(
    w: &mut Writer,
    table: &Table,
    changes: &ChangeSet,
    base_rows: usize,
    frame_path: &mut dyn FnMut(PathId) -> u64,
) {
    let Some(target) = &changes.order else { return };
    let mut moved = moves(None, target);
    let mut head = None;
    if moved.len() > FEW_MOVES
        && let Some((path, descending)) = find_sort(table, changes, base_rows, target)
    {
        let keys = sort_keys(table, changes, base_rows, path);
        let fewer = moves(Some(&sorted(&keys, descending)), target);
        if fewer.len() + FEW_MOVES < moved.len() {
            moved = fewer;
            head = Some((path, descending));
        }
    }
    match head {
        None => w.u8(MOVES),
        Some((path, descending)) => {
            w.u8(SORTED);
            w.uvarint(frame_path(path));
            w.u8(if descending { DESCENDING } else { 0 });
        }
    }
    w.size(moved.len());
    w.gaps(moved.iter().map(|m| m.0));
    let distances: Vec<u64> =
        moved.iter().map(|(from, to)| zigzag((i64::from(*to) - i64::from(*from)) as u64)).collect();
    integers::write(w, &distances);
}

/// A position of the target that no moved row has taken.
const FREE: u32 = u32::MAX;

/// Reads ORDER into the change set, whose cells are complete.
pub(crate) fn read(
    r: &mut Reader<'_>,
    table: &Table,
    changes: &mut ChangeSet,
    paths: &[PathId],
) -> Result<()> {
    let base_rows = table.rows.len();
    let n = base_rows - changes.removed.len() + changes.added.len();
    let predicted: Vec<u32> = match r.u8()? {
        MOVES => (0..n as u32).collect(),
        SORTED => {
            let frame_path = r.up_to(paths.len() - 1, "path id")?;
            let flags = r.u8()?;
            if flags & !DESCENDING != 0 {
                return Err(r.reserved("flags of an order", flags));
            }
            let keys = sort_keys(table, changes, base_rows, paths[frame_path]);
            sorted(&keys, flags == DESCENDING)
        }
        mode => return Err(r.reserved("mode of an order", mode)),
    };
    let from = r.counted_gaps(n)?;
    let distances = r.integers(from.len())?;
    let mut target = vec![FREE; n];
    let mut stays = vec![true; n];
    for (from, distance) in from.into_iter().zip(distances) {
        let to = i64::from(from).checked_add(unzigzag(distance) as i64);
        let to = to.and_then(|to| usize::try_from(to).ok()).filter(|to| *to < n);
        match to {
            Some(to) if target[to] == FREE => target[to] = predicted[from as usize],
            _ => return Err(r.corrupt("a row moves out of range or where another is")),
        }
        stays[from as usize] = false;
    }
    let mut rest = predicted.iter().zip(stays).filter(|(_, stays)| *stays);
    for place in &mut target {
        if *place == FREE
            && let Some((row, _)) = rest.next()
        {
            *place = *row;
        }
    }
    let moved = target.iter().enumerate().any(|(i, row)| i != *row as usize);
    changes.order = moved.then_some(target);
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The sort keys of all rows of the reference, looked up one by one as in a sample, and all at once.
    pub(crate) fn keys_both_ways(table: &Table, changes: &ChangeSet, path: PathId) -> [Vec<u64>; 2] {
        let base_rows = table.rows.len();
        let retained = changes.retained(base_rows);
        let n = retained.len() + changes.added.len();
        let place = |at| place_of(changes, &retained, at);
        let one_by_one = (0..n as u32).map(|at| place(at).sort_key(table, changes, path));
        [one_by_one.collect(), sort_keys(table, changes, base_rows, path)]
    }

    #[test]
    fn one_moved_row_is_one_move() {
        assert_eq!(moves(None, &[0, 1, 2, 3]), []);
        assert_eq!(moves(None, &[3, 0, 1, 2]), [(3, 0)]);
        assert_eq!(moves(Some(&[3, 0, 1, 2]), &[3, 0, 1, 2]), []);
    }

    #[test]
    fn keys_sort_as_numbers_do() {
        let key = |value: f64| sort_key(Some(Cell { tag: tag::FLOAT, word: value.to_bits() }));
        let ascending = [f64::NEG_INFINITY, -2.0, -0.5, -0.0, 0.0, 1e-300, 3.0, f64::INFINITY];
        assert!(ascending.map(key).is_sorted());
        let int = Cell { tag: tag::INT, word: 3 };
        assert_eq!(sort_key(Some(int)), key(3.0));
        assert!(sort_key(None) < key(f64::NEG_INFINITY));
    }
}
