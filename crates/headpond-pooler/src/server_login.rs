//! How a server connection logs in, and how it ends.

use headpond_core::{CloseReason, FailureClass, State, Tick};
use headpond_wire::postgres::backend::ErrorFields;
use headpond_wire::postgres::encode::{self, Report as Fatal, Severity};
use headpond_wire::postgres::frame::{self, Fields, Next};
use headpond_wire::postgres::startup;

use crate::action::{Action, Actions, Link, Report, ServerId};
use crate::client::{Client, ClientState, Lease};
use crate::control;
use crate::kind::PoolKind;
use crate::lookup;
use crate::pooler::Pooler;
use crate::refuse::{Cause, classify};
use crate::server::{BackendKey, ServerLogin, ServerState};
use crate::settings::SettingsId;
use crate::timers::Timer;

/// Longest list of parameters kept of a server; PostgreSQL 18 reports 16.
const PARAMETERS_MAX: usize = 64;

/// Why a login cannot go on.
pub(crate) struct Failed {
    class: FailureClass,
    sqlstate: String,
    message: String,
}

impl Failed {
    pub(crate) fn new(class: FailureClass, sqlstate: &str, message: impl Into<String>) -> Self {
        Self { class, sqlstate: sqlstate.to_owned(), message: message.into() }
    }

    pub(crate) fn protocol(message: &str) -> Self {
        Self::new(FailureClass::Other, "08P01", message)
    }
}

impl Pooler {
    /// The socket is connected: the login begins, or TLS first.
    pub(crate) fn server_connected(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        if !matches!(server.state, ServerState::Connecting) {
            return;
        }
        server.connected = now;
        let (entry, node) = (&self.pools[server.pool as usize], server.node);
        if entry.node != node || self.config.data_sources.get(entry.data_source).is_none() {
            // How it was to be spoken to is not known any more, and what there is to log in with is for another server.
            let message = "the data source has gone, or its server is another one now";
            self.login_failed(now, id, Failed::new(FailureClass::Other, "08006", message), out);
            return;
        }
        if !self.begin_tls(id, out) {
            self.begin_startup(id, out);
        }
    }

    /// Says who wants in.
    pub(crate) fn begin_startup(&mut self, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let entry = &self.pools[server.pool as usize];
        if matches!(server.state, ServerState::Connecting) {
            server.identity = entry.identity;
        }
        server.state = ServerState::Login(Box::new(ServerLogin::Started));
        let identity = [("user", entry.user.as_str()), ("database", entry.database.as_str())];
        let own: &[_] = if server.is_control() {
            &[("application_name", control::APPLICATION)]
        } else if entry.kind == PoolKind::Lookup {
            // What the question names is what the server means by it, and nobody else.
            &[("application_name", lookup::APPLICATION), ("search_path", "pg_catalog")]
        } else {
            &[]
        };
        let parameters =
            identity.into_iter().chain(own.iter().copied()).chain(self.settings.pairs(server.startup));
        out.send(Link::Server(id), |bytes| startup::encode(bytes, parameters));
    }

    /// Bytes of a server during the login. Returns how many are consumed.
    pub(crate) fn server_login_received(
        &mut self,
        now: Tick,
        id: ServerId,
        bytes: &[u8],
        out: &mut Actions,
    ) -> usize {
        let mut at = 0;
        loop {
            let header = match frame::next(&bytes[at..]) {
                Ok(Next::Whole(header)) => header,
                Ok(Next::More) => return at,
                Ok(Next::Begun(_)) | Err(_) => {
                    let failed = Failed::protocol("the server does not speak PostgreSQL's protocol");
                    self.login_failed(now, id, failed, out);
                    return bytes.len();
                }
            };
            let body = &bytes[at + frame::HEADER..at + header.size];
            at += header.size;
            match self.login_message(now, id, header.tag, body, out) {
                Ok(false) => {}
                // No login any more: what follows is read as something else.
                Ok(true) => {
                    if at < bytes.len() {
                        out.push(Action::Read(Link::Server(id)));
                    }
                    return at;
                }
                Err(failed) => {
                    self.login_failed(now, id, failed, out);
                    return bytes.len();
                }
            }
        }
    }

