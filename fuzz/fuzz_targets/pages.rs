//! See `fuzz_entry::pages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_entry::pages(data));
