//! Where clients come in: addresses, ports, and the Unix socket.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;

use nix::sys::socket::setsockopt;
use socket2::{Domain, Protocol, Socket, Type};

use super::Ports;
use super::unix::UnixSocket;
use crate::config::{Config, Dialect, ListenAddress};
use crate::worker::socket::prepare;

/// Clients that may queue in the kernel before they are accepted; the kernel has its own limit too.
pub(super) const BACKLOG: i32 = 4096;

/// Where PgBouncer puts its Unix socket unless it is told.
const UNASKED: &str = "/tmp";

/// Seconds for which the kernel keeps a client that says nothing to itself: clients speak first.
const SILENCE: u32 = 1;

#[derive(Clone, Debug)]
struct DeferAccept;

nix::setsockopt_impl!(
    DeferAccept,
    libc::IPPROTO_TCP,
    libc::TCP_DEFER_ACCEPT,
    u32,
    nix::sys::socket::sockopt::SetStruct<'_, u32>
);

/// How far from a taken port the next free one is looked for.
const PORTS: u16 = 100;

/// The Unix socket, named as PostgreSQL names it, after the first port. One that nobody asked for (PgBouncer's default) is
/// no reason not to start.
pub(super) fn unix_socket(config: &Config, addresses: &[SocketAddr]) -> io::Result<Option<UnixSocket>> {
    let Some(folder) = &config.unix_socket_dir else { return Ok(None) };
    let port = addresses.first().map_or(0, SocketAddr::port);
    let path = folder.join(format!(".s.PGSQL.{port}"));
    let name = path.display().to_string();
    let mode = u32::from_str_radix(&config.unix_socket_mode, 8).unwrap_or(0o700);
    match UnixSocket::listen(path, mode, config.unix_socket_group.as_deref()) {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if *folder == Path::new(UNASKED) && config.dialect == Dialect::Ini => {
            tracing::warn!(%error, socket = name, "clients cannot use the Unix socket");
            Ok(None)
        }
        Err(error) => Err(io::Error::new(error.kind(), format!("{name}: {error}"))),
    }
}

/// The addresses of one entry of `listen`.
pub(super) fn resolve(wanted: &ListenAddress) -> io::Result<Vec<SocketAddr>> {
    if wanted.host == "*" {
        return Ok(vec![
            SocketAddr::from(([0, 0, 0, 0], wanted.port)),
            SocketAddr::from(([0u16; 8], wanted.port)),
        ]);
    }
    let addresses = (wanted.host.as_str(), wanted.port).to_socket_addrs();
    Ok(addresses.map_err(|error| io::Error::new(error.kind(), format!("{wanted}: {error}")))?.collect())
}

/// Listens on an address or, if that will do, on the next free port above it.
pub(super) fn listen_near(
    address: SocketAddr,
    ports: Ports,
    shared: bool,
) -> io::Result<(TcpListener, SocketAddr)> {
    let mut wanted = address;
    loop {
        match listen_first(wanted, shared) {
            Ok(listener) => {
                let address = listener.local_addr()?;
                return Ok((listener, address));
            }
            Err(error)
                if ports == Ports::NextFree
                    && error.kind() == io::ErrorKind::AddrInUse
                    && wanted.port() < address.port().saturating_add(PORTS) =>
            {
                wanted.set_port(wanted.port() + 1);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Only a listener that shares with nobody is told that the port is another process's.
fn listen_first(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let alone = listen(address, false)?;
    if !shared {
        return Ok(alone);
    }
    let address = alone.local_addr()?;
    drop(alone);
    listen(address, true)
}

pub(super) fn listen(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    // Several workers listen on the same port, and the kernel deals the clients out.
    socket.set_reuse_port(shared)?;
    // What is accepted inherits them.
    prepare(&socket, address);
    let _ = setsockopt(&socket, DeferAccept, &SILENCE);
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use socket2::SockRef;

    #[test]
    fn what_is_accepted_sends_at_once_and_unpaced_and_notices_a_peer_that_vanished() {
        let listener = super::listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"hello").unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_congestion().unwrap().split(|byte| *byte == 0).next(), Some(&b"reno"[..]));
    }
}
