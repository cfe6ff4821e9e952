//! The histories of patients and visits: who changed what, when and why. Triggers record each change with the row as it was
//! before; the row after it is the one before the next change, or the current one.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use entity::{patient, recall_contact, record_change, visit};
use sea_orm::ActiveValue::NotSet;
use sea_orm::{
    ActiveModelTrait as _, ConnectionTrait as _, DatabaseTransaction, DbBackend, EntityTrait as _, FromQueryResult as _,
};
use serde::{Deserialize, Serialize};
use string_enum::string_enum;

use super::model::stored;
use super::{RecallContact, Sql, Store, UndoMerge};
use crate::error::Result;
use crate::secrets::Secrets;

/// Who makes the changes of a transaction, and why: what the triggers record with them.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChangeContext<'a> {
    pub(super) staff: Option<i64>,
    /// The name of the command, or what else makes the changes.
    pub(super) source: &'a str,
    pub(super) reason: Option<&'a str>,
    /// Whether the changes are recorded at all.
    pub(super) recorded: bool,
}

impl ChangeContext<'static> {
    pub(super) const IMPORT: Self = Self {
        staff: None,
        source: "IMPORT",
        reason: None,
        recorded: true,
    };

    /// It changes nothing that anybody reads.
    pub(super) const UNRECORDED: Self = Self {
        staff: None,
        source: "MAINTENANCE",
        reason: None,
        recorded: false,
    };
}

string_enum!(
    /// What has a history.
    RecordKind {
        Patient = "PATIENT",
        Visit = "VISIT",
    }
);

string_enum!(
    /// What a change did to the row.
    ChangeKind {
        Added = "ADDED",
        Changed = "CHANGED",
        Deleted = "DELETED",
    }
);

/// Which changes of a history to read, of all that are listed newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HistoryPage {
    /// The change before the page; with `backwards` the one after it. None: the page is at the list's end.
    pub from: Option<i64>,
    /// Whether the page ends at `from`, or has the oldest changes, instead of beginning there.
    pub backwards: bool,
    /// The largest number of changes. With `backwards` the newest of so many is there to tell that there are more: what it made of
    /// the row is not known.
    pub limit: u64,
}

/// A change of a patient or a visit.
#[derive(Clone, Debug)]
pub struct ChangeEntry {
    pub id: i64,
    pub record: RecordKind,
    /// The id of the patient or the visit.
    pub record_id: i64,
    pub at: DateTime<Utc>,
    /// None where no member of staff made it.
    pub staff: Option<i64>,
    /// A command, IMPORT, or UNKNOWN; none for SQL.
    pub source: Option<String>,
    pub reason: Option<String>,
    /// None where the change added the row.
    before: Option<Arc<record_change::Model>>,
    /// None where the change deleted the row.
    after: Option<Arc<record_change::Model>>,
    /// The contact of a recall list that it is, instead of a change of the row.
    contact: Option<RecallContact>,
    /// The patient who was merged into this one, or no longer is, instead of a change of the row.
    merged: Option<i64>,
}

/// What a patient's history has besides changes of the patient's row.
#[derive(Clone, Copy, Debug)]
pub(super) enum HistoryEvent {
    /// The contact with this id.
    Contact(i64),
    /// This patient was merged into the one of the history, or no longer is.
    Merge(i64),
}

/// A field that a change made different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDifference {
    /// Its name in the API.
    pub field: &'static str,
    pub before: Option<FieldValue>,
    pub after: Option<FieldValue>,
}

/// The value of a field, with what it takes to show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FieldValue {
    Text(String),
    /// A patient's name.
    Name(String),
    /// E.164.
    Phone(String),
    /// A memo or a note.
    Remark(String),
    Date(NaiveDate),
    BirthDate(NaiveDate),
    Instant(DateTime<Utc>),
    Number(i32),
    Flag(bool),
    Department(i64),
    Doctor(i64),
    Patient(i64),
}

impl ChangeEntry {
    /// Whether it added the row.
    pub(super) const fn adds(&self) -> bool {
        self.before.is_none() && self.contact.is_none()
    }

    /// The patients whose data it shows.
    pub fn patients(&self) -> impl Iterator<Item = i64> {
        let own = (self.record == RecordKind::Patient).then_some(self.record_id);
        let rows = self.before.iter().chain(&self.after);
        rows.filter_map(|row| row.patient_id).chain(own).chain(self.merged)
    }

