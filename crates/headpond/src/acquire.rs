//! A request for a connection.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::task::coop;
use tokio::time::Instant;

use crate::connector::Connector;
use crate::error::{AcquireError, TimedOut};
use crate::inner::Inner;
use crate::labels;
use crate::lease::{Lease, give_back, lost, take_at_hand};
use crate::raw::{Entry, Node};
use crate::slot::{Slot, Tag};
use crate::state::{Answer, Outcome, Refused};

pin_project! {
    #[project = Projection]
    /// A request for a connection: a future, made by [`Pool::acquire`](crate::Pool::acquire).
    ///
    /// Its place in the queue is taken when it is first polled. It is cancel-safe: dropped while it waits, it leaves the
    /// queue without a trace; dropped when it was just served, the connection goes to the next who waits. What the pool
    /// does for it (a login, a test) goes on and serves somebody else.
    #[must_use = "a future does nothing unless it is awaited"]
    pub struct Acquire<'p, C: Connector> {
        pool: &'p Arc<Inner<C>>,
        tag: Tag,
        #[pin]
        node: Node<Outcome<C>>,
    }

    impl<C: Connector> PinnedDrop for Acquire<'_, C> {
        fn drop(this: Pin<&mut Self>) {
            this.leave();
        }
    }
}

impl<'p, C: Connector> Acquire<'p, C> {
    pub(crate) fn new(pool: &'p Arc<Inner<C>>, site: &'static Location<'static>) -> Self {
        let tag = Tag { site, label: None };
        Self { pool, tag, node: Node::new() }
    }

    /// What it is for: named in errors and leak reports, beside the place in the program.
    pub fn label(mut self, label: &'static str) -> Self {
        self.tag.label = Some(labels::intern(label));
        self
    }

    /// It gives up then, or after `acquire_timeout` if that is earlier. A deadline that is sure to be missed, by all
    /// that is known of the queue, is not waited for.
    pub fn until(mut self, deadline: Instant) -> Self {
        self.node.set_deadline(self.pool.clock.tick(deadline));
        self
    }

    /// As [`Acquire::until`], from now.
    pub fn within(self, patience: Duration) -> Self {
        let deadline = Instant::now().checked_add(patience);
        match deadline {
            Some(deadline) => self.until(deadline),
            None => self,
        }
    }
}

impl<C: Connector> Future for Acquire<'_, C> {
    type Output = Result<Lease<C>, AcquireError<C::Error>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // A task that only ever finds idle connections must yield at times, too.
        let coop = ready!(coop::poll_proceed(cx));
        let mut this = self.project();
        if this.node.is_new() {
            let (tag, task) = (*this.tag, task_of(cx));
            if let Some(slot) = take_at_hand(this.pool, |slot| slot.mark.name(tag, task)) {
                coop.made_progress();
                this.node.as_mut().finish();
                return Poll::Ready(Ok(Lease::new(slot)));
            }
        }
        let polled = this.poll_queue(cx);
        if polled.is_ready() {
            coop.made_progress();
        }
        polled
    }
}

impl<C: Connector> Projection<'_, '_, C> {
    fn poll_queue(mut self, cx: &Context<'_>) -> Poll<Result<Lease<C>, AcquireError<C::Error>>> {
        if self.node.is_new() {
            return self.enter(cx);
        }
        let outcome = self.node.as_mut().take().or_else(|| {
            // Woken for something else, or by another task that has it now.
            let mut state = self.pool.lock();
            // Served meanwhile, its number may be another one's. What was posted is in the queue by now.
            if self.node.is_queued() {
                state.renew_waker(self.node.number(), cx.waker());
            }
            drop(state);
            self.node.as_mut().take()
        });
        match outcome {
            Some(Some(slot)) => self.granted(slot, cx),
            Some(None) => {
                self.node.as_mut().finish();
                Poll::Ready(Err(self.refused(cx)))
            }
            None => {
                assert!(!self.node.is_done(), "a request was polled after it was answered");
                Poll::Pending
            }
        }
    }

