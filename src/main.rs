//! The command line.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rollcall::demo;
use rollcall::error::{Error, Result};
use rollcall::import::{self, Kind, Mapping};
use rollcall::permissions::Role;
use rollcall::secrets::Secrets;
use rollcall::statistics::WeekStart;
use rollcall::store::{NewHospital, Open, Store};
use rollcall::{auth, graphql, http, records};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The GraphQL backend of a hospital's admin console: every number is the length of a list, and the list can be opened.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a demo hospital under ./rollcall-data, where there is none yet, and serves it
    Demo {
        #[command(flatten)]
        listen: Listen,
    },
    /// Serves a database
    Serve {
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        listen: Listen,
    },
    /// Brings a database up to date; an SQLite file is made where there is none
    Migrate {
        #[command(flatten)]
        database: Database,
    },
    /// Hospitals
    #[command(subcommand)]
    Hospital(HospitalCommand),
    /// Staff
    #[command(subcommand)]
    Staff(StaffCommand),
    /// Imports a CSV file; again, it changes nothing
    Import {
        /// What the file is of
        kind: ImportKind,
        #[command(flatten)]
        database: Database,
        /// The hospital's code
        #[arg(long)]
        hospital: String,
        /// A CSV file: UTF-8, with a header row
        file: PathBuf,
        /// Says how another system's file is to be read
        #[arg(long, value_name = "FILE.toml")]
        mapping: Option<PathBuf>,
    },
    /// Prints schema.graphql
    Schema,
}

#[derive(Subcommand)]
enum HospitalCommand {
    /// Adds a hospital
    Add {
        #[command(flatten)]
        database: Database,
        /// What staff sign in with, such as SEOUL-1
        #[arg(long)]
        code: String,
        #[arg(long)]
        name: String,
        /// IANA name, such as Asia/Seoul
        #[arg(long)]
        time_zone: String,
        /// The day that weeks start on
        #[arg(long, default_value = "monday", ignore_case = true)]
        week_start: WeekStartWord,
        /// A new patient silent for this many days is suspected of having left
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(i32).range(1..=36_500))]
        churn_after_days: i32,
        /// A BOOKED visit this many days past its date counts as a no-show; without this none does
        #[arg(long, value_parser = clap::value_parser!(i32).range(1..=36_500))]
        overdue_after_days: Option<i32>,
        /// ISO 3166 code: how phone numbers without a country code are read; that of the time zone where absent
        #[arg(long)]
        country: Option<String>,
    },
}

#[derive(Subcommand)]
enum StaffCommand {
    /// Adds a member of staff; the password is read from standard input
    Add {
        #[command(flatten)]
        database: Database,
        /// The hospital's code
        #[arg(long)]
        hospital: String,
        #[arg(long)]
        login: String,
        #[arg(long)]
        name: String,
        #[arg(long, ignore_case = true)]
        role: RoleWord,
    },
}

#[derive(Args)]
struct Database {
    /// sqlite:, postgres:, mysql: or mariadb:
    #[arg(
        long,
        env = "ROLLCALL_DATABASE_URL",
        default_value = "sqlite://rollcall-data/rollcall.db",
        hide_env_values = true
    )]
    database_url: String,
    /// The key that phones are encrypted with, 32 bytes in Base64; `migrate` makes it where it does not exist. All servers of one
    /// database share it: keep a copy in a safe place
    #[arg(long, env = "ROLLCALL_KEY_FILE", default_value = "rollcall-data/key")]
    key_file: PathBuf,
    /// The key itself, in place of a key file
    #[arg(long, env = "ROLLCALL_KEY", hide = true)]
    key: Option<String>,
}

