//! The functions that JavaScript calls. Each instance of the module has one reader, so a fault in one does
//! not affect others.
//!
//! Each is `unsafe(no_mangle)`, because names of other libraries could clash. All have our own prefix.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::ErrorKind;
use crate::format::header::FrameKind;
use crate::wasm::reader::{Reader, Span, Symbols};

const ANSWERS: usize = 4;
const NOTHING: u32 = u32::MAX;

thread_local! {
    static READER: RefCell<Reader> = RefCell::new(Reader::new(0));
}

/// Further numbers of an answer, at an address that JavaScript asks for once.
static ANSWER: [AtomicU32; ANSWERS] = [const { AtomicU32::new(0) }; ANSWERS];

fn with<T>(then: impl FnOnce(&mut Reader) -> T) -> T {
    READER.with_borrow_mut(then)
}

fn answer(numbers: &[u32]) {
    ANSWER.iter().zip(numbers).for_each(|(slot, number)| slot.store(*number, Ordering::Relaxed));
}

/// Answers with the spans, one after the other; returns 0, or NOTHING if there are none.
fn answer_spans<const N: usize>(spans: Option<[Span; N]>) -> u32 {
    let Some(spans) = spans else { return NOTHING };
    for (slots, (address, items)) in ANSWER.chunks_exact(2).zip(spans) {
        slots[0].store(address as u32, Ordering::Relaxed);
        slots[1].store(items as u32, Ordering::Relaxed);
    }
    0
}

#[unsafe(no_mangle)]
extern "C" fn snapdelta_answer() -> u32 {
    ANSWER.as_ptr() as usize as u32
}

#[unsafe(no_mangle)]
extern "C" fn snapdelta_start(max_bytes: u32) {
    with(|reader| *reader = Reader::new(u64::from(max_bytes)));
}

#[unsafe(no_mangle)]
extern "C" fn snapdelta_room(length: u32) -> u32 {
    with(|reader| reader.room(length as usize).0 as u32)
}

/// Returns 0, or the kind of error; the answer is its text.
#[unsafe(no_mangle)]
extern "C" fn snapdelta_apply() -> u32 {
    with(|reader| match reader.apply() {
        Ok(kind) => {
            let is_delta = u32::from(kind == FrameKind::Delta);
            answer(&[reader.rows() as u32, reader.schema_version(), is_delta]);
            0
        }
        Err(kind) => {
            answer_spans(Some([reader.message()]));
            match kind {
                ErrorKind::Corrupt | ErrorKind::Encoding => 1,
                ErrorKind::Limit | ErrorKind::TooLarge => 2,
                ErrorKind::Version => 3,
                ErrorKind::BaseMismatch => 4,
            }
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn snapdelta_epoch() -> u64 {
    with(|reader| reader.position().0)
}

#[unsafe(no_mangle)]
extern "C" fn snapdelta_sequence() -> u64 {
    with(|reader| reader.position().1)
}

#[unsafe(no_mangle)]
extern "C" fn snapdelta_digest() -> u64 {
    with(|reader| reader.digest())
}

#[unsafe(no_mangle)]
extern "C" fn snapdelta_symbols(which: u32) -> u32 {
    let which = match which {
        0 => Symbols::All,
        1 => Symbols::Added,
        2 => Symbols::Updated,
        3 => Symbols::Removed,
        4 => Symbols::Moved,
        _ => return NOTHING,
    };
    answer_spans(Some(with(|reader| reader.symbols(which))))
}

#[unsafe(no_mangle)]
extern "C" fn snapdelta_find() -> u32 {
    with(Reader::find).map_or(NOTHING, |row| row as u32)
}

/// The row's shape, with tags and words as the answer.
#[unsafe(no_mangle)]
extern "C" fn snapdelta_row(at: u32) -> u32 {
    let Some((shape, tags, words)) = with(|reader| reader.row(at as usize)) else { return NOTHING };
    answer_spans(Some([tags, words]));
    shape
}

#[unsafe(no_mangle)]
extern "C" fn snapdelta_shape(id: u32) -> u32 {
    answer_spans(with(|reader| reader.shape(id)).map(|span| [span]))
}

#[unsafe(no_mangle)]
extern "C" fn snapdelta_key(id: u32) -> u32 {
    answer_spans(with(|reader| reader.key(id)).map(|span| [span]))
}

#[unsafe(no_mangle)]
extern "C" fn snapdelta_blob(id: u32) -> u32 {
    answer_spans(Some([with(|reader| reader.blob(id))]))
}

#[unsafe(no_mangle)]
extern "C" fn snapdelta_column(kind: u32) -> u32 {
    let span = with(|reader| match kind {
        0 => reader.column_tags(),
        1 => reader.column_float64(),
        2 => reader.column_int64(),
        _ => None,
    });
    answer_spans(span.map(|span| [span]))
}
