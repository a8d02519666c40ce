//! What belongs to a session: each client has its own, whoever had the connection before.

use futures_util::future::join_all;
use headpond_core::CloseReason;
use headpond_pooler::figures::PoolRow;
use tokio_postgres::error::SqlState;

use crate::pond::{MODES, PID, Pond, SESSION, code, connect, run, value, ways};
use crate::raw::{Message, Raw, VERSION_3_0};

#[test]
fn a_session_ends_with_its_client() {
    run(async {
        for way in ways().filter(|way| way.mode == "session") {
            let pond = Pond::new(way, "verify_reset = false", "max_size = 1").await;
            let first = pond.client().await;
            let state = "SET work_mem = '123MB'; SET ROLE pg_monitor; CREATE TEMP TABLE mine (); LISTEN news;
                PREPARE mine AS SELECT 1; SELECT pg_advisory_lock(42), set_config('my.own', 'x', false);
                DECLARE mine CURSOR WITH HOLD FOR SELECT 1";
            first.batch_execute(state).await.unwrap();
            let pid = value(&first, PID).await;
            drop(first);
            let second = pond.client().await;
            assert_eq!(value(&second, PID).await, pid, "{way:?}");
            for (query, clean) in [
                ("SELECT current_setting('work_mem')", "4MB"),
                ("SELECT current_user", &pond.user),
                ("SELECT to_regclass('pg_temp.mine') IS NULL", "t"),
                ("SELECT count(*) FROM pg_listening_channels()", "0"),
                ("SELECT count(*) FROM pg_prepared_statements", "0"),
                ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()", "0"),
                ("SELECT coalesce(current_setting('my.own', true), '')", ""),
                ("SELECT count(*) FROM pg_cursors", "0"),
            ] {
                assert_eq!(value(&second, query).await, clean, "{query}, {way:?}");
            }
        }
    });
}

#[test]
fn startup_parameters_are_true_for_each_client() {
    // What a client asks for, and what the database then says.
    let wishes = [
        ("", "", "/ISO, MDY/Etc/UTC/4MB"),
        ("first", "-c DateStyle=German -c work_mem=5MB", "first/German, DMY/Etc/UTC/5MB"),
        ("it's", r"-c TimeZone=Europe/Berlin --work-mem=6MB", "it's/ISO, MDY/Europe/Berlin/6MB"),
        ("", r"-c DateStyle=ISO,\ DMY", "/ISO, DMY/Etc/UTC/4MB"),
        (r"back\slash", "", r"back\slash/ISO, MDY/Etc/UTC/4MB"),
    ];
    let query = "SELECT concat_ws('/', current_setting('application_name'), current_setting('DateStyle'),
        current_setting('TimeZone'), current_setting('work_mem'))";
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 2").await;
            let ask = async |(name, options, expected): (&str, &str, &str)| {
                let client = connect(pond.login().application_name(name).options(options)).await;
                for _ in 0..5 {
                    assert_eq!(value(&client, query).await, expected, "{way:?}");
                }
            };
            join_all(wishes.iter().cycle().take(20).map(|wish| ask(*wish))).await;
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn what_is_reported_at_the_login_is_what_the_database_would_report() {
    let wishes = [("DateStyle", "german"), ("client_encoding", "latin1"), ("application_name", "me")];
    run(async {
        for way in MODES {
            let pond = Pond::new(way, "", "max_size = 1").await;
            let reports = |address| {
                let mut raw = Raw::connect(address);
                let identity = [("user", &*pond.user), ("database", "postgres")];
                raw.send_startup(VERSION_3_0, &[&identity[..], &wishes[..]].concat());
                let mut welcome = raw.until_ready();
                // What comes late, with the first answer, is known in time too.
                welcome.extend(raw.query("SELECT 1"));
                let reports = welcome.iter().filter(|message| message.tag == b'S');
                let pairs = reports.map(|message| String::from_utf8_lossy(&message.body).into_owned());
                pairs
                    .filter_map(|pair| {
                        let (name, value) = pair.trim_end_matches('\0').split_once('\0')?;
                        Some((name.to_owned(), value.to_owned()))
                    })
                    .collect::<std::collections::BTreeMap<_, _>>()
            };
            let server = &crate::database::database().server;
            let direct = reports(([127, 0, 0, 1], server.port()).into());
            assert_eq!(reports(pond.address()), direct, "{way:?}");
        }
    });
}

