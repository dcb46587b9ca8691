//! Documents, their tokens and the rows that are made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use trine_model::vocab_metadata;
use trine_tensor::Metadata;
use trine_text::{BpeOptions, EncodeOptions, OwnedVocab, Tokenizer};
use trine_train::config::DataConfig;
use trine_train::data::{Corpus, DocumentFormat, Documents, PackedDataset, TokenizedDocuments};
use trine_train::{Error, Result};

/// A tokenizer of few merges, and what a file says of it.
fn tokenizer() -> (Tokenizer, Metadata) {
    let json = BpeOptions { vocab_size: 270, ..BpeOptions::default() };
    let json = json.train([Ok::<_, Error>("the mill and the miller of the mill".to_owned())].into_iter()).unwrap();
    let vocab = OwnedVocab::from_json(json.tokenizer.as_bytes(), Some(json.config.as_bytes())).unwrap();
    (Tokenizer::new(vocab.vocab()).unwrap(), vocab_metadata(&vocab.vocab()))
}

fn data(files: &[PathBuf]) -> DataConfig {
    DataConfig {
        files: files.to_vec(),
        separator: "<|end|>".into(),
        field: "text".into(),
        validation: 0.25,
        cache: None,
    }
}

fn open(data: &DataConfig, cache: &Path, threads: usize) -> Result<Corpus> {
    let (tokenizer, metadata) = tokenizer();
    Corpus::open(data, &tokenizer, &metadata, cache, threads, &mut |_, _| ControlFlow::Continue(()))
}

/// Documents of all lengths, some of them twice, in a text file and a JSONL file.
fn files(folder: &Path, documents: usize) -> (Vec<String>, Vec<PathBuf>) {
    let mut random = fastrand::Rng::with_seed(5);
    let words = ["the", " mill", "\n", " é🦙", "\"", " <|endoftext|>", " miller's", " 12"];
    let text = |number: usize| {
        let words: String =
            (0..random.usize(0..number % 700 + 2)).map(|_| words[random.usize(..words.len())]).collect();
        format!("{}{words}.", number % (documents * 3 / 4))
    };
    let texts: Vec<String> = (0..documents).map(text).collect();
    let (plain, lines) = texts.split_at(documents / 2);
    let lines: String =
        lines.iter().map(|text| format!("{}\n", serde_json::json!({ "id": 1, "text": text }))).collect();
    let paths = vec![folder.join("a.txt"), folder.join("b.jsonl")];
    std::fs::write(&paths[0], plain.join("\n<|end|>\n") + "<|end|>\n\n").unwrap();
    std::fs::write(&paths[1], lines).unwrap();
    (texts, paths)
}

/// The texts of documents.
fn texts(tokens: &TokenizedDocuments) -> Vec<String> {
    let (tokenizer, _) = tokenizer();
    (0..tokens.len()).map(|i| tokenizer.decode(&tokens.document(i).collect::<Vec<_>>())).collect()
}

fn error(result: Result<Corpus>) -> String {
    result.map(|corpus| corpus.train.len()).unwrap_err().to_string()
}

