use super::stream::checks::in_pieces;
use super::*;

const NAMES: &[(&str, Effects)] = &[
    ("hot", Effects::SETTINGS),
    ("Hot", Effects::LOCKS),
    ("a_function_with_a_name_of_more_than_eight", Effects::LISTENS),
    ("a_name_that_is_exactly_as_long_as_a_name_in_postgresql_may_be__", Effects::SEED),
    ("h\u{f6}t", Effects::TEMP),
];

/// As any text is to be read: at once, or in pieces, wherever it is cut.
fn read(text: &[u8], how: Dialect, verdict: &Verdict) -> Text {
    let said = super::read(text, how, verdict);
    if verdict.is_known {
        (0..text.len()).for_each(|at| in_pieces(text, how, verdict, [at]).assert_is(&said));
        in_pieces(text, how, verdict, std::iter::repeat(1)).assert_is(&said);
    }
    said
}

fn verdict() -> Verdict {
    Verdict::of(Effects::NONE, NAMES.iter().map(|(name, effects)| (name.as_bytes(), *effects)))
}

fn quiet() -> Verdict {
    Verdict::of(Effects::NONE, [])
}

fn text(text: &str) -> Text {
    read(text.as_bytes(), Dialect::default(), &quiet())
}

/// What is left of a text's effects once the bits that only help to find others are gone.
fn effects(sql: &str) -> Effects {
    text(sql).effects.without(Effects::SETTINGS_VIEW)
}

fn settings(sql: &str) -> Vec<String> {
    let settings = text(sql).settings;
    settings.iter().map(|setting| String::from_utf8_lossy(&setting.name).into_owned()).collect()
}

#[test]
fn what_most_clients_say_has_no_effects() {
    for sql in [
        "",
        ";",
        "SELECT 1",
        "select abalance from pgbench_accounts where aid = 123;",
        "UPDATE pgbench_accounts SET abalance = abalance + -5 WHERE aid = 1;",
        "delete from t where set = 'SET x = 1' and \"reset\" = 1 and load > 2",
        "SELECT t.temp, t.\"listen\", listen, load, prepare, discard FROM sensors AS t FOR UPDATE",
        "BEGIN ISOLATION LEVEL SERIALIZABLE; COMMIT AND CHAIN; ROLLBACK TO SAVEPOINT a; RELEASE a; ABORT",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "set local search_path to a, b; SET LOCAL ROLE x; set local session authorization y",
        "SET LOCAL TIME ZONE LOCAL; SET CONSTRAINTS ALL DEFERRED; set session transaction read only",
        "SET LOCAL SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "select pg_advisory_xact_lock(1), pg_try_advisory_xact_lock_shared(1, 2)",
        "select set_config('a.b', $1, true), set_config('a', upper(f(x, y[1, 2])), 't')",
        "select /* set_config('a', 'b', false) /* nextval('s') */ listen x; */ 1 -- ; LISTEN x",
        "select '; LISTEN x', E'\\'; LISTEN x', $$; LISTEN x$$, $a$ $$ ; LISTEN x $b$ $a$, B'1', X'ff', N'; LISTEN x'",
        "declare c cursor without hold for select 1; fetch all from c; move c",
        "show search_path; comment on table t is 'x'; grant select on t to x",
        "RESET TRANSACTION ISOLATION LEVEL",
        "do $$ begin perform 1; if true then update t set a = 1; end if; raise notice 'SET x = 1'; end $$",
        "do language plpgsql 'begin null; end'",
        "PREPARE TRANSACTION 'x'; COMMIT PREPARED 'x'",
        "notify x, 'LISTEN y'; truncate t; lock table t in exclusive mode; vacuum t",
        "select \"SET_CONFIG\"('a', 'b', false), \"PG_ADVISORY_LOCK\"(1)",
        "select a$nextval, nextval$, _nextval, nextvals, \u{e9}nextval, nextval\u{e9} from t",
    ] {
        assert_eq!((effects(sql), settings(sql), text(sql).sole), Default::default(), "{sql}");
    }
}

