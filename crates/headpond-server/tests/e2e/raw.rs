//! A client made of bytes, for what no driver would send.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use rustls::Connection;

use crate::pond::LIMIT;

pub(crate) const VERSION_3_0: u32 = 0x0003_0000;
pub(crate) const VERSION_3_2: u32 = 0x0003_0002;

pub(crate) struct Raw {
    stream: TcpStream,
    /// What encrypts it, if anything does.
    tls: Option<Connection>,
}

/// A message of the server: its tag and body.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) tag: u8,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// A field of an error, by its letter.
    pub(crate) fn field(&self, letter: char) -> String {
        let fields = self.body.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let found =
            fields.filter(|field| field.starts_with(letter)).map(|field| field[1..].to_owned()).next();
        found.unwrap_or_default()
    }
}

impl Raw {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, tls: None }
    }

    /// The other end: a server made of bytes.
    pub(crate) fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self { stream, tls: None }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let Some(tls) = &mut self.tls else { return self.stream.write_all(bytes).unwrap() };
        tls.set_buffer_limit(None);
        tls.writer().write_all(bytes).unwrap();
        while tls.wants_write() {
            tls.write_tls(&mut self.stream).unwrap();
        }
    }

    fn fill(&mut self, mut bytes: &mut [u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return self.stream.read_exact(bytes) };
        while !bytes.is_empty() {
            match tls.reader().read(bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => bytes = &mut bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match tls.read_tls(&mut self.stream) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                        outcome => outcome?,
                    };
                    tls.process_new_packets().map_err(io::Error::other)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Does a TLS handshake: from now on everything is encrypted.
    pub(crate) fn shake_hands(mut self, mut tls: Connection) -> io::Result<Self> {
        while tls.is_handshaking() || tls.wants_write() {
            tls.complete_io(&mut self.stream)?;
        }
        Ok(Self { tls: Some(tls), ..self })
    }

    /// The other end: reads over a packet of the startup phase.
    pub(crate) fn first_packet(&mut self) {
        let mut length = [0; 4];
        self.fill(&mut length).unwrap();
        self.fill(&mut vec![0; u32::from_be_bytes(length) as usize - 4]).unwrap();
    }

    /// What the handshake agreed on.
    pub(crate) fn tls(&self) -> &Connection {
        self.tls.as_ref().unwrap()
    }

    /// A packet of the startup phase: a number, then the rest.
    pub(crate) fn send_packet(&mut self, code: u32, rest: &[u8]) {
        self.send(&packet(code, rest));
    }

    pub(crate) fn send_startup(&mut self, version: u32, parameters: &[(&str, &str)]) {
        let pairs = parameters.iter().flat_map(|(name, value)| [name, value]);
        let mut rest: Vec<u8> = pairs.flat_map(|text| [text.as_bytes(), b"\0"].concat()).collect();
        rest.push(0);
        self.send_packet(version, &rest);
    }

    /// Logs in; returns the messages up to the first ready for query.
    pub(crate) fn log_in(&mut self, user: &str) -> Vec<Message> {
        self.send_startup(VERSION_3_0, &[("user", user), ("database", "postgres")]);
        self.until_ready()
    }

    pub(crate) fn send_query(&mut self, text: &str) {
        self.send(&message(b'Q', &[text.as_bytes(), b"\0"].concat()));
    }

    pub(crate) fn query(&mut self, text: &str) -> Vec<Message> {
        self.send_query(text);
        self.until_ready()
    }

    /// Says that no more will be sent.
    pub(crate) fn hang_up(&mut self) {
        // Fails only where the other side has gone first.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    pub(crate) fn receive(&mut self) -> io::Result<Message> {
        let mut header = [0; 5];
        self.fill(&mut header)?;
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let mut body = vec![0; length - 4];
        self.fill(&mut body)?;
        Ok(Message { tag: header[0], body })
    }

    pub(crate) fn receive_byte(&mut self) -> u8 {
        let mut byte = [0];
        self.fill(&mut byte).unwrap();
        byte[0]
    }

    /// Everything up to and including ready for query.
    pub(crate) fn until_ready(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while messages.last().is_none_or(|last: &Message| last.tag != b'Z') {
            messages.push(self.receive().unwrap());
        }
        messages
    }

    /// Everything up to the end of the stream.
    pub(crate) fn until_end(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            match self.receive() {
                Ok(message) => messages.push(message),
                Err(error) => {
                    let kind = error.kind();
                    let ended =
                        [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset].contains(&kind);
                    assert!(ended, "{error}");
                    return messages;
                }
            }
        }
    }
}

pub(crate) fn packet(code: u32, rest: &[u8]) -> Vec<u8> {
    let length = u32::try_from(rest.len() + 8).unwrap();
    [&length.to_be_bytes(), &code.to_be_bytes(), rest].concat()
}

pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

/// The tags of messages, as text.
pub(crate) fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}
