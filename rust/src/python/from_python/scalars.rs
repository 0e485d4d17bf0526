//! Lists, tuples and scalars as bytes: the inline encoding of FORMAT.md section 1.1, straight from the objects.

use crate::format::MAX_DEPTH;
use crate::format::datetime;
use crate::format::value::{Payload, Tag, tag, text_cell, write_inline};
use crate::format::writer::Writer;
use crate::python::convert_error::{ConvertError, ConvertResult, PathStep};
use crate::python::ffi::object::{Dict, Obj, ObjectView, Pair, Sequence, Str, Walk, ZoneView};
use crate::python::ffi::types::{ClassKind, Types};
use crate::python::from_python::cache::ConversionCache;
use crate::python::from_python::deferred::{DeferredItem, DeferredValue};

/// Writes count and items. What must be resolved later is left out, and listed by its place in the bytes.
pub(crate) fn write(
    walk: &Walk<'_>,
    items: Sequence<'_>,
    w: &mut Writer,
    cache: &ConversionCache,
    depth: usize,
) -> ConvertResult<Vec<DeferredItem>> {
    let mut writing = Writing { walk, w, cache, items: Vec::new(), text: Vec::new() };
    writing.items(items, depth)?;
    Ok(writing.items)
}

/// Writes a value in inline encoding, dicts included.
pub(crate) fn write_value(
    walk: &Walk<'_>,
    value: Obj<'_>,
    w: &mut Writer,
    cache: &ConversionCache,
    depth: usize,
) -> ConvertResult<Vec<DeferredItem>> {
    let mut writing = Writing { walk, w, cache, items: Vec::new(), text: Vec::new() };
    writing.value(value, depth)?;
    Ok(writing.items)
}

struct Writing<'a, 'py> {
    walk: &'a Walk<'py>,
    w: &'a mut Writer,
    cache: &'a ConversionCache,
    items: Vec<DeferredItem>,
    text: Vec<u8>,
}

impl Writing<'_, '_> {
    /// `depth` counts this sequence.
    fn items(&mut self, items: Sequence<'_>, depth: usize) -> ConvertResult<()> {
        if depth > MAX_DEPTH {
            return Err(ConvertError::too_deep());
        }
        let items = items.items();
        self.w.size(items.len());
        for (i, item) in items.enumerate() {
            let first = self.items.len();
            self.value(item, depth).map_err(|error| error.below(PathStep::Index(i)))?;
            self.items[first..].iter_mut().for_each(|item| item.trail.push(PathStep::Index(i)));
        }
        Ok(())
    }

    fn dict(&mut self, dict: Dict<'_>, depth: usize) -> ConvertResult<()> {
        if depth > MAX_DEPTH {
            return Err(ConvertError::too_deep());
        }
        self.w.size(dict.len());
        for Pair { key, value } in dict.items() {
            let Some(text) = Str::of(key, self.walk.types) else {
                return Err(key.refused_key("keys", self.walk));
            };
            let key = text.text(&mut self.text)?.to_vec();
            self.w.text(&key);
            let first = self.items.len();
            self.value(value, depth).map_err(|error| error.below_key(&key))?;
            for item in &mut self.items[first..] {
                item.trail.push(PathStep::Key(key.clone()));
            }
        }
        Ok(())
    }

    /// `depth` counts what is around the value.
    fn value(&mut self, value: Obj<'_>, depth: usize) -> ConvertResult<()> {
        let view = value.view(self.walk.types);
        match view {
            ObjectView::Str(text) => {
                let (tag, payload) = text_cell(text.text(&mut self.text)?);
                write_inline(self.w, tag, payload);
            }
            ObjectView::Dict(dict) if dict.len() == 0 => self.w.u8(tag::EMPTY),
            ObjectView::Dict(dict) => {
                self.w.u8(tag::DICT);
                self.dict(dict, depth + 1)?;
            }
            ObjectView::List(items) => {
                self.w.u8(tag::LIST);
                self.items(items, depth + 1)?;
            }
            ObjectView::Tuple(items) => {
                self.w.u8(tag::TUPLE);
                self.items(items, depth + 1)?;
            }
            view => {
                let mut blob = Writer::default();
                match scalar(&view, &mut blob, self.cache) {
                    Some((tag, Some(word))) => write_inline(self.w, tag, Payload::Fixed64(word)),
                    Some((tag, None)) => write_inline(self.w, tag, Payload::Bytes(&blob.bytes)),
                    None => self.items.push(DeferredItem {
                        at: self.w.bytes.len(),
                        depth,
                        trail: Vec::new(),
                        value: DeferredValue::of(self.walk, value, &view, self.cache),
                    }),
                }
            }
        }
        Ok(())
    }
}

