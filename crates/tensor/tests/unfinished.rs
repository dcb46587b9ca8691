//! A program that exits at once leaves no temporary file. This removes those of all threads, so it is the only test of its program.

use std::io::Write;
use trine_tensor::{NewFolder, Replacement};

#[test]
fn a_program_that_exits_at_once_removes_its_temporary_files() {
    let folder = tempfile::tempdir().unwrap();
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    let [kept, dropped, open] = ["kept", "dropped", "open"].map(|name| Replacement::new(&folder.path().join(name)));
    kept.unwrap().finish().unwrap();
    drop(dropped.unwrap());
    let mut open = open.unwrap();
    open.write_all(b"half").unwrap();
    let half = NewFolder::new(&folder.path().join("folder")).unwrap();
    std::fs::write(half.path().join("file"), "half").unwrap();
    assert_eq!(files(), 3);
    Replacement::remove_unfinished();
    assert_eq!(files(), 1);
    assert!(open.finish().is_err() && half.finish().is_err());
    assert!(folder.path().join("kept").exists() && files() == 1);
}
