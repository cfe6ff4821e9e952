//! Patients as rows: by id, and in pages.

use std::collections::HashMap;

use entity::{patient, patient_tombstone};
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult};
use string_enum::string_enum;

use super::keyset::seek_sql;
use super::model::{Patient, RecordState};
use super::sql::{IDS_PER_STATEMENT, Sql, one_count};
use super::visit::attended_sql;
use super::{Keyset, Store};
use crate::error::Result;
use crate::records::Sex;
use crate::statistics::DayRange;
use crate::text;

/// Names that one statement folds.
const FOLD_BATCH: usize = 200;

string_enum!(
    /// What patients are ordered by; nulls last, ties by id. Stored orders are named by these texts.
    PatientKey {
        Name = "Name",
        ChartNo = "ChartNo",
        RegisteredOn = "RegisteredOn",
        FirstVisit = "FirstVisit",
        LastVisit = "LastVisit",
    }
);

/// Which patients to list: the ACTIVE ones that match the name, the chart number or the phone, and were registered in a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatientSearch {
    /// A part of the name, ignoring case, width and blanks.
    pub name_part: Option<String>,
    /// A prefix of the chart number.
    pub chart_start: Option<String>,
    /// A whole phone number, in E.164.
    pub phone: Option<String>,
    /// When the patient was registered.
    pub registered: Option<DayRange>,
}

impl PatientSearch {
    /// Whether it searches by name, chart number or phone.
    #[must_use]
    pub const fn is_by_person(&self) -> bool {
        self.name_part.is_some() || self.chart_start.is_some() || self.phone.is_some()
    }
}

/// A row of a sorted list, and its sort key.
pub type KeyedPatient = (Patient, Option<String>);

/// The row of an erased patient.
pub(super) fn erased_patient(hospital: i64, id: i64) -> patient::Model {
    patient::Model {
        hospital_id: hospital,
        id,
        state: RecordState::Erased.as_str().to_owned(),
        merged_into: None,
        chart_no: None,
        name: None,
        folded_name: None,
        folded_from: None,
        phone: None,
        phone_index: None,
        birth_date: None,
        birth_year: None,
        sex: Sex::Unknown.as_str().to_owned(),
        registered_on: None,
        memo: None,
        do_not_contact: false,
        version: 0,
    }
}

/// Sets the folded name, which search compares, from the name: to be called before a row is written.
pub(super) fn fold_name(row: &mut patient::Model) {
    row.folded_name = row.name.as_deref().map(text::folded);
    row.folded_from = row.name.clone();
}

