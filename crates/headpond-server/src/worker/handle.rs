//! How the control plane reaches the workers: a bounded queue and a waker each; answers come by channel.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use headpond_pooler::config::PoolerConfig;
use headpond_pooler::figures::Snapshot;
use mio::Waker;
use tokio::sync::oneshot;

use crate::tls::Loaded;
use crate::tls::session::Session;

/// What a worker can be told.
pub(crate) enum Command {
    /// Copy the figures out; with clients and servers one by one if `detail`.
    Snapshot { detail: bool, reply: oneshot::Sender<Snapshot> },
    /// Grant nothing in the pools of a data source (all of them: `None`).
    Suspend { data_source: Option<String> },
    /// Ends a suspension.
    Resume { data_source: Option<String> },
    /// Replace every server connection when it is next at rest.
    Renew { data_source: Option<String> },
    /// Drop every client and server connection, and suspend.
    Kill { data_source: Option<String> },
    /// Start the high-water marks anew.
    ResetMarks,
    /// A new configuration.
    Reload(Arc<PoolerConfig>, Arc<Loaded>),
    /// A client that turned out to belong to this worker, with the bytes read of it so far.
    Adopt {
        socket: crate::worker::socket::Socket,
        peer: Option<SocketAddr>,
        held: Vec<u8>,
        session: Option<Box<Session>>,
    },
    /// A handshake is over.
    Handshaken(Box<crate::worker::Handshaken>),
    /// The system user of a client on a Unix socket was looked up.
    Named(Box<crate::worker::local::Nameless>, Option<String>),
    /// Keys of a login, derived off the worker.
    Keys(crate::worker::DerivedKeys),
    /// Host name looked up off the worker.
    Resolved(crate::worker::ResolvedHost),
    /// Accept nobody, finish what runs, then end.
    Drain,
    /// End now.
    Stop,
}

/// Longest queue of commands to one worker: beyond it a command is dropped by the sender's choice.
const QUEUE: usize = 1024;

/// The sender's end of one worker's queue.
#[derive(Clone)]
pub(crate) struct Mailbox {
    queue: SyncSender<Command>,
    waker: Arc<Waker>,
}

impl Mailbox {
    /// A queue that wakes through `waker`.
    pub(crate) fn new(waker: Arc<Waker>) -> (Self, Receiver<Command>) {
        let (queue, commands) = sync_channel(QUEUE);
        (Self { queue, waker }, commands)
    }

    /// Queues a command and wakes the worker; gives the command back if the queue is full or the worker gone.
    pub(crate) fn send(&self, command: Command) -> Result<(), Command> {
        self.queue.try_send(command).map_err(|error| match error {
            TrySendError::Full(command) | TrySendError::Disconnected(command) => command,
        })?;
        // A failing waker means the worker has ended; what it had to do has ended with it.
        let _: io::Result<()> = self.waker.wake();
        Ok(())
    }
}

/// All workers, as the control plane sees them.
#[derive(Clone)]
pub struct Workers {
    mailboxes: Arc<[Mailbox]>,
}

impl Workers {
    pub(crate) fn new(mailboxes: Arc<[Mailbox]>) -> Self {
        Self { mailboxes }
    }

    /// The figures of all workers together; with every client and server connection if `detail`.
    pub async fn snapshot(&self, detail: bool) -> Snapshot {
        let mut all = Snapshot::default();
        for mailbox in self.mailboxes.iter() {
            let (reply, answer) = oneshot::channel();
            if mailbox.send(Command::Snapshot { detail, reply }).is_ok()
                && let Ok(snapshot) = answer.await
            {
                all.append(snapshot);
            }
        }
        all
    }

    /// No new leases in the pools of a data source (`None`: of all).
    pub fn suspend(&self, data_source: Option<&str>) {
        self.tell(|| Command::Suspend { data_source: data_source.map(str::to_owned) });
    }

    /// Ends a suspension.
    pub fn resume(&self, data_source: Option<&str>) {
        self.tell(|| Command::Resume { data_source: data_source.map(str::to_owned) });
    }

    /// Replaces every server connection when it is next at rest.
    pub fn renew(&self, data_source: Option<&str>) {
        self.tell(|| Command::Renew { data_source: data_source.map(str::to_owned) });
    }

    /// Drops every client and server connection of a data source (`None`: of all), and suspends its pools.
    pub fn kill(&self, data_source: Option<&str>) {
        self.tell(|| Command::Kill { data_source: data_source.map(str::to_owned) });
    }

    /// Starts the high-water marks anew.
    pub fn reset_marks(&self) {
        self.tell(|| Command::ResetMarks);
    }

    /// Delivers a new configuration.
    pub fn reload(&self, config: &Arc<PoolerConfig>, tls: &Arc<Loaded>) {
        self.tell(|| Command::Reload(Arc::clone(config), Arc::clone(tls)));
    }

    /// Finish what runs, take nothing new, then end.
    pub fn drain(&self) {
        self.tell(|| Command::Drain);
    }

    /// End now.
    pub fn stop(&self) {
        self.tell(|| Command::Stop);
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for mailbox in self.mailboxes.iter() {
            // A full queue means a worker that is stuck or gone: nothing said to it would be done anyway.
            let _: Result<(), Command> = mailbox.send(command());
        }
    }
}
