//! The keys of a shape's dicts, compared by the address of their objects; what they lead to is listed by position.

use std::ops::Range;
use std::sync::Arc;

use pyo3::prelude::*;

use crate::python::ffi::object::{Dict, Entries, Entry, Obj, Pair, Str, Walk};
use crate::python::ffi::types::{FieldsIn, InPlace, Types};
use crate::python::from_python::fields::{Fields, Instances};
use crate::state::schema::{Child, KeyId, Schema, Shape, ShapePlaces};

/// Entries of a dict whose values are listed side by side.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Run {
    /// Where they begin in the list.
    slot: usize,
    length: usize,
}

impl Run {
    fn slots(&self) -> Range<usize> {
        self.slot..self.slot + self.length
    }
}

/// An entry of a dict that leads to another.
#[derive(Clone, Copy)]
struct InnerDict {
    at: usize,
    slot: usize,
}

/// The key objects met last in one dict of a shape.
struct DictKeys {
    /// Where the dict is met among the values; of the record itself not used.
    slot: usize,
    /// Where its keys begin among those of all dicts.
    first: usize,
    keys: Box<[KeyId]>,
    /// Where the values are listed, in the order of the keys.
    runs: Box<[Run]>,
    /// The class met last whose fields are exactly these keys.
    class: usize,
    dicts: Box<[InnerDict]>,
    /// Of objects that are held, or that were met in the walk which goes on.
    addresses: Box<[usize]>,
    held: Box<[Option<Py<PyAny>>]>,
}

/// The key objects of a shape, dict by dict. The values of a record are listed by position, the dicts in it behind them.
pub(super) struct KeyList {
    pub(super) shape: Arc<Shape>,
    dicts: Box<[DictKeys]>,
    /// Values of a record.
    pub(super) values: usize,
}

impl KeyList {
    fn new(shape: &Arc<Shape>) -> KeyList {
        // each dict but the record itself is a value as well
        let values = shape.len() + shape.dicts().saturating_sub(1);
        let mut list = KeyList { shape: Arc::clone(shape), dicts: Box::default(), values };
        if shape.dicts() == 0 {
            return list;
        }
        let ShapePlaces { leaves, dicts } = shape.places();
        let mut slots: Vec<Vec<usize>> =
            (0..shape.dicts() as u32).map(|n| vec![0; shape.dict(n).len()]).collect();
        let inner = dicts.iter().skip(1);
        for (slot, place) in leaves.iter().chain(inner).enumerate() {
            slots[place.dict as usize][place.at] = slot;
        }
        let mut first = 0;
        let dict_keys = (0..).zip(slots).map(|(number, slots)| {
            let entries = shape.dict(number);
            let keys: Box<[KeyId]> = entries.iter().map(|entry| entry.key).collect();
            first += keys.len();
            let inner = entries.iter().zip(&slots).enumerate();
            let inner = inner.filter(|(_, (entry, _))| matches!(entry.child, Child::Dict(_)));
            DictKeys {
                slot: shape.len() + number as usize - 1,
                first: first - keys.len(),
                runs: runs_of(&slots),
                class: 0,
                dicts: inner.map(|(at, (_, slot))| InnerDict { at, slot: *slot }).collect(),
                addresses: vec![0; keys.len()].into(),
                held: keys.iter().map(|_| None).collect(),
                keys,
            }
        });
        list.dicts = dict_keys.collect();
        list
    }

    /// Keys of all its dicts.
    pub(super) fn keys(&self) -> usize {
        self.dicts.iter().map(|dict| dict.keys.len()).sum()
    }
}

fn runs_of(slots: &[usize]) -> Box<[Run]> {
    let runs = slots.chunk_by(|a, b| a + 1 == *b);
    runs.map(|run| Run { slot: run[0], length: run.len() }).collect()
}

/// What an Encoder keeps of keys between walks, by shape.
#[derive(Default)]
pub(crate) struct KeyLists {
    lists: Vec<Option<KeyList>>,
    /// Objects that others took the place of: let go after the walk.
    replaced: Vec<Py<PyAny>>,
}

