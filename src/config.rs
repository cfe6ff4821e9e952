//! Every limit, in one place.

use std::time::Duration;

/// What Rollcall allows. The README lists these under "Limits".
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
    /// Levels of a query at most.
    pub depth: usize,
    /// Fields of a query at most, fragments counted wherever they are spread.
    pub fields: usize,
    /// Directives on one field at most.
    pub directives: usize,
    /// Bytes of a request's body at most.
    pub body: usize,
    /// How long a request may take.
    pub request: Duration,
    /// Memory for ledgers, in bytes; the least recently asked go first.
    pub ledgers: u64,
    /// Memory for snapshots, in bytes; likewise.
    pub snapshots: u64,
    /// Memory for lists cut from snapshots, in bytes; likewise.
    pub lists: u64,
    /// How long an access token is good.
    pub access_token: Duration,
    /// How long a refresh token is good.
    pub refresh_token: Duration,
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
    depth: 16,
    fields: 20_000,
    directives: 16,
    body: 1 << 20,
    request: Duration::from_secs(30),
    ledgers: 2 << 30,
    snapshots: 512 << 20,
    lists: 256 << 20,
    access_token: Duration::from_secs(15 * 60),
    refresh_token: Duration::from_secs(14 * 24 * 60 * 60),
    feed: 500_000,
};
