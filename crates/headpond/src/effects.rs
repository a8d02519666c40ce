//! What is to be done once the lock is free.

use std::task::Waker;

use crate::connector::Connector;
use crate::jobs::Job;
use crate::notice::Notice;

/// Almost always nothing, or one waker.
pub(crate) struct Effects<C: Connector> {
    pub(crate) waker: Option<Waker>,
    pub(crate) wakers: Vec<Waker>,
    pub(crate) jobs: Vec<Job<C>>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) wakes_upkeep: bool,
    pub(crate) changed: bool,
}

impl<C: Connector> Effects<C> {
    pub(crate) const fn none() -> Self {
        Self {
            waker: None,
            wakers: Vec::new(),
            jobs: Vec::new(),
            notices: Vec::new(),
            wakes_upkeep: false,
            changed: false,
        }
    }

    #[inline]
    pub(crate) fn wake(&mut self, waker: Option<Waker>) {
        match (waker, &self.waker) {
            (Some(waker), None) => self.waker = Some(waker),
            (Some(waker), Some(_)) => self.wakers.push(waker),
            (None, _) => {}
        }
    }
}
