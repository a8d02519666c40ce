//! Both roles against the RFC, against each other, against PostgreSQL's secrets and against hostile bytes.

use std::cell::Cell;
use std::ops::RangeInclusive;

use super::*;

/// RFC 7677 section 3.
mod rfc {
    pub(super) const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    pub(super) const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    pub(super) const SALT: &[u8] = &[91, 109, 153, 104, 157, 18, 53, 142, 236, 160, 75, 20, 18, 54, 250, 129];
    pub(super) const CLIENT_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    pub(super) const SERVER_FIRST: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    pub(super) const CLIENT_FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    pub(super) const SERVER_FINAL: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
}

#[test]
fn server_role_speaks_the_rfc_7677_exchange() {
    let secret = StoredSecret::derive("pencil", rfc::SALT, 4096);
    let (server, server_first) = ServerRole::first(rfc::CLIENT_FIRST, rfc::SERVER_NONCE, &secret).unwrap();
    assert_eq!(server_first, rfc::SERVER_FIRST);
    let finished = server.finish(rfc::CLIENT_FINAL).unwrap();
    assert_eq!(finished.message, rfc::SERVER_FINAL);
    assert_eq!(finished.keys.client_key, ClientKeys::derive("pencil", rfc::SALT, 4096).client_key);
}

#[test]
fn client_role_speaks_the_rfc_7677_exchange() {
    let (client, client_first) = ClientRole::with_user("user", rfc::CLIENT_NONCE, Binding::None);
    assert_eq!(client_first, rfc::CLIENT_FIRST);
    let challenge = client.challenge(rfc::SERVER_FIRST).unwrap();
    assert_eq!((challenge.salt.as_slice(), challenge.iterations), (rfc::SALT, 4096));
    let keys = ClientKeys::derive("pencil", &challenge.salt, challenge.iterations);
    let (client_final, verifier) = challenge.respond(&keys);
    assert_eq!(client_final, rfc::CLIENT_FINAL);
    assert_eq!(verifier.verify(rfc::SERVER_FINAL), Ok(()));
}

/// One bound login: what each side thinks of the channel.
fn bound_login(client: Binding<'_>, server: Binding<'_>) -> Result<(), Error> {
    let secret = StoredSecret::derive("pencil", b"salt", 1);
    let keys = ClientKeys::derive("pencil", b"salt", 1);
    let (client, message) = ClientRole::bound("abc", client);
    let (server, message) = ServerRole::first_bound(&message, "def", &secret, server)?;
    let (message, verifier) = client.challenge(&message)?.respond(&keys);
    verifier.verify(&server.finish(&message)?.message)
}

#[test]
fn both_sides_see_the_same_channel_or_there_is_no_login() {
    use Binding::{Declined, EndPoint, None};
    let (ours, theirs) = (EndPoint(b"ours"), EndPoint(b"theirs"));
    let outcomes = [
        (None, None, Ok(())),
        (None, Declined, Ok(())),
        (None, ours, Err(Error::ChannelBindingMissing)),
        (Declined, None, Ok(())),
        (Declined, Declined, Err(Error::ChannelBindingDowngraded)),
        (Declined, ours, Err(Error::ChannelBindingMissing)),
        (ours, None, Err(Error::ChannelBindingRequested)),
        (ours, Declined, Err(Error::ChannelBindingRequested)),
        (ours, ours, Ok(())),
        (ours, theirs, Err(Error::ChannelBindingMismatch)),
    ];
    for (client, server, outcome) in outcomes {
        assert_eq!(bound_login(client, server), outcome, "{client:?} {server:?}");
    }
}

#[test]
fn a_binding_of_another_kind_is_refused() {
    let secret = StoredSecret::derive("pencil", b"salt", 1);
    for kind in ["tls-unique", "tls-exporter", "", "tls-server-end-point2"] {
        let first = format!("p={kind},,n=,r=abc");
        let answer = ServerRole::first_bound(first.as_bytes(), "def", &secret, Binding::EndPoint(b"ours"));
        assert_eq!(answer.map(|_| ()), Err(Error::ChannelBindingType));
    }
}

