//! Things by id: an index that is reused, and a generation that makes a stale id find nothing.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

/// Names an entry of one of the machine's tables.
pub struct Id<Mark> {
    index: u32,
    generation: u32,
    mark: PhantomData<Mark>,
}

impl<Mark> Id<Mark> {
    /// Place in its table: small, and reused after the entry is gone.
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// Both halves in one number.
    #[must_use]
    pub fn packed(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The inverse of [`Id::packed`].
    #[must_use]
    pub fn unpacked(number: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
        Self {
            index: u32::from_be_bytes([e, f, g, h]),
            generation: u32::from_be_bytes([a, b, c, d]),
            mark: PhantomData,
        }
    }
}

impl<Mark> Clone for Id<Mark> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<Mark> Copy for Id<Mark> {}
impl<Mark> PartialEq for Id<Mark> {
    fn eq(&self, other: &Self) -> bool {
        self.packed() == other.packed()
    }
}
impl<Mark> Eq for Id<Mark> {}
impl<Mark> PartialOrd for Id<Mark> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<Mark> Ord for Id<Mark> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.packed().cmp(&other.packed())
    }
}
impl<Mark> Hash for Id<Mark> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.packed().hash(state);
    }
}
impl<Mark> fmt::Debug for Id<Mark> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// Entries by id.
#[derive(Debug)]
pub(crate) struct Table<T, Mark> {
    entries: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
    mark: PhantomData<Mark>,
}

impl<T, Mark> Table<T, Mark> {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), mark: PhantomData }
    }

    pub(crate) fn insert(&mut self, value: T) -> Id<Mark> {
        if let Some(index) = self.free.pop() {
            let (generation, place) = &mut self.entries[index as usize];
            *place = Some(value);
            return Id { index, generation: *generation, mark: PhantomData };
        }
        let index = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.entries.push((0, Some(value)));
        Id { index, generation: 0, mark: PhantomData }
    }

    pub(crate) fn remove(&mut self, id: Id<Mark>) -> Option<T> {
        let (generation, place) = self.entries.get_mut(id.index as usize)?;
        if *generation != id.generation {
            return None;
        }
        let value = place.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(id.index);
        Some(value)
    }

    pub(crate) fn get(&self, id: Id<Mark>) -> Option<&T> {
        let (generation, value) = self.entries.get(id.index as usize)?;
        if *generation == id.generation { value.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, id: Id<Mark>) -> Option<&mut T> {
        let (generation, value) = self.entries.get_mut(id.index as usize)?;
        if *generation == id.generation { value.as_mut() } else { None }
    }

    /// The id of whatever is at `index` now.
    pub(crate) fn at(&self, index: usize) -> Option<Id<Mark>> {
        let (generation, value) = self.entries.get(index)?;
        value.as_ref()?;
        Some(Id { index: u32::try_from(index).ok()?, generation: *generation, mark: PhantomData })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id<Mark>, &T)> {
        (0u32..).zip(&self.entries).filter_map(|(index, (generation, value))| {
            Some((Id { index, generation: *generation, mark: PhantomData }, value.as_ref()?))
        })
    }

    pub(crate) fn ids(&self) -> Vec<Id<Mark>> {
        self.iter().map(|(id, _)| id).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}
