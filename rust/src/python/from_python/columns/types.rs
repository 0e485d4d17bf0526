//! What the values of a column are: Arrow's types by their format strings, and numpy's by what `_columns.py` says.

use crate::format::MAX_DEPTH;
use crate::format::value::is_text;
use crate::python::convert_error::{ConvertError, ConvertResult};

/// A field of an Arrow schema, as it came.
pub(crate) struct FieldIn {
    pub(crate) name: Vec<u8>,
    pub(crate) format: String,
    pub(crate) children: Vec<FieldIn>,
    pub(crate) dictionary: Option<Box<FieldIn>>,
}

/// Microseconds of a unit of time: `multiply / divide`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) multiply: i64,
    pub(crate) divide: i64,
}

pub(crate) const DAY: i64 = 86_400_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Moment {
    Date,
    DateTime(Zone),
    Time,
    Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Zone {
    None,
    Utc,
    /// Seconds east of Greenwich, not 0.
    Offset(i32),
    /// Of the time zone data, which Python has.
    Key(String),
}

/// How values of no fixed length are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    Offsets32,
    Offsets64,
    /// 16 bytes each: a short one in place, a long one by buffer and offset.
    Views,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListSpan {
    Offsets32,
    Offsets64,
    /// Offsets, and lengths in a buffer of their own.
    Views32,
    Views64,
    Fixed(usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Null,
    /// `{}`: a struct without fields.
    Empty,
    /// Bits.
    Bool,
    /// Bytes, as numpy has them.
    ByteBool,
    Int {
        bytes: usize,
        signed: bool,
    },
    Float {
        bytes: usize,
    },
    Text(Span),
    Binary(Span),
    FixedBinary(usize),
    /// numpy's: so many code points of four bytes, padded with zeros.
    Utf32(usize),
    /// numpy's: so many bytes, padded with zeros.
    PaddedBytes(usize),
    Moment {
        bytes: usize,
        unit: Unit,
        moment: Moment,
        /// The lowest number is numpy's "not a time".
        has_nat: bool,
    },
    Decimal {
        bytes: usize,
        scale: i32,
    },
    List(ListSpan, Box<Type>),
    Struct(Vec<(Vec<u8>, Type)>),
    Dictionary {
        bytes: usize,
        signed: bool,
        values: Box<Type>,
    },
}

impl Type {
    /// Bytes of a value, where all have the same and stand in one buffer.
    pub(crate) fn width(&self) -> Option<usize> {
        match self {
            Type::ByteBool => Some(1),
            Type::Int { bytes, .. }
            | Type::Float { bytes }
            | Type::Moment { bytes, .. }
            | Type::Decimal { bytes, .. }
            | Type::Dictionary { bytes, .. }
            | Type::FixedBinary(bytes)
            | Type::PaddedBytes(bytes) => Some(*bytes),
            Type::Utf32(units) => Some(4 * units),
            _ => None,
        }
    }

    /// `depth` counts the keys and lists around the values.
    pub(crate) fn of(field: &FieldIn, depth: usize) -> ConvertResult<Type> {
        let refused =
            || ConvertError::unsupported(format!("Arrow's type {:?} is not supported", field.format));
        if let Some(values) = &field.dictionary {
            let values = Box::new(Type::of(values, depth)?);
            return match Type::scalar(&field.format) {
                Some(Type::Int { bytes, signed }) if !matches!(*values, Type::Struct(_)) => {
                    Ok(Type::Dictionary { bytes, signed, values })
                }
                _ => Err(refused()),
            };
        }
        if let Some(scalar) = Type::scalar(&field.format) {
            return Ok(scalar);
        }
        let list = match &*field.format {
            "+s" => return Type::of_struct(field, depth),
            "+l" => ListSpan::Offsets32,
            "+L" => ListSpan::Offsets64,
            "+vl" => ListSpan::Views32,
            "+vL" => ListSpan::Views64,
            format => match format.strip_prefix("+w:").and_then(|length| length.parse().ok()) {
                Some(length) => ListSpan::Fixed(length),
                None => return Err(refused()),
            },
        };
        if depth >= MAX_DEPTH {
            return Err(ConvertError::too_deep());
        }
        let [item] = &*field.children else { return Err(malformed()) };
        let item = Type::of(item, depth + 1)?;
        if item.has_zone_key() {
            return Err(ConvertError::unsupported("timestamps in lists have no time zone, UTC or an offset"));
        }
        Ok(Type::List(list, Box::new(item)))
    }

    fn of_struct(field: &FieldIn, depth: usize) -> ConvertResult<Type> {
        if field.children.is_empty() {
            return Ok(Type::Empty);
        }
        if depth >= MAX_DEPTH {
            return Err(ConvertError::too_deep());
        }
        let mut fields: Vec<(Vec<u8>, Type)> = Vec::with_capacity(field.children.len());
        for child in &field.children {
            if fields.iter().any(|(name, _)| *name == child.name) {
                return Err(ConvertError::unsupported("duplicate column").below_key(&child.name));
            }
            if !is_text(&child.name) {
                return Err(malformed());
            }
            let inner = Type::of(child, depth + 1).map_err(|error| error.below_key(&child.name))?;
            fields.push((child.name.clone(), inner));
        }
        Ok(Type::Struct(fields))
    }

    fn has_zone_key(&self) -> bool {
        match self {
            Type::Moment { moment: Moment::DateTime(Zone::Key(_)), .. } => true,
            Type::List(_, item) | Type::Dictionary { values: item, .. } => item.has_zone_key(),
            Type::Struct(fields) => fields.iter().any(|(_, field)| field.has_zone_key()),
            _ => false,
        }
    }

    fn scalar(format: &str) -> Option<Type> {
        let int = |bytes, signed| Some(Type::Int { bytes, signed });
        match format {
            "n" => Some(Type::Null),
            "b" => Some(Type::Bool),
            "c" => int(1, true),
            "C" => int(1, false),
            "s" => int(2, true),
            "S" => int(2, false),
            "i" => int(4, true),
            "I" => int(4, false),
            "l" => int(8, true),
            "L" => int(8, false),
            "e" => Some(Type::Float { bytes: 2 }),
            "f" => Some(Type::Float { bytes: 4 }),
            "g" => Some(Type::Float { bytes: 8 }),
            "u" => Some(Type::Text(Span::Offsets32)),
            "U" => Some(Type::Text(Span::Offsets64)),
            "vu" => Some(Type::Text(Span::Views)),
            "z" => Some(Type::Binary(Span::Offsets32)),
            "Z" => Some(Type::Binary(Span::Offsets64)),
            "vz" => Some(Type::Binary(Span::Views)),
            _ => Type::with_argument(format),
        }
    }

    fn with_argument(format: &str) -> Option<Type> {
        if let Some(width) = format.strip_prefix("w:") {
            return width.parse().ok().map(Type::FixedBinary);
        }
        if let Some(decimal) = format.strip_prefix("d:") {
            let mut numbers = decimal.split(',');
            numbers.next()?;
            let scale = numbers.next()?.parse().ok()?;
            let bits: usize = numbers.next().map_or(Some(128), |bits| bits.parse().ok())?;
            return matches!(bits, 32 | 64 | 128 | 256).then_some(Type::Decimal { bytes: bits / 8, scale });
        }
        let of = |bytes, unit, moment| Some(Type::Moment { bytes, unit, moment, has_nat: false });
        let unit = |letter| {
            Some(match letter {
                "s" => Unit { multiply: 1_000_000, divide: 1 },
                "m" => Unit { multiply: 1000, divide: 1 },
                "u" => Unit { multiply: 1, divide: 1 },
                "n" => Unit { multiply: 1, divide: 1000 },
                _ => return None,
            })
        };
        match format {
            "tdD" => return of(4, Unit { multiply: DAY, divide: 1 }, Moment::Date),
            "tdm" => return of(8, unit("m")?, Moment::Date),
            "tts" | "ttm" => return of(4, unit(&format[2..])?, Moment::Time),
            "ttu" | "ttn" => return of(8, unit(&format[2..])?, Moment::Time),
            _ => {}
        }
        if let Some(letter) = format.strip_prefix("tD") {
            return of(8, unit(letter)?, Moment::Duration);
        }
        let (letter, zone) = format.strip_prefix("ts")?.split_once(':')?;
        of(8, unit(letter)?, Moment::DateTime(Zone::of(zone)))
    }
}

impl Zone {
    fn of(text: &str) -> Zone {
        match text {
            "" => Zone::None,
            "UTC" => Zone::Utc,
            _ => match offset(text) {
                Some(0) => Zone::Utc,
                Some(seconds) => Zone::Offset(seconds),
                None => Zone::Key(text.into()),
            },
        }
    }
}

/// `+02:00`
fn offset(text: &str) -> Option<i32> {
    let (sign, rest) = text.split_at_checked(1)?;
    let sign = match sign {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let number = |text: &str, limit: i32| -> Option<i32> {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| digits && *number < limit)
    };
    Some(sign * (number(hours, 24)? * 3600 + number(minutes, 60)? * 60))
}

pub(crate) fn malformed() -> ConvertError {
    ConvertError::unsupported("the Arrow data are malformed")
}