impl KeyLists {
    /// The list of the shape with this number, for a walk.
    pub(super) fn take(&mut self, at: usize, shape: &Arc<Shape>) -> KeyList {
        if self.lists.len() <= at {
            self.lists.resize_with(at + 1, || None);
        }
        let list = self.lists[at].take().filter(|list| Arc::ptr_eq(&list.shape, shape));
        let mut list = list.unwrap_or_else(|| KeyList::new(shape));
        // an address may be another class's by now
        list.dicts.iter_mut().for_each(|dict| dict.class = 0);
        list
    }

    /// Takes the list back, with the objects met last.
    pub(super) fn put_back<'w>(
        &mut self,
        at: usize,
        mut list: KeyList,
        met: Vec<Option<Obj<'w>>>,
        walk: &Walk<'w>,
    ) {
        let slots = list.dicts.iter_mut().flat_map(|dict| dict.held.iter_mut());
        for (held, met) in slots.zip(met) {
            if let Some(met) = met {
                self.replaced.extend(held.replace(met.to_owned(walk)));
            }
        }
        self.lists[at] = Some(list);
    }

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

/// What all dicts of a walk are read with.
pub(super) struct DictReader<'a, 'w> {
    pub(super) walk: &'w Walk<'w>,
    pub(super) schema: &'a Schema,
    pub(super) classes: &'a [Arc<InPlace>],
    pub(super) pairs: &'a mut Vec<Pair<'w>>,
}

