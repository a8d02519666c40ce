//! Making a pool.

use std::time::Duration;

use headpond_core::PoolSettings;

use crate::connector::Connector;
use crate::pool::Pool;

/// How a pool is to be: [`Pool::builder`].
#[derive(Clone, Debug)]
pub struct Builder<C> {
    pub(crate) connector: C,
    pub(crate) policy: PoolSettings,
    pub(crate) options: Options,
}

/// What the machine does not decide.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) name: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) check_timeout: Duration,
    pub(crate) reset_timeout: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) reserve: u32,
    pub(crate) refuse_nested: bool,
}

/// The policy of a pool in a process.
#[must_use]
pub(crate) fn default_policy() -> PoolSettings {
    PoolSettings { trust_window: Duration::from_millis(500), login_attempts: 2, ..PoolSettings::on_demand() }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $in:ident . $name:ident: $kind:ty,)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: $kind) -> Self {
            self.$in.$name = $name.into();
            self
        })*
    };
}

impl<C: Connector> Builder<C> {
    pub(crate) fn new(connector: C) -> Self {
        let options = Options {
            name: "pool".to_owned(),
            connect_timeout: Duration::from_secs(10),
            check_timeout: Duration::from_secs(5),
            reset_timeout: Duration::from_secs(5),
            close_timeout: Duration::from_secs(5),
            reserve: 5,
            refuse_nested: false,
        };
        Self { connector, policy: default_policy(), options }
    }

    setters! {
        /// The most connections in any state, opening and closing ones included: the server never sees one more. 20.
        policy.max_size: u32,
        /// A connection given back when so many are idle is closed. 20: no limit beside `max_size` unless that is more.
        policy.max_idle: u32,
        /// Headroom: at least this many are kept idle while `max_size` allows. 0.
        policy.min_idle: u32,
        /// Opened as soon as the pool is built. 0: the database need not be there until somebody needs it.
        policy.initial_size: u32,
        /// Shrinking never goes below this many. 0.
        policy.min_size: u32,
        /// An idle connection that nobody used for so long is closed; zero: never. 5 minutes.
        policy.idle_timeout: Duration,
        /// Every so often half of the connections that were never needed meanwhile are closed; zero: never.
        /// 15 minutes.
        policy.shrink_interval: Duration,
        /// Who waits for longer hears why; zero: waits for ever. 30 s.
        policy.acquire_timeout: Duration,
        /// The most requests that may wait: beyond it they are refused at once. 10,000.
        policy.max_waiters: u32,
        /// Whether connections are tested at all, before they are handed out and in the background. `true`.
        policy.check: bool,
        /// A connection that was used or tested within this time is handed out untested. 500 ms.
        policy.trust_window: Duration,
        /// An idle connection that was not used or tested for so long is tested; zero: never. 30 s.
        policy.check_interval: Duration,
        /// A connection older than this, less up to 15 %, is replaced: the new one is opened first. Zero: never. 1 h.
        policy.max_lifetime: Duration,
        /// The most logins at once. 4.
        policy.max_logins: u32,
        /// At least so long between the beginnings of two logins. Zero.
        policy.login_delay: Duration,
        /// After a failed login, the pause before the next doubles up to this. 1 s.
        policy.login_retry: Duration,
        /// So many logins failed in a row with [`FailureClass::Other`](crate::FailureClass::Other) and no connection is
        /// left: who waits hears the cause at once. 0: only if trying again is pointless. 2.
        policy.login_attempts: u32,
        /// A lease older than this is reported with its label and the place in the program, once; zero: never. Zero.
        policy.leak_after: Duration,
        /// The idle connection that was used longest ago is used next, rather than the one used last. `false`.
        policy.round_robin: bool,
        /// The name in logs and metrics. `pool`.
        options.name: &str,
        /// The most that a login may take, with everything the driver does. 10 s.
        options.connect_timeout: Duration,
        /// The most that a test may take. 5 s.
        options.check_timeout: Duration,
        /// The most that a reset may take. 5 s.
        options.reset_timeout: Duration,
        /// The most that a goodbye may take. 5 s.
        options.close_timeout: Duration,
        /// Connections left to others, of those that the server says there are ([`Connector::limit`]). 5.
        options.reserve: u32,
        /// A task that holds a connection and has to wait for another is refused. It costs each wait a look at all
        /// leases. `false`: it is told when its time is over.
        options.refuse_nested: bool,
    }

    /// Makes the pool, without waiting for anything: connections are opened by tasks of their own, on the present
    /// runtime, or else on that of the first request.
    #[must_use]
    pub fn build(self) -> Pool<C> {
        Pool::new(self)
    }
}
