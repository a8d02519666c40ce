//! Words: where they end, the key they are known by, and what the known ones do.
//!
//! A word of up to eight bytes is its own key, in lower case; a longer one has a hash with the topmost bit set, which
//! no ASCII has. Names are cut at 63 bytes, as the server does it.

use crate::text::effects::Effects;

/// The key of all words that are not plain ASCII: what they look like depends on the client's encoding.
pub(super) const ODD: u64 = u64::MAX;

/// Names are cut here (`NAMEDATALEN`).
pub(super) const NAME_MAX: usize = 63;

const HASHED: u64 = 1 << 63;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The same byte eight times.
const fn each(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

/// The topmost bits of the bytes that are letters.
fn letters(bytes: u64) -> u64 {
    let low = (bytes & each(0x7f)) | each(0x20);
    (low + each(0x80 - b'a')) & !(low + each(0x7f - b'z')) & !bytes & each(0x80)
}

/// The topmost bits of the bytes that a word may go on with.
fn word_bytes(bytes: u64, letters: u64) -> u64 {
    let low = bytes & each(0x7f);
    let digits = (low + each(0x80 - b'0')) & !(low + each(0x7f - b'9'));
    let other_than = |byte: u8| (low ^ each(byte)) + each(0x7f);
    let signs = !(other_than(b'_') & other_than(b'$'));
    letters | bytes | (digits | signs) & each(0x80)
}

const fn mix(hash: u64, chunk: u64) -> u64 {
    (hash.rotate_left(23) ^ chunk).wrapping_mul(FACTOR)
}

/// Up to eight bytes of a word in lower case, how many they are, and whether some are not ASCII.
#[inline(always)]
fn part(text: &[u8]) -> (u64, usize, bool) {
    let bytes = match text.first_chunk() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => text.iter().rev().fold(0, |bytes, byte| bytes << 8 | u64::from(*byte)),
    };
    let letters = letters(bytes);
    let other = !word_bytes(bytes, letters) & each(0x80);
    // All bits below the first byte that is of no word; all of them, if there is none.
    let mask = ((other & other.wrapping_neg()) >> 7).wrapping_sub(1);
    let length = other.trailing_zeros() as usize / 8;
    ((bytes | letters >> 2) & mask, length, bytes & mask & each(0x80) != 0)
}

/// The length and the key of the word that a text begins with.
#[inline(always)]
pub(super) fn scan(text: &[u8]) -> (usize, u64) {
    let (key, length, odd) = part(text);
    if length == 8 {
        return scan_long(text, key, odd);
    }
    (length, if odd { ODD } else { key })
}

/// What began with eight bytes of a word.
fn scan_long(text: &[u8], first: u64, mut odd: bool) -> (usize, u64) {
    let (mut hash, mut at) = (mix(0, first), 8);
    loop {
        let (mut key, length, strange) = part(text.get(at..).unwrap_or_default());
        if at < NAME_MAX {
            odd |= strange;
            if at + length > NAME_MAX {
                key &= u64::MAX >> 8;
            }
            if length > 0 {
                hash = mix(hash, key);
            }
        }
        at += length;
        if length < 8 {
            break;
        }
    }
    (at, if odd { ODD } else { finish(at, first, hash) })
}

const fn finish(length: usize, first: u64, hash: u64) -> u64 {
    if length == 8 { first } else { hash | HASHED }
}

/// The key of a name as it is.
pub(super) const fn exact_key(name: &[u8]) -> u64 {
    let length = if name.len() < NAME_MAX { name.len() } else { NAME_MAX };
    let (mut at, mut first, mut hash) = (0, 0, 0);
    while at < length {
        let (mut chunk, mut shift) = (0, 0);
        while at < length && shift < 64 {
            if name[at] >= 0x80 {
                return ODD;
            }
            chunk |= (name[at] as u64) << shift;
            shift += 8;
            at += 1;
        }
        if at <= 8 {
            first = chunk;
        }
        hash = mix(hash, chunk);
    }
    if length <= 8 { first } else { finish(length, first, hash) }
}

/// Where a key is in a table of two to the power of `bits`.
pub(super) const fn slot(key: u64, bits: u32) -> usize {
    (key.wrapping_mul(FACTOR) >> (64 - bits)) as usize
}

/// Names with effects that are not built in.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Keys and effects, open addressing; the length is a power of two, or zero.
    slots: Vec<(u64, Effects)>,
}

impl Table {
    pub(super) fn of(mut names: Vec<(u64, Effects)>) -> Self {
        names.sort_unstable_by_key(|(key, _)| *key);
        names.dedup_by(|(key, effects), (before, all)| {
            *all |= if key == before { *effects } else { Effects::NONE };
            key == before
        });
        if names.is_empty() {
            return Self::default();
        }
        let mut slots = vec![(0, Effects::NONE); (2 * names.len()).next_power_of_two()];
        for (key, effects) in names {
            let mut at = slot(key, slots.len().ilog2());
            while slots[at].0 != 0 {
                at = (at + 1) % slots.len();
            }
            slots[at] = (key, effects);
        }
        Self { slots }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    #[inline]
    pub(super) fn get(&self, key: u64) -> Effects {
        if self.slots.is_empty() {
            return Effects::NONE;
        }
        let mut at = slot(key, self.slots.len().ilog2());
        loop {
            match self.slots[at] {
                (0, _) => return Effects::NONE,
                (found, effects) if found == key => return effects,
                _ => at = (at + 1) % self.slots.len(),
            }
        }
    }
}
