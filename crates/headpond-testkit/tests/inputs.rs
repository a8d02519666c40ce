//! Every body on inputs drawn from one seed; a failing one is named by a line that repeats it.
//!
//! `HEADPOND_INPUTS=n` draws that many for each, `HEADPOND_INPUT=name:hex` runs one input.

use std::panic::catch_unwind;

use headpond_testkit::{BODIES, Body, Generator, body};

/// Inputs for each body in an ordinary run.
const INPUTS: u64 = 3_000;

#[test]
fn no_reader_of_bytes_panics_or_breaks_a_promise() {
    if let Ok(line) = std::env::var("HEADPOND_INPUT") {
        let (name, hex) = line.split_once(':').expect("name:hex");
        let body = body(name).expect("the name of a body");
        return (body.run)(&bytes(hex));
    }
    let inputs = std::env::var("HEADPOND_INPUTS").ok().and_then(|number| number.parse().ok());
    BODIES.iter().for_each(|body| run(body, inputs.unwrap_or(INPUTS)));
}

fn run(body: &Body, inputs: u64) {
    let seeds = (body.seeds)();
    let mut generator = Generator::new(7);
    let drawn = (0..inputs).map(|_| generator.input(&seeds));
    for input in seeds.iter().cloned().chain(drawn) {
        if catch_unwind(|| (body.run)(&input)).is_err() {
            let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            panic!("HEADPOND_INPUT={}:{hex} cargo test -p headpond-testkit --test inputs", body.name);
        }
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at| hex.get(at..at + 2).expect("two digits for each byte");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(digits(at), 16).expect("hex")).collect()
}
