//! A private MariaDB that ends with its parent.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mysql_async::OptsBuilder;

/// Runs a server until its input ends, which it does with the process that holds the other end; then nothing is left.
const WATCHED: &str = r#"folder=$1; shift; "$@" 2>"$folder/log" & echo started; cat >/dev/null
    kill -9 $!; wait; rm -rf "$folder""#;

pub(crate) struct Server {
    watcher: Child,
    socket: PathBuf,
}

/// Where the programs are: `./test` says so by `MARIADB_ROOT`.
fn root() -> PathBuf {
    std::env::var_os("MARIADB_ROOT").map_or_else(|| PathBuf::from("/"), PathBuf::from)
}

fn program(root: &Path, name: &str) -> Command {
    let mut command = Command::new(root.join(name));
    let libraries = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    command.env("LD_LIBRARY_PATH", root.join(libraries));
    command
}

impl Server {
    /// Every user of this machine may log in as `root` without a password.
    pub(crate) fn start(max_connections: u32) -> Self {
        let root = root();
        let folder = tempfile::Builder::new().prefix("headpond-mariadb-").tempdir().unwrap().keep();
        let (data, socket) = (folder.join("data"), folder.join("socket"));
        let made = program(&root, "usr/bin/mariadb-install-db")
            .args(["--no-defaults", "--user=root", "--auth-root-authentication-method=normal"])
            .arg(format!("--basedir={}", root.join("usr").display()))
            .arg(format!("--datadir={}", data.display()))
            .stdin(Stdio::null())
            .output()
            .expect("MariaDB is needed: scripts/mariadb.sh");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let server = program(&root, "usr/sbin/mariadbd");
        let mut watcher = Command::new("sh");
        watcher.args(["-c", WATCHED, "sh"]).arg(&folder).arg(server.get_program());
        watcher.envs(server.get_envs().filter_map(|(name, value)| Some((name, value?))));
        watcher
            .args(["--no-defaults", "--user=root", "--skip-networking", "--innodb-flush-log-at-trx-commit=0"])
            .arg(format!("--basedir={}", root.join("usr").display()))
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--pid-file={}", folder.join("pid").display()))
            .arg(format!("--max-connections={max_connections}"));
        let mut watcher = watcher.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let said = watcher.stdout.take().unwrap();
        BufReader::new(said).read_line(&mut String::new()).unwrap();
        let server = Self { watcher, socket };
        server.wait(&folder);
        server
    }

    pub(crate) fn opts(&self) -> OptsBuilder {
        OptsBuilder::default().socket(self.socket.to_str()).user(Some("root")).db_name(Some("mysql"))
    }

    fn wait(&self, folder: &Path) {
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(&self.socket).is_err() {
            let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(60), "MariaDB does not start: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}
