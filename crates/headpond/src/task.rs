//! Tasks and time limits of tokio; where schedules are tried there are threads, and no time.

use std::time::Duration;

use tokio::runtime::Handle;

#[cfg(not(shuttle))]
pub(crate) fn spawn(runtime: Option<&Handle>, job: impl Future<Output = ()> + Send + 'static) {
    // Without a runtime the job is dropped, and tells so.
    if let Some(runtime) = runtime {
        runtime.spawn(job);
    }
}

#[cfg(not(shuttle))]
pub(crate) async fn timeout<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, work).await.ok()
}

#[cfg(shuttle)]
pub(crate) fn spawn(_: Option<&Handle>, job: impl Future<Output = ()> + Send + 'static) {
    crate::sync::thread::spawn(|| shuttle::future::block_on(job));
}

#[cfg(shuttle)]
pub(crate) async fn timeout<T>(_: Duration, work: impl Future<Output = T>) -> Option<T> {
    Some(work.await)
}
