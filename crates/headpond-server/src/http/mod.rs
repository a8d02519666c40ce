//! HTTP for people and machines that watch: page, metrics, health, JSON. Nothing here changes anything.
//!
//! | path | what |
//! | --- | --- |
//! | `/` | one page that refreshes itself |
//! | `/metrics` | OpenMetrics text |
//! | `/healthz` | 200 while the process serves |
//! | `/readyz` | 200 when new clients are welcome, else 503 and, for whoever may look, why |
//! | `/api/v1/snapshot` | all figures as JSON; `?detail=1` adds clients and server connections |

mod bounded;
mod guard;
mod json;
mod page;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::{MethodRouter, get};
use tokio::net::TcpListener;

use crate::control::{Control, Silent};
use crate::metrics;
use bounded::Bounded;
use guard::{Gate, guard, may_look};

/// Who may ask for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// Whoever can connect. It hears nothing but whether all is well.
    Anybody,
    /// Whoever brings the secret, or is on this machine where there is none.
    Viewer,
}

/// What can be asked for. Nothing changes anything.
pub(crate) struct Endpoint {
    pub(crate) path: &'static str,
    pub(crate) rights: Rights,
    answers: fn() -> MethodRouter<Arc<Control>>,
}

/// The one list: routes, rights and their test are made of it.
pub(crate) const ENDPOINTS: [Endpoint; 5] = [
    Endpoint { path: "/", rights: Rights::Viewer, answers: || get(page) },
    Endpoint { path: "/metrics", rights: Rights::Viewer, answers: || get(metrics) },
    Endpoint { path: "/healthz", rights: Rights::Anybody, answers: || get(async || "ok\n") },
    Endpoint { path: "/readyz", rights: Rights::Anybody, answers: || get(ready) },
    Endpoint { path: "/api/v1/snapshot", rights: Rights::Viewer, answers: || get(snapshot) },
];

/// Serves until the listener fails.
///
/// # Errors
/// What befell the listener.
pub async fn serve(listener: TcpListener, control: Arc<Control>) -> io::Result<()> {
    let local = listener.local_addr()?.ip().is_loopback();
    axum::serve(Bounded::new(listener), router(control, local)).await
}

/// The routes, for whoever brings a listener of another kind; `local` if only this machine reaches it.
pub fn router(control: Arc<Control>, local: bool) -> Router {
    let gate = Gate { control: Arc::clone(&control), local };
    let routes = ENDPOINTS
        .iter()
        .fold(Router::new(), |router, endpoint| router.route(endpoint.path, (endpoint.answers)()));
    routes.layer(from_fn_with_state(gate, guard)).with_state(control)
}

/// No script, nothing from elsewhere, in nobody's frame; always fresh.
const PAGE_HEADERS: [(HeaderName, &str); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-store"),
];

async fn page(State(control): State<Arc<Control>>) -> Result<Response, Silent> {
    let snapshot = control.snapshot(false).await?;
    let page = page::render(&snapshot, control.uptime(), control.unready().await.as_deref());
    Ok((PAGE_HEADERS, Html(page.into_string())).into_response())
}

async fn metrics(State(control): State<Arc<Control>>) -> Result<Response, Silent> {
    let snapshot = control.snapshot(false).await?;
    Ok(match metrics::render(&snapshot, &control.config().tls, control.uptime()) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    })
}

async fn ready(State(control): State<Arc<Control>>, headers: HeaderMap) -> Response {
    match control.unready().await {
        None => "ready\n".into_response(),
        Some(_) if !may_look(&control, &headers) => {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
        }
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

#[derive(serde::Deserialize)]
struct Detail {
    #[serde(default)]
    detail: u8,
}

async fn snapshot(
    State(control): State<Arc<Control>>,
    Query(asked): Query<Detail>,
) -> Result<Response, Silent> {
    let snapshot = control.snapshot(asked.detail > 0).await?;
    let body = json::Figures::new(&snapshot, control.uptime());
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}

impl IntoResponse for Silent {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{self}\n")).into_response()
    }
}
