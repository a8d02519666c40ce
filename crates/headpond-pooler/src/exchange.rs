//! Which reply belongs to which request, on one server connection.
//!
//! Every request has an entry with its owner and the replies it allows
//! (<https://www.postgresql.org/docs/current/protocol-flow.html>). Replies come in the order of the requests,
//! so the front entry owns whatever arrives; asynchronous messages belong to nobody. Anything else is a
//! mismatch, and the pair is closed rather than a byte passed on.

use std::collections::VecDeque;

/// On whose account a request runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The client that holds the lease: its replies are forwarded.
    Client,
    /// Ourselves: the replies are swallowed.
    Pooler(Errand),
}

/// Why the pooler asks the server something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Brings the session's settings to what the client has, ahead of its first message.
    Settings,
    /// Asks the server how many connections it has.
    Survey,
    /// Tests an idle connection.
    Check,
    /// Clears the session before the next client.
    Reset,
    /// Ends what a client that left has begun.
    CleanUp,
}

/// What was asked. The comment says which messages answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// Any number of results and errors, then ready for query.
    Query,
    /// A result or an error, then ready for query.
    FunctionCall,
    /// Parse complete, or an error.
    Parse,
    /// Bind complete, or an error.
    Bind,
    /// Parameters and then rows or no data; or for a portal only the latter; or an error.
    Describe,
    /// Rows, then complete, empty or suspended; or a COPY; or an error.
    Execute,
    /// Close complete, or an error.
    Close,
    /// Ready for query; an error may come first (what a commit finds).
    Sync,
    /// Nothing: the client ended a COPY that the server has not begun to ask for yet.
    CopyEnd,
}

#[derive(Clone, Copy, Debug)]
struct Exchange {
    request: Request,
    owner: Owner,
}

impl Exchange {
    /// Whether ready for query ends it, and the client hears that.
    #[inline]
    fn is_boundary(self) -> bool {
        self.owner == Owner::Client
            && matches!(self.request, Request::Query | Request::FunctionCall | Request::Sync)
    }
}

/// What a message from the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Whose it is; for an asynchronous message, of whoever is being served.
    pub(crate) owner: Owner,
    /// What it means for the connection.
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Part of an answer.
    Part,
    /// Parameter status, notice or notification.
    Asynchronous,
    /// An error; `in_copy`: the client may still be sending data for the COPY that ended with it.
    Error { in_copy: bool },
    /// An error nobody asked for: the server is about to close.
    Unasked,
    /// An exchange is over; its transaction status.
    Ready(u8),
}

/// A reply that no request allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch;

/// A message that a client may not send here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unexpected;

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
    /// The client's entries that end with ready for query.
    boundaries: u32,
}

impl Exchanges {
    /// Nothing is outstanding, and the server waits for a new request.
    #[inline]
    pub(crate) fn at_rest(&self) -> bool {
        self.queue.is_empty() && !self.unsynced
    }

    /// The server waits for COPY data.
    pub(crate) fn is_copying(&self) -> bool {
        self.copying
    }

    /// The session's settings are being set: nobody knows yet whether they can be.
    #[inline]
    pub(crate) fn is_setting(&self) -> bool {
        self.queue.front().is_some_and(|front| front.owner == Owner::Pooler(Errand::Settings))
    }

    /// Messages were sent that only a Sync can conclude.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Whether ready for query is still to come for something that the client sent.
    #[inline]
    pub(crate) fn has_boundary(&self) -> bool {
        self.boundaries > 0
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
            // Inside COPY the server reads over Sync ("Flush and Sync are ignored", protocol-flow, COPY).
            Request::Sync if self.copying => return Ok(()),
            Request::Sync => {
                self.unsynced = false;
                self.skipping = false;
            }
            _ if self.skipping => return Ok(()),
            Request::Query | Request::FunctionCall => self.unsynced = false,
            _ => self.unsynced = true,
        }
        let exchange = Exchange { request, owner };
        self.boundaries += u32::from(exchange.is_boundary());
        self.queue.push_back(exchange);
        Ok(())
    }

    /// Judges a message from the server by its tag and the first byte of its body.
    #[inline]
    pub(crate) fn received(&mut self, tag: u8, first: u8) -> Result<Reply, Mismatch> {
        let Some(front) = self.queue.front().copied() else {
            let kind = match tag {
                b'S' | b'N' | b'A' => Kind::Asynchronous,
                b'E' => Kind::Unasked,
                _ => return Err(Mismatch),
            };
            return Ok(Reply { owner: Owner::Client, kind });
        };
        let owner = front.owner;
        let kind = match (front.request, tag) {
            (Request::Query | Request::FunctionCall | Request::Sync, b'Z') => {
                self.finish_front();
                self.boundaries -= u32::from(front.is_boundary());
                self.copying = false;
                Kind::Ready(first)
            }
            (_, b'S' | b'N' | b'A') => Kind::Asynchronous,
            (request, b'E') => {
                let in_copy = std::mem::take(&mut self.copying);
                self.failed(request);
                Kind::Error { in_copy }
            }
            (Request::Query, b'T' | b'D' | b'C' | b'I' | b'H' | b'd' | b'c')
            | (Request::FunctionCall, b'V')
            | (Request::Describe, b't')
            | (Request::Execute, b'D' | b'H' | b'd' | b'c') => Kind::Part,
            (Request::Query | Request::Execute, b'G') => {
                self.copy_begins(front.request);
                Kind::Part
            }
            (Request::Parse, b'1')
            | (Request::Bind, b'2')
            | (Request::Close, b'3')
            | (Request::Describe, b'T' | b'n')
            | (Request::Execute, b'C' | b'I' | b's') => {
                self.copying = false;
                self.finish_front();
                Kind::Part
            }
            _ => return Err(Mismatch),
        };
        Ok(Reply { owner, kind })
    }

    /// The client ended a COPY: the one that is running, or one that the server has yet to begin.
    fn copy_ended(&mut self, owner: Owner) {
        if self.copying {
            self.copying = false;
        } else if !self.queue.is_empty() && !self.skipping {
            self.queue.push_back(Exchange { request: Request::CopyEnd, owner });
        }
    }

    /// The server asks for COPY data. What was sent ahead is either data, its end, or a Sync that it reads over.
    fn copy_begins(&mut self, request: Request) {
        if request == Request::Execute {
            while let Some(sync) = self.queue.get(1).copied().filter(|next| next.request == Request::Sync) {
                self.queue.remove(1);
                self.boundaries -= u32::from(sync.is_boundary());
                self.unsynced |= !self.queue.iter().skip(1).any(|later| later.request == Request::Sync);
            }
        }
        if self.queue.get(1).is_some_and(|next| next.request == Request::CopyEnd) {
            self.queue.remove(1);
        } else {
            self.copying = true;
        }
    }

    /// An error: in the extended protocol the server now ignores everything up to the next Sync.
    fn failed(&mut self, request: Request) {
        if matches!(request, Request::Query | Request::FunctionCall | Request::Sync) {
            return;
        }
        while let Some(front) = self.queue.front() {
            if front.request == Request::Sync {
                return;
            }
            self.boundaries -= u32::from(front.is_boundary());
            self.queue.pop_front();
        }
        self.skipping = true;
        self.unsynced = true;
    }

    fn finish_front(&mut self) {
        self.queue.pop_front();
        while self.queue.front().is_some_and(|front| front.request == Request::CopyEnd) {
            self.queue.pop_front();
        }
    }
}
