use std::io::IsTerminal as _;

use clap::{Args, Subcommand};

use super::database::DatabaseArgs;
use super::{hospital_by_code, name_argument, word_parser};
use crate::error::{Error, Result};
use crate::password::NewPassword;
use crate::permissions::Role;
use crate::store;
use crate::text;

#[derive(Subcommand)]
pub(super) enum StaffCommand {
    /// Adds a staff account; the password is read from standard input
    Add(StaffArgs),
    /// Lists all staff accounts: login, role, name, and whether the account is disabled
    List(ListArgs),
    /// Disables an account: its sessions end, and access tokens already issued stay valid until they expire
    Disable(AccountArgs),
    /// Enables a disabled account
    Enable(AccountArgs),
    /// Sets a new password, read from standard input; all sessions of the account end
    Reset(AccountArgs),
}

#[derive(Args)]
pub(super) struct StaffArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The hospital's code
    #[arg(long)]
    hospital: String,
    /// The name to sign in with
    #[arg(long)]
    login: String,
    /// The person's name
    #[arg(long)]
    name: String,
    /// What the account may do
    #[arg(long, ignore_case = true, value_parser = word_parser(Role::ALL, Role::as_str))]
    role: Role,
}

#[derive(Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The hospital's code
    #[arg(long)]
    hospital: String,
}

#[derive(Args)]
pub(super) struct AccountArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The hospital's code
    #[arg(long)]
    hospital: String,
    /// The account's login
    #[arg(long)]
    login: String,
}

impl StaffCommand {
    pub(super) async fn run(self) -> Result<()> {
        match self {
            Self::Add(args) => args.run().await,
            Self::List(args) => args.run().await,
            Self::Disable(account) => {
                account.execute(|id| set_disabled(id, true)).await?;
                println!("disabled {}", account.login);
                Ok(())
            }
            Self::Enable(account) => {
                account.execute(|id| set_disabled(id, false)).await?;
                println!("enabled {}", account.login);
                Ok(())
            }
            Self::Reset(account) => {
                let password = NewPassword::of("password", read_password()?)?;
                let set_password = |id| store::SetPassword {
                    id,
                    password,
                    verified: None,
                };
                account.execute(set_password).await?;
                println!("{} has a new password", account.login);
                Ok(())
            }
        }
    }
}

impl StaffArgs {
    async fn run(self) -> Result<()> {
        let store = self.database.open().await?;
        let hospital = hospital_by_code(&store, &self.hospital).await?;
        let command = store::AddStaff {
            login: name_argument("login", &self.login)?,
            name: name_argument("name", &self.name)?,
            role: self.role,
            password: NewPassword::of("password", read_password()?)?,
        };
        store.execute_as_operator(hospital.id, &command).await?;
        println!("added {} to {} as {}", self.login, hospital.code, self.role.as_str());
        Ok(())
    }
}

impl ListArgs {
    async fn run(self) -> Result<()> {
        let store = self.database.open().await?;
        let hospital = hospital_by_code(&store, &self.hospital).await?;
        for member in store.staff(hospital.id).await? {
            let disabled = if member.disabled_at.is_some() { ", disabled" } else { "" };
            println!("{}: {}, {}{disabled}", member.login, member.role.as_str(), member.name);
        }
        Ok(())
    }
}

impl AccountArgs {
    /// Executes a command on the account, given its id.
    async fn execute<C: store::Command>(&self, command: impl FnOnce(i64) -> C) -> Result<()> {
        let store = self.database.open().await?;
        let hospital = hospital_by_code(&store, &self.hospital).await?;
        let member = store.staff_by_login(hospital.id, &text::nfc(&self.login)).await?;
        let unknown = || Error::input("login", format!("no account has the login {:?}", self.login));
        let member = member.ok_or_else(unknown)?;
        store.execute_as_operator(hospital.id, &command(member.id)).await?;
        Ok(())
    }
}

fn set_disabled(id: i64, disabled: bool) -> store::ChangeStaff {
    store::ChangeStaff {
        id,
        name: None,
        role: None,
        disabled: Some(disabled),
    }
}

fn read_password() -> Result<String> {
    if std::io::stdin().is_terminal() {
        eprint!("Password (shown as you type): ");
    }
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|error| Error::input("password", format!("cannot read standard input: {error}")))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
