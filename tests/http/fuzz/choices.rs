//! What a case is made of: numbers, each of which decides one thing. Fewer and smaller numbers make a simpler case, so that
//! proptest, which makes them, can also make a finding small.

/// From the back: proptest leaves out the first ones first, and what they decide then comes last.
pub struct Choices<'a>(&'a [u32]);

impl<'a> Choices<'a> {
    pub fn new(numbers: &'a [u32]) -> Self {
        Self(numbers)
    }

    /// Nothing is left to decide by: from here on the simplest is taken.
    pub fn exhausted(&self) -> bool {
        self.0.is_empty()
    }

    /// A number below this one.
    pub fn below(&mut self, most: usize) -> usize {
        let Some((&number, rest)) = self.0.split_last() else {
            return 0;
        };
        self.0 = rest;
        number as usize % most
    }

    /// Yes, one time in so many.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 1
    }

    /// One of them; the first where nothing is left to decide by.
    pub fn of<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.below(these.len())]
    }
}
