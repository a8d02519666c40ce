//! Work that blocks, for drivers that do.

use std::error::Error;
use std::fmt;
use std::panic::resume_unwind;

use tokio::task::spawn_blocking;

use crate::connector::Connector;
use crate::error::AcquireError;
use crate::lease::Lease;
use crate::pool::Pool;

impl<C: Connector> Pool<C> {
    /// Acquires a connection and does something with it that blocks, on a thread that may.
    ///
    /// Cancel-safe while it waits for a connection; dropped after that, the work goes on, and the connection goes home
    /// when it is done.
    ///
    /// # Errors
    ///
    /// As [`Pool::acquire`].
    #[track_caller]
    pub fn run_blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut C::Connection) -> R + Send + 'static,
    ) -> impl Future<Output = Result<R, AcquireError<C::Error>>> + Send {
        let lease = self.acquire();
        async move { lease.await?.run_blocking(work).await.map_err(|Ended| AcquireError::NoRuntime) }
    }
}

impl<C: Connector> Lease<C> {
    /// Does something with the connection that blocks, on a thread that may, and gives it back.
    ///
    /// Dropped, the work goes on, and the connection goes home when it is done.
    ///
    /// # Errors
    ///
    /// The runtime ends before the work begins.
    pub async fn run_blocking<R: Send + 'static>(
        mut self,
        work: impl FnOnce(&mut C::Connection) -> R + Send + 'static,
    ) -> Result<R, Ended> {
        let done = spawn_blocking(move || {
            let result = work(&mut self);
            drop(self);
            result
        });
        match done.await {
            Ok(result) => Ok(result),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => Err(Ended),
            },
        }
    }
}

/// The runtime has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the runtime has ended")
    }
}

impl Error for Ended {}
