//! A healthy file has no findings; what is broken on purpose is found, and nothing else.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use trine_backend::CpuOptions;
use trine_lab::doctor::{DoctorOptions, DoctorReport, Outcome, Severity, examine};
use trine_lab::quantize::{Recipe, Target, plan, write};
use trine_model::{EMBEDDED, GgufModel, open_file};
use trine_tensor::format::{F32, I2_S, I2_S_ARM, I2_S_ROWS};
use trine_tensor::{File, Metadata, OpenOptions, Strings, TensorInfo, View, gguf};

fn full() -> DoctorOptions {
    DoctorOptions { cpu: Some(CpuOptions::default()), ..DoctorOptions::default() }
}

fn doctor(path: &Path) -> DoctorReport {
    doctor_with(path, &full())
}

fn doctor_with(path: &Path, options: &DoctorOptions) -> DoctorReport {
    examine(path, options, &mut |_, _| ControlFlow::Continue(())).unwrap()
}

fn titles(report: &DoctorReport) -> Vec<&str> {
    report.findings.iter().map(|finding| &*finding.title).collect()
}

/// A model's keys and tensors, to be broken.
struct Parts {
    keys: Metadata,
    tensors: Vec<View>,
}

impl Parts {
    /// The model in the program: ternary, of BitNet's architecture, trained.
    fn new() -> Parts {
        let file = open_file(EMBEDDED, &OpenOptions::default()).unwrap();
        Parts { keys: file.metadata().clone(), tensors: file.tensors().cloned().collect() }
    }

    fn set(&mut self, key: &str, value: impl Into<trine_tensor::Value>) {
        self.keys.insert(key, value);
    }

    /// Changes the weights of a tensor, and keeps them as floats.
    fn change(&mut self, name: &str, change: impl FnOnce(&mut Vec<f32>)) {
        let view = self.tensors.iter_mut().find(|view| view.name == name).unwrap();
        let mut weights = view.decode();
        change(&mut weights);
        *view = View::new(name, &F32, view.shape.clone(), F32.encode(&weights)).unwrap();
    }

    /// Changes the bytes of a tensor.
    fn damage(&mut self, name: &str, damage: impl FnOnce(&mut Vec<u8>)) {
        let view = self.tensors.iter_mut().find(|view| view.name == name).unwrap();
        let mut bytes = view.bytes.to_vec();
        damage(&mut bytes);
        *view = View::new(name, view.format, view.shape.clone(), bytes).unwrap();
    }

    /// Gives a token another spelling.
    fn rename(&mut self, from: &str, to: &str) {
        let renamed = self.tokens().into_iter().map(|token| if token == from { to.to_owned() } else { token });
        let renamed = Strings::from_iter(renamed.collect::<Vec<_>>());
        self.set("tokenizer.ggml.tokens", renamed);
    }

    fn tokens(&self) -> Vec<String> {
        self.keys.strs("tokenizer.ggml.tokens").unwrap().unwrap().iter().map(str::to_owned).collect()
    }
}

/// A tensor that all changes are made to.
const MATRIX: &str = "blk.1.ffn_up.weight";
const NORM: &str = "blk.1.ffn_norm.weight";

#[test]
fn norms_that_change_nothing_are_no_finding() {
    let folder = tempfile::tempdir().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/encoders/bert/model.gguf");
    let file = File::open(path).unwrap();
    let mut parts = Parts { keys: file.metadata().clone(), tensors: file.tensors().cloned().collect() };
    parts.change("token_embd_norm.bias", |w| w.fill(0.0));
    parts.change("token_embd_norm.weight", |w| w.fill(1.0));
    let path = folder.path().join("model.gguf");
    gguf::write(&path, &parts.keys, &parts.tensors).unwrap();
    let report = doctor(&path);
    assert!(!titles(&report).contains(&"weights are all the same"), "{:?}", report.findings);
}

