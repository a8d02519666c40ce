use std::time::Duration;

use headpond_core::PoolSettings;
use headpond_pooler::config::{NodeAddress, PoolMode, TlsMode};

use super::{check, good, ini, lines, source, tcp};
use crate::config::entries::TRANSLATED;
use crate::config::pgbouncer_keys::{ANSWERS, DATABASE_ANSWERS, USER_ANSWERS};
use crate::config::table::SETTINGS;
use crate::tls::Protocols;

#[test]
fn a_pgbouncer_ini_keeps_its_meaning() {
    let config = good(
        r#"
; a comment
  # and another
[databases]
shop = host=10.0.0.1 port=5433 dbname = shop_1 user='app' password='it''s; #=' pool_size=7 min_pool_size=9 pool_mode=TRANSACTION
"odd ""name" = host=::1
local =
* = host=/run/postgresql
[pgbouncer] ; rest of the line
listen_addr = 127.0.0.1, ::1,db ; not a comment
listen_port = 7000
auth_type = trust
admin_users = ann, bob ,
server_idle_timeout = 0.5
server_check_delay = 0
server_check_query = <empty>
max_client_conn = 50
server_reset_query =
[users]
till = weight=4
batch = weight=1
[headpond]
http_listen =
workers = 2
recover_timeout = 1m
max_waiters = 12
budget = 90
check_interval = 30
"#
        .replace(",db ; not a comment", "")
        .as_str(),
    );
    let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:7000", "[::1]:7000"]);
    assert_eq!((config.http_listen, config.workers, config.pooler.max_clients), (None, 2, 50));
    assert_eq!(config.pooler.admin_users, ["ann", "bob"]);
    assert_eq!((config.pooler.check_query.as_str(), config.pooler.reset_query.as_str()), ("", ""));
    assert_eq!(config.pooler.recover_timeout, Duration::from_secs(60));
    assert_eq!(config.pooler.weights, [("till".to_owned(), 4)].into());

    let pool = PoolSettings {
        idle_timeout: Duration::from_millis(500),
        acquire_timeout: Duration::from_secs(120),
        login_retry: Duration::from_secs(1),
        max_waiters: 12,
        trust_window: Duration::ZERO,
        shrink_interval: Duration::ZERO,
        ..PoolSettings::on_demand()
    };
    assert_eq!(config.pool, pool);
    let shop = source(&config, "shop");
    assert_eq!((shop.budget, shop.reserve, shop.members), (Some(90), None, 1));
    assert_eq!((&shop.node, shop.mode), (&tcp("10.0.0.1", 5433), PoolMode::Transaction));
    assert_eq!((shop.database.as_deref(), shop.user.as_deref()), (Some("shop_1"), Some("app")));
    assert_eq!(shop.password.as_ref().unwrap().0, "it's; #=");
    assert_eq!(
        shop.pool,
        PoolSettings { max_size: 7, max_idle: 7, initial_size: 7, min_size: 7, ..pool.clone() }
    );
    assert_eq!(source(&config, "odd \"name").node, tcp("::1", 5432));
    assert_eq!(source(&config, "local").node, NodeAddress::Unix { folder: "/tmp".into(), port: 5432 });
    assert_eq!(source(&config, "*").pool, pool);
    assert!(config.warnings.is_empty(), "{}", lines(&config.warnings));
}

