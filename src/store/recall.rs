//! Recall lists: their entries as they stand now, and what is counted of them.
//!
//! Every count and every page of entries is made from the same SQL: [`stands_sql`] says which entries count, [`returned_sql`] whose
//! patients came. Of an open list both follow from patients and visits as they are; closing stores them with the entries.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use entity::{recall_contact, recall_list};
use scheduling::{ContactOutcome, LeftOutReason, RecallCounts};
use sea_orm::{ConnectionTrait, DbBackend, EntityTrait as _, FromQueryResult as _, QueryResult};

use super::keyset::{Keyset, seek_by_id_sql, seek_sql};
use super::model::{ListKind, SealedText, stored};
use super::sql::{Sql, one_count};
use super::visit::attended_sql;
use super::{Store, unknown_value};
use crate::error::{Error, Result};

/// Lists or pages that one statement reads, each as a part of its own.
const PARTS: usize = 100;

/// A recall list.
#[derive(Clone, Debug)]
pub struct RecallList {
    pub id: i64,
    pub name: String,
    pub snapshot: String,
    /// The index of the cohort's bucket; -1 is the total.
    pub bucket: i32,
    pub cohort: ListKind,
    pub as_of: NaiveDate,
    /// Whether the cohort was computed with a proposed definition.
    pub proposed: bool,
    pub made_on: NaiveDate,
    pub created_at: DateTime<Utc>,
    pub created_by: Option<i64>,
    pub closed_at: Option<DateTime<Utc>>,
    pub version: i32,
}

impl TryFrom<recall_list::Model> for RecallList {
    type Error = Error;

    fn try_from(row: recall_list::Model) -> Result<Self> {
        Ok(Self {
            id: row.id,
            name: row.name,
            snapshot: row.snapshot_id,
            bucket: row.bucket,
            cohort: stored("recall_list.cohort", ListKind::parse(&row.cohort))?,
            as_of: row.as_of,
            proposed: row.proposed,
            made_on: row.made_on,
            created_at: row.created_at,
            created_by: row.created_by,
            closed_at: row.closed_at,
            version: row.version,
        })
    }
}

/// An entry of a recall list, as it stands now.
#[derive(Clone, Debug)]
pub struct RecallEntry {
    pub id: i64,
    pub list: i64,
    /// The patient; where records were merged, the one who stays.
    pub patient: i64,
    /// Who has claimed it, or else who it is assigned to.
    pub assignee: Option<i64>,
    /// Until when it is claimed; none if it is free.
    pub claimed_until: Option<DateTime<Utc>>,
    pub outcome: Option<ContactOutcome>,
    pub due_on: Option<NaiveDate>,
    pub returned_on: Option<NaiveDate>,
    pub version: i32,
}

/// A contact with a patient.
#[derive(Clone, Debug)]
pub struct RecallContact {
    pub at: DateTime<Utc>,
    pub staff: Option<i64>,
    pub outcome: ContactOutcome,
    pub note: Option<SealedText>,
    pub due_on: Option<NaiveDate>,
}

impl TryFrom<recall_contact::Model> for RecallContact {
    type Error = Error;

    fn try_from(row: recall_contact::Model) -> Result<Self> {
        Ok(Self {
            at: row.contacted_at,
            staff: row.staff_id,
            outcome: outcome("recall_contact.outcome", &row.outcome)?,
            note: row.note.map(|sealed| SealedText::new(row.hospital_id, "note", sealed)),
            due_on: row.due_on,
        })
    }
}

/// Which entries of a list to read: those that meet all conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RecallEntryQuery {
    pub outcomes: Option<Vec<ContactOutcome>>,
    pub untouched: Option<bool>,
    pub returned: Option<bool>,
    /// See [`RecallEntry::assignee`].
    pub assignees: Option<Vec<i64>>,
    pub due_by: Option<NaiveDate>,
}

/// A page of the entries of a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecallEntryPage {
    pub list: i64,
    pub query: RecallEntryQuery,
    pub seek: Keyset<Option<String>>,
}

/// An entry, and its key in the order of a list.
pub type KeyedRecallEntry = (RecallEntry, String);

