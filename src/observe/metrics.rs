//! Metrics as Prometheus reads them. No label can be chosen by a client: each is one of few words that stand here, in
//! the schema or in the router.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::RequestStats;

/// How an answer was sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResponseLabels {
    route: String,
    method: &'static str,
    status: u16,
}

/// What became of a GraphQL request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    r#type: &'static str,
    code: &'static str,
    status: u16,
}

/// A root field.
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

/// What a snapshot is looked for by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    Question,
    Id,
}

/// The connections of a pool.
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
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// From a tenth of a millisecond to a request's whole time.
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
                "Requests that run now",
                Gauge::default(),
            ),
            sent: add(
                registry_mut,
                "http_requests",
                "Answers, by route, method and status; 499: the client went away",
                Family::default(),
            ),
            sent_seconds: add(
                registry_mut,
                "graphql_seconds",
                "From a GraphQL request's head to its answer",
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
                "GraphQL requests, by type, first error's code (OK: none) and status",
                Family::default(),
            ),
            refusals: add(
                registry_mut,
                "refusals",
                "Answers with an error of this code",
                Family::default(),
            ),
            field_seconds: add(
                registry_mut,
                "root_field_seconds",
                "GraphQL requests that were executed, by each root field they asked for",
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
                "Statements that the database refused or did not answer",
                Counter::default(),
            ),
            statement_seconds: add(
                registry_mut,
                "database_statement_seconds",
                "A statement, waiting for a connection included",
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
            ledger_bytes: add(
                registry_mut,
                "ledger_bytes",
                "Memory that ledgers take",
                Gauge::default(),
            ),
            ledger_loads: add(
                registry_mut,
                "ledger_loads",
                "Ledgers loaded whole, rather than caught up",
                Counter::default(),
            ),
            ledger_load_seconds: add(registry_mut, "ledger_load_seconds", "A ledger's load", seconds()),
            ledger_catch_up_seconds: add(
                registry_mut,
                "ledger_catch_up_seconds",
                "A ledger's catching up with what changed",
                seconds(),
            ),
            snapshots: add(
                registry_mut,
                "snapshot_lookups",
                "Snapshots looked for in memory, by question or by id",
                Family::default(),
            ),
            snapshot_writes: add(registry_mut, "snapshot_writes", "Snapshots stored", Counter::default()),
            registry,
        }
    }
}

fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

impl Metrics {
    /// A request came in.
    pub fn began(&self) {
        self.in_flight.inc();
    }

    /// A request is answered, or gave up. Route and method are the router's words.
    pub fn ended(&self, route: &str, method: &'static str, status: u16) {
        self.in_flight.dec();
        let route = route.to_owned();
        self.sent.get_or_create(&ResponseLabels { route, method, status }).inc();
    }

    /// Requests that run now.
    #[must_use]
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// A GraphQL request is answered, or gave up.
    pub fn operation(&self, notes: &RequestStats, status: u16, took: Duration) {
        let r#type = notes
            .operation
            .as_ref()
            .map_or("none", |operation| operation.kind.as_str());
        let code = notes.codes.first().map_or("OK", |code| code.as_str());
        self.outcomes
            .get_or_create(&OutcomeLabels { r#type, code, status })
            .inc();
        for code in &notes.codes {
            let code = code.as_str();
            self.refusals.get_or_create(&CodeLabels { code }).inc();
        }
        self.sent_seconds.observe(took.as_secs_f64());
        if notes.executed {
            self.executed.inc();
            let fields = notes.operation.iter().flat_map(|operation| &operation.fields);
            for field in fields.cloned() {
                let field = FieldLabels { r#type, field };
                self.field_seconds.get_or_create(&field).observe(took.as_secs_f64());
            }
        }
    }

    /// The database has answered a statement, or failed to.
    pub fn statement(&self, took: Duration, failed: bool) {
        self.statements.inc();
        self.statement_seconds.observe(took.as_secs_f64());
        if failed {
            self.statement_failures.inc();
        }
    }

    /// A ledger was loaded whole.
    pub fn ledger_loaded(&self, took: Duration) {
        self.ledger_loads.inc();
        self.ledger_load_seconds.observe(took.as_secs_f64());
    }

    /// A ledger has caught up.
    pub fn ledger_caught_up(&self, took: Duration) {
        self.ledger_catch_up_seconds.observe(took.as_secs_f64());
    }

    /// A snapshot was looked for in memory.
    pub fn snapshot_looked_up(&self, by: Lookup, found: bool) {
        let by = match by {
            Lookup::Question => "question",
            Lookup::Id => "id",
        };
        let result = if found { "hit" } else { "miss" };
        self.snapshots.get_or_create(&LookupLabels { by, result }).inc();
    }

    /// A snapshot was stored.
    pub fn snapshot_written(&self) {
        self.snapshot_writes.inc();
    }

    /// All of them as Prometheus reads them, with what stands in memory and in the pools now.
    ///
    /// # Errors
    /// Where they cannot be written.
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
        let mut written = String::new();
        text::encode(&mut written, &self.registry)?;
        Ok(written)
    }
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
