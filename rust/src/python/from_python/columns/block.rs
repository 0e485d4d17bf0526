//! The cells of a block of rows, row by row, as the state has them: they are filled column by column and compared row by row.

use std::ops::Range;

use crate::format::value::{Tag, tag};
use crate::state::table::Cell;

/// Rows that are read together: so few that the cells of the state stay in the processor's cache.
pub(super) const BLOCK: usize = 32;

/// Cells that are compared at once, and words of a line of the processor's cache.
const GROUP: usize = 8;

/// No tag.
const MIXED: Tag = Tag::MAX;

pub(super) struct Block {
    columns: usize,
    /// From a row to the next: an odd number of lines, so that the cells of a column do not share places in the cache.
    stride: usize,
    tags: Vec<Tag>,
    words: Vec<u64>,
    /// By column: the tag that all its cells have, or MIXED.
    uniform: Vec<Tag>,
}

/// Cells of one column, in rows that follow one another.
pub(super) struct BlockColumn<'b> {
    rows: usize,
    stride: usize,
    tags: &'b mut [Tag],
    words: &'b mut [u64],
    uniform: &'b mut Tag,
}

impl Block {
    pub(super) fn new(columns: usize) -> Block {
        let stride = (columns.div_ceil(GROUP) | 1) * GROUP;
        let cells = BLOCK * stride;
        Block {
            columns,
            stride,
            tags: vec![tag::NONE; cells],
            words: vec![0; cells],
            uniform: vec![MIXED; columns],
        }
    }

    /// The cells of a row.
    pub(super) fn row(&self, row: usize) -> (&[Tag], &[u64]) {
        let cells = row * self.stride..row * self.stride + self.columns;
        (&self.tags[cells.clone()], &self.words[cells])
    }

    #[inline(always)]
    pub(super) fn set(&mut self, row: usize, column: usize, cell: Cell) {
        let at = row * self.stride + column;
        self.tags[at] = cell.tag;
        self.words[at] = cell.word;
        self.uniform[column] = MIXED;
    }

    pub(super) fn column(&mut self, column: usize, rows: Range<usize>) -> BlockColumn<'_> {
        let first = rows.start * self.stride + column;
        BlockColumn {
            rows: rows.len(),
            stride: self.stride,
            tags: &mut self.tags[first..],
            words: &mut self.words[first..],
            uniform: &mut self.uniform[column],
        }
    }
}

impl BlockColumn<'_> {
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// All cells have this tag.
    pub(super) fn set_tag(&mut self, tag: Tag) {
        if *self.uniform != tag {
            self.set_tags(|_| tag);
            *self.uniform = if self.rows == BLOCK { tag } else { MIXED };
        }
    }

    /// By row, from the first one.
    #[inline(always)]
    pub(super) fn set_tags(&mut self, tag: impl Fn(usize) -> Tag) {
        *self.uniform = MIXED;
        for row in 0..self.rows {
            self.tags[row * self.stride] = tag(row);
        }
    }

    /// By row, from the first one.
    #[inline(always)]
    pub(super) fn set_words(&mut self, word: impl Fn(usize) -> u64) {
        for row in 0..self.rows {
            self.words[row * self.stride] = word(row);
        }
    }

    pub(super) fn set_none(&mut self, row: usize) {
        self.tags[row * self.stride] = tag::NONE;
        self.words[row * self.stride] = 0;
        *self.uniform = MIXED;
    }
}

/// Names the positions at which two rows of one length differ, ascending.
#[inline(always)]
pub(super) fn for_each_difference(
    (old_tags, old_words): (&[Tag], &[u64]),
    (new_tags, new_words): (&[Tag], &[u64]),
    mut each: impl FnMut(usize),
) {
    let (old_tag_groups, new_tag_groups) = (old_tags.as_chunks().0, new_tags.as_chunks().0);
    let (old_word_groups, new_word_groups) = (old_words.as_chunks().0, new_words.as_chunks().0);
    for group in 0..old_tag_groups.len() {
        let (old_tags, new_tags): (&[Tag; GROUP], &[Tag; GROUP]) =
            (&old_tag_groups[group], &new_tag_groups[group]);
        let (old_words, new_words): (&[u64; GROUP], &[u64; GROUP]) =
            (&old_word_groups[group], &new_word_groups[group]);
        let mut differ = u64::from_le_bytes(*old_tags) ^ u64::from_le_bytes(*new_tags);
        for i in 0..GROUP {
            differ |= old_words[i] ^ new_words[i];
        }
        if differ == 0 {
            continue;
        }
        for i in 0..GROUP {
            if old_tags[i] != new_tags[i] || old_words[i] != new_words[i] {
                each(GROUP * group + i);
            }
        }
    }
    let start = GROUP * old_tag_groups.len();
    for at in start..old_tags.len() {
        if old_tags[at] != new_tags[at] || old_words[at] != new_words[at] {
            each(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_is_named() {
        for length in 0..20 {
            for at in 0..length {
                for is_tag in [false, true] {
                    let (tags, words) = (vec![tag::INT; length], vec![7u64; length]);
                    let (mut new_tags, mut new_words) = (tags.clone(), words.clone());
                    for place in [at, length - 1] {
                        if is_tag {
                            new_tags[place] = tag::FLOAT;
                        } else {
                            new_words[place] = 7 << 60;
                        }
                    }
                    let mut named = Vec::new();
                    for_each_difference((&tags, &words), (&new_tags, &new_words), |at| named.push(at));
                    let mut want = vec![at, length - 1];
                    want.dedup();
                    assert_eq!(named, want);
                    for_each_difference((&tags, &words), (&tags, &words), |at| panic!("{at}"));
                }
            }
        }
    }

    #[test]
    fn a_column_whose_tags_were_one_is_set_anew() {
        let mut block = Block::new(2);
        let tags = |block: &Block| (0..3).map(|row| block.row(row).0[1]).collect::<Vec<_>>();
        block.column(1, 0..BLOCK).set_tag(tag::INT);
        block.column(1, 0..BLOCK).set_none(1);
        assert_eq!(tags(&block), [tag::INT, tag::NONE, tag::INT]);
        block.column(1, 0..BLOCK).set_tag(tag::INT);
        assert_eq!(tags(&block), [tag::INT; 3]);
        block.set(2, 1, Cell { tag: tag::TRUE, word: 0 });
        block.column(1, 1..3).set_tag(tag::INT);
        assert_eq!(tags(&block), [tag::INT; 3]);
        block.column(1, 0..2).set_tag(tag::FLOAT);
        assert_eq!(tags(&block), [tag::FLOAT, tag::FLOAT, tag::INT]);
        block.column(1, 0..BLOCK).set_tag(tag::FLOAT);
        assert_eq!(tags(&block), [tag::FLOAT; 3]);
    }
}
