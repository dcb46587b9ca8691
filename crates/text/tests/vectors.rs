//! The tokens of llama.cpp's test texts.

mod common;

use common::{PLAIN, vectors};

#[test]
fn every_vocabulary_gives_the_tokens_of_llama_cpp() {
    for (name, tokenizer) in common::tokenizers() {
        let Some(vectors) = vectors(name) else { return };
        let (mut right, all) = (0, vectors.len());
        for (text, ids) in vectors {
            let found = tokenizer.encode(&text, PLAIN);
            if found == ids {
                right += 1
            } else {
                eprintln!("{name}: {text:?}\n  expected {ids:?}\n  found    {found:?}")
            }
        }
        eprintln!("{name}: {right} of {all}, warnings {:?}", tokenizer.warnings());
        assert_eq!(right, all, "{name}");
    }
}
