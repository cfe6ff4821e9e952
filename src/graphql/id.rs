//! Ids as clients hold them: opaque, and each of one type.

use async_graphql::ID;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::{Error, Result};
use crate::reporting::{CohortId, SnapshotId};
use crate::statistics::BucketRef;
use crate::store::ListKind;

/// What an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    Hospital(i64),
    Department(i64),
    Doctor(i64),
    Patient(i64),
    Visit(i64),
    Staff(i64),
    AuditEntry(i64),
    Absence(i64),
    ChangeEntry(i64),
    RecallList(i64),
    RecallEntry(i64),
    Upload(i64),
    Import(i64),
    Statement(i64),
    Statistics(SnapshotId),
    Retention(SnapshotId),
    Cohort(CohortId),
}

/// The bytes of an id at most: its type, a snapshot, a cohort, a number.
const LONGEST: usize = 1 + 16 + 1 + 8;

impl Id {
    /// The id as text: one byte for the type and as few as will do for the rest, in Base64.
    pub(super) fn text(self) -> String {
        let (bytes, length) = self.bytes();
        URL_SAFE_NO_PAD.encode(&bytes[..length])
    }

    /// Bytes of the text as JSON.
    pub(super) fn json_length(self) -> usize {
        let (_, length) = self.bytes();
        // Base64 without padding, and quotes.
        (length * 4).div_ceil(3) + 2
    }

    /// Writes the text as JSON.
    pub(super) fn write(self, json: &mut Vec<u8>) {
        let (bytes, length) = self.bytes();
        let mut text = [0; LONGEST.div_ceil(3) * 4];
        let written = URL_SAFE_NO_PAD.encode_slice(&bytes[..length], &mut text);
        json.push(b'"');
        json.extend_from_slice(&text[..written.unwrap_or_default()]);
        json.push(b'"');
    }

    /// The bytes of which the text is made, and how many they are.
    fn bytes(self) -> ([u8; LONGEST], usize) {
        let (mut bytes, mut length) = ([0; LONGEST], 0);
        let mut push = |part: &[u8]| {
            bytes[length..length + part.len()].copy_from_slice(part);
            length += part.len();
        };
        let (tag, number) = match self {
            Self::Hospital(id) => (b'H', id.cast_unsigned()),
            Self::Department(id) => (b'D', id.cast_unsigned()),
            Self::Doctor(id) => (b'O', id.cast_unsigned()),
            Self::Patient(id) => (b'P', id.cast_unsigned()),
            Self::Visit(id) => (b'V', id.cast_unsigned()),
            Self::Staff(id) => (b'T', id.cast_unsigned()),
            Self::AuditEntry(id) => (b'A', id.cast_unsigned()),
            Self::Absence(id) => (b'B', id.cast_unsigned()),
            Self::ChangeEntry(id) => (b'E', id.cast_unsigned()),
            Self::RecallList(id) => (b'L', id.cast_unsigned()),
            Self::RecallEntry(id) => (b'R', id.cast_unsigned()),
            Self::Upload(id) => (b'U', id.cast_unsigned()),
            Self::Import(id) => (b'I', id.cast_unsigned()),
            Self::Statement(id) => (b'M', id.cast_unsigned()),
            Self::Statistics(_) => (b'S', 0),
            Self::Retention(_) => (b'N', 0),
            Self::Cohort(id) => match id.bucket {
                BucketRef::Total => (b'C', 0),
                BucketRef::At(place) => (b'C', u64::from(place) + 1),
            },
        };
        push(&[tag]);
        match self {
            Self::Statistics(id) | Self::Retention(id) => push(&id.0),
            Self::Cohort(id) => {
                push(&id.snapshot.0);
                push(&[id.kind.number()]);
            }
            _ => {}
        }
        let number = number.to_be_bytes();
        push(&number[number.iter().take_while(|&&byte| byte == 0).count()..]);
        (bytes, length)
    }

    /// What a text names; none where it is no id.
    fn read(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (&tag, rest) = bytes.split_first()?;
        let id = match tag {
            b'S' => Self::Statistics(SnapshotId(rest.try_into().ok()?)),
            b'N' => Self::Retention(SnapshotId(rest.try_into().ok()?)),
            b'C' => {
                let (id, rest) = rest.split_first_chunk::<16>()?;
                let (&kind, place) = rest.split_first()?;
                let bucket = match number(place)? {
                    0 => BucketRef::Total,
                    place => BucketRef::At(u32::try_from(place - 1).ok()?),
                };
                let kind = ListKind::from_number(kind)?;
                if kind == ListKind::Derived && bucket != BucketRef::Total {
                    return None;
                }
                Self::Cohort(CohortId {
                    snapshot: SnapshotId(*id),
                    bucket,
                    kind,
                })
            }
            _ => {
                let number = i64::try_from(number(rest)?).ok().filter(|&number| number > 0)?;
                match tag {
                    b'H' => Self::Hospital(number),
                    b'D' => Self::Department(number),
                    b'O' => Self::Doctor(number),
                    b'P' => Self::Patient(number),
                    b'V' => Self::Visit(number),
                    b'T' => Self::Staff(number),
                    b'A' => Self::AuditEntry(number),
                    b'B' => Self::Absence(number),
                    b'E' => Self::ChangeEntry(number),
                    b'L' => Self::RecallList(number),
                    b'R' => Self::RecallEntry(number),
                    b'U' => Self::Upload(number),
                    b'I' => Self::Import(number),
                    b'M' => Self::Statement(number),
                    _ => return None,
                }
            }
        };
        (id.text() == text).then_some(id)
    }

