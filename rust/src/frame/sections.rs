//! The sections of a body: FORMAT.md section 2.

use crate::error::Result;
use crate::format::reader::Reader;
use crate::format::section;

/// Calls `take` for each section, in order. Unknown optional ones are left out.
pub(crate) fn sections<'a>(body: &'a [u8], mut take: impl FnMut(u8, Reader<'a>)) -> Result<()> {
    let mut r = Reader::new(body);
    let mut last = 0;
    while !r.is_empty() {
        let id = r.u8()?;
        if id <= last {
            return Err(r.corrupt("sections are out of order"));
        }
        if id > section::LAST && id < section::FIRST_OPTIONAL {
            return Err(r.reserved("section", id));
        }
        let length = r.count("bytes")?;
        let contents = r.part(length)?;
        if id < section::FIRST_OPTIONAL {
            take(id, contents);
        }
        last = id;
    }
    Ok(())
}

/// A body before its section ENTROPY, the contents of that, and the body after it.
pub(crate) type AroundEntropy<'a> = (&'a [u8], Reader<'a>, &'a [u8]);

/// None where the body has no such section, or nothing in it.
pub(crate) fn around_entropy(body: &[u8]) -> Result<Option<AroundEntropy<'_>>> {
    let mut before = 0;
    let mut found = None;
    sections(body, |id, contents| {
        let end = contents.offset() + contents.left();
        if id != section::ENTROPY {
            before = end;
        } else if !contents.is_empty() {
            found = Some((contents, end));
        }
    })?;
    Ok(found.map(|(contents, end)| (&body[..before], contents, &body[end..])))
}

/// The sections by id; absent ones are empty.
pub(crate) fn split(body: &[u8]) -> Result<[Option<Reader<'_>>; section::LAST as usize + 1]> {
    let mut parts = [const { None }; section::LAST as usize + 1];
    sections(body, |id, contents| parts[usize::from(id)] = Some(contents))?;
    Ok(parts)
}
