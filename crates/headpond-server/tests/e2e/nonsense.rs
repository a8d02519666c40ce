//! Bytes that make no sense: one error for whoever sent them, and nobody else is disturbed.

use crate::pond::{MODES, Pond, SESSION, connect, run, value};
use crate::raw::{Raw, VERSION_3_0, message, packet};

#[test]
fn nonsense_at_the_start_is_refused_and_disturbs_nobody() {
    let random: Vec<u8> = (0..10_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let openings: [&[u8]; 11] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &[0; 64],
        &[0xff; 64],
        &random,
        // Lengths below the least and above the most that a packet may have.
        &[0, 0, 0, 4, 0, 3, 0, 0],
        &[0, 0, 0x27, 0x11, 0, 3, 0, 0],
        &packet(0x0003_0000, &[b'x'; 9_000]),
        &packet(0x0003_0000, b"\0"),
        &packet(0x0003_0000, b"user\0\0\0"),
        &packet(0x0003_0000, b"user\0x\0database"),
    ];
    run(async {
        for way in MODES {
            let pond = Pond::new(way, "", "").await;
            let other = pond.client().await;
            for opening in openings {
                let mut raw = Raw::connect(pond.address());
                raw.send(opening);
                raw.hang_up();
                let answer = raw.until_end();
                let all_fatal = answer.iter().all(|error| error.tag == b'E' && error.field('S') == "FATAL");
                assert!(answer.len() <= 1 && all_fatal, "{opening:?}: {answer:?}");
                assert_eq!(value(&other, "SELECT 1").await, "1");
            }
        }
    });
}

#[test]
fn a_nonsense_message_is_one_error_and_disturbs_nobody() {
    let nonsense: [&[u8]; 7] = [
        &message(b'?', b""),
        &message(0, b""),
        // A reply, which only servers send; a password, which nobody asked for.
        &message(b'Z', b"I"),
        &message(b'p', b"secret\0"),
        // Lengths that cannot be.
        b"Q\0\0\0\x03",
        b"Q\xff\xff\xff\xff",
        b"S\x7f\xff\xff\xff",
    ];
    run(async {
        for way in MODES {
            let pond = Pond::new(way, "", "max_size = 2").await;
            let other = pond.client().await;
            for begin in ["", "BEGIN"] {
                for bytes in nonsense {
                    let mut raw = pond.raw();
                    raw.query(begin);
                    raw.send(bytes);
                    raw.hang_up();
                    let answer = raw.until_end();
                    let errors = answer.iter().filter(|message| message.tag == b'E').count();
                    assert!(errors <= 1, "{bytes:?}: {answer:?}");
                    assert_eq!(value(&other, "SELECT 1").await, "1", "{bytes:?}");
                }
            }
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn a_message_that_only_the_server_can_judge_is_judged_by_it() {
    let odd: [&[u8]; 5] = [
        &message(b'Q', b"no end"),
        &message(b'B', b"\0no such statement\0\0\0\0\0\0\0"),
        &message(b'E', b"no such portal\0\0\0\0\0"),
        &message(b'D', b"?x\0"),
        &message(b'F', b"\0"),
    ];
    run(async {
        for way in MODES {
            let pond = Pond::new(way, "", "max_size = 1").await;
            for bytes in odd {
                let mut raw = pond.raw();
                raw.send(bytes);
                raw.send(&message(b'S', b""));
                let answer = raw.until_ready();
                assert_eq!(
                    answer.iter().filter(|message| message.tag == b'E').count(),
                    1,
                    "{bytes:?}: {answer:?}"
                );
                drop(raw);
                assert_eq!(value(&pond.client().await, "SELECT 1").await, "1", "{bytes:?}");
            }
            pond.assert_in_step().await;
        }
    });
}

#[test]
fn who_sends_too_much_or_too_slowly_before_it_is_in_is_told_and_closed() {
    let startup = packet(VERSION_3_0, b"user\0ann\0database\0postgres\0\0");
    let answer = |size: usize| [&startup[..], &message(b'p', &vec![b'x'; size])].concat();
    // What is sent, and the code of the error; the connection is never hung up from this side.
    let openings: [(&[u8], &str); 9] = [
        // A packet may have 10,000 bytes; that it is larger shows in its first four.
        (&10_001_u32.to_be_bytes(), "08P01"),
        (&[0x7f, 0xff, 0xff, 0xff], "08P01"),
        // An answer may have 2,100; that it is larger shows in its header.
        (&answer(2_100)[..startup.len() + 5], "08P01"),
        (&[&startup[..], b"p\x7f\xff\xff\xff"].concat(), "08P01"),
        (&[&startup[..], b"p\0\0\0\x03"].concat(), "08P01"),
        (&[&startup[..], &message(b'Q', b"SELECT 1\0")].concat(), "08P01"),
        // As large as it may be, but wrong.
        (&answer(2_000), "28P01"),
        // Not all of it ever comes.
        (&startup[..20], "08006"),
        (&answer(2_000)[..startup.len() + 100], "08006"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let users = "\"ann\" \"secret\"\n\"postgres\" \"top\"";
    std::fs::write(folder.path().join("users"), users).unwrap();
    let server = &crate::database::database().server;
    run(async {
        for method in ["password", "md5", "scram-sha-256"] {
            let text = format!(
                "auth_type = \"{method}\"\nauth_file = \"users\"\nclient_login_timeout = \"300ms\"
                 [data_source.\"*\"]\nhost = \"{}\"\nport = {}",
                server.host(),
                server.port()
            );
            let pond = Pond::within(folder.path(), SESSION, "postgres", &text);
            let other = connect(pond.login().password("top")).await;
            for (opening, code) in openings {
                let mut raw = Raw::connect(pond.address());
                raw.send(opening);
                let errors = raw.until_end().into_iter().filter(|message| message.tag == b'E');
                let codes: Vec<_> = errors.map(|error| error.field('C')).collect();
                assert_eq!(codes, [code], "{method}: {opening:?}");
                assert_eq!(value(&other, "SELECT 1").await, "1");
            }
        }
    });
}
