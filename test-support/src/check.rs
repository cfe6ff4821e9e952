//! Checks that return what is wrong instead of panicking, for tests that collect or shrink failures.

/// A description of what is wrong.
pub type Violation = String;

pub type Checked<T = ()> = Result<T, Violation>;

/// Returns a [`Violation`] unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
