//! The limits of a server and their defaults.

use std::time::Duration;

/// What a server allows, and how long it waits. `docs/operators/limits.md` lists all of them.
///
/// Limits that follow from a format or an algorithm are constants beside the code that needs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows of a page if neither `first` nor `last` is given.
    pub default_page_size: usize,
    /// Rows of a page, and ids of `nodes`.
    pub max_page_size: usize,
    /// Visits that `visitsOn` lists of a day.
    pub max_visits_of_day: usize,
    /// Buckets of a statistics question: ten years by DAY.
    pub max_buckets: usize,
    /// Items of a list in a filter.
    pub max_filter_items: usize,
    /// Derivations on one another that a derived list may be.
    pub max_derivations: usize,
    /// Cells of a retention.
    pub max_retention_cells: usize,
    /// Lists of a set.
    pub max_set_lists: usize,
    /// Derived lists that a request makes.
    pub max_derived_lists: usize,
    /// Characters of a search.
    pub max_search_length: usize,
    /// Patients that a search sorts at most; of more, it reads all patients in the list's order until the page is full.
    pub max_sorted_patients: u64,
    /// How long the outcome of a mutation is remembered under its idempotency key.
    pub idempotency_key_lifetime: Duration,

    /// Tokens of a query, counted before it is parsed: names, numbers, strings and punctuation.
    pub max_query_tokens: usize,
    /// Levels of nested brackets of any kind, and of nested selections with fragments spread.
    pub max_query_nesting: usize,
    /// Operations and fragments of a document.
    pub max_query_definitions: usize,
    /// Aliases of a document.
    pub max_query_aliases: usize,
    /// Directives of a document.
    pub max_query_directives: usize,
    /// Directives on one field or fragment spread.
    pub max_directives_per_selection: usize,
    /// Levels of fields of a query.
    pub max_query_depth: usize,
    /// Fields of a query; those of a fragment count wherever it is spread.
    pub max_query_fields: usize,
    /// The estimated cost of a query. A field costs 1, times the rows of the pages and the buckets of the question above it; a
    /// question costs 1,000 more, a list 10 more.
    pub max_query_cost: usize,
    /// The estimated cost above which queries run at most half as many at a time as there are cores.
    pub costly_query: usize,
    /// Errors of a response; one more says how many were left out.
    pub max_errors: usize,
    /// Bytes of a response's body.
    pub max_response_bytes: usize,
    /// Bytes of a request's body.
    pub max_request_bytes: usize,
    /// Bytes of an uploaded file.
    pub max_upload_bytes: u64,
    /// Uploads that run at a time.
    pub max_concurrent_uploads: usize,
    /// Uploaded files of a hospital that are kept at a time, with those whose upload runs.
    pub max_uploads_of_hospital: usize,
    /// How long an upload may take.
    pub upload_timeout: Duration,
    /// How long an uploaded file is kept.
    pub upload_lifetime: Duration,
    /// How long an export can be downloaded.
    pub export_lifetime: Duration,
    /// Exports that are downloaded at a time.
    pub max_concurrent_exports: usize,
    /// Bytes of memory for parsed documents, estimated; the least recently used are evicted.
    pub document_cache_bytes: u64,
    /// Bytes of memory for automatic persisted queries; the least recently used are evicted.
    pub persisted_query_cache_bytes: u64,
    /// MiB of memory for the caches of ledgers, snapshots and lists, see [`Memory`].
    pub cache_mebibytes: u64,
    /// How long a snapshot in memory is used without checking that it has not expired in the database.
    pub snapshot_recheck_interval: Duration,

    /// Requests that run at a time.
    pub max_concurrent_requests: usize,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// Open connections of an address; trusted proxies are not limited.
    pub max_connections_per_address: usize,
    /// How long a TLS handshake may take.
    pub tls_handshake_timeout: Duration,
    /// Sign-ins that wait for their password to be verified; as many passwords are verified at a time as there are cores.
    pub max_waiting_sign_ins: usize,
    /// Addresses, viewers and logins whose requests and failed sign-ins are counted, each.
    pub max_tracked_clients: u64,
    /// How long an access token is valid.
    pub access_token_lifetime: Duration,
    /// How long a refresh token is valid.
    pub refresh_token_lifetime: Duration,
    /// How long a used refresh token leads to its unused successor again: a response may get lost.
    pub refresh_token_reuse_window: Duration,
    /// How often the key file and the certificate are checked for changes; much shorter than access tokens are valid.
    pub file_check_interval: Duration,
    /// How long a server that was told to stop takes further requests, while `/readyz` makes load balancers leave it.
    pub shutdown_notice: Duration,
    /// How long requests in flight have after that. Kubernetes kills a process 30 s after it told it to stop.
    pub drain_timeout: Duration,

    /// Open WebSockets of a server.
    pub max_sockets: usize,
    /// Open WebSockets of a session.
    pub max_sockets_per_session: usize,
    /// Operations that run over a WebSocket at a time: subscriptions, and queries and mutations until they are answered.
    pub max_operations_per_socket: usize,
    /// Bytes of a message that a client sends over a WebSocket.
    pub max_socket_message_bytes: usize,
    /// How long a client may take to send `connection_init`.
    pub live_init_timeout: Duration,
    /// How long a client may take to read a message; it is disconnected then.
    pub live_send_timeout: Duration,
    /// How often a WebSocket is pinged; a client that was not heard of for twice as long is disconnected.
    pub live_ping_interval: Duration,
    /// How often a server looks whether hospitals with subscribers have changed: a bit less than the second within which changes
    /// arrive.
    pub live_interval: Duration,
    /// How long a snapshot is kept that only subscriptions have shown.
    pub live_snapshot_lifetime: Duration,

    /// Connections to the database of one process; SQLite has one more, which writes.
    pub database_connections: u32,
    /// How long anything waits for a connection to the database.
    pub database_connect_timeout: Duration,
    /// How long a connection may take to finish what an abandoned request had sent; then it is replaced.
    pub connection_release_timeout: Duration,
    /// How long a transaction of a server may stand idle in the database: locks of a server that is gone end then.
    pub idle_transaction_timeout: Duration,
    /// How long a change waits for other changes of its hospital, and then for a lock of the database: longer than an import needs
    /// for a batch.
    pub lock_timeout: Duration,
    /// How long the database may take to answer that it is ready.
    pub readiness_timeout: Duration,
    /// How long loading a ledger may take; requests that wait for it end earlier, and later ones find it.
    pub ledger_load_timeout: Duration,
    /// Changes of a hospital that the feed keeps; a ledger that is further behind is loaded again.
    pub max_feed_changes: i64,
}

