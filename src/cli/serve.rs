use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::HeaderValue;
use clap::Args;
use ipnet::IpNet;
use tokio::net::TcpListener;

use super::database::DatabaseArgs;
use super::limits::LimitArgs;
use crate::clock::Clock;
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::jobs::Retention;
use crate::{demo, http};

#[derive(Args)]
pub(super) struct DemoArgs {
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Args)]
struct ServerArgs {
    /// Address and port to listen on
    #[arg(long, env = "ROLLCALL_LISTEN", default_value = "127.0.0.1:8080")]
    listen: String,
    /// Days after which a snapshot that was not requested again expires, unless it is pinned
    #[arg(long, env = "ROLLCALL_SNAPSHOT_DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    snapshot_days: u32,
    /// Days after which audit entries are deleted; never if not given
    #[arg(long, env = "ROLLCALL_AUDIT_DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    audit_days: Option<u32>,
    /// Requests per second allowed for each staff account
    #[arg(long, env = "ROLLCALL_REQUESTS_PER_SECOND", default_value = "10000")]
    requests_per_second: NonZeroU32,
    /// Requests per second allowed for each client address
    #[arg(long, env = "ROLLCALL_REQUESTS_PER_SECOND_PER_ADDRESS", default_value = "20000")]
    requests_per_second_per_address: NonZeroU32,
    /// Addresses or networks (10.0.0.0/8) of proxies whose X-Forwarded-For header is trusted, separated by commas
    #[arg(long, env = "ROLLCALL_TRUSTED_PROXIES", value_delimiter = ',', value_parser = network)]
    trusted_proxies: Vec<IpNet>,
    /// Origins (https://console.example) allowed to read responses (CORS), separated by commas
    #[arg(long, env = "ROLLCALL_CORS_ORIGINS", value_delimiter = ',', value_parser = origin)]
    cors_origins: Vec<HeaderValue>,
    /// PEM file with the certificate chain; the server then uses TLS
    #[arg(long, env = "ROLLCALL_TLS_CERTIFICATE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key
    #[arg(long, env = "ROLLCALL_TLS_KEY", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Bearer token for /metrics; if not given, /metrics is available on this machine only
    #[arg(long, env = "ROLLCALL_METRICS_TOKEN", hide = true)]
    metrics_token: Option<String>,
    #[command(flatten)]
    limits: LimitArgs,
}

impl DemoArgs {
    pub(super) async fn run(self) -> Result<()> {
        let limits = Arc::new(self.server.limits.limits());
        let options = self.server.options(demo::hint(), Arc::clone(&limits))?;
        let (listener, address) = self.server.bind().await?;
        let store = demo::open(Path::new("rollcall-data"), Clock::from_environment(), limits).await?;
        println!("{}", demo::welcome(self.server.scheme(), &address));
        http::serve(listener, store, options).await
    }
}

impl ServeArgs {
    pub(super) async fn run(self) -> Result<()> {
        let limits = Arc::new(self.server.limits.limits());
        let options = self.server.options(serde_json::json!({}), Arc::clone(&limits))?;
        let store = self.database.open_to_serve(limits).await?;
        let (listener, address) = self.server.bind().await?;
        let scheme = self.server.scheme();
        println!("Rollcall serves {scheme}://{address}/graphql and {scheme}://{address}/graphiql");
        http::serve(listener, store, options).await
    }
}

impl ServerArgs {
    fn scheme(&self) -> &'static str {
        match self.tls_certificate {
            Some(_) => "https",
            None => "http",
        }
    }

    fn options(&self, hint: serde_json::Value, limits: Arc<Limits>) -> Result<http::Options> {
        let tls = match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(http::Tls::read(certificate, key)?),
            _ => None,
        };
        Ok(http::Options {
            retention: Retention {
                snapshot_days: self.snapshot_days,
                audit_days: self.audit_days,
            },
            limits,
            hint,
            viewer_rate: self.requests_per_second,
            address_rate: self.requests_per_second_per_address,
            trusted_proxies: self.trusted_proxies.clone(),
            cors_origins: self.cors_origins.clone(),
            tls,
            metrics_token: self.metrics_token.clone(),
        })
    }

    /// The listener, and the address that it is bound to.
    async fn bind(&self) -> Result<(TcpListener, String)> {
        let failed =
            |error: std::io::Error| Error::input("listen", format!("cannot listen on {}: {error}", self.listen));
        let listener = TcpListener::bind(&self.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?.to_string();
        Ok((listener, address))
    }
}

/// Parses a network, or one address.
fn network(text: &str) -> std::result::Result<IpNet, &'static str> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse()
        .or_else(|_| address())
        .map_err(|_| "must be an IP address or a network, such as 10.0.0.0/8")
}

/// Parses an origin as browsers send it: scheme, host and port.
fn origin(text: &str) -> std::result::Result<HeaderValue, &'static str> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let valid = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', '?', '#', '@']));
    let header = valid.then(|| HeaderValue::from_str(text).ok()).flatten();
    header.ok_or("must be an origin, such as https://console.example")
}
