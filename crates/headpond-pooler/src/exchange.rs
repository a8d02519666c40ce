//! Which reply belongs to which request, on one server connection.
//!
//! Every request has an entry with its owner and the replies it allows
//! (<https://www.postgresql.org/docs/current/protocol-flow.html>). Replies come in the order of the requests,
//! so the front entry owns whatever arrives; asynchronous messages belong to nobody. Anything else is a
//! mismatch, and the pair is closed rather than a byte passed on.

use std::collections::VecDeque;

use crate::endings;

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
    /// Asks the server about itself, on the control connection.
    Control,
    /// Tests an idle connection.
    Check,
    /// Clears the session before the next client.
    Reset,
    /// Asks a session that was reset what no reset undoes; and a new one, to know what is like it.
    Verify,
    Baseline,
    /// Ends what a client that left has begun.
    CleanUp,
    /// Puts a session into a failed transaction, for a client that lost the one it had.
    Abort,
    /// Finds out which of the Syncs that were sent ahead of the data of a failed COPY are answered.
    Settle,
    /// Finds out what a client's transaction left in its session.
    Probe,
    /// Sets again what a client's startup packet said, after a reset.
    Layer,
    /// Finds out whether the database's catalogue has changed, and what it says of names in texts.
    Fingerprint,
    Catalogue,
    /// Brings the statements of a connection to what the client's next message needs. If that fails, so does the
    /// message, and the client hears the error.
    Prepare,
}

/// What a client is told of its statements without a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Parsed,
    Closed,
}

/// For which message one that fails was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StandIn {
    /// One that was too large to be passed on.
    TooLarge,
    /// One that asks for the value of a sequence which it might not have drawn itself.
    Sequence,
    /// A Parse of a name that the client has used.
    NameTaken,
    /// A Bind of a statement whose parameters or rows have another form than the client was told.
    Reshaped,
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
    /// Nothing: it was not sent. The answer is ours, when everything before it is answered.
    Own(Answer),
}

#[derive(Clone, Copy, Debug)]
struct Exchange {
    request: Request,
    owner: Owner,
    /// Ready for query ends it, and it might have ended the transaction in which it was sent.
    ends: bool,
    /// A query that does nothing but roll back.
    rolls_back: bool,
    /// It stands for another one: its error is ours to word.
    stands_in: Option<StandIn>,
    /// It came behind settings that could not be restored, so it does nothing.
    unguarded: bool,
    /// Ready for query ends it, and settings that were reset.
    returns: bool,
    /// Changes of statements that are certain once it is answered.
    changes: u8,
    /// The answer tells the form of a statement.
    describes: bool,
    /// It replaces or destroys the unnamed statement.
    unnames: bool,
}

impl Exchange {
    #[inline]
    fn new(request: Request, owner: Owner) -> Self {
        Self {
            request,
            owner,
            ends: false,
            rolls_back: false,
            stands_in: None,
            unguarded: false,
            returns: false,
            changes: 0,
            describes: false,
            unnames: request == Request::Query,
        }
    }

    /// Whether the client replaces or destroys its unnamed statement by it.
    fn unnames_own(self) -> bool {
        self.unnames && self.owner == Owner::Client
    }

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
    /// It tells the form of a statement.
    pub(crate) describes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Part of an answer.
    Part,
    /// Parameter status, notice or notification.
    Asynchronous,
    /// An error. Of a COPY: the client may still be sending data for it.
    Error,
    /// The error of a request that stands for another one.
    Ours(StandIn),
    /// An error nobody asked for: the server is about to close.
    Unasked,
    /// An error of a request that came behind settings which could not be restored.
    Unguarded,
    /// An exchange is over; its transaction status.
    Ready(u8),
    /// An exchange is over that came behind settings which could not be restored.
    ReadyUnguarded(u8),
    /// The server asks for COPY data, and something else was sent in their place: it will end the connection.
    NoData,
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

/// What became of changes that were outstanding.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct News {
    pub(crate) certain: u32,
    pub(crate) undone: u32,
    /// Which unnamed statement the server has is not known; and the client's is none.
    pub(crate) unnamed_undone: bool,
    pub(crate) own_unnamed_undone: bool,
}

impl Exchanges {
    /// Nothing is outstanding, and the server waits for a new request.
    #[inline]
    pub(crate) fn at_rest(&self) -> bool {
        let left = usize::from(planted!(ReleasedWithOneOutstanding));
        self.queue.len() <= left && !self.unsynced && self.doubtful == 0
    }

