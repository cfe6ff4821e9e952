//! Mutations through the API, as staff send them: with the version that was read, and an idempotency key, so that a
//! repeated request executes once.

use std::collections::HashMap;

use chrono::{NaiveDate, Utc};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rollcall::statistics::VisitStatus;
use serde_json::{Value, json};
use test_support::{Checked, ensure};

use crate::context::{RunContext, failed};
use crate::dataset::rows;
use crate::response::{STATISTICS, difference, id_of, number_of};
use crate::servers::ServerChoice;
use crate::writes::{Targets, a_channel, a_name, a_status, number, weighted};

/// A mutation that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    RegisterPatient,
    ChangePatient,
    ErasePatient,
    MergePatients,
    UndoMerge,
    RecordVisit,
    ChangeVisit,
    DeleteVisit,
    UpdateDefinition,
    PinSnapshot,
}

impl Mutation {
    pub fn name(self) -> &'static str {
        match self {
            Self::RegisterPatient => "writes through the API: patients registered",
            Self::ChangePatient => "writes through the API: patients changed",
            Self::ErasePatient => "writes through the API: patients erased",
            Self::MergePatients => "writes through the API: patients merged",
            Self::UndoMerge => "writes through the API: merges undone",
            Self::RecordVisit => "writes through the API: visits recorded",
            Self::ChangeVisit => "writes through the API: visits changed",
            Self::DeleteVisit => "writes through the API: visits deleted",
            Self::UpdateDefinition => "writes through the API: definitions published",
            Self::PinSnapshot => "writes through the API: snapshots pinned and unpinned",
        }
    }

    fn mutation(self) -> &'static str {
        match self {
            Self::RegisterPatient => "registerPatient",
            Self::ChangePatient => "changePatient",
            Self::ErasePatient => "erasePatient",
            Self::MergePatients => "mergePatients",
            Self::UndoMerge => "undoMerge",
            Self::RecordVisit => "recordVisit",
            Self::ChangeVisit => "changeVisit",
            Self::DeleteVisit => "deleteVisit",
            Self::UpdateDefinition => "updateDefinition",
            Self::PinSnapshot => "pinSnapshot",
        }
    }

    /// Mutations of the same row that may conflict with it.
    fn conflicting_mutations(self) -> &'static [Self] {
        match self {
            Self::ChangePatient | Self::ErasePatient | Self::MergePatients => &[
                Self::ChangePatient,
                Self::ChangePatient,
                Self::ErasePatient,
                Self::MergePatients,
            ],
            Self::ChangeVisit | Self::DeleteVisit => &[Self::ChangeVisit, Self::ChangeVisit, Self::DeleteVisit],
            _ => &[],
        }
    }
}

/// How a mutation is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendMode {
    Once,
    /// Again to the other server, like a client that lost the response.
    Repeated,
    /// To both servers at the same time.
    ToBothServers,
    /// While another client changes the same row.
    WithConflict,
    /// With an older version.
    StaleVersion,
}

impl SendMode {
    const ALL: [(Self, u32); 5] = [
        (Self::Once, 8),
        (Self::Repeated, 4),
        (Self::ToBothServers, 4),
        (Self::WithConflict, 6),
        (Self::StaleVersion, 1),
    ];
}

