//! What the fuzz target calls: every way that bytes enter, with the promises that hold for any bytes.

use crate::codec::decoder::{Decoder, open_full};
use crate::codec::state::State;
use crate::error::Result;
use crate::format::budget::Budget;
use crate::format::header::{Compression, FrameKind, Header};
use crate::frame::container::{self, Contents, FrameWriter};
use crate::frame::{decode, inspect};
use crate::state::table::{Table, digest};

/// Applies a frame to the state of the full frame `base`, and its body once more under a digest that fits.
///
/// # Panics
/// Panics where the decoder breaks a promise.
pub fn apply(base: &[u8], frame: &[u8], max_bytes: u64) {
    let mut decoder = Decoder::new(max_bytes);
    if decoder.apply(base).is_err() {
        return;
    }
    let before = digest_of(&decoder.state.table);
    if decoder.apply(frame).is_err() {
        assert_eq!(digest_of(&decoder.state.table), before, "after an error the state is what it was");
    }
    if let Ok((header, contents)) = container::read(frame, &mut Budget::new(max_bytes)) {
        let _ = inspect::inspect(&contents.body, header.base.rows, None, &mut Budget::new(max_bytes));
        let _ = apply_body(base, header, &contents, max_bytes);
    }
}

/// Mutated bodies lead to digests that no header names: here the header names the one that the body leads to.
fn apply_body(base: &[u8], mut header: Header, contents: &Contents<'_>, max_bytes: u64) -> Result<()> {
    let mut state = match header.kind {
        FrameKind::Full => State::new(header.position.epoch),
        FrameKind::Delta => open_full(base, max_bytes)?,
    };
    let before = digest_of(&state.table);
    let read = decode::read(contents, &mut state.table, &mut Budget::new(max_bytes));
    let changes =
        read.inspect_err(|_| assert_eq!(digest_of(&state.table), before, "a refused body left a trace"))?;
    header.target_digest = changes.preview(&state.table).digest;
    changes.rollback(&mut state.table);
    assert_eq!(digest_of(&state.table), before, "a rolled back body left a trace");
    let applied = state.apply_body(&header, contents, &mut Budget::new(max_bytes));
    assert!(applied.is_ok(), "a body was read once and not again");
    assert_eq!(digest_of(&state.table), header.target_digest, "the state differs from the previewed digest");
    state.verify = true;
    let written = state.full(&mut FrameWriter::new(1)?);
    assert!(written.is_ok(), "a state that was read cannot be written: {:?}", written.err());
    Ok(())
}

fn digest_of(table: &Table) -> u64 {
    digest(table.rows.iter().map(|row| (row.symbol_hash, row.hash)))
}

/// True if the frame names the state of `base` as its base.
#[must_use]
pub fn is_base(base: &[u8], frame: &[u8]) -> bool {
    match (Header::read(base), Header::read(frame)) {
        (Ok((base, _)), Ok((frame, _))) => base.target_digest == frame.base.digest,
        _ => false,
    }
}

/// The frame with its body changed: stored, under a checksum that fits. None if `frame` is no frame.
pub fn with_body(frame: &[u8], max_bytes: u64, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Option<Vec<u8>> {
    let (header, Contents { body, text }) = container::read(frame, &mut Budget::new(max_bytes)).ok()?;
    let mut body = change(body);
    let body_length = u32::try_from(body.len()).ok()?;
    body.extend_from_slice(text);
    Some(Header { compression: Compression::Stored, body_length, ..header }.write(&body))
}
