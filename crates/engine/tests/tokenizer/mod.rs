//! A tokenizer for the tests of filters.

use std::sync::{Arc, LazyLock};
use trine_model::{EMBEDDED, Language};
use trine_text::Tokenizer;

/// That of the model in the program.
pub static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
    let file = trine_model::open_file(EMBEDDED, &Default::default()).unwrap();
    Arc::new(Language::of(&file).unwrap().tokenizer)
});