    /// The request is made: of the machine, for nothing is at hand.
    fn enter(&mut self, cx: &Context<'_>) -> Poll<Result<Lease<C>, AcquireError<C::Error>>> {
        let pool = *self.pool;
        if !pool.has_runtime() && pool.runtime().is_none() {
            return Poll::Ready(Err(AcquireError::NoRuntime));
        }
        let Some(answer) = self.ask(cx) else { return Poll::Pending };
        let error = match answer {
            Answer::Granted(slot) => return self.granted(slot, cx),
            Answer::Queued(_) => return Poll::Pending,
            Answer::Full(full) => AcquireError::Full(full),
            Answer::WouldMiss(full) => AcquireError::WouldMiss(full),
            Answer::Login(failure) => AcquireError::Login(failure),
            Answer::Nested(holder) => AcquireError::Nested(holder),
            Answer::Closed => AcquireError::Closed,
        };
        self.node.as_mut().finish();
        Poll::Ready(Err(error))
    }

    /// `None`: the request was posted, and its answer comes with a wake.
    fn ask(&mut self, cx: &Context<'_>) -> Option<Answer<C>> {
        let pool = *self.pool;
        let now = pool.clock.now_under_load();
        pool.clock.refresh(now);
        let door = pool.grounds.door;
        // Whose request it is, is known here only.
        let nested = pool.options.refuse_nested;
        // Who has a deadline of its own may be told at once that it would miss it.
        let locked = if !nested && self.node.deadline().is_none() && door.is_queueing() {
            None
        } else if nested {
            Some(door.lock(now))
        } else {
            door.try_lock(|_| now)
        };
        let Some(mut state) = locked else {
            door.post(Entry::Request(self.node.as_mut().post(cx.waker().clone())?));
            return None;
        };
        let now = state.last();
        if nested && let Some(own) = state.nested(now, task_of(cx)) {
            return Some(Answer::Nested(own));
        }
        Some(state.acquire(now, self.node.as_mut(), || cx.waker().clone()))
    }

    fn granted(
        &mut self,
        mut slot: Box<Slot<C>>,
        cx: &Context<'_>,
    ) -> Poll<Result<Lease<C>, AcquireError<C::Error>>> {
        if self.pool.connector.is_broken(&mut slot.connection) {
            lost(slot);
            // It goes to the end of the queue: whoever is there has not been served either.
            return self.enter(cx);
        }
        self.node.as_mut().finish();
        slot.mark.name(*self.tag, task_of(cx));
        Poll::Ready(Ok(Lease::new(slot)))
    }

    fn refused(&self, cx: &Context<'_>) -> AcquireError<C::Error> {
        let mut state = self.pool.lock();
        let now = state.last();
        match state.take_refusal(self.node.address()) {
            Some(Refused::TimedOut(waited, situation)) => {
                let own = state.held_by(now, task_of(cx));
                AcquireError::TimedOut(Box::new(TimedOut { waited, own, situation }))
            }
            Some(Refused::Full(full)) => AcquireError::Full(full),
            Some(Refused::WouldMiss(full)) => AcquireError::WouldMiss(full),
            Some(Refused::Login(failure)) => AcquireError::Login(failure),
            Some(Refused::Closed) | None => AcquireError::Closed,
        }
    }
}

impl<C: Connector> Acquire<'_, C> {
    /// Nobody polls it any more.
    #[inline]
    fn leave(self: Pin<&mut Self>) {
        let this = self.project();
        if this.node.is_pending() {
            this.leave_queue();
        }
    }
}

impl<C: Connector> Projection<'_, '_, C> {
    fn leave_queue(mut self) {
        if self.node.is_away() {
            let node = self.node.as_ref();
            self.pool.turn(|state, now| {
                // What was posted is in the queue by now. It may have been served meanwhile.
                if node.is_queued() {
                    state.withdraw(now, node.number());
                }
            });
        }
        match self.node.as_mut().take() {
            Some(Some(slot)) => give_back(slot),
            Some(None) => drop(self.pool.lock().take_refusal(self.node.address())),
            None => {}
        }
    }
}

/// Tells tasks apart while they live: wakers of one task lead to the same place.
fn task_of(cx: &Context<'_>) -> usize {
    cx.waker().data() as usize
}