    /// The fields that differ, in the order of the API's fields.
    ///
    /// # Errors
    /// Where a value cannot be decrypted.
    pub fn differences(&self, secrets: &Secrets) -> Result<Vec<FieldDifference>> {
        if let Some(contact) = &self.contact {
            return contact_values(contact, secrets);
        }
        if let Some(merged) = self.merged {
            let (merged, is_undone) = (
                FieldValue::Patient(merged),
                self.source.as_deref() == Some(UndoMerge::INFO.name),
            );
            return Ok(vec![FieldDifference {
                field: "mergedPatient",
                before: is_undone.then(|| merged.clone()),
                after: (!is_undone).then_some(merged),
            }]);
        }
        let values = |row: &Option<Arc<record_change::Model>>| {
            let row = row.as_deref();
            row.map(|row| match self.record {
                RecordKind::Patient => patient_values(row, secrets),
                RecordKind::Visit => visit_values(row, secrets),
            })
            .transpose()
            .map(Option::unwrap_or_default)
        };
        let (before, after) = (values(&self.before)?, values(&self.after)?);
        let fields = if before.is_empty() { &after } else { &before };
        let fields: Vec<&'static str> = fields.iter().map(|(field, _)| *field).collect();
        let mut before = before.into_iter().map(|(_, value)| value);
        let mut after = after.into_iter().map(|(_, value)| value);
        let pairs = fields.into_iter().map(|field| FieldDifference {
            field,
            before: before.next().flatten(),
            after: after.next().flatten(),
        });
        Ok(pairs.filter(|pair| pair.before != pair.after).collect())
    }
}

