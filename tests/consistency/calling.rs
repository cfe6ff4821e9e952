//! Those who change the data through the API, as staff do it: at a version that they saw, under a key by which a change that
//! is sent again is made once.

use std::collections::HashMap;

use chrono::{NaiveDate, Utc};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rollcall::statistics::VisitStatus;
use serde_json::{Value, json};

use crate::answer::{STATISTICS, difference, id_of, number_of};
use crate::servers::Which;
use crate::site::{Site, failed};
use crate::world::rows;
use crate::writing::{Known, a_channel, a_name, a_status, number, weighted};
use crate::{Held, hold};

/// What is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
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

impl Call {
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

    /// What else might be done to the same row.
    fn rivals(self) -> &'static [Self] {
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

/// How a change is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Once,
    /// And again to the other server, as who never saw the answer.
    Again,
    /// To both servers at the same time.
    ToBoth,
    /// While another client changes the same row.
    WithRival,
    /// With a version that stood before.
    Outdated,
}

impl Way {
    const ALL: [(Self, u32); 5] = [
        (Self::Once, 8),
        (Self::Again, 4),
        (Self::ToBoth, 4),
        (Self::WithRival, 6),
        (Self::Outdated, 1),
    ];
}

/// Changes something.
pub async fn call(known: &Known<'_>, call: Call, random: &mut StdRng) -> Held {
    let (site, first) = (known.site, Which::any(random));
    if call == Call::PinSnapshot {
        return pin(site, first, random).await;
    }
    let Some(row) = Row::any(known, call, random).await? else {
        return Ok(());
    };
    let Some(mut change) = Change::any(known, call, &row, random) else {
        return Ok(());
    };
    let way = weighted(random, &Way::ALL);
    let about = |finding| format!("{call:?} {way:?}, first to the {first:?}, {}: {finding}", change.input);
    match way {
        Way::Again => {
            let made = change.send(site, first).await?;
            if made.is_ok() {
                let again = change.send(site, first.other()).await?;
                hold!(
                    again == made,
                    "{}",
                    about(format!("made as {made:?}, and sent again {again:?}"))
                );
                site.figures.count("changes sent again, and made once", 1);
            }
            change.holds(site, made).await.map_err(about)
        }
        Way::ToBoth => {
            let (one, other) = tokio::join!(change.send(site, first), change.send(site, first.other()));
            let (one, other) = (one?, other?);
            match (&one, &other) {
                (Ok(_), Ok(_)) => {
                    let found = format!("made as {one:?} and as {other:?}");
                    hold!(one == other, "{}", about(found));
                    site.figures
                        .count("changes sent to both servers at once, and made once", 1);
                }
                (Ok(_), Err(refused)) | (Err(refused), Ok(_)) => {
                    // A patient may become ACTIVE again between the two.
                    let found = format!("one server says {one:?}, and the other {other:?}");
                    hold!(refused.is_of_a_state(), "{}", about(found));
                }
                (Err(_), Err(_)) => (),
            }
            change.holds(site, one.or(other)).await.map_err(about)
        }
        Way::WithRival => {
            let rival = call.rivals().choose(random);
            let Some(rival) = rival.and_then(|&rival| Change::any(known, rival, &row, random)) else {
                let made = change.send(site, first).await?;
                return change.holds(site, made).await.map_err(about);
            };
            let (one, other) = tokio::join!(change.send(site, first), rival.send(site, first.other()));
            let (one, other) = (one?, other?);
            let with = |finding| about(format!("with {:?} {}: {finding}", rival.call, rival.input));
            hold!(
                one.is_err() || other.is_err(),
                "{}",
                with(format!("both were made: {one:?}, {other:?}"))
            );
            if one.is_ok() || other.is_ok() {
                site.figures
                    .count("times that two changed a row at once, and one won", 1);
            }
            change.holds(site, one).await.map_err(with)?;
            rival.holds(site, other).await.map_err(with)
        }
        Way::Outdated if change.input["version"].is_number() => {
            change.input["version"] = json!(row.version - 1);
            let made = change.send(site, first).await?;
            let about = format!("{call:?} {}, where {} stood", change.input, row.version);
            hold!(made.is_err(), "{about}: made as {made:?}");
            change
                .holds(site, made)
                .await
                .map_err(|finding| format!("{about}: {finding}"))
        }
        Way::Once | Way::Outdated => {
            let made = change.send(site, first).await?;
            change.holds(site, made).await.map_err(about)
        }
    }
}

