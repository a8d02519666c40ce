//! A client whose user is looked up, and a connection that breaks, or talks nonsense, at every byte of it: nobody comes in by
//! that, and afterwards everybody is served.

use std::time::Duration;

use headpond_pooler::Link;
use headpond_pooler::config::{AuthMethod, PoolMode, PoolerConfig};
use headpond_testkit::{Stage, config, hello};
use headpond_wire::postgres::encode::{self, Column, ColumnType, Report, Severity};

/// What a client hears that is in.
const AUTHENTICATION_OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";

/// What a client hears that is asked by SCRAM.
const QUESTION: &[u8] = b"\0\0\0\x0aSCRAM-SHA-256\0\0";

const SECRET: &str = "SCRAM-SHA-256$1:c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// `zoe` is not listed: `ann` asks for her.
fn looks_up(mode: PoolMode) -> PoolerConfig {
    let mut config = config(mode, AuthMethod::Md5, 2);
    config.data_sources[0].lookup.user = Some("ann".to_owned());
    config
}

/// Zoe has come, and the connection on which she is looked up is there.
fn begin(mode: PoolMode) -> (Stage, Link, Link) {
    let mut stage = Stage::new(looks_up(mode));
    let zoe = stage.comes();
    stage.says(zoe, &hello("zoe"));
    let server = stage.servers()[0];
    stage.connects(server);
    (stage, zoe, server)
}

