//! Which messages might end a transaction, as far as their first bytes tell. In doubt they might.

/// How a statement ends a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Commit,
    Rollback,
}

/// Whether a client's message may end the transaction it is in, even a failed one: it begins with one of the
/// words that do, or uses a statement prepared before, or does not show enough of itself.
pub(crate) fn may_end_transaction(tag: u8, body: &[u8]) -> bool {
    let after_name = |body| <[u8]>::iter(body).position(|byte| *byte == 0).map(|end| &body[end + 1..]);
    match tag {
        b'Q' => begins_with_ending(body),
        b'P' => after_name(body).is_none_or(begins_with_ending),
        b'B' => after_name(body).is_none_or(|statement| statement.first() != Some(&0)),
        _ => false,
    }
}

/// Whether the first word of a statement ends transactions; so might one that is not there.
pub(crate) fn begins_with_ending(text: &[u8]) -> bool {
    let mut rest = text;
    loop {
        rest = match rest {
            [b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c' | b';', rest @ ..] => rest,
            [b'-', b'-', rest @ ..] => {
                rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).map_or(&[][..], |end| &rest[end..])
            }
            // Comments nest; rather than count them, whatever begins with one is taken to be such a statement.
            [b'/', b'*', ..] | [] => return true,
            _ => break,
        };
    }
    let letters = rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    [&b"commit"[..], b"end", b"rollback", b"abort", b"prepare"]
        .iter()
        .any(|ending| rest[..letters].eq_ignore_ascii_case(ending))
}

/// Whether a simple query might end the transaction it is sent in: by its first statement, or by a later one.
pub(crate) fn may_end(body: &[u8]) -> bool {
    let later = memchr::memchr(b';', body).map_or(&[][..], |at| &body[at + 1..]);
    let blank = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, 0 | b';');
    begins_with_ending(body) || !later.iter().all(blank)
}

/// Whether a Bind takes the unnamed statement.
pub(crate) fn binds_unnamed(body: &[u8]) -> bool {
    memchr::memchr(0, body).is_some_and(|end| body.get(end + 1) == Some(&0))
}

/// Whether a statement is one of `COMMIT`, `END`, `ROLLBACK`, `ABORT`, each perhaps followed by `WORK` or
/// `TRANSACTION`, and nothing else.
pub(crate) fn ending(text: &[u8]) -> Option<Ending> {
    let text = text.trim_ascii();
    let text = text.strip_suffix(b";").unwrap_or(text);
    let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let first = words.next()?;
    let noise = words
        .next()
        .is_none_or(|word| word.eq_ignore_ascii_case(b"work") || word.eq_ignore_ascii_case(b"transaction"));
    if !noise || words.next().is_some() {
        return None;
    }
    let is = |word: &[u8]| first.eq_ignore_ascii_case(word);
    match () {
        () if is(b"commit") || is(b"end") => Some(Ending::Commit),
        () if is(b"rollback") || is(b"abort") => Some(Ending::Rollback),
        () => None,
    }
}

/// Whether a simple query does nothing but roll back.
pub(crate) fn only_rolls_back(body: &[u8]) -> bool {
    body.split_last().is_some_and(|(_, text)| ending(text) == Some(Ending::Rollback))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_may_end_a_failed_transaction_is_told_from_what_cannot() {
        let ends: [(u8, &[u8]); 8] = [
            (b'Q', b"commit\0"),
            (b'Q', b" ;\n-- so be it\n ROLLBACK;select 1\0"),
            (b'Q', b"/* anything */ select 1\0"),
            (b'Q', b"Prepare transaction 'x'\0"),
            (b'P', b"name\0END\0\0\0"),
            (b'P', b"name that goes on"),
            (b'B', b"\0named\0\0\0\0\0\0\0"),
            (b'Q', b""),
        ];
        assert!(ends.iter().all(|(tag, body)| may_end_transaction(*tag, body)));
        let others: [(u8, &[u8]); 6] = [
            (b'Q', b"\0"),
            (b'Q', b"select 1; commit\0"),
            (b'Q', b"ending\0"),
            (b'P', b"commit\0select 1\0\0\0"),
            (b'B', b"\0\0\0\0\0\0\0\0"),
            (b'E', b"\0\0\0\0\0"),
        ];
        assert!(!others.iter().any(|(tag, body)| may_end_transaction(*tag, body)));
    }

    #[test]
    fn a_later_statement_of_a_query_may_end_its_transaction_too() {
        assert!(may_end(b"select 1; commit\0") && may_end(b"select ';'\0") && may_end(b"commit\0"));
        assert!(!may_end(b"select 1\0") && !may_end(b"update t set a = 1; ; \n\0"));
    }

    #[test]
    fn a_bind_is_of_the_unnamed_statement_or_of_a_named_one() {
        assert!(binds_unnamed(b"\0\0\0\0") && binds_unnamed(b"portal\0\0"));
        assert!(!binds_unnamed(b"\0name\0") && !binds_unnamed(b"portal") && !binds_unnamed(b""));
    }

    #[test]
    fn only_a_statement_that_does_nothing_but_end_the_transaction_is_answered_without_a_server() {
        let commits: [&[u8]; 5] = [b"COMMIT", b"end;", b" commit work ; ", b"End Transaction", b"\tcommit\n"];
        assert!(commits.iter().all(|text| ending(text) == Some(Ending::Commit)));
        let rollbacks: [&[u8]; 3] = [b"rollback", b"ABORT WORK", b"ROLLBACK  TRANSACTION;"];
        assert!(rollbacks.iter().all(|text| ending(text) == Some(Ending::Rollback)));
        let others: [&[u8]; 9] = [
            b"",
            b";",
            b"commit and chain",
            b"rollback to savepoint a",
            b"rollback to a",
            b"commit prepared 'x'",
            b"commit; select 1",
            b"rollback work work",
            b"select 1",
        ];
        assert!(others.iter().all(|text| ending(text).is_none()));
    }
}
