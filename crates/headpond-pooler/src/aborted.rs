//! A client whose transaction no server has any more: it was rolled back behind the client's back.
//!
//! The client stays, in a transaction that failed, as after any other error. What only ends the transaction is
//! answered here, so it works while the server is down. Everything else goes to a connection that is put into a
//! failed transaction first: a real server then says what it has to say.

use headpond_core::Tick;
use headpond_wire::postgres::encode;

use crate::action::{Action, Actions, ClientId, Link, ServerId};
use crate::client::{ClientState, Discard};
use crate::endings::{Ending, ending};
use crate::exchange::Errand;
use crate::pooler::Pooler;
use crate::refuse::Cause;

/// Puts a connection into a failed transaction; the text is what the server's log shows.
const ABORT: &str = "BEGIN; SELECT 'Headpond: this transaction was rolled back before'::int4";

/// Whether a client is in a transaction that exists nowhere, and how much it knows of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Aborted {
    /// It is not.
    #[default]
    No,
    /// It has not heard yet why its transaction is over.
    Untold(Cause),
    /// It was told.
    Told,
    /// A statement that ends the transaction was parsed here.
    Parsed,
    /// And bound.
    Bound,
    /// And executed: only the Sync is to come.
    Over,
}

/// What becomes of a message of such a client.
pub(crate) enum Local {
    /// It is answered.
    Done,
    /// The whole request is answered by an error.
    Refused,
    /// A server must answer it.
    NeedsServer,
}

impl Pooler {
    /// One whole message of a client in a transaction that exists nowhere.
    pub(crate) fn answer_aborted(&mut self, id: ClientId, tag: u8, body: &[u8], out: &mut Actions) -> Local {
        let link = Link::Client(id);
        let Some(client) = self.clients.get_mut(id) else { return Local::Done };
        match (client.aborted, tag) {
            (Aborted::No, _) => return Local::NeedsServer,
            (_, b'H') => {}
            (Aborted::Parsed | Aborted::Bound | Aborted::Over, b'C') if matches!(body, b"S\0" | b"P\0") => {
                out.send(link, encode::close_complete);
            }
            (Aborted::Over, b'S') => {
                client.aborted = Aborted::No;
                out.send(link, |bytes| encode::ready_for_query(bytes, b'I'));
            }
            (Aborted::Over, _) => {
                client.aborted = Aborted::No;
                return Local::NeedsServer;
            }
            (state @ (Aborted::Untold(_) | Aborted::Told), b'Q' | b'P') => {
                let ending = statement(tag, body).and_then(ending);
                match (state, ending) {
                    (Aborted::Untold(cause), None | Some(Ending::Commit)) => {
                        // It must not take the end of its transaction for a success. After a COMMIT that failed it
                        // is in none.
                        client.aborted = if ending.is_none() { Aborted::Told } else { Aborted::No };
                        client.state = ClientState::Refused(Discard::First(cause));
                        out.push(Action::Read(link));
                        return Local::Refused;
                    }
                    (_, None) => return Local::NeedsServer,
                    (_, Some(_)) if tag == b'Q' => {
                        client.aborted = Aborted::No;
                        out.send(link, |bytes| {
                            encode::command_complete(bytes, "ROLLBACK");
                            encode::ready_for_query(bytes, b'I');
                        });
                    }
                    (_, Some(_)) => {
                        client.aborted = Aborted::Parsed;
                        out.send(link, encode::parse_complete);
                    }
                }
            }
            // A driver may not look at an error here: as if the transaction went on.
            (Aborted::Untold(_), b'C') => out.send(link, encode::close_complete),
            (Aborted::Untold(_), b'S') => out.send(link, |bytes| encode::ready_for_query(bytes, b'T')),
            (Aborted::Untold(cause), _) => {
                client.aborted = Aborted::Told;
                client.state = ClientState::Refused(Discard::First(cause));
                out.push(Action::Read(link));
                return Local::Refused;
            }
            (_, b'S') => out.send(link, |bytes| encode::ready_for_query(bytes, b'E')),
            (Aborted::Parsed, b'B') if body.starts_with(b"\0\0") => {
                client.aborted = Aborted::Bound;
                out.send(link, encode::bind_complete);
            }
            (Aborted::Parsed | Aborted::Bound, b'D') if body == b"S\0" => out.send(link, |bytes| {
                encode::parameter_description(bytes, &[]);
                encode::no_data(bytes);
            }),
            (Aborted::Bound, b'D') if body == b"P\0" => out.send(link, encode::no_data),
            (Aborted::Bound, b'E') if body.first() == Some(&0) => {
                client.aborted = Aborted::Over;
                out.send(link, |bytes| encode::command_complete(bytes, "ROLLBACK"));
            }
            _ => {
                client.aborted = Aborted::Told;
                return Local::NeedsServer;
            }
        }
        Local::Done
    }

    /// Puts the connection of a client whose transaction exists nowhere into a failed one, which takes its place.
    #[inline]
    pub(crate) fn abort_again(&mut self, now: Tick, id: ClientId, server: ServerId, out: &mut Actions) {
        if let Some(client) = self.clients.get_mut(id)
            && std::mem::take(&mut client.aborted) != Aborted::No
            && !planted!(AbortBlockForgotten)
        {
            self.run_errand(now, server, Errand::Abort, ABORT, out);
        }
    }
}

/// The text of a Query, or of a Parse that gives it no name.
fn statement(tag: u8, body: &[u8]) -> Option<&[u8]> {
    let text = if tag == b'P' { body.strip_prefix(b"\0")? } else { body };
    text.split(|byte| *byte == 0).next()
}
