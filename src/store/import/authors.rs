//! Whether people made a value what it is, by the history of its record.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use entity::record_change;
use sea_orm::{ConnectionTrait as _, DatabaseTransaction, FromQueryResult as _};

use crate::error::Result;
use crate::records::Sex;
use crate::store::Store;
use crate::store::history::{ChangeEntry, FieldDifference, FieldValue, RecordKind, entry};

/// Records whose histories are read by one statement.
const RECORDS: usize = 500;

impl Store {
    /// The fields of these patients or visits, by their names in the API, that staff or SQL changed last, or that staff gave when they
    /// recorded them. Values that SQL gave with a new row do not count: there is no telling whether they are not from an import of
    /// another kind.
    pub(super) async fn fields_set_by_people(
        &self,
        view: &DatabaseTransaction,
        hospital: i64,
        record: RecordKind,
        ids: &[i64],
    ) -> Result<HashMap<i64, HashSet<&'static str>>> {
        let mut set: HashMap<i64, HashSet<&'static str>> = HashMap::new();
        for ids in ids.chunks(RECORDS) {
            let current = self.current_rows(view, hospital, record, ids).await?;
            let mut sql = self.sql("SELECT * FROM record_change WHERE hospital_id = ");
            sql.bind(hospital).push(" AND record = ").bind(record.as_str());
            sql.push(" AND record_id").numbers(ids).push(" ORDER BY record_id, id");
            let mut changes: Vec<Arc<record_change::Model>> = Vec::new();
            for row in view.query_all_raw(sql.done()).await? {
                changes.push(record_change::Model::from_query_result(&row, "")?.into());
            }
            for (place, row) in changes.iter().enumerate() {
                let next = changes.get(place + 1).filter(|next| next.record_id == row.record_id);
                let current = || current.get(&row.record_id).cloned().map(Arc::new);
                let change = entry(record, row, next.cloned().or_else(current), None)?;
                let by_people = by_people(&change);
                let fields = set.entry(row.record_id).or_default();
                for difference in change.differences(&self.secrets)? {
                    if by_people && !is_unknown_sex(&difference) {
                        fields.insert(difference.field);
                    } else {
                        fields.remove(difference.field);
                    }
                }
            }
        }
        Ok(set)
    }
}

fn by_people(change: &ChangeEntry) -> bool {
    change.staff.is_some() || (change.source.is_none() && !change.adds())
}

/// A new patient of whom the sex is not given has this one.
fn is_unknown_sex(difference: &FieldDifference) -> bool {
    difference.field == "sex" && difference.after == Some(FieldValue::Text(Sex::Unknown.as_str().to_owned()))
}
