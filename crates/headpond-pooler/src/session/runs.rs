//! What a client is about to run: its text is read before it is sent, and what it may do is noted once it was.

use std::sync::Arc;

use headpond_core::Tick;

use crate::action::{Actions, ClientId, ServerId};
use crate::config::PoolMode;
use crate::pooler::Pooler;
use crate::server::Server;
use crate::session::sequences::Readers;
use crate::settings::SettingsId;
use crate::statements::Runs;
use crate::statements::client::ClientStatements;
use crate::statements::registry::text_of;
use crate::text::{self, Effects, Stream, Text, Verdict};

/// The functions of large objects, which libpq calls by number: what they open ends with the transaction
/// (`src/include/catalog/pg_proc.dat`).
const LARGE_OBJECTS: [u32; 15] =
    [715, 764, 767, 952, 953, 954, 955, 956, 957, 958, 964, 1004, 3170, 3171, 3172];

/// What is known of what a message runs.
#[derive(Debug)]
pub(crate) enum Reading {
    Nothing,
    /// It cannot be read: it may do anything.
    Anything,
    Text(Text),
    /// It is read as it comes: until it is all there, it may do anything.
    Part(Box<Streamed>),
    /// Read before, for the same statement.
    Known(Arc<Text>),
    /// In session mode: it resets settings, of which some are set by us.
    Resets(Text),
}

impl Streamed {
    fn read(&mut self, mut bytes: &[u8], verdict: &Verdict) {
        if self.in_name {
            let Some(end) = memchr::memchr(0, bytes) else { return };
            self.in_name = false;
            bytes = &bytes[end + 1..];
        }
        self.stream.read(bytes, verdict);
    }
}

impl Reading {
    fn effects(&self) -> Effects {
        match self {
            Self::Nothing | Self::Resets(_) => Effects::NONE,
            Self::Anything | Self::Part(_) => Effects::ANYTHING,
            Self::Text(text) => text.effects,
            Self::Known(text) => text.effects,
        }
    }
}

/// A text of which more is to come.
#[derive(Debug)]
pub(crate) struct Streamed {
    stream: Stream,
    /// The message that it is in.
    tag: u8,
    /// What was known of the database when it began.
    generation: u32,
    /// The name before it is not over.
    in_name: bool,
}

impl Pooler {
    /// Reads what a client's message would run, or prepare, on its connection.
    #[inline]
    pub(crate) fn read_ahead(
        &mut self,
        client: ClientId,
        server_id: ServerId,
        tag: u8,
        body: &[u8],
        whole: bool,
    ) -> Reading {
        match tag {
            b'B' if self.has_readers(server_id) => {
                let runs = self.bound_by(client, body);
                self.read_bound(client, server_id, runs)
            }
            b'Q' | b'P' if !whole => self.read_part(server_id, tag, body),
            b'Q' => self.read_text(server_id, body),
            b'P' => {
                let name = memchr::memchr(0, body);
                self.read_text(server_id, name.map_or(&[], |end| &body[end + 1..]))
            }
            b'F' => {
                let number = body.first_chunk().map(|number| u32::from_be_bytes(*number));
                let harmless = number.is_some_and(|number| LARGE_OBJECTS.contains(&number));
                let session = self
                    .servers
                    .get(server_id)
                    .is_none_or(|server| !self.pools[server.pool as usize].follows());
                if harmless || session { Reading::Nothing } else { Reading::Anything }
            }
            _ => Reading::Nothing,
        }
    }

    /// What is executed of a client's that was parsed before.
    pub(crate) fn read_bound(&mut self, client: ClientId, server_id: ServerId, runs: Runs) -> Reading {
        let Some(server) = self.servers.get(server_id) else { return Reading::Nothing };
        match runs {
            Runs::Nothing => Reading::Nothing,
            Runs::Unnamed if server.session.has_read_unnamed => Reading::Nothing,
            Runs::Unnamed => {
                let own = self.clients.get(client).and_then(|client| client.statements.as_deref());
                match own.and_then(ClientStatements::unnamed_parse) {
                    Some(parse) => self.read_text(server_id, text_of(parse)),
                    None => Reading::Anything,
                }
            }
            Runs::Statement(id) => {
                let (pool, news) = (server.pool as usize, self.has_news(server_id));
                let key = (self.pools[pool].names.generation, self.settings.dialect(server.settings));
                let known = self.pools[pool].statements.get(id);
                let Some((known, parse)) = known.and_then(|known| Some((known, known.parse.clone()?))) else {
                    return Reading::Anything;
                };
                if let Some((_, text)) = known.judged.as_ref().filter(|(of, _)| *of == key && !news) {
                    return Reading::Known(Arc::clone(text));
                }
                let reading = self.read_text(server_id, text_of(&parse));
                let Reading::Text(text) = reading else { return reading };
                let text = Arc::new(text);
                if !news {
                    self.pools[pool].statements.judge(id, key, Arc::clone(&text));
                }
                Reading::Known(text)
            }
        }
    }

    /// Whether what is to be sent may go on, as far as sequences are concerned.
    #[inline]
    pub(crate) fn may_run(
        &mut self,
        now: Tick,
        client: ClientId,
        server_id: ServerId,
        reading: &Reading,
        out: &mut Actions,
    ) -> bool {
        if matches!(reading, Reading::Part(_)) {
            // It may ask, and it will be too late to say no.
            self.forget_sequences(now, client, server_id, out);
            return true;
        }
        let effects = reading.effects();
        if effects.any(Effects::CURRVAL | Effects::CAN_NEXTVAL) {
            return self.guard_sequences(now, client, server_id, effects, out);
        }
        if !matches!(reading, Reading::Nothing) && self.has_readers(server_id) {
            // What draws may follow in the same flight.
            self.forget_sequences(now, client, server_id, out);
        }
        true
    }

