//! Values by shape: the keys of a block of records are compared by address, and their values listed side by side.
//!
//! A record is reached level by level: its dict's head, its table of keys and values, the tables of the dicts among
//! them, the values. All records of a block go through a level before the next, and each level fetches what the next
//! reads, so that the walk waits for many of them at a time.

use std::sync::Arc;

use pyo3::prelude::*;

use crate::python::ffi::object::{Dict, Entries, Entry, Obj, Pair, Str, Walk};
use crate::python::ffi::types::{FieldsIn, InPlace, Types};
use crate::state::schema::{Child, KeyId, Schema, Shape, ShapeEntry, ShapeId, ShapePlace, ShapePlaces};

/// Records that are gathered together.
pub(crate) const BLOCK: usize = 16;

/// The key objects met last in one dict of a shape.
struct DictKeys {
    /// Where the dict is met among the values; of the record itself not used.
    slot: usize,
    /// Where its own values begin.
    first: usize,
    keys: Box<[KeyId]>,
    /// The class met last whose fields are exactly these keys.
    class: usize,
    /// Keys that lead to dicts.
    dicts: Box<[usize]>,
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
                class: 0,
                dicts: shape.dict(number).iter().enumerate().filter_map(dict_at).collect(),
                addresses: vec![0; keys.len()].into(),
                held: keys.iter().map(|_| None).collect(),
                keys,
            }
        });
        let mut list =
            KeyList { shape: Arc::clone(shape), dicts: dicts.collect(), slots: [0].into(), values: 1 };
        if shape.dicts() > 0 {
            let ShapePlaces { leaves, dicts } = shape.places();
            let slot = |dicts: &[DictKeys], place: ShapePlace| dicts[place.dict as usize].first + place.at;
            // the first is the record itself
            for (number, place) in dicts.into_iter().enumerate().skip(1) {
                list.dicts[number].slot = slot(&list.dicts, place);
            }
            list.slots = leaves.into_iter().map(|place| slot(&list.dicts, place) as u32).collect();
            list.values = values;
        }
        list
    }
}

fn dict_at((at, entry): (usize, &ShapeEntry)) -> Option<usize> {
    matches!(entry.child, Child::Dict(_)).then_some(at)
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

/// What the values of a record are.
#[derive(Clone, Copy)]
pub(crate) struct Gathered<'g, 'w> {
    pub(crate) values: &'g [Obj<'w>],
    /// By position in the shape: the slot of each leaf among the values.
    pub(crate) slots: &'g [u32],
    /// Instances of classes are part of the record.
    pub(crate) has_instances: bool,
    /// Models are among them: then all leaves must be scalars.
    pub(crate) has_models: bool,
}

/// A record of the block that is read.
struct Started {
    shape: ShapeId,
    /// Where its values begin.
    values: usize,
    has_instances: bool,
    has_models: bool,
}

/// The gathering of one walk.
pub(crate) struct Gather<'w> {
    walk: &'w Walk<'w>,
    classes: Vec<Arc<InPlace>>,
    records: Vec<Fields<'w>>,
    lists: Vec<Option<ListInUse<'w>>>,
    values: Vec<Obj<'w>>,
    pairs: Vec<Pair<'w>>,
    /// By record of the block; None where the record has another shape than the expected one.
    starts: Vec<Option<Started>>,
}

