//! What names may leave behind in a session, as the catalogue of a database says it.

use headpond_pooler::fuzzing::{effects, fingerprint_question, verdict_question};
use tokio_postgres::{Client, Config, NoTls};

use crate::database::{database, direct};
use crate::pond::run;

/// An empty database that only one test uses.
async fn empty(name: &str) -> Client {
    let server = &database().server;
    direct(server).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let mut config = Config::new();
    config.host(server.host()).port(server.port()).user(server.user()).dbname(name);
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn answer(client: &Client) -> Vec<(String, bool, Option<String>)> {
    let rows = client.query(&verdict_question(), &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

async fn fingerprint(client: &Client) -> String {
    client.query_one(fingerprint_question(), &[]).await.unwrap().get(0)
}

const MADE: &str = r#"
    CREATE TABLE quiet (id serial PRIMARY KEY, what text);
    CREATE FUNCTION harmless() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
        UPDATE quiet
        SET what = 'x'; SET LOCAL a.c = 1; PERFORM set_config('a.b', coalesce(current_user, 'x'), true);
        RETURN 1; END $$;
    CREATE FUNCTION sets() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
        -- A comment.
        SET app.x = '1'; RETURN 1; END $$;
    CREATE FUNCTION sets_in_branch(x int) RETURNS void LANGUAGE plpgsql AS
        'begin if x > 1 then set app.x = 1; end if; end';
    CREATE FUNCTION configures() RETURNS text LANGUAGE sql AS $$ SELECT set_config('a.b', 'c', false) $$;
    CREATE FUNCTION configures_inside() RETURNS text LANGUAGE sql AS
        $$ SELECT set_config('a.b', set_config('a.c', 'd', false), true) $$;
    CREATE FUNCTION mentions() RETURNS int LANGUAGE plpgsql AS $_$ BEGIN RETURN sets(); END $_$;
    CREATE FUNCTION runs(x text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE x; END $$;
    CREATE FUNCTION writes() RETURNS void LANGUAGE sql AS $$ INSERT INTO quiet (what) VALUES ('x') $$;
    CREATE FUNCTION reads() RETURNS bigint LANGUAGE sql AS $$ SELECT currval('quiet_id_seq') $$;
    CREATE FUNCTION makes() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE x (); END $$;
    CREATE FUNCTION copied(text, text, bool) RETURNS text LANGUAGE internal AS 'set_config_by_name';
    CREATE FUNCTION "Odd"() RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_lock(1) $$;
    CREATE FUNCTION "hö"() RETURNS void LANGUAGE sql AS $$ SELECT setseed(1) $$;
    CREATE FUNCTION defaults(x text DEFAULT set_config('a.b', 'c', false)) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE FUNCTION locks() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_lock(1); RETURN new; END $$;
    CREATE TABLE triggered (id int PRIMARY KEY);
    CREATE TRIGGER t AFTER UPDATE ON triggered FOR EACH ROW EXECUTE FUNCTION locks();
    CREATE TABLE refers (id int REFERENCES triggered ON DELETE CASCADE);
    CREATE TABLE referred (id int PRIMARY KEY);
    CREATE TABLE cascades (id int REFERENCES referred ON DELETE CASCADE);
    CREATE TRIGGER t AFTER DELETE ON cascades FOR EACH ROW EXECUTE FUNCTION locks();
    CREATE TABLE parent (id int); CREATE TABLE part () INHERITS (parent);
    CREATE TRIGGER t AFTER UPDATE ON part FOR EACH ROW EXECUTE FUNCTION locks();
    CREATE VIEW viewed AS SELECT sets() AS x; CREATE VIEW view_of_view AS SELECT * FROM viewed;
    CREATE VIEW built_in AS SELECT set_config('a.b', 'c', false);
    CREATE VIEW all_settings AS SELECT * FROM pg_settings;
    CREATE TABLE defaulted (x text DEFAULT set_config('a.b', 'c', false));
    CREATE DOMAIN checked AS int CHECK (sets() = value); CREATE TABLE of_domain (x checked);
    CREATE TABLE constrained (x int CHECK (sets() = x));
    CREATE TABLE guarded (x int); CREATE POLICY p ON guarded USING (sets() = x);
    CREATE TABLE ruled (x int); CREATE RULE r AS ON UPDATE TO ruled DO ALSO INSERT INTO quiet (what) VALUES ('x');
    CREATE FUNCTION adds(int, text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM configures(); RETURN 1; END $$;
    CREATE AGGREGATE summed (text) (SFUNC = adds, STYPE = int, INITCOND = 0);
"#;

#[test]
fn names_have_the_effects_of_what_they_lead_to() {
    run(async {
        let client = empty("catalogue_names").await;
        client.batch_execute(MADE).await.unwrap();
        let rows = answer(&client).await;
        for (text, expected) in [
            ("SELECT 1, count(*), harmless() FROM quiet WHERE id > 1", "NONE"),
            ("SELECT * FROM refers", "NONE"),
            ("SELECT sets()", "OPAQUE"),
            ("SELECT sets_in_branch(1)", "OPAQUE"),
            ("SELECT configures()", "OPAQUE"),
            ("SELECT configures_inside()", "OPAQUE"),
            ("SELECT mentions()", "OPAQUE"),
            ("SELECT writes()", "CAN_NEXTVAL"),
            ("SELECT reads()", "CURRVAL"),
            ("SELECT makes()", "TEMP | DDL"),
            ("SELECT copied('a.b', 'c', false)", "OPAQUE"),
            ("SELECT \"Odd\"()", "LOCKS"),
            ("SELECT odd()", "NONE"),
            ("SELECT \"hö\"()", "SEED"),
            ("SELECT defaults()", "OPAQUE"),
            ("UPDATE triggered SET id = 1", "LOCKS"),
            ("DELETE FROM referred", "LOCKS"),
            ("UPDATE parent SET id = 1", "LOCKS"),
            ("SELECT * FROM viewed", "OPAQUE"),
            ("SELECT * FROM view_of_view", "OPAQUE"),
            ("SELECT * FROM built_in", "OPAQUE"),
            ("SELECT * FROM all_settings", "OPAQUE"),
            ("INSERT INTO defaulted DEFAULT VALUES", "CAN_NEXTVAL | OPAQUE"),
            ("SELECT 1::checked", "OPAQUE"),
            ("UPDATE of_domain SET x = 1", "OPAQUE"),
            ("UPDATE constrained SET x = 1", "OPAQUE"),
            ("SELECT * FROM guarded", "OPAQUE"),
            ("UPDATE ruled SET x = 1", "CAN_NEXTVAL"),
            ("SELECT summed('x')", "OPAQUE"),
        ] {
            assert_eq!(effects(text, false, &rows), expected, "{text}");
        }
        assert!(effects("SELECT runs('x')", false, &rows).contains("OPAQUE | DDL | CODE"));
    });
}

#[test]
fn what_is_used_without_a_name_counts_for_every_text_that_may_use_it() {
    run(async {
        let client = empty("catalogue_everything").await;
        let read = async |text| effects(text, false, &answer(&client).await);
        let made = "CREATE FUNCTION sets(text) RETURNS int LANGUAGE plpgsql AS 'BEGIN RESET a.b; RETURN 1; END';
            CREATE FUNCTION watches() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN LISTEN x; END';
            CREATE FUNCTION indirect() RETURNS void LANGUAGE plpgsql AS 'BEGIN COMMENT ON TABLE x IS NULL; END'";
        client.batch_execute(made).await.unwrap();
        assert_eq!(read("SELECT 1").await, "NONE");
        assert_eq!(read("GRANT x TO y").await, "NONE");
        client.batch_execute("CREATE EVENT TRIGGER w ON sql_drop EXECUTE FUNCTION watches()").await.unwrap();
        assert_eq!(read("SELECT 1; INSERT INTO x VALUES (1)").await, "CAN_NEXTVAL");
        assert_eq!(read("GRANT x TO y").await, "LISTENS");
        assert_eq!(read("SELECT indirect()").await, "LISTENS");
        client.batch_execute("CREATE CAST (text AS int) WITH FUNCTION sets(text)").await.unwrap();
        assert_eq!(read("SELECT 1").await, "OPAQUE");
        client.batch_execute("DROP CAST (text AS int)").await.unwrap();
        client.batch_execute("CREATE OPERATOR @@@ (RIGHTARG = text, FUNCTION = sets)").await.unwrap();
        assert_eq!(read("SELECT 1").await, "OPAQUE");
    });
}

#[test]
fn the_fingerprint_changes_with_what_the_verdict_is_made_of_and_with_nothing_else() {
    run(async {
        let client = empty("catalogue_fingerprint").await;
        client.batch_execute("CREATE TABLE t (id serial PRIMARY KEY, x text)").await.unwrap();
        let mut before = fingerprint(&client).await;
        for same in [
            "CREATE TEMP TABLE y (id serial PRIMARY KEY, CHECK (id > 0))",
            "INSERT INTO t (x) VALUES ('x')",
            "ANALYZE t",
            "TRUNCATE t",
            "CREATE INDEX i ON t (x)",
            "GRANT SELECT ON t TO public",
        ] {
            client.batch_execute(same).await.unwrap();
            assert_eq!(fingerprint(&client).await, before, "{same}");
        }
        for other in [
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'",
            "ALTER FUNCTION f RENAME TO g",
            "CREATE VIEW v AS SELECT g()",
            "ALTER VIEW v RENAME TO w",
            "CREATE OR REPLACE VIEW w AS SELECT g() + 1 AS g",
            "ALTER TABLE t ALTER x SET DEFAULT g()::text",
            "ALTER TABLE t ADD CHECK (id > g())",
            "CREATE RULE r AS ON UPDATE TO t DO ALSO SELECT g()",
            "CREATE POLICY p ON t USING (g() > 1)",
            "CREATE DOMAIN d AS int CHECK (value > g())",
            "CREATE TABLE u (x d) ",
            "CREATE TABLE part () INHERITS (t)",
            "ALTER TABLE part NO INHERIT t",
        ] {
            client.batch_execute(other).await.unwrap();
            let after = fingerprint(&client).await;
            assert_ne!(after, before, "{other}");
            before = after;
        }
    });
}

#[test]
fn a_text_is_cut_into_words_as_the_server_does_it() {
    let texts = [
        r"select '\'; listen x; --'",
        r"select '\\'; listen x; --'",
        r"select E'\'; listen x; --'",
        "select E'a'\n'\\'; listen x; --'",
        "select E'a' -- b\n'\\'; listen x; --'",
        "select date'\\'; listen x; --'",
        r"select b'1'; listen x; --'",
        r"select n'\'; listen x; --'",
        r#"select 1 as "\"; listen x; --""#,
        "select 'a''b'; listen x",
        "select '; listen x'",
        "select $a$ $b$; listen x",
        "select $a$ $b$; listen x; $a$",
        "select 1 as a$a$; listen x; --$a$",
        "select 1$a$; listen x; --$a$",
        "select 1 */*; listen x; */ 2",
        "select 1 +--; listen x\n 2",
        "select 1 - -1; listen x",
        "select 1 /* /* */; listen x; */ 2",
        "select 1 /*/ ; listen x; */ 2 /* */ ; listen x",
        "select 1 -- x\r; listen x",
        "do $$ begin listen x; end $$",
        "do $$ begin /* ; listen x; */ perform '; listen x;'; end $$",
        "do language plpgsql 'begin if true then listen x; end if; end'",
        "LISTEN/**/x",
        "listen\"x\"",
        ";;listen x",
    ];
    run(async {
        let client = direct(&database().server).await;
        for (text, escapes) in texts.iter().flat_map(|text| [(text, false), (text, true)]) {
            let standard = if escapes { "off" } else { "on" };
            let ready = format!("SET standard_conforming_strings = {standard}; UNLISTEN *");
            client.batch_execute(&ready).await.unwrap();
            // The server refuses some of them, and does not listen then.
            let refused = client.batch_execute(text).await.is_err();
            let count = client.query_one("SELECT count(*) FROM pg_listening_channels()", &[]).await.unwrap();
            let (listens, said) =
                (count.get::<_, i64>(0) > 0, effects(text, escapes, &[]).contains("LISTENS"));
            assert!(said == listens || refused && !listens, "{text}, {standard}: {listens} {said}");
        }
    });
}
