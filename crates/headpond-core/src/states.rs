//! What a connection is doing, and why one goes.

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

    /// The name in metrics, console and page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Idle => "idle",
            Self::InUse => "in_use",
            Self::Checking => "checking",
            Self::Resetting => "resetting",
            Self::Recovering => "recovering",
            Self::BeingCancelled => "being_cancelled",
            Self::Closing => "closing",
        }
    }
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
    /// One of half of those that were never needed in a `shrink_interval`.
    Shrink,
    /// The server died or was replaced, and this connection with it.
    MassDeath,
    /// A pool on the same server, below its share of the budget, needs it more.
    FairShare,
    /// The pool was suspended.
    Suspended,
    /// The server takes no writes any more.
    Fenced,
    /// The process is stopping.
    Shutdown,
    /// Its client's session could not be moved onto it.
    SettingsRefused,
    /// It was opened with other startup parameters than those of the client that now has it.
    Repurposed,
    /// Its lease was older than `leak_after`, and taken back.
    Leaked,
    /// Its session was reset, and is still not like a new one.
    Unclean,
    /// It served one client alone, which has left.
    Dedicated,
}

impl CloseReason {
    /// Every reason, in order of its number.
    pub const ALL: [Self; 23] = [
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
        Self::Shrink,
        Self::MassDeath,
        Self::FairShare,
        Self::Suspended,
        Self::Fenced,
        Self::Shutdown,
        Self::SettingsRefused,
        Self::Repurposed,
        Self::Leaked,
        Self::Unclean,
        Self::Dedicated,
    ];

    /// The setting that makes connections go for this reason, if there is one.
    #[must_use]
    pub fn setting(self) -> Option<&'static str> {
        match self {
            Self::MaxIdle => Some("max_idle"),
            Self::IdleTimeout => Some("idle_timeout"),
            Self::MaxLifetime => Some("max_lifetime"),
            Self::CheckFailed => Some("check_query"),
            Self::ResetFailed => Some("reset_query"),
            Self::RecoverTimeout => Some("recover_timeout"),
            Self::Resized => Some("max_size"),
            Self::Shrink => Some("shrink_interval"),
            Self::FairShare => Some("budget"),
            Self::Leaked => Some("leak_after"),
            Self::Unclean => Some("verify_reset"),
            _ => None,
        }
    }

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
            Self::Shrink => "shrink",
            Self::MassDeath => "mass_death",
            Self::FairShare => "fair_share",
            Self::Suspended => "suspended",
            Self::Fenced => "fenced",
            Self::Shutdown => "shutdown",
            Self::SettingsRefused => "settings_refused",
            Self::Repurposed => "repurposed",
            Self::Leaked => "leaked",
            Self::Unclean => "unclean",
            Self::Dedicated => "dedicated",
        }
    }
}
