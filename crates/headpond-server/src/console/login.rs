//! From the startup packet of a console's client to its first `ReadyForQuery`.
//!
//! Clients log in as all others do and must be listed as administrators or viewers.

use std::time::Duration;

use headpond_pooler::config::{self, AuthMethod, Decision, PoolerConfig};
use headpond_pooler::{ANSWER_MAX, Outcome, Proof};
use headpond_wire::postgres::encode::{self, Report, Severity};
use headpond_wire::postgres::scram::ClientKeys;
use headpond_wire::postgres::startup::{self, NEWEST_MINOR, Packet};
use tokio::io::{AsyncRead, AsyncWrite};

use super::link::{Ended, Link};
use super::process::SERVER_VERSION;
use super::{Origin, Role};
use crate::control::Control;

/// Who runs the process logs in under this name by a Unix socket, without a password.
const OWNER: &str = "pgbouncer";

/// Settings that drivers expect to be told.
const PARAMETERS: [(&str, &str); 7] = [
    ("server_version", SERVER_VERSION),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("TimeZone", "UTC"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
];

/// Lets a client in, or tells it why not: its user, and what that one may do.
///
/// # Errors
/// Why the client is not in.
pub(crate) async fn login<S>(
    link: &mut Link<S>,
    origin: &Origin,
    control: &Control,
) -> Result<(String, Role), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = control.config();
    let limit = config.pooler.client_login_timeout;
    let limit = if limit.is_zero() { Duration::MAX } else { limit };
    match tokio::time::timeout(limit, greet(link, origin, &config.pooler, control)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(link.fatal("08P01", "client_login_timeout").await),
    }
}

async fn greet<S>(
    link: &mut Link<S>,
    origin: &Origin,
    pooler: &PoolerConfig,
    control: &Control,
) -> Result<(String, Role), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let wanted = startup(link).await?;
    let user = wanted.user;
    // PgBouncer's habit: whoever could end the process may command it.
    let owns = user == OWNER && origin.system_user.0 == Some(nix::unistd::geteuid().as_raw());
    if !owns {
        let method = admit(link, origin, (&user, &wanted.database), pooler).await?;
        prove(link, &user, (origin, method), pooler, control).await?;
    }
    let role = if owns { Some(Role::Admin) } else { role(pooler, &user, origin.is_local()) };
    let Some(role) = role else {
        return Err(refuse(link, "28000", "the console is for admin_users and stats_users").await);
    };
    let mut key = [0; 8];
    if getrandom::fill(&mut key).is_err() {
        return Err(link.fatal("XX000", "no randomness").await);
    }
    let [a, b, c, d, secret @ ..] = key;
    encode::authentication_ok(&mut link.out);
    for (name, value) in PARAMETERS {
        encode::parameter_status(&mut link.out, name, value);
    }
    // Nothing here takes long enough to be cancelled; the key is for drivers that insist on one.
    encode::backend_key_data(&mut link.out, u32::from_be_bytes([a, b, c, d]), &secret);
    encode::ready_for_query(&mut link.out, b'I');
    link.flush().await?;
    Ok((user, role))
}

/// How a client proves who it is, if the rules let it in at all; `None`: the system vouches for it.
async fn admit<S>(
    link: &mut Link<S>,
    origin: &Origin,
    (user, database): (&str, &str),
    pooler: &PoolerConfig,
) -> Result<Option<AuthMethod>, Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let from = config::Origin {
        address: origin.address,
        tls: origin.tls.is_some(),
        system_user: origin.system_user.1.as_deref(),
        common_name: origin.tls.as_ref().and_then(|tls| tls.common_name.as_deref()),
    };
    let request = config::Request { database, user, replication: config::Replication::None };
    match pooler.admit(from, request) {
        Decision::Ask(method) => Ok(Some(method)),
        Decision::Vouched => Ok(None),
        Decision::Refuse(why) => {
            encode::error_response(&mut link.out, &Report::new(Severity::Fatal, "28000", &why));
            link.flush().await?;
            Err(Ended::Refused("the rules do not let it in"))
        }
    }
}

/// What a user may do. Where anybody is trusted and nobody is listed as administrator, whoever is on this
/// machine may look.
fn role(pooler: &PoolerConfig, user: &str, local: bool) -> Option<Role> {
    let listed = |users: &[String]| users.iter().any(|name| name == user);
    if listed(&pooler.admin_users) {
        Some(Role::Admin)
    } else if listed(&pooler.stats_users) {
        Some(Role::Viewer)
    } else {
        let open = pooler.auth == AuthMethod::Trust && pooler.admin_users.is_empty() && local;
        open.then_some(Role::Viewer)
    }
}

