//! A contact with a patient on a recall list.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "recall_contact")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hospital_id: i64,
    #[sea_orm(primary_key)]
    pub id: i64,
    pub entry_id: i64,
    /// Who was contacted: where records were merged, the one who stayed then.
    pub patient_id: i64,
    pub contacted_at: DateTimeUtc,
    /// None: it was recorded from the command line.
    pub staff_id: Option<i64>,
    /// REACHED, BOOKED, NO_ANSWER, DECLINED or WRONG_NUMBER.
    pub outcome: String,
    /// Encrypted.
    pub note: Option<Vec<u8>>,
    /// When the patient is to be called again.
    pub due_on: Option<Date>,
}

impl ActiveModelBehavior for ActiveModel {}
