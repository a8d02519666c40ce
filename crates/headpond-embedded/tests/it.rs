//! The server as its users see it, on the PostgreSQL that this machine has.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use headpond_embedded::{Auth, Error, Options, Postgres, StopMode};

/// Set in the process that `server_ends_when_its_parent_is_killed` starts.
const PARENT_ROLE: &str = "HEADPOND_EMBEDDED_TEST_PARENT";

#[test]
fn server_answers_over_tcp_and_over_its_unix_socket() {
    let server = Postgres::start(Options::default()).unwrap();
    assert_eq!(login_tcp(&server).unwrap(), Reply::Ready);
    let socket = server.socket_folder().join(format!(".s.PGSQL.{}", server.port()));
    assert_eq!(login(UnixStream::connect(socket).unwrap()).unwrap(), Reply::Ready);
}

#[test]
fn password_is_asked_for_when_one_is_set() {
    let auth = Auth::ScramSha256 { password: "it's a \\ secret".to_owned() };
    let server = Postgres::start(Options { auth, ..Options::default() }).unwrap();
    assert_eq!(login_tcp(&server).unwrap(), Reply::Authentication(10), "AuthenticationSASL");
}

#[test]
fn max_connections_and_settings_are_the_servers() {
    let settings = vec![("application_name".to_owned(), r"it's a \ name".to_owned())];
    let server = Postgres::start(Options { max_connections: 17, settings, ..Options::default() }).unwrap();
    let mut stream = TcpStream::connect((server.host(), server.port())).unwrap();
    assert_eq!(login(&mut stream).unwrap(), Reply::Ready);
    assert_eq!(show(&mut stream, "max_connections").unwrap(), "17");
    assert_eq!(show(&mut stream, "application_name").unwrap(), r"it's a \ name");
    assert_eq!(show(&mut stream, "server_encoding").unwrap(), "UTF8");
}

#[test]
fn servers_started_at_once_get_ports_of_their_own() {
    let servers: Vec<_> = thread::scope(|scope| {
        let starts: Vec<_> =
            (0..3).map(|_| scope.spawn(|| Postgres::start(Options::default()).unwrap())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    for server in &servers {
        assert_eq!(login_tcp(server).unwrap(), Reply::Ready);
    }
}

#[test]
fn folder_is_closed_to_others_and_gone_after_the_drop() {
    let server = Postgres::start(Options::default()).unwrap();
    let (folder, pid) = (server.socket_folder().to_owned(), server.pid().unwrap());
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    drop(server);
    assert!(!folder.exists());
    assert!(!is_running(pid));
}

#[test]
fn restarted_server_keeps_its_port_and_data() {
    let mut server = Postgres::start(Options::default()).unwrap();
    let (port, marker) = (server.port(), server.data_folder().join("marker"));
    fs::write(&marker, "").unwrap();
    for mode in [StopMode::Fast, StopMode::Immediate] {
        server.stop(mode).unwrap();
        assert_eq!(server.pid(), None);
        assert!(login_tcp(&server).is_err(), "{mode:?}");
        let newcomer = Postgres::start(Options::default()).unwrap();
        assert_ne!(newcomer.port(), server.port(), "{mode:?}: the port stays its own");
        server.start_again().unwrap();
        assert_eq!(login_tcp(&server).unwrap(), Reply::Ready, "{mode:?}");
    }
    assert_eq!(server.port(), port);
    assert!(marker.exists());
}

#[test]
fn killed_server_recovers_while_its_clients_are_still_connected() {
    let mut server = Postgres::start(Options::default()).unwrap();
    let mut stream = TcpStream::connect((server.host(), server.port())).unwrap();
    assert_eq!(login(&mut stream).unwrap(), Reply::Ready);
    server.kill_postmaster().unwrap();
    server.start_again().unwrap();
    assert_eq!(login_tcp(&server).unwrap(), Reply::Ready);
}

#[test]
fn server_that_refuses_its_settings_is_quoted() {
    let settings = vec![("shared_buffers".to_owned(), "much".to_owned())];
    let error = Postgres::start(Options { settings, ..Options::default() }).unwrap_err();
    assert!(
        matches!(&error, Error::Ended { program: "postgres", log } if log.contains("shared_buffers")),
        "{error}"
    );
}

#[test]
fn taken_port_is_an_error_when_it_was_asked_for() {
    let server = Postgres::start(Options::default()).unwrap();
    let error = Postgres::start(Options { port: Some(server.port()), ..Options::default() }).unwrap_err();
    assert!(matches!(&error, Error::Ended { log, .. } if log.contains("could not bind")), "{error}");
}

/// Goal: not even SIGKILL leaves a server or its folder behind. Method: this test runs itself as a process of its own,
/// in the role of the parent, and kills it.
#[test]
fn server_ends_when_its_parent_is_killed() {
    if env::var_os(PARENT_ROLE).is_some() {
        let server = Postgres::start(Options::default()).unwrap();
        println!("\nSERVER {} {}", server.pid().unwrap(), server.socket_folder().display());
        loop {
            thread::park();
        }
    }
    let mut parent = Command::new(env::current_exe().unwrap())
        .args(["--exact", "server_ends_when_its_parent_is_killed", "--nocapture"])
        .env(PARENT_ROLE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines().map_while(Result::ok);
    let said = lines.filter_map(|line| line.strip_prefix("SERVER ").map(str::to_owned)).next().unwrap();
    let (pid, folder) = said.split_once(' ').unwrap();
    let pid = pid.parse().unwrap();
    assert!(is_running(pid));
    parent.kill().unwrap();
    parent.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while is_running(pid) || Path::new(folder).exists() {
        assert!(Instant::now() < deadline, "process {pid} or {folder} outlives its parent");
        thread::sleep(Duration::from_millis(10));
    }
}

/// What a server says to a startup packet.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Ready,
    /// The authentication request's code.
    Authentication(u8),
}

fn login_tcp(server: &Postgres) -> io::Result<Reply> {
    login(TcpStream::connect((server.host(), server.port()))?)
}

/// Sends a startup packet of protocol 3.0 for the superuser and reads to the end of the answer.
fn login(mut stream: impl io::Read + io::Write) -> io::Result<Reply> {
    let body = b"\0\x03\0\0user\0postgres\0\0";
    stream.write_all(&(body.len() as u32 + 4).to_be_bytes())?;
    stream.write_all(body)?;
    loop {
        match read_message(&mut stream)? {
            (b'Z', _) => return Ok(Reply::Ready),
            (b'R', body) if body != [0; 4] => return Ok(Reply::Authentication(body[3])),
            (b'E', body) => return Err(io::Error::other(String::from_utf8_lossy(&body).into_owned())),
            _ => {}
        }
    }
}

/// The value of a setting, by a simple query.
fn show(stream: &mut TcpStream, setting: &str) -> io::Result<String> {
    let query = format!("SHOW {setting}\0");
    stream.write_all(b"Q")?;
    stream.write_all(&(query.len() as u32 + 4).to_be_bytes())?;
    stream.write_all(query.as_bytes())?;
    let mut value = String::new();
    loop {
        match read_message(stream)? {
            // DataRow: two bytes of column count, four of length, the text.
            (b'D', row) => value = String::from_utf8_lossy(&row[6..]).into_owned(),
            (b'Z', _) => return Ok(value),
            _ => {}
        }
    }
}

fn read_message(stream: &mut impl io::Read) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 5];
    stream.read_exact(&mut header)?;
    let [kind, length @ ..] = header;
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut body)?;
    Ok((kind, body))
}

fn is_running(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}
