//! The server: its cluster, its start and its end.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::owner::Owner;
use crate::port::Port;
use crate::watcher::{Guard, POLL, Watcher};
use crate::{Error, Installation};

const USER: &str = "postgres";
const HOST: &str = "127.0.0.1";

/// The longest that a start or a stop may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How many lines of a log an error quotes.
const QUOTED_LINES: usize = 10;

/// What a server should be like.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server's `max_connections`, reserved ones included.
    pub max_connections: u32,
    /// The TCP port on 127.0.0.1; `None`: a free one from 15432 upward, outside the range for outgoing connections.
    pub port: Option<u16>,
    /// How every user logs in, over TCP and over the Unix socket.
    pub auth: Auth,
    /// Further settings for `postgresql.conf`, by name; they win over ours.
    pub settings: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_connections: 100, port: None, auth: Auth::Trust, settings: Vec::new() }
    }
}

/// How users log in.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Without a password: every local user may connect as every database user.
    Trust,
    /// With a password, never sent in the clear.
    ScramSha256 {
        /// The superuser's; one line.
        password: String,
    },
    /// With a password, of which the server stores and compares md5 hashes.
    Md5 {
        /// The superuser's; one line.
        password: String,
    },
    /// With a password sent in the clear.
    Password {
        /// The superuser's; one line.
        password: String,
    },
}

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Open transactions are rolled back, clients told, the cluster shut down cleanly.
    Fast,
    /// Every process quits at once; the next start recovers from the log.
    Immediate,
}

/// A private PostgreSQL server. Dropping it stops the server at once and removes its folder; the end of this process
/// does the same, however it comes.
#[derive(Debug)]
pub struct Postgres {
    // Dropped in this order: the server ends before its folder is removed.
    watcher: Option<Watcher>,
    _guard: Guard,
    folder: PathBuf,
    owner: Owner,
    installation: Installation,
    port: Port,
}

impl Postgres {
    /// Makes a cluster (superuser `postgres`, UTF-8, locale C.UTF-8) and starts a server on it; returns when it accepts
    /// connections. Blocks for a second or two.
    ///
    /// # Errors
    ///
    /// See [`Error`]; a server that ends by itself is [`Error::Ended`] with the last lines of its log.
    pub fn start(options: Options) -> Result<Self, Error> {
        let folder = tempfile::Builder::new()
            .prefix("headpond-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()?;
        let owner = Owner::of_new(folder.path())?;
        let installation = Installation::find_for(owner)?;
        let guard = Guard::of(folder.path())?;
        let folder = folder.keep();
        owner.take(&folder)?;
        let port =
            options.port.map_or_else(Port::claim, |port| Some(Port::given(port))).ok_or(Error::NoPort)?;
        let mut server = Self { watcher: None, _guard: guard, folder, owner, installation, port };
        server.initialise(&options)?;
        server.run()?;
        Ok(server)
    }

    /// The address it listens on: `127.0.0.1`.
    #[must_use]
    pub fn host(&self) -> &str {
        HOST
    }

    /// Its TCP port, also the number in its Unix socket's name.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The superuser's name.
    #[must_use]
    pub fn user(&self) -> &str {
        USER
    }

    /// The folder of its Unix socket.
    #[must_use]
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// The cluster, `PGDATA`.
    #[must_use]
    pub fn data_folder(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The file that the server logs to.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The programs it was started from; also `psql` and the like.
    #[must_use]
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// The folder of those programs.
    #[must_use]
    pub fn bin_folder(&self) -> &Path {
        self.installation.bin_folder()
    }

    /// The process id of the postmaster; none while the server is stopped.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.watcher.as_ref().and(self.status().lines().next()?.parse().ok())
    }

    /// Stops the server and waits for its end. Nothing happens to one that has ended.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] when it has not ended within a minute; it may yet.
    pub fn stop(&mut self, mode: StopMode) -> Result<(), Error> {
        self.end(match mode {
            StopMode::Fast => "INT",
            StopMode::Immediate => "QUIT",
        })
    }

    /// Kills the postmaster as a crash would: no process of the server gets to say or save anything.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
    pub fn kill_postmaster(&mut self) -> Result<(), Error> {
        self.end("KILL")
    }

    /// Starts the server again on the same port, after a stop, a kill or its own end.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_again(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + LIMIT;
        self.end("QUIT")?;
        loop {
            match self.run() {
                // The children of a killed postmaster leave as soon as they notice; the shared memory is theirs until then.
                Err(Error::Ended { log, .. })
                    if log.contains("pre-existing shared memory block") && Instant::now() < deadline =>
                {
                    thread::sleep(POLL);
                }
                outcome => return outcome,
            }
        }
    }