/// Tag and word of a value that is no string, sequence or dict; without a word it has a blob, written to `w`. None if
/// it must be resolved after the walk.
pub(crate) fn scalar(
    view: &ObjectView<'_>,
    w: &mut Writer,
    cache: &ConversionCache,
) -> Option<(Tag, Option<u64>)> {
    Some(match view {
        ObjectView::None => (tag::NONE, Some(0)),
        ObjectView::False => (tag::FALSE, Some(0)),
        ObjectView::True => (tag::TRUE, Some(0)),
        ObjectView::Int(value) => (tag::INT, Some(*value as u64)),
        ObjectView::Float(value) => (tag::FLOAT, Some(value.to_bits())),
        ObjectView::Date(date) => (tag::DATE, Some(date.word())),
        ObjectView::DateTime(date, clock, 0, ZoneView::None) => {
            (tag::DATETIME, Some(datetime::datetime_word(*date, *clock)))
        }
        ObjectView::DateTime(date, clock, 0, ZoneView::Utc) => {
            (tag::DATETIME_UTC, Some(datetime::datetime_word(*date, *clock)))
        }
        ObjectView::DateTime(date, clock, fold, zone) => {
            stamp(w, datetime::datetime_word(*date, *clock), *fold, zone, cache)?;
            (tag::DATETIME_ZONED, None)
        }
        ObjectView::Time(clock, fold, zone) => {
            stamp(w, datetime::time_microseconds(*clock), *fold, zone, cache)?;
            (tag::TIME, None)
        }
        ObjectView::TimeDelta(delta) => {
            delta.write(w);
            (tag::TIMEDELTA, None)
        }
        ObjectView::Bytes(bytes) => {
            w.raw(bytes);
            (tag::BYTES, None)
        }
        _ => return None,
    })
}

fn stamp(
    w: &mut Writer,
    microseconds: u64,
    fold: u8,
    zone: &ZoneView<'_>,
    cache: &ConversionCache,
) -> Option<()> {
    match zone {
        ZoneView::None => datetime::write_stamp(w, microseconds, fold, datetime::Zone::None),
        ZoneView::Utc => datetime::write_stamp(w, microseconds, fold, datetime::Zone::Utc),
        ZoneView::Other(zone) => stamp_in(w, microseconds, fold, cache.zone(*zone)?),
    }
    Some(())
}

fn stamp_in(w: &mut Writer, microseconds: u64, fold: u8, zone: &[u8]) {
    w.u64(microseconds);
    w.u8(fold);
    w.raw(zone);
}

/// As `scalar`, for a datetime or time whose zone is converted.
pub(crate) fn in_converted_zone(
    view: &ObjectView<'_>,
    w: &mut Writer,
    cache: &ConversionCache,
) -> Option<(Tag, Option<u64>)> {
    match view {
        ObjectView::DateTime(date, clock, fold, ZoneView::Other(zone)) => {
            let (word, zone) = (datetime::datetime_word(*date, *clock), cache.converted_zone(*zone)?);
            if *fold == 0 && datetime::is_utc(zone) {
                return Some((tag::DATETIME_UTC, Some(word)));
            }
            stamp_in(w, word, *fold, zone);
            Some((tag::DATETIME_ZONED, None))
        }
        ObjectView::Time(clock, fold, ZoneView::Other(zone)) => {
            stamp_in(w, datetime::time_microseconds(*clock), *fold, cache.converted_zone(*zone)?);
            Some((tag::TIME, None))
        }
        _ => None,
    }
}

/// It is one leaf, whose value pydantic hands out as it is.
pub(crate) fn is_scalar(object: Obj<'_>, types: &Types, cache: &ConversionCache) -> bool {
    match object.view(types) {
        ObjectView::Dict(_) | ObjectView::List(_) | ObjectView::Tuple(_) => false,
        ObjectView::NeedsPython => {
            let class = object.type_address();
            class == types.decimal
                || class == types.uuid
                || cache.classes.known(class) == Some(ClassKind::Enum)
        }
        _ => true,
    }
}
