//! A replacement writes where `std::fs::write` does, and fails where that does, before anything is written.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;
use trine_tensor::{Error, File, Metadata, NewFolder, Replacement, TensorInfo, gguf};

fn write(path: &Path, text: &str) {
    let mut file = Replacement::new(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.finish().unwrap();
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[test]
fn what_cannot_be_written_fails_at_once_and_names_no_temporary_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), "").unwrap();
    fs::create_dir(at("folder")).unwrap();
    let cases = [
        ("folder", "found a folder"),
        ("folder/", "found a folder"),
        ("folder/..", "found a folder"),
        ("new/", "found that of a folder"),
        ("new/.", "found that of a folder"),
        ("missing/file", "expected a file in an existing folder, found no folder"),
        ("missing/../file", "expected a file in an existing folder, found no folder"),
        ("file/file", "os error"),
        ("file/", "os error"),
    ];
    for (name, expected) in cases {
        let path = at(name);
        assert!(fs::write(&path, "").is_err(), "{name}");
        let found = Replacement::new(&path).err().unwrap().to_string();
        assert!(found.contains(expected) && !found.contains(".trine-"), "{name}: {found}");
        let found = Replacement::check(&path).unwrap_err().to_string();
        assert!(found.starts_with(&format!("{}: ", path.display())), "{name}: {found}");
    }
    assert_eq!(count(folder.path()), 2);
    Replacement::check(&at("new")).unwrap();
    assert_eq!(count(folder.path()), 2);
    #[cfg(target_os = "linux")]
    {
        let found = Replacement::new(Path::new("/proc/new")).err().unwrap().to_string();
        assert!(!found.contains(".trine-"), "{found}");
        let found = Replacement::new(Path::new("/dev/null")).err().unwrap().to_string();
        assert!(found.contains("found a device"), "{found}");
    }
}

#[test]
#[cfg(unix)]
fn symbolic_links_are_followed() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("other")).unwrap();
    fs::write(at("other/old"), "old").unwrap();
    symlink("other/old", at("to-old")).unwrap();
    symlink("to-new-directly", at("to-new")).unwrap();
    symlink(at("other/new"), at("to-new-directly")).unwrap();
    for (link, target) in [("to-old", "other/old"), ("to-new", "other/new")] {
        write(&at(link), link);
        assert_eq!(fs::read_to_string(at(target)).unwrap(), link);
        assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink());
    }
    symlink("missing/file", at("to-missing")).unwrap();
    symlink("circle", at("circle")).unwrap();
    for (link, expected) in [("to-missing", "found no folder"), ("circle", "os error")] {
        let found = Replacement::new(&at(link)).err().unwrap().to_string();
        assert!(found.contains(expected), "{link}: {found}");
        assert!(fs::write(at(link), "").is_err(), "{link}");
    }
    assert_eq!(count(&at("other")), 2);
}

#[test]
#[cfg(unix)]
fn permissions_stay() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let path = folder.path().join("file");
    write(&path, "new");
    let plain = folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    assert_eq!(mode(&path), mode(&plain));
    for expected in [0o600, 0o640, 0o666, 0o755] {
        fs::set_permissions(&path, fs::Permissions::from_mode(expected)).unwrap();
        let mut file = Replacement::new(&path).unwrap();
        let temporary = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let temporary: Vec<_> = temporary.filter(|path| path.extension().is_some()).collect();
        assert_eq!(temporary.iter().map(|path| mode(path)).collect::<Vec<_>>(), [expected]);
        file.write_all(b"x").unwrap();
        file.finish().unwrap();
        assert_eq!(mode(&path), expected);
    }
}

