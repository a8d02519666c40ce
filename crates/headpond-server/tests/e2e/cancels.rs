//! A storm of cancel requests against short statements: each hits the client that sent it, or nobody.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::pond::{LIMIT, Pond, TRANSACTION, Way, run_within, until};
use crate::raw::{Raw, VERSION_3_0, message, tags};

/// The code of a cancel request.
const CANCEL: u32 = 80_877_102;

/// How many cancel requests are sent in all; `HEADPOND_CANCELS` says otherwise.
const CANCELS: u64 = 3_000;

/// Clients that cancel, and clients that never do.
const CANCELLING: u64 = 3;
const PEACEFUL: u64 = 2;

/// Two that end at once for each that takes a moment.
const STATEMENTS: [&str; 3] = ["SELECT 1", "SELECT pg_sleep(0.001)", "SELECT 1"];

/// How many cancel requests a worker has under way at once.
const CANCELS_MAX: usize = 256;

/// What one client did and heard.
#[derive(Default)]
struct Tally {
    statements: AtomicU64,
    /// Of them, those during which no cancel request of its own was on its way.
    innocent: AtomicU64,
    ended: AtomicU64,
    /// Its cancel requests that have been begun, and those that are over.
    begun: AtomicU64,
    over: AtomicU64,
}

/// Numbers that look random (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        for shift in [13_i8, -7, 17] {
            self.0 ^= if shift > 0 { self.0 << shift } else { self.0 >> -shift };
        }
        self.0 % limit
    }
}

/// A client that is logged in, and its cancel key.
fn client(pond: &Pond) -> (Raw, Vec<u8>) {
    let mut raw = Raw::connect(pond.address());
    let welcome = raw.log_in(&pond.user);
    let key = welcome.into_iter().find(|message| message.tag == b'K').unwrap().body;
    (raw, key)
}

/// Runs statements until the storm is over. Only what a cancel of its own could have met may be ended by one.
fn run_statements(raw: &mut Raw, tally: &Tally, mut dice: Dice, over: &AtomicBool) {
    while !over.load(Ordering::SeqCst) {
        let begun = tally.begun.load(Ordering::SeqCst);
        let alone = tally.over.load(Ordering::SeqCst) == begun;
        let answer = raw.query(STATEMENTS[usize::try_from(dice.below(3)).unwrap()]);
        let innocent = alone && tally.begun.load(Ordering::SeqCst) == begun;
        let error = answer.iter().find(|message| message.tag == b'E').map(|error| error.field('C'));
        match error.as_deref() {
            None => {}
            Some("57014") => {
                assert!(
                    !innocent,
                    "a statement was ended by another client's cancel, or by one that came late"
                );
                tally.ended.fetch_add(1, Ordering::SeqCst);
            }
            Some(other) => panic!("{other}"),
        }
        tally.statements.fetch_add(1, Ordering::SeqCst);
        tally.innocent.fetch_add(innocent.into(), Ordering::SeqCst);
    }
}

