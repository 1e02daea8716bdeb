//! The simulator's source of chance: xoshiro256++ (Blackman and Vigna), filled from a seed by
//! splitmix64. Small, fast, and the same numbers on every machine.
//!
//! What it leaves to others: cryptography, for which it is useless.

/// A stream of numbers that its seed decides.
#[derive(Clone, Debug)]
pub struct Random {
    words: [u64; 4],
}

impl Random {
    /// The stream that belongs to `seed`. Every seed, zero included, gives a good stream.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        let mut x = seed;
        let words = std::array::from_fn(|_| {
            x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Random { words }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        let [a, b, c, d] = self.words;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.words = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// A number below `bound`; zero when `bound` is zero. The bias, below 2^-32 for the bounds that
    /// a simulation uses, does not matter here.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included; `low` when `high` is not above it.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// An index below `length`; zero when `length` is zero.
    pub fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// True `per_mille` times in a thousand. Zero never is, and takes nothing from the stream.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1000) < u64::from(per_mille)
    }

    /// A size from 1 to `max`, each order of magnitude as likely as the others; `max` when that is
    /// below 2. Small sizes find bugs and large ones make progress.
    pub fn size(&mut self, max: usize) -> usize {
        if max < 2 {
            return max;
        }
        let bits = u64::from(usize::BITS - max.leading_zeros());
        let top = 1u64 << self.between(0, bits - 1);
        (self.between(top, top * 2 - 1) as usize).min(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_stream_and_others_do_not() {
        let take = |seed| {
            let mut random = Random::new(seed);
            (0..8).map(|_| random.bits()).collect::<Vec<_>>()
        };
        assert_eq!(take(0), take(0));
        assert_ne!(take(0), take(1));
    }

    #[test]
    fn bounds_hold_at_their_edges() {
        let mut random = Random::new(7);
        for _ in 0..10_000 {
            assert_eq!(random.below(0), 0);
            assert_eq!(random.below(1), 0);
            assert!(random.below(3) < 3);
            assert!((5..=6).contains(&random.between(5, 6)));
            assert!((1..=17).contains(&random.size(17)));
            assert_eq!(random.size(0), 0);
            assert!(!random.chance(0));
            assert!(random.chance(1000));
        }
        let sizes: std::collections::BTreeSet<_> = (0..1000).map(|_| random.size(5)).collect();
        assert_eq!(sizes, [1, 2, 3, 4, 5].into());
    }
}