#[test]
fn what_is_left_behind_is_said() {
    use Effects as E;
    let ddl = E::TEMP | E::DDL;
    for (sql, expected) in [
        ("create temp table t ()", ddl),
        ("CREATE TABLE pg_temp.t (a int)", ddl),
        ("select * into local temporary t from u", E::TEMP),
        ("select * INTO /* INSERT */ t from u", E::TEMP),
        ("insert into t values (1)", E::CAN_NEXTVAL),
        ("with a as (insert /* b */ into t select 1 returning *) select * from a", E::CAN_NEXTVAL),
        ("update t set a = default", E::CAN_NEXTVAL),
        ("copy t from stdin", E::CAN_NEXTVAL),
        ("call p()", E::CAN_NEXTVAL),
        ("drop table t", ddl),
        ("alter table t add a serial", E::DDL | E::CAN_NEXTVAL),
        ("alter extension x update", E::DDL | E::CAN_NEXTVAL | E::CODE),
        ("discard temporary", E::TEMP),
        ("select PG_ADVISORY_LOCK(1)", E::LOCKS),
        ("select pg_catalog . \"pg_try_advisory_lock_shared\" (1)", E::LOCKS),
        ("select pg_advisory_unlock_all()", E::LOCKS),
        ("listen x", E::LISTENS),
        ("/* a */ UNLISTEN * ;", E::LISTENS),
        ("DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT 1", E::CURSORS),
        ("close all", E::CURSORS),
        ("prepare p as select 1", E::PREPARES),
        ("prepare transaction as select 1", E::PREPARES),
        ("prepare p (text) as select set_config('A.b', $1, false)", E::PREPARES | E::SETTINGS),
        ("execute p (1)", E::EXECUTES),
        ("explain (analyze) execute p", E::EXECUTES),
        ("create table t as execute p(2)", ddl | E::EXECUTES),
        ("create trigger t after insert on u execute function f()", ddl | E::CAN_NEXTVAL),
        ("create trigger t after update on u execute procedure f()", ddl),
        ("select * from pg_prepared_statements", E::EXECUTES),
        ("select nextval('s')", E::CAN_NEXTVAL),
        ("select currval('s'), lastval()", E::CURRVAL),
        ("select setseed(0.5)", E::SEED),
        ("set seed to 0.5", E::SEED),
        ("select set_config('seed', '0.5', true)", E::SEED),
        ("load 'auto_explain'", E::LOADS),
        ("select * from pg_logical_slot_peek_changes('s', null, null)", E::LOADS),
        ("select query_to_xml('select 1', true, true, '')", E::OPAQUE),
        ("select pg_backup_start('x')", E::OPAQUE),
        ("update pg_settings set setting = 1 where name = 'x'", E::OPAQUE),
        ("do $$ begin UPDATE pg_settings set setting = 1; end $$", E::OPAQUE),
        ("select * from pg_settings", E::NONE),
        ("create or replace function f() returns int language sql as 'select 1'", ddl | E::CODE),
        (
            "create table t (a text default set_config('a', 'b', false))",
            ddl | E::CAN_NEXTVAL | E::SETTINGS | E::CODE,
        ),
        ("set lock_timeout = 1; create table t ()", ddl | E::SETTINGS),
        ("create function f() returns int language sql as ''; select f()", ddl | E::ANYTHING),
        ("do $$ begin execute x; end $$", E::ANYTHING | E::EXECUTES),
        ("do language plperl $$ 1 $$", E::ANYTHING),
        ("do 'begin null;' ' end'", E::ANYTHING),
        ("do 'begin x := ''a''; end'", E::ANYTHING),
        ("do E'begin null; end\\x'", E::ANYTHING),
        ("do $$ begin for i in 1..2 loop listen x; end loop; end $$", E::LISTENS),
        ("do $$ <<a>> begin perform pg_advisory_lock(1); end $$", E::LOCKS),
        ("do $$ begin do $x$ begin perform setseed(1); end $x$; end $$", E::SEED),
        ("select U&\"\\0073et_config\"('a', 'b', false)", E::ANYTHING),
    ] {
        assert_eq!(effects(sql), expected, "{sql}");
    }
}

