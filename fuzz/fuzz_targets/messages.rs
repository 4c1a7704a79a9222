//! See `fuzz_entry::messages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_entry::messages(data));
