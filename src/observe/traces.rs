//! OpenTelemetry traces over OTLP (HTTP, protobuf). Off unless one of the standard's variables names a collector.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::error::{Error, Result};

/// Each of them enables traces.
const ENDPOINT_VARIABLES: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// How long sending a batch to the collector may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// The exporter of spans; none if no collector is configured.
pub(super) fn provider() -> Result<Option<SdkTracerProvider>> {
    let mut endpoints = ENDPOINT_VARIABLES
        .iter()
        .filter_map(|&name| Some((name, variable(name)?)));
    let Some((name, collector)) = endpoints.next() else {
        return Ok(None);
    };
    if variable("OTEL_SDK_DISABLED").is_some_and(|off| off.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    if !collector.starts_with("http://") {
        return Err(Error::input(
            name,
            "must begin with http://: run a collector on this machine, and let it use TLS",
        ));
    }
    let client = OnTokio {
        runtime: Handle::current(),
        client: Arc::new(HyperClient::with_default_connector(SEND_TIMEOUT, None)),
    };
    let exporter = SpanExporter::builder().with_http().with_http_client(client).build();
    let exporter = exporter.map_err(|error| Error::input(name, format!("cannot be used: {error}")))?;
    let mut resource = Resource::builder();
    if variable("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("rollcall");
    }
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build())
        .build();
    Ok(Some(provider))
}

/// Exports Rollcall's own spans. Events stay in the log: texts of errors must not leave the hospital's systems.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("rollcall"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(
            filter_fn(|event| event.is_span() && event.target().starts_with("rollcall"))
                .with_max_level_hint(Level::DEBUG),
        )
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The exporter runs on a thread of its own, and sends through the server's runtime.
#[derive(Debug)]
struct OnTokio {
    runtime: Handle,
    client: Arc<dyn HttpClient>,
}

#[async_trait]
impl HttpClient for OnTokio {
    async fn send_bytes(&self, request: Request<Bytes>) -> std::result::Result<Response<Bytes>, HttpError> {
        let client = Arc::clone(&self.client);
        self.runtime
            .spawn(async move { client.send_bytes(request).await })
            .await?
    }
}
