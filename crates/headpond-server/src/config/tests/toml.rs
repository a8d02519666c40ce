use std::time::Duration;

use headpond_core::PoolSettings;
use headpond_pooler::config::{ChannelBinding, NodeAddress, PoolMode, ServerTls, TlsMode, TlsNegotiation};

use super::{check, good, source, tcp};

#[test]
fn toml_says_what_it_says() {
    let config = good(
        r#"
        listen = ["*:7000", "[::1]:7001", "db.example:7002"]
        http_listen = ""
        workers = 0x10
        sends = "plain"
        max_clients = 5_000
        admin_users = ["ann", "bob"]
        pool_mode = "transaction"
        check_query = "SELECT 1"
        figures_interval = "2m"
        reserve = 7
        members = 2
        [pool]
        trust_window = "500ms"
        max_size = 40
        [data_source.shop]
        host = "/run/postgresql"
        database = "shop_1"
        user = "app"
        password = "pa\"ss"
        max_lifetime = "0s"
        check = false
        login_delay = "20ms"
        budget = 50
        reserve = "auto"
        [application.till]
        weight = 4
        [application.batch]
        [data_source."*"]
        host = "::1"
        port = 5433
        pool_mode = "session"
        "#,
    );
    let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["*:7000", "[::1]:7001", "db.example:7002"]);
    assert_eq!((config.http_listen, config.workers, config.pooler.max_clients), (None, 16, 5_000));
    assert_eq!(config.pooler.admin_users, ["ann", "bob"]);
    assert_eq!(config.pooler.check_query, "SELECT 1");
    assert_eq!(config.figures_interval, Duration::from_secs(120));

    assert_eq!(config.pooler.weights, [("till".to_owned(), 4)].into());

    let shop = source(&config, "shop");
    assert_eq!(shop.node, NodeAddress::Unix { folder: "/run/postgresql".into(), port: 5432 });
    assert_eq!((shop.database.as_deref(), shop.user.as_deref()), (Some("shop_1"), Some("app")));
    assert_eq!(shop.password.as_ref().unwrap().0, "pa\"ss");
    assert_eq!(shop.mode, PoolMode::Transaction);
    let pool = |p| PoolSettings { max_size: 40, max_idle: 40, trust_window: Duration::from_millis(500), ..p };
    let expected = PoolSettings {
        max_lifetime: Duration::ZERO,
        check: false,
        login_delay: Duration::from_millis(20),
        ..pool(PoolSettings::named())
    };
    assert_eq!(shop.pool, expected);
    assert_eq!((shop.budget, shop.reserve, shop.members), (Some(50), None, 2));

    let any = source(&config, "*");
    assert_eq!((&any.node, any.mode), (&tcp("::1", 5433), PoolMode::Session));
    assert_eq!(any.pool, pool(PoolSettings::on_demand()));
    assert_eq!((any.budget, any.reserve, any.members), (None, Some(7), 2));
    assert!(!format!("{config:?}").contains("pa\\\"ss"));
}

#[test]
fn defaults_of_sizes_follow_what_is_stated() {
    // max_size, max_idle, min_idle, initial_size, min_size
    for (stated, sizes) in [
        ("", [100, 80, 10, 10, 10]),
        ("max_size = 5", [5, 5, 5, 5, 5]),
        ("max_size = 200", [200, 80, 10, 10, 10]),
        ("min_idle = 90", [100, 90, 90, 90, 90]),
        ("max_idle = 3", [100, 3, 3, 3, 3]),
        ("initial_size = 0", [100, 80, 10, 0, 0]),
        ("min_size = 50", [100, 80, 10, 10, 50]),
        ("max_size = 10\nmax_idle = 30", [10, 30, 10, 10, 10]),
    ] {
        let pool = &good(&format!("[data_source.a]\n{stated}")).pooler.data_sources[0].pool.clone();
        let found = [pool.max_size, pool.max_idle, pool.min_idle, pool.initial_size, pool.min_size];
        assert_eq!(found, sizes, "{stated}");
    }
}

