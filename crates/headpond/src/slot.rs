//! A connection with what the pool keeps beside it.

use std::panic::Location;
use std::sync::Arc;

use headpond_core::{ConnId, Tick};

use crate::connector::Connector;
use crate::inner::Inner;
use crate::raw::{Postable, StaticRef};
use crate::shelf::Grounds;
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// One connection, from its login to its end. It never moves: what moves is the box.
pub(crate) struct Slot<C: Connector> {
    pub(crate) connection: C::Connection,
    /// One count for each connection, not for each lease.
    pub(crate) pool: Arc<Inner<C>>,
    pub(crate) grounds: Grounds<C>,
    pub(crate) conn: ConnId,
    pub(crate) mark: Arc<Mark>,
    /// It was leased from the shelf.
    pub(crate) used: bool,
    /// Its holder says that the session is not as it was.
    pub(crate) tainted: bool,
    /// When it was last put on the shelf.
    pub(crate) shelved: Tick,
}

impl<C: Connector> Postable for Slot<C> {
    fn below(&self) -> &AtomicPtr<()> {
        &self.mark.below
    }
}

impl<C: Connector> std::fmt::Debug for Slot<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("conn", &self.conn).field("mark", &self.mark).finish_non_exhaustive()
    }
}

/// What others may see of a connection while somebody holds it.
#[derive(Debug)]
pub(crate) struct Mark {
    /// The machine has lent it. Changed with the pool locked, read with a shelf locked.
    pub(crate) lent: AtomicBool,
    since: AtomicU64,
    site: StaticRef<Location<'static>>,
    label: StaticRef<&'static str>,
    task: AtomicUsize,
    /// Of its return, while that is posted. Here, for the connection itself lies on as few cache lines as can be.
    below: AtomicPtr<()>,
}

/// Who asks for a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag {
    pub(crate) site: &'static Location<'static>,
    pub(crate) label: Option<&'static &'static str>,
}

impl Mark {
    pub(crate) fn new() -> Self {
        Self {
            lent: AtomicBool::new(false),
            since: AtomicU64::new(0),
            site: StaticRef::new(),
            label: StaticRef::new(),
            task: AtomicUsize::new(0),
            below: AtomicPtr::default(),
        }
    }

    #[inline]
    pub(crate) fn is_lent(&self) -> bool {
        self.lent.load(Ordering::Relaxed)
    }

    pub(crate) fn set_lent(&self, lent: bool) {
        self.lent.store(lent, Ordering::Relaxed);
    }

    /// A lease begins.
    #[inline]
    pub(crate) fn begin(&self, now: Tick) {
        self.since.store(now.0, Ordering::Relaxed);
    }

    /// Whose lease it is. `task` tells tasks apart while they live; 0: not known.
    #[inline]
    pub(crate) fn name(&self, tag: Tag, task: usize) {
        self.site.set(Some(tag.site));
        self.label.set(tag.label);
        self.task.store(task, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn since(&self) -> Tick {
        Tick(self.since.load(Ordering::Relaxed))
    }

    pub(crate) fn site(&self) -> Option<&'static Location<'static>> {
        self.site.get()
    }

    pub(crate) fn label(&self) -> Option<&'static str> {
        self.label.get().copied()
    }

    pub(crate) fn task(&self) -> usize {
        self.task.load(Ordering::Relaxed)
    }
}
