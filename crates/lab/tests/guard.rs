//! What is not ternary is not made ternary unless somebody insists, and mixtures for a size keep what matters.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use trine_backend::CacheType;
use trine_lab::divergence::{Chunks, DivergenceOptions};
use trine_lab::quantize::guard::{damage, predict, ternarized};
use trine_lab::quantize::search::{Costs, Measurement};
use trine_lab::quantize::{Error, Recipe, Target, plan, quantize_on_load, write};
use trine_model::{DeviceOptions, EMBEDDED, GgufModel, Language, open_file};
use trine_tensor::format::{F32, I2_S, IQ4_NL, Q1_0, Q4_0, Q8_0, TQ2_0, by_name};
use trine_tensor::{File, View};

const OPTIONS: DivergenceOptions = DivergenceOptions { batch: 64, threads: 2, cache_type: CacheType::F32 };

fn golden(name: &str) -> File {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/models").join(name).join("model.gguf");
    File::open(path).unwrap()
}

fn go_on<T>(_: T) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn ternarized_weights_are_the_nearest_of_their_signs() {
    let mut random = fastrand::Rng::with_seed(2);
    // Sums of uniform numbers, which are nearly Gaussian.
    let weights: Vec<f32> = (0..4 * 256).map(|_| (0..12).map(|_| random.f32() - 0.5).sum()).collect();
    let view = View::new("w", &F32, vec![4, 256], F32.encode(&weights)).unwrap();
    let (made, cosine) = ternarized(&view).unwrap();
    let ternary = made.decode();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let expected = dot(&weights, &ternary) / (dot(&weights, &weights) * dot(&ternary, &ternary)).sqrt();
    assert!((cosine - expected).abs() < 1e-6 && (0.88..0.91).contains(&cosine), "{cosine} {expected}");
    // No other scale is nearer.
    let error = |factor: f32| weights.iter().zip(&ternary).map(|(a, b)| (a - factor * b).powi(2)).sum::<f32>();
    assert!(error(1.0) < error(0.99) && error(1.0) < error(1.01));
    assert!(ternary.iter().all(|w| *w == 0.0 || w.abs() == ternary[0].abs().max(ternary[1].abs()).max(w.abs())));
    // What is ternary stays.
    let (again, cosine) = ternarized(&made).unwrap();
    assert!(again.decode().iter().zip(&ternary).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs()) && cosine > 1.0 - 1e-9);
    let zero = View::new("w", &F32, vec![1, 128], F32.encode(&[0.0; 128])).unwrap();
    assert_eq!(ternarized(&zero).unwrap().1, 1.0);
    let nan = View::new("w", &F32, vec![1, 128], F32.encode(&[f32::NAN; 128])).unwrap();
    assert!(matches!(ternarized(&nan), Err(Error::NotFinite { .. })));
}

#[test]
fn dense_models_are_refused_with_what_they_would_lose() {
    let folder = tempfile::tempdir().unwrap();
    let file = golden("llama");
    let model = GgufModel::open(&file, None).unwrap();
    let recipe = Recipe { target: Some(Target::Format(&Q8_0)), ..Recipe::default() };
    assert_eq!(damage(&model, &plan(&model, &recipe).unwrap(), &mut go_on).unwrap(), []);
    let ternary = Recipe { target: Some(Target::Format(&trine_tensor::format::IQ2_BN)), ..Recipe::default() };
    let dense = damage(&model, &plan(&model, &ternary).unwrap(), &mut go_on);
    // Rows of 32 fit no block of a ternary format, or each matrix is told.
    assert!(dense.unwrap().iter().all(|damage| damage.cosine < 0.95 && damage.error > 0.3));

    let file = open_file(EMBEDDED, &Default::default()).unwrap();
    let model = GgufModel::open(&file, None).unwrap();
    for format in [&I2_S, &TQ2_0] {
        let recipe = Recipe { target: Some(Target::Format(format)), ..Recipe::default() };
        assert_eq!(damage(&model, &plan(&model, &recipe).unwrap(), &mut go_on).unwrap(), [], "{format}");
        assert!(quantize_on_load(&file, &recipe).is_ok());
    }
    // The embedding is dense: by name it is made ternary only if told so.
    let mut recipe = Recipe { embedding: Some(&I2_S), ..Recipe::default() };
    let planned = plan(&model, &recipe).unwrap();
    let found = damage(&model, &planned, &mut go_on).unwrap();
    assert_eq!(found.iter().map(|damage| damage.tensor.as_str()).collect::<Vec<_>>(), ["token_embd.weight"]);
    assert!(matches!(quantize_on_load(&file, &recipe), Err(Error::Dense { .. })));
    let tokenizer = Language::of(&file).unwrap().tokenizer;
    let chunks = Chunks::new(&tokenizer, &[trine_lab::bench::TEXT], 64, 2).unwrap();
    let after = predict(&model, &found, &DeviceOptions::default(), &chunks, &OPTIONS).unwrap();
    assert!(after.perplexity > 1.2 * after.perplexity_reference, "{after:?}");
    let output = folder.path().join("out.gguf");
    assert!(matches!(write(&model, &planned, &output, None, None, &mut go_on), Err(Error::NotTernary { .. })));
    recipe.ternarize = true;
    write(&model, &plan(&model, &recipe).unwrap(), &output, None, None, &mut go_on).unwrap();
    assert_eq!(File::open(output).unwrap().view("token_embd.weight").unwrap().format, &I2_S);
}

