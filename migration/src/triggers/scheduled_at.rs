//! SQLite's triggers that refuse text in `visit.scheduled_at` which is no instant. The other databases have a type for it.

use sea_orm_migration::sea_orm::DbBackend;

/// Name, event, condition. A row that has other text from before may be changed as long as that stays.
const TRIGGERS: [(&str, &str, &str); 2] = [
    ("visit_time_comes", "INSERT", "NEW.scheduled_at IS NOT NULL"),
    (
        "visit_time_changes",
        "UPDATE OF scheduled_at",
        "NEW.scheduled_at IS NOT NULL AND NEW.scheduled_at IS NOT OLD.scheduled_at",
    ),
];

/// Returns a row where the text can be read, by the rules of `entity::scheduled_at`.
const READABLE: &str = "SELECT 1 FROM (SELECT substr(local, 1, 10) AS day, substr(local, 11) AS time FROM (
        SELECT CASE
            WHEN NEW.scheduled_at GLOB '*[Zz]' THEN substr(NEW.scheduled_at, 1, length(NEW.scheduled_at) - 1)
            WHEN NEW.scheduled_at GLOB '*[+-][01][0-9]:[0-5][0-9]' OR NEW.scheduled_at GLOB '*[+-]2[0-3]:[0-5][0-9]'
                THEN substr(NEW.scheduled_at, 1, length(NEW.scheduled_at) - 6)
            ELSE NEW.scheduled_at END AS local))
    WHERE typeof(NEW.scheduled_at) = 'text' AND length(NEW.scheduled_at) = length(CAST(NEW.scheduled_at AS BLOB))
        AND day GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]' AND day = date(day) AND substr(time, 2, 2) < '24'
        AND (time GLOB '[Tt ][0-2][0-9]:[0-5][0-9]' OR time GLOB '[Tt ][0-2][0-9]:[0-5][0-9]:[0-5][0-9]'
            OR substr(time, 1, 10) GLOB '[Tt ][0-2][0-9]:[0-5][0-9]:[0-5][0-9].' AND length(time) BETWEEN 11 AND 19
                AND substr(time, 11) NOT GLOB '*[^0-9]*')";

const MESSAGE: &str = "visit.scheduled_at is an instant such as 2025-05-11T09:30:00+09:00, or without an offset in UTC";

/// Of migration 10; none but on SQLite.
pub(crate) fn create_v10(backend: DbBackend) -> Vec<String> {
    let create = |(name, event, changes): &(&str, &str, &str)| {
        format!(
            "CREATE TRIGGER {name} BEFORE {event} ON visit FOR EACH ROW WHEN {changes} AND NOT EXISTS ({READABLE})
                BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END"
        )
    };
    match backend {
        DbBackend::Sqlite => TRIGGERS.iter().map(create).collect(),
        _ => Vec::new(),
    }
}

/// What reverts it.
pub(crate) fn drop_v10(backend: DbBackend) -> Vec<String> {
    let drop = |(name, ..): &(&str, &str, &str)| format!("DROP TRIGGER IF EXISTS {name}");
    match backend {
        DbBackend::Sqlite => TRIGGERS.iter().map(drop).collect(),
        _ => Vec::new(),
    }
}
