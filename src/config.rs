//! Every limit, in one place.

use std::time::Duration;

/// What Rollcall allows. `docs/operators/limits.md` lists these.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows of a page where neither `first` nor `last` says otherwise.
    pub page_default: usize,
    /// Rows of a page at most.
    pub page_most: usize,
    /// Buckets of a question at most: ten years by DAY.
    pub buckets: usize,
    /// Ids in one list of an argument at most.
    pub ids: usize,
    /// Characters of a search at most.
    pub search: usize,
    /// Characters of a name or number that is sent at most.
    pub line: usize,
    /// Characters of a memo or reason that is sent at most.
    pub text: usize,
    /// Days of a rule of a definition at most.
    pub definition_days: i32,
    /// How long the key of a change is known.
    pub idempotency_key: Duration,
    /// Tokens of a query at most: names, numbers, strings and signs. Counted before it is parsed.
    pub tokens: usize,
    /// Brackets of any kind in one another at most, and selections in one another, fragments spread.
    pub brackets: usize,
    /// Operations and fragments of a document at most.
    pub definitions: usize,
    /// Aliases of a document at most.
    pub aliases: usize,
    /// Directives of a document at most.
    pub directives: usize,
    /// Directives on one field or spread at most.
    pub directives_in_one_place: usize,
    /// Levels of a query at most.
    pub depth: usize,
    /// Fields of a query at most, fragments counted wherever they are spread.
    pub fields: usize,
    /// The estimated cost of a query at most: a field costs 1, times the rows of the pages and the buckets of the question that
    /// it stands under; a question 1,000 more, a list 10 more.
    pub cost: usize,
    /// The estimated cost above which a query waits for its turn: as many at a time as half the
    /// cores.
    pub costly: usize,
    /// Errors of an answer at most; one more says how many were left out.
    pub errors: usize,
    /// Bytes of a response at most.
    pub response: usize,
    /// Memory for documents of queries that passed the guard, in bytes, about; the least used go first.
    pub parsed: u64,
    /// Memory for queries that clients send by their hash, in bytes; the least used go first.
    pub persisted: u64,
    /// Requests that run at a time at most.
    pub concurrent: usize,
    /// Sign-ins that wait for their turn at most; as many at a time as there are cores have their password verified.
    pub sign_ins: usize,
    /// Addresses, viewers and logins of which the requests and failures of late are known at most.
    pub rate_entries: u64,
    /// Connections of an address at most; a trusted proxy has as many as it needs.
    pub connections: usize,
    /// How long a connection may be open without anything going over it: longer than a request may take, and than the minute for
    /// which balancers usually keep one.
    pub silence: Duration,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// Bytes of a request's body at most.
    pub body: usize,
    /// How long a request may take.
    pub request: Duration,
    /// How long the database lets a statement of a request run: a bit longer than the request. Not on SQLite, which has no such
    /// bound.
    pub statement: Duration,
    /// How long a ledger may take to load. The requests that wait for it end before, and the next ones find it.
    pub load: Duration,
    /// Ledgers that load at a time at most, each with a connection of its own: half of those that there are.
    pub loads: usize,
    /// How long the database lets a transaction of the server stand idle: one whose server is gone keeps its locks no longer.
    pub idle_transaction: Duration,
    /// How long a change waits for other changes of its hospital, and any statement of a server for a lock: longer than an import
    /// takes for a batch.
    pub lock: Duration,
    /// How long anything waits for a connection to the database.
    pub connection: Duration,
    /// How long a connection may take to be done with what a request gave up on; one that takes longer makes way
    /// for a new one.
    pub release: Duration,
    /// How long the database may take to say that it is ready.
    pub readiness: Duration,
    /// How long a server that was told to stop takes requests on, while `/readyz` turns balancers away.
    pub notice: Duration,
    /// How long requests in flight have after that. Both together stay below the 30 s after which Kubernetes kills.
    pub drain: Duration,
    /// Memory for what is kept between questions, in MiB, where nothing else is said: see [`Memory`].
    pub memory: u64,
    /// How long a snapshot in memory is taken for one that the database still keeps.
    pub snapshot_trust: Duration,
    /// How long an access token is good.
    pub access_token: Duration,
    /// How long a refresh token is good.
    pub refresh_token: Duration,
    /// How long a used refresh token leads to its successor again, while that is unused: an answer may get lost.
    pub refresh_repeat: Duration,
    /// How often a server looks whether the keys were rotated, or the certificate renewed; far more often than an access token is good.
    pub key_file: Duration,
    /// Departments of a hospital at most, and doctors; retired ones count as well.
    pub places: u32,
    /// Ids in one statement at most: some 20 bytes each, they stay well below what a database takes in one packet.
    pub ids_of_statement: usize,
    /// Changes that the feed keeps behind the newest; a ledger further behind loads anew.
    pub feed: i64,
}

