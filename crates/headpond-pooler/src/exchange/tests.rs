//! Claims about the order of requests and replies.

use super::*;

const OURS: Owner = Owner::Pooler(Errand::Settle);

fn sent(exchanges: &mut Exchanges, tags: &[u8]) {
    for tag in tags {
        assert_eq!(exchanges.sent(*tag, Owner::Client), Ok(()), "{:?}", char::from(*tag));
    }
}

fn received(exchanges: &mut Exchanges, tags: &[u8]) -> Vec<(Owner, Kind)> {
    let reply = |tag: &u8| exchanges.received(*tag, b'I').expect("it answers something");
    tags.iter().map(reply).map(|reply| (reply.owner, reply.kind)).collect()
}

/// A COPY of the extended protocol with a Sync sent ahead of its data, of which the server asks for the latter.
fn copy_with_early_sync() -> Exchanges {
    let mut exchanges = Exchanges::default();
    sent(&mut exchanges, b"PBES");
    received(&mut exchanges, b"12G");
    assert!(exchanges.is_copying() && exchanges.boundaries() == 0);
    exchanges
}

#[test]
fn a_sync_ahead_of_copy_data_is_read_over() {
    let mut exchanges = copy_with_early_sync();
    sent(&mut exchanges, b"dcS");
    received(&mut exchanges, b"C");
    assert_eq!(received(&mut exchanges, b"Z"), [(Owner::Client, Kind::Ready(b'I'))]);
    assert!(exchanges.at_rest() && !exchanges.is_in_doubt());
}

#[test]
fn a_sync_ahead_of_copy_data_that_failed_may_be_answered_before_the_client_s_own() {
    let mut exchanges = copy_with_early_sync();
    assert_eq!(received(&mut exchanges, b"EZ"), [(Owner::Client, Kind::Error), (OURS, Kind::Part)]);
    assert!(!exchanges.at_rest());
    sent(&mut exchanges, b"dfS");
    assert_eq!(received(&mut exchanges, b"Z"), [(Owner::Client, Kind::Ready(b'I'))]);
    assert!(exchanges.at_rest());
}

#[test]
fn a_copy_that_failed_is_not_over_before_it_is_known_which_syncs_are_answered() {
    for answered in [false, true] {
        let mut exchanges = copy_with_early_sync();
        sent(&mut exchanges, b"dfS");
        assert_eq!(
            received(&mut exchanges, b"EZ"),
            [(Owner::Client, Kind::Error), (Owner::Client, Kind::Ready(b'I'))]
        );
        assert!(exchanges.is_in_doubt() && !exchanges.at_rest());
        exchanges.sent(b'Q', OURS).expect("the end of doubt");
        if answered {
            assert_eq!(received(&mut exchanges, b"Z"), [(OURS, Kind::Part)]);
        }
        assert_eq!(received(&mut exchanges, b"IZ"), [(OURS, Kind::Part), (OURS, Kind::Ready(b'I'))]);
        assert!(exchanges.at_rest());
    }
}

#[test]
fn what_one_client_executed_is_not_held_against_the_next_one() {
    let mut exchanges = Exchanges::default();
    for (tag, body) in [(b'P', &b"\0COMMIT\0\0\0"[..]), (b'B', b"\0\0"), (b'E', b"\0\0\0\0\0")] {
        sent(&mut exchanges, &[tag]);
        exchanges.weigh(tag, body, true, b'T');
    }
    received(&mut exchanges, b"12C");
    assert!(exchanges.may_have_ended());
    exchanges.sent(b'S', OURS).expect("it follows");
    assert!(exchanges.may_have_ended());
    received(&mut exchanges, b"Z");
    assert!(!exchanges.may_have_ended());
}

#[test]
fn a_request_in_place_of_copy_data_is_the_client_s_fault() {
    let mut exchanges = copy_with_early_sync();
    assert_eq!(exchanges.sent(b'Q', Owner::Client), Err(Unexpected));
    let mut exchanges = Exchanges::default();
    sent(&mut exchanges, b"QQ");
    assert_eq!(received(&mut exchanges, b"G"), [(Owner::Client, Kind::NoData)]);
}
