//! A `headpond serve` of its own, and a server for it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use headpond_embedded::Postgres;
use tempfile::TempDir;
use tokio_postgres::{Client, Config, Error, NoTls};

/// The longest that a test, or a condition in one, may take on a slow machine.
const LIMIT: Duration = Duration::from_secs(120);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(5);

/// A process; dropped, it is killed.
pub(crate) struct Program {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    port: u16,
    _folder: TempDir,
}

impl Program {
    /// Serves the database `postgres` in transaction mode, with further settings of the process and of its pool.
    pub(crate) async fn serve(server: &Postgres, settings: &str, pool: &str) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_headpond"));
        Self::begin(command, server, settings, pool).await
    }

    /// As [`Program::serve`], with so few open files at most.
    pub(crate) async fn serve_with_files(server: &Postgres, files: u32) -> Self {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            &format!("ulimit -n {files}; exec \"$@\""),
            "sh",
            env!("CARGO_BIN_EXE_headpond"),
        ]);
        Self::begin(command, server, "", "min_idle = 0").await
    }

    async fn begin(mut command: Command, server: &Postgres, settings: &str, pool: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("headpond.toml");
        let (host, port, user) = (server.host(), server.port(), server.user());
        let http = if settings.contains("http_listen") { "" } else { "http_listen = \"\"" };
        let text = format!(
            "listen = [\"127.0.0.1:0\"]\n{http}\nlog_format = \"text\"\npool_mode = \"transaction\"\n{settings}
             [data_source.postgres]\nhost = \"{host}\"\nport = {port}\nuser = \"{user}\"\n{pool}"
        );
        fs::write(&file, text).unwrap();
        let mut child = command
            .args(["serve".as_ref(), file.as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        let mut program = Self { child, log, port: 0, _folder: folder };
        let line = program.until_logged("clients: 127.0.0.1:", 1).await.remove(0);
        program.port = line.rsplit(':').next().unwrap().parse().unwrap();
        program
    }

    /// Waits until so many lines of its log hold a text, and returns them.
    pub(crate) async fn until_logged(&self, text: &str, count: usize) -> Vec<String> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let found = self.logged(text);
            if found.len() >= count {
                return found;
            }
            assert!(Instant::now() < deadline, "not logged: {text}\n{}", self.logged("").join("\n"));
            tokio::time::sleep(POLL).await;
        }
    }

    /// The lines of its log that hold a text.
    pub(crate) fn logged(&self, text: &str) -> Vec<String> {
        self.log.lock().unwrap().iter().filter(|line| line.contains(text)).cloned().collect()
    }

    pub(crate) async fn client(&self, application: &str) -> Result<Client, Error> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user("somebody").dbname("postgres");
        let (client, connection) = config.application_name(application).connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// A connection that says nothing.
    pub(crate) fn connection(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).unwrap()
    }

    /// Ends it without a word to anybody.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a test to its end, within the limit.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, test).await.expect("the test ends in time") });
}
