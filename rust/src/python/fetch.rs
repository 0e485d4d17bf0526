//! Fetching ahead: a block of records at a time into the cache, before it is walked.

use super::raw::{Dict, Pair, Walk};

/// Records that are brought into the cache together, before the first of them is read.
pub const BLOCK: usize = 32;

/// Brings a block of records into the cache, level by level, so that many misses are under way at a time. On a heap
/// in which objects lie in the order in which they are read it costs a little; on a fragmented one it halves the walk.
/// `places` tells where a record is expected to have dicts.
pub fn fetch<'w>(block: &[Pair<'w>], wanted: &impl Fn(usize) -> bool, places: &[usize], walk: &Walk<'_>) {
    let mut tables: [&[Pair<'w>]; BLOCK] = [&[]; BLOCK];
    for Pair { key, value } in block {
        key.prefetch();
        value.prefetch();
    }
    let record = |i: usize| Dict::of(block[i].value, walk.types).filter(|_| wanted(i));
    (0..block.len()).filter_map(record).for_each(Dict::prefetch_table);
    for (i, table) in tables.iter_mut().enumerate().take(block.len()) {
        *table = record(i).and_then(|dict| dict.entries(walk.types)).unwrap_or_default();
        table.iter().for_each(|pair| pair.value.prefetch());
    }
    let inner = || {
        let at = |table: &'w [Pair<'w>], place: &usize| table.get(*place).map(|pair| pair.value);
        let values =
            tables.iter().flat_map(move |table| places.iter().filter_map(move |place| at(table, place)));
        values.filter_map(|value| Dict::of(value, walk.types))
    };
    inner().for_each(Dict::prefetch_table);
    inner().for_each(|dict| {
        let table = dict.entries(walk.types).unwrap_or_default();
        table.iter().for_each(|pair| pair.value.prefetch());
    });
}
