//! Word streams: FORMAT.md section 8.2. Writing follows the chosen encoding; reading obeys the bytes.

use crate::encoding::integers;
use crate::encoding::predictor::{Context, Predictor};
use crate::encoding::residuals;
use crate::encoding::row_view::RowView;
use crate::error::Result;
use crate::format::budget::{Budget, ENTRY};
use crate::format::fixed64::{CONSTANT, DICTIONARY, MAX_DICTIONARY, RESIDUALS};
use crate::format::reader::Reader;
use crate::format::value::Tag;
use crate::format::writer::Writer;
use crate::state::schema::PathId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Constant,
    Dictionary,
    Residuals(Predictor),
}

/// The words of the cells of one tag in one cell stream.
pub(crate) struct Stream<'a> {
    pub(crate) tag: Tag,
    pub(crate) words: &'a [u64],
    /// Old words, 0 where the old cell has another tag; None in inserts.
    pub(crate) base: Option<&'a [u64]>,
    pub(crate) rows: &'a [u32],
}

pub(crate) fn write(
    w: &mut Writer,
    stream: &Stream<'_>,
    encoding: Encoding,
    view: &RowView<'_>,
    frame_path: impl Fn(PathId) -> u64,
) {
    match encoding {
        Encoding::Constant => {
            w.u8(CONSTANT);
            w.u64(stream.words[0]);
        }
        Encoding::Dictionary => write_dictionary(w, stream.words),
        Encoding::Residuals(predictor) => {
            w.u8(RESIDUALS);
            predictor.write(w, frame_path);
            let mut residuals = stream.words.to_vec();
            if predictor == Predictor::Previous {
                for i in (1..residuals.len()).rev() {
                    residuals[i] = residuals[i].wrapping_sub(residuals[i - 1]);
                }
            } else {
                let predictions = predictor.predictions(stream.base, stream.rows, stream.tag, view);
                for (word, prediction) in residuals.iter_mut().zip(predictions) {
                    *word = word.wrapping_sub(prediction);
                }
            }
            residuals::write(w, residuals);
        }
    }
}

fn write_dictionary(w: &mut Writer, words: &[u64]) {
    let mut entries = words.to_vec();
    entries.sort_unstable();
    entries.dedup();
    let indices: Vec<u64> =
        words.iter().map(|word| entries.partition_point(|entry| entry < word) as u64).collect();
    w.u8(DICTIONARY);
    w.size(entries.len());
    w.byte_planes(&entries);
    integers::write(w, &indices);
}

pub(crate) fn read(r: &mut Reader<'_>, context: &Context<'_>, budget: &mut Budget) -> Result<Vec<u64>> {
    let n = context.rows.len();
    match r.u8()? {
        CONSTANT => Ok(vec![r.u64()?; n]),
        DICTIONARY => {
            let k = r.up_to(MAX_DICTIONARY, "number of entries")?;
            if k == 0 {
                return Err(r.corrupt("a dictionary has at least one entry"));
            }
            budget.charge(k as u64, ENTRY, "entries of dictionaries")?;
            let entries = r.byte_planes(k)?;
            let indices = r.integers(n)?;
            indices
                .into_iter()
                .map(|i| entries.get(i as usize).copied())
                .collect::<Option<_>>()
                .ok_or_else(|| r.corrupt("an index is beyond its dictionary"))
        }
        RESIDUALS => read_residuals(r, context),
        code => Err(r.reserved("encoding of a fixed64 stream", code)),
    }
}

fn read_residuals(r: &mut Reader<'_>, context: &Context<'_>) -> Result<Vec<u64>> {
    let predictor = Predictor::read(r, context)?;
    let mut words = residuals::read(r, context.rows.len())?;
    if predictor == Predictor::Previous {
        for i in 1..words.len() {
            words[i] = words[i].wrapping_add(words[i - 1]);
        }
        return Ok(words);
    }
    let predictions = predictor.predictions(context.base, context.rows, context.tag, &context.view);
    for (word, prediction) in words.iter_mut().zip(predictions) {
        *word = word.wrapping_add(prediction);
    }
    Ok(words)
}