impl KeyList {
    /// Lists what is in the record's own dict. A record that is one leaf is its value.
    // by itself, as is the next, so that the loop over a dict's entries fits into registers
    #[inline(never)]
    pub(super) fn own_values<'w>(
        &mut self,
        reader: &mut DictReader<'_, 'w>,
        record: Fields<'w>,
        values: &mut [Obj<'w>],
        met: &mut [Option<Obj<'w>>],
    ) -> bool {
        let Some(own) = self.dicts.first_mut() else {
            values[0] = record.given;
            return true;
        };
        own.list(reader, record, values, met)
    }

    /// Brings the tables of the dicts in the record's own dict into the cache.
    #[inline(always)]
    pub(super) fn fetch_below(&self, types: &Types, values: &[Obj<'_>]) {
        if let Some(own) = self.dicts.first() {
            own.dicts.iter().for_each(|inner| values[inner.slot].prefetch_table(types));
        }
    }

    /// Lists what is in the dicts below it.
    #[inline(never)]
    pub(super) fn values_below<'w>(
        &mut self,
        reader: &mut DictReader<'_, 'w>,
        instances: &mut Instances,
        values: &mut [Obj<'w>],
        met: &mut [Option<Obj<'w>>],
    ) -> bool {
        let Some((_, below)) = self.dicts.split_first_mut() else { return true };
        // a dict stands before those in it
        for keys in below {
            let fields = Fields::of(values[keys.slot], reader.walk.types, reader.classes);
            instances.add(fields, reader.classes);
            if !keys.list(reader, fields, values, met) {
                return false;
            }
        }
        true
    }
}

impl DictKeys {
    /// Lists the values of a dict among those of its record. False if it is none, or has other keys.
    #[inline(always)]
    fn list<'w>(
        &mut self,
        reader: &mut DictReader<'_, 'w>,
        fields: Fields<'w>,
        values: &mut [Obj<'w>],
        met: &mut [Option<Obj<'w>>],
    ) -> bool {
        match fields.class {
            None => self.list_dict(reader, fields.object, values, met),
            Some(class) => self.list_instance(reader, fields.object, &reader.classes[class], values, met),
        }
    }

    #[inline(never)]
    fn list_instance<'w>(
        &mut self,
        reader: &mut DictReader<'_, 'w>,
        object: Obj<'w>,
        class: &InPlace,
        values: &mut [Obj<'w>],
        met: &mut [Option<Obj<'w>>],
    ) -> bool {
        if self.class != class.address {
            let names = class.names.iter().map(|name| &**name);
            if !names.eq(self.keys.iter().map(|key| &*reader.schema.keys[*key as usize])) {
                return false;
            }
            self.class = class.address;
        }
        match &class.fields {
            FieldsIn::Slots(offsets) => self.list_slots(object, offsets, values),
            // what a model has where dicts are expected are the models of its class
            FieldsIn::Dict(inner) => {
                self.list_dict(reader, object, values, met)
                    && self.dicts.iter().all(|InnerDict { at, slot }| {
                        inner[*at] != 0 && values[*slot].type_address() == inner[*at]
                    })
            }
        }
    }

    /// False if a slot is empty.
    fn list_slots<'w>(&self, object: Obj<'w>, offsets: &[isize], values: &mut [Obj<'w>]) -> bool {
        let mut slots = self.runs.iter().flat_map(Run::slots).zip(offsets);
        self.keys.len() == offsets.len()
            && slots.all(|(slot, offset)| match object.slot(*offset) {
                Some(found) => {
                    found.prefetch();
                    values[slot] = found;
                    true
                }
                None => false,
            })
    }

    #[inline(always)]
    fn list_dict<'w>(
        &mut self,
        reader: &mut DictReader<'_, 'w>,
        object: Obj<'w>,
        values: &mut [Obj<'w>],
        met: &mut [Option<Obj<'w>>],
    ) -> bool {
        let DictReader { walk, schema, pairs, .. } = reader;
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
        self.list_known_keys(entries, values) || self.list_keys(walk, schema, entries, values, met)
    }

    /// False at the first key that is another object than the one met last.
    #[inline(always)]
    fn list_known_keys<'w>(&self, entries: &[impl Entry<'w>], values: &mut [Obj<'w>]) -> bool {
        let (mut entries, mut addresses) = (entries, &*self.addresses);
        // most dicts have none in them: one run, without the pieces
        if let [run] = &*self.runs {
            return values.get_mut(run.slots()).is_some_and(|listed| list_run(entries, addresses, listed));
        }
        for run in &self.runs {
            let Some((now, later)) = entries.split_at_checked(run.length) else { return false };
            let Some((known, others)) = addresses.split_at_checked(run.length) else { return false };
            let Some(listed) = values.get_mut(run.slots()) else { return false };
            if !list_run(now, known, listed) {
                return false;
            }
            (entries, addresses) = (later, others);
        }
        true
    }

    /// As `list_known_keys`, where keys are other objects: parsers make some of them anew in every record.
    // by a loop of its own: one that serves both takes 0.2 % more instructions of a whole diff
    #[inline(never)]
    fn list_keys<'w>(
        &mut self,
        walk: &Walk<'w>,
        schema: &Schema,
        entries: &[impl Entry<'w>],
        values: &mut [Obj<'w>],
        met: &mut [Option<Obj<'w>>],
    ) -> bool {
        let mut at = 0;
        for run in &self.runs {
            let end = at + run.length;
            let (Some(now), Some(listed)) = (entries.get(at..end), values.get_mut(run.slots())) else {
                return false;
            };
            let expected = self.keys[at..end].iter().zip(&mut self.addresses[at..end]);
            let expected = expected.zip(&mut met[self.first + at..self.first + end]);
            for ((entry, listed), ((id, address), met)) in now.iter().zip(listed).zip(expected) {
                let Pair { key, value } = entry.pair();
                if key.address() != *address {
                    if !is_key(walk, schema, key, *id) {
                        return false;
                    }
                    *address = key.address();
                    *met = Some(key);
                }
                *listed = value;
                value.prefetch();
            }
            at = end;
        }
        true
    }
}

/// Lists the values of entries that have the keys at these addresses. False at the first other key.
#[inline(always)]
fn list_run<'w>(entries: &[impl Entry<'w>], addresses: &[usize], values: &mut [Obj<'w>]) -> bool {
    let n = values.len();
    if entries.len() != n || addresses.len() != n {
        return false;
    }
    for ((entry, address), listed) in entries.iter().zip(addresses).zip(values) {
        let Pair { key, value } = entry.pair();
        if key.address() != *address {
            return false;
        }
        *listed = value;
        value.prefetch();
    }
    true
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
