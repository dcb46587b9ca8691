//! Errors have one sentence, a hint and an exit status.

mod common;

use common::{changed, llama, spoil, trine, trine_with};
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use trine_tensor::{Array, Value};

/// Runs and expects this status, and these texts on stderr.
fn check(args: &[&str], code: i32, texts: &[&str]) {
    let ran = trine_with(args);
    assert_eq!(ran.code, code, "{args:?}: {}", ran.err);
    for text in texts {
        assert!(ran.err.contains(text), "{args:?}: expected {text:?} in {:?}", ran.err);
    }
    assert!(code == 0 || ran.err.contains("error: "), "{args:?}: {}", ran.err);
}

#[test]
fn invalid_commands_exit_with_2() {
    let model = &llama();
    let run = |more: &[&'static str]| [&["run", model, "hi", "--raw"], more].concat();
    check(&["nonsense"], 2, &["nonsense"]);
    check(&run(&["--frobnicate"]), 2, &["--frobnicate"]);
    check(&run(&["--temperature", "-1"]), 2, &["temperature = -1", "of at least 0"]);
    check(&run(&["--temperature", "warm"]), 2, &["temperature = warm", "a number"]);
    check(&run(&["--top-p", "1.5"]), 2, &["top_p = 1.5", "from 0 to 1"]);
    check(&run(&["--logit-bias", "5"]), 2, &["logit_bias = 5", "42=-1.5"]);
    check(&run(&["--logit-bias", "5000=1"]), 2, &["token 5000", "288"]);
    check(&run(&["--preset", "best"]), 2, &["fast, balanced, quality"]);
    check(&run(&["--isa", "mmx"]), 2, &["`cpu:mmx`", "cpu:scalar"]);
    let folder = env!("CARGO_MANIFEST_DIR");
    for option in ["--template", "--tools"] {
        check(&[&run(&[option])[..], &[folder]].concat(), 2, &[option, folder, "expected a file, found a folder"]);
    }
    check(&run(&["--threads", "0"]), 2, &["--threads"]);
    check(&run(&["--cache-type", "q4_1"]), 2, &["q4_1", "f32, f16, bf16, q8_0, q4_0"]);
    check(&["bench", model, "--cache-type", "q9"], 2, &["q9", "f32, f16, bf16, q8_0, q4_0"]);
    check(&run(&["--cpu-affinity", "x"]), 2, &["none, auto, compact, scatter, or a list"]);
    check(&run(&["--cpu-affinity", "9999"]), 2, &["CPU 9999", "hint: "]);
    check(&run(&["--mem-limit", "1KB"]), 1, &["the limit of 1000", "hint: raise --mem-limit"]);
    check(&run(&["--mem-limit", "abc"]), 2, &["expected a size, such as 900MB or 8GiB"]);
    check(&run(&["--mem-limit", "2MiB"]), 1, &[" MiB of memory (weights ", "the limit of 2.0 MiB"]);
    for (flag, value) in [("--seed", "18446744073709551616"), ("--top-k", "100000000000000000000000")] {
        check(&run(&[flag, value]), 2, &[value, "a whole number of at least 0"]);
    }
    check(&run(&["--context", "129"]), 2, &["129", "128", "hint: "]);
    check(&run(&["--system", "Be brief."]), 2, &["--system", "--raw"]);
    check(&["tokenize", model, "--decode", "1 5000"], 2, &["5000", "288", "hint: "]);
    check(&["info", model, "--context", "129"], 2, &["129", "128", "hint: "]);
    check(
        &["quantize", model, "x.gguf", "-f", "q8_0", "--output-type", "Q4_K_M"],
        2,
        &["the mixture `Q4_K_M`, which is mostly Q4_K", "hint: "],
    );
    check(&["quantize", model, "x.gguf", "-f", "q4_k", "--block-size", "64"], 2, &["256 weights in a block", "hint: "]);
    check(&["quantize", model, "x.gguf"], 2, &["expected --format", "hint: "]);
    check(&["quantize", model, "x.gguf", "--tensor", "ffn_down"], 2, &["--tensor: expected PATTERN=FORMAT"]);
    check(&["quantize", model, "x.gguf", "--layers", "3-1=q8_0"], 2, &["--layers: expected FIRST-LAST=FORMAT"]);
    check(&["quantize", model, "x.gguf", "--layers", "99=q8_0"], 2, &["no tensor matches 99=q8_0"]);
    check(&["run", "--", "-x"], 3, &["trine run embedded:stories -- -x"]);
}

#[test]
fn an_empty_prompt_is_a_prompt() {
    let ran = trine_with(&["run", "", "--max-tokens", "2"]);
    assert!(ran.code == 0 && !ran.out.is_empty(), "{}", ran.err);
}

#[test]
fn an_empty_path_is_no_model() {
    check(&["run", "", "hi"], 2, &["expected a model before the prompt, found an empty name", "hint: omit it"]);
    check(&["info", ""], 2, &["a value is required for '<MODEL>'"]);
}

#[test]
fn outputs_are_new_files_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (model, text, there, dir) = (llama(), at("text.txt"), at("there"), at("dir"));
    for (name, content) in [("text.txt", "the mill and the miller"), ("there", "x"), ("lines.jsonl", "x"), ("none", "")]
    {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    std::fs::create_dir(&dir).unwrap();
    let generate = |out: &str, more: &[&str]| {
        let args = ["generate-data", &model, out, "--count", "1", "--max-tokens", "2", "--keep-cut", "--prompt", "The"];
        trine_with(&[&args[..], more].concat())
    };
    for (name, hint) in
        [("there", "hint: choose another name; --force"), ("lines.jsonl", "hint: --resume continues it")]
    {
        let ran = generate(&at(name), &[]);
        assert!(ran.code == 2 && ran.err.contains("expected no file") && ran.err.contains(hint), "{}", ran.err);
    }
    assert_eq!(generate(&at("none"), &[]).code, 0);
    #[cfg(unix)]
    {
        let resumed = generate("/dev/null", &["--resume"]);
        assert_eq!(resumed.code, 0, "{}", resumed.err);
    }
    let forced = generate(&at("lines.jsonl"), &["--force"]);
    let lines = std::fs::read_to_string(at("lines.jsonl")).unwrap();
    assert!(forced.code == 0 && lines.lines().count() == 1 && lines.starts_with('{'), "{}{lines}", forced.err);
    let quantize = |out: &str| ["quantize", &model, out, "-f", "q8_0"].map(str::to_owned).to_vec();
    let tokenizer = |out: &str| ["tokenizer", "train", out, &text].map(str::to_owned).to_vec();
    for command in [&quantize as &dyn Fn(&str) -> Vec<String>, &tokenizer] {
        for (out, code, says) in [
            (&*there, 2, "hint: --force replaces it"),
            ("-", 2, "expected the name of a file, found `-`"),
            (&*dir, 1, "dir"),
        ] {
            let args = command(out);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let ran = trine_with(&args);
            assert!(ran.code == code && ran.err.contains(says), "{args:?}: {} {}", ran.code, ran.err);
            assert!(code == 2 || !ran.err.contains("--force"), "{args:?}: {}", ran.err);
        }
    }
    let run = ["run", &model, "hi", "--raw", "--profile", "-"];
    let bench = |flag: &'static str| vec!["bench", &*model, flag, "-"];
    let load = vec!["bench", &*model, "--load", "requests=1", "--profile", "-"];
    let synthetic = vec!["bench", "--shape", "tiny", "--write-model", "-"];
    for args in [run.to_vec(), bench("--profile"), bench("--save-baseline"), load, synthetic] {
        check(&args, 2, &["expected the name of a file, found `-`", "hint: ./- is a file of this name"]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn standard_input_and_output_are_named() {
    let to = |args: &[&str], input: &str, output: &str| {
        let open = |path: &str, write: bool| std::fs::File::options().read(!write).write(write).open(path).unwrap();
        let ran = trine().args(args).stdin(open(input, false)).stdout(open(output, true)).output().unwrap();
        (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
    };
    for (args, input, output, says) in [
        (&["tokenize", &llama()][..], "/", "/dev/null", "error: standard input: Is a directory"),
        (&["tokenize", &llama(), "hi"], "/dev/null", "/dev/full", "error: standard output: No space left"),
        (&["--help"], "/dev/null", "/dev/full", "error: standard output: No space left"),
        (&["--version"], "/dev/null", "/dev/full", "error: standard output: No space left"),
    ] {
        let (code, err) = to(args, input, output);
        assert!(code == Some(1) && err.contains(says), "{args:?}: {code:?} {err}");
    }
}

#[test]
fn models_that_cannot_be_opened_or_are_invalid_exit_with_3() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    for command in ["run", "info", "tokenize"] {
        check(&[command, &at("none.gguf")], 3, &["none.gguf", "hint: "]);
        check(&[command, &at("nothing-like-it")], 3, &["nothing-like-it", "hint: check the path"]);
        check(
            &[command, concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")],
            3,
            &["Cargo.toml", "expected a GGUF", "hint: "],
        );
        check(&[command, &at("empty")], 3, &["expected model.safetensors", "hint: "]);
        let whole = std::fs::read(llama()).unwrap();
        std::fs::write(at("short.gguf"), &whole[..whole.len() / 2]).unwrap();
        check(&[command, &at("short.gguf")], 3, &["short.gguf", "tensor", "hint: "]);
    }
    let broken = changed(folder.path(), "nan.gguf", |_, tensors| spoil(tensors));
    check(&["run", &broken, "hi"], 3, &["nan.gguf", "not finite", "hint: "]);
    let other = changed(folder.path(), "vocab.gguf", |metadata, _| {
        let Some(Value::Array(Array::String(tokens))) = metadata.get("tokenizer.ggml.tokens") else { panic!() };
        let tokens = tokens.iter().chain(["more"]).collect();
        metadata.insert("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
        metadata.remove("tokenizer.ggml.token_type");
    });
    check(&["run", &other, "hi"], 3, &["289 tokens", "288 rows", "hint: "]);
    let strange = changed(folder.path(), "arch.gguf", |metadata, _| {
        metadata.insert("general.architecture", "parrot");
    });
    check(&["run", &strange, "hi"], 3, &["`parrot`", "bitnet", "hint: "]);
    check(&["info", &strange], 0, &[]);
    let bare = changed(folder.path(), "bare.gguf", |metadata, tensors| {
        metadata.remove("llama.block_count");
        tensors.clear();
    });
    check(&["run", &bare, "hi"], 3, &["expected the weights of a model, found none", "hint: pass the model itself"]);
    // Nothing in a file steers the terminal: `run` looks for escapes in all output.
    let steering = changed(folder.path(), "escape.gguf", |metadata, _| {
        metadata.insert("general.name", "\x1b[31mred");
        metadata.insert("general.architecture", "\x1b[2J");
        metadata.insert("tokenizer.chat_template", "\x1b[1m{{");
    });
    check(&["run", &steering, "hi"], 3, &["hint: "]);
    check(&["info", &steering, "--template", "--metadata"], 0, &[]);
    let mute = changed(folder.path(), "mute.gguf", |metadata, _| drop(metadata.remove("tokenizer.ggml.model")));
    check(&["run", &mute, "hi"], 3, &["tokenizer", "hint: pass one with --tokenizer"]);
}

/// Arguments of commands that read a model, `MODEL`, and fail without it.
const READ: [&str; 8] = [
    "run MODEL hi",
    "info MODEL",
    "tokenize MODEL hi",
    "embed MODEL hi",
    "quantize MODEL OUT.gguf --format q8_0",
    "generate-data MODEL OUT.jsonl --count 1",
    "bench MODEL",
    "eval perplexity MODEL TEXT",
];

/// Arguments of commands that write a file, `OUT`.
const WRITE: [&str; 6] = [
    "quantize MODEL OUT.gguf --format q8_0",
    "generate-data MODEL OUT.jsonl --count 1",
    "tokenizer train OUT.gguf TEXT --vocab-size 300",
    "tokenizer train OUT.json TEXT --vocab-size 300",
    "run MODEL hi --raw --max-tokens 1 --profile OUT",
    "bench MODEL --save-baseline OUT",
];

fn check_with(command: &str, names: &[(&str, &str)], code: i32, texts: &[&str]) {
    let replaced = |word: &str| names.iter().fold(word.to_owned(), |word, (name, path)| word.replace(name, path));
    let args: Vec<String> = command.split(' ').map(replaced).collect();
    check(&args.iter().map(String::as_str).collect::<Vec<_>>(), code, texts);
}

#[test]
fn a_path_that_is_no_model_is_status_3_and_one_that_cannot_be_written_status_1() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let text = at("text.txt");
    std::fs::write(&text, "one two three four five six seven eight nine ten").unwrap();
    std::fs::create_dir(at("empty")).unwrap();
    let mut models = vec![(at("missing.gguf"), "found nothing"), (at("empty"), "found none"), (text.clone(), "GGUF")];
    #[cfg(unix)]
    {
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        models.extend([(at("pipe"), "found a device, a pipe"), ("/dev/null".to_owned(), "found a device")]);
    }
    for (model, expected) in &models {
        for command in READ {
            check_with(command, &[("MODEL", model), ("OUT", &at("out")), ("TEXT", &text)], 3, &[model, expected]);
        }
        let config = at("config.toml");
        let recipe = format!(
            "model.from = {model:?}\ndata.files = [{text:?}]\noutput.folder = {:?}\ntrain.steps = 1\n",
            at("run")
        );
        std::fs::write(&config, recipe).unwrap();
        check(&["train", &config], 3, &[model, expected]);
        assert_eq!(trine_with(&["doctor", model]).code, 5, "{model}");
    }
    let (model, out) = (llama(), at("none/out"));
    for command in WRITE {
        let names = [("MODEL", &*model), ("OUT", &out), ("TEXT", &text)];
        check_with(command, &names, 1, &["none/"]);
    }
    assert!(!Path::new(&at("none")).exists());
}

#[test]
fn models_that_are_not_there_are_answered_with_those_that_are_like_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::copy(llama(), at("llama-3b.gguf")).unwrap();
    std::fs::copy(llama(), at("mistral.gguf")).unwrap();
    let (wrong, hint) = (at("lama-3b.gguf"), format!("hint: did you mean {}", at("llama-3b.gguf")));
    let commands: [&[&str]; 5] = [
        &["run", &wrong, "Hi"],
        &["info", &wrong],
        &["tokenize", &wrong, "Hi"],
        &["embed", &wrong, "Hi"],
        &["quantize", &wrong, &at("out.gguf"), "-f", "q8_0"],
    ];
    for command in commands {
        check(command, 3, &["found nothing of this name", &hint]);
    }
    check(
        &["run", &at(""), "Hi"],
        3,
        &["found llama-3b.gguf, mistral.gguf", "hint: pass one of the models in it, such as ", &at("mistral.gguf")],
    );
}

#[test]
fn folders_that_lack_something_say_what_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let copy = |model: &str, name: &str| {
        let to = folder.path().join(name);
        std::fs::create_dir(&to).unwrap();
        for file in std::fs::read_dir(common::golden(model)).unwrap().map(Result::unwrap) {
            if file.file_type().unwrap().is_file() {
                std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        }
        to
    };
    // What has the name of a file and is none is not missing.
    let odd = copy("llama", "odd");
    for name in ["config.json", "generation_config.json", "tokenizer_config.json"] {
        let (path, kept) = (odd.join(name), odd.join("kept"));
        let was = std::fs::rename(&path, &kept).is_ok();
        std::fs::create_dir(&path).unwrap();
        let place = path.display().to_string();
        check(&["run", &odd.display().to_string(), "hi"], 3, &[&place, "expected a file, found a folder"]);
        std::fs::remove_dir(&path).unwrap();
        if cfg!(unix) {
            std::os::unix::fs::symlink(name, &path).unwrap();
            check(&["run", &odd.display().to_string(), "hi"], 3, &[&place]);
            std::fs::remove_file(&path).unwrap();
        }
        if was {
            std::fs::rename(&kept, &path).unwrap();
        }
    }
    std::fs::write(odd.join("adapter_config.json"), "{}").unwrap();
    let options = ["--raw", "--max-tokens", "1"];
    check(
        &[&["run", &odd.display().to_string(), "hi"], &options[..]].concat(),
        0,
        &["warning: adapter_config.json: adapters are not applied"],
    );
    std::fs::remove_file(odd.join("config.json")).unwrap();
    check(&["run", &odd.display().to_string(), "hi"], 3, &["found an adapter", "merge it into its base model"]);
    let shards = copy("llama-sharded", "shards");
    let names = std::fs::read_dir(&shards).unwrap().map(|file| file.unwrap().path());
    let mut pieces: Vec<_> = names.filter(|path| path.extension().is_some_and(|end| end == "safetensors")).collect();
    pieces.sort();
    for (i, piece) in pieces.iter().enumerate() {
        let of = format!("this is shard {} of {}", i + 1, pieces.len());
        check(&["run", &piece.display().to_string(), "hi"], 3, &[&of, "folder", "model.safetensors.index.json"]);
    }
    std::fs::remove_file(shards.join("config.json")).unwrap();
    let missing = shards.join("config.json").display().to_string();
    check(&["run", &shards.display().to_string(), "hi"], 3, &[&format!("error: {missing} is missing"), "hint: "]);

    let bare = copy("llama-fp8-tensor", "bare");
    let config = std::fs::read_to_string(bare.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config.as_object_mut().unwrap().remove("quantization_config").unwrap();
    std::fs::write(bare.join("config.json"), config.to_string()).unwrap();
    let weights = std::fs::read(bare.join("model.safetensors")).unwrap();
    let end = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&weights[8..end]).unwrap();
    for found in ["F8_E4M3", "F8_E5M2", "BOOL", "U8", "I8"] {
        let header = header.replace("\"F8_E4M3\"", &format!("{:9}", format!("\"{found}\"")));
        let changed = [&weights[..8], header.as_bytes(), &weights[end..]].concat();
        std::fs::write(bare.join("model.safetensors"), changed).unwrap();
        let has = format!("_proj.weight` has type {found}: expected weights");
        check(&["run", &bare.display().to_string(), "hi"], 3, &[&has, "quantization_config", "bare", "hint: "]);
    }
}

#[test]
fn a_text_too_long_to_embed_is_refused_with_both_numbers() {
    let bert = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/encoders/bert").display().to_string();
    let long = "one ".repeat(3000);
    let ran = trine_with(&["embed", &bert, "one", &long]);
    assert_eq!((ran.code, ran.out.lines().count()), (1, 1), "{}", ran.err);
    assert!(
        ran.err.contains("error: text 2: ") && ran.err.contains(" tokens, but the model reads 1 to "),
        "{}",
        ran.err
    );
}

#[test]
fn assumptions_about_a_model_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let model = changed(folder.path(), "pre.gguf", |metadata, _| drop(metadata.remove("tokenizer.ggml.pre")));
    check(
        &["run", &model, "hi", "--max-tokens", "1"],
        0,
        &["warning: tokenizer.ggml.pre is missing", "no chat template"],
    );
    check(&["run", &model, "hi", "--max-tokens", "1", "--raw"], 0, &["warning: tokenizer.ggml.pre is missing"]);
    assert_eq!(trine_with(&["run", &model, "hi", "--max-tokens", "1", "--quiet"]).err, "");
    let broken = changed(folder.path(), "template.gguf", |metadata, _| {
        metadata.insert("tokenizer.chat_template", "{% if %}");
        metadata.insert("tokenizer.chat_template.rag", "{{");
    });
    for more in [&[][..], &["--json"]] {
        let out = trine_with(&[&["info", &broken], more].concat()).out;
        assert!(out.contains("chat template: line 1: ") && out.contains("chat template `rag`: "), "{out}");
    }
    let info = trine_with(&["info", &model]).out;
    assert!(info.contains("tokenizer.ggml.pre is missing") && info.contains("no chat template"), "{info}");
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_with_both_numbers() {
    check(&["run", &llama(), "one two three four", "--raw", "--context", "5"], 1, &[" tokens", "5 tokens", "hint: "]);
    let ran = trine_with(&["run", &llama(), "one two three four", "--raw", "--context", "5"]);
    let tokens = trine_with(&["tokenize", &llama(), "one two three four", "--count"]).out;
    assert!(ran.err.contains(&format!("the prompt of {} tokens", tokens.trim())), "{}", ran.err);
}

#[test]
fn text_that_is_no_utf8_is_refused() {
    let mut command = trine();
    let mut child = command.args(["tokenize", &llama()]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"ab\xff").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("position 2"));
}

#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let model = common::long(folder.path());
    for args in [vec!["run", &model, "hi", "--raw", "--ignore-eos", "-q"], vec!["info", &model, "--tensors"]] {
        let mut child = trine().args(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]), "{args:?}");
    }
}

#[test]
fn the_name_of_a_file_is_not_empty() {
    for option in ["--template", "--grammar", "--json-schema", "--tools", "--tokenizer", "--tuning"] {
        check(
            &["run", "hi", option, ""],
            2,
            &[&format!("a value is required for '{option} <FILE>' but none was supplied")],
        );
    }
}
