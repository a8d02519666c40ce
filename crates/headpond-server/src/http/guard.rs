//! Who may see what over HTTP, decided before anything is looked at.
//!
//! Whoever brings the secret may look. Where none is set, whoever is on this machine may, but no page of somebody
//! else's in a browser there: it can send requests here under a name of its own (DNS rebinding), so the name asked for
//! must be an address, or `localhost`. Nothing can be changed, whoever asks.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header, uri::Authority};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use headpond_pooler::config::Secret;

use super::{ENDPOINTS, Rights};
use crate::control::Control;

/// What the guard has to know.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) control: Arc<Control>,
    /// Only this machine reaches the listener.
    pub(crate) local: bool,
}

/// Passes a request on, or answers it.
pub(crate) async fn guard(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response();
    }
    // Strangers do not hear what there is.
    let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.path == request.uri().path());
    if endpoint.is_some_and(|endpoint| endpoint.rights == Rights::Anybody) {
        return next.run(request).await;
    }
    let config = gate.control.config();
    match (&config.http_secret, asked_for(&request)) {
        (Some(secret), _) if brings(secret, request.headers()) => next.run(request).await,
        (Some(_), _) => {
            let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"headpond\", charset=\"UTF-8\"")];
            (StatusCode::UNAUTHORIZED, ask, "http_secret is asked for, as a password or a bearer token\n")
                .into_response()
        }
        (None, _) if !gate.local => {
            (StatusCode::FORBIDDEN, "http_secret is not set: only this machine may look\n").into_response()
        }
        (None, Some(name)) if is_own(&name) => next.run(request).await,
        (None, _) => {
            let right = "ask for 127.0.0.1 or localhost, or set http_secret\n";
            (StatusCode::MISDIRECTED_REQUEST, right).into_response()
        }
    }
}

/// Whether a request may be told more than whether all is well: see [`guard`].
pub(crate) fn may_look(control: &Control, headers: &HeaderMap) -> bool {
    control.config().http_secret.as_ref().is_none_or(|secret| brings(secret, headers))
}

fn brings(secret: &Secret, headers: &HeaderMap) -> bool {
    let Some(given) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let Some((scheme, given)) = given.split_once(' ') else { return false };
    if scheme.eq_ignore_ascii_case("bearer") {
        return secret.is(given.trim().as_bytes());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return false;
    }
    let Ok(pair) = STANDARD.decode(given.trim()) else { return false };
    let password = pair.iter().position(|byte| *byte == b':').map(|colon| &pair[colon + 1..]);
    password.is_some_and(|password| secret.is(password))
}

/// The one name that a request says it was sent to; `None` if it says none, or several.
fn asked_for(request: &Request) -> Option<Authority> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.clone());
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, None) = (hosts.next()?, hosts.next()) else { return None };
    host.to_str().ok()?.parse().ok()
}

/// Nobody else can have it answer for this machine.
fn is_own(name: &Authority) -> bool {
    let host = name.host();
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || inside.parse::<IpAddr>().is_ok()
}