impl<'w> Gather<'w> {
    pub(crate) fn new(walk: &'w Walk<'w>, classes: Vec<Arc<InPlace>>) -> Self {
        Gather {
            walk,
            classes,
            records: Vec::new(),
            lists: Vec::new(),
            values: Vec::new(),
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
    pub(crate) fn block(&mut self, rows: &[BlockRow<'w>], schema: &Schema, cache: &mut KeyLists) {
        let mut values = 0;
        self.starts.clear();
        self.records.clear();
        for row in rows {
            let fields = Fields::of(row.record, self.walk.types, &self.classes);
            let start = row.shape.map(|shape| Started {
                shape,
                values,
                has_instances: fields.class.is_some(),
                has_models: fields.is_model(&self.classes),
            });
            if let Some(Started { shape, .. }) = start {
                values += self.open(shape, schema, cache);
                match fields.class {
                    None => row.record.prefetch_table(self.walk.types),
                    Some(_) => fields.object.prefetch(),
                }
            }
            self.starts.push(start);
            self.records.push(fields);
        }
        if self.records.iter().any(|fields| fields.class.is_some()) {
            self.records.iter().for_each(|fields| fields.object.prefetch_table(self.walk.types));
        }
        // written before they are read: any object will do
        let Some(any) = rows.first().map(|row| row.record) else { return };
        self.values.resize(values.max(self.values.len()), any);
        for below in [false, true] {
            for at in 0..rows.len() {
                let Some(mut start) = self.starts[at].take() else { continue };
                if self.record(&mut start, at, below, schema) {
                    self.starts[at] = Some(start);
                }
            }
        }
    }

    /// The values of a record of the block; None if it has another shape.
    #[inline]
    pub(crate) fn values(&self, at: usize) -> Option<Gathered<'_, 'w>> {
        let Started { shape, values, has_instances, has_models } = *self.starts[at].as_ref()?;
        let ListInUse { list, .. } = self.lists[shape as usize].as_ref()?;
        let values = &self.values[values..values + list.values];
        Some(Gathered { values, slots: &list.slots, has_instances, has_models })
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
            let mut list = list.unwrap_or_else(|| Box::new(KeyList::new(shape)));
            // an address may be another class's by now
            list.dicts.iter_mut().for_each(|dict| dict.class = 0);
            let keys = list.dicts.iter().map(|dict| dict.keys.len()).sum();
            ListInUse { list, met: vec![None; keys] }
        });
        in_use.list.values
    }

    /// Lists the values of the record's own dict, or of those below it. A record that is one leaf is its value.
    fn record(&mut self, start: &mut Started, at: usize, below: bool, schema: &Schema) -> bool {
        let Gather { walk, classes, records, lists, values, pairs, .. } = self;
        let record = records[at];
        let Some(ListInUse { list, met }) = &mut lists[start.shape as usize] else { return false };
        let values = &mut values[start.values..start.values + list.values];
        let Some((own, others)) = list.dicts.split_first_mut() else {
            values[0] = record.given;
            return true;
        };
        let end = own.keys.len();
        if !below {
            let same = own.list(walk, schema, record, classes, pairs, (&mut values[..end], met));
            if same {
                let met_dicts = others.iter().filter(|dict| dict.slot < end);
                met_dicts.for_each(|dict| values[dict.slot].prefetch_table(walk.types));
            }
            return same;
        }
        // a dict stands before those in it
        for keys in others {
            let part = keys.first..keys.first + keys.keys.len();
            let fields = Fields::of(values[keys.slot], walk.types, classes);
            start.has_instances |= fields.class.is_some();
            start.has_models |= fields.is_model(classes);
            if !keys.list(walk, schema, fields, classes, pairs, (&mut values[part.clone()], &mut met[part])) {
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
        fields: Fields<'w>,
        classes: &[Arc<InPlace>],
        pairs: &mut Vec<Pair<'w>>,
        (values, met): (&mut [Obj<'w>], &mut [Option<Obj<'w>>]),
    ) -> bool {
        let class = fields.class.map(|class| &*classes[class]);
        if let Some(class) = class {
            if self.class != class.address {
                let names = class.names.iter().map(|name| &**name);
                if !names.eq(self.keys.iter().map(|key| &*schema.keys[*key as usize])) {
                    return false;
                }
                self.class = class.address;
            }
            if let FieldsIn::Slots(offsets) = &class.fields {
                return list_slots(fields.object, offsets, values);
            }
        }
        let Some(dict) = Dict::of(fields.object, walk.types).filter(|dict| dict.len() == self.keys.len())
        else {
            return false;
        };
        let listed = match dict.entries(walk.types) {
            Some(Entries::Plain(entries)) => self.list_entries(walk, schema, entries, values, met),
            Some(Entries::Hashed(entries)) => self.list_entries(walk, schema, entries, values, met),
            None => {
                pairs.clear();
                pairs.extend(dict.items());
                self.list_entries(walk, schema, pairs, values, met)
            }
        };
        match class {
            Some(class) if listed => self.has_classes(class, values),
            _ => listed,
        }
    }

    /// What a model has where dicts are expected are the models of its class.
    fn has_classes(&self, class: &InPlace, values: &[Obj<'_>]) -> bool {
        match &class.fields {
            FieldsIn::Dict(inner) => {
                self.dicts.iter().all(|at| inner[*at] != 0 && values[*at].type_address() == inner[*at])
            }
            FieldsIn::Slots(_) => true,
        }
    }

    // by itself, so that all of the loop fits into registers
    #[inline(never)]
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
        for (i, ((entry, address), listed)) in entries.iter().zip(addresses).zip(values).enumerate() {
            let Pair { key, value } = entry.pair();
            if key.address() != *address {
                if !is_key(walk, schema, key, self.keys[i]) {
                    return false;
                }
                *address = key.address();
                met[i] = Some(key);
            }
            *listed = value;
            value.prefetch();
        }
        true
    }
}

/// Where the fields of a record, or of a dict in it, are: in a dict, or in the slots of an instance.
#[derive(Clone, Copy)]
struct Fields<'w> {
    given: Obj<'w>,
    object: Obj<'w>,
    /// The number of its class; None for a dict.
    class: Option<usize>,
}

impl<'w> Fields<'w> {
    #[inline(always)]
    fn of(given: Obj<'w>, types: &Types, classes: &[Arc<InPlace>]) -> Fields<'w> {
        if classes.is_empty() || Dict::of(given, types).is_some() {
            return Fields { given, object: given, class: None };
        }
        Fields::of_instance(given, types, classes)
    }

    fn of_instance(given: Obj<'w>, types: &Types, classes: &[Arc<InPlace>]) -> Fields<'w> {
        let address = given.type_address();
        let class = classes.iter().position(|class| class.address == address);
        let object =
            class.filter(|class| is_model(&classes[*class])).and_then(|_| given.instance_dict(types));
        Fields { given, object: object.map_or(given, Dict::object), class }
    }

    fn is_model(self, classes: &[Arc<InPlace>]) -> bool {
        self.class.is_some_and(|class| is_model(&classes[class]))
    }
}

fn is_model(class: &InPlace) -> bool {
    matches!(class.fields, FieldsIn::Dict(_))
}

/// False if a slot is empty.
fn list_slots<'w>(object: Obj<'w>, offsets: &[isize], values: &mut [Obj<'w>]) -> bool {
    values.len() == offsets.len()
        && values.iter_mut().zip(offsets).all(|(value, offset)| match object.slot(*offset) {
            Some(found) => {
                found.prefetch();
                *value = found;
                true
            }
            None => false,
        })
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