#[derive(Args)]
struct Listen {
    /// Address and port
    #[arg(long, env = "ROLLCALL_LISTEN", default_value = "127.0.0.1:8080")]
    listen: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum ImportKind {
    Patients,
    Visits,
}

#[derive(Clone, Copy, ValueEnum)]
enum WeekStartWord {
    Monday,
    Sunday,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleWord {
    Admin,
    Clinician,
    Desk,
    Support,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("ROLLCALL_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,rollcall=info")),
        )
        .init();
    match run(Cli::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rollcall: {}", error.for_operator());
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo { listen } => {
            let (listener, address) = listen.bind().await?;
            let store = demo::open(std::path::Path::new("rollcall-data")).await?;
            println!("{}", demo::welcome(&address));
            http::serve(listener, store, demo::hint()).await
        }
        Command::Serve { database, listen } => {
            let store = database.open().await?;
            let (listener, address) = listen.bind().await?;
            println!("Rollcall serves http://{address}/graphql and http://{address}/graphiql");
            http::serve(listener, store, serde_json::json!({})).await
        }
        Command::Migrate { database } => {
            let store = database.connect(Open::Create).await?;
            store.migrate().await?;
            store.check().await?;
            println!("the database is up to date");
            Ok(())
        }
        Command::Hospital(HospitalCommand::Add {
            database,
            code,
            name,
            time_zone,
            week_start,
            churn_after_days,
            overdue_after_days,
            country,
        }) => {
            let zone = time_zone.parse().map_err(|_| {
                Error::input(
                    "time-zone",
                    format!("{time_zone:?} is no IANA time zone, such as Asia/Seoul"),
                )
            })?;
            let new =
                NewHospital {
                    code: named("code", &code)?,
                    name: named("name", &name)?,
                    country: match country {
                        Some(code) => Some(records::country(&code).ok_or_else(|| {
                            Error::input("country", format!("{code:?} is no ISO 3166 code, such as KR"))
                        })?),
                        None => records::country_of_time_zone(&time_zone),
                    },
                    time_zone: zone,
                    week_start: match week_start {
                        WeekStartWord::Monday => WeekStart::Monday,
                        WeekStartWord::Sunday => WeekStart::Sunday,
                    },
                    churn_after_days,
                    overdue_after_days,
                };
            database.open().await?.add_hospital(&new).await?;
            println!("added the hospital {code}");
            Ok(())
        }
        Command::Staff(StaffCommand::Add {
            database,
            hospital,
            login,
            name,
            role,
        }) => {
            let store = database.open().await?;
            let hospital = hospital_of(&store, &hospital).await?;
            let role = match role {
                RoleWord::Admin => Role::Admin,
                RoleWord::Clinician => Role::Clinician,
                RoleWord::Desk => Role::Desk,
                RoleWord::Support => Role::Support,
            };
            let hash = auth::hash_password(&password_from_input()?)?;
            store
                .add_staff(
                    hospital.id,
                    &named("login", &login)?,
                    &named("name", &name)?,
                    role,
                    hash,
                )
                .await?;
            println!("added {login} to {} as {}", hospital.code, role.word());
            Ok(())
        }
        Command::Import {
            kind,
            database,
            hospital,
            file,
            mapping,
        } => {
            let store = database.open().await?;
            let hospital = hospital_of(&store, &hospital).await?;
            let kind = match kind {
                ImportKind::Patients => Kind::Patients,
                ImportKind::Visits => Kind::Visits,
            };
            let mapping = mapping.as_deref().map(Mapping::read).transpose()?;
            let mut report = |remark: &import::Remark| eprintln!("{remark}");
            let summary = import::import(&store, &hospital, kind, &file, mapping.as_ref(), &mut report).await?;
            println!(
                "{} inserted, {} changed, {} unchanged, {} refused, {} values left empty",
                summary.inserted, summary.changed, summary.unchanged, summary.refused, summary.remarks
            );
            Ok(())
        }
        Command::Schema => {
            print!("{}", graphql::sdl());
            Ok(())
        }
    }
}

/// A name that is not empty and fits.
fn named(argument: &str, text: &str) -> Result<String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > 255 || text.chars().any(char::is_control) {
        return Err(Error::input(
            argument,
            "1 to 255 characters are wanted, none of them a control character",
        ));
    }
    Ok(text.to_owned())
}

async fn hospital_of(store: &Store, code: &str) -> Result<entity::hospital::Model> {
    let found = store.hospital_by_code(code).await?;
    found.ok_or_else(|| Error::input("hospital", format!("there is no hospital of the code {code:?}")))
}

fn password_from_input() -> Result<String> {
    if std::io::stdin().is_terminal() {
        eprint!("Password (is shown): ");
    }
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|error| Error::input("password", format!("standard input cannot be read: {error}")))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

impl Database {
    async fn connect(&self, open: Open) -> Result<Store> {
        let secrets = match &self.key {
            Some(key) => Secrets::from_base64(key)?,
            None => Secrets::open(&self.key_file, open == Open::Create)?,
        };
        Store::connect(&self.database_url, secrets, open).await
    }

    /// A database that is up to date.
    async fn open(&self) -> Result<Store> {
        let store = self.connect(Open::Existing).await?;
        store.check().await?;
        Ok(store)
    }
}

impl Listen {
    async fn bind(&self) -> Result<(TcpListener, String)> {
        let failed =
            |error: std::io::Error| Error::input("listen", format!("{} cannot be listened on: {error}", self.listen));
        let listener = TcpListener::bind(&self.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?.to_string();
        Ok((listener, address))
    }
}
