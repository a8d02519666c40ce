//! The whole process: listeners, workers, control plane, signals.

mod listen;
mod runtime;
mod unix;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use headpond_core::State;
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::config::Config;
use crate::console;
use crate::control::{Control, Shutdown};
use crate::http;
use crate::worker::handle::Workers;
use crate::worker::local::Opened;
use crate::worker::{Assignment, Prepared, Shared, Worker};
use listen::{listen, listen_near, resolve, unix_socket};
use unix::UnixSocket;

/// Clients of the console at once, logging in or in.
const CONSOLES_MAX: usize = 100;

/// The least time between two times that sources of secrets are asked because logins fail.
const REFRESH_PAUSE: Duration = Duration::from_secs(2);

/// What to do when a port is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// It is an error.
    Exact,
    /// The next free one will do.
    NextFree,
}

/// A server that listens, but serves nobody yet.
pub struct Server {
    config: Arc<Config>,
    /// For each worker, its own listener of every address.
    listeners: Vec<Vec<Opened>>,
    addresses: Vec<SocketAddr>,
    socket: Option<UnixSocket>,
    http: Option<TcpListener>,
}

impl Server {
    /// Listens where the configuration says.
    ///
    /// # Errors
    /// An address that cannot be listened on, named in the error.
    pub fn bind(config: Config, ports: Ports) -> io::Result<Self> {
        let mut listeners: Vec<Vec<Opened>> = (0..config.workers).map(|_| Vec::new()).collect();
        let mut addresses = Vec::new();
        for wanted in &config.listen {
            for address in resolve(wanted)? {
                let (first, address) = listen_near(address, ports, config.workers > 1)
                    .map_err(|error| io::Error::new(error.kind(), format!("{wanted}: {error}")))?;
                addresses.push(address);
                for own in &mut listeners[1..] {
                    own.push(Opened::Tcp(listen(address, true)?));
                }
                listeners[0].push(Opened::Tcp(first));
            }
        }
        let socket = unix_socket(&config, &addresses)?;
        if let Some(socket) = &socket {
            for own in &mut listeners {
                own.push(Opened::Unix(socket.again()?));
            }
        }
        let http = match config.http_listen {
            None => None,
            Some(wanted) => {
                let (listener, _) = listen_near(wanted, ports, false)
                    .map_err(|error| io::Error::new(error.kind(), format!("{wanted}: {error}")))?;
                Some(listener)
            }
        };
        Ok(Self { config: Arc::new(config), listeners, addresses, socket, http })
    }

    /// Where clients connect.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The Unix socket that clients may connect to as well, if there is one.
    #[must_use]
    pub fn unix_socket(&self) -> Option<&Path> {
        self.socket.as_ref().map(UnixSocket::path)
    }

    /// Where the page and the metrics are, if anywhere.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Serves until it is told to stop, by a signal (SIGTERM: drain; SIGINT, SIGQUIT: at once; SIGHUP: reload), the
    /// console, or [`Running::stop`].
    ///
    /// # Errors
    /// Threads, descriptors or the runtime cannot be had, or batched sends are demanded and not allowed.
    pub fn run(self) -> io::Result<()> {
        let (stage, _) = Stage::set(self)?;
        stage.play(true)
    }

    /// As [`Server::run`], in threads of its own and without listening to signals.
    ///
    /// # Errors
    /// As [`Server::run`].
    pub fn spawn(self) -> io::Result<Running> {
        let (addresses, http) = (self.addresses.clone(), self.http_address());
        let (stage, control) = Stage::set(self)?;
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || stage.play(false))?;
        Ok(Running { control, thread: Some(thread), addresses, http })
    }
}

/// A server that serves.
pub struct Running {
    control: Arc<Control>,
    thread: Option<JoinHandle<io::Result<()>>>,
    addresses: Vec<SocketAddr>,
    http: Option<SocketAddr>,
}

impl Running {
    /// What console and HTTP act through.
    #[must_use]
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Where clients connect.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the page and the metrics are, if anywhere.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Stops, and waits until everything has ended.
    ///
    /// # Errors
    /// The control plane failed while it ran.
    pub fn stop(mut self, how: Shutdown) -> io::Result<()> {
        self.control.shut_down(how);
        self.join()
    }

    fn join(&mut self) -> io::Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the control plane panicked")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.control.shut_down(Shutdown::Now);
        // Whoever drops it without asking does not want to know.
        let _ = self.join();
    }
}

/// Everything made, nothing running.
struct Stage {
    runtime: tokio::runtime::Runtime,
    control: Arc<Control>,
    tellers: Workers,
    requests: mpsc::Receiver<Shutdown>,
    http: Option<TcpListener>,
    /// Its file is removed when all is over.
    _socket: Option<UnixSocket>,
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    consoles: mpsc::UnboundedReceiver<crate::worker::ConsoleClient>,
    ended: mpsc::UnboundedReceiver<usize>,
}