    /// It was sent.
    #[inline]
    pub(crate) fn runs(&mut self, client_id: ClientId, server_id: ServerId, reading: Reading, tag: u8) {
        let Some(server) = self.servers.get_mut(server_id) else { return };
        let (pool, session) = (server.pool as usize, &mut server.session);
        // Nothing was read of one that is given a name.
        session.has_read_unnamed |= tag == b'P' && !matches!(reading, Reading::Nothing);
        let text = match &reading {
            Reading::Nothing => return,
            Reading::Resets(text) => {
                if session.returns(text) {
                    server.exchanges.returns();
                }
                return;
            }
            Reading::Anything => {
                session.touched |= Effects::ANYTHING;
                self.draws(client_id, server_id);
                return;
            }
            Reading::Part(_) => {
                let Reading::Part(part) = reading else { return };
                session.streamed = Some(part);
                return;
            }
            Reading::Text(text) => text,
            Reading::Known(text) => text,
        };
        if text.effects == Effects::NONE {
            return;
        }
        session.touch(text);
        if text.effects.any(Effects::DEALLOCATES) && !planted!(DeallocationForgotten) {
            server.statements.distrust();
        }
        let session = &mut server.session;
        // What was prepared in SQL may draw whenever it is executed.
        let draws = text.effects.any(Effects::CAN_NEXTVAL)
            || text.effects.any(Effects::EXECUTES) && session.prepared.any(Effects::CAN_NEXTVAL);
        if session.returns(text) {
            server.exchanges.returns();
        }
        if draws {
            self.draws(client_id, server_id);
        }
        if text.effects.any(Effects::CODE)
            && let Some(client) = self.clients.get_mut(client_id)
        {
            client.news = Some(self.pools[pool].names.news());
        }
    }

    fn read_text(&self, server_id: ServerId, text: &[u8]) -> Reading {
        let Some(server) = self.servers.get(server_id) else { return Reading::Nothing };
        if !self.pools[server.pool as usize].follows() {
            return self.read_reset(server, text);
        }
        if server.session.reads_otherwise() {
            return Reading::Anything;
        }
        let names = &self.pools[server.pool as usize].names;
        let verdict = if self.has_news(server_id) { &self.unknown } else { &names.verdict };
        Reading::Text(text::read(text, self.settings.dialect(server.settings), verdict))
    }

    /// In session mode the server goes back to what the connection was opened with by itself, but for what is set when a
    /// connection changes hands.
    fn read_reset(&self, server: &Server, text: &[u8]) -> Reading {
        let session = self.pools[server.pool as usize].mode == PoolMode::Session;
        let client = server.client.and_then(|client| self.clients.get(client));
        let layer = client.map_or(SettingsId::NONE, |client| client.layer);
        if !session || self.settings.startup_part(layer) == layer {
            return Reading::Nothing;
        }
        let text = text::read(text, self.settings.dialect(server.settings), &self.unknown);
        if text.effects.any(Effects::RESETS) { Reading::Resets(text) } else { Reading::Nothing }
    }

    /// The beginning of a message that streams.
    fn read_part(&self, server_id: ServerId, tag: u8, body: &[u8]) -> Reading {
        let Some(server) = self.servers.get(server_id) else { return Reading::Nothing };
        if !self.pools[server.pool as usize].follows() {
            return Reading::Nothing;
        }
        let names = &self.pools[server.pool as usize].names;
        let stream = Stream::new(self.settings.dialect(server.settings), &names.verdict);
        let Some(stream) = stream.filter(|_| !server.session.reads_otherwise() && !self.has_news(server_id))
        else {
            return Reading::Anything;
        };
        let mut streamed = Streamed { stream, tag, generation: names.generation, in_name: tag == b'P' };
        streamed.read(body, &names.verdict);
        Reading::Part(Box::new(streamed))
    }

    /// More of a client's message that streams. `last`: all of it is there.
    pub(crate) fn reads_more(&mut self, client_id: ClientId, server_id: ServerId, bytes: &[u8], last: bool) {
        let Some(server) = self.servers.get_mut(server_id) else { return };
        let Some(mut part) = server.session.streamed.take() else { return };
        let names = &mut self.pools[server.pool as usize].names;
        // What was harmless when it was read may not be any more.
        let is_known = part.generation == names.generation;
        if is_known {
            part.read(bytes, &names.verdict);
        }
        if !last {
            server.session.streamed = Some(part);
            return;
        }
        let Streamed { stream, tag, .. } = *part;
        let text = if is_known { stream.conclude(&names.verdict) } else { None };
        let reading = text.map_or(Reading::Anything, Reading::Text);
        if reading.effects().any(Effects::CURRVAL) {
            names.readers = Readers::Later;
        }
        self.runs(client_id, server_id, reading, tag);
    }

    fn has_readers(&self, server_id: ServerId) -> bool {
        let server = self.servers.get(server_id);
        server.is_some_and(|server| self.pools[server.pool as usize].names.readers > Readers::None)
    }

    /// Whether its client has made something of which nobody knows yet what it does.
    pub(super) fn has_news(&self, server_id: ServerId) -> bool {
        let Some(server) = self.servers.get(server_id) else { return false };
        let client = server.client.and_then(|client| self.clients.get(client));
        let names = &self.pools[server.pool as usize].names;
        client.and_then(|client| client.news).is_some_and(|news| !names.knows(news))
    }
}
