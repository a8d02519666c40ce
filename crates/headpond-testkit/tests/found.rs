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
        drop(stage.takes(client));
        client
    });
    let server = stage.servers()[0];
    (stage, clients, server)
}

#[test]
fn a_connection_that_has_not_taken_all_that_was_sent_to_it_is_handed_to_nobody() {
    let (mut stage, [ann, bob], server) = two_clients(PoolMode::Transaction);
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

#[test]
fn who_breaks_the_protocol_behind_the_rest_of_a_message_leaves_none_of_it_unsent() {
    for nonsense in [&b"Q\0\0\0\x03"[..], b"?\0\0\0\x04"] {
        let (mut stage, [ann, bob], server) = two_clients(PoolMode::Transaction);
        // Too large to be held, and nothing answers it.
        let data = message(b'H', &[b'x'; 100_000]);
        stage.says(ann, &data[..70_000]);
        stage.says(ann, &[&data[70_000..], nonsense].concat());
        assert!(stage.is_closed(ann));
        assert_eq!(stage.peek(server).len(), data.len());
        assert_eq!(stage.asks(bob, &[]), Ok(()));
        stage.is_well_at_last();
    }
}

#[test]
fn a_client_hears_the_whole_of_a_row_before_it_hears_that_its_server_talks_nonsense() {
    let (mut stage, [ann, _], server) = two_clients(PoolMode::Transaction);
    stage.says(ann, &message(b'Q', b"SLEEP\0"));
    stage.serve(&[]);
    let row = message(b'D', &[0; 100_000]);
    stage.says(server, &row[..70_000]);
    assert_eq!(stage.takes(ann).len(), 70_000);
    // The stage checks that the error does not come inside the row.
    stage.says(server, &[&row[70_000..], b"D\0\0\0\x03"].concat());
    assert!(stage.is_closed(ann) && stage.mismatches == 1);
    stage.is_well_at_last();
}

#[test]
fn who_breaks_the_protocol_inside_a_row_is_closed_without_a_word() {
    let (mut stage, [ann, bob], server) = two_clients(PoolMode::Transaction);
    stage.says(ann, &message(b'Q', b"SLEEP\0"));
    stage.serve(&[]);
    stage.says(server, &message(b'D', &[0; 100_000])[..70_000]);
    // The stage checks that no error comes inside the row.
    stage.says(ann, b"Q\0\0\0\x03");
    assert!(stage.is_closed(ann) && stage.misbehaved == 1);
    stage.says(server, &[&[0; 30_005][..], b"C\0\0\0\x05\0Z\0\0\0\x05I"].concat());
    stage.breaks(server);
    assert_eq!(stage.asks(bob, &[]), Ok(()));
    stage.is_well_at_last();
}

#[test]
fn a_drain_ends_no_client_inside_a_message() {
    let (mut stage, [ann, _], server) = two_clients(PoolMode::Session);
    stage.says(ann, &message(b'Q', b"COPYIN\0"));
    stage.serve(&[]);
    stage.operates(|pooler, now, out| pooler.drain(now, out));
    let data = message(b'd', &[b'x'; 100_000]);
    stage.says(ann, &data[..70_000]);
    // The stage checks that no reset goes inside the message.
    stage.says(server, &[message(b'E', b"SERROR\0\0"), message(b'Z', b"I")].concat());
    assert!(!stage.is_closed(ann));
    stage.says(ann, &data[70_000..]);
    assert!(stage.is_closed(ann) && stage.peek(server).starts_with(b"d"));
    stage.ends();
}
