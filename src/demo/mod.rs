//! The demo hospital: generated once, and the same for the same day.

pub mod generate;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::clock::Clock;
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::password::NewPassword;
use crate::permissions::Role;
use crate::records::{PatientDraft, VisitDraft};
use crate::secrets::Secrets;
use crate::statistics::WeekStart;
use crate::store::{AddStaff, NewHospital, OpenMode, Store};

const CODE: &str = "DEMO";
const TIME_ZONE: chrono_tz::Tz = chrono_tz::Asia::Seoul;
const PATIENTS: usize = 25_000;
const SEED: u64 = 1;
const BATCH: usize = 2_000;

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
        std::fs::create_dir_all(folder).map_err(failed)?;
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
    let demo = generate::generate(SEED, today, PATIENTS);
    let mut importer = store.bulk_importer(hospital);
    let patients: Vec<PatientDraft> = demo.patients.into_iter().map(Into::into).collect();
    for batch in patients.chunks(BATCH) {
        importer.patients(batch).await?;
    }
    let visits: Vec<VisitDraft<String>> = demo.visits.into_iter().map(Into::into).collect();
    for batch in visits.chunks(BATCH) {
        importer.visits(batch, &[]).await?;
    }
    let password = NewPassword::of("password", PASSWORD.to_owned())?;
    for (login, name, role) in ACCOUNTS {
        let add = AddStaff {
            login: login.to_owned(),
            name: name.to_owned(),
            role,
            password: password.clone(),
        };
        store.execute_as_operator(hospital, &add).await?;
    }
    Ok(())
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
