//! One rule for all variables.

mod common;

use common::server::Server;
use common::{Ran, llama, run, trine, trine_with};

/// Every variable with a value that it refuses.
const BAD: &[(&str, &str)] = &[
    ("TRINE_THREADS", "99999"),
    ("TRINE_THREADS_BATCH", "none"),
    ("RAYON_NUM_THREADS", "99999"),
    ("RAYON_NUM_THREADS", "many"),
    ("TRINE_CPU_AFFINITY", "x"),
    ("TRINE_NICE", "20"),
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

/// What `trine serve` prints of its options with these variables and flags.
fn serve(variables: &[(&str, &str)], flags: &[&str]) -> Ran {
    let mut command = trine();
    command.args(["serve", "--print-config"]).args(flags).envs(variables.iter().copied());
    run(&mut command, "")
}

#[test]
fn every_option_of_serve_has_a_variable_of_its_name() {
    let help = run(trine().args(["serve", "--help"]), "").out;
    let options = help.lines().filter_map(|line| line.trim_start().strip_prefix("-q, ").or(Some(line.trim_start())));
    let options = options.filter_map(|line| line.strip_prefix("--")?.split([' ', '[']).next());
    let elsewhere = ["config", "tuning", "print-config", "threads]"];
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut count = 0;
    for option in options.filter(|option| !elsewhere.contains(option)) {
        let value = match option {
            "cors-origin" => "https://a.test,https://b.test",
            "trusted-proxy" => "10.0.0.0/8,unix",
            "layout" => "i2_s,i2_s_arm",
            "device" => "cpu",
            "isa" => "scalar",
            "cache-type" => "q8_0",
            "activations" => "f32",
            "numa" | "huge-pages" | "repack" | "prefault" => "off",
            "otlp-endpoint" => "http://a.test",
            "cpu-affinity" => "auto",
            "log-format" => "text",
            "mode" => "throughput",
            "quantize-on-load" => "q8_0",
            "template" => file.path().to_str().unwrap(),
            _ => "1",
        };
        let name = format!("TRINE_{}", option.replace('-', "_").to_uppercase());
        let ran = serve(&[(&name, value)], &[]);
        let line = ran.out.lines().find(|line| line.contains(&format!("# the variable {name}")));
        let line = line.unwrap_or_else(|| panic!("{name}: {}{}", ran.out, ran.err));
        assert_eq!(line.trim_start_matches("# ").split(' ').next(), Some(option), "{line}");
        // Other commands may have no such option, and none says that it is unknown.
        let other = run(trine().args(["tokenize", &llama(), "x"]).env(&name, value), "");
        assert!(other.code == 0 && !other.err.contains("TRINE_"), "{name}: {}", other.err);
        count += 1;
    }
    assert!(count > 45, "{count}: {help}");
    assert!(help.contains("TRINE_MODEL") && !help.contains("[env:"), "{help}");
}

#[test]
fn variables_of_serve_come_between_flags_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serve.toml");
    std::fs::write(&path, "parallel = 2\n[serve]\nquiet = true\nno-mmap = true\nkeys = \"k.toml\"\n").unwrap();
    let config = ["--config", path.to_str().unwrap()];
    let printed = |variables: &[(&str, &str)], flags: &[&str], expected: &str| {
        let ran = serve(variables, flags);
        assert_eq!(ran.code, 0, "{variables:?}: {}", ran.err);
        let squeezed: Vec<String> =
            ran.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert!(squeezed.iter().any(|line| line.starts_with(expected)), "{expected}: {}", ran.out);
    };
    let three = [("TRINE_PARALLEL", "3"), ("TRINE_MODE", "throughput")];
    printed(&three, &[&config[..], &["--parallel", "4"]].concat(), "parallel = 4 # the command line");
    printed(&three, &config, "parallel = 3 # the variable TRINE_PARALLEL");
    printed(&three[1..], &config, &format!("parallel = 2 # {}", path.display()));
    printed(&three[1..], &[], "parallel = 32 # --mode throughput");
    printed(&[("TRINE_MAX_QUEUED", "")], &[], "# max-queued = 256 # default");
    // A switch is on, or off against a file, where it excludes nothing.
    for value in ["1", "true"] {
        printed(&[("TRINE_MLOCK", value)], &[], "mlock = true # the variable TRINE_MLOCK");
    }
    for value in ["0", "false"] {
        printed(&[("TRINE_NO_MMAP", value)], &config, "no-mmap = false # the variable TRINE_NO_MMAP");
        printed(&[("TRINE_NO_AUTH", value), ("TRINE_KEYS", "x")], &[], "keys = \"x\" # the variable TRINE_KEYS");
        printed(&[("TRINE_NO_AUTH", value)], &config, "keys = \"k.toml\" #");
    }
    printed(&[("TRINE_NO_AUTH", "1")], &config, "no-auth = true # the variable TRINE_NO_AUTH");
    printed(&[("TRINE_NO_AUTH", "1")], &["--keys", "x"], "keys = \"x\" # the command line");
    // Lists, other names of an option, and a variable of other programs.
    let origins = [("TRINE_CORS_ORIGIN", "http://a.test,http://b.test")];
    printed(&origins, &[], "cors-origin = [\"http://a.test\", \"http://b.test\"] # the variable TRINE_CORS_ORIGIN");
    printed(&[("TRINE_PREFILL_CHUNK", "9")], &[], "batch = 9 # the variable TRINE_PREFILL_CHUNK");
    let collector = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a.test");
    printed(&[collector], &[], "otlp-endpoint = \"http://a.test\" # the variable OTEL_");
    let ours = ("TRINE_OTLP_ENDPOINT", "http://b.test");
    printed(&[collector, ours], &[], "otlp-endpoint = \"http://b.test\" # the variable TRINE_OTLP_ENDPOINT");
}