#[test]
fn what_is_broken_is_found_and_nothing_else() {
    let template = |source: &'static str| move |parts: &mut Parts| parts.set("tokenizer.chat_template", source);
    type Damage = Box<dyn Fn(&mut Parts)>;
    let cases: &[(&str, Damage, &[&str])] = &[
        ("healthy", Box::new(|_| {}), &[]),
        ("a NaN", Box::new(|p| p.change(NORM, |w| w[3] = f32::NAN)), &["weights are not finite"]),
        ("infinity", Box::new(|p| p.change(NORM, |w| w[3] = f32::INFINITY)), &["weights are not finite"]),
        (
            "a scale that is NaN",
            // A block of TQ2_0 ends with its scale, in half precision.
            Box::new(|p| p.damage(MATRIX, |b| b[64..66].copy_from_slice(&[0x00, 0x7e]))),
            &["weights are not finite"],
        ),
        (
            "a scale that is absurd",
            Box::new(|p| p.damage(MATRIX, |b| b[64..66].copy_from_slice(&[0xff, 0x7b]))),
            &["weights are absurdly large"],
        ),
        (
            "a code beyond the three",
            Box::new(|p| p.damage(MATRIX, |b| b[7] = 0xff)),
            &["ternary codes are not ternary"],
        ),
        ("zeros", Box::new(|p| p.change(MATRIX, |w| w.fill(0.0))), &["weights are all the same"]),
        ("a norm of zeros", Box::new(|p| p.change(NORM, |w| w.fill(0.0))), &["weights are all the same"]),
        ("a large gain", Box::new(|p| p.change(NORM, |w| w[0] = 1e6)), &["weights are absurdly large"]),
        (
            "a scale unlike the others",
            Box::new(|p| p.change(MATRIX, |w| w.iter_mut().for_each(|w| *w *= 1e-3))),
            &["the scale of weights is not that of other layers"],
        ),
        (
            "float weights",
            Box::new(|p| {
                p.change(MATRIX, |w| w.iter_mut().enumerate().for_each(|(i, w)| *w *= 1.0 + (i % 7) as f32 / 10.0))
            }),
            &["weights of a ternary model are not ternary"],
        ),
        (
            "weights that are too small for anything",
            Box::new(|p| p.change(MATRIX, |w| w.iter_mut().for_each(|w| *w *= 1e-9))),
            &["weights are absurdly small"],
        ),
        (
            "hardly a weight",
            Box::new(|p| {
                p.change(MATRIX, |w| {
                    w.iter_mut().skip(1).filter(|w| **w != 0.0).enumerate().for_each(|(i, w)| {
                        if i % 50 > 0 {
                            *w = 0.0
                        }
                    })
                })
            }),
            &["nearly all weights of a ternary matrix are zero"],
        ),
        (
            "tokens without an embedding",
            Box::new(|p| {
                let width = p.tensors.iter().find(|view| view.name == "token_embd.weight").unwrap().cols();
                p.change("token_embd.weight", |w| w[300 * width..500 * width].fill(0.0));
            }),
            &["tokens of text have no embedding", "the model predicts English badly"],
        ),
        (
            "no pre-tokenizer",
            Box::new(|p| {
                p.keys.remove("tokenizer.ggml.pre");
            }),
            &["something was assumed of the tokenizer"],
        ),
        (
            "an unknown pre-tokenizer",
            Box::new(|p| p.set("tokenizer.ggml.pre", "martian")),
            &["the tokenizer is damaged or unknown"],
        ),
        (
            "no merges",
            Box::new(|p| {
                p.keys.remove("tokenizer.ggml.merges");
            }),
            &["the tokenizer is damaged or unknown"],
        ),
        (
            "no tokenizer",
            Box::new(|p| {
                p.keys.remove("tokenizer.ggml.model");
            }),
            &["there is no tokenizer"],
        ),
        (
            "a sign that cannot be written",
            Box::new(|p| p.rename("=", "====")),
            &["something was assumed of the tokenizer", "a text does not come back from its tokens"],
        ),
        (
            "more tokens than the model has",
            Box::new(|p| {
                let tokens = p.tokens().into_iter().chain((0..5).map(|i| format!("more{i}")));
                p.set("tokenizer.ggml.tokens", Strings::from_iter(tokens));
                let mut types = p.keys.i32s("tokenizer.ggml.token_type").unwrap().unwrap().into_owned();
                types.extend([1; 5]);
                p.set("tokenizer.ggml.token_type", types);
            }),
            &["the vocabulary is not that of the model"],
        ),
        (
            "no end",
            Box::new(|p| {
                p.keys.remove("tokenizer.ggml.eos_token_id");
                p.keys.remove("tokenizer.ggml.bos_token_id");
                p.set("tokenizer.ggml.add_bos_token", false);
                p.rename("<|endoftext|>", "<|nothing|>");
            }),
            &["answers have no end"],
        ),
        (
            "twice the heads",
            Box::new(|p| {
                p.set("bitnet.attention.head_count", 16u32);
                p.set("bitnet.attention.head_count_kv", 8u32);
                p.set("bitnet.rope.dimension_count", 16u32);
                p.set("bitnet.attention.key_length", 16u32);
                p.set("bitnet.attention.value_length", 16u32);
            }),
            &[
                "queries and keys seem to be in another order than rotary positions expect",
                "the model makes more sense with attention.head_count 8",
            ],
        ),
        (
            "an epsilon that is too large",
            Box::new(|p| p.set("bitnet.attention.layer_norm_rms_epsilon", 10.0f32)),
            &["the model makes more sense with an epsilon of norms of 0.00001"],
        ),
        (
            "EOS that is text",
            Box::new(|p| p.set("tokenizer.ggml.eos_token_id", 300u32)),
            &["EOS is not a control token"],
        ),
        (
            "BOS that is text",
            Box::new(|p| p.set("tokenizer.ggml.bos_token_id", 300u32)),
            &["BOS is not a control token"],
        ),
        ("a template that is none", Box::new(template("{% if %}")), &["the chat template does not compile"]),
        (
            "a template that leaves the user out",
            Box::new(template("{{ messages[0]['role'] }}")),
            &["the chat template leaves out what the user says"],
        ),
        (
            "a template that refuses",
            Box::new(template("{{ raise_exception('no') }}")),
            &["the chat template refuses a greeting"],
        ),
        (
            "a template of another model",
            Box::new(template("<|im_start|>user\n{{ messages[0].content }}<|im_end|>\n")),
            &["the chat template is not of this vocabulary"],
        ),
        (
            "BOS twice",
            Box::new(template("{{ bos_token }}{{ bos_token }}{{ messages[0].content }}")),
            &["the chat template writes BOS twice"],
        ),
        (
            "BOS of template and tokenizer",
            Box::new(template("{{ bos_token }}{{ messages[0].content }}")),
            &["template and tokenizer both add BOS"],
        ),
        (
            "templates without a default",
            Box::new(|p| p.set("tokenizer.chat_template.rag", "{{ documents[0] }}")),
            &["no chat template is the default"],
        ),
        (
            "a template for tools that does not compile",
            Box::new(|p| {
                p.set("tokenizer.chat_template", "{{ messages[0].content }}");
                p.set("tokenizer.chat_template.tool_use", "{{");
            }),
            &["the chat template does not compile"],
        ),
        (
            "a chat without a template",
            Box::new(|p| {
                p.keys.remove("tokenizer.chat_template");
                p.rename("<|endoftext|>", "<|im_start|>");
            }),
            &["a vocabulary for chats without a chat template"],
        ),
        (
            "a small base",
            Box::new(|p| p.set("bitnet.rope.freq_base", 2.0f32)),
            &["rotary positions repeat within the context", "the model makes more sense with rope.freq_base 10000"],
        ),
        ("no context", Box::new(|p| p.set("bitnet.context_length", 0u32)), &["the model's numbers make no sense"]),
        (
            "no layers",
            Box::new(|p| {
                p.keys.remove("bitnet.block_count");
            }),
            &["the model's numbers make no sense"],
        ),
        (
            "an architecture nobody knows",
            Box::new(|p| p.set("general.architecture", "perceptron")),
            &["the model's numbers make no sense"],
        ),
        (
            "a type that is not its own",
            Box::new(|p| p.set("general.file_type", 2u32)),
            &["the file's type is not that of its tensors"],
        ),
        (
            "a rotation",
            Box::new(|p| p.set("bitnet.quantization.hadamard", true)),
            &["activations are not rotated as the weights expect"],
        ),
        ("no rotation", Box::new(|p| p.set("bitnet.quantization.hadamard", false)), &[]),
        ("a tensor too few", Box::new(|p| p.tensors.retain(|view| view.name != MATRIX)), &["the model does not run"]),
        (
            "a tensor too many",
            Box::new(|p| {
                p.tensors.push(View::new("blk.0.extra.weight", &F32, vec![2], F32.encode(&[1.0, 2.0])).unwrap())
            }),
            &["the model does not run"],
        ),
        (
            "tokens in another order",
            Box::new(|p| {
                let mut tokens = p.tokens();
                let n = tokens.len();
                tokens[260..n].rotate_left(97);
                p.set("tokenizer.ggml.tokens", Strings::from_iter(&tokens));
            }),
            &["the model predicts English worse than chance"],
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for (name, damage, expected) in cases {
        let mut parts = Parts::new();
        damage(&mut parts);
        let path = folder.path().join("model.gguf");
        gguf::write(&path, &parts.keys, &parts.tensors).unwrap();
        let report = doctor(&path);
        if titles(&report) != *expected {
            wrong.push(format!("{name}: {:#?}", report.findings));
        }
        assert!(report.findings.iter().all(|finding| !finding.evidence.is_empty() && !finding.remedy.is_empty()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_that_does_not_open_is_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole.gguf");
    let parts = Parts::new();
    gguf::write(&whole, &parts.keys, &parts.tensors).unwrap();
    let bytes = std::fs::read(&whole).unwrap();
    let cases: [(&str, &[u8]); 4] =
        [("short", &bytes[..bytes.len() / 2]), ("header", &bytes[..100]), ("empty", b""), ("text", b"no model")];
    for (name, bytes) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let report = doctor(&path);
        let [finding] = &report.findings[..] else { panic!("{name}: {report:?}") };
        assert_eq!((&*finding.title, report.smoke_test, report.is_healthy()), ("the file does not open", None, false));
        assert!(finding.evidence.contains(name), "{finding:?}");
    }
}

#[test]
fn a_quick_look_reads_no_weights_and_who_waits_may_give_up() {
    let path = Path::new(EMBEDDED);
    let report = examine(path, &DoctorOptions::default(), &mut |_, _| panic!("weights were read")).unwrap();
    assert_eq!((report.findings.len(), report.smoke_test), (0, None));
    let both =
        DoctorOptions { compare_devices: Some(["cpu", "cpu:scalar"].map(|name| name.parse().unwrap())), ..full() };
    // The weights are read, loaded for the smoke test and run, loaded for the comparison and run.
    let (mut asked, mut while_running) = (0, 0);
    let compared = examine(path, &both, &mut |done, total| {
        asked += 1;
        while_running += usize::from(done == total);
        ControlFlow::Continue(())
    });
    let compared = compared.unwrap().compared_devices.unwrap();
    assert_eq!((compared.outcome, compared.tokens, compared.reason), (Outcome::Same, Some(49), None));
    assert!(while_running > 20, "{while_running}");
    for last in [0, asked - while_running, asked - while_running / 2, asked - 4, asked - 3, asked - 2, asked - 1] {
        let mut count = 0;
        let stopped = examine(path, &both, &mut |_, _| {
            count += 1;
            if count > last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!((stopped, count), (None, last + 1), "of {asked}");
    }
    let smoke_test = doctor(path).smoke_test.unwrap();
    assert!(smoke_test.bits_per_byte < smoke_test.letters_bits_per_byte, "{smoke_test:?}");
    assert!((4.0..4.6).contains(&smoke_test.letters_bits_per_byte), "{smoke_test:?}");
}

#[test]
fn a_comparison_of_devices_says_how_it_came_out() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.gguf");
    let other = folder.path().join("tokenizer.json");
    let mut parts = Parts::new();
    parts.tensors.retain(|view| view.name != MATRIX);
    let partial = folder.path().join("partial.gguf");
    gguf::write(&partial, &parts.keys, &parts.tensors).unwrap();
    let built_in = Path::new(EMBEDDED);
    let cases = [
        (built_in, None, full(), Outcome::Same, ""),
        (built_in, None, DoctorOptions::default(), Outcome::Skipped, "the weights were not read"),
        (built_in, Some(other), full(), Outcome::Skipped, "there is no tokenizer"),
        (missing.as_path(), None, full(), Outcome::Skipped, "the file does not open"),
        (partial.as_path(), None, full(), Outcome::Failed, MATRIX),
    ];
    for (path, tokenizer, options, outcome, reason) in cases {
        let compare_devices = Some(["cpu", "cpu:scalar"].map(|name| name.parse().unwrap()));
        let report = doctor_with(path, &DoctorOptions { compare_devices, tokenizer, ..options.clone() });
        let compared = report.compared_devices.clone().unwrap();
        assert_eq!((&*compared.reference, &*compared.device, compared.outcome), ("cpu", "cpu:scalar", outcome));
        assert!(compared.reason.unwrap_or_default().contains(reason), "{report:?}");
        assert_eq!(titles(&report).contains(&"cpu and cpu:scalar cannot be compared"), outcome == Outcome::Failed);
        assert_eq!(doctor_with(path, &options).compared_devices, None);
    }
}

/// A model of Llama whose queries and keys were not brought into GGUF's order.
#[test]
fn queries_and_keys_in_another_order_are_suspected() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models/llama/model.gguf");
    let file = trine_tensor::File::open(&path).unwrap();
    let spec = trine_model::Spec::of(&file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (like_halves, expected) in [(true, true), (false, false)] {
        let mut parts = Parts { keys: file.metadata().clone(), tensors: file.tensors().cloned().collect() };
        for name in
            (0..spec.n_layers).flat_map(|i| [format!("blk.{i}.attn_q.weight"), format!("blk.{i}.attn_k.weight")])
        {
            let cols = spec.hidden_size;
            // Rows that turn together are of the same size.
            parts.change(&name, |weights| {
                for (i, row) in weights.chunks_exact_mut(cols).enumerate() {
                    let place = i % spec.head_dim;
                    let pair = if like_halves { place % (spec.head_dim / 2) } else { place / 2 };
                    row.iter_mut().for_each(|w| *w *= 1.5f32.powi((pair * 7 % 5) as i32));
                }
            });
        }
        let path = folder.path().join("model.gguf");
        gguf::write(&path, &parts.keys, &parts.tensors).unwrap();
        let found = doctor(&path).findings.iter().any(|finding| finding.title.contains("another order"));
        assert_eq!(found, expected);
    }
}

/// Converters that find no base write that of Llama 2.
#[test]
fn the_base_of_llama_2_with_the_vocabulary_of_llama_3_is_found() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models/llama/model.gguf");
    let file = trine_tensor::File::open(&path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (base, expected) in [(10000.0f32, 1), (500000.0, 0)] {
        let mut parts = Parts { keys: file.metadata().clone(), tensors: file.tensors().cloned().collect() };
        for view in
            parts.tensors.iter_mut().filter(|view| ["token_embd.weight", "output.weight"].contains(&&*view.name))
        {
            let (rows, cols) = (128_256, view.cols());
            *view = View::new(&view.name, &F32, vec![rows, cols], vec![0; rows * cols * 4]).unwrap();
        }
        parts.keys.remove("llama.vocab_size");
        parts.set("tokenizer.ggml.pre", "llama-bpe");
        parts.set("llama.rope.freq_base", base);
        let path = folder.path().join("model.gguf");
        gguf::write(&path, &parts.keys, &parts.tensors).unwrap();
        let report = doctor_with(&path, &DoctorOptions::default());
        let found = report.findings.iter().filter(|finding| finding.title.contains("base of rotary positions")).count();
        assert_eq!(found, expected, "{:?}", report.findings);
    }
}

/// The program's own model as bitnet.cpp writes it on ARM, where nothing in the file says so.
#[test]
fn a_layout_that_nothing_tells_is_found_by_the_weights_and_can_be_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("arm.gguf");
    let file = open_file(EMBEDDED, &OpenOptions::default()).unwrap();
    let model = GgufModel::open(&file, None).unwrap();
    let recipe = Recipe { target: Some(Target::Format(&I2_S_ARM)), ..Recipe::default() };
    // A receipt would tell that the key was changed.
    write(&model, &plan(&model, &recipe).unwrap(), &path, None, None, &mut |_| ControlFlow::Continue(())).unwrap();
    let told = doctor(&path);
    assert!(told.is_healthy() && titles(&told) == ["a type number has several meanings"], "{told:#?}");
    let mut bytes = std::fs::read(&path).unwrap();
    let key = b"trine.layouts";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap();
    bytes[at..at + key.len()].copy_from_slice(b"other.layouts");
    std::fs::write(&path, bytes).unwrap();
    let found = doctor(&path);
    assert!(found.is_healthy() && titles(&found) == ["a type number has several meanings"], "{found:#?}");
    assert!(found.findings[0].evidence.contains("I2_S_ARM"), "{found:#?}");
    let wrong = doctor_with(&path, &DoctorOptions { layouts: vec![&I2_S], ..full() });
    assert!(wrong.findings.iter().any(|finding| finding.remedy.contains("--layout i2_s_arm")), "{wrong:#?}");
    let chosen = doctor_with(&path, &DoctorOptions { layouts: vec![&I2_S_ARM], ..full() });
    assert!(chosen.is_healthy(), "{chosen:#?}");
}

#[test]
fn another_tokenizer_takes_the_place_of_a_damaged_one() {
    let folder = tempfile::tempdir().unwrap();
    let [damaged, good] = ["damaged.gguf", "good.gguf"].map(|name| folder.path().join(name));
    let mut parts = Parts::new();
    gguf::write(&good, &parts.keys, &parts.tensors).unwrap();
    parts.set("tokenizer.ggml.pre", "martian");
    gguf::write(&damaged, &parts.keys, &parts.tensors).unwrap();
    assert_eq!(titles(&doctor(&damaged)), ["the tokenizer is damaged or unknown"]);
    let report = doctor_with(&damaged, &DoctorOptions { tokenizer: Some(good), ..full() });
    assert!(report.findings.is_empty() && report.smoke_test.is_some(), "{report:#?}");
}

/// Files and folders of models, by the folder that they are in.
fn models(folder: &Path) -> Vec<PathBuf> {
    let inside = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut models: Vec<PathBuf> =
        inside(folder.to_path_buf()).filter(|path| path.join("config.json").exists()).collect();
    let files =
        models.clone().into_iter().flat_map(inside).filter(|path| path.extension().is_some_and(|e| e == "gguf"));
    models.extend(files.collect::<Vec<_>>());
    models
}

/// Random models predict nothing, and are well otherwise: of every architecture, packed by every quantizer.
#[test]
fn sound_models_of_all_kinds_have_nothing_else() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden");
    let mut wrong = Vec::new();
    let all = [models(&golden.join("models")), models(&golden.join("encoders"))].concat();
    assert!(all.len() > 80, "golden models are missing");
    for path in all {
        let report = doctor(&path);
        let predicts = |title: &str| title.starts_with("the model predicts English");
        let other = report.findings.iter().find(|f| f.severity > Severity::Note && !predicts(&f.title));
        wrong.extend(other.map(|finding| format!("{}: {finding:?}", path.display())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn trained_models_are_well() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/models");
    if !data.exists() {
        return eprintln!("skipped: {} is absent", data.display());
    }
    for path in models(&data).into_iter().filter(|path| path.is_file()) {
        let report = doctor(&path);
        let assumed = "something was assumed of the tokenizer";
        assert!(
            report.findings.iter().all(|f| f.severity == Severity::Note || f.title == assumed),
            "{}: {report:#?}",
            path.display()
        );
    }
}

/// A file that says that its matrices have the usual layout, which they have not.
#[test]
fn the_layout_in_which_a_model_makes_sense_is_found() {
    let folder = tempfile::tempdir().unwrap();
    for format in [&I2_S_ARM, &I2_S_ROWS] {
        let mut parts = Parts::new();
        for view in parts.tensors.iter_mut().filter(|view| view.format.ternary) {
            let bytes = TensorInfo { format, ..view.info() }.encode(&view.decode()).unwrap();
            *view = View::new(&*view.name, &I2_S, view.shape.clone(), bytes).unwrap();
        }
        let path = folder.path().join("model.gguf");
        gguf::write(&path, &parts.keys, &parts.tensors).unwrap();
        let findings = doctor(&path).findings;
        let found = findings.iter().find(|finding| finding.title == "weights are read in the wrong layout");
        let remedy = format!("--layout {}", format.name.to_ascii_lowercase());
        assert!(found.is_some_and(|finding| finding.remedy.contains(&remedy)), "{findings:?}");
    }
}
