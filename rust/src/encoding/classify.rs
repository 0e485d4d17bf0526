//! Cells as numbers of a scale: which of the forms of a stream each has, and its integer.

use crate::encoding::row_view::{MISSING, number};
use crate::format::number::{Form, Scale, exact_integer};
use crate::format::tag::{Payload, Tag, tag};
use crate::state::table::{Cell, Cells, Table};

/// Cells as integers at a scale: the form of each, and the integer where the form has one. The number of forms stands
/// for another cell.
pub(crate) struct Classified {
    pub(crate) forms: Vec<u8>,
    pub(crate) integers: Vec<u64>,
    /// How many have the first form, and how many are other cells.
    pub(crate) first: usize,
    pub(crate) others: usize,
}

impl Classified {
    /// All cells have the first form, as in most columns.
    pub(crate) fn are_first(&self) -> bool {
        self.first == self.forms.len()
    }
}

fn same_payload(table: &Table, cell: Cell, (tag, payload): (Tag, Payload<'_>)) -> bool {
    tag == cell.tag && table.payload(cell) == payload
}

/// The first form that gives the cell, and its integer.
#[inline]
fn form_of(
    table: &Table,
    scale: Scale,
    forms: &[Form],
    cell: Cell,
    buffer: &mut Vec<u8>,
) -> Option<(u8, u64)> {
    if cell.tag == MISSING {
        return None;
    }
    let mut integer = None;
    for (i, form) in (0u8..).zip(forms) {
        if !form.may_have(cell.tag) {
            continue;
        }
        if cell.tag == tag::NONE {
            return Some((i, 0));
        }
        let integer = *integer.get_or_insert_with(|| scale.integer(number(table, cell)));
        let of_form = integer.and_then(|integer| form.cell(scale, integer, buffer));
        if let Some(of_form) = of_form
            && same_payload(table, cell, of_form)
        {
            return integer.map(|integer| (i, integer));
        }
    }
    None
}

/// The tag of cells that have the first form if they have any, and whose integer is quickly told.
fn plain_tag(scale: Scale, first: &Form) -> Option<Tag> {
    match first {
        _ if scale.unit > 1 => None,
        Form::Float => Some(tag::FLOAT),
        Form::Int => Some(tag::INT),
        _ => None,
    }
}

/// Stands for the form of a cell that is looked at by itself.
const UNKNOWN: u8 = u8::MAX;

/// The integers of cells of this tag, where `quick` tells one.
#[inline(always)]
fn classify_plain(
    cells: &Cells,
    plain: Tag,
    forms: &mut [u8],
    quick: impl Fn(u64) -> Option<u64>,
) -> Vec<u64> {
    let cells = cells.tags.iter().zip(&cells.words).zip(forms);
    let integers = cells.map(|((tag, word), form)| match quick(*word) {
        Some(found) if *tag == plain => {
            *form = 0;
            found
        }
        _ => 0,
    });
    integers.collect()
}

pub(crate) fn classify(table: &Table, scale: Scale, forms: &[Form], cells: &Cells) -> Classified {
    let mut all = vec![UNKNOWN; cells.len()];
    let plain = plain_tag(scale, &forms[0]);
    let mut integers = match plain {
        Some(tag::FLOAT) if scale.is_raw() => {
            let quick = |word| (!f64::from_bits(word).is_nan()).then_some(word);
            classify_plain(cells, tag::FLOAT, &mut all, quick)
        }
        Some(tag::FLOAT) => {
            let quick = |word| exact_integer(word, scale.exponent).map(|integer| integer as u64);
            classify_plain(cells, tag::FLOAT, &mut all, quick)
        }
        Some(tag) => classify_plain(cells, tag, &mut all, |word| scale.integer(word as i64 as f64)),
        None => vec![0; cells.len()],
    };
    let (mut first, mut others) = (0, 0);
    let mut buffer = Vec::new();
    for (i, (form, integer)) in all.iter_mut().zip(&mut integers).enumerate() {
        if *form == UNKNOWN {
            let cell = cells.get(i);
            let found =
                if Some(cell.tag) == plain { None } else { form_of(table, scale, forms, cell, &mut buffer) };
            (*form, *integer) = found.unwrap_or((forms.len() as u8, 0));
            others += usize::from(found.is_none());
        }
        first += usize::from(*form == 0);
    }
    Classified { forms: all, integers, first, others }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_classified_as_one_by_one() {
        let table = Table::default();
        let floats = [0.0, -0.0, 1.25, -7.5, 0.1, 1.0 / 3.0, 3e18, f64::NAN, f64::INFINITY];
        let ints = [0, 5, -120, 1 << 50, 1 << 52, (1 << 53) + 1, i64::MIN];
        let mut all = vec![Cell { tag: tag::NONE, word: 0 }, Cell { tag: tag::DIGITS, word: 7 }];
        all.extend(floats.map(|float: f64| Cell { tag: tag::FLOAT, word: float.to_bits() }));
        all.extend(ints.map(|int: i64| Cell { tag: tag::INT, word: int as u64 }));
        let mut cells = Cells::default();
        all.iter().for_each(|cell| cells.push(*cell));
        let lists = [
            vec![Form::Float],
            vec![Form::Float, Form::Int, Form::Absent],
            vec![Form::Int, Form::IntOrFloat],
            vec![Form::IntOrFloat, Form::Absent],
            vec![Form::Absent, Form::Float],
        ];
        let scales = [(0, 1), (2, 1), (2, 5), (9, 1)].map(|(exponent, unit)| Scale { exponent, unit });
        let mut buffer = Vec::new();
        for (scale, forms) in scales.into_iter().flat_map(|scale| lists.iter().map(move |l| (scale, l))) {
            let Classified { forms: found, integers, first, others } = classify(&table, scale, forms, &cells);
            for (i, cell) in all.iter().enumerate() {
                let alone = form_of(&table, scale, forms, *cell, &mut buffer);
                let alone = alone.unwrap_or((forms.len() as u8, 0));
                assert_eq!((found[i], integers[i]), alone, "{cell:?} {scale:?} {forms:?}");
            }
            let count = |form: u8| found.iter().filter(|other| **other == form).count();
            assert_eq!((first, others), (count(0), count(forms.len() as u8)));
        }
        let raw = classify(&table, Scale::BITS, &lists[0], &cells);
        let is_coded = |cell: &Cell| cell.tag == tag::FLOAT && !f64::from_bits(cell.word).is_nan();
        assert_eq!(raw.first, all.iter().filter(|cell| is_coded(cell)).count());
        assert!(all.iter().zip(&raw.forms).all(|(cell, form)| (*form == 0) == is_coded(cell)));
    }
}
