//! What is outstanding, as others ask for it.

use super::{Answer, Errand, Exchanges, Owner, Request};

impl Exchanges {
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

    /// The client heard an error of the front request, and ready for query is to follow.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed && self.queue.front().is_some_and(|front| front.owner == Owner::Client)
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
}
