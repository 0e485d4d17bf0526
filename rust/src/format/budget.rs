//! What a reader may hold, charged before it is made: FORMAT.md section 10.

use crate::error::{Error, ErrorKind, Result, grouped};
use crate::format::tag::{Tag, tag};

pub(crate) const DEFAULT_MAX_BYTES: u64 = 1 << 30;

pub(crate) const CELL: u64 = 128;
/// A row of the base or of the target.
pub(crate) const ROW: u64 = 384;
/// A dict in a record, the record itself included.
pub(crate) const DICT: u64 = 256;
/// A key; so many times its length comes on top, as for a symbol.
pub(crate) const KEY: u64 = 320;
pub(crate) const NAME_COPIES: u64 = 3;
/// A path id of PATHS.
pub(crate) const NODE: u64 = 320;
/// A shape, a path in it, a dict in it.
pub(crate) const SHAPE: u64 = 512;
pub(crate) const SHAPE_PATH: u64 = 64;
pub(crate) const SHAPE_DICT: u64 = 32;
/// A row set, a member of it.
pub(crate) const SET: u64 = 64;
pub(crate) const MEMBER: u64 = 16;
/// A row that another row set tells something of, a member of such a set.
pub(crate) const ROW_STEP: u64 = 8;
/// A base row that a part of the prefix of TEXT looks at.
pub(crate) const PREFIX_ROW: u64 = 16;
/// A column of COLUMNS, a cell of SPARSE.
pub(crate) const COLUMN: u64 = 512;
/// An entry of a dictionary: of words, of blobs.
pub(crate) const ENTRY: u64 = 16;
pub(crate) const BLOB_ENTRY: u64 = 64;
/// An item of a list, tuple or dict inside a cell.
pub(crate) const ITEM: u64 = 128;
/// A delta of a bundle, a row of its base.
pub(crate) const BUNDLED: u64 = 512;
pub(crate) const BUNDLED_ROW: u64 = 16;
const BLOB: u64 = 64;

/// The bytes of a value's object beyond the charge of every cell.
pub(crate) fn weight_of(tag: Tag) -> u64 {
    match tag {
        tag::DECIMAL => 64,
        tag::DATETIME_ZONED | tag::TIME => 128,
        _ => 0,
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Budget {
    /// What the caller allows.
    limit: u64,
    /// What was left of it at the beginning.
    start: u64,
    left: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Budget { limit, start: limit, left: limit }
    }

    /// The bytes charged so far.
    pub(crate) fn spent(&self) -> u64 {
        self.start - self.left
    }

    /// The remaining bytes, as the limit of a part that is freed before the next one.
    pub(crate) fn rest(&self) -> Budget {
        Budget { start: self.left, ..*self }
    }

    /// Refuses a frame that declares more than the limit.
    pub(crate) fn check_required(&self, bytes: u64) -> Result<()> {
        if bytes <= self.start {
            return Ok(());
        }
        let bytes = bytes.saturating_add(self.limit - self.start);
        let [bytes, limit] = [bytes, self.limit].map(|bytes| grouped(bytes as usize));
        Err(Error::new(
            ErrorKind::Limit,
            format!(
                "the frame needs {bytes} bytes, the limit is {limit} bytes; pass larger limits if the frame is trusted"
            ),
        ))
    }

    /// Charges `count` items of `each` bytes.
    pub(crate) fn charge(&mut self, count: u64, each: u64, what: &str) -> Result<()> {
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

    /// Charges keys or symbols, besides the charge of each.
    pub(crate) fn charge_names(&mut self, names: &[&[u8]]) -> Result<()> {
        let bytes: usize = names.iter().map(|name| name.len()).sum();
        self.charge(bytes as u64, NAME_COPIES, "bytes of names")
    }

    /// Charges a blob cell; `weight` is that of its items.
    pub(crate) fn charge_blob(&mut self, length: usize, weight: u64) -> Result<()> {
        self.charge(length as u64, 2, "bytes in cells")?;
        self.charge(1, BLOB.saturating_add(weight), "bytes of lists in a cell")
    }
}
