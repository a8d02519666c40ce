//! What console and HTTP act through: the workers, the configuration in force, and requests to shut down.
//!
//! Holds no policy of its own. Figures are copied out of the workers at most ten times a second, however many
//! ask; the totals over pools that are gone are kept here too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use headpond_core::{State, Tick};
use headpond_pooler::figures::{PoolRow, Snapshot};
use tokio::sync::mpsc;

use crate::config::{Config, Diagnostic};
use crate::console::totals::{Ledger, Totals};
use crate::worker::handle::Workers;

/// Snapshots younger than this are shown again.
const SNAPSHOT_AGE_MAX: Duration = Duration::from_millis(100);
/// A worker that does not answer within this time is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the counters are looked at when nobody asks, so that little of a pool that goes away is missed.
const OBSERVE_INTERVAL: Duration = Duration::from_secs(5);
/// Shutdown requests that may lie unread; each says more than the last, and the first is read at once.
const SHUTDOWN_QUEUE: usize = 8;

/// How often certificates are looked at, for when they expire.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// How the process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// At once.
    Now,
    /// When every server connection has come to rest.
    WaitForServers,
    /// When every client has left.
    WaitForClients,
}

/// The workers gave no figures in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silent;

impl std::fmt::Display for Silent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the workers did not answer within {} s", ANSWER_TIMEOUT.as_secs())
    }
}

impl std::error::Error for Silent {}

/// What a reload has to say when it succeeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// What was accepted but deserves a word.
    pub warnings: Vec<Diagnostic>,
    /// Settings that differ from those in force, and take effect at the next start.
    pub needs_restart: Vec<&'static str>,
}

/// A snapshot and when it was taken.
type Seen = (Instant, Arc<Snapshot>);

/// Shared by everything outside the workers.
pub struct Control {
    workers: Workers,
    config: RwLock<Arc<Config>>,
    started: Instant,
    shutdown: mpsc::Sender<Shutdown>,
    draining: AtomicBool,
    ledger: Mutex<Ledger>,
    /// The last snapshots, without and with detail. The lock is held while one is taken: who comes meanwhile
    /// gets the same.
    seen: tokio::sync::Mutex<[Option<Seen>; 2]>,
    /// What was set on the console since the last reload. Locked while one is under way, so that the last wins.
    set: tokio::sync::Mutex<Vec<(String, String)>>,
    /// Locked while keys are derived for a client of the console.
    derivations: tokio::sync::Mutex<()>,
    /// What the salts are made of that users see who do not exist.
    login_seed: [u8; 32],
}

