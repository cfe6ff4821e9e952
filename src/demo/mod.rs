//! The demo hospital: generated once, and the same for the same day.

pub mod generate;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use chrono::{Days, NaiveDate, TimeDelta};
use generate::DemoVisit;
use scheduling::{ContactOutcome, RecallOptions, TimeOfDay, Weekday, WorkingHours, start_of_day};
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::password::NewPassword;
use crate::permissions::{Role, Viewer};
use crate::private_files::create_folder;
use crate::records::{Patch, PatientDraft, VisitDraft};
use crate::reporting::{Cohort, Reporting, StatisticsRequest};
use crate::secrets::Secrets;
use crate::statistics::{BucketRef, CohortKind, DayRange, Filter, Period, VisitChannel, VisitStatus, WeekStart};
use crate::store::{
    AddAbsence, AddStaff, ChangeVisit, CreateRecallList, ImportOptions, Keyset, NewHospital, OpenMode, Override,
    RecallEntryPage, RecallEntryQuery, RecordContact, RecordVisit, SetDoctorHours, Store, VisitQuery,
};

const CODE: &str = "DEMO";
const TIME_ZONE: chrono_tz::Tz = chrono_tz::Asia::Seoul;
const PATIENTS: usize = 25_000;
const SEED: u64 = 1;
const BATCH: usize = 2_000;
const SLOT_MINUTES: i32 = 10;
/// TENTATIVE bookings that lapse unless they are confirmed.
const TENTATIVE: usize = 6;

/// When the recall list was made, in days before today, and how long its patients had been silent then.
const RECALLED: u64 = 42;
const SILENT: u64 = 120;
/// What came of the calls, in turn: the outcome, days until the next call, and a note.
const CALLS: [(ContactOutcome, Option<u64>, Option<&str>); 8] = [
    (ContactOutcome::NoAnswer, Some(14), None),
    (
        ContactOutcome::Reached,
        None,
        Some("Will call back when the work is done"),
    ),
    (ContactOutcome::Booked, None, None),
    (ContactOutcome::Declined, None, Some("Goes to a hospital nearer home")),
    (ContactOutcome::NoAnswer, Some(45), Some("In the evening")),
    (ContactOutcome::Reached, Some(30), Some("After the holidays")),
    (ContactOutcome::WrongNumber, None, None),
    (ContactOutcome::Booked, None, Some("In the morning, if possible")),
];

/// The password of all accounts. It is public: the demo listens on loopback unless configured otherwise.
const PASSWORD: &str = "rollcall-demo";
const ACCOUNTS: [(&str, &str, Role); 4] = [
    ("admin", "Ada Admin", Role::Admin),
    ("clinician", "Clara Clinician", Role::Clinician),
    ("desk", "Dan Desk", Role::Desk),
    ("support", "Sam Support", Role::Support),
];

/// Opens the demo database in the folder; generates it where there is none yet.
///
/// # Errors
/// Where the folder cannot be written, or the database fails.
pub async fn open(folder: &Path, clock: Clock, limits: Arc<Limits>) -> Result<Store> {
    let finished = folder.join("demo.db");
    let failed = |error: std::io::Error| Error::Internal(format!("{}: {error}", folder.display()));
    let key = folder.join("demo.key");
    if !finished.exists() {
        create_folder(folder).map_err(failed)?;
        let unfinished = folder.join("demo-unfinished.db");
        // Files of an interrupted run.
        for ending in ["", "-wal", "-shm"] {
            let left = folder.join(format!("demo-unfinished.db{ending}"));
            if left.exists() {
                std::fs::remove_file(left).map_err(failed)?;
            }
        }
        eprintln!("Generating the demo hospital; only the first start takes this long …");
        let store = connect(&unfinished, &key, OpenMode::Create, Arc::clone(&limits)).await?;
        let store = store.with_clock(clock.clone());
        store.migrate().await?;
        store.verify_ready().await?;
        fill(&store).await?;
        store.close().await?;
        std::fs::rename(unfinished, &finished).map_err(failed)?;
    }
    let store = connect(&finished, &key, OpenMode::Existing, limits)
        .await?
        .with_clock(clock);
    store.migrate().await?;
    store.verify_ready().await?;
    Ok(store)
}

async fn connect(database: &Path, key: &Path, open: OpenMode, limits: Arc<Limits>) -> Result<Store> {
    Store::connect(
        &format!("sqlite://{}", database.display()),
        Secrets::open(key, open == OpenMode::Create)?,
        open,
        limits,
    )
    .await
}

