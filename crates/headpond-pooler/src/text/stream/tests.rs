use super::checks::in_pieces;
use super::*;
use crate::sim::dice::Dice;
use crate::text::read;

const FRAGMENTS: &[&str] = &[
    " ",
    " ",
    " ",
    "\n",
    ";",
    ";",
    "'",
    "'",
    "'",
    "''",
    "\"",
    "\"\"",
    "\\",
    "$",
    "$",
    "$$",
    "$a$",
    "$1",
    "$a",
    "-",
    "--",
    "/",
    "*",
    "/*",
    "*/",
    "(",
    ")",
    ",",
    ".",
    "=",
    ":",
    "1",
    "12.5",
    "e'",
    "E'",
    "n'",
    "x'",
    "u&'",
    "U&\"",
    "u&",
    "e",
    "a",
    "t",
    "set",
    "set ",
    "local",
    "session",
    " to ",
    "default",
    "reset ",
    "all",
    "discard ",
    "deallocate ",
    "prepare ",
    "as",
    "do ",
    "begin",
    "end",
    "listen ",
    "insert ",
    "into ",
    "with ",
    "hold",
    "create ",
    "function",
    "or ",
    "replace ",
    "select ",
    "set_config",
    "('a', ",
    "pg_advisory_lock(1)",
    "nextval",
    "execute ",
    "time ",
    "zone ",
    "\u{e4}",
    "pg_settings",
    "update",
];

#[test]
fn any_text_in_any_pieces_is_read_as_the_whole() {
    let verdict = Verdict::of(Effects::NONE, [(&b"t"[..], Effects::LOCKS)]);
    for seed in 0..20_000 {
        let mut dice = Dice::new(seed);
        let text: String = (0..dice.between(1, 24)).map(|_| dice.pick(FRAGMENTS)).collect();
        let encoding = dice.pick(&[Encoding::Safe, Encoding::Safe, Encoding::Sjis, Encoding::Gb18030]);
        let how = Dialect { escapes: dice.chance(30), encoding };
        let whole = read(text.as_bytes(), how, &verdict);
        let most = dice.pick(&[1, 2, 5, 20, 60]);
        let sizes: Vec<_> = (0..text.len()).map(|_| dice.below(most + 1) as usize).collect();
        in_pieces(text.as_bytes(), how, &verdict, sizes).assert_is(&whole);
    }
}

/// Reads a text as it comes from a socket.
fn large(text: &str) -> Option<Text> {
    let verdict = Verdict::of(Effects::NONE, []);
    let mut stream = Stream::new(Dialect::default(), &verdict)?;
    for piece in text.as_bytes().chunks(10_007) {
        stream.read(piece, &verdict);
        assert!(stream.kept.capacity() <= 2 * KEPT_MAX + 10_007, "{}", stream.kept.capacity());
    }
    stream.conclude(&verdict)
}

#[test]
fn large_texts_are_read_to_their_end() {
    let rows = "(1, 'it''s', null, -2.5e3, $$x$$),\n".repeat(10_000);
    let literal = "x'; listen x; --".replace('\'', "''").repeat(30_000);
    for text in [
        format!("insert into t values {rows} (1)"),
        format!("insert into t values ('{literal}')"),
        format!("insert into t values (E'{literal}')"),
        format!("insert into t values ($a${literal}$a$)"),
        format!("/* {} */ insert into t values (1)", "; listen x; ".repeat(30_000)),
        format!("insert into t -- {}\n values (1)", "; listen x; ".repeat(30_000)),
    ] {
        let said = large(&text);
        assert_eq!(said, Some(Text { effects: Effects::CAN_NEXTVAL, ..Text::default() }));
        let said = large(&format!("{text}; SET work_mem = '5MB'")).unwrap();
        assert_eq!(said.effects, Effects::CAN_NEXTVAL | Effects::SETTINGS);
        assert_eq!(&*said.settings[0].name, b"work_mem");
        assert!(large(&format!("{text}; listen x")).unwrap().effects.any(Effects::LISTENS));
    }
    assert_eq!(large(&format!("select 1\0{}", "; listen x".repeat(10_000))), Some(Text::default()));
}

#[test]
fn a_text_is_given_up_whose_statement_has_to_be_read_at_once_and_is_too_long() {
    let long = "x".repeat(100_000);
    for text in [
        format!("set a = '{long}'"),
        format!("select \"{long}\""),
        format!("select {long}"),
        format!("do $$ begin null; /* {long} */ end $$"),
    ] {
        assert_eq!(large(&text), None, "{}", &text[..20]);
    }
    assert_eq!(large(&format!("select '{long}'; do $$ begin null; end $$")), Some(Text::default()));
}