type FieldValues = Vec<(&'static str, Option<FieldValue>)>;

fn patient_values(row: &record_change::Model, secrets: &Secrets) -> Result<FieldValues> {
    use FieldValue::{BirthDate, Date, Flag, Name, Number, Patient, Phone, Remark, Text};
    let open = |purpose, sealed: &Option<Vec<u8>>| opened(secrets, row.hospital_id, purpose, sealed.as_deref());
    Ok(vec![
        ("state", row.state.clone().map(Text)),
        ("mergedInto", row.merged_into.map(Patient)),
        ("chartNo", row.chart_no.clone().map(Text)),
        ("name", row.name.clone().map(Name)),
        ("phone", open("phone", &row.phone)?.map(Phone)),
        ("birthDate", row.birth_date.map(BirthDate)),
        ("birthYear", row.birth_year.map(Number)),
        ("sex", row.sex.clone().map(Text)),
        ("registeredOn", row.registered_on.map(Date)),
        ("memo", open("memo", &row.memo)?.map(Remark)),
        ("doNotContact", row.do_not_contact.map(Flag)),
    ])
}

fn visit_values(row: &record_change::Model, secrets: &Secrets) -> Result<FieldValues> {
    use FieldValue::{Date, Department, Doctor, Instant, Number, Patient, Remark, Text};
    let note = opened(secrets, row.hospital_id, "note", row.note.as_deref())?;
    Ok(vec![
        ("visitNo", row.visit_no.clone().map(Text)),
        ("patient", row.patient_id.map(Patient)),
        ("date", row.date.map(Date)),
        ("scheduledAt", row.scheduled_at.map(|at| Instant(at.0))),
        ("status", row.status.clone().map(Text)),
        ("department", row.department_id.map(Department)),
        ("doctor", row.doctor_id.map(Doctor)),
        ("channel", row.channel.clone().map(Text)),
        ("durationMinutes", row.duration_minutes.map(Number)),
        ("checkedInAt", row.checked_in_at.map(Instant)),
        ("startedAt", row.started_at.map(Instant)),
        ("completedAt", row.completed_at.map(Instant)),
        ("expiresAt", row.expires_at.map(Instant)),
        ("note", note.map(Remark)),
    ])
}

/// What a contact says, by the names of its fields.
fn contact_values(contact: &RecallContact, secrets: &Secrets) -> Result<Vec<FieldDifference>> {
    let note = contact.note.as_ref().map(|note| note.open(secrets)).transpose()?;
    let values = [
        ("outcome", Some(FieldValue::Text(contact.outcome.as_str().to_owned()))),
        ("note", note.map(FieldValue::Remark)),
        ("dueOn", contact.due_on.map(FieldValue::Date)),
    ];
    let difference = |(field, after)| FieldDifference {
        field,
        before: None,
        after,
    };
    let said = values.into_iter().filter(|(_, value)| value.is_some());
    Ok(said.map(difference).collect())
}

/// Equal texts are encrypted differently: they are compared as texts.
fn opened(secrets: &Secrets, hospital: i64, purpose: &'static str, sealed: Option<&[u8]>) -> Result<Option<String>> {
    sealed
        .map(|sealed| secrets.open_sealed(hospital, purpose, sealed))
        .transpose()
}

/// The current row of a patient in the form of those before.
fn current_patient(row: patient::Model) -> record_change::Model {
    record_change::Model {
        hospital_id: row.hospital_id,
        record_id: row.id,
        state: Some(row.state),
        merged_into: row.merged_into,
        chart_no: row.chart_no,
        name: row.name,
        phone: row.phone,
        birth_date: row.birth_date,
        birth_year: row.birth_year,
        sex: Some(row.sex),
        registered_on: row.registered_on,
        memo: row.memo,
        do_not_contact: Some(row.do_not_contact),
        ..record_change::Model::default()
    }
}

/// The current row of a visit in the form of those before.
fn current_visit(row: visit::Model) -> record_change::Model {
    record_change::Model {
        hospital_id: row.hospital_id,
        record_id: row.id,
        visit_no: row.visit_no,
        patient_id: Some(row.patient_id),
        date: Some(row.date),
        scheduled_at: row.scheduled_at,
        status: Some(row.status),
        department_id: row.department_id,
        doctor_id: row.doctor_id,
        channel: Some(row.channel),
        duration_minutes: row.duration_minutes,
        checked_in_at: row.checked_in_at,
        started_at: row.started_at,
        completed_at: row.completed_at,
        expires_at: row.expires_at,
        note: row.note,
        ..record_change::Model::default()
    }
}

impl Store {
    /// Tells the triggers who makes the changes of this transaction, and why, until [`Self::end_context`].
    pub(super) async fn begin_context(
        &self,
        transaction: &DatabaseTransaction,
        hospital: i64,
        context: ChangeContext<'_>,
    ) -> Result<()> {
        let ChangeContext {
            staff,
            source,
            reason,
            recorded,
        } = context;
        let sql = match transaction.get_database_backend() {
            DbBackend::Postgres => {
                let recorded = if recorded { "yes" } else { "no" };
                let staff = staff.map(|id| id.to_string()).unwrap_or_default();
                let mut sql = self.sql("SELECT set_config('rollcall.staff_id', ");
                sql.bind(staff).push(", true), set_config('rollcall.source', ");
                sql.bind(source).push(", true), set_config('rollcall.reason', ");
                sql.bind(reason.unwrap_or_default())
                    .push(", true), set_config('rollcall.recorded', ");
                sql.bind(recorded).push(", true)");
                transaction.query_one_raw(sql.done()).await?;
                return Ok(());
            }
            DbBackend::MySql => {
                let mut sql = self.sql("SET @rollcall_staff_id = ");
                sql.bind(staff).push(", @rollcall_source = ").bind(source);
                sql.push(", @rollcall_reason = ").bind(reason);
                sql.push(", @rollcall_recorded = ").bind(recorded);
                sql
            }
            _ => {
                let mut sql =
                    self.sql("INSERT INTO change_context (hospital_id, staff_id, source, reason, recorded) VALUES (");
                sql.bind(hospital).push(", ").bind(staff).push(", ").bind(source);
                sql.push(", ").bind(reason).push(", ").bind(recorded).push(")");
                sql
            }
        };
        transaction.execute_raw(sql.done()).await?;
        Ok(())
    }

    /// To be called before the transaction is committed. Where it is rolled back instead, MariaDB's session keeps the variables until
    /// the next transaction that changes patients or visits, which sets its own.
    pub(super) async fn end_context(&self, transaction: &DatabaseTransaction, hospital: i64) -> Result<()> {
        let sql = match transaction.get_database_backend() {
            // Its settings end with the transaction.
            DbBackend::Postgres => return Ok(()),
            DbBackend::MySql => self.sql(
                "SET @rollcall_staff_id = NULL, @rollcall_source = NULL, @rollcall_reason = NULL, @rollcall_recorded = NULL",
            ),
            _ => {
                let mut sql = self.sql("DELETE FROM change_context WHERE hospital_id = ");
                sql.bind(hospital);
                sql
            }
        };
        transaction.execute_raw(sql.done()).await?;
        Ok(())
    }

    /// Records an event in the history of a patient, whose current row this is.
    pub(super) async fn record_event(
        &self,
        transaction: &DatabaseTransaction,
        patient: patient::Model,
        event: HistoryEvent,
        at: DateTime<Utc>,
        context: ChangeContext<'_>,
    ) -> Result<()> {
        let (contact_id, merged_patient_id) = match event {
            HistoryEvent::Contact(id) => (Some(id), None),
            HistoryEvent::Merge(id) => (None, Some(id)),
        };
        let row = record_change::Model {
            record: RecordKind::Patient.as_str().to_owned(),
            kind: ChangeKind::Changed.as_str().to_owned(),
            changed_at: at,
            staff_id: context.staff,
            source: Some(context.source.to_owned()),
            reason: context.reason.map(str::to_owned),
            contact_id,
            merged_patient_id,
            ..current_patient(patient)
        };
        let row = record_change::ActiveModel {
            id: NotSet,
            ..row.into()
        };
        record_change::Entity::insert(row.reset_all())
            .exec_without_returning(transaction)
            .await?;
        Ok(())
    }

    /// A page of the history of each of these patients or visits, newest first; one without changes is left out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn histories(
        &self,
        hospital: i64,
        record: RecordKind,
        ids: &[i64],
        page: HistoryPage,
    ) -> Result<HashMap<i64, Vec<ChangeEntry>>> {
        // In one view, so that the current row is the one after the newest change.
        let view = self.read_view().await?;
        let mut changes: HashMap<i64, Vec<record_change::Model>> = HashMap::new();
        for row in view
            .query_all_raw(self.history_sql(hospital, record, ids, page).done())
            .await?
        {
            let row = record_change::Model::from_query_result(&row, "")?;
            changes.entry(row.record_id).or_default().push(row);
        }
        let mut current = HashMap::new();
        if page.backwards || page.from.is_none() {
            let ids: Vec<i64> = changes.keys().copied().collect();
            current = self.current_rows(&view, hospital, record, &ids).await?;
        }
        let contacts = changes.values().flatten().filter_map(|row| row.contact_id);
        let mut contacts = self.contacts_in(&view, hospital, &contacts.collect::<Vec<_>>()).await?;
        view.commit().await?;
        let mut histories = HashMap::with_capacity(changes.len());
        for (id, mut rows) in changes {
            if page.backwards {
                rows.reverse();
            }
            let mut after = current.remove(&id).map(Arc::new);
            let mut entries = Vec::with_capacity(rows.len());
            for row in rows {
                let row = Arc::new(row);
                // The change that the page follows is not on it.
                if page.backwards || page.from != Some(row.id) {
                    let contact = row.contact_id.and_then(|id| contacts.remove(&id));
                    entries.push(entry(record, &row, after, contact)?);
                }
                after = Some(row);
            }
            histories.insert(id, entries);
        }
        Ok(histories)
    }

    async fn contacts_in(
        &self,
        view: &DatabaseTransaction,
        hospital: i64,
        ids: &[i64],
    ) -> Result<HashMap<i64, RecallContact>> {
        let mut contacts = HashMap::new();
        if !ids.is_empty() {
            let mut sql = self.sql("SELECT * FROM recall_contact WHERE hospital_id = ");
            sql.bind(hospital).push(" AND id").numbers(ids);
            for row in view.query_all_raw(sql.done()).await? {
                let row = recall_contact::Model::from_query_result(&row, "")?;
                contacts.insert(row.id, row.try_into()?);
            }
        }
        Ok(contacts)
    }

    /// The statement that reads a page of each history, from the page's end at `from`.
    fn history_sql(&self, hospital: i64, record: RecordKind, ids: &[i64], page: HistoryPage) -> Sql {
        let HistoryPage { from, backwards, limit } = page;
        // The change before a page has the rows that the first one on it made.
        let (direction, past, limit) = match (backwards, from) {
            (true, _) => ("ASC", ">", limit),
            (false, Some(_)) => ("DESC", "<=", limit.saturating_add(1)),
            (false, None) => ("DESC", "", limit),
        };
        let conditions = |sql: &mut Sql| {
            sql.bind(hospital).push(" AND c.record = ").bind(record.as_str());
            if let Some(from) = from {
                sql.push(&format!(" AND c.id {past} ")).bind(from);
            }
        };
        let mut sql = self.sql("SELECT c.* FROM ");
        if sql.backend() == DbBackend::Postgres {
            sql.push("unnest(").bind(ids.to_vec()).push(
                "::bigint[]) AS of (record_id) CROSS JOIN LATERAL (
                    SELECT * FROM record_change c WHERE c.hospital_id = ",
            );
            conditions(&mut sql);
            sql.push(&format!(
                " AND c.record_id = of.record_id ORDER BY c.id {direction} LIMIT {limit}) c ORDER BY c.record_id, c.id {direction}"
            ));
        } else {
            sql.push(&format!(
                "(SELECT c.*, ROW_NUMBER() OVER (PARTITION BY c.record_id ORDER BY c.id {direction}) AS place
                FROM record_change c WHERE c.hospital_id = "
            ));
            conditions(&mut sql);
            sql.push(" AND c.record_id").numbers(ids);
            sql.push(&format!(") c WHERE c.place <= {limit} ORDER BY c.record_id, c.place"));
        }
        sql
    }

    pub(super) async fn current_rows(
        &self,
        view: &DatabaseTransaction,
        hospital: i64,
        record: RecordKind,
        ids: &[i64],
    ) -> Result<HashMap<i64, record_change::Model>> {
        let mut sql = self.sql(match record {
            RecordKind::Patient => "SELECT * FROM patient WHERE hospital_id = ",
            RecordKind::Visit => "SELECT * FROM visit WHERE hospital_id = ",
        });
        sql.bind(hospital).push(" AND id").numbers(ids);
        let mut current = HashMap::new();
        for row in view.query_all_raw(sql.done()).await? {
            let row = match record {
                RecordKind::Patient => current_patient(patient::Model::from_query_result(&row, "")?),
                RecordKind::Visit => current_visit(visit::Model::from_query_result(&row, "")?),
            };
            current.insert(row.record_id, row);
        }
        Ok(current)
    }

    /// The number of changes in the history of each of these patients or visits; one without any is left out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn history_totals(&self, hospital: i64, record: RecordKind, ids: &[i64]) -> Result<HashMap<i64, u64>> {
        let mut sql = self.sql("SELECT record_id, COUNT(*) FROM record_change WHERE hospital_id = ");
        sql.bind(hospital).push(" AND record = ").bind(record.as_str());
        sql.push(" AND record_id").numbers(ids).push(" GROUP BY record_id");
        let mut totals = HashMap::new();
        for row in self.readers.query_all_raw(sql.done()).await? {
            let total: i64 = row.try_get_by_index(1)?;
            totals.insert(row.try_get_by_index(0)?, total.unsigned_abs());
        }
        Ok(totals)
    }

    /// A change by its id.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn change_entry(&self, hospital: i64, id: i64) -> Result<Option<ChangeEntry>> {
        let found = record_change::Entity::find_by_id((hospital, id))
            .one(&self.readers)
            .await?;
        let Some(row) = found else { return Ok(None) };
        let record = stored("record_change.record", RecordKind::parse(&row.record))?;
        // It and the next one.
        let page = HistoryPage {
            from: Some(id - 1),
            backwards: true,
            limit: 2,
        };
        let mut histories = self.histories(hospital, record, &[row.record_id], page).await?;
        let entries = histories.remove(&row.record_id).unwrap_or_default();
        Ok(entries.into_iter().find(|entry| entry.id == id))
    }
}

/// The change that this row records; `after` is the row after it.
pub(super) fn entry(
    record: RecordKind,
    row: &Arc<record_change::Model>,
    after: Option<Arc<record_change::Model>>,
    contact: Option<RecallContact>,
) -> Result<ChangeEntry> {
    let kind = stored("record_change.kind", ChangeKind::parse(&row.kind))?;
    Ok(ChangeEntry {
        id: row.id,
        record,
        record_id: row.record_id,
        at: row.changed_at,
        staff: row.staff_id,
        source: row.source.clone(),
        reason: row.reason.clone(),
        before: (kind != ChangeKind::Added).then(|| Arc::clone(row)),
        after: after.filter(|_| kind != ChangeKind::Deleted),
        contact,
        merged: row.merged_patient_id,
    })
}