impl Control {
    /// For these workers, which run this configuration. Whoever runs the process reads the requests to shut
    /// down and carries them out. `login_seed` is secret: whoever logs in under a name that does not exist is
    /// shown a salt made of it.
    #[must_use]
    pub fn new(
        workers: Workers,
        config: Arc<Config>,
        login_seed: [u8; 32],
    ) -> (Arc<Self>, mpsc::Receiver<Shutdown>) {
        let (shutdown, requests) = mpsc::channel(SHUTDOWN_QUEUE);
        let control = Self {
            workers,
            config: RwLock::new(config),
            started: Instant::now(),
            shutdown,
            draining: AtomicBool::new(false),
            ledger: Mutex::default(),
            seen: tokio::sync::Mutex::default(),
            set: tokio::sync::Mutex::default(),
            derivations: tokio::sync::Mutex::default(),
            login_seed,
        };
        (Arc::new(control), requests)
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// For as long as this is held nobody else derives keys for clients of the console.
    pub(crate) async fn derivations(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.derivations.lock().await
    }

    pub(crate) fn login_seed(&self) -> &[u8] {
        &self.login_seed
    }

    /// How long the process has been serving.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// No new leases in the pools of a data source (`None`: of all).
    pub async fn suspend(&self, data_source: Option<&str>) {
        self.workers.suspend(data_source);
        self.forget_seen().await;
    }

    /// Ends a suspension.
    pub async fn resume(&self, data_source: Option<&str>) {
        self.workers.resume(data_source);
        self.forget_seen().await;
    }

    /// Replaces every server connection when it is next at rest.
    pub async fn renew(&self, data_source: Option<&str>) {
        self.workers.renew(data_source);
        self.forget_seen().await;
    }

    /// Drops every client and server connection at once. Who comes next waits for [`Control::resume`].
    pub async fn kill(&self, data_source: Option<&str>) {
        self.workers.kill(data_source);
        self.forget_seen().await;
    }

    /// Starts the high-water marks anew.
    pub async fn reset_marks(&self) {
        self.workers.reset_marks();
        self.forget_seen().await;
    }

    /// Reads the configuration file again and hands it to the workers. Without a file there is nothing to read,
    /// and that is no error.
    ///
    /// # Errors
    /// Everything that is wrong with the file; the configuration in force stays.
    pub async fn reload(&self) -> Result<Reloaded, Vec<Diagnostic>> {
        let mut set = self.set.lock().await;
        let reloaded = self.load(Vec::new()).await?;
        set.clear();
        Ok(reloaded)
    }

    /// Sets one setting until the next reload. The file is read again, too; without one nothing can be set.
    ///
    /// # Errors
    /// Everything that is wrong with it; the configuration in force stays.
    pub async fn set(&self, key: &str, value: &str) -> Result<Reloaded, Vec<Diagnostic>> {
        let mut set = self.set.lock().await;
        let mut new = set.clone();
        new.retain(|(other, _)| other != key);
        new.push((key.to_owned(), value.to_owned()));
        if self.config().file.is_none() {
            let message = "there is no configuration file that it could amend".to_owned();
            return Err(vec![Diagnostic { file: "SET".into(), line: 0, key: key.to_owned(), message }]);
        }
        let reloaded = self.load(new.clone()).await?;
        *set = new;
        Ok(reloaded)
    }

    async fn load(&self, set: Vec<(String, String)>) -> Result<Reloaded, Vec<Diagnostic>> {
        let old = self.config();
        let Some(file) = old.file.clone() else { return Ok(Reloaded::default()) };
        let name = file.display().to_string();
        // Derives the users' secrets: slow, so not on the thread that serves.
        let loaded = tokio::task::spawn_blocking(move || Config::load_with(&file, &set)).await;
        let failed =
            |why: String| Diagnostic { file: name.into(), line: 0, key: String::new(), message: why };
        let new = loaded.unwrap_or_else(|panic| Err(vec![failed(panic.to_string())]))?;
        let new = Arc::new(new);
        let reloaded = Reloaded { warnings: new.warnings.clone(), needs_restart: old.needs_restart(&new) };
        new.tls.warn(today());
        self.workers.reload(&new.pooler, &new.tls);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = new;
        self.forget_seen().await;
        tracing::info!(file = %old.file.as_deref().unwrap_or("".as_ref()).display(), "configuration reloaded");
        Ok(reloaded)
    }

    /// Users and passwords are what their sources say now. To be called when a login failed; changes nothing if they say the
    /// same, or if one of them fails.
    pub async fn refresh(&self) {
        let _alone = self.set.lock().await;
        let old = self.config();
        if !old.has_sources() {
            return;
        }
        let before = Arc::clone(&old);
        let refreshed = tokio::task::spawn_blocking(move || before.refreshed()).await;
        match refreshed {
            Ok(Ok(new)) if new.pooler != old.pooler => {
                let new = Arc::new(new);
                self.workers.reload(&new.pooler, &new.tls);
                *self.config.write().unwrap_or_else(PoisonError::into_inner) = new;
                self.forget_seen().await;
                tracing::info!("users or passwords have changed");
            }
            Ok(Ok(_)) => {}
            Ok(Err(errors)) => errors.iter().for_each(|error| tracing::error!("not refreshed: {error}")),
            Err(panic) => tracing::error!(%panic, "not refreshed"),
        }
    }

    /// Asks for the end of the process, as signals do too. From now on it is not ready.
    pub fn shut_down(&self, how: Shutdown) {
        self.draining.store(true, Ordering::Relaxed);
        if self.shutdown.try_send(how).is_err() {
            tracing::warn!(?how, "shutdown request dropped: earlier ones have not been read yet");
        }
    }

    /// The figures of all workers, at most 100 ms old; with every client and server connection if `detail`.
    ///
    /// # Errors
    /// A worker did not answer.
    pub async fn snapshot(&self, detail: bool) -> Result<Arc<Snapshot>, Silent> {
        let mut seen = self.seen.lock().await;
        let place = &mut seen[usize::from(detail)];
        if let Some((at, snapshot)) = place
            && at.elapsed() < SNAPSHOT_AGE_MAX
        {
            return Ok(Arc::clone(snapshot));
        }
        let taken = tokio::time::timeout(ANSWER_TIMEOUT, self.workers.snapshot(detail)).await;
        let snapshot = Arc::new(taken.map_err(|_| Silent)?);
        *place = Some((Instant::now(), Arc::clone(&snapshot)));
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).observe(&snapshot);
        Ok(snapshot)
    }

