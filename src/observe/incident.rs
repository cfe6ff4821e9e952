use super::record;

/// Logs an internal error under a new id, and returns what the client may see of it: the id.
pub fn incident(message: &str) -> String {
    let id = format!("{:016x}", rand::random::<u64>());
    tracing::error!(incident = id, "{message}");
    let shown = format!("internal error {id}: the server's log says more under this id");
    record(|stats| stats.incidents.push(id));
    shown
}
