//! Options in a file: they count where nothing else is said, and what no option means is refused.

mod common;

use common::{Ran, llama, run, trine};
use std::path::Path;

/// Runs a command with this file.
fn with(config: &str, args: &[&str], variables: &[(&str, &str)]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("options.toml");
    std::fs::write(&path, config).unwrap();
    let mut command = trine();
    command.args(args).args(["--config", path.to_str().unwrap()]).envs(variables.iter().copied());
    run(&mut command, "")
}

/// The number of tokens that are generated.
fn tokens(config: &str, more: &[&str], variables: &[(&str, &str)]) -> u64 {
    let llama = llama();
    let args = [&["run", &llama, "The miller counted", "--raw", "--ignore-eos", "--json"][..], more].concat();
    let ran = with(config, &args, variables);
    assert_eq!(ran.code, 0, "{config}: {}", ran.err);
    ran.json()["usage"]["completion_tokens"].as_u64().unwrap()
}

#[test]
fn flags_come_before_variables_and_these_before_the_file() {
    assert_eq!(tokens("max-tokens = 3", &[], &[]), 3);
    assert_eq!(tokens("max_tokens = 3\n[run]\nmax-tokens = 4", &[], &[]), 4, "the command's own table counts");
    assert_eq!(tokens("max-tokens = 3\n[batch]\nparallel = 4", &[], &[]), 3, "another's does not");
    assert_eq!(tokens("max-tokens = 3\nprefill-chunk = 4", &[], &[]), 3, "an option has several names");
    assert_eq!(tokens("max-tokens = 3", &["--max-tokens", "5"], &[]), 5);
    assert_eq!(tokens("max-tokens = 3\ncontext = 1", &[], &[("TRINE_CONTEXT", "64")]), 3);
    // Switches, numbers, and options that take several values.
    assert_eq!(
        tokens("max-tokens = 2\ntemperature = 0.5\nquiet = true\nlayout = [\"i2_s\", \"i2_s_arm\"]", &[], &[]),
        2
    );
    // `--device` would conflict with `--isa`, and what is asked for counts.
    assert_eq!(tokens("max-tokens = 2\nisa = \"scalar\"", &["--device", "cpu"], &[]), 2);
}

#[test]
fn what_is_asked_for_comes_before_all_that_it_excludes() {
    let folder = tempfile::tempdir().unwrap();
    let schema = folder.path().join("schema.json");
    std::fs::write(&schema, "{\"type\": \"null\"}").unwrap();
    let schema = format!("json-schema = {schema:?}");
    let answer = |config: &str, more: &[&str], variables: &[(&str, &str)]| {
        let ran = with(config, &[&["run", "embedded:stories", "Once", "--max-tokens", "9"], more].concat(), variables);
        assert_eq!(ran.code, 0, "{config}: {}", ran.err);
        (ran.out.trim().to_owned(), ran.err)
    };
    let choice = &["--choices", "b"][..];
    for (config, more, expected) in [
        ("regex = \"a\"", choice, "b"),
        ("[run]\nregex = \"a\"", choice, "b"),
        (&schema, choice, "b"),
        (&schema, &["--regex", "b"], "b"),
        ("regex = \"a\"\n[run]\nchoices = \"b\"", &[], "b"),
        ("choices = \"b\"\n[run]\nregex = \"a\"", &[], "a"),
    ] {
        assert_eq!(answer(config, more, &[]).0, expected, "{config}");
    }
    let device = |config: &str, more: &[&str], variables: &[(&str, &str)]| {
        let err = answer(config, &[&["--choices", "b"], more].concat(), variables).1;
        err.lines().find_map(|line| Some(line.strip_prefix("context ")?.to_owned())).unwrap()
    };
    let scalar = device("", &["--isa", "scalar"], &[]);
    assert!(scalar.contains("scalar"), "{scalar}");
    let auto = device("", &[], &[]);
    assert_eq!(device("isa = \"scalar\"", &[], &[("TRINE_DEVICE", "auto")]), auto);
    assert_eq!(device("device = \"auto\"", &[], &[("TRINE_ISA", "scalar")]), scalar);
    assert_eq!(device("device = \"auto\"", &["--isa", "scalar"], &[("TRINE_DEVICE", "auto")]), scalar);
    // A switch that is off excludes nothing.
    let err = answer("quiet = false\nverbose = true", choice, &[]).1;
    assert!(err.contains("activations"), "{err}");
    for (config, expected) in [
        ("regex = \"a\"\nthreads = 1\nchoices = \"b\"", "line 3: `choices` cannot be used with `regex` of line 1"),
        ("[run]\nisa = \"scalar\"\ndevice = \"cpu\"", "line 3: `device` cannot be used with `isa` of line 2"),
        ("quiet = true\nverbose = true", "line 2: `verbose` cannot be used with `quiet` of line 1"),
    ] {
        let ran = with(config, &["run", "embedded:stories", "x"], &[]);
        assert!(ran.code == 2 && ran.err.contains(&format!("options.toml, {expected}")), "{config}: {}", ran.err);
    }
}