    /// Counters by data source: they never fall, whatever becomes of the pools behind them.
    pub(crate) fn totals(&self) -> Totals {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).totals()
    }

    /// Looks at the counters from time to time, for totals and averages. Never returns.
    pub async fn observe(&self) {
        let mut interval = tokio::time::interval(OBSERVE_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looked: Option<Instant> = None;
        loop {
            interval.tick().await;
            if looked.is_none_or(|at| at.elapsed() >= EXPIRY_INTERVAL) {
                looked = Some(Instant::now());
                self.config().tls.warn(today());
            }
            if let Err(silent) = self.snapshot(false).await {
                tracing::error!("{silent}");
            }
        }
    }

    /// Why new clients had better go elsewhere; `None`: they need not.
    pub async fn unready(&self) -> Option<String> {
        if self.draining.load(Ordering::Relaxed) {
            return Some("the process is shutting down".to_owned());
        }
        match self.snapshot(false).await {
            Ok(snapshot) => unready(&snapshot),
            Err(silent) => Some(silent.to_string()),
        }
    }

    /// The next snapshot is taken anew: somebody did something and wants to see it.
    async fn forget_seen(&self) {
        *self.seen.lock().await = [None, None];
    }
}

/// Seconds since 1970.
fn today() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Every pool that keeps connections ready must have one.
fn unready(snapshot: &Snapshot) -> Option<String> {
    if snapshot.now == Tick::default() {
        return Some("no worker answers".to_owned());
    }
    let keeps_some = |row: &&PoolRow| {
        let settings = &row.pool.settings;
        settings.min_idle > 0 || settings.min_size > 0 || settings.initial_size > 0
    };
    let has_none = |row: &&PoolRow| row.pool.count(State::Idle) + row.pool.count(State::InUse) == 0;
    let row = snapshot.pools.iter().filter(keeps_some).find(has_none)?;
    let why = row.last_error.as_deref().unwrap_or("no login has succeeded yet");
    Some(format!("no server connection in the pool of {} for {}: {why}", row.data_source, row.user))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::tests::made_up;

    #[test]
    fn a_pool_with_floors_and_no_connection_makes_the_process_unready() {
        let mut snapshot = made_up::snapshot();
        assert_eq!(unready(&snapshot), None);
        let pool = &mut snapshot.pools[0];
        pool.pool.by_state = [0; 8];
        pool.last_error = Some("connection refused".to_owned());
        assert!(unready(&snapshot).unwrap().ends_with("shop for alice: connection refused"));
        let settings = &mut snapshot.pools[0].pool.settings;
        (settings.min_idle, settings.min_size, settings.initial_size) = (0, 0, 0);
        assert_eq!(unready(&snapshot), None);
        assert!(unready(&Snapshot::default()).is_some());
    }
}
