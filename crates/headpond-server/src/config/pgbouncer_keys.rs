//! PgBouncer's settings that do not act here, each with what to do about it.

/// Keys, and what a `pgbouncer.ini` that has one of them is told.
pub(super) type Answers = &'static [(&'static [&'static str], &'static str)];

/// What is said about `key`; `None`: it is not among them.
pub(super) fn answer(answers: Answers, key: &str) -> Option<&'static str> {
    answers.iter().find(|(keys, _)| keys.contains(&key)).map(|(_, advice)| *advice)
}

/// Of the section `[pgbouncer]`.
pub(super) static ANSWERS: Answers = &[
    (
        &["listen_backlog", "tcp_defer_accept"],
        "has no effect here: the backlog is as long as the kernel allows",
    ),
    (&["so_reuseport"], "has no effect here: one process uses several cores; set workers in [headpond]"),
    (&["peer_id"], "has no effect here: all workers are one process, which finds every cancel key"),
    (&["user"], "has no effect here: start the process as that user"),
    (
        &["pidfile"],
        "has no effect here: the process stays in the foreground; let the service manager track it",
    ),
    (
        &["logfile", "syslog", "syslog_ident", "syslog_facility"],
        "has no effect here: the log goes to standard error; let the service manager store it",
    ),
    (&["verbose"], "has no effect here: set log_level = debug in [headpond]"),
    (
        &["log_connections", "log_disconnections"],
        "has no effect here: connections are logged with log_level = debug in [headpond]",
    ),
    (&["log_pooler_errors"], "has no effect here: errors sent to clients are always logged"),
    (&["log_stats", "stats_period"], "has no effect here: set figures_interval in [headpond]"),
    (&["conffile"], "has no effect here: the file is named on the command line"),
    (&["job_name", "service_name"], "has no effect here: they name a service of Windows"),
    (&["resolv_conf"], "has no effect here: names are resolved as the system does"),
    (
        &["dns_max_ttl", "dns_nxdomain_ttl", "dns_zone_check_period"],
        "has no effect here: a name is resolved anew for each login to a server",
    ),
    (
        &["reserve_pool_size", "reserve_pool_timeout"],
        "has no effect here: the pool has one limit; add the reserve to default_pool_size",
    ),
    (
        &["max_db_connections", "max_user_connections"],
        "not supported yet: limit each pool with default_pool_size or pool_size, all pools of a server with budget in [headpond]",
    ),
    (
        &["max_db_client_connections", "max_user_client_connections"],
        "not supported yet: limit all clients with max_client_conn",
    ),
    (&["autodb_idle_timeout", "pool_idle_timeout"], "has no effect here: an empty pool costs nothing"),
    (
        &["track_extra_parameters"],
        "not supported yet: in transaction mode clients must not rely on parameters they set",
    ),
    (&["ignore_startup_parameters"], "has no effect here: no startup parameter is refused"),
    (
        &["application_name_add_host"],
        "not supported yet: the address of each client is shown by SHOW CLIENTS",
    ),
    (&["disable_pqexec"], "not supported yet: the simple protocol is always allowed"),
    (&["login_notify_message"], "not supported yet: clients are sent no message at login"),
    (&["auth_ldap_options"], "not supported yet: use auth_type = scram-sha-256 with auth_file"),
    (
        &["scram_iterations"],
        "has no effect here: plain passwords of auth_file are derived with 4096 iterations",
    ),
    (&["server_reset_query_always"], "not supported yet: server_reset_query is sent in session mode only"),
    (
        &["server_fast_close"],
        "has no effect here: connections that must go are closed as soon as they are released",
    ),
    (
        &["query_wait_notify"],
        "not supported yet: a client that waits is told nothing before query_wait_timeout",
    ),
    (&["suspend_timeout"], "has no effect here: there is no SUSPEND; use PAUSE"),
    (
        &[
            "client_tls_ciphers",
            "client_tls13_ciphers",
            "client_tls_ecdhcurve",
            "client_tls_dheparams",
            "server_tls_ciphers",
            "server_tls13_ciphers",
        ],
        "has no effect here: only ciphers and curves are spoken that nobody would turn off",
    ),
    (&["pkt_buf", "sbuf_loopcnt"], "has no effect here: there is no buffer per connection"),
    (
        &[
            "tcp_socket_buffer",
            "tcp_keepalive",
            "tcp_keepcnt",
            "tcp_keepidle",
            "tcp_keepintvl",
            "tcp_user_timeout",
        ],
        "has no effect here: sockets are set up as the kernel's defaults say",
    ),
];

/// Of the lines in `[users]`.
pub(super) static USER_ANSWERS: Answers = &[
    (&["pool_mode", "pool_size"], "not supported yet for a user: set it for the database"),
    (&["reserve_pool_size"], "has no effect here: the pool has one limit, the database's pool_size"),
    (
        &["max_user_connections"],
        "not supported yet: a user has a pool for each database, limit it with pool_size",
    ),
    (&["max_user_client_connections"], "not supported yet: limit all clients with max_client_conn"),
    (
        &["query_timeout", "idle_transaction_timeout", "transaction_timeout"],
        "not supported yet for a user: set it for all",
    ),
    (&["client_idle_timeout"], "not supported yet for a user: set it for all"),
];

/// Of the lines in `[databases]`.
pub(super) static DATABASE_ANSWERS: Answers = &[
    (
        &["reserve_pool_size", "reserve_pool"],
        "has no effect here: the pool has one limit; add the reserve to pool_size",
    ),
    (&["connect_query"], "not supported yet: use ALTER DATABASE or ALTER ROLE … SET"),
    (&["load_balance_hosts"], "not supported yet: there is one host"),
    (
        &["max_db_connections"],
        "not supported yet: limit each pool with pool_size, all pools of a server with budget in [headpond]",
    ),
    (&["max_db_client_connections"], "not supported yet: limit all clients with max_client_conn"),
    (
        &["client_encoding", "datestyle", "timezone", "application_name"],
        "not supported yet: use ALTER DATABASE or ALTER ROLE … SET",
    ),
];
