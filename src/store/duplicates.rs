//! Patients who may be the same person as somebody. Candidates come from the indexes of phones, of their last digits, and of names; the
//! rules of `scheduling` compare them.

use std::cmp::Reverse;
use std::collections::HashMap;

use chrono::NaiveDate;
use sea_orm::ConnectionTrait as _;

use super::Store;
use super::sql::Sql;
use crate::error::Result;
use crate::scheduling::{self, MatchReason, likelihood};
use crate::secrets::SHORTEST_PHONE_ENDING;
use crate::text;

/// The most patients that are compared for each reason: of more, those who were recorded last.
pub const MAX_CANDIDATES: u64 = 2_000;

/// The most possible duplicates.
pub const MAX_DUPLICATES: usize = 10;

/// What is known of a person who may be a patient.
#[derive(Clone, Debug, Default)]
pub struct Person {
    pub name: Option<String>,
    pub birth_date: Option<NaiveDate>,
    /// E.164.
    pub phone: Option<String>,
}

/// A patient who may be the same person, and why.
#[derive(Clone, Debug)]
pub struct PossibleDuplicate {
    pub patient: i64,
    pub reasons: Vec<MatchReason>,
}

/// Where candidates come from.
enum Source {
    /// Patients with this phone, by its hash under each key.
    Phone(Vec<Vec<u8>>),
    /// Patients whose phone ends with these digits, by their hash under each key.
    PhoneEnding(Vec<Vec<u8>>),
    /// Patients with this name and birth date.
    Name(String, NaiveDate),
    /// Patients with this birth date whose names SQL has changed and who are not indexed yet.
    NameNotIndexed(NaiveDate),
}

impl Source {
    /// Adds what follows FROM in a SELECT of the candidates as `p`; it ends in conditions.
    fn add_to(&self, sql: &mut Sql, hospital: i64) {
        match self {
            Self::Phone(hashes) | Self::PhoneEnding(hashes) => {
                let hashes: Vec<&[u8]> = hashes.iter().map(Vec::as_slice).collect();
                sql.push("patient p WHERE p.hospital_id = ").bind(hospital);
                let column = match self {
                    Self::Phone(_) => "p.phone_index",
                    _ => "p.phone_last_four",
                };
                sql.push(" AND ").push(column).few(&hashes);
            }
            Self::Name(suffix, birth_date) => {
                sql.push(
                    "patient_name_suffix n JOIN patient p ON p.hospital_id = n.hospital_id AND p.id = n.patient_id",
                );
                sql.push(" WHERE n.hospital_id = ").bind(hospital);
                sql.push(" AND n.suffix = ").bind(suffix.as_str());
                sql.push(" AND p.birth_date = ").bind(*birth_date);
            }
            Self::NameNotIndexed(birth_date) => {
                sql.push("patient_to_index n JOIN patient p ON p.hospital_id = n.hospital_id AND p.id = n.patient_id");
                sql.push(" WHERE n.hospital_id = ").bind(hospital);
                sql.push(" AND p.birth_date = ").bind(*birth_date);
            }
        }
    }
}

/// A name as it is compared: none if nothing is left of it.
fn comparable_name(name: Option<&str>) -> Option<String> {
    let name = text::folded(name?).replace(' ', "");
    (!name.is_empty()).then_some(name)
}

impl Store {
    /// The ACTIVE patients who may be the same person, the likeliest first, equally likely ones by id; at most 10.
    /// `except` is the patient that the person is already.
    ///
    /// One statement, whatever the number of patients.
    ///
    /// # Errors
    /// Where the database fails, or a phone cannot be decrypted.
    pub async fn possible_duplicates(
        &self,
        hospital: i64,
        person: &Person,
        except: Option<i64>,
    ) -> Result<Vec<PossibleDuplicate>> {
        let sources = self.sources(hospital, person)?;
        if sources.is_empty() {
            return Ok(Vec::new());
        }
        let mut sql = self.sql("");
        for (place, source) in sources.iter().enumerate() {
            sql.push(if place > 0 { " UNION ALL " } else { "" });
            sql.push("SELECT * FROM (SELECT p.id, p.name, p.birth_date, p.phone FROM ");
            source.add_to(&mut sql, hospital);
            sql.push(&format!(
                " AND p.state = 'ACTIVE' ORDER BY p.id DESC LIMIT {MAX_CANDIDATES}) c{place}"
            ));
        }
        let name = comparable_name(person.name.as_deref());
        let sought = scheduling::Person {
            name: name.as_deref(),
            birth_date: person.birth_date,
            phone: person.phone.as_deref(),
        };
        // A patient may come from several sources.
        let mut found: HashMap<i64, Vec<MatchReason>> = HashMap::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            let id: i64 = row.try_get("", "id")?;
            if Some(id) == except || found.contains_key(&id) {
                continue;
            }
            let name: Option<String> = row.try_get("", "name")?;
            let phone: Option<Vec<u8>> = row.try_get("", "phone")?;
            let phone = phone.map(|sealed| self.secrets.open_sealed(hospital, "phone", &sealed));
            let (name, phone) = (comparable_name(name.as_deref()), phone.transpose()?);
            let candidate = scheduling::Person {
                name: name.as_deref(),
                birth_date: row.try_get("", "birth_date")?,
                phone: phone.as_deref(),
            };
            found.insert(id, scheduling::reasons(&sought, &candidate));
        }
        let found = found.into_iter().filter(|(_, reasons)| !reasons.is_empty());
        let mut found: Vec<PossibleDuplicate> = found
            .map(|(patient, reasons)| PossibleDuplicate { patient, reasons })
            .collect();
        found.sort_unstable_by_key(|found| (Reverse(likelihood(&found.reasons)), found.patient));
        found.truncate(MAX_DUPLICATES);
        Ok(found)
    }

    /// The sources that have everybody for whom there may be a reason.
    fn sources(&self, hospital: i64, person: &Person) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        let name = person.name.as_deref().map(text::name_start);
        let name = name.filter(|name| !name.is_empty());
        if let Some(phone) = &person.phone {
            sources.push(Source::Phone(self.secrets.phone_indexes(hospital, phone)?));
            let ending = phone.len().checked_sub(SHORTEST_PHONE_ENDING);
            if let Some(ending) = ending.and_then(|from| phone.get(from..)).filter(|_| name.is_some()) {
                let hashes = self.secrets.phone_ending_hashes(hospital, ending)?;
                sources.push(Source::PhoneEnding(hashes));
            }
        }
        if let (Some(name), Some(date)) = (name, person.birth_date) {
            sources.push(Source::Name(name, date));
            sources.push(Source::NameNotIndexed(date));
        }
        Ok(sources)
    }
}
