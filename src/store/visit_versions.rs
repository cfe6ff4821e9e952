//! Earlier versions of visits: patients' visits with every change since a revision, from which the visits that a snapshot
//! counted can be restored.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use entity::scheduled_at::ScheduledAt;
use entity::{patient_merge, visit_change};
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult};

use super::ledger_load::{SELECT_LEDGER_ROWS, ledger_row};
use super::{Revision, Store, unknown_value};
use crate::error::Result;
use crate::statistics::{Merge, VisitChannel, VisitRow, VisitStatus};

/// Two revisions whose differences are asked for; `to` is not before `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RevisionRange {
    pub from: Revision,
    pub to: Revision,
}

/// The visits that are a patient's now, or were at some time since a revision.
#[derive(Clone, Debug, Default)]
pub struct VisitVersions {
    pub visits: Vec<VersionedVisit>,
}

/// A visit with its changes since a revision.
#[derive(Clone, Debug)]
pub struct VersionedVisit {
    pub id: i64,
    /// As it is now; none where it was deleted.
    pub now: Option<VisitRow>,
    /// From the oldest to the newest.
    pub changes: Vec<VersionChange>,
}

/// A change of a visit, or its deletion.
#[derive(Clone, Debug)]
pub struct VersionChange {
    /// The number of the revision that the change made.
    pub number: i64,
    pub changed_at: DateTime<Utc>,
    /// The visit before the change.
    pub before: VisitRow,
    /// The visit after the change; none where it was deleted.
    pub after: Option<VisitRow>,
    /// The reason that was given with the change; none where it was not made by the API, or without a reason.
    pub reason: Option<String>,
    /// Whether it was made by the API.
    by_staff: bool,
    /// Set where a merge of patients, or undoing one, moved the visit.
    pub moved_by: Option<Merge>,
}

impl VersionChange {
    /// The patients from which and to which it moved the visit; none where it did not move it.
    #[must_use]
    pub fn moved_between(&self) -> Option<(i64, i64)> {
        let to = self.after?.patient;
        (self.before.patient != to).then_some((self.before.patient, to))
    }
}

impl VersionedVisit {
    fn new(id: i64, now: Option<VisitRow>, mut changes: Vec<VersionChange>) -> Self {
        let mut after = now;
        for change in changes.iter_mut().rev() {
            change.after = after.replace(change.before);
        }
        Self { id, now, changes }
    }

    /// The patients whose visit it is or was.
    fn owners(&self) -> BTreeSet<i64> {
        let before = self.changes.iter().map(|change| &change.before);
        before.chain(&self.now).map(|row| row.patient).collect()
    }

    /// The visit at a revision; none where it did not exist. `newest` is the highest id of a visit at that revision.
    #[must_use]
    pub fn at(&self, revision: Revision, newest: i64) -> Option<VisitRow> {
        if self.id > newest {
            return None;
        }
        let next = self.changes.iter().find(|change| change.number > revision.number);
        next.map_or(self.now, |change| Some(change.before))
    }

    /// The changes between two revisions.
    pub fn changes_in(&self, range: RevisionRange) -> impl DoubleEndedIterator<Item = &VersionChange> {
        let numbers = range.from.number + 1..=range.to.number;
        self.changes
            .iter()
            .filter(move |change| numbers.contains(&change.number))
    }
}

