//! `trine train`: errors about a configuration name line and key.

mod common;

use common::{train, trine_with};

/// A valid configuration.
const CONFIG: &str = r#"[model]
tokenizer = "tokenizer.gguf"
hidden_size = 256
[data]
files = ["text.txt"]
[train]
steps = 10
[output]
folder = "run"
format = "tq2_0"
"#;

#[test]
fn errors_name_line_key_and_what_would_do() {
    let folder = tempfile::tempdir().unwrap();
    let check = |config: &str, set: &[&str], message: &str| {
        let ran = train(folder.path(), config, set);
        let expected = format!("error: {message}");
        assert!(ran.code == 2 && ran.err.starts_with(&expected), "{config}\n{message}\n{}", ran.err);
        assert!(ran.err.contains("hint: `trine train --example`"), "{}", ran.err);
        assert!(!folder.path().join("run").exists(), "{config}");
    };
    // A line of the configuration above, its replacement, and the error.
    let cases = [
        (
            "steps = 10",
            "step = 10",
            "config.toml:7: `train.step`: expected one of steps, batch, micro_batch, sequence, seed, precision, grad_checkpoint, clip_grad_norm, loss_scale, threads, found an unknown key; did you mean `train.steps`?",
        ),
        ("steps = 10", "xyz = 10", "config.toml:7: `train.xyz`: expected one of steps, "),
        (
            "[train]",
            "[trian]",
            "config.toml:6: `trian`: expected one of model, data, train, quantization, optimizer, schedule, distill, output, found an unknown key; did you mean `train`?",
        ),
        (
            "[train]",
            "[train]\nloss_scale.groth = 1",
            "config.toml:7: `train.loss_scale.groth`: expected one of kind, initial, growth, growth_interval, backoff, found an unknown key; did you mean `train.loss_scale.growth`?",
        ),
        (
            "steps = 10",
            "steps = \"ten\"",
            "config.toml:7: `train.steps`: expected a whole number that is not negative, found the text \"ten\"",
        ),
        (
            "steps = 10",
            "steps = -1",
            "config.toml:7: `train.steps`: expected a whole number that is not negative, found -1",
        ),
        (
            "steps = 10",
            "steps = 1.5",
            "config.toml:7: `train.steps`: expected a whole number that is not negative, found 1.5",
        ),
        (
            "steps = 10",
            "steps = 1979-05-27",
            "config.toml:7: `train.steps`: expected a whole number that is not negative, found 1979-05-27",
        ),
        (
            "steps = 10",
            "steps = 99999999999999999999",
            "config.toml:7: `train.steps`: expected a whole number of at most 18446744073709551615, found 9999",
        ),
        (
            "steps = 10",
            "steps = 18446744073709551615",
            "config.toml:7: `train.steps`: expected 1 or more, and at most ",
        ),
        (
            "steps = 10",
            "steps = []",
            "config.toml:7: `train.steps`: expected a whole number that is not negative, found a list",
        ),
        ("[train]\nsteps = 10", "train = 5", "config.toml:6: `data.train`: expected one of files, "),
        (
            "steps = 10",
            "grad_checkpoint = 1",
            "config.toml:7: `train.grad_checkpoint`: expected true or false, found 1",
        ),
        ("steps = 10", "clip_grad_norm = true", "config.toml:7: `train.clip_grad_norm`: expected a number, found true"),
        (
            "steps = 10",
            "precision = \"bf15\"",
            "config.toml:7: `train.precision`: expected one of f32, bf16, f16, found `bf15`; did you mean `bf16`?",
        ),
        ("steps = 10", "precision = 16", "config.toml:7: `train.precision`: expected a name in quotes, found 16"),
        (
            "files = [\"text.txt\"]",
            "files = \"text.txt\"",
            "config.toml:5: `data.files`: expected a list, found the text \"text.txt\"",
        ),
        ("files = [\"text.txt\"]", "files = [\n1]", "config.toml:6: `data.files`: expected a text in quotes, found 1"),
        (
            "files = [\"text.txt\"]",
            "files = []",
            "config.toml:5: `data.files`: expected at least one file, found an empty list",
        ),
        ("files = [\"text.txt\"]", "", "config.toml:4: `data.files`: expected a value, found none"),
        ("[output]\nfolder = \"run\"\nformat = \"tq2_0\"", "", "config.toml:1: `output`: expected a value, found none"),
        ("steps = 10", "steps = 0", "config.toml:7: `train.steps`: expected 1 or more, and at most "),
        ("steps = 10", "batch = 0", "config.toml:7: `train.batch`: expected 1 to 1048576, found 0"),
        (
            "steps = 10",
            "batch = 2\nmicro_batch = 3",
            "config.toml:8: `train.micro_batch`: expected 1 to `train.batch`, found 3",
        ),
        ("steps = 10", "sequence = 1", "config.toml:7: `train.sequence`: expected 2 to 1048576, found 1"),
        ("steps = 10", "sequence = 4611686018427387904", "config.toml:7: `train.sequence`: expected 2 to 1048576"),
        (
            "steps = 10",
            "clip_grad_norm = nan",
            "config.toml:7: `train.clip_grad_norm`: expected 0 (none) or more, found NaN",
        ),
        ("steps = 10", "threads = 0", "config.toml:7: `train.threads`: expected 1 to 1024, found 0"),
        (
            "steps = 10",
            "[quantization]\nweights = \"binary\"",
            "config.toml:8: `quantization.weights`: expected one of ternary, none, found `binary`",
        ),
        (
            "steps = 10",
            "steps = 9\n[quantization]\nwarm_in = 10",
            "config.toml:9: `quantization.warm_in`: expected at most `train.steps`, found 10",
        ),
        (
            "hidden_size = 256",
            "hidden_size = 250",
            "config.toml: `model.n_heads`: expected a divisor of `model.hidden_size`, 250",
        ),
        (
            "hidden_size = 256",
            "hidden_size = 320",
            "config.toml:3: `model.hidden_size`: expected rows of whole TQ2_0 blocks of 256 weights, found rows of 320",
        ),
        (
            "hidden_size = 256",
            "intermediate_size = 300",
            "config.toml:3: `model.intermediate_size`: expected rows of whole TQ2_0 blocks of 256 weights",
        ),
        (
            "hidden_size = 256",
            "head_dim = 30",
            "config.toml: `model.n_heads`: expected rows of whole TQ2_0 blocks of 256 weights, found rows of 240",
        ),
        ("hidden_size = 256", "head_dim = 33", "config.toml:3: `model.head_dim`: expected an even number"),
        (
            "hidden_size = 256",
            "n_kv_heads = 3",
            "config.toml:3: `model.n_kv_heads`: expected a divisor of `model.n_heads`, 8, found 3",
        ),
        (
            "hidden_size = 256",
            "n_kv_heads = 0",
            "config.toml:3: `model.n_kv_heads`: expected a divisor of `model.n_heads`, 8, found 0",
        ),
        ("hidden_size = 256", "n_layers = 0", "config.toml:3: `model.n_layers`: expected 1 to 65536, found 0"),
        (
            "hidden_size = 256",
            "context_length = 100",
            "config.toml:3: `model.context_length`: expected `train.sequence` to 1048576, found 100",
        ),
        ("hidden_size = 256", "eps = 0", "config.toml:3: `model.eps`: expected more than 0, and at most 1, found 0"),
        (
            "hidden_size = 256",
            "architecture = \"bitnat\"",
            "config.toml:3: `model.architecture`: expected one of llama, ",
        ),
        (
            "tokenizer = \"tokenizer.gguf\"\n",
            "",
            "config.toml: `model.tokenizer`: expected a tokenizer, or a model in `model.from`, found neither",
        ),
        (
            "format = \"tq2_0\"",
            "format = \"q4_k\"",
            "config.toml:10: `output.format`: expected one of f32, f16, bf16, tq1_0, tq2_0, i2_s, iq2_bn, found `q4_k`",
        ),
        (
            "[output]",
            "[quantization]\nweights = \"none\"\n[output]",
            "config.toml:12: `output.format`: expected one of f32, f16, bf16, found `tq2_0`",
        ),
        (
            "[output]",
            "[output]\nembedding_format = \"i32\"",
            "config.toml:9: `output.embedding_format`: expected one of f32, f16, bf16, q8_0, q4_0, q4_1, ",
        ),
        ("folder = \"run\"", "folder = \"\"", "config.toml:9: `output.folder`: expected a folder, found an empty name"),
        (
            "folder = \"run\"",
            "folder = \"run\"\nmodel = \"text.txt\"",
            "config.toml:10: `output.model`: expected a file that the run does not read, found text.txt",
        ),
        (
            "hidden_size = 256",
            "hidden_size = 256\nfrom = \"embedded:stories\"",
            "config.toml:3: `model.hidden_size`: expected no sizes with `model.from`, found one",
        ),
        (
            "[output]",
            "[schedule]\nwarmup = 11\n[output]",
            "config.toml:9: `schedule.warmup`: expected at most `train.steps`, found 11",
        ),
        ("[output]", "[output]\nkeep = 0", "config.toml:9: `output.keep`: expected 1 or more, found 0"),
        (
            "[output]",
            "[optimizer]\nlearning_rate = 0.0\n[output]",
            "config.toml:9: `optimizer.learning_rate`: expected more than 0, found 0",
        ),
        (
            "[output]",
            "[optimizer]\nbeta2 = 1.0\n[output]",
            "config.toml:9: `optimizer.beta2`: expected 0 or more, and less than 1, found 1",
        ),
        (
            "[output]",
            "[optimizer]\nname = \"adam\"\n[output]",
            "config.toml:9: `optimizer.name`: expected one of adamw, muon, found `adam`; did you mean `adamw`?",
        ),
        ("[output]", "[schedule]\nend = 1.1\n[output]", "config.toml:9: `schedule.end`: expected 0 to 1, found 1.1"),
        (
            "[output]",
            "[schedule]\nshape = \"twostage\"\n[output]",
            "config.toml:9: `schedule.shape`: expected one of constant, linear, cosine, wsd, two-stage, found `twostage`; did you mean `two-stage`?",
        ),
        (
            "[output]",
            "[distill]\nteacher = \"t.gguf\"\nshare = -0.1\n[output]",
            "config.toml:10: `distill.share`: expected 0 to 1, found -0.1",
        ),
        ("[output]", "[distill]\n[output]", "config.toml:8: `distill.teacher`: expected a value, found none"),
        ("[output]", "[output", "config.toml:8: expected TOML, found "),
        ("steps = 10", "steps = 10\nsteps = 11", "config.toml:8: expected TOML, found duplicate key"),
    ];
    for (line, instead, message) in cases {
        assert!(CONFIG.contains(line), "{line}");
        check(&CONFIG.replacen(line, instead, 1), &[], message);
    }
    for share in ["0.6", "-0.1", "inf"] {
        let config = CONFIG.replacen("[data]", &format!("[data]\nvalidation = {share}"), 1);
        check(&config, &[], &format!("config.toml:5: `data.validation`: expected 0 to 0.5, found {share}"));
    }
    // Flags override the file, also in errors.
    check(CONFIG, &["--set", "train.steps=0"], "--set train.steps=0: `train.steps`: expected 1 or more");
    check(CONFIG, &["--set", "train.batc=1"], "--set train.batc=1: `train.batc`: expected one of ");
    check(CONFIG, &["--set", "train.precision=f64"], "--set train.precision=f64: `train.precision`: expected one of ");
    check(CONFIG, &["--set", "train"], "--set train: expected KEY=VALUE, found `train`");
    check(CONFIG, &["--set", "=1"], "--set =1: expected TOML, found ");
    check(CONFIG, &["--set", "train.steps=20", "--set", "train.steps=0"], "--set train.steps=0: `train.steps`");
}

#[test]
fn a_configuration_that_is_missing_or_binary_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let none = trine_with(&["train", &folder.path().join("none.toml").display().to_string()]);
    assert!(none.code == 1 && none.err.contains("none.toml: "), "{}", none.err);
    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, b"a = \"\xff\"").unwrap();
    let binary = trine_with(&["train", &binary.display().to_string()]);
    assert!(binary.code == 1 && binary.err.contains("binary.toml: ") && binary.err.contains("UTF-8"), "{}", binary.err);
    assert_eq!(trine_with(&["train"]).code, 2);
    assert_eq!(trine_with(&["train", "--example", "config.toml"]).code, 2);
}