/// The only file in a folder.
fn only_file(folder: &Path) -> PathBuf {
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn tokens_are_those_of_the_documents_in_order_for_any_number_of_threads() {
    let folder = TempDir::new().unwrap();
    let (expected, paths) = files(folder.path(), 4000);
    assert!(expected.iter().map(String::len).sum::<usize>() > 3 << 20, "several batches");
    let (tokenizer, _) = tokenizer();
    let mut caches = Vec::new();
    for threads in [1, 2, 5] {
        let cache = folder.path().join(format!("{threads}/deep"));
        let Corpus { train, validation, .. } = open(&data(&paths), &cache, threads).unwrap();
        let mut sides = [(&train, 0), (&validation, 0)];
        let is_validation: BTreeSet<String> = texts(&validation).into_iter().collect();
        for text in &expected {
            let (side, next) = &mut sides[usize::from(is_validation.contains(text))];
            let ids = [vec![0], tokenizer.encode(text, EncodeOptions::default()), vec![0]].concat();
            assert_eq!(side.document(*next).collect::<Vec<_>>(), ids, "{text:?}");
            assert_eq!(side.document_bytes(*next), text.len() as u64);
            *next += 1;
        }
        assert_eq!(sides.map(|(side, next)| side.len() - next), [0, 0]);
        caches.push(std::fs::read(only_file(&cache)).unwrap());
    }
    assert!(caches.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn the_side_of_a_document_depends_on_its_text_alone() {
    let folder = TempDir::new().unwrap();
    let (expected, mut paths) = files(folder.path(), 1000);
    let sides = |paths: &[PathBuf]| {
        let Corpus { train, validation, .. } = open(&data(paths), folder.path().join("cache").as_ref(), 2).unwrap();
        [train, validation].map(|tokens| BTreeSet::from_iter(texts(&tokens)))
    };
    let [train, validation] = sides(&paths);
    assert!(train.is_disjoint(&validation));
    assert_eq!(train.len() + validation.len(), BTreeSet::from_iter(&expected).len());
    assert!((150..350).contains(&validation.len()), "{}", validation.len());
    paths.reverse();
    assert_eq!(sides(&paths), [train.clone(), validation.clone()]);
    let [fewer, kept] = sides(&paths[..1]);
    assert!(fewer.is_subset(&train) && kept.is_subset(&validation));
    let all = DataConfig { validation: 0.0, ..data(&paths) };
    assert!(open(&all, &folder.path().join("cache"), 1).unwrap().validation.is_empty());
}

#[test]
fn an_epoch_has_every_pair_once_and_rows_depend_on_their_number_alone() {
    let folder = TempDir::new().unwrap();
    let (_, paths) = files(folder.path(), 60);
    let Corpus { train, validation, .. } = open(&data(&paths), folder.path(), 2).unwrap();
    let pairs = |tokens: &TokenizedDocuments| tokens.tokens() - tokens.len() as u64;
    for sequence in [1, 7, 64, 1500] {
        let shuffled = PackedDataset::shuffled(train.clone(), sequence, 3).unwrap();
        let ordered = PackedDataset::in_order(validation.clone(), sequence).unwrap();
        for (packing, epochs) in [(&shuffled, 3), (&ordered, 1)] {
            let tokens = packing.tokens();
            let mut orders = BTreeSet::new();
            for epoch in 0..epochs {
                let (mut counts, mut bytes) = (BTreeMap::new(), 0);
                let mut order = Vec::new();
                for index in epoch * packing.rows()..(epoch + 1) * packing.rows() {
                    let row = packing.row(index);
                    assert_eq!((row.inputs.len(), row.targets.len()), (row.spans.iter().sum(), row.inputs.len()));
                    assert_eq!(row.spans.len(), row.origins.len());
                    assert!(row.inputs.len() == sequence || index + 1 == packing.rows() && epochs == 1);
                    let mut at = 0;
                    for (&span, origin) in row.spans.iter().zip(&row.origins) {
                        let document: Vec<u32> = tokens.document(origin.document).collect();
                        assert_eq!(row.inputs[at..at + span], document[origin.offset..origin.offset + span]);
                        assert_eq!(row.targets[at..at + span], document[origin.offset + 1..origin.offset + 1 + span]);
                        (0..span).for_each(|i| *counts.entry((origin.document, origin.offset + i)).or_insert(0) += 1);
                        order.push(origin.document);
                        at += span;
                    }
                    bytes += row.bytes;
                }
                assert!(counts.values().all(|&times| times == 1));
                let left = pairs(tokens) - counts.len() as u64;
                if epochs == 1 {
                    assert_eq!((left, bytes), (0, tokens.bytes()));
                    assert!(order.is_sorted());
                } else {
                    assert!(left < sequence as u64 && bytes <= tokens.bytes());
                }
                orders.insert(order);
            }
            assert_eq!(orders.len() as u64, epochs, "each epoch has an order of its own");
        }
        // Random access gives the same rows.
        let again = PackedDataset::shuffled(train.clone(), sequence, 3).unwrap();
        let mut numbers: Vec<u64> = (0..2 * shuffled.rows()).collect();
        fastrand::Rng::with_seed(1).shuffle(&mut numbers);
        numbers.truncate(200);
        assert!(numbers.iter().all(|&number| again.row(number) == shuffled.row(number)));
        let other = PackedDataset::shuffled(train.clone(), sequence, 4).unwrap();
        assert!((0..shuffled.rows()).any(|number| other.row(number) != shuffled.row(number)));
    }
}

#[test]
fn a_damaged_cache_is_made_again_and_a_whole_one_is_taken() {
    let folder = TempDir::new().unwrap();
    let (_, paths) = files(folder.path(), 50);
    let cache = folder.path().join("cache");
    let expected = texts(&open(&data(&paths), &cache, 1).unwrap().train);
    let path = only_file(&cache);
    let whole = std::fs::read(&path).unwrap();
    let step = whole.len() / 40;
    for at in (0..whole.len()).step_by(step) {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        for damaged in [&flipped[..], &whole[..at]] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(texts(&open(&data(&paths), &cache, 1).unwrap().train), expected);
        }
    }
    std::fs::write(&path, &whole).unwrap();
    let modified = || std::fs::metadata(&path).unwrap().modified().unwrap();
    let before = modified();
    open(&data(&paths), &cache, 1).unwrap();
    assert_eq!(modified(), before);
    // Whatever the tokens depend on gives another file.
    open(&DataConfig { validation: 0.5, ..data(&paths) }, &cache, 1).unwrap();
    open(&DataConfig { separator: "\n".into(), ..data(&paths) }, &cache, 1).unwrap();
    std::fs::write(&paths[0], "other text").unwrap();
    open(&data(&paths), &cache, 1).unwrap();
    assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 4);
}

#[test]
fn a_separator_is_found_wherever_it_stands() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.txt");
    for before in (1 << 20) - 9..(1 << 20) + 2 {
        let expected = ["x".repeat(before), "<|end<|en".to_owned(), "é".to_owned()];
        std::fs::write(&path, expected.join("<|end|>")).unwrap();
        let mut documents = Documents::open(std::slice::from_ref(&path), "<|end|>", "text").unwrap();
        let found: Vec<String> = documents.by_ref().map(Result::unwrap).collect();
        assert!(found == expected, "{before}");
        assert_eq!(documents.position(), documents.size());
    }
}