impl Default for Limits {
    fn default() -> Self {
        const SECOND: Duration = Duration::from_secs(1);
        const MINUTE: Duration = Duration::from_secs(60);
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            default_page_size: 20,
            max_page_size: 100,
            max_visits_of_day: 2_000,
            max_buckets: 3_660,
            max_filter_items: 1_000,
            max_derivations: 4,
            max_retention_cells: 2_000,
            max_set_lists: 50,
            max_derived_lists: 500,
            max_search_length: 200,
            max_sorted_patients: 4_000,
            idempotency_key_lifetime: 7 * DAY,

            max_query_tokens: 10_000,
            max_query_nesting: 64,
            max_query_definitions: 100,
            max_query_aliases: 200,
            max_query_directives: 200,
            max_directives_per_selection: 4,
            max_query_depth: 16,
            max_query_fields: 20_000,
            max_query_cost: 500_000,
            costly_query: 20_000,
            max_errors: 100,
            max_response_bytes: 32 << 20,
            max_request_bytes: 1 << 20,
            max_upload_bytes: 256 << 20,
            max_concurrent_uploads: 32,
            max_uploads_of_hospital: 8,
            upload_timeout: 10 * MINUTE,
            upload_lifetime: 60 * MINUTE,
            export_lifetime: 10 * MINUTE,
            max_concurrent_exports: 8,
            document_cache_bytes: 16 << 20,
            persisted_query_cache_bytes: 8 << 20,
            cache_mebibytes: 2_816,
            snapshot_recheck_interval: 60 * MINUTE,

            max_concurrent_requests: 1_024,
            request_timeout: 30 * SECOND,
            max_connections_per_address: 512,
            tls_handshake_timeout: 10 * SECOND,
            max_waiting_sign_ins: 256,
            max_tracked_clients: 100_000,
            access_token_lifetime: 15 * MINUTE,
            refresh_token_lifetime: 14 * DAY,
            refresh_token_reuse_window: 30 * SECOND,
            file_check_interval: 10 * SECOND,
            shutdown_notice: 2 * SECOND,
            drain_timeout: 25 * SECOND,

            max_sockets: 10_000,
            max_sockets_per_session: 32,
            max_operations_per_socket: 64,
            max_socket_message_bytes: 256 << 10,
            live_init_timeout: 10 * SECOND,
            live_send_timeout: 10 * SECOND,
            live_ping_interval: 25 * SECOND,
            live_interval: Duration::from_millis(800),
            live_snapshot_lifetime: 60 * MINUTE,

            database_connections: 8,
            database_connect_timeout: 10 * SECOND,
            connection_release_timeout: 5 * SECOND,
            idle_transaction_timeout: 15 * SECOND,
            lock_timeout: 10 * SECOND,
            readiness_timeout: 2 * SECOND,
            ledger_load_timeout: 10 * MINUTE,
            max_feed_changes: 500_000,
        }
    }
}

