//! A set of small integers.

/// A set of integers below a fixed bound, one bit each.
#[derive(Default)]
pub(crate) struct BitSet(Vec<u64>);

impl BitSet {
    /// An empty set of integers below `bound`.
    pub(crate) fn new(bound: usize) -> Self {
        Self(vec![0; bound.div_ceil(64)])
    }

    /// The set of all integers below `bound`.
    pub(crate) fn full(bound: usize) -> Self {
        Self(vec![u64::MAX; bound.div_ceil(64)])
    }

    /// Adds the number. Returns whether it was absent.
    #[inline]
    pub(crate) fn insert(&mut self, number: u32) -> bool {
        let bit = 1 << (number % 64);
        let word = &mut self.0[number as usize / 64];
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Removes everything. `members` must be all members of the set: a few are cleared one by one, which is faster than to
    /// overwrite the whole set.
    pub(crate) fn clear(&mut self, members: &[u32]) {
        if members.len() > self.0.len() / 8 {
            self.0.fill(0);
        } else {
            for &number in members {
                self.0[number as usize / 64] = 0;
            }
        }
    }

    /// Whether the number is in the set.
    #[inline]
    pub(crate) fn contains(&self, number: u32) -> bool {
        self.0[number as usize / 64] & (1 << (number % 64)) != 0
    }
}
