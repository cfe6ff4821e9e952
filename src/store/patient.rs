//! Patients as rows.

use std::collections::HashMap;

use entity::{patient, patient_tombstone};
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult};
use string_enum::string_enum;

use super::keyset::seek_sql;
use super::sql::{Sql, one_count};
use super::{Keyset, Store};
use crate::config::LIMITS;
use crate::error::Result;
use crate::statistics::DayRange;
use crate::text;

/// Names that one statement folds.
const FOLD_BATCH: usize = 200;

string_enum!(
    /// What patients are ordered by; nulls last, ties by id. Names of stored orders hold the words.
    PatientKey {
        Name = "Name",
        ChartNo = "ChartNo",
        RegisteredOn = "RegisteredOn",
        FirstVisit = "FirstVisit",
        LastVisit = "LastVisit",
    }
);

/// Which patients to list: those whose row is ACTIVE, and of them the ones that match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatientSearch {
    /// A part of the name, whatever its case, width and blanks.
    pub name_part: Option<String>,
    /// The start of the chart number.
    pub chart_start: Option<String>,
    /// A whole phone number, in E.164.
    pub phone: Option<String>,
    pub registered: Option<DayRange>,
}

impl PatientSearch {
    /// Whether it looks for persons, by name, chart number or phone.
    #[must_use]
    pub const fn is_by_person(&self) -> bool {
        self.name_part.is_some() || self.chart_start.is_some() || self.phone.is_some()
    }
}

/// A row of a list, with the key that it is ordered by.
pub type KeyedPatient = (patient::Model, Option<String>);

/// What is shown of a patient whose row is gone.
#[must_use]
pub fn erased_patient(hospital: i64, id: i64) -> patient::Model {
    patient::Model {
        hospital_id: hospital,
        id,
        state: "ERASED".to_owned(),
        merged_into: None,
        chart_no: None,
        name: None,
        folded_name: None,
        folded_from: None,
        phone: None,
        phone_index: None,
        birth_date: None,
        birth_year: None,
        sex: "UNKNOWN".to_owned(),
        registered_on: None,
        memo: None,
        version: 0,
    }
}

/// Makes what search compares from the name: to be called before a row is written.
pub(super) fn fold_name(row: &mut patient::Model) {
    row.folded_name = row.name.as_deref().map(text::folded);
    row.folded_from = row.name.clone();
}

