//! Messages that are larger than a client may send.
//!
//! A client without a server is answered here. For one that holds a connection the server gets another message in
//! its place, which is sure to fail: so the error comes in its turn, and does to the transaction what an error does.

use headpond_core::Tick;
use headpond_wire::postgres::frame::Header;
use headpond_wire::postgres::frontend;

use crate::action::{Actions, ClientId, Link, ServerId};
use crate::exchange::StandIn;
use crate::pooler::Pooler;
use crate::requests::{Run, Step};

/// What a server's log shows.
const TEXT: &str = "Headpond: a message was larger than max_message_size";

impl Pooler {
    /// A message that goes no further. Of it, `take` bytes are here.
    #[expect(clippy::too_many_arguments, reason = "one step of the relay, called from one place")]
    pub(crate) fn refuse_large(
        &mut self,
        now: Tick,
        id: ClientId,
        server_id: ServerId,
        header: Header,
        take: usize,
        why: StandIn,
        run: &mut Run,
        out: &mut Actions,
    ) -> Step {
        let (Some(client), Some(server)) = (self.clients.get_mut(id), self.servers.get_mut(server_id)) else {
            return Step::Gone;
        };
        let instead = match header.tag {
            b'Q' | b'F' => b'Q',
            b'P' | b'B' | b'D' | b'E' | b'C' => b'D',
            b'd' | b'c' | b'f' => b'f',
            tag => {
                self.misbehaved(now, id, &format!("frontend message type {tag} is too large"), out);
                return Step::Gone;
            }
        };
        if server.exchanges.sent_instead(instead, why).is_err() {
            return Step::Gone;
        }
        let traffic = &mut self.pools[server.pool as usize].traffic;
        traffic.received += (run.at - run.from) as u64;
        let link = Link::Server(server_id);
        out.forward(link, run.from, run.at);
        out.send(link, |bytes| match instead {
            b'Q' => frontend::query(bytes, &format!("SELECT '{TEXT}'::int4")),
            // No portal has such a name.
            b'D' => frontend::describe_portal(bytes, TEXT),
            _ => frontend::copy_fail(bytes, TEXT),
        });
        client.skip(u32::try_from(header.size - take).unwrap_or(0));
        run.at += take;
        run.from = run.at;
        Step::Next
    }
}
