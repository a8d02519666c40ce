//! Secrets: where they come from, how they change, and that nobody is shown one.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;

use headpond_server::config::Config;
use headpond_server::console;
use tempfile::TempDir;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;
use tracing_subscriber::fmt::MakeWriter;

use crate::database::database;
use crate::pond::{Pond, code, connect, run, until, value};

/// A configuration in a folder of its own, which must outlive it.
struct Files(TempDir);

impl Files {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (host, port) = (database().server.host(), database().server.port());
        let text = text.replace("HOST", &format!("host = \"{host}\"\nport = {port}"));
        let text = format!("listen = [\"127.0.0.1:26432\"]\nhttp_listen = \"127.0.0.1:26480\"\n{text}");
        fs::write(folder.path().join("headpond.toml"), text).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) {
        // In one step, as rotations do it.
        fs::write(self.0.path().join("new"), text).unwrap();
        fs::rename(self.0.path().join("new"), self.0.path().join(name)).unwrap();
    }

    fn main(&self) -> std::path::PathBuf {
        self.0.path().join("headpond.toml")
    }
}

/// A server that asks for passwords, where two users take turns.
async fn locked() -> &'static headpond_embedded::Postgres {
    use headpond_embedded::{Auth, Options};
    static LOCKED: std::sync::OnceLock<headpond_embedded::Postgres> = std::sync::OnceLock::new();
    LOCKED.get_or_init(|| {
        let auth = Auth::ScramSha256 { password: "top".to_owned() };
        let server = crate::database::postgres(Options { auth, ..Options::default() });
        let mut psql = server.installation().command("psql");
        let roles = "CREATE ROLE odd LOGIN PASSWORD 'one'; CREATE ROLE even LOGIN PASSWORD 'two'; CREATE ROLE solo LOGIN PASSWORD 'p0'";
        psql.args(["-X", "-q", "-h", "127.0.0.1", "-p", &server.port().to_string(), "-U", "postgres", "-c", roles]);
        assert!(psql.env("PGPASSWORD", "top").status().unwrap().success());
        server
    })
}

async fn superuser() -> tokio_postgres::Client {
    let server = locked().await;
    let mut config = tokio_postgres::Config::new();
    config.host(server.host()).port(server.port()).user("postgres").password("top").dbname("postgres");
    connect(&config).await
}

#[test]
fn user_and_password_change_together_while_it_serves_and_are_never_mixed() {
    run(async {
        let server = locked().await;
        let source = format!("host = \"{}\"\nport = {}", server.host(), server.port());
        let files = Files::new(&format!(
            "[data_source.postgres]\n{source}\ncredentials = \"file:pair\"\nmin_idle = 2\nmax_size = 4"
        ));
        files.write("pair", "odd\none\n");
        let pond = Pond::from_file(&files.main(), "anybody");
        let client = pond.client().await;
        assert_eq!(value(&client, "SELECT session_user").await, "odd");
        for (pair, user) in [("even\ntwo\n", "even"), ("odd\none\n", "odd"), ("even\ntwo\n", "even")] {
            files.write("pair", pair);
            pond.running.control().reload().await.unwrap();
            until(user, async || value(&client, "SELECT session_user").await == user).await;
        }
        // What nobody could read changes nothing.
        files.write("pair", "even\n\n");
        pond.running.control().reload().await.unwrap_err();
        assert_eq!(value(&client, "SELECT session_user").await, "even");
        let snapshot = pond.snapshot().await;
        assert!(snapshot.pools.iter().all(|row| row.last_error.is_none() && row.user == "even"));
    });
}

#[test]
fn a_command_is_run_again_when_the_server_refuses_what_it_said() {
    run(async {
        let server = locked().await;
        let superuser = superuser().await;
        let source = format!("host = \"{}\"\nport = {}", server.host(), server.port());
        let files = Files::new(&format!(
            "[data_source.postgres]\n{source}\ncredentials = \"command:cat FOLDER/said\"\nmax_lifetime = \"1h\"\nmin_idle = 0"
        ));
        let text = fs::read_to_string(files.main()).unwrap();
        fs::write(files.main(), text.replace("FOLDER", &files.0.path().display().to_string())).unwrap();
        files.write("said", "solo\np0\n");
        let pond = Pond::from_file(&files.main(), "anybody");
        let client = pond.client().await;
        assert_eq!(value(&client, "SELECT session_user").await, "solo");
        for round in 1..3 {
            superuser.batch_execute(&format!("ALTER ROLE solo PASSWORD 'p{round}'")).await.unwrap();
            files.write("said", &format!("solo\np{round}\n"));
            // Nobody reloads: the next login finds out.
            superuser
                .batch_execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'solo'",
                )
                .await
                .unwrap();
            let serves = async || client.simple_query("SELECT 1").await.is_ok();
            until("the new password", serves).await;
        }
    });
}

