//! Transaction mode: a session follows its client from connection to connection, and no other client sees any of it.

use headpond_core::State;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::database::{database, direct};
use crate::pond::{PID, Pond, TRANSACTION, code, connect, run, until, value};

/// A client, and another that takes the connection which was used last out of its way.
struct Pair<'a> {
    pond: &'a Pond,
    client: Client,
    other: Client,
}

impl<'a> Pair<'a> {
    async fn before(pond: &'a Pond) -> Self {
        Self::with(pond, pond.login()).await
    }

    async fn with(pond: &'a Pond, login: tokio_postgres::Config) -> Self {
        let pair = Self { pond, client: connect(&login).await, other: pond.client().await };
        // Two connections, so that there is another to be moved to.
        pair.other.batch_execute("BEGIN").await.unwrap();
        value(&pair.client, PID).await;
        pair.other.batch_execute("COMMIT").await.unwrap();
        pair
    }

    /// Waits until nothing is under way: after a transaction that may have left something its connection is asked what,
    /// and after DDL one asks the catalogue.
    async fn at_rest(&self) {
        let idle = async || {
            let snapshot = self.pond.snapshot().await;
            snapshot.pools.iter().map(|row| row.pool.count(State::Idle)).sum::<u32>()
        };
        until("at rest", async || idle().await == 2).await;
    }

    /// Runs something on the connection that the client did not have last.
    async fn elsewhere(&self, query: &str) -> String {
        self.at_rest().await;
        let before = value(&self.client, PID).await;
        self.other.batch_execute("BEGIN").await.unwrap();
        assert_eq!(value(&self.other, PID).await, before, "the other has the client's connection: {query}");
        let found = value(&self.client, query).await;
        assert_ne!(value(&self.client, PID).await, before, "{query}");
        self.other.batch_execute("COMMIT").await.unwrap();
        found
    }

    /// What the other client sees, on the connection that the client had last.
    async fn stranger(&self, query: &str) -> String {
        self.at_rest().await;
        let before = value(&self.client, PID).await;
        self.other.batch_execute("BEGIN").await.unwrap();
        assert_eq!(value(&self.other, PID).await, before, "{query}");
        let found = value(&self.other, query).await;
        self.other.batch_execute("COMMIT").await.unwrap();
        found
    }
}

async fn pond() -> Pond {
    Pond::new(TRANSACTION, "", "max_size = 2\ntrust_window = \"1h\"").await
}

/// What is asked after a statement, what its client then has, and what others have.
const SET: &[(&str, &str, &str, &str)] = &[
    ("SET work_mem = '5MB'", "SHOW work_mem", "5MB", "4MB"),
    ("SET SESSION work_mem TO 6144", "SHOW work_mem", "6MB", "4MB"),
    ("BEGIN; SET work_mem = '7MB'; COMMIT", "SHOW work_mem", "7MB", "4MB"),
    ("SELECT set_config('work_mem', '8MB', false)", "SHOW work_mem", "8MB", "4MB"),
    ("SET search_path = a, \"B\", public", "SHOW search_path", "a, \"B\", public", "\"$user\", public"),
    ("SET search_path = ''", "SHOW search_path", "\"\"", "\"$user\", public"),
    ("SELECT set_config('search_path', '', false)", "SHOW search_path", "", "\"$user\", public"),
    ("SET SCHEMA 'it''s'", "SHOW search_path", "\"it's\"", "\"$user\", public"),
    ("SET DateStyle = German; SET DateStyle = MDY", "SHOW DateStyle", "German, MDY", "ISO, MDY"),
    ("SET TIME ZONE 'Asia/Tokyo'", "SHOW TimeZone", "Asia/Tokyo", "Etc/UTC"),
    ("SET TIME ZONE -3", "SHOW TimeZone", "<-03>+03", "Etc/UTC"),
    ("SET TIME ZONE INTERVAL '+02:30' HOUR TO MINUTE", "SHOW TimeZone", "<+02:30>-02:30", "Etc/UTC"),
    ("SET app.tenant = 'a''b\\c'", "SELECT current_setting('app.tenant', true)", "a'b\\c", ""),
    ("SET app.name = 'Žlutý kůň'", "SELECT current_setting('app.name', true)", "Žlutý kůň", ""),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SHOW transaction_read_only", "on", "off"),
    ("SET ROLE pg_monitor", "SELECT current_user", "pg_monitor", ""),
    ("SET application_name = 'another'", "SHOW application_name", "another", ""),
    ("DO $$ BEGIN SET work_mem = '9MB'; END $$", "SHOW work_mem", "9MB", "4MB"),
];

