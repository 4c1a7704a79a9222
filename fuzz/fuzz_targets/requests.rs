//! See `fuzz_entry::requests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_entry::requests(data));