#[test]
fn mixtures_for_a_size_are_no_larger_and_better_than_one_format() {
    let file = golden("llama");
    let model = GgufModel::open(&file, None).unwrap();
    let tokenizer = Language::of(&file).unwrap().tokenizer;
    let chunks = Chunks::new(&tokenizer, &[trine_lab::bench::TEXT], 48, 2).unwrap();
    let (device, recipe) = (DeviceOptions::default(), Recipe::default());
    let measurement =
        Measurement { model: &model, device: &device, chunks: &chunks, options: OPTIONS, recipe: &recipe };
    let mut costs = Costs::default();
    let mut count = 0;
    measurement
        .measure(&mut costs, &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    // Blocks of 256 do not fit rows of 32.
    let formats: BTreeSet<&str> = costs.costs.iter().map(|cost| cost.format.as_str()).collect();
    assert_eq!(formats.into_iter().collect::<Vec<_>>(), ["IQ4_NL", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]);
    assert!(count > 10, "{costs:?}");
    measurement.measure(&mut costs, &mut |_, _| panic!("all is known")).unwrap();
    let whole = |target| {
        let recipe = Recipe { target: Some(Target::Format(target)), ..Recipe::default() };
        plan(&model, &recipe).unwrap().bytes_after()
    };
    let [large, small] = [&Q8_0, &Q4_0].map(|format| measurement.choose(&costs, whole(format)).unwrap());
    assert!(large.measured_kl > 0.0 && large.predicted_kl < small.predicted_kl, "{large:?} {small:?}");
    assert!(small.formats.values().all(|format| [&Q4_0, &IQ4_NL].contains(format)), "{small:?}");
    assert!(matches!(measurement.choose(&costs, whole(&Q4_0) - 1), Err(Error::TooSmall { .. })));
    let stopped = measurement.measure(&mut Costs::default(), &mut |_, _| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(Error::Cancelled)));
}

/// Matrices that are ternary get no format that holds them worse in more bits.
#[test]
fn mixtures_of_a_ternary_model_stay_ternary() {
    let file = open_file(EMBEDDED, &Default::default()).unwrap();
    let model = GgufModel::open(&file, None).unwrap();
    let tokenizer = Language::of(&file).unwrap().tokenizer;
    let chunks = Chunks::new(&tokenizer, &[trine_lab::bench::TEXT], 16, 1).unwrap();
    let (device, recipe) = (DeviceOptions::default(), Recipe::default());
    let measurement =
        Measurement { model: &model, device: &device, chunks: &chunks, options: OPTIONS, recipe: &recipe };
    let mut costs = Costs::default();
    measurement.measure(&mut costs, &mut |_, _| ControlFlow::Continue(())).unwrap();
    let ternary = costs.costs.iter().filter(|cost| cost.group.contains("layers"));
    for cost in ternary {
        assert!(by_name(&cost.format).unwrap().ternary && cost.kl < 1e-3, "{cost:?}");
    }
    let [_, most] = measurement.sizes().unwrap();
    let found = measurement.choose(&costs, most).unwrap();
    let of_layers = found.formats.iter().filter(|(name, _)| name.starts_with("blk."));
    assert!(of_layers.count() > 10 && found.measured_kl < 0.1, "{found:?}");
}

#[test]
fn one_bit_is_guarded_like_ternary_formats() {
    let file = open_file(EMBEDDED, &Default::default()).unwrap();
    let model = GgufModel::open(&file, None).unwrap();
    let recipe = Recipe { target: Some(Target::Format(&Q1_0)), ..Recipe::default() };
    let planned = plan(&model, &recipe).unwrap();
    let found = damage(&model, &planned, &mut go_on).unwrap();
    let count = planned.tensors.iter().filter(|tensor| tensor.info.format == &Q1_0).count();
    assert!(count > 0 && found.len() == count, "{found:?}");
    // Those of a Gaussian have the cosine of sqrt(2 / pi), those of ternary weights about the same.
    assert!(found.iter().all(|damage| (0.6..0.95).contains(&damage.cosine)), "{found:?}");
    assert!(matches!(quantize_on_load(&file, &recipe), Err(Error::Dense { format: "Q1_0", .. })));
}