#[test]
fn serve_refuses_variables_that_it_does_not_know_and_values_that_are_wrong() {
    for (name, value, expected) in [
        ("TRINE_PARALEL", "3", "TRINE_PARALEL is no variable that trine reads; a similar one is TRINE_PARALLEL"),
        ("TRINE_COLOUR", "blue", "TRINE_COLOUR is no variable that trine reads\n"),
        ("TRINE_PARALLEL", "0", "'0' for 'TRINE_PARALLEL'"),
        ("TRINE_MLOCK", "maybe", "'maybe' for 'TRINE_MLOCK'"),
        ("TRINE_ITL_TARGET", "x", "'x' for 'TRINE_ITL_TARGET'"),
        ("TRINE_TRUSTED_PROXY", "10.0.0.0/33", "'10.0.0.0/33' for 'TRINE_TRUSTED_PROXY'"),
    ] {
        let ran = serve(&[(name, value)], &["--quiet"]);
        assert!(ran.code == 2 && ran.err.contains(expected), "{name}: {} {}", ran.code, ran.err);
    }
    let both = serve(&[("TRINE_KEYS", "x"), ("TRINE_NO_AUTH", "1")], &[]);
    assert!(
        both.code == 2 && both.err.contains("'TRINE_KEYS'") && both.err.contains("'TRINE_NO_AUTH'"),
        "{}",
        both.err
    );
    // What is wrong is said without the password.
    for (name, value, shown) in [
        (
            "TRINE_OTLP_ENDPOINT",
            "http://user:hunter2@a.test:4318",
            "'http://***@a.test:4318' for 'TRINE_OTLP_ENDPOINT'",
        ),
        ("TRINE_OTLP_ENDPOINT", "user:hunter2@a.test:4318", "'***@a.test:4318' for 'TRINE_OTLP_ENDPOINT'"),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "https://a.test/hunter2",
            "'https://a.test/***' for 'OTEL_EXPORTER_OTLP_ENDPOINT'",
        ),
    ] {
        for ran in [serve(&[(name, value)], &[]), serve(&[], &["--otlp-endpoint", value])] {
            assert!(ran.code == 2 && !ran.err.contains("hunter2"), "{name}: {} {}", ran.code, ran.err);
        }
        assert!(serve(&[(name, value)], &[]).err.contains(shown), "{name}");
        let help = run(trine().args(["serve", "--help"]).env(name, value), "");
        assert!(help.code == 0 && !help.out.contains("hunter2"), "{}", help.out);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serve.toml");
    std::fs::write(&path, "[serve]\notlp-endpoint = \"https://user:hunter2@a.test\"\n").unwrap();
    let ran = serve(&[], &["--config", path.to_str().unwrap()]);
    let is_masked = ran.err.contains("https://***@a.test") && !ran.err.contains("hunter2");
    assert!(ran.code == 2 && is_masked, "{} {}", ran.code, ran.err);
    // A key that is given in a wrong place is not told.
    let key = "sk-4hunter2hunter2hunter2";
    for args in [
        &["serve", "--host", key][..],
        &["serve", key],
        &["serve", "--trusted-proxy", key],
        &["top", key],
        &["serve", "a", key],
    ] {
        let ran = trine_with(args);
        assert!(ran.code != 0 && ran.err.contains("***") && !ran.err.contains("hunter2"), "{args:?}: {}", ran.err);
    }
    let ran = trine_with(&["top", "--webhook", "hooks.test/hunter2"]);
    let is_plain =
        ran.err.contains("'hooks.test/***' for '--webhook <URL>'") && ran.err.contains("http:// or https://");
    assert!(ran.code == 2 && is_plain && !ran.err.contains("hunter2"), "{}", ran.err);
    for command in ["serve", "top"] {
        let help = run(trine().args([command, "--help"]).env("TRINE_API_KEY", "secret"), "");
        assert!(help.code == 0 && !help.out.contains("secret"), "{}", help.out);
    }
}

#[test]
fn a_server_takes_its_model_and_options_from_variables() {
    let mut command = trine();
    command.env("TRINE_MODEL", llama()).env("TRINE_ALIAS", "miller").env("TRINE_NO_MMAP", "true");
    let server = Server::start_with(command, &[]);
    assert!(server.get("/v1/models").text.contains("\"miller\""), "{}", server.url);
}
