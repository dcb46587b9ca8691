//! The kernels and the program on aarch64, compiled here and emulated: CPUs with I8MM, with the dot product only, and with plain NEON
//! give the bits that this machine gives.
//!
//! It needs Debian's `qemu-user`, `gcc-aarch64-linux-gnu`, and a compiler with the standard library for aarch64: rustup's target, or after
//! `dpkg --add-architecture arm64` the packages `rustc-web` and `libstd-rust-web-dev:arm64`. Without them it prints `skipped`.

mod common;

use common::{Ran, llama, run, trine};
use std::path::Path;
use std::process::Command;

const TARGET: &str = "aarch64-unknown-linux-gnu";
/// What qemu calls a CPU, and the tables that it can run.
const CPUS: &[(&str, &[&str])] = &[
    ("max", &["i8mm", "dotprod", "neon", "scalar"]),
    ("neoverse-n1", &["dotprod", "neon", "scalar"]),
    ("cortex-a53", &["neon", "scalar"]),
];

/// What a program prints, if it is there.
fn answer(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// A compiler that has the target's standard library.
fn compiler() -> Option<&'static str> {
    ["rustc", "/usr/bin/rustc"].into_iter().find(|rustc| {
        let libraries = answer(rustc, &["--print", "target-libdir", "--target", TARGET]);
        libraries.is_some_and(|folder| Path::new(folder.trim()).is_dir())
    })
}

/// A greedy answer's ids, text and log probabilities.
fn greedy(program: &mut Command, isa: &str) -> Ran {
    let options = ["--raw", "--temperature", "0", "--max-tokens", "16", "--logprobs", "5", "--json", "--isa", isa];
    run(program.args(["run", &llama(), "The miller counted 17 pear trees"]).args(options), "")
}

#[test]
#[ignore = "compiles everything once more, and emulates: ten minutes"]
fn every_aarch64_cpu_gives_the_bits_of_this_machine() {
    let Some(rustc) = compiler() else { return eprintln!("skipped: no compiler has the target {TARGET}") };
    for tool in ["aarch64-linux-gnu-gcc", "qemu-aarch64"] {
        if answer(tool, &["--version"]).is_none() {
            return eprintln!("skipped: there is no {tool}");
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // A folder of its own: the build that runs this test has locked the usual one.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("aarch64");
    let cargo = |cpu: &str, command: &str, package: &str| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(&root).args([command, "--quiet", "--locked", "--target", TARGET, "-p", package]);
        cargo.env("RUSTC", rustc).env("CARGO_TARGET_DIR", &target).env_remove("RUSTFLAGS");
        cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
        cargo.env(
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
            format!("qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu {cpu}"),
        );
        cargo
    };
    let expected = greedy(&mut trine(), "scalar").json();
    for (cpu, tables) in CPUS {
        let kernels = run(cargo(cpu, "test", "trine-kernels").args(["--lib", "--test", "tables"]), "");
        assert_eq!(kernels.code, 0, "{cpu}: {}{}", kernels.out, kernels.err);
        for isa in CPUS[0].1 {
            let ran = greedy(cargo(cpu, "run", "trine-cli").arg("--"), isa);
            if !tables.contains(isa) {
                assert_eq!(ran.code, 2, "{cpu}, {isa}: {}", ran.err);
                assert!(ran.err.contains(&format!("cpu:{}", tables.join(", cpu:"))), "{cpu}, {isa}: {}", ran.err);
                continue;
            }
            let found = ran.json();
            for key in ["ids", "text", "logprobs"] {
                assert_eq!(found[key], expected[key], "{cpu}, {isa}");
            }
        }
    }
}
