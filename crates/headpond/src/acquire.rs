//! A request for a connection.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use headpond_core::{Tick, WaiterId};
use pin_project_lite::pin_project;
use tokio::task::coop;
use tokio::time::Instant;

use crate::connector::Connector;
use crate::error::{AcquireError, TimedOut};
use crate::inner::Inner;
use crate::labels;
use crate::lease::{Lease, give_back, lost, take_at_hand};
use crate::raw::Node;
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
        // When to give up; of one that waits, since when it does.
        time: Tick,
        place: Place,
        #[pin]
        node: Node<Outcome<C>>,
    }

    impl<C: Connector> PinnedDrop for Acquire<'_, C> {
        fn drop(this: Pin<&mut Self>) {
            this.leave();
        }
    }
}

/// Where a request is.
#[derive(Clone, Copy, Debug)]
enum Place {
    New,
    /// Until the node is served.
    Queued(WaiterId, u32),
    Done,
}

impl<'p, C: Connector> Acquire<'p, C> {
    pub(crate) fn new(pool: &'p Arc<Inner<C>>, site: &'static Location<'static>) -> Self {
        let tag = Tag { site, label: None };
        Self { pool, tag, time: Tick::NEVER, place: Place::New, node: Node::new() }
    }

    /// What it is for: named in errors and leak reports, beside the place in the program.
    pub fn label(mut self, label: &'static str) -> Self {
        self.tag.label = Some(labels::intern(label));
        self
    }

    /// It gives up then, or after `acquire_timeout` if that is earlier. A deadline that is sure to be missed, by all
    /// that is known of the queue, is not waited for.
    pub fn until(mut self, deadline: Instant) -> Self {
        self.time = self.pool.clock.tick(deadline);
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
        let this = self.project();
        if matches!(this.place, Place::New) {
            let (tag, task) = (*this.tag, task_of(cx));
            if let Some(slot) = take_at_hand(this.pool, |slot| slot.mark.name(tag, task)) {
                coop.made_progress();
                *this.place = Place::Done;
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
        match *self.place {
            Place::New => self.enter(cx),
            Place::Queued(_, number) => {
                let outcome = self.node.as_mut().take().or_else(|| {
                    // Woken for something else, or by another task that has it now.
                    let mut state = self.pool.lock();
                    // Served meanwhile, its number may be another one's.
                    if self.node.is_queued() {
                        state.renew_waker(number, cx.waker());
                    }
                    drop(state);
                    self.node.as_mut().take()
                });
                let Some(outcome) = outcome else { return Poll::Pending };
                *self.place = Place::Done;
                match outcome {
                    Ok(slot) => self.granted(slot, cx),
                    Err(refused) => Poll::Ready(Err(self.refused(refused, cx))),
                }
            }
            Place::Done => panic!("a request was polled after it was answered"),
        }
    }

    /// The request is made: of the machine, for nothing is at hand.
    fn enter(&mut self, cx: &Context<'_>) -> Poll<Result<Lease<C>, AcquireError<C::Error>>> {
        let pool = *self.pool;
        if !pool.has_runtime() && pool.runtime().is_none() {
            return Poll::Ready(Err(AcquireError::NoRuntime));
        }
        let deadline = Some(*self.time).filter(|deadline| *deadline != Tick::NEVER);
        let waker = cx.waker().clone();
        let (answer, now) = pool.turn_under_load(|state, now| {
            let own = if pool.options.refuse_nested { state.nested(now, task_of(cx)) } else { None };
            let answer = match own {
                Some(own) => Answer::Nested(own),
                None => state.acquire(now, deadline, self.node.as_mut(), waker),
            };
            (answer, now)
        });
        *self.place = Place::Done;
        let error = match answer {
            Answer::Granted(slot) => return self.granted(slot, cx),
            Answer::Queued(waiter, number) => {
                (*self.place, *self.time) = (Place::Queued(waiter, number), now);
                // What it was queued for may have been there.
                return Poll::Pending;
            }
            Answer::Full(full) => AcquireError::Full(full),
            Answer::WouldMiss(full) => AcquireError::WouldMiss(full),
            Answer::Login(failure) => AcquireError::Login(failure),
            Answer::Nested(holder) => AcquireError::Nested(holder),
            Answer::Closed => AcquireError::Closed,
        };
        Poll::Ready(Err(error))
    }

    fn granted(
        &mut self,
        mut slot: Box<Slot<C>>,
        cx: &Context<'_>,
    ) -> Poll<Result<Lease<C>, AcquireError<C::Error>>> {
        if self.pool.connector.is_broken(&mut slot.connection) {
            lost(slot);
            return self.enter(cx);
        }
        slot.mark.name(*self.tag, task_of(cx));
        Poll::Ready(Ok(Lease::new(slot)))
    }

    fn refused(&self, refused: Refused<C::Error>, cx: &Context<'_>) -> AcquireError<C::Error> {
        match refused {
            Refused::TimedOut(situation) => {
                let now = self.pool.clock.now();
                let own = self.pool.lock().held_by(now, task_of(cx));
                AcquireError::TimedOut(Box::new(TimedOut { waited: now.since(*self.time), own, situation }))
            }
            Refused::Login(failure) => AcquireError::Login(failure),
            Refused::Closed => AcquireError::Closed,
        }
    }
}

impl<C: Connector> Acquire<'_, C> {
    /// Nobody polls it any more.
    fn leave(self: Pin<&mut Self>) {
        let mut this = self.project();
        let Place::Queued(waiter, number) = *this.place else { return };
        *this.place = Place::Done;
        if this.node.is_queued() {
            let node = this.node.as_ref();
            this.pool.turn(|state, now| {
                // It may have been served meanwhile.
                if node.is_queued() {
                    state.withdraw(now, waiter, number);
                }
            });
        }
        if let Some(Ok(slot)) = this.node.as_mut().take() {
            give_back(slot);
        }
    }
}

/// Tells tasks apart while they live: wakers of one task lead to the same place.
fn task_of(cx: &Context<'_>) -> usize {
    cx.waker().data() as usize
}