    /// Stops and starts again, on the same port.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop) and [`start`](Self::start).
    pub fn restart(&mut self, mode: StopMode) -> Result<(), Error> {
        self.stop(mode)?;
        self.start_again()
    }

    /// Makes the cluster.
    fn initialise(&self, options: &Options) -> Result<(), Error> {
        let mut initdb = self.as_owner(self.installation.command("initdb"));
        initdb.args([
            "--no-sync",
            "--no-instructions",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--username",
            USER,
        ]);
        initdb.arg("--pgdata").arg(self.data_folder());
        let (method, password) = match &options.auth {
            Auth::Trust => ("trust", None),
            Auth::ScramSha256 { password } => ("scram-sha-256", Some(password)),
            Auth::Md5 { password } => ("md5", Some(password)),
            Auth::Password { password } => ("password", Some(password)),
        };
        initdb.arg(format!("--auth={method}"));
        if let Some(password) = password {
            let file = self.folder.join("password");
            fs::write(&file, password)?;
            self.owner.take(&file)?;
            initdb.arg("--pwfile").arg(file);
        }
        let output = initdb.output()?;
        if !output.status.success() {
            let log = [output.stdout, output.stderr].concat();
            return Err(Error::Ended { program: "initdb", log: last_lines(&String::from_utf8_lossy(&log)) });
        }
        let max_connections = options.max_connections.to_string();
        let socket_folder = self.folder.to_string_lossy();
        let ours = [
            ("listen_addresses", HOST),
            ("unix_socket_directories", &socket_folder),
            ("max_connections", &max_connections),
            // The data ends with the server: nothing to save from a crash of the machine.
            ("fsync", "off"),
        ];
        let theirs = options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut file = File::options().append(true).open(self.data_folder().join("postgresql.conf"))?;
        for (name, value) in ours.into_iter().chain(theirs) {
            writeln!(file, "{name} = '{}'", value.replace('\\', r"\\").replace('\'', "''"))?;
        }
        let _ = fs::remove_file(self.folder.join("password")); // There may be none.
        Ok(())
    }

    /// Runs the server, and returns when it is ready.
    fn run(&mut self) -> Result<(), Error> {
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let (log_start, stale, deadline) = (log.metadata()?.len(), self.status(), Instant::now() + LIMIT);
        let mut shell = self.as_owner(Command::new("sh"));
        shell.stdout(log.try_clone()?).stderr(log);
        let mut server = Command::new(self.bin_folder().join("postgres"));
        server.arg("-D").arg(self.data_folder()).arg("-p").arg(self.port().to_string());
        let mut watcher = Watcher::start(shell, &server)?;
        loop {
            if watcher.ended()?.is_some() {
                return Err(Error::Ended { program: "postgres", log: self.quote_log(log_start) });
            }
            // A killed server leaves its status behind: "ready" counts only in one that this server wrote.
            let status = self.status();
            if status != stale && status.lines().nth(7).is_some_and(|line| line.trim_end() == "ready") {
                self.watcher = Some(watcher);
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::TimedOut { awaited: "ready", log: self.quote_log(log_start) });
            }
            thread::sleep(POLL);
        }
    }

    /// Ends the server by `signal`.
    fn end(&mut self, signal: &str) -> Result<(), Error> {
        if let Some(watcher) = &mut self.watcher {
            watcher.send(signal);
            if !watcher.wait(LIMIT)? {
                return Err(Error::TimedOut { awaited: "gone", log: self.quote_log(0) });
            }
            self.watcher = None;
        }
        Ok(())
    }

    /// What `postmaster.pid` says: the process id in line 1, `ready` in line 8; empty when there is none.
    fn status(&self) -> String {
        fs::read_to_string(self.data_folder().join("postmaster.pid")).unwrap_or_default()
    }

    /// `command`, to run as the database's owner in its folder.
    fn as_owner(&self, mut command: Command) -> Command {
        self.installation.prepare(&mut command);
        self.owner.apply(&mut command);
        command.env("LC_ALL", "C.UTF-8").current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    /// The last lines of the log from the byte `start` on.
    fn quote_log(&self, start: u64) -> String {
        let log = fs::read(self.log_file()).unwrap_or_default();
        let start = usize::try_from(start).unwrap_or(0).min(log.len());
        last_lines(&String::from_utf8_lossy(&log[start..]))
    }
}

/// The end of a log.
fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
}
