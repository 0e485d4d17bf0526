//! Lists of integers, as byte planes or in the frame's entropy stream: FORMAT.md section 2.1.

use crate::error::Result;
use crate::format::entropy::{EntropyReader, Step, Steps};
use crate::format::reader::Reader;
use crate::format::share;
use crate::format::writer::{Writer, width_of};

/// Modes below stand for the width of byte planes; from here on, for the bits of a class's mantissa.
pub(crate) const CODED: u8 = 16;
/// Bits of mantissa that a table may have; with the last, each number has a class of its own.
pub(crate) const MANTISSAS: [u8; 4] = [0, 1, 2, WHOLE];
pub(crate) const WHOLE: u8 = 8;
const MAX_TABLE_BITS: u8 = 12;
/// The most classes, for any mantissa.
pub(crate) const CLASSES: usize = 256;
/// The most raw bits of one step.
const RAW_BITS: u8 = 16;

/// Class of a number, and its count of open bits.
#[inline(always)]
pub(crate) fn class_of(number: u64, mantissa: u8) -> (u8, u8) {
    let length = (64 - number.leading_zeros()) as u8;
    if length <= mantissa {
        return (number as u8, 0);
    }
    let open = length - 1 - mantissa;
    ((open << mantissa) + (number >> open) as u8, open)
}

/// The frequency of each class, in parts of `1 << bits`.
pub(crate) struct Table {
    pub(crate) mantissa: u8,
    pub(crate) bits: u8,
    /// The class of the first frequency; it and the last one are not 0.
    pub(crate) lowest: u8,
    pub(crate) frequencies: Vec<u16>,
}

/// The bits of a table for this many numbers; more bits would add no information.
pub(crate) fn table_bits(n: usize) -> u8 {
    ((usize::BITS - n.leading_zeros()) as u8).clamp(1, MAX_TABLE_BITS)
}

impl Table {
    /// The step of each class.
    fn steps(&self) -> Vec<Step> {
        let mut start = 0;
        let step = |&frequency| {
            let step = Step { start, frequency, bits: self.bits };
            start += u32::from(frequency);
            step
        };
        self.frequencies.iter().map(step).collect()
    }

    fn write(&self, w: &mut Writer) {
        w.u8(CODED + self.mantissa);
        w.u8(self.lowest);
        let (_, all_but_last) = self.frequencies.split_last().unwrap_or((&0, &[]));
        w.u8(all_but_last.len() as u8);
        for frequency in all_but_last {
            w.uvarint(u64::from(*frequency));
        }
    }

    fn read(r: &mut Reader<'_>, mantissa: u8, n: usize) -> Result<Table> {
        let bits = table_bits(n);
        let lowest = r.u8()?;
        let others = r.u8()?;
        let highest = if mantissa == WHOLE { u8::MAX } else { class_of(u64::MAX, mantissa).0 };
        if u16::from(lowest) + u16::from(others) > u16::from(highest) {
            return Err(r.corrupt("a class is out of range"));
        }
        let mut left = 1usize << bits;
        let mut frequencies = Vec::with_capacity(usize::from(others) + 1);
        for _ in 0..others {
            let frequency = r.up_to(left, "frequency")?;
            left -= frequency;
            frequencies.push(frequency as u16);
        }
        frequencies.push(left as u16);
        if frequencies[0] == 0 || left == 0 {
            return Err(r.corrupt("the first or the last class of a table never comes"));
        }
        Ok(Table { mantissa, bits, lowest, frequencies })
    }
}

/// The step of a choice; None if the share leaves no choice.
pub(crate) fn choice(share: u8, is_taken: bool) -> Option<Step> {
    if share == share::NONE || share == share::ALL {
        return None;
    }
    let bits = share::BITS;
    let share = u16::from(share);
    let all = 1 << bits;
    Some(if is_taken {
        Step { start: 0, frequency: share, bits }
    } else {
        Step { start: u32::from(share), frequency: all - share, bits }
    })
}

