//! TLS, where a certificate is given.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::serve::Listener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::connections::{Connection, Connections};
use crate::error::{Error, Result};
use crate::secrets::{FileStamp, file_stamp};

/// A certificate with its key. TLS 1.2 and 1.3.
pub struct Tls {
    config: Arc<ServerConfig>,
    certificate: Arc<Certificate>,
}

/// What new connections are shown.
#[derive(Debug)]
pub(super) struct Certificate {
    chain: PathBuf,
    key: PathBuf,
    shown: RwLock<Arc<CertifiedKey>>,
    /// Of the files that were read.
    seen: Mutex<[Option<FileStamp>; 2]>,
}

impl Tls {
    /// Reads both from PEM files; the certificate with those that lead to its root.
    ///
    /// # Errors
    /// Where they cannot be read, or don't belong together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self> {
        let certificate = Arc::new(Certificate {
            seen: Mutex::new([file_stamp(certificate), file_stamp(key)]),
            shown: RwLock::new(Arc::new(read(certificate, key)?)),
            chain: certificate.to_owned(),
            key: key.to_owned(),
        });
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Internal(format!("TLS cannot be spoken: {error}")))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificate) as _);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(config),
            certificate,
        })
    }

    pub(super) fn certificate(&self) -> Arc<Certificate> {
        Arc::clone(&self.certificate)
    }
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unusable("tls-certificate", certificate, &error))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable("tls-key", key, &error))?;
    CertifiedKey::from_der(chain, secret, &ring::default_provider())
        .map_err(|error| unusable("tls-certificate", certificate, &error))
}

fn unusable(argument: &str, path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::input(argument, format!("{} cannot be used: {error}", path.display()))
}

impl Certificate {
    /// Reads the files again, where one was written since: certificates are renewed. Between the two they may not belong
    /// together; the old one stays until they do.
    pub(super) fn read_again(&self) {
        let now = [file_stamp(&self.chain), file_stamp(&self.key)];
        {
            let mut before = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *before == now {
                return;
            }
            *before = now;
        }
        match read(&self.chain, &self.key) {
            Ok(new) => {
                *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                tracing::info!("the certificate was read again");
            }
            Err(error) => tracing::warn!("the certificate stays as it is: {}", error.for_operator()),
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.shown.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Connections whose handshake is done: who is slow at that keeps nobody else waiting.
pub(super) struct Handshaken {
    done: mpsc::Receiver<(TlsStream<Connection>, SocketAddr)>,
    address: SocketAddr,
}

impl Handshaken {
    pub(super) fn new(mut connections: Connections, tls: &Tls, handshake_timeout: Duration) -> io::Result<Self> {
        let address = connections.local_addr()?;
        let acceptor = TlsAcceptor::from(Arc::clone(&tls.config));
        let (shaken, done) = mpsc::channel(64);
        tokio::spawn(async move {
            loop {
                let (stream, peer) = tokio::select! {
                    accepted = connections.accept() => accepted,
                    () = shaken.closed() => return,
                };
                let (acceptor, shaken) = (acceptor.clone(), shaken.clone());
                tokio::spawn(async move {
                    if let Ok(Ok(stream)) = timeout(handshake_timeout, acceptor.accept(stream)).await {
                        // Who stopped listening meanwhile takes no more.
                        let _ = shaken.send((stream, peer)).await;
                    }
                });
            }
        });
        Ok(Self { done, address })
    }
}

impl Listener for Handshaken {
    type Io = TlsStream<Connection>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.done.recv().await {
            Some(connection) => connection,
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
