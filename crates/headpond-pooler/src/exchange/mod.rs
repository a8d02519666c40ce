//! Which reply belongs to which request, on one server connection.
//!
//! Every request has an entry with its owner and the replies it allows
//! (<https://www.postgresql.org/docs/current/protocol-flow.html>). Replies come in the order of the requests,
//! so the front entry owns whatever arrives; asynchronous messages belong to nobody. Anything else is a
//! mismatch, and the pair is closed rather than a byte passed on.

mod asked;
mod changes;
mod ends;
mod kinds;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub(crate) use kinds::{Answer, Errand, Kind, Mismatch, News, Owner, Reply, StandIn, Unexpected};
use kinds::{Exchange, Request};

/// The requests outstanding on one server connection.
#[derive(Debug, Default)]
pub(crate) struct Exchanges {
    queue: VecDeque<Exchange>,
    /// Extended-protocol messages were sent since the last Sync.
    unsynced: bool,
    /// The server ignores everything until a Sync that has not been sent yet.
    skipping: bool,
    /// The front request is in COPY from the client, and its end has not been sent.
    copying: bool,
    /// It is in COPY in both directions, which may go on for ever.
    streaming: bool,
    /// Syncs sent ahead of the end of a COPY. The server reads over them, unless the COPY fails before it has come
    /// to them: then each is answered.
    doubtful: u32,
    /// The client's entries that end with ready for query.
    boundaries: u32,
    /// The front request was answered by an error: only ready for query is to come.
    failed: bool,
    /// A statement of the front query is complete.
    completed: bool,
    /// What was executed since the last Sync might end the transaction.
    batch_ends: bool,
    /// Something was bound since then.
    batch_binds: bool,
    /// So might a portal of the present transaction, and the unnamed statement, if it is bound.
    portal_ends: bool,
    unnamed_ends: bool,
    /// What was executed since the last Sync resets settings.
    batch_returns: bool,
    /// So does a request that is outstanding.
    returning: bool,
    /// One that did is over; whether it failed.
    returned: Option<bool>,
    /// Whatever the client sends comes behind settings that could not be restored.
    unguarded: bool,
    /// How many of the client's requests that end with ready for query were sent.
    batch: u32,
    /// Changes of statements that are certain now, and those of which the server passed over.
    certain: u32,
    undone: u32,
    /// It passed over the last change of the unnamed statement, or over the client's last.
    unnamed_undone: bool,
    own_unnamed_undone: bool,
    /// Any of these, or an answer of ours is due.
    news: bool,
}

impl Exchanges {
    /// All that is outstanding of the client's, and what it sends from now on, does nothing.
    pub(crate) fn unguard(&mut self) {
        self.unguarded = true;
        self.queue.iter_mut().for_each(|exchange| exchange.unguarded = exchange.owner == Owner::Client);
    }

    /// What the client sends from now on is carried out.
    pub(crate) fn guard(&mut self) {
        self.unguarded = false;
    }

    /// Notes a message to the server.
    #[inline]
    pub(crate) fn sent(&mut self, tag: u8, owner: Owner) -> Result<(), Unexpected> {
        let request = match tag {
            b'Q' => Request::Query,
            b'F' => Request::FunctionCall,
            b'P' => Request::Parse,
            b'B' => Request::Bind,
            b'D' => Request::Describe,
            b'E' => Request::Execute,
            b'C' => Request::Close,
            b'S' => Request::Sync,
            b'c' | b'f' => {
                self.copy_ended(owner);
                return Ok(());
            }
            b'd' | b'H' => return Ok(()),
            _ => return Err(Unexpected),
        };
        match request {
            // Inside COPY the server reads over Flush and Sync (protocol-flow, COPY), and ends the connection at
            // anything else.
            Request::Sync if self.copying => {
                self.doubtful += 1;
                return Ok(());
            }
            _ if self.copying => return Err(Unexpected),
            Request::Sync => {
                self.unsynced = false;
                self.failed |= std::mem::take(&mut self.skipping);
            }
            _ if self.skipping => return Ok(()),
            Request::Query | Request::FunctionCall => self.unsynced = false,
            _ => self.unsynced = true,
        }
        let unguarded = self.unguarded && owner == Owner::Client;
        let mut exchange = Exchange { unguarded, ..Exchange::new(request, owner) };
        if matches!(request, Request::Sync | Request::Query | Request::FunctionCall) {
            self.conclude_batch(&mut exchange);
        }
        self.boundaries += u32::from(exchange.is_boundary());
        self.batch = self.batch.wrapping_add(exchange.is_boundary().into());
        self.queue.push_back(exchange);
        Ok(())
    }

    /// Notes a message that goes to the server in place of one of the client's, and fails there.
    pub(crate) fn sent_instead(&mut self, tag: u8, stands_in: StandIn) -> Result<(), Unexpected> {
        let before = self.queue.len();
        self.sent(tag, Owner::Client)?;
        if let Some(new) = self.queue.get_mut(before) {
            new.stands_in = Some(stands_in);
        }
        Ok(())
    }

