//! TLS, if a certificate is configured.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{Error, Result};
use crate::secrets::{FileStamp, file_stamp};

/// A certificate with its key, for TLS 1.2 and 1.3.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    /// Modification times of the files when they were read.
    stamps: [Option<FileStamp>; 2],
    config: RustlsConfig,
}

impl Tls {
    /// Reads both from PEM files; the certificate file has the whole chain.
    ///
    /// # Errors
    /// If a file cannot be read, or the key is not the certificate's.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self> {
        Ok(Self {
            stamps: [file_stamp(certificate), file_stamp(key)],
            config: RustlsConfig::from_config(read(certificate, key)?),
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        })
    }

    pub(super) fn acceptor(&self, handshake_timeout: Duration) -> RustlsAcceptor {
        RustlsAcceptor::new(self.config.clone()).handshake_timeout(handshake_timeout)
    }

    /// Reads the files again if one was modified, as happens when a certificate is renewed. While the two do not match, the
    /// previous certificate stays in use.
    pub(super) async fn watch(mut self, interval: Duration) {
        let mut interval = tokio::time::interval(interval);
        loop {
            interval.tick().await;
            let stamps = [file_stamp(&self.certificate), file_stamp(&self.key)];
            if self.stamps == stamps {
                continue;
            }
            self.stamps = stamps;
            match read(&self.certificate, &self.key) {
                Ok(config) => {
                    self.config.reload_from_config(config);
                    tracing::info!("the certificate was read again");
                }
                Err(error) => tracing::warn!("the certificate stays as it is: {}", error.for_operator()),
            }
        }
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let unusable = |argument, path: &Path, error: &dyn std::fmt::Display| {
        Error::input(argument, format!("{} cannot be used: {error}", path.display()))
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unusable("tls-certificate", certificate, &error))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("tls-key", key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Internal(format!("TLS cannot be spoken: {error}")))?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| unusable("tls-certificate", certificate, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
