//! Columns that are arithmetic on others: change = price - close, percent = change / close × 100, mid, spread.
//! Full-precision floats that no compressor can shrink; the formula is found on a sample.

use crate::encoding::row_view::RowView;
use crate::format::value::tag;
use crate::state::schema::PathId;
use crate::state::table::Cell;

/// FORMAT.md section 8.2, predictor 6; in the order of their codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Difference,
    Sum,
    Product,
    Quotient,
    Mean,
    Percent,
    PercentChange,
    AbsoluteProduct,
    OldTimesRatio,
    OldOverRatio,
    PercentAbove,
}

use Operation::{
    AbsoluteProduct, Difference, Mean, OldOverRatio, OldTimesRatio, Percent, PercentAbove, PercentChange,
    Product, Quotient, Sum,
};

pub(crate) const OPERATIONS: [Operation; 11] = [
    Difference,
    Sum,
    Product,
    Quotient,
    Mean,
    Percent,
    PercentChange,
    AbsoluteProduct,
    OldTimesRatio,
    OldOverRatio,
    PercentAbove,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Formula {
    pub(crate) operation: Operation,
    pub(crate) a: PathId,
    pub(crate) b: PathId,
}

impl Operation {
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn of(code: u8) -> Option<Operation> {
        OPERATIONS.get(usize::from(code)).copied()
    }

    /// It has one operand, and the old value.
    pub(crate) fn needs_base(self) -> bool {
        matches!(self, OldTimesRatio | OldOverRatio)
    }

    /// Operands are NaN where there is none.
    #[inline(always)]
    pub(crate) fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Difference => a - b,
            Sum => a + b,
            Product => a * b,
            Quotient => a / b,
            Mean => (a + b) / 2.0,
            Percent => a / b * 100.0,
            PercentChange => (a - b) / b * 100.0,
            AbsoluteProduct => a.abs() * b,
            PercentAbove => (a / b - 1.0) * 100.0,
            OldTimesRatio | OldOverRatio => f64::NAN,
        }
    }

    #[inline(always)]
    pub(crate) fn apply_to_old(self, old: f64, now: f64, base: f64) -> f64 {
        match self {
            OldTimesRatio => old * now / base,
            _ => old * base / now,
        }
    }
}

/// NaN where there is no number.
#[inline(always)]
pub(crate) fn number(cell: Cell) -> f64 {
    match cell.tag {
        tag::FLOAT => f64::from_bits(cell.word),
        tag::INT => cell.word as i64 as f64,
        _ => f64::NAN,
    }
}

#[inline(always)]
pub(crate) fn word(result: f64) -> u64 {
    if result.is_nan() { 0 } else { result.to_bits() }
}

pub(crate) fn predictions(
    formula: Formula,
    old: Option<&[u64]>,
    rows: &[u32],
    view: &RowView<'_>,
) -> Vec<u64> {
    let Formula { operation, a, b } = formula;
    let mut made = Vec::with_capacity(rows.len());
    if operation.needs_base() {
        let old = old.unwrap_or_default();
        view.visit(a, rows, |i, now, base| {
            let old = f64::from_bits(old[i]);
            made.push(word(operation.apply_to_old(old, number(now), number(base))));
        });
        return made;
    }
    let mut first = Vec::with_capacity(rows.len());
    view.visit(a, rows, |_, now, _| first.push(number(now)));
    view.visit(b, rows, |i, now, _| made.push(word(operation.apply(first[i], number(now)))));
    made
}
