//! The server's connections: how many an address may have, and what ends those of clients that are too slow.
//!
//! The limit per address and the idle time-out are our own code: axum-server bounds the time until a request is read, but not
//! how long a client may leave an answer unread or an HTTP/2 connection idle.

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum_server::Server;
use axum_server::accept::Accept;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep};

use super::peer;
use crate::config::Limits;

/// A server that closes the connection of a client that takes longer than `idle_timeout` to send the head of a request. HTTP/2 has
/// no time-out for that; instead, a client that sent no request for twice as long must answer a ping, which it cannot do within
/// an unfinished head. An idle connection is closed before it would be pinged.
pub(super) fn server(listener: TcpListener, idle_timeout: Duration) -> Server<SocketAddr> {
    let mut server = Server::from_listener(listener).first_request_timeout(idle_timeout);
    let http = server.http_builder();
    http.http1().header_read_timeout(idle_timeout);
    http.http2()
        .keep_alive_interval(2 * idle_timeout)
        .keep_alive_timeout(idle_timeout);
    server
}

/// Accepts connections, up to a limit per client address.
#[derive(Clone)]
pub(super) struct Connections {
    /// Open connections by address; addresses without any are absent.
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
    idle_timeout: Duration,
    /// Proxies, which are not limited: many clients connect through them.
    trusted: Arc<[IpNet]>,
}

impl Connections {
    pub(super) fn new(trusted: &[IpNet], limits: &Limits) -> Self {
        Self {
            open: Arc::default(),
            most: limits.max_connections_per_address,
            idle_timeout: limits.connection_idle_timeout(),
            trusted: trusted.into(),
        }
    }

    /// Counts a connection of the address; none if it has too many.
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

    fn connection(&self, stream: TcpStream) -> io::Result<Connection> {
        // Without Nagle: the end of a response would wait for the client to acknowledge what was sent before.
        stream.set_nodelay(true)?;
        let place = self.place(stream.peer_addr()?.ip());
        // A connection over the limit is closed at once.
        let place = place.ok_or(io::ErrorKind::ConnectionRefused)?;
        Ok(Connection::new(stream, place, self.idle_timeout))
    }
}

impl<S> Accept<TcpStream, S> for Connections {
    type Stream = Connection;
    type Service = S;
    type Future = Ready<io::Result<(Connection, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(self.connection(stream).map(|connection| (connection, service)))
    }
}

/// A counted connection of an address, until it is closed.
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

/// A connection that fails after the idle time-out without a byte read or written.
pub(super) struct Connection {
    stream: TcpStream,
    idle_timeout: Duration,
    last: Instant,
    alarm: Pin<Box<Sleep>>,
    _place: Place,
}

impl Connection {
    fn new(stream: TcpStream, place: Place, idle_timeout: Duration) -> Self {
        Self {
            stream,
            idle_timeout,
            last: Instant::now(),
            alarm: Box::pin(sleep(idle_timeout)),
            _place: place,
        }
    }

    /// Ready once the idle time-out has passed.
    fn poll_silent(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.alarm.as_mut().poll(task));
            let until = self.last + self.idle_timeout;
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
            // The server always has a read pending while a connection is open, so checking here is enough.
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
    use axum::Router;
    use axum_server::Handle;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    struct Listening {
        connections: Connections,
        listener: TcpListener,
        address: SocketAddr,
    }

    impl Listening {
        async fn new(trusted: &[&str]) -> Self {
            let trusted: Vec<_> = trusted.iter().map(|net| net.parse().unwrap()).collect();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            Self {
                connections: Connections {
                    most: 2,
                    idle_timeout: Duration::from_millis(50),
                    ..Connections::new(&trusted, &Limits::default())
                },
                address: listener.local_addr().unwrap(),
                listener,
            }
        }

        async fn connect(&self) -> (TcpStream, io::Result<Connection>) {
            let client = TcpStream::connect(self.address).await.unwrap();
            let (stream, _) = self.listener.accept().await.unwrap();
            (client, self.connections.connection(stream))
        }
    }

    #[tokio::test]
    async fn an_address_has_so_many_and_no_more() {
        let listening = Listening::new(&[]).await;
        let first = listening.connect().await;
        let _second = listening.connect().await;
        let (mut third, refused) = listening.connect().await;
        assert!(refused.is_err());
        let closed = timeout(PATIENCE, third.read(&mut [0; 1])).await.unwrap();
        assert!(!matches!(closed, Ok(1..)));
        // The next connection is accepted once one of the others is closed.
        drop(first);
        assert!(listening.connect().await.1.is_ok());
    }

    #[tokio::test]
    async fn a_trusted_proxy_has_as_many_as_it_needs() {
        let listening = Listening::new(&["127.0.0.0/8"]).await;
        let mut open = Vec::new();
        for _ in 0..5 {
            let (client, connection) = listening.connect().await;
            open.push((client, connection.unwrap()));
        }
        drop(open);
        assert!(listening.connections.open.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn an_idle_connection_ends() {
        let listening = Listening::new(&[]).await;
        let (_client, connection) = listening.connect().await;
        let error = connection.unwrap().read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    /// Sends the beginning at once, and then `x` after `x` while the server keeps the connection open.
    async fn send_slowly(address: SocketAddr, beginning: &[u8]) {
        let (mut receive, mut send) = TcpStream::connect(address).await.unwrap().into_split();
        send.write_all(beginning).await.unwrap();
        let slow = async {
            while send.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let closed = async {
            let mut bytes = [0; 1024];
            while receive.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        };
        let ended = async { tokio::join!(slow, closed) };
        timeout(PATIENCE, ended).await.unwrap();
    }

    #[tokio::test]
    async fn heads_that_come_slowly_end_the_connection() {
        let listening = Listening::new(&[]).await;
        let handle = Handle::new();
        let connections = Connections {
            // The idle time-out is not what closes the connection here.
            idle_timeout: PATIENCE,
            ..listening.connections
        };
        let server = server(listening.listener, Duration::from_millis(200))
            .handle(handle.clone())
            .acceptor(connections);
        let served = tokio::spawn(server.serve(Router::new().into_make_service()));
        let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        // HEADERS of a request on stream 1, and the beginning of 16 KiB of HEADERS on stream 3.
        let stream = b"\0\0\x03\x01\x05\0\0\0\x01\x82\x84\x86";
        let beginning = b"\0\x40\0\x01\x05\0\0\0\x03";
        let heads: [&[&[u8]]; 4] = [
            &[b"GET / HTTP/1.1\r\n"],
            &[request, b"GET / HTTP/1.1\r\n"],
            &[preface, beginning],
            &[preface, stream, beginning],
        ];
        for head in heads {
            send_slowly(listening.address, &head.concat()).await;
        }
        // Too little to tell the version of HTTP.
        let mut client = TcpStream::connect(listening.address).await.unwrap();
        client.write_all(&preface[..5]).await.unwrap();
        timeout(PATIENCE, client.read(&mut [0; 1])).await.unwrap().unwrap();
        handle.graceful_shutdown(None);
        served.await.unwrap().unwrap();
    }
}
