//! What is to be done once the lock is free.

use std::sync::Arc;
use std::task::Waker;

use crate::connector::Connector;
use crate::inner::Inner;
use crate::jobs::Job;
use crate::notice::Notice;

/// So many wakers are called without an allocation for them.
const WAKERS: usize = 8;

/// Almost always nothing, or a few wakers.
pub(crate) struct Effects<C: Connector> {
    wakers: [Option<Waker>; WAKERS],
    woken: usize,
    pub(crate) wakes_upkeep: bool,
    pub(crate) changed: bool,
    rest: Option<Box<Rest<C>>>,
}

/// What is rarely to be done.
pub(crate) struct Rest<C: Connector> {
    pub(crate) wakers: Vec<Waker>,
    pub(crate) jobs: Vec<Job<C>>,
    pub(crate) notices: Vec<Notice>,
}

impl<C: Connector> Effects<C> {
    #[inline]
    pub(crate) const fn none() -> Self {
        Self { wakers: [const { None }; WAKERS], woken: 0, wakes_upkeep: false, changed: false, rest: None }
    }

    #[inline]
    pub(crate) fn wake(&mut self, waker: Waker) {
        match self.wakers.get_mut(self.woken) {
            Some(place) => {
                *place = Some(waker);
                self.woken += 1;
            }
            None => self.rest().wakers.push(waker),
        }
    }

    pub(crate) fn job(&mut self, job: Job<C>) {
        self.rest().jobs.push(job);
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        self.rest().notices.push(notice);
    }

    #[cold]
    fn rest(&mut self) -> &mut Rest<C> {
        let empty = || Box::new(Rest { wakers: Vec::new(), jobs: Vec::new(), notices: Vec::new() });
        self.rest.get_or_insert_with(empty)
    }

    /// Whether nothing but a few wakers are to be called: then the pool need not be there any more.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        !self.wakes_upkeep && !self.changed && self.rest.is_none()
    }

    /// Does what is to be done, once. Nothing is locked. Without a pool only wakers are called.
    #[inline]
    pub(crate) fn run(&mut self, pool: Option<&Arc<Inner<C>>>) {
        let woken = std::mem::take(&mut self.woken);
        for waker in self.wakers.iter_mut().take(woken).filter_map(Option::take) {
            waker.wake();
        }
        if let Some(pool) = pool {
            self.run_rest(pool);
        }
    }

    #[cold]
    fn run_rest(&mut self, pool: &Arc<Inner<C>>) {
        if std::mem::take(&mut self.wakes_upkeep) {
            pool.wake_upkeep();
        }
        if std::mem::take(&mut self.changed) {
            pool.changed.notify_waiters();
        }
        if let Some(rest) = self.rest.take() {
            rest.run(pool);
        }
    }
}

impl<C: Connector> Rest<C> {
    #[cold]
    fn run(self, pool: &Arc<Inner<C>>) {
        for waker in self.wakers {
            waker.wake();
        }
        for notice in self.notices {
            notice.tell(pool);
        }
        if !self.jobs.is_empty() {
            let runtime = pool.runtime();
            for job in self.jobs {
                job.start(pool, runtime.as_ref());
            }
        }
    }
}