impl Limits {
    /// How long PostgreSQL and MariaDB run a statement of a request: a bit longer than the request may take.
    #[must_use]
    pub fn statement_timeout(&self) -> Duration {
        self.request_timeout + Duration::from_secs(5)
    }

    /// How long a connection may be open without traffic, and how long the head of a request may take: longer than a request may
    /// take, and than the minute for which load balancers usually keep a connection.
    #[must_use]
    pub fn connection_idle_timeout(&self) -> Duration {
        self.request_timeout.max(Duration::from_secs(30)) + Duration::from_secs(45)
    }

    /// Ledgers that load at a time, each over a connection to the database of its own: half of the connections.
    #[must_use]
    pub fn max_concurrent_loads(&self) -> usize {
        (self.database_connections as usize / 2).max(1)
    }

    /// Connections to the database that wait for locks at a time: half of the connections.
    #[must_use]
    pub fn max_waiting_writers(&self) -> usize {
        (self.database_connections as usize / 2).max(1)
    }
}

/// Memory for the caches, in bytes. Each evicts what was not used for the longest time.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub ledgers: u64,
    pub snapshots: u64,
    /// Lists of snapshots, and their orders.
    pub lists: u64,
}

impl Memory {
    /// Divides so many MiB.
    #[must_use]
    pub const fn of(mebibytes: u64) -> Self {
        let part = mebibytes.saturating_mul(1 << 20) / 11;
        Self {
            ledgers: 8 * part,
            snapshots: 2 * part,
            lists: part,
        }
    }
}