#[test]
fn wrong_toml_is_answered_with_what_would_be_right() {
    for (text, expected) in [
        ("", "f.toml: no data source: clients find no database; add [data_source.NAME]"),
        ("workers = ", "f.toml:1: not TOML: string values must be quoted, expected literal string"),
        ("workers = 65", r#"f.toml:1: workers: "65" is out of range; 1 to 64"#),
        ("workers = -1", r#"f.toml:1: workers: "-1" is not a whole number; 1 to 64"#),
        ("workers = 1.5", r#"f.toml:1: workers: "1.5" is not a whole number; 1 to 64"#),
        ("workers = \"2\"", "f.toml:1: workers: a string where a number belongs; 1 to 64"),
        (
            "max_clients = 99999999999999999999",
            r#"f.toml:1: max_clients: "99999999999999999999" is out of range; 1 to 1000000"#,
        ),
        ("sends = true", "f.toml:1: sends: true or false where a string in quotes belongs"),
        ("members = 0", r#"f.toml:1: members: "0" is out of range; 1 to 1000"#),
        ("budget = 0", r#"f.toml:1: budget: "0" is out of range; 1 to 262143, or "auto""#),
        (
            "reserve = true",
            "f.toml:1: reserve: true or false where a number belongs; 0 to 262143, or \"auto\"",
        ),
        ("[pool]\ncheck = \"yes\"", "f.toml:2: check: a string where true or false belongs"),
        ("[pool]\nbudget = 9", "f.toml:2: budget: cannot stand here; it belongs at the top of the file"),
        ("weight = 2", "f.toml:1: weight: cannot stand here; it belongs in [application.NAME]"),
        (
            "[application.a]\nmax_size = 2",
            "f.toml:2: max_size: cannot stand here; it belongs in [pool] or [data_source.NAME]",
        ),
        ("[application]\na = 2", "f.toml:2: a: must be a table; [application.NAME] with weight"),
        ("[application.a]\nweight = 1001", r#"f.toml:2: weight: "1001" is out of range; 1 to 1000"#),
        ("sends = \"fast\"", r#"f.toml:1: sends: "fast" is unknown; one of "auto", "batched", "plain""#),
        (
            "\npool_mode = \"request\"",
            r#"f.toml:2: pool_mode: "request" is unknown; one of "session", "transaction", "statement""#,
        ),
        (
            "connect_timeout = 30",
            r#"f.toml:1: connect_timeout: "30" has no unit; a number with ms, s, m or h, like "30s""#,
        ),
        (
            "connect_timeout = \"30\"",
            r#"f.toml:1: connect_timeout: "30" is not a time; a number with ms, s, m or h, like "30s""#,
        ),
        ("connect_timeout = \"9000h\"", r#"f.toml:1: connect_timeout: longer than a year; at most "8760h""#),
        ("cancel_timeout = \"0s\"", r#"f.toml:1: cancel_timeout: too short; at least "1ms""#),
        ("listen = []", r#"f.toml:1: listen: nothing to listen on; at least one "host:port""#),
        (
            "listen = \"*:6432\"",
            r#"f.toml:1: listen: a string where a list of strings belongs, like ["one", "two"]"#,
        ),
        (
            "listen = [\"::1:6432\"]",
            r#"f.toml:1: listen: "::1:6432" is not an address; "host:port", "[::1]:port" or "*:port""#,
        ),
        (
            "admin_users = [1]",
            r#"f.toml:1: admin_users: a list of other things where a list of strings belongs, like ["one", "two"]"#,
        ),
        (
            "http_listen = \"6480\"",
            r#"f.toml:1: http_listen: "6480" is not an address; "127.0.0.1:6480", or "" for none"#,
        ),
        (
            "auth_type = \"scram-sha-256\"",
            "f.toml:1: auth_type: scram-sha-256 needs users; set auth_file to a file of them",
        ),
        (
            "auth_file = \"users\"",
            "f.toml:1: auth_file: /nowhere/users cannot be read: No such file or directory (os error 2)",
        ),
        ("reset_query = \"a\\u0000b\"", "f.toml:1: reset_query: holds a zero byte; text only"),
        ("max_client = 9", "f.toml:1: max_client: no such setting; did you mean max_clients?"),
        ("max_client_conn = 9", "f.toml:1: max_client_conn: no such setting; did you mean max_clients?"),
        ("colour = 9", "f.toml:1: colour: no such setting"),
        ("max_size = 9", "f.toml:1: max_size: cannot stand here; it belongs in [pool] or [data_source.NAME]"),
        ("pool = 9", "f.toml:1: pool: must be a table; [pool], [data_source.NAME] or [application.NAME]"),
        ("data_source.shop = 9", "f.toml:1: shop: must be a table; [data_source.NAME] with host and others"),
        ("[pool]\nhost = \"db\"", "f.toml:2: host: cannot stand here; it belongs in [data_source.NAME]"),
        (
            "[data_source.pgbouncer]",
            "f.toml:1: pgbouncer: is the console's name; another name for the data source",
        ),
        ("[data_source.a]\nhost = \"a,b\"", "f.toml:2: host: several hosts are not supported yet; one host"),
        (
            "[data_source.a]\nhost = \"a b\"",
            r#"f.toml:2: host: "a b" is not a host; a name, an address or a folder beginning with /"#,
        ),
        ("[data_source.a]\nport = 0", r#"f.toml:2: port: "0" is out of range; 1 to 65535"#),
        ("[data_source.a]\npassword = 12", "f.toml:2: password: a number where a string in quotes belongs"),
        (
            "[data_source.a]\nmin_idle = 101",
            "f.toml:2: min_idle: 101 is more than max_size = 100 (its default); at most 100",
        ),
        (
            "[pool]\nmin_idle = 9\n[data_source.a]\nmax_size = 8",
            "f.toml:2: min_idle: 9 is more than max_size = 8 (line 4); at most 8",
        ),
        (
            "[pool]\nmin_idle = 9\nmax_size = 8\n[data_source.a]",
            "f.toml:2: min_idle: 9 is more than max_size = 8 (line 3); at most 8",
        ),
        (
            "[pool]\nmin_idle = 9\nmax_idle = 8\n[data_source.a]",
            "f.toml:2: min_idle: 9 is more than max_idle = 8 (line 3); at most 8",
        ),
        (
            "workers = 0\ncolour = 1\n[data_source.a]\nport = \"x\"",
            "f.toml:1: workers: \"0\" is out of range; 1 to 64\nf.toml:2: colour: no such setting\n\
             f.toml:4: port: a string where a number belongs; 1 to 65535",
        ),
    ] {
        check(text, expected);
    }
}

const SHOP: &str = "\n[data_source.shop]\n";

#[test]
fn tls_with_servers_is_asked_for_as_libpq_does_and_a_data_source_may_say_otherwise() {
    let config = good(
        "server_channel_binding = \"disable\"\n[data_source.a]\n[data_source.b]\nserver_tls = \"require\"\n\
         server_tls_negotiation = \"direct\"\nserver_channel_binding = \"require\"",
    );
    let (a, b) = (source(&config, "a").tls, source(&config, "b").tls);
    let prefer = ServerTls { mode: TlsMode::Prefer, binding: ChannelBinding::Disable, ..ServerTls::NONE };
    let (negotiation, binding) = (TlsNegotiation::Direct, ChannelBinding::Require);
    assert_eq!((a, b), (prefer, ServerTls { mode: TlsMode::Require, negotiation, binding }));
    assert_eq!(config.pooler.client_tls, TlsMode::Disable);
}

#[test]
fn tls_without_what_it_needs_is_refused() {
    for (text, expected) in [
        (
            "client_tls = \"allow\"",
            "f.toml:1: client_tls_cert_file: is missing, and client_tls needs it\n\
             f.toml:1: client_tls_key_file: is missing, and client_tls needs it",
        ),
        (
            "server_tls = \"verify-ca\"",
            "f.toml:1: server_tls_ca_file: is missing, and without it no server can be verified",
        ),
        (
            "server_tls_ca_file = \"nowhere\"",
            "f.toml:1: server_tls_ca_file: /nowhere/nowhere: No such file or directory (os error 2)",
        ),
        (
            "server_tls_ca_file = \"/dev/null\"",
            "f.toml:1: server_tls_ca_file: /dev/null holds no certificate in PEM",
        ),
        (
            "server_tls_cert_file = \"a\"",
            "f.toml:1: server_tls_cert_file: needs server_tls_key_file beside it",
        ),
        (
            "server_tls_negotiation = \"direct\"",
            "f.toml:2: server_tls_negotiation: \"direct\" asks nobody, so TLS must be demanded: set server_tls to require or more",
        ),
    ] {
        check(&format!("{text}{SHOP}"), expected);
    }
    // What is not used is not read.
    good(&format!("server_tls = \"disable\"\nserver_tls_ca_file = \"nowhere\"{SHOP}"));
}

#[test]
fn other_machines_see_nothing_without_a_secret() {
    let open = "http_listen: other machines can reach 0.0.0.0:1, and nothing is asked of them; set http_secret, or listen on \
                127.0.0.1";
    let short = "http_secret: too short; at least 16 bytes, like what \"openssl rand -hex 16\" says";
    for (text, expected) in [
        ("http_listen = \"0.0.0.0:1\"", format!("f.toml:1: {open}")),
        ("http_listen = \"0.0.0.0:1\"\nhttp_secret = \"123456789012345\"", format!("f.toml:2: {short}")),
        ("http_listen = \"0.0.0.0:1\"\nhttp_secret = \"1234567890123456\"", String::new()),
        ("http_listen = \"[::1]:1\"", String::new()),
    ] {
        check(&format!("{text}\n[data_source.a]"), &expected);
    }
}

#[test]
fn an_auth_query_that_forgets_valid_until_is_warned_about() {
    let forgets = "auth_query: does not look at VALID UNTIL: passwords let in after they have expired; see rolvaliduntil in \
                   the default of auth_query";
    let old = "SELECT usename, passwd FROM pg_shadow WHERE usename=$1";
    check(&format!("auth_query = \"{old}\"\n[data_source.a]"), &format!("f.toml:1: {forgets}"));
    check(&format!("[data_source.a]\nauth_query = \"{old}\""), &format!("f.toml:2: {forgets}"));
    check("auth_query = \"SELECT * FROM pooler.lookup($1)\"\n[data_source.a]", "");
    let config = good(
        "auth_user = \"asker\"\n[data_source.a]\n[data_source.b]\nauth_dbname = \"a\"\nauth_user = \"\"",
    );
    let (a, b) = (&source(&config, "a").lookup, &source(&config, "b").lookup);
    assert_eq!(
        (a.user.as_deref(), b.user.as_deref(), b.data_source.as_deref()),
        (Some("asker"), None, Some("a"))
    );
    assert!(a.query.contains("rolvaliduntil"));
}

#[test]
fn users_are_not_looked_up_wherever_a_stranger_says() {
    let anywhere = "auth_dbname: is missing: whoever can connect has users looked up in any database he names, before he has \
                    proved anything; set it to one data source";
    let nowhere = "auth_dbname: there is no data source \"b\": nobody is found";
    for (text, expected) in [
        ("auth_user = \"asker\"\n[data_source.\"*\"]", format!("f.toml:2: {anywhere}")),
        ("[data_source.a]\n[data_source.\"*\"]\nauth_user = \"asker\"", format!("f.toml:2: {anywhere}")),
        ("auth_user = \"asker\"\n[data_source.a]\nauth_dbname = \"b\"", format!("f.toml:2: {nowhere}")),
        ("auth_user = \"asker\"\nauth_dbname = \"a\"\n[data_source.\"*\"]\n[data_source.a]", String::new()),
        ("auth_user = \"asker\"\nauth_dbname = \"b\"\n[data_source.\"*\"]", String::new()),
        ("auth_user = \"asker\"\n[data_source.a]", String::new()),
        ("auth_dbname = \"b\"\n[data_source.a]", String::new()),
    ] {
        check(text, &expected);
    }
}

#[test]
fn credentials_are_a_source_and_stand_alone() {
    let right = "\"file:PATH\", \"env:NAME\" or \"command:COMMAND LINE\"";
    check("[data_source.a]\ncredentials = \"secret\"", &format!("f.toml:2: credentials: no source; {right}"));
    check(
        "[data_source.a]\ncredentials = \"env:PW\"\npassword = \"secret\"",
        "f.toml:2: credentials: cannot stand beside password; one of them",
    );
    let config = good("[data_source.a]\ncredentials = \"command:echo whispered\"");
    assert!(!format!("{config:?}").contains("whispered"));
    for (text, expected) in [
        ("unix_socket_mode = \"0999\"", "f.toml:1: unix_socket_mode: not octal digits; like 0770"),
        (
            "unix_socket_dir = \"@abstract\"",
            "f.toml:1: unix_socket_dir: not a folder, beginning with /; clients on abstract sockets are not supported",
        ),
    ] {
        check(&format!("{text}\n[data_source.a]"), expected);
    }
}