/// Sends a random mutation and checks its outcome.
pub async fn send(targets: &Targets<'_>, mutation: Mutation, random: &mut StdRng) -> Checked {
    let (ctx, first) = (targets.ctx, ServerChoice::any(random));
    if mutation == Mutation::PinSnapshot {
        return pin(ctx, first, random).await;
    }
    let Some(row) = TargetRow::any(targets, mutation, random).await? else {
        return Ok(());
    };
    let Some(mut change) = MutationRequest::any(targets, mutation, &row, random) else {
        return Ok(());
    };
    let mode = weighted(random, &SendMode::ALL);
    let describe = |violation| {
        format!(
            "{mutation:?} {mode:?}, first to the {first:?}, {}: {violation}",
            change.input
        )
    };
    match mode {
        SendMode::Repeated => {
            let outcome = change.send(ctx, first).await?;
            if outcome.is_ok() {
                let again = change.send(ctx, first.other()).await?;
                ensure!(
                    again == outcome,
                    "{}",
                    describe(format!("first {outcome:?}, then {again:?}"))
                );
                ctx.counters.count("repeated mutations, executed once", 1);
            }
            change.check_outcome(ctx, outcome).await.map_err(describe)
        }
        SendMode::ToBothServers => {
            let (one, other) = tokio::join!(change.send(ctx, first), change.send(ctx, first.other()));
            let (one, other) = (one?, other?);
            match (&one, &other) {
                (Ok(_), Ok(_)) => {
                    let found = format!("executed twice: {one:?}, {other:?}");
                    ensure!(one == other, "{}", describe(found));
                    ctx.counters.count("mutations sent to both servers, executed once", 1);
                }
                (Ok(_), Err(error)) | (Err(error), Ok(_)) => {
                    // A patient may become ACTIVE again between the two, or a time free.
                    let found = format!("one server says {one:?}, and the other {other:?}");
                    let may_differ = error.is_patient_state() || error.code == "SLOT_TAKEN";
                    ensure!(may_differ, "{}", describe(found));
                }
                (Err(_), Err(_)) => (),
            }
            change.check_outcome(ctx, one.or(other)).await.map_err(describe)
        }
        SendMode::WithConflict => {
            let conflicting = mutation.conflicting_mutations().choose(random);
            let Some(conflicting) =
                conflicting.and_then(|&conflicting| MutationRequest::any(targets, conflicting, &row, random))
            else {
                let outcome = change.send(ctx, first).await?;
                return change.check_outcome(ctx, outcome).await.map_err(describe);
            };
            let (one, other) = tokio::join!(change.send(ctx, first), conflicting.send(ctx, first.other()));
            let (one, other) = (one?, other?);
            let with = |violation| {
                describe(format!(
                    "with {:?} {}: {violation}",
                    conflicting.mutation, conflicting.input
                ))
            };
            ensure!(
                one.is_err() || other.is_err(),
                "{}",
                with(format!("both succeeded: {one:?}, {other:?}"))
            );
            if one.is_ok() || other.is_ok() {
                ctx.counters
                    .count("conflicting mutations of a row, of which one succeeded", 1);
            }
            change.check_outcome(ctx, one).await.map_err(with)?;
            conflicting.check_outcome(ctx, other).await.map_err(with)
        }
        SendMode::StaleVersion if change.input["version"].is_number() => {
            change.input["version"] = json!(row.version - 1);
            let outcome = change.send(ctx, first).await?;
            let describe = format!("{mutation:?} {}, current version {}", change.input, row.version);
            ensure!(outcome.is_err(), "{describe}: made as {outcome:?}");
            change
                .check_outcome(ctx, outcome)
                .await
                .map_err(|violation| format!("{describe}: {violation}"))
        }
        SendMode::Once | SendMode::StaleVersion => {
            let outcome = change.send(ctx, first).await?;
            change.check_outcome(ctx, outcome).await.map_err(describe)
        }
    }
}

/// Pins or unpins a snapshot, whose lists must not change.
async fn pin(ctx: &RunContext<'_>, which: ServerChoice, random: &mut StdRng) -> Checked {
    let Some(snapshot) = ctx.any_issued(random) else {
        return Ok(());
    };
    let (mutation, kind) = if random.random() {
        ("pinSnapshot", "PinSnapshotInput")
    } else {
        ("unpinSnapshot", "UnpinSnapshotInput")
    };
    let query = format!(
        "mutation ($input: {kind}!, $lists: Boolean!, $keep: Boolean!) {{ {mutation}(input: $input) {{ statistics {{ ...Whole }} }} }} {STATISTICS}"
    );
    let variables = json!({"input": {"id": snapshot.id}, "lists": true, "keep": true});
    let data = ctx.servers.graphql(which, &query, &variables, &ctx.counters).await?;
    if let Some(found) = difference(&snapshot.data, &data[mutation]["statistics"]) {
        return Err(format!("{which:?} {mutation} {} changed: {found}", snapshot.id));
    }
    ctx.counters.count(Mutation::PinSnapshot.name(), 1);
    Ok(())
}

