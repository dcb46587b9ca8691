//! Whole runs: what they write, what they resume from, and what does not depend on how they are divided.

use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use trine_backend::profile::{Recorder, RecorderOptions};
use trine_backend::{Backend, Batch, CacheType, Cpu, CpuOptions};
use trine_model::{Model, ModelOptions, vocab_metadata};
use trine_tensor::{File, gguf};
use trine_text::{BpeOptions, OwnedVocab};
use trine_train::config::ScheduleShape;
use trine_train::{Config, Error, Finished, Parameter, StepMetrics, TrainEvent, Trainer, checkpoints};

/// Random stories, and a tokenizer for them.
fn texts(folder: &Path) -> [PathBuf; 2] {
    let mut random = fastrand::Rng::with_seed(3);
    let mut pick = |words: &[&'static str]| words[random.usize(..words.len())];
    let stories: Vec<String> = (0..400)
        .map(|_| {
            let (who, what) = (pick(&["Lily", "Ben", "a cat", "the miller"]), pick(&["a ball", "a tree", "a pear"]));
            let did = pick(&["found", "saw", "lost", "liked"]);
            format!("Once upon a time {who} {did} {what}. {who} was {}. The end.", pick(&["happy", "sad", "big"]))
        })
        .collect();
    let paths = [folder.join("stories.txt"), folder.join("tokenizer.gguf")];
    std::fs::write(&paths[0], stories.join("\n<|endoftext|>\n")).unwrap();
    let json = BpeOptions { vocab_size: 320, ..BpeOptions::default() };
    let json = json.train(stories.into_iter().map(Ok::<_, Error>)).unwrap();
    let language = OwnedVocab::from_json(json.tokenizer.as_bytes(), Some(json.config.as_bytes())).unwrap();
    gguf::write(&paths[1], &vocab_metadata(&language.vocab()), &[]).unwrap();
    paths
}

/// A small run, with these values in place of others.
fn config(folder: &Path, change: Value) -> Config {
    let [text, tokenizer] = texts(folder);
    let mut config = json!({
        "model": {"tokenizer": tokenizer, "n_layers": 2, "hidden_size": 256, "n_heads": 4, "n_kv_heads": 2, "intermediate_size": 256},
        "data": {"files": [text], "validation": 0.1},
        "train": {"steps": 6, "batch": 4, "sequence": 32, "threads": 2},
        "optimizer": {"learning_rate": 2e-3},
        "schedule": {"warmup": 2},
        "output": {"folder": folder.join("run"), "validate_every": 0, "checkpoint_every": 2, "embedding_format": "f32"},
    });
    for (table, values) in change.as_object().unwrap() {
        for (key, value) in values.as_object().unwrap() {
            config[table][key] = value.clone();
        }
    }
    serde_json::from_value(config).unwrap()
}

fn new(config: &Config, resume: bool) -> Result<Trainer, Error> {
    Trainer::new(config, resume, &mut |_| ControlFlow::Continue(()))
}

fn trainer(config: &Config, resume: bool) -> Trainer {
    new(config, resume).unwrap()
}

/// Runs until a step is done; all steps.
fn run(trainer: &mut Trainer, until: u64) -> (Vec<StepMetrics>, Finished) {
    let mut steps = Vec::new();
    let finished = trainer.run(&mut |event| {
        if let TrainEvent::Step(step) = event {
            steps.push(step.clone());
        }
        match event {
            TrainEvent::Step(step) if step.step == until => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    (steps, finished.unwrap())
}

/// All master weights.
fn weights(trainer: &mut Trainer) -> Vec<f32> {
    let masters = trainer.tape().params.iter().filter_map(Parameter::master);
    masters.flat_map(|master| master.values.data().to_vec()).collect()
}

fn losses(steps: &[StepMetrics]) -> Vec<u64> {
    steps.iter().map(|step| step.loss.to_bits()).collect()
}

#[test]
fn an_exported_file_computes_what_the_tape_computes() {
    // In the last, quantization starts gradually, and is complete in the third step.
    for (architecture, warm_in) in [("bitnet", 0), ("bitnet-b1.58", 0), ("llama", 3)] {
        let folder = TempDir::new().unwrap();
        let change = json!({"model": {"architecture": architecture}, "quantization": {"warm_in": warm_in}});
        let ids: Vec<u32> = (0..40).map(|i| i * 7 % 320).collect();
        let expected = {
            let mut first = trainer(&config(folder.path(), change.clone()), false);
            run(&mut first, 3);
            first.logits(&ids).unwrap()
        };
        for format in ["i2_s", "tq2_0", "tq1_0"] {
            let path = folder.path().join(format);
            let mut change = change.clone();
            change["output"] = json!({"format": format});
            trainer(&config(folder.path(), change), true).export(&path).unwrap();
            for threads in [1, 2] {
                let mut device = Cpu::new(CpuOptions { threads, ..CpuOptions::default() }).unwrap();
                let file = File::open(&path).unwrap();
                assert!(
                    file.metadata()
                        .str("trine.train.config")
                        .unwrap()
                        .is_some_and(|recipe| recipe.contains("2e-3") || recipe.contains("0.002"))
                );
                let model =
                    Model::load(&mut device, &file, ModelOptions::default(), &mut |_| ControlFlow::Continue(()))
                        .unwrap();
                let cache = device.create_cache(model.spec().kv_shape(3, CacheType::F32)).unwrap();
                let (mut batch, mut found, mut part) = (Batch::new(), Vec::new(), Vec::new());
                // In portions, as an engine would.
                for (at, len) in [(0, 17), (17, 1), (18, 22)] {
                    batch.clear();
                    batch.push(&ids[at..at + len], at, &[0, 1, 2], len);
                    let logits = model.forward(&mut device, cache, &batch).unwrap();
                    device.to_host(&logits, &mut part).unwrap();
                    found.extend_from_slice(&part);
                }
                let same = expected.iter().zip(&found).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same && expected.len() == found.len(), "{architecture} as {format}, {threads} threads");
            }
        }
    }
}

#[test]
fn a_run_that_was_stopped_ends_with_the_same_bits() {
    for change in [
        json!({}),
        json!({"train": {"precision": "f16"}}),
        // Skips the first step.
        json!({"train": {"precision": "f16", "loss_scale": {"initial": 1e30, "backoff": 1e-27}}}),
        json!({"optimizer": {"name": "muon"}, "train": {"threads": 1}}),
    ] {
        let (whole, parts) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (expected, finished) = run(&mut trainer(&config(whole.path(), change.clone()), false), u64::MAX);
        assert!(!finished.stopped);
        let config = config(parts.path(), change);
        let (mut found, stopped) = run(&mut trainer(&config, false), 3);
        assert!(stopped.stopped && stopped.steps == 3);
        // A run may resume with more threads.
        let mut more = config.clone();
        more.train.threads = Some(3);
        let (rest, end) = run(&mut trainer(&more, true), u64::MAX);
        found.extend(rest);
        assert_eq!(losses(&expected), losses(&found));
        let weights = |path: &Path| {
            let file = File::open(path).unwrap();
            file.tensors().flat_map(|view| view.bytes.to_vec()).collect::<Vec<u8>>()
        };
        assert!(weights(&finished.model) == weights(&end.model));
    }
}

#[test]
fn a_run_that_a_warning_stopped_has_a_checkpoint() {
    let folder = TempDir::new().unwrap();
    // The warning: no document is held out.
    let mut config = config(folder.path(), json!({"data": {"validation": 1e-9}, "output": {"checkpoint_every": 0}}));
    let stop_at_warning = |trainer: &mut Trainer| {
        let mut events = Vec::new();
        let finished = trainer.run(&mut |event| {
            events.push(format!("{event:?}"));
            match event {
                TrainEvent::Warning(_) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        });
        (finished.unwrap(), events)
    };
    let (stopped, events) = stop_at_warning(&mut trainer(&config, false));
    assert!(stopped.stopped && stopped.steps == 0 && stopped.model.exists(), "{stopped:?}");
    assert!(events.len() == 2 && events[1].starts_with("Checkpoint"), "{events:?}");
    assert_eq!(checkpoints(&config.output.folder), [stopped.model]);
    let (_, stopped) = run(&mut trainer(&config, true), 3);
    // A resumed run has its checkpoint already, and keeps it as it is.
    let before = std::fs::read(&stopped.model).unwrap();
    config.optimizer.learning_rate = 1e-3;
    let (again, events) = stop_at_warning(&mut trainer(&config, true));
    assert!(again == stopped && events.iter().all(|event| event.starts_with("Warning")), "{events:?}");
    assert!(std::fs::read(&stopped.model).unwrap() == before);
}

#[test]
fn micro_batches_add_up_to_the_batch() {
    let gradients = |micro_batch: usize| {
        let folder = TempDir::new().unwrap();
        let mut trainer = trainer(&config(folder.path(), json!({"train": {"micro_batch": micro_batch}})), false);
        let loss = trainer.advance().unwrap().loss;
        let all: Vec<f32> = {
            let masters = trainer.tape().params.iter().filter_map(Parameter::master);
            masters.flat_map(|master| master.grad.data().to_vec()).collect()
        };
        (loss, all)
    };
    let (loss, whole) = gradients(4);
    let largest = whole.iter().fold(0f32, |most, x| most.max(x.abs()));
    for micro_batch in [1, 2, 3] {
        let (other, parts) = gradients(micro_batch);
        assert!((loss - other).abs() < 1e-6 * loss, "{loss} and {other}");
        let worst = whole.iter().zip(&parts).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(worst < 1e-5 * largest, "micro batches of {micro_batch}: {worst}, largest {largest}");
    }
}

#[test]
fn an_overflow_halves_the_scale_and_leaves_the_weights() {
    let folder = TempDir::new().unwrap();
    let scale = json!({"initial": 1e30, "growth": 2.0, "growth_interval": 2000, "backoff": 0.5});
    let mut trainer =
        trainer(&config(folder.path(), json!({"train": {"precision": "f16", "loss_scale": scale}})), false);
    let before = weights(&mut trainer);
    let first = trainer.advance().unwrap();
    assert!(first.skipped && first.loss_scale == Some(1e30) && weights(&mut trainer) == before);
    assert_eq!(trainer.advance().unwrap().loss_scale, Some(0.5e30));
}

#[test]
fn a_skipped_step_advances_neither_schedule_nor_bias_correction() {
    let folder = TempDir::new().unwrap();
    // Overflows once, and never again.
    let scale = json!({"initial": 1e30, "growth": 2.0, "growth_interval": 2000, "backoff": 1e-27});
    let change = json!({"train": {"precision": "f16", "loss_scale": scale}, "optimizer": {"weight_decay": 0.0}});
    let mut trainer = trainer(&config(folder.path(), change), false);
    let before = weights(&mut trainer);
    let [first, second, third] = [(); 3].map(|()| (trainer.advance().unwrap(), weights(&mut trainer)));
    assert_eq!([&first, &second, &third].map(|(step, _)| step.skipped), [true, false, false]);
    // Of two updates over which the rate rises to 2e-3.
    assert_eq!([&first, &second, &third].map(|(step, _)| step.learning_rate), [1e-3, 1e-3, 2e-3]);
    // The first update of AdamW is as large as the learning rate, as its means are corrected for the one gradient in them.
    let largest = before.iter().zip(&second.1).map(|(before, after)| (before - after).abs()).fold(0.0, f32::max);
    assert!(before == first.1 && (largest / 1e-3 - 1.0).abs() < 0.01, "{largest}");
}

#[test]
fn a_static_scale_stays_after_an_overflow() {
    let folder = TempDir::new().unwrap();
    let scale = json!({"kind": "static", "initial": 1e30});
    let change = json!({"train": {"precision": "f16", "steps": 100, "loss_scale": scale}});
    let mut trainer = trainer(&config(folder.path(), change), false);
    for _ in 0..2 {
        let step = trainer.advance().unwrap();
        assert!(step.skipped && step.loss_scale == Some(1e30), "{step:?}");
    }
    let error = (0..100).find_map(|_| trainer.advance().err()).unwrap();
    assert!(matches!(error, Error::Overflow { scale: 1e30, .. }), "{error}");
    let folder = TempDir::new().unwrap();
    let change = json!({"train": {"precision": "f16", "loss_scale": {"kind": "none"}}});
    assert_eq!(new(&self::config(folder.path(), change), false).unwrap().advance().unwrap().loss_scale, None);
}

#[test]
fn every_precision_learns_alike() {
    let end = |precision: &str| {
        let folder = TempDir::new().unwrap();
        let config = config(folder.path(), json!({"train": {"precision": precision, "steps": 25}}));
        run(&mut trainer(&config, false), u64::MAX).0.last().unwrap().loss
    };
    let exact = end("f32");
    assert!(exact < 4.0, "{exact}: expected to learn how texts begin");
    for precision in ["bf16", "f16"] {
        let loss = end(precision);
        assert!((loss - exact).abs() < 0.05 * exact, "{precision}: {loss}, f32: {exact}");
    }
}

#[test]
fn a_student_that_is_its_own_teacher_has_nothing_to_learn_from_it() {
    let folder = TempDir::new().unwrap();
    let dense = json!({"weights": "none"});
    let change = json!({"quantization": dense, "model": {"architecture": "llama"}});
    let (_, finished) = run(&mut trainer(&config(folder.path(), change), false), u64::MAX);
    let again = TempDir::new().unwrap();
    let change = json!({
        "quantization": dense,
        "model": {"from": finished.model},
        "distill": {"teacher": finished.model, "share": 0.5, "temperature": 2.0},
    });
    let step = trainer(&config(again.path(), change), false).advance().unwrap();
    assert!(step.distillation.is_some_and(|divergence| divergence.abs() < 1e-5), "{step:?}");
}

#[test]
fn a_ternary_model_is_trained_on_from_where_it_is() {
    let folder = TempDir::new().unwrap();
    let ids: Vec<u32> = (0..40).map(|i| i * 7 % 320).collect();
    for format in ["tq2_0", "i2_s"] {
        let config = config(folder.path(), json!({"output": {"format": format}}));
        let expected = {
            let mut first = trainer(&config, false);
            run(&mut first, u64::MAX);
            first.logits(&ids).unwrap()
        };
        let mut on = config.clone();
        on.model.from = Some(folder.path().join("run/model.gguf"));
        on.output.folder = folder.path().join("on");
        let found = trainer(&on, false).logits(&ids).unwrap();
        assert!(expected.iter().zip(&found).all(|(a, b)| a.to_bits() == b.to_bits()), "{format}");
        let other = folder.path().join("other.gguf");
        let json = BpeOptions { vocab_size: 300, ..BpeOptions::default() };
        let json = json.train([Ok::<_, Error>("The miller counted pears. ".repeat(20))].into_iter()).unwrap();
        let language = OwnedVocab::from_json(json.tokenizer.as_bytes(), Some(json.config.as_bytes())).unwrap();
        gguf::write(&other, &vocab_metadata(&language.vocab()), &[]).unwrap();
        on.model.tokenizer = Some(other);
        let refused = new(&on, false).map(|_| ()).unwrap_err().to_string();
        assert!(refused.starts_with("`model.tokenizer`: expected the 320 tokens of `model.from`"), "{refused}");
    }
}

#[test]
fn weights_that_are_lost_are_not_kept() {
    for (precision, rate, steps) in [("f32", 1e38, 1), ("f32", 1e30, 9), ("bf16", 1e30, 9), ("f16", 1e30, 60)] {
        let folder = TempDir::new().unwrap();
        let mut config = config(folder.path(), json!({"train": {"precision": precision, "steps": steps}}));
        config.optimizer.learning_rate = rate;
        config.schedule.warmup = Some(0);
        config.schedule.shape = ScheduleShape::Constant;
        config.output.validate_every = 1;
        let mut trainer = trainer(&config, false);
        let error = trainer.run(&mut |_| ControlFlow::Continue(())).unwrap_err();
        let names_it =
            matches!(error, Error::NotFinite { .. } | Error::NotFiniteWeight { .. } | Error::Overflow { .. });
        assert!(names_it, "{precision}: {error}");
        assert!(!folder.path().join("run/model.gguf").exists());
    }
}

#[test]
fn a_checkpoint_is_whole_and_of_one_run() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path(), json!({}));
    let mut first = trainer(&config, false);
    assert!(new(&config, true).is_err_and(|error| matches!(error, Error::NoCheckpoint { .. })));
    run(&mut first, u64::MAX);
    assert!(new(&config, true).is_err_and(|error| matches!(error, Error::Busy { .. })));
    drop(first);
    let newest = checkpoints(&config.output.folder).pop().unwrap();
    let whole = std::fs::read(&newest).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() - 1000] ^= 1;
    for damaged in [&flipped[..], &whole[..whole.len() / 2], &[]] {
        std::fs::write(&newest, damaged).unwrap();
        let error = new(&config, true).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Checkpoint { earlier: Some(4), .. }), "{error}");
    }
    std::fs::remove_file(&newest).unwrap();
    assert_eq!(trainer(&config, true).step(), 4);
}

