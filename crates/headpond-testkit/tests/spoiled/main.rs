//! Every message of clients and servers, whole or spoiled, in every state: whoever said it gets an error, or is closed, or
//! waits for the rest; nobody else notices, nothing panics, and afterwards everybody is served.

mod clients;
mod servers;

use std::panic::{AssertUnwindSafe, catch_unwind};

use headpond_pooler::Link;
use headpond_pooler::config::{AuthMethod, PoolMode};
use headpond_testkit::messages::{Named, Spoiled, message};
use headpond_testkit::{Stage, config};

/// Both modes of a pool.
const MODES: [PoolMode; 2] = [PoolMode::Session, PoolMode::Transaction];

/// Somebody who is about to speak, and somebody else.
struct Scene {
    stage: Stage,
    speaker: Link,
    bystander: Option<Link>,
    /// Servers that do not answer by themselves.
    silent: Vec<Link>,
    /// Nobody new is taken.
    drains: bool,
}

/// A pool of at most `max_size` with a bystander who is in and has been served.
fn begin(mode: PoolMode, auth: AuthMethod, max_size: u32) -> (Stage, Link) {
    let mut stage = Stage::new(config(mode, auth, max_size));
    let bystander = enters(&mut stage);
    stage.asks(bystander, &[]).expect("the bystander is served");
    (stage, bystander)
}

/// Somebody who is in.
fn enters(stage: &mut Stage) -> Link {
    let client = stage.comes();
    stage.logs_in(client, "ann");
    drop(stage.takes(client));
    client
}

fn query(stage: &mut Stage, client: Link, text: &str) {
    stage.says(client, &message(b'Q', format!("{text}\0").as_bytes()));
}

/// Runs one cell for each message, way to spoil it, state and mode; names those that fail.
fn run<S: Copy>(
    states: &[(&str, S)],
    messages: &[Named],
    cell: impl Fn(S, PoolMode, &Named, Spoiled) -> bool,
) {
    let (mut cells, mut failed) = (0, Vec::new());
    for (state, set) in states {
        for mode in MODES {
            for named in messages {
                for spoiled in Spoiled::ALL {
                    let result = catch_unwind(AssertUnwindSafe(|| cell(*set, mode, named, spoiled)));
                    cells += u32::from(!matches!(result, Ok(false)));
                    if result.is_err() {
                        failed.push(format!("{state}, {mode:?}: {} {spoiled:?}", named.0));
                    }
                }
            }
        }
    }
    println!("{cells} cells");
    assert!(failed.is_empty(), "{} of {cells} cells failed:\n{}", failed.len(), failed.join("\n"));
}