#[test]
fn white_space_around_a_document_counts_only_where_nothing_parts_it_from_others() {
    let of = |text: &'static str, format: &DocumentFormat| {
        let mut documents = Documents::read(text.as_bytes(), Path::new("x"), format.clone());
        let texts = documents.by_ref().collect::<Result<Vec<_>>>();
        (texts.map_err(|error| error.to_string()), documents.is_separated())
    };
    let check = |text: &'static str, format: &DocumentFormat, texts: &[&str], separated: bool| {
        assert_eq!(of(text, format), (Ok(texts.iter().map(|text| text.to_string()).collect()), separated), "{text:?}");
    };
    let [separator, none] = ["<|>", ""].map(|text| DocumentFormat::Separator(text.to_owned()));
    let lines = DocumentFormat::Jsonl("text".to_owned());
    check("a\n<|>\n\n b<|><|>\t<|>c\u{a0}\n", &separator, &["a", "b", "c"], true);
    check(" a \n", &separator, &[" a \n"], false);
    check(" a<|>b\n", &none, &[" a<|>b\n"], false);
    check("{\"text\": \" a\\n\", \"n\": 1}\r\n\n{\"text\": \" \"}\n{\"text\": \"b\"}", &lines, &["a", "b"], true);
    for (text, format) in
        [("", &separator), ("<|>", &separator), (" \n<|> \n", &separator), ("\n", &none), ("\n", &lines)]
    {
        assert_eq!(of(text, format).0, Err("x: expected text, found none".to_owned()), "{text:?}");
    }
}

