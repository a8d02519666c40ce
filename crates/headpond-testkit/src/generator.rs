//! Inputs that are nearly sensible, drawn from one seed (splitmix64).

/// Draws inputs: one that makes sense with a few changes, or two of them spliced.
#[derive(Debug)]
pub struct Generator(u64);

/// Bytes and numbers at which readers go wrong.
const BYTES: [u8; 14] = [0, 1, 4, 5, 0x7f, 0x80, 0xff, b'\n', b' ', b'"', b'\'', b'=', b',', b'['];
const NUMBERS: [u32; 8] = [0, 3, 4, 8, 65_531, 0x7fff_ffff, 0x8000_0000, u32::MAX];

impl Generator {
    /// The same seed draws the same.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next input.
    ///
    /// # Panics
    /// Without seeds.
    pub fn input(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..self.below(5) {
            let other = &seeds[self.below(seeds.len())];
            self.change(&mut input, other);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(input.len() + 1);
        match self.below(8) {
            0 => input.truncate(at),
            1 => input.insert(at, BYTES[self.below(BYTES.len())]),
            2 => input.splice(at.., other[self.below(other.len() + 1)..].iter().copied()).for_each(drop),
            3 => input.extend_from_slice(other),
            4 => {
                // Repeated.
                let end = at + self.below((input.len() - at).min(64) + 1);
                let part = input[at..end].to_vec();
                input.splice(at..at, part).for_each(drop);
            }
            5 => {
                let end = at + self.below((input.len() - at).min(16) + 1);
                input.drain(at..end).for_each(drop);
            }
            6 => {
                let number = NUMBERS[self.below(NUMBERS.len())].to_be_bytes();
                input.iter_mut().skip(at).zip(number).for_each(|(byte, new)| *byte = new);
            }
            _ => {
                let flip = 1 << self.below(8);
                input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= flip);
            }
        }
    }

    /// From 0 to `below` − 1.
    fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % below.max(1) as u64).unwrap_or(0)
    }
}