/// The row to be changed, as the client read it.
#[derive(Default)]
struct TargetRow {
    id: i64,
    version: i32,
    /// Only for visits.
    is_over: bool,
}

impl TargetRow {
    /// None if there is nothing to change.
    async fn any(targets: &Targets<'_>, mutation: Mutation, random: &mut StdRng) -> Checked<Option<Self>> {
        let sql = &targets.ctx.sql;
        let ids = async |statement: &str| -> Checked<Vec<i64>> {
            let found = rows(sql, statement).await.map_err(failed)?;
            Ok(found.iter().map(|row| row.try_get_by_index(0).unwrap()).collect())
        };
        let id = match mutation {
            Mutation::RegisterPatient | Mutation::RecordVisit | Mutation::PinSnapshot => {
                return Ok(Some(Self::default()));
            }
            Mutation::UpdateDefinition => {
                let newest = "SELECT MAX(version) FROM definition";
                let found = rows(sql, newest).await.map_err(failed)?;
                let version = found[0].try_get_by_index(0).map_err(failed)?;
                return Ok(Some(Self {
                    version,
                    ..Self::default()
                }));
            }
            Mutation::ChangeVisit | Mutation::DeleteVisit => targets.visits.choose(random).copied(),
            Mutation::UndoMerge if random.random_ratio(7, 8) => {
                let merged = "SELECT patient_id FROM patient_merge WHERE undone_at IS NULL ORDER BY id";
                ids(merged).await?.choose(random).copied()
            }
            // Preferably a patient into whom others were merged.
            Mutation::MergePatients if random.random() => {
                let several = "SELECT id FROM patient WHERE state = 'ACTIVE'
                    AND id IN (SELECT into_id FROM patient_merge WHERE undone_at IS NULL) ORDER BY id";
                ids(several).await?.choose(random).copied()
            }
            _ => targets.patients.choose(random).copied(),
        };
        let Some(id) = id else { return Ok(None) };
        let statement = match mutation {
            Mutation::ChangeVisit | Mutation::DeleteVisit => {
                format!("SELECT version, status FROM visit WHERE id = {id}")
            }
            _ => format!("SELECT version, state FROM patient WHERE id = {id}"),
        };
        let found = rows(sql, &statement).await.map_err(failed)?;
        Ok(found.first().map(|row| {
            let word: String = row.try_get_by_index(1).unwrap();
            Self {
                id,
                version: row.try_get_by_index(0).unwrap(),
                is_over: VisitStatus::parse(&word).is_some_and(VisitStatus::is_final),
            }
        }))
    }
}

/// A mutation with its input.
struct MutationRequest {
    mutation: Mutation,
    input: Value,
}

/// Why a mutation was rejected.
#[derive(Debug, PartialEq)]
struct MutationError {
    code: String,
    argument: String,
    message: String,
}

impl MutationError {
    /// The status is not allowed before the visit's day. In some time zone it is still yesterday.
    fn is_future_day(&self) -> bool {
        let (_, day) = self.message.rsplit_once(' ').unwrap_or_default();
        let day: Option<NaiveDate> = day.parse().ok();
        day.is_some_and(|day| day >= Utc::now().date_naive())
    }

    /// The patient is MERGED or ERASED by now.
    fn is_patient_state(&self) -> bool {
        self.code == "BAD_USER_INPUT" && ["input.id", "input.intoId", "input.patientId"].contains(&&*self.argument)
    }
}

