//! Keyset pagination: a page of rows after or before a row, found by that row's sort key and id instead of an offset.

use super::sql::Sql;

/// Which page of a sorted list to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Keyset<K> {
    /// Whether keys descend. Nulls are last and ties ascend by id in either direction.
    pub descending: bool,
    /// The key and id of the row before the page; with `backwards` of the row after it. None: the page is at the list's end.
    pub from: Option<(K, i64)>,
    /// Whether the page ends at `from`, or is the last one, instead of beginning there.
    pub backwards: bool,
    /// The largest number of rows.
    pub limit: u64,
}

/// An `ORDER BY` list: by an expression, nulls last in either direction, then by id. `backwards` reverses all of it. An
/// expression that is not `nullable` may be ordered by an index; not by MariaDB and SQLite if it descends, because of the ids.
pub(super) fn order_sql(expression: &str, nullable: bool, id: &str, descending: bool, backwards: bool) -> String {
    let direction = |descending: bool| if descending == backwards { "ASC" } else { "DESC" };
    let (key, ties) = (direction(descending), direction(false));
    let nulls = if nullable {
        format!("CASE WHEN {expression} IS NULL THEN 1 ELSE 0 END {ties}, ")
    } else {
        String::new()
    };
    format!("{nulls}{expression} {key}, {id} {ties}")
}

/// Adds the conditions, order and limit of a page to a statement that ends in a `WHERE` clause. `bind` adds a key to the
/// statement as a value of the expression's type. With `backwards` the rows come in reverse.
pub(super) fn seek_sql(
    sql: &mut Sql,
    expression: &str,
    nullable: bool,
    id: &str,
    seek: &Keyset<Option<String>>,
    bind: impl Fn(&mut Sql, &str),
) {
    seek_conditions_sql(sql, expression, nullable, id, seek, bind);
    sql.push(" ORDER BY ")
        .push(&order_sql(expression, nullable, id, seek.descending, seek.backwards));
    // As text: with a bound limit PostgreSQL does not know its value and makes a new plan each time.
    sql.push(&format!(" LIMIT {}", seek.limit));
}

/// Adds the conditions alone.
pub(super) fn seek_conditions_sql(
    sql: &mut Sql,
    expression: &str,
    nullable: bool,
    id: &str,
    seek: &Keyset<Option<String>>,
    bind: impl Fn(&mut Sql, &str),
) {
    if let Some((key, from)) = &seek.from {
        let past_key = if seek.descending == seek.backwards { ">" } else { "<" };
        let past_id = if seek.backwards { "<" } else { ">" };
        match key {
            Some(key) if nullable => {
                sql.push(&format!(" AND ({expression} {past_key} "));
                bind(sql, key);
                sql.push(&format!(" OR ({expression} = "));
                bind(sql, key);
                sql.push(&format!(" AND {id} {past_id} ")).bind(*from).push(")");
                if !seek.backwards {
                    sql.push(&format!(" OR {expression} IS NULL"));
                }
                sql.push(")");
            }
            Some(key) => {
                // The first of the two conditions alone, so that an index can be searched for it.
                sql.push(&format!(" AND {expression} {past_key}= "));
                bind(sql, key);
                sql.push(&format!(" AND ({expression} {past_key} "));
                bind(sql, key);
                sql.push(&format!(" OR {id} {past_id} ")).bind(*from).push(")");
            }
            None => {
                sql.push(&format!(" AND (({expression} IS NULL AND {id} {past_id} "))
                    .bind(*from)
                    .push(")");
                if seek.backwards {
                    sql.push(&format!(" OR {expression} IS NOT NULL"));
                }
                sql.push(")");
            }
        }
    }
}

