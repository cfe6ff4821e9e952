use clap::{Args, Subcommand};

use super::database::DatabaseArgs;
use super::{name_argument, word_parser};
use crate::error::{Error, Result};
use crate::records;
use crate::statistics::{Definition, WeekStart};
use crate::store::NewHospital;

#[derive(Subcommand)]
pub(super) enum HospitalCommand {
    /// Adds a hospital
    Add(HospitalArgs),
}

#[derive(Args)]
pub(super) struct HospitalArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The code that staff sign in with, such as SEOUL-1
    #[arg(long)]
    code: String,
    /// The hospital's name
    #[arg(long)]
    name: String,
    /// IANA time zone, such as Asia/Seoul
    #[arg(long)]
    time_zone: String,
    /// The first day of the week
    #[arg(long, default_value = "MONDAY", ignore_case = true, value_parser = word_parser(WeekStart::ALL, WeekStart::as_str))]
    week_start: WeekStart,
    /// Days without a visit after which a new patient counts as CHURN_SUSPECTED
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(i32).range(1..=Definition::MAX_DAYS.into()))]
    churn_after_days: i32,
    /// Days after its date at which a BOOKED visit counts as a no-show; never if not given
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=Definition::MAX_DAYS.into()))]
    overdue_after_days: Option<i32>,
    /// ISO 3166 country code, used to read phone numbers without a country code; the country of the time zone if not given
    #[arg(long)]
    country: Option<String>,
}

impl HospitalCommand {
    pub(super) async fn run(self) -> Result<()> {
        match self {
            Self::Add(args) => args.run().await,
        }
    }
}

impl HospitalArgs {
    async fn run(self) -> Result<()> {
        let hospital = NewHospital {
            code: name_argument("code", &self.code)?,
            name: name_argument("name", &self.name)?,
            country: self.country()?,
            time_zone: self.time_zone.parse().map_err(|_| {
                Error::input(
                    "time-zone",
                    format!("{:?} is not an IANA time zone, such as Asia/Seoul", self.time_zone),
                )
            })?,
            week_start: self.week_start,
            churn_after_days: self.churn_after_days,
            overdue_after_days: self.overdue_after_days,
        };
        let store = self.database.open().await?;
        store.add_hospital(&hospital).await?;
        println!("added the hospital {}", hospital.code);
        Ok(())
    }

    fn country(&self) -> Result<Option<String>> {
        let Some(code) = &self.country else {
            return Ok(records::country_of_time_zone(&self.time_zone));
        };
        let country = records::country(code);
        let invalid = || {
            Error::input(
                "country",
                format!("{code:?} is not an ISO 3166 country code, such as KR"),
            )
        };
        country.ok_or_else(invalid).map(Some)
    }
}