    /// Judges a message from the server by its tag and the first byte of its body.
    #[inline]
    pub(crate) fn received(&mut self, tag: u8, first: u8) -> Result<Reply, Mismatch> {
        if self.doubtful > 0
            && let Some(reply) = self.settled(tag)
        {
            return Ok(reply);
        }
        let Some(front) = self.queue.front().copied() else {
            let kind = match tag {
                b'S' | b'N' | b'A' => Kind::Asynchronous,
                b'E' => Kind::Unasked,
                _ => return Err(Mismatch),
            };
            return Ok(Reply { owner: Owner::Client, kind, describes: false });
        };
        let mut owner = front.owner;
        let mut describes = false;
        let kind = match (front.request, tag) {
            (Request::Query | Request::FunctionCall | Request::Sync, b'Z') => {
                self.finish_front();
                self.boundaries -= u32::from(front.is_boundary());
                self.copying = false;
                self.streaming = false;
                let failed = std::mem::take(&mut self.failed);
                if front.returns {
                    self.returning = false;
                    self.returned = Some(failed);
                }
                self.completed = false;
                self.portal_ends &= first != b'I' || !self.at_rest();
                if front.unguarded { Kind::ReadyUnguarded(first) } else { Kind::Ready(first) }
            }
            (_, b'S' | b'N' | b'A') => Kind::Asynchronous,
            (request, b'E') => {
                self.copying = false;
                self.failed(request);
                // What was prepared for a message is part of it.
                let prepares = owner == Owner::Pooler(Errand::Prepare);
                if prepares {
                    owner = Owner::Client;
                }
                match front.stands_in {
                    _ if front.unguarded || prepares && self.unguarded => Kind::Unguarded,
                    Some(why) => Kind::Ours(why),
                    None => Kind::Error,
                }
            }
            (Request::Query, b'C') => {
                self.completed = true;
                self.doubtful = 0;
                Kind::Part
            }
            (Request::Query, b'T' | b'D' | b'I' | b'H' | b'd' | b'c')
            | (Request::FunctionCall, b'V')
            | (Request::Execute, b'D' | b'H' | b'd' | b'c') => Kind::Part,
            (Request::Describe, b't') => {
                describes = front.describes;
                Kind::Part
            }
            // Of COPY in both directions the client's is watched: the server's end may come before or after it.
            (Request::Query | Request::Execute, b'G') | (Request::Query, b'W') => {
                self.streaming = tag == b'W';
                if self.copy_begins(front.request) { Kind::Part } else { Kind::NoData }
            }
            (Request::Parse, b'1')
            | (Request::Bind, b'2')
            | (Request::Close, b'3')
            | (Request::Describe, b'T' | b'n')
            | (Request::Execute, b'C' | b'I' | b's') => {
                self.copying = false;
                self.doubtful = 0;
                self.finish_front();
                describes = front.describes;
                Kind::Part
            }
            _ => return Err(Mismatch),
        };
        Ok(Reply { owner, kind, describes })
    }

    /// The client ended a COPY: the one that is running, or one that the server has yet to begin.
    fn copy_ended(&mut self, owner: Owner) {
        if self.copying {
            self.copying = false;
        } else if !self.queue.is_empty() && !self.skipping {
            self.queue.push_back(Exchange::new(Request::CopyEnd, owner));
        }
    }

    /// The server asks for COPY data. What was sent ahead is either data, its end, or a Sync that it reads over.
    /// False: or something else.
    fn copy_begins(&mut self, request: Request) -> bool {
        while let Some(sync) = self.queue.get(1).copied().filter(|next| next.request == Request::Sync) {
            self.queue.remove(1);
            self.doubtful += 1;
            self.boundaries -= u32::from(sync.is_boundary());
            let later = self.queue.iter().skip(1).any(|later| later.request == Request::Sync);
            self.unsynced |= request == Request::Execute && !later;
        }
        match self.queue.get(1).map(|next| next.request) {
            Some(Request::CopyEnd) => drop(self.queue.remove(1)),
            Some(_) => return false,
            None => self.copying = true,
        }
        true
    }

    /// Whether a message answers one of the Syncs that were sent ahead of COPY data, which no client waits for: until
    /// the answer to what was asked behind them tells that no more of those will come.
    fn settled(&mut self, tag: u8) -> Option<Reply> {
        let owner = Owner::Pooler(Errand::Settle);
        match (self.queue.front(), tag) {
            (None, b'Z') => self.doubtful -= 1,
            (Some(front), b'Z') if front.owner == owner => self.doubtful -= 1,
            (Some(front), b'I' | b'E') if front.owner == owner => {
                self.doubtful = 0;
                return None;
            }
            _ => return None,
        }
        Some(Reply { owner, kind: Kind::Part, describes: false })
    }

    /// An error: in the extended protocol the server now ignores everything up to the next Sync.
    fn failed(&mut self, request: Request) {
        self.failed = true;
        if matches!(request, Request::Query | Request::FunctionCall | Request::Sync) {
            if let Some(front) = self.queue.front_mut().filter(|front| front.changes > 0) {
                self.undone += u32::from(std::mem::take(&mut front.changes));
                self.news = true;
            }
            return;
        }
        while let Some(front) = self.queue.front() {
            if front.request == Request::Sync || planted!(PipelineOutlivesError) {
                // One that is to come makes it good.
                self.unnamed_undone &= !self.unnames();
                self.own_unnamed_undone &= !self.unnames_own();
                return;
            }
            self.pass_over(*front);
            self.queue.pop_front();
        }
        self.failed = false;
        self.skipping = true;
        self.unsynced = true;
    }

    fn finish_front(&mut self) {
        if let Some(front) = self.queue.pop_front() {
            self.certain += u32::from(front.changes);
            self.news |= front.changes > 0;
        }
        while self.queue.front().is_some_and(|front| front.request == Request::CopyEnd) {
            self.queue.pop_front();
        }
        self.news |= self.owes_answer();
    }
}
