//! Looks at a pooler that runs, over its HTTP API, and at looks that were saved.

use std::error::Error;
use std::time::Duration;

use headpond_sizing::passive::Counters;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Where the API has its figures.
const PATH: &str = "/api/v1/snapshot";

/// The longest that an answer may take, and the most bytes of one.
const LIMIT: (Duration, usize) = (Duration::from_secs(5), 64 << 20);

/// The figures of a pooler, as JSON.
///
/// # Errors
/// What keeps them from being read.
pub async fn fetch(url: &str, secret: Option<&str>) -> Result<Value, String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("`{url}`: http://HOST:PORT is needed"))?;
    let address = rest.split('/').next().unwrap_or(rest);
    let answer = tokio::time::timeout(LIMIT.0, get(address, secret)).await;
    let answer = answer.map_err(|_| format!("{address} does not answer"))?;
    let (status, body) = answer.map_err(|error| format!("{address}: {error}"))?;
    if status != StatusCode::OK {
        return Err(format!("{address} answers `{status}`: {}", String::from_utf8_lossy(&body).trim_end()));
    }
    serde_json::from_slice(&body).map_err(|error| format!("{address}: {error}"))
}

async fn get(
    address: &str,
    secret: Option<&str>,
) -> Result<(StatusCode, Bytes), Box<dyn Error + Send + Sync>> {
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    // It ends with its sender, who hears what becomes of the request.
    tokio::spawn(connection);
    let mut request = Request::get(PATH).header(HOST, address);
    if let Some(secret) = secret {
        request = request.header(AUTHORIZATION, format!("Bearer {secret}"));
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let status = response.status();
    Ok((status, Limited::new(response.into_body(), LIMIT.1).collect().await?.to_bytes()))
}

/// Looks that were saved, one after the other in one text.
///
/// # Errors
/// What is wrong with it.
pub fn saved(text: &str) -> Result<Vec<Value>, String> {
    serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().map_err(|e| e.to_string())
}

/// The counters of one pool at each look, and its name: that of the data source `wanted`, or else of the pool that
/// served most.
///
/// # Errors
/// There is no such pool.
pub fn counters(looks: &[Value], wanted: Option<&str>) -> Result<(String, Vec<Counters>), String> {
    let pools = |look: &Value| look["pools"].as_array().cloned().unwrap_or_default();
    let is_wanted = |pool: &Value| wanted.is_none_or(|name| pool["data_source"] == name);
    let last = looks.last().ok_or("there is no look in it")?;
    let named = pools(last).into_iter().filter(is_wanted);
    let busiest = named.max_by_key(|pool| pool["acquires"].as_u64().unwrap_or(0));
    let busiest = busiest.ok_or("there is no such pool")?;
    let same = |pool: &Value| {
        ["data_source", "user", "database", "node", "replication"].iter().all(|key| pool[key] == busiest[key])
    };
    let found = looks.iter().filter_map(|look| pools(look).into_iter().find(same));
    let counters: Vec<Counters> = found.map(|pool| of(&pool)).collect();
    let name = |key: &str| busiest[key].as_str().unwrap_or_default().to_owned();
    Ok((format!("{} of {}", name("data_source"), name("user")), counters))
}

fn of(pool: &Value) -> Counters {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let seconds = |value: &Value| value.as_f64().unwrap_or(0.0) * 1e-6;
    let size = |value: &Value| u32::try_from(number(value)).unwrap_or(u32::MAX);
    let levels = pool["in_use_for_us"].as_array();
    Counters {
        in_use_for: levels.map(|times| times.iter().map(seconds).collect()).unwrap_or_default(),
        max_size: size(&pool["effective_max"]),
        max_idle: size(&pool["settings"]["max_idle"]),
        acquires: number(&pool["acquires"]),
        holds: number(&pool["leases"]["ended"]),
        hold_time: seconds(&pool["leases"]["held_us"]),
        opened: number(&pool["opened"]),
        closed_idle: number(&pool["closed"]["max_idle"]),
        unserved: number(&pool["refused"]) + number(&pool["waits"]["timed_out"]),
        leaks: number(&pool["leases"]["leaks"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOKS: &str = r#"
        {"pools": [{"data_source": "a", "user": "u", "acquires": 5, "effective_max": 3, "in_use_for_us": [1000000, 0]},
            {"data_source": "b", "user": "u", "acquires": 50}]}
        {"pools": [{"data_source": "b", "user": "u", "acquires": 90},
            {"data_source": "a", "user": "u", "acquires": 7, "effective_max": 3, "in_use_for_us": [3000000, 500000],
             "leases": {"ended": 6, "held_us": 500000}, "closed": {"max_idle": 2}}]}"#;

    #[test]
    fn saved_looks_are_read_and_the_busiest_pool_is_meant_unless_one_is_named() {
        let looks = saved(LOOKS).unwrap();
        let (name, counters) = super::counters(&looks, None).unwrap();
        assert_eq!((name.as_str(), counters[1].acquires), ("b of u", 90));
        let (_, counters) = super::counters(&looks, Some("a")).unwrap();
        let last = Counters {
            in_use_for: vec![3.0, 0.5],
            max_size: 3,
            acquires: 7,
            holds: 6,
            hold_time: 0.5,
            closed_idle: 2,
            ..Counters::default()
        };
        assert_eq!((counters[0].acquires, &counters[1]), (5, &last));
        assert!(super::counters(&looks, Some("c")).is_err());
        assert!(saved("{").is_err());
    }
}
