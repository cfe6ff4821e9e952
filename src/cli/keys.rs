use clap::Subcommand;

use super::database::DatabaseArgs;
use crate::config::Limits;
use crate::error::Result;
use crate::secrets;

#[derive(Subcommand)]
pub(super) enum KeysCommand {
    /// Adds a new key to the key file and re-encrypts everything with it. Run again after an interruption, it continues. Running
    /// servers read the new key from the file
    Rotate {
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Removes old keys from the key file once nothing is encrypted with them. Wait after `rotate` until the access tokens signed with
    /// the old key have expired
    DropOld {
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

impl KeysCommand {
    pub(super) async fn run(self) -> Result<()> {
        match self {
            Self::Rotate { database } => rotate(&database).await,
            Self::DropOld { database } => drop_old(&database).await,
        }
    }
}

async fn rotate(database: &DatabaseArgs) -> Result<()> {
    secrets::add_key(database.key_file()?)?;
    let (key, patients) = reencrypt(database).await?;
    println!("re-encrypted {patients} patients with the key {key}");
    let minutes = Limits::default().access_token_lifetime.as_secs() / 60;
    println!(
        "back up the key file; remove the old key with `rollcall keys drop-old` once the access tokens signed with it have expired, \
         after {minutes} minutes by default"
    );
    Ok(())
}

async fn drop_old(database: &DatabaseArgs) -> Result<()> {
    // Servers that had not read the new key yet went on writing with the old one after the rotation.
    let (key, _) = reencrypt(database).await?;
    database.open().await?.forget_old_keys().await?;
    secrets::drop_old_keys(database.key_file()?)?;
    println!("the key {key} is now the only one");
    Ok(())
}

/// Encrypts everything with the current key. Returns the key's fingerprint, and how many patients had values under another key.
async fn reencrypt(database: &DatabaseArgs) -> Result<(String, u64)> {
    let store = database.open().await?;
    let mut patients = 0;
    for hospital in store.hospitals().await? {
        patients += store.reencrypt(hospital).await?;
    }
    Ok((store.secrets().fingerprints().swap_remove(0), patients))
}
