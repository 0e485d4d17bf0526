//! One leaf: its cell, or what is left to be resolved.

use crate::format::MAX_DEPTH;
use crate::format::value::{Payload, Tag, is_blob, tag, text_cell, write_inline};
use crate::python::convert_error::ConvertResult;
use crate::python::ffi::object::{Dict, Obj, ObjectView, Sequence, Str, Walk};
use crate::python::ffi::types::Types;
use crate::python::from_python::capture::Capture;
use crate::python::from_python::deferred::DeferredValue;
use crate::python::from_python::scalars;
use crate::state::change_set::ChangeSet;
use crate::state::table::{Cell, Table};

/// What a leaf is found to be.
pub(crate) enum Found<'w> {
    Cell(Cell),
    /// A dict that is not empty.
    Dict(Dict<'w>),
    Deferred(DeferredValue),
}

/// A cell that the one at hand may be.
#[derive(Clone, Copy)]
pub(super) enum Hint {
    None,
    /// The base's: then it changes nothing, and nothing is held for it.
    Old(Cell),
    /// That of a record before.
    Like(Cell),
}

impl Capture<'_> {
    /// A cell that the change set owns.
    pub(crate) fn intern(&mut self, tag: Tag, payload: Payload<'_>) -> Cell {
        intern(self.table, &mut self.changes, tag, payload, Hint::None)
    }

    pub(super) fn leaf<'w>(
        &mut self,
        walk: &Walk<'_>,
        object: Obj<'w>,
        hint: Hint,
        depth: usize,
    ) -> ConvertResult<Found<'w>> {
        let cell = fast_leaf(object, walk.types);
        match cell.or_else(|| self.fast_sequence(walk.types, object, hint, depth)) {
            Some(cell) => Ok(Found::Cell(cell)),
            None => self.slow_leaf(walk, object, hint, depth),
        }
    }

    /// A leaf that is neither a `fast_leaf` nor a `fast_sequence`.
    pub(super) fn slow_leaf<'w>(
        &mut self,
        walk: &Walk<'_>,
        object: Obj<'w>,
        hint: Hint,
        depth: usize,
    ) -> ConvertResult<Found<'w>> {
        if let Some(items) = Sequence::of(object, walk.types) {
            return self.sequence(walk, items, hint, depth);
        }
        match object.view(walk.types) {
            ObjectView::Str(text) => {
                let (tag, payload) = text_cell(text.text(&mut self.text)?);
                Ok(Found::Cell(intern(self.table, &mut self.changes, tag, payload, hint)))
            }
            ObjectView::Dict(dict) if dict.len() == 0 => Ok(Found::Cell(Cell { tag: tag::EMPTY, word: 0 })),
            ObjectView::Dict(dict) => Ok(Found::Dict(dict)),
            view => self.slow_path(walk, object, &view, hint),
        }
    }

    /// A list or tuple.
    fn sequence<'w>(
        &mut self,
        walk: &Walk<'_>,
        items: Sequence<'_>,
        hint: Hint,
        depth: usize,
    ) -> ConvertResult<Found<'w>> {
        self.writer.bytes.clear();
        let open = scalars::write(walk, items, &mut self.writer, self.cache, depth + 1)?;
        if open.is_empty() {
            let payload = Payload::Bytes(&self.writer.bytes);
            Ok(Found::Cell(intern(self.table, &mut self.changes, items.tag(), payload, hint)))
        } else {
            let bytes = std::mem::take(&mut self.writer.bytes);
            Ok(Found::Deferred(DeferredValue::Sequence { tag: items.tag(), bytes, items: open }))
        }
    }

    /// As `sequence`, for most of them: their items need no more than a look. None if one of them needs more.
    pub(super) fn fast_sequence(
        &mut self,
        types: &Types,
        object: Obj<'_>,
        hint: Hint,
        depth: usize,
    ) -> Option<Cell> {
        let items = Sequence::of(object, types).filter(|_| depth < MAX_DEPTH)?;
        let w = &mut self.writer;
        w.bytes.clear();
        w.size(items.len());
        for item in items.items() {
            match fast_leaf(item, types)? {
                Cell { tag: tag::INT, word } => {
                    w.u8(tag::INT);
                    w.svarint(word as i64);
                }
                Cell { tag, word } => write_inline(w, tag, Payload::Fixed64(word)),
            }
        }
        let payload = Payload::Bytes(&self.writer.bytes);
        Some(intern(self.table, &mut self.changes, items.tag(), payload, hint))
    }

    fn slow_path<'w>(
        &mut self,
        walk: &Walk<'_>,
        object: Obj<'w>,
        view: &ObjectView<'_>,
        hint: Hint,
    ) -> ConvertResult<Found<'w>> {
        self.writer.bytes.clear();
        let mut scalar = scalars::scalar(view, &mut self.writer, self.cache);
        if scalar.is_none() {
            scalar = scalars::in_converted_zone(view, &mut self.writer, self.cache);
            if scalar.is_some() {
                self.mark_inexact();
            }
        }
        if let Some((tag, word)) = scalar {
            let payload = match word {
                Some(word) => Payload::Fixed64(word),
                None => Payload::Bytes(&self.writer.bytes),
            };
            return Ok(Found::Cell(intern(self.table, &mut self.changes, tag, payload, hint)));
        }
        if let Some((tag, payload)) = self.cache.known_enum(object) {
            let cell = intern(self.table, &mut self.changes, tag, payload, hint);
            self.mark_inexact();
            return Ok(Found::Cell(cell));
        }
        let value = DeferredValue::of(walk, object, view, self.cache);
        Ok(Found::Deferred(value))
    }
}

/// Leaves whose cell needs nothing but the object.
#[inline(always)]
pub(super) fn fast_leaf(object: Obj<'_>, types: &Types) -> Option<Cell> {
    if let Some(value) = object.float(types) {
        return Some(Cell { tag: tag::FLOAT, word: value.to_bits() });
    }
    if let Some(value) = object.small_int(types) {
        return Some(Cell { tag: tag::INT, word: value as u64 });
    }
    if let Some(text) = Str::of(object, types) {
        return match text_cell(text.ascii()?) {
            (tag, Payload::Fixed64(word)) => Some(Cell { tag, word }),
            _ => None,
        };
    }
    let tag = match object.view(types) {
        ObjectView::None => tag::NONE,
        ObjectView::False => tag::FALSE,
        ObjectView::True => tag::TRUE,
        ObjectView::Int(value) => return Some(Cell { tag: tag::INT, word: value as u64 }),
        _ => return None,
    };
    Some(Cell { tag, word: 0 })
}

#[inline]
pub(super) fn intern(
    table: &mut Table,
    changes: &mut ChangeSet,
    tag: Tag,
    payload: Payload<'_>,
    hint: Hint,
) -> Cell {
    if let (Hint::Old(near) | Hint::Like(near), Payload::Bytes(bytes)) = (hint, payload)
        && near.tag == tag
        && is_blob(tag)
        && table.pool.get(near.word) == bytes
    {
        if let Hint::Like(_) = hint {
            table.pool.retain(near.word);
            changes.retain(near);
        }
        return near;
    }
    let cell = table.acquire(tag, payload);
    changes.retain(cell);
    cell
}
