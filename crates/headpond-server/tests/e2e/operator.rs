//! What an operator does to a pool that serves: new connections, new credentials, an end to everything.

use std::fs;

use headpond_core::{Alarm, CloseReason, State};
use headpond_embedded::{Auth, Options};
use tokio_postgres::error::SqlState;

use crate::database::postgres;
use crate::named::{closed, holders, named};
use crate::pond::{MODES, PID, Pond, TRANSACTION, Way, code, connect, run, value};

#[test]
fn reconnect_replaces_idle_connections_at_once_and_used_ones_at_rest_and_no_client_notices() {
    run(async {
        for way in MODES {
            let pond = named(way, "", "min_idle = 2\nmax_size = 6").await;
            let clients = holders(&pond, 1).await;
            let (holder, console) = (&clients[0], pond.console().await);
            let before = value(holder, PID).await;
            pond.until_pool("headroom", |pool| pool.count(State::Idle) == 2 && pool.open() == 3).await;
            console.batch_execute("RECONNECT postgres").await.unwrap();
            let outdated = |count| move |pool: &_| closed(pool, CloseReason::Outdated) == count;
            let pool = pond.until_pool("idle ones replaced", outdated(2)).await;
            assert_eq!(pool.count(State::InUse), 1, "{way:?}");
            pond.until_pool("headroom", |pool| pool.count(State::Idle) == 2).await;
            assert_eq!(value(holder, PID).await, before, "{way:?}");
            holder.batch_execute("COMMIT").await.unwrap();
            drop(clients);
            pond.until_pool("the used one replaced", outdated(3)).await;
            assert_ne!(value(&pond.client().await, PID).await, before, "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn kill_drops_clients_and_connections_and_newcomers_wait_for_resume() {
    run(async {
        for way in MODES.into_iter().chain([Way { workers: 2, ..TRANSACTION }]) {
            let pond = named(way, "", "min_idle = 1\nmax_size = 3").await;
            let (console, idle) = (pond.console().await, pond.client().await);
            let clients = holders(&pond, 3).await;
            let kill = async {
                pond.until_in("PgSleep").await;
                pond.until_waiting(1).await;
                console.batch_execute("KILL postgres").await.unwrap();
            };
            let busy = clients[0].batch_execute("SELECT pg_sleep(100000)");
            let (busy, waiting, ()) = tokio::join!(busy, idle.batch_execute("SELECT 1"), kill);
            assert_eq!(code(busy), SqlState::ADMIN_SHUTDOWN, "{way:?}");
            assert_eq!(code(waiting), SqlState::ADMIN_SHUTDOWN, "{way:?}");
            pond.until_connections(|count| count == 0).await;
            assert!(clients[1].batch_execute("SELECT 1").await.is_err(), "{way:?}");
            let newcomer = async { value(&pond.client().await, "SELECT 1").await };
            let resume = async {
                // Nothing is asked of it before the server is known, or once it is in.
                pond.until_waiting(1).await;
                console.batch_execute("RESUME postgres").await.unwrap();
            };
            assert_eq!(tokio::join!(newcomer, resume).0, "1", "{way:?}");
        }
    });
}

#[test]
fn a_new_password_takes_effect_with_a_reload_while_held_connections_stay() {
    run(async {
        let server = postgres(Options {
            auth: Auth::ScramSha256 { password: "top".to_owned() },
            ..Options::default()
        });
        let mut direct = tokio_postgres::Config::new();
        direct.host(server.host()).port(server.port()).user("postgres").password("top").dbname("postgres");
        let direct = connect(&direct).await;
        for (way, stated_in_users) in MODES.into_iter().flat_map(|way| [(way, true), (way, false)]) {
            direct
                .batch_execute("DROP ROLE IF EXISTS shop; CREATE ROLE shop LOGIN PASSWORD 'one'")
                .await
                .unwrap();
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("headpond.toml");
            let configure = |password: &str| {
                let (users, own) = if stated_in_users {
                    (format!("\"shop\" \"{password}\""), String::new())
                } else {
                    ("\"shop\" \"client\"".to_owned(), format!("password = \"{password}\""))
                };
                fs::write(folder.path().join("users"), users).unwrap();
                let text = format!(
                    "listen = [\"127.0.0.1:26432\"]\nhttp_listen = \"\"\nadmin_users = [\"shop\"]
                     pool_mode = \"{}\"\nauth_type = \"scram-sha-256\"\nauth_file = \"users\"
                     [data_source.postgres]\nuser = \"shop\"\nhost = \"{}\"\nport = {}\nmin_idle = 0\n{own}",
                    way.mode,
                    server.host(),
                    server.port()
                );
                fs::write(&file, text).unwrap();
            };
            configure("one");
            let pond = Pond::from_file(&file, "shop");
            let mut login = pond.login();
            login.password(if stated_in_users { "one" } else { "client" });
            let (holder, console) = (connect(&login).await, connect(login.clone().dbname("headpond")).await);
            holder.batch_execute("BEGIN").await.unwrap();

            direct.batch_execute("ALTER ROLE shop PASSWORD 'two'").await.unwrap();
            let second = connect(&login).await;
            let reload = async {
                pond.until_pool("alarm", |pool| pool.is_raised(Alarm::Authentication)).await;
                configure("two");
                console.batch_execute("RELOAD").await.unwrap();
                pond.until_pool("clear", |pool| !pool.is_raised(Alarm::Authentication)).await;
            };
            // Who asked meanwhile has waited: the connection that is held may come free.
            assert_eq!(tokio::join!(value(&second, "SELECT 1"), reload).0, "1", "{way:?}");
            login.password(if stated_in_users { "two" } else { "client" });
            let newcomer = connect(&login).await;
            assert_eq!(value(&newcomer, "SELECT 1").await, "1", "{way:?}");
            holder.batch_execute("COMMIT").await.unwrap();
            assert_eq!(value(&holder, "SELECT 1").await, "1", "{way:?}");
        }
    });
}
