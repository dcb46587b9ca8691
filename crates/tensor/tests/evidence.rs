//! The order of ternary matrices is found by their weights, where they are trained, and where nothing else tells it.

use std::path::{Path, PathBuf};
use trine_tensor::format::{I2_S, I2_S_ARM, I2_S_ROWS, TL1, TL2};
use trine_tensor::{File, Format, TensorInfo, View, gguf};

/// Trained ternary models.
fn models() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = root.join("../shared/data/models/bitstories3M/bitstories3M-tq2_0.gguf");
    if !shared.exists() {
        eprintln!("SKIPPED in part: {} is absent", shared.display());
    }
    [root.join("assets/stories.gguf"), shared].into_iter().filter(|path| path.exists()).collect()
}

/// A folder for this test alone.
fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("trine-evidence-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The bytes of a model whose ternary matrices are in `format`, without what Trine says about it.
fn without_keys(model: &Path, format: &'static Format, mut change: impl FnMut(&mut [f32])) -> Vec<u8> {
    let file = File::open(model).unwrap();
    let mut convert = |view: &View| {
        if !view.format.ternary {
            return view.clone();
        }
        let entry = TensorInfo { format, ..view.info() };
        let mut weights = view.decode();
        change(&mut weights);
        View::new(&*view.name, format, view.shape.clone(), entry.encode(&weights).unwrap()).unwrap()
    };
    let views: Vec<View> = file.tensors().map(&mut convert).collect();
    let folder = scratch(&format!("{format}-{}", model.file_stem().unwrap().display()));
    let path = folder.join("model.gguf");
    gguf::write(&path, file.metadata(), &views).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    for key in ["trine.layouts", "trine.kernel_config"] {
        if let Some(at) = bytes.windows(key.len()).position(|window| window == key.as_bytes()) {
            bytes[at] = b'T';
        }
    }
    bytes
}

/// Whether all ternary weights of two files are the same.
fn assert_same(found: &File, model: &Path) {
    for view in File::open(model).unwrap().tensors().filter(|view| view.format.ternary) {
        assert!(found.view(&view.name).unwrap().decode() == view.decode(), "{}", view.name);
    }
}

#[test]
fn the_layout_of_trained_weights_is_found() {
    for model in models() {
        for format in [&I2_S, &I2_S_ARM, &I2_S_ROWS] {
            let file = File::from_bytes("model.gguf", without_keys(&model, format, |_| {})).unwrap();
            println!("{format}: {:?} {:?}", file.notes(), file.warnings());
            assert_same(&file, &model);
            assert!(file.warnings().is_empty() && file.notes()[0].contains("zeros"));
        }
    }
}

/// Replaces trained trits by random ones, which differ between matrices.
fn forget() -> impl FnMut(&mut [f32]) {
    let mut state = 1u64;
    move |weights| {
        let scale = weights.iter().fold(0f32, |most, w| most.max(w.abs()));
        for w in weights {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *w = scale * ((state >> 33) % 3) as f32 - scale;
        }
    }
}

#[test]
fn what_weights_do_not_prove_is_assumed_with_a_warning() {
    for format in [&I2_S, &I2_S_ARM, &I2_S_ROWS] {
        let file = File::from_bytes("model.gguf", without_keys(&models()[0], format, forget())).unwrap();
        assert!(file.warnings()[0].contains("I2_S_ARM, I2_S_ROWS") && file.notes().is_empty());
        assert!(file.tensors().all(|view| view.format.matrix_layout().is_none()));
    }
}

/// Tiles of these shapes, as `kernel_config.ini` has them.
fn ini(tiles: &[([usize; 2], [usize; 3])]) -> String {
    let section = |([m, k], [bm, bk, bmm]): &([usize; 2], [usize; 3])| {
        format!("[kernel]\nm = {m}\nk = {k}\nbm = {bm}\nbk = {bk}\nbmm = {bmm}\n")
    };
    tiles.iter().map(section).collect()
}

#[test]
fn the_tiles_of_trained_weights_are_found_and_others_refused() {
    let folder = scratch("tiles");
    let (path, config) = (folder.join("model.gguf"), folder.join("kernel_config.ini"));
    let square = [[256, 64, 16], [128, 128, 32], [128, 192, 32], [64, 96, 32]];
    for model in models() {
        let proves = !model.ends_with("stories.gguf");
        for (format, wide) in [(&TL1, 128), (&TL2, 96)] {
            std::fs::write(&path, without_keys(&model, format, |_| {})).unwrap();
            let alone = File::open(&path);
            match &alone {
                Ok(file) => assert_same(file, &model),
                Err(error) => {
                    assert!(!proves && error.to_string().contains("expected the tiles of its kernel"), "{error}")
                }
            }
            let others = [([128, 256], [128, wide, 32]), ([768, 256], [256, wide, 32]), ([256, 768], [256, wide, 32])];
            let with = |tiles: [usize; 3]| {
                let all: Vec<_> = others.into_iter().chain([([256, 256], tiles)]).collect();
                std::fs::write(&config, ini(&all)).unwrap();
                File::open(&path)
            };
            let file = with([256, wide, 32]).unwrap();
            assert_same(&file, &model);
            assert_eq!(file.warnings().is_empty(), proves, "{:?}", file.warnings());
            for tiles in square.into_iter().filter(|tiles| (tiles[1] % 24 == 0) == (format == &TL2)) {
                match with(tiles) {
                    Err(error) => {
                        let error = error.to_string();
                        assert!(error.contains(&format!("bm = 256, bk = {wide}, bmm = 32")) || !proves, "{error}");
                    }
                    Ok(file) => assert!(!proves && !file.warnings().is_empty(), "{tiles:?}: {:?}", file.notes()),
                }
            }
            std::fs::remove_file(&config).unwrap();
            // The tiles of random weights cannot be verified.
            std::fs::write(&path, without_keys(&model, format, forget())).unwrap();
            assert!(File::open(&path).unwrap_err().to_string().contains("expected the tiles of its kernel"));
            assert!(!with([256, wide, 32]).unwrap().warnings().is_empty());
            std::fs::remove_file(&config).unwrap();
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}
