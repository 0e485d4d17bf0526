//! Columns that are arithmetic on others: change = price - close, percent = change / close × 100, mid, spread,
//! turnover. FORMAT.md section 8.4.

use crate::encoding::row_view::{RowView, numbers_of};
use crate::error::Result;
use crate::format::number::round;
use crate::format::reader::Reader;
use crate::format::writer::Writer;
use crate::state::schema::{PathId, ROOT};
use crate::state::table::Cells;

/// In the order of their codes; o is the column's old value, a and b are others now, A and B before, k is a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Old,
    Other,
    OtherOld,
    OldPlusChange,
    OldMinusChange,
    OldTimesRatio,
    OldOverRatio,
    Multiple,
    OldPlusMultipleOfChange,
    OldPlusConstant,
    LargerOfOld,
    SmallerOfOld,
    PercentOnClose,
    PercentOnRoundedClose,
    Difference,
    Sum,
    Product,
    Quotient,
    Mean,
    Percent,
    PercentChange,
    AbsoluteProduct,
    PercentAbove,
    PercentOfRest,
    MultipleOfQuotient,
    MultipleOfProduct,
    Larger,
    Smaller,
    OldPlusChangeTimes,
    OldPlusMultipleOfChangeTimes,
    WeightedMean,
    OldPlusChanges,
    OldPlusDifferenceOfChanges,
    MinusOld,
    PlusOld,
    Change,
    ChangePercent,
}

use Operation::{
    AbsoluteProduct, Change, ChangePercent, Difference, Larger, LargerOfOld, Mean, MinusOld, Multiple,
    MultipleOfProduct, MultipleOfQuotient, Old, OldMinusChange, OldOverRatio, OldPlusChange,
    OldPlusChangeTimes, OldPlusChanges, OldPlusConstant, OldPlusDifferenceOfChanges, OldPlusMultipleOfChange,
    OldPlusMultipleOfChangeTimes, OldTimesRatio, Other, OtherOld, Percent, PercentAbove, PercentChange,
    PercentOfRest, PercentOnClose, PercentOnRoundedClose, PlusOld, Product, Quotient, Smaller, SmallerOfOld,
    Sum, WeightedMean,
};

pub(crate) const OPERATIONS: [Operation; 37] = [
    Old,
    Other,
    OtherOld,
    OldPlusChange,
    OldMinusChange,
    OldTimesRatio,
    OldOverRatio,
    Multiple,
    OldPlusMultipleOfChange,
    OldPlusConstant,
    LargerOfOld,
    SmallerOfOld,
    PercentOnClose,
    PercentOnRoundedClose,
    Difference,
    Sum,
    Product,
    Quotient,
    Mean,
    Percent,
    PercentChange,
    AbsoluteProduct,
    PercentAbove,
    PercentOfRest,
    MultipleOfQuotient,
    MultipleOfProduct,
    Larger,
    Smaller,
    OldPlusChangeTimes,
    OldPlusMultipleOfChangeTimes,
    WeightedMean,
    OldPlusChanges,
    OldPlusDifferenceOfChanges,
    MinusOld,
    PlusOld,
    Change,
    ChangePercent,
];

/// What the search tries with one column, and with two.
pub(crate) const SINGLES: [Operation; 16] = [
    Other,
    OldPlusChange,
    OtherOld,
    OldMinusChange,
    OldTimesRatio,
    OldOverRatio,
    Multiple,
    OldPlusMultipleOfChange,
    LargerOfOld,
    SmallerOfOld,
    PercentOnClose,
    PercentOnRoundedClose,
    MinusOld,
    PlusOld,
    Change,
    ChangePercent,
];
pub(crate) const PAIRS: [Operation; 19] = [
    Difference,
    Sum,
    Product,
    Quotient,
    Mean,
    Percent,
    PercentChange,
    AbsoluteProduct,
    PercentAbove,
    PercentOfRest,
    Larger,
    Smaller,
    OldPlusChanges,
    OldPlusDifferenceOfChanges,
    OldPlusChangeTimes,
    WeightedMean,
    MultipleOfQuotient,
    MultipleOfProduct,
    OldPlusMultipleOfChangeTimes,
];