/// A page of the patients who were left out of a list for a reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeftOutPage {
    pub list: i64,
    pub reason: LeftOutReason,
    /// By the patient's id.
    pub seek: Keyset<Option<String>>,
}

fn outcome(column: &str, word: &str) -> Result<ContactOutcome> {
    ContactOutcome::parse(word).ok_or_else(|| unknown_value(column, word))
}

/// The entries, `e`, with their lists, `l`, and the patients as counted, `p`, who may be deleted.
const ENTRIES: &str = "recall_entry e
    JOIN recall_list l ON l.hospital_id = e.hospital_id AND l.id = e.list_id
    LEFT JOIN patient p ON p.hospital_id = e.hospital_id AND p.id = e.patient_id";

/// Who stays where the patient was merged.
const PERSON: &str = "COALESCE(p.merged_into, e.patient_id)";

/// Whether an entry counts: of several that are one person now, the oldest does.
fn stands_sql(backend: DbBackend) -> String {
    let merged = match backend {
        // As in [`visits_by_patient`].
        DbBackend::MySql => "patient m FORCE INDEX (patient_by_merged_number)",
        _ => "patient m",
    };
    // With the plus and the nested MIN, an entry is looked up by its patient: otherwise SQLite and MariaDB read all entries of the list.
    let older = "o.hospital_id = e.hospital_id AND o.list_id = e.list_id AND +o.id < e.id";
    format!(
        "CASE WHEN l.closed_at IS NOT NULL THEN e.stands ELSE
            NOT EXISTS (SELECT 1 FROM recall_entry o WHERE {older} AND o.patient_id = {PERSON})
            AND NOT EXISTS (SELECT 1 FROM {merged} WHERE m.hospital_id = e.hospital_id AND m.merged_into = {PERSON}
                AND (SELECT MIN(o.id) FROM recall_entry o WHERE o.hospital_id = e.hospital_id AND o.list_id = e.list_id
                    AND o.patient_id = m.id) < e.id) END"
    )
}

/// The state of the visits at a time.
pub(super) struct Then {
    pub day: String,
    /// The number of the revision.
    pub revision: String,
    /// The highest id of a visit.
    pub newest_visit: String,
}

/// The table of visits, to be read by patient. Without the hint, MariaDB reads all visits of the hospital for each patient where its
/// statistics are old.
pub(super) fn visits_by_patient(backend: DbBackend, alias: &str) -> String {
    let hint = match backend {
        DbBackend::MySql => " FORCE INDEX (visit_by_patient)",
        _ => "",
    };
    format!("visit {alias}{hint}")
}

/// The visits `v` of a person by which they came after a time, up to a day: attended ones of a later day, and those of that day which were
/// not attended at that time. All parts are SQL.
pub(super) fn came_after_sql(
    backend: DbBackend,
    hospital: &str,
    person: &str,
    then: &Then,
    until: NaiveDate,
) -> String {
    let Then {
        day,
        revision,
        newest_visit,
    } = then;
    let attended = attended_sql();
    // The status before the first later change, or else the present one.
    let status_then = format!(
        "COALESCE((SELECT c.status FROM visit_change c WHERE c.hospital_id = v.hospital_id AND c.visit_id = v.id
            AND c.number > {revision} ORDER BY c.number LIMIT 1), v.status)"
    );
    let attended_then = attended.replacen("status", &status_then, 1);
    let visits = visits_by_patient(backend, "v");
    format!(
        "FROM {visits} WHERE v.hospital_id = {hospital} AND v.patient_id = {person} AND v.{attended}
            AND v.date >= {day} AND v.date <= '{until}'
            AND (v.date > {day} OR NOT (v.id <= {newest_visit} AND {attended_then}))"
    )
}

/// The day on which the patient of an entry returned.
fn returned_sql(backend: DbBackend, today: NaiveDate) -> String {
    let made = Then {
        day: "l.made_on".to_owned(),
        revision: "l.revision".to_owned(),
        newest_visit: "l.newest_visit_id".to_owned(),
    };
    let came = came_after_sql(backend, "e.hospital_id", PERSON, &made, today);
    format!("CASE WHEN l.closed_at IS NOT NULL THEN e.returned_on ELSE (SELECT MIN(v.date) {came}) END")
}

