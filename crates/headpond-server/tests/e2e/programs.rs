//! PostgreSQL's own programs, as their users run them.

use std::process::{Command, Output, Stdio};

use crate::database::database;
use crate::pond::{Pond, SESSION, connect, run, value, ways};

/// One of the programs, to be pointed at Headpond.
pub(crate) fn program(pond: &Pond, name: &str, arguments: &[&str]) -> Command {
    let mut command = database().server.installation().command(name);
    let address = pond.address();
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string(), "-U", &pond.user]);
    command.args(arguments);
    command
}

/// Runs it to a good end.
pub(crate) fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

async fn create_database(pond: &Pond, name: &str) {
    pond.client().await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
}

#[test]
fn psql_runs_a_script_and_the_console() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "").await;
            let script = [
                "-X",
                "-At",
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                "SELECT 40 + 2",
                "-c",
                "\\d",
                "-c",
                "\\l",
                "postgres",
            ];
            let output = succeed(program(&pond, "psql", &script));
            assert!(output.stdout.starts_with(b"42\n"), "{way:?}");
            succeed(program(&pond, "psql", &["-X", "-c", "SHOW POOLS", "headpond"]));
        }
    });
}

/// With each version of the protocol that its libpq knows: keys of 3.2 are long.
#[test]
fn an_interrupted_psql_cancels_its_statement() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "").await;
            for version in ["3.0", "latest"] {
                let mut psql = program(&pond, "psql", &["-X", "-c", "SELECT pg_sleep(1000)", "postgres"]);
                psql.env("PGMAXPROTOCOLVERSION", version).stderr(Stdio::piped());
                let psql = psql.spawn().unwrap();
                pond.until_in("PgSleep").await;
                let interrupted =
                    Command::new("kill").args(["-INT", &psql.id().to_string()]).status().unwrap();
                assert!(interrupted.success());
                let output = psql.wait_with_output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(
                    said.contains("canceling statement due to user request"),
                    "{way:?} {version}: {said}"
                );
            }
        }
    });
}

#[test]
fn pgbench_finds_no_error_in_any_protocol() {
    run(async {
        for way in ways() {
            let pond = Pond::new(way, "", "max_size = 8").await;
            let name = format!("bench_{}", pond.user);
            create_database(&pond, &name).await;
            succeed(program(&pond, "pgbench", &["-i", "-q", "-n", &name]));
            for protocol in ["simple", "extended", "prepared"] {
                let run = ["-n", "-c", "8", "-t", "50", "-M", protocol, &name];
                let output = succeed(program(&pond, "pgbench", &run));
                let output = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(output.contains("processed: 400/400"), "{output}");
            }
            succeed(program(&pond, "pgbench", &["-n", "-S", "-C", "-c", "4", "-t", "25", &name]));
            pond.assert_in_step().await;
        }
    });
}

/// `pg_dump` prepares statements, which only session mode allows.
#[test]
fn a_dump_restored_is_the_same_dump() {
    run(async {
        let pond = Pond::new(SESSION, "", "").await;
        let (old, new) = (format!("old_{}", pond.user), format!("new_{}", pond.user));
        create_database(&pond, &old).await;
        create_database(&pond, &new).await;
        let make = "CREATE TABLE things (id serial PRIMARY KEY, name text, made timestamptz, data bytea);
            INSERT INTO things (name, made, data)
                SELECT repeat(chr(200 + n), n), to_timestamp(n * 86400), decode(md5(n::text), 'hex')
                FROM generate_series(1, 1000) n;
            CREATE VIEW few AS SELECT * FROM things WHERE id < 10; CREATE INDEX ON things (name)";
        connect(pond.login().dbname(&old)).await.batch_execute(make).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("archive");
        let archive = archive.to_str().unwrap();
        succeed(program(&pond, "pg_dump", &["-Fc", "-f", archive, &old]));
        succeed(program(&pond, "pg_restore", &["--exit-on-error", "-d", &new, archive]));
        let [before, after] = [&old, &new].map(|name| plain_dump(&pond, name));
        assert_eq!(before, after);
        let restored = connect(pond.login().dbname(&new)).await;
        assert_eq!(value(&restored, "SELECT count(*) FROM things").await, "1000");
        pond.assert_in_step().await;
    });
}

/// A dump as text, without the lines that differ from dump to dump.
fn plain_dump(pond: &Pond, name: &str) -> Vec<String> {
    let dump = succeed(program(pond, "pg_dump", &[name])).stdout;
    let lines = String::from_utf8(dump).unwrap();
    let own = |line: &&str| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict");
    lines.lines().filter(own).map(str::to_owned).collect()
}
