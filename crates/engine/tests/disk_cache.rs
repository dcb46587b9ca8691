//! What was computed before a restart is read, whatever happened to the files changes no answer, and nobody else finds it.

mod golden;

use golden::{folder, open, prompts};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;
use trine_backend::CacheType;
use trine_engine::{
    BLOCK_LEN, DiskCacheOptions, Engine, EngineOptions, EventKind, PrefixCache, Request, Sampling, Usage,
};
use trine_tensor::format::F16;

/// Blocks of the prompt that the cache may hold: the last token must run.
const KEPT: usize = 5 * BLOCK_LEN;

fn options(cache: &Path) -> EngineOptions {
    EngineOptions { disk_cache: Some(DiskCacheOptions::new(cache, [7; 32])), ..EngineOptions::default() }
}

fn engine(options: &EngineOptions) -> Engine {
    open(&folder("llama"), 1, options).unwrap()
}

/// What answers a prompt of 5 blocks and 3 tokens.
fn ask(engine: &mut Engine, prefix_cache: &PrefixCache) -> (Vec<u32>, Usage) {
    let prompt: Vec<u32> = prompts("llama")[0].0.iter().copied().cycle().take(KEPT + 3).collect();
    let sampling = Sampling { max_tokens: Some(20), ignore_eos: true, ..Sampling::greedy() };
    engine.submit(Request { prefix_cache: prefix_cache.clone(), ..Request::new(prompt, sampling) }).unwrap();
    let (mut tokens, mut used) = (Vec::new(), None);
    while !engine.is_idle() {
        engine.step(&mut |event| {
            match event.kind {
                EventKind::Token { id, .. } => tokens.push(id),
                EventKind::Finished { usage, .. } => used = Some(usage),
                EventKind::Progress(_) | EventKind::Prompt { .. } => {}
            }
            ControlFlow::Continue(())
        });
    }
    (tokens, used.unwrap())
}

/// Answers, and ends the engine, which waits for its files.
fn once(options: &EngineOptions, prefix_cache: &PrefixCache) -> (Vec<u32>, usize) {
    let (tokens, usage) = ask(&mut engine(options), prefix_cache);
    (tokens, usage.cached_tokens)
}

fn files(cache: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    entries(cache).into_iter().flat_map(|folder| entries(&folder)).collect()
}

#[test]
fn a_restart_finds_what_was_computed() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("new/folder");
    let options = options(&folder);
    let domain = PrefixCache::default();
    let (expected, nothing) = once(&options, &domain);
    assert_eq!(nothing, 0);
    // Prompt and answer.
    assert_eq!(files(&folder).len(), (KEPT + 3 + 20) / BLOCK_LEN);
    let mut engine = engine(&options);
    let (tokens, usage) = ask(&mut engine, &domain);
    assert_eq!((tokens, usage.cached_tokens), (expected, KEPT));
    assert_eq!(engine.load().prefix_cache.loaded, KEPT as u64);
    // What is in memory is not read again.
    ask(&mut engine, &domain);
    assert_eq!((engine.load().prefix_cache.loaded, engine.close_disk_cache()), (KEPT as u64, None));
}

#[test]
fn what_a_preempted_sequence_had_is_read_when_it_goes_on() {
    let cache = tempfile::tempdir().unwrap();
    let request = |prompt: usize, answer: usize| {
        // They have no beginning in common.
        let prompt = (0..prompt as u32).map(|i| 3 + (i * i + prompt as u32) % 50).collect::<Vec<u32>>();
        Request::new(prompt, Sampling { max_tokens: Some(answer), ignore_eos: true, ..Sampling::greedy() })
    };
    let answers = |options: &EngineOptions| {
        let mut engine = engine(options);
        // The older takes 8 blocks in the end, and the other one gives its 6 away.
        let ids = [request(20, 100), request(KEPT + 3, 40)].map(|request| engine.submit(request).unwrap());
        let (mut answers, mut preempted) = ([Vec::new(), Vec::new()], false);
        while !engine.is_idle() {
            engine.step(&mut |event| {
                if let EventKind::Token { id, .. } = event.kind {
                    answers[usize::from(event.sequence == ids[1])].push(id);
                }
                ControlFlow::Continue(())
            });
            if engine.load().preemptions > 0 && !preempted {
                preempted = true;
                let written = || files(cache.path()).len() > KEPT / BLOCK_LEN;
                (0..500).take_while(|_| !written()).for_each(|_| std::thread::sleep(Duration::from_millis(10)));
            }
        }
        (answers, preempted, engine.load().prefix_cache.loaded)
    };
    let spec = engine(&EngineOptions::default()).spec().clone();
    let block = spec.n_layers * spec.n_kv_heads * spec.head_dim * BLOCK_LEN * 8;
    let (expected, ..) = answers(&EngineOptions::default());
    let small = EngineOptions { cache_bytes: Some(9 * block), ..options(cache.path()) };
    let (found, preempted, loaded) = answers(&small);
    assert_eq!((found, preempted), (expected, true));
    assert!(loaded >= 3 * BLOCK_LEN as u64, "{loaded} tokens");
}

