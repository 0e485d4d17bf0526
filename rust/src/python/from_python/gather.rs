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

/// Entries of a dict that follow one another.
enum Run {
    /// So many leaves, from this position in the shape on.
    Leaves { position: usize, n: usize },
    /// The dict of this number.
    Dict(usize),
}

/// The key objects met last in one dict of a shape.
struct DictKeys {
    keys: Box<[KeyId]>,
    /// Of objects that are held, or that were met in the walk which goes on.
    addresses: Box<[usize]>,
    held: Box<[Option<Py<PyAny>>]>,
    runs: Box<[Run]>,
}

/// The key objects of a shape, dict by dict.
pub(crate) struct KeyList {
    shape: Arc<Shape>,
    dicts: Box<[DictKeys]>,
}

impl KeyList {
    fn new(shape: &Arc<Shape>) -> KeyList {
        let mut position = 0;
        let mut dicts: Vec<Vec<Run>> = Vec::new();
        dicts.resize_with(shape.dicts(), Vec::new);
        if shape.dicts() > 0 {
            add_runs(shape, 0, &mut position, &mut dicts);
        }
        let dicts = (0..).zip(dicts).map(|(number, runs)| {
            let keys: Box<[KeyId]> = shape.dict(number).iter().map(|entry| entry.key).collect();
            DictKeys {
                addresses: vec![0; keys.len()].into(),
                held: keys.iter().map(|_| None).collect(),
                keys,
                runs: runs.into(),
            }
        });
        KeyList { shape: Arc::clone(shape), dicts: dicts.collect() }
    }
}

