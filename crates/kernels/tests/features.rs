//! A program that was compiled for features that the CPU lacks says so, and uses none of them before.
//!
//! The check is compiled alone, and emulated. It needs Debian's `qemu-user`; without it, it prints `skipped`.

#![cfg(target_arch = "x86_64")]

use std::path::Path;
use std::process::Command;

/// What the program is compiled with; a CPU that lacks some of it, if it needs any; and one that has it.
const CASES: &[(&[&str], Option<&str>, &str)] = &[
    (&[], None, "Nehalem"),
    (&["target-feature=+avx2,+fma"], Some("Nehalem"), "Haswell"),
    (&["target-feature=+avx2"], Some("Westmere"), "Haswell"),
    (&["target-feature=+bmi1,+bmi2,+lzcnt,+movbe"], Some("SandyBridge"), "Haswell"),
    (&["target-cpu=x86-64-v2"], Some("core2duo"), "Nehalem"),
    (&["target-cpu=x86-64-v3"], Some("Nehalem"), "max"),
    (&["target-cpu=x86-64-v4"], Some("Nehalem"), ""),
    (&["target-cpu=sapphirerapids"], Some("Haswell"), ""),
];

#[test]
fn a_cpu_that_lacks_a_feature_is_told_so() {
    if Command::new("qemu-x86_64").arg("--version").output().is_err() {
        return eprintln!("skipped: there is no qemu-x86_64");
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("main.rs");
    let features = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/simd/features.rs");
    let main = "fn main() { features::require_cpu_features(); start() }\n#[inline(never)]\nfn start() { println!(\"fine\") }\n";
    std::fs::write(&source, format!("#[path = {features:?}]\nmod features;\n{main}")).unwrap();
    for (flags, lacking, having) in CASES {
        for level in ["0", "3"] {
            let program = folder.path().join("program");
            let mut rustc = Command::new("rustc");
            rustc.args(["--edition=2024", "-C", &format!("opt-level={level}"), "-o"]).arg(&program).arg(&source);
            rustc.args(flags.iter().flat_map(|flag| ["-C", flag]));
            assert!(rustc.status().unwrap().success(), "{flags:?}");
            let run = |cpu: &str| Command::new("qemu-x86_64").args(["-cpu", cpu]).arg(&program).output().unwrap();
            if let Some(cpu) = lacking {
                let ran = run(cpu);
                let errors = String::from_utf8_lossy(&ran.stderr);
                assert_eq!(ran.status.code(), Some(1), "{flags:?} on {cpu}, level {level}: {errors}");
                let named = flags[0].split_once('+').map_or("ssse3", |(_, names)| names.split(',').next().unwrap());
                assert!(errors.contains("compiled for CPUs with") && errors.contains(named), "{flags:?}: {errors}");
            }
            if !having.is_empty() {
                let ran = run(having);
                let errors = String::from_utf8_lossy(&ran.stderr);
                assert_eq!((ran.status.code(), &ran.stdout[..]), (Some(0), &b"fine\n"[..]), "{flags:?}: {errors}");
            }
        }
    }
}
