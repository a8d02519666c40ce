use std::net::IpAddr;
use std::path::Path;

use headpond_pooler::config::{
    AuthMethod, Decision, Network, Origin, PoolerConfig, Replication, Request, Rules,
};

use super::lines;
use crate::config::hba::{self, Surroundings};

/// Rules with name maps, on a machine in 10.1.0.0/16 and fd00::/64.
fn read(rules: &str, maps: &str) -> Result<Rules, String> {
    let interfaces = [("10.1.2.3", "255.255.0.0"), ("fd00::7", "ffff:ffff:ffff:ffff::")]
        .map(|(address, mask)| Network { address: address.parse().unwrap(), mask: mask.parse().unwrap() });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tills"), "shop_a # first\n\"shop b\", shop_c\n").unwrap();
    std::fs::write(folder.path().join("nested"), "@tills").unwrap();
    std::fs::write(folder.path().join("empty"), "# nobody for now\n").unwrap();
    let around = Surroundings { folder: folder.path(), interfaces: &interfaces };
    let mut errors = Vec::new();
    let maps = hba::maps("ident", maps, &mut errors);
    let rules = hba::rules("hba", rules, &maps, &around, &mut errors);
    if errors.is_empty() { Ok(rules) } else { Err(lines(&errors)) }
}

fn from(address: &str) -> Origin<'static> {
    Origin { address: Some(address.parse::<IpAddr>().unwrap()), ..Origin::default() }
}

fn ask<'a>(database: &'a str, user: &'a str) -> Request<'a> {
    Request { database, user, replication: Replication::None }
}

fn decide(rules: &Rules, origin: Origin<'_>, request: Request<'_>) -> Decision {
    let config = PoolerConfig { rules: Some(rules.clone()), ..PoolerConfig::new(Vec::new()) };
    config.admit(origin, request)
}

fn refusal(decision: Decision) -> String {
    match decision {
        Decision::Refuse(why) => why,
        other => panic!("{other:?}"),
    }
}

const TRUST: Decision = Decision::Ask(AuthMethod::Trust);

#[test]
fn the_first_rule_that_fits_decides_and_without_one_nobody_comes_in() {
    let rules = read(
        "# a comment\n\nhost shop ann 10.0.0.0/8 reject\nhost shop ann,\"b ob\" all \\\n  md5\n\
         host all all ::1/128 trust # here\nhostssl all all all trust\n",
        "",
    )
    .unwrap();
    let shop = |user| ask("shop", user);
    assert_eq!(
        refusal(decide(&rules, from("10.9.9.9"), shop("ann"))),
        "pg_hba.conf rejects connection for host \"10.9.9.9\", user \"ann\", database \"shop\", no encryption"
    );
    assert_eq!(decide(&rules, from("11.0.0.0"), shop("ann")), Decision::Ask(AuthMethod::Md5));
    assert_eq!(decide(&rules, from("10.0.0.1"), shop("b ob")), Decision::Ask(AuthMethod::Md5));
    assert_eq!(decide(&rules, from("::1"), ask("other", "eve")), TRUST);
    assert_eq!(
        refusal(decide(&rules, from("127.0.0.1"), ask("other", "eve"))),
        "no pg_hba.conf entry for host \"127.0.0.1\", user \"eve\", database \"other\", no encryption"
    );
    let encrypted = Origin { tls: true, ..from("127.0.0.1") };
    assert_eq!(decide(&rules, encrypted, ask("other", "eve")), TRUST);
    assert_eq!(
        refusal(decide(&rules, Origin::default(), shop("ann"))),
        "no pg_hba.conf entry for host \"[local]\", user \"ann\", database \"shop\", no encryption"
    );
    assert!(matches!(decide(&Rules::default(), from("::1"), shop("ann")), Decision::Refuse(_)));
}

#[test]
fn databases_are_named_in_every_way_and_replication_is_none_of_them() {
    let rules = read(
        "host sameuser all all trust\nhost @tills all all md5\nhost \"all\" all all password\n\
         host replication rep all trust\n",
        "",
    )
    .unwrap();
    let decision = |database, user| decide(&rules, from("192.0.2.1"), ask(database, user));
    assert_eq!(decision("ann", "ann"), TRUST);
    for till in ["shop_a", "shop b", "shop_c"] {
        assert_eq!(decision(till, "ann"), Decision::Ask(AuthMethod::Md5), "{till}");
    }
    assert_eq!(decision("all", "ann"), Decision::Ask(AuthMethod::Password));
    refusal(decision("replication", "rep"));
    let physical = |user| Request { replication: Replication::Physical, ..ask("shop_a", user) };
    assert_eq!(decide(&rules, from("192.0.2.1"), physical("rep")), TRUST);
    let why = refusal(decide(&rules, from("192.0.2.1"), physical("ann")));
    assert!(why.contains("replication connection from host \"192.0.2.1\""), "{why}");
    let logical = Request { replication: Replication::Logical, ..ask("shop_a", "rep") };
    assert_eq!(decide(&rules, from("192.0.2.1"), logical), Decision::Ask(AuthMethod::Md5));
}

