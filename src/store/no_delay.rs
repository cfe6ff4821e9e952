//! Turns off Nagle's algorithm on connections to the database.
//!
//! sqlx 0.9.0 does not set `TCP_NODELAY`, as 0.8 did (<https://github.com/transact-rs/sqlx/issues/4335>). The end of a statement that is longer
//! than a segment then waits for the acknowledgement of its beginning, which the other end may delay by 40 ms. sqlx gives no access to
//! its sockets, so they are found among the open files of this process. To be removed once sqlx sets the option itself.

use std::net::SocketAddr;

use rustix::io::Result;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// Sets `TCP_NODELAY` on each connection of this process to a port of another host or of this one. Where the kernel does not allow it,
/// nothing changes.
pub(super) fn set_no_delay(port: u16) {
    let numbers = sockets().unwrap_or_default();
    for number in numbers {
        // It may be closed by now, or no connection of TCP.
        let _ = set_on(number, port);
    }
}

/// The numbers of this process's open sockets.
fn sockets() -> std::io::Result<Vec<i32>> {
    let is_socket = |entry: &std::fs::DirEntry| {
        let target = std::fs::read_link(entry.path());
        target.is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    let entries = std::fs::read_dir("/proc/self/fd")?.filter_map(std::result::Result::ok);
    let numbers = entries
        .filter(is_socket)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(numbers.collect())
}

fn set_on(number: i32, port: u16) -> Result<()> {
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    let socket = pidfd_getfd(this, number, PidfdGetfdFlags::empty())?;
    let peer = rustix::net::getpeername(&socket)?.and_then(|peer| SocketAddr::try_from(peer).ok());
    if peer.is_some_and(|peer| peer.port() == port) {
        rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_to_the_port_do_not_wait() {
        let (of_database, other) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            TcpListener::bind("127.0.0.1:0").unwrap(),
        );
        let connect = |listener: &TcpListener| TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (to_database, to_other) = (connect(&of_database), connect(&other));
        assert!(!to_database.nodelay().unwrap());
        set_no_delay(of_database.local_addr().unwrap().port());
        assert!(to_database.nodelay().unwrap() && !to_other.nodelay().unwrap());
    }
}