#[test]
fn a_clients_new_password_comes_in_after_one_failed_login_if_a_command_lists_the_users() {
    run(async {
        let user = database().user().await;
        let files = Files::new(
            "auth_type = \"scram-sha-256\"\nauth_file = \"command:cat FOLDER/listed\"\n[data_source.\"*\"]\nHOST",
        );
        let text = fs::read_to_string(files.main()).unwrap();
        fs::write(files.main(), text.replace("FOLDER", &files.0.path().display().to_string())).unwrap();
        files.write("listed", &format!("\"{user}\" \"first\""));
        let pond = Pond::from_file(&files.main(), &user);
        connect(pond.login().password("first")).await;
        files.write("listed", &format!("\"{user}\" \"second\""));
        let enters = async || pond.login().password("second").connect(NoTls).await.is_ok();
        until("the new password", enters).await;
        let old = pond.login().password("first").connect(NoTls).await.map(drop);
        assert_eq!(code(old), SqlState::INVALID_PASSWORD);
    });
}

/// All that is logged in this process.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

fn get(pond: &Pond, path: &str, secret: &str) -> String {
    let mut stream = TcpStream::connect(pond.running.http_address().unwrap()).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: bearer {secret}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Planted where secrets belong: none comes out, whoever asks for what.
#[test]
fn no_secret_is_in_any_output_log_error_or_debug_text() {
    run(async {
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(Log);
        // Another test may have been first: then it logs elsewhere, and the rest is looked at all the same.
        let _ = tracing::subscriber::set_global_default(subscriber.finish());
        let user = database().user().await;
        let planted = [
            "planted-users-file",
            "planted-data-source",
            "planted-http-secret",
            "planted-by-the-client",
            "planted-in-a-file",
        ];
        let [listed, own, http, given, filed] = planted;
        let files = Files::new(&format!(
            "auth_type = \"password\"\nauth_file = \"users\"\nhttp_secret = \"{http}\"\nadmin_users = [\"{user}\"]\n\
             auth_user = \"{user}\"\nauth_query = \"SELECT $1::text, nonsense\"\n\
             [data_source.postgres]\nHOST\n[data_source.own]\nHOST\ndatabase = \"postgres\"\nuser = \"{user}\"\npassword = \"{own}\"\n\
             [data_source.filed]\nHOST\ndatabase = \"postgres\"\ncredentials = \"file:pair\"\n[data_source.closed]\nhost = \"127.0.0.1\"\nport = 1\n\
             user = \"{user}\"\npassword = \"{own}\""
        ));
        files.write("users", &format!("\"{user}\" \"{listed}\"\n"));
        files.write("pair", &format!("{user}\n{filed}\n"));
        let pond = Pond::from_file(&files.main(), &user);
        let mut shown = String::new();
        for name in ["postgres", "own", "filed"] {
            let client = connect(pond.login().dbname(name).password(listed)).await;
            client.batch_execute("SELECT 1").await.ok();
        }
        for (name, asks, password) in
            [("postgres", &*user, given), ("postgres", "mallory", given), ("nowhere", &*user, listed)]
        {
            let outcome =
                pond.login().dbname(name).user(asks).password(password).connect(NoTls).await.map(drop);
            writeln!(shown, "{outcome:?}").unwrap();
        }
        let console = connect(pond.login().dbname("headpond").password(listed)).await;
        for line in console::reference().lines().filter(|line| line.starts_with("| `SHOW ")) {
            let command = line.split('`').nth(1).unwrap();
            let rows = console.simple_query(command).await.unwrap();
            for row in &rows {
                if let tokio_postgres::SimpleQueryMessage::Row(row) = row {
                    (0..row.len()).for_each(|column| writeln!(shown, "{:?}", row.get(column)).unwrap());
                }
            }
        }
        for set in ["SET http_secret = short", "SET auth_type = nonsense", "RELOAD", "SET max_size = x"] {
            writeln!(shown, "{:?}", console.simple_query(set).await.map(drop)).unwrap();
        }
        for path in ["/", "/metrics", "/healthz", "/readyz", "/api/v1/snapshot?detail=1", "/nothing"] {
            shown.push_str(&get(&pond, path, http));
            shown.push_str(&get(&pond, path, given));
        }
        // A panic shows what can be shown of anything.
        writeln!(shown, "{:?}", pond.running.control().config()).unwrap();
        writeln!(shown, "{:?}", pond.snapshot().await).unwrap();
        // A configuration that is wrong around its secrets.
        let text = fs::read_to_string(files.main()).unwrap();
        for (right, wrong) in [
            ("http_secret = \"planted", "http_secret = \"\"planted"),
            ("password = \"", "password = '"),
            ("credentials = \"file:pair\"", "credentials = \"planted-in-a-file\""),
            ("user = \"", "user = \"\\u0000"),
        ] {
            fs::write(files.main(), text.replace(right, wrong)).unwrap();
            let errors = Config::load(&files.main()).unwrap_err();
            errors.iter().for_each(|error| writeln!(shown, "{error} {error:?}").unwrap());
        }
        files.write("users", &format!("\"{user}\" \"{listed}\n\"x\" \"SCRAM-SHA-256${listed}\""));
        fs::write(files.main(), &text).unwrap();
        let errors = Config::load(&files.main()).unwrap_err();
        errors.iter().for_each(|error| writeln!(shown, "{error}").unwrap());
        shown.push_str(&String::from_utf8_lossy(&LOG.lock().unwrap()));
        assert!(shown.contains("password authentication failed"));
        for secret in planted {
            let found = shown.find(secret);
            let excerpt = found.map(|at| &shown[at.saturating_sub(200)..(at + 100).min(shown.len())]);
            assert!(found.is_none(), "{secret}: {}", excerpt.unwrap_or_default());
        }
    });
}
