//! Reads the shared forms of FORMAT.md section 2, never past the end.

use crate::error::{Error, Result};
use crate::format::entropy::EntropyReader;

#[derive(Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where `bytes` begins in the body, for messages.
    origin: usize,
    /// The frame's entropy stream, shared by the readers of all sections; None if nothing is coded.
    pub(super) entropy: Option<&'a EntropyReader<'a>>,
}

#[inline(always)]
pub(crate) fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0, origin: 0, entropy: None }
    }

    /// The same, with the entropy stream of coded numbers.
    pub(crate) fn with_entropy(self, entropy: &'a EntropyReader<'a>) -> Self {
        Reader { entropy: Some(entropy), ..self }
    }

    pub(crate) fn offset(&self) -> usize {
        self.origin + self.at
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left() == 0
    }

    pub(crate) fn corrupt(&self, message: impl Into<String>) -> Error {
        Error::corrupt_at(self.offset(), message)
    }

    pub(crate) fn reserved(&self, what: &str, code: u8) -> Error {
        Error::version(format!("{what} {code} belongs to a newer format; upgrade snapdelta-rs"))
            .at(self.offset())
    }

    #[inline]
    pub(crate) fn raw(&mut self, n: usize) -> Result<&'a [u8]> {
        if n > self.left() {
            return Err(self.corrupt("the bytes end too early"));
        }
        let piece = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(piece)
    }

    /// All remaining bytes.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }

    /// A reader of the next `n` bytes.
    pub(crate) fn part(&mut self, n: usize) -> Result<Reader<'a>> {
        let origin = self.offset();
        let bytes = self.raw(n)?;
        Ok(Reader { bytes, at: 0, origin, entropy: self.entropy })
    }

    /// Ends a section.
    pub(crate) fn finish(&self) -> Result<()> {
        if self.is_empty() { Ok(()) } else { Err(self.corrupt("bytes are left over")) }
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8> {
        match self.bytes.get(self.at) {
            Some(&byte) => {
                self.at += 1;
                Ok(byte)
            }
            None => Err(self.corrupt("the bytes end too early")),
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        let mut buffer = [0; 4];
        buffer.copy_from_slice(self.raw(4)?);
        Ok(u32::from_le_bytes(buffer))
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        let mut buffer = [0; 8];
        buffer.copy_from_slice(self.raw(8)?);
        Ok(u64::from_le_bytes(buffer))
    }

    pub(crate) fn u64_highest_first(&mut self) -> Result<u64> {
        self.u64().map(u64::swap_bytes)
    }

    #[inline]
    pub(crate) fn uvarint(&mut self) -> Result<u64> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        let mut shift = 7;
        loop {
            let byte = self.u8()?;
            if shift == 63 && byte > 1 {
                return Err(self.corrupt("a number is longer than 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                if byte == 0 {
                    return Err(self.corrupt("a number is not in its shortest form"));
                }
                return Ok(value);
            }
            shift += 7;
        }
    }

    pub(crate) fn svarint(&mut self) -> Result<i64> {
        Ok(unzigzag(self.uvarint()?) as i64)
    }

    /// A number below or at `limit`.
    pub(crate) fn up_to(&mut self, limit: usize, what: &str) -> Result<usize> {
        let value = self.uvarint()?;
        match usize::try_from(value) {
            Ok(value) if value <= limit => Ok(value),
            _ => Err(self.corrupt(format!("{what} {value} is out of range (at most {limit})"))),
        }
    }

    /// A count of items that each take at least one remaining byte.
    pub(crate) fn count(&mut self, what: &str) -> Result<usize> {
        let value = self.uvarint()?;
        match usize::try_from(value) {
            Ok(value) if value <= self.left() => Ok(value),
            _ => Err(self.corrupt(format!("{value} {what} do not fit into the bytes left"))),
        }
    }

    pub(crate) fn text(&mut self) -> Result<&'a [u8]> {
        let n = self.count("bytes")?;
        self.raw(n)
    }

    pub(crate) fn strings(&mut self, n: usize) -> Result<Vec<&'a [u8]>> {
        if n > self.left() {
            return Err(self.corrupt("the bytes end too early"));
        }
        let mut lengths = Vec::with_capacity(n);
        for _ in 0..n {
            lengths.push(self.count("bytes")?);
        }
        lengths.into_iter().map(|length| self.raw(length)).collect()
    }

    /// Ascending distinct numbers below `limit`.
    pub(crate) fn gaps(&mut self, n: usize, limit: usize) -> Result<Vec<u32>> {
        if n > self.left() || n > limit {
            return Err(self.corrupt("more numbers than fit"));
        }
        let mut numbers = Vec::with_capacity(n);
        let mut next = 0u64;
        for _ in 0..n {
            let number = next.saturating_add(self.uvarint()?);
            if number >= limit as u64 {
                return Err(self.corrupt(format!("number {number} is out of range (below {limit})")));
            }
            numbers.push(number as u32);
            next = number + 1;
        }
        Ok(numbers)
    }

    pub(crate) fn counted_gaps(&mut self, limit: usize) -> Result<Vec<u32>> {
        let n = self.count("numbers")?;
        self.gaps(n, limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::writer::{Writer, zigzag};

    #[test]
    fn numbers_round_trip() {
        for value in [0, 1, 127, 128, 300, u64::MAX - 1, u64::MAX, 1 << 63] {
            let mut w = Writer::default();
            w.uvarint(value);
            let mut r = Reader::new(&w.bytes);
            assert_eq!(r.uvarint(), Ok(value));
            assert!(r.is_empty());
            assert_eq!(unzigzag(zigzag(value)), value);
        }
    }

    #[test]
    fn long_forms_are_corrupt() {
        assert!(Reader::new(&[0x80, 0]).uvarint().is_err());
        assert!(Reader::new(&[0xff; 10]).uvarint().is_err());
        assert!(Reader::new(&[0x80]).uvarint().is_err());
    }

    #[test]
    fn planes_round_trip() {
        for words in [vec![], vec![0, 0], vec![1, 256, 3], vec![u64::MAX, 0]] {
            let mut w = Writer::default();
            w.byte_planes(&words);
            assert_eq!(Reader::new(&w.bytes).byte_planes(words.len()), Ok(words));
        }
    }

    #[test]
    fn gaps_round_trip_and_stay_below_their_limit() {
        let mut w = Writer::default();
        w.counted_gaps(&[0, 1, 5, 9]);
        assert_eq!(Reader::new(&w.bytes).counted_gaps(10), Ok(vec![0, 1, 5, 9]));
        assert!(Reader::new(&w.bytes).counted_gaps(9).is_err());
    }
}