#[test]
fn settings_are_named() {
    for (sql, expected) in [
        ("SET search_path TO a, b", &["search_path"][..]),
        ("set session DateStyle = 'ISO'", &["datestyle"]),
        ("SET app.tenant_id = '5'", &["app.tenant_id"]),
        ("SET \"App\" . /* x */ \"Tenant\" = '5'", &["app.tenant"]),
        (
            "SET local.a = 1; SET session.b = 1; SET role.c = 1; set names.d = 1; set time.e to 1",
            &["local.a", "session.b", "role.c", "names.d", "time.e"],
        ),
        ("SET TIME ZONE 'UTC'", &["timezone"]),
        ("SET SESSION TIME ZONE INTERVAL '1' HOUR TO MINUTE", &["timezone"]),
        ("SET NAMES 'utf8'", &["client_encoding"]),
        ("SET ROLE x", &["role"]),
        ("SET SESSION ROLE none", &["role"]),
        ("set role = x", &["role"]),
        ("SET SESSION AUTHORIZATION x", &["session_authorization", "role"]),
        ("SET SESSION SESSION AUTHORIZATION x", &["session_authorization", "role"]),
        ("set session_authorization to x", &["session_authorization", "role"]),
        ("SET SCHEMA 'x'", &["search_path"]),
        ("SET XML OPTION DOCUMENT", &["xmloption"]),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            &[
                "default_transaction_isolation",
                "default_transaction_read_only",
                "default_transaction_deferrable",
            ],
        ),
        ("SET a FROM CURRENT", &["a"]),
        ("select set_config('App.x', $1, $2), set_config($$B$$, 'c', false)", &["app.x", "b"]),
        ("select set_config('a'::text, set_config('b', 'c', false), false)", &["a", "b"]),
        ("select set_config('a', 'b', true and false)", &["a"]),
        ("do $$ begin if a then set x = 1; else set y = 1; end if; end $$", &["x", "y"]),
        ("do $$ begin -- a\n /* b */ set x = 1; end $$", &["x"]),
        ("begin; set a = 1; commit; set b = 2", &["a", "b"]),
    ] {
        assert_eq!(effects(sql), Effects::SETTINGS, "{sql}");
        assert_eq!(settings(sql), expected, "{sql}");
    }
}

#[test]
fn what_goes_back_to_its_default_is_said() {
    let resets = Effects::SETTINGS | Effects::RESETS;
    for (sql, expected) in [
        ("RESET search_path", &["search_path"][..]),
        ("reset app.\"X\"", &["app.x"]),
        ("RESET TIME ZONE", &["timezone"]),
        ("RESET SESSION AUTHORIZATION", &["session_authorization", "role"]),
        ("RESET role", &["role"]),
        ("SET x TO DEFAULT", &["x"]),
        ("SET x = default", &["x"]),
        ("SET TIME ZONE LOCAL", &["timezone"]),
        ("SET TIME ZONE DEFAULT", &["timezone"]),
        ("SET SESSION AUTHORIZATION DEFAULT", &["session_authorization", "role"]),
        ("SET NAMES", &["client_encoding"]),
    ] {
        assert_eq!(effects(sql), resets, "{sql}");
        assert_eq!(settings(sql), expected, "{sql}");
    }
    assert_eq!(effects("RESET ALL"), Effects::RESETS | Effects::RESET_ALL);
    assert!(
        effects("discard all")
            .has(Effects::RESETS | Effects::RESET_ALL | Effects::DISCARD_ALL | Effects::LOCKS)
    );
}

