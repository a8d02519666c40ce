//! Whole conversations: a client writes bytes, the console answers over an in-memory stream.

use std::sync::Arc;

use headpond_pooler::config::{AuthMethod, User};
use headpond_wire::postgres::backend::ErrorFields;
use headpond_wire::postgres::frontend;
use headpond_wire::postgres::scram::{ClientKeys, ClientRole, StoredSecret};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinHandle;

use super::made_up;
use crate::config::Config;
use crate::console::{Origin, serve_on};
use crate::control::{Control, Shutdown};
use crate::worker::handle::Workers;

pub(super) type Message = (u8, Vec<u8>);

pub(super) struct Client {
    pub(super) stream: DuplexStream,
    console: JoinHandle<()>,
}

/// A console without workers, and a client of it on another machine unless `local`.
fn connect(config: Config, local: bool, held: Vec<u8>) -> (Client, Receiver<Shutdown>) {
    let (control, requests) = Control::new(Workers::new(Arc::default()), Arc::new(config), [7; 32]);
    (connect_to(control, local, held), requests)
}

/// Likewise, to a console of somebody's own making.
pub(super) fn connect_to(control: Arc<Control>, local: bool, held: Vec<u8>) -> Client {
    let (near, far) = tokio::io::duplex(1 << 20);
    let address = Some(if local { [127, 0, 0, 1].into() } else { [192, 0, 2, 1].into() });
    let origin = Origin { address, ..Origin::default() };
    let console = tokio::spawn(serve_on(far, origin, held, control));
    Client { stream: near, console }
}

/// A client that is logged in.
async fn client(user: &str) -> (Client, Receiver<Shutdown>) {
    let held = startup(3 << 16, &[("user", user), ("database", "pgbouncer")]);
    let (mut client, requests) = connect(made_up::config(AuthMethod::Trust), false, held);
    assert_eq!(kinds(&client.answer().await), "RSSSSSSSKZ");
    (client, requests)
}

pub(super) fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap();
    [&length.to_be_bytes()[..], &body].concat()
}

pub(super) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &length.to_be_bytes(), body].concat()
}

impl Client {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn message(&mut self) -> Option<Message> {
        let kind = self.stream.read_u8().await.ok()?;
        let mut body = vec![0; self.stream.read_u32().await.unwrap() as usize - 4];
        self.stream.read_exact(&mut body).await.unwrap();
        Some((kind, body))
    }

    /// Everything up to the next `ReadyForQuery`, or to the end of the stream.
    pub(super) async fn answer(&mut self) -> Vec<Message> {
        let mut answer = Vec::new();
        while let Some(message) = self.message().await {
            answer.push(message);
            if answer.last().is_some_and(|(kind, _)| *kind == b'Z') {
                break;
            }
        }
        answer
    }

    pub(super) async fn query(&mut self, statement: &str) -> Vec<Message> {
        self.send(&message(b'Q', format!("{statement}\0").as_bytes())).await;
        self.answer().await
    }
}

pub(super) fn kinds(answer: &[Message]) -> String {
    answer.iter().map(|(kind, _)| char::from(*kind)).collect()
}

/// Severity, SQLSTATE and text of the one error in an answer.
pub(super) fn error(answer: &[Message]) -> (String, String, String) {
    let (_, body) = answer.iter().find(|(kind, _)| *kind == b'E').expect("an error");
    let fields = ErrorFields::read(body);
    (fields.severity, fields.sqlstate, fields.message)
}

#[tokio::test]
async fn a_driver_is_told_what_it_wants_to_know() {
    let held = startup(3 << 16 | 9, &[("user", "ann"), ("_pq_.x", "1"), ("extra_float_digits", "3")]);
    let (mut client, _requests) = connect(made_up::config(AuthMethod::Trust), false, held);
    let answer = client.answer().await;
    assert_eq!(kinds(&answer), "vRSSSSSSSKZ");
    assert_eq!(answer[0].1, b"\0\x03\0\x02\0\0\0\x01_pq_.x\0");
    assert!(answer[2].1.starts_with(b"server_version\x001.25.0/headpond"));
    assert_eq!(kinds(&client.query("SHOW client_encoding").await), "TDCZ");
    assert_eq!(kinds(&client.query(";").await), "IZ");
    assert_eq!(kinds(&client.query("SHOW HELP").await), "NCZ");
    assert_eq!(kinds(&client.query("SHOW POOLS").await), "TCZ");
    assert_eq!(client.query("SHOW VERSION").await[1].1[6..], b"PgBouncer 1.25.0/headpond 0.1.0"[..]);
}

