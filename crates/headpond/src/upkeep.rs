//! The one task that watches the time for all: deadlines of those who wait, lifetimes, tests in the background.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout_at;

use crate::connector::Connector;
use crate::inner::Inner;

/// While the pool is used, upkeep comes this often: so exact are deadlines, and leases from a shelf.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// Ends with the pool, or with its runtime.
pub(crate) fn run<C: Connector>(pool: Arc<Inner<C>>) -> impl Future<Output = ()> + Send {
    let watch = Watch(pool);
    async move { watch.run().await }
}

/// Tells that nobody watches any more.
struct Watch<C: Connector>(Arc<Inner<C>>);

impl<C: Connector> Watch<C> {
    async fn run(&self) {
        let pool = &self.0;
        #[cfg(feature = "metrics")]
        let mut teller = crate::metrics::Teller::default();
        loop {
            let (next, done) = pool.turn(|state, now| {
                state.recall(now);
                state.on_time(now);
                let next = state.machine.next_deadline(now);
                let busy = std::mem::take(&mut state.busy);
                state.asleep = !busy;
                (
                    if busy { next.min(now.plus(TICK)) } else { next },
                    state.closing && state.machine.open() == 0,
                )
            });
            #[cfg(feature = "metrics")]
            tell(pool, &mut teller, done);
            if done {
                return;
            }
            // Woken early it looks again, and finds what has changed.
            let woken = pool.due.notified();
            match pool.clock.instant(next) {
                Some(at) => drop(timeout_at(at, woken).await),
                None => woken.await,
            }
        }
    }
}

#[cfg(feature = "metrics")]
fn tell<C: Connector>(pool: &Inner<C>, teller: &mut crate::metrics::Teller, done: bool) {
    let now = pool.clock.now();
    let state = pool.lock();
    let happened = state.machine.happened();
    if !teller.is_due(now, happened, state.asleep || done) {
        return;
    }
    let figures = state.machine.figures(now);
    let oldest = state.machine.oldest_wait().map_or(Duration::ZERO, |since| now.since(since));
    drop(state);
    crate::metrics::tell(&pool.options.name, &figures, oldest);
}

impl<C: Connector> Drop for Watch<C> {
    fn drop(&mut self) {
        self.0.lose_runtime();
    }
}
