//! The `rollcall` binary. Everything is in the library, see `rollcall::cli`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rollcall::cli::main()
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
