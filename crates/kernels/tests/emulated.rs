//! An emulated CPU of 2008 gives the bits that this machine gives.
//!
//! The example `bits` must have been built, as `cargo test` does, and it needs Debian's `qemu-user`; otherwise the test prints `skipped`.

#![cfg(target_arch = "x86_64")]

use std::path::Path;
use std::process::Command;

/// What `bits` prints: the instruction sets, and the hashes of all products, none of which differ between them.
fn bits(command: &mut Command) -> (String, Vec<String>) {
    let output = command.output().expect("it was found");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.contains(" 0 differ, ")), "{command:?}: {text}");
    let hash = |line: &&str| line.rsplit(' ').next().unwrap().to_owned();
    (lines[0].split(':').next().unwrap().to_owned(), lines.iter().map(hash).collect())
}

#[test]
fn an_old_cpu_gives_the_same_bits() {
    let program = std::env::current_exe().unwrap();
    let program = program.parent().and_then(Path::parent).unwrap().join("examples/bits");
    if !program.exists() {
        return eprintln!("skipped: the example `bits` was not built");
    }
    if Command::new("qemu-x86_64").arg("--version").output().is_err() {
        return eprintln!("skipped: there is no qemu-x86_64");
    }
    let (_, hashes) = bits(&mut Command::new(&program));
    let emulated = bits(Command::new("qemu-x86_64").args(["-cpu", "Nehalem"]).arg(&program));
    assert_eq!(emulated, ("sse4.1, scalar".to_owned(), hashes));
}
