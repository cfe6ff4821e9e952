//! The limits that operators can set.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;

use crate::config::Limits;

#[derive(Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitArgs {
    /// Memory for the caches of ledgers, snapshots and lists, in MiB
    #[arg(long, env = "ROLLCALL_MEMORY", default_value_t = Limits::default().cache_mebibytes, value_parser = clap::value_parser!(u64).range(1..))]
    memory: u64,
    /// Highest estimated cost of a query
    #[arg(long, env = "ROLLCALL_MAX_QUERY_COST", default_value_t = Limits::default().max_query_cost, value_parser = size(1_000..=1 << 40))]
    max_query_cost: usize,
    /// Largest body of a request, in bytes
    #[arg(long, env = "ROLLCALL_MAX_REQUEST_BYTES", default_value_t = Limits::default().max_request_bytes, value_parser = size(1 << 10..=1 << 30))]
    max_request_bytes: usize,
    /// Largest file that may be uploaded, in bytes
    #[arg(long, env = "ROLLCALL_MAX_UPLOAD_BYTES", default_value_t = Limits::default().max_upload_bytes, value_parser = clap::value_parser!(u64).range(1 << 10..=1 << 32))]
    max_upload_bytes: u64,
    /// Largest body of a response, in bytes
    #[arg(long, env = "ROLLCALL_MAX_RESPONSE_BYTES", default_value_t = Limits::default().max_response_bytes, value_parser = size(1 << 10..=1 << 40))]
    max_response_bytes: usize,
    /// Requests that run at a time; further requests are RATE_LIMITED
    #[arg(long, env = "ROLLCALL_MAX_CONCURRENT_REQUESTS", default_value_t = Limits::default().max_concurrent_requests, value_parser = size(1..=1 << 20))]
    max_concurrent_requests: usize,
    /// Open connections of one client address; further connections are closed. Trusted proxies are not limited
    #[arg(long, env = "ROLLCALL_MAX_CONNECTIONS_PER_ADDRESS", default_value_t = Limits::default().max_connections_per_address, value_parser = size(1..=1 << 20))]
    max_connections_per_address: usize,
    /// Seconds that a request may take. The database ends its statements 5 seconds later
    #[arg(long, env = "ROLLCALL_REQUEST_TIMEOUT", default_value_t = Limits::default().request_timeout.as_secs(), value_parser = clap::value_parser!(u64).range(1..=300))]
    request_timeout: u64,
    /// Seconds that a server which was told to stop gives running requests
    #[arg(long, env = "ROLLCALL_DRAIN_TIMEOUT", default_value_t = Limits::default().drain_timeout.as_secs(), value_parser = clap::value_parser!(u64).range(0..=3_600))]
    drain_timeout: u64,
    /// Connections to the database
    #[arg(long, env = "ROLLCALL_DATABASE_CONNECTIONS", default_value_t = Limits::default().database_connections, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    database_connections: u32,
    /// Minutes that an access token is valid
    #[arg(long, env = "ROLLCALL_ACCESS_TOKEN_MINUTES", default_value_t = Limits::default().access_token_lifetime.as_secs() / 60, value_parser = clap::value_parser!(u64).range(1..=24 * 60))]
    access_token_minutes: u64,
    /// Days that a refresh token is valid
    #[arg(long, env = "ROLLCALL_REFRESH_TOKEN_DAYS", default_value_t = Limits::default().refresh_token_lifetime.as_secs() / DAY, value_parser = clap::value_parser!(u64).range(1..=365))]
    refresh_token_days: u64,
}

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

fn size(range: RangeInclusive<u64>) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(range)
}

impl LimitArgs {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            cache_mebibytes: self.memory,
            max_query_cost: self.max_query_cost,
            max_request_bytes: self.max_request_bytes,
            max_upload_bytes: self.max_upload_bytes,
            max_response_bytes: self.max_response_bytes,
            max_concurrent_requests: self.max_concurrent_requests,
            max_connections_per_address: self.max_connections_per_address,
            request_timeout: Duration::from_secs(self.request_timeout),
            drain_timeout: Duration::from_secs(self.drain_timeout),
            database_connections: self.database_connections,
            access_token_lifetime: Duration::from_secs(self.access_token_minutes * 60),
            refresh_token_lifetime: Duration::from_secs(self.refresh_token_days * DAY),
            ..Limits::default()
        }
    }
}
