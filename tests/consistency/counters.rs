//! Counts of what a run did.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

#[derive(Default)]
pub struct Counters(Mutex<BTreeMap<&'static str, u64>>);

impl Counters {
    pub fn count(&self, what: &'static str, times: usize) {
        *self.0.lock().unwrap().entry(what).or_default() += times as u64;
    }

    pub fn of(&self, what: &str) -> u64 {
        self.0.lock().unwrap().get(what).copied().unwrap_or_default()
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counters = self.0.lock().unwrap();
        counters
            .iter()
            .try_for_each(|(what, times)| writeln!(f, "{times:>9} {what}"))
    }
}