/// Sends cancel requests at random moments.
fn send_cancels(address: SocketAddr, key: &[u8], count: u64, tally: &Tally, mut dice: Dice) {
    for _ in 0..count {
        // At random moments, most of them close to a statement's beginning or end.
        thread::sleep(Duration::from_micros(dice.below(6_000)));
        tally.begun.fetch_add(1, Ordering::SeqCst);
        let mut request = Raw::connect(address);
        request.send_packet(CANCEL, key);
        // Closed when the signal was sent, or when there was none to send.
        assert!(request.until_end().is_empty());
        tally.over.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn no_cancel_ends_the_statement_of_another_client_or_a_later_one() {
    let cancels = std::env::var("HEADPOND_CANCELS").map_or(CANCELS, |count| count.parse().unwrap());
    let limit = LIMIT + Duration::from_millis(20) * u32::try_from(cancels).unwrap();
    run_within(limit, async {
        let ways = ["batched", "plain"].into_iter().flat_map(|sends| [1, 2].map(|workers| (sends, workers)));
        for (sends, workers) in ways {
            let way = Way { sends, workers, ..TRANSACTION };
            let pond = Pond::new(way, "", "max_size = 2").await;
            let (begun, each) = (Instant::now(), cancels / 4 / CANCELLING);
            let tallies: Vec<Tally> = (0..CANCELLING + PEACEFUL).map(|_| Tally::default()).collect();
            let over = AtomicBool::new(false);
            thread::scope(|scope| {
                let cancelling: Vec<_> = (1..)
                    .zip(&tallies)
                    .filter_map(|(number, tally)| {
                        let ((mut raw, key), over, address) = (client(&pond), &over, pond.address());
                        scope.spawn(move || run_statements(&mut raw, tally, Dice(number), over));
                        let cancels = move || send_cancels(address, &key, each, tally, Dice(number << 32));
                        (number <= CANCELLING).then(|| scope.spawn(cancels))
                    })
                    .collect();
                let ends: Vec<_> = cancelling.into_iter().map(thread::ScopedJoinHandle::join).collect();
                over.store(true, Ordering::SeqCst);
                assert!(ends.iter().all(Result::is_ok));
            });
            let sum = |of: fn(&Tally) -> &AtomicU64| -> u64 {
                tallies.iter().map(|tally| of(tally).load(Ordering::SeqCst)).sum()
            };
            let (statements, innocent) = (sum(|tally| &tally.statements), sum(|tally| &tally.innocent));
            let (ended, sent) = (sum(|tally| &tally.ended), sum(|tally| &tally.over));
            let seconds = begun.elapsed().as_secs_f64();
            until("every cancel was counted", async || pond.snapshot().await.cancels_received == sent).await;
            let forwarded = pond.snapshot().await.cancels_forwarded;
            println!(
                "{way:?}: {sent} cancels in {seconds:.1} s, {forwarded} passed on to the server, {ended} of \
                 {statements} statements ended, {innocent} could not be"
            );
            assert!(forwarded > 0 && ended > 0 && innocent > 0, "{way:?}");
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn cancels_that_the_server_does_not_answer_are_bounded() {
    let server = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    run_within(LIMIT, async {
        let source = format!(
            "[data_source.\"*\"]\nhost = \"127.0.0.1\"\nport = {port}\ncheck = false\nserver_tls = \"disable\"\nopaque_functions = \"trust\""
        );
        let pond = Pond::of(TRANSACTION, "somebody", &format!("cancel_timeout = \"{LIMIT:?}\"\n{source}"));
        let mut raw = Raw::connect(pond.address());
        raw.send_startup(VERSION_3_0, &[("user", "somebody"), ("database", "postgres")]);
        let mut backend = accept(&server, false);
        let ready = [message(b'K', &[1; 8]), message(b'Z', b"I")].concat();
        backend.send(&[message(b'R', &[0; 4]), ready].concat());
        // The survey of its connections: it does not say.
        assert_eq!(backend.receive().unwrap().tag, b'Q');
        backend.send(&[message(b'C', b"SELECT 0\0"), message(b'Z', b"I")].concat());
        let welcome = raw.until_ready();
        let key = &welcome.iter().find(|message| message.tag == b'K').unwrap().body;
        raw.send_query("SELECT for_ever()");
        assert_eq!(backend.receive().unwrap().tag, b'Q');
        let send = || {
            let mut request = Raw::connect(pond.address());
            request.send_packet(CANCEL, key);
            request
        };
        let mut under_way = Vec::new();
        for _ in 0..CANCELS_MAX {
            let request = send();
            // Accepted by the server, and left without an answer.
            under_way.push((request, accept(&server, true)));
        }
        // One more is closed at once.
        assert!(send().until_end().is_empty());
        let requests: Vec<_> = under_way.into_iter().map(|(request, _)| request).collect();
        for mut request in requests {
            assert!(request.until_end().is_empty());
        }
        backend.send(&[message(b'C', b"SELECT 0\0"), message(b'Z', b"I")].concat());
        assert_eq!(tags(&raw.until_ready()), "CZ");
    });
}

/// A connection to a server made of bytes, with its first packet read: the next that cancels, or the next that does not.
/// Others find nobody, as the control connection does.
fn accept(server: &TcpListener, cancels: bool) -> Raw {
    loop {
        let (mut stream, _) = server.accept().unwrap();
        let mut head = [0; 8];
        stream.read_exact(&mut head).unwrap();
        let [length, code] = [&head[..4], &head[4..]].map(|n| u32::from_be_bytes(n.try_into().unwrap()));
        stream.read_exact(&mut vec![0; length as usize - 8]).unwrap();
        if (code == CANCEL) == cancels {
            return Raw::of(stream);
        }
    }
}