#[test]
fn nobody_else_finds_it() {
    let cache = tempfile::tempdir().unwrap();
    let mine = options(cache.path());
    let with = |model: u8, cache_type: CacheType| EngineOptions {
        disk_cache: Some(DiskCacheOptions::new(cache.path(), [model; 32])),
        cache_type,
        ..mine.clone()
    };
    let domain = |name: &str| PrefixCache::Domain(name.to_owned());
    assert_eq!(once(&mine, &domain("a")).1, 0);
    for (who, options, prefix_cache, expected) in [
        ("another domain", mine.clone(), domain("b"), 0),
        ("the default domain", mine.clone(), PrefixCache::default(), 0),
        ("a request that shares nothing", mine.clone(), PrefixCache::Off, 0),
        ("another model", with(8, CacheType::F32), domain("a"), 0),
        ("another format", with(7, CacheType::both(&F16)), domain("a"), 0),
        ("the same", with(7, CacheType::F32), domain("a"), KEPT),
    ] {
        assert_eq!(once(&options, &prefix_cache).1, expected, "{who}");
    }
    let before = files(cache.path()).len();
    let other = EngineOptions { seed: 1, ..mine.clone() };
    let prompt = Request { prefix_cache: PrefixCache::Off, ..Request::new(vec![5; KEPT], Sampling::greedy()) };
    let mut engine = engine(&other);
    engine.submit(prompt).unwrap();
    while !engine.is_idle() {
        engine.step(&mut |_| ControlFlow::Continue(()));
    }
    drop(engine);
    assert_eq!(files(cache.path()).len(), before, "a request that shares nothing leaves nothing");
}