/// One login through `tamper`, which may change the message of each step `0..4` on its way.
fn login(
    keys: &ClientKeys,
    secret: &StoredSecret,
    nonces: [&str; 2],
    tamper: impl Fn(usize, &mut Vec<u8>),
) -> Result<ClientKeys, Error> {
    let (client, mut message) = ClientRole::new(nonces[0]);
    tamper(0, &mut message);
    let (server, mut message) = ServerRole::first(&message, nonces[1], secret)?;
    tamper(1, &mut message);
    let (mut message, verifier) = client.challenge(&message)?.respond(keys);
    tamper(2, &mut message);
    let mut finished = server.finish(&message)?;
    tamper(3, &mut finished.message);
    verifier.verify(&finished.message)?;
    Ok(finished.keys)
}

fn honest(_: usize, _: &mut Vec<u8>) {}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    fn nonce(&mut self) -> String {
        let graphic: Vec<char> = ('!'..='~').filter(|&c| c != ',').collect();
        (0..1 + self.below(60)).map(|_| graphic[self.below(graphic.len())]).collect()
    }

    fn password(&mut self) -> String {
        let alphabet: Vec<char> = "aZ09 ,=$:'\u{7}äßéⅨªا\u{ad}\u{a0}\u{340}漢🦀".chars().collect();
        (0..1 + self.below(20)).map(|_| alphabet[self.below(alphabet.len())]).collect()
    }
}

#[test]
fn any_password_logs_in_and_only_that_one() {
    let mut random = Random(1);
    for _ in 0..500 {
        let (password, nonces) = (random.password(), [random.nonce(), random.nonce()]);
        let nonces = [nonces[0].as_str(), nonces[1].as_str()];
        let salt: Vec<u8> = (0..1 + random.below(40)).map(|_| random.below(256) as u8).collect();
        let iterations = 1 + random.below(20) as u32;
        let secret = StoredSecret::derive(&password, &salt, iterations);

        let keys = ClientKeys::derive(&password, &salt, iterations);
        assert!(login(&keys, &secret, nonces, honest).is_ok(), "{password:?}");

        let keys = ClientKeys::derive(&format!("{password}x"), &salt, iterations);
        assert_eq!(login(&keys, &secret, nonces, honest).unwrap_err(), Error::WrongProof, "{password:?}");
    }
}

#[test]
fn keys_of_a_good_login_open_servers_with_the_same_secret_and_no_other() {
    let secret = StoredSecret::derive("pencil", b"salt", 10);
    let typed = ClientKeys::derive("pencil", b"salt", 10);
    let seen = login(&typed, &secret, ["a", "b"], honest).unwrap();
    assert!(login(&seen, &secret, ["c", "d"], honest).is_ok());

    let salted_anew = StoredSecret::derive("pencil", b"pepper", 10);
    assert_eq!(login(&seen, &salted_anew, ["c", "d"], honest).unwrap_err(), Error::WrongProof);
}

#[test]
fn server_that_does_not_know_the_secret_is_found_out() {
    let secret = StoredSecret::derive("pencil", b"salt", 10);
    let keys = ClientKeys::derive("pencil", b"salt", 10);
    let ignorant = StoredSecret { server_key: [7; 32], ..secret };
    let refused = login(&keys, &ignorant, ["a", "b"], honest).unwrap_err();
    assert_eq!(refused, Error::WrongServerSignature);
}

/// Changes every message at every place in every way `variants` names, and expects no login.
fn check_tampering(variants: RangeInclusive<u8>, change: impl Fn(&mut Vec<u8>, usize, u8)) {
    let secret = StoredSecret::derive("pencil", b"0123456789abcdef", 1);
    let keys = ClientKeys::derive("pencil", b"0123456789abcdef", 1);
    let try_login =
        |tamper: &dyn Fn(usize, &mut Vec<u8>)| login(&keys, &secret, ["client", "server"], tamper);
    let lengths = std::array::from_fn::<_, 4, _>(|_| Cell::new(0));
    assert!(try_login(&|step, message| lengths[step].set(message.len())).is_ok());

    for (step, length) in lengths.iter().enumerate() {
        for place in 0..length.get() {
            for variant in variants.clone() {
                let refused = try_login(&|at, message| {
                    if at == step {
                        let before = message.clone();
                        change(message, place, variant);
                        assert_ne!(*message, before);
                    }
                });
                assert!(refused.is_err(), "step {step}, place {place}, variant {variant}");
            }
        }
    }
}

#[test]
fn no_login_survives_a_changed_byte() {
    check_tampering(1..=255, |message, place, variant| message[place] ^= variant);
}

#[test]
fn no_login_survives_an_inserted_byte() {
    check_tampering(0..=255, |message, place, variant| message.insert(place + 1, variant));
}