impl MutationRequest {
    /// None if there are no rows to build it from.
    fn any(targets: &Targets<'_>, mutation: Mutation, row: &TargetRow, random: &mut StdRng) -> Option<Self> {
        let (id, version) = (row.id, row.version);
        let a_patient = |random: &mut StdRng| targets.patients.choose(random).map(|&id| id_of('P', id));
        let mut input = match mutation {
            Mutation::RegisterPatient => json!({
                "chartNo": number(random),
                "name": a_name_or_none(random),
                "registeredOn": targets.ctx.any_day(random).date(),
            }),
            // Always a new chart number, so that every change has a visible effect.
            Mutation::ChangePatient => {
                let mut input = json!({"id": id_of('P', id), "version": version, "chartNo": number(random)});
                if random.random() {
                    input["name"] = a_name_or_none(random);
                }
                if random.random() {
                    input["registeredOn"] = json!(targets.ctx.any_day(random).date());
                }
                input
            }
            Mutation::ErasePatient => json!({"id": id_of('P', id), "version": version, "reason": "Asked for"}),
            Mutation::MergePatients => {
                let into = a_patient(random).filter(|into| *into != id_of('P', id))?;
                json!({"id": id_of('P', id), "version": version, "intoId": into, "reason": "The same person"})
            }
            Mutation::UndoMerge => json!({"id": id_of('P', id), "reason": "Twins"}),
            Mutation::RecordVisit => {
                let mut input = json!({
                    "patientId": a_patient(random)?,
                    "date": a_date(targets, random),
                    "status": a_status(random),
                    "channel": a_channel(random),
                    "visitNo": number(random),
                    "force": random.random::<bool>(),
                    "reason": "Entered later",
                });
                for _ in 0..random.random_range(0..3) {
                    an_aspect(targets, &mut input, random);
                }
                if input["date"].is_null() && input["scheduledAt"].is_null() {
                    input["date"] = json!(a_date(targets, random));
                }
                input
            }
            Mutation::ChangeVisit => {
                let mut input = json!({"id": id_of('V', id), "version": version, "visitNo": number(random)});
                match random.random_range(0..4) {
                    0 => input["patientId"] = json!(a_patient(random)?),
                    1 => input["date"] = json!(a_date(targets, random)),
                    2 => input["status"] = json!(a_status(random)),
                    _ => an_aspect(targets, &mut input, random),
                }
                if row.is_over || random.random() {
                    input["reason"] = json!("Ticked the wrong box");
                }
                input
            }
            Mutation::DeleteVisit => json!({"id": id_of('V', id), "version": version, "reason": "Never was"}),
            Mutation::UpdateDefinition => {
                let overdue = [None, Some(1), Some(10), Some(30)].choose(random).copied();
                json!({
                    "version": version,
                    "churnAfterDays": random.random_range(1..60),
                    "overdueAfterDays": overdue.flatten(),
                })
            }
            Mutation::PinSnapshot => return None,
        };
        input["idempotencyKey"] = json!(format!("{:016x}", random.random::<u64>()));
        Some(Self { mutation, input })
    }

    /// The ID of the created or changed row, or the error.
    async fn send(&self, ctx: &RunContext<'_>, which: ServerChoice) -> Checked<Result<i64, MutationError>> {
        let mutation = self.mutation.mutation();
        let kind = format!("{}{}Input", mutation[..1].to_uppercase(), &mutation[1..]);
        let payload = match self.mutation {
            Mutation::UpdateDefinition => "definition { version }",
            Mutation::RecordVisit | Mutation::ChangeVisit | Mutation::DeleteVisit => "visit { id }",
            _ => "patient { id }",
        };
        let query = format!("mutation ($input: {kind}!) {{ {mutation}(input: $input) {{ {payload} }} }}");
        let variables = json!({"input": self.input});
        let response = ctx
            .servers
            .try_graphql(which, &query, &variables, &ctx.counters)
            .await?;
        Ok(match response {
            Ok(data) => {
                let outcome = data[mutation].as_object().unwrap().values().next().unwrap();
                Ok(match outcome["id"].as_str() {
                    Some(id) => number_of(id),
                    None => outcome["version"].as_i64().unwrap(),
                })
            }
            Err(errors) => {
                let error = &errors[0];
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                Err(MutationError {
                    code: text(&error["extensions"]["code"]),
                    argument: text(&error["extensions"]["argument"]),
                    message: text(&error["message"]),
                })
            }
        })
    }