#[test]
fn what_others_asked_for_is_not_reported_as_the_databases_own() {
    run(async {
        for way in MODES {
            let pond = Pond::new(way, "", "max_size = 1").await;
            let style = |messages: &[Message]| {
                let reports = messages.iter().filter(|message| message.tag == b'S');
                let mut styles = reports.filter_map(|message| {
                    let text = String::from_utf8_lossy(&message.body).into_owned();
                    Some(text.strip_prefix("DateStyle\0")?.trim_end_matches('\0').to_owned())
                });
                styles.next_back()
            };
            let log_in = |wish: &[(&str, &str)]| {
                let mut raw = Raw::connect(pond.address());
                let identity = [("user", &*pond.user), ("database", "postgres")];
                raw.send_startup(VERSION_3_0, &[&identity[..], wish].concat());
                let welcome = raw.until_ready();
                (raw, style(&welcome))
            };
            let german = [("DateStyle", "german")];
            // The first login finds nothing known of the server but what it reports to a German.
            let (mut first, _) = log_in(&german);
            first.query("SELECT 1");
            drop(first);
            let (mut plain, welcome) = log_in(&[]);
            let told = style(&plain.query("SELECT 1")).or(welcome);
            assert_eq!(told.as_deref(), Some("ISO, MDY"), "{way:?}");
            drop(plain);
            if way.mode == "session" {
                // Its words are known by now.
                assert_eq!(log_in(&german).1.as_deref(), Some("German, DMY"));
            }
        }
    });
}

#[test]
fn a_wrong_startup_parameter_is_fatal_for_whoever_asked_and_for_nobody_else() {
    let wrong =
        [("DateStyle", "nonsense"), ("no_such_setting", "1"), ("options", "-c work_mem=x"), ("a;b", "1")];
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 2").await;
            let other = pond.client().await;
            for parameter in wrong {
                let mut raw = Raw::connect(pond.address());
                raw.send_startup(VERSION_3_0, &[("user", &pond.user), ("database", "postgres"), parameter]);
                raw.send_query("SELECT 1");
                let answer = raw.until_end();
                let error = answer.last().unwrap();
                assert_eq!((error.tag, &*error.field('S')), (b'E', "FATAL"), "{parameter:?}, {way:?}");
                assert!(answer.iter().all(|message| message.tag != b'D'), "{parameter:?}, {way:?}");
                assert_eq!(value(&other, "SELECT 1").await, "1", "{parameter:?}, {way:?}");
            }
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_setting_of_a_transaction_ends_with_it() {
    run(async {
        for way in MODES {
            let pond = Pond::new(way, "", "max_size = 1").await;
            let client = pond.client().await;
            client.batch_execute("BEGIN; SET LOCAL work_mem = '7MB'").await.unwrap();
            assert_eq!(value(&client, "SHOW work_mem").await, "7MB", "{way:?}");
            client.batch_execute("COMMIT").await.unwrap();
            assert_eq!(value(&client, "SHOW work_mem").await, "4MB", "{way:?}");
        }
    });
}

#[test]
fn a_session_mode_client_keeps_its_connection_between_transactions() {
    run(async {
        let pond = Pond::new(SESSION, "", "").await;
        let client = pond.client().await;
        client.batch_execute("CREATE TEMP TABLE mine (n int); INSERT INTO mine VALUES (1)").await.unwrap();
        let others = pond.clients(5).await;
        for other in &others {
            assert_eq!(code(other.batch_execute("TABLE mine").await), SqlState::UNDEFINED_TABLE);
        }
        assert_eq!(value(&client, "TABLE mine").await, "1");
    });
}

#[test]
fn a_session_that_keeps_what_no_reset_undoes_is_closed() {
    run(async {
        let kept = async |settings: &str, text: &str| {
            let pond = Pond::new(SESSION, settings, "max_size = 1").await;
            let first = pond.client().await;
            let before = value(&first, PID).await;
            first.batch_execute(text).await.unwrap();
            drop(first);
            let kept = value(&pond.client().await, PID).await == before;
            let unclean = |row: &PoolRow| row.pool.counts.closed[CloseReason::Unclean as usize];
            let closed: u64 = pond.snapshot().await.pools.iter().map(unclean).sum();
            assert_eq!(closed, u64::from(!kept), "{text}");
            kept
        };
        let block = "DO $$ BEGIN PERFORM 1; END $$";
        assert!(kept("", "SET work_mem = '1MB'; SELECT 1").await);
        assert!(!kept("", "CREATE TEMP TABLE t (a int)").await);
        assert!(!kept("", block).await);
        assert!(kept("verify_reset = false", block).await);
    });
}

#[test]
fn in_session_mode_too_a_reset_goes_back_to_what_the_startup_packet_said() {
    run(async {
        let pond = Pond::new(SESSION, "", "max_size = 1").await;
        let login = [("user", &*pond.user), ("database", "postgres"), ("application_name", "mine")];
        let mut raw = Raw::connect(pond.address());
        raw.send_startup(
            VERSION_3_0,
            &[&login[..], &[("client_encoding", "latin1"), ("work_mem", "5MB")]].concat(),
        );
        raw.until_ready();
        for reset in ["RESET ALL", "DISCARD ALL", "RESET client_encoding; SET application_name TO DEFAULT"] {
            raw.query("SET client_encoding = 'UTF8'; SET application_name = 'other'; SET work_mem = '6MB'");
            raw.query(reset);
            let show = "SELECT concat_ws('/', current_setting('client_encoding'), current_setting('application_name'))";
            let answer = raw.query(show);
            let row = answer.iter().find(|message| message.tag == b'D').unwrap();
            assert!(row.body.ends_with(b"LATIN1/mine"), "{reset}: {:?}", String::from_utf8_lossy(&row.body));
        }
    });
}