#[test]
fn the_best_stays() {
    let folder = TempDir::new().unwrap();
    let change =
        json!({"train": {"steps": 12}, "optimizer": {"learning_rate": 0.3}, "schedule": {"shape": "constant"}});
    let mut config = config(folder.path(), change);
    (config.output.validate_every, config.output.checkpoint_every, config.output.keep) = (1, 0, 1);
    let (mut losses, mut best) = (Vec::new(), 0);
    let watched = trainer(&config, false).run(&mut |event| {
        match event {
            TrainEvent::Validation(validation) => losses.push(validation.loss),
            TrainEvent::Checkpoint { step, best: true, .. } => best = step as usize,
            _ => {}
        }
        ControlFlow::Continue(())
    });
    assert!(!watched.unwrap().stopped);
    assert!(losses.iter().all(|&loss| loss >= losses[best - 1]) && best < 12, "{best} of {losses:?}");
    let kept = checkpoints(&config.output.folder);
    assert!(kept.len() == 2 && kept[0].ends_with(format!("step-{best:08}.gguf")), "{kept:?}");
}

#[test]
fn what_the_weights_depend_on_cannot_change_between_parts_of_a_run() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path(), json!({}));
    run(&mut trainer(&config, false), 2);
    let refused = |change: &dyn Fn(&mut Config)| {
        let mut other = config.clone();
        change(&mut other);
        new(&other, true).map(|_| ()).unwrap_err().to_string()
    };
    for (key, message) in [
        ("`train.seed`: expected 0", refused(&|config| config.train.seed = 1)),
        ("`model.hidden_size`: expected 256", refused(&|config| config.model.hidden_size = 512)),
        ("`train.batch`: expected 4", refused(&|config| config.train.batch = 5)),
    ] {
        assert!(message.contains(key), "{message}");
    }
    let mut longer = config.clone();
    longer.train.steps = 8;
    assert_eq!(run(&mut trainer(&longer, true), u64::MAX).1.steps, 8);
    std::fs::remove_dir_all(folder.path().join("run/checkpoints")).unwrap();
    assert!(new(&config, true).is_err_and(|error| matches!(error, Error::NoCheckpoint { .. })));
}

