//! Rules that say who comes in from where, on a real process.

use std::fs;

use tempfile::TempDir;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::database::database;
use crate::pond::{Pond, SESSION, Way, connect, run, value};
use crate::programs::program;
use crate::secure::{Authority, psql};

/// Before the shared server, with rules, name maps and users; the folder must outlive it.
pub(crate) async fn pond(way: Way, rules: &str, maps: &str, settings: &str) -> (Pond, TempDir) {
    let user = database().user().await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("hba", &rules.replace("USER", &user));
    write("ident", &maps.replace("USER", &user));
    write("users", &format!("\"{user}\" \"right\"\n\"other\" \"right\""));
    let (host, port) = (database().server.host(), database().server.port());
    let text = format!(
        "auth_type = \"hba\"\nhba_file = \"hba\"\nident_file = \"ident\"\nauth_file = \"users\"\n\
         admin_users = [\"{user}\"]\n{settings}\n[data_source.\"*\"]\nhost = \"{host}\"\nport = {port}"
    );
    (Pond::within(folder.path(), way, &user, &text), folder)
}

async fn refusal(config: &tokio_postgres::Config) -> (SqlState, String) {
    let error = config.connect(NoTls).await.map(drop).unwrap_err();
    let error = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
    (error.code().clone(), error.message().to_owned())
}

#[test]
fn the_first_rule_that_fits_decides_over_pools_and_console_and_none_is_a_refusal() {
    run(async {
        let rules = "host postgres USER 127.0.0.1/32 scram-sha-256\nhost postgres all 127.0.0.1/32 trust\n\
            host headpond USER samehost password\nhost pgbouncer USER all reject\n";
        let (pond, _folder) = pond(SESSION, rules, "", "").await;
        let client = connect(pond.login().password("right")).await;
        assert_eq!(value(&client, "SELECT 1").await, "1");
        assert_eq!(refusal(pond.login().password("wrong")).await.0, SqlState::INVALID_PASSWORD);
        let console = connect(pond.login().dbname("headpond").password("right")).await;
        console.simple_query("SHOW POOLS").await.unwrap();
        let refused = SqlState::INVALID_AUTHORIZATION_SPECIFICATION;
        let (user, from) = (&pond.user, "host \"127.0.0.1\", user");
        assert_eq!(
            refusal(pond.login().dbname("pgbouncer").password("right")).await,
            (
                refused.clone(),
                format!(
                    "pg_hba.conf rejects connection for {from} \"{user}\", database \"pgbouncer\", no encryption"
                )
            )
        );
        assert_eq!(
            refusal(pond.login().dbname("template1").password("right")).await,
            (
                refused.clone(),
                format!("no pg_hba.conf entry for {from} \"{user}\", database \"template1\", no encryption")
            )
        );
        assert_eq!(
            refusal(pond.login().user("other").dbname("headpond").password("right")).await,
            (
                refused,
                format!("no pg_hba.conf entry for {from} \"other\", database \"headpond\", no encryption")
            )
        );
    });
}

#[test]
fn rules_are_read_again_at_a_reload_and_a_broken_line_changes_nothing() {
    run(async {
        let user = database().user().await;
        let folder = tempfile::tempdir().unwrap();
        let (file, rules) = (folder.path().join("headpond.toml"), folder.path().join("hba"));
        let (host, port) = (database().server.host(), database().server.port());
        fs::write(&rules, "host all all all trust").unwrap();
        let text = format!(
            "listen = [\"127.0.0.1:26432\"]\nhttp_listen = \"127.0.0.1:26480\"\nauth_type = \"hba\"\n\
             hba_file = \"hba\"\n[data_source.\"*\"]\nhost = \"{host}\"\nport = {port}"
        );
        fs::write(&file, text).unwrap();
        let pond = Pond::from_file(&file, &user);
        let client = pond.client().await;
        fs::write(&rules, "host all all all reject\nhost all all everywhere trust").unwrap();
        let errors = pond.running.control().reload().await.unwrap_err();
        let said = errors[0].to_string();
        assert!(said.contains("hba:2: \"everywhere\" is no address"), "{said}");
        pond.client().await;
        fs::write(&rules, "host all all all reject").unwrap();
        pond.running.control().reload().await.unwrap();
        assert_eq!(refusal(&pond.login()).await.0, SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
        // Who is in stays.
        assert_eq!(value(&client, "SELECT 1").await, "1");
    });
}

#[test]
fn a_certificate_lets_in_whom_its_common_name_may_be_and_nobody_else() {
    run(async {
        let authority = Authority::new();
        authority.issue("pond", "localhost", &["localhost", "127.0.0.1"], 100);
        authority.issue("client", "a client", &[], 100);
        let (ca, cert, key) =
            (authority.path("ca.crt"), authority.path("client.crt"), authority.path("client.key"));
        let settings = format!("{}client_tls_ca_file = \"{ca}\"\n", authority.settings("allow", "pond"));
        let rules = "hostssl postgres all all cert map=shops\nhost all all all reject";
        let (pond, _files) = pond(SESSION, rules, "shops \"a client\" USER", &settings).await;
        let with = [("PGSSLCERT", &*cert), ("PGSSLKEY", &*key)];
        let asks = |arguments: &[&str], mode: &str, environment: &[(&str, &str)]| {
            psql(program(&pond, "psql", arguments), mode, environment, "SELECT 'in'")
        };
        let entered = asks(&[], "require", &with);
        assert!(entered.as_ref().is_ok_and(|said| said.contains("in")), "{entered:?}");
        let failed = |user: &str| format!("certificate authentication failed for user \"{user}\"");
        for (arguments, mode, environment, why) in [
            (&["-U", "other"][..], "require", &with[..], failed("other")),
            (&[], "require", &[], failed(&pond.user)),
            (&[], "disable", &with, "pg_hba.conf rejects connection".to_owned()),
        ] {
            let refused = asks(arguments, mode, environment).unwrap_err();
            assert!(refused.contains(&why), "{mode}: {refused}");
        }
    });
}