#[test]
fn a_file_that_is_not_as_it_was_counts_as_none() {
    let cache = tempfile::tempdir().unwrap();
    let (options, domain) = (options(cache.path()), PrefixCache::default());
    let (expected, _) = once(&options, &domain);
    let others = tempfile::tempdir().unwrap();
    once(&EngineOptions { cache_type: CacheType::both(&F16), ..self::options(others.path()) }, &domain);
    let foreign = fs::read(&files(others.path())[0]).unwrap();
    type Damage<'a> = (&'static str, &'a dyn Fn(&Path));
    let damage: [Damage; 9] = [
        ("empty", &|path| fs::write(path, []).unwrap()),
        ("cut", &|path| fs::write(path, &fs::read(path).unwrap()[..100]).unwrap()),
        ("longer", &|path| fs::write(path, [fs::read(path).unwrap(), vec![0]].concat()).unwrap()),
        ("a bit of a key", &|path| flip(path, 72)),
        ("its last bit", &|path| flip(path, fs::read(path).unwrap().len() - 1)),
        ("the magic", &|path| flip(path, 0)),
        ("the name", &|path| flip(path, 9)),
        ("of another model", &|path| fs::write(path, &foreign).unwrap()),
        ("a folder", &|path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
    ];
    for (what, damage) in damage {
        files(cache.path()).iter().for_each(|path| damage(path));
        assert_eq!(once(&options, &domain), (expected.clone(), 0), "{what}");
        for folder in files(cache.path()).iter().filter(|path| path.is_dir()) {
            fs::remove_dir(folder).unwrap();
        }
        // They were replaced, where a file can be.
        once(&options, &domain);
        assert_eq!(once(&options, &domain), (expected.clone(), KEPT), "{what}");
    }
    // Each file has what another should.
    let all = files(cache.path());
    let contents: Vec<Vec<u8>> = all.iter().map(|path| fs::read(path).unwrap()).collect();
    all.iter().zip(contents.iter().cycle().skip(1)).for_each(|(path, content)| fs::write(path, content).unwrap());
    assert_eq!(once(&options, &domain), (expected.clone(), 0));
    // One in the middle is missing: those before it count.
    let mut middle = None;
    for path in files(cache.path()) {
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let found = once(&options, &domain).1;
        assert!(found == KEPT || found.is_multiple_of(BLOCK_LEN), "{found}");
        middle = middle.or((found < KEPT).then_some(content));
    }
    assert!(middle.is_some());
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn the_folder_keeps_to_its_limit_and_those_used_longest_ago_give_way() {
    let cache = tempfile::tempdir().unwrap();
    let block = {
        once(&options(cache.path()), &PrefixCache::default());
        fs::metadata(&files(cache.path())[0]).unwrap().len()
    };
    let limited = |blocks: u64| {
        let disk = DiskCacheOptions { max_bytes: blocks * block, ..DiskCacheOptions::new(cache.path(), [7; 32]) };
        EngineOptions { disk_cache: Some(disk), ..EngineOptions::default() }
    };
    let domain = |name: &str| PrefixCache::Domain(name.to_owned());
    for old in ["a", "b", "c"] {
        once(&limited(12), &domain(old));
        assert!(files(cache.path()).len() <= 12, "{old}");
    }
    let foreign = cache.path().join("ab").join("c".repeat(62));
    fs::create_dir_all(foreign.parent().unwrap()).unwrap();
    fs::write(&foreign, vec![0; 20 * block as usize]).unwrap();
    for file in files(cache.path()) {
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
        fs::File::options().write(true).open(file).unwrap().set_modified(long_ago).unwrap();
    }
    once(&limited(12), &domain("new"));
    assert_eq!(once(&limited(12), &domain("new")).1, KEPT);
    assert_eq!(once(&limited(12), &domain("a")).1, 0);
    assert!(foreign.is_file(), "it is none of ours");
    fs::remove_file(foreign).unwrap();
    // Of a prompt that is longer than all the room, the beginning is kept. A smaller limit counts at once.
    once(&limited(3), &domain("long"));
    assert!(files(cache.path()).len() <= 3);
    let (_, found) = once(&limited(3), &domain("long"));
    assert!((BLOCK_LEN..KEPT).contains(&found), "{found}");
    let error = open(&folder("llama"), 1, &limited(0)).err().unwrap().to_string();
    assert!(error.contains("expected room for"), "{error}");
}

#[test]
fn what_cannot_be_written_is_computed() {
    let cache = tempfile::tempdir().unwrap();
    for byte in 0..=255 {
        fs::write(cache.path().join(format!("{byte:02x}")), "in the way").unwrap();
    }
    let (options, domain) = (options(cache.path()), PrefixCache::default());
    let mut engine = engine(&options);
    let (first, _) = ask(&mut engine, &domain);
    let (again, usage) = ask(&mut engine, &domain);
    assert_eq!((again, usage.cached_tokens), (first, KEPT), "memory is as good as ever");
    assert!(engine.close_disk_cache().is_some());
    let file = cache.path().join("file");
    fs::write(&file, "").unwrap();
    let error = open(&folder("llama"), 1, &self::options(&file)).err().unwrap().to_string();
    assert!(error.contains("file"), "{error}");
}

#[cfg(unix)]
#[test]
fn files_are_for_their_owner_alone_and_a_folder_for_all_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let cache = tempfile::tempdir().unwrap();
    let options = options(&cache.path().join("kv"));
    once(&options, &PrefixCache::default());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&cache.path().join("kv")), 0o700);
    for file in files(&cache.path().join("kv")) {
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    }
    fs::set_permissions(cache.path().join("kv"), fs::Permissions::from_mode(0o777)).unwrap();
    let error = open(&folder("llama"), 1, &options).err().unwrap().to_string();
    assert!(error.contains("expected a folder that not everybody may write to, found mode 777"), "{error}");
}