    /// What the id of an argument names.
    pub(super) fn parse(argument: &str, id: &ID) -> Result<Self> {
        Self::read(id).ok_or_else(|| Error::input(argument, "this is no id that Rollcall gave"))
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

impl From<Id> for ID {
    fn from(id: Id) -> Self {
        Self(id.text())
    }
}

/// The id of an uploaded file as text.
#[must_use]
pub fn upload_id(id: i64) -> String {
    Id::Upload(id).text()
}

/// The id of a patient as text.
#[must_use]
pub fn patient_id(id: i64) -> String {
    Id::Patient(id).text()
}

/// The id of a visit as text.
#[must_use]
pub fn visit_id(id: i64) -> String {
    Id::Visit(id).text()
}

/// The id of an entry of a recall list as text.
#[must_use]
pub fn recall_entry_id(id: i64) -> String {
    Id::RecallEntry(id).text()
}

/// The id of a cohort as text.
#[must_use]
pub fn cohort_id(id: CohortId) -> String {
    Id::Cohort(id).text()
}

/// The cohort that a text names.
///
/// # Errors
/// BAD_USER_INPUT naming the argument.
pub fn parse_cohort_id(argument: &str, text: &str) -> Result<CohortId> {
    cohort(argument, &ID(text.to_owned()))
}

/// The number that an id of one type names.
macro_rules! number_of {
    ($name:ident, $variant:ident, $what:literal) => {
        pub(super) fn $name(argument: &str, id: &ID) -> Result<i64> {
            match Id::parse(argument, id)? {
                Id::$variant(number) => Ok(number),
                _ => Err(Error::input(argument, concat!("must be the id of a ", $what))),
            }
        }
    };
}
/// The snapshot that an argument names.
pub(super) fn statistics(argument: &str, id: &ID) -> Result<SnapshotId> {
    match Id::parse(argument, id)? {
        Id::Statistics(id) => Ok(id),
        _ => Err(Error::input(argument, "must be a Statistics.id")),
    }
}

/// The cohort that an argument names.
pub(super) fn cohort(argument: &str, id: &ID) -> Result<CohortId> {
    match Id::parse(argument, id)? {
        Id::Cohort(id) => Ok(id),
        _ => Err(Error::input(argument, "must be a Cohort.id")),
    }
}

/// The import that an argument names.
pub(super) fn import(argument: &str, id: &ID) -> Result<i64> {
    match Id::parse(argument, id)? {
        Id::Import(number) => Ok(number),
        _ => Err(Error::input(argument, "must be an Import.id")),
    }
}

/// The uploaded file that an argument names.
pub(super) fn upload(argument: &str, id: &ID) -> Result<i64> {
    match Id::parse(argument, id)? {
        Id::Upload(number) => Ok(number),
        _ => Err(Error::input(argument, "must be a fileId that POST /files answered")),
    }
}

/// The absence that an argument names.
pub(super) fn absence(argument: &str, id: &ID) -> Result<i64> {
    match Id::parse(argument, id)? {
        Id::Absence(number) => Ok(number),
        _ => Err(Error::input(argument, "must be an Absence.id")),
    }
}

number_of!(department, Department, "department");
number_of!(doctor, Doctor, "doctor");
number_of!(patient, Patient, "patient");
number_of!(visit, Visit, "visit");
number_of!(staff, Staff, "member of staff");
number_of!(recall_list, RecallList, "recall list");
number_of!(recall_entry, RecallEntry, "recall entry");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::CohortKind;

    #[test]
    fn an_id_reads_back_and_nothing_else_does() {
        let snapshot = SnapshotId([7; 16]);
        let cohort = |bucket, kind| Id::Cohort(CohortId { snapshot, bucket, kind });
        let ids = [
            Id::Hospital(1),
            Id::Department(255),
            Id::Doctor(256),
            Id::Patient(i64::MAX),
            Id::Visit(1 << 40),
            Id::Staff(3),
            Id::AuditEntry(4),
            Id::Absence(5),
            Id::ChangeEntry(6),
            Id::RecallList(7),
            Id::RecallEntry(8),
            Id::Upload(9),
            Id::Import(10),
            Id::Statistics(snapshot),
            Id::Retention(snapshot),
            cohort(BucketRef::Total, ListKind::Cohort(CohortKind::New)),
            cohort(BucketRef::At(3_659), ListKind::Cohort(CohortKind::Canceled)),
            cohort(BucketRef::Total, ListKind::Derived),
        ];
        for id in ids {
            assert_eq!(Id::read(&id.text()), Some(id));
        }
        let derived_bucket = cohort(BucketRef::At(0), ListKind::Derived).text();
        assert_eq!(Id::read(&derived_bucket), None, "a derived list has no buckets");
        // Empty, no Base64, an unknown type, zero, a leading zero, too long, and padding.
        for text in ["", "?", "WFg", "UA", "UAAB", "UAECAwQFBgcICQ", "UAE=", "patient 1", "1"] {
            assert_eq!(Id::read(text), None, "{text:?}");
        }
    }
}
