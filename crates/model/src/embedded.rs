//! The model that is part of the library.

use std::path::Path;
use trine_tensor::{Bytes, File, OpenOptions, Result};

/// Path of the small model that is part of the library: ternary, of BitNet's architecture, trained by Trine to write stories for children.
/// `assets/` has its recipe.
pub const EMBEDDED: &str = "embedded:stories";

/// Bytes aligned to a cache line, as the weights of a mapped file are.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static STORIES: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../assets/stories.gguf"));

/// Opens a model file as [`File::open_with`] does, or for [`EMBEDDED`] the model in the library, which is neither mapped nor copied. To open
/// a file of that name, write `./embedded:stories`.
///
/// # Errors
/// As [`File::open_with`].
pub fn open_file(path: impl AsRef<Path>, options: &OpenOptions) -> Result<File> {
    match path.as_ref() {
        path if path == Path::new(EMBEDDED) => File::from_bytes(path, Bytes::from_static(&STORIES.0)),
        path => File::open_with(path, options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Language, Spec};

    #[test]
    fn the_embedded_model_is_small_ternary_and_speaks() {
        let file = open_file(EMBEDDED, &OpenOptions::default()).unwrap();
        let (spec, language) = (Spec::of(&file).unwrap(), Language::of(&file).unwrap());
        language.check(&spec).unwrap();
        assert!(file.size() <= 4 << 20, "{} bytes", file.size());
        assert!(spec.bit_linear && file.tensors().any(|view| view.format.ternary));
        assert_eq!(Language::open(Path::new(EMBEDDED)).unwrap().tokenizer.len(), language.tokenizer.len());
        assert!(file.tensors().all(|view| !view.is_mapped() && view.bytes.as_ptr().align_offset(32) == 0));
    }
}
