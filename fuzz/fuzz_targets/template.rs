#![no_main]

#[path = "../entry.rs"]
mod entry;

// The template engine panics on some templates, which is caught: only what nobody catches ends the fuzzer.
libfuzzer_sys::fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |bytes: &[u8]| entry::template(bytes));
