//! The pooler without a network: what is said is there at once, whole and in order. For models of what goes on within
//! sessions, which need no delays.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use headpond_core::Tick;

use crate::action::{Action, Actions, ClientId, Link};
use crate::config::PoolerConfig;
use crate::pooler::Pooler;
use crate::sim::marked::message;

/// A link, in an order that does not change.
pub(crate) type Key = (u8, u64);

/// What has gone over a link and was not taken yet.
pub(crate) struct End {
    pub(crate) link: Link,
    /// To the pooler.
    pub(crate) says: Vec<u8>,
    /// From it.
    pub(crate) heard: Vec<u8>,
    /// The pooler has closed it.
    pub(crate) is_closed: bool,
    /// The pooler has logged in on it.
    logged_in: bool,
}

enum Event {
    Connected(Link),
    Read(Link),
    Closed(Link),
}

pub(crate) struct Direct {
    pub(crate) pooler: Pooler,
    pub(crate) ends: BTreeMap<Key, End>,
    now: u64,
    events: VecDeque<Event>,
}

impl Direct {
    pub(crate) fn new(config: PoolerConfig) -> Self {
        let pooler = Pooler::new(Arc::new(config), 0, 1, [7; 32]);
        Self { pooler, ends: BTreeMap::new(), now: 0, events: VecDeque::new() }
    }

    /// A client connects.
    pub(crate) fn come(&mut self) -> ClientId {
        let id = self.pooler.accepted(Tick(self.now), None, false);
        self.open(Link::Client(id));
        id
    }

    /// A peer says something to the pooler.
    pub(crate) fn say(&mut self, link: Link, bytes: &[u8]) {
        if let Some(end) = self.ends.get_mut(&key(link)) {
            end.says.extend_from_slice(bytes);
            self.tell(|pooler, now, out| pooler.readable(now, link, out));
        }
    }

    /// A peer is gone.
    pub(crate) fn close(&mut self, link: Link) {
        if self.ends.remove(&key(link)).is_some_and(|end| !end.is_closed) {
            self.tell(|pooler, now, out| pooler.closed(now, link, "gone", out));
        }
    }

    /// Those who have something of the pooler's to take.
    pub(crate) fn hearers(&self) -> Vec<Link> {
        let hears = |end: &&End| !matches!(end.link, Link::Client(_)) && !end.heard.is_empty();
        self.ends.values().filter(hears).map(|end| end.link).collect()
    }

    /// A process of the server takes one message. Logins, goodbyes and cancels are dealt with here.
    pub(crate) fn take(&mut self, link: Link) -> Option<(u8, Vec<u8>)> {
        let end = self.ends.get_mut(&key(link))?;
        if matches!(link, Link::Cancel(_)) {
            self.close(link);
            return None;
        }
        if !std::mem::replace(&mut end.logged_in, true) {
            end.heard.clear();
            let hello = [message(b'R', &[0; 4]), message(b'K', &[1; 8]), message(b'Z', b"I")].concat();
            self.say(link, &hello);
            return None;
        }
        let (tag, body) = next_message(&mut end.heard)?;
        if tag == b'X' {
            self.close(link);
            return None;
        }
        Some((tag, body))
    }

    /// Time goes by until something is due. Whether anything is.
    pub(crate) fn wait(&mut self) -> bool {
        let Some(deadline) = self.pooler.next_deadline() else { return false };
        self.now = self.now.max(deadline.0);
        self.tell(|pooler, now, out| pooler.on_timer(now, out));
        true
    }

    pub(crate) fn tell(&mut self, event: impl FnOnce(&mut Pooler, Tick, &mut Actions)) {
        self.now += 1000;
        let mut out = Actions::default();
        event(&mut self.pooler, Tick(self.now), &mut out);
        self.carry_out(&out, &[]);
        while let Some(event) = self.events.pop_front() {
            self.happens(event);
        }
    }

    fn open(&mut self, link: Link) {
        let (says, heard) = Default::default();
        self.ends.insert(key(link), End { link, says, heard, is_closed: false, logged_in: false });
    }

    fn happens(&mut self, event: Event) {
        let mut out = Actions::default();
        let now = Tick(self.now);
        let mut bytes = Vec::new();
        match event {
            Event::Connected(link) => self.pooler.connected(now, link, &mut out),
            Event::Closed(link) => {
                if self.ends.get(&key(link)).is_some_and(|end| !end.is_closed) {
                    self.forget(link);
                    self.pooler.closed(now, link, "gone", &mut out);
                }
            }
            Event::Read(link) => {
                let Some(end) = self.ends.get_mut(&key(link)).filter(|end| !end.is_closed) else { return };
                bytes = std::mem::take(&mut end.says);
                if bytes.is_empty() {
                    return;
                }
                let consumed = self.pooler.received(now, link, &bytes, &mut out);
                if let Some(end) = self.ends.get_mut(&key(link)) {
                    end.says = bytes[consumed..].to_vec();
                }
            }
        }
        self.carry_out(&out, &bytes);
    }

    fn carry_out(&mut self, out: &Actions, bytes: &[u8]) {
        for action in &out.list {
            match *action {
                Action::Forward { to, from, len } => {
                    self.send(to, &bytes[from as usize..(from + len) as usize])
                }
                Action::Send { to, from, len } => {
                    self.send(to, &out.injected[from as usize..(from + len) as usize]);
                }
                Action::Connect { link, .. } => {
                    self.open(link);
                    self.events.push_back(Event::Connected(link));
                }
                Action::Read(link) => self.events.push_back(Event::Read(link)),
                Action::Finish(link) => self.events.push_back(Event::Closed(link)),
                Action::Close(link) => self.forget(link),
                _ => {}
            }
        }
    }

    fn send(&mut self, to: Link, bytes: &[u8]) {
        if let Some(end) = self.ends.get_mut(&key(to)) {
            end.heard.extend_from_slice(bytes);
        }
    }

    /// What a client heard last it can still read.
    fn forget(&mut self, link: Link) {
        match (link, self.ends.get_mut(&key(link))) {
            (Link::Client(_), Some(end)) => end.is_closed = true,
            _ => drop(self.ends.remove(&key(link))),
        }
    }
}

pub(crate) fn key(link: Link) -> Key {
    match link {
        Link::Client(id) => (0, id.packed()),
        Link::Server(id) => (1, id.packed()),
        Link::Cancel(id) => (2, id.packed()),
    }
}

/// The message at the front, once it is whole: tag and body.
pub(crate) fn next_message(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let length = u32::from_be_bytes(bytes.get(1..5)?.try_into().ok()?) as usize;
    if bytes.len() <= length {
        return None;
    }
    let message: Vec<u8> = bytes.drain(..=length).collect();
    Some((message[0], message[5..].to_vec()))
}
