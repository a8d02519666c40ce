//! What fuzzing found, each as the claim that was broken.

use headpond_pooler::Link;
use headpond_pooler::config::{AuthMethod, PoolMode};
use headpond_testkit::messages::message;
use headpond_testkit::{Stage, config};

/// A pool of one connection with two clients that are in.
fn two_clients(mode: PoolMode) -> (Stage, [Link; 2], Link) {
    let mut stage = Stage::new(config(mode, AuthMethod::Trust, 1));
    let clients = ["ann", "ann"].map(|name| {
        let client = stage.comes();
        stage.logs_in(client, name);
        client
    });
    let server = stage.servers()[0];
    (stage, clients, server)
}

#[test]
fn a_connection_that_has_not_taken_all_that_was_sent_to_it_is_handed_to_nobody() {
    let (mut stage, [ann, bob], server) = two_clients(PoolMode::Transaction);
    drop(stage.takes(bob));
    stage.says(ann, &message(b'Q', b"COPYIN\0"));
    stage.serve(&[]);
    stage.says(ann, &message(b'f', b"enough\0"));
    // Its answer is there before all of what was sent has gone out.
    stage.blocks(server);
    stage.serve(&[]);
    assert!(stage.takes(ann).ends_with(b"Z\0\0\0\x05I"));
    stage.says(bob, &message(b'Q', b"SELECT 1\0"));
    assert!(stage.peek(server).is_empty() && stage.peek(bob).is_empty(), "he waits");
    stage.blocks(server);
    stage.serve(&[]);
    assert!(stage.takes(bob).ends_with(b"Z\0\0\0\x05I"));
    stage.is_well_at_last();
}
