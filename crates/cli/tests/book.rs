//! The README and the guide in `docs/`: links lead somewhere, commands run, and code and diffs quote what is there.
//!
//! Conventions for blocks of code:
//!
//! - `console`: lines that begin with `$ ` are run in order, in one folder per page, and must succeed. `console,no-run`: they are not.
//! - `rust`: the lines stand in a file of `examples/`, which the compiler checks.
//! - `diff`: for each hunk, the lines before the change stand in the file that `---` names. `diff,no-check`: they need not.
#![cfg(unix)]

mod common;

use common::{run, trine};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Languages of code blocks that need no check.
const UNCHECKED: [&str; 5] = ["console,no-run", "diff,no-check", "json", "text", "toml"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn files_in(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_in(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Pages of the guide, and those in the root of the repository.
fn pages() -> Vec<Page> {
    let mut paths = files_in(&root().join("docs/src"), "md");
    let top = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(top.filter(|path| path.extension().is_some_and(|found| found == "md")));
    assert!(paths.len() > 20, "the guide is missing");
    paths.into_iter().map(Page::read).collect()
}

struct Page {
    path: PathBuf,
    /// Lines outside blocks of code.
    prose: Vec<String>,
    blocks: Vec<Block>,
}

struct Block {
    language: String,
    lines: Vec<String>,
}

impl Page {
    fn read(path: PathBuf) -> Page {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut page = Page { path, prose: Vec::new(), blocks: Vec::new() };
        let mut open = false;
        for line in text.lines() {
            if let Some(language) = line.strip_prefix("```") {
                open = !open;
                if open {
                    page.blocks.push(Block { language: language.to_owned(), lines: Vec::new() });
                }
            } else if open {
                page.blocks.last_mut().unwrap().lines.push(line.to_owned());
            } else {
                page.prose.push(line.to_owned());
            }
        }
        assert!(!open, "{}: a block of code does not end", page.path.display());
        page
    }

    fn blocks(&self, language: &str) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(move |block| block.language == language)
    }

    /// Targets of links and images.
    fn links(&self) -> Vec<&str> {
        let after = self.prose.iter().flat_map(|line| line.split("](").skip(1));
        after.filter_map(|rest| rest.split(')').next()).filter(|target| !target.contains("://")).collect()
    }

    /// The fragments of its headings, as GitHub and mdBook make them.
    fn anchors(&self) -> BTreeSet<String> {
        let headings = self.prose.iter().filter(|line| line.starts_with('#'));
        headings
            .map(|line| {
                let kept = |&c: &char| c.is_alphanumeric() || "-_ ".contains(c);
                let text = line.trim_start_matches('#').trim().to_lowercase();
                text.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
            })
            .collect()
    }
}

#[test]
fn links_lead_somewhere() {
    let book = root().join("docs/src");
    let mut links = 0;
    for page in pages() {
        for link in page.links() {
            let at = format!("{}: {link}", page.path.display());
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.path.clone() } else { page.path.parent().unwrap().join(file) };
            let target = target.canonicalize().unwrap_or_else(|_| panic!("{at}: there is no such file"));
            assert!(!page.path.starts_with(&book) || target.starts_with(&book), "{at}: not in the book");
            assert!(anchor.is_empty() || Page::read(target).anchors().contains(anchor), "{at}: no such heading");
            links += 1;
        }
    }
    assert!(links > 50, "the links were not understood");
}

/// Entries of the changelog that say how fast something is link to the measurement.
#[test]
fn speeds_in_the_changelog_were_measured() {
    let text = std::fs::read_to_string(root().join("CHANGELOG.md")).unwrap().replace("\n  ", " ");
    let says = ["as fast", "faster", "times the speed", "at the speed"];
    let entries: Vec<&str> = text.lines().filter(|entry| says.iter().any(|words| entry.contains(words))).collect();
    assert!(entries.len() > 4, "the entries were not understood");
    for entry in entries {
        assert!(entry.contains("](docs/src/log/"), "expected a link to docs/src/log: {entry}");
    }
}

#[test]
fn the_summary_has_every_page() {
    let book = root().join("docs/src");
    let summary = Page::read(book.join("SUMMARY.md"));
    let linked: BTreeSet<PathBuf> = summary.links().iter().map(|link| book.join(link)).collect();
    let pages = files_in(&book, "md").into_iter().filter(|path| *path != summary.path);
    assert_eq!(linked, pages.collect::<BTreeSet<_>>());
}

/// Runs the commands of a page in order; how many it has.
fn run_commands(page: &Page) -> usize {
    let program = Path::new(env!("CARGO_BIN_EXE_trine")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let folder = tempfile::tempdir().unwrap();
    let lines = page.blocks("console").flat_map(|block| &block.lines);
    let commands: Vec<&str> = lines.filter_map(|line| line.strip_prefix("$ ")).collect();
    for command in &commands {
        let mut shell = Command::new("sh");
        for (variable, _) in trine().get_envs() {
            shell.env_remove(variable);
        }
        shell.args(["-c", command]).env("PATH", &path).current_dir(&folder);
        let ran = run(&mut shell, "");
        assert_eq!(ran.code, 0, "{}: {command}\n{}{}", page.path.display(), ran.out, ran.err);
    }
    commands.len()
}

#[test]
fn commands_run() {
    let (pages, commands) = (Mutex::new(pages()), AtomicUsize::new(0));
    let next = || pages.lock().unwrap().pop();
    // Pages wait for nobody.
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                while let Some(page) = next() {
                    commands.fetch_add(run_commands(&page), Relaxed);
                }
            });
        }
    });
    let commands = commands.into_inner();
    assert!(commands > 20, "the commands were not understood");
}

