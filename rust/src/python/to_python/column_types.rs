//! Which Arrow type holds all values of a column: docs/columns.md.

use std::collections::HashMap;

use crate::error::Result;
use crate::format::budget::Budget;
use crate::format::datetime::{self, Delta, Zone};
use crate::format::decimal;
use crate::format::reader::Reader;
use crate::format::value::{Payload, Tag, big_int, read_item, short_text, tag};

/// Digits of a decimal128.
pub(crate) const DECIMAL_DIGITS: u32 = 38;
/// A column, or a field of the dicts in one: its type, its name and its array, beside the rows.
pub(crate) const FIELD: u64 = 512;
/// Ints up to here are doubles exactly.
const EXACT: u64 = 1 << 53;

/// A value of a column, of a cell or of a list in one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value<'a> {
    pub(crate) tag: Tag,
    pub(crate) payload: Payload<'a>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ColumnType {
    /// No value but None.
    Null,
    Bool,
    Int,
    Float,
    Decimal {
        scale: u32,
    },
    Text,
    Bytes,
    Uuid,
    Date,
    Time,
    Duration,
    /// Microseconds: of a clock without a zone, or since 1970 in UTC.
    Timestamp {
        utc: bool,
    },
    List(Box<ColumnType>),
    Struct(Vec<(Vec<u8>, ColumnType)>),
    /// The JSON text of each value: no other type holds them all.
    Json,
}

/// What a column was seen to hold.
#[derive(Default)]
pub(crate) struct Seen {
    /// A bit a tag, and the marks.
    tags: u32,
    whole_digits: u32,
    scale: u32,
    items: Option<Box<Seen>>,
    /// Of dicts in lists, by key, in the order in which they were met.
    fields: Vec<(Vec<u8>, Seen)>,
    field_index: HashMap<Vec<u8>, usize>,
}

const fn bit(tag: Tag) -> u32 {
    1 << tag
}

/// Marks, above the tags: a value for which there is no type.
const ODD: u32 = 1 << 24;
/// An int that is no double.
const LARGE: u32 = 1 << 25;
/// A datetime without a zone, and one with a zone.
const NAIVE: u32 = 1 << 26;
const AWARE: u32 = 1 << 27;
/// A zone that only Python knows.
const ZONE_KEY: u32 = 1 << 28;
const MARKS: u32 = ODD | LARGE | NAIVE | AWARE | ZONE_KEY;

const BOOLS: u32 = bit(tag::FALSE) | bit(tag::TRUE);
const TEXTS: u32 = bit(tag::DIGITS) | bit(tag::SHORT) | bit(tag::TEXT);
const INTS: u32 = bit(tag::INT) | bit(tag::BIG_INT);
const DECIMALS: u32 = INTS | bit(tag::DECIMAL) | bit(tag::DECIMAL_OTHER);
const MOMENTS: u32 = bit(tag::DATETIME) | bit(tag::DATETIME_UTC) | bit(tag::DATETIME_ZONED);
const LISTS: u32 = bit(tag::LIST) | bit(tag::TUPLE);

impl Seen {
    fn mark(&mut self, mark: u32, is_so: bool) {
        self.tags |= if is_so { mark } else { 0 };
    }

    fn has(&self, mark: u32) -> bool {
        self.tags & mark != 0
    }

    #[inline]
    pub(crate) fn add(&mut self, value: Value<'_>, budget: &mut Budget) -> Result<()> {
        let Value { tag, payload } = value;
        self.tags |= bit(tag);
        match (tag, payload) {
            (tag::INT, Payload::Fixed64(word)) => self.mark(LARGE, (word as i64).unsigned_abs() > EXACT),
            (tag::SHORT, Payload::Fixed64(word)) => {
                let (bytes, n) = short_text(word);
                self.mark(ODD, std::str::from_utf8(&bytes[..n]).is_err());
            }
            (tag::TEXT, Payload::Bytes(text)) => self.mark(ODD, std::str::from_utf8(text).is_err()),
            (tag::DECIMAL | tag::DECIMAL_OTHER | tag::BIG_INT, _) => self.add_digits(number(value)),
            (tag::DATETIME, _) => self.mark(NAIVE, true),
            (tag::DATETIME_UTC, _) => self.mark(AWARE, true),
            (tag::DATETIME_ZONED, Payload::Bytes(stamp)) => match datetime::read_stamp(stamp)?.2 {
                Zone::None => self.mark(NAIVE, true),
                Zone::Key(_) => self.mark(AWARE | ZONE_KEY, true),
                _ => self.mark(AWARE, true),
            },
            (tag::TIME, Payload::Bytes(stamp)) => {
                self.mark(ODD, !matches!(datetime::read_stamp(stamp)?.2, Zone::None));
            }
            (tag::TIMEDELTA, Payload::Bytes(delta)) => {
                self.mark(ODD, microseconds(Delta::read(&mut Reader::new(delta))?).is_none());
            }
            (tag::LIST | tag::TUPLE, Payload::Bytes(list)) => {
                let seen = self.items.get_or_insert_default();
                for_each_item(list, |item| seen.add(item, budget))?;
            }
            (tag::DICT, Payload::Bytes(dict)) => for_each_field(dict, |key, value| {
                let at = match self.field_index.get(key) {
                    Some(at) => *at,
                    None => {
                        budget.charge(1, FIELD, "fields of dicts")?;
                        budget.charge_names(&[key])?;
                        self.field_index.insert(key.to_vec(), self.fields.len());
                        self.fields.push((key.to_vec(), Seen::default()));
                        self.fields.len() - 1
                    }
                };
                self.fields[at].1.add(value, budget)
            })?,
            _ => {}
        }
        Ok(())
    }

