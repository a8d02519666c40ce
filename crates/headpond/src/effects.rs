//! What is to be done once the lock is free.

use std::sync::Arc;
use std::task::Waker;

use crate::connector::Connector;
use crate::inner::Inner;
use crate::jobs::Job;
use crate::notice::Notice;

/// Almost always nothing, or one waker.
pub(crate) struct Effects<C: Connector> {
    waker: Option<Waker>,
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
        Self { waker: None, wakes_upkeep: false, changed: false, rest: None }
    }

    #[inline]
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        match (waker, &self.waker) {
            (Some(waker), None) => self.waker = Some(waker),
            (Some(waker), Some(_)) => self.rest().wakers.push(waker),
            (None, _) => {}
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

    /// Whether nothing but a waker is to be called: then the pool need not be there any more.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        !self.wakes_upkeep && !self.changed && self.rest.is_none()
    }

    #[inline]
    pub(crate) fn run_plain(self) {
        if let Some(waker) = self.waker {
            waker.wake();
        }
    }

    /// Does what is to be done. Nothing is locked.
    #[inline]
    pub(crate) fn run(self, pool: &Arc<Inner<C>>) {
        if let Some(waker) = self.waker {
            waker.wake();
        }
        if self.wakes_upkeep {
            pool.wake_upkeep();
        }
        if self.changed {
            pool.changed.notify_waiters();
        }
        if let Some(rest) = self.rest {
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