#[test]
fn the_file_of_the_user_is_found() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("trine")).unwrap();
    let path = folder.path().join("trine/config.toml");
    std::fs::write(&path, "[run]\nmax-tokens = 3\n").unwrap();
    let usual = |more: &[&str], quiet: bool| {
        let mut command = trine();
        command.env("XDG_CONFIG_HOME", folder.path()).args(["run", &llama(), "The", "--raw", "--json", "--ignore-eos"]);
        let ran = run(command.args(more), "");
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_ne!(ran.err.contains(&format!("options from {}", path.display())), quiet, "{}", ran.err);
        ran.json()["usage"]["completion_tokens"].clone()
    };
    assert_eq!(usual(&[], false), 3);
    assert_eq!(usual(&["--quiet"], true), 3);
    assert!(usual(&["--config", "off", "--max-tokens", "2"], true) == 2);
    // Other commands have no options there, and do not read it.
    std::fs::write(&path, "what = is this").unwrap();
    let ran = run(trine().env("XDG_CONFIG_HOME", folder.path()).args(["tokenize", &llama(), "x"]), "");
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn what_no_option_means_is_refused_by_line() {
    for (config, expected) in [
        ("x = ", "line 1: "),
        (
            "threads = 1\nthreds = 2",
            "line 2: expected the name of an option, found `threds`; a similar one is `threads`",
        ),
        ("[run]\n\nparallel = 2", "line 3: [run] expected the name of an option, found `parallel`"),
        (
            "[host]\nport = 1",
            "line 1: expected [run], [serve], [batch], [generate-data], [bench], [info], found [host]",
        ),
        ("[run.x]\ny = 1", "line 1: [run] expected the name of an option, found `x`"),
        ("threads = [1, 2]", "line 1: `threads`: expected a string, a number, true or false"),
        ("threads = []", "line 1: `threads`: expected a string"),
        ("threads = 2020-01-01", "line 1: `threads`: expected a string"),
        ("batch = 4", "line 1: `batch`: expected it below [run] or [bench], where it means different things"),
        ("prefill = [[1]]", "line 1: `prefill`: expected a value or an array of values"),
        ("config = \"x\"", "line 1: expected the name of an option, found `config`"),
        ("threads_batch = 1\nthreads-batch = 2", "line 1: `threads_batch` is there twice"),
        ("help = true", "line 1: expected the name of an option, found `help`"),
    ] {
        let ran = with(config, &["run", &llama(), "x"], &[]);
        assert_eq!(ran.code, 2, "{config}: {}", ran.err);
        assert!(ran.err.contains(&format!("options.toml, {expected}")), "{config}: {}", ran.err);
    }
    for (config, expected) in [
        ("threads = 0", "'0' for 'threads of FILE, line 1'"),
        ("\n[run]\ncache-type = \"f8\"", "'f8' for 'cache-type of FILE, line 3'"),
        ("quiet = \"maybe\"", "'maybe' for 'quiet of FILE, line 1'"),
    ] {
        let ran = with(config, &["run", &llama(), "x"], &[]);
        let (before, after) = expected.split_once("FILE").unwrap();
        let found = ran.err.split_once(before).is_some_and(|(_, rest)| rest.contains(&format!("options.toml{after}")));
        assert!(ran.code == 2 && found, "{config}: {} {}", ran.code, ran.err);
    }
    let missing = run(trine().args(["run", "x", "--config", "no/such/file.toml"]), "");
    assert!(missing.code != 0 && missing.err.contains("no/such/file.toml"), "{}", missing.err);
    let folder = run(trine().args(["run", "x", "--config"]).arg(Path::new(env!("CARGO_MANIFEST_DIR"))), "");
    assert!(folder.code != 0 && folder.err.contains("a folder"), "{}", folder.err);
}

