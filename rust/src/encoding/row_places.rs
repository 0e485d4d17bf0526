//! Where rows stand in the lists of columns, told without a search.

/// A list has bits if they take at most so many words for each of its rows.
const WORDS_A_ROW: usize = 4;

/// Tells where a row stands in an ascending list.
pub(crate) struct RowPlaces<'a> {
    list: &'a [u32],
    /// The rows as bits, and how many stand before those of each word; none if they would be much more than the list.
    words: Vec<(u64, u32)>,
}

impl<'a> RowPlaces<'a> {
    pub(crate) fn new(list: &'a [u32]) -> RowPlaces<'a> {
        let length = list.last().map_or(0, |row| *row as usize / 64 + 1);
        let has_bits = length <= list.len() * WORDS_A_ROW;
        let mut words: Vec<(u64, u32)> = vec![(0, 0); if has_bits { length } else { 0 }];
        if has_bits {
            list.iter().for_each(|row| words[*row as usize / 64].0 |= 1 << (row % 64));
            let mut before = 0;
            for (bits, rank) in &mut words {
                *rank = before;
                before += bits.count_ones();
            }
        }
        RowPlaces { list, words }
    }

    /// Where a row stands, if it does.
    #[inline(always)]
    pub(crate) fn find(&self, row: u32) -> Option<usize> {
        if self.words.is_empty() {
            return self.list.binary_search(&row).ok();
        }
        let (bits, before) = *self.words.get(row as usize / 64)?;
        let bit = 1 << (row % 64);
        (bits & bit != 0).then(|| before as usize + (bits & (bit - 1)).count_ones() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_what_a_search_finds() {
        let lists: [Vec<u32>; 6] = [
            vec![],
            vec![0],
            vec![63, 64, 127, 128],
            (0..900).filter(|row| row % 7 != 3).collect(),
            vec![5, 100_000],
            (0..20_000).step_by(300).collect(),
        ];
        for list in &lists {
            let places = RowPlaces::new(list);
            for row in (0..1_000).chain([19_799, 19_800, 99_999, 100_000, u32::MAX]) {
                assert_eq!(places.find(row), list.binary_search(&row).ok(), "{row}");
            }
        }
    }
}
