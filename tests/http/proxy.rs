//! A TCP proxy between a server and its database. It can stall, close every connection, refuse new ones, and leave open
//! ones without a response, like a database that is slow, restarting, down, or whose machine has lost power.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

pub struct Proxy {
    /// The database's URL via the proxy.
    pub url: String,
    local: std::net::SocketAddr,
    remote: String,
    state: Arc<watch::Sender<State>>,
    accepting: AbortHandle,
}

/// Which connections are forwarded.
#[derive(Clone, Copy, Default)]
struct State {
    stalled: bool,
    /// The number of connections so far.
    connections: u64,
    /// The first connections, as many as this, are never forwarded again.
    blackholed: u64,
}

impl Proxy {
    /// A proxy for the database of this URL.
    pub async fn in_front_of(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (address, path) = rest.split_once('/').unwrap();
        let (user, remote) = address.rsplit_once('@').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = listener.local_addr().unwrap();
        let state = Arc::new(watch::Sender::new(State::default()));
        Self {
            url: format!("{scheme}://{user}@{local}/{path}"),
            accepting: accept(listener, remote.to_owned(), &state),
            local,
            remote: remote.to_owned(),
            state,
        }
    }

    /// Stops forwarding.
    pub fn stall(&self) {
        self.state.send_modify(|state| state.stalled = true);
    }

    /// Resumes forwarding.
    pub fn resume(&self) {
        self.state.send_modify(|state| state.stalled = false);
    }

    /// Stops forwarding on all open connections for good; new ones work.
    pub fn blackhole(&self) {
        self.state.send_modify(|state| state.blackholed = state.connections);
    }

    /// Closes every connection and refuses new ones.
    pub fn disconnect(&self) {
        self.accepting.abort();
    }

    /// Accepts connections again.
    pub async fn open(&mut self) {
        let listener = loop {
            match TcpListener::bind(self.local).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        };
        self.accepting = accept(listener, self.remote.clone(), &self.state);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.disconnect();
    }
}

/// Connections are closed when the accepting task is aborted.
fn accept(listener: TcpListener, remote: String, state: &Arc<watch::Sender<State>>) -> AbortHandle {
    let state = Arc::clone(state);
    let accept_loop = async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let remote = remote.clone();
            let mut number = 0;
            state.send_modify(|state| {
                number = state.connections;
                state.connections += 1;
            });
            let state = state.subscribe();
            connections.spawn(async move {
                let Ok(database) = TcpStream::connect(remote).await else {
                    return;
                };
                let _ = (client.set_nodelay(true), database.set_nodelay(true));
                let (from_client, to_client) = client.into_split();
                let (from_database, to_database) = database.into_split();
                tokio::select! {
                    () = forward(from_client, to_database, number, state.clone()) => {}
                    () = forward(from_database, to_client, number, state) => {}
                }
            });
        }
    };
    tokio::spawn(accept_loop).abort_handle()
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    number: u64,
    mut state: watch::Receiver<State>,
) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        let is_forwarded = |state: &State| !state.stalled && number >= state.blackholed;
        if state.wait_for(is_forwarded).await.is_err() || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
