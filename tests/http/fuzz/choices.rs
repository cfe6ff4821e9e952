//! The source of a test case: numbers, each of which makes one decision. Fewer and smaller numbers make a simpler case,
//! so that proptest, which generates them, can also shrink it.

/// Read from the back: proptest removes the first numbers first, so these should decide details.
pub struct Choices<'a>(&'a [u32]);

impl<'a> Choices<'a> {
    pub fn new(numbers: &'a [u32]) -> Self {
        Self(numbers)
    }

    /// No numbers are left: the simplest case is generated.
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

    /// True one time in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 1
    }

    /// One of them; the first if no numbers are left.
    pub fn of<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.below(these.len())]
    }
}
