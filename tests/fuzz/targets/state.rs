//! Bytes as a stored decision state.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| neap_fuzz::state(data));
