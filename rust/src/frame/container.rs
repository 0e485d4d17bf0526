//! Frames: a body compressed by zstd behind its header. FORMAT.md section 2.

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{self, CParameter};

use crate::error::{Error, ErrorKind, Result};
use crate::format::budget::Budget;
use crate::format::header::{Compression, Header};
use crate::format::section;
use crate::format::writer::Writer;
use crate::frame::encode::Body;
use crate::frame::sections::around_entropy;
use crate::frame::text::{Chunk, FrameText};

/// Few bytes cost next to no time at this level.
const HARD_LEVEL: i32 = 13;
const SMALL_BODY: usize = 1 << 10;
/// With its prefix: zstd has parameters of their own up to here.
const SMALL_TEXT: usize = 1 << 14;
/// Other text differs little from its prefix and wants a thorough search; higher levels are slow.
const TEXT_LEVEL: i32 = 8;
/// Shorter matches than this cost more than they save where numbers are written out.
const TEXT_MATCH: u32 = 6;
/// A prefix so many times as long as its text takes more time than the text gives back.
const LONG_PREFIX: usize = 128;

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::TooLarge, format!("zstd: {error}"))
}

/// Makes frames with one level; the compressor's memory is kept between them.
pub(crate) struct FrameWriter {
    level: i32,
    compressor: Compressor<'static>,
    #[cfg(test)]
    pub(crate) fault: Option<Fault>,
}

/// What befalls a frame before anyone reads it.
#[cfg(test)]
pub(crate) type Fault = Box<dyn Fn(Vec<u8>) -> Vec<u8>>;

impl FrameWriter {
    pub(crate) fn new(level: i32) -> Result<FrameWriter> {
        let compressor = Compressor::new(level).map_err(failed)?;
        Ok(FrameWriter {
            level,
            compressor,
            #[cfg(test)]
            fault: None,
        })
    }

    pub(crate) fn write(&mut self, header: Header, body: Body) -> Result<Vec<u8>> {
        let Body { sections, text, entropy } = body;
        let mut w = Writer { bytes: sections, ..Writer::default() };
        let mut compressed = Vec::new();
        if !text.bytes.is_empty() {
            let (section, chunks) = compress_text(&text, self.level)?;
            w.section(section::TEXT, section);
            compressed = chunks;
        }
        drop(text);
        w.section(section::ENTROPY, Writer { bytes: entropy, ..Writer::default() });
        self.write_parts(header, &w.bytes, &compressed)
    }

    /// The frame of a body and of the compressed text that its section TEXT tells of.
    pub(crate) fn write_parts(&mut self, header: Header, body: &[u8], text: &[u8]) -> Result<Vec<u8>> {
        let (declaring, entropy) = without_entropy(body);
        let level = if declaring.len() <= SMALL_BODY { self.level.max(HARD_LEVEL) } else { self.level };
        self.compressor.set_compression_level(level).map_err(failed)?;
        let mut compressed = self.compressor.compress(&declaring).map_err(failed)?;
        compressed.extend_from_slice(entropy);
        let (compression, body_length, mut payload) = if compressed.len() < body.len() {
            (Compression::Zstd, declaring.len(), compressed)
        } else {
            (Compression::Stored, body.len(), body.to_vec())
        };
        let body_length = checked_length(body_length)?;
        payload.extend_from_slice(text);
        checked_length(payload.len())?;
        let has_text = !text.is_empty();
        let frame = Header { compression, has_text, body_length, ..header }.write(&payload);
        #[cfg(test)]
        if let Some(fault) = &self.fault {
            return Ok(fault(frame));
        }
        Ok(frame)
    }
}

/// The body with the length of its entropy stream in the place of that, and the stream.
fn without_entropy(body: &[u8]) -> (Vec<u8>, &[u8]) {
    let Ok(Some((before, mut contents, after))) = around_entropy(body) else { return (body.to_vec(), &[]) };
    let entropy = contents.rest();
    let mut length = Writer::default();
    length.size(entropy.len());
    let mut w = Writer::default();
    w.raw(before);
    w.section(section::ENTROPY, length);
    w.raw(after);
    (w.bytes, entropy)
}

/// The contrary: the body with its entropy stream, which begins what follows it, and the rest of that.
fn with_entropy<'a>(body: Vec<u8>, following: &'a [u8], budget: &mut Budget) -> Result<(Vec<u8>, &'a [u8])> {
    let Some((before, mut contents, after)) = around_entropy(&body)? else { return Ok((body, following)) };
    let length = contents.up_to(following.len(), "length of the entropy stream")?;
    if length == 0 {
        return Err(contents.corrupt("an entropy stream of no bytes"));
    }
    contents.finish()?;
    budget.charge(length as u64, 1, "bytes of body")?;
    let (entropy, rest) = following.split_at(length);
    let mut w = Writer::default();
    w.raw(before);
    w.section(section::ENTROPY, Writer { bytes: entropy.to_vec(), ..Writer::default() });
    w.raw(after);
    Ok((w.bytes, rest))
}

/// The frame with what its header says that a reader needs.
pub(crate) fn with_required_bytes(frame: &[u8], required_bytes: u64) -> Result<Vec<u8>> {
    let (header, payload) = Header::read(frame)?;
    let header = Header { required_bytes, ..header };
    let frame = header.write(payload);
    match Header::read(&frame)? {
        read if read == (header, payload) => Ok(frame),
        _ => Err(Error::corrupt("the header is not the one that was meant")),
    }
}

