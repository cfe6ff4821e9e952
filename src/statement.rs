//! Statements as documents: what was told of a closed month, with a digest that chains it to the month before. No database.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{Months, NaiveDate};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::statistics::{BucketRef, CohortKind, Snapshot};

/// What a statement's digest covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatementDocument {
    /// The hospital's code.
    pub hospital: String,
    pub time_zone: String,
    pub week_start: String,
    /// The first day of the month.
    pub month: NaiveDate,
    /// The day of sealing.
    pub as_of: NaiveDate,
    pub revision: String,
    pub definition: SealedDefinition,
    /// The month as a whole.
    pub total: SealedBucket,
    /// Its days, in order.
    pub days: Vec<SealedBucket>,
    /// The digest of the statement of the month before; none for the first one of a hospital.
    pub previous: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SealedDefinition {
    pub version: i32,
    pub churn_after_days: i32,
    pub overdue_after_days: Option<i32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SealedBucket {
    pub start: NaiveDate,
    pub end: NaiveDate,
    /// By the kind, such as NEW.
    pub cohorts: BTreeMap<String, SealedCohort>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SealedCohort {
    pub patient_count: usize,
    pub visit_count: usize,
    /// `Cohort.digest`.
    pub digest: String,
}

/// What is not in the snapshot.
pub struct Circumstances<'a> {
    /// The hospital's code.
    pub hospital: &'a str,
    pub time_zone: &'a str,
    pub revision: &'a str,
    /// The digest of the statement of the month before.
    pub previous: Option<&'a str>,
}

impl StatementDocument {
    /// The document of a snapshot of a month by DAY. `list_digest` is `Cohort.digest` of a list of it.
    pub fn new(
        circumstances: &Circumstances<'_>,
        snapshot: &Snapshot,
        list_digest: impl Fn(BucketRef, CohortKind) -> String,
    ) -> Result<Self> {
        let bucket = |at: BucketRef| -> Result<SealedBucket> {
            let bounds = snapshot.bucket(at).map(|bucket| bucket.bounds);
            let bounds = bounds.ok_or_else(|| Error::Internal("a snapshot lacks a bucket".to_owned()))?;
            let cohort = |kind: &CohortKind| {
                let sealed = SealedCohort {
                    patient_count: snapshot.patient_count(at, *kind),
                    visit_count: snapshot.visit_count(at, *kind),
                    digest: list_digest(at, *kind),
                };
                (kind.as_str().to_owned(), sealed)
            };
            Ok(SealedBucket {
                start: bounds.from.date(),
                end: bounds.to.date(),
                cohorts: CohortKind::ALL.iter().map(cohort).collect(),
            })
        };
        let (question, rules) = (snapshot.question(), snapshot.definition());
        let days = (0..).take(snapshot.len()).map(|place| bucket(BucketRef::At(place)));
        Ok(Self {
            hospital: circumstances.hospital.to_owned(),
            time_zone: circumstances.time_zone.to_owned(),
            week_start: snapshot.week_start().as_str().to_owned(),
            month: question.range.from.date(),
            as_of: question.as_of.date(),
            revision: circumstances.revision.to_owned(),
            definition: SealedDefinition {
                version: rules.version,
                churn_after_days: rules.churn_after_days,
                overdue_after_days: rules.overdue_after_days,
            },
            total: bucket(BucketRef::Total)?,
            days: days.collect::<Result<_>>()?,
            previous: circumstances.previous.map(str::to_owned),
        })
    }

    /// SHA-256, in lower-case hexadecimal, of the document as canonical JSON (RFC 8785).
    ///
    /// # Errors
    /// Never for a document of this type: its numbers are integers.
    pub fn digest(&self) -> Result<String> {
        let canonical = serde_json_canonicalizer::to_vec(self)
            .map_err(|error| Error::Internal(format!("a statement cannot be written as JSON: {error}")))?;
        Ok(hex::encode(Sha256::digest(canonical)))
    }
}

/// A statement as a file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatementFile {
    /// `Statement.digest`.
    pub digest: String,
    pub statement: StatementDocument,
}

impl StatementFile {
    /// Reads a file and checks that its digest is that of its contents.
    ///
    /// # Errors
    /// Where it cannot be read, is no statement, or was altered.
    pub fn read(path: &Path) -> Result<Self> {
        let refused = |message: String| Error::input("file", format!("{}: {message}", path.display()));
        let bytes = std::fs::read(path).map_err(|error| refused(format!("cannot be read: {error}")))?;
        let file: Self =
            serde_json::from_slice(&bytes).map_err(|error| refused(format!("is no statement: {error}")))?;
        let digest = file.statement.digest()?;
        if digest != file.digest {
            return Err(refused(format!(
                "was altered: it says that its digest is {}, and its contents have {digest}",
                file.digest
            )));
        }
        Ok(file)
    }
}

