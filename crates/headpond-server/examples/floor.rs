//! The floor: the worker's loop without a pooler in it, to measure what is left when nothing is decided.
//!
//! Server connections are logged in once, clients are answered from what the first login said. A readable client
//! takes an idle server or queues unread, a server goes on to the next when it says ReadyForQuery outside of a
//! transaction. Only headers are looked at. What it leaves out: logins, time-outs, limits, figures, session state,
//! cancelling, clients that leave in the middle of something (their server serves no more), pipelining.
//!
//! usage: floor batched|plain LISTEN SERVER POOL USER DATABASE

#![expect(unsafe_code, reason = "io_uring takes raw descriptors and pointers; see the one block below")]

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const ARENA: usize = 1024 * 1024;
const SLICE: usize = 64 * 1024;
const BATCH: u32 = 256;
const LISTENER: Token = Token(usize::MAX);
const NOBODY: usize = usize::MAX;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [sends, listen, server, pool, user, database] = arguments.as_slice() else {
        return Err(io::Error::other("usage: floor batched|plain LISTEN SERVER POOL USER DATABASE"));
    };
    let address = |text: &str| text.parse::<SocketAddr>().map_err(io::Error::other);
    let ring = if sends == "batched" { Some(IoUring::new(BATCH)?) } else { None };
    let mut floor = Floor::new(ring, address(listen)?)?;
    for _ in 0..pool.parse().map_err(io::Error::other)? {
        let (stream, greeting) = log_in(address(server)?, user, database)?;
        floor.greeting = greeting;
        let at = floor.admit(stream)?;
        floor.idle.push(at);
    }
    floor.servers = floor.conns.len();
    floor.run()
}

/// Logs in by trust; the connection, and all that the server said.
fn log_in(server: SocketAddr, user: &str, database: &str) -> io::Result<(TcpStream, Vec<u8>)> {
    let mut stream = std::net::TcpStream::connect(server)?;
    let body = format!("user\0{user}\0database\0{database}\0\0");
    let length = u32::try_from(body.len() + 8).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), &[0, 3, 0, 0], body.as_bytes()].concat())?;
    let (mut greeting, mut scan, mut bytes) = (Vec::new(), Scan::default(), [0; 4096]);
    loop {
        let count = stream.read(&mut bytes)?;
        greeting.extend_from_slice(&bytes[..count]);
        match scan.feed(&bytes[..count]) {
            Some(b'Z') => break,
            Some(b'E') => return Err(io::Error::other(String::from_utf8_lossy(&greeting))),
            _ if count == 0 => return Err(ErrorKind::UnexpectedEof.into()),
            _ => {}
        }
    }
    stream.set_nonblocking(true)?;
    Ok((TcpStream::from_std(stream), greeting))
}

/// Where one message ends and the next begins, over any number of reads.
#[derive(Default)]
struct Scan {
    header: [u8; 5],
    have: usize,
    skip: usize,
}

impl Scan {
    /// The tag of the message that ends with `bytes`, if one does.
    fn feed(&mut self, mut bytes: &[u8]) -> Option<u8> {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return (self.skip == 0 && self.have == 0).then_some(self.header[0]);
            }
            let part = bytes.len().min(self.header.len() - self.have);
            self.header[self.have..self.have + part].copy_from_slice(&bytes[..part]);
            self.have += part;
            bytes = &bytes[part..];
            if self.have == self.header.len() {
                let [_, length @ ..] = self.header;
                self.skip = (u32::from_be_bytes(length) as usize).saturating_sub(4);
                self.have = 0;
            }
        }
    }
}

/// A client or a server connection.
struct Conn {
    stream: TcpStream,
    scan: Scan,
    /// The other end of what is relayed.
    peer: usize,
    /// What the socket did not take; its peer is not read meanwhile.
    rest: Vec<u8>,
    /// It has something to read, and its peer takes no more.
    unread: bool,
    /// A client that has been let in.
    greeted: bool,
    waiting: bool,
    queued: bool,
}

struct Send {
    to: usize,
    start: usize,
    len: usize,
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    ring: Option<IoUring>,
    greeting: Vec<u8>,
    /// Servers first, then clients.
    conns: Vec<Option<Conn>>,
    servers: usize,
    free: Vec<usize>,
    idle: Vec<usize>,
    waiters: VecDeque<usize>,
    arena: Box<[u8]>,
    used: usize,
    sends: Vec<Send>,
    again: Vec<usize>,
    gone: Vec<usize>,
}