#[test]
fn a_rule_whose_file_of_names_is_empty_is_for_nobody() {
    for none in ["host all @empty all trust", "host @empty all all trust"] {
        let rules = read(&format!("{none}\nhost all ann all md5\n"), "").unwrap();
        let decision = |user| decide(&rules, from("192.0.2.1"), ask("shop", user));
        assert_eq!(decision("ann"), Decision::Ask(AuthMethod::Md5), "{none}");
        refusal(decision("eve"));
    }
    let rules = read("host all @empty,ann all trust", "").unwrap();
    assert_eq!(decide(&rules, from("192.0.2.1"), ask("shop", "ann")), TRUST);
    refusal(decide(&rules, from("192.0.2.1"), ask("shop", "eve")));
    assert_eq!(
        decide(&read("host all @empty,all all trust", "").unwrap(), from("::1"), ask("a", "b")),
        TRUST
    );
    assert!(read("host all @empty all no-method", "").is_err());
}

#[test]
fn addresses_are_networks_masks_and_those_of_this_machine() {
    for (rule, inside, outside) in [
        ("10.0.0.0/8", &["10.255.0.1", "::ffff:10.0.0.1"][..], &["11.0.0.1", "::1"][..]),
        ("10.0.0.0 255.255.255.0", &["10.0.0.255"], &["10.0.1.0"]),
        ("0.0.0.0/0", &["1.2.3.4", "255.255.255.255"], &["::1", "fd00::1"]),
        ("::/0", &["::1", "fd00::1"], &["1.2.3.4"]),
        ("fd00::/9", &["fd7f::1"], &["fd80::1"]),
        ("1.2.3.4/32", &["1.2.3.4"], &["1.2.3.5"]),
        ("samehost", &["10.1.2.3", "fd00::7"], &["10.1.2.4", "fd00::8"]),
        ("samenet", &["10.1.255.255", "fd00::ffff"], &["10.2.0.0", "fd00:0:0:1::"]),
        ("all", &["1.2.3.4", "::1"], &[]),
    ] {
        let rules = read(&format!("host all all {rule} trust"), "").unwrap();
        for address in inside {
            assert_eq!(decide(&rules, from(address), ask("a", "b")), TRUST, "{rule} {address}");
        }
        for address in outside {
            refusal(decide(&rules, from(address), ask("a", "b")));
        }
        refusal(decide(&rules, Origin::default(), ask("a", "b")));
    }
}

#[test]
fn the_system_vouches_for_its_own_users_and_those_they_are_mapped_to() {
    let rules = read(
        "local plain all peer\nlocal all all peer map=staff",
        "staff joe ann\nstaff joe bob\nstaff root all\nothers eve ann",
    )
    .unwrap();
    let of = |system_user| Origin { system_user, ..Origin::default() };
    for (system, database, user, right) in [
        (Some("ann"), "plain", "ann", true),
        (Some("joe"), "plain", "ann", false),
        (None, "plain", "ann", false),
        (Some("joe"), "shop", "ann", true),
        (Some("joe"), "shop", "bob", true),
        (Some("joe"), "shop", "joe", false),
        (Some("root"), "shop", "anybody", true),
        (Some("eve"), "shop", "ann", false),
        (None, "shop", "ann", false),
    ] {
        match decide(&rules, of(system), ask(database, user)) {
            Decision::Vouched => assert!(right, "{system:?} {user}"),
            Decision::Refuse(why) => {
                assert!(!right && why == format!("peer authentication failed for user \"{user}\""), "{why}");
            }
            Decision::Ask(_) => panic!("{system:?} {user}"),
        }
    }
    refusal(decide(&rules, Origin { system_user: Some("ann"), ..from("::1") }, ask("plain", "ann")));
}

#[test]
fn a_certificate_vouches_for_its_common_name_and_those_it_is_mapped_to() {
    let rules =
        read("hostssl shop all all cert map=tills\nhostssl all all all cert", "tills till.example ann")
            .unwrap();
    let with = |common_name| Origin { common_name, tls: true, ..from("192.0.2.1") };
    for (name, database, user, right) in [
        (Some("ann"), "plain", "ann", true),
        (Some("ann"), "plain", "bob", false),
        (None, "plain", "ann", false),
        (Some("till.example"), "shop", "ann", true),
        (Some("ann"), "shop", "ann", false),
    ] {
        let decision = decide(&rules, with(name), ask(database, user));
        let refused = Decision::Refuse(format!("certificate authentication failed for user \"{user}\""));
        assert_eq!(decision, if right { Decision::Vouched } else { refused }, "{name:?} {database} {user}");
    }
    let in_clear = Origin { tls: false, ..with(Some("ann")) };
    refusal(decide(&rules, in_clear, ask("plain", "ann")));
}