impl Writer {
    pub(crate) fn byte_planes(&mut self, words: &[u64]) {
        let width = width_of(words.iter().fold(0, |all, w| all | w));
        self.u8(width as u8);
        for plane in 0..width {
            let shift = 8 * plane;
            self.bytes.extend(words.iter().map(|w| (w >> shift) as u8));
        }
    }

    /// Writes a choice to the entropy stream; nothing if the share leaves no choice.
    pub(crate) fn choice(&mut self, share: u8, is_taken: bool) {
        self.steps.extend(choice(share, is_taken));
    }

    /// The listed share that is nearest, in the entropy stream; `NONE` and `ALL` only for themselves.
    pub(crate) fn share(&mut self, share: u8) -> u8 {
        let last = share::LISTED.len() - 1;
        let above = share::LISTED.partition_point(|listed| *listed < share);
        let place = match above {
            0 => 0,
            _ if share == share::ALL => last,
            _ => {
                let is_below = share - share::LISTED[above - 1] < share::LISTED[above] - share;
                (above - usize::from(is_below)).clamp(1, last - 1)
            }
        };
        self.steps.push(Step { start: place as u32, frequency: 1, bits: share::LISTED_BITS });
        share::LISTED[place]
    }

    /// Writes the numbers to the entropy stream; every used class has a frequency in the table.
    pub(crate) fn coded_integers(&mut self, numbers: &[u64], table: &Table) {
        table.write(self);
        let of_class = table.steps();
        if table.mantissa == WHOLE {
            let step = |number: &u64| of_class[*number as usize - usize::from(table.lowest)];
            self.steps.extend(numbers.iter().map(step));
            return;
        }
        self.steps.reserve(numbers.len());
        for number in numbers {
            let (class, open) = class_of(*number, table.mantissa);
            self.steps.push(of_class[usize::from(class - table.lowest)]);
            let mut done = 0;
            while done < open {
                let bits = RAW_BITS.min(open - done);
                let start = (number >> done) as u32 & ((1 << bits) - 1);
                self.steps.push(Step { start, frequency: 1, bits });
                done += bits;
            }
        }
    }
}

impl Reader<'_> {
    /// Lets `then` read choices, as `EntropyReader::steps` does.
    #[inline(always)]
    pub(crate) fn choices<T>(&mut self, then: impl FnOnce(&mut Steps<'_>) -> Option<T>) -> Result<T> {
        // no choice can be read from an empty one
        let none = EntropyReader::new(&[])?;
        let read = self.entropy.unwrap_or(&none).steps(then);
        read.map_err(|error| match self.entropy {
            Some(_) => error,
            None => self.corrupt("there is no entropy stream"),
        })
    }

    /// A share of the list.
    pub(crate) fn share(&mut self) -> Result<u8> {
        let Some(entropy) = self.entropy else {
            return Err(self.corrupt("there is no entropy stream"));
        };
        Ok(share::LISTED[entropy.steps(|steps| steps.raw(share::LISTED_BITS))? as usize])
    }

    /// The caller has charged the budget for `n` numbers.
    pub(crate) fn integers(&mut self, n: usize) -> Result<Vec<u64>> {
        let mode = self.u8()?;
        if mode < CODED {
            return self.byte_planes_of(mode, n);
        }
        let mantissa = mode - CODED;
        if !MANTISSAS.contains(&mantissa) {
            return Err(self.reserved("mode of a list of integers", mode));
        }
        let Some(entropy) = self.entropy else {
            return Err(self.corrupt("there is no entropy stream"));
        };
        let table = Table::read(self, mantissa, n)?;
        coded_integers(entropy, &table, n)
    }

    pub(crate) fn byte_planes(&mut self, n: usize) -> Result<Vec<u64>> {
        let width = self.u8()?;
        self.byte_planes_of(width, n)
    }

    fn byte_planes_of(&mut self, width: u8, n: usize) -> Result<Vec<u64>> {
        if width > 8 {
            return Err(self.corrupt("byte planes are wider than 8 bytes"));
        }
        let bytes = match n.checked_mul(usize::from(width)) {
            Some(total) => self.raw(total)?,
            None => return Err(self.corrupt("the bytes end too early")),
        };
        if width == 0 {
            return Ok(vec![0; n]);
        }
        let (first, others) = bytes.split_at(n);
        let mut words: Vec<u64> = first.iter().map(|byte| u64::from(*byte)).collect();
        if n > 0 {
            for (plane, bytes) in (1..).zip(others.chunks_exact(n)) {
                let shift = 8 * plane;
                for (word, byte) in words.iter_mut().zip(bytes) {
                    *word |= u64::from(*byte) << shift;
                }
            }
        }
        Ok(words)
    }
}

