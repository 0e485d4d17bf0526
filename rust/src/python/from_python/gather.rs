//! Values by shape: the keys of a block of records are compared by address, and their values listed side by side.
//!
//! A record is reached level by level: its dict's head, its table of keys and values, the tables of the dicts among
//! them, the values. All records of a block go through a level before the next, and each level fetches what the next
//! reads, so that the walk waits for many of them at a time.

use std::sync::Arc;

use pyo3::prelude::*;

use crate::python::ffi::object::{Dict, Entries, Entry, Obj, Pair, Str, Walk};
use crate::state::schema::{Child, KeyId, Schema, Shape, ShapeId};

/// Records that are gathered together.
pub(crate) const BLOCK: usize = 16;

/// The key objects met last in one dict of a shape.
struct DictKeys {
    /// Where the dict is met among the values; of the record itself not used.
    slot: usize,
    /// Where its own values begin.
    first: usize,
    keys: Box<[KeyId]>,
    /// Of objects that are held, or that were met in the walk which goes on.
    addresses: Box<[usize]>,
    held: Box<[Option<Py<PyAny>>]>,
}

/// The key objects of a shape, dict by dict. The values of a record are listed in the same order.
pub(crate) struct KeyList {
    shape: Arc<Shape>,
    dicts: Box<[DictKeys]>,
    /// By position in the shape: the slot of the leaf among the values.
    slots: Box<[u32]>,
    /// Values of a record.
    values: usize,
}

impl KeyList {
    fn new(shape: &Arc<Shape>) -> KeyList {
        let mut values = 0;
        let dicts = (0..shape.dicts() as u32).map(|number| {
            let keys: Box<[KeyId]> = shape.dict(number).iter().map(|entry| entry.key).collect();
            let first = values;
            values += keys.len();
            DictKeys {
                slot: 0,
                first,
                addresses: vec![0; keys.len()].into(),
                held: keys.iter().map(|_| None).collect(),
                keys,
            }
        });
        let mut list =
            KeyList { shape: Arc::clone(shape), dicts: dicts.collect(), slots: [0].into(), values: 1 };
        if shape.dicts() > 0 {
            let mut slots = Vec::with_capacity(shape.len());
            list.add_slots(shape, 0, &mut slots);
            (list.slots, list.values) = (slots.into(), values);
        }
        list
    }

    fn add_slots(&mut self, shape: &Shape, number: u32, slots: &mut Vec<u32>) {
        for (slot, entry) in (self.dicts[number as usize].first..).zip(shape.dict(number)) {
            match entry.child {
                Child::Leaf => slots.push(slot as u32),
                Child::Dict(below) => {
                    self.dicts[below as usize].slot = slot;
                    self.add_slots(shape, below, slots);
                }
            }
        }
    }
}

/// What an Encoder keeps of keys between walks, by shape.
#[derive(Default)]
pub(crate) struct KeyLists {
    lists: Vec<Option<Box<KeyList>>>,
    /// Objects that others took the place of: let go after the walk.
    replaced: Vec<Py<PyAny>>,
}

impl KeyLists {
    /// After a walk.
    pub(crate) fn release_replaced(&mut self) {
        self.replaced.clear();
    }

    /// A key object met last of each key, with the key's number.
    pub(crate) fn objects(&self) -> impl Iterator<Item = (KeyId, &Py<PyAny>)> {
        let dicts = self.lists.iter().flatten().flat_map(|list| &list.dicts);
        let slots = dicts.flat_map(|dict| dict.keys.iter().zip(&dict.held));
        slots.filter_map(|(key, held)| held.as_ref().map(|held| (*key, held)))
    }

    pub(crate) fn forget_beyond(&mut self, shapes: usize) {
        self.lists.truncate(shapes);
        self.lists.shrink_to(shapes);
    }
}

/// A list in use, and the objects met since the walk began.
struct ListInUse<'w> {
    list: Box<KeyList>,
    met: Vec<Option<Obj<'w>>>,
}

/// One record of a block.
pub(crate) struct BlockRow<'w> {
    pub(crate) record: Obj<'w>,
    /// What it is expected to be.
    pub(crate) shape: Option<ShapeId>,
}

/// The gathering of one walk.
pub(crate) struct Gather<'w> {
    walk: &'w Walk<'w>,
    lists: Vec<Option<ListInUse<'w>>>,
    values: Vec<Obj<'w>>,
    pairs: Vec<Pair<'w>>,
    /// By record of the block: its shape and where its values begin; None if it has not that shape.
    starts: Vec<Option<(ShapeId, usize)>>,
}

impl<'w> Gather<'w> {
    pub(crate) fn new(walk: &'w Walk<'w>) -> Self {
        Gather { walk, lists: Vec::new(), values: Vec::new(), pairs: Vec::new(), starts: Vec::new() }
    }

    /// Gives the lists back, with the objects met last: they are alive as long as the walk.
    pub(crate) fn finish(self, cache: &mut KeyLists) {
        for (at, in_use) in self.lists.into_iter().enumerate() {
            let Some(ListInUse { mut list, met }) = in_use else { continue };
            let slots = list.dicts.iter_mut().flat_map(|dict| dict.held.iter_mut());
            for (held, met) in slots.zip(met) {
                if let Some(met) = met {
                    cache.replaced.extend(held.replace(met.to_owned(self.walk)));
                }
            }
            cache.lists[at] = Some(list);
        }
    }

