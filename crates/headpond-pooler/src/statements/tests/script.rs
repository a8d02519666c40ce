//! What clients send.

use crate::sim::dice::Dice;
use crate::statements::tests::session::{Message, Session};

/// What a client sends up to a Sync, or one query. Before anything of an error is known, it may send more.
pub(super) fn batch(session: &mut Session, dice: &mut Dice) -> Vec<Message> {
    let name = |dice: &mut Dice| dice.pick(&["a", "b", "c", "d", "_headpond_1"]);
    if session.failed || dice.chance(20) {
        let text = match () {
            () if session.failed => "ROLLBACK".to_owned(),
            () if session.in_transaction && dice.chance(60) => "ROLLBACK".to_owned(),
            () if !session.in_transaction && dice.chance(50) => "BEGIN".to_owned(),
            () if dice.chance(20) => "DEALLOCATE ALL".to_owned(),
            () => format!("DEALLOCATE {}", name(dice)),
        };
        return vec![(b'Q', format!("{text}\0").into_bytes())];
    }
    let mut messages = Vec::new();
    // What deallocates is looked at when it is parsed, and runs then.
    let runs_again = |text: &[u8]| !text.windows(4).any(|word| word == b"DEAL");
    let unnamed = session.names.get(&b""[..]).is_none_or(|text| runs_again(text));
    let mut unnamed = unnamed && !session.unnamed_in_doubt;
    for _ in 0..dice.below(7) {
        let parse = |name: &str, dice: &mut Dice| {
            let text = match dice.below(14) {
                0 => "BAD".to_owned(),
                1 => "FAIL".to_owned(),
                2 => format!("DEALLOCATE {}", dice.pick(&["a", "b", "ALL"])),
                other => format!("TEXT {}", other % 5),
            };
            // A statement that deallocates is prepared to run at once, by those who do that at all.
            let text = if name.is_empty() { text } else { text.replace("DEALLOCATE", "TEXT") };
            (b'P', format!("{name}\0{text}\0\0\0").into_bytes())
        };
        match dice.below(10) {
            0 | 1 => {
                messages.push(parse("", dice));
                unnamed = messages.last().is_some_and(|(_, body)| runs_again(body));
                messages.push((b'B', vec![0; 8]));
                messages.push((b'E', vec![0; 5]));
            }
            2 if unnamed => {
                messages.push((b'B', vec![0; 8]));
                messages.push((b'E', vec![0; 5]));
            }
            3 | 4 => {
                let name = name(dice);
                messages.push(parse(name, dice));
            }
            5 => {
                let name = name(dice);
                messages.push((b'C', format!("S{name}\0").into_bytes()));
            }
            6 => {
                let name = name(dice);
                messages.push((b'D', format!("S{name}\0").into_bytes()));
            }
            7 if dice.chance(30) => messages.push((b'H', Vec::new())),
            _ => {
                let name = name(dice);
                messages.push((b'B', format!("\0{name}\0\0\0\0\0\0\0").into_bytes()));
                messages.push((b'E', vec![0; 5]));
            }
        }
    }
    messages.push((b'S', Vec::new()));
    messages
}