#[test]
fn a_text_without_separators_is_validated_on_its_end() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path(), json!({"data": {"separator": "<|none|>"}}));
    let mut events = Vec::new();
    let finished = trainer(&config, false).run(&mut |event| {
        events.push(format!("{event:?}"));
        ControlFlow::Continue(())
    });
    assert!(!finished.unwrap().stopped);
    assert!(events[0].contains("but the last") && events[0].contains("data.separator"), "{}", events[0]);
    assert!(events.iter().any(|event| event.starts_with("Validation")), "{events:?}");
    // A tenth of the text.
    let length = std::fs::read_to_string(&config.data.files[0]).unwrap().len();
    let file = File::open(folder.path().join("tokenizer.gguf")).unwrap();
    let language = trine_model::Language::of(&file).unwrap();
    let corpus = |share: f64| {
        let data = trine_train::config::DataConfig { validation: share, ..config.data.clone() };
        let cache = folder.path().join("cache");
        let go_on = &mut |_, _| ControlFlow::Continue(());
        trine_train::data::Corpus::open(&data, &language.tokenizer, file.metadata(), &cache, 1, go_on).unwrap()
    };
    let (whole, mut cut) = (corpus(0.0), corpus(0.1));
    let tokens = cut.hold_out_tail(0.1, 32, &language.tokenizer).unwrap();
    assert_eq!(tokens as u64, whole.train.tokens() / 10);
    let ids = |tokens: &trine_train::data::TokenizedDocuments| tokens.document(0).collect::<Vec<u32>>();
    assert_eq!([ids(&cut.train), ids(&cut.validation)].concat(), ids(&whole.train));
    assert_eq!(cut.train.bytes() + cut.validation.bytes(), length as u64);
    assert_eq!(language.tokenizer.decode(&ids(&cut.validation)).len() as u64, cut.validation.bytes());
    assert_ne!(cut.key, corpus(0.1).key);
    // Not where it would leave nothing to train on, and not where documents are held out.
    assert_eq!(corpus(0.1).hold_out_tail(0.1, usize::MAX, &language.tokenizer), None);
    assert_eq!(cut.hold_out_tail(0.1, 32, &language.tokenizer), None);
}