/// Cores of this machine.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{Definition, MAX_DIMENSION_IDS};
    use crate::store::{IDS_PER_STATEMENT, MAX_CANDIDATES, MAX_DUPLICATES, MAX_LEADING_ZEROS};
    use crate::text::{MAX_NAME_LENGTH, MAX_NAME_WORDS, MAX_SUFFIX_LENGTH, MAX_TEXT_LENGTH};

    fn count(number: impl TryInto<u64>) -> String {
        let digits = number.try_into().unwrap_or_default().to_string();
        let groups: Vec<&str> = digits
            .as_bytes()
            .rchunks(3)
            .rev()
            .map(|group| str::from_utf8(group).unwrap())
            .collect();
        groups.join(",")
    }

    fn bytes(bytes: impl TryInto<u64>) -> String {
        let bytes = bytes.try_into().unwrap_or_default();
        assert_eq!(bytes % (1 << 10), 0, "a whole number of KiB");
        match bytes % (1 << 20) {
            0 => format!("{} MiB", bytes >> 20),
            _ => format!("{} KiB", bytes >> 10),
        }
    }

    fn time(time: Duration) -> String {
        let seconds = time.as_secs();
        if time.subsec_millis() > 0 {
            return format!("{} s", time.as_secs_f64());
        }
        let units = [(24 * 60 * 60, "day"), (60 * 60, "hour"), (60, "minute")];
        let unit = units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit));
        match unit {
            Some((unit, name)) => format!("{} {name}{}", seconds / unit, if seconds == unit { "" } else { "s" }),
            None => format!("{seconds} s"),
        }
    }

    /// The rows of the table in the documentation: the limit, its default and the flag that sets it. A new field does not compile here
    /// until it has a row.
    #[rustfmt::skip]
    fn rows() -> Vec<(&'static str, String, &'static str)> {
        let limits = Limits::default();
        let Limits {
            default_page_size, max_page_size, max_visits_of_day, max_buckets, max_filter_items, max_derivations,
            max_retention_cells, max_set_lists, max_derived_lists, max_search_length, max_sorted_patients,
            idempotency_key_lifetime, max_query_tokens, max_query_nesting, max_query_definitions, max_query_aliases,
            max_query_directives, max_directives_per_selection, max_query_depth, max_query_fields, max_query_cost,
            costly_query, max_errors, max_response_bytes, max_request_bytes, max_upload_bytes, max_concurrent_uploads,
            max_uploads_of_hospital, upload_timeout, upload_lifetime, export_lifetime, max_concurrent_exports,
            document_cache_bytes,
            persisted_query_cache_bytes, cache_mebibytes, snapshot_recheck_interval, max_concurrent_requests,
            request_timeout, max_connections_per_address, tls_handshake_timeout, max_waiting_sign_ins,
            max_tracked_clients, access_token_lifetime, refresh_token_lifetime, refresh_token_reuse_window,
            file_check_interval, shutdown_notice, drain_timeout, database_connections, database_connect_timeout,
            connection_release_timeout, idle_transaction_timeout, lock_timeout, readiness_timeout,
            ledger_load_timeout, max_feed_changes, max_sockets, max_sockets_per_session, max_operations_per_socket,
            max_socket_message_bytes, live_init_timeout, live_send_timeout, live_ping_interval, live_interval,
            live_snapshot_lifetime,
        } = limits;
        vec![
            ("rows of a page by default", count(default_page_size), ""),
            ("rows of a page", count(max_page_size), ""),
            ("visits of a day in `visitsOn`", count(max_visits_of_day), ""),
            ("buckets of a question: ten years by DAY", count(max_buckets), ""),
            ("ids in one list of an argument", count(max_filter_items), ""),
            ("derivations on one another that a derived list may be", count(max_derivations), ""),
            ("cells of a retention: units of the range, times one more than the horizon", count(max_retention_cells), ""),
            ("lists of a set", count(max_set_lists), ""),
            ("derived lists that a request makes", count(max_derived_lists), ""),
            ("characters of a search", count(max_search_length), ""),
            ("matches of a search up to which they are sorted; among more, a page is found in the list's order", count(max_sorted_patients), ""),
            ("words of a name that search finds it by", count(MAX_NAME_WORDS), ""),
            ("characters of a name from the start of a word on that search compares", count(MAX_SUFFIX_LENGTH), ""),
            ("leading zeros of a chart number that search leaves out", count(MAX_LEADING_ZEROS), ""),
            ("possible duplicates of a patient", count(MAX_DUPLICATES), ""),
            ("patients with the same phone, last four digits, or name and birth date who are compared to find duplicates", count(MAX_CANDIDATES), ""),
            ("characters of a name or number", count(MAX_NAME_LENGTH), ""),
            ("characters of a memo or reason", count(MAX_TEXT_LENGTH), ""),
            ("days of a rule of the definition", count(Definition::MAX_DAYS), ""),
            ("an idempotency key is remembered for", time(idempotency_key_lifetime), ""),
            ("tokens of a query", count(max_query_tokens), ""),
            ("nested brackets of a query; nested selections, with fragments spread", count(max_query_nesting), ""),
            ("operations and fragments of a document", count(max_query_definitions), ""),
            ("aliases of a document", count(max_query_aliases), ""),
            ("directives of a document", count(max_query_directives), ""),
            ("directives on one field or fragment spread", count(max_directives_per_selection), ""),
            ("depth of a query", count(max_query_depth), ""),
            ("fields of a query, fragments counted at each spread", count(max_query_fields), ""),
            ("estimated [cost](#cost-of-a-query) of a query", count(max_query_cost), "--max-query-cost"),
            ("estimated cost above which queries wait for each other: half as many at a time as there are cores", count(costly_query), ""),
            ("errors in a response; one more says how many were left out", count(max_errors), ""),
            ("size of a [response](#size-of-a-response)", bytes(max_response_bytes), "--max-response-bytes"),
            ("memory for parsed queries", bytes(document_cache_bytes), ""),
            ("memory for persisted queries", bytes(persisted_query_cache_bytes), ""),
            ("requests at a time", count(max_concurrent_requests), "--max-concurrent-requests"),
            ("sign-ins waiting for their password to be verified; as many are verified at a time as there are cores", count(max_waiting_sign_ins), ""),
            ("addresses, viewers and logins whose rates and failures are remembered, each", count(max_tracked_clients), ""),
            ("connections of an address at a time; trusted proxies are exempt", count(max_connections_per_address), "--max-connections-per-address"),
            ("a connection is closed when idle, or without the whole head of a request, for", time(limits.connection_idle_timeout()), ""),
            ("a TLS handshake may take", time(tls_handshake_timeout), ""),
            ("size of a request's body", bytes(max_request_bytes), "--max-request-bytes"),
            ("a request may take", time(request_timeout), "--request-timeout"),
            ("size of an [uploaded file](#uploaded-files)", bytes(max_upload_bytes), "--max-upload-bytes"),
            ("uploads at a time", count(max_concurrent_uploads), ""),
            ("uploaded files of a hospital at a time, with those whose upload runs", count(max_uploads_of_hospital), ""),
            ("an upload may take", time(upload_timeout), ""),
            ("an uploaded file is kept for", time(upload_lifetime), ""),
            ("an [export](../console/exports.md) can be downloaded for", time(export_lifetime), ""),
            ("exports that are downloaded at a time", count(max_concurrent_exports), ""),
            ("rows of an XLSX file below its header", count(crate::export::MAX_SHEET_ROWS), ""),
            ("[WebSockets](../console/live.md) of a server", count(max_sockets), ""),
            ("WebSockets of a session", count(max_sockets_per_session), ""),
            ("operations of a WebSocket at a time", count(max_operations_per_socket), ""),
            ("size of a message that a client sends over a WebSocket", bytes(max_socket_message_bytes), ""),
            ("a WebSocket's client has to send `connection_init` within", time(live_init_timeout), ""),
            ("a WebSocket's client has to read a message within", time(live_send_timeout), ""),
            ("a WebSocket is pinged every; a client that is silent for twice as long is disconnected", time(live_ping_interval), ""),
            ("a server looks for changes of hospitals with subscribers every", time(live_interval), ""),
            ("a snapshot that only subscriptions have shown is kept for", time(live_snapshot_lifetime), ""),
            ("a statement of a request may take (PostgreSQL, MariaDB)", time(limits.statement_timeout()), ""),
            ("loading a ledger may take", time(ledger_load_timeout), ""),
            ("ledgers loading at a time", count(limits.max_concurrent_loads()), ""),
            ("a server's transaction may be idle for (PostgreSQL, MariaDB)", time(idle_transaction_timeout), ""),
            ("a mutation waits for other changes of its hospital, and a statement for a lock, for", time(lock_timeout), ""),
            ("waiting for a connection to the database", time(database_connect_timeout), ""),
            ("a connection has to finish what an aborted request left within", time(connection_release_timeout), ""),
            ("the database has to answer `/readyz` within", time(readiness_timeout), ""),
            ("a stopping server accepts requests for", time(shutdown_notice), ""),
            ("and then finishes running requests within", time(drain_timeout), "--drain-timeout"),
            ("connections of a server to the database; SQLite has one more", count(database_connections), "--database-connections"),
            ("memory for ledgers, snapshots and lists by default", format!("{} MiB", count(cache_mebibytes)), "--memory"),
            ("a server may open a snapshot from memory after it expired for", time(snapshot_recheck_interval), ""),
            ("an access token is valid for", time(access_token_lifetime), "--access-token-minutes"),
            ("a refresh token is valid for", time(refresh_token_lifetime), "--refresh-token-days"),
            ("a used refresh token can be repeated for", time(refresh_token_reuse_window), ""),
            ("a server looks for rotated keys and a renewed certificate every", time(file_check_interval), ""),
            ("entries of a recall list that one claim takes", count(scheduling::MAX_CLAIMED.unsigned_abs()), ""),
            ("a claim of entries lasts", time(Duration::from_secs(60 * scheduling::CLAIM_MINUTES.unsigned_abs())), ""),
            ("departments, and doctors, of a hospital, with retired ones", count(MAX_DIMENSION_IDS), ""),
            ("ids in one SQL statement; longer lists are split", count(IDS_PER_STATEMENT), ""),
            ("changes kept in the change feed of a hospital; a server further behind loads the ledger again", count(max_feed_changes), ""),
        ]
    }

    #[test]
    fn each_limit_is_documented() {
        let page = include_str!("../docs/operators/limits.md");
        let table = page
            .split_once("| limit | default | flag |\n| --- | --- | --- |\n")
            .unwrap()
            .1;
        let documented: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
        let wanted: Vec<String> = rows()
            .iter()
            .map(|(limit, value, flag)| match *flag {
                "" => format!("| {limit} | {value} | |"),
                flag => format!("| {limit} | {value} | `{flag}` |"),
            })
            .collect();
        for row in &wanted {
            assert!(
                documented.contains(&row.as_str()),
                "docs/operators/limits.md, first table: add the row\n{row}"
            );
        }
        for row in documented {
            assert!(
                wanted.iter().any(|wanted| wanted == row),
                "docs/operators/limits.md: no limit in src/config.rs is\n{row}"
            );
        }
    }

    #[test]
    fn each_flag_exists() {
        let command = crate::cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        let flags: Vec<&str> = serve.get_arguments().filter_map(clap::Arg::get_long).collect();
        for (limit, _, flag) in rows() {
            assert!(
                flag.is_empty() || flags.contains(&flag.trim_start_matches("--")),
                "{limit}: {flag}"
            );
        }
    }
}
