//! The control plane's runtime: one thread, and helpers for what takes long (handshakes, derivations, files, names).

use std::io;

use tokio::runtime::{Builder, Runtime};

/// How much lower than the workers' the priority of a helper is: where processors are short it gets a third of a worker's
/// share, so that logins take longer and queries hardly do.
const NICER: i32 = 5;

pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().on_thread_start(come_second).build()
}

/// Whoever is in goes before whoever comes in. On Linux each thread has a priority of its own.
fn come_second() {
    if let Err(error) = rustix::process::nice(NICER) {
        tracing::debug!("helpers have the workers' priority: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::{NICER, runtime};

    #[test]
    fn helpers_come_after_the_workers_and_the_control_plane_does_not() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let ours = priority();
        let runtime = runtime().unwrap();
        let helper = runtime.block_on(async { tokio::task::spawn_blocking(priority).await.unwrap() });
        // Nothing is nicer than 19.
        assert_eq!((helper, priority()), ((ours + NICER).min(19), ours));
    }
}