/// The key by which entries are ordered, as text: first those to be called again by today, the longest due first; then those whom nobody
/// called; then those to be called later; and at last those who are done.
fn order_sql(backend: DbBackend, today: NaiveDate) -> String {
    let of_day = |rank: u8| match backend {
        DbBackend::MySql => format!("CONCAT('{rank}', DATE_FORMAT(e.due_on, '%Y-%m-%d'))"),
        _ => format!("'{rank}' || CAST(e.due_on AS TEXT)"),
    };
    let key = format!(
        "CASE WHEN e.due_on <= '{today}' THEN {} WHEN e.outcome IS NULL THEN '1' WHEN e.due_on IS NOT NULL THEN {} ELSE '3' END",
        of_day(0),
        of_day(2)
    );
    match backend {
        DbBackend::Postgres => format!("({key}) COLLATE \"C\""),
        _ => key,
    }
}

impl RecallEntryQuery {
    fn conditions(&self, sql: &mut Sql, today: NaiveDate, now: DateTime<Utc>) {
        if let Some(outcomes) = &self.outcomes {
            let words: Vec<&str> = outcomes.iter().map(|outcome| outcome.as_str()).collect();
            sql.push(" AND e.outcome").texts(&words);
        }
        if let Some(untouched) = self.untouched {
            sql.push(&format!(
                " AND e.outcome IS {}NULL",
                if untouched { "" } else { "NOT " }
            ));
        }
        if let Some(returned) = self.returned {
            let not = if returned { "NOT " } else { "" };
            sql.push(&format!(" AND {} IS {not}NULL", returned_sql(sql.backend(), today)));
        }
        if let Some(assignees) = &self.assignees {
            sql.push(" AND CASE WHEN e.claimed_until > ").bind(now);
            sql.push(" THEN e.claimed_by ELSE e.assignee_id END").numbers(assignees);
        }
        if let Some(day) = self.due_by {
            sql.push(&format!(" AND e.due_on <= '{day}'"));
        }
    }

    /// The conditions of entries that a claim takes: nobody has them, and what the query does not ask for is what is to be done now.
    fn claim_conditions(&self, sql: &mut Sql, staff: Option<i64>, today: NaiveDate, now: DateTime<Utc>) {
        self.conditions(sql, today, now);
        sql.push(" AND (e.claimed_until IS NULL OR e.claimed_until <= ")
            .bind(now)
            .push(")");
        if self.assignees.is_none() {
            sql.push(" AND (e.assignee_id IS NULL OR e.assignee_id = ")
                .bind(staff)
                .push(")");
        }
        if self.outcomes.is_none() && self.untouched.is_none() && self.due_by.is_none() {
            sql.push(&format!(" AND (e.outcome IS NULL OR e.due_on <= '{today}')"));
        }
        if self.returned.is_none() {
            sql.push(&format!(" AND {} IS NULL", returned_sql(sql.backend(), today)));
        }
        sql.push(&format!(
            " AND EXISTS (SELECT 1 FROM patient q WHERE q.hospital_id = e.hospital_id AND q.id = {PERSON}
                AND q.state = 'ACTIVE' AND q.do_not_contact = FALSE)"
        ));
    }
}

impl Store {
    /// The SQL of a whole entry, without conditions; `place` is a number to tell parts of a statement apart by.
    fn entry_columns(&self, place: usize, today: NaiveDate) -> String {
        format!(
            "SELECT {place} AS place, e.id, e.list_id, {PERSON} AS person_id, e.assignee_id, e.claimed_by, e.claimed_until,
                e.outcome, e.due_on, e.version, {} AS came_on, {} AS sort_key FROM {ENTRIES}",
            returned_sql(self.readers.get_database_backend(), today),
            order_sql(self.readers.get_database_backend(), today)
        )
    }

