//! From the startup packet of a console's client to its first `ReadyForQuery`.
//!
//! Clients log in as all others do and must be listed as administrators or viewers.

use std::time::Duration;

use headpond_pooler::config::{AuthMethod, PoolerConfig};
use headpond_pooler::{ANSWER_MAX, Outcome, Proof};
use headpond_wire::postgres::encode;
use headpond_wire::postgres::scram::ClientKeys;
use headpond_wire::postgres::startup::{self, NEWEST_MINOR, Packet};
use tokio::io::{AsyncRead, AsyncWrite};

use super::link::{Ended, Link};
use super::process::SERVER_VERSION;
use super::{Origin, Role};
use crate::control::Control;

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
    match tokio::time::timeout(limit, greet(link, origin, &config.pooler, control.login_seed())).await {
        Ok(outcome) => outcome,
        Err(_) => Err(link.fatal("08P01", "client_login_timeout").await),
    }
}

async fn greet<S>(
    link: &mut Link<S>,
    origin: &Origin,
    pooler: &PoolerConfig,
    seed: &[u8],
) -> Result<(String, Role), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let user = startup(link).await?;
    prove(link, &user, origin, pooler, seed).await?;
    let Some(role) = role(pooler, &user, origin.local) else {
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

/// Reads the startup packet and negotiates the protocol's version: the name of the user.
async fn startup<S>(link: &mut Link<S>) -> Result<String, Ended>
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
        let Some(Login { user, negotiate }) = login else {
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
        return Ok(user);
    }
}

struct Login {
    user: Option<String>,
    /// The version spoken, and the options ignored, if the client wanted more.
    negotiate: Option<(u32, Vec<String>)>,
}

fn login_of(startup: &startup::Startup<'_>) -> Login {
    let parameters = || startup.parameters.iter();
    let user = parameters().find(|(name, _)| *name == "user").map(|(_, user)| (*user).to_owned());
    let unknown: Vec<_> = parameters()
        .filter(|(name, _)| name.starts_with("_pq_."))
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let newest = 3 << 16 | u32::from(startup.minor.min(NEWEST_MINOR));
    let more = startup.minor > NEWEST_MINOR || !unknown.is_empty();
    Login { user: user.filter(|user| !user.is_empty()), negotiate: more.then_some((newest, unknown)) }
}

/// The client proves who it is, as clients of the pools do.
async fn prove<S>(
    link: &mut Link<S>,
    user: &str,
    origin: &Origin,
    pooler: &PoolerConfig,
    seed: &[u8],
) -> Result<(), Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut fresh = [0; 18];
    if getrandom::fill(&mut fresh).is_err() {
        return Err(link.fatal("XX000", "no randomness").await);
    }
    let end_point = origin.tls.as_ref().and_then(|tls| tls.end_point.as_deref());
    let begun = Proof::begin(pooler.auth, &pooler.users, user, seed, fresh, end_point, &mut link.out);
    let Some(mut proof) = begun else {
        return Ok(());
    };
    loop {
        link.flush().await?;
        let body = answer(link).await?;
        let outcome = match proof.answered(&body, &mut link.out) {
            Outcome::Derive { password, salt, iterations } => {
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
