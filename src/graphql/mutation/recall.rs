//! Recall lists: made, worked on and closed.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};
use scheduling::{MAX_CLAIMED, RecallOptions};

use super::{BadFields, execute, line, lines};
use crate::error::{Error, Result};
use crate::graphql::enums::ContactOutcome;
use crate::graphql::recall::{RecallEntry, RecallEntryFilter, RecallList, entry_query};
use crate::graphql::scalars::Date;
use crate::graphql::{access, context, id, node};
use crate::store::{AssignRecallEntries, ClaimRecallEntries, CloseRecallList, CreateRecallList, RecordContact};

#[derive(Default)]
pub struct RecallMutation;

/// A recall list to make.
#[derive(InputObject)]
struct CreateRecallListInput {
    /// The name, 1–255 characters.
    name: String,
    /// The Cohort.id of any list, also a derived one, one under changes, of a pinned snapshot, or of a preview of proposed rules.
    cohort_id: ID,
    /// Whether to leave out those who have a booking from today on.
    #[graphql(default = true)]
    without_next_visit: bool,
    /// Whether to leave out those without a phone.
    #[graphql(default = true)]
    with_phone: bool,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The new list.
#[derive(SimpleObject)]
struct CreateRecallListPayload {
    /// The list.
    list: RecallList,
}

/// A contact with a patient.
#[derive(InputObject)]
struct RecordContactInput {
    /// The entry, of an open list.
    entry_id: ID,
    /// The RecallEntry.version that the contact is based on; if it is no longer current, nothing changes and the error is CONFLICT.
    version: i32,
    /// What came of it.
    outcome: ContactOutcome,
    /// A note, at most 2,000 characters; it is stored encrypted.
    note: Option<String>,
    /// When the patient is to be called again; null or absent: not.
    due_on: Option<Date>,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The entry of the contact.
#[derive(SimpleObject)]
struct RecordContactPayload {
    /// The entry, which is free again.
    entry: RecallEntry,
}

/// Entries to claim.
#[derive(InputObject)]
struct ClaimRecallEntriesInput {
    /// The list, which must be open.
    list_id: ID,
    /// Which entries. Without outcomes, untouched and dueBy, those that are due or that nobody called; without returned, those whose
    /// patient has not returned; without assigneeIds, those that are assigned to the viewer or to nobody.
    filter: Option<RecallEntryFilter>,
    /// The most entries to claim, 1–20.
    #[graphql(default = 1)]
    count: i32,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The claimed entries.
#[derive(SimpleObject)]
struct ClaimRecallEntriesPayload {
    /// The next entries that nobody had, in the order of the list: the viewer's for 30 minutes, or until a contact is recorded. Fewer, or
    /// none, if there are no more. Patients who were erased, or do not want to be contacted, are left out.
    entries: Vec<RecallEntry>,
}

/// Entries to assign.
#[derive(InputObject)]
struct AssignRecallEntriesInput {
    /// Entries of open lists, 1–100.
    entry_ids: Vec<ID>,
    /// Who is to call, a member of staff who may work on recall lists; null or absent: nobody.
    staff_id: Option<ID>,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The assigned entries.
#[derive(SimpleObject)]
struct AssignRecallEntriesPayload {
    /// The entries, in the order of entryIds.
    entries: Vec<RecallEntry>,
}

/// The list to close.
#[derive(InputObject)]
struct CloseRecallListInput {
    /// The list.
    id: ID,
    /// The RecallList.version that the change is based on; if it is no longer current, nothing changes and the error is CONFLICT.
    version: i32,
    /// A key of 1–255 characters that the client chooses: a mutation repeated with the same key is executed once. Remembered for 7 days.
    idempotency_key: Option<String>,
}

/// The closed list.
#[derive(SimpleObject)]
struct CloseRecallListPayload {
    /// The list.
    list: RecallList,
}

#[Object(guard = "access::console")]
impl RecallMutation {
    /// Makes a list of those patients of a cohort who are to be called. The snapshot is pinned, and stays so as long as the list is there.
    /// For ADMIN and DESK.
    async fn create_recall_list(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The cohort, and whom to leave out.")] input: CreateRecallListInput,
    ) -> Result<CreateRecallListPayload> {
        let mut bad = BadFields::default();
        let name = bad.check(line("input.name", &input.name))?;
        let cohort = bad.take(id::cohort("input.cohortId", &input.cohort_id))?;
        let key = input.idempotency_key.map(|key| line("input.idempotencyKey", &key));
        let key = bad.check(key.transpose())?;
        let Some(cohort_id) = cohort else {
            return Err(bad.error());
        };
        bad.finish()?;
        let cohort = node::cohort(ctx, cohort_id).await?;
        let cohort = cohort.ok_or_else(|| Error::unknown_id("input.cohortId", "cohort"))?;
        let command = CreateRecallList {
            name,
            cohort: cohort.0.to_recall().await?,
            options: RecallOptions {
                without_next_visit: input.without_next_visit,
                with_phone: input.with_phone,
            },
        };
        let id = context::services(ctx)?
            .reporting
            .execute_on(context::viewer(ctx)?, cohort_id, &command, key.as_deref())
            .await?;
        let list = RecallList::load(ctx, id).await?;
        Ok(CreateRecallListPayload { list })
    }