#[test]
fn settings_that_nobody_can_name_are_said() {
    for sql in [
        "select set_config($1, $2, false)",
        "select set_config(name, 'x', false) from t",
        "select set_config('a' || 'b', 'x', false)",
        "select set_config('a'\n'b', 'x', false)",
        "select set_config(E'a\\x2e', 'x', false)",
        "select set_config(U&'a', 'x', false)",
        "select set_config(setting_name => 'a', new_value => 'b', is_local => false)",
        "select \"set_config\"($1, $2, false)",
        "SET U&\"a\" = 1",
        "SET \u{e4} = 1",
        "RESET \"a\"\"b\"",
        "create aggregate a (sfunc = set_config)",
    ] {
        assert!(effects(sql).any(Effects::OPAQUE), "{sql}");
    }
}

#[test]
fn a_text_that_is_nothing_else_is_told() {
    for (sql, expected) in [
        ("DEALLOCATE Abc", Sole::Deallocate((*b"abc").into())),
        ("deallocate prepare \"Abc\" ; -- x", Sole::Deallocate((*b"Abc").into())),
        ("DEALLOCATE prepare", Sole::Deallocate((*b"prepare").into())),
        ("DEALLOCATE \"all\"", Sole::Deallocate((*b"all").into())),
        ("; DEALLOCATE ALL", Sole::DeallocateAll),
        ("deallocate prepare all", Sole::DeallocateAll),
        ("DISCARD ALL;", Sole::DiscardAll),
        ("DISCARD ALL; select 1", Sole::Other),
        ("select 1; DISCARD ALL", Sole::Other),
        ("DEALLOCATE a b", Sole::Other),
        ("DEALLOCATE \u{e4}", Sole::Other),
        ("select 1", Sole::Other),
    ] {
        assert_eq!(text(sql).sole, expected, "{sql}");
    }
    let long = "x".repeat(70);
    assert_eq!(text(&format!("deallocate {long}")).sole, Sole::Deallocate(long.as_bytes()[..63].into()));
}