async fn fill(store: &Store) -> Result<()> {
    let hospital = NewHospital {
        code: CODE.to_owned(),
        name: "Hanbit Demo Hospital".to_owned(),
        country: Some("KR".to_owned()),
        time_zone: TIME_ZONE,
        week_start: WeekStart::Monday,
        churn_after_days: 90,
        overdue_after_days: Some(7),
    };
    let hospital = store.add_hospital(&hospital).await?;
    let today = store.today(TIME_ZONE);
    let mut demo = generate::generate(SEED, today, PATIENTS);
    let arrivals = arrivals(&mut demo.visits);
    let mut importer = store.importer(hospital, ImportOptions::commit("demo"));
    let patients: Vec<PatientDraft> = demo.patients.into_iter().map(Into::into).collect();
    for batch in patients.chunks(BATCH) {
        importer.patients(batch).await?;
    }
    let visits: Vec<VisitDraft<String>> = demo.visits.into_iter().map(Into::into).collect();
    for batch in visits.chunks(BATCH) {
        importer.visits(batch, &[]).await?;
    }
    open_desk(store, hospital, today, &arrivals).await?;
    let password = NewPassword::of("password", PASSWORD.to_owned())?;
    for (login, name, role) in ACCOUNTS {
        let add = AddStaff {
            login: login.to_owned(),
            name: name.to_owned(),
            role,
            password: password.clone(),
        };
        let staff = store.execute_as_operator(hospital, &add).await?;
        if role == Role::Desk {
            let viewer = Viewer { hospital, staff, role };
            recall(store, &viewer, today).await?;
        }
    }
    Ok(())
}

/// A recall list of some weeks ago, half of it worked off since.
async fn recall(store: &Store, viewer: &Viewer, today: NaiveDate) -> Result<()> {
    let made_on = today - Days::new(RECALLED);
    let at = |day: NaiveDate| {
        let ten = TimeDelta::hours(10);
        store
            .clone()
            .with_clock(Clock::StoppedAt(start_of_day(day, TIME_ZONE) + ten))
    };
    let silent_since = made_on - Days::new(SILENT);
    let Some(range) = DayRange::new((silent_since - Days::new(6)).into(), silent_since.into()) else {
        return Ok(());
    };
    let request = StatisticsRequest {
        period: Period::Day,
        range,
        filter: Filter::default(),
        as_of: Some(made_on),
    };
    let reporting = Reporting::new(store.clone(), &Limits::default());
    let resolved = reporting.resolve(viewer.hospital, request).await?;
    reporting.persist(&resolved).await?;
    let create = CreateRecallList {
        name: format!("New and silent since {silent_since}"),
        cohort: Cohort::counted(&resolved, BucketRef::Total, CohortKind::ChurnSuspected)
            .to_recall()
            .await?,
        options: RecallOptions {
            without_next_visit: true,
            with_phone: true,
        },
    };
    let list = at(made_on).execute(viewer, &create, None).await?;
    store.renew_lists_of(viewer.hospital, &create.cohort.snapshot).await?;
    let page = RecallEntryPage {
        list,
        query: RecallEntryQuery::default(),
        seek: Keyset {
            descending: false,
            from: None,
            backwards: false,
            limit: PATIENTS as u64,
        },
    };
    let pages = store.recall_entry_pages(viewer.hospital, &[page], made_on).await?;
    let entries = pages.into_iter().flatten();
    let entries: Vec<_> = entries.map(|(entry, _)| entry).collect();
    let half = entries.len() / 2;
    for (place, entry) in entries.into_iter().take(half).enumerate() {
        let called_on = made_on + Days::new(1 + place as u64 * (RECALLED - 2) / half as u64);
        let (outcome, due_in, note) = CALLS[place % CALLS.len()];
        let contact = RecordContact {
            entry: entry.id,
            version: entry.version,
            outcome,
            note: note.map(str::to_owned),
            due_on: due_in.map(|days| called_on + Days::new(days)),
        };
        at(called_on).execute(viewer, &contact, None).await?;
    }
    Ok(())
}

/// Who is at the desk today, in the order of their times. Their visits are imported as BOOKED, and then checked in as staff do, so that the
/// waiting room has an order.
fn arrivals(visits: &mut [DemoVisit]) -> Vec<(String, VisitStatus)> {
    let is_here = |visit: &&mut DemoVisit| matches!(visit.status, VisitStatus::CheckedIn | VisitStatus::InProgress);
    let mut here: Vec<&mut DemoVisit> = visits.iter_mut().filter(is_here).collect();
    here.sort_by_key(|visit| visit.scheduled_at);
    let arrival = |visit: &mut DemoVisit| {
        let status = std::mem::replace(&mut visit.status, VisitStatus::Booked);
        (visit.visit_no.clone(), status)
    };
    here.into_iter().map(arrival).collect()
}

