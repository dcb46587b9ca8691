//! Models of 8-bit integers: folders that are written and read, and what the integers cost.

use std::ops::ControlFlow;
use std::path::Path;
use trine_backend::{ActivationPrecision, CpuOptions, Observer};
use trine_lab::quantize::write_folder;
use trine_lab::w8a8::{ACTIVATIONS, WEIGHTS, error_table};
use trine_model::{DeviceOptions, GgufModel, HfModel, ModelOptions, load};
use trine_tensor::format::{F16, F32, I8, Q8_0};
use trine_tensor::{File, View, safetensors};

fn golden(name: &str) -> File {
    File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name)).unwrap()
}

/// Writes `golden`'s model as W8A8.
fn folder_of(name: &str, output: &Path) -> File {
    let file = golden(name);
    let model = GgufModel::open(&file, None).unwrap();
    let hf = HfModel::of(&model, Some(&I8)).unwrap();
    write_folder(&model, &hf, output, u64::MAX, None, &mut |_| ControlFlow::Continue(())).unwrap();
    File::open(output).unwrap()
}

#[test]
fn a_folder_of_integers_is_the_model_and_runs_on_kernels_of_integers() {
    let temp = tempfile::tempdir().unwrap();
    // Matrices that are alone, fused, grouped by heads, with rotations in another order, and with biases.
    for name in ["llama", "gptneox", "phi-window", "qwen3", "gemma3", "starcoder2", "cohere2"] {
        let file = folder_of(name, &temp.path().join(name));
        let (model, source) = (GgufModel::open(&file, None).unwrap(), golden(name));
        let source = GgufModel::open(&source, None).unwrap();
        let mut integers = 0;
        for (i, info) in model.tensors().iter().enumerate() {
            if !info.name.starts_with("blk.") || info.shape.len() < 2 {
                continue;
            }
            let at = source.tensors().iter().position(|other| other.name == info.name).unwrap();
            let (found, right) = (model.read(i).unwrap(), source.read(at).unwrap());
            let cols = info.shape[1];
            assert_eq!(info.format, if cols.is_multiple_of(32) { &Q8_0 } else { &F32 }, "{name}: {}", info.name);
            integers += 1;
            for (found, right) in found.decode().chunks(cols).zip(right.decode().chunks(cols)) {
                let step = right.iter().fold(0f32, |most, w| most.max(w.abs())) / 127.0;
                let near = found.iter().zip(right).all(|(a, b)| (a - b).abs() <= 0.57 * step);
                assert!(near, "{name}: {}", info.name);
            }
        }
        assert!(integers >= 4 * source.spec().n_layers, "{name}: {integers} of integers");
    }
    let file = File::open(temp.path().join("llama")).unwrap();
    let stored = file.view("model.layers.0.self_attn.k_proj.weight").unwrap();
    let scale = file.view("model.layers.0.self_attn.k_proj.weight_scale").unwrap();
    assert_eq!((stored.format, scale.format, scale.shape), (&I8, &F16, vec![stored.rows(), 1]));
    assert_ne!(file.view("model.embed_tokens.weight").unwrap().format, &I8);
}

/// Loads the folder of integers with tensors of one matrix exchanged: its weights, or why not.
fn exchanged(change: impl FnOnce(&mut Vec<View>, &mut serde_json::Value)) -> Result<View, String> {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("w8a8");
    let file = folder_of("llama", &path);
    let mut tensors: Vec<View> = file
        .tensors()
        .map(|view| View::new(&*view.name, view.format, view.shape.clone(), view.bytes.to_vec()).unwrap())
        .collect();
    let mut config = file.config().unwrap().clone();
    drop(file);
    change(&mut tensors, &mut config);
    for entry in std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.to_string_lossy().contains("safetensors") {
            std::fs::remove_file(entry).unwrap();
        }
    }
    safetensors::write(path.join("model.safetensors"), &tensors).unwrap();
    std::fs::write(path.join("config.json"), config.to_string()).unwrap();
    let file = File::open(&path).unwrap();
    load(&file, &DeviceOptions::default(), ModelOptions::default(), &mut |_| ControlFlow::Continue(()))
        .map_err(|error| error.to_string())?;
    let model = GgufModel::open(&file, None).map_err(|error| error.to_string())?;
    let i = model.tensors().iter().position(|info| info.name == "blk.0.ffn_down.weight").unwrap();
    Ok(model.read(i).unwrap())
}