    fn entry_of(&self, row: &QueryResult, now: DateTime<Utc>) -> Result<RecallEntry> {
        let claimed_until: Option<DateTime<Utc>> = row.try_get("", "claimed_until")?;
        let claimed_until = claimed_until.filter(|until| *until > now);
        let word: Option<String> = row.try_get("", "outcome")?;
        Ok(RecallEntry {
            id: row.try_get("", "id")?,
            list: row.try_get("", "list_id")?,
            patient: row.try_get("", "person_id")?,
            assignee: row.try_get(
                "",
                if claimed_until.is_some() {
                    "claimed_by"
                } else {
                    "assignee_id"
                },
            )?,
            claimed_until,
            outcome: word.map(|word| outcome("recall_entry.outcome", &word)).transpose()?,
            due_on: row.try_get("", "due_on")?,
            returned_on: row.try_get("", "came_on")?,
            version: row.try_get("", "version")?,
        })
    }

    /// A page of recall lists, newest first; open or closed ones, or all.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn recall_list_page(
        &self,
        hospital: i64,
        open: Option<bool>,
        seek: &Keyset<Option<String>>,
    ) -> Result<Vec<RecallList>> {
        let mut sql = self.sql("SELECT * FROM recall_list WHERE hospital_id = ");
        sql.bind(hospital).push(open_sql(open));
        seek_by_id_sql(&mut sql, "id", seek);
        let mut rows = Vec::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            rows.push(RecallList::try_from(recall_list::Model::from_query_result(&row, "")?)?);
        }
        if seek.backwards {
            rows.reverse();
        }
        Ok(rows)
    }

    /// How many recall lists there are.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn recall_list_total(&self, hospital: i64, open: Option<bool>) -> Result<u64> {
        let mut sql = self.sql("SELECT COUNT(*) FROM recall_list WHERE hospital_id = ");
        sql.bind(hospital).push(open_sql(open));
        one_count(self.readers.query_one_raw(sql.done()).await?)
    }

    /// The recall lists with these ids, if the hospital has them.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn recall_lists_by_id(&self, hospital: i64, ids: &[i64]) -> Result<HashMap<i64, RecallList>> {
        let mut sql = self.sql("SELECT * FROM recall_list WHERE hospital_id = ");
        sql.bind(hospital).push(" AND id").numbers(ids);
        let mut found = HashMap::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            let list = RecallList::try_from(recall_list::Model::from_query_result(&row, "")?)?;
            found.insert(list.id, list);
        }
        Ok(found)
    }

    pub(super) async fn recall_list_in(
        &self,
        connection: &impl ConnectionTrait,
        hospital: i64,
        argument: &str,
        id: i64,
    ) -> Result<recall_list::Model> {
        let found = recall_list::Entity::find_by_id((hospital, id)).one(connection).await?;
        found.ok_or_else(|| Error::unknown_id(argument, "recall list"))
    }

    /// What is counted of each of these lists; one without entries is left out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn recall_counts(
        &self,
        hospital: i64,
        lists: &[i64],
        today: NaiveDate,
    ) -> Result<HashMap<i64, RecallCounts>> {
        let mut sql = self.sql(&format!(
            "SELECT e.list_id, e.outcome, l.made_on, {} AS came_on, COUNT(*) FROM {ENTRIES} WHERE e.hospital_id = ",
            returned_sql(self.readers.get_database_backend(), today)
        ));
        sql.bind(hospital).push(" AND e.list_id").numbers(lists);
        sql.push(&format!(
            " AND {} GROUP BY e.list_id, e.outcome, l.made_on, came_on",
            stands_sql(self.readers.get_database_backend())
        ));
        let mut counts: HashMap<i64, RecallCounts> = HashMap::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            let word: Option<String> = row.try_get_by_index(1)?;
            let outcome = word.map(|word| outcome("recall_entry.outcome", &word)).transpose()?;
            let entries: i64 = row.try_get_by_index(4)?;
            let (made_on, returned_on) = (row.try_get_by_index(2)?, row.try_get_by_index(3)?);
            let of_list = counts.entry(row.try_get_by_index(0)?).or_default();
            of_list.add(outcome, made_on, returned_on, entries.unsigned_abs());
        }
        Ok(counts)
    }

    /// How many patients were left out of each of these lists for each reason. Entries that became the same person as an older one are
    /// duplicates, too.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn left_out_counts(
        &self,
        hospital: i64,
        lists: &[i64],
    ) -> Result<HashMap<i64, HashMap<LeftOutReason, u64>>> {
        let mut sql = self.sql("SELECT list_id, reason, COUNT(*) FROM recall_left_out WHERE hospital_id = ");
        sql.bind(hospital).push(" AND list_id").numbers(lists);
        sql.push(&format!(
            " GROUP BY list_id, reason UNION ALL SELECT e.list_id, '{}', COUNT(*) FROM {ENTRIES} WHERE e.hospital_id = ",
            LeftOutReason::Duplicate.as_str()
        ));
        sql.bind(hospital).push(" AND e.list_id").numbers(lists);
        sql.push(&format!(
            " AND NOT ({}) GROUP BY e.list_id",
            stands_sql(self.readers.get_database_backend())
        ));
        let mut counts: HashMap<i64, HashMap<LeftOutReason, u64>> = HashMap::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            let word: String = row.try_get_by_index(1)?;
            let reason = stored("recall_left_out.reason", LeftOutReason::parse(&word))?;
            let patients: i64 = row.try_get_by_index(2)?;
            let of_list = counts.entry(row.try_get_by_index(0)?).or_default();
            *of_list.entry(reason).or_default() += patients.unsigned_abs();
        }
        Ok(counts)
    }

    /// The patients of each of these pages, by id: those who were left out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn left_out_pages(&self, hospital: i64, pages: &[LeftOutPage]) -> Result<Vec<Vec<i64>>> {
        let mut found: Vec<Vec<i64>> = vec![Vec::new(); pages.len()];
        for (pages, found) in pages.chunks(PARTS).zip(found.chunks_mut(PARTS)) {
            let mut sql = self.sql("");
            for (place, page) in pages.iter().enumerate() {
                if place > 0 {
                    sql.push(" UNION ALL ");
                }
                sql.push(&format!(
                    "SELECT * FROM (SELECT {place} AS place, x.patient_id FROM
                        (SELECT patient_id FROM recall_left_out WHERE hospital_id = "
                ));
                sql.bind(hospital).push(" AND list_id = ").bind(page.list);
                sql.push(" AND reason = ").bind(page.reason.as_str());
                if page.reason == LeftOutReason::Duplicate {
                    sql.push(&format!(
                        " UNION ALL SELECT e.patient_id FROM {ENTRIES} WHERE e.hospital_id = "
                    ));
                    sql.bind(hospital).push(" AND e.list_id = ").bind(page.list);
                    sql.push(&format!(
                        " AND NOT ({})",
                        stands_sql(self.readers.get_database_backend())
                    ));
                }
                sql.push(") x WHERE 1 = 1");
                seek_by_id_sql(&mut sql, "x.patient_id", &page.seek);
                sql.push(&format!(") t{place}"));
            }
            for row in self.readers.query_all_raw(sql.done()).await? {
                if let Some(page) = found.get_mut(place_of(&row)?) {
                    page.push(row.try_get_by_index(1)?);
                }
            }
            found.iter_mut().for_each(|page| page.sort_unstable());
        }
        Ok(found)
    }

    /// The entries of each of these pages, those first that are to be called next.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn recall_entry_pages(
        &self,
        hospital: i64,
        pages: &[RecallEntryPage],
        today: NaiveDate,
    ) -> Result<Vec<Vec<KeyedRecallEntry>>> {
        let now = self.now();
        let order = order_sql(self.readers.get_database_backend(), today);
        let mut found: Vec<Vec<KeyedRecallEntry>> = vec![Vec::new(); pages.len()];
        for (pages, found) in pages.chunks(PARTS).zip(found.chunks_mut(PARTS)) {
            let mut sql = self.sql("");
            for (place, page) in pages.iter().enumerate() {
                if place > 0 {
                    sql.push(" UNION ALL ");
                }
                sql.push("SELECT * FROM (").push(&self.entry_columns(place, today));
                sql.push(" WHERE e.hospital_id = ").bind(hospital);
                sql.push(" AND e.list_id = ").bind(page.list);
                sql.push(&format!(" AND {}", stands_sql(self.readers.get_database_backend())));
                page.query.conditions(&mut sql, today, now);
                seek_sql(&mut sql, &order, false, "e.id", &page.seek, |sql, key| {
                    sql.bind(key);
                });
                sql.push(&format!(") t{place}"));
            }
            for row in self.readers.query_all_raw(sql.done()).await? {
                if let Some(page) = found.get_mut(place_of(&row)?) {
                    page.push((self.entry_of(&row, now)?, row.try_get("", "sort_key")?));
                }
            }
            for page in found {
                page.sort_by(|one, other| (&one.1, one.0.id).cmp(&(&other.1, other.0.id)));
            }
        }
        Ok(found)
    }

    /// The entries of a list that match, in their order: their ids, and the patients.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn recall_entry_ids(
        &self,
        hospital: i64,
        list: i64,
        query: &RecallEntryQuery,
        today: NaiveDate,
    ) -> Result<Vec<(i64, i64)>> {
        let backend = self.readers.get_database_backend();
        let mut sql = self.sql(&format!("SELECT e.id, {PERSON} FROM {ENTRIES} WHERE e.hospital_id = "));
        sql.bind(hospital).push(" AND e.list_id = ").bind(list);
        sql.push(&format!(" AND {}", stands_sql(backend)));
        query.conditions(&mut sql, today, self.now());
        sql.push(&format!(" ORDER BY {}, e.id", order_sql(backend, today)));
        let rows = self.readers.query_all_raw(sql.done()).await?;
        rows.iter().map(id_and_patient).collect()
    }

    /// How many entries of each list match the query that goes with it.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn recall_entry_totals(
        &self,
        hospital: i64,
        lists: &[(i64, RecallEntryQuery)],
        today: NaiveDate,
    ) -> Result<Vec<u64>> {
        let now = self.now();
        let mut totals = vec![0; lists.len()];
        for (lists, totals) in lists.chunks(PARTS).zip(totals.chunks_mut(PARTS)) {
            let mut sql = self.sql("");
            for (place, (list, query)) in lists.iter().enumerate() {
                if place > 0 {
                    sql.push(" UNION ALL ");
                }
                sql.push(&format!(
                    "SELECT {place} AS place, COUNT(*) FROM {ENTRIES} WHERE e.hospital_id = "
                ));
                sql.bind(hospital).push(" AND e.list_id = ").bind(*list);
                sql.push(&format!(" AND {}", stands_sql(self.readers.get_database_backend())));
                query.conditions(&mut sql, today, now);
            }
            for row in self.readers.query_all_raw(sql.done()).await? {
                let total: i64 = row.try_get_by_index(1)?;
                if let Some(of_list) = totals.get_mut(place_of(&row)?) {
                    *of_list = total.unsigned_abs();
                }
            }
        }
        Ok(totals)
    }

    /// The entries with these ids, if the hospital has them.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn recall_entries_by_id(
        &self,
        hospital: i64,
        ids: &[i64],
        today: NaiveDate,
    ) -> Result<HashMap<i64, RecallEntry>> {
        let now = self.now();
        let mut sql = self.sql(&self.entry_columns(0, today));
        sql.push(" WHERE e.hospital_id = ").bind(hospital);
        sql.push(" AND e.id").numbers(ids);
        let mut found = HashMap::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            let entry = self.entry_of(&row, now)?;
            found.insert(entry.id, entry);
        }
        Ok(found)
    }

    /// The entries of a claim of the list, in their order. One that was claimed again since is left out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn claimed_entries(
        &self,
        hospital: i64,
        list: i64,
        claim: i64,
        today: NaiveDate,
    ) -> Result<Vec<RecallEntry>> {
        let now = self.now();
        let mut sql = self.sql(&self.entry_columns(0, today));
        sql.push(" WHERE e.hospital_id = ").bind(hospital);
        sql.push(" AND e.list_id = ").bind(list);
        sql.push(" AND e.claim_number = ").bind(claim);
        sql.push(" ORDER BY sort_key, e.id");
        let rows = self.readers.query_all_raw(sql.done()).await?;
        rows.iter().map(|row| self.entry_of(row, now)).collect()
    }

    /// The entries that a claim would take next, at most so many: their ids, and the patients.
    pub(super) async fn next_entries(
        &self,
        connection: &impl ConnectionTrait,
        (hospital, list, staff): (i64, i64, Option<i64>),
        query: &RecallEntryQuery,
        today: NaiveDate,
        count: i32,
    ) -> Result<Vec<(i64, i64)>> {
        let order = order_sql(self.readers.get_database_backend(), today);
        let mut sql = self.sql(&format!("SELECT e.id, {PERSON} FROM {ENTRIES} WHERE e.hospital_id = "));
        sql.bind(hospital).push(" AND e.list_id = ").bind(list);
        sql.push(&format!(" AND {}", stands_sql(self.readers.get_database_backend())));
        query.claim_conditions(&mut sql, staff, today, self.now());
        sql.push(&format!(" ORDER BY {order}, e.id LIMIT {count}"));
        let rows = connection.query_all_raw(sql.done()).await?;
        rows.iter().map(id_and_patient).collect()
    }

    /// Whether each of these entries of an open list counts, and the patient of each: where records were merged, the one who stays.
    pub(super) async fn standing_entries(
        &self,
        connection: &impl ConnectionTrait,
        hospital: i64,
        ids: &[i64],
    ) -> Result<HashMap<i64, (bool, i64)>> {
        let mut sql = self.sql(&format!(
            "SELECT e.id, CASE WHEN {} THEN 1 ELSE 0 END, {PERSON} FROM {ENTRIES} WHERE e.hospital_id = ",
            stands_sql(self.readers.get_database_backend())
        ));
        sql.bind(hospital).push(" AND e.id").numbers(ids);
        let mut found = HashMap::new();
        for row in connection.query_all_raw(sql.done()).await? {
            let stands = row.try_get_by_index::<i32>(1)? == 1;
            found.insert(row.try_get_by_index(0)?, (stands, row.try_get_by_index(2)?));
        }
        Ok(found)
    }

    /// What closing stores with the entries of an open list: those that do not count; and of the others, those whose patients returned, by
    /// day.
    pub(super) async fn entries_to_close(
        &self,
        connection: &impl ConnectionTrait,
        hospital: i64,
        list: i64,
        today: NaiveDate,
    ) -> Result<(Vec<i64>, HashMap<NaiveDate, Vec<i64>>)> {
        let mut sql = self.sql(&format!(
            "SELECT e.id, CASE WHEN {} THEN 1 ELSE 0 END, {} FROM {ENTRIES} WHERE e.hospital_id = ",
            stands_sql(self.readers.get_database_backend()),
            returned_sql(self.readers.get_database_backend(), today)
        ));
        sql.bind(hospital).push(" AND e.list_id = ").bind(list);
        let (mut duplicates, mut returned) = (Vec::new(), HashMap::<_, Vec<_>>::new());
        for row in connection.query_all_raw(sql.done()).await? {
            let id = row.try_get_by_index(0)?;
            if row.try_get_by_index::<i32>(1)? == 0 {
                duplicates.push(id);
            } else if let Some(day) = row.try_get_by_index::<Option<NaiveDate>>(2)? {
                returned.entry(day).or_default().push(id);
            }
        }
        Ok((duplicates, returned))
    }

    /// The contacts of each of these entries, in their order; an entry without any is left out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn recall_contacts(&self, hospital: i64, entries: &[i64]) -> Result<HashMap<i64, Vec<RecallContact>>> {
        let mut sql = self.sql("SELECT * FROM recall_contact WHERE hospital_id = ");
        sql.bind(hospital).push(" AND entry_id").numbers(entries);
        sql.push(" ORDER BY entry_id, id");
        let mut contacts: HashMap<i64, Vec<RecallContact>> = HashMap::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            let row = recall_contact::Model::from_query_result(&row, "")?;
            contacts.entry(row.entry_id).or_default().push(row.try_into()?);
        }
        Ok(contacts)
    }
}

const fn open_sql(open: Option<bool>) -> &'static str {
    match open {
        None => "",
        Some(true) => " AND closed_at IS NULL",
        Some(false) => " AND closed_at IS NOT NULL",
    }
}

fn id_and_patient(row: &QueryResult) -> Result<(i64, i64)> {
    Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?))
}

/// The number of the part that a row is of.
fn place_of(row: &QueryResult) -> Result<usize> {
    let place: i32 = row.try_get_by_index(0)?;
    usize::try_from(place).map_err(|_| Error::Internal("a part of a statement has a negative number".to_owned()))
}