/// Hours of the doctors, an absence, today's arrivals, and tentative bookings.
async fn open_desk(store: &Store, hospital: i64, today: NaiveDate, arrivals: &[(String, VisitStatus)]) -> Result<()> {
    let doctors = store.doctors(hospital).await?;
    for doctor in &doctors {
        let command = SetDoctorHours {
            doctor: doctor.id,
            hours: hours(today),
            slot_minutes: Patch::Put(SLOT_MINUTES),
        };
        store.execute_as_operator(hospital, &command).await?;
    }
    let tomorrow = today + Days::new(1);
    if let Some(away) = doctors.last() {
        let command = AddAbsence {
            doctor: Some(away.id),
            starts: start_of_day(tomorrow, TIME_ZONE),
            ends: start_of_day(tomorrow + Days::new(3), TIME_ZONE),
            reason: Some("Conference".to_owned()),
        };
        store.execute_as_operator(hospital, &command).await?;
    }
    let query = VisitQuery {
        dates: DayRange::new(today.into(), today.into()),
        ..VisitQuery::default()
    };
    let (_, visits) = store.visits_of_day(hospital, &query, PATIENTS).await?;
    for (number, status) in arrivals {
        let Some(visit) = visits.iter().find(|visit| visit.visit_no.as_ref() == Some(number)) else {
            continue;
        };
        let steps = [VisitStatus::CheckedIn, VisitStatus::InProgress];
        let steps = steps.into_iter().take_while(|step| step <= status);
        for (version, step) in (visit.version..).zip(steps) {
            let command = ChangeVisit {
                id: visit.id,
                version,
                draft: VisitDraft {
                    status: Some(step),
                    ..VisitDraft::default()
                },
                overriding: Override::default(),
            };
            skip_taken(store.execute_as_operator(hospital, &command).await)?;
        }
    }
    let patients: BTreeSet<i64> = visits.iter().map(|visit| visit.patient).collect();
    for (place, patient) in (0..).zip(patients.into_iter().take(TENTATIVE)) {
        let doctor = doctors.get(place % doctors.len().max(1)).map(|doctor| doctor.id);
        let at = (tomorrow + Days::new(place as u64 + 1)).and_hms_opt(10, 0, 0);
        let at = at.and_then(|at| at.and_local_timezone(TIME_ZONE).earliest());
        let command = RecordVisit {
            draft: VisitDraft {
                patient: Some(patient),
                scheduled_at: at.map(|at| at.to_utc()).into(),
                status: Some(VisitStatus::Tentative),
                channel: Some(VisitChannel::Web),
                doctor: doctor.into(),
                ..VisitDraft::default()
            },
            overriding: Override::default(),
        };
        skip_taken(store.execute_as_operator(hospital, &command).await)?;
    }
    Ok(())
}

/// Times of the demo may be taken, since what was imported may overlap: such a step is left out.
fn skip_taken(result: Result<i64>) -> Result<()> {
    match result {
        Ok(_) | Err(Error::SlotTaken { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The hours of each doctor: from Monday to Saturday, and today, whatever day it is.
fn hours(today: NaiveDate) -> Vec<WorkingHours> {
    let times = |from: u16, to: u16| Some((TimeOfDay::from_minutes(from)?, TimeOfDay::from_minutes(to)?));
    let (morning, afternoon) = (times(9 * 60, 12 * 60 + 30), times(14 * 60, 17 * 60 + 30));
    let of_day = |&weekday: &Weekday| {
        let is_open = weekday != Weekday::Sunday || weekday == Weekday::of(today);
        let afternoon = afternoon.filter(|_| weekday != Weekday::Saturday);
        let times = morning.into_iter().chain(afternoon).filter(move |_| is_open);
        times.map(move |(from, to)| WorkingHours { weekday, from, to })
    };
    Weekday::ALL.iter().flat_map(of_day).collect()
}

/// What the command prints: addresses and sign-ins.
#[must_use]
pub fn welcome(scheme: &str, address: &str) -> String {
    let logins: Vec<String> = ACCOUNTS
        .iter()
        .map(|(login, _, role)| format!("{login} ({})", role.as_str()))
        .collect();
    format!(
        "Rollcall is up, with a demo hospital of three years of visits.\n\n\
         \x20 GraphiQL   {scheme}://{address}/graphiql\n\
         \x20 GraphQL    {scheme}://{address}/graphql\n\n\
         \x20 Hospital   {CODE}\n\
         \x20 Logins     {}\n\
         \x20 Password   {PASSWORD}\n\n\
         Stop with Ctrl-C. The data stays under ./rollcall-data.",
        logins.join(", ")
    )
}

/// The accounts that the explorer's sign-in page offers, as JSON.
#[must_use]
pub fn hint() -> Value {
    let account =
        |(login, _, role): &(&str, &str, Role)| json!({"login": login, "password": PASSWORD, "role": role.as_str()});
    json!({"hospital": CODE, "accounts": ACCOUNTS.iter().map(account).collect::<Vec<_>>()})
}