fn rows(rows: &[[Option<&str>; 2]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::parse_complete(&mut bytes);
    encode::bind_complete(&mut bytes);
    for row in rows {
        encode::data_row(&mut bytes, row.iter().map(|value| value.map(str::as_bytes)));
    }
    encode::command_complete(&mut bytes, "SELECT 1");
    encode::ready_for_query(&mut bytes, b'I');
    bytes
}

/// What the server says: at the login, when it is asked for its size, when it is tested, and when it is asked for Zoe.
fn conversation(answer: &[[Option<&str>; 2]]) -> [Vec<u8>; 4] {
    let (mut login, mut size, mut test) = (Vec::new(), Vec::new(), Vec::new());
    encode::authentication_ok(&mut login);
    encode::parameter_status(&mut login, "server_version", "17.0");
    encode::backend_key_data(&mut login, 42, &[1; 4]);
    encode::ready_for_query(&mut login, b'I');
    let column = Column { name: "size", of: ColumnType::Text, binary: false };
    encode::row_description(&mut size, [column].into_iter());
    encode::data_row(&mut size, [Some(&b"97"[..])].into_iter());
    encode::command_complete(&mut size, "SELECT 1");
    encode::ready_for_query(&mut size, b'I');
    encode::empty_query_response(&mut test);
    encode::ready_for_query(&mut test, b'I');
    [login, size, test, rows(answer)]
}

fn is_asked(stage: &Stage, client: Link) -> bool {
    stage.peek(client).windows(QUESTION.len()).any(|part| part == QUESTION)
}

fn is_in(stage: &Stage, client: Link) -> bool {
    stage.peek(client).windows(AUTHENTICATION_OK.len()).any(|part| part == AUTHENTICATION_OK)
}

#[test]
fn only_the_name_goes_to_the_server_and_only_with_pg_catalog() {
    for mode in [PoolMode::Session, PoolMode::Transaction] {
        let mut stage = Stage::new(looks_up(mode));
        let zoe = stage.comes();
        let mut hello = Vec::new();
        let parameters =
            [("user", "zoe"), ("database", "shop"), ("search_path", "evil"), ("options", "-c role=evil")];
        headpond_wire::postgres::startup::encode(&mut hello, parameters.into_iter());
        stage.says(zoe, &hello);
        let server = stage.servers()[0];
        stage.connects(server);
        let mut heard = stage.takes(server);
        for says in conversation(&[[Some("zoe"), Some(SECRET)]]) {
            stage.says(server, &says);
            heard.extend(stage.takes(server));
        }
        let heard = String::from_utf8_lossy(&heard);
        assert!(heard.contains("search_path\0pg_catalog\0") && heard.contains("user\0ann\0"), "{heard:?}");
        assert!(heard.contains("\0\0\0\x03zoe") && !heard.contains("evil"), "{heard:?}");
        assert!(is_asked(&stage, zoe) && !is_in(&stage, zoe));
    }
}

#[test]
fn a_connection_that_ends_at_any_byte_lets_nobody_in_and_everybody_is_served_then() {
    let conversation = conversation(&[[Some("zoe"), Some(SECRET)]]);
    for mode in [PoolMode::Session, PoolMode::Transaction] {
        for (step, says) in conversation.iter().enumerate() {
            for cut in 0..says.len() {
                for breaks in [true, false] {
                    let (mut stage, zoe, server) = begin(mode);
                    conversation[..step].iter().for_each(|whole| stage.says(server, whole));
                    stage.says(server, &says[..cut]);
                    if breaks {
                        stage.breaks(server)
                    } else {
                        stage.leaves(server)
                    }
                    assert!(!is_in(&stage, zoe) && !is_asked(&stage, zoe), "{mode:?} {step} {cut}");
                    stage.is_well_at_last();
                }
            }
        }
    }
}

#[test]
fn a_byte_that_is_changed_lets_nobody_in_and_everybody_is_served_then() {
    let conversation = conversation(&[[Some("zoe"), Some(SECRET)]]);
    for (step, says) in conversation.iter().enumerate() {
        for place in 0..says.len() {
            for change in [0x01, 0x20, 0xff] {
                let (mut stage, zoe, server) = begin(PoolMode::Transaction);
                conversation[..step].iter().for_each(|whole| stage.says(server, whole));
                let mut spoiled = says.clone();
                spoiled[place] ^= change;
                stage.says(server, &spoiled);
                conversation[step + 1..].iter().for_each(|whole| stage.says(server, whole));
                assert!(!is_in(&stage, zoe), "{step} {place} {change}");
                stage.is_well_at_last();
            }
        }
    }
}

#[test]
fn a_client_that_leaves_while_it_is_looked_up_costs_the_next_one_nothing() {
    let conversation = conversation(&[[Some("zoe"), Some(SECRET)]]);
    for step in 0..=conversation.len() {
        for breaks in [true, false] {
            let (mut stage, zoe, server) = begin(PoolMode::Session);
            conversation[..step].iter().for_each(|whole| stage.says(server, whole));
            if breaks {
                stage.breaks(zoe)
            } else {
                stage.leaves(zoe)
            }
            // The question goes out when the connection is ready, if somebody is still to be asked for.
            let asked = if step == 3 { 4 } else { 3 };
            conversation[step.min(asked)..asked].iter().for_each(|whole| stage.says(server, whole));
            let next = stage.comes();
            stage.says(next, &hello("zoe"));
            // She was found for the first one, or is asked for again on the same connection.
            if !is_asked(&stage, next) {
                stage.says(server, &conversation[3]);
            }
            assert!(is_asked(&stage, next), "{step} {breaks}");
            stage.is_well_at_last();
        }
    }
}

#[test]
fn an_answer_that_is_not_one_row_of_the_name_is_nobody() {
    let zoe: [Option<&str>; 2] = [Some("zoe"), Some(SECRET)];
    for (answer, known) in [
        (&[zoe][..], true),
        (&[][..], false),
        (&[zoe, zoe][..], false),
        (&[[Some("ann"), Some(SECRET)]][..], false),
        (&[[None, Some(SECRET)]][..], false),
        (&[[Some("zoe"), None]][..], false),
    ] {
        // The question is the same for whoever is known and whoever is not: only her own secret has this salt.
        let (mut stage, client, server) = begin(PoolMode::Transaction);
        conversation(answer).iter().for_each(|whole| stage.says(server, whole));
        assert!(is_asked(&stage, client));
        drop(stage.takes(client));
        let mut first = Vec::new();
        headpond_wire::postgres::frontend::sasl_initial_response(
            &mut first,
            "SCRAM-SHA-256",
            b"n,,n=,r=fyko+d2lbbFgONRv9qkxdawL",
        );
        stage.says(client, &first);
        let challenge = String::from_utf8_lossy(stage.peek(client)).into_owned();
        assert_eq!(challenge.contains("s=c2FsdA==,i=1"), known, "{challenge}");
        stage.is_well_at_last();
    }
}

#[test]
fn databases_that_strangers_make_up_do_not_pile_up() {
    let mut config = looks_up(PoolMode::Transaction);
    config.data_sources[0].name = "*".to_owned();
    let mut stage = Stage::new(config);
    let pools = |stage: &mut Stage| {
        let mut pools = 0;
        stage.operates(|pooler, now, _| pools = pooler.snapshot(now, false).pools.len());
        pools
    };
    for number in 0..300 {
        let client = stage.comes();
        let mut hello = Vec::new();
        let (user, database) = (format!("user{number}"), format!("database{number}"));
        let wants = [("user", &*user), ("database", &*database)];
        headpond_wire::postgres::startup::encode(&mut hello, wants.into_iter());
        stage.says(client, &hello);
        for server in stage.servers() {
            stage.breaks(server);
        }
        stage.breaks(client);
        assert!(pools(&mut stage) <= 64, "{number}");
    }
    stage.is_well_at_last();
}

#[test]
fn a_question_without_an_answer_ends_with_the_time_out_of_connections() {
    let (mut stage, zoe, server) = begin(PoolMode::Session);
    conversation(&[])[..3].iter().for_each(|whole| stage.says(server, whole));
    assert!(!stage.is_closed(zoe));
    stage.passes(Duration::from_secs(16));
    assert!(stage.is_closed(zoe) && !is_in(&stage, zoe));
    let (mut stage, zoe, server) = begin(PoolMode::Session);
    conversation(&[])[..3].iter().for_each(|whole| stage.says(server, whole));
    let mut refuses = Vec::new();
    encode::error_response(&mut refuses, &Report::new(Severity::Error, "42883", "no such function"));
    encode::ready_for_query(&mut refuses, b'I');
    stage.says(server, &refuses);
    assert!(stage.is_closed(zoe) && !is_in(&stage, zoe));
    stage.is_well_at_last();
}
