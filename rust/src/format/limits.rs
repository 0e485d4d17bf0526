//! What a reader may hold, charged before it is made: FORMAT.md section 10.

use crate::error::{Error, ErrorKind, Result, grouped};

pub const DEFAULT_MAX_BYTES: u64 = 256 << 20;

pub const CELL: u64 = 128;
/// A row, and each dict in a record.
pub const DICT: u64 = 256;
/// A key, a node, a shape.
pub const NAME: u64 = 128;
/// A path in a shape, a member of a row set.
pub const MEMBER: u64 = 16;
/// An item of a list, tuple or dict inside a cell.
pub const ITEM: u64 = 128;
const BLOB: u64 = 64;

#[derive(Debug, Clone)]
pub struct Budget {
    limit: u64,
    left: u64,
}

impl Budget {
    pub fn new(limit: u64) -> Self {
        Budget { limit, left: limit }
    }

    /// Takes `count` things of `each` bytes out of the budget.
    pub fn charge(&mut self, count: u64, each: u64, what: &str) -> Result<()> {
        match count.checked_mul(each) {
            Some(bytes) if bytes <= self.left => {
                self.left -= bytes;
                Ok(())
            }
            _ => Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "{} {what} exceed the limit of {} bytes; pass larger limits if the frame is trusted",
                    grouped(count as usize),
                    grouped(self.limit as usize)
                ),
            )),
        }
    }

    /// A cell that is a blob; `weight` is that of the items in it.
    pub fn charge_blob(&mut self, length: usize, weight: u64) -> Result<()> {
        self.charge(length as u64, 2, "bytes in cells")?;
        self.charge(1, BLOB.saturating_add(weight), "bytes of lists in a cell")
    }
}