impl Steps<'_> {
    /// A choice that was written with the same share.
    #[inline(always)]
    pub(crate) fn choice(&mut self, share: u8) -> Option<bool> {
        // less 1, these two are the greatest
        if share.wrapping_sub(1) >= share::ALL - 1 {
            return Some(share == share::ALL);
        }
        let slot = self.slot(share::BITS);
        let share = u64::from(share);
        if slot < share {
            self.advance(slot, share, share::BITS)?;
            Some(true)
        } else {
            self.advance(slot - share, (1 << share::BITS) - share, share::BITS)?;
            Some(false)
        }
    }

    /// The open bits of a number.
    #[inline(always)]
    fn open_bits(&mut self, open: u8) -> Option<u64> {
        if open <= RAW_BITS {
            return self.raw(open);
        }
        let mut number = 0;
        let mut done = 0;
        while done < open {
            let bits = RAW_BITS.min(open - done);
            number |= self.raw(bits)? << done;
            done += bits;
        }
        Some(number)
    }
}

/// A class as it is read.
#[derive(Clone, Copy, Default)]
struct Class {
    start: u16,
    frequency: u16,
    open: u8,
    /// The bits above the open ones.
    head: u8,
}

/// Open bits of the numbers of a class, and the bits above them.
fn bits_of_class(class: u8, mantissa: u8) -> (u8, u8) {
    if mantissa == WHOLE || class < 1 << mantissa {
        return (0, class);
    }
    // with the leading bit
    ((class >> mantissa) - 1, class & ((1 << mantissa) - 1) | 1 << mantissa)
}

fn coded_integers(entropy: &EntropyReader<'_>, table: &Table, n: usize) -> Result<Vec<u64>> {
    let Table { mantissa, bits, lowest, .. } = *table;
    // the class of each slot, counted from the lowest
    let mut slots: Vec<u8> = Vec::with_capacity(1 << bits);
    let mut classes = [Class::default(); CLASSES];
    for (class, (&frequency, entry)) in (0..=u8::MAX).zip(table.frequencies.iter().zip(&mut classes)) {
        let (open, head) = bits_of_class(class + lowest, mantissa);
        *entry = Class { start: slots.len() as u16, frequency, open, head };
        slots.resize(slots.len() + usize::from(frequency), class);
    }
    let mut numbers = Vec::with_capacity(n);
    let mut block = [0; 64];
    entropy.steps(|steps| {
        while numbers.len() < n {
            let block = &mut block[..(n - numbers.len()).min(64)];
            for number in &mut *block {
                let slot = steps.slot(bits);
                let Class { start, frequency, open, head } = classes[usize::from(slots[slot as usize])];
                steps.advance(slot - u64::from(start), u64::from(frequency), bits)?;
                *number = u64::from(head);
                if open > 0 {
                    *number = *number << open | steps.open_bits(open)?;
                }
            }
            numbers.extend_from_slice(block);
        }
        Some(())
    })?;
    Ok(numbers)
}
