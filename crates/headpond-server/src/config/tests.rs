use std::path::Path;

use headpond_core::PoolSettings;
use headpond_pooler::config::{AuthMethod, DataSource, NodeAddress, PoolMode};

use super::table::{Field, SETTINGS};
use super::{Config, Diagnostic, Dialect, reference};

mod hba;
mod ini;
mod toml;
mod users;

const REFERENCE: &str = include_str!("reference.toml");

fn parse(text: &str) -> Result<Config, Vec<Diagnostic>> {
    if super::entries::is_ini(text) {
        Config::parse_ini("f.ini", text, Path::new("/nowhere"))
    } else {
        Config::parse_toml("f.toml", text, Path::new("/nowhere"))
    }
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|errors| panic!("{}", lines(&errors)))
}

fn lines(all: &[Diagnostic]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What is said about `text`: the errors, or, had it none, the warnings.
#[track_caller]
fn check(text: &str, expected: &str) {
    let said = match parse(text) {
        Ok(config) => lines(&config.warnings),
        Err(errors) => lines(&errors),
    };
    assert_eq!(said, expected.trim(), "\n{text}");
}

/// An ini file that is complete but for `rest`, which begins at line 7.
fn ini(rest: &str) -> String {
    format!("[databases]\nshop = host=db\n\n[pgbouncer]\nlisten_addr = *\nauth_type = trust\n{rest}\n")
}

fn source<'c>(config: &'c Config, name: &str) -> &'c DataSource {
    config.pooler.data_sources.iter().find(|s| s.name == name).unwrap()
}

fn tcp(host: &str, port: u16) -> NodeAddress {
    NodeAddress::Tcp { host: host.into(), port }
}

#[test]
fn the_reference_is_made_from_the_table_and_changes_nothing() {
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write("src/config/reference.toml", reference()).unwrap();
    }
    assert!(REFERENCE == reference(), "outdated: UPDATE_REFERENCE=1 cargo test -p headpond-server");
    for setting in SETTINGS {
        assert!(REFERENCE.contains(&format!("\n{} = ", setting.name)), "{} is missing", setting.name);
    }
    assert_eq!(good(REFERENCE), good("[data_source.shop]"));
    let config = good(REFERENCE);
    assert_eq!(config.pool, PoolSettings::named());
    assert_eq!(source(&config, "shop").pool, PoolSettings::named());
    assert!(config.warnings.is_empty());
}

#[test]
fn show_config_speaks_of_pgbouncers_names() {
    let rows =
        good(&ini("max_client_conn = 7\nserver_idle_timeout = 0.25\n[headpond]\nrecover_timeout = 7s"))
            .settings();
    let shown = |key: &str| {
        let row = rows.iter().find(|r| r.key == key).unwrap();
        (row.value.as_str(), row.default.as_str(), row.changeable)
    };
    assert_eq!(shown("max_client_conn"), ("7", "100", true));
    assert_eq!(shown("server_idle_timeout"), ("0.25", "600", true));
    assert_eq!(shown("default_pool_size"), ("20", "20", true));
    assert_eq!(shown("recover_timeout"), ("7s", "5s", true));
    assert_eq!(shown("listen"), ("*:6432", "127.0.0.1:6432", false));
    assert_eq!(shown("max_user_connections"), ("0", "0", false));
    let names: std::collections::BTreeSet<_> = rows.iter().map(|r| r.key).collect();
    assert_eq!(names.len(), rows.len());
    let fields = SETTINGS.iter().filter(|s| matches!(s.field, Field::Top(_) | Field::Pool(_))).count();
    assert_eq!(rows.len(), fields + 1);
}

#[test]
fn show_config_keeps_the_commands_of_secrets_to_itself() {
    for (file, shown) in
        [("command:vault read -token=hunter2", "command: (hidden)"), ("env:USERS", "env:USERS")]
    {
        let rows = good(&format!("auth_file = {file:?}\n[data_source.a]")).settings();
        assert_eq!(rows.iter().find(|row| row.key == "auth_file").unwrap().value, shown);
        assert!(!format!("{rows:?}").contains("hunter2"));
    }
}