#[test]
fn no_login_survives_a_removed_byte_or_a_cut() {
    check_tampering(0..=0, |message, place, _| _ = message.remove(place));
    check_tampering(0..=0, |message, place, _| message.truncate(place));
}

#[test]
fn no_soup_of_attributes_panics_or_logs_in() {
    let secret = StoredSecret::derive("pencil", b"salt", 1);
    let fragments = [
        "n,", "y,", "p=", ",", "=", "n=", "r=", "a", "b", "s=", "AA==", "i=", "1", "c=biws", "v=", "e=",
        "m=", "\0", "é",
    ];
    let mut random = Random(2);
    for _ in 0..20_000 {
        let mut soup = || {
            (0..random.below(12))
                .map(|_| fragments[random.below(fragments.len())])
                .collect::<String>()
                .into_bytes()
        };
        let _ = ServerRole::first(&soup(), "server", &secret);
        let (server, _) = ServerRole::first(b"n,,n=,r=a", "b", &secret).unwrap();
        assert!(server.finish(&soup()).is_err());
        let keys = ClientKeys { client_key: [1; 32], server_key: [2; 32] };
        if let Ok(challenge) = ClientRole::new("a").0.challenge(&soup()) {
            let (_, verifier) = challenge.respond(&keys);
            assert!(verifier.verify(&soup()).is_err());
        }
    }
}

#[test]
fn client_first_is_answered_or_refused_for_its_reason() {
    let secret = StoredSecret::derive("pencil", b"salt", 1);
    let check = |message: &str, expected: Result<(), Error>| {
        let answer = ServerRole::first(message.as_bytes(), "server", &secret).map(|_| ());
        assert_eq!(answer, expected, "{message:?}");
    };
    check("n,,n=,r=abc", Ok(()));
    check("y,,n=*,r=abc", Ok(()));
    check("n,,n=someone=2C=3D,r=abc,x=ignored,y=", Ok(()));
    check("p=tls-server-end-point,,n=,r=abc", Err(Error::ChannelBindingRequested));
    check("n,a=postgres,n=,r=abc", Err(Error::AuthorizationIdentity));
    check("n,,m=1,n=,r=abc", Err(Error::MandatoryExtension));
    check("n,,n=,r=abc,m=1", Err(Error::MandatoryExtension));
    for message in [
        "",
        "n",
        "n,",
        "n,,",
        "p,,n=,r=abc",
        "N,,n=,r=abc",
        "n,x,n=,r=abc",
        "n,,r=abc",
        "n,,n=",
        "n,,n=,r=",
        "n,,r=abc,n=",
        "n,,n=,r=a b",
        "n,,n=,r=é",
        "n,,n=,r=abc,",
        "n,,n=,r=abc,x",
        "n,,n=,r=abc,1=",
        "n,,n=,r=a\0",
    ] {
        check(message, Err(Error::Malformed));
    }
    check(&format!("n,,n=,r={}", "a".repeat(NONCE_LEN_MAX)), Ok(()));
    check(&format!("n,,n=,r={}", "a".repeat(NONCE_LEN_MAX + 1)), Err(Error::Limit));
    check(&format!("n,,n={},r=a", "a".repeat(MESSAGE_LEN_MAX)), Err(Error::Limit));
}

#[test]
fn channel_binding_repeats_the_gs2_header() {
    let secret = StoredSecret::derive("pencil", b"salt", 1);
    for (flag, channel_binding, expected) in [
        ("n", "biws", Error::WrongProof),
        ("y", "eSws", Error::WrongProof),
        ("n", "eSws", Error::ChannelBindingMismatch),
        ("y", "biws", Error::ChannelBindingMismatch),
        ("n", "", Error::ChannelBindingMismatch),
    ] {
        let (server, _) = ServerRole::first(format!("{flag},,n=,r=a").as_bytes(), "b", &secret).unwrap();
        let client_final = format!("c={channel_binding},r=ab,p={}", base64([0; 32]));
        assert_eq!(server.finish(client_final.as_bytes()).unwrap_err(), expected, "{flag} {channel_binding}");
    }
}