fn add_runs(shape: &Shape, number: u32, position: &mut usize, dicts: &mut [Vec<Run>]) {
    for entry in shape.dict(number) {
        match entry.child {
            Child::Dict(below) => {
                dicts[number as usize].push(Run::Dict(below as usize));
                add_runs(shape, below, position, dicts);
            }
            Child::Leaf => {
                match dicts[number as usize].last_mut() {
                    Some(Run::Leaves { n, .. }) => *n += 1,
                    _ => dicts[number as usize].push(Run::Leaves { position: *position, n: 1 }),
                }
                *position += 1;
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
    dicts: Vec<Obj<'w>>,
    pairs: Vec<Pair<'w>>,
    /// By record of the block: where its values and dicts begin; None if it has not its shape.
    starts: Vec<Option<(usize, usize)>>,
}

impl<'w> Gather<'w> {
    pub(crate) fn new(walk: &'w Walk<'w>) -> Self {
        Gather {
            walk,
            lists: Vec::new(),
            values: Vec::new(),
            dicts: Vec::new(),
            pairs: Vec::new(),
            starts: Vec::new(),
        }
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
    pub(crate) fn block(&mut self, rows: &[Option<BlockRow<'w>>], schema: &Schema, cache: &mut KeyLists) {
        let (mut values, mut dicts) = (0, 0);
        self.starts.clear();
        for row in rows {
            let expected = row.as_ref().and_then(|row| row.shape.map(|shape| (row.record, shape)));
            self.starts.push(expected.map(|_| (values, dicts)));
            if let Some((record, shape)) = expected {
                let shape = self.open(shape, schema, cache);
                values += shape.len();
                dicts += shape.dicts();
                record.prefetch_table(self.walk.types);
            }
        }
        // filled before they are read: any object will do
        let Some(any) = rows.iter().flatten().next().map(|row| row.record) else { return };
        self.values.resize(values.max(self.values.len()), any);
        self.dicts.resize(dicts.max(self.dicts.len()), any);
        for (at, row) in rows.iter().enumerate() {
            let (Some(row), Some((values, dicts))) = (row, self.starts[at]) else { continue };
            let Some(shape) = row.shape else { continue };
            if !self.record(shape, values, dicts, row.record, schema) {
                self.starts[at] = None;
            }
        }
        for (at, row) in rows.iter().enumerate() {
            let Some((values, dicts)) = self.starts[at] else { continue };
            let Some(shape) = row.as_ref().and_then(|row| row.shape) else { continue };
            if !self.below(shape, values, dicts, schema) {
                self.starts[at] = None;
            }
        }
    }

    /// The values of a record of the block, in the order of its shape; None if it has another.
    #[inline]
    pub(crate) fn values(&self, at: usize, n: usize) -> Option<&[Obj<'w>]> {
        self.starts[at].map(|(values, _)| &self.values[values..values + n])
    }

    fn open(&mut self, shape: ShapeId, schema: &Schema, cache: &mut KeyLists) -> &Shape {
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
        &in_use.list.shape
    }

    /// The record's own dict; a record that is one leaf is its value.
    fn record(
        &mut self,
        shape: ShapeId,
        values: usize,
        dicts: usize,
        record: Obj<'w>,
        schema: &Schema,
    ) -> bool {
        let Some(ListInUse { list, met }) = &mut self.lists[shape as usize] else { return false };
        let Some(keys) = list.dicts.first_mut() else {
            self.values[values] = record;
            return true;
        };
        let pairs = &mut self.pairs;
        keys.gather(
            self.walk,
            schema,
            record,
            pairs,
            &mut self.values[values..],
            &mut self.dicts[dicts..],
            met,
        ) && {
            let n = list.dicts.len();
            self.dicts[dicts + 1..dicts + n].iter().for_each(|dict| dict.prefetch_table(self.walk.types));
            true
        }
    }

    /// The dicts in the record.
    fn below(&mut self, shape: ShapeId, values: usize, dicts: usize, schema: &Schema) -> bool {
        let Some(ListInUse { list, met }) = &mut self.lists[shape as usize] else { return false };
        let mut first = 0;
        // a dict has a lower number than those in it
        list.dicts.iter_mut().enumerate().all(|(number, keys)| {
            let met = &mut met[first..];
            first += keys.keys.len();
            number == 0 || {
                let (dict, pairs) = (self.dicts[dicts + number], &mut self.pairs);
                let (values, dicts) = (&mut self.values[values..], &mut self.dicts[dicts..]);
                keys.gather(self.walk, schema, dict, pairs, values, dicts, met)
            }
        })
    }
}

impl DictKeys {
    /// Lists the values of a dict. False if it is none, or has other keys.
    #[inline(always)]
    fn gather<'w>(
        &mut self,
        walk: &Walk<'w>,
        schema: &Schema,
        object: Obj<'w>,
        pairs: &mut Vec<Pair<'w>>,
        values: &mut [Obj<'w>],
        dicts: &mut [Obj<'w>],
        met: &mut [Option<Obj<'w>>],
    ) -> bool {
        let Some(dict) = Dict::of(object, walk.types).filter(|dict| dict.len() == self.keys.len()) else {
            return false;
        };
        match dict.entries(walk.types) {
            Some(Entries::Plain(entries)) => self.list(walk, schema, entries, values, dicts, met),
            Some(Entries::Hashed(entries)) => self.list(walk, schema, entries, values, dicts, met),
            None => {
                pairs.clear();
                pairs.extend(dict.items());
                self.list(walk, schema, pairs, values, dicts, met)
            }
        }
    }

    /// Entries as many as there are keys.
    #[inline(always)]
    fn list<'w>(
        &mut self,
        walk: &Walk<'w>,
        schema: &Schema,
        entries: &[impl Entry<'w>],
        values: &mut [Obj<'w>],
        dicts: &mut [Obj<'w>],
        met: &mut [Option<Obj<'w>>],
    ) -> bool {
        if entries.len() != self.keys.len() {
            return false;
        }
        let DictKeys { keys, addresses, runs, .. } = self;
        let mut at = 0;
        for run in runs {
            let (n, slots) = match run {
                Run::Leaves { position, n } => (*n, &mut values[*position..*position + *n]),
                Run::Dict(number) => (1, &mut dicts[*number..=*number]),
            };
            let part = entries[at..at + n].iter().zip(slots).zip(&mut addresses[at..at + n]);
            for (i, ((entry, slot), address)) in part.enumerate() {
                let pair = entry.pair();
                if pair.key.address() != *address {
                    if !is_key(walk, schema, pair.key, keys[at + i]) {
                        return false;
                    }
                    *address = pair.key.address();
                    met[at + i] = Some(pair.key);
                }
                *slot = pair.value;
                pair.value.prefetch();
            }
            at += n;
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
