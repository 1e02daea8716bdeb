//! Response codes: one cell for each, found by the code itself, so that counting one costs no name
//! and no hash.
//!
//! What it leaves to others: where the cells are (`shard`), what series they make (`series`).

use std::sync::atomic::{AtomicU64, Ordering};

/// The smallest and the largest code that has a cell of its own.
const FIRST: u16 = 100;
const LAST: u16 = 599;

/// Cells of one set: codes that have none of their own, then the others.
pub(super) const CELLS: usize = 1 + (LAST - FIRST + 1) as usize;

/// The cell that counts `code`.
#[inline]
pub(super) fn cell_of(code: u16) -> usize {
    match code {
        FIRST..=LAST => (code - FIRST) as usize + 1,
        _ => 0,
    }
}

/// How often each code was counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Codes {
    /// Codes that were counted, in their order, with their counts. 0 stands for codes beyond 100 to
    /// 599.
    pub counts: Vec<(u16, u64)>,
}

impl Codes {
    /// Sums the same set of several shards.
    pub(super) fn merge<'a>(shards: impl Iterator<Item = &'a [AtomicU64; CELLS]>) -> Codes {
        let mut sums = [0_u64; CELLS];
        for cells in shards {
            for (sum, cell) in sums.iter_mut().zip(cells) {
                *sum = sum.wrapping_add(cell.load(Ordering::Relaxed));
            }
        }
        let code = |cell: usize| if cell == 0 { 0 } else { cell as u16 - 1 + FIRST };
        let counted = sums.iter().enumerate().filter(|(_, count)| **count > 0);
        Codes { counts: counted.map(|(cell, count)| (code(cell), *count)).collect() }
    }

    /// The counts of both.
    pub(super) fn add(&mut self, other: Codes) {
        for (code, count) in other.counts {
            match self.counts.binary_search_by_key(&code, |(code, _)| *code) {
                Ok(at) => self.counts[at].1 += count,
                Err(at) => self.counts.insert(at, (code, count)),
            }
        }
    }

    /// How many there are of all codes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// How many there are of a class: 2 of 2xx.
    #[must_use]
    pub fn class(&self, class: u16) -> u64 {
        let of_class = self.counts.iter().filter(|(code, _)| code / 100 == class);
        of_class.map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_cell_and_those_beyond_share_one() {
        let cells: Vec<_> = (FIRST..=LAST).map(cell_of).collect();
        assert_eq!(cells, Vec::from_iter(1..CELLS));
        assert_eq!([0, 99, 600, 999].map(cell_of), [0; 4]);
    }

    #[test]
    fn sums_by_code_and_by_class() {
        let cells = [const { AtomicU64::new(0) }; CELLS];
        for code in [200, 200, 204, 503, 999] {
            cells[cell_of(code)].fetch_add(1, Ordering::Relaxed);
        }
        let mut codes = Codes::merge([&cells, &cells].into_iter());
        assert_eq!(codes.counts, [(0, 2), (200, 4), (204, 2), (503, 2)]);
        codes.add(Codes { counts: vec![(200, 1), (404, 1)] });
        assert_eq!(codes.counts, [(0, 2), (200, 5), (204, 2), (404, 1), (503, 2)]);
        assert_eq!((codes.total(), codes.class(2), codes.class(3)), (12, 7, 0));
    }
}
