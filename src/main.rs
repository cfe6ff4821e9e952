//! The command line.

use std::io::IsTerminal as _;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use axum::http::HeaderValue;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use rollcall::config::{LIMITS, Memory};
use rollcall::demo;
use rollcall::error::{Error, Result};
use rollcall::import::{self, FileKind, Mapping};
use rollcall::observe;
use rollcall::password::NewPassword;
use rollcall::permissions::Role;
use rollcall::secrets::Secrets;
use rollcall::statistics::WeekStart;
use rollcall::store::{self, NewHospital, OpenMode, Store};
use rollcall::{graphql, http, records, secrets, text};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The GraphQL backend of a hospital's admin console: every number is the length of a list, and the list can be opened.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Subcommand)]
enum CliCommand {
    /// Makes a demo hospital under ./rollcall-data, where there is none yet, and serves it
    Demo {
        #[command(flatten)]
        serving: Serving,
    },
    /// Serves a database
    Serve {
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        serving: Serving,
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
    /// The keys that phones and memos are encrypted with
    #[command(subcommand)]
    Keys(KeysCommand),
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
    /// Counts visits and patients anew, and has every server load its ledger anew: after rows came or went past the triggers
    Recount {
        #[command(flatten)]
        database: Database,
        /// The hospital's code; every hospital where absent
        #[arg(long)]
        hospital: Option<String>,
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
    /// Lists everybody: login, role, name, and whether the account is disabled
    List {
        #[command(flatten)]
        database: Database,
        /// The hospital's code
        #[arg(long)]
        hospital: String,
    },
    /// Disables an account: its sessions end, the last access token within 15 minutes
    Disable {
        #[command(flatten)]
        member: Member,
    },
    /// Enables a disabled account again
    Enable {
        #[command(flatten)]
        member: Member,
    },
    /// Sets a new password, read from standard input; the account's sessions end
    Reset {
        #[command(flatten)]
        member: Member,
    },
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Puts a new key in front of the key file, and encrypts everything with it; again, it goes on where it was cut off. Servers
    /// find the new key in the file by themselves
    Rotate {
        #[command(flatten)]
        database: Database,
    },
    /// Takes old keys out of the key file, once nothing is encrypted with them. Wait the 15 minutes that access tokens are good
    DropOld {
        #[command(flatten)]
        database: Database,
    },
}

#[derive(Args)]
struct Member {
    #[command(flatten)]
    database: Database,
    /// The hospital's code
    #[arg(long)]
    hospital: String,
    #[arg(long)]
    login: String,
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
struct Serving {
    /// Address and port
    #[arg(long, env = "ROLLCALL_LISTEN", default_value = "127.0.0.1:8080")]
    listen: String,
    /// A snapshot that nobody asked for anew in so many days expires, unless it is pinned
    #[arg(long, env = "ROLLCALL_SNAPSHOT_DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    snapshot_days: u32,
    /// Entries of the audit that are older than so many days are deleted, once an hour; where it is not given, all are kept
    #[arg(long, env = "ROLLCALL_AUDIT_DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    audit_days: Option<u32>,
    /// Memory for ledgers, snapshots and lists that are kept between questions, in MiB
    #[arg(long, env = "ROLLCALL_MEMORY", default_value_t = LIMITS.memory, value_parser = clap::value_parser!(u64).range(1..))]
    memory: u64,
    /// Requests a second that each member of staff may send
    #[arg(long, env = "ROLLCALL_REQUESTS_PER_SECOND", default_value = "10000")]
    requests_per_second: NonZeroU32,
    /// Requests a second that may come from each address
    #[arg(long, env = "ROLLCALL_REQUESTS_PER_SECOND_PER_ADDRESS", default_value = "20000")]
    requests_per_second_per_address: NonZeroU32,
    /// Addresses or networks (10.0.0.0/8) of proxies whose X-Forwarded-For is believed; several by commas
    #[arg(long, env = "ROLLCALL_TRUSTED_PROXIES", value_delimiter = ',', value_parser = network)]
    trusted_proxies: Vec<IpNet>,
    /// Origins (https://console.example) whose pages may read answers; several by commas
    #[arg(long, env = "ROLLCALL_CORS_ORIGINS", value_delimiter = ',', value_parser = origin)]
    cors_origins: Vec<HeaderValue>,
    /// A PEM file with the certificate and those that lead to its root: the server then speaks TLS
    #[arg(long, env = "ROLLCALL_TLS_CERTIFICATE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// A PEM file with the certificate's key
    #[arg(long, env = "ROLLCALL_TLS_KEY", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// What /metrics is read with, as a bearer token; without one it is read on this machine alone
    #[arg(long, env = "ROLLCALL_METRICS_TOKEN", hide = true)]
    metrics_token: Option<String>,
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
    let command = Cli::parse().command;
    let done = async {
        let observing = observe::start()?;
        let done = run(command).await;
        observing.finish().await;
        done
    };
    match done.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rollcall: {}", error.for_operator());
            ExitCode::FAILURE
        }
    }
}

async fn run(command: CliCommand) -> Result<()> {
    match command {
        CliCommand::Demo { serving } => {
            let options = serving.options(demo::hint())?;
            let (listener, address) = serving.bind().await?;
            let store = demo::open(std::path::Path::new("rollcall-data")).await?;
            println!("{}", demo::welcome(serving.scheme(), &address));
            http::serve(listener, store, options).await
        }
        CliCommand::Serve { database, serving } => {
            let options = serving.options(serde_json::json!({}))?;
            let store = database.open(OpenMode::Serve).await?;
            let (listener, address) = serving.bind().await?;
            let scheme = serving.scheme();
            println!("Rollcall serves {scheme}://{address}/graphql and {scheme}://{address}/graphiql");
            http::serve(listener, store, options).await
        }
        CliCommand::Migrate { database } => {
            let store = database.connect(OpenMode::Create).await?;
            store.migrate().await?;
            store.verify_ready().await?;
            println!("the database is up to date");
            Ok(())
        }
        CliCommand::Hospital(HospitalCommand::Add {
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
            database.open(OpenMode::Existing).await?.add_hospital(&new).await?;
            println!("added the hospital {code}");
            Ok(())
        }
        CliCommand::Staff(StaffCommand::Add {
            database,
            hospital,
            login,
            name,
            role,
        }) => {
            let store = database.open(OpenMode::Existing).await?;
            let hospital = hospital_of(&store, &hospital).await?;
            let role = match role {
                RoleWord::Admin => Role::Admin,
                RoleWord::Clinician => Role::Clinician,
                RoleWord::Desk => Role::Desk,
                RoleWord::Support => Role::Support,
            };
            let add = store::Command::AddStaff {
                login: named("login", &login)?,
                name: named("name", &name)?,
                role,
                password: NewPassword::of("password", password_from_input()?)?,
            };
            store.execute_as_operator(hospital.id, &add).await?;
            println!("added {login} to {} as {}", hospital.code, role.as_str());
            Ok(())
        }
        CliCommand::Staff(StaffCommand::List { database, hospital }) => {
            let store = database.open(OpenMode::Existing).await?;
            let hospital = hospital_of(&store, &hospital).await?;
            for member in store.staff(hospital.id).await? {
                let disabled = if member.disabled_at.is_some() { ", disabled" } else { "" };
                println!("{}: {}, {}{disabled}", member.login, member.role, member.name);
            }
            Ok(())
        }
        CliCommand::Staff(StaffCommand::Disable { member }) => {
            let login = member.change(|id| disabled(id, true)).await?;
            println!("disabled {login}");
            Ok(())
        }
        CliCommand::Staff(StaffCommand::Enable { member }) => {
            let login = member.change(|id| disabled(id, false)).await?;
            println!("enabled {login}");
            Ok(())
        }
        CliCommand::Staff(StaffCommand::Reset { member }) => {
            let password = NewPassword::of("password", password_from_input()?)?;
            let reset = |id| store::Command::SetPassword {
                id,
                password,
                verified: None,
            };
            let login = member.change(reset).await?;
            println!("{login} has a new password");
            Ok(())
        }
        CliCommand::Keys(KeysCommand::Rotate { database }) => {
            secrets::add_key(database.key_file()?)?;
            let (in_use, patients) = database.encrypt_anew().await?;
            println!("{patients} patients are encrypted anew, with the key {in_use}");
            println!(
                "keep a copy of the key file; in 15 minutes, `rollcall keys drop-old` takes the old key out of it"
            );
            Ok(())
        }
        CliCommand::Keys(KeysCommand::DropOld { database }) => {
            // What was written since the rotation by who had not found the new key yet.
            let (in_use, _) = database.encrypt_anew().await?;
            database.open(OpenMode::Existing).await?.forget_old_keys().await?;
            secrets::drop_old_keys(database.key_file()?)?;
            println!("the key {in_use} is the only one");
            Ok(())
        }
        CliCommand::Import {
            kind,
            database,
            hospital,
            file,
            mapping,
        } => {
            let store = database.open(OpenMode::Existing).await?;
            let hospital = hospital_of(&store, &hospital).await?;
            let kind = match kind {
                ImportKind::Patients => FileKind::Patients,
                ImportKind::Visits => FileKind::Visits,
            };
            let mapping = mapping.as_deref().map(Mapping::read).transpose()?;
            let mut report = |remark: &import::RowProblem| eprintln!("{remark}");
            let summary = import::import(&store, &hospital, kind, &file, mapping.as_ref(), &mut report).await?;
            println!("{summary}");
            Ok(())
        }
        CliCommand::Recount { database, hospital } => {
            let store = database.open(OpenMode::Existing).await?;
            let hospitals = match hospital {
                Some(code) => vec![hospital_of(&store, &code).await?.id],
                None => store.hospitals().await?,
            };
            for id in hospitals {
                let code = store.hospital(id).await?.map_or_else(|| id.to_string(), |row| row.code);
                let counts = store.recount(id).await?;
                println!(
                    "{code}: {} visits (before: {}), {} active patients (before: {})",
                    counts.visits, counts.visits_before, counts.patients, counts.patients_before
                );
            }
            Ok(())
        }
        CliCommand::Schema => {
            print!("{}", graphql::sdl());
            Ok(())
        }
    }
}

/// A name that is not empty and fits, in NFC.
fn named(argument: &str, text: &str) -> Result<String> {
    let text = text::nfc(text.trim());
    if text.is_empty() || text.chars().count() > 255 || text.chars().any(char::is_control) {
        return Err(Error::input(
            argument,
            "1 to 255 characters are wanted, none of them a control character",
        ));
    }
    Ok(text.into_owned())
}

async fn hospital_of(store: &Store, code: &str) -> Result<entity::hospital::Model> {
    let found = store.hospital_by_code(&text::nfc(code)).await?;
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

fn disabled(id: i64, disabled: bool) -> store::Command {
    store::Command::ChangeStaff {
        id,
        name: None,
        role: None,
        disabled: Some(disabled),
    }
}

impl Member {
    /// Makes the change of the member of staff with this login.
    async fn change(&self, change: impl FnOnce(i64) -> store::Command) -> Result<&str> {
        let store = self.database.open(OpenMode::Existing).await?;
        let hospital = hospital_of(&store, &self.hospital).await?;
        let member = store.staff_by_login(hospital.id, &text::nfc(&self.login)).await?;
        let member = member.ok_or_else(|| Error::input("login", format!("nobody has the login {:?}", self.login)))?;
        store.execute_as_operator(hospital.id, &change(member.id)).await?;
        Ok(&self.login)
    }
}

impl Database {
    async fn connect(&self, open: OpenMode) -> Result<Store> {
        let secrets = match &self.key {
            Some(key) => Secrets::from_base64(key)?,
            None => Secrets::open(&self.key_file, open == OpenMode::Create)?,
        };
        Store::connect(&self.database_url, secrets, open).await
    }

    fn key_file(&self) -> Result<&Path> {
        match self.key {
            Some(_) => Err(Error::input(
                "key",
                "keys are rotated in a key file: write the key into one, and unset ROLLCALL_KEY",
            )),
            None => Ok(&self.key_file),
        }
    }

    /// Encrypts everything with the key in use. Says which that is, and of how many patients something was another's.
    async fn encrypt_anew(&self) -> Result<(String, u64)> {
        let store = self.open(OpenMode::Existing).await?;
        let mut patients = 0;
        for hospital in store.hospitals().await? {
            patients += store.reencrypt(hospital).await?;
        }
        Ok((store.secrets().fingerprints().swap_remove(0), patients))
    }

    /// A database that is up to date.
    async fn open(&self, open: OpenMode) -> Result<Store> {
        let store = self.connect(open).await?;
        store.verify_ready().await?;
        Ok(store)
    }
}

/// A network, or one address.
fn network(text: &str) -> std::result::Result<IpNet, String> {
    let one = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse()
        .or_else(|_| one())
        .map_err(|_| "is no address and no network, such as 10.0.0.0/8".to_owned())
}

/// An origin as browsers write it.
fn origin(text: &str) -> std::result::Result<HeaderValue, String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let named = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', '?', '#', '@']));
    let header = named.then(|| HeaderValue::from_str(text).ok()).flatten();
    header.ok_or_else(|| "is no origin, such as https://console.example".to_owned())
}

impl Serving {
    fn scheme(&self) -> &'static str {
        match self.tls_certificate {
            Some(_) => "https",
            None => "http",
        }
    }

    fn options(&self, hint: serde_json::Value) -> Result<http::Options> {
        let tls = match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(http::Tls::read(certificate, key)?),
            _ => None,
        };
        Ok(http::Options {
            snapshot_days: self.snapshot_days,
            audit_days: self.audit_days,
            memory: Memory::of(self.memory),
            hint,
            viewer_rate: self.requests_per_second,
            address_rate: self.requests_per_second_per_address,
            trusted_proxies: self.trusted_proxies.clone(),
            cors_origins: self.cors_origins.clone(),
            tls,
            metrics_token: self.metrics_token.clone(),
        })
    }

