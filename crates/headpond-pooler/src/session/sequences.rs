//! Values of sequences that `currval` and `lastval` tell: never those of another client.
//!
//! Until a client of a pool asks for such a value nobody has to care. From then on whoever may advance a sequence keeps
//! its connection, until a transaction that neither does so nor asks.

use std::time::Duration;

use headpond_core::{ConnId, Tick};

use crate::action::{Actions, ClientId, ServerId};
use crate::exchange::{Errand, Owner};
use crate::pooler::Pooler;
use crate::session::{Pins, Refusal, Session};
use crate::statements::Runs;
use crate::statements::client::ClientStatements;
use crate::statements::registry::text_of;
use crate::text::{self, Effects};
use crate::timers::Timer;

/// How long a client that does nothing keeps, from those who wait, a connection for the values of sequences on it.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

/// Whose values of sequences a session has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sequences {
    #[default]
    Nobodys,
    Of(ClientId),
    /// Perhaps of several clients.
    Mixed,
}

/// How clients of a pool ask for the values that they have drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Readers {
    /// Not at all, so far.
    #[default]
    None,
    /// In the transaction in which they drew them.
    AtOnce,
    /// In a later one.
    Later,
}

impl Session {
    /// A client may advance a sequence, and drew its last value here, or somewhere else.
    fn draws(&mut self, client: ClientId, here: bool) {
        self.has_drawn = true;
        self.sequences = match self.sequences {
            Sequences::Nobodys => Sequences::Of(client),
            Sequences::Of(other) if other == client && here => Sequences::Of(client),
            Sequences::Of(_) | Sequences::Mixed => Sequences::Mixed,
        };
    }

    /// What pins it after a transaction that touched this.
    pub(super) fn pins_of_sequences(&self, touched: Effects) -> Pins {
        match () {
            () if touched.any(Effects::CAN_NEXTVAL) => self.pins.with(Pins::SEQUENCE),
            () if touched.any(Effects::CURRVAL) => self.pins,
            () => self.pins.without(Pins::SEQUENCE),
        }
    }
}

impl Pooler {
    /// Whether what was to forget values of sequences came behind settings that could not be restored: they are there.
    pub(crate) fn has_kept_sequences(&mut self, id: ServerId) -> bool {
        let Some(server) = self.servers.get_mut(id) else { return false };
        let kept = server.session.refusal != Refusal::None;
        if kept {
            server.session.sequences = Sequences::Mixed;
        }
        kept
    }

    /// A client's text that was sent may advance a sequence.
    pub(super) fn draws(&mut self, client_id: ClientId, server_id: ServerId) {
        let (Some(client), Some(server)) = (self.clients.get_mut(client_id), self.servers.get_mut(server_id))
        else {
            return;
        };
        let here = client.drawn_on.replace(server_id) == Some(server_id);
        server.session.draws(client_id, here);
    }

    /// Whether a connection has no values but those that the client drew last of all.
    fn has_own_sequences(&self, client: ClientId, server_id: ServerId) -> bool {
        let drawn_on = self.clients.get(client).and_then(|client| client.drawn_on);
        self.servers.get(server_id).is_none_or(|server| match server.session.sequences {
            Sequences::Nobodys => true,
            Sequences::Of(other) => other == client && drawn_on == Some(server_id),
            Sequences::Mixed => false,
        })
    }

    /// The connection that has the values of sequences for which a client's message asks, if it serves nobody.
    #[inline]
    pub(crate) fn has_values(&self, client_id: ClientId, tag: u8, body: &[u8]) -> Option<ConnId> {
        let drawn_on = self.clients.get(client_id)?.drawn_on?;
        let server = self.servers.get(drawn_on).filter(|server| server.client.is_none())?;
        let own = server.session.sequences == Sequences::Of(client_id);
        (own && self.asks_for_values(client_id, tag, body)).then_some(server.conn)
    }