/// The limits in force.
pub const LIMITS: Limits = Limits {
    page_default: 20,
    page_most: 100,
    buckets: 3_660,
    ids: 1_000,
    search: 200,
    line: 255,
    text: 2_000,
    definition_days: 36_500,
    idempotency_key: Duration::from_secs(7 * 24 * 60 * 60),
    tokens: 10_000,
    brackets: 64,
    definitions: 100,
    aliases: 200,
    directives: 200,
    directives_in_one_place: 4,
    depth: 16,
    fields: 20_000,
    cost: 500_000,
    costly: 20_000,
    errors: 100,
    response: 32 << 20,
    parsed: 16 << 20,
    persisted: 8 << 20,
    concurrent: 1_024,
    sign_ins: 256,
    rate_entries: 100_000,
    connections: 512,
    silence: Duration::from_secs(75),
    handshake: Duration::from_secs(10),
    body: 1 << 20,
    request: Duration::from_secs(30),
    statement: Duration::from_secs(35),
    load: Duration::from_secs(10 * 60),
    loads: 4,
    idle_transaction: Duration::from_secs(15),
    lock: Duration::from_secs(10),
    connection: Duration::from_secs(10),
    release: Duration::from_secs(5),
    readiness: Duration::from_secs(2),
    notice: Duration::from_secs(2),
    drain: Duration::from_secs(25),
    memory: 2_816,
    snapshot_trust: Duration::from_secs(60 * 60),
    access_token: Duration::from_secs(15 * 60),
    refresh_token: Duration::from_secs(14 * 24 * 60 * 60),
    refresh_repeat: Duration::from_secs(30),
    key_file: Duration::from_secs(10),
    places: crate::statistics::MAX_DIMENSION_IDS,
    ids_of_statement: 40_000,
    feed: 500_000,
};

/// What may be kept in memory between questions, in bytes. Of each, what was not asked for the longest time goes first.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub ledgers: u64,
    pub snapshots: u64,
    /// Lists cut from snapshots, and their orders.
    pub lists: u64,
}

