//! What becomes of a client whose server connection is lost: nothing it need not know of, if that is possible.
//!
//! In transaction and statement mode the client stays. What the server never saw waits for another connection; a transaction
//! that cannot have been committed is a failed one; an outcome that nobody can know is said to be unknown, never
//! denied. In session mode the session is gone with its connection, and the client with it.

use headpond_core::{CloseReason, Tick};
use headpond_wire::postgres::encode::{self, Report, Severity};

use crate::aborted::Aborted;
use crate::action::{Actions, ClientId, Link, ServerId};
use crate::client::{ClientState, Discard, Lease};
use crate::config::PoolMode;
use crate::exchange::{Errand, Owner};
use crate::pooler::Pooler;
use crate::refuse::Cause;
use crate::server::Server;
use crate::session::Refusal;

/// What a lost connection means for what its client had under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The server saw nothing of it.
    NotSent,
    /// Its transaction cannot have been committed.
    RolledBack,
    /// It may have been carried out, or not.
    Unknown,
    /// It was not: its settings could not be restored.
    Refused,
}

/// What a client still expects of a lost connection.
struct Owed {
    outcome: Outcome,
    /// The client knows that its transaction has failed.
    failed: bool,
    /// Of a transaction that is not known to have failed: leading requests that do nothing in it, and whether each is
    /// a Sync. They are answered as if it went on, for a driver may not look at an error there.
    quiet: Vec<bool>,
    /// Requests that end with ready for query, and whether the first was answered by an error already.
    boundaries: u32,
    first_failed: bool,
    first_failed_inside: bool,
    /// All that is outstanding is the wish to roll back, which has come true.
    rolls_back: bool,
    /// The client has heard that.
    completed: bool,
    /// Messages were sent whose Sync was not, and whether they were answered by an error already.
    unsynced: bool,
    skipping: bool,
    /// All of them were answered: the client awaits nothing, and is told when it goes on.
    answered: bool,
}

impl Owed {
    fn of(server: &Server) -> Self {
        let (exchanges, status) = (&server.exchanges, server.status);
        let refused = server.session.refusal != Refusal::None;
        // A connection that is being put into a failed transaction serves a client that was told of it.
        let aborting = exchanges.is_on(Owner::Pooler(Errand::Abort));
        let outside = status == b'I' && !aborting;
        let outcome = match () {
            () if refused => Outcome::Refused,
            () if !outside && exchanges.only_rolls_back() => Outcome::RolledBack,
            () if outside && !exchanges.has_unknown() => Outcome::NotSent,
            () if planted!(UnknownIsRolledBack) => Outcome::RolledBack,
            () if outside || exchanges.has_unknown() && exchanges.may_have_ended() => Outcome::Unknown,
            () => Outcome::RolledBack,
        };
        let failed =
            status == b'E' && !refused || aborting || exchanges.is_skipping() || exchanges.has_failed();
        let goes_on = outcome == Outcome::RolledBack && !failed;
        let quiet = if goes_on { exchanges.leading_quiet() } else { Vec::new() };
        // Nothing but a Close came after the last Sync.
        let only_closed = quiet.last() == Some(&false) && quiet.len() == exchanges.clients();
        let syncs = quiet.iter().filter(|is_sync| **is_sync).count();
        Self {
            outcome,
            failed,
            boundaries: exchanges.boundaries() - u32::try_from(syncs).unwrap_or(0),
            quiet,
            rolls_back: !outside && exchanges.only_rolls_back(),
            completed: exchanges.has_completed(),
            first_failed: exchanges.has_failed(),
            first_failed_inside: !outside && !refused && exchanges.has_failed_inside(),
            unsynced: exchanges.is_unsynced() && !only_closed,
            skipping: exchanges.is_skipping(),
            answered: exchanges.clients() == 0,
        }
    }
}