/// The values of one row that a formula works from; NaN where there is none.
#[derive(Clone, Copy)]
pub(crate) struct Operands {
    pub(crate) old: f64,
    pub(crate) a: f64,
    pub(crate) a_old: f64,
    pub(crate) b: f64,
    pub(crate) b_old: f64,
}

impl Operation {
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn of(code: u8) -> Option<Operation> {
        OPERATIONS.get(usize::from(code)).copied()
    }

    /// How many other columns it takes.
    pub(crate) fn columns(self) -> usize {
        match self {
            Old | OldPlusConstant => 0,
            Difference
            | Sum
            | Product
            | Quotient
            | Mean
            | Percent
            | PercentChange
            | AbsoluteProduct
            | PercentAbove
            | PercentOfRest
            | MultipleOfQuotient
            | MultipleOfProduct
            | Larger
            | Smaller
            | OldPlusChangeTimes
            | OldPlusMultipleOfChangeTimes
            | WeightedMean
            | OldPlusChanges
            | OldPlusDifferenceOfChanges => 2,
            _ => 1,
        }
    }

    pub(crate) fn has_constant(self) -> bool {
        matches!(
            self,
            Multiple
                | OldPlusMultipleOfChange
                | OldPlusConstant
                | PercentOnRoundedClose
                | MultipleOfQuotient
                | MultipleOfProduct
                | OldPlusMultipleOfChangeTimes
        )
    }

    /// It works from values of the base, which an inserted cell has not.
    pub(crate) fn needs_base(self) -> bool {
        !matches!(
            self,
            Other
                | Multiple
                | Difference
                | Sum
                | Product
                | Quotient
                | Mean
                | Percent
                | PercentChange
                | AbsoluteProduct
                | PercentAbove
                | PercentOfRest
                | MultipleOfQuotient
                | MultipleOfProduct
                | Larger
                | Smaller
        )
    }

    /// A constant is a factor of what it adds to the old value.
    pub(crate) fn adds_to_old(self) -> bool {
        matches!(self, OldPlusMultipleOfChange | OldPlusMultipleOfChangeTimes)
    }

    /// True if a and b may change places.
    pub(crate) fn is_symmetric(self) -> bool {
        matches!(self, Sum | Product | Mean | MultipleOfProduct | Larger | Smaller | OldPlusChanges)
    }

    /// NaN where there is no result.
    #[inline(always)]
    pub(crate) fn apply(self, k: f64, x: Operands) -> f64 {
        let Operands { old, a, a_old, b, b_old } = x;
        match self {
            Old => old,
            Other => a,
            OtherOld => a_old,
            OldPlusChange => old + (a - a_old),
            OldMinusChange => old - (a - a_old),
            OldTimesRatio => old * a / a_old,
            OldOverRatio => old * a_old / a,
            Multiple => k * a,
            OldPlusMultipleOfChange => old + k * (a - a_old),
            OldPlusConstant => old + k,
            LargerOfOld => larger(old, a),
            SmallerOfOld => smaller(old, a),
            PercentOnClose => (a / (a_old / (1.0 + old / 100.0)) - 1.0) * 100.0,
            PercentOnRoundedClose => {
                let close = round(a_old / (1.0 + old / 100.0) * k).map_or(f64::NAN, |close| close / k);
                (a / close - 1.0) * 100.0
            }
            Difference => a - b,
            Sum => a + b,
            Product => a * b,
            Quotient => a / b,
            Mean => (a + b) / 2.0,
            Percent => a / b * 100.0,
            PercentChange => (a - b) / b * 100.0,
            AbsoluteProduct => a.abs() * b,
            PercentAbove => (a / b - 1.0) * 100.0,
            PercentOfRest => a / (b - a) * 100.0,
            MultipleOfQuotient => k * a / b,
            MultipleOfProduct => k * a * b,
            Larger => larger(a, b),
            Smaller => smaller(a, b),
            OldPlusChangeTimes => old + (a - a_old) * b,
            OldPlusMultipleOfChangeTimes => old + k * (a - a_old) * b,
            WeightedMean => (old * a_old + b * (a - a_old)) / a,
            OldPlusChanges => old + (a - a_old) + (b - b_old),
            OldPlusDifferenceOfChanges => old + (a - a_old) - (b - b_old),
            MinusOld => a - old,
            PlusOld => a + old,
            Change => a - a_old,
            ChangePercent => (a - a_old) / a_old * 100.0,
        }
    }
}

