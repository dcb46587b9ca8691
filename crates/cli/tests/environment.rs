//! One rule for all variables.

mod common;

use common::{Ran, llama, run, trine};

/// Every variable with a value that it refuses.
const BAD: &[(&str, &str)] = &[
    ("TRINE_THREADS", "99999"),
    ("TRINE_THREADS_BATCH", "none"),
    ("RAYON_NUM_THREADS", "99999"),
    ("RAYON_NUM_THREADS", "many"),
    ("TRINE_CPU_AFFINITY", "x"),
    ("TRINE_DEVICE", "gpu"),
    ("TRINE_ISA", "mmx"),
    ("TRINE_CACHE_TYPE", "q4_1"),
    ("TRINE_NUMA", "x"),
    ("TRINE_HUGE_PAGES", "x"),
    ("TRINE_REPACK", "x"),
    ("TRINE_MEM_LIMIT", "much"),
    ("TRINE_CONTEXT", "0"),
    ("TRINE_BATCH", "0"),
    ("TRINE_ACTIVATIONS", "x"),
    ("TRINE_LAYOUT", "x"),
    ("TRINE_SEED", "x"),
];

fn with(variables: &[(&str, &str)], flags: &[&str]) -> Ran {
    let mut command = trine();
    command.args(["run", &llama(), "hi", "--raw", "--max-tokens", "1"]).args(flags).envs(variables.iter().copied());
    run(&mut command, "")
}

#[test]
fn an_empty_variable_counts_as_unset() {
    for (name, _) in BAD {
        let ran = with(&[(name, "")], &[]);
        assert_eq!(ran.code, 0, "{name}: {}", ran.err);
        assert!(!ran.err.contains(name), "{name}: {}", ran.err);
    }
}

#[test]
fn an_error_names_the_variable_or_the_flag_that_it_is_about() {
    for (name, value) in BAD {
        let ran = with(&[(name, value)], &[]);
        assert_eq!(ran.code, 2, "{name}: {}", ran.err);
        let expected = format!("'{value}' for '{name}'");
        assert!(ran.err.contains(&expected) && !ran.err.contains("for '--"), "{name}: {}", ran.err);
    }
    // What is wrong in both is reported of the flag, which is what counts.
    for variables in [&[][..], &[("TRINE_THREADS", "99999")]] {
        let ran = with(variables, &["--threads", "99999"]);
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(ran.err.contains("'99999' for '--threads <N>'"), "{}", ran.err);
    }
    // A flag comes before all variables that it excludes; of two variables, none does.
    let ran = with(&[("TRINE_ISA", "scalar")], &["--device", "auto"]);
    assert!(ran.code == 0 && !ran.err.contains("scalar"), "{}", ran.err);
    let ran = with(&[("TRINE_ISA", "scalar"), ("TRINE_DEVICE", "cpu")], &[]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("'TRINE_ISA'") && ran.err.contains("'TRINE_DEVICE'"), "{}", ran.err);
}

#[test]
fn a_variable_that_nothing_reads_is_a_warning() {
    let ran = with(&[("TRINE_THREAD", "2"), ("TRINE_COLOUR", "blue")], &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("warning: TRINE_THREAD is no variable that trine reads; a similar one is TRINE_THREADS"));
    assert!(ran.err.contains("warning: TRINE_COLOUR is no variable that trine reads\n"), "{}", ran.err);
    assert_eq!(with(&[("TRINE_THREAD", "2")], &["--quiet"]).err, "");
}