#[test]
fn challenge_is_taken_or_refused_for_its_reason() {
    let check = |message: &str, expected: Result<u32, Error>| {
        let challenge = ClientRole::new("abc").0.challenge(message.as_bytes());
        assert_eq!(challenge.map(|challenge| challenge.iterations), expected, "{message:?}");
    };
    check("r=abcd,s=AA==,i=1", Ok(1));
    check("r=abcd,s=AA==,i=1000000", Ok(ITERATIONS_MAX));
    check("r=abcd,s=AA==,i=1000001", Err(Error::Limit));
    check("r=abcd,s=AA==,i=99999999999999999999", Err(Error::Limit));
    check("r=abc,s=AA==,i=1", Err(Error::NonceMismatch));
    check("r=ab,s=AA==,i=1", Err(Error::NonceMismatch));
    check("r=xabcd,s=AA==,i=1", Err(Error::NonceMismatch));
    check("m=1,r=abcd,s=AA==,i=1", Err(Error::MandatoryExtension));
    for message in [
        "",
        "r=abcd",
        "r=abcd,s=AA==",
        "r=abcd,s=AA==,i=",
        "r=abcd,s=AA==,i=0",
        "r=abcd,s=AA==,i=-1",
        "r=abcd,s=AA==,i=+1",
        "r=abcd,s=AA==,i=01",
        "r=abcd,s=AA==,i=1,x=",
        "r=abcd,s=,i=1",
        "r=abcd,s=AA,i=1",
        "r=abcd,s=AB==,i=1",
        "r=,s=AA==,i=1",
        "r=abc d,s=AA==,i=1",
        "e=other-error",
    ] {
        check(message, Err(Error::Malformed));
    }
    check(&format!("r=abc{},s=AA==,i=1", "d".repeat(NONCE_LEN_MAX)), Err(Error::Limit));
    check(&format!("r=abcd,s={},i=1", base64([0; SALT_LEN_MAX])), Ok(1));
    check(&format!("r=abcd,s={},i=1", base64([0; SALT_LEN_MAX + 1])), Err(Error::Limit));
    check(&format!("r=abcd,s={},i=1", base64([0; MESSAGE_LEN_MAX])), Err(Error::Limit));
}

#[test]
fn error_of_the_server_is_reported_and_cannot_forge_a_log_line() {
    let keys = ClientKeys { client_key: [1; 32], server_key: [2; 32] };
    let challenge = ClientRole::new("a").0.challenge(b"r=ab,s=AA==,i=1").unwrap();
    let error = challenge.respond(&keys).1.verify(b"e=invalid-proof\nLOG: all is well").unwrap_err();
    assert_eq!(error, Error::Server("invalid-proof\nLOG: all is well".to_owned()));
    assert!(!error.to_string().contains('\n'));
}

#[test]
fn secrets_made_by_postgresql_are_derived_alike() {
    // PostgreSQL 15.
    for (password, stored) in [
        (
            "pencil",
            "SCRAM-SHA-256$4096:JNEIHRFm8hvo9mcf8M7oOA==$o6uSf0gUdS8TgmupNRAOlDjdPT/W0PLoO/NWWuOME/g=:\
             mss4e7jkP4e0ZLySt6XqPuduqQlsqy39XTvvy3pLG40=",
        ),
        // Soft hyphen, roman numeral, umlaut: prepared.
        (
            "I\u{ad}X \u{2168} p\u{e4}ss",
            "SCRAM-SHA-256$4096:myrSWGD3rIWx7rDgT1C+Qw==$GrkDvCjqxRtS66HTbe8rwTETdnMQW354Vbcp8lTR0gY=:\
             Lcege/FpA6eH6e4XM3rDX/0you8F3L3b2xqc+b6m/X0=",
        ),
        // A right-to-left password that does not end in one: taken raw.
        (
            "\u{627}\u{31}",
            "SCRAM-SHA-256$4096:9EfeLcLdv7ab6kXpvT+7yg==$LdE3mnLa4G52cTEHIoqcpGw0GDqKuokDCGOEkD9sH5Q=:\
             gPXnlSgou8UrVMQ3W70/0vpqIw4LYywJW04rylJ2/gA=",
        ),
        // Nothing is left of it: taken raw.
        (
            "\u{ad}",
            "SCRAM-SHA-256$4096:zGmvkyH50+iOfFaZsrfsYQ==$n2JDKIDSyG43FygTQ9zNGJhymy0EeloF4OV8WeBWLns=:\
             /KRTsSKPVkle/R+7m3rO8F5UOxApKyJh9t24ACEOxwY=",
        ),
        // A prohibited mark that normalising would turn into a permitted one: taken raw.
        (
            "a\u{340}",
            "SCRAM-SHA-256$4096:AuyPiRf/Tm7tnJ7t1ddT5g==$P4gbl5rkg1fj8kb8OoCQi2Lz/CIQvAkRfEVkL5JBHgA=:\
             N+vq47gz9gyYYl72ZhWnWY94Hx/HlA++S02U5I/BhZg=",
        ),
        // One letter that normalising turns into a letter and a mark: prepared.
        (
            "\u{fb43}",
            "SCRAM-SHA-256$4096:SHzLdSCcrBryd8FJBmqyLg==$IuBwfSEWbQAv5AbXYBqhU57nJ0oBTqtSQlhcrZGSx98=:\
             BDvvJsdlZX9wciS+JgqMUcEOIQrcmgp1cgAtL4G8AeM=",
        ),
    ] {
        let secret: StoredSecret = stored.parse().unwrap();
        assert_eq!(secret.to_string(), stored);
        assert!(secret == StoredSecret::derive(password, &secret.salt, secret.iterations), "{password:?}");
    }
}

