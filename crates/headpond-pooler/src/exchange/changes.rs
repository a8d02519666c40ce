//! Changes of prepared statements that requests carry, and answers of ours among those of the server.

use super::{Answer, Exchange, Exchanges, News, Owner, Request};

impl Exchanges {
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
    pub(super) fn unnames(&self) -> bool {
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

    /// The server does not come to a request.
    pub(super) fn pass_over(&mut self, request: Exchange) {
        self.boundaries -= u32::from(request.is_boundary());
        self.undone += u32::from(request.changes);
        self.unnamed_undone |= request.unnames;
        self.own_unnamed_undone |= request.unnames_own();
        self.news |= request.changes > 0 || request.unnames || request.describes;
    }
}