#[test]
fn a_switch_of_the_file_can_be_switched_off() {
    let err = |config: &str, more: &[&str]| {
        let ran = with(config, &[&["run", &llama(), "The", "--raw", "--max-tokens", "1"], more].concat(), &[]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.err
    };
    assert_eq!(err("quiet = true", &[]), "");
    assert!(err("quiet = true", &["--quiet=false"]).contains("answer 1 token"));
    assert_eq!(err("", &["--quiet=true"]), "");
    let wrong = with("", &["run", &llama(), "The", "--quiet=maybe"], &[]);
    assert!(wrong.code == 2 && wrong.err.contains("'maybe' for '--quiet"), "{}", wrong.err);
}

#[test]
fn a_mode_is_overridden_by_all_else() {
    let context = |config: &str, more: &[&str]| {
        let ran = with(config, &[&["info", "embedded:stories", "--json"], more].concat(), &[]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        serde_json::from_str::<serde_json::Value>(&ran.out).unwrap()["memory"].clone()
    };
    let plain = context("", &[]);
    let cache = |memory: &serde_json::Value| memory["kv_cache_bytes"].as_u64().unwrap();
    let low = ["--mode", "low-memory"];
    assert!(3 * cache(&context("", &low)) < cache(&plain), "{plain}");
    assert_eq!(cache(&context("mode = \"low-memory\"", &[])), cache(&context("", &low)));
    assert_eq!(cache(&context("cache-type = \"f32\"", &low)), cache(&plain));
    assert_eq!(cache(&context("", &[&low[..], &["--cache-type", "f32"]].concat())), cache(&plain));
    let wrong = with("", &["info", "embedded:stories", "--mode", "fast"], &[]);
    assert!(wrong.code == 2 && wrong.err.contains("low-latency"), "{}", wrong.err);
}

#[test]
fn options_that_are_printed_mean_the_same_in_a_file() {
    // All that is set, without who says so.
    let settings = |printed: &Ran| -> Vec<String> {
        assert_eq!(printed.code, 0, "{}", printed.err);
        let lines = printed.out.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.split("  # ").next().unwrap().trim_end().to_owned()).collect()
    };
    let variables = &[("TRINE_PORT", "9000"), ("TRINE_API_KEY", "secret"), ("TRINE_THREADS", "2")][..];
    let serve = ["serve", "--print-config", "--alias", "007", "--no-mmap", "--cors-origin", "http://a.test"];
    let more = ["--cors-origin", "http://b.test", "--isa", "scalar", "--mode", "low-latency"];
    for (args, config) in [
        (&[&serve[..], &more].concat()[..], "drain-timeout = 5\nquiet = true"),
        (&["run", "--print-config", "m.gguf", "--temperature", "0.5", "--stop", "a\"b\n"], "seed = 7"),
        (&["batch", "--print-config", "m.gguf", "in", "out"], "parallel = 3"),
        (&["bench", "--print-config", "m.gguf"], ""),
        // `--count` is required.
        (&["generate-data", "--print-config", "m.gguf", "out", "--count", "3"], ""),
    ] {
        let first = with(config, args, variables);
        assert!(!first.out.contains("secret"), "{}", first.out);
        // Files that a command needs are no options.
        let files = &args.iter().copied().filter(|arg| ["m.gguf", "in", "out"].contains(arg)).collect::<Vec<_>>()[..];
        let again = with(&first.out, &[&[args[0], "--print-config"], files].concat(), &[]);
        assert_eq!(settings(&first), settings(&again));
        assert!(settings(&first).len() > 1, "{}", first.out);
    }
    let none = with("seed = 1", &["generate-data", "m.gguf", "out"], &[]);
    assert!(none.code == 2 && none.err.contains("not provided:\n  --count <N>"), "{}", none.err);
    let printed = with("drain-timeout = 5", &[&serve[..], &more].concat(), variables).out;
    for expected in [
        "alias = \"007\" ",
        "# the command line",
        "port = 9000 ",
        "# the variable TRINE_PORT",
        "drain-timeout = 5 ",
        "options.toml, line 1",
        "cors-origin = [\"http://a.test\", \"http://b.test\"]",
        "itl-target = 50 ",
        "# --mode low-latency",
        "no-mmap = true",
        "# host = \"127.0.0.1\" ",
        "# api-key",
        "# the variable TRINE_API_KEY; not shown",
        "isa = \"scalar\"",
    ] {
        assert!(printed.contains(expected), "{expected}: {printed}");
    }
}

#[test]
fn a_preset_tells_its_values() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let values = [("repetition-penalty", "1.1"), ("top-k", "100"), ("top-p", "0.95"), ("temperature", "0.8")];
    let help = words(&run(trine().args(["run", "--help"]), "").out);
    let quality = help.split("quality: ").nth(1).unwrap();
    let run = |more: &[&str]| {
        let ran = with("", &[&["run", &llama(), "The", "--raw", "--max-tokens", "1"], more].concat(), &[]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran
    };
    let told = run(&["--preset", "quality", "--verbose"]).err;
    let told = told.lines().find_map(|line| line.strip_prefix("preset quality: ")).unwrap();
    for (option, value) in values {
        assert!(quality.contains(&format!("--{option} {value}")), "{option}: {help}");
        assert!(told.contains(&format!("{option} {value}")), "{option}: {told}");
    }
    assert!(!run(&["--preset", "quality"]).err.contains("preset"));
    assert!(!run(&["--verbose"]).err.contains("preset"));

    let printed = run(&["--preset", "quality", "--temperature", "0.5", "--print-config"]).out;
    let lines: Vec<String> = printed.lines().map(words).collect();
    for line in ["temperature = 0.5 # the command line", "# top-k = 100 # --preset quality"] {
        assert!(lines.iter().any(|other| other == line), "{line}: {printed}");
    }
    assert!(!printed.contains("temperature = 0.8"), "{printed}");
}
