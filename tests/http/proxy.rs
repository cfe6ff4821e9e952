//! What stands between a server and its database: it can stall, cut every connection, refuse new ones, and leave those that
//! are open without an answer for good. That is what a slow database looks like, one that is started again, one that is
//! gone, and one whose machine has lost its power.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

pub struct Proxy {
    /// The database's URL by way of the proxy.
    pub url: String,
    here: std::net::SocketAddr,
    there: String,
    state: Arc<watch::Sender<State>>,
    accepting: AbortHandle,
}

/// Whether it passes anything on.
#[derive(Clone, Copy, Default)]
struct State {
    stalled: bool,
    /// Connections so far.
    connections: u64,
    /// As many of them, the first, are never answered again.
    stranded: u64,
}

impl Proxy {
    /// Before the database of this URL.
    pub async fn before(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (address, path) = rest.split_once('/').unwrap();
        let (user, there) = address.rsplit_once('@').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let state = Arc::new(watch::Sender::new(State::default()));
        Self {
            url: format!("{scheme}://{user}@{here}/{path}"),
            accepting: accept(listener, there.to_owned(), &state),
            here,
            there: there.to_owned(),
            state,
        }
    }

    /// Passes nothing on from now.
    pub fn stall(&self) {
        self.state.send_modify(|state| state.stalled = true);
    }

    /// Passes everything on again.
    pub fn resume(&self) {
        self.state.send_modify(|state| state.stalled = false);
    }

    /// Leaves every connection that is open without an answer, for good; new ones are as good as ever.
    pub fn strand(&self) {
        self.state.send_modify(|state| state.stranded = state.connections);
    }

    /// Cuts every connection and refuses new ones.
    pub fn cut(&self) {
        self.accepting.abort();
    }

    /// Takes connections again.
    pub async fn open(&mut self) {
        let listener = loop {
            match TcpListener::bind(self.here).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        };
        self.accepting = accept(listener, self.there.clone(), &self.state);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Connections live as long as the task that takes them.
fn accept(listener: TcpListener, there: String, state: &Arc<watch::Sender<State>>) -> AbortHandle {
    let state = Arc::clone(state);
    let taking = async move {
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let there = there.clone();
            let mut number = 0;
            state.send_modify(|state| {
                number = state.connections;
                state.connections += 1;
            });
            let state = state.subscribe();
            connections.spawn(async move {
                let Ok(database) = TcpStream::connect(there).await else {
                    return;
                };
                let _ = (client.set_nodelay(true), database.set_nodelay(true));
                let (from_client, to_client) = client.into_split();
                let (from_database, to_database) = database.into_split();
                tokio::select! {
                    () = pass(from_client, to_database, number, state.clone()) => {}
                    () = pass(from_database, to_client, number, state) => {}
                }
            });
        }
    };
    tokio::spawn(taking).abort_handle()
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    number: u64,
    mut state: watch::Receiver<State>,
) {
    let mut bytes = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        let passes = |state: &State| !state.stalled && number >= state.stranded;
        if state.wait_for(passes).await.is_err() || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
