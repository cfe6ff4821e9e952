//! The log: lines for people on a terminal, JSON for whoever collects it.

use std::io::IsTerminal as _;

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::traces;
use crate::error::{Error, Result};

/// What is logged where ROLLCALL_LOG says nothing else.
const USUAL: &str = "warn,rollcall=info";

/// The log and the traces while they run.
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

/// Starts the log as `ROLLCALL_LOG` and `ROLLCALL_LOG_FORMAT` say, and traces where there is a collector for them.
///
/// # Errors
/// Where a variable says what cannot be.
pub fn start() -> Result<Telemetry> {
    let terminal = std::io::stderr().is_terminal();
    let json = match std::env::var("ROLLCALL_LOG_FORMAT").as_deref() {
        Ok("json") => true,
        Ok("text") => false,
        Ok("") | Err(_) => !terminal,
        Ok(_) => return Err(Error::input("ROLLCALL_LOG_FORMAT", "is json or text")),
    };
    let wanted = std::env::var("ROLLCALL_LOG").unwrap_or_default();
    let wanted = if wanted.is_empty() { USUAL } else { &wanted };
    let wanted = EnvFilter::try_new(wanted)
        .map_err(|error| Error::input("ROLLCALL_LOG", format!("is no filter of tracing's: {error}")))?;
    // Whatever is wanted, the libraries below say no more than warnings: what they trace are statements with their values.
    let own = filter_fn(|of| of.target().starts_with("rollcall") || *of.level() <= Level::WARN);
    // Without a hint, all that the libraries trace would be looked at each time.
    let own = own.with_max_level_hint(Level::TRACE);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(false).boxed()
    } else {
        lines.with_ansi(terminal).boxed()
    };
    let traces = traces::provider()?;
    let registry = tracing_subscriber::registry().with(lines.with_filter(wanted.and(own)));
    match &traces {
        Some(provider) => registry.with(traces::layer(provider)).init(),
        // Not a layer that is none: with one, spans that nobody wants are made and entered all the same.
        None => registry.init(),
    }
    // The usual words on standard error would quote what was being worked on.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "a panic: this is a bug");
    }));
    Ok(Telemetry { traces })
}

impl Telemetry {
    /// Sends what traces are left.
    pub async fn finish(self) {
        let Some(traces) = self.traces else { return };
        let sent = tokio::task::spawn_blocking(move || traces.shutdown()).await;
        if !matches!(sent, Ok(Ok(()))) {
            tracing::warn!("the last traces did not reach their collector");
        }
    }
}
