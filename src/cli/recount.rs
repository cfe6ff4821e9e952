use clap::Args;

use super::database::DatabaseArgs;
use super::hospital_by_code;
use crate::error::Result;

#[derive(Args)]
pub(super) struct RecountArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The hospital's code; all hospitals if not given
    #[arg(long)]
    hospital: Option<String>,
}

impl RecountArgs {
    pub(super) async fn run(self) -> Result<()> {
        let store = self.database.open().await?;
        let hospitals = match &self.hospital {
            Some(code) => vec![hospital_by_code(&store, code).await?.id],
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
}