/// Whether these lines stand in a text one after the other, whatever their indentation.
fn contains(text: &str, lines: &[&str]) -> bool {
    let text: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let lines: Vec<&str> = lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    lines.is_empty() || text.windows(lines.len()).any(|window| window == lines)
}

#[test]
fn code_and_diffs_quote_what_is_there() {
    let examples = files_in(&root().join("examples"), "rs");
    let documented = files_in(&root().join("crates/trine/src"), "rs");
    let code = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| line.trim().trim_start_matches("///")).collect::<Vec<_>>().join("\n")
    };
    let examples: Vec<String> = examples.iter().chain(&documented).map(code).collect();
    for page in pages() {
        for block in &page.blocks {
            let lines: Vec<&str> = block.lines.iter().map(String::as_str).collect();
            let at = format!("{}:\n{}", page.path.display(), block.lines.join("\n"));
            match block.language.as_str() {
                "console" => assert!(lines.iter().any(|line| line.starts_with("$ ")), "{at}: no command"),
                "rust" => assert!(examples.iter().any(|text| contains(text, &lines)), "{at}: in no example"),
                "diff" => quotes(&lines, &at),
                // The tests of the server run those of its page.
                "sh" => assert!(page.path.ends_with("serving.md"), "{at}: run by no test"),
                language => {
                    assert!(UNCHECKED.contains(&language), "{at}: expected a known language, found {language:?}")
                }
            }
        }
    }
}

/// A hunk of a diff: the lines before and after the change.
#[derive(Default)]
struct Hunk<'a> {
    /// `None` for a new file.
    file: Option<&'a str>,
    new: &'a str,
    before: Vec<&'a str>,
    after: Vec<&'a str>,
}

fn hunks<'a>(diff: &[&'a str]) -> Vec<Hunk<'a>> {
    let mut hunks: Vec<Hunk> = Vec::new();
    let path = |name: &'a str| name.strip_prefix(['a', 'b']).and_then(|name| name.strip_prefix('/'));
    let mut names = (None, "");
    for &line in diff {
        if let Some(file) = line.strip_prefix("--- ") {
            names.0 = path(file);
        } else if let Some(file) = line.strip_prefix("+++ ") {
            names.1 = path(file).unwrap_or(file);
        } else if line.starts_with("@@") {
            hunks.push(Hunk { file: names.0, new: names.1, ..Hunk::default() });
        } else if let Some(hunk) = hunks.last_mut() {
            let (sign, text) = line.split_at(line.len().min(1));
            if sign != "+" {
                hunk.before.push(text);
            }
            if sign != "-" {
                hunk.after.push(text);
            }
        }
    }
    hunks
}

