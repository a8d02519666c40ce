//! Readers of bytes: frames, first packets, what servers say, proofs.

use headpond_pooler::config::{AuthMethod, Secret, User, Users};
use headpond_pooler::{ANSWER_MAX, Outcome, Proof};
use headpond_wire::postgres::backend::{Authentication, ErrorFields};
use headpond_wire::postgres::frame::{self, Fields, HEADER, Next, WHOLE_MAX};
use headpond_wire::postgres::md5::Md5Secret;
use headpond_wire::postgres::scram::{Binding, ClientKeys, ClientRole, ServerRole, StoredSecret};
use headpond_wire::postgres::startup::{self, KEY_MAX, PACKET_MAX, Packet};
use headpond_wire::postgres::{encode, frontend};

/// What a message is does not depend on how much of it has come, and no frame is lost or made up.
pub(crate) fn frame(input: &[u8]) {
    let mut rest = input;
    loop {
        let next = frame::next(rest);
        for part in [HEADER - 1, HEADER, rest.len() / 2, rest.len().saturating_sub(1)] {
            let Some(part) = rest.get(..part) else { continue };
            match (frame::next(part), next) {
                (Ok(Next::More), Ok(Next::Whole(header) | Next::Begun(header))) => {
                    assert!(part.len() < header.size);
                }
                (Ok(Next::Begun(begun)), Ok(Next::Whole(whole) | Next::Begun(whole))) => {
                    assert_eq!(begun, whole)
                }
                (Ok(Next::More), Ok(Next::More)) => {}
                (Ok(Next::More), Err(_)) => assert!(part.len() < HEADER),
                (before, after) => assert_eq!(before, after),
            }
        }
        match next {
            Ok(Next::Whole(header)) => {
                assert!(header.size >= HEADER && header.tag == rest[0]);
                rest = &rest[header.size..];
            }
            Ok(Next::Begun(header)) => return assert!(header.size > rest.len() && header.size > WHOLE_MAX),
            Ok(Next::More) => return assert!(rest.len() < WHOLE_MAX),
            Err(bad) => return assert!(bad.0 < 4 || bad.0 > 0x7fff_ffff),
        }
    }
}

/// A packet lies within the bytes, and one of ours is read as it was written.
pub(crate) fn startup(input: &[u8]) {
    let Ok(read) = startup::packet(input) else { return };
    let Some((packet, size)) = read else { return assert!(input.len() < PACKET_MAX) };
    assert!((8..=PACKET_MAX.min(input.len())).contains(&size));
    let mut written = Vec::new();
    match &packet {
        Packet::Ssl | Packet::GssEnc => return,
        Packet::Cancel { process, key } => {
            assert!((1..=KEY_MAX).contains(&key.len()));
            startup::encode_cancel(&mut written, *process, key);
        }
        Packet::Startup(startup) => startup::encode(&mut written, startup.parameters.iter().copied()),
    }
    let again = startup::packet(&written).expect("our own packet").expect("a whole one");
    match (again.0, packet) {
        // Its version is ours.
        (Packet::Startup(again), Packet::Startup(packet)) => assert_eq!(again.parameters, packet.parameters),
        (again, packet) => assert_eq!((again, written.len()), (packet, size)),
    }
}

/// Fields are parts of the body; an error survives being read and written again.
pub(crate) fn backend(input: &[u8]) {
    let within = |part: &[u8]| assert!(part.len() <= input.len());
    match Authentication::read(input) {
        Some(Authentication::Sasl(list)) => {
            within(list);
            let named = list.windows(7).any(|part| part == b"SCRAM-X");
            assert!(!Authentication::offers(list, "SCRAM-X") || named);
        }
        Some(Authentication::SaslContinue(data) | Authentication::SaslFinal(data)) => within(data),
        Some(_) => {}
        None => assert!(input.len() < 8),
    }
    let error = ErrorFields::read(input);
    let mut written = Vec::new();
    let report = encode::Report::new(encode::Severity::Error, &error.sqlstate, &error.message);
    encode::error_response(&mut written, &report);
    let size = frame::header(&written).expect("our own message").expect("a whole one").size;
    assert_eq!(size, written.len());
    let again = ErrorFields::read(&written[HEADER..]);
    assert_eq!((&again.sqlstate, &again.message), (&error.sqlstate, &error.message));
    let mut fields = Fields(input);
    while let Some(string) = fields.string() {
        assert!(!string.contains(&0));
    }
    assert!(!fields.0.contains(&0));
}

const NONCE: &str = "fyko+d2lbbFgONRv9qkxdawL";

