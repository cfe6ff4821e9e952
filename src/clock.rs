//! The current time, which tests can set.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound as _, Utc};

/// Names a file with an instant in RFC 3339, which is the current time for what staff do. For tests only.
const FILE: &str = "ROLLCALL_TEST_CLOCK";

/// Where the current time comes from. The expiry of sessions, keys and snapshots follows the system's clock always.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Read each time; none: the system's clock.
    file: Option<Arc<PathBuf>>,
    /// It stands still.
    stopped_at: Option<DateTime<Utc>>,
}

impl Clock {
    /// The system's clock, unless the environment names a file with the time.
    #[must_use]
    pub fn from_environment() -> Self {
        let file = std::env::var_os(FILE).map(|path| Arc::new(PathBuf::from(path)));
        Self { file, stopped_at: None }
    }

    /// A clock that stands still at this time: the demo does what staff did before today.
    #[must_use]
    pub const fn stopped_at(at: DateTime<Utc>) -> Self {
        Self {
            file: None,
            stopped_at: Some(at),
        }
    }

    /// The current time, to the microsecond, as databases store it. The system's, where the file cannot be read.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        let set = self.file.as_ref().and_then(|file| {
            let text = std::fs::read_to_string(file.as_ref()).ok()?;
            text.trim().parse().ok()
        });
        set.or(self.stopped_at).unwrap_or_else(Utc::now).trunc_subsecs(6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_sets_the_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let clock = Clock {
            file: Some(Arc::new(file.path().to_owned())),
            stopped_at: None,
        };
        assert!((Utc::now() - clock.now()).num_seconds().abs() < 60);
        std::fs::write(file.path(), "2025-05-11T09:30:00+09:00\n").unwrap();
        assert_eq!(clock.now().to_rfc3339(), "2025-05-11T00:30:00+00:00");
        assert_eq!(Clock::stopped_at(clock.now()).now(), clock.now());
    }
}
