//! Emulated CPUs, one of 2008 and three of ARM, give the bits that this machine gives.
//!
//! The example `bits` must have been built, as `cargo test` does, for ARM as `.ci/run` does, and it needs Debian's `qemu-user`; otherwise a test
//! prints `skipped`.

#![cfg(target_arch = "x86_64")]

use std::path::{Path, PathBuf};
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

/// The example, as it was built for a target: for this machine, if that has no name.
fn example(target: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    // Of what is built for another target than the host, the folder has its name.
    let root = profile.parent().unwrap();
    let path = root.join(target).join(profile.file_name().unwrap()).join("examples/bits");
    path.exists().then_some(path)
}

/// Whether these CPUs have the bits of this machine, each with its instruction sets.
fn compare(qemu: &str, target: &str, cpus: &[(&str, &str)]) {
    let (Some(native), Some(program)) = (example(""), example(target)) else {
        return eprintln!("skipped: the example `bits` was not built for {target}");
    };
    if Command::new(qemu).arg("--version").output().is_err() {
        return eprintln!("skipped: there is no {qemu}");
    }
    let (_, hashes) = bits(&mut Command::new(native));
    for (cpu, tables) in cpus {
        // Debian's libraries for ARM; programs for this machine find theirs as before.
        let emulated = bits(Command::new(qemu).args(["-L", "/usr/aarch64-linux-gnu", "-cpu", cpu]).arg(&program));
        assert_eq!(emulated, ((*tables).to_owned(), hashes.clone()), "{cpu}");
    }
}

#[test]
fn an_old_cpu_gives_the_same_bits() {
    compare("qemu-x86_64", "", &[("Nehalem", "sse4.1, scalar")]);
}

#[test]
fn cpus_of_arm_give_the_same_bits() {
    let cpus = [
        ("max", "i8mm, dotprod, neon, scalar"),
        ("neoverse-n1", "dotprod, neon, scalar"),
        ("cortex-a53", "neon, scalar"),
    ];
    compare("qemu-aarch64", "aarch64-unknown-linux-gnu", &cpus);
}
