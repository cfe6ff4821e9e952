//! Ids as clients hold them: opaque, and each of one type.

use async_graphql::ID;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::desk::SnapshotId;
use crate::error::{Error, Result};
use crate::statistics::{BucketRef, CohortKind};

/// What an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    Hospital(i64),
    Department(i64),
    Doctor(i64),
    Patient(i64),
    Visit(i64),
    Statistics(SnapshotId),
    Cohort(SnapshotId, BucketRef, CohortKind),
}

impl Id {
    /// The id as text: one byte for the type and as few as will do for the rest, in Base64.
    pub(super) fn text(self) -> String {
        let mut bytes = Vec::with_capacity(9);
        let number = |bytes: &mut Vec<u8>, tag: u8, number: u64| {
            bytes.push(tag);
            let all = number.to_be_bytes();
            bytes.extend_from_slice(&all[all.iter().take_while(|&&byte| byte == 0).count()..]);
        };
        match self {
            Self::Hospital(id) => number(&mut bytes, b'H', id.cast_unsigned()),
            Self::Department(id) => number(&mut bytes, b'D', id.cast_unsigned()),
            Self::Doctor(id) => number(&mut bytes, b'O', id.cast_unsigned()),
            Self::Patient(id) => number(&mut bytes, b'P', id.cast_unsigned()),
            Self::Visit(id) => number(&mut bytes, b'V', id.cast_unsigned()),
            Self::Statistics(id) => {
                bytes.push(b'S');
                bytes.extend_from_slice(&id.0);
            }
            Self::Cohort(id, bucket, kind) => {
                bytes.push(b'C');
                bytes.extend_from_slice(&id.0);
                bytes.push(kind as u8);
                let place = match bucket {
                    BucketRef::Total => 0,
                    BucketRef::At(place) => u64::from(place) + 1,
                };
                let all = place.to_be_bytes();
                bytes.extend_from_slice(&all[all.iter().take_while(|&&byte| byte == 0).count()..]);
            }
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What a text names; none where it is no id.
    fn read(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (&tag, rest) = bytes.split_first()?;
        let id = match tag {
            b'S' => Self::Statistics(SnapshotId(rest.try_into().ok()?)),
            b'C' => {
                let (id, rest) = rest.split_first_chunk::<16>()?;
                let (&kind, place) = rest.split_first()?;
                let bucket = match number(place)? {
                    0 => BucketRef::Total,
                    place => BucketRef::At(u32::try_from(place - 1).ok()?),
                };
                Self::Cohort(SnapshotId(*id), bucket, CohortKind::from_index(kind)?)
            }
            _ => {
                let number = i64::try_from(number(rest)?).ok().filter(|&number| number > 0)?;
                match tag {
                    b'H' => Self::Hospital(number),
                    b'D' => Self::Department(number),
                    b'O' => Self::Doctor(number),
                    b'P' => Self::Patient(number),
                    b'V' => Self::Visit(number),
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

/// The number that an id of one type names.
macro_rules! number_of {
    ($name:ident, $variant:ident, $what:literal) => {
        pub(super) fn $name(argument: &str, id: &ID) -> Result<i64> {
            match Id::parse(argument, id)? {
                Id::$variant(number) => Ok(number),
                _ => Err(Error::input(
                    argument,
                    concat!("the id of a ", $what, " is wanted"),
                )),
            }
        }
    };
}
number_of!(department, Department, "department");
number_of!(doctor, Doctor, "doctor");
number_of!(patient, Patient, "patient");
number_of!(visit, Visit, "visit");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_and_nothing_else_does() {
        let snapshot = SnapshotId([7; 16]);
        let ids = [
            Id::Hospital(1),
            Id::Department(255),
            Id::Doctor(256),
            Id::Patient(i64::MAX),
            Id::Visit(1 << 40),
            Id::Statistics(snapshot),
            Id::Cohort(snapshot, BucketRef::Total, CohortKind::New),
            Id::Cohort(snapshot, BucketRef::At(3_659), CohortKind::Canceled),
        ];
        for id in ids {
            assert_eq!(Id::read(&id.text()), Some(id));
        }
        // Empty, no Base64, an unknown type, zero, a leading zero, too long, and padding.
        for text in ["", "?", "WFg", "UA", "UAAB", "UAECAwQFBgcICQ", "UAE=", "patient 1", "1"] {
            assert_eq!(Id::read(text), None, "{text:?}");
        }
    }
}
