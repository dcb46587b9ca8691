#![no_main]

#[path = "../entry.rs"]
mod entry;

// The library behind `tokenizer.json` panics on some files, which is caught: only what nobody catches ends the fuzzer.
libfuzzer_sys::fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |bytes: &[u8]| entry::tokenizer(bytes));
