//! What is not ternary is not made ternary unless somebody insists, and mixtures for a size keep what matters.

use std::ops::ControlFlow;
use std::path::Path;
use trine_backend::CacheType;
use trine_lab::divergence::{Chunks, DivergenceOptions};
use trine_lab::quantize::guard::{damage, predict, ternarized};
use trine_lab::quantize::search::{Costs, Measurement};
use trine_lab::quantize::{Error, Recipe, Target, plan, quantize_on_load, write};
use trine_model::{DeviceOptions, EMBEDDED, GgufModel, Language, open_file};
use trine_tensor::format::{F32, I2_S, Q4_0, Q8_0, TQ2_0};
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
    let chunks = Chunks::new(&tokenizer, trine_lab::bench::TEXT, 64, 2).unwrap();
    let after = predict(&model, &found, &DeviceOptions::default(), &chunks, &OPTIONS).unwrap();
    assert!(after.perplexity > 1.2 * after.perplexity_reference, "{after:?}");
    let output = folder.path().join("out.gguf");
    assert!(matches!(write(&model, &planned, &output, None, &mut go_on), Err(Error::NotTernary { .. })));
    recipe.ternarize = true;
    write(&model, &plan(&model, &recipe).unwrap(), &output, None, &mut go_on).unwrap();
    assert_eq!(File::open(output).unwrap().view("token_embd.weight").unwrap().format, &I2_S);
}

#[test]
fn mixtures_for_a_size_are_no_larger_and_better_than_one_format() {
    let file = golden("llama");
    let model = GgufModel::open(&file, None).unwrap();
    let tokenizer = Language::of(&file).unwrap().tokenizer;
    let chunks = Chunks::new(&tokenizer, trine_lab::bench::TEXT, 48, 2).unwrap();
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
    // Rows of 32 have one candidate: blocks of 256 do not fit.
    assert!(count > 10 && costs.costs.iter().all(|cost| cost.format == "Q8_0"), "{costs:?}");
    measurement.measure(&mut costs, &mut |_, _| panic!("all is known")).unwrap();
    let whole = |target| {
        let recipe = Recipe { target: Some(Target::Format(target)), ..Recipe::default() };
        plan(&model, &recipe).unwrap().bytes_after()
    };
    let found = measurement.choose(&costs, whole(&Q8_0)).unwrap();
    assert!(found.formats.values().all(|format| *format == &Q8_0) && found.measured_kl > 0.0, "{found:?}");
    assert!(matches!(measurement.choose(&costs, whole(&Q4_0)), Err(Error::TooSmall { .. })));
    let stopped = measurement.measure(&mut Costs::default(), &mut |_, _| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(Error::Cancelled)));
}