fn checked_length(bytes: usize) -> Result<u32> {
    u32::try_from(bytes)
        .map_err(|_| Error::new(ErrorKind::TooLarge, format!("a frame of {bytes} bytes is over 4 GiB")))
}

/// What follows the header of a frame.
pub(crate) struct Contents<'a> {
    /// With its entropy stream.
    pub(crate) body: Vec<u8>,
    /// The compressed text.
    pub(crate) text: &'a [u8],
}

/// Header, decoded body and compressed text of a frame.
pub(crate) fn read<'a>(frame: &'a [u8], budget: &mut Budget) -> Result<(Header, Contents<'a>)> {
    let (header, payload) = Header::read(frame)?;
    let contents = read_contents(&header, payload, budget)?;
    Ok((header, contents))
}

/// Decoded body and compressed text of a frame: what follows its header.
pub(crate) fn read_contents<'a>(
    header: &Header,
    payload: &'a [u8],
    budget: &mut Budget,
) -> Result<Contents<'a>> {
    budget.charge(u64::from(header.body_length), 1, "bytes of body")?;
    let length = header.body_length as usize;
    let wrong_length = || Error::corrupt("the body is not as long as declared");
    let (body, text) = match header.compression {
        Compression::Stored => {
            let (body, text) = payload.split_at_checked(length).ok_or_else(wrong_length)?;
            (body.to_vec(), text)
        }
        Compression::Zstd => {
            let bad = || Error::corrupt("the body is not one zstd frame");
            let end = zstd_safe::find_frame_compressed_size(payload).map_err(|_| bad())?;
            let (compressed, following) = payload.split_at_checked(end).ok_or_else(bad)?;
            let mut decompressor = Decompressor::new().map_err(failed)?;
            let body = decompressor.decompress(compressed, length).map_err(|_| bad())?;
            if body.len() != length {
                return Err(wrong_length());
            }
            with_entropy(body, following, budget)?
        }
    };
    if header.has_text == text.is_empty() {
        return Err(Error::corrupt("what follows the body is not the text that the header tells of"));
    }
    Ok(Contents { body, text })
}

/// Every zstd frame begins with these bytes; those of a text leave them out.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// How hard zstd looks at a text: harder than a low level says, unless the prefix is very long.
fn text_parameters(level: i32, text: usize, prefix: usize) -> Vec<CParameter> {
    if text + prefix <= SMALL_TEXT {
        vec![CParameter::CompressionLevel(level.max(HARD_LEVEL))]
    } else if level < HARD_LEVEL && prefix / LONG_PREFIX <= text {
        vec![CParameter::CompressionLevel(level.max(TEXT_LEVEL)), CParameter::MinMatch(TEXT_MATCH)]
    } else {
        vec![CParameter::CompressionLevel(level)]
    }
}

/// The section TEXT of a text, and the compressed text.
fn compress_text(text: &FrameText, level: i32) -> Result<(Writer, Vec<u8>)> {
    let failed = |code| Error::new(ErrorKind::TooLarge, format!("zstd: {}", zstd_safe::get_error_name(code)));
    let mut section = Writer::default();
    section.raw(&text.section.bytes);
    let ranges = text.ranges();
    section.size(ranges.len());
    let mut all = Vec::new();
    let mut context = zstd_safe::CCtx::create();
    for parameter in text_parameters(level, text.bytes.len(), text.prefix.len()) {
        context.set_parameter(parameter).map_err(failed)?;
    }
    context.set_parameter(CParameter::ContentSizeFlag(false)).map_err(failed)?;
    let last = ranges.len() - 1;
    for (i, (piece, prefix)) in ranges.into_iter().enumerate() {
        section.size(piece.len());
        section.size(prefix.start);
        section.size(text.prefix.len() - prefix.end);
        let mut compressed = Vec::with_capacity(zstd_safe::compress_bound(piece.len()));
        context.ref_prefix(&text.prefix[prefix]).map_err(failed)?;
        context.compress2(&mut compressed, &text.bytes[piece]).map_err(failed)?;
        let compressed = &compressed[ZSTD_MAGIC.len()..];
        if i < last {
            section.size(compressed.len());
        }
        all.extend_from_slice(compressed);
    }
    Ok((section, all))
}

/// The text of a frame.
pub(crate) fn decompress_text(chunks: &[Chunk], compressed: &[u8], prefix: &[u8]) -> Result<Vec<u8>> {
    let bad = || Error::corrupt("the text is not one zstd frame a chunk");
    let mut context = zstd_safe::DCtx::create();
    let mut text = Vec::with_capacity(chunks.iter().map(|chunk| chunk.length).sum());
    for chunk in chunks {
        let frame = [&ZSTD_MAGIC, &compressed[chunk.compressed.clone()]].concat();
        if zstd_safe::find_frame_compressed_size(&frame) != Ok(frame.len()) {
            return Err(bad());
        }
        let mut piece = Vec::with_capacity(chunk.length);
        context.ref_prefix(&prefix[chunk.prefix.clone()]).map_err(|_| bad())?;
        context.decompress(&mut piece, &frame).map_err(|_| bad())?;
        if piece.len() != chunk.length {
            return Err(bad());
        }
        text.extend_from_slice(&piece);
    }
    Ok(text)
}
