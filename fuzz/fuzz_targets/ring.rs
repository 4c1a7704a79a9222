//! See `fuzz_entry::ring`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_entry::ring(data));
