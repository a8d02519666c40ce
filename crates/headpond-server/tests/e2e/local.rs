//! Clients on a Unix socket, and the system's word for who they are.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use headpond_server::config::Config;
use headpond_server::control::Shutdown;
use headpond_server::process::{Ports, Server};
use tempfile::TempDir;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::hba;
use crate::pond::{Pond, SESSION, Way, code, connect, run, value, ways};

/// As whom this process runs.
fn myself() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// How to log in by the Unix socket.
fn login(pond: &Pond, folder: &Path) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config.host_path(folder).port(pond.address().port()).user(&pond.user).dbname("postgres");
    config
}

fn socket(pond: &Pond, folder: &Path) -> PathBuf {
    folder.join(format!(".s.PGSQL.{}", pond.address().port()))
}

/// With a socket in a folder of its own, which must outlive it.
async fn pond(way: Way, settings: &str) -> (Pond, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("unix_socket_dir = \"{}\"\n{settings}", folder.path().display());
    (Pond::new(way, &settings, "").await, folder)
}

#[test]
fn clients_on_the_unix_socket_are_served_like_all_others() {
    run(async {
        for way in ways() {
            let (pond, folder) = pond(way, "unix_socket_mode = \"0700\"").await;
            let file = fs::metadata(socket(&pond, folder.path())).unwrap();
            assert!(file.file_type().is_socket());
            assert_eq!(file.permissions().mode() & 0o777, 0o700);
            for _ in 0..8 {
                let client = connect(&login(&pond, folder.path())).await;
                assert_eq!(value(&client, "SELECT current_user").await, pond.user, "{way:?}");
            }
            let client = connect(&login(&pond, folder.path())).await;
            let token = client.cancel_token();
            let sleeps =
                tokio::spawn(async move { client.simple_query("SELECT pg_sleep(1000)").await.map(drop) });
            pond.until_in("PgSleep").await;
            token.cancel_query(NoTls).await.unwrap();
            assert_eq!(code(sleeps.await.unwrap()), SqlState::QUERY_CANCELED, "{way:?}");
            let console = connect(login(&pond, folder.path()).dbname("headpond")).await;
            console.simple_query("SHOW CLIENTS").await.unwrap();
            let path = socket(&pond, folder.path());
            pond.running.stop(Shutdown::Now).unwrap();
            assert!(!path.exists());
        }
    });
}

#[test]
fn who_runs_the_process_commands_the_console_by_the_socket_and_nobody_by_tcp() {
    run(async {
        let (pond, folder) = pond(SESSION, "").await;
        let console = connect(login(&pond, folder.path()).user("pgbouncer").dbname("pgbouncer")).await;
        console.simple_query("RELOAD").await.unwrap();
        let mut by_tcp = pond.login();
        let outcome = by_tcp.user("pgbouncer").dbname("pgbouncer").connect(NoTls).await.map(drop);
        assert_eq!(code(outcome), SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
    });
}

#[test]
fn the_system_vouches_for_whom_the_name_map_allows_and_for_nobody_else() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (rules, maps) = ("local postgres all peer map=staff\nlocal headpond all peer", "staff ME USER");
        for workers in [1, 2] {
            let settings = format!("unix_socket_dir = \"{}\"", folder.path().display());
            let (pond, _files) =
                hba::pond(Way { workers, ..SESSION }, rules, &maps.replace("ME", &myself()), &settings).await;
            for _ in 0..4 {
                let client = connect(&login(&pond, folder.path())).await;
                assert_eq!(value(&client, "SELECT current_user").await, pond.user);
            }
            let mut stranger = login(&pond, folder.path());
            let outcome = stranger.user("other").connect(NoTls).await.map(drop);
            assert_eq!(code(outcome), SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
            // Without a map only one's own name will do.
            let mut console = login(&pond, folder.path());
            let outcome = console.dbname("headpond").connect(NoTls).await.map(drop);
            assert_eq!(code(outcome), SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
            let by_tcp = pond.login().connect(NoTls).await.map(drop);
            assert_eq!(code(by_tcp), SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
        }
    });
}

#[test]
fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = |port: u16| {
        let text = format!(
            "listen = [\"127.0.0.1:{port}\"]\nhttp_listen = \"\"\nunix_socket_dir = \"{}\"\n[data_source.a]",
            folder.path().display()
        );
        Config::parse_toml("test.toml", &text, Path::new(".")).unwrap()
    };
    let free = Server::bind(config(0), Ports::Exact).unwrap();
    let port = free.addresses()[0].port();
    let path = free.unix_socket().unwrap().to_owned();
    drop(free);
    // A process that was killed leaves its file.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(Server::bind(config(port), Ports::Exact).unwrap());
    let used = UnixListener::bind(&path).unwrap();
    assert!(Server::bind(config(port), Ports::Exact).is_err());
    drop(used);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    assert!(Server::bind(config(port), Ports::Exact).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}