    /// One message of a login; whether the login is done.
    fn login_message(
        &mut self,
        now: Tick,
        id: ServerId,
        tag: u8,
        body: &[u8],
        out: &mut Actions,
    ) -> Result<bool, Failed> {
        let Some(server) = self.servers.get_mut(id) else { return Ok(false) };
        let pool = server.pool;
        match tag {
            b'R' => self.authenticate(id, body, out)?,
            b'S' => {
                let mut body = Fields(body);
                if let (Some(name), Some(value), true) =
                    (body.string(), body.string(), server.reported.len() < PARAMETERS_MAX)
                {
                    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                    server.reported.push((text(name), text(value)));
                }
            }
            b'K' => {
                let mut body = Fields(body);
                let process = body.int32().unwrap_or(0);
                if body.0.len() > startup::KEY_MAX {
                    return Err(Failed::protocol("the server's cancel key is too long"));
                }
                server.key = BackendKey { process, secret: body.0.into() };
            }
            b'E' => {
                let error = ErrorFields::read(body);
                let asked_nothing = matches!(&server.state, ServerState::Login(login) if login.is_started());
                if asked_nothing && self.has_other_way(id, &error.sqlstate) {
                    if let Some(server) = self.servers.get_mut(id) {
                        server.state = ServerState::Again;
                    }
                    return Ok(true);
                }
                return Err(Failed::new(classify(&error.sqlstate), &error.sqlstate, error.message));
            }
            b'N' => {}
            b'Z' => {
                server.state = ServerState::Live;
                server.deadline = Tick::NEVER;
                if server.is_control() {
                    self.control_logged_in(now, id, out);
                    return Ok(true);
                }
                let leased = server.client.is_some();
                server.reports = std::mem::take(&mut server.reported).into();
                let entry = &mut self.pools[pool as usize];
                entry.note_reports(server);
                entry.last_error = None;
                let dedicated = entry.is_dedicated();
                let first = !std::mem::replace(&mut entry.known, true) && !dedicated;
                if leased {
                    self.lease_ready(now, id, out);
                } else if !dedicated && self.survey(now, id, out) {
                    // It serves when the answer is there.
                    self.due(id, now.plus(self.config.recover_timeout));
                } else {
                    self.serves(now, id, out);
                }
                if first {
                    self.welcome_all(now, pool, out);
                }
                return Ok(true);
            }
            _ => return Err(Failed::protocol("unexpected message during the login")),
        }
        Ok(false)
    }

    /// The server is known now: whoever only waited to be told about it is let in.
    fn welcome_all(&mut self, now: Tick, pool: u32, out: &mut Actions) {
        let waiting: Vec<_> = self
            .clients
            .iter()
            .filter(|(_, client)| {
                client.pool == pool && matches!(client.state, ClientState::AwaitsParameters)
            })
            .map(|(id, client)| (id, client.lease))
            .collect();
        for (id, lease) in waiting {
            if let Lease::Waiting(waiter) = lease {
                self.with_pool(now, pool, out, |policy, _| policy.withdraw(now, waiter));
                if let Some(client) = self.clients.get_mut(id) {
                    client.lease = Lease::None;
                }
                self.welcome(now, id, out);
            }
        }
    }

    pub(crate) fn login_failed(&mut self, now: Tick, id: ServerId, failed: Failed, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        let (pool, conn, client) = (server.pool, server.conn, server.client);
        if server.is_control() {
            self.control_refused(now, id, failed.class, failed.message, out);
            return;
        }
        if client.is_some() {
            self.reopening_failed(now, id, &failed, out);
            return;
        }
        let startup = server.startup;
        let title = self.pool_title(pool);
        let refused = failed.class == FailureClass::Authentication;
        out.report(Report::ServerLoginFailed { pool: title, message: failed.message.clone(), refused });
        let entry = &mut self.pools[pool as usize];
        if startup != SettingsId::NONE && is_about_settings(&failed.sqlstate) {
            self.startup_refused(now, pool, startup, &failed, out);
            self.with_pool(now, pool, out, |policy, actions| {
                policy.close(now, conn, CloseReason::SettingsRefused, actions);
            });
            return;
        }
        if failed.class == FailureClass::Authentication {
            self.lookups.forget_user(&entry.user);
        }
        entry.last_error = Some((failed.sqlstate, failed.message));
        self.with_pool(now, pool, out, |policy, actions| {
            policy.open_failed(now, conn, failed.class, actions);
        });
    }

    /// The server does not take the startup parameters that a waiter asked for: whoever asked for them hears it, and
    /// for all others it is as if nothing had been tried.
    fn startup_refused(
        &mut self,
        now: Tick,
        pool: u32,
        startup: SettingsId,
        failed: &Failed,
        out: &mut Actions,
    ) {
        let waiting = |client: &Client| match client.lease {
            Lease::Waiting(waiter) if client.pool == pool => Some((client.settings, waiter)),
            _ => None,
        };
        let waiters: Vec<_> = self.clients.iter().filter_map(|(id, c)| Some((id, waiting(c)?))).collect();
        for (client, (settings, waiter)) in waiters {
            if self.startup_of(pool, settings) == startup {
                self.with_pool(now, pool, out, |policy, _| policy.withdraw(now, waiter));
                let report = Fatal::new(Severity::Fatal, &failed.sqlstate, &failed.message);
                out.send(Link::Client(client), |bytes| encode::error_response(bytes, &report));
                self.drop_client(client, out);
            }
        }
    }