#[test]
fn what_a_client_sets_is_true_wherever_it_goes_and_nowhere_else() {
    run(async {
        for (set, query, mine, others) in SET {
            let pond = pond().await;
            let pair = Pair::before(&pond).await;
            pair.client.batch_execute(set).await.unwrap();
            assert_eq!(pair.elsewhere(query).await, *mine, "{set}");
            assert_eq!(pair.elsewhere(query).await, *mine, "{set}");
            let found = pair.stranger(query).await;
            let others = if *query == "SELECT current_user" { &pond.user } else { *others };
            assert_eq!(found, others, "{set}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn what_a_transaction_or_savepoint_set_is_gone_when_it_rolls_back() {
    let statements: [&[&str]; 7] = [
        &["BEGIN", "SET work_mem = '5MB'", "ROLLBACK"],
        &["BEGIN; SET work_mem = '5MB'; ROLLBACK"],
        &["BEGIN", "SAVEPOINT a", "SET work_mem = '5MB'", "ROLLBACK TO a", "COMMIT"],
        &["BEGIN", "SELECT set_config('work_mem', '5MB', false)", "ROLLBACK AND CHAIN", "COMMIT"],
        &["BEGIN", "SET LOCAL work_mem = '5MB'", "COMMIT"],
        &["SELECT set_config('work_mem', '5MB', true)"],
        &["BEGIN", "SET LOCAL ROLE pg_monitor", "COMMIT"],
    ];
    run(async {
        for statements in statements {
            let pond = pond().await;
            let pair = Pair::before(&pond).await;
            for statement in statements {
                pair.client.batch_execute(statement).await.unwrap();
            }
            for found in [pair.elsewhere("SHOW work_mem").await, value(&pair.client, "SHOW work_mem").await] {
                assert_eq!(found, "4MB", "{statements:?}");
            }
            assert_eq!(pair.elsewhere("SELECT current_user").await, pond.user, "{statements:?}");
        }
    });
}

#[test]
fn a_reset_goes_back_to_what_the_startup_packet_said() {
    let statements = [
        "SET work_mem = '5MB'; RESET work_mem",
        "SET work_mem TO DEFAULT",
        "SET work_mem = '5MB'; RESET ALL",
        "RESET ALL",
        "BEGIN; RESET ALL; COMMIT",
        "DISCARD ALL",
    ];
    run(async {
        for statement in statements {
            let pond = pond().await;
            let mut login = pond.login();
            login.options("-c work_mem=6MB").application_name("mine");
            let pair = Pair::with(&pond, login).await;
            pair.client.batch_execute("SET app.tenant = 'x'").await.unwrap();
            pair.client.batch_execute(statement).await.unwrap();
            assert_eq!(value(&pair.client, "SHOW work_mem").await, "6MB", "{statement}");
            assert_eq!(pair.elsewhere("SHOW work_mem").await, "6MB", "{statement}");
            assert_eq!(pair.elsewhere("SHOW application_name").await, "mine", "{statement}");
            let tenant = pair.elsewhere("SELECT current_setting('app.tenant', true)").await;
            assert_eq!(tenant.is_empty(), statement.contains("ALL"), "{statement}: {tenant}");
            assert_eq!(pair.stranger("SHOW work_mem").await, "4MB", "{statement}");
        }
    });
}

#[test]
fn a_reset_within_a_transaction_is_rolled_back_with_it() {
    run(async {
        let pond = pond().await;
        let pair = Pair::with(&pond, pond.login().options("-c work_mem=6MB").clone()).await;
        pair.client.batch_execute("SET work_mem = '5MB'").await.unwrap();
        pair.client.batch_execute("BEGIN").await.unwrap();
        pair.client.batch_execute("RESET work_mem").await.unwrap();
        assert_eq!(value(&pair.client, "SHOW work_mem").await, "6MB");
        pair.client.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(pair.elsewhere("SHOW work_mem").await, "5MB");
        let failed = pair.client.batch_execute("RESET ALL; SELECT 1/0").await;
        assert_eq!(code(failed), SqlState::DIVISION_BY_ZERO);
        assert_eq!(pair.elsewhere("SHOW work_mem").await, "5MB");
    });
}

#[test]
fn a_client_whose_settings_cannot_be_restored_is_told_and_its_statement_not_executed() {
    run(async {
        let pond = pond().await;
        let pair = Pair::before(&pond).await;
        let admin = direct(&database().server).await;
        let role = format!("gone_with_{}", pond.user);
        admin.batch_execute(&format!("CREATE ROLE {role}; GRANT {role} TO {}", pond.user)).await.unwrap();
        let table = format!("ledger_of_{}", pond.user);
        admin
            .batch_execute(&format!("CREATE TABLE {table} (n int); GRANT ALL ON {table} TO PUBLIC"))
            .await
            .unwrap();
        pair.client.batch_execute(&format!("SET ROLE {role}")).await.unwrap();
        assert_eq!(pair.elsewhere("SELECT current_user").await, role);
        admin.batch_execute(&format!("DROP ROLE {role}")).await.unwrap();
        // Nobody has it any more: both connections serve others.
        let third = pond.client().await;
        pair.other.batch_execute("BEGIN").await.unwrap();
        value(&third, PID).await;
        pair.other.batch_execute("COMMIT").await.unwrap();
        let insert = format!("INSERT INTO {table} VALUES (1)");
        pair.other.batch_execute("BEGIN").await.unwrap();
        for _ in 0..3 {
            let refused = pair.client.batch_execute(&insert).await;
            assert_eq!(code(refused), SqlState::INVALID_PARAMETER_VALUE);
            let refused = pair.client.execute(&insert, &[]).await;
            assert_eq!(code(refused), SqlState::INVALID_PARAMETER_VALUE);
        }
        pair.other.batch_execute("COMMIT").await.unwrap();
        assert_eq!(value(&pair.other, "SELECT current_user").await, pond.user);
        assert_eq!(value(&pair.other, &format!("SELECT count(*) FROM {table}")).await, "0");
        admin.batch_execute(&format!("CREATE ROLE {role}; GRANT {role} TO {}", pond.user)).await.unwrap();
        assert_eq!(pair.elsewhere("SELECT current_user").await, role);
        admin.batch_execute(&format!("DROP TABLE {table}; DROP ROLE {role}")).await.unwrap();
        pond.assert_in_step().await;
    });
}

/// What pins, what is then true on the client's connection, and what lets go.
const PINS: &[(&str, &str, &str, &str)] = &[
    ("CREATE TEMP TABLE mine (n int)", "SELECT count(*) FROM mine", "0", "DROP TABLE mine"),
    ("CREATE TABLE pg_temp.mine (n int)", "SELECT count(*) FROM mine", "0", "DISCARD TEMP"),
    ("SELECT 1 AS n INTO TEMP mine", "SELECT count(*) FROM mine", "1", "DISCARD ALL"),
    (
        "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 7'",
        "SELECT pg_temp.f()",
        "7",
        "DISCARD TEMP",
    ),
    (
        "SELECT pg_advisory_lock(42)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        "1",
        "SELECT pg_advisory_unlock(42)",
    ),
    ("LISTEN news", "SELECT * FROM pg_listening_channels()", "news", "UNLISTEN *"),
    ("DECLARE mine SCROLL CURSOR WITH HOLD FOR SELECT 1", "FETCH FIRST FROM mine", "1", "CLOSE mine"),
    ("PREPARE mine AS SELECT 8", "EXECUTE mine", "8", "DEALLOCATE mine"),
    ("SELECT set_config('work' || '_mem', '5MB', false)", "SHOW work_mem", "5MB", "RESET ALL"),
];

#[test]
fn what_cannot_be_moved_keeps_its_connection_until_it_is_gone() {
    run(async {
        for (pins, query, expected, frees) in PINS {
            eprintln!("{pins}");
            let pond = pond().await;
            let pair = Pair::before(&pond).await;
            pair.client.batch_execute(pins).await.unwrap();
            let pid = value(&pair.client, PID).await;
            for _ in 0..2 {
                pair.other.batch_execute("BEGIN").await.unwrap();
                assert_ne!(value(&pair.other, PID).await, pid, "{pins}");
                assert_eq!(value(&pair.client, query).await, *expected, "{pins}");
                pair.other.batch_execute("COMMIT").await.unwrap();
            }
            pair.client.batch_execute(frees).await.unwrap();
            assert_ne!(pair.elsewhere(PID).await, "", "{frees}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn what_ends_with_its_transaction_pins_nothing() {
    let statements = [
        "BEGIN; CREATE TEMP TABLE mine (n int) ON COMMIT DROP; COMMIT",
        "BEGIN; CREATE TEMP TABLE mine (n int); ROLLBACK",
        "SELECT pg_advisory_xact_lock(42)",
        "BEGIN; DECLARE mine CURSOR FOR SELECT 1; FETCH FROM mine; COMMIT",
        "BEGIN; LISTEN news; ROLLBACK",
        "SELECT 'CREATE TEMP TABLE mine', $$LISTEN news$$ /* set_config('a', 'b', false) */ -- LOAD",
        "NOTIFY news",
    ];
    run(async {
        for statement in statements {
            let pond = pond().await;
            let pair = Pair::before(&pond).await;
            pair.client.batch_execute(statement).await.unwrap();
            pair.elsewhere(&format!("SELECT $a${statement}$a$")).await;
        }
    });
}

#[test]
fn a_client_that_leaves_leaves_nothing_behind() {
    run(async {
        for (pins, ..) in PINS.iter().chain(&[("SET work_mem = '5MB'", "", "", "")]) {
            let pond = Pond::new(TRANSACTION, "", "max_size = 1").await;
            let client = pond.client().await;
            client.batch_execute(pins).await.unwrap();
            drop(client);
            let next = pond.client().await;
            for (query, clean) in [
                ("SHOW work_mem", "4MB"),
                ("SELECT to_regclass('pg_temp.mine') IS NULL", "t"),
                ("SELECT count(*) FROM pg_listening_channels()", "0"),
                ("SELECT count(*) FROM pg_prepared_statements WHERE from_sql", "0"),
                ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()", "0"),
                ("SELECT count(*) FROM pg_cursors WHERE is_holdable", "0"),
            ] {
                assert_eq!(value(&next, query).await, clean, "{query} after {pins}");
            }
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_pinned_client_whose_server_goes_is_told_that_its_session_is_gone() {
    run(async {
        let pond = pond().await;
        let pair = Pair::before(&pond).await;
        pair.client.batch_execute("CREATE TEMP TABLE mine (n int)").await.unwrap();
        let pid = value(&pair.client, PID).await;
        let admin = direct(&database().server).await;
        admin.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).await.unwrap();
        let lost = pair.client.batch_execute("SELECT 1").await;
        let lost = lost.expect_err("it is gone");
        assert!(lost.is_closed() || lost.code() == Some(&SqlState::ADMIN_SHUTDOWN), "{lost}");
        assert_eq!(value(&pair.other, "SELECT 1").await, "1");
    });
}

#[test]
fn a_value_of_a_sequence_is_never_another_client_s() {
    run(async {
        let pond = pond().await;
        let sequence = format!("sequence_of_{}", pond.user);
        let admin = direct(&database().server).await;
        let create = format!("CREATE SEQUENCE {sequence}; GRANT ALL ON SEQUENCE {sequence} TO PUBLIC");
        admin.batch_execute(&create).await.unwrap();
        let (draw, ask) = (format!("SELECT nextval('{sequence}')"), format!("SELECT currval('{sequence}')"));
        let pair = Pair::before(&pond).await;
        // The other client's values are on both connections.
        pair.client.batch_execute("BEGIN").await.unwrap();
        value(&pair.other, &draw).await;
        pair.client.batch_execute("COMMIT").await.unwrap();
        value(&pair.other, &draw).await;
        for _ in 0..3 {
            let unknown = pair.client.simple_query(&ask).await;
            assert_eq!(code(unknown), SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
        }
        // Now that somebody asks, who draws keeps the connection, and who only asked does not.
        for _ in 0..3 {
            let mine = value(&pair.client, &draw).await;
            let theirs = value(&pair.other, &draw).await;
            assert_eq!(value(&pair.client, &ask).await, mine);
            assert_eq!(value(&pair.other, &ask).await, theirs);
            assert_eq!(value(&pair.client, "SELECT lastval()").await, mine);
            value(&pair.client, "SELECT 1").await;
            value(&pair.other, "SELECT 1").await;
        }
        admin.batch_execute(&format!("DROP SEQUENCE {sequence}")).await.unwrap();
        pond.assert_in_step().await;
    });
}

#[test]
fn the_first_who_asks_for_a_value_is_served_where_it_drew_it() {
    run(async {
        let pond = pond().await;
        let sequence = format!("first_of_{}", pond.user);
        let admin = direct(&database().server).await;
        let create = format!("CREATE SEQUENCE {sequence}; GRANT ALL ON SEQUENCE {sequence} TO PUBLIC");
        admin.batch_execute(&create).await.unwrap();
        let pair = Pair::before(&pond).await;
        pair.other.batch_execute("BEGIN").await.unwrap();
        let mine = value(&pair.client, &format!("SELECT nextval('{sequence}')")).await;
        // The connection that came to rest last is another one.
        pair.other.batch_execute("COMMIT").await.unwrap();
        assert_eq!(value(&pair.client, &format!("SELECT currval('{sequence}')")).await, mine);
        admin.batch_execute(&format!("DROP SEQUENCE {sequence}")).await.unwrap();
        pond.assert_in_step().await;
    });
}

#[test]
fn a_value_that_only_a_function_asks_for_is_not_another_client_s_either() {
    run(async {
        let pond = pond().await;
        let user = &pond.user;
        let admin = direct(&database().server).await;
        let create = format!(
            "CREATE SEQUENCE drawn_by_{user}; GRANT ALL ON SEQUENCE drawn_by_{user} TO PUBLIC;
             CREATE FUNCTION last_of_{user}() RETURNS bigint LANGUAGE sql AS 'SELECT lastval()'"
        );
        admin.batch_execute(&create).await.unwrap();
        let pair = Pair::before(&pond).await;
        pair.client.batch_execute("BEGIN").await.unwrap();
        value(&pair.other, &format!("SELECT nextval('drawn_by_{user}')")).await;
        pair.client.batch_execute("COMMIT").await.unwrap();
        value(&pair.other, &format!("SELECT nextval('drawn_by_{user}')")).await;
        let ask = format!("SELECT last_of_{user}()");
        assert_eq!(code(pair.client.simple_query(&ask).await), SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
        assert_eq!(code(pair.client.query(&ask, &[]).await), SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE);
        admin
            .batch_execute(&format!("DROP FUNCTION last_of_{user}; DROP SEQUENCE drawn_by_{user}"))
            .await
            .unwrap();
    });
}

#[test]
fn a_text_that_is_too_large_to_be_held_is_read_to_its_end() {
    run(async {
        let pond = pond().await;
        let pair = Pair::before(&pond).await;
        let table = format!("large_of_{}", pond.user);
        let admin = direct(&database().server).await;
        let create = format!("CREATE TABLE {table} (n int, t text); GRANT ALL ON {table} TO PUBLIC");
        admin.batch_execute(&create).await.unwrap();
        let rows = "(1, 'it''s; CREATE TEMP TABLE mine (n int); --'), ".repeat(6_000);
        let insert = format!("INSERT INTO {table} VALUES {rows} (2, E'{}')", "\\'".repeat(100_000));
        pair.client.batch_execute(&insert).await.unwrap();
        assert_eq!(pair.elsewhere(&format!("SELECT count(*) FROM {table}")).await, "6001");
        pair.client.execute(&insert, &[]).await.unwrap();
        assert_eq!(pair.elsewhere("SHOW work_mem").await, "4MB");
        pair.client.batch_execute(&format!("{insert}; SET work_mem = '5MB'")).await.unwrap();
        assert_eq!(pair.elsewhere("SHOW work_mem").await, "5MB");
        assert_eq!(pair.stranger("SHOW work_mem").await, "4MB");
        pair.client.batch_execute(&format!("{insert}; CREATE TEMP TABLE mine (n int)")).await.unwrap();
        let pid = value(&pair.client, PID).await;
        pair.other.batch_execute("BEGIN").await.unwrap();
        assert_ne!(value(&pair.other, PID).await, pid);
        assert_eq!(value(&pair.client, "SELECT count(*) FROM mine").await, "0");
        pair.other.batch_execute("COMMIT").await.unwrap();
        pair.client.batch_execute("DROP TABLE mine").await.unwrap();
        assert_eq!(pair.elsewhere("SHOW work_mem").await, "5MB");
        admin.batch_execute(&format!("DROP TABLE {table}")).await.unwrap();
        pond.assert_in_step().await;
    });
}