/// Where a hunk's lines before the change stand in a text, whatever their indentation and empty lines.
fn found(text: &[&str], before: &[&str]) -> Option<std::ops::Range<usize>> {
    let filled = |(_, line): &(usize, &str)| !line.is_empty();
    let text: Vec<(usize, &str)> = text.iter().map(|line| line.trim()).enumerate().filter(filled).collect();
    let before: Vec<&str> = before.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    let same = |window: &&[(usize, &str)]| window.iter().map(|(_, line)| line).eq(&before);
    text.windows(before.len().max(1)).find(same).map(|window| window[0].0..window[window.len() - 1].0 + 1)
}

/// Applies the diffs of a page to a copy of the repository, and compiles it. It takes minutes:
/// `cargo test -p trine-cli --test book -- --ignored`.
#[test]
#[ignore = "compiles the workspace anew"]
fn diffs_of_the_guide_compile() {
    for page in pages().iter().filter(|page| page.path.starts_with(root().join("docs/src/add"))) {
        let copy = tempfile::tempdir().unwrap();
        let at = page.path.display();
        let clone = ["clone", "--quiet", "--shared", "."].map(std::ffi::OsStr::new);
        let mut git = Command::new("git");
        assert!(git.args(clone).arg(copy.path()).current_dir(root()).status().unwrap().success());
        for hunk in page.blocks("diff").flat_map(|block| {
            let lines: Vec<&str> = block.lines.iter().map(String::as_str).collect();
            hunks(&lines)
        }) {
            let path = copy.path().join(hunk.file.unwrap_or(hunk.new));
            let text = hunk.file.map_or_else(String::new, |_| std::fs::read_to_string(&path).unwrap());
            let mut lines: Vec<&str> = text.lines().collect();
            let place = if hunk.before.iter().all(|line| line.trim().is_empty()) {
                lines.len()..lines.len()
            } else {
                found(&lines, &hunk.before).unwrap_or_else(|| panic!("{at}: {}: {:?}", hunk.new, hunk.before))
            };
            lines.splice(place, hunk.after);
            std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        }
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["check", "--workspace", "--offline", "--locked"]).current_dir(copy.path());
        cargo.env("CARGO_TARGET_DIR", root().join("target/book"));
        let checked = run(&mut cargo, "");
        assert_eq!(checked.code, 0, "{at}\n{}", checked.err);
    }
}

/// Checks that the lines before a change stand in the file that it changes.
fn quotes(diff: &[&str], at: &str) {
    for hunk in hunks(diff) {
        let Some(file) = hunk.file else { continue };
        let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|_| panic!("{at}\nno file {file}"));
        let lines: Vec<&str> = text.lines().collect();
        let known = hunk.before.iter().all(|line| line.trim().is_empty()) || found(&lines, &hunk.before).is_some();
        assert!(known, "{at}\nnot found:\n{}", hunk.before.join("\n"));
    }
}

/// Source files that the prose names exist.
#[test]
fn paths_exist() {
    let mut paths = 0;
    let log = root().join("docs/src/log");
    let old = |page: &Page| page.path.starts_with(&log) || page.path.ends_with("CHANGELOG.md");
    for page in pages().iter().filter(|page| !old(page)) {
        for name in page.prose.iter().flat_map(|line| line.split('`').skip(1).step_by(2)) {
            let source = name.contains('/') && (name.ends_with(".rs") || name.ends_with(".py"));
            if !source || name.ends_with("/x.rs") || name.contains(['*', ' ', '{']) {
                continue;
            }
            let roots =
                ["", "crates", "crates/kernels/src", "crates/tensor/src", "crates/model/src", "crates/train/src"];
            let known = roots.iter().any(|folder| root().join(folder).join(name).exists());
            assert!(known, "{}: there is no {name}", page.path.display());
            paths += 1;
        }
    }
    assert!(paths > 40, "the paths were not understood: {paths}");
}

#[test]
fn lines_fit() {
    let exempt = ["support.md", "ARCHITECTURE.md"];
    for page in pages() {
        let no_table = |line: &&String| !line.starts_with('|');
        let prose = page.prose.iter().filter(no_table).chain(page.blocks.iter().flat_map(|block| &block.lines));
        for line in prose.filter(|_| !exempt.iter().any(|name| page.path.ends_with(name))) {
            assert!(line.chars().count() <= 160, "{}: {line}", page.path.display());
        }
    }
}
