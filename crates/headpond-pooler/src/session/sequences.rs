//! Values of sequences that `currval` and `lastval` tell: never those of another client.
//!
//! Until a client of a pool asks for such a value nobody has to care. From then on whoever may advance a sequence keeps
//! its connection, until a transaction that neither does so nor asks.

use headpond_core::Tick;

use crate::action::{Actions, ClientId, ServerId};
use crate::exchange::Errand;
use crate::pooler::Pooler;
use crate::session::{Pins, Session};
use crate::text::Effects;

/// Whose values of sequences a session has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sequences {
    #[default]
    Nobodys,
    Of(ClientId),
    /// Perhaps of several clients.
    Mixed,
}

/// Whether a message about sequences may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    Goes,
    /// It might be told a value that another client has drawn.
    Refused,
}

impl Session {
    /// A client may advance a sequence.
    pub(super) fn draws(&mut self, client: ClientId) {
        self.sequences = match self.sequences {
            Sequences::Nobodys => Sequences::Of(client),
            Sequences::Of(other) if other == client => Sequences::Of(client),
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
    /// A text with these effects is to be sent next. Values that others have drawn are forgotten first.
    pub(super) fn guard_sequences(
        &mut self,
        now: Tick,
        client: ClientId,
        server_id: ServerId,
        effects: Effects,
        out: &mut Actions,
    ) -> Asks {
        let Some(server) = self.servers.get_mut(server_id) else { return Asks::Goes };
        let entry = &mut self.pools[server.pool as usize];
        let asks = effects.any(Effects::CURRVAL);
        entry.names.has_readers |= asks;
        let own = [Sequences::Nobodys, Sequences::Of(client)].contains(&server.session.sequences);
        if own || !entry.names.has_readers {
            return Asks::Goes;
        }
        if server.exchanges.at_rest() && server.status == b'I' {
            server.session.sequences = Sequences::Nobodys;
            self.run_errand(now, server_id, Errand::Layer, "DISCARD SEQUENCES", out);
            return Asks::Goes;
        }
        if asks { Asks::Refused } else { Asks::Goes }
    }
}
