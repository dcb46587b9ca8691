//! Lists the files of the web page, so that they become part of the program.

use std::fmt::Write;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=web");
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("web");
    let mut files = Vec::new();
    list(&root, &mut files);
    files.sort();
    let mut table = "&[\n".to_owned();
    for file in files {
        let name = file.strip_prefix(&root).expect("it is below").to_str().expect("names are UTF-8").replace('\\', "/");
        writeln!(table, "    ({name:?}, include_bytes!({file:?})),").expect("a String takes all");
    }
    table.push(']');
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    std::fs::write(out.join("page.rs"), table).expect("cargo's folder can be written");
}

/// The files that a browser asks for: no tests, and no notes about them.
fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let is = |end: &str| path.extension().is_some_and(|found| found == end);
        if path.is_dir() {
            if entry.file_name() != "tests" {
                list(&path, files);
            }
        } else if !is("md") {
            files.push(path);
        }
    }
}
