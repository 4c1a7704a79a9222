//! See `fuzz_entry::paths`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_entry::paths(data));
