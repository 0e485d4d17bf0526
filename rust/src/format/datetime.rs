//! Dates, times and zones as payloads: FORMAT.md section 1.1. Fields only, never through UTC.

use crate::error::Result;
use crate::format::reader::Reader;
use crate::format::text::is_text;
use crate::format::writer::Writer;

const DAY: u64 = 86_400_000_000;
const DAYS_TO_YEAR_10000: u64 = 3_652_059;
/// Datetime words are below this: 10000-01-01 00:00.
pub(crate) const DATETIME_END: u64 = DAYS_TO_YEAR_10000 * DAY;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Date {
    pub(crate) year: u16,
    pub(crate) month: u8,
    pub(crate) day: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock {
    pub(crate) hour: u8,
    pub(crate) minute: u8,
    pub(crate) second: u8,
    pub(crate) microsecond: u32,
}

/// Days, seconds and microseconds as in Python's timedelta, normalized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delta {
    pub(crate) days: i32,
    pub(crate) seconds: u32,
    pub(crate) microseconds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zone<'a> {
    None,
    Utc,
    Offset(Delta),
    Named(Delta, &'a [u8]),
    Key(&'a [u8]),
}

fn is_leap(year: u16) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in_month(year: u16, month: u8) -> u8 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Date {
    pub(crate) fn word(self) -> u64 {
        u64::from(self.year) << 9 | u64::from(self.month) << 5 | u64::from(self.day)
    }

    pub(crate) fn from_word(word: u64) -> Date {
        Date { year: (word >> 9) as u16, month: (word >> 5 & 15) as u8, day: (word & 31) as u8 }
    }

    /// Days since 0001-01-01 (days_from_civil, Howard Hinnant).
    pub(crate) fn days(self) -> u64 {
        let year = u64::from(self.year) - u64::from(self.month <= 2);
        let month = (u64::from(self.month) + 9) % 12;
        let day_of_year = (153 * month + 2) / 5 + u64::from(self.day) - 1;
        year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 306
    }

    /// The reverse (civil_from_days, Howard Hinnant).
    fn from_days(days: u64) -> Date {
        let z = days + 306;
        let era = z / 146_097;
        let doe = z % 146_097;
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        Date {
            year: (yoe + era * 400 + u64::from(month <= 2)) as u16,
            month: month as u8,
            day: (doy - (153 * mp + 2) / 5 + 1) as u8,
        }
    }
}

impl Clock {
    fn microseconds(self) -> u64 {
        let seconds = u64::from(self.hour) * 3600 + u64::from(self.minute) * 60 + u64::from(self.second);
        seconds * 1_000_000 + u64::from(self.microsecond)
    }

    fn from_microseconds(all: u64) -> Clock {
        let seconds = all / 1_000_000;
        Clock {
            hour: (seconds / 3600) as u8,
            minute: (seconds / 60 % 60) as u8,
            second: (seconds % 60) as u8,
            microsecond: (all % 1_000_000) as u32,
        }
    }
}

pub(crate) fn datetime_word(date: Date, clock: Clock) -> u64 {
    date.days() * DAY + clock.microseconds()
}

pub(crate) fn datetime_fields(word: u64) -> (Date, Clock) {
    (Date::from_days(word / DAY), Clock::from_microseconds(word % DAY))
}

pub(crate) fn is_date(word: u64) -> bool {
    if word >> 9 > 9999 {
        return false;
    }
    let date = Date::from_word(word);
    date.year >= 1
        && (1..=12).contains(&date.month)
        && (1..=days_in_month(date.year, date.month)).contains(&date.day)
}

impl Delta {
    pub(crate) fn write(self, w: &mut Writer) {
        w.raw(&self.days.to_le_bytes());
        w.raw(&self.seconds.to_le_bytes());
        w.raw(&self.microseconds.to_le_bytes());
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Delta> {
        Ok(Delta { days: r.u32()? as i32, seconds: r.u32()?, microseconds: r.u32()? })
    }

    fn is_normal(self) -> bool {
        self.days.unsigned_abs() <= 999_999_999 && self.seconds < 86_400 && self.microseconds < 1_000_000
    }

    /// Strictly between minus and plus 24 hours.
    fn is_offset(self) -> bool {
        self.is_normal() && (self.days == 0 || self.days == -1 && (self.seconds, self.microseconds) != (0, 0))
    }

    pub(crate) fn is_zero(self) -> bool {
        (self.days, self.seconds, self.microseconds) == (0, 0, 0)
    }
}

impl<'a> Zone<'a> {
    pub(crate) fn write(self, w: &mut Writer) {
        match self {
            Zone::None => w.u8(0),
            Zone::Utc => w.u8(1),
            Zone::Offset(delta) => {
                w.u8(2);
                delta.write(w);
            }
            Zone::Named(delta, name) => {
                w.u8(3);
                delta.write(w);
                w.text(name);
            }
            Zone::Key(key) => {
                w.u8(4);
                w.text(key);
            }
        }
    }

    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Zone<'a>> {
        Ok(match r.u8()? {
            0 => Zone::None,
            1 => Zone::Utc,
            2 => Zone::Offset(Delta::read(r)?),
            3 => Zone::Named(Delta::read(r)?, r.text()?),
            4 => Zone::Key(r.text()?),
            _ => return Err(r.corrupt("unknown kind of time zone")),
        })
    }

    fn is_canonical(self) -> bool {
        match self {
            Zone::None | Zone::Utc => true,
            Zone::Offset(delta) => delta.is_offset() && !delta.is_zero(),
            Zone::Named(delta, name) => delta.is_offset() && is_text(name),
            Zone::Key(key) => is_text(key),
        }
    }
}

pub(crate) fn is_utc(zone: &[u8]) -> bool {
    matches!(Zone::read(&mut Reader::new(zone)), Ok(Zone::Utc))
}

/// A datetime or time in a blob: microseconds, fold, zone.
pub(crate) fn write_stamp(w: &mut Writer, microseconds: u64, fold: u8, zone: Zone<'_>) {
    w.u64(microseconds);
    w.u8(fold);
    zone.write(w);
}

pub(crate) fn read_stamp(blob: &[u8]) -> Result<(u64, u8, Zone<'_>)> {
    let mut r = Reader::new(blob);
    let stamp = (r.u64()?, r.u8()?, Zone::read(&mut r)?);
    r.finish()?;
    Ok(stamp)
}

pub(crate) fn time_microseconds(clock: Clock) -> u64 {
    clock.microseconds()
}

pub(crate) fn time_fields(microseconds: u64) -> Clock {
    Clock::from_microseconds(microseconds)
}

fn is_stamp(blob: &[u8], end: u64, allowed: impl Fn(u8, Zone<'_>) -> bool) -> bool {
    matches!(read_stamp(blob), Ok((us, fold, zone))
        if us < end && fold <= 1 && zone.is_canonical() && allowed(fold, zone))
}

pub(crate) fn is_zoned_datetime(blob: &[u8]) -> bool {
    // fold 0 without a zone or in UTC has a tag of its own
    is_stamp(blob, DATETIME_END, |fold, zone| fold == 1 || !matches!(zone, Zone::None | Zone::Utc))
}

pub(crate) fn is_time(blob: &[u8]) -> bool {
    is_stamp(blob, DAY, |_, _| true)
}

pub(crate) fn is_timedelta(blob: &[u8]) -> bool {
    let mut r = Reader::new(blob);
    matches!(Delta::read(&mut r), Ok(delta) if delta.is_normal()) && r.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_round_trips() {
        let mut last = None;
        for days in 0..DAYS_TO_YEAR_10000 {
            let date = Date::from_days(days);
            assert_eq!(date.days(), days);
            assert!(is_date(date.word()));
            assert_eq!(Date::from_word(date.word()), date);
            assert!(last < Some(date.word()));
            last = Some(date.word());
        }
        assert_eq!(Date::from_days(0).word(), 1 << 9 | 1 << 5 | 1);
        assert!(!is_date((2023 << 9) + (2 << 5) + 29));
        assert!(!is_date(10_000 << 9 | 1 << 5 | 1));
    }

    #[test]
    fn offsets_stay_below_a_day() {
        let delta = |days, seconds| Delta { days, seconds, microseconds: 0 };
        assert!(delta(-1, 1).is_offset());
        assert!(!delta(-1, 0).is_offset());
        assert!(!delta(1, 0).is_offset());
        assert!(!Zone::Offset(delta(0, 0)).is_canonical());
    }
}
