//! A private MariaDB, from the programs below `MARIADB_ROOT`.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Error;
use crate::watcher::POLL;

/// Runs a server until its input ends, which it does with the process that holds the other end; then nothing is left.
const WATCHED: &str = r#"folder=$1; shift; "$@" 2>"$folder/log" & echo started; cat >/dev/null
    kill -9 $!; wait; rm -rf "$folder""#;

/// The longest that a start may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A private MariaDB server, whose data is worth nothing afterwards; every user of this machine may log in as `root` without
/// a password. Dropping it stops the server at once and removes its folder; the end of this process does the same.
#[derive(Debug)]
pub struct Mariadb {
    watcher: Child,
    socket: PathBuf,
}

/// Where the programs are: `scripts/mariadb.sh` prints it.
fn root() -> PathBuf {
    std::env::var_os("MARIADB_ROOT").map_or_else(|| PathBuf::from("/"), PathBuf::from)
}

fn program(root: &Path, name: &str) -> Command {
    let mut command = Command::new(root.join(name));
    let libraries = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    command.env("LD_LIBRARY_PATH", root.join(libraries));
    command
}

impl Mariadb {
    /// Makes a data folder and starts a server on it; returns when it accepts connections on its socket. Blocks for some
    /// seconds.
    ///
    /// # Errors
    /// There is no MariaDB, or it does not start: see [`Error`].
    pub fn start(max_connections: u32) -> Result<Self, Error> {
        let root = root();
        let folder = tempfile::Builder::new().prefix("headpond-mariadb-").tempdir()?;
        let [data, socket, pid] = ["data", "socket", "pid"].map(|name| folder.path().join(name));
        let made = program(&root, "usr/bin/mariadb-install-db")
            .args(["--no-defaults", "--user=root", "--auth-root-authentication-method=normal"])
            .arg(format!("--basedir={}", root.join("usr").display()))
            .arg(format!("--datadir={}", data.display()))
            .stdin(Stdio::null())
            .output()?;
        if !made.status.success() {
            let log = String::from_utf8_lossy(&made.stderr).into_owned();
            return Err(Error::Ended { program: "mariadb-install-db", log });
        }
        let server = program(&root, "usr/sbin/mariadbd");
        let mut watcher = Command::new("sh");
        watcher.args(["-c", WATCHED, "sh"]).arg(folder.path()).arg(server.get_program());
        watcher.envs(server.get_envs().filter_map(|(name, value)| Some((name, value?))));
        watcher
            .args(["--no-defaults", "--user=root", "--skip-networking", "--innodb-flush-log-at-trx-commit=0"])
            .arg(format!("--basedir={}", root.join("usr").display()))
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--pid-file={}", pid.display()))
            .arg(format!("--max-connections={max_connections}"));
        let mut watcher = watcher.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let said = watcher.stdout.take();
        // From here on the watcher removes it.
        let folder = folder.keep();
        let server = Self { watcher, socket };
        if let Some(said) = said {
            BufReader::new(said).read_line(&mut String::new())?;
        }
        server.wait(&folder)?;
        Ok(server)
    }

    /// Its Unix socket, the only way to it.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn wait(&self, folder: &Path) -> Result<(), Error> {
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(&self.socket).is_err() {
            if begun.elapsed() >= LIMIT {
                let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
                return Err(Error::TimedOut { awaited: "ready", log });
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}