    /// An executed mutation has its effect exactly once; a rejected one has none, and a valid reason.
    async fn check_outcome(&self, ctx: &RunContext<'_>, outcome: Result<i64, MutationError>) -> Checked {
        self.check_number(ctx, outcome.as_ref().ok()).await?;
        let error = match outcome {
            Ok(id) => {
                if let Some(asked) = self.input["id"].as_str() {
                    ensure!(number_of(asked) == id, "another row was changed: {id}");
                }
                if [Mutation::MergePatients, Mutation::UndoMerge].contains(&self.mutation) {
                    check_merges(ctx).await?;
                }
                ctx.counters.count(self.mutation.name(), 1);
                return Ok(());
            }
            Err(error) => error,
        };
        let check_outcome = match (&*error.code, &*error.argument) {
            ("CONFLICT", "input.version") => !self.version_is_current(ctx).await?,
            // On a busy machine others may hold the lock for long.
            ("BUSY", _) => true,
            ("NOT_FOUND", argument) => !self.row_exists(ctx, argument).await?,
            // Another client may have completed the visit meanwhile.
            ("BAD_USER_INPUT", "input.reason") => self.input["reason"].is_null(),
            ("BAD_USER_INPUT", "input.date") => error.is_future_day(),
            ("INVALID_TRANSITION", "input.status") => true,
            ("SLOT_TAKEN", _) => self.input["force"] != true,
            _ if error.is_patient_state() => {
                self.mutation == Mutation::UndoMerge || !self.was_active_throughout(ctx, &error).await?
            }
            _ => false,
        };
        ensure!(check_outcome, "rejected without a reason: {error:?}");
        let what = match &*error.code {
            "CONFLICT" => "mutations rejected: CONFLICT",
            "NOT_FOUND" => "mutations rejected: NOT_FOUND",
            "BUSY" => "mutations rejected: BUSY",
            "INVALID_TRANSITION" => "mutations rejected: INVALID_TRANSITION",
            "SLOT_TAKEN" => "mutations rejected: SLOT_TAKEN",
            _ if error.is_future_day() => "mutations rejected: a status before the visit's day",
            _ => "mutations rejected: merged, erased, completed or undone meanwhile",
        };
        ctx.counters.count(what, 1);
        Ok(())
    }

    /// The table and the ID that an argument refers to.
    fn named(&self, argument: &str) -> (&'static str, i64) {
        let name = argument.trim_start_matches("input.");
        let table = match (self.mutation, name) {
            (Mutation::ChangeVisit | Mutation::DeleteVisit, "id") => "visit",
            _ => "patient",
        };
        (table, self.input[name].as_str().map_or(0, number_of))
    }

    async fn row_exists(&self, ctx: &RunContext<'_>, argument: &str) -> Checked<bool> {
        let (table, id) = self.named(argument);
        let found = rows(&ctx.sql, &format!("SELECT id FROM {table} WHERE id = {id}")).await;
        Ok(!found.map_err(failed)?.is_empty())
    }

    /// Whether the row still has the version of the input; versions only grow.
    async fn version_is_current(&self, ctx: &RunContext<'_>) -> Checked<bool> {
        let (table, id) = self.named("input.id");
        let statement = match self.mutation {
            Mutation::UpdateDefinition => "SELECT MAX(version) FROM definition".to_owned(),
            _ => format!("SELECT version FROM {table} WHERE id = {id}"),
        };
        let found = rows(&ctx.sql, &statement).await.map_err(failed)?;
        let now: Option<i32> = found.first().map(|row| row.try_get_by_index(0).unwrap());
        Ok(now.map(i64::from) == self.input["version"].as_i64())
    }