#[test]
fn stored_form_has_one_spelling() {
    let secret = StoredSecret::derive("pencil", b"salt", 4096);
    let stored = secret.to_string();
    assert!(stored.parse::<StoredSecret>().is_ok_and(|read| read == secret));

    for place in 0..stored.len() {
        assert_eq!(stored[..place].parse::<StoredSecret>(), Err(InvalidSecret));
        for byte in 0..128 {
            let mut changed = stored.clone().into_bytes();
            changed[place] = byte;
            let changed = String::from_utf8(changed).unwrap();
            if let Ok(read) = changed.parse::<StoredSecret>() {
                assert_eq!(read.to_string(), changed);
                assert_eq!(read == secret, changed == stored);
            }
        }
    }
    let key = base64([0; 32]);
    for text in [
        String::new(),
        "md5c4d1b2f4ae6cb9c8b0a9d0e9d1b2c3d4".into(),
        format!("{stored} "),
        format!("{stored}:"),
        format!("scram-sha-256$1:AA==${key}:{key}"),
        format!("SCRAM-SHA-256$0:AA==${key}:{key}"),
        format!("SCRAM-SHA-256$1000001:AA==${key}:{key}"),
        format!("SCRAM-SHA-256$1:${key}:{key}"),
        format!("SCRAM-SHA-256$1:AA==${key}:{}", base64([0; 31])),
        format!("SCRAM-SHA-256$1:AA==${}:{key}", base64([0; 33])),
    ] {
        assert_eq!(text.parse::<StoredSecret>(), Err(InvalidSecret), "{text}");
    }
}

#[test]
fn unknown_user_looks_like_a_wrong_password() {
    let mock = mock_secret(b"seed", "nobody");
    assert!(mock == mock_secret(b"seed", "nobody"));
    assert_ne!(mock.salt, mock_secret(b"seed", "anybody").salt);
    assert_ne!(mock.salt, mock_secret(b"other seed", "nobody").salt);

    let real = StoredSecret::derive("pencil", &[7; 16], 4096);
    let answer = |secret| ServerRole::first(b"n,,n=,r=abc", "server", secret).unwrap().1.len();
    assert_eq!(answer(&mock), answer(&real));
    for secret in [&mock, &real] {
        let keys = ClientKeys::derive("wrong", &secret.salt, secret.iterations);
        assert_eq!(login(&keys, secret, ["a", "b"], honest).unwrap_err(), Error::WrongProof);
    }
    let zeros = ClientKeys { client_key: [0; 32], server_key: [0; 32] };
    assert_eq!(login(&zeros, &mock, ["a", "b"], honest).unwrap_err(), Error::WrongProof);
}

#[test]
fn debug_shows_no_secret() {
    let secret = StoredSecret::derive("pencil", b"salt", 1);
    let keys = ClientKeys::derive("pencil", b"salt", 1);
    assert_eq!(format!("{secret:?} {keys:?}"), "StoredSecret { .. } ClientKeys { .. }");

    let (server, _) = ServerRole::first(b"n,,n=,r=abc", "server", &secret).unwrap();
    assert_eq!(format!("{server:?}"), "ServerRole { .. }");
    let challenge = ClientRole::new("a").0.challenge(b"r=ab,s=AA==,i=1").unwrap();
    assert_eq!(format!("{:?}", challenge.respond(&keys).1), "Verifier { .. }");
}
