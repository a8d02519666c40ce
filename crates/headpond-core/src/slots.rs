//! The connections of one pool: their states, and the idle ones in order of use.

use crate::{ConnId, Tick};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum State {
    /// Being connected and logged in. Leaves by `opened` (idle, in use) or `open_failed` (gone).
    Opening,
    /// Ready, leased to nobody. Leaves by a grant, a check or a close.
    Idle,
    /// Leased. Leaves by `release`, `retire` or a close.
    InUse,
    /// Being tested before it is handed out. Leaves by `ready` or a close.
    Checking,
    /// Its lease ended; its session is being reset. Leaves by `ready` or a close.
    Resetting,
    /// Its lease ended while the server was busy; it is being drained. Leaves by `ready`, `retire` or a close.
    Recovering,
    /// A cancel request for it is under way: handed to nobody. Leaves by `ready`, `retire` or a close.
    BeingCancelled,
    /// Told to go; still counted, because the server still has it. Leaves by `closed` (gone).
    Closing,
}

impl State {
    /// Every state, in order of its number.
    pub const ALL: [Self; 8] = [
        Self::Opening,
        Self::Idle,
        Self::InUse,
        Self::Checking,
        Self::Resetting,
        Self::Recovering,
        Self::BeingCancelled,
        Self::Closing,
    ];
}

/// Why a connection was closed: every close has exactly one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CloseReason {
    /// Released when `max_idle` others were idle.
    MaxIdle,
    /// Unused for `idle_timeout`.
    IdleTimeout,
    /// Older than `max_lifetime`.
    MaxLifetime,
    /// The test before handing out failed or took too long.
    CheckFailed,
    /// Its session could not be reset.
    ResetFailed,
    /// The client left in mid-flight and the server did not come to rest in time.
    RecoverTimeout,
    /// The server closed it, or the network broke.
    ServerLost,
    /// The login failed.
    LoginFailed,
    /// A reply matched no request, or the server spoke nonsense.
    ReplyMismatch,
    /// The client left inside a message, or broke the protocol inside a request.
    ClientLost,
    /// The settings became smaller.
    Resized,
    /// Its settings or credentials changed, or the operator asked for new connections.
    Outdated,
    /// The pool was suspended.
    Suspended,
    /// The process is stopping.
    Shutdown,
    /// Its client's session could not be moved onto it.
    SettingsRefused,
    /// It was opened with other startup parameters than those of the client that now has it.
    Repurposed,
}

impl CloseReason {
    /// Every reason, in order of its number.
    pub const ALL: [Self; 16] = [
        Self::MaxIdle,
        Self::IdleTimeout,
        Self::MaxLifetime,
        Self::CheckFailed,
        Self::ResetFailed,
        Self::RecoverTimeout,
        Self::ServerLost,
        Self::LoginFailed,
        Self::ReplyMismatch,
        Self::ClientLost,
        Self::Resized,
        Self::Outdated,
        Self::Suspended,
        Self::Shutdown,
        Self::SettingsRefused,
        Self::Repurposed,
    ];

    /// The name in metrics, console and page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MaxIdle => "max_idle",
            Self::IdleTimeout => "idle_timeout",
            Self::MaxLifetime => "max_lifetime",
            Self::CheckFailed => "check_failed",
            Self::ResetFailed => "reset_failed",
            Self::RecoverTimeout => "recover_timeout",
            Self::ServerLost => "server_lost",
            Self::LoginFailed => "login_failed",
            Self::ReplyMismatch => "reply_mismatch",
            Self::ClientLost => "client_lost",
            Self::Resized => "resized",
            Self::Outdated => "outdated",
            Self::Suspended => "suspended",
            Self::Shutdown => "shutdown",
            Self::SettingsRefused => "settings_refused",
            Self::Repurposed => "repurposed",
        }
    }
}

const NONE: u32 = u32::MAX;

/// One connection. `newer` and `older` link the idle ones.
#[derive(Debug)]
struct Slot {
    generation: u32,
    state: Option<State>,
    since: Tick,
    expires: Tick,
    outdated: bool,
    newer: u32,
    older: u32,
}