/// The input is one of the three messages that a peer sends, chosen by its first byte: no nonsense lets anybody in.
pub(crate) fn scram(input: &[u8]) {
    let Some((choice, message)) = input.split_first() else { return };
    let keys = ClientKeys { client_key: [1; 32], server_key: [2; 32] };
    let secret =
        StoredSecret { iterations: 1, salt: b"salt".to_vec(), stored_key: [3; 32], server_key: [2; 32] };
    let first = format!("n,,n=,r={NONCE}");
    match choice % 4 {
        0 => {
            let binding =
                [Binding::None, Binding::Declined, Binding::EndPoint(b"hash")][usize::from(choice / 4) % 3];
            let Ok((role, answer)) = ServerRole::first_bound(message, NONCE, &secret, binding) else {
                return;
            };
            assert!(answer.starts_with(b"r="));
            let flag = [&b"ny"[..], b"n", b"p"][usize::from(choice / 4) % 3];
            assert!(flag.contains(&message[0]), "a binding that is not what it should be");
            let wrong = format!("c=biws,r={NONCE}{NONCE},p={}", "A".repeat(43));
            assert!(role.finish(wrong.as_bytes()).is_err());
        }
        1 => {
            let (role, _) = ServerRole::first(first.as_bytes(), NONCE, &secret).expect("a good message");
            assert!(role.finish(message).is_err(), "nobody knows this secret");
        }
        2 => {
            let Ok(challenge) = ClientRole::new(NONCE).0.challenge(message) else { return };
            assert!(!challenge.salt.is_empty() && challenge.iterations > 0);
            let (proof, verifier) = challenge.respond(&keys);
            assert!(proof.starts_with(b"c=biws,r=fyko") && verifier.verify(b"v=").is_err());
        }
        _ => {
            let challenge = format!("r={NONCE}{NONCE},s=c2FsdA==,i=1");
            let challenge = ClientRole::new(NONCE).0.challenge(challenge.as_bytes()).expect("a good message");
            let (_, verifier) = challenge.respond(&keys);
            assert!(verifier.verify(message).is_err() || message.starts_with(b"v="));
        }
    }
}

/// A stored secret that was understood is written as one that is understood alike.
pub(crate) fn secrets(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(secret) = text.parse::<StoredSecret>() {
        assert_eq!(secret.to_string().parse(), Ok(secret));
    }
    if let Ok(secret) = text.parse::<Md5Secret>() {
        assert_eq!(text.len(), 35);
        assert!(bool::from(secret.is_answered_by([1; 4], secret.answer([1; 4]).as_bytes())));
        assert!(!bool::from(secret.is_answered_by([1; 4], input)));
    }
    let derived = Md5Secret::derive(input, "ann");
    assert!(!bool::from(derived.is_answered_by([1; 4], input)));
}

/// Two messages, divided at the first 0xfe, for a method that the first byte chooses: only the right password lets in.
pub(crate) fn proof(input: &[u8]) {
    let Some((choice, messages)) = input.split_first() else { return };
    let method = [AuthMethod::Password, AuthMethod::Md5, AuthMethod::ScramSha256][usize::from(*choice) % 3];
    let name = ["ann", "bob", "nobody"][usize::from(choice / 3) % 3];
    let mut users = Users::default();
    let md5 = |name| Some(Md5Secret::derive(b"secret", name));
    let scram = Some(StoredSecret {
        iterations: 1,
        salt: b"salt".to_vec(),
        stored_key: [3; 32],
        server_key: [2; 32],
    });
    let password = Some(Secret("secret".to_owned()));
    users.insert("ann".to_owned(), User { password, md5: md5("ann"), scram: scram.clone() });
    users.insert("bob".to_owned(), User { password: None, md5: None, scram });
    // In clear, or in TLS.
    let end_point = (choice & 128 != 0).then_some(&[7; 32][..]);
    let mut out = Vec::new();
    let mut proof = Proof::begin(method, &users, name, b"seed", [7; 18], end_point, &mut out)
        .expect("not everybody is trusted");
    for message in messages.split(|byte| *byte == 0xfe).take(3) {
        if message.len() > ANSWER_MAX || !proof.awaits_answer() {
            return;
        }
        match proof.answered(message, &mut out) {
            Outcome::Asked => {}
            Outcome::Proven(_) => {
                assert_eq!(name, "ann");
                return assert!(method != AuthMethod::Password || message == b"secret\0");
            }
            Outcome::Derive { iterations, .. } => {
                assert!(iterations > 0 && !proof.awaits_answer());
                let keys = ClientKeys { client_key: [1; 32], server_key: [2; 32] };
                return assert!(matches!(proof.derived(&keys), Outcome::Failed));
            }
            Outcome::Failed => return assert!(!proof.awaits_answer()),
        }
    }
}

