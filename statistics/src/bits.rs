//! A set of small numbers.

#[derive(Default)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    /// An empty set of numbers below `len`.
    pub(crate) fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    /// The set of all numbers below `len`.
    pub(crate) fn full(len: usize) -> Self {
        Self(vec![u64::MAX; len.div_ceil(64)])
    }

    /// Adds the number; tells whether it is new.
    #[inline]
    pub(crate) fn insert(&mut self, number: u32) -> bool {
        let bit = 1 << (number % 64);
        let word = &mut self.0[number as usize / 64];
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Empties the set, of which these are all members.
    pub(crate) fn clear(&mut self, members: &[u32]) {
        if members.len() > self.0.len() / 8 {
            self.0.fill(0);
        } else {
            for &number in members {
                self.0[number as usize / 64] = 0;
            }
        }
    }

    #[inline]
    pub(crate) fn contains(&self, number: u32) -> bool {
        self.0[number as usize / 64] & (1 << (number % 64)) != 0
    }
}
