//! Writes the shared forms of FORMAT.md section 2.

use crate::format::entropy::Step;

#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
    /// The steps for the frame's entropy stream.
    pub(crate) steps: Vec<Step>,
}

#[inline(always)]
pub(crate) fn zigzag(value: u64) -> u64 {
    let signed = value as i64;
    ((signed << 1) ^ (signed >> 63)) as u64
}

/// Bytes of the largest word, 0 to 8.
pub(crate) fn width_of(all: u64) -> usize {
    (64 - all.leading_zeros() as usize).div_ceil(8)
}

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// The shared high bytes come first, because lists of neighbouring numbers then compress better.
    pub(crate) fn u64_highest_first(&mut self, value: u64) {
        self.u64(value.swap_bytes());
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub(crate) fn size(&mut self, value: usize) {
        self.uvarint(value as u64);
    }

    pub(crate) fn svarint(&mut self, value: i64) {
        self.uvarint(zigzag(value as u64));
    }

    /// `uvarint` length and bytes.
    pub(crate) fn text(&mut self, bytes: &[u8]) {
        self.size(bytes.len());
        self.raw(bytes);
    }

    pub(crate) fn strings<'a>(&mut self, all: impl Iterator<Item = &'a [u8]> + Clone) {
        for bytes in all.clone() {
            self.size(bytes.len());
        }
        for bytes in all {
            self.raw(bytes);
        }
    }

    /// Ascending distinct numbers, without their count.
    pub(crate) fn gaps(&mut self, numbers: impl Iterator<Item = u32>) {
        let mut next = 0u32;
        for number in numbers {
            self.uvarint(u64::from(number - next));
            next = number + 1;
        }
    }

    /// Count and gaps.
    pub(crate) fn counted_gaps(&mut self, numbers: &[u32]) {
        self.size(numbers.len());
        self.gaps(numbers.iter().copied());
    }

    /// A writer for a part of this one, which goes on with the steps: so they are not copied.
    pub(crate) fn open_part(&mut self) -> Writer {
        Writer { bytes: Vec::new(), steps: std::mem::take(&mut self.steps) }
    }

    /// The bytes of another writer, after their length.
    pub(crate) fn part(&mut self, part: Writer) {
        self.text(&part.bytes);
        if self.steps.is_empty() {
            self.steps = part.steps;
        } else {
            self.steps.extend_from_slice(&part.steps);
        }
    }

    /// A section: id, length, contents. Writes nothing for empty contents.
    pub(crate) fn section(&mut self, id: u8, contents: Writer) {
        if !contents.bytes.is_empty() {
            self.u8(id);
            self.part(contents);
        }
    }
}
