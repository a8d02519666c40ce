//! What is asked of a server connection, and what its replies mean.

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
    /// Asks for a user that is not listed.
    Lookup,
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
pub(super) enum Request {
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
pub(super) struct Exchange {
    pub(super) request: Request,
    pub(super) owner: Owner,
    /// Ready for query ends it, and it might have ended the transaction in which it was sent.
    pub(super) ends: bool,
    /// A query that does nothing but roll back.
    pub(super) rolls_back: bool,
    /// It stands for another one: its error is ours to word.
    pub(super) stands_in: Option<StandIn>,
    /// It came behind settings that could not be restored, so it does nothing.
    pub(super) unguarded: bool,
    /// Ready for query ends it, and settings that were reset.
    pub(super) returns: bool,
    /// Changes of statements that are certain once it is answered.
    pub(super) changes: u8,
    /// The answer tells the form of a statement.
    pub(super) describes: bool,
    /// It replaces or destroys the unnamed statement.
    pub(super) unnames: bool,
}

impl Exchange {
    #[inline]
    pub(super) fn new(request: Request, owner: Owner) -> Self {
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
    pub(super) fn unnames_own(self) -> bool {
        self.unnames && self.owner == Owner::Client
    }

    /// Whether ready for query ends it, and the client hears that.
    #[inline]
    pub(super) fn is_boundary(self) -> bool {
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

/// What became of changes that were outstanding.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct News {
    pub(crate) certain: u32,
    pub(crate) undone: u32,
    /// Which unnamed statement the server has is not known; and the client's is none.
    pub(crate) unnamed_undone: bool,
    pub(crate) own_unnamed_undone: bool,
}
