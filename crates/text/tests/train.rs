//! A tokenizer learned from text is what the library makes of it, whichever file it is kept in.

use trine_text::{BpeOptions, EncodeOptions, Error, OwnedVocab, Tokenizer, TokenizerJson};

const TEXTS: [&str; 4] = [
    "Once upon a time there was a little mill. The miller's mill milled all day, and all the millers were merry.",
    "aaaaaaaaaaaaaa abababababab aa aaa  aaaa\n\n\nabab 1234 12 123",
    "Der Müller mahlt. Ωμέγα, ωμέγα! 日本語 日本 🦙🦙",
    "<|endoftext|> is no word, and don't ask whose it's.",
];
const HOSTILE: [&str; 5] = ["", " \r\n\u{0}", "a<|endoftext|>b", "\u{feff}\u{a0}é\u{301}🧑‍🚀", "ĠĊ milling   aaaaa"];

fn train(options: &BpeOptions, texts: &[&str]) -> Result<TokenizerJson, Error> {
    options.train(texts.iter().map(|text| Ok::<_, Error>((*text).to_owned())))
}

fn options(vocab_size: usize) -> BpeOptions {
    let control = vec!["<|endoftext|>".to_owned(), "<|user|>".to_owned()];
    BpeOptions { vocab_size, min_frequency: 2, control }
}

#[test]
fn the_same_text_gives_the_same_tokens_in_any_order_and_from_either_file() {
    for vocab_size in [258, 280, 300] {
        let json = train(&options(vocab_size), &TEXTS).unwrap();
        let mut backwards = TEXTS;
        backwards.reverse();
        assert_eq!(json, train(&options(vocab_size), &backwards).unwrap());

        let (tokenizer, config) = (json.tokenizer.as_bytes(), json.config.as_bytes());
        let library = tokenizers::Tokenizer::from_bytes(tokenizer).unwrap();
        let of_json = Tokenizer::from_json(tokenizer, Some(config)).unwrap();
        let vocab = OwnedVocab::from_json(tokenizer, Some(config)).unwrap();
        let of_gguf = Tokenizer::new(vocab.vocab()).unwrap();
        assert_eq!(of_gguf.len(), vocab_size);
        for ours in [&of_json, &of_gguf] {
            assert_eq!((ours.bos(), ours.eos(), ours.adds_bos()), (Some(0), Some(0), true));
            assert!(ours.is_eog(0) && ours.is_control(1) && ours.warnings().is_empty());
            for text in TEXTS.iter().chain(&HOSTILE) {
                let ids = ours.encode(text, EncodeOptions { parse_special: true, add_special: false });
                assert_eq!(ids, library.encode(*text, false).unwrap().get_ids(), "{text:?}");
                let plain = ours.encode(text, EncodeOptions::default());
                assert_eq!((ours.decode(&plain).as_str(), plain.contains(&0)), (*text, false));
            }
        }
        let length = |text| of_gguf.encode(text, EncodeOptions::default()).len();
        assert!(vocab_size == 258 || length(TEXTS[0]) < TEXTS[0].len());
    }
}

#[test]
fn a_short_text_gives_a_small_vocabulary() {
    let json = train(&BpeOptions::default(), &["abab"]).unwrap();
    let tokenizer = Tokenizer::from_json(json.tokenizer.as_bytes(), None).unwrap();
    assert_eq!(tokenizer.len(), 258);
}

#[test]
fn invalid_options_and_texts_are_refused() {
    let control =
        |names: &[&str]| BpeOptions { control: names.iter().map(|&name| name.to_owned()).collect(), ..options(400) };
    for (options, texts, expected) in [
        (options(257), &TEXTS[..], "a vocabulary of 258 ("),
        (options(300), &[], "expected text, found none"),
        (options(300), &[""], "expected text, found none"),
        (control(&[]), &TEXTS, "a control token for BOS and EOS"),
        (control(&["the"]), &TEXTS, "found `the`"),
        (control(&["<|a|>", "<|a|>"]), &TEXTS, "found `<|a|>`"),
        (control(&[""]), &TEXTS, "found ``"),
    ] {
        let error = train(&options, texts).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let texts = [Ok("a".to_owned()), Err(Error::Template("the text's own".to_owned()))];
    let error = options(300).train(texts.into_iter()).unwrap_err();
    assert!(matches!(error, Error::Template(_)), "{error}");
}
