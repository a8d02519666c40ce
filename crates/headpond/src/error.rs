//! Errors that say why, and what to do about it.

use std::error::Error;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use headpond_core::FailureClass;

/// Why there is no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError<E> {
    /// The deadline passed: its own, or `acquire_timeout`.
    TimedOut(Box<TimedOut<E>>),
    /// `max_waiters` others wait already. The service has more to do than it can: shed load, do not try again.
    Full(PoolFull),
    /// By all that is known the deadline would pass before its turn comes. Nothing was waited for.
    WouldMiss(PoolFull),
    /// Logins fail, no connection is left, and waiting would not help.
    Login(Arc<LoginFailure<E>>),
    /// The task holds a connection of this pool already, and the pool was told to refuse that.
    Nested(Holder),
    /// The pool is closed, or closing.
    Closed,
    /// The pool has never been used within a tokio runtime, or that runtime has ended, and this is none either.
    NoRuntime,
}

/// More is asked of the pool than it can do.
///
/// A type of its own, because it is the one failure to which trying again is the wrong answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolFull {
    /// Requests that wait.
    pub waiting: u32,
    /// The most connections that there may be.
    pub max_size: u32,
}

/// What the pool looked like when a deadline passed.
#[derive(Debug)]
#[non_exhaustive]
pub struct TimedOut<E> {
    /// How long this request waited.
    pub waited: Duration,
    /// The task that waited held a connection itself: nested requests can wait for each other for ever.
    pub own: Option<Holder>,
    /// What was going on.
    pub situation: Arc<Situation<E>>,
}

/// A pool that has nothing to give, at one moment.
#[derive(Debug)]
#[non_exhaustive]
pub struct Situation<E> {
    /// The most connections that there may be: `max_size`, or what the server leaves to us if that is less.
    pub max_size: u32,
    /// Connections that are leased.
    pub in_use: u32,
    /// Connections that are being opened.
    pub opening: u32,
    /// Connections that are being tested or reset.
    pub recovering: u32,
    /// Connections that are idle: nobody may have them while the pool is suspended.
    pub idle: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// Who has held a connection for longest.
    pub holders: Vec<Holder>,
    /// The pool is suspended.
    pub suspended: bool,
    /// The last login failed.
    pub login: Option<Arc<LoginFailure<E>>>,
}

/// Who holds a connection.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Holder {
    /// As given to [`Acquire::label`](crate::Acquire::label).
    pub label: Option<&'static str>,
    /// Where in the program it was acquired.
    pub site: Option<&'static Location<'static>>,
    /// For how long.
    pub held: Duration,
}

/// A login that failed, and those before it.
#[derive(Debug)]
#[non_exhaustive]
pub struct LoginFailure<E> {
    /// What it means.
    pub class: FailureClass,
    /// What the driver said.
    pub cause: LoginError<E>,
    /// Logins that failed since the last that succeeded, this one included.
    pub failures: u32,
}

/// How a login failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoginError<E> {
    /// The driver says so.
    Driver(E),
    /// It took longer than this.
    TimedOut(Duration),
    /// It panicked, or its runtime has ended.
    Abandoned,
}

impl<E: fmt::Display> fmt::Display for AcquireError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(timed_out) => timed_out.fmt(f),
            Self::Full(full) => full.fmt(f),
            Self::WouldMiss(PoolFull { waiting, max_size }) => {
                write!(f, "its turn would come too late: {waiting} wait for {max_size} connections")
            }
            Self::Login(failure) => write!(f, "no connection to the database: {failure}"),
            Self::Nested(holder) => {
                write!(f, "its task already holds a connection of this pool ({holder})")
            }
            Self::Closed => f.write_str("the pool is closed"),
            Self::NoRuntime => f.write_str("no tokio runtime: acquire within one"),
        }
    }
}

impl<E: Error + 'static> Error for AcquireError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let login = match self {
            Self::Login(failure) => Some(failure),
            Self::TimedOut(timed_out) => timed_out.situation.login.as_ref(),
            _ => None,
        };
        match &login?.cause {
            LoginError::Driver(cause) => Some(cause),
            _ => None,
        }
    }
}

impl fmt::Display for PoolFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { waiting, max_size } = self;
        write!(f, "the pool is full: {waiting} wait already for {max_size} connections")
    }
}

impl Error for PoolFull {}

impl<E: fmt::Display> fmt::Display for TimedOut<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no connection within {:.1?}: {}", self.waited, self.situation)?;
        match &self.own {
            Some(own) => write!(f, "; the task that waited holds one itself ({own})"),
            None => Ok(()),
        }
    }
}

impl<E: fmt::Display> fmt::Display for Situation<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { max_size, in_use, opening, waiting, .. } = self;
        if self.suspended {
            return f.write_str("the pool is suspended");
        }
        if let Some(failure) = &self.login {
            write!(f, "logins fail: {failure}; ")?;
        } else if *opening > 0 {
            write!(f, "{opening} logins take their time; ")?;
        }
        write!(f, "{in_use} of at most {max_size} in use, {waiting} wait")?;
        for (place, holder) in self.holders.iter().enumerate() {
            write!(f, "{} {holder}", if place == 0 { "; held longest:" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(label) = self.label {
            write!(f, "{label:?} ")?;
        }
        if let Some(site) = self.site {
            write!(f, "at {}:{} ", site.file(), site.line())?;
        }
        write!(f, "for {:.1?}", self.held)
    }
}

impl<E: fmt::Display> fmt::Display for LoginFailure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cause, failures, .. } = self;
        write!(f, "{cause}")?;
        if *failures > 1 { write!(f, " ({failures} failures in a row)") } else { Ok(()) }
    }
}

impl<E: fmt::Display> fmt::Display for LoginError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(cause) => cause.fmt(f),
            Self::TimedOut(limit) => write!(f, "no answer within {limit:.1?}"),
            Self::Abandoned => f.write_str("the login panicked, or its runtime has ended"),
        }
    }
}
