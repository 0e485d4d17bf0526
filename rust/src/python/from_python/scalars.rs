//! Lists, tuples and scalars as bytes: the plain form of FORMAT.md section 1.1, straight from the objects.

use crate::format::MAX_DEPTH;
use crate::format::datetime;
use crate::format::value::{Payload, Tag, tag, text_cell, write_plain};
use crate::format::writer::Writer;
use crate::python::convert_error::{Outcome, Step, Trouble};
use crate::python::ffi::object::{Dict, Obj, Pair, Sequence, Str, View, Walk, Zone};
use crate::python::from_python::cache::Memory;
use crate::python::from_python::deferred::{Foreign, Inner};

/// Writes count and items. What must be resolved later is left out, and listed by its place in the bytes.
pub fn write(
    walk: &Walk<'_>,
    items: Sequence<'_>,
    w: &mut Writer,
    memory: &Memory,
    depth: usize,
) -> Outcome<Vec<Inner>> {
    let mut writing = Writing { walk, w, memory, holes: Vec::new(), text: Vec::new() };
    writing.items(items, depth)?;
    Ok(writing.holes)
}

/// Writes a value in plain form, dicts included.
pub fn write_value(
    walk: &Walk<'_>,
    value: Obj<'_>,
    w: &mut Writer,
    memory: &Memory,
    depth: usize,
) -> Outcome<Vec<Inner>> {
    let mut writing = Writing { walk, w, memory, holes: Vec::new(), text: Vec::new() };
    writing.value(value, depth)?;
    Ok(writing.holes)
}

struct Writing<'a, 'py> {
    walk: &'a Walk<'py>,
    w: &'a mut Writer,
    memory: &'a Memory,
    holes: Vec<Inner>,
    text: Vec<u8>,
}

impl Writing<'_, '_> {
    /// `depth` counts this sequence.
    fn items(&mut self, items: Sequence<'_>, depth: usize) -> Outcome<()> {
        if depth > MAX_DEPTH {
            return Err(Trouble::too_deep());
        }
        let items = items.items();
        self.w.size(items.len());
        for (i, item) in items.enumerate() {
            let first = self.holes.len();
            self.value(item, depth).map_err(|trouble| trouble.below(Step::Index(i)))?;
            self.holes[first..].iter_mut().for_each(|hole| hole.trail.push(Step::Index(i)));
        }
        Ok(())
    }

    fn dict(&mut self, dict: Dict<'_>, depth: usize) -> Outcome<()> {
        if depth > MAX_DEPTH {
            return Err(Trouble::too_deep());
        }
        self.w.size(dict.len());
        for Pair { key, value } in dict.items() {
            let Some(text) = Str::of(key, self.walk.types) else {
                return Err(key.refused_key("keys", self.walk));
            };
            let key = text.text(&mut self.text)?.to_vec();
            self.w.text(&key);
            let first = self.holes.len();
            self.value(value, depth).map_err(|trouble| trouble.below_key(&key))?;
            for hole in &mut self.holes[first..] {
                hole.trail.push(Step::Key(key.clone()));
            }
        }
        Ok(())
    }

    /// `depth` counts what is around the value.
    fn value(&mut self, value: Obj<'_>, depth: usize) -> Outcome<()> {
        let view = value.view(self.walk.types);
        match view {
            View::Str(text) => {
                let (tag, payload) = text_cell(text.text(&mut self.text)?);
                write_plain(self.w, tag, payload);
            }
            View::Dict(dict) if dict.len() == 0 => self.w.u8(tag::EMPTY),
            View::Dict(dict) => {
                self.w.u8(tag::DICT);
                self.dict(dict, depth + 1)?;
            }
            View::List(items) => {
                self.w.u8(tag::LIST);
                self.items(items, depth + 1)?;
            }
            View::Tuple(items) => {
                self.w.u8(tag::TUPLE);
                self.items(items, depth + 1)?;
            }
            view => {
                let mut blob = Writer::default();
                match scalar(&view, &mut blob, self.memory) {
                    Some((tag, Some(word))) => write_plain(self.w, tag, Payload::Word(word)),
                    Some((tag, None)) => write_plain(self.w, tag, Payload::Blob(&blob.bytes)),
                    None => self.holes.push(Inner {
                        at: self.w.bytes.len(),
                        depth,
                        trail: Vec::new(),
                        foreign: Foreign::of(self.walk, value, &view, self.memory),
                    }),
                }
            }
        }
        Ok(())
    }
}

/// Tag and word of a value that is no string, sequence or dict; without a word it has a blob, written to `w`. None if
/// it must be resolved after the walk.
pub fn scalar(view: &View<'_>, w: &mut Writer, memory: &Memory) -> Option<(Tag, Option<u64>)> {
    Some(match view {
        View::None => (tag::NONE, Some(0)),
        View::False => (tag::FALSE, Some(0)),
        View::True => (tag::TRUE, Some(0)),
        View::Int(value) => (tag::INT, Some(*value as u64)),
        View::Float(value) => (tag::FLOAT, Some(value.to_bits())),
        View::Date(date) => (tag::DATE, Some(date.word())),
        View::DateTime(date, clock, 0, Zone::None) => {
            (tag::DATETIME, Some(datetime::datetime_word(*date, *clock)))
        }
        View::DateTime(date, clock, 0, Zone::Utc) => {
            (tag::DATETIME_UTC, Some(datetime::datetime_word(*date, *clock)))
        }
        View::DateTime(date, clock, fold, zone) => {
            stamp(w, datetime::datetime_word(*date, *clock), *fold, zone, memory)?;
            (tag::DATETIME_ZONED, None)
        }
        View::Time(clock, fold, zone) => {
            stamp(w, datetime::time_microseconds(*clock), *fold, zone, memory)?;
            (tag::TIME, None)
        }
        View::TimeDelta(delta) => {
            delta.write(w);
            (tag::TIMEDELTA, None)
        }
        View::Bytes(bytes) => {
            w.raw(bytes);
            (tag::BYTES, None)
        }
        _ => return None,
    })
}

fn stamp(w: &mut Writer, microseconds: u64, fold: u8, zone: &Zone<'_>, memory: &Memory) -> Option<()> {
    match zone {
        Zone::None => datetime::write_stamp(w, microseconds, fold, datetime::Zone::None),
        Zone::Utc => datetime::write_stamp(w, microseconds, fold, datetime::Zone::Utc),
        Zone::Other(zone) => stamp_in(w, microseconds, fold, memory.zone(*zone)?),
    }
    Some(())
}

fn stamp_in(w: &mut Writer, microseconds: u64, fold: u8, zone: &[u8]) {
    w.u64(microseconds);
    w.u8(fold);
    w.raw(zone);
}

/// As `scalar`, for a datetime or time whose zone is converted.
pub fn in_converted_zone(view: &View<'_>, w: &mut Writer, memory: &Memory) -> Option<(Tag, Option<u64>)> {
    match view {
        View::DateTime(date, clock, fold, Zone::Other(zone)) => {
            let (word, zone) = (datetime::datetime_word(*date, *clock), memory.converted_zone(*zone)?);
            if *fold == 0 && datetime::is_utc(zone) {
                return Some((tag::DATETIME_UTC, Some(word)));
            }
            stamp_in(w, word, *fold, zone);
            Some((tag::DATETIME_ZONED, None))
        }
        View::Time(clock, fold, Zone::Other(zone)) => {
            stamp_in(w, datetime::time_microseconds(*clock), *fold, memory.converted_zone(*zone)?);
            Some((tag::TIME, None))
        }
        _ => None,
    }
}