#[test]
fn another_teacher_is_a_warning_wherever_its_file_is() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path(), json!({"train": {"steps": 2}}));
    let teacher = run(&mut trainer(&config, false), u64::MAX).1.model;
    let [first, copy, other] = ["first", "copy", "other"].map(|name| folder.path().join(format!("{name}.gguf")));
    std::fs::copy(&teacher, &first).unwrap();
    std::fs::copy(&teacher, &copy).unwrap();
    let mut longer = config.clone();
    longer.train.steps = 3;
    std::fs::copy(run(&mut trainer(&longer, true), u64::MAX).1.model, &other).unwrap();
    let distilled = |teacher: &Path| {
        let distill = serde_json::from_value(json!({ "teacher": teacher })).unwrap();
        let mut config = Config { distill: Some(distill), ..config.clone() };
        config.output.folder = folder.path().join("distilled");
        config
    };
    let warnings = |config: &Config, resume: bool| {
        let mut warnings = Vec::new();
        let stopped = trainer(config, resume).run(&mut |event| {
            match event {
                TrainEvent::Warning(text) => warnings.push(text.to_owned()),
                TrainEvent::Step(_) => return ControlFlow::Break(()),
                _ => {}
            }
            ControlFlow::Continue(())
        });
        stopped.unwrap();
        warnings.join("; ")
    };
    assert_eq!(warnings(&distilled(&first), false), "");
    assert_eq!(warnings(&distilled(&copy), true), "");
    std::fs::copy(&other, &copy).unwrap();
    let mut changed = distilled(&copy);
    changed.train.steps = 4;
    let found = warnings(&changed, true);
    assert!(found.contains("distill.teacher"), "{found}");
}

