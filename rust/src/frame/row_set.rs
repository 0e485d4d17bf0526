//! A set of rows, and rows as bits.

/// A set has bits if they take at most so many words for each member.
const WORDS_A_MEMBER: usize = 4;

pub(crate) struct Set<'a> {
    pub(crate) members: &'a [u32],
    /// A bit for each row of the base; none if that would be much more than the members.
    pub(crate) bits: Vec<u64>,
}

impl Set<'_> {
    pub(crate) fn new(members: &[u32], universe: usize) -> Set<'_> {
        let has_bits = members.len() * WORDS_A_MEMBER >= universe.div_ceil(64);
        Set { members, bits: if has_bits { bits_of(members, universe) } else { Vec::new() } }
    }

    pub(crate) fn contains(&self, row: u32) -> bool {
        if self.bits.is_empty() {
            return self.members.binary_search(&row).is_ok();
        }
        has(&self.bits, row)
    }

    /// Sets a bit in the contexts of those of the rows that are members; both ascend.
    pub(crate) fn mark(&self, rows: &[u32], contexts: &mut [u8], bit: usize) {
        if !self.bits.is_empty() {
            for (row, context) in rows.iter().zip(contexts) {
                *context |= u8::from(has(&self.bits, *row)) << bit;
            }
            return;
        }
        for row in self.members {
            if let Ok(at) = rows.binary_search(row) {
                contexts[at] |= 1 << bit;
            }
        }
    }

    /// Sets the bits of the members among those of all rows.
    pub(crate) fn add_to(&self, bits: &mut [u64]) {
        if self.bits.is_empty() {
            self.members.iter().for_each(|row| add(bits, *row));
        } else {
            bits.iter_mut().zip(&self.bits).for_each(|(all, own)| *all |= own);
        }
    }

    /// Members of both, which have bits.
    pub(crate) fn in_common(&self, other: &Set<'_>) -> usize {
        count_common(&self.bits, &other.bits)
    }

    pub(crate) fn covers(&self, other: &Set<'_>) -> bool {
        if self.members.len() < other.members.len() {
            return false;
        }
        if self.bits.is_empty() || other.bits.is_empty() {
            return other.members.iter().all(|row| self.contains(*row));
        }
        self.bits.iter().zip(&other.bits).all(|(a, b)| b & !a == 0)
    }
}

/// The bits of these rows, of so many.
pub(crate) fn bits_of<'a>(rows: impl IntoIterator<Item = &'a u32>, universe: usize) -> Vec<u64> {
    let mut bits = vec![0u64; universe.div_ceil(64)];
    rows.into_iter().for_each(|row| add(&mut bits, *row));
    bits
}

fn add(bits: &mut [u64], row: u32) {
    bits[row as usize / 64] |= 1 << (row % 64);
}

pub(crate) fn has(bits: &[u64], row: u32) -> bool {
    bits[row as usize / 64] >> (row % 64) & 1 == 1
}

/// A bit for each row of the base.
pub(crate) fn all_bits(rows: usize) -> Vec<u64> {
    let mut bits = vec![u64::MAX; rows.div_ceil(64)];
    if let Some(last) = bits.last_mut().filter(|_| !rows.is_multiple_of(64)) {
        *last = (1 << (rows % 64)) - 1;
    }
    bits
}

/// The bits of the rows that follow each of these.
pub(crate) fn one_row_later(bits: &[u64], rows: usize) -> Vec<u64> {
    let mut carried = 0;
    let mut later: Vec<u64> = Vec::with_capacity(bits.len());
    for word in bits {
        later.push(word << 1 | carried);
        carried = word >> 63;
    }
    if let Some(last) = later.last_mut().filter(|_| !rows.is_multiple_of(64)) {
        *last &= (1 << (rows % 64)) - 1;
    }
    later
}

/// Bits that are set in both.
pub(crate) fn count_common(a: &[u64], b: &[u64]) -> usize {
    a.iter().zip(b).map(|(a, b)| (a & b).count_ones() as usize).sum()
}

/// Bits that are set in both of the first two, and in all three.
pub(crate) fn count_inside(a: &[u64], b: &[u64], c: &[u64]) -> (usize, usize) {
    let ones = |word: u64| word.count_ones() as usize;
    let all = a.iter().zip(b).zip(c);
    all.fold((0, 0), |(two, three), ((a, b), c)| (two + ones(a & b), three + ones(a & b & c)))
}