/// Adds the conditions, order and limit of a page by id, or another column of numbers, to a statement that ends in a `WHERE` clause. With
/// `backwards` the rows come in reverse.
pub(super) fn seek_by_id_sql(sql: &mut Sql, id: &str, seek: &Keyset<Option<String>>) {
    let upwards = seek.descending == seek.backwards;
    let (past, direction) = if upwards { (">", "ASC") } else { ("<", "DESC") };
    if let Some((_, from)) = &seek.from {
        sql.push(&format!(" AND {id} {past} ")).bind(*from);
    }
    sql.push(&format!(" ORDER BY {id} {direction} LIMIT {}", seek.limit));
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbBackend};

    use super::*;

    type Row = (Option<String>, i64);

    fn row(key: &str, id: i64) -> Row {
        ((!key.is_empty()).then(|| key.to_owned()), id)
    }

    /// Keys with ties, and rows without a key; in no order.
    fn rows() -> Vec<Row> {
        [
            ("b", 4),
            ("", 2),
            ("a", 9),
            ("b", 1),
            ("c", 3),
            ("", 8),
            ("a", 5),
            ("b", 7),
            ("", 6),
        ]
        .map(|(key, id)| row(key, id))
        .to_vec()
    }

    /// Cursors of the rows, and of rows that were deleted since.
    fn cursors(rows: &[Row]) -> Vec<Row> {
        let deleted = [
            ("a", 1),
            ("a", 99),
            ("aa", 5),
            ("b", 5),
            ("", 0),
            ("", 7),
            ("", 99),
            ("z", 1),
            ("A", 1),
        ];
        let deleted = deleted.map(|(key, id)| row(key, id));
        rows.iter().cloned().chain(deleted).collect()
    }

    /// The order that the SQL must have.
    fn compare(one: &Row, other: &Row, descending: bool) -> Ordering {
        let keys = match (&one.0, &other.0) {
            (Some(one), Some(other)) if descending => other.cmp(one),
            (Some(one), Some(other)) => one.cmp(other),
            (one, other) => one.is_none().cmp(&other.is_none()),
        };
        keys.then(one.1.cmp(&other.1))
    }

    /// The page by sorting and cutting all rows in memory.
    fn expected(rows: &[Row], seek: &Keyset<Option<String>>) -> Vec<Row> {
        let mut sorted = rows.to_vec();
        sorted.sort_by(|one, other| compare(one, other, seek.descending));
        let past = if seek.backwards {
            Ordering::Less
        } else {
            Ordering::Greater
        };
        sorted.retain(|row| {
            let from = seek.from.as_ref();
            from.is_none_or(|from| compare(row, from, seek.descending) == past)
        });
        let limit = usize::try_from(seek.limit).unwrap();
        if seek.backwards {
            sorted.drain(..sorted.len().saturating_sub(limit));
        } else {
            sorted.truncate(limit);
        }
        sorted
    }

    async fn table(rows: &[Row]) -> DatabaseConnection {
        let mut options = ConnectOptions::new("sqlite::memory:");
        options.max_connections(1).sqlx_logging(false);
        let database = Database::connect(options).await.unwrap();
        let create = "CREATE TABLE list (id INTEGER PRIMARY KEY, name TEXT)";
        database.execute_unprepared(create).await.unwrap();
        for (key, id) in rows {
            let mut sql = Sql::new(DbBackend::Sqlite, "INSERT INTO list (id, name) VALUES (");
            sql.bind(*id).push(", ").bind(key.clone()).push(")");
            database.execute_raw(sql.done()).await.unwrap();
        }
        database
    }

    async fn page(database: &DatabaseConnection, nullable: bool, seek: &Keyset<Option<String>>) -> Vec<Row> {
        let mut sql = Sql::new(DbBackend::Sqlite, "SELECT name, id FROM list WHERE 1 = 1");
        seek_sql(&mut sql, "name", nullable, "id", seek, |sql, key| {
            sql.bind(key);
        });
        let found = database.query_all_raw(sql.done()).await.unwrap();
        let row = |row: &sea_orm::QueryResult| (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap());
        let mut rows: Vec<Row> = found.iter().map(row).collect();
        if seek.backwards {
            rows.reverse();
        }
        rows
    }

    /// Compares the pages of every order, direction, limit and cursor.
    async fn check(rows: &[Row], cursors: &[Row], nullable: bool) {
        let database = table(rows).await;
        for (descending, backwards) in [(false, false), (false, true), (true, false), (true, true)] {
            for from in std::iter::once(None).chain(cursors.iter().cloned().map(Some)) {
                for limit in 0..=rows.len() as u64 + 1 {
                    let seek = Keyset {
                        descending,
                        from: from.clone(),
                        backwards,
                        limit,
                    };
                    assert_eq!(
                        page(&database, nullable, &seek).await,
                        expected(rows, &seek),
                        "{seek:?}"
                    );
                }
            }
        }
        database.close().await.unwrap();
    }

    #[tokio::test]
    async fn pages_with_nulls_are_those_of_a_sort_in_memory() {
        check(&rows(), &cursors(&rows()), true).await;
    }

    #[tokio::test]
    async fn pages_without_nulls_are_those_of_a_sort_in_memory() {
        let has_key = |row: &Row| row.0.is_some();
        let rows: Vec<Row> = rows().into_iter().filter(has_key).collect();
        let cursors: Vec<Row> = cursors(&rows).into_iter().filter(has_key).collect();
        check(&rows, &cursors, false).await;
        check(&rows, &cursors, true).await;
    }

    #[test]
    fn an_order_of_keys_that_are_never_null_can_follow_an_index() {
        assert_eq!(order_sql("v.date", false, "v.id", true, false), "v.date DESC, v.id ASC");
        assert_eq!(order_sql("v.date", false, "v.id", true, true), "v.date ASC, v.id DESC");
        let nulls_last = "CASE WHEN p.name IS NULL THEN 1 ELSE 0 END ASC, p.name DESC, p.id ASC";
        assert_eq!(order_sql("p.name", true, "p.id", true, false), nulls_last);
    }
}