    /// All that was asked is answered, and still nobody knows whether more is to come.
    #[inline]
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.doubtful > 0 && self.queue.is_empty() && !self.unsynced
    }

    /// The server waits for COPY data.
    pub(crate) fn is_copying(&self) -> bool {
        self.copying
    }

    /// The front request is in COPY in both directions.
    pub(crate) fn is_streaming(&self) -> bool {
        self.streaming
    }

    /// The session's settings are being set: nobody knows yet whether they can be.
    #[inline]
    pub(crate) fn is_setting(&self) -> bool {
        self.queue.front().is_some_and(|front| front.owner == Owner::Pooler(Errand::Settings))
    }

    /// What is being answered is the pooler's own.
    pub(crate) fn is_on_errand(&self) -> bool {
        let clients = [Owner::Client, Owner::Pooler(Errand::Prepare)];
        self.queue.front().is_some_and(|front| !clients.contains(&front.owner))
    }

    /// Something of the client's relies on an errand ahead of it: a cancel could strike that, and not what it guards.
    pub(crate) fn is_guarded(&self) -> bool {
        self.is_on_errand() && self.is_on(Owner::Client)
    }

    /// Whether something of `owner`'s is outstanding.
    pub(crate) fn is_on(&self, owner: Owner) -> bool {
        self.queue.iter().any(|exchange| exchange.owner == owner)
    }

    /// Whether the catalogue is being asked.
    pub(crate) fn is_asking(&self) -> bool {
        self.is_on(Owner::Pooler(Errand::Fingerprint)) || self.is_on(Owner::Pooler(Errand::Catalogue))
    }

    /// How many entries are the client's.
    pub(crate) fn clients(&self) -> usize {
        self.queue.iter().filter(|exchange| exchange.owner == Owner::Client).count()
    }

    /// How many times ready for query is still to come for the client.
    pub(crate) fn boundaries(&self) -> u32 {
        self.boundaries
    }

    /// The client heard an error, and its next Sync has not been sent.
    pub(crate) fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// A statement of the query that is being answered was complete.
    pub(crate) fn has_completed(&self) -> bool {
        self.completed
    }

    /// What the client sent first of all that is outstanding, as far as it only closes and syncs: whether each is
    /// a Sync.
    pub(crate) fn leading_quiet(&self) -> Vec<bool> {
        let mine = self.queue.iter().filter(|exchange| exchange.owner == Owner::Client);
        mine.map_while(|exchange| match exchange.request {
            Request::Close | Request::Own(Answer::Closed) => Some(false),
            Request::Sync => Some(true),
            _ => None,
        })
        .collect()
    }

    /// All that is outstanding is a query that does nothing but roll back.
    pub(crate) fn only_rolls_back(&self) -> bool {
        !self.failed && self.queue.len() == 1 && self.queue.front().is_some_and(|front| front.rolls_back)
    }

    /// The client heard an error of the front request, which cannot have ended its transaction before that.
    pub(crate) fn has_failed_inside(&self) -> bool {
        self.has_failed() && self.queue.front().is_some_and(|front| !front.ends)
    }

    /// The client heard an error of the front request, and ready for query is to follow.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed && self.queue.front().is_some_and(|front| front.owner == Owner::Client)
    }

    /// Something of the client's was sent, outside a transaction, whose outcome it has not heard.
    pub(crate) fn has_unknown(&self) -> bool {
        let outstanding = self.queue.iter().skip(usize::from(self.failed));
        outstanding.into_iter().any(|exchange| exchange.owner == Owner::Client)
            || self.unsynced && !self.skipping
    }

    /// Something was sent that might have ended the transaction.
    pub(crate) fn may_have_ended(&self) -> bool {
        self.batch_ends || self.queue.iter().any(|exchange| exchange.ends)
    }

    /// Takes note of what a message of the client's, which was just sent, may do to the transaction it is in.
    /// `whole`: the body is all there.
    #[inline]
    pub(crate) fn weigh(&mut self, tag: u8, body: &[u8], whole: bool, status: u8) {
        match tag {
            // Outside a transaction nothing depends on it.
            b'Q' if status == b'I' && self.queue.len() == 1 => {}
            b'Q' => {
                if let Some(query) = self.queue.back_mut() {
                    let batch = std::mem::replace(&mut query.ends, !whole || endings::may_end(body));
                    query.rolls_back = whole && query.ends && !batch && endings::only_rolls_back(body);
                    query.ends |= batch;
                }
            }
            b'P' if body.first() == Some(&0) => self.unnamed_ends = endings::begins_with_ending(&body[1..]),
            b'B' => {
                let ends = self.unnamed_ends || !endings::binds_unnamed(body);
                self.weigh_bind(ends);
            }
            b'E' => self.batch_ends |= self.portal_ends && !self.batch_binds,
            _ => {}
        }
    }

    /// What the client just sent resets settings.
    pub(crate) fn returns(&mut self) {
        match self.queue.back_mut() {
            Some(query) if query.request == Request::Query => {
                query.returns = true;
                self.returning = true;
            }
            _ => self.batch_returns = true,
        }
    }

    /// A request is outstanding that resets settings.
    #[inline]
    pub(crate) fn is_returning(&self) -> bool {
        self.returning
    }

    /// A request that reset settings is over: whether it failed.
    #[inline]
    pub(crate) fn take_returned(&mut self) -> Option<bool> {
        self.returned.take()
    }

    /// All that is outstanding of the client's, and what it sends from now on, does nothing.
    pub(crate) fn unguard(&mut self) {
        self.unguarded = true;
        self.queue.iter_mut().for_each(|exchange| exchange.unguarded = exchange.owner == Owner::Client);
    }

    /// What the client sends from now on is carried out.
    pub(crate) fn guard(&mut self) {
        self.unguarded = false;
    }

    /// As [`Exchanges::weigh`], for a Bind of which it is known whether its statement might end the transaction.
    pub(crate) fn weigh_bind(&mut self, ends: bool) {
        self.batch_binds = true;
        self.batch_ends |= ends;
        self.portal_ends |= ends;
    }

    /// The unnamed statement is another one, of which it is known whether it might end the transaction.
    pub(crate) fn weigh_unnamed(&mut self, ends: bool) {
        self.unnamed_ends = ends;
    }

    /// Which of the client's batches is being sent: each ends with ready for query.
    pub(crate) fn batch(&self) -> u32 {
        self.batch
    }

    /// Whether a batch before this one is not answered.
    pub(crate) fn is_outstanding(&self, batch: u32) -> bool {
        let ago = self.batch.wrapping_sub(batch);
        ago != 0 && ago <= self.boundaries
    }

    /// Something outstanding replaces or destroys the unnamed statement.
    fn unnames(&self) -> bool {
        self.queue.iter().any(|exchange| exchange.unnames)
    }

    /// So does something of the client's.
    pub(crate) fn unnames_own(&self) -> bool {
        self.queue.iter().any(|exchange| exchange.unnames_own())
    }

    /// Takes note of what depends on the message that was just sent.
    pub(crate) fn note(&mut self, changes: u8, describes: bool, unnames: bool) {
        if let Some(last) = self.queue.back_mut() {
            last.changes = changes;
            last.describes = describes;
            last.unnames |= unnames;
        }
    }

    /// Notes a message that goes no further: its answer is ours, in its turn.
    pub(crate) fn answered(&mut self, answer: Answer, changes: u8) {
        self.queue.push_back(Exchange { changes, ..Exchange::new(Request::Own(answer), Owner::Client) });
        self.unsynced = true;
        self.news = true;
    }

    /// The answer of ours that is due.
    pub(crate) fn next_answer(&mut self) -> Option<Answer> {
        let Some(Exchange { request: Request::Own(answer), .. }) = self.queue.front().copied() else {
            return None;
        };
        self.finish_front();
        Some(answer)
    }

    /// An answer of ours is due.
    pub(crate) fn owes_answer(&self) -> bool {
        self.queue.front().is_some_and(|front| matches!(front.request, Request::Own(_)))
    }

    /// Something is known of changes, or an answer of ours is due.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.news
    }

    /// What is known now of changes that were outstanding.
    pub(crate) fn take_news(&mut self) -> News {
        self.news = false;
        News {
            certain: std::mem::take(&mut self.certain),
            undone: std::mem::take(&mut self.undone),
            unnamed_undone: std::mem::take(&mut self.unnamed_undone),
            own_unnamed_undone: std::mem::take(&mut self.own_unnamed_undone),
        }
    }

    /// Something was sent that is not answered.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.queue.is_empty()
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

    /// What was executed since the last request that ends with ready for query is over with this one, whoever sends it.
    #[inline]
    fn conclude_batch(&mut self, exchange: &mut Exchange) {
        self.batch_binds = false;
        exchange.ends = std::mem::take(&mut self.batch_ends) && !planted!(CommitOfPipelineUnseen);
        exchange.returns = std::mem::take(&mut self.batch_returns);
        self.returning |= exchange.returns;
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

    /// The server does not come to a request.
    fn pass_over(&mut self, request: Exchange) {
        self.boundaries -= u32::from(request.is_boundary());
        self.undone += u32::from(request.changes);
        self.unnamed_undone |= request.unnames;
        self.own_unnamed_undone |= request.unnames_own();
        self.news |= request.changes > 0 || request.unnames || request.describes;
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

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Owner = Owner::Pooler(Errand::Settle);

    fn sent(exchanges: &mut Exchanges, tags: &[u8]) {
        for tag in tags {
            assert_eq!(exchanges.sent(*tag, Owner::Client), Ok(()), "{:?}", char::from(*tag));
        }
    }

    fn received(exchanges: &mut Exchanges, tags: &[u8]) -> Vec<(Owner, Kind)> {
        let reply = |tag: &u8| exchanges.received(*tag, b'I').expect("it answers something");
        tags.iter().map(reply).map(|reply| (reply.owner, reply.kind)).collect()
    }

    /// A COPY of the extended protocol with a Sync sent ahead of its data, of which the server asks for the latter.
    fn copy_with_early_sync() -> Exchanges {
        let mut exchanges = Exchanges::default();
        sent(&mut exchanges, b"PBES");
        received(&mut exchanges, b"12G");
        assert!(exchanges.is_copying() && exchanges.boundaries() == 0);
        exchanges
    }

    #[test]
    fn a_sync_ahead_of_copy_data_is_read_over() {
        let mut exchanges = copy_with_early_sync();
        sent(&mut exchanges, b"dcS");
        received(&mut exchanges, b"C");
        assert_eq!(received(&mut exchanges, b"Z"), [(Owner::Client, Kind::Ready(b'I'))]);
        assert!(exchanges.at_rest() && !exchanges.is_in_doubt());
    }

    #[test]
    fn a_sync_ahead_of_copy_data_that_failed_may_be_answered_before_the_client_s_own() {
        let mut exchanges = copy_with_early_sync();
        assert_eq!(received(&mut exchanges, b"EZ"), [(Owner::Client, Kind::Error), (OURS, Kind::Part)]);
        assert!(!exchanges.at_rest());
        sent(&mut exchanges, b"dfS");
        assert_eq!(received(&mut exchanges, b"Z"), [(Owner::Client, Kind::Ready(b'I'))]);
        assert!(exchanges.at_rest());
    }

    #[test]
    fn a_copy_that_failed_is_not_over_before_it_is_known_which_syncs_are_answered() {
        for answered in [false, true] {
            let mut exchanges = copy_with_early_sync();
            sent(&mut exchanges, b"dfS");
            assert_eq!(
                received(&mut exchanges, b"EZ"),
                [(Owner::Client, Kind::Error), (Owner::Client, Kind::Ready(b'I'))]
            );
            assert!(exchanges.is_in_doubt() && !exchanges.at_rest());
            exchanges.sent(b'Q', OURS).expect("the end of doubt");
            if answered {
                assert_eq!(received(&mut exchanges, b"Z"), [(OURS, Kind::Part)]);
            }
            assert_eq!(received(&mut exchanges, b"IZ"), [(OURS, Kind::Part), (OURS, Kind::Ready(b'I'))]);
            assert!(exchanges.at_rest());
        }
    }

    #[test]
    fn what_one_client_executed_is_not_held_against_the_next_one() {
        let mut exchanges = Exchanges::default();
        for (tag, body) in [(b'P', &b"\0COMMIT\0\0\0"[..]), (b'B', b"\0\0"), (b'E', b"\0\0\0\0\0")] {
            sent(&mut exchanges, &[tag]);
            exchanges.weigh(tag, body, true, b'T');
        }
        received(&mut exchanges, b"12C");
        assert!(exchanges.may_have_ended());
        exchanges.sent(b'S', OURS).expect("it follows");
        assert!(exchanges.may_have_ended());
        received(&mut exchanges, b"Z");
        assert!(!exchanges.may_have_ended());
    }

    #[test]
    fn a_request_in_place_of_copy_data_is_the_client_s_fault() {
        let mut exchanges = copy_with_early_sync();
        assert_eq!(exchanges.sent(b'Q', Owner::Client), Err(Unexpected));
        let mut exchanges = Exchanges::default();
        sent(&mut exchanges, b"QQ");
        assert_eq!(received(&mut exchanges, b"G"), [(Owner::Client, Kind::NoData)]);
    }
}
