//! A TCP port for the server.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// Where the search begins.
const FIRST: u16 = 15432;

/// A port of 127.0.0.1 that stays ours while its server is down.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _claim: Option<Socket>,
}

impl Port {
    /// A port that somebody asked for; whether it is free, the server will see.
    pub(crate) fn given(number: u16) -> Self {
        Self { number, _claim: None }
    }

    /// The first free port from 15432 upward. Those that the kernel gives to outgoing connections come last.
    pub(crate) fn claim() -> Option<Self> {
        let (low, high) = ephemeral().unwrap_or((32768, 60999));
        let all = || (FIRST..=u16::MAX).chain(1024..FIRST);
        all()
            .filter(|port| !(low..=high).contains(port))
            .chain(all())
            .find_map(|number| Some(Self { number, _claim: Some(claim(number).ok()?) }))
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

/// Binds a port so that the server can bind it too, but no other claim: those two agree to share only because both
/// allow reuse and ours never listens, and a claim allows it only after it has bound.
fn claim(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

/// The kernel's range of ports for outgoing connections, both ends included.
fn ephemeral() -> Option<(u16, u16)> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = range.split_whitespace().map(str::parse);
    Some((ends.next()?.ok()?, ends.next()?.ok()?))
}
