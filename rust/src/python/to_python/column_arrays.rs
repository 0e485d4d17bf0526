//! Columns as arrays with Arrow's layout of buffers.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::Arc;

use crate::error::Result;
use crate::format::budget::Budget;
use crate::format::datetime::{self, Date, Delta, Zone};
use crate::format::reader::Reader;
use crate::format::text::{decimal_digits, short_text};
use crate::format::value::{Payload, tag};
use crate::python::to_python::column_types::{
    ColumnType, Value, for_each_field, for_each_item, microseconds, number,
};

/// Days and microseconds from 0001-01-01 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_162;
const TO_1970: i64 = DAYS_TO_1970 * 86_400_000_000;
/// What a row of any column is charged with, beside its bytes: rows times columns take time as well.
const ROW: u64 = 8;

/// Bytes that consumers read; aligned for what is in them.
pub(crate) enum Buffer {
    Bytes(Vec<u8>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F64(Vec<f64>),
    I128(Vec<i128>),
}

impl Buffer {
    pub(crate) fn address(&self) -> *const u8 {
        match self {
            Buffer::Bytes(bytes) => bytes.as_ptr(),
            Buffer::I32(numbers) => numbers.as_ptr().cast(),
            Buffer::I64(numbers) => numbers.as_ptr().cast(),
            Buffer::F64(numbers) => numbers.as_ptr().cast(),
            Buffer::I128(numbers) => numbers.as_ptr().cast(),
        }
    }
}

/// Which values are no nulls.
pub(crate) enum Validity {
    /// The type has no bitmap.
    NoBitmap,
    All,
    Bitmap(Buffer),
}

/// An array: its nulls as a bitmap, if there are some, and the buffers of its type.
pub(crate) struct Array {
    pub(crate) length: usize,
    pub(crate) nulls: usize,
    pub(crate) validity: Validity,
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) children: Vec<Arc<Array>>,
    pub(crate) dictionary: Option<Arc<Array>>,
}

/// The name and the type of an array.
pub(crate) struct Field {
    pub(crate) name: CString,
    pub(crate) format: CString,
    pub(crate) children: Vec<Arc<Field>>,
    pub(crate) dictionary: Option<Arc<Field>>,
    /// The values are JSON texts.
    pub(crate) json: bool,
}

/// A column on its way out.
pub(crate) type Column = (Field, Array);

impl Field {
    pub(crate) fn new(name: &[u8], format: &str, children: Vec<Arc<Field>>) -> Field {
        // names with a NUL are refused or became JSON before
        let [name, format] = [name, format.as_bytes()].map(|text| CString::new(text).unwrap_or_default());
        Field { name, format, children, dictionary: None, json: false }
    }
}

impl Array {
    /// An array of this length, with what is valid.
    pub(crate) fn new(valid: impl ExactSizeIterator<Item = bool>, buffers: Vec<Buffer>) -> Array {
        let length = valid.len();
        let mut bitmap = vec![0u8; length.div_ceil(8)];
        let mut nulls = 0;
        for (at, valid) in valid.enumerate() {
            bitmap[at / 8] |= u8::from(valid) << (at % 8);
            nulls += usize::from(!valid);
        }
        Array {
            length,
            nulls,
            validity: if nulls > 0 { Validity::Bitmap(Buffer::Bytes(bitmap)) } else { Validity::All },
            buffers,
            children: Vec::new(),
            dictionary: None,
        }
    }
}