#[test]
fn bad_input_is_refused_with_its_place() {
    let folder = TempDir::new().unwrap();
    let check = |name: &str, bytes: &[u8], expected: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let found = error(open(&data(&[path]), &folder.path().join("cache"), 2));
        assert!(found.contains(expected), "{found}");
    };
    let line = "expected an object with text in the field `text`, found";
    check("a.jsonl", b"{\"text\": \"a\"}\n\n{\"text\": 3}", &format!("a.jsonl: line 3: {line} a number in it"));
    check("a.jsonl", b"{\"texts\": \"a\"}", &format!("line 1: {line} an object without it"));
    check("a.jsonl", b"[1]\n", &format!("line 1: {line} a list"));
    check("a.jsonl", b"{\"text\": \"a\"}\r\n{\"text\": \"a", &format!("line 2: {line} invalid JSON: EOF"));
    check("a.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"\xff\"}", "byte 24: expected UTF-8, found the byte 0xff");
    check("a.txt", b"ab<|end|>\xc3\xa9\xc3", "a.txt: byte 11: expected UTF-8, found the byte 0xc3");
    check("a.txt", b"", "a.txt: expected text, found none");
    check("a.txt", b"\n<|end|>\r\n<|end|>", "a.txt: expected text, found none");
    let no_cache = folder.path().join("cache");
    assert!(!no_cache.exists() || std::fs::read_dir(no_cache).unwrap().count() == 0);

    let path = folder.path().join("a.txt");
    std::fs::write(&path, "tiny").unwrap();
    let of = |data: DataConfig| error(open(&data, &folder.path().join("cache"), 1));
    let data = data(&[path]);
    assert!(of(DataConfig { files: Vec::new(), ..data.clone() }).contains("`data.files`: expected at least one file"));
    assert!(of(DataConfig { files: vec![folder.path().join("none")], ..data.clone() }).contains("none: "));
    assert!(
        of(DataConfig { files: vec![folder.path().to_owned()], ..data.clone() }).contains("expected a regular file")
    );
    for share in [-0.1, 1.0, f64::NAN] {
        assert!(of(DataConfig { validation: share, ..data.clone() }).contains("`data.validation`"));
    }
    let corpus = open(&DataConfig { validation: 0.0, ..data.clone() }, &folder.path().join("cache"), 1).unwrap();
    let found = PackedDataset::shuffled(corpus.train.clone(), 50, 0).unwrap_err().to_string();
    assert!(
        found.contains(
            "expected documents of more than 50 tokens in all, `train.sequence`, found 6 tokens in 1 documents"
        ),
        "{found}"
    );
    assert!(PackedDataset::in_order(corpus.train, 0).is_err());
    assert_eq!(PackedDataset::in_order(corpus.validation, 8).unwrap().rows(), 0);

    let (tokenizer, metadata) = tokenizer();
    let cancelled = Corpus::open(&data, &tokenizer, &metadata, folder.path(), 1, &mut |_, _| ControlFlow::Break(()));
    assert!(matches!(cancelled, Err(Error::Cancelled)));
}

#[test]
fn a_byte_order_mark_is_no_text() {
    let input = "\u{feff}The mill.<|endoftext|>\u{feff}The lake.";
    let format = DocumentFormat::Separator("<|endoftext|>".to_owned());
    let found: Vec<String> = Documents::read(input.as_bytes(), Path::new("text"), format).map(Result::unwrap).collect();
    assert_eq!(found, ["The mill.", "\u{feff}The lake."]);
}