#[test]
fn a_folder_appears_when_it_is_complete_and_what_was_left_is_removed() {
    let beside = tempfile::tempdir().unwrap();
    let at = |name: &str| beside.path().join(name);
    let write = |folder: &NewFolder| fs::write(folder.path().join("file"), "text").unwrap();
    let left = at(".trine-old-1.partial");
    for path in ["new", "new/", "empty"].map(at) {
        fs::create_dir_all(at("empty")).unwrap();
        fs::create_dir_all(left.join("within")).unwrap();
        let (folder, other) = (NewFolder::new(&path).unwrap(), NewFolder::new(&at("other")).unwrap());
        write(&folder);
        // What is written is not taken for what was left.
        assert_eq!((left.exists(), folder.path().exists()), (cfg!(not(unix)), true));
        drop(other);
        folder.finish().unwrap();
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "text");
        assert!(NewFolder::new(&path).unwrap().finish().is_err(), "{path:?} is not empty");
        fs::remove_dir_all(&path).unwrap();
    }
    assert!(NewFolder::new(&at("missing").join("new")).is_err());
    fs::create_dir_all(&left).unwrap();
    Replacement::check(&at("file")).unwrap();
    assert_eq!(left.exists(), cfg!(not(unix)));
}

/// Whatever happens when files get their names.
#[test]
fn all_shards_of_a_model_appear_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let info = |i: usize| TensorInfo { name: format!("t{i}"), format: &trine_tensor::format::F32, shape: vec![64] };
    let tensors: Vec<TensorInfo> = (0..4).map(info).collect();
    for bad in 0..4 {
        let path = folder.path().join(format!("model{bad}.gguf"));
        let mut writer = gguf::create_shards(&path, &Metadata::new(), tensors.clone(), 256, None).unwrap();
        tensors.iter().for_each(|_| writer.tensor(&[0; 256]).unwrap());
        let paths = gguf::shard_paths(&path, &tensors, 256).unwrap();
        fs::create_dir(&paths[bad]).unwrap();
        let error = writer.finish().unwrap_err().to_string();
        assert!(error.starts_with(&paths[bad].display().to_string()), "{error}");
        fs::remove_dir(&paths[bad]).unwrap();
        assert_eq!(count(folder.path()), 0, "{bad}");
    }
}

/// Whatever a program that was killed, or another at the same time, left of either: all shards of one run, or none.
#[test]
fn shards_of_two_runs_are_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let info = |i: usize| TensorInfo { name: format!("t{i}"), format: &trine_tensor::format::F32, shape: vec![64] };
    let tensors: Vec<TensorInfo> = (0..3).map(info).collect();
    let paths_of = |name: &str| gguf::shard_paths(&folder.path().join(name), &tensors, 256).unwrap();
    let writer = |name: &str, last: u8| {
        let path = folder.path().join(name);
        let mut writer = gguf::create_shards(path, &Metadata::new(), tensors.clone(), 256, None).unwrap();
        (0..3).for_each(|i| writer.tensor(&[if i == 2 { last } else { 0 }; 256]).unwrap());
        writer
    };
    let (old, new, mixed) = (paths_of("old.gguf"), paths_of("new.gguf"), paths_of("mixed.gguf"));
    writer("old.gguf", 1).finish().unwrap();
    writer("new.gguf", 2).finish().unwrap();
    for mask in 0..8 {
        let from = |no: usize| if mask >> no & 1 == 0 { &old[no] } else { &new[no] };
        (0..3).for_each(|no| _ = fs::copy(from(no), &mixed[no]).unwrap());
        let opened = File::open(&mixed[1]).map(drop).map_err(|error| error.to_string());
        match mask {
            0 | 7 => opened.unwrap(),
            _ => assert!(opened.clone().unwrap_err().contains("the same model and run as the first"), "{opened:?}"),
        }
    }

    // One that may not replace files does not, also if they appeared while it wrote.
    let before = fs::read(&old[1]).unwrap();
    let error = writer("old.gguf", 3).finish_new().unwrap_err();
    assert!(matches!(error.cause(), Error::Write(io) if io.kind() == ErrorKind::AlreadyExists), "{error}");
    assert_eq!(fs::read(&old[1]).unwrap(), before);
    File::open(&old[0]).unwrap();

    // The first of the old ones is removed before others take their places.
    let writer = writer("old.gguf", 3);
    fs::remove_file(&old[1]).unwrap();
    fs::create_dir(&old[1]).unwrap();
    writer.finish().unwrap_err();
    assert_eq!((old[0].exists(), old[2].exists()), (false, true));
}
