//! See `fuzz_entry::permissions`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_entry::permissions(data));