#[test]
fn scales_of_matrices_groups_and_zero_points_are_those_of_the_file() {
    const NAME: &str = "model.layers.0.mlp.down_proj.weight";
    let codes = |tensors: &[View]| tensors.iter().find(|view| view.name == NAME).unwrap().clone();
    let put = |tensors: &mut Vec<View>, end: &str, view: View| {
        tensors.retain(|view| view.name != format!("{NAME}{end}"));
        tensors.push(view);
    };
    let scale = |shape: &[usize], values: &[f32]| {
        View::new(format!("{NAME}_scale"), &F32, shape.to_vec(), F32.encode(values)).unwrap()
    };
    let group = |config: &mut serde_json::Value, size: usize| {
        config["quantization_config"]["config_groups"]["group_0"]["weights"]["group_size"] = size.into();
    };
    let mut right = Vec::new();
    let found = exchanged(|tensors, _| {
        right = codes(tensors).bytes.iter().map(|&byte| 0.25 * f32::from(byte as i8)).collect();
        put(tensors, "_scale", scale(&[1], &[0.25]));
    });
    let found = found.unwrap();
    assert!(found.format == &Q8_0 && found.decode() == right);
    // A scale and a zero point for each 32 inputs.
    let found = exchanged(|tensors, config| {
        let codes = codes(tensors);
        let (rows, cols) = (codes.rows(), codes.cols());
        let across = cols / 32;
        let scales: Vec<f32> = (0..rows * across).map(|i| 0.1 + i as f32 / 7.0).collect();
        let zeros: Vec<u8> = (0..rows * across).map(|i| (i % 200) as u8).collect();
        let weight = |(i, &byte): (usize, &u8)| {
            let at = i / cols * across + i % cols / 32;
            scales[at] * (i32::from(byte as i8) - i32::from(zeros[at] as i8)) as f32
        };
        right = codes.bytes.iter().enumerate().map(weight).collect();
        put(tensors, "_scale", scale(&[rows, across], &scales));
        put(tensors, "_zero_point", View::new(format!("{NAME}_zero_point"), &I8, vec![rows, across], zeros).unwrap());
        // Of every matrix the groups are of one size.
        let others: Vec<View> = tensors.iter().filter(|view| view.name.ends_with("weight_scale")).cloned().collect();
        for other in others.iter().filter(|view| !view.name.starts_with(NAME)) {
            let weight = tensors.iter().find(|view| other.name == format!("{}_scale", view.name)).unwrap();
            let (shape, each) = (vec![weight.rows(), weight.cols() / 32], weight.cols() / 32);
            let repeated: Vec<f32> = other.decode().iter().flat_map(|&scale| vec![scale; each]).collect();
            let view = View::new(&*other.name, &F32, shape, F32.encode(&repeated)).unwrap();
            tensors.retain(|view| view.name != other.name);
            tensors.push(view);
        }
        group(config, 32);
    });
    let found = found.unwrap();
    assert!(found.format == &F32 && found.decode() == right, "{}", found.format);
    // Calibrated scales of activations are not used; what does not fit is named.
    let unused = exchanged(|tensors, _| {
        let name = NAME.replace("weight", "input_scale");
        tensors.push(View::new(name, &F32, vec![1], F32.encode(&[0.5])).unwrap());
    });
    assert!(unused.is_ok(), "{unused:?}");
    type Change<'a> = &'a dyn Fn(&mut Vec<View>, &mut serde_json::Value);
    for (change, said) in [
        (
            &(|tensors: &mut Vec<View>, _: &mut _| tensors.retain(|view| view.name != format!("{NAME}_scale")))
                as Change,
            "_scale",
        ),
        (&|tensors, _| put(tensors, "_scale", scale(&[3, 1], &[1.0; 3])), "found [3, 1]"),
        (&|tensors, _| put(tensors, "_scale", scale(&[1], &[f32::NAN])), "finite scales"),
        (&|_, config| group(config, 32), "expected shape"),
        (&|_, config| config["quantization_config"]["format"] = "pack-quantized".into(), "int-quantized"),
        (
            &|_, config| config["quantization_config"]["config_groups"]["group_0"]["weights"]["num_bits"] = 4.into(),
            "weights of 8-bit integers",
        ),
        (
            &|_, config| {
                config["quantization_config"]["config_groups"]["group_0"]["weights"]["actorder"] = "group".into()
            },
            "actorder",
        ),
    ] {
        let message = exchanged(|tensors, config| change(tensors, config)).unwrap_err();
        assert!(message.contains(said), "expected {said:?} in: {message}");
    }
}