/// A recorder of a run, with this much detail.
fn recorder(depth: u8) -> Recorder {
    Recorder::new(RecorderOptions { depth, phase: "rest", thread: "training", ..RecorderOptions::default() })
}

/// The spans of a level of a trace: when they begin and end.
fn spans<'a>(trace: &'a Value, cat: &'a str) -> impl Iterator<Item = (&'a Value, [f64; 2])> {
    let events = trace["traceEvents"].as_array().unwrap().iter().filter(move |event| event["cat"] == cat);
    events.map(|event| {
        let [begin, time] = ["ts", "dur"].map(|key| event[key].as_f64().unwrap());
        (event, [begin, begin + time])
    })
}

#[test]
fn a_profile_accounts_for_all_of_a_step_and_changes_no_bit() {
    let phases = ["quantize", "data", "forward", "backward", "optimizer"];
    for change in [
        json!({"output": {"validate_every": 3}}),
        // Layers are computed twice, two batches make a step, weights become ternary in the third, and the optimizer has products.
        json!({"train": {"grad_checkpoint": true, "micro_batch": 2}, "quantization": {"warm_in": 3}, "optimizer": {"name": "muon"}}),
    ] {
        let (usual, profiled) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let mut without = trainer(&config(usual.path(), change.clone()), false);
        let (expected, _) = run(&mut without, 0);

        let config = config(profiled.path(), change.clone());
        let mut with = trainer(&config, false);
        let recorder = recorder(5);
        with.set_recorder(recorder.clone());
        let begin = Instant::now();
        recorder.start();
        let (steps, _) = run(&mut with, 0);
        recorder.stop();
        let wall = begin.elapsed();
        assert_eq!(losses(&steps), losses(&expected));
        let norms = |steps: &[StepMetrics]| steps.iter().map(|step| step.grad_norm.to_bits()).collect::<Vec<_>>();
        assert_eq!(norms(&steps), norms(&expected));
        let bits = |trainer: &mut Trainer| weights(trainer).into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert!(bits(&mut with) == bits(&mut without), "{change}");

        let report = recorder.report();
        assert!(report.steps == 6 && report.time() <= wall, "{:?} {wall:?}", report.time());
        assert!(report.time() > wall * 9 / 10, "{:?} {wall:?}", report.time());
        let tokens = 6 * config.train.batch as u64 * config.train.sequence as u64;
        for phase in phases {
            let time = report.phase(phase);
            assert_eq!(time.parts.iter().sum::<Duration>(), time.time, "{phase}");
            let operations = report.operations.iter().filter(|operation| operation.phase == phase);
            assert!(operations.map(|operation| operation.time).sum::<Duration>() <= time.time, "{phase}");
            let expected = if ["data", "forward", "backward"].contains(&phase) { tokens } else { 0 };
            assert_eq!(time.tokens, expected, "{phase}");
        }
        assert!(report.phases.iter().any(|(phase, _)| *phase == "checkpoint"));
        // A product forward is two backward, each as large.
        let sum = |name: &str, phase: &str| -> u64 {
            let these = report.operations.iter().filter(|o| o.name == name && o.phase == phase);
            these.map(|operation| operation.operations).sum()
        };
        let forward = sum("linear", "forward");
        assert!(forward > 0 && sum("linear_backward_weight", "backward") == forward);
        assert_eq!(sum("linear_backward_input", "backward"), forward);
        assert_eq!(sum("attention_backward", "backward"), sum("attention", "forward") / 2 * 5);
        if config.train.grad_checkpoint {
            assert!(sum("linear", "backward") > 0, "layers are computed again");
        }

        let mut trace = Vec::new();
        recorder.write_trace(&mut trace).unwrap();
        let trace: Value = serde_json::from_slice(&trace).unwrap();
        assert_eq!((spans(&trace, "step").count(), report.left_out), (6, 0));
        let inside = |inner: [f64; 2], outer: [f64; 2]| outer[0] <= inner[0] + 1e-3 && inner[1] <= outer[1] + 1e-3;
        let in_phases: Vec<[f64; 2]> = spans(&trace, "pass").map(|(_, span)| span).collect();
        for (step, time) in spans(&trace, "step") {
            let own: Vec<[f64; 2]> = in_phases.iter().copied().filter(|span| inside(*span, time)).collect();
            let sum: f64 = own.iter().map(|[begin, end]| end - begin).sum();
            assert!(own.len() >= phases.len() && sum > 0.9 * (time[1] - time[0]), "{step}: {sum}");
        }
        for (operation, span) in spans(&trace, "operation") {
            assert!(in_phases.iter().any(|phase| inside(span, *phase)), "{operation}");
        }
        assert!(spans(&trace, "kernel").count() > 0, "threads work");
    }
}
