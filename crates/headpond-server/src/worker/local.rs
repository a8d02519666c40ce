//! Clients on Unix sockets, and whose processes they are.

use std::io;
use std::os::fd::AsFd;

use headpond_core::Tick;
use mio::net::{TcpListener, UnixListener, UnixStream};

use super::Worker;
use super::connect::Arrival;
use super::handle::Command;
use super::socket::Socket;
use crate::tls::session::Session;

/// What clients come in by.
pub(crate) enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The same before a worker has it.
pub(crate) enum Opened {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Opened {
    /// Ready to be watched.
    pub(crate) fn door(self) -> io::Result<Door> {
        Ok(match self {
            Self::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Door::Tcp(TcpListener::from_std(listener))
            }
            Self::Unix(listener) => {
                listener.set_nonblocking(true)?;
                Door::Unix(UnixListener::from_std(listener))
            }
        })
    }
}

impl Door {
    pub(crate) fn source(&mut self) -> &mut dyn mio::event::Source {
        match self {
            Self::Tcp(listener) => listener,
            Self::Unix(listener) => listener,
        }
    }
}

/// A client that waits for the name of its system user.
pub(crate) struct Nameless {
    socket: UnixStream,
    session: Option<Box<Session>>,
    held: Vec<u8>,
    counts: bool,
    user: u32,
}

impl Worker {
    /// A client on a Unix socket. Where rules ask whose process it is, that is known first: the system is asked for the
    /// name elsewhere, for it may have to ask others.
    pub(crate) fn adopt_local(
        &mut self,
        now: Tick,
        socket: UnixStream,
        session: Option<Box<Session>>,
        held: Vec<u8>,
        counts: bool,
    ) {
        let asks = self.config.rules.as_ref().is_some_and(|rules| rules.ask_the_system());
        let user = peer_uid(&socket).filter(|_| asks);
        let Some(user) = user else {
            let arrival = Arrival { session, ..Arrival::default() };
            return self.adopt(now, Socket::Unix(socket), arrival, held, counts);
        };
        if let Some(system_user) = self.system_users.get(&user).cloned() {
            let arrival = Arrival { session, system_user, peer: None };
            return self.adopt(now, Socket::Unix(socket), arrival, held, counts);
        }
        let mailbox = self.mailboxes[self.index].clone();
        let nameless = Nameless { socket, session, held, counts, user };
        let shared = std::sync::Arc::clone(&self.shared);
        self.shared.runtime.spawn_blocking(move || {
            let name = name_of(nameless.user);
            let sent = mailbox.send(Command::Named(Box::new(nameless), name));
            if let Err(Command::Named(nameless, _)) = sent
                && !nameless.counts
            {
                shared.clients.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
    }

    /// The name is known, or that there is none.
    pub(crate) fn named(&mut self, now: Tick, nameless: Nameless, name: Option<String>) {
        let Nameless { socket, session, held, counts, user } = nameless;
        self.system_users.insert(user, name.clone());
        let arrival = Arrival { session, system_user: name, peer: None };
        self.adopt(now, Socket::Unix(socket), arrival, held, counts);
    }
}

/// The user whose process is on the other end.
pub(crate) fn peer_uid(socket: &impl AsFd) -> Option<u32> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return nix::sys::socket::getsockopt(socket, nix::sys::socket::sockopt::PeerCredentials)
        .ok()
        .map(|credentials| credentials.uid());
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    return nix::unistd::getpeereid(socket).ok().map(|(user, _)| user.as_raw());
}

/// What the system calls a user.
pub(crate) fn name_of(user: u32) -> Option<String> {
    nix::unistd::User::from_uid(user.into()).ok().flatten().map(|user| user.name)
}