#[tokio::test]
async fn strangers_stay_outside_unless_nobody_is_listed_and_they_are_local() {
    let held = || startup(3 << 16, &[("user", "eve")]);
    let (mut listed, _requests) = connect(made_up::config(AuthMethod::Trust), true, held());
    assert_eq!(error(&listed.answer().await).1, "28000");
    let mut open = made_up::config(AuthMethod::Trust);
    Arc::make_mut(&mut open.pooler).admin_users.clear();
    let (mut remote, _requests) = connect(open.clone(), false, held());
    assert_eq!(error(&remote.answer().await).1, "28000");
    let (mut local, _requests) = connect(open, true, held());
    assert_eq!(kinds(&local.answer().await), "RSSSSSSSKZ");
    assert_eq!(error(&local.query("PAUSE").await).1, "42501");
}

/// Logs in with SCRAM; the messages after the client's last.
async fn scram(user: &str, password: &str) -> Vec<Message> {
    let mut config = made_up::config(AuthMethod::ScramSha256);
    let secret = StoredSecret::derive("right", b"salt and pepper!", 4096);
    let ann = User { scram: Some(secret), ..User::default() };
    Arc::make_mut(&mut config.pooler).users.insert("ann".to_owned(), ann);
    let (mut client, _requests) = connect(config, false, startup(3 << 16, &[("user", user)]));
    assert_eq!(client.message().await.unwrap().1, b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let (exchange, first) = ClientRole::new("fyko+d2lbbFgONRv9qkxdawL");
    let mut out = Vec::new();
    frontend::sasl_initial_response(&mut out, "SCRAM-SHA-256", &first);
    client.send(&out).await;
    let (_, challenge) = client.message().await.unwrap();
    let challenge = exchange.challenge(&challenge[4..]).unwrap();
    let keys = ClientKeys::derive(password, &challenge.salt, challenge.iterations);
    let (last, _) = challenge.respond(&keys);
    out.clear();
    frontend::sasl_response(&mut out, &last);
    client.send(&out).await;
    client.answer().await
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_look_the_same() {
    assert_eq!(kinds(&scram("ann", "right").await), "RRSSSSSSSKZ");
    let wrong = scram("ann", "wrong").await;
    assert_eq!(error(&wrong).1, "28P01");
    assert_eq!(scram("nobody", "right").await, wrong);
}

#[tokio::test]
async fn an_unknown_command_is_an_error_and_the_console_stays_usable() {
    let (mut client, _requests) = client("ann").await;
    let answer = client.query("DROP TABLE t").await;
    assert_eq!(kinds(&answer), "EZ");
    let invalid = "invalid command 'DROP TABLE t', use SHOW HELP;";
    assert_eq!(error(&answer), ("ERROR".into(), "42601".into(), invalid.into()));
    // There is no file.
    assert_eq!(error(&client.query("SET max_client_conn = 5").await).1, "F0000");
    assert_eq!(error(&client.query("SET max_client_conn").await).1, "42601");
    assert_eq!(kinds(&client.query("SHOW LISTS").await), format!("T{}CZ", "D".repeat(14)));
}

#[tokio::test]
async fn a_viewer_only_looks_and_an_administrator_commands() {
    let (mut viewer, mut requests) = client("stan").await;
    for statement in ["PAUSE", "RESUME shop", "RELOAD", "RESET MARKS", "SHUTDOWN", "SET a = b", "KILL"] {
        assert_eq!(error(&viewer.query(statement).await).1, "42501", "{statement}");
    }
    assert_eq!(kinds(&viewer.query("SHOW STATS").await), "TCZ");
    assert!(requests.try_recv().is_err());
    let (mut admin, mut requests) = client("ann").await;
    for statement in
        ["PAUSE", "RESUME shop", "RECONNECT", "KILL", "RELOAD", "RESET MARKS", "SHUTDOWN WAIT_FOR_CLIENTS"]
    {
        assert_eq!(kinds(&admin.query(statement).await), "CZ", "{statement}");
    }
    assert_eq!(requests.recv().await, Some(Shutdown::WaitForClients));
}

#[tokio::test]
async fn the_extended_protocol_works_and_skips_to_sync_after_an_error() {
    let (mut client, _requests) = client("ann").await;
    let sync = message(b'S', b"");
    let flight = [
        message(b'P', b"s\0SHOW LISTS\0\0\0"),
        message(b'D', b"Ss\0"),
        message(b'B', b"p\0s\0\0\0\0\0\0\x01\0\x01"),
        message(b'D', b"Pp\0"),
        message(b'E', b"p\0\0\0\0\0"),
        message(b'C', b"Pp\0"),
        sync.clone(),
    ];
    client.send(&flight.concat()).await;
    let answer = client.answer().await;
    assert_eq!(kinds(&answer), format!("1tT2T{}C3Z", "D".repeat(14)));
    assert_eq!(answer[5].1, b"\0\x02\0\0\0\x09databases\0\0\0\x04\0\0\0\0");
    let broken =
        [message(b'P', b"\0NONSENSE\0\0\0"), message(b'B', b"\0\0\0\0\0\0\0\0"), message(b'E', b"x")];
    client.send(&[broken.concat(), sync].concat()).await;
    assert_eq!(kinds(&client.answer().await), "EZ");
    assert_eq!(kinds(&client.query("SHOW STATE").await), "TDDDCZ");
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_the_conversation() {
    let (mut client, _requests) = client("ann").await;
    client.send(&[b'Q', 0x7f, 0xff, 0xff, 0xff]).await;
    let answer = client.answer().await;
    assert_eq!((kinds(&answer).as_str(), error(&answer).1.as_str()), ("E", "54000"));
}

/// A generator that repeats from its seed (xorshift, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    fn bytes(&mut self, limit: usize) -> Vec<u8> {
        (0..self.below(limit)).map(|_| self.below(256) as u8).collect()
    }
}

#[tokio::test]
async fn every_odd_statement_gets_exactly_one_ready_for_query() {
    const PARTS: [&str; 30] = [
        "SHOW",
        "select",
        "POOLS",
        "clients",
        "STATS",
        "CONFIG",
        "HELP",
        "PAUSE",
        "RESUME",
        "reload",
        "SHUTDOWN",
        "WAIT_FOR_SERVERS",
        "SET",
        "RESET",
        "MARKS",
        "shop",
        "\"",
        "'",
        ";",
        "--",
        "\n",
        "é",
        "=",
        " ",
        "\t",
        "KILL",
        "TOTALS",
        "\u{1F600}",
        "DATABASES",
        "",
    ];
    let (mut client, _requests) = client("ann").await;
    let mut random = Random(42);
    for _ in 0..5_000 {
        let mut statement = Vec::new();
        for _ in 0..random.below(6) {
            match random.below(10) {
                0 => statement.extend(random.bytes(20)),
                _ => statement.extend_from_slice(PARTS[random.below(PARTS.len())].as_bytes()),
            }
            statement.extend_from_slice(if random.below(4) == 0 { b"" } else { b" " });
        }
        // Now and then without the zero byte, or with more behind it.
        statement.extend_from_slice(if random.below(20) == 0 { b"" } else { b"\0" });
        client.send(&message(b'Q', &statement)).await;
        let answer = client.answer().await;
        assert!(kinds(&answer).ends_with('Z'), "{statement:?}: {}", kinds(&answer));
    }
}

#[tokio::test]
async fn random_messages_never_panic_and_sync_always_answers() {
    let mut random = Random(4711);
    for _ in 0..20 {
        let (mut client, _requests) = client("ann").await;
        for _ in 0..200 {
            let kind = b"PBDECFHdcf"[random.below(10)];
            client.send(&message(kind, &random.bytes(40))).await;
        }
        client.send(&message(b'S', b"")).await;
        assert!(kinds(&client.answer().await).ends_with('Z'));
    }
    for _ in 0..2_000 {
        let held = random.bytes(64);
        let (mut client, _requests) = connect(made_up::config(AuthMethod::ScramSha256), false, held);
        client.send(&random.bytes(64)).await;
        client.stream.shutdown().await.unwrap();
        client.stream.read_to_end(&mut Vec::new()).await.unwrap();
        client.console.await.expect("no panic");
    }
}