impl Pooler {
    /// A server connection that serves is lost, for the reason that `why` tells, or must be closed unfinished.
    pub(crate) fn lose_server(
        &mut self,
        now: Tick,
        id: ServerId,
        reason: CloseReason,
        why: &str,
        out: &mut Actions,
    ) {
        self.changes_lost(id);
        let Some(server) = self.servers.get_mut(id) else { return };
        let (pool, conn) = (server.pool, server.conn);
        // Inside a message that streams nothing can be said: the words would be taken for its rest.
        let cut = server.streaming_to_client && server.streaming > 0;
        let kept = server.session.is_kept();
        let stays = self.pools[pool as usize].mode != PoolMode::Session && !cut && !kept;
        let Some(client) = server.client.take_if(|_| stays) else {
            self.totals.losses.cut += u64::from(cut && server.client.is_some());
            let cause = if kept { Cause::SessionLost } else { Cause::ServerLost };
            let words = if kept { cause.words().0 } else { why };
            self.close_pair(now, id, reason, cause, words, out);
            return;
        };
        let owed = Owed::of(server);
        self.tell_outcome(client, &owed, why, out);
        self.idle_from(now, client);
        self.with_pool(now, pool, out, |policy, actions| policy.close(now, conn, reason, actions));
        if !self.close_if_draining(now, client, out)
            && let Some(entry) = self.clients.get_mut(client)
            && (std::mem::take(&mut entry.unread) || entry.hung_up)
        {
            self.client_readable(now, client, out);
        }
    }

    /// Every request of the client that is still to be answered gets its error; the client is without a server.
    fn tell_outcome(&mut self, id: ClientId, owed: &Owed, why: &str, out: &mut Actions) {
        let Some(client) = self.clients.get_mut(id) else { return };
        client.lease = Lease::None;
        let (cause, status) = match owed.outcome {
            Outcome::NotSent => (None, b'I'),
            Outcome::RolledBack if owed.failed => (Some(Cause::InFailedTransaction), b'E'),
            Outcome::RolledBack => (Some(Cause::TransactionLost), b'E'),
            Outcome::Unknown => (Some(Cause::OutcomeUnknown), b'I'),
            Outcome::Refused => (Some(Cause::SettingsRefused), b'I'),
        };
        let first = if owed.first_failed_inside { b'E' } else { status };
        match owed.outcome {
            Outcome::NotSent | Outcome::Refused => self.totals.losses.unsent += 1,
            Outcome::RolledBack => self.totals.losses.rolled_back += 1,
            Outcome::Unknown => self.totals.losses.unknown += 1,
        }
        let told = owed.failed || owed.boundaries > 0 || owed.unsynced && !owed.answered;
        client.aborted = match owed.outcome {
            _ if owed.rolls_back => Aborted::No,
            Outcome::RolledBack if planted!(AbortedForgotten) => Aborted::No,
            Outcome::RolledBack if told => Aborted::Told,
            Outcome::RolledBack => Aborted::Untold(Cause::TransactionLost),
            Outcome::NotSent | Outcome::Unknown | Outcome::Refused => Aborted::No,
        };
        client.copy_tail = true;
        let link = Link::Client(id);
        if owed.rolls_back {
            out.send(link, |bytes| {
                if !owed.completed {
                    encode::command_complete(bytes, "ROLLBACK");
                }
                encode::ready_for_query(bytes, b'I');
            });
            return;
        }
        for is_sync in &owed.quiet {
            out.send(link, |bytes| match is_sync {
                true => encode::ready_for_query(bytes, b'T'),
                false => encode::close_complete(bytes),
            });
        }
        let mut cause = cause;
        for number in 0..owed.boundaries {
            if number > 0 || !owed.first_failed {
                tell(link, &mut cause, why, out);
            }
            let status = if number == 0 { first } else { status };
            out.send(link, |bytes| encode::ready_for_query(bytes, status));
        }
        client.state = match cause {
            _ if !owed.unsynced => return,
            _ if owed.skipping => ClientState::Refused(Discard::ToSync),
            Some(Cause::TransactionLost) if owed.answered => return,
            Some(cause) if owed.answered => ClientState::Refused(Discard::First(cause)),
            _ => {
                tell(link, &mut cause, why, out);
                ClientState::Refused(Discard::ToSync)
            }
        };
    }
}

/// One error. Of a transaction that is lost the client hears once.
fn tell(link: Link, cause: &mut Option<Cause>, why: &str, out: &mut Actions) {
    let Some(told) = *cause else { return };
    if told == Cause::TransactionLost {
        *cause = Some(Cause::InFailedTransaction);
    }
    let (message, hint) = told.words();
    let report = Report::new(Severity::Error, told.sqlstate(), message);
    let report = if hint.is_empty() { report } else { report.detail(why).hint(hint) };
    out.send(link, |bytes| encode::error_response(bytes, &report));
}