/// All connections of one pool. Only [`Slots::change`] moves one between states, and it keeps the counts.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    counts: [u32; 8],
    newest_idle: u32,
    oldest_idle: u32,
    /// No idle connection expires before this; may be too early, never too late.
    first_expiry: Tick,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            counts: [0; 8],
            newest_idle: NONE,
            oldest_idle: NONE,
            first_expiry: Tick::NEVER,
        }
    }

    /// A new connection in state opening.
    pub(crate) fn insert(&mut self, now: Tick) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                state: None,
                since: now,
                expires: Tick::NEVER,
                outdated: false,
                newer: NONE,
                older: NONE,
            });
            u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
        });
        let slot = &mut self.slots[index as usize];
        *slot =
            Slot { state: Some(State::Opening), since: now, expires: Tick::NEVER, outdated: false, ..*slot };
        self.counts[State::Opening as usize] += 1;
        ConnId { index, generation: slot.generation }
    }

    /// Forgets a connection that is gone; its id is never valid again.
    pub(crate) fn remove(&mut self, conn: ConnId) {
        let Some(state) = self.state(conn) else { return };
        if state == State::Idle {
            self.unlink(conn.index);
        }
        self.counts[state as usize] -= 1;
        let slot = &mut self.slots[conn.index as usize];
        slot.state = None;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(conn.index);
    }

    /// The one place where a connection changes its state.
    pub(crate) fn change(&mut self, now: Tick, conn: ConnId, to: State) {
        let Some(from) = self.state(conn) else { return };
        if from == State::Idle {
            self.unlink(conn.index);
        }
        if to == State::Idle {
            self.link_newest(conn.index);
        }
        self.counts[from as usize] -= 1;
        self.counts[to as usize] += 1;
        let slot = &mut self.slots[conn.index as usize];
        slot.state = Some(to);
        slot.since = now;
    }

    pub(crate) fn state(&self, conn: ConnId) -> Option<State> {
        let slot = self.slots.get(conn.index as usize)?;
        if slot.generation == conn.generation { slot.state } else { None }
    }

    pub(crate) fn count(&self, state: State) -> u32 {
        self.counts[state as usize]
    }

    pub(crate) fn counts(&self) -> [u32; 8] {
        self.counts
    }

    /// All connections the server may know of, in every state.
    pub(crate) fn total(&self) -> u32 {
        self.counts.iter().sum()
    }

    pub(crate) fn newest_idle(&self) -> Option<ConnId> {
        self.id(self.newest_idle)
    }

    pub(crate) fn oldest_idle(&self) -> Option<(ConnId, Tick)> {
        let conn = self.id(self.oldest_idle)?;
        Some((conn, self.slots[conn.index as usize].since))
    }

    pub(crate) fn idle_since(&self, conn: ConnId) -> Tick {
        self.slots[conn.index as usize].since
    }

    pub(crate) fn expire_at(&mut self, conn: ConnId, at: Tick) {
        self.slots[conn.index as usize].expires = at;
    }

    /// Whether a connection has outlived its time, or what it was opened for has changed.
    pub(crate) fn must_go(&self, now: Tick, conn: ConnId) -> Option<CloseReason> {
        let slot = &self.slots[conn.index as usize];
        match slot {
            Slot { outdated: true, .. } => Some(CloseReason::Outdated),
            Slot { expires, .. } if *expires <= now => Some(CloseReason::MaxLifetime),
            _ => None,
        }
    }

    /// Marks every connection of now as outdated: each is closed when it next comes to rest.
    pub(crate) fn outdate_all(&mut self) {
        for slot in &mut self.slots {
            slot.outdated |= slot.state.is_some();
        }
    }

    /// When the first idle connection expires, at the earliest.
    pub(crate) fn first_expiry(&self) -> Tick {
        self.first_expiry
    }

    /// The idle connections that must go; finds out anew when the next one expires.
    pub(crate) fn expired_idle(&mut self, now: Tick) -> Vec<(ConnId, CloseReason)> {
        let mut expired = Vec::new();
        self.first_expiry = Tick::NEVER;
        let mut next = self.oldest_idle;
        while let Some(conn) = self.id(next) {
            let slot = &self.slots[next as usize];
            next = slot.newer;
            match self.must_go(now, conn) {
                Some(reason) => expired.push((conn, reason)),
                None => self.first_expiry = self.first_expiry.min(slot.expires),
            }
        }
        expired
    }

    fn id(&self, index: u32) -> Option<ConnId> {
        let slot = self.slots.get(index as usize)?;
        Some(ConnId { index, generation: slot.generation })
    }

    fn link_newest(&mut self, index: u32) {
        let older = std::mem::replace(&mut self.newest_idle, index);
        let slot = &mut self.slots[index as usize];
        slot.older = older;
        slot.newer = NONE;
        self.first_expiry = self.first_expiry.min(slot.expires);
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = index,
            None => self.oldest_idle = index,
        }
    }

    fn unlink(&mut self, index: u32) {
        let Slot { newer, older, .. } = self.slots[index as usize];
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest_idle = older,
        }
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest_idle = newer,
        }
    }
}
