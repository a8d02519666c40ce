//! What a server connection has prepared, and what is not certain of that yet.

use std::collections::{HashMap, VecDeque};

use crate::statements::client::{Named, Names};
use crate::statements::registry::StatementId;

/// The unnamed statement is nobody's, as far as we know.
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// Uncertain changes of earlier batches that are looked through before one more is simply taken to matter.
const LOOKED_AT: usize = 64;

/// A statement on a server connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prepared {
    used: u64,
    /// See [`super::registry::Registry::epoch`].
    pub(crate) epoch: u32,
    /// The form of its parameters and rows there.
    pub(crate) shape: Option<u64>,
}

/// A change that was taken for done when it was sent. Its exchange is outstanding: if the server never comes to it, it
/// is undone.
#[derive(Debug)]
pub(crate) struct Record {
    /// What was sent since the same Sync has the same number.
    pub(crate) batch: u32,
    pub(crate) change: Change,
}

#[derive(Debug)]
pub(crate) enum Change {
    /// The client has a statement of this name.
    Named(Box<[u8]>),
    /// It has none of this name any more; until that is certain, the statement is held here.
    Unnamed(Box<[u8]>, Named),
    /// The connection has a statement.
    Prepared(StatementId),
    /// It has not any more; until that is certain, the statement is held here.
    Closed(StatementId, Prepared),
    /// Nothing but that the form of a statement is being told: to the client, for its name, or to us.
    Described(Option<Box<[u8]>>, StatementId),
    /// The client has none at all any more; until that is certain, they are held here.
    All(Names),
    /// Nothing: the client is told that it has a statement of this name.
    Refused(Box<[u8]>),
}

impl Change {
    fn is_about(&self, name: &[u8], id: Option<StatementId>) -> bool {
        match self {
            Self::Named(other) => **other == *name,
            Self::Unnamed(other, named) => **other == *name || id == Some(named.id),
            Self::Prepared(other) | Self::Closed(other, _) => id == Some(*other),
            Self::All(_) => true,
            Self::Described(..) | Self::Refused(_) => false,
        }
    }
}

/// Statements of one server connection.
#[derive(Debug, Default)]
pub(crate) struct ServerStatements {
    prepared: HashMap<StatementId, Prepared>,
    /// The oldest use first; uses that were not the last are left in it for a while.
    uses: VecDeque<(u64, StatementId)>,
    clock: u64,
    /// Which client's unnamed statement it has, as [`super::client::ClientStatements::unnamed`]; 0: none.
    pub(crate) unnamed: u64,
    /// The batch in which that was changed last.
    pub(crate) unnamed_batch: u32,
    /// In the order of their exchanges.
    pub(crate) log: VecDeque<Record>,
    /// The form that is being told.
    pub(crate) shape: u64,
    /// A message of the client waits for an answer that decides how it goes on.
    pub(crate) holds: bool,
    /// The form of a statement is asked for, for that message.
    pub(crate) verifies: bool,
}

impl ServerStatements {
    pub(crate) fn get_mut(&mut self, id: StatementId) -> Option<&mut Prepared> {
        self.prepared.get_mut(&id)
    }

    /// What it has of a statement, which is used now.
    pub(crate) fn touch(&mut self, id: StatementId) -> Option<Prepared> {
        let prepared = self.prepared.get_mut(&id)?;
        if prepared.used < self.clock {
            self.clock += 1;
            prepared.used = self.clock;
            self.uses.push_back((self.clock, id));
        }
        let prepared = *prepared;
        self.tidy();
        Some(prepared)
    }

    pub(crate) fn insert(&mut self, id: StatementId, epoch: u32) {
        self.clock += 1;
        self.prepared.insert(id, Prepared { used: self.clock, epoch, shape: None });
        self.uses.push_back((self.clock, id));
    }

    /// Takes back what was not closed after all.
    pub(crate) fn restore(&mut self, id: StatementId, prepared: Prepared) {
        self.insert(id, prepared.epoch);
        if let Some(place) = self.prepared.get_mut(&id) {
            place.shape = prepared.shape;
        }
    }

    pub(crate) fn remove(&mut self, id: StatementId) -> Option<Prepared> {
        self.prepared.remove(&id)
    }

    /// Nothing that it has is relied on: it is closed, should it be there, before it is parsed anew.
    pub(crate) fn distrust(&mut self) {
        self.prepared.values_mut().for_each(|prepared| prepared.epoch = prepared.epoch.wrapping_sub(1));
    }

    pub(crate) fn len(&self) -> usize {
        self.prepared.len()
    }

    pub(crate) fn ids(&self) -> Vec<StatementId> {
        self.prepared.keys().copied().collect()
    }

    /// The statement that was not used for longest, if nothing about it is uncertain.
    pub(crate) fn oldest(&mut self) -> Option<StatementId> {
        while let Some((used, id)) = self.uses.front().copied() {
            if self.prepared.get(&id).is_some_and(|prepared| prepared.used == used) {
                let uncertain = self.log.len() > LOOKED_AT
                    || self.log.iter().any(|record| record.change.is_about(b"", Some(id)));
                return (!uncertain).then_some(id);
            }
            self.uses.pop_front();
        }
        None
    }

    fn tidy(&mut self) {
        if self.uses.len() > 2 * self.prepared.len() + 16 {
            let prepared = &self.prepared;
            self.uses.retain(|(used, id)| prepared.get(id).is_some_and(|prepared| prepared.used == *used));
        }
    }

    /// Whether anything at all was sent in a batch before this one, and may not come true.
    pub(crate) fn has_uncertain(&self, batch: u32) -> bool {
        self.log.front().is_some_and(|record| record.batch != batch)
    }

    /// Whether something about a client's name or a statement was sent in a batch before this one, and may not come
    /// true: an error there has the server pass over it, and not over what comes now.
    pub(crate) fn is_uncertain(&self, batch: u32, name: &[u8], id: Option<StatementId>) -> bool {
        let earlier = self.log.iter().take_while(|record| record.batch != batch);
        let mut looked_at = 0;
        earlier.into_iter().any(|record| {
            looked_at += 1;
            looked_at > LOOKED_AT || record.change.is_about(name, id)
        })
    }
}