impl Memory {
    /// So many MiB in all.
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

/// Cores of this machine: what can be worked on at a time.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(bytes % (1 << 20), 0, "a whole number of MiB");
        format!("{} MiB", bytes >> 20)
    }

    fn time(time: Duration) -> String {
        let seconds = time.as_secs();
        let units = [(24 * 60 * 60, "day"), (60 * 60, "hour"), (60, "minute")];
        let unit = units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit));
        match unit {
            Some((unit, name)) => format!("{} {name}{}", seconds / unit, if seconds == unit { "" } else { "s" }),
            None => format!("{seconds} s"),
        }
    }

    /// The rows of the table in the documentation. A new field does not compile here until it has a row.
    #[rustfmt::skip]
    fn rows() -> Vec<(&'static str, String)> {
        let Limits {
            page_default, page_most, buckets, ids, search, line, text, definition_days, idempotency_key, tokens, brackets,
            definitions, aliases, directives, directives_in_one_place, depth, fields, cost, costly, errors, response, parsed,
            persisted, concurrent, sign_ins, rate_entries, connections, silence, handshake, body, request, statement, load,
            loads, idle_transaction, lock, connection, release, readiness, notice, drain, memory, snapshot_trust, access_token,
            refresh_token, refresh_repeat, key_file, places, ids_of_statement, feed,
        } = LIMITS;
        vec![
            ("rows of a page by default", count(page_default)),
            ("rows of a page", count(page_most)),
            ("buckets of a question: ten years by DAY", count(buckets)),
            ("ids in one list of an argument", count(ids)),
            ("characters of a search", count(search)),
            ("characters of a name or number", count(line)),
            ("characters of a memo or reason", count(text)),
            ("days of a rule of the definition", count(definition_days)),
            ("an idempotency key is remembered for", time(idempotency_key)),
            ("tokens of a query", count(tokens)),
            ("nested brackets of a query; nested selections, with fragments spread", count(brackets)),
            ("operations and fragments of a document", count(definitions)),
            ("aliases of a document", count(aliases)),
            ("directives of a document", count(directives)),
            ("directives on one field or fragment spread", count(directives_in_one_place)),
            ("depth of a query", count(depth)),
            ("fields of a query, fragments counted at each spread", count(fields)),
            ("estimated [cost](#cost-of-a-query) of a query", count(cost)),
            ("estimated cost above which queries wait for each other: half as many at a time as there are cores", count(costly)),
            ("errors in a response; one more says how many were left out", count(errors)),
            ("size of a [response](#size-of-a-response)", bytes(response)),
            ("memory for parsed queries", bytes(parsed)),
            ("memory for persisted queries", bytes(persisted)),
            ("requests at a time", count(concurrent)),
            ("sign-ins waiting for their password to be verified; as many are verified at a time as there are cores", count(sign_ins)),
            ("addresses, viewers and logins whose rates and failures are remembered, each", count(rate_entries)),
            ("connections of an address at a time; trusted proxies are exempt", count(connections)),
            ("an idle connection is closed after", time(silence)),
            ("a TLS handshake may take", time(handshake)),
            ("size of a request's body", bytes(body)),
            ("a request may take", time(request)),
            ("a statement of a request may take (PostgreSQL, MariaDB)", time(statement)),
            ("loading a ledger may take", time(load)),
            ("ledgers loading at a time", count(loads)),
            ("a server's transaction may be idle for (PostgreSQL, MariaDB)", time(idle_transaction)),
            ("a mutation waits for other changes of its hospital, and a statement for a lock, for", time(lock)),
            ("waiting for a connection to the database", time(connection)),
            ("a connection has to finish what an aborted request left within", time(release)),
            ("the database has to answer `/readyz` within", time(readiness)),
            ("a stopping server accepts requests for", time(notice)),
            ("and then finishes running requests within", time(drain)),
            ("memory for ledgers, snapshots and lists by default", format!("{} MiB", count(memory))),
            ("a server may open a snapshot from memory after it expired for", time(snapshot_trust)),
            ("an access token is valid for", time(access_token)),
            ("a refresh token is valid for", time(refresh_token)),
            ("a used refresh token can be repeated for", time(refresh_repeat)),
            ("a server looks for rotated keys and a renewed certificate every", time(key_file)),
            ("departments, and doctors, of a hospital, with retired ones", count(places)),
            ("ids in one SQL statement; longer lists are split", count(ids_of_statement)),
            ("changes kept in the change feed of a hospital; a server further behind loads the ledger again", count(feed)),
        ]
    }

    #[test]
    fn each_limit_is_documented() {
        let page = include_str!("../docs/operators/limits.md");
        let table = page.split_once("| limit | value |\n| --- | --- |\n").unwrap().1;
        let documented: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
        let wanted: Vec<String> = rows()
            .iter()
            .map(|(limit, value)| format!("| {limit} | {value} |"))
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
}
