//! HTTP for people and machines that watch: page, metrics, health, JSON. Nothing here changes anything.
//!
//! | path | what |
//! | --- | --- |
//! | `/` | one page that refreshes itself |
//! | `/metrics` | OpenMetrics text |
//! | `/healthz` | 200 while the process serves |
//! | `/readyz` | 200 when new clients are welcome, else 503 and why |
//! | `/api/v1/snapshot` | all figures as JSON; `?detail=1` adds clients and server connections |

mod json;
mod page;

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::control::{Control, Silent};
use crate::metrics;

/// Serves until the listener fails.
///
/// # Errors
/// What befell the listener.
pub async fn serve(listener: TcpListener, control: Arc<Control>) -> io::Result<()> {
    axum::serve(listener, router(control)).await
}

/// The routes, for whoever brings a listener of another kind.
pub fn router(control: Arc<Control>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/api/v1/snapshot", get(snapshot))
        .with_state(control)
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

async fn ready(State(control): State<Arc<Control>>) -> Response {
    match control.unready().await {
        None => "ready\n".into_response(),
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

#[cfg(test)]
mod tests {
    use headpond_pooler::config::AuthMethod;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::console::tests::made_up;
    use crate::control::Shutdown;
    use crate::worker::handle::Workers;

    async fn ask(control: &Arc<Control>, request: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = tokio::spawn(serve(listener, Arc::clone(control)));
        let request = format!("{request} HTTP/1.1\r\nhost: headpond\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        server.abort();
        answer
    }

    #[tokio::test]
    async fn every_path_answers_and_nothing_can_be_written() {
        let config = Arc::new(made_up::config(AuthMethod::Trust));
        let (control, _requests) = Control::new(Workers::new(Arc::default()), config, [7; 32]);
        for (request, status, part) in [
            ("GET /", "200", "<title>Headpond</title>"),
            ("GET /metrics", "200", "# EOF"),
            ("GET /healthz", "200", "ok"),
            ("GET /readyz", "503", "no worker answers"),
            ("GET /api/v1/snapshot?detail=1", "200", "\"server_connections\":[]"),
            ("GET /api/v1/snapshot?detail=x", "400", ""),
            ("GET /nothing", "404", ""),
            ("POST /", "405", ""),
            ("DELETE /api/v1/snapshot", "405", ""),
        ] {
            let answer = ask(&control, request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(part), "{answer}");
        }
        control.shut_down(Shutdown::WaitForClients);
        assert!(ask(&control, "GET /readyz").await.contains("shutting down"));
    }
}