    /// Whether the patient is ACTIVE and was so throughout: one who became ACTIVE again has an undone merge.
    async fn was_active_throughout(&self, ctx: &RunContext<'_>, error: &MutationError) -> Checked<bool> {
        let (_, id) = self.named(&error.argument);
        let statement = format!(
            "SELECT id FROM patient WHERE id = {id} AND state = 'ACTIVE'
                AND id NOT IN (SELECT patient_id FROM patient_merge WHERE undone_at IS NOT NULL)"
        );
        Ok(!rows(&ctx.sql, &statement).await.map_err(failed)?.is_empty())
    }

    /// Only the created or changed row has the new number. It may have been changed again meanwhile.
    async fn check_number(&self, ctx: &RunContext<'_>, outcome: Option<&i64>) -> Checked {
        for (argument, column, table) in [("visitNo", "visit_no", "visit"), ("chartNo", "chart_no", "patient")] {
            let Some(number) = self.input[argument].as_str() else {
                continue;
            };
            let statement = format!("SELECT id FROM {table} WHERE {column} = '{number}'");
            let found = rows(&ctx.sql, &statement).await.map_err(failed)?;
            let ids: Vec<i64> = found.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
            ensure!(
                ids.len() < 2 && ids.iter().all(|id| Some(id) == outcome),
                "the number {number} belongs to {outcome:?}, but these rows have it: {ids:?}"
            );
        }
        Ok(())
    }
}

/// The API rejects empty names.
fn a_name_or_none(random: &mut StdRng) -> Value {
    Some(a_name(random)).filter(|name| !name.is_empty()).into()
}

/// A day of the data, or today, when visits are checked in.
fn a_date(targets: &Targets<'_>, random: &mut StdRng) -> NaiveDate {
    if random.random_ratio(2, 3) {
        return targets.ctx.any_day(random).date();
    }
    Utc::now().date_naive()
}

/// A random optional field of a visit.
fn an_aspect(targets: &Targets<'_>, input: &mut Value, random: &mut StdRng) {
    let ctx = targets.ctx;
    let one_of = |random: &mut StdRng, letter, ids: &[i64]| {
        let id = ids.choose(random).filter(|_| random.random_ratio(4, 5));
        json!(id.map(|&id| id_of(letter, id)))
    };
    match random.random_range(0..4) {
        0 => {
            if random.random() {
                input["scheduledAt"] = Value::Null;
                return;
            }
            // The date follows from the time: a different date would be rejected.
            input.as_object_mut().unwrap().remove("date");
            let at = format!("{}T0{}:30:00Z", a_date(targets, random), random.random_range(0..10));
            input["scheduledAt"] = json!(at);
        }
        1 => input["departmentId"] = one_of(random, 'D', &ctx.departments),
        2 => input["doctorId"] = one_of(random, 'O', &ctx.doctors),
        _ => input["channel"] = json!(a_channel(random)),
    }
}

/// A merged patient points to the patient at the end of the chain of merges. Merges in SQL are unknown to the API, and
/// chains that contain them are ignored.
async fn check_merges(ctx: &RunContext<'_>) -> Checked {
    let statement = "SELECT p.id, p.state, p.merged_into, m.into_id FROM patient p
        LEFT JOIN patient_merge m ON m.hospital_id = p.hospital_id AND m.patient_id = p.id AND m.undone_at IS NULL";
    let found = rows(&ctx.sql, statement).await.map_err(failed)?;
    let patients: HashMap<i64, (String, Option<i64>, Option<i64>)> = found
        .iter()
        .map(|row| {
            let id = |place| row.try_get_by_index::<Option<i64>>(place).unwrap();
            (id(0).unwrap(), (row.try_get_by_index(1).unwrap(), id(2), id(3)))
        })
        .collect();
    for (id, (state, merged_into, _)) in &patients {
        if state != "MERGED" {
            continue;
        }
        let mut who = *id;
        while let Some((state, _, Some(into))) = patients.get(&who)
            && state == "MERGED"
        {
            who = *into;
        }
        if who != *id && patients.get(&who).is_some_and(|(state, ..)| state == "ACTIVE") {
            ensure!(
                *merged_into == Some(who),
                "the patient {id} was merged into {who}, but mergedInto is {merged_into:?}"
            );
        }
    }
    Ok(())
}