#[test]
fn strings_end_where_the_server_says() {
    let old = Dialect { escapes: true, ..Dialect::default() };
    let listens = |sql: &str, how| read(sql.as_bytes(), how, &quiet()).effects.any(Effects::LISTENS);
    for (sql, standard, escaping) in [
        (r"select '\'; listen x; --'", true, false),
        (r"select '\\'; listen x; --'", true, true),
        (r"select E'\'; listen x; --'", false, false),
        ("select E'a'\n'\\'; listen x; --'", false, false),
        ("select E'a' -- b\n'\\'; listen x; --'", false, false),
        ("select abce'\\'; listen x; --'", true, false),
        ("select 1e'\\'; listen x; --'", false, false),
        (r"select b'\'; listen x; --'", true, true),
        (r"select n'\'; listen x; --'", true, false),
        (r#"select "\"; listen x; --""#, true, true),
        ("select 'a''b'; listen x", true, true),
        ("select '; listen x", false, false),
        ("select $a$ $b$; listen x", false, false),
        ("select a$a$; listen x; --$a$", true, true),
        ("select $1$a$; listen x; --$a$", false, false),
        ("select 1$a$; listen x; --$a$", false, false),
        ("select $1; listen x", true, true),
        ("select 1 */*; listen x; */ 2", false, false),
        ("select 1 +--; listen x\n 2", false, false),
        ("select 1 - -1; listen x", true, true),
        ("select 1 /* /* */; listen x; */ 2", false, false),
        ("select 1 /*/ ; listen x; */ 2", false, false),
        ("select 1 -- x\r; listen x", true, true),
        ("select 1\0; listen x", false, false),
    ] {
        assert_eq!(listens(sql, Dialect::default()), standard, "{sql}");
        assert_eq!(listens(sql, old), escaping, "{sql}");
    }
}

#[test]
fn a_character_of_two_bytes_hides_no_ascii() {
    let in_encoding = |name: &str, text: &[u8]| {
        let how = Dialect { escapes: true, encoding: Encoding::named(name.as_bytes()) };
        read(text, how, &quiet()).effects.any(Effects::LISTENS)
    };
    for name in ["SJIS", "SHIFT_JIS_2004", "BIG5", "GBK", "UHC", "GB18030"] {
        assert!(in_encoding(name, b"select '\x95\\'; listen x; --'"), "{name}");
    }
    assert!(!in_encoding("UTF8", b"select '\x95\\'; listen x; --'"));
    assert!(in_encoding("SJIS", b"select '\xb1'; listen x"), "one byte of its own");
    assert!(in_encoding("GB18030", b"select '\x81\x30\x81\\'; listen x; --'"), "four bytes");
    assert!(in_encoding("JOHAB", b"select '\x8f\xa1\xa1'; listen x"));
    assert!(!in_encoding("SJIS", b"select '\x95"));
}

#[test]
fn names_of_the_catalogue_are_found_as_the_server_finds_them() {
    use Effects as E;
    let effects = |sql: &str| read(sql.as_bytes(), Dialect::default(), &verdict()).effects;
    for (sql, expected) in [
        ("select hot()", E::SETTINGS),
        ("select HOT()", E::SETTINGS),
        ("select \"hot\"()", E::SETTINGS),
        ("select \"Hot\"()", E::LOCKS),
        ("select \"HOT\"(), hotter(), ho, t.shot from x", E::NONE),
        ("select s.hot from t", E::SETTINGS),
        ("select 'hot'", E::NONE),
        ("select A_function_with_a_name_of_more_than_eight()", E::LISTENS),
        ("select a_function_with_a_name_of_more_than_eighty()", E::NONE),
        ("select a_name_that_is_exactly_as_long_as_a_name_in_postgresql_may_be__", E::SEED),
        ("select a_name_that_is_exactly_as_long_as_a_name_in_postgresql_may_be__and_more_of_it()", E::SEED),
        ("select \"a_name_that_is_exactly_as_long_as_a_name_in_postgresql_may_be__and_more\"", E::SEED),
        // All names that are not ASCII are one; and one that is cut within such a character may be any long one.
        ("select \u{e9}", E::TEMP | E::SEED),
        ("drop function hot", E::SETTINGS | E::DDL | E::TEMP | E::CODE),
    ] {
        assert_eq!(effects(sql), expected, "{sql}");
    }
    let everything = Verdict::of(E::SEED, []);
    assert_eq!(read(b"select 1", Dialect::default(), &everything).effects, E::SEED);
}

#[test]
fn before_anything_is_known_what_calls_or_reads_something_may_do_anything() {
    let effects = |sql: &str| read(sql.as_bytes(), Dialect::default(), &Verdict::unknown()).effects;
    for sql in [
        "select 1",
        "begin; commit",
        "rollback to savepoint",
        "set a.b = 'c'",
        "show x",
        "select $1, 'a', null",
    ] {
        assert!(!effects(sql).any(Effects::OPAQUE), "{sql}");
    }
    for sql in [
        "select f()",
        "table t",
        "select 1 from t",
        "select 1 + 2",
        "select 'a'::d",
        "select begin()",
        "table \"t\"",
    ] {
        assert!(effects(sql).has(Effects::ANYTHING), "{sql}");
    }
}

#[test]
fn a_word_has_one_key_however_it_is_written() {
    let mut keys = std::collections::HashSet::new();
    for length in 0..100 {
        let word: String = "aB_9$z".chars().cycle().take(length).collect();
        let key = words::folded_key(word.as_bytes());
        assert_eq!(key, exact_key(word.to_ascii_lowercase().as_bytes()), "{word}");
        assert_eq!(keys.insert(key), length <= 63, "{word}");
    }
    assert_eq!(words::folded_key("\u{e4}".as_bytes()), ODD);
}