/// Checks that statements of one hospital follow one another: each names the digest of the month before. They are put in the order of
/// their months first.
///
/// # Errors
/// Where they are of several hospitals, a month is missing or there twice, or a statement follows another one.
pub fn check_chain(files: &mut [StatementFile]) -> Result<()> {
    let refused = |message: String| Err(Error::input("file", message));
    files.sort_by_key(|file| file.statement.month);
    for pair in files.windows(2) {
        let [before, after] = pair else { continue };
        let (earlier, later) = (&before.statement, &after.statement);
        if earlier.hospital != later.hospital {
            return refused(format!(
                "the statements are of two hospitals, {} and {}",
                earlier.hospital, later.hospital
            ));
        }
        if following(earlier.month) != Some(later.month) {
            return refused(format!(
                "{} does not follow {}: one statement a month is needed",
                month_text(later.month),
                month_text(earlier.month)
            ));
        }
        if later.previous.as_ref() != Some(&before.digest) {
            return refused(format!(
                "the statement of {} does not follow this one of {}: it names the digest {}, and this one has {}",
                month_text(later.month),
                month_text(earlier.month),
                later.previous.as_deref().unwrap_or("of none"),
                before.digest
            ));
        }
    }
    Ok(())
}

/// A month as it is written: 2025-05.
#[must_use]
pub fn month_text(month: NaiveDate) -> String {
    month.format("%Y-%m").to_string()
}

/// The first day of the month after.
#[must_use]
pub fn following(month: NaiveDate) -> Option<NaiveDate> {
    month.checked_add_months(Months::new(1))
}

/// The first day of the month before.
#[must_use]
pub fn preceding(month: NaiveDate) -> Option<NaiveDate> {
    month.checked_sub_months(Months::new(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn document(month: &str, previous: Option<&str>) -> StatementDocument {
        let cohort = SealedCohort {
            patient_count: 2,
            visit_count: 3,
            digest: "00ff".to_owned(),
        };
        let bucket = SealedBucket {
            start: day(month),
            end: day(month),
            cohorts: BTreeMap::from([("VISITORS".to_owned(), cohort.clone()), ("NEW".to_owned(), cohort)]),
        };
        StatementDocument {
            hospital: "SEOUL-1 \u{e9}\"".to_owned(),
            time_zone: "Asia/Seoul".to_owned(),
            week_start: "MONDAY".to_owned(),
            month: day(month),
            as_of: day("2025-06-02"),
            revision: "1-17".to_owned(),
            definition: SealedDefinition {
                version: 1,
                churn_after_days: 90,
                overdue_after_days: None,
            },
            total: bucket.clone(),
            days: vec![bucket],
            previous: previous.map(str::to_owned),
        }
    }

    fn file(month: &str, previous: Option<&str>) -> StatementFile {
        let statement = document(month, previous);
        StatementFile {
            digest: statement.digest().unwrap(),
            statement,
        }
    }

    /// The digests of statements that were sealed must be computed alike for ever.
    #[test]
    fn the_digest_is_that_of_canonical_json() {
        let cohorts = r#""cohorts":{"NEW":{"digest":"00ff","patientCount":2,"visitCount":3},"VISITORS":{"digest":"00ff","patientCount":2,"visitCount":3}}"#;
        let bucket = format!(r#"{{{cohorts},"end":"2025-05-01","start":"2025-05-01"}}"#);
        let canonical = format!(
            r#"{{"asOf":"2025-06-02","days":[{bucket}],"definition":{{"churnAfterDays":90,"overdueAfterDays":null,"version":1}},"hospital":"SEOUL-1 é\"","month":"2025-05-01","previous":null,"revision":"1-17","timeZone":"Asia/Seoul","total":{bucket},"weekStart":"MONDAY"}}"#
        );
        let digest = document("2025-05-01", None).digest().unwrap();
        assert_eq!(digest, hex::encode(Sha256::digest(canonical)));
    }

    #[test]
    fn an_altered_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("2025-05.json");
        let text = serde_json::to_string_pretty(&file("2025-05-01", None)).unwrap();
        std::fs::write(&path, &text).unwrap();
        StatementFile::read(&path).unwrap();
        for (altered, reason) in [
            (
                text.replacen("\"patientCount\": 2", "\"patientCount\": 3", 1),
                "was altered",
            ),
            (
                text.replace("\"previous\": null", "\"previous\": \"00\""),
                "was altered",
            ),
            (text.replace("\"hospital\"", "\"clinic\""), "is no statement"),
            (String::new(), "is no statement"),
        ] {
            std::fs::write(&path, altered).unwrap();
            let error = StatementFile::read(&path).unwrap_err().for_operator();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn statements_follow_one_another() {
        let first = file("2025-05-01", None);
        let second = file("2025-06-01", Some(&first.digest));
        let third = file("2025-07-01", Some(&second.digest));
        let mut chain = [third, first, second];
        check_chain(&mut chain).unwrap();
        assert_eq!(month_text(chain[0].statement.month), "2025-05");
        let [first, _, third] = chain;
        let fails = |files: &mut [StatementFile], reason: &str| {
            let error = check_chain(files).unwrap_err().for_operator();
            assert!(error.contains(reason), "{error}");
        };
        fails(&mut [third, first], "2025-07 does not follow 2025-05");
        fails(
            &mut [file("2025-05-01", None), file("2025-05-01", None)],
            "2025-05 does not follow 2025-05",
        );
        fails(
            &mut [file("2025-05-01", None), file("2025-06-01", None)],
            "names the digest of none",
        );
        let mut other = file("2025-06-01", None);
        other.statement.hospital = "H2".to_owned();
        fails(&mut [file("2025-05-01", None), other], "of two hospitals");
    }
}