    /// Records a contact with the patient of an entry. It ends the claim of the entry; one that somebody else has claimed is refused with
    /// CONFLICT. For ADMIN and DESK.
    async fn record_contact(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The entry, and what came of the contact.")] input: RecordContactInput,
    ) -> Result<RecordContactPayload> {
        let mut bad = BadFields::default();
        let note = input.note.map(|note| lines("input.note", &note));
        let command = RecordContact {
            entry: bad.check(id::recall_entry("input.entryId", &input.entry_id))?,
            version: input.version,
            outcome: input.outcome.into(),
            note: bad.check(note.transpose())?,
            due_on: bad.check(input.due_on.map(|date| date.date("input.dueOn")).transpose())?,
        };
        let id = execute(ctx, bad, &command, input.idempotency_key).await?;
        let entry = RecallEntry::load(ctx, id).await?;
        Ok(RecordContactPayload { entry })
    }

    /// Makes the next entries of a list the viewer's for 30 minutes, so that no two people call the same patient. For ADMIN and DESK.
    async fn claim_recall_entries(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The list, and how many entries.")] input: ClaimRecallEntriesInput,
    ) -> Result<ClaimRecallEntriesPayload> {
        let mut bad = BadFields::default();
        let count = match input.count {
            count @ 1..=MAX_CLAIMED => Ok(count),
            _ => Err(Error::input("input.count", format!("must be 1–{MAX_CLAIMED}"))),
        };
        let command = ClaimRecallEntries {
            list: bad.check(id::recall_list("input.listId", &input.list_id))?,
            query: bad.check(entry_query(ctx, "input.filter", input.filter).await)?,
            count: bad.check(count)?,
        };
        let claim = execute(ctx, bad, &command, input.idempotency_key).await?;
        let (hospital, today) = (context::viewer(ctx)?.hospital, context::today(ctx).await?);
        let store = &context::services(ctx)?.store;
        let claimed = store.claimed_entries(hospital, command.list, claim, today).await?;
        let entries = claimed.into_iter().map(|row| RecallEntry::audited(ctx, row));
        Ok(ClaimRecallEntriesPayload {
            entries: entries.collect::<Result<_>>()?,
        })
    }

    /// Assigns entries to a member of staff, or to nobody. The viewer's claims of them end unless they are assigned to the viewer; entries
    /// that somebody else has claimed are refused with CONFLICT. For ADMIN and DESK.
    async fn assign_recall_entries(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The entries, and who is to call.")] input: AssignRecallEntriesInput,
    ) -> Result<AssignRecallEntriesPayload> {
        let mut bad = BadFields::default();
        let max = context::limits(ctx)?.max_page_size;
        if !(1..=max).contains(&input.entry_ids.len()) {
            return Err(Error::input("input.entryIds", format!("must be 1–{max} ids")));
        }
        let mut entries = Vec::with_capacity(input.entry_ids.len());
        for (place, entry) in input.entry_ids.iter().enumerate() {
            entries.extend(bad.take(id::recall_entry(&format!("input.entryIds.{place}"), entry))?);
        }
        let staff = input.staff_id.map(|id| id::staff("input.staffId", &id));
        let command = AssignRecallEntries {
            entries,
            staff: bad.check(staff.transpose())?,
        };
        execute(ctx, bad, &command, input.idempotency_key).await?;
        let entries = command.entries.into_iter().map(|id| RecallEntry::load(ctx, id));
        Ok(AssignRecallEntriesPayload {
            entries: futures_util::future::try_join_all(entries).await?,
        })
    }

    /// Closes a list: its numbers are stored as they are today, and its entries are no longer worked on. It cannot be opened again. For
    /// ADMIN and DESK.
    async fn close_recall_list(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The list to close.")] input: CloseRecallListInput,
    ) -> Result<CloseRecallListPayload> {
        let mut bad = BadFields::default();
        let command = CloseRecallList {
            id: bad.check(id::recall_list("input.id", &input.id))?,
            version: input.version,
        };
        let id = execute(ctx, bad, &command, input.idempotency_key).await?;
        let list = RecallList::load(ctx, id).await?;
        Ok(CloseRecallListPayload { list })
    }
}
