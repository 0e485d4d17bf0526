//! Finds the row set that tells the two kinds of a column's cells apart, on a sample of them.

use crate::encoding::encode::{self, ColumnInput, with_part};
use crate::encoding::left_out::{Part, left_out};
use crate::encoding::sampling::{log2, sample_of};
use crate::encoding::split::{Split, sides};
use crate::format::value::is_blob;
use crate::format::writer::{Writer, zigzag};
use crate::state::table::Cell;

/// Fewer cells tell nothing of a split.
const LEAST_CELLS: usize = 64;
/// So many cells are written to find out what a split saves.
const SAMPLE: usize = 512;
/// Columns of fewer bits a cell are left as they are.
const LEAST_BITS: f64 = 3.0;
/// Bits a cell that a set has to tell of the lengths of changes, and how many such sets are tried.
const LEAST_TOLD: f64 = 0.1;
const TRIED: usize = 3;
const OTHER_TAG: u8 = 65;
/// The share of bits that a split has to save.
const LEAST_SAVED: f64 = 0.04;
/// What reaches zstd of a byte of a column, in bits.
const BYTE: f64 = 6.0;

/// True if the cells are enough, and of a kind, to find a split for.
pub(crate) fn is_possible(column: &ColumnInput<'_>) -> bool {
    column.cells.len() >= LEAST_CELLS
        && !left_out(Part::Columns)
        && !column.cells.tags.iter().any(|tag| is_blob(*tag))
}

/// The row set that saves most, if one saves enough; the known one as long as it saves anything, or nothing is told.
pub(crate) fn find<T: Copy + PartialEq>(
    column: &ColumnInput<'_>,
    splits: &[(T, Split<'_>)],
    known: Option<T>,
) -> Option<T> {
    with_part(column, &sample_of(column.cells.len(), SAMPLE), |column| {
        let classes = changes_of(column)?;
        let told = |split: Split<'_>| told_by(&classes, column.rows, split.members);
        let mut promising: Vec<(T, Split<'_>, f64)> =
            splits.iter().map(|(of, split)| (*of, *split, told(*split))).collect();
        promising.retain(|(of, _, bits)| *bits > LEAST_TOLD * classes.len() as f64 || Some(*of) == known);
        promising.sort_by(|a, b| (Some(b.0) == known).cmp(&(Some(a.0) == known)).then(b.2.total_cmp(&a.2)));
        promising.truncate(TRIED);
        if promising.is_empty() {
            return None;
        }
        let whole = bits_of(column);
        if whole < LEAST_BITS * classes.len() as f64 {
            return known;
        }
        let bits_with = |split| bits_of(&ColumnInput { split: Some(split), ..*column });
        let costs = promising.into_iter().map(|(of, split, _)| (of, bits_with(split)));
        let (of, least) = costs.min_by(|a, b| a.1.total_cmp(&b.1))?;
        let saved = if Some(of) == known { 0.0 } else { LEAST_SAVED };
        (least < whole * (1.0 - saved)).then_some(of)
    })
}

/// Lengths of the changes of words; one above for cells of another tag.
fn changes_of(column: &ColumnInput<'_>) -> Option<Vec<u8>> {
    let class = |(old, new): (Cell, Cell)| {
        let change = zigzag(new.word.wrapping_sub(old.word));
        if old.tag == new.tag { 64 - change.leading_zeros() as u8 } else { OTHER_TAG }
    };
    Some(column.base?.iter().zip(column.cells.iter()).map(class).collect())
}

/// Bits that membership in a set tells of the classes of all rows.
fn told_by(classes: &[u8], rows: &[u32], members: &[u32]) -> f64 {
    let Some(sides) = sides(rows, members) else { return 0.0 };
    let counts_of = |side: Vec<u32>| {
        let mut counts = [0; OTHER_TAG as usize + 1];
        side.iter().for_each(|i| counts[usize::from(classes[*i as usize])] += 1);
        counts
    };
    let [inside, outside] = sides.map(counts_of);
    let mut both = inside;
    both.iter_mut().zip(outside).for_each(|(all, more)| *all += more);
    class_entropy(&both) - class_entropy(&inside) - class_entropy(&outside)
}

fn class_entropy(counts: &[usize]) -> f64 {
    let part = |count: &usize| *count as f64 * log2(*count);
    part(&counts.iter().sum()) - counts.iter().filter(|count| **count > 0).map(part).sum::<f64>()
}

/// Bits that the column takes, about.
fn bits_of(column: &ColumnInput<'_>) -> f64 {
    let mut w = Writer::default();
    encode::write(&mut w, column);
    let steps = w.steps.iter().map(|step| f64::from(step.bits) - log2(usize::from(step.frequency)));
    BYTE * w.bytes.len() as f64 + steps.sum::<f64>()
}
