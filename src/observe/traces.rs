//! OpenTelemetry traces by OTLP (HTTP, protobuf). Off unless a collector is named by the standard's own variables.

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

/// Either switches traces on.
const COLLECTOR: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// How long a batch may take on its way to the collector.
const SENDING: Duration = Duration::from_secs(10);

/// Where spans go; none where no collector is named.
pub(super) fn provider() -> Result<Option<SdkTracerProvider>> {
    let mut named = COLLECTOR.iter().filter_map(|&name| Some((name, said(name)?)));
    let Some((name, collector)) = named.next() else {
        return Ok(None);
    };
    if said("OTEL_SDK_DISABLED").is_some_and(|off| off.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    if !collector.starts_with("http://") {
        return Err(Error::input(
            name,
            "begins with http://: run a collector beside the server, and let it speak TLS",
        ));
    }
    let client = OnTokio {
        runtime: Handle::current(),
        client: Arc::new(HyperClient::with_default_connector(SENDING, None)),
    };
    let exporter = SpanExporter::builder().with_http().with_http_client(client).build();
    let exporter = exporter.map_err(|error| Error::input(name, format!("cannot be used: {error}")))?;
    let mut resource = Resource::builder();
    if said("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("rollcall");
    }
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource.build())
        .build();
    Ok(Some(provider))
}

/// Our own spans. Events stay in the log: an error's text is for this house.
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
            filter_fn(|of| of.is_span() && of.target().starts_with("rollcall")).with_max_level_hint(Level::DEBUG),
        )
}

fn said(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

/// The exporter works on a thread of its own; what it sends goes through the server's runtime.
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
