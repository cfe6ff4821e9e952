//! The command line: one file for each group of commands.

mod database;
mod export;
mod hospital;
mod import;
mod keys;
mod limits;
mod mapping;
mod migrate;
mod recount;
mod serve;
mod staff;
mod statement;

use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::error::{Error, Result};
use crate::records::rules;
use crate::store::{Hospital, Store};
use crate::{graphql, observe, text};

/// The GraphQL backend of a hospital's admin console: every number is the length of a list, and the list can be opened.
#[derive(Parser)]
#[command(name = "rollcall", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Subcommand)]
enum CliCommand {
    /// Creates a demo hospital in ./rollcall-data if there is none yet, and serves it
    Demo(serve::DemoArgs),
    /// Serves a database
    Serve(serve::ServeArgs),
    /// Applies pending migrations; creates the SQLite file and the key file if they do not exist
    Migrate(migrate::MigrateArgs),
    /// Manages hospitals
    #[command(subcommand)]
    Hospital(hospital::HospitalCommand),
    /// Manages staff accounts
    #[command(subcommand)]
    Staff(staff::StaffCommand),
    /// Manages the keys that encrypt phone numbers, memos and notes
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Imports a CSV or XLSX file. Importing the same file again changes nothing
    Import(import::ImportArgs),
    /// Exports and verifies statements of closed months
    #[command(subcommand)]
    Statement(statement::StatementCommand),
    /// Writes CSV and XLSX files for spreadsheets and scheduled reports
    #[command(subcommand)]
    Export(export::ExportCommand),
    /// Helps with mapping files
    #[command(subcommand)]
    Mapping(mapping::MappingCommand),
    /// Recounts visits and patients, and makes every server reload its ledger: needed after rows were added or removed without the
    /// triggers
    Recount(recount::RecountArgs),
    /// Prints the GraphQL schema (schema.graphql)
    Schema,
}

/// Parses the arguments of the process, runs the command and returns its exit code.
///
/// Neither async nor generic, so that the server is compiled once, with this library, and not again with the binary.
#[must_use]
pub fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            // Where it cannot be printed, nobody reads it. 2 means that rows of an import were refused.
            drop(error.print());
            return if error.use_stderr() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match execute(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rollcall: {}", error.for_operator());
            ExitCode::FAILURE
        }
    }
}

/// The definition of all commands and their arguments.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

fn execute(command: CliCommand) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Internal(format!("cannot start the async runtime: {error}")))?;
    runtime.block_on(async {
        let telemetry = observe::start()?;
        let result = run(command).await;
        telemetry.finish().await;
        result
    })
}

async fn run(command: CliCommand) -> Result<ExitCode> {
    match command {
        CliCommand::Demo(args) => args.run().await?,
        CliCommand::Serve(args) => args.run().await?,
        CliCommand::Migrate(args) => args.run().await?,
        CliCommand::Hospital(command) => command.run().await?,
        CliCommand::Staff(command) => command.run().await?,
        CliCommand::Keys(command) => command.run().await?,
        CliCommand::Import(args) => return args.run().await,
        CliCommand::Statement(command) => command.run().await?,
        CliCommand::Export(command) => command.run().await?,
        CliCommand::Mapping(command) => command.run()?,
        CliCommand::Recount(args) => args.run().await?,
        CliCommand::Schema => {
            print!("{}", graphql::sdl());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Parses a value of a `string_enum!` type from its word, in upper or lower case.
fn word_parser<T>(values: &'static [T], as_str: fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let words = values.iter().map(|value| as_str(*value));
    PossibleValuesParser::new(words).try_map(move |word| {
        let mut values = values.iter().copied();
        let value = values.find(|value| as_str(*value).eq_ignore_ascii_case(&word));
        value.ok_or("unknown value")
    })
}

/// A name that obeys the rule of every name.
fn name_argument(argument: &str, value: &str) -> Result<String> {
    rules::line(value).map_err(|message| Error::input(argument, message))
}

async fn hospital_by_code(store: &Store, code: &str) -> Result<Hospital> {
    let hospital = store.hospital_by_code(&text::nfc(code)).await?;
    hospital.ok_or_else(|| Error::input("hospital", format!("no hospital has the code {code:?}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Arg;

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
        collect("rollcall", &super::command(), &mut commands, &mut settings);
        check("| variable | flag | default | meaning |", settings);
        check("| command | arguments | what it does |", commands);
    }

    #[test]
    fn the_command_definition_is_consistent() {
        super::command().debug_assert();
    }
}
