//! The current time, which tests can set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, SubsecRound as _, Utc};

/// Names a file with an instant in RFC 3339, which is the current time for what staff do. For tests only.
const FILE: &str = "ROLLCALL_TEST_CLOCK";

/// Where the current time comes from. The expiry of sessions, keys and snapshots follows the system's clock always.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    #[default]
    System,
    /// The file's instant, which is read each time. The system's clock, where that fails.
    File(Arc<PathBuf>),
    /// It stands still: the demo does what staff did before today.
    StoppedAt(DateTime<Utc>),
}

impl Clock {
    /// The system's clock, unless the environment names a file with the time.
    #[must_use]
    pub fn from_environment() -> Self {
        match std::env::var_os(FILE) {
            Some(path) => Self::File(Arc::new(PathBuf::from(path))),
            None => Self::System,
        }
    }

    /// The current time, to the microsecond, as databases store it.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        let set = match self {
            Self::System => None,
            Self::File(path) => read(path),
            Self::StoppedAt(at) => Some(*at),
        };
        set.unwrap_or_else(Utc::now).trunc_subsecs(6)
    }
}

fn read(path: &Path) -> Option<DateTime<Utc>> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_sets_the_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let clock = Clock::File(Arc::new(file.path().to_owned()));
        assert!((Utc::now() - clock.now()).num_seconds().abs() < 60);
        std::fs::write(file.path(), "2025-05-11T09:30:00+09:00\n").unwrap();
        assert_eq!(clock.now().to_rfc3339(), "2025-05-11T00:30:00+00:00");
        assert_eq!(Clock::StoppedAt(clock.now()).now(), clock.now());
    }
}