    fn add_digits(&mut self, number: Option<(i128, i64)>) {
        let Some((coefficient, exponent)) = number.filter(|(_, e)| e.unsigned_abs() <= 38) else {
            self.mark(ODD, true);
            return;
        };
        let digits = coefficient.unsigned_abs().checked_ilog10().map_or(0, |n| i64::from(n) + 1);
        let whole = if digits == 0 { 0 } else { (digits + exponent).max(0) };
        self.whole_digits = self.whole_digits.max(whole as u32);
        self.scale = self.scale.max((-exponent).max(0) as u32);
    }

    /// True if there are datetimes in zones that only Python knows.
    pub(crate) fn has_zone_key(&self) -> bool {
        self.has(ZONE_KEY)
    }

    /// True if all values are None or dicts without keys.
    pub(crate) fn is_no_value(&self) -> bool {
        self.tags & !(bit(tag::NONE) | bit(tag::EMPTY) | MARKS) == 0
    }

    /// The type of a column: of its cells, no others are below its path.
    pub(crate) fn column_type(&self) -> ColumnType {
        self.nearest().unwrap_or(ColumnType::Json)
    }

    fn nearest(&self) -> Option<ColumnType> {
        let tags = self.tags & !bit(tag::NONE) & !MARKS;
        if self.has(ODD) {
            return None;
        }
        Some(match tags {
            0 => ColumnType::Null,
            _ if tags & !BOOLS == 0 => ColumnType::Bool,
            _ if tags == bit(tag::INT) => ColumnType::Int,
            _ if tags == bit(tag::FLOAT) => ColumnType::Float,
            _ if tags == bit(tag::INT) | bit(tag::FLOAT) && !self.has(LARGE) => ColumnType::Float,
            _ if tags & !DECIMALS == 0 => return self.decimal(),
            _ if tags & !TEXTS == 0 => ColumnType::Text,
            _ if tags == bit(tag::BYTES) => ColumnType::Bytes,
            _ if tags == bit(tag::UUID) => ColumnType::Uuid,
            _ if tags == bit(tag::DATE) => ColumnType::Date,
            _ if tags == bit(tag::TIME) => ColumnType::Time,
            _ if tags == bit(tag::TIMEDELTA) => ColumnType::Duration,
            _ if tags & !MOMENTS == 0 && self.has(NAIVE) != self.has(AWARE) => {
                ColumnType::Timestamp { utc: self.has(AWARE) }
            }
            _ if tags & !LISTS == 0 => {
                let items = self.items.as_ref().map_or(Some(ColumnType::Null), |items| items.inner())?;
                ColumnType::List(Box::new(items))
            }
            _ if tags == bit(tag::DICT) => {
                let fields = self.fields.iter().map(|(key, seen)| {
                    let name = std::str::from_utf8(key).ok().filter(|name| !name.contains('\0'));
                    name.and_then(|_| Some((key.clone(), seen.inner()?)))
                });
                ColumnType::Struct(fields.collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }

    /// The type of what is in a list: only whole columns become JSON, and only theirs are zones looked up.
    fn inner(&self) -> Option<ColumnType> {
        self.nearest().filter(|_| !self.has(ZONE_KEY))
    }

    fn decimal(&self) -> Option<ColumnType> {
        // 19 digits hold every int of 64 bits
        let whole =
            if self.tags & bit(tag::INT) == 0 { self.whole_digits } else { self.whole_digits.max(19) };
        (whole + self.scale <= DECIMAL_DIGITS).then_some(ColumnType::Decimal { scale: self.scale })
    }
}

/// The coefficient and the exponent of a whole number or Decimal; None if it is none, or longer than 128 bits.
pub(crate) fn number(value: Value<'_>) -> Option<(i128, i64)> {
    match (value.tag, value.payload) {
        (tag::INT, Payload::Fixed64(word)) => Some((i128::from(word as i64), 0)),
        (tag::BIG_INT, Payload::Bytes(bytes)) => Some((big_int(bytes)?, 0)),
        (tag::DECIMAL | tag::DECIMAL_OTHER, payload) => decimal::number(payload),
        _ => None,
    }
}

/// None beyond 64 bits.
pub(crate) fn microseconds(delta: Delta) -> Option<i64> {
    let seconds = i64::from(delta.days) * 86_400 + i64::from(delta.seconds);
    seconds.checked_mul(1_000_000)?.checked_add(i64::from(delta.microseconds))
}

pub(crate) fn for_each_item<'a>(list: &'a [u8], mut take: impl FnMut(Value<'a>) -> Result<()>) -> Result<()> {
    let mut r = Reader::new(list);
    for _ in 0..r.count("items")? {
        let (tag, payload) = read_item(&mut r)?;
        take(Value { tag, payload })?;
    }
    Ok(())
}

pub(crate) fn for_each_field<'a>(
    dict: &'a [u8],
    mut take: impl FnMut(&'a [u8], Value<'a>) -> Result<()>,
) -> Result<()> {
    let mut r = Reader::new(dict);
    for _ in 0..r.count("items")? {
        let key = r.text()?;
        let (tag, payload) = read_item(&mut r)?;
        take(key, Value { tag, payload })?;
    }
    Ok(())
}
