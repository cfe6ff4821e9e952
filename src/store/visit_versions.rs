//! What stood before: the visits of some patients with every change since a revision, so that what a snapshot saw of them
//! can be told again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use entity::scheduled_at::ScheduledAt;
use entity::{patient_merge, visit_change};
use sea_orm::{ConnectionTrait, DatabaseTransaction, FromQueryResult};

use super::ledger_load::{SELECT_LEDGER_ROWS, ledger_row};
use super::{Revision, Store, unknown_value};
use crate::error::Result;
use crate::statistics::{Merge, VisitChannel, VisitRow, VisitStatus};

/// Two revisions, between which something is to be told; the second is not before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RevisionRange {
    pub from: Revision,
    pub to: Revision,
}

/// The visits that are a patient's, or were at some time since a revision.
#[derive(Clone, Debug, Default)]
pub struct VisitVersions {
    pub visits: Vec<VersionedVisit>,
}

/// A visit with what became of it since a revision.
#[derive(Clone, Debug)]
pub struct VersionedVisit {
    pub id: i64,
    /// As it is now; none where it was deleted.
    pub now: Option<VisitRow>,
    /// In their order.
    pub changes: Vec<VersionChange>,
}

/// A change of a visit, or its deletion.
#[derive(Clone, Debug)]
pub struct VersionChange {
    /// Of the revision that it made.
    pub number: i64,
    pub changed_at: DateTime<Utc>,
    /// What the visit was before.
    pub before: VisitRow,
    /// What it was then; none where it was deleted.
    pub after: Option<VisitRow>,
    /// Why, in the words of who changed it; none where it was not by the API, or nobody said.
    pub reason: Option<String>,
    /// Whether it was made by the API.
    by_staff: bool,
    /// Where it moved the visit from one record to another of one person.
    pub moved_by: Option<Merge>,
}

impl VersionChange {
    /// From whose record to whose it moved the visit; none where it did not.
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

    /// Everybody whose it was or is.
    fn owners(&self) -> BTreeSet<i64> {
        let before = self.changes.iter().map(|change| &change.before);
        before.chain(&self.now).map(|row| row.patient).collect()
    }

    /// What the visit was at a revision after which ids higher than `newest` were given; none where it was not there.
    #[must_use]
    pub fn at(&self, revision: Revision, newest: i64) -> Option<VisitRow> {
        if self.id > newest {
            return None;
        }
        let next = self.changes.iter().find(|change| change.number > revision.number);
        next.map_or(self.now, |change| Some(change.before))
    }

    /// What happened to it between two revisions.
    pub fn changes_in(&self, span: RevisionRange) -> impl DoubleEndedIterator<Item = &VersionChange> {
        let numbers = span.from.number + 1..=span.to.number;
        self.changes
            .iter()
            .filter(move |change| numbers.contains(&change.number))
    }
}

impl Store {
    /// The pasts of these patients since a revision, each of them with all visits that it speaks of. None where the database
    /// has no such past: it was restored from a backup that does not hold these revisions.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn visit_versions(
        &self,
        hospital: i64,
        patients: &[i64],
        span: RevisionRange,
    ) -> Result<Option<HashMap<i64, VisitVersions>>> {
        let view = self.read_view().await?;
        if !self.holds_revisions(&view, hospital, span).await? {
            return Ok(None);
        }
        let mut now = BTreeMap::new();
        let mut sql = self.sql(SELECT_LEDGER_ROWS);
        sql.bind(hospital).push(" AND patient_id").numbers(patients);
        for row in view.query_all_raw(sql.done()).await? {
            let row = ledger_row(&row)?;
            now.insert(row.id, row);
        }
        // Who was theirs then and is not now: by their changes.
        let mut sql = self.sql("SELECT DISTINCT visit_id FROM visit_change WHERE hospital_id = ");
        sql.bind(hospital).push(" AND patient_id").numbers(patients);
        sql.push(" AND number > ").bind(span.from.number);
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
        let mut changes = self.changes_of(&view, hospital, &ids, span.from).await?;
        let past = |id| VersionedVisit::new(id, now.remove(&id), changes.remove(&id).unwrap_or_default());
        let mut visits: Vec<VersionedVisit> = ids.into_iter().map(past).collect();
        self.attach_merges(&view, hospital, &mut visits).await?;
        view.commit().await?;
        let mut pasts: HashMap<i64, VisitVersions> = patients
            .iter()
            .map(|&patient| (patient, VisitVersions::default()))
            .collect();
        for visit in visits {
            for owner in visit.owners() {
                if let Some(past) = pasts.get_mut(&owner) {
                    past.visits.push(visit.clone());
                }
            }
        }
        Ok(Some(pasts))
    }

    /// Whether the revisions lie in the past of this database, as far as the feed can tell.
    async fn holds_revisions(&self, view: &DatabaseTransaction, hospital: i64, span: RevisionRange) -> Result<bool> {
        let mut sql = self.sql("SELECT number, tag FROM change_feed WHERE hospital_id = ");
        sql.bind(hospital)
            .push(" AND number")
            .numbers(&[span.from.number, span.to.number]);
        sql.push(" UNION ALL SELECT number, NULL FROM revision WHERE hospital_id = ")
            .bind(hospital);
        let mut newest = 0;
        for row in view.query_all_raw(sql.done()).await? {
            let number: i64 = row.try_get_by_index(0)?;
            let tag: Option<i64> = row.try_get_by_index(1)?;
            newest = newest.max(number);
            let other = |revision: Revision| revision.number == number && tag.is_some_and(|tag| tag != revision.tag);
            if other(span.from) || other(span.to) {
                return Ok(false);
            }
        }
        Ok(span.to.number <= newest)
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
                before: old_row(&row)?,
                after: None,
                reason: row.reason,
                by_staff: row.staff_id.is_some(),
                moved_by: None,
            });
        }
        Ok(changes)
    }

    /// Notes of changes which of them a merge made, or its undoing; of these the merge's reason is the reason.
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
        // Merges made by hand leave no more than their outcome.
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
            // Of who was erased no reason is left.
            if let Some(made) = made.filter(|made| !made.reason.is_empty()) {
                change.reason.get_or_insert_with(|| made.reason.clone());
            }
        }
        Ok(())
    }
}

/// What a changed visit was before.
fn old_row(row: &visit_change::Model) -> Result<VisitRow> {
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