#[test]
fn what_cannot_be_integers_is_refused() {
    for name in ["bitnet-b1.58", "gpt2", "granitemoe", "deepseek2"] {
        let file = golden(name);
        let model = GgufModel::open(&file, None).unwrap();
        let message = HfModel::of(&model, Some(&I8)).err().unwrap().to_string();
        assert!(message.contains("for W8A8"), "{name}: {message}");
    }
}

#[test]
fn finer_scales_lose_less() {
    let file = golden("llama");
    let observer = Observer::keeping(64);
    let cpu = CpuOptions { activations: ActivationPrecision::F32, ..CpuOptions::default() };
    let device = DeviceOptions { cpu, observer: Some(observer.clone()), ..DeviceOptions::default() };
    let options = ModelOptions { gguf_names: true, ..ModelOptions::default() };
    let mut runner = load(&file, &device, options, &mut |_| ControlFlow::Continue(())).unwrap();
    let model = GgufModel::open(&file, None).unwrap();
    let ids: Vec<u32> = (0..64).map(|i| i * 7 % 256).collect();
    let mut go_on = |_, _| ControlFlow::Continue(());
    let table = error_table(&model, &mut *runner, &observer, &ids, &mut go_on).unwrap();
    assert_eq!((table.matrices, table.left_out, table.tokens), (7 * model.spec().n_layers, 0, [32, 32]));
    assert_eq!(table.rows.len(), 1 + WEIGHTS.len());
    let float = &table.rows[0];
    assert!(float.weight_error == 0.0 && float.errors[0] == 0.0 && float.errors[1] > 0.0, "{float:?}");
    for rows in [[1, 3, 5, 7], [2, 4, 6, 8]] {
        let errors = rows.map(|i| table.rows[i].weight_error);
        // The rows have fewer weights than 128: a group is a row.
        let falls = errors[0] > errors[1] && errors[1] >= errors[2] && errors[2] > errors[3] && errors[3] > 0.0;
        assert!(falls, "{errors:?}");
    }
    for row in &table.rows {
        let [float, group, token, _, fixed, _] = row.errors;
        assert!(float < group && group < token && token < fixed && fixed < 0.2, "{row:?}");
    }
    assert_eq!(ACTIVATIONS.len() + 1, float.errors.len());
    let short = error_table(&model, &mut *runner, &observer, &ids[..1], &mut go_on).unwrap_err().to_string();
    assert_eq!(short, "expected a text of at least 2 tokens, found 1");
    let mut stop = |_, _| ControlFlow::Break(());
    assert_eq!(error_table(&model, &mut *runner, &observer, &ids, &mut stop).unwrap_err().to_string(), "cancelled");
}
