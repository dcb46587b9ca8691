//! Whoever wraps a backend, runs a model in a way of their own or reads what one is can name every type through the facade.

use std::collections::BTreeSet;
use std::path::Path;

/// Types of the crates that nothing in the facade has in a signature, by crate.
const LEFT_OUT: &[(&str, &[&str])] = &[
    ("backend", &[]),
    ("engine", &[]),
    // Keys of files, and conversion to GGUF.
    ("model", &["ArchitectureKeys", "FileKeys", "IgnoredKeys", "Result", "Unpacker"]),
    ("tensor", &["Result"]),
    ("text", &["Result"]),
];

/// The types that these lines define or re-export in public.
fn types(source: &str) -> BTreeSet<&str> {
    let reexported = source.split("pub use ").skip(1).filter_map(|rest| rest.split(';').next());
    let kinds = ["pub struct ", "pub enum ", "pub trait ", "pub type "];
    let defined = source.lines().filter_map(|line| kinds.iter().find_map(|kind| line.strip_prefix(kind)));
    let defined = defined.filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next());
    let words = reexported.flat_map(|list| list.split(|c: char| !c.is_alphanumeric() && c != '_'));
    let is_type = |word: &&str| word.starts_with(char::is_uppercase) && word.contains(char::is_lowercase);
    words.chain(defined).filter(is_type).collect()
}

#[test]
fn every_public_type_has_a_name_in_the_facade() {
    let read = |path: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)).unwrap()
    };
    let facade = read("trine/src/lib.rs");
    for (name, left_out) in LEFT_OUT {
        let module = facade.split_once(&format!("pub mod {name} {{")).unwrap().1.split("\n}").next().unwrap();
        let (source, found) = (read(&format!("{name}/src/lib.rs")), types(module));
        let expected = types(&source);
        assert!(expected.len() > 5, "the exports of {name} were not understood");
        let missing: Vec<_> = expected.difference(&found).filter(|name| !left_out.contains(name)).collect();
        assert!(missing.is_empty(), "`trine::{name}` lacks {missing:?}: re-export them, or list them as left out");
        assert!(left_out.iter().all(|name| expected.contains(name) && !found.contains(name)), "{left_out:?}");
    }
}