/// Who wants in, and where.
struct Wanted {
    user: String,
    database: String,
}

/// Reads the startup packet and negotiates the protocol's version.
async fn startup<S>(link: &mut Link<S>) -> Result<Wanted, Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let (size, login) = match startup::packet(link.received()) {
            Ok(None) => {
                link.fill().await?;
                continue;
            }
            Ok(Some((Packet::Startup(startup), size))) => (size, Some(login_of(&startup))),
            Ok(Some((Packet::Ssl | Packet::GssEnc, size))) => (size, None),
            Ok(Some((Packet::Cancel { .. }, _))) => return Err(Ended::Left),
            Err(startup::Error::Version { .. }) => {
                return Err(link.fatal("0A000", "unsupported protocol version").await);
            }
            Err(startup::Error::Malformed | startup::Error::Encoding) => {
                return Err(link.fatal("08P01", "invalid startup packet").await);
            }
        };
        link.consume(size);
        let Some(Login { user, database, negotiate }) = login else {
            link.out.push(b'N');
            link.flush().await?;
            continue;
        };
        if let Some((newest, unknown)) = negotiate {
            let unknown = unknown.iter().map(String::as_str);
            encode::negotiate_protocol_version(&mut link.out, newest, unknown);
        }
        let Some(user) = user else {
            return Err(refuse(link, "28000", "no user name in the startup packet").await);
        };
        return Ok(Wanted { database: database.unwrap_or_else(|| user.clone()), user });
    }
}

struct Login {
    user: Option<String>,
    database: Option<String>,
    /// The version spoken, and the options ignored, if the client wanted more.
    negotiate: Option<(u32, Vec<String>)>,
}

fn login_of(startup: &startup::Startup<'_>) -> Login {
    let parameters = || startup.parameters.iter();
    let value = |wanted: &str| {
        let found = parameters().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| (*value).to_owned()).filter(|value| !value.is_empty())
    };
    let (user, database) = (value("user"), value("database"));
    let unknown: Vec<_> = parameters()
        .filter(|(name, _)| name.starts_with("_pq_."))
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let newest = 3 << 16 | u32::from(startup.minor.min(NEWEST_MINOR));
    let more = startup.minor > NEWEST_MINOR || !unknown.is_empty();
    Login { user, database, negotiate: more.then_some((newest, unknown)) }
}

/// The client proves who it is, as clients of the pools do.
async fn prove<S>(
    link: &mut Link<S>,
    user: &str,
    (origin, method): (&Origin, Option<AuthMethod>),
    pooler: &PoolerConfig,
    control: &Control,
) -> Result<(), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(method) = method else { return Ok(()) };
    let mut fresh = [0; 18];
    if getrandom::fill(&mut fresh).is_err() {
        return Err(link.fatal("XX000", "no randomness").await);
    }
    let end_point = origin.tls.as_ref().and_then(|tls| tls.end_point.as_deref());
    let seed = control.login_seed();
    let begun = Proof::begin(method, &pooler.users, user, seed, fresh, end_point, &mut link.out);
    let Some(mut proof) = begun else {
        return Ok(());
    };
    loop {
        link.flush().await?;
        let body = answer(link).await?;
        let outcome = match proof.answered(&body, &mut link.out) {
            Outcome::Derive { password, salt, iterations } => {
                // One at a time: whoever can connect can ask for one.
                let _alone = control.derivations().await;
                let derive = move || ClientKeys::derive(&password.0, &salt, iterations);
                match tokio::task::spawn_blocking(derive).await {
                    Ok(keys) => proof.derived(&keys),
                    Err(_) => Outcome::Failed,
                }
            }
            outcome => outcome,
        };
        match outcome {
            Outcome::Proven(_) => return Ok(()),
            Outcome::Failed => return Err(refuse(link, "28P01", "password authentication failed").await),
            Outcome::Asked | Outcome::Derive { .. } => {}
        }
    }
}

/// The body of the client's password message.
async fn answer<S>(link: &mut Link<S>) -> Result<Vec<u8>, Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match link.message().await? {
        (b'p', body) if body.len() <= ANSWER_MAX => Ok(body),
        (b'X', _) => Err(Ended::Left),
        _ => Err(link.fatal("08P01", "expected a password of reasonable length").await),
    }
}

/// As [`Link::fatal`], for a client that did nothing wrong but is not let in.
async fn refuse<S>(link: &mut Link<S>, sqlstate: &str, why: &'static str) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match link.fatal(sqlstate, why).await {
        Ended::Misbehaved(why) => Ended::Refused(why),
        ended => ended,
    }
}
