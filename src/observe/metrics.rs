//! Metrics in the OpenMetrics format. Clients cannot choose labels: each value is one of a fixed set, defined here, in the schema or in
//! the router.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::RequestStats;

/// The labels of a response.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResponseLabels {
    route: String,
    method: &'static str,
    status: u16,
}

/// The labels of a GraphQL request by its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    r#type: &'static str,
    code: &'static str,
    status: u16,
}

/// The labels of a root field.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FieldLabels {
    r#type: &'static str,
    field: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookupLabels {
    by: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionLabels {
    pool: &'static str,
    state: &'static str,
}

/// What a snapshot is looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    Question,
    Id,
}

/// The connections of a pool to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    pub name: &'static str,
    pub in_use: u64,
    pub idle: u64,
}

type Timed<L> = Family<L, Histogram, fn() -> Histogram>;

/// All metrics of one server.
pub struct Metrics {
    registry: Registry,
    in_flight: Gauge,
    sent: Family<ResponseLabels, Counter>,
    sent_seconds: Histogram,
    executed: Counter,
    outcomes: Family<OutcomeLabels, Counter>,
    refusals: Family<CodeLabels, Counter>,
    field_seconds: Timed<FieldLabels>,
    statements: Counter,
    statement_failures: Counter,
    statement_seconds: Histogram,
    connections: Family<ConnectionLabels, Gauge>,
    ledgers: Gauge,
    ledger_bytes: Gauge,
    ledger_loads: Counter,
    ledger_load_seconds: Histogram,
    ledger_catch_up_seconds: Histogram,
    snapshots: Family<LookupLabels, Counter>,
    snapshot_writes: Counter,
    live_connections: Gauge,
    live_subscriptions: Gauge,
    live_answers: Counter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Buckets from 0.1 ms to the default request time-out.
fn seconds() -> Histogram {
    Histogram::new([
        0.0001, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0,
    ])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("rollcall");
        let registry_mut = &mut registry;
        let timed = || Family::new_with_constructor(seconds as fn() -> Histogram);
        Self {
            in_flight: add(
                registry_mut,
                "http_requests_in_flight",
                "Requests being processed",
                Gauge::default(),
            ),
            sent: add(
                registry_mut,
                "http_requests",
                "Responses by route, method and status; 499 if the client closed the connection",
                Family::default(),
            ),
            sent_seconds: add(
                registry_mut,
                "graphql_seconds",
                "Time from the headers of a GraphQL request to its response",
                seconds(),
            ),
            executed: add(
                registry_mut,
                "graphql_requests",
                "GraphQL requests that were executed",
                Counter::default(),
            ),
            outcomes: add(
                registry_mut,
                "operations",
                "GraphQL requests by type, code of the first error (OK if none) and status",
                Family::default(),
            ),
            refusals: add(
                registry_mut,
                "refusals",
                "Responses with an error of this code",
                Family::default(),
            ),
            field_seconds: add(
                registry_mut,
                "root_field_seconds",
                "Time of executed GraphQL requests by each root field that they select",
                timed(),
            ),
            statements: add(
                registry_mut,
                "database_statements",
                "Statements sent to the database",
                Counter::default(),
            ),
            statement_failures: add(
                registry_mut,
                "database_failures",
                "Statements that failed",
                Counter::default(),
            ),
            statement_seconds: add(
                registry_mut,
                "database_statement_seconds",
                "Time of a statement, including the wait for a connection",
                seconds(),
            ),
            connections: add(
                registry_mut,
                "database_connections",
                "Connections to the database",
                Family::default(),
            ),
            ledgers: add(
                registry_mut,
                "ledgers",
                "Hospitals whose ledger is in memory",
                Gauge::default(),
            ),
            ledger_bytes: add(registry_mut, "ledger_bytes", "Memory used by ledgers", Gauge::default()),
            ledger_loads: add(
                registry_mut,
                "ledger_loads",
                "Ledgers loaded completely, not caught up",
                Counter::default(),
            ),
            ledger_load_seconds: add(registry_mut, "ledger_load_seconds", "Time to load a ledger", seconds()),
            ledger_catch_up_seconds: add(
                registry_mut,
                "ledger_catch_up_seconds",
                "Time to apply changes to a ledger",
                seconds(),
            ),
            snapshots: add(
                registry_mut,
                "snapshot_lookups",
                "Look-ups of snapshots in memory, by question or by id",
                Family::default(),
            ),
            snapshot_writes: add(registry_mut, "snapshot_writes", "Snapshots stored", Counter::default()),
            live_connections: add(registry_mut, "live_connections", "Open WebSockets", Gauge::default()),
            live_subscriptions: add(
                registry_mut,
                "live_subscriptions",
                "Operations that run over WebSockets, most of them subscriptions",
                Gauge::default(),
            ),
            live_answers: add(
                registry_mut,
                "live_answers",
                "Answers to subscriptions that were executed, each for all equal ones",
                Counter::default(),
            ),
            registry,
        }
    }
}

fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

impl Metrics {
    /// Counts a request that begins.
    pub fn request_started(&self) {
        self.in_flight.inc();
    }

    /// Counts a request that has been answered or was abandoned.
    pub fn request_ended(&self, route: &str, method: &'static str, status: u16) {
        self.in_flight.dec();
        let route = route.to_owned();
        self.sent.get_or_create(&ResponseLabels { route, method, status }).inc();
    }

    /// Requests being processed.
    #[must_use]
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// Counts a GraphQL request that has been answered or was abandoned.
    pub fn operation(&self, stats: &RequestStats, status: u16, took: Duration) {
        let r#type = stats
            .operation
            .as_ref()
            .map_or("none", |operation| operation.kind.as_str());
        let code = stats.codes.first().map_or("OK", |code| code.as_str());
        self.outcomes
            .get_or_create(&OutcomeLabels { r#type, code, status })
            .inc();
        for code in &stats.codes {
            let code = code.as_str();
            self.refusals.get_or_create(&CodeLabels { code }).inc();
        }
        self.sent_seconds.observe(took.as_secs_f64());
        if stats.executed {
            self.executed.inc();
            let fields = stats.operation.iter().flat_map(|operation| &operation.fields);
            for field in fields.cloned() {
                let field = FieldLabels { r#type, field };
                self.field_seconds.get_or_create(&field).observe(took.as_secs_f64());
            }
        }
    }

    /// Counts a statement.
    pub fn statement(&self, took: Duration, failed: bool) {
        self.statements.inc();
        self.statement_seconds.observe(took.as_secs_f64());
        if failed {
            self.statement_failures.inc();
        }
    }

    /// Counts a ledger that was loaded completely.
    pub fn ledger_loaded(&self, took: Duration) {
        self.ledger_loads.inc();
        self.ledger_load_seconds.observe(took.as_secs_f64());
    }

    /// Counts a ledger to which changes were applied.
    pub fn ledger_caught_up(&self, took: Duration) {
        self.ledger_catch_up_seconds.observe(took.as_secs_f64());
    }

    /// Counts a look-up of a snapshot in memory.
    pub fn snapshot_looked_up(&self, by: Lookup, found: bool) {
        let by = match by {
            Lookup::Question => "question",
            Lookup::Id => "id",
        };
        let result = if found { "hit" } else { "miss" };
        self.snapshots.get_or_create(&LookupLabels { by, result }).inc();
    }

    /// Counts a snapshot that was stored in the database.
    pub fn snapshot_written(&self) {
        self.snapshot_writes.inc();
    }

    /// The number of open WebSockets.
    #[must_use]
    pub fn live_connections(&self) -> &Gauge {
        &self.live_connections
    }

    /// The number of operations that run over WebSockets.
    #[must_use]
    pub fn live_subscriptions(&self) -> &Gauge {
        &self.live_subscriptions
    }

    /// Counts an answer to all equal subscriptions.
    pub fn live_answered(&self) {
        self.live_answers.inc();
    }

    /// All metrics as text, with the present values of the gauges.
    ///
    /// # Errors
    /// If encoding fails.
    pub fn text(&self, ledgers: u64, ledger_bytes: u64, pools: &[Pool]) -> Result<String, fmt::Error> {
        self.ledgers.set(gauge(ledgers));
        self.ledger_bytes.set(gauge(ledger_bytes));
        for &Pool {
            name: pool,
            in_use,
            idle,
        } in pools
        {
            for (state, count) in [("in_use", in_use), ("idle", idle)] {
                self.connections
                    .get_or_create(&ConnectionLabels { pool, state })
                    .set(gauge(count));
            }
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