/// Keeps a snapshot for good, or no more: its lists stay what they were.
async fn pin(site: &Site<'_>, which: Which, random: &mut StdRng) -> Held {
    let Some(snapshot) = site.any_handed_out(random) else {
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
    let said = site.servers.ask(which, &query, &variables, &site.figures).await?;
    if let Some(found) = difference(&snapshot.said, &said[mutation]["statistics"]) {
        return Err(format!(
            "{which:?} {mutation} {} is otherwise than it was: {found}",
            snapshot.id
        ));
    }
    site.figures.count(Call::PinSnapshot.name(), 1);
    Ok(())
}

/// The row that is to be changed, as the client saw it.
#[derive(Default)]
struct Row {
    id: i64,
    version: i32,
    /// Of a visit.
    is_over: bool,
}

impl Row {
    /// None where there is nothing to change.
    async fn any(known: &Known<'_>, call: Call, random: &mut StdRng) -> Held<Option<Self>> {
        let sql = &known.site.sql;
        let ids = async |statement: &str| -> Held<Vec<i64>> {
            let found = rows(sql, statement).await.map_err(failed)?;
            Ok(found.iter().map(|row| row.try_get_by_index(0).unwrap()).collect())
        };
        let id = match call {
            Call::RegisterPatient | Call::RecordVisit | Call::PinSnapshot => return Ok(Some(Self::default())),
            Call::UpdateDefinition => {
                let newest = "SELECT MAX(version) FROM definition";
                let found = rows(sql, newest).await.map_err(failed)?;
                let version = found[0].try_get_by_index(0).map_err(failed)?;
                return Ok(Some(Self {
                    version,
                    ..Self::default()
                }));
            }
            Call::ChangeVisit | Call::DeleteVisit => known.visits.choose(random).copied(),
            Call::UndoMerge if random.random_ratio(7, 8) => {
                let merged = "SELECT patient_id FROM patient_merge WHERE undone_at IS NULL ORDER BY id";
                ids(merged).await?.choose(random).copied()
            }
            // Rather somebody who is several patients already.
            Call::MergePatients if random.random() => {
                let several = "SELECT id FROM patient WHERE state = 'ACTIVE'
                    AND id IN (SELECT into_id FROM patient_merge WHERE undone_at IS NULL) ORDER BY id";
                ids(several).await?.choose(random).copied()
            }
            _ => known.patients.choose(random).copied(),
        };
        let Some(id) = id else { return Ok(None) };
        let statement = match call {
            Call::ChangeVisit | Call::DeleteVisit => format!("SELECT version, status FROM visit WHERE id = {id}"),
            _ => format!("SELECT version, state FROM patient WHERE id = {id}"),
        };
        let found = rows(sql, &statement).await.map_err(failed)?;
        Ok(found.first().map(|row| {
            let word: String = row.try_get_by_index(1).unwrap();
            Self {
                id,
                version: row.try_get_by_index(0).unwrap(),
                is_over: VisitStatus::parse(&word).is_some_and(VisitStatus::is_over),
            }
        }))
    }
}

/// A change as it is sent.
struct Change {
    call: Call,
    input: Value,
}

/// Why a change was not made.
#[derive(Debug, PartialEq)]
struct Refusal {
    code: String,
    argument: String,
    message: String,
}

impl Refusal {
    /// As a status is refused that a visit has from its day on. Some time zone has yesterday's date still.
    fn is_of_a_day_to_come(&self) -> bool {
        let (_, day) = self.message.rsplit_once(' ').unwrap_or_default();
        let day: Option<NaiveDate> = day.parse().ok();
        day.is_some_and(|day| day >= Utc::now().date_naive())
    }

    /// As a patient is refused who is MERGED or ERASED by now.
    fn is_of_a_state(&self) -> bool {
        self.code == "BAD_USER_INPUT" && ["input.id", "input.intoId", "input.patientId"].contains(&&*self.argument)
    }
}

impl Change {
    /// None where there is nothing to make it of.
    fn any(known: &Known<'_>, call: Call, row: &Row, random: &mut StdRng) -> Option<Self> {
        let (id, version) = (row.id, row.version);
        let a_patient = |random: &mut StdRng| known.patients.choose(random).map(|&id| id_of('P', id));
        let mut input = match call {
            Call::RegisterPatient => json!({
                "chartNo": number(random),
                "name": a_name_or_none(random),
                "registeredOn": known.site.any_day(random).date(),
            }),
            // Always a number that nobody else has: so it always changes something, and shows whether it did.
            Call::ChangePatient => {
                let mut input = json!({"id": id_of('P', id), "version": version, "chartNo": number(random)});
                if random.random() {
                    input["name"] = a_name_or_none(random);
                }
                if random.random() {
                    input["registeredOn"] = json!(known.site.any_day(random).date());
                }
                input
            }
            Call::ErasePatient => json!({"id": id_of('P', id), "version": version, "reason": "Asked for"}),
            Call::MergePatients => {
                let into = a_patient(random).filter(|into| *into != id_of('P', id))?;
                json!({"id": id_of('P', id), "version": version, "intoId": into, "reason": "The same person"})
            }
            Call::UndoMerge => json!({"id": id_of('P', id), "reason": "Twins"}),
            Call::RecordVisit => {
                let mut input = json!({
                    "patientId": a_patient(random)?,
                    "date": known.site.any_day(random).date(),
                    "status": a_status(random),
                    "channel": a_channel(random),
                    "visitNo": number(random),
                });
                for _ in 0..random.random_range(0..3) {
                    an_aspect(known, &mut input, random);
                }
                input
            }
            Call::ChangeVisit => {
                let mut input = json!({"id": id_of('V', id), "version": version, "visitNo": number(random)});
                match random.random_range(0..4) {
                    0 => input["patientId"] = json!(a_patient(random)?),
                    1 => input["date"] = json!(known.site.any_day(random).date()),
                    2 => input["status"] = json!(a_status(random)),
                    _ => an_aspect(known, &mut input, random),
                }
                if row.is_over || random.random() {
                    input["reason"] = json!("Ticked the wrong box");
                }
                input
            }
            Call::DeleteVisit => json!({"id": id_of('V', id), "version": version, "reason": "Never was"}),
            Call::UpdateDefinition => {
                let overdue = [None, Some(1), Some(10), Some(30)].choose(random).copied();
                json!({
                    "version": version,
                    "churnAfterDays": random.random_range(1..60),
                    "overdueAfterDays": overdue.flatten(),
                })
            }
            Call::PinSnapshot => return None,
        };
        input["idempotencyKey"] = json!(format!("{:016x}", random.random::<u64>()));
        Some(Self { call, input })
    }

    /// The id of what was made or changed, or why nothing was.
    async fn send(&self, site: &Site<'_>, which: Which) -> Held<Result<i64, Refusal>> {
        let mutation = self.call.mutation();
        let kind = format!("{}{}Input", mutation[..1].to_uppercase(), &mutation[1..]);
        let payload = match self.call {
            Call::UpdateDefinition => "definition { version }",
            Call::RecordVisit | Call::ChangeVisit | Call::DeleteVisit => "visit { id }",
            _ => "patient { id }",
        };
        let query = format!("mutation ($input: {kind}!) {{ {mutation}(input: $input) {{ {payload} }} }}");
        let variables = json!({"input": self.input});
        let answer = site.servers.try_ask(which, &query, &variables, &site.figures).await?;
        Ok(match answer {
            Ok(data) => {
                let made = data[mutation].as_object().unwrap().values().next().unwrap();
                Ok(match made["id"].as_str() {
                    Some(id) => number_of(id),
                    None => made["version"].as_i64().unwrap(),
                })
            }
            Err(errors) => {
                let error = &errors[0];
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                Err(Refusal {
                    code: text(&error["extensions"]["code"]),
                    argument: text(&error["extensions"]["argument"]),
                    message: text(&error["message"]),
                })
            }
        })
    }

    /// What was made is there, once; what was refused is not, and there was a reason to refuse it.
    async fn holds(&self, site: &Site<'_>, made: Result<i64, Refusal>) -> Held {
        self.number_is_there_once(site, made.as_ref().ok()).await?;
        let refused = match made {
            Ok(id) => {
                if let Some(asked) = self.input["id"].as_str() {
                    hold!(number_of(asked) == id, "another row was changed: {id}");
                }
                if [Call::MergePatients, Call::UndoMerge].contains(&self.call) {
                    merged_are_found(site).await?;
                }
                site.figures.count(self.call.name(), 1);
                return Ok(());
            }
            Err(refused) => refused,
        };
        let holds = match (&*refused.code, &*refused.argument) {
            ("CONFLICT", "input.version") => !self.version_stands(site).await?,
            // On a busy machine others may hold the lock for long.
            ("BUSY", _) => true,
            ("NOT_FOUND", argument) => !self.row_stands(site, argument).await?,
            // Somebody may have finished the visit meanwhile.
            ("BAD_USER_INPUT", "input.reason") => self.input["reason"].is_null(),
            ("BAD_USER_INPUT", "input.status" | "input.date") => refused.is_of_a_day_to_come(),
            _ if refused.is_of_a_state() => self.call == Call::UndoMerge || !self.was_active(site, &refused).await?,
            _ => false,
        };
        hold!(holds, "refused without a reason: {refused:?}");
        let what = match &*refused.code {
            "CONFLICT" => "changes refused: CONFLICT",
            "NOT_FOUND" => "changes refused: NOT_FOUND",
            "BUSY" => "changes refused: BUSY",
            _ if refused.is_of_a_day_to_come() => "changes refused: a status before the visit's day",
            _ => "changes refused: merged, erased, finished or undone meanwhile",
        };
        site.figures.count(what, 1);
        Ok(())
    }

    /// The table and id that an argument names.
    fn named(&self, argument: &str) -> (&'static str, i64) {
        let name = argument.trim_start_matches("input.");
        let table = match (self.call, name) {
            (Call::ChangeVisit | Call::DeleteVisit, "id") => "visit",
            _ => "patient",
        };
        (table, self.input[name].as_str().map_or(0, number_of))
    }

    async fn row_stands(&self, site: &Site<'_>, argument: &str) -> Held<bool> {
        let (table, id) = self.named(argument);
        let found = rows(&site.sql, &format!("SELECT id FROM {table} WHERE id = {id}")).await;
        Ok(!found.map_err(failed)?.is_empty())
    }

    /// Whether the row is at the version still that the change names: versions only grow.
    async fn version_stands(&self, site: &Site<'_>) -> Held<bool> {
        let (table, id) = self.named("input.id");
        let statement = match self.call {
            Call::UpdateDefinition => "SELECT MAX(version) FROM definition".to_owned(),
            _ => format!("SELECT version FROM {table} WHERE id = {id}"),
        };
        let found = rows(&site.sql, &statement).await.map_err(failed)?;
        let now: Option<i32> = found.first().map(|row| row.try_get_by_index(0).unwrap());
        Ok(now.map(i64::from) == self.input["version"].as_i64())
    }

    /// Whether the patient is ACTIVE and was so all the time: who is so again has a merge that was undone.
    async fn was_active(&self, site: &Site<'_>, refused: &Refusal) -> Held<bool> {
        let (_, id) = self.named(&refused.argument);
        let statement = format!(
            "SELECT id FROM patient WHERE id = {id} AND state = 'ACTIVE'
                AND id NOT IN (SELECT patient_id FROM patient_merge WHERE undone_at IS NOT NULL)"
        );
        Ok(!rows(&site.sql, &statement).await.map_err(failed)?.is_empty())
    }

    /// Whoever has the number that the change gives is who it was given to. Somebody may have got another number meanwhile.
    async fn number_is_there_once(&self, site: &Site<'_>, made: Option<&i64>) -> Held {
        for (argument, column, table) in [("visitNo", "visit_no", "visit"), ("chartNo", "chart_no", "patient")] {
            let Some(number) = self.input[argument].as_str() else {
                continue;
            };
            let statement = format!("SELECT id FROM {table} WHERE {column} = '{number}'");
            let found = rows(&site.sql, &statement).await.map_err(failed)?;
            let ids: Vec<i64> = found.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
            hold!(
                ids.len() < 2 && ids.iter().all(|id| Some(id) == made),
                "the number {number} was given to {made:?}, and those have it: {ids:?}"
            );
        }
        Ok(())
    }
}

/// The API takes no empty name.
fn a_name_or_none(random: &mut StdRng) -> Value {
    Some(a_name(random)).filter(|name| !name.is_empty()).into()
}

/// When, where, with whom, and how it came to be.
fn an_aspect(known: &Known<'_>, input: &mut Value, random: &mut StdRng) {
    let site = known.site;
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
            // The day follows from the time: another day beside it would be refused.
            input.as_object_mut().unwrap().remove("date");
            let at = format!("{}T0{}:30:00Z", site.any_day(random), random.random_range(0..10));
            input["scheduledAt"] = json!(at);
        }
        1 => input["departmentId"] = one_of(random, 'D', &site.departments),
        2 => input["doctorId"] = one_of(random, 'O', &site.doctors),
        _ => input["channel"] = json!(a_channel(random)),
    }
}

/// Whoever was merged, and merged again with who that was, is found to be who has the visits now. Merges in SQL are no merges
/// that the API knows of: what they are mixed into is left out.
async fn merged_are_found(site: &Site<'_>) -> Held {
    let statement = "SELECT p.id, p.state, p.merged_into, m.into_id FROM patient p
        LEFT JOIN patient_merge m ON m.hospital_id = p.hospital_id AND m.patient_id = p.id AND m.undone_at IS NULL";
    let found = rows(&site.sql, statement).await.map_err(failed)?;
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
            hold!(
                *merged_into == Some(who),
                "the patient {id} is {who} by its merges, and said to be merged into {merged_into:?}"
            );
        }
    }
    Ok(())
}
