//! What a word is predicted from: FORMAT.md section 8.2.

use crate::encoding::decimal;
use crate::encoding::formula::{self, Formula, Operation};
use crate::encoding::row_view::RowView;
use crate::error::Result;
use crate::format::predictor;
use crate::format::reader::Reader;
use crate::format::value::Tag;
use crate::format::writer::Writer;
use crate::state::schema::{PathId, ROOT};
use crate::state::table::Cells;

/// How integers are predicted from what the reader already has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Predictor {
    Zero,
    Base,
    Previous,
    Reference(u64),
    Column(PathId),
    ColumnChange(PathId),
    Formula(Formula),
    Max(PathId, PathId),
}

/// Integers from words: themselves, or the m of decimals.
#[derive(Clone, Copy)]
pub(crate) struct DecimalExponent(pub Option<u8>);

impl DecimalExponent {
    #[inline(always)]
    pub(crate) fn operand(self, word: u64) -> u64 {
        match self.0 {
            None => word,
            Some(exponent) => decimal::operand(word, exponent),
        }
    }

    pub(crate) fn operands(self, words: &[u64]) -> Vec<u64> {
        words.iter().map(|w| self.operand(*w)).collect()
    }
}

/// Words of another column where it has the tag, else None.
fn same_tag(cells: &Cells, tag: Tag) -> impl Iterator<Item = Option<u64>> + '_ {
    cells.iter().map(move |cell| (cell.tag == tag).then_some(cell.word))
}

impl Predictor {
    /// The other columns that it works from.
    pub(crate) fn operands(self) -> impl Iterator<Item = PathId> {
        let (a, b) = match self {
            Predictor::Column(a) | Predictor::ColumnChange(a) => (Some(a), None),
            Predictor::Formula(f) => (Some(f.a), (!f.operation.needs_base()).then_some(f.b)),
            Predictor::Max(a, b) => (Some(a), Some(b)),
            _ => (None, None),
        };
        a.into_iter().chain(b)
    }

    /// It works from the cell's old value, which an inserted cell has not.
    pub(crate) fn needs_base(self) -> bool {
        match self {
            Predictor::Base | Predictor::ColumnChange(_) => true,
            Predictor::Formula(formula) => formula.operation.needs_base(),
            _ => false,
        }
    }

    /// What is predicted for each word, but for `Previous`, which needs the words themselves.
    pub(crate) fn predictions(
        self,
        base: Option<&[u64]>,
        rows: &[u32],
        tag: Tag,
        decimal_exponent: DecimalExponent,
        view: &RowView<'_>,
    ) -> Vec<u64> {
        let n = rows.len();
        let words_of_old = base;
        let base = || match base {
            Some(base) => decimal_exponent.operands(base),
            None => vec![0; n],
        };
        match self {
            Predictor::Zero | Predictor::Previous => vec![0; n],
            Predictor::Base => base(),
            Predictor::Reference(word) => vec![word; n],
            Predictor::Column(path) => same_tag(&view.present(path, rows), tag)
                .map(|word| word.map_or(0, |word| decimal_exponent.operand(word)))
                .collect(),
            Predictor::ColumnChange(path) => {
                let (now, previous) = view.present_and_base(path, rows);
                let changes = same_tag(&now, tag).zip(same_tag(&previous, tag));
                base()
                    .into_iter()
                    .zip(changes)
                    .map(|(base, change)| match change {
                        (Some(now), Some(previous)) => base
                            .wrapping_add(decimal_exponent.operand(now))
                            .wrapping_sub(decimal_exponent.operand(previous)),
                        _ => base,
                    })
                    .collect()
            }
            Predictor::Formula(formula) => formula::predictions(formula, words_of_old, rows, view),
            Predictor::Max(a, b) => {
                let (a, b) = (view.present(a, rows), view.present(b, rows));
                same_tag(&a, tag)
                    .zip(same_tag(&b, tag))
                    .map(|pair| match pair {
                        (Some(a), Some(b)) => (a as i64).max(b as i64) as u64,
                        _ => 0,
                    })
                    .collect()
            }
        }
    }

    pub(crate) fn write(self, w: &mut Writer, frame_path: impl Fn(PathId) -> u64) {
        match self {
            Predictor::Zero => w.u8(predictor::ZERO),
            Predictor::Base => w.u8(predictor::BASE),
            Predictor::Previous => w.u8(predictor::PREVIOUS),
            Predictor::Reference(word) => {
                w.u8(predictor::REFERENCE);
                w.u64(word);
            }
            Predictor::Column(path) => {
                w.u8(predictor::COLUMN);
                w.uvarint(frame_path(path));
            }
            Predictor::ColumnChange(path) => {
                w.u8(predictor::COLUMN_CHANGE);
                w.uvarint(frame_path(path));
            }
            Predictor::Formula(Formula { operation, a, b }) => {
                w.u8(predictor::FORMULA);
                w.u8(operation.code());
                w.uvarint(frame_path(a));
                w.uvarint(frame_path(b));
            }
            Predictor::Max(a, b) => {
                w.u8(predictor::MAX);
                w.uvarint(frame_path(a));
                w.uvarint(frame_path(b));
            }
        }
    }

    pub(crate) fn read(r: &mut Reader<'_>, context: &Context<'_>) -> Result<Predictor> {
        let path = |r: &mut Reader<'_>| {
            let frame_path = r.up_to(context.paths.len() - 1, "path id")?;
            match context.paths[frame_path] {
                path if path == context.path => Err(r.corrupt("a column is predicted from itself")),
                path => Ok(path),
            }
        };
        Ok(match r.u8()? {
            predictor::ZERO => Predictor::Zero,
            predictor::BASE => Predictor::Base,
            predictor::PREVIOUS => Predictor::Previous,
            predictor::REFERENCE => Predictor::Reference(r.u64()?),
            predictor::COLUMN => Predictor::Column(path(r)?),
            predictor::COLUMN_CHANGE => Predictor::ColumnChange(path(r)?),
            predictor::FORMULA => {
                let code = r.u8()?;
                let operation = Operation::of(code).ok_or_else(|| r.reserved("operation", code))?;
                let a = path(r)?;
                let b = if operation.needs_base() { r.up_to(0, "path id").map(|_| ROOT)? } else { path(r)? };
                Predictor::Formula(Formula { operation, a, b })
            }
            predictor::MAX => Predictor::Max(path(r)?, path(r)?),
            code => return Err(r.reserved("predictor", code)),
        })
    }
}

/// What a word stream is read with.
pub(crate) struct Context<'a> {
    pub(crate) tag: Tag,
    pub(crate) base: Option<&'a [u64]>,
    pub(crate) rows: &'a [u32],
    pub(crate) view: RowView<'a>,
    /// The path of each path id of the frame.
    pub(crate) paths: &'a [PathId],
    /// The column's own path.
    pub(crate) path: PathId,
}
