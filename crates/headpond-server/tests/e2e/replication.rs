//! Connections that replicate: each has a server connection of its own, in every mode.

use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::OnceLock;

use headpond_core::CloseReason;
use headpond_embedded::{Options, Postgres};
use headpond_server::control::Shutdown;
use tokio_postgres::{Client, NoTls};

use crate::database::{direct, postgres};
use crate::named::closed;
use crate::pond::{MODES, PID, Pond, SESSION, TRANSACTION, Way, connect, run, until, value, ways};
use crate::programs::{program, succeed};
use crate::raw::{Message, Raw, VERSION_3_0, message, tags};

/// The code of a cancel request.
const CANCEL: u32 = 80_877_102;

/// A server with a log that can be decoded.
fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        let settings = [("wal_level", "logical"), ("max_wal_senders", "50"), ("max_replication_slots", "50")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        postgres(Options { settings, ..Options::default() })
    })
}

/// Before that server, for a new user with these attributes.
async fn pond_for(way: Way, attributes: &str, pool: &str) -> Pond {
    static USERS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let user = format!("user_{}", USERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let create = format!("CREATE ROLE {user} LOGIN {attributes}");
    direct(server()).await.batch_execute(&create).await.unwrap();
    Pond::before(server(), way, &user, "", pool)
}

async fn pond(way: Way, pool: &str) -> Pond {
    pond_for(way, "SUPERUSER REPLICATION", pool).await
}

/// A client that asks to replicate, and what it hears until it is ready or closed.
fn replicates(pond: &Pond, value: &str) -> (Raw, Vec<Message>) {
    let mut raw = Raw::connect(pond.address());
    let parameters = [("user", &*pond.user), ("database", "postgres"), ("replication", value)];
    raw.send_startup(VERSION_3_0, &parameters);
    let mut heard = Vec::new();
    while !heard.last().is_some_and(|last: &Message| matches!(last.tag, b'Z' | b'E')) {
        heard.push(raw.receive().unwrap());
    }
    (raw, heard)
}

/// Tells how far a client has come, which is nowhere, and asks for an answer.
fn status() -> Vec<u8> {
    message(b'd', &[&b"r"[..], &[0; 32], &[1]].concat())
}

/// The value in the first column of the first row.
fn first(answer: &[Message]) -> String {
    let row = &answer.iter().find(|message| message.tag == b'D').unwrap().body;
    let length = u32::from_be_bytes(row[2..6].try_into().unwrap()) as usize;
    String::from_utf8(row[6..6 + length].to_vec()).unwrap()
}

/// Waits until the server has none of these backends any more.
async fn until_gone(watcher: &Client, pid: &str) {
    let query = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    until("the server connection is gone", async || value(watcher, &query).await == "0").await;
}

/// Decodes what is committed into a file, until it is killed.
fn receiver(pond: &Pond, slot: &str, file: &Path) -> Child {
    let file = file.to_str().unwrap();
    let slot = ["-d", "postgres", "-S", slot, "-P", "test_decoding", "--create-slot", "--start", "-f", file];
    program(pond, "pg_recvlogical", &slot).stderr(Stdio::null()).spawn().unwrap()
}

async fn until_received(file: &Path, text: &str) {
    let received = async || std::fs::read_to_string(file).unwrap_or_default().contains(text);
    until(text, received).await;
}

#[test]
fn a_base_backup_with_its_log_streamed_beside_it_is_whole() {
    run(async {
        for way in MODES {
            let pond = pond(way, "max_size = 2").await;
            let client = pond.client().await;
            let pid = value(&client, PID).await;
            let folder = tempfile::tempdir().unwrap();
            let backup = folder.path().join("backup");
            let backup = backup.to_str().unwrap();
            succeed(program(
                &pond,
                "pg_basebackup",
                &["-D", backup, "-X", "stream", "-c", "fast", "--no-sync"],
            ));
            let mut verify = server().installation().command("pg_verifybackup");
            verify.arg(backup);
            succeed(verify);
            // Two connections, beside the pool's own two, which go on.
            let dedicated = async || {
                let pools = &pond.snapshot().await.pools;
                pools.iter().map(|row| closed(&row.pool, CloseReason::Dedicated)).sum::<u64>()
            };
            until("two were closed", async || dedicated().await == 2).await;
            assert_eq!(value(&client, PID).await, pid, "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn the_replication_of_a_whole_server_needs_no_data_source_of_its_name() {
    run(async {
        let user = pond(SESSION, "").await.user;
        let (host, port) = (server().host(), server().port());
        let source = |name| format!("[data_source.{name}]\nhost = \"{host}\"\nport = {port}\nmin_idle = 0\n");
        let pond = Pond::of(TRANSACTION, &user, &(source("shop") + &source("stock")));
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().to_str().unwrap();
        // It names the database `replication`.
        let slot = ["-D", log, "-S", "whole_server", "--create-slot"];
        succeed(program(&pond, "pg_receivewal", &slot));
        let slot = ["-D", log, "-S", "whole_server", "--drop-slot"];
        succeed(program(&pond, "pg_receivewal", &slot));
    });
}

#[test]
fn what_is_committed_is_decoded_in_every_way() {
    run(async {
        for (number, way) in ways().enumerate() {
            let pond = pond(way, "max_size = 1").await;
            let (folder, client) = (tempfile::tempdir().unwrap(), pond.client().await);
            let file = folder.path().join("changes");
            let table = format!("decoded_{number}");
            client.batch_execute(&format!("CREATE TABLE {table} (what text)")).await.unwrap();
            let mut receiver = receiver(&pond, &table, &file);
            let slots =
                format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{table}' AND active");
            until("it streams", async || value(&client, &slots).await == "1").await;
            for what in ["first", "second"] {
                client.batch_execute(&format!("INSERT INTO {table} VALUES ('{what}')")).await.unwrap();
                until_received(&file, &format!("what[text]:'{what}'")).await;
            }
            receiver.kill().unwrap();
            receiver.wait().unwrap();
            // Without its server connection the slot is free.
            until("it is gone", async || value(&client, &slots).await == "0").await;
            value(&client, &format!("SELECT pg_drop_replication_slot('{table}')")).await;
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_killed_client_gives_back_its_permit_and_without_one_nobody_comes_in() {
    run(async {
        for way in MODES {
            // One of them is the control connection's.
            let pond = pond(way, "budget = 3\nmax_size = 2\nacquire_timeout = \"300ms\"").await;
            let folder = tempfile::tempdir().unwrap();
            let (file, slot) = (folder.path().join("changes"), format!("permit_{}", pond.user));
            let client = pond.client().await;
            client.batch_execute("BEGIN").await.unwrap();
            let pid = value(&client, PID).await;
            let mut receiver = receiver(&pond, &slot, &file);
            let direct = direct(server()).await;
            let active =
                format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active");
            until("it streams", async || value(&direct, &active).await == "1").await;
            let (_, heard) = replicates(&pond, "database");
            let refusal = heard.last().unwrap();
            assert_eq!((&*refusal.field('S'), &*refusal.field('C')), ("FATAL", "53300"), "{way:?}");
            receiver.kill().unwrap();
            receiver.wait().unwrap();
            until("its permit serves another", async || tags(&replicates(&pond, "true").1).ends_with('Z'))
                .await;
            assert_eq!(value(&client, PID).await, pid, "{way:?}");
            client.batch_execute("COMMIT").await.unwrap();
            value(&direct, &format!("SELECT pg_drop_replication_slot('{slot}')")).await;
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_connection_that_replicates_serves_nobody_else() {
    run(async {
        for way in MODES {
            let pond = pond(way, "max_size = 2").await;
            let watcher = direct(server()).await;
            let mut taken = Vec::new();
            for _ in 0..3 {
                let (mut raw, _) = replicates(&pond, "database");
                let own = first(&raw.query(PID));
                // Of a transaction's end it hears nothing.
                raw.query("BEGIN");
                raw.query("COMMIT");
                assert_eq!(first(&raw.query(PID)), own, "{way:?}");
                for client in pond.clients(2).await {
                    assert_ne!(value(&client, PID).await, own, "{way:?}");
                }
                drop(raw);
                until_gone(&watcher, &own).await;
                assert!(!taken.contains(&own), "{way:?}");
                taken.push(own);
            }
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_stream_in_both_directions_ends_in_order_and_the_connection_goes_on() {
    run(async {
        for way in ways() {
            let pond = pond(way, "").await;
            let (mut raw, welcome) = replicates(&pond, "true");
            let system = raw.query("IDENTIFY_SYSTEM");
            assert_eq!(tags(&system), "TDCZ", "{way:?}");
            let position = value(&direct(server()).await, "SELECT pg_current_wal_flush_lsn()").await;
            let stream = format!("START_REPLICATION {position}");
            let streams = |raw: &mut Raw| {
                raw.send_query(&stream);
                assert_eq!(raw.receive().unwrap().tag, b'W', "{way:?}");
                // A status that asks for an answer gets one.
                raw.send(&status());
                assert_eq!(raw.receive().unwrap().tag, b'd', "{way:?}");
            };
            streams(&mut raw);
            raw.send(&message(b'c', b""));
            let end = tags(&raw.until_ready());
            assert_eq!(end.trim_start_matches('d'), "cCCZ", "{way:?}");
            // A cancel ends it too.
            streams(&mut raw);
            let key = &welcome.iter().find(|message| message.tag == b'K').unwrap().body;
            let mut request = Raw::connect(pond.address());
            request.send_packet(CANCEL, key);
            let end = raw.until_ready();
            assert_eq!(tags(&end).trim_start_matches('d'), "EZ", "{way:?}");
            assert_eq!(end[end.len() - 2].field('C'), "57014", "{way:?}");
            // So does an error of the server's: this part of the log is not there any more.
            raw.send_query("START_REPLICATION 0/0");
            raw.send(&status());
            let end = tags(&raw.until_ready());
            assert!(end.ends_with("EZ"), "{end}, {way:?}");
            assert_eq!(tags(&raw.query("IDENTIFY_SYSTEM")), "TDCZ", "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn what_the_server_says_to_the_end_of_a_connection_is_heard() {
    run(async {
        for way in MODES {
            let pond = pond(way, "").await;
            let (mut raw, _) = replicates(&pond, "database");
            let pid = first(&raw.query(PID));
            value(&direct(server()).await, &format!("SELECT pg_terminate_backend({pid})")).await;
            let end = raw.until_end();
            assert_eq!((tags(&end).as_str(), &*end[0].field('C')), ("E", "57P01"), "{way:?}");
        }
    });
}

#[test]
fn what_the_server_does_not_allow_is_refused_in_its_words() {
    run(async {
        for way in MODES {
            let pond = pond_for(way, "", "").await;
            let other = pond.client().await;
            let (mut raw, heard) = replicates(&pond, "on");
            let refusal = heard.last().unwrap();
            assert_eq!((&*refusal.field('S'), &*refusal.field('C')), ("FATAL", "42501"), "{way:?}");
            assert!(raw.until_end().is_empty(), "{way:?}");
            let (_, heard) = replicates(&pond, "perhaps");
            assert_eq!(tags(&heard), "E", "{way:?}");
            assert_eq!(tags(&replicates(&pond, "off").1).chars().last(), Some('Z'), "{way:?}");
            assert_eq!(value(&other, "SELECT 1").await, "1", "{way:?}");
        }
    });
}

#[test]
fn an_extended_query_where_none_may_be_is_an_error_and_no_more() {
    run(async {
        let pond = pond(TRANSACTION, "").await;
        let (mut raw, _) = replicates(&pond, "database");
        let [parse, sync] = [message(b'P', b"\0SELECT 1\0\0\0"), message(b'S', b"")];
        raw.send(&[parse, message(b'B', &[0; 8]), message(b'E', &[0; 5]), sync].concat());
        assert_eq!(tags(&raw.until_ready()), "EZ");
        assert_eq!(tags(&raw.query("IDENTIFY_SYSTEM")), "TDCZ");
        pond.assert_in_step().await;
    });
}

#[test]
fn a_drain_ends_streams_when_nothing_else_is_left() {
    run(async {
        for way in ways() {
            let pond = pond(way, "").await;
            let position = value(&direct(server()).await, "SELECT pg_current_wal_flush_lsn()").await;
            let (mut raw, _) = replicates(&pond, "true");
            raw.send_query(&format!("START_REPLICATION {position}"));
            assert_eq!(raw.receive().unwrap().tag, b'W', "{way:?}");
            let (client, login) = (pond.client().await, pond.login());
            client.batch_execute("BEGIN").await.unwrap();
            let Pond { running, user } = pond;
            let stopped = tokio::task::spawn_blocking(move || running.stop(Shutdown::WaitForServers));
            until("closed to newcomers", async || login.connect(NoTls).await.is_err()).await;
            // It goes on: the server answers a status that asks for that.
            raw.send(&status());
            assert_eq!(raw.receive().unwrap().tag, b'd', "{way:?}");
            client.batch_execute("COMMIT").await.unwrap();
            let end = raw.until_end();
            assert_eq!(end.last().unwrap().field('C'), "57P01", "{way:?}");
            stopped.await.unwrap().unwrap();
            let left = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}'");
            let direct = direct(server()).await;
            until("gone", async || value(&direct, &left).await == "0").await;
        }
    });
}

#[test]
fn the_console_tells_who_replicates() {
    run(async {
        let pond = pond(TRANSACTION, "").await;
        let kept = [replicates(&pond, "database"), replicates(&pond, "yes")];
        let client = pond.client().await;
        client.batch_execute("SELECT 1").await.unwrap();
        let console = connect(pond.login().dbname("headpond")).await;
        for command in ["SHOW CLIENTS", "SHOW SERVERS"] {
            let kinds = async || {
                let answer = console.simple_query(command).await.unwrap();
                let rows = answer.iter().filter_map(|message| match message {
                    tokio_postgres::SimpleQueryMessage::Row(row) => row.get("replication").map(str::to_owned),
                    _ => None,
                });
                let mut kinds: Vec<_> = rows.collect();
                kinds.sort();
                kinds
            };
            until(command, async || kinds().await == ["logical", "none", "physical"]).await;
        }
        drop(kept);
    });
}