    /// Whether a message runs, or prepares, what asks for values of sequences.
    fn asks_for_values(&self, client_id: ClientId, tag: u8, body: &[u8]) -> bool {
        let Some(client) = self.clients.get(client_id) else { return false };
        let Some(entry) = self.pools.get(client.pool as usize).filter(|entry| entry.follows()) else {
            return false;
        };
        let own = client.statements.as_deref();
        let text = match tag {
            b'Q' => Some(body),
            b'P' => memchr::memchr(0, body).map(|end| &body[end + 1..]),
            b'B' => match self.bound_by(client_id, body) {
                Runs::Nothing => None,
                Runs::Unnamed => own.and_then(ClientStatements::unnamed_parse).map(text_of),
                Runs::Statement(id) => {
                    entry.statements.get(id).and_then(|known| known.parse.as_deref()).map(text_of)
                }
            },
            _ => None,
        };
        let dialect = self.settings.dialect(client.settings);
        text.is_some_and(|text| text::read(text, dialect, &entry.names.verdict).effects.any(Effects::CURRVAL))
    }

    /// A text with these effects is to be sent next. Where clients ask at all, what others have drawn is forgotten
    /// before the client draws or asks; else there may be a first time at which nobody can tell whose a value is. Whether
    /// it may go on: it would not be told a value that another client has drawn.
    pub(super) fn guard_sequences(
        &mut self,
        now: Tick,
        client: ClientId,
        server_id: ServerId,
        effects: Effects,
        out: &mut Actions,
    ) -> bool {
        let Some(server) = self.servers.get_mut(server_id) else { return true };
        let readers = &mut self.pools[server.pool as usize].names.readers;
        let asks = effects.any(Effects::CURRVAL);
        if asks {
            let at_once = server.session.has_drawn || effects.any(Effects::CAN_NEXTVAL);
            *readers = (*readers).max(if at_once { Readers::AtOnce } else { Readers::Later });
        }
        // In a transaction the question may follow at once.
        let unasked = *readers == Readers::None && server.status != b'T';
        if unasked || self.has_own_sequences(client, server_id) {
            return true;
        }
        self.forget_sequences(now, client, server_id, out) || !asks
    }

    /// What others have drawn on a connection is forgotten, before its client draws anything. Whether nothing of theirs is
    /// left.
    pub(super) fn forget_sequences(
        &mut self,
        now: Tick,
        client: ClientId,
        server_id: ServerId,
        out: &mut Actions,
    ) -> bool {
        if self.has_own_sequences(client, server_id) {
            return true;
        }
        let Some(server) = self.servers.get_mut(server_id) else { return true };
        // Nothing but errands of ours is under way: its settings may be on their way back to it.
        let rests = server.exchanges.clients() == 0
            && !server.exchanges.is_unsynced()
            && !server.exchanges.is_on(Owner::Pooler(Errand::Abort));
        if !rests || server.status == b'E' || server.session.has_drawn {
            return false;
        }
        server.session.sequences = Sequences::Nobodys;
        let text = if planted!(SequencesUndiscarded) { "" } else { "DISCARD SEQUENCES" };
        self.run_errand(now, server_id, Errand::Layer, text, out);
        true
    }

    /// What only values of sequences pin, and has done nothing for a while, goes to those who wait. Its client is told,
    /// if it asks after all, that nobody knows.
    pub(crate) fn sequences_overdue(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.session.is_watched = false;
        let Some(client) = server.client.filter(|_| server.session.pins == Pins::SEQUENCE) else { return };
        let waiting = self.pools[server.pool as usize].policy.waiting() > 0;
        let idle = server.is_clean() && server.session.idle_for(now) >= nanoseconds(PATIENCE);
        if waiting && idle {
            let entry = &mut self.pools[server.pool as usize];
            server.session.resumes(now, &mut entry.traffic);
            server.session.pin(now, Pins::NONE, &mut entry.pinnings);
            self.end_lease(now, id, client, out);
        } else {
            server.session.is_watched = true;
            self.timers.set(now.plus(PATIENCE), Timer::Sequences(id));
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