/// A column of these values. A row without a value is null in Arrow, and so is Python's None.
pub(crate) fn column(
    name: &[u8],
    kind: &ColumnType,
    values: &[Option<Value<'_>>],
    budget: &mut Budget,
) -> Result<Column> {
    if *kind == ColumnType::Text {
        return text_or_dictionary(name, values, budget);
    }
    let mut array = array(kind, values, budget)?;
    let children = std::mem::take(&mut array.children);
    let child = |(name, kind): (&[u8], &ColumnType)| Arc::new(field(name, kind));
    let fields = match kind {
        ColumnType::List(items) => vec![child((b"item", items))],
        ColumnType::Struct(fields) => fields.iter().map(|(name, kind)| child((name, kind))).collect(),
        _ => Vec::new(),
    };
    array.children = children;
    Ok((Field::new(name, &format(kind), fields), array))
}

/// The field of what is in a list.
fn field(name: &[u8], kind: &ColumnType) -> Field {
    let children = match kind {
        ColumnType::List(items) => vec![Arc::new(field(b"item", items))],
        ColumnType::Struct(fields) => fields.iter().map(|(name, kind)| Arc::new(field(name, kind))).collect(),
        _ => Vec::new(),
    };
    Field::new(name, &format(kind), children)
}

/// How Arrow's C interface names a type.
fn format(kind: &ColumnType) -> String {
    match kind {
        ColumnType::Null => "n",
        ColumnType::Bool => "b",
        ColumnType::Int => "l",
        ColumnType::Float => "g",
        ColumnType::Decimal { scale } => return format!("d:38,{scale}"),
        ColumnType::Text | ColumnType::Uuid | ColumnType::Json => "U",
        ColumnType::Bytes => "Z",
        ColumnType::Date => "tdD",
        ColumnType::Time => "ttu",
        ColumnType::Duration => "tDu",
        ColumnType::Timestamp { utc: false } => "tsu:",
        ColumnType::Timestamp { utc: true } => "tsu:UTC",
        ColumnType::List(_) => "+L",
        ColumnType::Struct(_) => "+s",
    }
    .into()
}

fn is_valid(value: Option<&Value<'_>>) -> bool {
    value.is_some_and(|value| value.tag != tag::NONE)
}

fn array(kind: &ColumnType, values: &[Option<Value<'_>>], budget: &mut Budget) -> Result<Array> {
    let width = match kind {
        ColumnType::Null | ColumnType::Bool | ColumnType::Struct(_) => 0,
        ColumnType::Decimal { .. } => 16,
        _ => 8,
    };
    budget.charge(values.len() as u64, ROW + width, "rows of a column")?;
    let valid = || values.iter().map(|value| is_valid(value.as_ref()));
    let integers = |of: fn(Value<'_>) -> i64| {
        let numbers = values.iter().map(|value| value.map_or(0, of)).collect();
        Ok(Array::new(valid(), vec![Buffer::I64(numbers)]))
    };
    match kind {
        ColumnType::Null => {
            Ok(Array { nulls: values.len(), validity: Validity::NoBitmap, ..Array::new(valid(), Vec::new()) })
        }
        ColumnType::Bool => {
            let mut bits = vec![0u8; values.len().div_ceil(8)];
            for (at, value) in values.iter().enumerate() {
                let is_true = value.is_some_and(|value| value.tag == tag::TRUE);
                bits[at / 8] |= u8::from(is_true) << (at % 8);
            }
            Ok(Array::new(valid(), vec![Buffer::Bytes(bits)]))
        }
        ColumnType::Float => {
            let numbers = values.iter().map(|value| value.map_or(0.0, float)).collect();
            Ok(Array::new(valid(), vec![Buffer::F64(numbers)]))
        }
        ColumnType::Int | ColumnType::Time | ColumnType::Duration | ColumnType::Timestamp { .. } => {
            integers(integer)
        }
        ColumnType::Date => {
            let days = values.iter().map(|value| value.map_or(0, integer) as i32).collect();
            Ok(Array::new(valid(), vec![Buffer::I32(days)]))
        }
        ColumnType::Decimal { scale } => {
            let numbers = values.iter().map(|value| value.map_or(0, |value| scaled(value, *scale))).collect();
            Ok(Array::new(valid(), vec![Buffer::I128(numbers)]))
        }
        ColumnType::Text | ColumnType::Bytes | ColumnType::Uuid | ColumnType::Json => {
            bytes_array(values.iter().copied(), budget)
        }
        ColumnType::List(items) => list_array(items, values, budget),
        ColumnType::Struct(fields) => struct_array(fields, values, budget),
    }
}

fn word(value: Value<'_>) -> u64 {
    match value.payload {
        Payload::Fixed64(word) => word,
        Payload::Bytes(_) => 0,
    }
}

pub(crate) fn float(value: Value<'_>) -> f64 {
    match value.tag {
        tag::INT => word(value) as i64 as f64,
        tag::FLOAT => f64::from_bits(word(value)),
        _ => 0.0,
    }
}

/// An int, days since 1970, or microseconds: since 1970, of a day, of a span.
pub(crate) fn integer(value: Value<'_>) -> i64 {
    match (value.tag, value.payload) {
        (tag::INT, Payload::Fixed64(word)) => word as i64,
        (tag::DATE, Payload::Fixed64(word)) => Date::from_word(word).days() as i64 - DAYS_TO_1970,
        (tag::DATETIME | tag::DATETIME_UTC, Payload::Fixed64(word)) => (word as i64).wrapping_sub(TO_1970),
        // checked when they were read
        (tag::DATETIME_ZONED, Payload::Bytes(stamp)) => match datetime::read_stamp(stamp) {
            Ok((clock, _, Zone::Offset(offset) | Zone::Named(offset, _))) => {
                clock as i64 - TO_1970 - microseconds(offset).unwrap_or(0)
            }
            Ok((clock, ..)) => clock as i64 - TO_1970,
            Err(_) => 0,
        },
        (tag::TIME, Payload::Bytes(stamp)) => {
            datetime::read_stamp(stamp).map_or(0, |(clock, ..)| clock as i64)
        }
        (tag::TIMEDELTA, Payload::Bytes(delta)) => {
            Delta::read(&mut Reader::new(delta)).ok().and_then(microseconds).unwrap_or(0)
        }
        _ => 0,
    }
}

fn scaled(value: Value<'_>, scale: u32) -> i128 {
    let Some((coefficient, exponent)) = number(value) else { return 0 };
    // the type was chosen so that it fits
    let shift = (exponent + i64::from(scale)).clamp(0, 38) as u32;
    coefficient.wrapping_mul(10i128.pow(shift))
}

/// A text, a UUID or bytes, as they stand in an array.
fn with_bytes<T>(value: Value<'_>, then: impl FnOnce(&[u8]) -> T) -> T {
    match (value.tag, value.payload) {
        (tag::DIGITS, Payload::Fixed64(word)) => then(decimal_digits(word, &mut [0; 20])),
        (tag::SHORT, Payload::Fixed64(word)) => {
            let (bytes, n) = short_text(word);
            then(&bytes[..n])
        }
        (tag::UUID, Payload::Bytes(bytes)) => then(uuid_text(bytes).as_bytes()),
        (_, Payload::Bytes(bytes)) => then(bytes),
        (_, Payload::Fixed64(_)) => then(b""),
    }
}

fn uuid_text(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn bytes_length(value: Option<Value<'_>>) -> usize {
    value.map_or(0, |value| with_bytes(value, <[u8]>::len))
}

fn bytes_array<'a>(
    values: impl ExactSizeIterator<Item = Option<Value<'a>>> + Clone,
    budget: &mut Budget,
) -> Result<Array> {
    let total: usize = values.clone().map(bytes_length).sum();
    budget.charge(total as u64, 1, "bytes of texts")?;
    let mut bytes = Vec::with_capacity(total);
    let mut ends = Vec::with_capacity(values.len() + 1);
    ends.push(0);
    for value in values.clone() {
        if let Some(value) = value {
            with_bytes(value, |part| bytes.extend_from_slice(part));
        }
        ends.push(bytes.len() as i64);
    }
    let valid = values.map(|value| is_valid(value.as_ref()));
    Ok(Array::new(valid, vec![Buffer::I64(ends), Buffer::Bytes(bytes)]))
}

/// The text column of a table: a dictionary where that takes less than half the bytes.
fn text_or_dictionary(name: &[u8], values: &[Option<Value<'_>>], budget: &mut Budget) -> Result<Column> {
    budget.charge(values.len() as u64, ROW + 8, "rows of a column")?;
    let mut numbers: HashMap<(u8, u64), i32> = HashMap::new();
    let mut distinct: Vec<Option<Value<'_>>> = Vec::new();
    let (mut whole, mut pooled) = (0, 0);
    let indices: Vec<i32> = values
        .iter()
        .map(|value| {
            let Some(text) = value.filter(|value| value.tag != tag::NONE) else { return 0 };
            // a text of a table is stored once: its address tells it
            let key = match text.payload {
                Payload::Fixed64(word) => (text.tag, word),
                Payload::Bytes(bytes) => (text.tag, bytes.as_ptr() as u64),
            };
            let length = bytes_length(*value) + size_of::<i64>();
            whole += length;
            *numbers.entry(key).or_insert_with(|| {
                pooled += length;
                distinct.push(Some(text));
                distinct.len() as i32 - 1
            })
        })
        .collect();
    if 2 * (pooled + size_of::<i32>() * values.len()) >= whole {
        let array = bytes_array(values.iter().copied(), budget)?;
        return Ok((Field::new(name, "U", Vec::new()), array));
    }
    let texts = bytes_array(distinct.iter().copied(), budget)?;
    let field = Field {
        dictionary: Some(Arc::new(Field::new(b"", "U", Vec::new()))),
        ..Field::new(name, "i", Vec::new())
    };
    let indices = Array::new(values.iter().map(|value| is_valid(value.as_ref())), vec![Buffer::I32(indices)]);
    Ok((field, Array { dictionary: Some(Arc::new(texts)), ..indices }))
}

fn list_array(items: &ColumnType, values: &[Option<Value<'_>>], budget: &mut Budget) -> Result<Array> {
    let mut inner: Vec<Option<Value<'_>>> = Vec::new();
    let mut ends = Vec::with_capacity(values.len() + 1);
    ends.push(0);
    for value in values {
        if let Some(Value { payload: Payload::Bytes(list), .. }) = value {
            let n = Reader::new(list).count("items")?;
            budget.charge(n as u64, size_of::<Option<Value<'_>>>() as u64, "items of lists")?;
            for_each_item(list, |item| {
                inner.push(Some(item));
                Ok(())
            })?;
        }
        ends.push(inner.len() as i64);
    }
    let child = array(items, &inner, budget)?;
    let list = Array::new(values.iter().map(|value| is_valid(value.as_ref())), vec![Buffer::I64(ends)]);
    Ok(Array { children: vec![Arc::new(child)], ..list })
}

fn struct_array(
    fields: &[(Vec<u8>, ColumnType)],
    values: &[Option<Value<'_>>],
    budget: &mut Budget,
) -> Result<Array> {
    let places: HashMap<&[u8], usize> = fields.iter().map(|field| &*field.0).zip(0..).collect();
    let cells = (values.len() as u64).saturating_mul(fields.len() as u64);
    budget.charge(cells, size_of::<Option<Value<'_>>>() as u64, "fields of dicts")?;
    let mut columns: Vec<Vec<Option<Value<'_>>>> = vec![vec![None; values.len()]; fields.len()];
    for (row, value) in values.iter().enumerate() {
        if let Some(Value { payload: Payload::Bytes(dict), .. }) = value {
            for_each_field(dict, |key, value| {
                if let Some(at) = places.get(key) {
                    columns[*at][row] = Some(value);
                }
                Ok(())
            })?;
        }
    }
    let children =
        fields.iter().zip(&columns).map(|((_, kind), values)| array(kind, values, budget).map(Arc::new));
    let children = children.collect::<Result<_>>()?;
    Ok(Array { children, ..Array::new(values.iter().map(|value| is_valid(value.as_ref())), Vec::new()) })
}

/// A column of texts as they are.
pub(crate) fn text_column(name: &[u8], texts: &[Option<&[u8]>], budget: &mut Budget) -> Result<Column> {
    budget.charge(texts.len() as u64, ROW + 8, "rows of a column")?;
    let values =
        texts.iter().map(|text| text.map(|text| Value { tag: tag::TEXT, payload: Payload::Bytes(text) }));
    Ok((Field::new(name, "U", Vec::new()), bytes_array(values, budget)?))
}

/// A column of dicts with these keys, in the rows that have one.
pub(crate) fn struct_column(name: &[u8], valid: &[bool], columns: Vec<Column>) -> Column {
    let (fields, arrays): (Vec<_>, Vec<_>) =
        columns.into_iter().map(|(field, array)| (Arc::new(field), Arc::new(array))).unzip();
    let array = Array::new(valid.iter().copied(), Vec::new());
    (Field::new(name, "+s", fields), Array { children: arrays, ..array })
}
