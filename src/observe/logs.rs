//! The log: text on a terminal, JSON otherwise.

use std::io::IsTerminal as _;

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::traces;
use crate::error::{Error, Result};

/// The filter if `ROLLCALL_LOG` is not set.
const DEFAULT_FILTER: &str = "warn,rollcall=info";

/// The log and the traces of this process.
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

/// Starts the log, configured by `ROLLCALL_LOG` and `ROLLCALL_LOG_FORMAT`, and traces if a collector is configured.
///
/// # Errors
/// If a variable has an invalid value.
pub fn start() -> Result<Telemetry> {
    let terminal = std::io::stderr().is_terminal();
    let json = match std::env::var("ROLLCALL_LOG_FORMAT").as_deref() {
        Ok("json") => true,
        Ok("text") => false,
        Ok("") | Err(_) => !terminal,
        Ok(_) => return Err(Error::input("ROLLCALL_LOG_FORMAT", "must be json or text")),
    };
    let filter = std::env::var("ROLLCALL_LOG").unwrap_or_default();
    let filter = if filter.is_empty() { DEFAULT_FILTER } else { &filter };
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Error::input("ROLLCALL_LOG", format!("is not a filter of tracing: {error}")))?;
    // Whatever the filter says, libraries log warnings and errors only: below that they log statements with their values.
    let safe = filter_fn(|event| event.target().starts_with("rollcall") || *event.level() <= Level::WARN);
    // Without a hint, everything that libraries trace would be evaluated each time.
    let safe = safe.with_max_level_hint(Level::TRACE);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(false).boxed()
    } else {
        lines.with_ansi(terminal).boxed()
    };
    let traces = traces::provider()?;
    let registry = tracing_subscriber::registry().with(lines.with_filter(filter.and(safe)));
    match &traces {
        Some(provider) => registry.with(traces::layer(provider)).init(),
        // Not `Option<Layer>`: with it, spans are created and entered even if it is None.
        None => registry.init(),
    }
    // The default hook prints the panic's message, which may contain a value.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "a panic: this is a bug");
    }));
    Ok(Telemetry { traces })
}

impl Telemetry {
    /// Sends the remaining traces.
    pub async fn finish(self) {
        let Some(traces) = self.traces else { return };
        let sent = tokio::task::spawn_blocking(move || traces.shutdown()).await;
        if !matches!(sent, Ok(Ok(()))) {
            tracing::warn!("the last traces could not be sent to the collector");
        }
    }
}
