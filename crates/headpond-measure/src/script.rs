//! What a load consists of.

use std::time::Duration;

use headpond_sizing::time;
use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;

/// Transactions, run one after the other in the order that chance has.
#[derive(Clone, Debug, PartialEq)]
pub struct Script(Vec<Transaction>);

/// What is done with one connection before it is given back.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction(Vec<Step>);

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A statement: a question and its answer.
    Sql(Sql),
    /// The application thinks, with the connection in its hand.
    Sleep(Duration),
}

/// A statement, with places for numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Sql {
    /// Text, and the bounds of a number that follows it.
    parts: Vec<(String, (i64, i64))>,
    end: String,
}

impl Script {
    /// Reads a script: a transaction in each line, its statements ended by `;`. `{1..1000}` is a number between these,
    /// drawn anew each time; `\sleep 10ms` is a statement; lines that begin with `--` are comments.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = (1..).zip(text.lines().map(str::trim));
        let written = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with("--"));
        let read = |(number, line): (u32, &str)| {
            Transaction::parse(line).map_err(|error| format!("line {number}: {error}"))
        };
        let transactions = written.map(read).collect::<Result<Vec<_>, _>>()?;
        if transactions.is_empty() {
            Err("there is no statement in it".to_owned())
        } else {
            Ok(Self(transactions))
        }
    }

    /// One statement.
    #[must_use]
    pub fn one(sql: &str) -> Self {
        let end = sql.to_owned();
        Self(vec![Transaction(vec![Step::Sql(Sql { parts: Vec::new(), end })])])
    }

    /// One of its transactions.
    pub fn draw(&self, chance: &mut Xoshiro256PlusPlus) -> &Transaction {
        &self.0[chance.random_range(0..self.0.len())]
    }
}

impl Transaction {
    fn parse(line: &str) -> Result<Self, String> {
        let texts = split(line)?.into_iter().map(str::trim).filter(|text| !text.is_empty());
        let step = |text: &str| match text.strip_prefix("\\sleep ") {
            Some(long) => Ok(Step::Sleep(Duration::from_secs_f64(time::seconds(long)?.min(60.0)))),
            None if text.starts_with('\\') => Err(format!("`{text}`: there is only \\sleep")),
            None => Sql::parse(text).map(Step::Sql),
        };
        let steps = texts.map(step).collect::<Result<Vec<_>, _>>()?;
        if steps.iter().any(|step| matches!(step, Step::Sql(_))) {
            Ok(Self(steps))
        } else {
            Err("there is no statement in it".to_owned())
        }
    }

    /// In their order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

impl Sql {
    fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), text);
        let mut before = String::new();
        while let Some((left, right)) = rest.split_once('{') {
            before += left;
            let bounds = right.split_once('}').and_then(|(range, after)| {
                let (low, high) = range.split_once("..")?;
                Some(((low.trim().parse().ok()?, high.trim().parse().ok()?), after))
            });
            match bounds {
                Some(((low, high), _)) if low > high => return Err(format!("{{{low}..{high}}} is empty")),
                Some((range, after)) => {
                    parts.push((std::mem::take(&mut before), range));
                    rest = after;
                }
                // A brace of the statement's own.
                None => {
                    before.push('{');
                    rest = right;
                }
            }
        }
        Ok(Self { parts, end: before + rest })
    }

    /// With numbers in their places.
    pub fn fill(&self, chance: &mut Xoshiro256PlusPlus) -> String {
        let mut text = String::new();
        for (before, (low, high)) in &self.parts {
            text += before;
            text += &chance.random_range(*low..=*high).to_string();
        }
        text + &self.end
    }
}

/// Statements of a line: a `;` in quotes ends none.
fn split(line: &str) -> Result<Vec<&str>, String> {
    let (mut statements, mut begins, mut quote) = (Vec::new(), 0, None);
    for (place, character) in line.char_indices() {
        match (quote, character) {
            (None, ';') => {
                statements.push(&line[begins..place]);
                begins = place + 1;
            }
            (None, '\'' | '"' | '`') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            _ => {}
        }
    }
    statements.push(&line[begins..]);
    if quote.is_some() { Err("a quote is not closed".to_owned()) } else { Ok(statements) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn a_line_is_a_transaction_of_statements_with_drawn_numbers_and_pauses() {
        let text = "-- a comment\n\nBEGIN; SELECT ';' WHERE {5..6} > 1; \\sleep 10ms; COMMIT;\nSELECT '{}'";
        let script = Script::parse(text).unwrap();
        let [first, second] = &script.0[..] else { panic!("two transactions") };
        assert_eq!(first.0[2], Step::Sleep(Duration::from_millis(10)));
        let mut chance = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut seen = std::collections::BTreeSet::new();
        let Step::Sql(sql) = &first.0[1] else { panic!("a statement") };
        for _ in 0..50 {
            seen.insert(sql.fill(&mut chance));
        }
        let expected = ["SELECT ';' WHERE 5 > 1", "SELECT ';' WHERE 6 > 1"];
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
        let Step::Sql(sql) = &second.0[0] else { panic!("a statement") };
        assert_eq!(sql.fill(&mut chance), "SELECT '{}'");
        assert_eq!((first.0.len(), second.0.len()), (4, 1));
    }

    #[test]
    fn a_script_that_makes_no_sense_is_refused_with_its_line() {
        for (wrong, said) in [
            ("", "no statement"),
            ("SELECT 1\n\\sleep 1s", "line 2: there is no statement"),
            ("SELECT 'a", "line 1: a quote"),
            ("SELECT {9..1}", "{9..1} is empty"),
            ("SELECT 1; \\sleep 5", "no time"),
            ("\\set x 1; SELECT 1", "only \\sleep"),
        ] {
            let error = Script::parse(wrong).unwrap_err();
            assert!(error.contains(said), "{wrong}: {error}");
        }
    }
}