impl Floor {
    fn new(ring: Option<IoUring>, listen: SocketAddr) -> io::Result<Self> {
        let (poll, mut listener) = (Poll::new()?, TcpListener::bind(listen)?);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            ring,
            greeting: Vec::new(),
            conns: Vec::new(),
            servers: 0,
            free: Vec::new(),
            idle: Vec::new(),
            waiters: VecDeque::new(),
            arena: vec![0; ARENA].into_boxed_slice(),
            used: 0,
            sends: Vec::new(),
            again: Vec::new(),
            gone: Vec::new(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let timeout = (!self.again.is_empty()).then_some(std::time::Duration::ZERO);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for at in std::mem::take(&mut self.again) {
                self.readable(at, false)?;
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(at) => {
                        if event.is_writable() {
                            self.writable(at)?;
                        }
                        if event.is_readable() {
                            self.readable(at, event.is_read_closed())?;
                        }
                    }
                }
            }
            self.flush()?;
            for at in std::mem::take(&mut self.gone) {
                self.conns[at] = None;
                self.free.push(at);
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
        }
    }

    fn admit(&mut self, mut stream: TcpStream) -> io::Result<usize> {
        stream.set_nodelay(true)?;
        let at = self.free.pop().unwrap_or_else(|| {
            self.conns.push(None);
            self.conns.len() - 1
        });
        self.poll.registry().register(&mut stream, Token(at), Interest::READABLE)?;
        self.conns[at] = Some(Conn {
            stream,
            scan: Scan::default(),
            peer: NOBODY,
            rest: Vec::new(),
            unread: false,
            greeted: false,
            waiting: false,
            queued: false,
        });
        Ok(at)
    }

    fn readable(&mut self, at: usize, closed: bool) -> io::Result<()> {
        let Some(conn) = self.conns[at].as_mut() else { return Ok(()) };
        if conn.peer != NOBODY || at < self.servers {
            return self.relay(at);
        }
        if !conn.greeted {
            return self.greet(at);
        }
        if conn.waiting {
            return Ok(());
        }
        match self.idle.pop() {
            Some(server) => self.lend(server, at),
            None if closed => self.leave(at),
            None => {
                conn.waiting = true;
                self.waiters.push_back(at);
                Ok(())
            }
        }
    }

    /// A server goes to a client with something to say.
    fn lend(&mut self, server: usize, client: usize) -> io::Result<()> {
        if let Some(conn) = &mut self.conns[server] {
            conn.peer = client;
        }
        if let Some(conn) = &mut self.conns[client] {
            conn.peer = server;
            conn.waiting = false;
        }
        self.relay(client)
    }

    /// A server is at rest: it goes to the next client.
    fn release(&mut self, server: usize) -> io::Result<()> {
        let Some(conn) = &mut self.conns[server] else { return Ok(()) };
        let client = std::mem::replace(&mut conn.peer, NOBODY);
        if let Some(Some(conn)) = self.conns.get_mut(client) {
            conn.peer = NOBODY;
        }
        match self.waiters.pop_front() {
            Some(client) => self.lend(server, client),
            None => {
                self.idle.push(server);
                Ok(())
            }
        }
    }

    fn leave(&mut self, at: usize) -> io::Result<()> {
        self.gone.push(at);
        match self.conns[at].as_ref().map(|conn| conn.peer) {
            Some(NOBODY) | None => Ok(()),
            Some(server) => self.release(server),
        }
    }

