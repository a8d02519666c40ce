#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| (headpond_testkit::LOOKUPS.run)(input));