    /// A connection could not be opened anew for the client that holds the lease: the client hears why.
    fn reopening_failed(&mut self, now: Tick, id: ServerId, failed: &Failed, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.said_goodbye = true;
        let (pool, client) = (server.pool, server.client);
        out.report(Report::ServerLoginFailed {
            pool: self.pool_title(pool),
            message: failed.message.clone(),
            refused: failed.class == FailureClass::Authentication,
        });
        if let Some(client) = client {
            let report = Fatal::new(Severity::Fatal, &failed.sqlstate, &failed.message);
            out.send(Link::Client(client), |bytes| encode::error_response(bytes, &report));
        }
        self.close_pair(now, id, CloseReason::LoginFailed, Cause::ServerRefuses, &failed.message, out);
    }

    /// The socket of a server connection reached its end or broke.
    pub(crate) fn server_lost(&mut self, now: Tick, id: ServerId, why: &str, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.lost = true;
        let pool = server.pool;
        match server.state {
            ServerState::Connecting | ServerState::Tls(_) | ServerState::Login(_) => {
                let failed = Failed::new(FailureClass::Unreachable, "08006", why);
                self.login_failed(now, id, failed, out);
            }
            ServerState::Again => self.try_other_way(now, id, out),
            ServerState::Reopening => self.open_anew(now, id, out),
            ServerState::Closing | ServerState::Unconfirmed => self.forget_server(now, id, out),
            ServerState::Live => {
                out.report(Report::ServerLost { pool: self.pool_title(pool) });
                let message = "the server closed the connection unexpectedly";
                self.lose_server(now, id, CloseReason::ServerLost, message, out);
            }
        }
    }

    /// What a server connection was doing took too long.
    pub(crate) fn server_overdue(&mut self, now: Tick, id: ServerId, out: &mut Actions) {
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.armed > now {
            return;
        }
        server.armed = Tick::NEVER;
        let deadline = std::mem::replace(&mut server.deadline, Tick::NEVER);
        if deadline > now {
            self.due(id, deadline);
            return;
        }
        let (pool, conn) = (server.pool, server.conn);
        match server.state {
            ServerState::Connecting | ServerState::Tls(_) | ServerState::Login(_) | ServerState::Again => {
                let message = "the login took longer than connect_timeout";
                let failed = Failed::new(FailureClass::Unreachable, "08006", message);
                self.login_failed(now, id, failed, out);
            }
            ServerState::Live if server.is_control() => self.control_lost(now, id, out),
            ServerState::Live if server.looks_up.is_some() => self.lookup_overdue(now, id, out),
            ServerState::Live => {
                let reason = match self.pools[pool as usize].policy.state(conn) {
                    Some(State::Opening) => CloseReason::LoginFailed,
                    Some(State::Checking) => CloseReason::CheckFailed,
                    Some(State::Resetting) => CloseReason::ResetFailed,
                    Some(State::Recovering | State::BeingCancelled) => CloseReason::RecoverTimeout,
                    _ => return,
                };
                self.with_pool(now, pool, out, |policy, actions| policy.close(now, conn, reason, actions));
            }
            ServerState::Reopening => {
                let message = "the server did not confirm a close in time";
                let reason = CloseReason::Repurposed;
                self.close_pair(now, id, reason, Cause::ServerLost, message, out);
            }
            ServerState::Closing => {
                // Nobody knows whether the server still counts it: we do, for as long again.
                let deadline = now.plus(self.config.close_timeout);
                server.state = ServerState::Unconfirmed;
                self.due(id, deadline);
                out.report(Report::CloseUnconfirmed { pool: self.pool_title(pool) });
            }
            ServerState::Unconfirmed => self.forget_server(now, id, out),
        }
    }

    /// What a server connection does now must be done by `deadline`.
    pub(crate) fn due(&mut self, id: ServerId, deadline: Tick) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.deadline = deadline;
        if deadline < server.armed && !planted!(DeadlinesForgotten) {
            server.armed = deadline;
            self.timers.set(deadline, Timer::Server(id));
        }
    }

    /// How a pool is called in logs and errors.
    pub(crate) fn pool_title(&self, pool: u32) -> String {
        self.pools.get(pool as usize).map_or_else(String::new, |pool| format!("{}/{}", pool.name, pool.user))
    }
}

/// Whether the server did not like a startup parameter: its value, its name, or who set it.
fn is_about_settings(sqlstate: &str) -> bool {
    matches!(sqlstate, "22023" | "42501" | "42601" | "42704" | "55P02")
}