    /// Answers a request for encryption, or the startup packet.
    fn greet(&mut self, at: usize) -> io::Result<()> {
        let Some(conn) = &mut self.conns[at] else { return Ok(()) };
        let mut packet = [0; SLICE];
        match conn.stream.read(&mut packet) {
            Ok(0) => self.leave(at),
            Ok(8) => conn.stream.write_all(b"N"),
            Ok(_) => {
                conn.greeted = true;
                conn.stream.write_all(&self.greeting)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(_) => self.leave(at),
        }
    }

    /// Reads once, and queues it for the other end.
    fn relay(&mut self, at: usize) -> io::Result<()> {
        if self.arena.len() - self.used < SLICE {
            self.flush()?;
        }
        let Some(peer) = self.conns[at].as_ref().map(|conn| conn.peer) else { return Ok(()) };
        let is_blocked = matches!(self.conns.get(peer), Some(Some(other)) if !other.rest.is_empty());
        let is_server = at < self.servers;
        let Some(conn) = &mut self.conns[at] else { return Ok(()) };
        conn.unread = is_blocked;
        if is_blocked {
            return Ok(());
        }
        let start = self.used;
        let count = match conn.stream.read(&mut self.arena[start..start + SLICE]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Ok(0) | Err(_) if is_server => return Err(io::Error::other("a server connection was lost")),
            Ok(0) | Err(_) => return self.leave(at),
            Ok(count) => count,
        };
        self.used += count;
        if count == SLICE {
            self.again.push(at);
        }
        let bytes = &self.arena[start..start + count];
        let (tag, last) = (conn.scan.feed(bytes), bytes[count - 1]);
        if tag == Some(b'X') && !is_server {
            return self.leave(at);
        }
        self.queue(peer, start, count)?;
        if tag == Some(b'Z') && last == b'I' && is_server { self.release(at) } else { Ok(()) }
    }

    fn queue(&mut self, to: usize, start: usize, len: usize) -> io::Result<()> {
        let Some(Some(conn)) = self.conns.get_mut(to) else { return Ok(()) };
        if !conn.rest.is_empty() {
            conn.rest.extend_from_slice(&self.arena[start..start + len]);
            return Ok(());
        }
        if conn.queued {
            let earlier = self.sends.iter_mut().rev().find(|send| send.to == to);
            if let Some(earlier) = earlier.filter(|earlier| earlier.start + earlier.len == start) {
                earlier.len += len;
                return Ok(());
            }
            self.send_all()?;
            return self.queue(to, start, len);
        }
        conn.queued = true;
        self.sends.push(Send { to, start, len });
        Ok(())
    }

    /// Sends everything; the arena is free again.
    fn flush(&mut self) -> io::Result<()> {
        self.send_all()?;
        self.used = 0;
        Ok(())
    }

    fn send_all(&mut self) -> io::Result<()> {
        let sends = std::mem::take(&mut self.sends);
        if let Some(mut ring) = self.ring.take_if(|_| sends.len() > 1) {
            for batch in sends.chunks(BATCH as usize) {
                self.submit(&mut ring, batch)?;
            }
            self.ring = Some(ring);
        } else {
            for send in &sends {
                let Some(conn) = &mut self.conns[send.to] else { continue };
                let taken = conn.stream.write(&self.arena[send.start..send.start + send.len]);
                self.sent(send, taken)?;
            }
        }
        self.sends = sends;
        self.sends.clear();
        Ok(())
    }

    fn submit(&mut self, ring: &mut IoUring, batch: &[Send]) -> io::Result<()> {
        for (number, send) in batch.iter().enumerate() {
            let fd = self.conns[send.to].as_ref().map_or(-1, |conn| conn.stream.as_raw_fd());
            let bytes = &self.arena[send.start..send.start + send.len];
            let entry =
                opcode::Send::new(types::Fd(fd), bytes.as_ptr(), u32::try_from(send.len).unwrap_or(0))
                    .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                    .build()
                    .user_data(number as u64);
            // SAFETY: descriptors and arena stay as they are until every entry of the batch has completed below;
            // the queue is empty at the start of a batch and has a place for each.
            unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
        }
        ring.submit_and_wait(batch.len())?;
        for entry in ring.completion() {
            let taken =
                usize::try_from(entry.result()).map_err(|_| io::Error::from_raw_os_error(-entry.result()));
            let number = usize::try_from(entry.user_data()).map_err(io::Error::other)?;
            self.sent(&batch[number], taken)?;
        }
        Ok(())
    }

    /// Keeps what a socket did not take.
    fn sent(&mut self, send: &Send, taken: io::Result<usize>) -> io::Result<()> {
        let Some(conn) = &mut self.conns[send.to] else { return Ok(()) };
        conn.queued = false;
        let taken = match taken {
            Ok(taken) if taken == send.len => return Ok(()),
            Ok(taken) => taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => return Ok(()),
        };
        conn.rest.extend_from_slice(&self.arena[send.start + taken..send.start + send.len]);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().reregister(&mut conn.stream, Token(send.to), interest)
    }

    fn writable(&mut self, at: usize) -> io::Result<()> {
        let Some(conn) = &mut self.conns[at] else { return Ok(()) };
        while !conn.rest.is_empty() {
            match conn.stream.write(&conn.rest) {
                Ok(taken) => drop(conn.rest.drain(..taken)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => conn.rest.clear(),
            }
        }
        self.poll.registry().reregister(&mut conn.stream, Token(at), Interest::READABLE)?;
        let peer = conn.peer;
        match self.conns.get_mut(peer) {
            Some(Some(other)) => {
                if std::mem::take(&mut other.unread) {
                    self.relay(peer)
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }
}
