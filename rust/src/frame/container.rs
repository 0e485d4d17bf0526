//! Frames: a body coded by zstd behind its header. FORMAT.md section 2.

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use crate::error::{Error, ErrorKind, Result};
use crate::format::budget::Budget;
use crate::format::header::{Coding, Header};

const MAX_WINDOW_LOG: u32 = 27;

fn failed(error: std::io::Error) -> Error {
    Error::new(ErrorKind::TooLarge, format!("zstd: {error}"))
}

/// Makes frames with one level; the compressor's memory is kept between them.
pub struct Sealer {
    compressor: Compressor<'static>,
    #[cfg(test)]
    pub fault: Option<Fault>,
}

/// What befalls a frame before anyone reads it.
#[cfg(test)]
pub type Fault = Box<dyn Fn(Vec<u8>) -> Vec<u8>>;

impl Sealer {
    pub fn new(level: i32) -> Result<Sealer> {
        let compressor = Compressor::new(level).map_err(failed)?;
        Ok(Sealer {
            compressor,
            #[cfg(test)]
            fault: None,
        })
    }

    pub fn seal(&mut self, header: Header, body: &[u8]) -> Result<Vec<u8>> {
        let Ok(body_length) = u32::try_from(body.len()) else {
            let message = format!("a frame of {} bytes is over 4 GiB", body.len());
            return Err(Error::new(ErrorKind::TooLarge, message));
        };
        let coded = self.compressor.compress(body).map_err(failed)?;
        let (coding, coded) =
            if coded.len() < body.len() { (Coding::Zstd, &coded[..]) } else { (Coding::Stored, body) };
        let header = Header { coding, body_length, ..header };
        let frame = header.seal(coded);
        #[cfg(test)]
        if let Some(fault) = &self.fault {
            return Ok(fault(frame));
        }
        Ok(frame)
    }
}

/// Header and decoded body of a frame.
pub fn open(frame: &[u8], budget: &mut Budget) -> Result<(Header, Vec<u8>)> {
    let (header, coded) = Header::open(frame)?;
    budget.charge(u64::from(header.body_length), 1, "bytes of body")?;
    let length = header.body_length as usize;
    let body = match header.coding {
        Coding::Stored => coded.to_vec(),
        Coding::Zstd => {
            let bad =
                || Error::corrupt_at(crate::format::header::HEADER_LENGTH, "the body is not one zstd frame");
            if zstd_safe::find_frame_compressed_size(coded) != Ok(coded.len()) {
                return Err(bad());
            }
            let mut decompressor = Decompressor::new().map_err(failed)?;
            decompressor
                .set_parameter(zstd_safe::DParameter::WindowLogMax(MAX_WINDOW_LOG))
                .map_err(failed)?;
            decompressor.decompress(coded, length).map_err(|_| bad())?
        }
    };
    if body.len() != length {
        return Err(Error::corrupt_at(40, "the body is not as long as declared"));
    }
    Ok((header, body))
}
