//! What requests may do to the transaction that they are sent in, and to settings: end it, roll it back, reset them.

use super::{Exchange, Exchanges, Owner, Request};
use crate::endings;

impl Exchanges {
    /// All that is outstanding is a query that does nothing but roll back.
    pub(crate) fn only_rolls_back(&self) -> bool {
        !self.failed && self.queue.len() == 1 && self.queue.front().is_some_and(|front| front.rolls_back)
    }

    /// The client heard an error of the front request, which cannot have ended its transaction before that.
    pub(crate) fn has_failed_inside(&self) -> bool {
        self.has_failed() && self.queue.front().is_some_and(|front| !front.ends)
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

    /// What was executed since the last request that ends with ready for query is over with this one, whoever sends it.
    #[inline]
    pub(super) fn conclude_batch(&mut self, exchange: &mut Exchange) {
        self.batch_binds = false;
        exchange.ends = std::mem::take(&mut self.batch_ends) && !planted!(CommitOfPipelineUnseen);
        exchange.returns = std::mem::take(&mut self.batch_returns);
        self.returning |= exchange.returns;
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
}