#[test]
fn a_reload_names_what_waits_for_a_restart() {
    let old = good("[data_source.a]");
    let new = good("workers = 3\nlisten = [\"*:1\"]\nmax_clients = 9\n[data_source.a]");
    assert_eq!(old.needs_restart(&new), ["listen", "workers"]);
}

#[test]
fn the_embedded_server_is_one_wildcard() {
    let config = Config::embedded(5544, PoolSettings::on_demand());
    let any = source(&config, "*");
    assert_eq!((&any.node, &any.user, any.mode), (&tcp("127.0.0.1", 5544), &None, PoolMode::Transaction));
    assert_eq!(
        (config.pooler.auth, config.pooler.admin_users.as_slice()),
        (AuthMethod::Trust, &["postgres".into()][..])
    );
    assert_eq!(config.dialect, Dialect::Toml);
}

#[test]
fn files_include_files_and_users() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "main.conf",
        "# a comment\n[pgbouncer]\nlisten_addr=*\n%include  more.ini\nauth_file = users.txt\n",
    );
    write(
        "more.ini",
        "auth_type = scram-sha-256\n[databases]\nshop = host=db\n[pgbouncer]\npool_mode = transaction\n",
    );
    write("users.txt", "\"ann\" \"secret\"\n");
    let path = folder.path().join("main.conf");
    let config = Config::load(&path).unwrap();
    assert_eq!((config.dialect, config.pool_mode), (Dialect::Ini, PoolMode::Transaction));
    assert!(config.pooler.users.get("ann").unwrap().scram.is_some());
    assert_eq!(config.file.as_deref(), Some(path.as_path()));

    write("round.ini", "[pgbouncer]\n%include round.ini\n%include round.ini\n");
    let errors = Config::load(&folder.path().join("round.ini")).unwrap_err();
    assert!(
        errors.len() < 300
            && lines(&errors).contains("%include: too many files; at most 10 deep and 100 in all")
    );
    std::fs::write(folder.path().join("latin.toml"), b"workers = 1\n# \xe9\n").unwrap();
    let latin = folder.path().join("latin.toml");
    assert_eq!(
        lines(&Config::load(&latin).unwrap_err()),
        format!("{}: is not UTF-8 text: line 2", latin.display())
    );
}

/// Thousands of damaged files: none may panic, and none may show the password in it.
#[test]
fn damaged_files_are_refused_without_panic_or_leak() {
    const PASSWORD: &str = "hunter2";
    let ini_text = ini(&format!(
        "listen_port = 7\nserver_lifetime = 3.5\n[databases]\n\"a b\" = dbname='x''y' password='{PASSWORD}' pool_size=3\n\
         [headpond]\nhttp_listen = 127.0.0.1:1\n"
    ));
    let toml_text = format!("{REFERENCE}\n[data_source.b]\npassword = \"{PASSWORD}\"\n");
    let pieces =
        ["\"", "'", "[", "]", "=", "\n", "#", "%include ", "0", "é", "\0", "", " ", ",", "-", "99999999999"];
    for seed in 0..3_000_u64 {
        let text = if seed % 2 == 0 { &ini_text } else { &toml_text };
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut draw = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below as u64).unwrap()
        };
        let mut text: Vec<char> = text.chars().collect();
        for _ in 0..=draw(3) {
            let from = draw(text.len());
            let cut = from..(from + draw(3)).min(text.len());
            text.splice(cut, pieces[draw(pieces.len())].chars());
        }
        let text: String = text.into_iter().collect();
        // Of a password that was hit, or became part of a key, a piece may be shown.
        let intact = [format!("password='{PASSWORD}'"), format!("password = \"{PASSWORD}\"")];
        let parse = if seed % 2 == 0 { Config::parse_ini } else { Config::parse_toml };
        let said = match parse("f", &text, Path::new("/nowhere")) {
            Ok(config) => lines(&config.warnings),
            Err(errors) => lines(&errors),
        };
        let leaked = intact.iter().any(|i| text.contains(i)) && said.contains(PASSWORD);
        assert!(!leaked, "seed {seed}: {said}\n{text}");
    }
}