    async fn bind(&self) -> Result<(TcpListener, String)> {
        let failed =
            |error: std::io::Error| Error::input("listen", format!("{} cannot be listened on: {error}", self.listen));
        let listener = TcpListener::bind(&self.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?.to_string();
        Ok((listener, address))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{Arg, CommandFactory as _};

    use super::Cli;

    const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operators/configuration.md"));

    fn flag(arg: &Arg) -> String {
        match (arg.get_long(), arg.get_value_names()) {
            (Some(long), _) => format!("`--{long}`"),
            (None, Some([name, ..])) => format!("`{name}`"),
            (None, _) => String::new(),
        }
    }

    /// The beginning of a setting's row.
    fn setting(variable: &str, arg: &Arg) -> String {
        let flag = if arg.is_hide_set() {
            String::new()
        } else {
            flag(arg) + " "
        };
        let default = match arg.get_default_values() {
            [] => "none".to_owned(),
            [value, ..] => format!("`{}`", value.display()),
        };
        format!("| `{variable}` | {flag}| {default} | ")
    }

    /// Collects the beginnings of the rows of each command and of the settings that it takes.
    fn collect(path: &str, command: &clap::Command, commands: &mut Vec<String>, settings: &mut BTreeSet<String>) {
        let mut arguments = Vec::new();
        for arg in command.get_arguments() {
            match arg.get_env() {
                Some(variable) => {
                    settings.insert(setting(&variable.to_string_lossy(), arg));
                }
                None if arg.get_action().takes_values() => arguments.push(flag(arg)),
                None => {}
            }
        }
        if !command.has_subcommands() {
            let arguments = if arguments.is_empty() {
                String::new()
            } else {
                arguments.join(", ") + " "
            };
            commands.push(format!("| `{path}` | {arguments}| "));
        }
        for sub in command.get_subcommands() {
            collect(&format!("{path} {}", sub.get_name()), sub, commands, settings);
        }
    }

    /// Checks that the table with this header has one row with each of these beginnings, and no other.
    fn check(head: &str, wanted: impl IntoIterator<Item = String>) {
        let table = PAGE.split_once(head).expect(head).1;
        let mut documented: Vec<&str> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
        for row in wanted {
            let place = documented.iter().position(|line| line.starts_with(&row));
            let place = place.unwrap_or_else(|| {
                panic!("docs/operators/configuration.md, under {head}: add the row\n{row}meaning |")
            });
            documented.remove(place);
        }
        assert!(
            documented.is_empty(),
            "docs/operators/configuration.md: the command line has no {documented:#?}"
        );
    }

    #[test]
    fn settings_and_commands_are_documented() {
        let (mut commands, mut settings) = (Vec::new(), BTreeSet::new());
        collect("rollcall", &Cli::command(), &mut commands, &mut settings);
        check("| variable | flag | default | meaning |", settings);
        check("| command | arguments | what it does |", commands);
    }
}