/// The operation on each of these; which one it is is asked once, not for each.
fn each(operation: Operation, k: f64, operands: impl Iterator<Item = Operands>) -> Vec<f64> {
    macro_rules! run {
        ($($name:ident)*) => {
            match operation {
                $(Operation::$name => operands.map(|x| Operation::$name.apply(k, x)).collect(),)*
            }
        };
    }
    run!(Old Other OtherOld OldPlusChange OldMinusChange OldTimesRatio OldOverRatio Multiple OldPlusMultipleOfChange
        OldPlusConstant LargerOfOld SmallerOfOld PercentOnClose PercentOnRoundedClose Difference Sum Product Quotient
        Mean Percent PercentChange AbsoluteProduct PercentAbove PercentOfRest MultipleOfQuotient MultipleOfProduct
        Larger Smaller OldPlusChangeTimes OldPlusMultipleOfChangeTimes WeightedMean OldPlusChanges
        OldPlusDifferenceOfChanges MinusOld PlusOld Change ChangePercent)
}

/// NaN if one is.
#[inline(always)]
fn larger(p: f64, q: f64) -> f64 {
    if p.is_nan() || p > q { p } else { q }
}

#[inline(always)]
fn smaller(p: f64, q: f64) -> f64 {
    if p.is_nan() || p < q { p } else { q }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Formula {
    pub(crate) operation: Operation,
    pub(crate) a: PathId,
    pub(crate) b: PathId,
    pub(crate) k: f64,
}

impl Formula {
    pub(crate) const OLD: Formula = Formula { operation: Old, a: ROOT, b: ROOT, k: 0.0 };

    /// The other columns that it works from.
    pub(crate) fn columns(&self) -> impl Iterator<Item = PathId> + use<> {
        [self.a, self.b].into_iter().take(self.operation.columns())
    }

    /// The result in each row, NaN where there is none.
    pub(crate) fn results(&self, base: Option<&Cells>, rows: &[u32], view: &RowView<'_>) -> Vec<f64> {
        let with_base = self.operation.needs_base();
        let old = base.filter(|_| with_base).map(|base| numbers_of(view.table, base)).unwrap_or_default();
        let mut columns = self.columns().map(|path| view.numbers(path, rows, with_base));
        let (a, a_old) = columns.next().unwrap_or_default();
        let (b, b_old) = columns.next().unwrap_or_default();
        let none = vec![f64::NAN; rows.len()];
        let or_none = |numbers| if Vec::is_empty(numbers) { none.iter() } else { numbers.iter() };
        let [old, a, a_old, b, b_old] = [&old, &a, &a_old, &b, &b_old].map(or_none);
        let all = old.zip(a).zip(a_old).zip(b).zip(b_old);
        let operands = all.map(|((((&old, &a), &a_old), &b), &b_old)| Operands { old, a, a_old, b, b_old });
        each(self.operation, self.k, operands)
    }

    pub(crate) fn write(&self, w: &mut Writer, frame_path: impl Fn(PathId) -> u64) {
        w.u8(self.operation.code());
        self.columns().for_each(|path| w.uvarint(frame_path(path)));
        if self.operation.has_constant() {
            w.u64(self.k.to_bits());
        }
    }

    pub(crate) fn read(
        r: &mut Reader<'_>,
        has_base: bool,
        mut path: impl FnMut(&mut Reader<'_>) -> Result<PathId>,
    ) -> Result<Formula> {
        let code = r.u8()?;
        let operation = Operation::of(code).ok_or_else(|| r.reserved("operation", code))?;
        if operation.needs_base() && !has_base {
            return Err(r.corrupt("an inserted cell has no old one"));
        }
        let mut formula = Formula { operation, ..Formula::OLD };
        if operation.columns() > 0 {
            formula.a = path(r)?;
        }
        if operation.columns() > 1 {
            formula.b = path(r)?;
        }
        if operation.has_constant() {
            formula.k = f64::from_bits(r.u64()?);
        }
        Ok(formula)
    }
}