/// What is read of a certificate lies within it, whatever it is.
pub(crate) fn certificate(input: &[u8]) {
    headpond_server::fuzzing::certificate(input);
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

pub(crate) fn frame_seeds() -> Vec<Vec<u8>> {
    vec![
        written(|out| {
            frontend::query(out, "select 1");
            frontend::sync(out);
            encode::ready_for_query(out, b'I');
        }),
        [&b"D\0\x01\0\x10"[..], &[b'x'; 40]].concat(),
        [&b"d\0\0\xff\xff"[..], &[0; 65_531]].concat(),
        b"S\0\0\0\x03".to_vec(),
    ]
}

pub(crate) fn startup_seeds() -> Vec<Vec<u8>> {
    let words = [("user", "ann"), ("database", "shop"), ("options", "-c search_path=a")];
    vec![
        written(|out| startup::encode(out, words.into_iter())),
        written(|out| startup::encode_cancel(out, 7, &[1, 2, 3, 4])),
        vec![0, 0, 0, 8, 4, 210, 22, 47],
        vec![0, 0, 0, 8, 4, 210, 22, 48],
        b"\0\0\0\x1c\0\x03\0\x02user\0ann\0_pq_.x\0y\0\0".to_vec(),
    ]
}

pub(crate) fn backend_seeds() -> Vec<Vec<u8>> {
    let body = |write: fn(&mut Vec<u8>)| written(write).split_off(HEADER);
    let failed = encode::Report::new(encode::Severity::Fatal, "57P01", "terminating connection").hint("wait");
    vec![
        body(encode::authentication_ok),
        body(|out| encode::authentication_md5_password(out, [1, 2, 3, 4])),
        body(|out| encode::authentication_sasl(out, &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])),
        body(|out| encode::authentication_sasl_continue(out, b"r=a,s=b,i=1")),
        body(|out| encode::parameter_status(out, "server_version", "17.0")),
        body(|out| encode::data_row(out, [Some("97")].into_iter())),
        written(|out| encode::error_response(out, &failed)).split_off(HEADER),
    ]
}

pub(crate) fn scram_seeds() -> Vec<Vec<u8>> {
    let end = "A".repeat(43);
    vec![
        format!("\0n,,n=,r={NONCE}").into_bytes(),
        format!("\0y,,n=ann,r={NONCE},x=extension").into_bytes(),
        format!("\x04y,,n=,r={NONCE}").into_bytes(),
        format!("\x08p=tls-server-end-point,,n=,r={NONCE}").into_bytes(),
        format!("\x01c=biws,r={NONCE}{NONCE},p={end}=").into_bytes(),
        format!("\x02r={NONCE}more,s=c2FsdA==,i=4096").into_bytes(),
        format!("\x03v={end}=").into_bytes(),
        b"\x03e=invalid-proof".to_vec(),
    ]
}

pub(crate) fn secret_seeds() -> Vec<Vec<u8>> {
    let key = "A".repeat(43);
    vec![
        format!("SCRAM-SHA-256$4096:c2FsdA==${key}=:{key}=").into_bytes(),
        b"md50123456789abcdef0123456789abcdef".to_vec(),
        b"secret".to_vec(),
    ]
}

pub(crate) fn proof_seeds() -> Vec<Vec<u8>> {
    let first = format!("n,,n=,r={NONCE}");
    let initial = [&b"SCRAM-SHA-256\0\0\0\0\x20"[..], first.as_bytes()].concat();
    let last = format!("c=biws,r={NONCE}BwcHBwcHBwcHBwcHBwcHBwcHBwcH,p={}=", "A".repeat(43));
    let bound = format!("p=tls-server-end-point,,n=,r={NONCE}");
    let length = u8::try_from(bound.len()).unwrap_or(0);
    let bound = [&b"\x82SCRAM-SHA-256-PLUS\0\0\0\0"[..], &[length], bound.as_bytes()].concat();
    let scram = |choice: u8| [&[choice], &initial[..], &[0xfe], last.as_bytes()].concat();
    vec![
        b"\0secret\0".to_vec(),
        b"\x03secret\0".to_vec(),
        b"\x01md50123\0".to_vec(),
        bound,
        scram(2),
        scram(4),
        scram(5),
    ]
}

pub(crate) fn lookup_seeds() -> Vec<Vec<u8>> {
    let key = "A".repeat(43);
    let scram = format!("SCRAM-SHA-256$4096:c2FsdA==${key}=:{key}=");
    let secrets = [None, Some("secret"), Some("md50123456789abcdef0123456789abcdef"), Some(&*scram)];
    let rows = secrets.map(|secret| {
        let row = written(|out| encode::data_row(out, [Some("ann"), secret].into_iter()));
        [&[2], &row[HEADER..]].concat()
    });
    let in_clear = [&[0], &rows[1][1..]].concat();
    rows.into_iter().chain([in_clear]).collect()
}

pub(crate) fn certificate_seeds() -> Vec<Vec<u8>> {
    vec![include_bytes!("../seeds/certificate.der").to_vec()]
}

pub(crate) fn exchange_seeds() -> Vec<Vec<u8>> {
    vec![
        b"\0Q\x03T\0\x03C\0\x03ZI".to_vec(),
        b"\x02\0\x03C\0\x03ZT\0P\0B\0D\0E\0S\x031\0\x032\0\x03T\0\x03D\0\x03C\0\x03ZI".to_vec(),
        b"\0Q\x03G\0\0d\0c\x03C\0\x03ZI".to_vec(),
        b"\0P\0B\0E\0S\x031\0\x032\0\x03G\0\0d\0c\0S\x03C\0\x03ZE".to_vec(),
        b"\0P\x03E\0\0B\0E\0S\x03ZI\0F\x03V\0\x03ZI".to_vec(),
        b"\x80Qcommit;\x03C\0\x03ZI\0E\0S\x03s\0\x03ZT".to_vec(),
    ]
}