#[test]
fn an_ini_is_answered_line_by_line() {
    let needs = "needs users; set auth_file to a file of them";
    for (rest, expected) in [
        ("", ""),
        ("max_client_conn = many", r#"f.ini:7: max_client_conn: "many" is not a whole number; 1 to 1000000"#),
        (
            "default_pool_size = 0",
            "f.ini:7: default_pool_size: 0 (no limit) is not supported; how many connections the database can spare",
        ),
        (
            "server_lifetime = 0",
            "f.ini:7: server_lifetime: 0 (each connection used once) is not supported; a time in seconds, like 3600",
        ),
        (
            "query_wait_timeout = -1",
            r#"f.ini:7: query_wait_timeout: "-1" is not a time; seconds, like 30 or 0.5"#,
        ),
        (
            "query_wait_timeout = inf",
            r#"f.ini:7: query_wait_timeout: "inf" is not a time; seconds, like 30 or 0.5"#,
        ),
        ("max_prepared_statements = 7", ""),
        ("server_login_retry = 0", r#"f.ini:7: server_login_retry: too short; at least "10ms""#),
        ("pool_mode = Statement", ""),
        (
            "auth_type = ldap",
            r#"f.ini:7: auth_type: "ldap" is not supported yet; "scram-sha-256" with auth_file, or "trust""#,
        ),
        (
            "auth_type = none",
            r#"f.ini:7: auth_type: "none" is unknown; one of "trust", "password", "md5", "scram-sha-256", "hba""#,
        ),
        (
            "auth_type = any",
            r#"f.ini:7: auth_type: "any" is taken as "trust": each client keeps its own user name"#,
        ),
        ("auth_type = md5", &format!("f.ini:7: auth_type: md5 {needs}")),
        ("auth_type = plain", &format!("f.ini:7: auth_type: password {needs}")),
        ("listen_port = x", r#"f.ini:7: listen_port: "x" is not a port; 1 to 65535"#),
        ("listen_addr =", "f.ini:7: listen_addr: not set: listening on 127.0.0.1:6432 all the same"),
        ("max_client_con = 9", "f.ini:7: max_client_con: no such setting; did you mean max_client_conn?"),
        ("workers = 9", "f.ini:7: workers: no such setting; it belongs in [headpond]"),
        ("[headpond]\nworker = 9", "f.ini:8: worker: no such setting; did you mean workers?"),
        ("[headpond]\nhost = db", "f.ini:8: host: no such setting"),
        (
            "[database]\na = host=b",
            "f.ini:8: a: stands in an unknown section, \"database\"; did you mean databases?",
        ),
        (
            "[users]\nann = pool_mode=session",
            "f.ini:8: pool_mode: not supported yet for a user: set it for the database",
        ),
        ("[users]\nann = weight=0", r#"f.ini:8: weight: "0" is out of range; 1 to 1000"#),
        ("[users]\nann = wait=4", "f.ini:8: wait: no such setting"),
        ("[headpond]\nweight = 4", "f.ini:8: weight: no such setting"),
        ("[peers]\n1 = host=b", "f.ini:8: 1: has no effect here: cancel requests need no peers"),
        ("nonsense", "f.ini:7: neither a section nor a setting; [NAME] or key = value"),
        ("[nonsense", "f.ini:7: a section without its end; [NAME]"),
        (
            "%include more.ini",
            "f.ini:7: %include: /nowhere/more.ini cannot be read: No such file or directory (os error 2)",
        ),
        (
            "[databases]\na = host=b secret",
            "f.ini:8: a: not a connection string; key=value, separated by spaces, values with spaces in single quotes",
        ),
        (
            "[databases]\na = host=b password='secret",
            "f.ini:8: a: not a connection string; key=value, separated by spaces, values with spaces in single quotes",
        ),
        (
            "[databases]\na = host=b pool_sice=3",
            "f.ini:8: pool_sice: no such setting; did you mean pool_size?",
        ),
        (
            "[databases]\na = host=b port='1 password=secret'",
            "f.ini:8: port: the value is not a whole number; 1 to 65535",
        ),
        ("[databases]\nshop = host=c", "f.ini:2: shop: stated again in line 8, which counts"),
        (
            "[databases]\npgbouncer = host=c",
            "f.ini:8: pgbouncer: is the console's name; another name for the data source",
        ),
        (
            "unix_socket_dir =\n[databases]\na =",
            "f.ini:9: a: has no host, and unix_socket_dir is not a folder; host=NAME",
        ),
    ] {
        check(&ini(rest), expected);
    }
    check(
        "[databases]\n[pgbouncer]\nauth_file = /dev/null",
        "f.ini: no data source: clients find no database; add a line in [databases]\n\
         f.ini: listen_addr: not set: listening on 127.0.0.1:6432 all the same",
    );
}

/// The names of section 2 of PgBouncer's manual, and those that only its source has.
const PGBOUNCER_KEYS: &str = "
    listen_addr listen_port listen_backlog unix_socket_dir unix_socket_mode unix_socket_group so_reuseport peer_id
    user pidfile logfile syslog syslog_ident syslog_facility verbose log_connections log_disconnections
    log_pooler_errors log_stats stats_period conffile job_name service_name resolv_conf
    pool_mode default_pool_size min_pool_size reserve_pool_size reserve_pool_timeout max_client_conn
    max_db_connections max_user_connections max_db_client_connections max_user_client_connections
    server_round_robin max_prepared_statements autodb_idle_timeout pool_idle_timeout
    track_extra_parameters ignore_startup_parameters application_name_add_host disable_pqexec max_packet_size
    login_notify_message auth_type auth_file auth_hba_file auth_ident_file auth_user auth_query auth_dbname
    auth_ldap_options scram_iterations admin_users stats_users
    server_reset_query server_reset_query_always server_check_query server_check_delay server_lifetime
    server_idle_timeout server_connect_timeout server_login_retry server_fast_close
    client_login_timeout query_timeout query_wait_timeout query_wait_notify cancel_wait_timeout client_idle_timeout
    idle_transaction_timeout transaction_timeout suspend_timeout dns_max_ttl dns_nxdomain_ttl dns_zone_check_period
    client_tls_sslmode client_tls_ca_file client_tls_key_file client_tls_cert_file client_tls_protocols
    client_tls_ciphers client_tls13_ciphers client_tls_ecdhcurve client_tls_dheparams
    server_tls_sslmode server_tls_ca_file server_tls_key_file server_tls_cert_file server_tls_protocols
    server_tls_ciphers server_tls13_ciphers
    pkt_buf sbuf_loopcnt tcp_defer_accept tcp_socket_buffer tcp_keepalive tcp_keepcnt tcp_keepidle tcp_keepintvl
    tcp_user_timeout";

const DATABASE_KEYS: &str = "dbname host port user password auth_user auth_query auth_dbname pool_size min_pool_size
    reserve_pool_size reserve_pool pool_mode connect_query query_wait_timeout load_balance_hosts max_db_connections
    max_db_client_connections server_lifetime client_encoding datestyle timezone application_name";

const USER_KEYS: &str =
    "pool_size reserve_pool_size pool_mode max_user_connections max_user_client_connections
    query_timeout idle_transaction_timeout transaction_timeout client_idle_timeout";

#[test]
fn every_key_of_pgbouncer_is_honoured_or_answered() {
    let ours = |key: &str| SETTINGS.iter().any(|s| s.pgbouncer == key) || TRANSLATED.contains(&key);
    let answers: Vec<_> = ANSWERS.iter().flat_map(|(keys, _)| *keys).copied().collect();
    for key in PGBOUNCER_KEYS.split_whitespace() {
        let answered = answers.iter().filter(|a| **a == key).count();
        assert_eq!(answered + usize::from(ours(key)), 1, "{key}");
        if answered == 1 {
            let said = lines(&good(&ini(&format!("{key} = /1"))).warnings);
            assert!(said.starts_with(&format!("f.ini:7: {key}: ")), "{said}");
            assert!(
                ["has no effect here: ", "not supported yet: ", "partly honoured: "]
                    .iter()
                    .any(|w| said.contains(w))
            );
        }
    }
    let of_database: Vec<_> = DATABASE_ANSWERS.iter().flat_map(|(keys, _)| *keys).copied().collect();
    for key in DATABASE_KEYS.split_whitespace() {
        let answered = of_database.iter().filter(|a| **a == key).count();
        assert_eq!(answered + usize::from(SETTINGS.iter().any(|s| s.database == key)), 1, "{key}");
    }
    let of_user: Vec<_> = USER_ANSWERS.iter().flat_map(|(keys, _)| *keys).copied().collect();
    for key in USER_KEYS.split_whitespace() {
        assert_eq!(of_user.iter().filter(|a| **a == key).count(), 1, "{key}");
    }
    let known = |names: &str, key: &&str| names.split_whitespace().any(|n| n == *key);
    assert!(
        answers.iter().all(|a| known(PGBOUNCER_KEYS, a))
            && of_database.iter().all(|a| known(DATABASE_KEYS, a))
            && of_user.iter().all(|a| known(USER_KEYS, a))
    );
    for setting in SETTINGS {
        assert!(
            setting.pgbouncer.is_empty() || known(PGBOUNCER_KEYS, &setting.pgbouncer),
            "{}",
            setting.pgbouncer
        );
        assert!(
            setting.database.is_empty() || known(DATABASE_KEYS, &setting.database),
            "{}",
            setting.database
        );
    }
}

#[test]
fn the_guide_lists_what_is_answered() {
    let guide = include_str!("../../../../../docs/configuration.md");
    for (keys, advice) in ANSWERS.iter().chain(DATABASE_ANSWERS).chain(USER_ANSWERS) {
        let line = format!("- `{}`: {advice}", keys.join("`, `"));
        assert!(guide.lines().any(|l| l == line), "missing in docs/configuration.md:\n{line}");
    }
}

#[test]
fn the_check_query_means_what_it_means_to_pgbouncer() {
    for (rest, expected) in [
        ("", (true, "")),
        ("server_check_query =", (false, "")),
        ("server_check_query = <empty>", (true, "")),
        ("server_check_query = select 1;", (true, "select 1;")),
        ("server_check_query =\n[headpond]\ncheck = True", (true, "")),
    ] {
        let config = good(&ini(rest));
        let pool = &source(&config, "shop").pool;
        assert_eq!((pool.check, config.pooler.check_query.as_str()), expected, "{rest}");
        assert_eq!((pool.shrink_interval, pool.check_interval), Default::default());
    }
}

#[test]
fn our_own_section_needs_none_of_pgbouncers() {
    let config = good(
        "[databases]\na = host=b\n[headpond]\nlisten = 127.0.0.1:1, *:2\nauth_type = trust\nmax_size = 3",
    );
    let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
    assert_eq!((listen, config.warnings.len()), (vec!["127.0.0.1:1".to_owned(), "*:2".to_owned()], 0));
    assert_eq!((source(&config, "a").pool.max_size, source(&config, "a").pool.max_idle), (3, 3));
}

#[test]
fn lists_of_versions_of_tls_are_taken_as_far_as_they_are_spoken() {
    for (list, protocols) in [
        ("secure", Protocols::Secure),
        ("tlsv1.2,tlsv1.3", Protocols::Secure),
        ("TLSv1.3", Protocols::Tls13),
        (" tlsv1.2 ", Protocols::Tls12),
    ] {
        let config = good(&ini(&format!("server_tls_protocols = {list}")));
        assert_eq!((config.server_tls.protocols, config.warnings.len()), (protocols, 0), "{list}");
    }
    for list in ["all", "legacy", "tlsv1.1, tlsv1.2, tlsv1.3"] {
        let expected = "f.ini:7: server_tls_protocols: TLS 1.0 and 1.1 are not spoken";
        check(&ini(&format!("server_tls_protocols = {list}")), expected);
    }
    check(
        &ini("client_tls_protocols = tlsv1.0"),
        "f.ini:7: client_tls_protocols: TLS 1.0 and 1.1 are not spoken; \"secure\"",
    );
    check(
        &ini("client_tls_protocols = ssl3"),
        "f.ini:7: client_tls_protocols: \"ssl3\" is unknown; one of \"secure\", \"tlsv1.2\", \"tlsv1.3\"",
    );
}

#[test]
fn tls_has_pgbouncers_names_and_defaults() {
    let config = good(&ini(""));
    assert_eq!(
        (config.pooler.client_tls, source(&config, "shop").tls.mode),
        (TlsMode::Disable, TlsMode::Prefer)
    );
    let config = good(&ini("server_tls_sslmode = require"));
    assert_eq!(source(&config, "shop").tls.mode, TlsMode::Require);
    check(
        &ini("client_tls_sslmode = require"),
        "f.ini:7: client_tls_cert_file: is missing, and client_tls needs it\n\
         f.ini:7: client_tls_key_file: is missing, and client_tls needs it",
    );
}