impl Store {
    /// The patients with these ids; of deleted ones what is left, marked ERASED.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn patients_by_id(&self, hospital: i64, ids: &[i64]) -> Result<HashMap<i64, patient::Model>> {
        let mut sql = self.sql("SELECT * FROM patient WHERE hospital_id = ");
        sql.bind(hospital).push(" AND id").numbers(ids);
        let mut found = HashMap::with_capacity(ids.len());
        for row in self.readers.query_all_raw(sql.done()).await? {
            let row = patient::Model::from_query_result(&row, "")?;
            found.insert(row.id, row);
        }
        if found.len() < ids.len() {
            let mut sql = self.sql("SELECT * FROM patient_tombstone WHERE hospital_id = ");
            sql.bind(hospital).push(" AND id").numbers(ids);
            for row in self.readers.query_all_raw(sql.done()).await? {
                let row = patient_tombstone::Model::from_query_result(&row, "")?;
                found.entry(row.id).or_insert_with(|| erased_patient(hospital, row.id));
            }
        }
        Ok(found)
    }

    /// What these patients are ordered by now. Visits are no key here: a list that has them knows them.
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
        // One view: rows may change between two statements.
        let view = self.read_view().await?;
        for ids in ids.chunks(LIMITS.ids_of_statement) {
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

    /// A page of the hospital's patients. First and last visits are those up to `today`.
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

    /// The rows of a page by a column that has an index: first among the patients who have a value, then, where these do not
    /// fill the page, among those who have none. Asked for both at once, a database could not follow the index.
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

    /// Asks for the patients that match, with what they are ordered by.
    fn keyed_patients(&self, sql: &mut Sql, hospital: i64, search: &PatientSearch, key: &str) -> Result<()> {
        sql.push(&format!(
            "SELECT p.*, {key} AS sort_key FROM patient p WHERE p.hospital_id = "
        ))
        .bind(hospital);
        self.find(sql, hospital, search)
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
                    patient::Model::from_query_result(row, "")?,
                    row.try_get("", "sort_key")?,
                ))
            })
            .collect()
    }

    /// How many patients a list holds.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn patient_total(&self, hospital: i64, search: &PatientSearch) -> Result<u64> {
        if *search == PatientSearch::default() {
            return self.patient_count(hospital).await;
        }
        let mut sql = self.sql("SELECT COUNT(*) FROM patient p WHERE p.hospital_id = ");
        sql.bind(hospital);
        self.find(&mut sql, hospital, search)?;
        one_count(self.readers.query_one_raw(sql.done()).await?)
    }

    /// The sort key as text. A date as text sorts as the date does.
    fn patient_key(&self, key: PatientKey, today: chrono::NaiveDate) -> String {
        let date = |expression: String| match self.readers.get_database_backend() {
            DbBackend::MySql => format!("DATE_FORMAT({expression}, '%Y-%m-%d')"),
            DbBackend::Postgres => format!("CAST({expression} AS TEXT) COLLATE \"C\""),
            _ => expression,
        };
        let visit = |end: &str| {
            date(format!(
                "(SELECT {end}(v.date) FROM visit v WHERE v.hospital_id = p.hospital_id AND v.patient_id = p.id
                    AND v.status IN ('COMPLETED', 'ENDED') AND v.date <= '{today}')"
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

    fn find(&self, sql: &mut Sql, hospital: i64, search: &PatientSearch) -> Result<()> {
        sql.push(" AND p.state = 'ACTIVE'");
        let mut ways = 0;
        let mut way = |sql: &mut Sql| {
            sql.push(if ways == 0 { " AND (" } else { " OR " });
            ways += 1;
        };
        if let Some(part) = &search.name_part {
            way(sql);
            let place = match sql.backend() {
                DbBackend::Postgres => "strpos",
                _ => "instr",
            };
            sql.push(&format!("p.folded_from = p.name AND {place}(p.folded_name, "))
                .bind(text::folded(part))
                .push(") > 0");
            // SQL cannot fold: what it wrote is compared as it is until a server has folded it.
            way(sql);
            sql.push(&format!(
                "(p.folded_from IS NULL OR p.folded_from <> p.name) AND {place}(p.name, "
            ))
            .bind(part.as_str())
            .push(") > 0");
        }
        if let Some(start) = &search.chart_start {
            let mut begins_with = |start: &str| {
                way(sql);
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
            way(sql);
            for (place, index) in self.secrets.phone_indexes(hospital, phone)?.into_iter().enumerate() {
                sql.push(if place == 0 { "p.phone_index IN (" } else { ", " })
                    .bind(index);
            }
            sql.push(")");
        }
        if ways > 0 {
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

    /// One statement with three million ids would be larger than what a database takes in one packet.
    #[tokio::test]
    async fn ids_travel_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let secrets = Secrets::open(&folder.path().join("key"), true).unwrap();
        let store = Store::connect(&url, secrets, OpenMode::Create).await.unwrap();
        store.migrate().await.unwrap();
        let parts: i64 = 3;
        let known = parts * i64::try_from(LIMITS.ids_of_statement).unwrap();
        for sql in [
            "INSERT INTO hospital (id, code, name, time_zone, week_start, created_at) VALUES (1, 'H1', 'One', 'Asia/Seoul', 'MONDAY', '2025-01-01')".to_owned(),
            format!("WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {known})
                INSERT INTO patient (id, hospital_id, state, chart_no, sex) SELECT n, 1, 'ACTIVE', n, 'UNKNOWN' FROM numbers"),
        ] {
            store.writer.execute_unprepared(&sql).await.unwrap();
        }
        // As of a list of visits: each patient more than once.
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
