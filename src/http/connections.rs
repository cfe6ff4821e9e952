//! The connections that are open: how many an address may have, and how long one may stay where nothing goes over it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep};

use super::peer;
use crate::config::Limits;

/// Takes connections.
pub(super) struct Connections {
    listener: TcpListener,
    /// How many an address has; one that has none is not in it.
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
    silence: Duration,
    /// Proxies: many ask through them.
    trusted: Vec<IpNet>,
}

impl Connections {
    pub(super) fn new(listener: TcpListener, trusted: Vec<IpNet>, limits: &Limits) -> Self {
        Self {
            listener,
            open: Arc::default(),
            most: limits.max_connections_per_address,
            silence: limits.connection_idle_timeout(),
            trusted,
        }
    }

    /// A place among those of the address; none where it has too many.
    fn place(&self, peer: IpAddr) -> Option<Place> {
        let address = peer::network(peer.to_canonical());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= self.most && !peer::is_among(&self.trusted, peer.to_canonical()) {
            return None;
        }
        *count += 1;
        Some(Place {
            address,
            open: Arc::clone(&self.open),
        })
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let (stream, peer) = Listener::accept(&mut self.listener).await;
            // The end of an answer does not wait for the client to acknowledge what came before; where that fails, it does.
            let _ = stream.set_nodelay(true);
            // One too many is closed at once.
            if let Some(place) = self.place(peer.ip()) {
                return (Connection::new(stream, place, self.silence), peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One of an address's connections, as long as it is open.
struct Place {
    address: IpAddr,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// A connection that ends where nothing went over it for long.
pub(super) struct Connection {
    stream: TcpStream,
    silence: Duration,
    last: Instant,
    alarm: Pin<Box<Sleep>>,
    _place: Place,
}

impl Connection {
    fn new(stream: TcpStream, place: Place, silence: Duration) -> Self {
        Self {
            stream,
            silence,
            last: Instant::now(),
            alarm: Box::pin(sleep(silence)),
            _place: place,
        }
    }

    /// Ready once it has been silent for too long.
    fn poll_silent(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.alarm.as_mut().poll(task));
            let until = self.last + self.silence;
            if until <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.alarm.as_mut().reset(until);
        }
    }

    fn noted<T>(&mut self, done: Poll<T>) -> Poll<T> {
        if done.is_ready() {
            self.last = Instant::now();
        }
        done
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(task, into);
        match self.noted(read) {
            // The server reads as long as a connection is open, so it is enough to look here.
            Poll::Pending => self.poll_silent(task),
            read @ Poll::Ready(_) => read,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(task, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(task, pieces);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::time::timeout;

    use super::*;

    async fn connections(trusted: &[&str]) -> (Connections, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Connections {
            most: 2,
            silence: Duration::from_millis(50),
            ..Connections::new(
                listener,
                trusted.iter().map(|net| net.parse().unwrap()).collect(),
                &Limits::default(),
            )
        };
        (connections, address)
    }

    #[tokio::test]
    async fn an_address_has_so_many_and_no_more() {
        let (mut connections, address) = connections(&[]).await;
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let (first, _) = connections.accept().await;
        let (_second, _) = connections.accept().await;
        // The third is closed; once one of the others has ended, the next is taken.
        let third = async {
            let patience = Duration::from_secs(60);
            let closed = timeout(patience, clients[2].read(&mut [0; 1])).await.unwrap();
            assert!(!matches!(closed, Ok(1..)));
            drop(first);
            TcpStream::connect(address).await.unwrap()
        };
        let ((_, peer), next) = tokio::join!(connections.accept(), third);
        assert_eq!(peer, next.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_trusted_proxy_has_as_many_as_it_needs() {
        let (mut connections, address) = connections(&["127.0.0.0/8"]).await;
        let mut open = Vec::new();
        for _ in 0..5 {
            open.push((TcpStream::connect(address).await.unwrap(), connections.accept().await));
        }
        drop(open);
        assert!(connections.open.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn one_that_says_nothing_ends() {
        let (mut connections, address) = connections(&[]).await;
        let _client = TcpStream::connect(address).await.unwrap();
        let (mut connection, _) = connections.accept().await;
        let error = connection.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