    /// Reads the records of a block as far as they have the shapes that are expected.
    pub(crate) fn block(&mut self, rows: &[BlockRow<'w>], schema: &Schema, cache: &mut KeyLists) {
        let mut values = 0;
        self.starts.clear();
        for row in rows {
            let expected = row.shape.map(|shape| (row.record, shape));
            self.starts.push(expected.map(|(_, shape)| (shape, values)));
            if let Some((record, shape)) = expected {
                values += self.open(shape, schema, cache);
                record.prefetch_table(self.walk.types);
            }
        }
        // written before they are read: any object will do
        let Some(any) = rows.first().map(|row| row.record) else { return };
        self.values.resize(values.max(self.values.len()), any);
        for below in [false, true] {
            for (at, row) in rows.iter().enumerate() {
                let Some((shape, values)) = self.starts[at] else { continue };
                if !self.record(shape, values, row.record, below, schema) {
                    self.starts[at] = None;
                }
            }
        }
    }

    /// The values of a record of the block, and by position in its shape the slot of each leaf; None if it has another
    /// shape.
    #[inline]
    pub(crate) fn values(&self, at: usize) -> Option<(&[Obj<'w>], &[u32])> {
        let (shape, start) = self.starts[at]?;
        let ListInUse { list, .. } = self.lists[shape as usize].as_ref()?;
        Some((&self.values[start..start + list.values], &list.slots))
    }

    /// Takes the list of a shape into use. Returns how many values a record has.
    fn open(&mut self, shape: ShapeId, schema: &Schema, cache: &mut KeyLists) -> usize {
        let at = shape as usize;
        if self.lists.len() <= at {
            self.lists.resize_with(at + 1, || None);
        }
        let in_use = self.lists[at].get_or_insert_with(|| {
            if cache.lists.len() <= at {
                cache.lists.resize_with(at + 1, || None);
            }
            let shape = &schema.shapes[at];
            let list = cache.lists[at].take().filter(|list| Arc::ptr_eq(&list.shape, shape));
            let list = list.unwrap_or_else(|| Box::new(KeyList::new(shape)));
            let keys = list.dicts.iter().map(|dict| dict.keys.len()).sum();
            ListInUse { list, met: vec![None; keys] }
        });
        in_use.list.values
    }

    /// Lists the values of the record's own dict, or of those below it. A record that is one leaf is its value.
    fn record(
        &mut self,
        shape: ShapeId,
        start: usize,
        record: Obj<'w>,
        below: bool,
        schema: &Schema,
    ) -> bool {
        let Gather { walk, lists, values, pairs, .. } = self;
        let Some(ListInUse { list, met }) = &mut lists[shape as usize] else { return false };
        let values = &mut values[start..start + list.values];
        let Some((own, others)) = list.dicts.split_first_mut() else {
            values[0] = record;
            return true;
        };
        let end = own.keys.len();
        if !below {
            let same = own.list(walk, schema, record, pairs, &mut values[..end], met);
            if same {
                let met_dicts = others.iter().filter(|dict| dict.slot < end);
                met_dicts.for_each(|dict| values[dict.slot].prefetch_table(walk.types));
            }
            return same;
        }
        // a dict stands before those in it
        for keys in others {
            let (object, part) = (values[keys.slot], keys.first..keys.first + keys.keys.len());
            if !keys.list(walk, schema, object, pairs, &mut values[part.clone()], &mut met[part]) {
                return false;
            }
        }
        true
    }
}

impl DictKeys {
    /// Lists the values of a dict. False if it is none, or has other keys.
    #[inline(always)]
    fn list<'w>(
        &mut self,
        walk: &Walk<'w>,
        schema: &Schema,
        object: Obj<'w>,
        pairs: &mut Vec<Pair<'w>>,
        values: &mut [Obj<'w>],
        met: &mut [Option<Obj<'w>>],
    ) -> bool {
        let Some(dict) = Dict::of(object, walk.types).filter(|dict| dict.len() == self.keys.len()) else {
            return false;
        };
        match dict.entries(walk.types) {
            Some(Entries::Plain(entries)) => self.list_entries(walk, schema, entries, values, met),
            Some(Entries::Hashed(entries)) => self.list_entries(walk, schema, entries, values, met),
            None => {
                pairs.clear();
                pairs.extend(dict.items());
                self.list_entries(walk, schema, pairs, values, met)
            }
        }
    }

    #[inline(always)]
    fn list_entries<'w>(
        &mut self,
        walk: &Walk<'w>,
        schema: &Schema,
        entries: &[impl Entry<'w>],
        values: &mut [Obj<'w>],
        met: &mut [Option<Obj<'w>>],
    ) -> bool {
        let addresses = &mut *self.addresses;
        let n = entries.len();
        if addresses.len() != n || values.len() != n {
            return false;
        }
        for i in 0..n {
            let Pair { key, value } = entries[i].pair();
            if key.address() != addresses[i] {
                if !is_key(walk, schema, key, self.keys[i]) {
                    return false;
                }
                addresses[i] = key.address();
                met[i] = Some(key);
            }
            values[i] = value;
            value.prefetch();
        }
        true
    }
}

#[inline(never)]
fn is_key(walk: &Walk<'_>, schema: &Schema, key: Obj<'_>, id: KeyId) -> bool {
    let expected = &*schema.keys[id as usize];
    match Str::of(key, walk.types) {
        None => false,
        Some(text) => match text.ascii() {
            Some(text) => *text == *expected,
            None => text.text(&mut Vec::new()).is_ok_and(|text| *text == *expected),
        },
    }
}
