//! Words: the key they are known by, and tables of them.
//!
//! A word of up to eight bytes is its own key; a longer one has a hash with the topmost bit set, which no ASCII has.
//! Names are cut at 63 bytes, as the server does it.

use crate::text::effects::Effects;

/// The key of all words that are not plain ASCII: what they look like depends on the client's encoding.
pub(super) const ODD: u64 = u64::MAX;

/// Names are cut here (`NAMEDATALEN`).
pub(super) const NAME_MAX: usize = 63;

const HASHED: u64 = 1 << 63;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The key of a word without quotes.
pub(super) fn folded_key(word: &[u8]) -> u64 {
    key(word, true)
}

/// The key of a name as it is.
pub(super) const fn exact_key(name: &[u8]) -> u64 {
    key(name, false)
}

const fn key(name: &[u8], folds: bool) -> u64 {
    let length = if name.len() < NAME_MAX { name.len() } else { NAME_MAX };
    let (mut at, mut chunk, mut hash, mut odd) = (0, 0_u64, 0_u64, 0);
    while at < length {
        let byte = name[at];
        odd |= byte;
        chunk = chunk << 8 | if folds { byte.to_ascii_lowercase() } else { byte } as u64;
        at += 1;
        if at % 8 == 0 && length > 8 {
            hash = mix(hash, chunk);
            chunk = 0;
        }
    }
    match length {
        _ if odd >= 0x80 => ODD,
        ..=8 => chunk,
        _ => mix(hash, chunk) | HASHED,
    }
}

const fn mix(hash: u64, chunk: u64) -> u64 {
    (hash.rotate_left(23) ^ chunk).wrapping_mul(FACTOR)
}

/// Which words may be known, by their first letter, last letter and length: most are not.
#[derive(Debug)]
pub(super) struct Filter([u64; 32]);

impl Filter {
    /// Lets everything pass.
    pub(super) const OPEN: Self = Self([u64::MAX; 32]);

    pub(super) const fn new() -> Self {
        Self([0; 32])
    }

    /// Lets a name pass, whatever its case.
    pub(super) const fn with(mut self, name: &[u8]) -> Self {
        if let [first, ..] = name {
            // What is cut may end in anything.
            let bits = if name.len() < NAME_MAX { Self::bit(name) } else { u64::MAX };
            self.0[(*first & 31) as usize] |= bits;
        }
        self
    }

    #[inline(always)]
    pub(super) const fn passes(&self, name: &[u8]) -> bool {
        match name {
            [] => true,
            [first, ..] => self.0[(*first & 31) as usize] & Self::bit(name) != 0,
        }
    }

    #[inline(always)]
    const fn bit(name: &[u8]) -> u64 {
        let last = (name[name.len() - 1] & 31) as u32;
        1_u64.rotate_left((name.len() as u32).wrapping_mul(5).wrapping_add(last))
    }
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
