//! The tags of cells and the forms of their payloads: FORMAT.md section 1.1.

pub(crate) type Tag = u8;

pub(crate) mod tag {
    use super::Tag;

    pub(crate) const NONE: Tag = 0;
    pub(crate) const FALSE: Tag = 1;
    pub(crate) const TRUE: Tag = 2;
    pub(crate) const EMPTY: Tag = 3;
    pub(crate) const INT: Tag = 4;
    pub(crate) const FLOAT: Tag = 5;
    pub(crate) const DIGITS: Tag = 6;
    pub(crate) const SHORT: Tag = 7;
    pub(crate) const TEXT: Tag = 8;
    pub(crate) const BYTES: Tag = 9;
    pub(crate) const BIG_INT: Tag = 10;
    pub(crate) const LIST: Tag = 11;
    pub(crate) const TUPLE: Tag = 12;
    pub(crate) const DATE: Tag = 13;
    pub(crate) const DATETIME: Tag = 14;
    pub(crate) const DATETIME_UTC: Tag = 15;
    pub(crate) const DATETIME_ZONED: Tag = 16;
    pub(crate) const TIME: Tag = 17;
    pub(crate) const TIMEDELTA: Tag = 18;
    pub(crate) const DECIMAL: Tag = 19;
    pub(crate) const DECIMAL_OTHER: Tag = 20;
    pub(crate) const UUID: Tag = 21;
    pub(crate) const DICT: Tag = 22;
    /// Tags of cells are below this; DICT occurs only inside lists and tuples.
    pub(crate) const CELL_TAGS: Tag = 22;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PayloadForm {
    Empty,
    Fixed64,
    Bytes,
}

/// The kind of payload of a tag.
#[inline(always)]
pub(crate) fn payload_form(tag: Tag) -> PayloadForm {
    use tag::{DATE, DATETIME, DATETIME_UTC, DECIMAL, DIGITS, FLOAT, INT, SHORT};
    match tag {
        0..=3 => PayloadForm::Empty,
        INT | FLOAT | DIGITS | SHORT | DATE | DATETIME | DATETIME_UTC | DECIMAL => PayloadForm::Fixed64,
        _ => PayloadForm::Bytes,
    }
}

/// Up to this tag, and so in nearly all cells, there are no blobs.
pub(crate) const LAST_WITHOUT_BLOBS: Tag = tag::SHORT;

#[inline(always)]
pub(crate) fn is_blob(tag: Tag) -> bool {
    tag > LAST_WITHOUT_BLOBS && payload_form(tag) == PayloadForm::Bytes
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payload<'a> {
    /// Also for tags without a payload, then 0.
    Fixed64(u64),
    Bytes(&'a [u8]),
}