impl Stage {
    fn set(server: Server) -> io::Result<(Self, Arc<Control>)> {
        let runtime = runtime::runtime()?;
        let prepared = (0..server.config.workers).map(|_| Prepared::new()).collect::<io::Result<Vec<_>>>()?;
        let mailboxes: Arc<[_]> = prepared.iter().map(|one| one.mailbox.clone()).collect();
        let (consoles_in, consoles) = mpsc::unbounded_channel();
        let (ended_in, ended) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            clients: AtomicUsize::new(0),
            budgets: Arc::default(),
            consoles: consoles_in,
            runtime: runtime.handle().clone(),
            handshakes: Arc::new(crate::tls::handshake::places()),
            refused: Notify::new(),
            ended: ended_in,
        });
        let (epoch, seed) = (Instant::now(), seed()?);
        let mut workers = Vec::new();
        for (index, (prepared, listeners)) in prepared.into_iter().zip(server.listeners).enumerate() {
            let assignment = Assignment {
                index,
                config: Arc::clone(&server.config.pooler),
                tls: Arc::clone(&server.config.tls),
                sends: server.config.sends,
                listeners,
                seed,
                epoch,
            };
            workers.push(Worker::new(prepared, Arc::clone(&mailboxes), Arc::clone(&shared), assignment)?);
        }
        let refused = Arc::clone(&shared);
        let tellers = Workers::new(mailboxes);
        let (control, requests) = Control::new(tellers.clone(), server.config, seed);
        let http = server.http;
        let stage = Self {
            runtime,
            control: Arc::clone(&control),
            tellers,
            requests,
            http,
            _socket: server.socket.map(UnixSocket::file_only),
            shared: refused,
            workers,
            consoles,
            ended,
        };
        Ok((stage, control))
    }

    fn play(mut self, signals: bool) -> io::Result<()> {
        let mut threads = Vec::new();
        for (index, worker) in self.workers.drain(..).enumerate() {
            threads.push(thread::Builder::new().name(format!("worker-{index}")).spawn(move || worker.run())?);
        }
        let runtime = self.runtime;
        let plane = ControlPlane {
            control: self.control,
            tellers: self.tellers.clone(),
            requests: self.requests,
            consoles: self.consoles,
            ended: self.ended,
            shared: self.shared,
        };
        let result = runtime.block_on(plane.direct(threads.len(), self.http, signals));
        self.tellers.stop();
        for thread in threads {
            if thread.join().is_err() {
                return Err(io::Error::other("a worker panicked"));
            }
        }
        // Lookups that hang must not keep the process.
        runtime.shutdown_timeout(Duration::from_millis(100));
        result
    }
}

/// What the control plane listens to.
struct ControlPlane {
    control: Arc<Control>,
    tellers: Workers,
    requests: mpsc::Receiver<Shutdown>,
    consoles: mpsc::UnboundedReceiver<crate::worker::ConsoleClient>,
    ended: mpsc::UnboundedReceiver<usize>,
    shared: Arc<Shared>,
}

impl ControlPlane {
    /// Consoles, HTTP, figures and signals, until all workers have ended.
    async fn direct(mut self, workers: usize, http: Option<TcpListener>, signals: bool) -> io::Result<()> {
        if let Some(listener) = http {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio::spawn(http::serve(listener, Arc::clone(&self.control)));
        }
        if signals {
            listen_to_signals(&self.control)?;
        }
        if !self.control.config().figures_interval.is_zero() {
            tokio::spawn(print_figures(Arc::clone(&self.control)));
        }
        tokio::spawn(refresh(Arc::clone(&self.control), Arc::clone(&self.shared)));
        let observer = Arc::clone(&self.control);
        tokio::spawn(async move { observer.observe().await });
        let places = Arc::new(Semaphore::new(CONSOLES_MAX));
        let mut running = workers;
        while running > 0 {
            tokio::select! {
                Some(client) = self.consoles.recv() => {
                    // One too many sees its connection close.
                    if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                        let control = Arc::clone(&self.control);
                        tokio::spawn(async move {
                            console::serve(client, control).await;
                            drop(place);
                        });
                    } else {
                        tracing::warn!("too many clients of the console: {CONSOLES_MAX} are there");
                    }
                }
                Some(how) = self.requests.recv() => match how {
                    Shutdown::Now => self.tellers.stop(),
                    Shutdown::WaitForServers | Shutdown::WaitForClients => self.tellers.drain(),
                },
                Some(_) = self.ended.recv() => running -= 1,
            }
        }
        Ok(())
    }
}

/// Failed logins have users and passwords asked for again where they come from, now and then: whoever can connect can fail.
async fn refresh(control: Arc<Control>, shared: Arc<Shared>) {
    loop {
        shared.refused.notified().await;
        control.refresh().await;
        tokio::time::sleep(REFRESH_PAUSE).await;
    }
}

/// A line of figures from time to time.
async fn print_figures(control: Arc<Control>) {
    let mut interval = tokio::time::interval(control.config().figures_interval);
    interval.tick().await;
    let mut before = 0;
    loop {
        interval.tick().await;
        let Ok(snapshot) = control.snapshot(false).await else { continue };
        let count = |state| snapshot.pools.iter().map(|pool| pool.pool.count(state)).sum::<u32>();
        let queries: u64 = snapshot.pools.iter().map(|pool| pool.traffic.queries).sum();
        tracing::info!(
            clients = snapshot.clients_logged_in,
            waiting = snapshot.pools.iter().map(|pool| pool.pool.waiting).sum::<u32>(),
            in_use = count(State::InUse),
            idle = count(State::Idle),
            opening = count(State::Opening),
            queries = queries.saturating_sub(before),
            "figures"
        );
        before = queries;
    }
}

fn listen_to_signals(control: &Arc<Control>) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let control = Arc::clone(control);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => control.shut_down(Shutdown::WaitForServers),
                _ = interrupt.recv() => control.shut_down(Shutdown::Now),
                _ = quit.recv() => control.shut_down(Shutdown::Now),
                _ = hang_up.recv() => match control.reload().await {
                    Ok(reloaded) => {
                        for warning in reloaded.warnings {
                            tracing::warn!("{warning}");
                        }
                        for key in reloaded.needs_restart {
                            tracing::warn!("{key} changes at the next start only");
                        }
                    }
                    Err(errors) => errors.iter().for_each(|error| tracing::error!("not reloaded: {error}")),
                },
            }
        }
    });
    Ok(())
}

/// 32 random bytes of the system.
fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    Ok(seed)
}