impl Store {
    /// The visits of these patients with their changes since the first of two revisions. None where the database does not have
    /// these revisions, because an older backup was restored.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn visit_versions(
        &self,
        hospital: i64,
        patients: &[i64],
        range: RevisionRange,
    ) -> Result<Option<HashMap<i64, VisitVersions>>> {
        let view = self.read_view().await?;
        if !self.holds_revisions(&view, hospital, range).await? {
            return Ok(None);
        }
        let mut now = BTreeMap::new();
        let mut sql = self.sql(SELECT_LEDGER_ROWS);
        sql.bind(hospital).push(" AND patient_id").numbers(patients);
        for row in view.query_all_raw(sql.done()).await? {
            let row = ledger_row(&row)?;
            now.insert(row.id, row);
        }
        // Visits that were theirs and are not now, found by their changes.
        let mut sql = self.sql("SELECT DISTINCT visit_id FROM visit_change WHERE hospital_id = ");
        sql.bind(hospital).push(" AND patient_id").numbers(patients);
        sql.push(" AND number > ").bind(range.from.number);
        let mut ids: BTreeSet<i64> = now.keys().copied().collect();
        let mut elsewhere = Vec::new();
        for row in view.query_all_raw(sql.done()).await? {
            let id = row.try_get_by_index(0)?;
            if ids.insert(id) {
                elsewhere.push(id);
            }
        }
        let mut sql = self.sql(SELECT_LEDGER_ROWS);
        sql.bind(hospital).push(" AND id").numbers(&elsewhere);
        for row in view.query_all_raw(sql.done()).await? {
            let row = ledger_row(&row)?;
            now.insert(row.id, row);
        }
        let ids: Vec<i64> = ids.into_iter().collect();
        let mut changes = self.changes_of(&view, hospital, &ids, range.from).await?;
        let version = |id| VersionedVisit::new(id, now.remove(&id), changes.remove(&id).unwrap_or_default());
        let mut visits: Vec<VersionedVisit> = ids.into_iter().map(version).collect();
        self.attach_merges(&view, hospital, &mut visits).await?;
        view.commit().await?;
        let mut versions: HashMap<i64, VisitVersions> = patients
            .iter()
            .map(|&patient| (patient, VisitVersions::default()))
            .collect();
        for visit in visits {
            for owner in visit.owners() {
                if let Some(version) = versions.get_mut(&owner) {
                    version.visits.push(visit.clone());
                }
            }
        }
        Ok(Some(versions))
    }

    /// Whether the database has had these revisions, as far as the feed shows.
    async fn holds_revisions(&self, view: &DatabaseTransaction, hospital: i64, range: RevisionRange) -> Result<bool> {
        let mut sql = self.sql("SELECT number, tag FROM change_feed WHERE hospital_id = ");
        sql.bind(hospital)
            .push(" AND number")
            .numbers(&[range.from.number, range.to.number]);
        sql.push(" UNION ALL SELECT number, NULL FROM revision WHERE hospital_id = ")
            .bind(hospital);
        let mut newest = 0;
        for row in view.query_all_raw(sql.done()).await? {
            let number: i64 = row.try_get_by_index(0)?;
            let tag: Option<i64> = row.try_get_by_index(1)?;
            newest = newest.max(number);
            let replaced = |revision: Revision| revision.number == number && tag.is_some_and(|tag| tag != revision.tag);
            if replaced(range.from) || replaced(range.to) {
                return Ok(false);
            }
        }
        Ok(range.to.number <= newest)
    }

    async fn changes_of(
        &self,
        view: &DatabaseTransaction,
        hospital: i64,
        visits: &[i64],
        since: Revision,
    ) -> Result<HashMap<i64, Vec<VersionChange>>> {
        let mut sql = self.sql("SELECT * FROM visit_change WHERE hospital_id = ");
        sql.bind(hospital).push(" AND visit_id").numbers(visits);
        sql.push(" AND number > ")
            .bind(since.number)
            .push(" ORDER BY visit_id, number");
        let mut changes: HashMap<i64, Vec<VersionChange>> = HashMap::new();
        for row in view.query_all_raw(sql.done()).await? {
            let row = visit_change::Model::from_query_result(&row, "")?;
            changes.entry(row.visit_id).or_default().push(VersionChange {
                number: row.number,
                changed_at: row.changed_at,
                before: row_before(&row)?,
                after: None,
                reason: row.reason,
                by_staff: row.staff_id.is_some(),
                moved_by: None,
            });
        }
        Ok(changes)
    }

    /// Marks the changes that a merge or undoing one made, and gives them the merge's reason.
    async fn attach_merges(
        &self,
        view: &DatabaseTransaction,
        hospital: i64,
        visits: &mut [VersionedVisit],
    ) -> Result<()> {
        let owners: BTreeSet<i64> = visits.iter().flat_map(VersionedVisit::owners).collect();
        let owners: Vec<i64> = owners.into_iter().collect();
        let mut sql = self.sql("SELECT * FROM patient_merge WHERE hospital_id = ");
        sql.bind(hospital).push(" AND patient_id").numbers(&owners);
        let mut merges = Vec::new();
        for row in view.query_all_raw(sql.done()).await? {
            merges.push(patient_merge::Model::from_query_result(&row, "")?);
        }
        // A merge by SQL leaves only its result.
        let mut sql = self.sql("SELECT id, merged_into FROM patient WHERE merged_into IS NOT NULL AND hospital_id = ");
        sql.bind(hospital).push(" AND id").numbers(&owners);
        let mut merged: HashMap<i64, i64> = HashMap::new();
        for row in view.query_all_raw(sql.done()).await? {
            merged.insert(row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        }
        for change in visits.iter_mut().flat_map(|visit| &mut visit.changes) {
            let Some((from, to)) = change.moved_between() else {
                continue;
            };
            let merge = |row: &&patient_merge::Model| change.by_staff && (row.patient_id, row.into_id) == (from, to);
            let undone = |row: &&patient_merge::Model| change.by_staff && (row.into_id, row.patient_id) == (from, to);
            let made = merges.iter().find(merge);
            let undone = merges.iter().filter(|row| row.undone_at.is_some()).find(undone);
            change.moved_by = if made.is_some() || merged.get(&from) == Some(&to) {
                Some(Merge::Made)
            } else {
                undone.map(|_| Merge::Undone)
            };
            // The reasons of erased patients were deleted.
            if let Some(made) = made.filter(|made| !made.reason.is_empty()) {
                change.reason.get_or_insert_with(|| made.reason.clone());
            }
        }
        Ok(())
    }
}

/// The visit before a change.
fn row_before(row: &visit_change::Model) -> Result<VisitRow> {
    Ok(VisitRow {
        id: row.visit_id,
        patient: row.patient_id,
        date: row.date.into(),
        scheduled_at: row.scheduled_at.map(ScheduledAt::micros),
        status: VisitStatus::parse(&row.status).ok_or_else(|| unknown_value("visit_change.status", &row.status))?,
        channel: VisitChannel::parse(&row.channel)
            .ok_or_else(|| unknown_value("visit_change.channel", &row.channel))?,
        department: row.department_id,
        doctor: row.doctor_id,
    })
}
