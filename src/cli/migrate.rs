use std::sync::Arc;

use clap::Args;

use super::database::DatabaseArgs;
use crate::error::Result;
use crate::store::OpenMode;

#[derive(Args)]
pub(super) struct MigrateArgs {
    #[command(flatten)]
    database: DatabaseArgs,
}

impl MigrateArgs {
    pub(super) async fn run(self) -> Result<()> {
        let store = self.database.connect(OpenMode::Create, Arc::default()).await?;
        store.migrate().await?;
        store.verify_ready().await?;
        println!("the database is up to date");
        Ok(())
    }
}
