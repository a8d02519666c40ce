//! How fast connections may be opened: the first one alone, in parallel while all is well, one by one after a failure,
//! not at all when the server does not know us.

use std::time::Duration;

use crate::{FailureClass, PoolSettings, Tick};

/// First pause after a failed login; each further failure doubles it up to `login_retry`.
const FIRST_RETRY: Duration = Duration::from_millis(20);

/// After a failed authentication nobody tries on for this long: servers lock accounts that fail too often.
const AUTHENTICATION_PAUSE: Duration = Duration::from_secs(30);

/// How long a server that had no connection left is believed before one more is tried.
const CEILING_STEP: Duration = Duration::from_secs(5);

/// Nothing is known of our credentials.
const UNTRIED: u32 = 0;

/// The pace of logins of one pool.
#[derive(Debug)]
pub(crate) struct Logins {
    /// Failures since the last success.
    failures: u32,
    /// Logins allowed at once: down to one with a failure, doubled with each success. [`UNTRIED`] allows one too, so
    /// that a wrong password is sent once, and the first success all that there may be.
    window: u32,
    /// No login before this, because of a failure.
    not_before: Tick,
    /// When the last login began.
    begun: Option<Tick>,
    /// Why every login fails, if trying on is pointless.
    terminal: Option<FailureClass>,
    /// The same, after `login_attempts` of them: trying on is not pointless, but waiting is.
    stubborn: Option<FailureClass>,
    /// The most connections that the server seems to allow, and when one more is tried.
    ceiling: Option<(u32, Tick)>,
}

impl Logins {
    pub(crate) fn new() -> Self {
        Self {
            failures: 0,
            window: UNTRIED,
            not_before: Tick(0),
            begun: None,
            terminal: None,
            stubborn: None,
            ceiling: None,
        }
    }

    /// How many may begin now, with so many under way and so many wanted.
    pub(crate) fn allowed(&self, now: Tick, settings: &PoolSettings, opening: u32) -> u32 {
        if now < self.begins(settings) { 0 } else { self.at_once(settings, opening) }
    }

    /// When logins that are wanted may begin; never, while it is for those under way to end first.
    pub(crate) fn next(&self, settings: &PoolSettings, opening: u32) -> Tick {
        if self.at_once(settings, opening) == 0 { Tick::NEVER } else { self.begins(settings) }
    }

    /// The most connections there may be.
    pub(crate) fn ceiling(&self) -> u32 {
        self.ceiling.map_or(u32::MAX, |(ceiling, _)| ceiling)
    }

    /// When one more than the ceiling is tried.
    pub(crate) fn ceiling_ends(&self) -> Tick {
        self.ceiling.map_or(Tick::NEVER, |(_, raise_at)| raise_at)
    }

    /// Whether trying again is pointless, unless somebody changes something.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Why a request that would have to wait for a login need not wait.
    pub(crate) fn hopeless(&self, now: Tick) -> Option<FailureClass> {
        self.terminal.or(self.stubborn).filter(|_| now < self.not_before)
    }

    pub(crate) fn began(&mut self, now: Tick) {
        self.begun = Some(now);
    }

    pub(crate) fn succeeded(&mut self, settings: &PoolSettings) {
        let grows = if planted!(WindowNeverOpens) { 1 } else { 2 };
        self.window = match self.window {
            UNTRIED => u32::MAX,
            _ if self.failures > 0 => grows,
            window => window.saturating_mul(grows),
        };
        self.window = self.window.clamp(1, settings.max_logins.max(1));
        self.not_before = Tick(0);
        self.failures = 0;
        self.terminal = None;
        self.stubborn = None;
    }

    /// `alive` connections are left; `jitter` lies between 0 and 1.
    pub(crate) fn failed(
        &mut self,
        now: Tick,
        class: FailureClass,
        settings: &PoolSettings,
        alive: u32,
        jitter: f64,
    ) {
        if class == FailureClass::TooManyConnections {
            self.ceiling = Some((alive.max(1), now.plus(CEILING_STEP)));
        }
        let locked = self.terminal == Some(FailureClass::Authentication) && now < self.not_before;
        if locked && class != FailureClass::Authentication {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.window = if class == FailureClass::Authentication { UNTRIED } else { 1 };
        self.terminal = class.is_terminal().then_some(class);
        let enough = settings.login_attempts > 0 && self.failures >= settings.login_attempts;
        self.stubborn = (enough && class == FailureClass::Other).then_some(class);
        let doubled = FIRST_RETRY.saturating_mul(1 << self.failures.min(20).saturating_sub(1));
        let pause = match class {
            FailureClass::Authentication if !planted!(AuthenticationTriedOn) => AUTHENTICATION_PAUSE,
            _ => doubled.min(settings.login_retry).mul_f64(1.0 - jitter / 4.0),
        };
        self.not_before = now.plus(pause);
    }

    /// New credentials, or an operator who says so: what failed may work now.
    pub(crate) fn forgive(&mut self) {
        *self = Self { begun: self.begun, ..Self::new() };
    }

    /// Other settings: a pause is no longer than they say.
    pub(crate) fn configure(&mut self, now: Tick, settings: &PoolSettings) {
        if self.terminal != Some(FailureClass::Authentication) {
            self.not_before = self.not_before.min(now.plus(settings.login_retry));
        }
    }

    /// Raises the ceiling when its time has come.
    pub(crate) fn on_timer(&mut self, now: Tick, settings: &PoolSettings) {
        if let Some((ceiling, raise_at)) = self.ceiling
            && raise_at <= now
            && !planted!(CeilingForEver)
        {
            let raised = ceiling.saturating_add((ceiling / 4).max(1));
            self.ceiling = (raised < settings.max_size).then(|| (raised, now.plus(CEILING_STEP)));
        }
    }

    /// The earliest moment, as far as pauses go.
    fn begins(&self, settings: &PoolSettings) -> Tick {
        let spaced = self.begun.filter(|_| !settings.login_delay.is_zero());
        self.not_before.max(spaced.map_or(Tick(0), |begun| begun.plus(settings.login_delay)))
    }

    fn at_once(&self, settings: &PoolSettings, opening: u32) -> u32 {
        let window =
            if planted!(FirstLoginInCompany) && self.window == UNTRIED { u32::MAX } else { self.window };
        let most = if planted!(LoginsUnlimited) { u32::MAX } else { window.min(settings.max_logins).max(1) };
        let at_once = most.saturating_sub(opening);
        if settings.login_delay.is_zero() { at_once } else { at_once.min(1) }
    }
}
