//! Which symbols a frame added, removed, updated and moved.

use crate::state::change_set::ChangeSet;
use crate::state::permutation::longest_increasing;
use crate::state::symbol::Symbol;
use crate::state::table::Table;

/// What a frame changed, by symbol.
#[derive(Default)]
pub(crate) struct ChangedKeys {
    pub(crate) added: Vec<Symbol>,
    pub(crate) removed: Vec<Symbol>,
    /// Rows of the new state that are neither added nor removed and have another record.
    pub(crate) updated: Vec<u32>,
    /// Retained rows of the new state with their rank among the retained rows before; empty if no rank changed.
    ranks: Vec<(u32, u32)>,
}

impl ChangedKeys {
    pub(crate) fn of(table: &Table, changes: &ChangeSet) -> ChangedKeys {
        let base = table.rows.len();
        let updated = changes.updated(base);
        let retained = changes.retained(base);
        // (row of the target, rank among the retained rows), in the order of the target
        let ranks: Vec<(u32, u32)> = match &changes.order {
            None => (0..retained.len() as u32).map(|rank| (rank, rank)).collect(),
            Some(order) => {
                let places = (0..).zip(order.iter().copied());
                places.filter(|(_, rank)| (*rank as usize) < retained.len()).collect()
            }
        };
        let is_updated = |(_, rank): &&(u32, u32)| updated[retained[*rank as usize] as usize];
        let symbol = |row: &u32| table.rows[*row as usize].symbol.clone();
        ChangedKeys {
            added: changes.added.iter().map(|added| added.symbol.clone()).collect(),
            removed: changes.removed.iter().map(symbol).collect(),
            updated: ranks.iter().filter(is_updated).map(|(row, _)| *row).collect(),
            ranks: if changes.order.is_some() { ranks } else { Vec::new() },
        }
    }

    /// Between two states that no delta joins.
    pub(crate) fn between(old: &mut Table, new: &mut Table) -> ChangedKeys {
        let mut keys = ChangedKeys::default();
        let shapes = old.schema.shapes_of(&new.schema);
        for at in 0..new.rows.len() {
            let row = &new.rows[at];
            match old.position(&row.symbol) {
                None => keys.added.push(row.symbol.clone()),
                Some(before) => {
                    keys.ranks.push((at as u32, before as u32));
                    let record = &old.rows[before];
                    let has_its_shape = shapes[row.shape as usize] == Some(record.shape);
                    if !has_its_shape || !old.has_cells_of(record, new, row) {
                        keys.updated.push(at as u32);
                    }
                }
            }
        }
        for row in &old.rows {
            if new.position(&row.symbol).is_none() {
                keys.removed.push(row.symbol.clone());
            }
        }
        keys
    }

    /// The fewest rows of the new state whose move explains its order.
    pub(crate) fn moved(&self) -> Vec<u32> {
        let ranks: Vec<u32> = self.ranks.iter().map(|(_, rank)| *rank).collect();
        let stays = longest_increasing(&ranks);
        self.ranks.iter().zip(stays).filter(|(_, stays)| !stays).map(|((row, _), _)| *row).collect()
    }
}
