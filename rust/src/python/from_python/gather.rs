//! Values by shape: the keys of a block of records are compared by address, and their values listed side by side.
//!
//! A record is reached level by level: its dict's head, its table of keys and values, the tables of the dicts among
//! them, the values. All records of a block go through a level before the next, and each level fetches what the next
//! reads, so that the walk waits for many of them at a time. The walk fetches the first two ahead.

use std::sync::Arc;

use crate::python::ffi::object::{Obj, Pair, Walk};
use crate::python::ffi::types::InPlace;
use crate::python::from_python::fields::{Fields, Instances};
use crate::python::from_python::key_list::{DictReader, KeyList, KeyLists};
use crate::state::schema::{Schema, Shape, ShapeId};

/// Records that are gathered together.
pub(crate) const BLOCK: usize = 16;

/// A list in use, and the objects met since the walk began.
struct ListInUse<'w> {
    list: KeyList,
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
    pub(crate) shape: &'g Shape,
    /// By position in the shape.
    pub(crate) values: &'g [Obj<'w>],
    pub(super) instances: Instances,
}

/// A record of the block that is read.
struct Started {
    shape: ShapeId,
    /// Where its values begin.
    values: usize,
    instances: Instances,
}

/// The passes over a block.
#[derive(Clone, Copy)]
enum Level {
    Own,
    /// A pass of its own: the heads of inner dicts arrive while `Own` lists other records.
    Fetch,
    Below,
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
            if let Some(ListInUse { list, met }) = in_use {
                cache.put_back(at, list, met, self.walk);
            }
        }
    }

    /// Reads the records of a block as far as they have the shapes that are expected.
    pub(crate) fn block(&mut self, rows: &[BlockRow<'w>], schema: &Schema, cache: &mut KeyLists) {
        let mut values = 0;
        self.starts.clear();
        self.records.clear();
        for row in rows {
            let fields = Fields::of(row.record, self.walk.types, &self.classes);
            let mut instances = Instances::default();
            instances.add(fields, &self.classes);
            let start = row.shape.map(|shape| Started { shape, values, instances });
            if let Some(Started { shape, .. }) = start {
                values += self.open(shape, schema, cache);
                if fields.class.is_some() {
                    fields.object.prefetch();
                }
            }
            self.starts.push(start);
            self.records.push(fields);
        }
        if !self.classes.is_empty() && self.records.iter().any(|fields| fields.class.is_some()) {
            self.records.iter().for_each(|fields| fields.object.prefetch_table(self.walk.types));
        }
        // written before they are read: any object will do
        let Some(any) = rows.first().map(|row| row.record) else { return };
        self.values.resize(values.max(self.values.len()), any);
        let Gather { walk, classes, records, lists, values, pairs, starts } = self;
        let mut reader = DictReader { walk, schema, classes, pairs };
        for level in [Level::Own, Level::Fetch, Level::Below] {
            for (start, fields) in starts.iter_mut().zip(&*records) {
                let Some(started) = start else { continue };
                let Some(ListInUse { list, met }) = &mut lists[started.shape as usize] else { continue };
                let values = &mut values[started.values..started.values + list.values];
                let is_listed = match level {
                    Level::Own => list.own_values(&mut reader, *fields, values, met),
                    Level::Fetch => {
                        list.fetch_below(walk.types, values);
                        true
                    }
                    Level::Below => list.values_below(&mut reader, &mut started.instances, values, met),
                };
                if !is_listed {
                    *start = None;
                }
            }
        }
    }

    /// The values of a record of the block; None if it has another shape.
    #[inline]
    pub(crate) fn values(&self, at: usize) -> Option<Gathered<'_, 'w>> {
        let Started { shape, values, instances } = *self.starts[at].as_ref()?;
        let ListInUse { list, .. } = self.lists[shape as usize].as_ref()?;
        let values = &self.values[values..values + list.shape.len()];
        Some(Gathered { shape: &list.shape, values, instances })
    }

    /// Takes the list of a shape into use. Returns how many values a record has.
    fn open(&mut self, shape: ShapeId, schema: &Schema, cache: &mut KeyLists) -> usize {
        let at = shape as usize;
        if self.lists.len() <= at {
            self.lists.resize_with(at + 1, || None);
        }
        let in_use = self.lists[at].get_or_insert_with(|| {
            let list = cache.take(at, &schema.shapes[at]);
            ListInUse { met: vec![None; list.keys()], list }
        });
        in_use.list.values
    }
}
