//! The hash functions behind checksum and digest: FORMAT.md section 1.3.

use crate::format::tag::Tag;

const K0: u64 = 0x9E37_79B9_7F4A_7C15;
const K1: u64 = 0xA076_1D64_78BD_642F;
const K2: u64 = 0xE703_7ED1_A0B4_28DB;
const K3: u64 = 0x8EBC_6AF0_9C88_C6E3;

/// In halves: a product of 128 bits is a call there.
#[cfg(target_arch = "wasm32")]
#[inline(always)]
fn mum(a: u64, b: u64) -> u64 {
    const LOW: u64 = u32::MAX as u64;
    let [a_low, a_high, b_low, b_high] = [a & LOW, a >> 32, b & LOW, b >> 32];
    let (low, crossed) = (a_low * b_low, a_high * b_low);
    let middle = a_low * b_high + (low >> 32) + (crossed & LOW);
    let high = a_high * b_high + (crossed >> 32) + (middle >> 32);
    (middle << 32 | low & LOW) ^ high
}

#[cfg(not(target_arch = "wasm32"))]
#[inline(always)]
fn mum(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// H(words; n), fed word by word.
#[derive(Clone, Copy)]
pub(crate) struct Chain(u64);

impl Default for Chain {
    fn default() -> Self {
        Chain(K0)
    }
}

impl Chain {
    #[inline(always)]
    pub(crate) fn feed(&mut self, word: u64) {
        self.0 = mum(self.0 ^ word, K1);
    }

    #[inline(always)]
    pub(crate) fn finish(self, n: usize) -> u64 {
        mum(self.0 ^ n as u64, K2)
    }

    fn feed_bytes(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            self.feed(u64::from_le_bytes(*word));
        }
        if !tail.is_empty() {
            let mut last = [0; 8];
            last[..tail.len()].copy_from_slice(tail);
            self.feed(u64::from_le_bytes(last));
        }
    }
}

pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut chain = Chain::default();
    chain.feed_bytes(bytes);
    chain.finish(bytes.len())
}

/// A cell's share in its record's hash; `x` is the word, the hash of the blob, or 0.
#[inline(always)]
pub(crate) fn hash_cell(path: u64, tag: Tag, x: u64) -> u64 {
    mum(mum(x ^ path, K2) ^ (u64::from(tag) + 1), K3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_and_tag_count() {
        assert_ne!(hash_bytes(b"a"), hash_bytes(b"a\0"));
        assert_ne!(hash_cell(1, 1, 0), hash_cell(1, 2, 0));
    }
}