#[test]
fn what_is_no_rule_is_an_error_with_its_line_and_no_rule_is_passed_over() {
    for (rule, why) in [
        ("hist all all all trust", "\"hist\" is no type of connection; local, host, hostssl or hostnossl"),
        ("host all all", "ends where an address should stand; TYPE DATABASE USER [ADDRESS] METHOD"),
        ("local all all", "ends where a method should stand; TYPE DATABASE USER [ADDRESS] METHOD"),
        ("host all all 1.2.3.4 trust", "\"trust\" is no mask; like 255.255.0.0"),
        ("host all all 1.2.3.4 ::1 trust", "address and mask are of different families"),
        (
            "host all all 10.0.0.0/33 trust",
            "\"10.0.0.0/33\" is no network; an address like 10.0.0.0/8 or ::1/128, all, samehost or samenet",
        ),
        (
            "host all all 10.0.0.0/+8 trust",
            "\"10.0.0.0/+8\" is no network; an address like 10.0.0.0/8 or ::1/128, all, samehost or samenet",
        ),
        (
            "host all all db.example md5",
            "\"db.example\" is no address (host names are not supported); an address like 10.0.0.0/8 or ::1/128, all, \
             samehost or samenet",
        ),
        ("host all +staff all md5", "\"+staff\" is not supported: Headpond does not know who is in a role"),
        ("host samerole all all md5", "samerole is not supported: Headpond does not know who is in a role"),
        ("host all /^a all md5", "regular expressions are not supported; a list of names"),
        ("host all all all cert", "cert is for hostssl only"),
        ("host all all all ldap", "ldap is not supported yet"),
        ("host all all all peer", "peer is for local connections only"),
        (
            "host all all all gss",
            "\"gss\" is no method; trust, reject, password, md5, scram-sha-256, cert or peer",
        ),
        ("host all all all md5 map=staff", "a map is for cert and peer only"),
        ("host all all all md5 x", "\"x\" is no option; map=NAME"),
        ("local all all peer map=x", "no map \"x\" in the file of name maps"),
        ("host \"all all all md5", "a quote is not closed"),
        ("host @nested all all md5", "a file of names names another; all names in one"),
        ("host all all all trust,md5", "a list where a method should stand"),
        (",host all all all trust", "begins with a comma"),
    ] {
        assert_eq!(read(&format!("# one\n{rule}"), ""), Err(format!("hba:2: {why}")), "{rule}");
    }
    let missing = read("host @nobody all all md5", "").unwrap_err();
    assert!(missing.contains("nobody cannot be read"), "{missing}");
    assert_eq!(
        read("", "staff joe\nstaff /^(.*)$ \\1\nstaff a b c").unwrap_err(),
        "ident:1: not a mapping; MAP SYSTEM-USER USER\n\
         ident:2: staff: regular expressions are not supported; one line for each name\n\
         ident:3: not a mapping; MAP SYSTEM-USER USER"
    );
}

#[test]
fn the_files_are_those_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("hba", "local all all peer map=staff\nhost all all samehost scram-sha-256\n");
    write("ident", "staff joe ann\n");
    write("users", "\"ann\" \"secret\"\n");
    let parse = |text: &str| super::super::Config::parse_toml("f.toml", text, folder.path());
    let all = "auth_type = \"hba\"\nhba_file = \"hba\"\nident_file = \"ident\"\nauth_file = \"users\"
        [data_source.a]";
    let config = parse(all).unwrap();
    assert_eq!(config.pooler.rules.as_ref().unwrap().0.len(), 2);
    // One of the rules asks for it.
    assert!(config.pooler.users.get("ann").unwrap().scram.is_some());
    let loopback = decide(config.pooler.rules.as_ref().unwrap(), from("127.0.0.1"), ask("a", "b"));
    assert_eq!(loopback, Decision::Ask(AuthMethod::ScramSha256));
    for (text, said) in [
        ("auth_type = \"hba\"", "f.toml:1: auth_type: hba needs rules; set hba_file to a file of them"),
        (
            "auth_type = \"hba\"\nhba_file = \"hba\"\nident_file = \"ident\"",
            "f.toml:1: auth_type: hba needs users; set auth_file to a file of them",
        ),
    ] {
        assert_eq!(lines(&parse(&format!("{text}\n[data_source.a]")).unwrap_err()), said, "{text}");
    }
    write("certs", "hostssl all all all cert");
    let lonely = parse("auth_type = \"hba\"\nhba_file = \"certs\"\n[data_source.a]").unwrap_err();
    assert_eq!(
        lines(&lonely),
        "f.toml:2: hba_file: has a rule that asks for certificates; set client_tls, and client_tls_ca_file to verify them by"
    );
    let unused = parse("hba_file = \"hba\"\n[data_source.a]").unwrap();
    assert_eq!(lines(&unused.warnings), "f.toml:1: hba_file: has no effect: auth_type is not \"hba\"");
    let missing = parse("auth_type = \"hba\"\nhba_file = \"none\"\n[data_source.a]").unwrap_err();
    assert!(lines(&missing).contains("f.toml:2: hba_file: "), "{}", lines(&missing));
    assert_eq!(Path::new("hba"), config.hba_file.as_deref().unwrap());
}
