//! The tags of cells and the forms of their payloads: FORMAT.md section 1.1.

pub type Tag = u8;

pub mod tag {
    use super::Tag;

    pub const NONE: Tag = 0;
    pub const FALSE: Tag = 1;
    pub const TRUE: Tag = 2;
    pub const EMPTY: Tag = 3;
    pub const INT: Tag = 4;
    pub const FLOAT: Tag = 5;
    pub const DIGITS: Tag = 6;
    pub const SHORT: Tag = 7;
    pub const TEXT: Tag = 8;
    pub const BYTES: Tag = 9;
    pub const BIG_INT: Tag = 10;
    pub const LIST: Tag = 11;
    pub const TUPLE: Tag = 12;
    pub const DATE: Tag = 13;
    pub const DATETIME: Tag = 14;
    pub const DATETIME_UTC: Tag = 15;
    pub const DATETIME_ZONED: Tag = 16;
    pub const TIME: Tag = 17;
    pub const TIMEDELTA: Tag = 18;
    pub const DECIMAL: Tag = 19;
    pub const DECIMAL_OTHER: Tag = 20;
    pub const UUID: Tag = 21;
    pub const DICT: Tag = 22;
    /// Tags of cells are below this; DICT stands only inside lists and tuples.
    pub const CELL_TAGS: Tag = 22;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadForm {
    Empty,
    Fixed64,
    Bytes,
}

/// What kind of payload a tag has.
#[inline(always)]
pub fn payload_form(tag: Tag) -> PayloadForm {
    use tag::{DATE, DATETIME, DATETIME_UTC, DECIMAL, DIGITS, FLOAT, INT, SHORT};
    match tag {
        0..=3 => PayloadForm::Empty,
        INT | FLOAT | DIGITS | SHORT | DATE | DATETIME | DATETIME_UTC | DECIMAL => PayloadForm::Fixed64,
        _ => PayloadForm::Bytes,
    }
}

#[inline(always)]
pub fn is_blob(tag: Tag) -> bool {
    payload_form(tag) == PayloadForm::Bytes
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Also for tags without a payload, then 0.
    Fixed64(u64),
    Bytes(&'a [u8]),
}