impl Store {
    /// The patients with these ids. Deleted ones are ERASED; ids that never existed are left out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn patients_by_id(&self, hospital: i64, ids: &[i64]) -> Result<HashMap<i64, Patient>> {
        let mut sql = self.sql("SELECT * FROM patient WHERE hospital_id = ");
        sql.bind(hospital).push(" AND id").numbers(ids);
        let mut found = HashMap::with_capacity(ids.len());
        for row in self.readers.query_all_raw(sql.done()).await? {
            let row = patient::Model::from_query_result(&row, "")?;
            found.insert(row.id, Patient::try_from(row)?);
        }
        if found.len() < ids.len() {
            let mut sql = self.sql("SELECT * FROM patient_tombstone WHERE hospital_id = ");
            sql.bind(hospital).push(" AND id").numbers(ids);
            for row in self.readers.query_all_raw(sql.done()).await? {
                let row = patient_tombstone::Model::from_query_result(&row, "")?;
                found.entry(row.id).or_insert_with(|| Patient::erased(row.id));
            }
        }
        Ok(found)
    }

    /// The current sort keys of these patients. Not for keys that depend on visits, which a cohort's list has itself.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn patient_sort_keys(
        &self,
        hospital: i64,
        ids: &[i64],
        key: PatientKey,
    ) -> Result<HashMap<i64, Option<String>>> {
        let expression = self.patient_key(key, chrono::NaiveDate::MIN);
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let mut keys = HashMap::with_capacity(ids.len());
        // One view: rows may change between the statements.
        let view = self.read_view().await?;
        for ids in ids.chunks(IDS_PER_STATEMENT) {
            let mut sql = self.sql(&format!(
                "SELECT p.id, {expression} FROM patient p WHERE p.hospital_id = "
            ));
            sql.bind(hospital).push(" AND p.id").numbers(ids);
            for row in view.query_all_raw(sql.done()).await? {
                keys.insert(row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            }
        }
        view.commit().await?;
        Ok(keys)
    }

    /// A page of the hospital's patients. First and last visits are attended ones up to `today`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn patient_page(
        &self,
        hospital: i64,
        search: &PatientSearch,
        key: PatientKey,
        today: chrono::NaiveDate,
        seek: &Keyset<Option<String>>,
    ) -> Result<Vec<KeyedPatient>> {
        let mut rows = match key {
            PatientKey::ChartNo => self.patients_by_index(hospital, search, "p.chart_no", seek).await?,
            PatientKey::Name => self.patients_by_index(hospital, search, "p.name", seek).await?,
            _ => {
                let mut sql = self.sql("SELECT * FROM (");
                self.keyed_patients(&mut sql, hospital, search, &self.patient_key(key, today))?;
                sql.push(") p WHERE 1 = 1");
                self.patient_rows(sql, "p.sort_key", true, seek).await?
            }
        };
        if seek.backwards {
            rows.reverse();
        }
        Ok(rows)
    }

    /// The rows of a page by a column that has an index: first of patients with a value, then, where these do not fill the page,
    /// of patients without one. One statement for both could not use the index. With `backwards` the rows come in reverse.
    async fn patients_by_index(
        &self,
        hospital: i64,
        search: &PatientSearch,
        column: &str,
        seek: &Keyset<Option<String>>,
    ) -> Result<Vec<KeyedPatient>> {
        let from_null = seek.from.as_ref().map(|(key, _)| key.is_none());
        let mut rows = Vec::new();
        let parts = if seek.backwards { [true, false] } else { [false, true] };
        for null in parts
            .into_iter()
            .skip_while(|&null| from_null.is_some_and(|from| from != null))
        {
            let part = Keyset {
                from: seek.from.clone().filter(|_| from_null == Some(null)),
                limit: seek.limit.saturating_sub(rows.len() as u64),
                ..seek.clone()
            };
            if part.limit == 0 {
                break;
            }
            let mut sql = self.sql("");
            self.keyed_patients(&mut sql, hospital, search, column)?;
            sql.push(&format!(" AND {column} IS {}NULL", if null { "" } else { "NOT " }));
            rows.extend(self.patient_rows(sql, column, null, &part).await?);
        }
        Ok(rows)
    }

    /// Adds a SELECT of the matching patients with their sort key.
    fn keyed_patients(&self, sql: &mut Sql, hospital: i64, search: &PatientSearch, key: &str) -> Result<()> {
        sql.push(&format!(
            "SELECT p.*, {key} AS sort_key FROM patient p WHERE p.hospital_id = "
        ))
        .bind(hospital);
        self.add_conditions(sql, hospital, search)
    }

    async fn patient_rows(
        &self,
        mut sql: Sql,
        key: &str,
        nullable: bool,
        seek: &Keyset<Option<String>>,
    ) -> Result<Vec<KeyedPatient>> {
        seek_sql(&mut sql, key, nullable, "p.id", seek, |sql, value| {
            sql.bind(value);
        });
        let rows = self.readers.query_all_raw(sql.done()).await?;
        rows.iter()
            .map(|row| {
                Ok((
                    Patient::try_from(patient::Model::from_query_result(row, "")?)?,
                    row.try_get("", "sort_key")?,
                ))
            })
            .collect()
    }

    /// The number of patients that match.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn patient_total(&self, hospital: i64, search: &PatientSearch) -> Result<u64> {
        if *search == PatientSearch::default() {
            return self.patient_count(hospital).await;
        }
        let mut sql = self.sql("SELECT COUNT(*) FROM patient p WHERE p.hospital_id = ");
        sql.bind(hospital);
        self.add_conditions(&mut sql, hospital, search)?;
        one_count(self.readers.query_one_raw(sql.done()).await?)
    }

    /// The SQL of a sort key as text. A date sorts as text as it does as a date.
    fn patient_key(&self, key: PatientKey, today: chrono::NaiveDate) -> String {
        let date = |expression: String| match self.readers.get_database_backend() {
            DbBackend::MySql => format!("DATE_FORMAT({expression}, '%Y-%m-%d')"),
            DbBackend::Postgres => format!("CAST({expression} AS TEXT) COLLATE \"C\""),
            _ => expression,
        };
        let visit = |end: &str| {
            date(format!(
                "(SELECT {end}(v.date) FROM visit v WHERE v.hospital_id = p.hospital_id AND v.patient_id = p.id
                    AND v.{} AND v.date <= '{today}')",
                attended_sql()
            ))
        };
        match key {
            PatientKey::Name => "p.name".to_owned(),
            PatientKey::ChartNo => "p.chart_no".to_owned(),
            PatientKey::RegisteredOn => date("p.registered_on".to_owned()),
            PatientKey::FirstVisit => visit("MIN"),
            PatientKey::LastVisit => visit("MAX"),
        }
    }

    /// Folds the hospital's names that were written by SQL. Returns how many.
    ///
    /// # Errors
    /// Where the database fails; names that were folded before stay folded.
    pub async fn fold_names(&self, hospital: i64) -> Result<u64> {
        let (mut after, mut folded) = (i64::MIN, 0);
        loop {
            let (batch, last) = self.with_retry(|| self.fold_batch(hospital, after)).await?;
            folded += batch;
            match last {
                Some(last) => after = last,
                None => return Ok(folded),
            }
        }
    }

    /// Folds the next names after a patient. Returns how many, and the last patient of the batch; none at the end.
    async fn fold_batch(&self, hospital: i64, after: i64) -> Result<(u64, Option<i64>)> {
        let stale = "(name <> folded_from OR (name IS NULL) <> (folded_from IS NULL))";
        let mut sql = self.sql("SELECT id, name FROM patient WHERE hospital_id = ");
        sql.bind(hospital).push(" AND id > ").bind(after);
        sql.push(&format!(" AND {stale} ORDER BY id LIMIT {FOLD_BATCH}"));
        let rows = self.readers.query_all_raw(sql.done()).await?;
        let names: Vec<(i64, Option<String>)> = rows
            .iter()
            .map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?)))
            .collect::<Result<_>>()?;
        let Some(&(last, _)) = names.last() else {
            return Ok((0, None));
        };
        let mut sql = self.sql("UPDATE patient SET folded_name = CASE id");
        for (id, name) in &names {
            sql.push(" WHEN ").bind(*id);
            sql.push(" THEN ").bind(name.as_deref().map(text::folded));
        }
        // The name that was read, not the column: it may have changed since.
        sql.push(" END, folded_from = CASE id");
        for (id, name) in &names {
            sql.push(" WHEN ").bind(*id).push(" THEN ").bind(name.clone());
        }
        sql.push(" END WHERE hospital_id = ").bind(hospital);
        let ids: Vec<i64> = names.iter().map(|(id, _)| *id).collect();
        // Leaves rows alone whose folded name was written meanwhile.
        sql.push(" AND id").few(&ids).push(&format!(" AND {stale}"));
        Ok((self.write(sql).await?, Some(last)))
    }

    /// Adds the conditions of a search to a statement that ends in a `WHERE` clause.
    fn add_conditions(&self, sql: &mut Sql, hospital: i64, search: &PatientSearch) -> Result<()> {
        sql.push(" AND p.state = 'ACTIVE'");
        let mut alternatives = 0;
        let mut or = |sql: &mut Sql| {
            sql.push(if alternatives == 0 { " AND (" } else { " OR " });
            alternatives += 1;
        };
        if let Some(part) = &search.name_part {
            or(sql);
            let position = match sql.backend() {
                DbBackend::Postgres => "strpos",
                _ => "instr",
            };
            sql.push(&format!("p.folded_from = p.name AND {position}(p.folded_name, "))
                .bind(text::folded(part))
                .push(") > 0");
            // A name that SQL wrote is compared as it is until a server has folded it.
            or(sql);
            sql.push(&format!(
                "(p.folded_from IS NULL OR p.folded_from <> p.name) AND {position}(p.name, "
            ))
            .bind(part.as_str())
            .push(") > 0");
        }
        if let Some(start) = &search.chart_start {
            let mut begins_with = |start: &str| {
                or(sql);
                let length = start.chars().count();
                sql.push(&format!("substr(p.chart_no, 1, {length}) = ")).bind(start);
            };
            begins_with(start);
            let narrow = text::nfkc(start);
            if narrow != start.as_str() {
                begins_with(&narrow);
            }
        }
        if let Some(phone) = &search.phone {
            or(sql);
            for (i, index) in self.secrets.phone_indexes(hospital, phone)?.into_iter().enumerate() {
                sql.push(if i == 0 { "p.phone_index IN (" } else { ", " }).bind(index);
            }
            sql.push(")");
        }
        if alternatives > 0 {
            sql.push(")");
        }
        if let Some(range) = search.registered {
            sql.push(" AND p.registered_on BETWEEN ").bind(range.from.date());
            sql.push(" AND ").bind(range.to.date());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Secrets;
    use crate::store::OpenMode;

    /// One statement with three million ids would be larger than a packet that a database accepts.
    #[tokio::test]
    async fn many_ids_are_split_over_statements() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let secrets = Secrets::open(&folder.path().join("key"), true).unwrap();
        let store = Store::connect(&url, secrets, OpenMode::Create, std::sync::Arc::default())
            .await
            .unwrap();
        store.migrate().await.unwrap();
        let parts: i64 = 3;
        let known = parts * i64::try_from(IDS_PER_STATEMENT).unwrap();
        for sql in [
            "INSERT INTO hospital (id, code, name, time_zone, week_start, created_at) VALUES (1, 'H1', 'One', 'Asia/Seoul', 'MONDAY', '2025-01-01')".to_owned(),
            format!("WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {known})
                INSERT INTO patient (id, hospital_id, state, chart_no, sex) SELECT n, 1, 'ACTIVE', n, 'UNKNOWN' FROM numbers"),
        ] {
            store.writer.execute_unprepared(&sql).await.unwrap();
        }
        // As in a list of visits, where patients occur more than once.
        let ids: Vec<i64> = (1..=known).chain(1..=known).collect();
        let statements = || {
            let text = store.metrics().text(0, 0, &[]).unwrap();
            let line = text
                .lines()
                .find(|line| line.starts_with("rollcall_database_statements_total "))
                .unwrap();
            line.rsplit(' ').next().unwrap().parse::<i64>().unwrap()
        };
        let before = statements();
        let keys = store.patient_sort_keys(1, &ids, PatientKey::ChartNo).await.unwrap();
        assert_eq!(statements() - before, parts);
        assert!((1..=known).all(|id| keys[&id].as_deref() == Some(id.to_string().as_str())));
        store.close().await.unwrap();
    }
}
