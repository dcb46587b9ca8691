//! Filters give the exact distributions of their definitions, draws follow them, and options are checked.

mod tokenizer;

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use trine_engine::sample::{Candidate, Candidates, Chain, FILTERS, Filter, History, argmax};
use trine_engine::{Error, Sampling, params};

use tokenizer::TOKENIZER;
use trine_text::EncodeOptions;

/// What samples with these options, and filters of its own before theirs.
fn chain(sampling: &Sampling, own: Vec<Box<dyn Filter>>) -> Result<Chain, Error> {
    Chain::new(sampling, own, &TOKENIZER, 0)
}

/// What the filters leave of logits: probabilities by id.
fn distribution(sampling: &Sampling, logits: &[f32], tokens: &[u32], prompt: usize) -> BTreeMap<u32, f64> {
    let mut candidates = Candidates::default();
    candidates.fill(logits);
    for mut filter in FILTERS.iter().filter_map(|row| (row.build)(sampling, &TOKENIZER)) {
        filter.apply(&mut candidates, History { tokens, prompt }).unwrap();
    }
    let total: f64 = candidates.items().iter().map(|item| item.logit.exp()).sum();
    candidates.items().iter().map(|item| (item.id, item.logit.exp() / total)).collect()
}

fn sampling(change: impl Fn(&mut Sampling)) -> Sampling {
    let mut sampling = Sampling::default();
    change(&mut sampling);
    sampling.check().unwrap();
    sampling
}

/// Probabilities 0.4, 0.3, 0.2, 0.1, in another order of ids.
fn tenths() -> Vec<f32> {
    [2.0f32, 4.0, 1.0, 3.0].map(f32::ln).to_vec()
}

#[test]
fn filters_give_the_distributions_of_their_definitions() {
    // Of what is kept, by id, up to a factor.
    let check = |change: &dyn Fn(&mut Sampling), expected: &[(u32, f64)]| {
        let found = distribution(&sampling(change), &tenths(), &[], 0);
        let total: f64 = expected.iter().map(|(_, p)| p).sum();
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), expected.iter().map(|e| e.0).collect::<Vec<_>>());
        for (id, p) in expected {
            assert!((found[id] - p / total).abs() < 1e-6, "{found:?} {expected:?}");
        }
    };
    check(&|_| (), &[(0, 2.0), (1, 4.0), (2, 1.0), (3, 3.0)]);
    check(&|s| s.top_k = 2, &[(1, 4.0), (3, 3.0)]);
    check(&|s| s.top_k = 9, &[(0, 2.0), (1, 4.0), (2, 1.0), (3, 3.0)]);
    check(&|s| s.top_p = 0.69, &[(1, 4.0), (3, 3.0)]);
    check(&|s| s.top_p = 0.71, &[(0, 2.0), (1, 4.0), (3, 3.0)]);
    check(&|s| s.top_p = 0.0, &[(1, 4.0)]);
    check(&|s| s.min_p = 0.49, &[(0, 2.0), (1, 4.0), (3, 3.0)]);
    check(&|s| s.min_p = 0.51, &[(1, 4.0), (3, 3.0)]);
    check(&|s| s.min_p = 1.0, &[(1, 4.0)]);
    // The entropy is 1.280 and the surprises 1.609, 0.916, 2.303, 1.204: by distance 3, 0, 1, 2.
    check(&|s| s.typical_p = 0.29, &[(3, 3.0)]);
    check(&|s| s.typical_p = 0.49, &[(0, 2.0), (3, 3.0)]);
    check(&|s| s.typical_p = 0.51, &[(0, 2.0), (1, 4.0), (3, 3.0)]);
    check(&|s| s.temperature = 0.5, &[(0, 4.0), (1, 16.0), (2, 1.0), (3, 9.0)]);
    check(&|s| s.temperature = 1e-300, &[(0, 0.0), (1, 1.0), (2, 0.0), (3, 0.0)]);
    // Top-k renormalizes what top-p then cuts, and temperature comes last.
    check(&|s| (s.top_k, s.top_p) = (3, 0.75), &[(1, 4.0), (3, 3.0)]);
    check(&|s| (s.top_k, s.top_p) = (0, 0.75), &[(0, 2.0), (1, 4.0), (3, 3.0)]);
    check(&|s| (s.temperature, s.top_p) = (2.0, 0.69), &[(1, 2.0), (3, f64::sqrt(3.0))]);
    check(&|s| s.logit_bias = [(2, f64::ln(8.0))].into(), &[(0, 2.0), (1, 4.0), (2, 8.0), (3, 3.0)]);
}

#[test]
fn penalties_follow_their_formulas() {
    let check = |change: &dyn Fn(&mut Sampling), tokens: &[u32], prompt, expected: [f64; 4]| {
        let found = distribution(&sampling(change), &[2.0, -1.0, 0.5, 0.0], tokens, prompt);
        let total: f64 = expected.iter().map(|logit| logit.exp()).sum();
        for (id, logit) in (0..).zip(expected) {
            assert!((found[&id] - logit.exp() / total).abs() < 1e-12, "{found:?} {expected:?}");
        }
    };
    let twice = |s: &mut Sampling| s.repetition_penalty = 2.0;
    check(&twice, &[], 0, [2.0, -1.0, 0.5, 0.0]);
    check(&twice, &[0, 1, 0, 3], 2, [1.0, -2.0, 0.5, 0.0]);
    check(&|s| (s.repetition_penalty, s.repeat_last_n) = (0.5, 2), &[0, 1, 2], 2, [2.0, -0.5, 1.0, 0.0]);
    check(&|s| (s.repetition_penalty, s.repeat_last_n) = (2.0, 0), &[0, 1, 2], 2, [2.0, -1.0, 0.5, 0.0]);
    check(&|s| s.frequency_penalty = 0.5, &[2, 0, 1, 0], 1, [1.0, -1.5, 0.5, 0.0]);
    check(&|s| s.presence_penalty = -0.5, &[2, 0, 1, 0], 1, [2.5, -0.5, 0.5, 0.0]);
    check(&|s| (s.frequency_penalty, s.presence_penalty) = (1.0, 0.25), &[0, 0, 0], 0, [-1.25, -1.0, 0.5, 0.0]);
}

#[test]
fn draws_follow_the_distribution() {
    let logits: Vec<f32> = (0..40).map(|i| ((i * 29 % 40) as f32 / 8.0).sin() * 2.0).collect();
    const DRAWS: usize = 40_000;
    let cases: [&dyn Fn(&mut Sampling); 6] = [
        &|_| (),
        &|s| s.temperature = 1.7,
        &|s| (s.temperature, s.top_k) = (0.6, 7),
        &|s| (s.top_p, s.typical_p) = (0.8, 0.9),
        &|s| (s.min_p, s.temperature) = (0.3, 1.2),
        &|s| (s.repetition_penalty, s.frequency_penalty, s.top_p) = (1.3, 0.2, 0.95),
    ];
    for (seed, change) in (7..).zip(cases) {
        let sampling = Sampling { seed: Some(seed), ..sampling(change) };
        let mut chain = chain(&sampling, Vec::new()).unwrap();
        let tokens = vec![3; 64 + DRAWS];
        let mut counts = BTreeMap::new();
        // The window of the repetition penalty is full from the start, and the answer is empty.
        for position in 64..64 + DRAWS {
            let history = History { tokens: &tokens[..position], prompt: position };
            *counts.entry(chain.sample(&logits, history).unwrap().id).or_insert(0) += 1;
        }
        let expected = distribution(&sampling, &logits, &[3; 64], 64);
        assert!(counts.keys().all(|id| expected.contains_key(id)));
        let chi2: f64 = (expected.iter())
            .map(|(id, p)| (p * DRAWS as f64, counts.get(id).map_or(0.0, |&n| f64::from(n))))
            .map(|(expected, found)| (found - expected).powi(2) / expected)
            .sum();
        // The 99.9 % quantile, by Wilson and Hilferty.
        let df = expected.len() as f64 - 1.0;
        let most = df * (1.0 - 2.0 / (9.0 * df) + 3.09 * (2.0 / (9.0 * df)).sqrt()).powi(3);
        assert!(chi2 < most, "{sampling:?}: chi2 {chi2} of {df} degrees of freedom, expected below {most}");
    }
}

#[test]
fn greedy_takes_the_best_and_of_equals_the_lowest_id() {
    let pick = |change: &dyn Fn(&mut Sampling), logits: &[f32], tokens: &[u32]| {
        let sampling = Sampling { temperature: 0.0, ..sampling(change) };
        chain(&sampling, Vec::new()).unwrap().sample(logits, History { tokens, prompt: 1 }).unwrap().id
    };
    assert_eq!(pick(&|_| (), &[1.0, 3.0, -2.0, 3.0], &[0]), 1);
    assert_eq!(pick(&|_| (), &[0.0, -0.0, 0.0], &[0]), 0);
    assert_eq!(pick(&|s| s.presence_penalty = 1.0, &[1.0, 3.0, -2.0, 3.0], &[0, 1]), 3);
    assert_eq!(pick(&|s| s.logit_bias = [(2, 9.0)].into(), &[1.0, 3.0, -2.0, 3.0], &[0]), 2);
    // The token of most typical surprise is another.
    assert_eq!(pick(&|s| s.typical_p = 0.1, &tenths(), &[0]), 1);
}

#[test]
fn nothing_is_picked_from_what_is_no_number() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for (at, name) in [(0, "fast"), (3, "balanced"), (7, "quality")] {
            let mut logits = [1.0; 8];
            logits[at] = value;
            let mut chain = chain(&Sampling::preset(name).unwrap(), Vec::new()).unwrap();
            let error = chain.sample(&logits, History { tokens: &[1, 2], prompt: 1 }).unwrap_err();
            assert!(matches!(error, Error::NotFinite { id, position: 2, .. } if id as usize == at), "{error}");
        }
    }
}

/// A filter made of a function.
struct Custom<F>(F);

impl<F: FnMut(&mut Candidates) + Send> Filter for Custom<F> {
    fn apply(&mut self, candidates: &mut Candidates, _: History) -> Result<(), Error> {
        self.0(candidates);
        Ok(())
    }

    fn name(&self) -> &str {
        "custom"
    }
}

/// Samples from eight tokens of different logits, behind a filter.
fn filtered(sampling: &Sampling, filter: impl Filter + 'static) -> Result<u32, Error> {
    let mut chain = chain(sampling, vec![Box::new(filter)]).unwrap();
    let logits: Vec<f32> = (0..8).map(|i| (i * 5 % 8) as f32 / 4.0).collect();
    chain.sample(&logits, History { tokens: &[1, 2], prompt: 1 }).map(|sampled| sampled.id)
}

/// Greedy, plain, and each filter alone before a draw.
fn samplings() -> Vec<Sampling> {
    let changes: [&dyn Fn(&mut Sampling); 8] = [
        &|s| s.temperature = 0.0,
        &|_| (),
        &|s| s.temperature = 0.5,
        &|s| s.top_k = 3,
        &|s| s.typical_p = 0.9,
        &|s| s.top_p = 0.9,
        &|s| s.min_p = 0.1,
        &|s| s.repetition_penalty = 1.5,
    ];
    changes.map(sampling).to_vec()
}

#[test]
fn logits_of_a_filter_that_are_no_numbers_end_the_request() {
    type Change = fn(&mut Candidates, f64);
    let changes: [(&str, Change); 4] = [
        ("3", |candidates, value| candidates.add(3, value)),
        ("3", |candidates, value| candidates.adjust(&[3, 3], |_, _| value)),
        ("0", |candidates, value| candidates.divide(-value.abs())),
        ("5", |candidates, value| candidates.fill(&[0.0, 0.0, 0.0, 0.0, f32::NEG_INFINITY, value as f32])),
    ];
    for value in [f64::NAN, -f64::NAN, f64::INFINITY] {
        for (token, change) in changes {
            for sampling in samplings() {
                let error = filtered(&sampling, Custom(move |candidates: &mut _| change(candidates, value)));
                let Err(error) = error else { panic!("{value} {token} {sampling:?}: {error:?}") };
                let found = if token == "0" { f64::NAN } else { value };
                assert_eq!(
                    error.to_string(),
                    format!(
                        "filter `custom` set the logit of token {token} at position 2 to {found}: expected a finite number, or -inf to \
                         forbid the token"
                    )
                );
            }
        }
    }
    for sampling in samplings() {
        let error = filtered(&sampling, Custom(|candidates: &mut Candidates| candidates.fill(&vec![0.0; 100_000])));
        let Err(error) = error else { panic!("{sampling:?}: {error:?}") };
        assert!(error.to_string().starts_with("filter `custom`: token "), "{error}");
    }
    struct Nameless;
    impl Filter for Nameless {
        fn apply(&mut self, candidates: &mut Candidates, _: History) -> Result<(), Error> {
            candidates.divide(0.0);
            Ok(())
        }
    }
    let error = filtered(&Sampling::greedy(), Nameless).unwrap_err();
    assert!(matches!(&error, Error::FilterLogit { filter, .. } if filter.ends_with("::Nameless")), "{error}");
}

#[test]
fn a_logit_of_negative_infinity_forbids_a_token() {
    for sampling in samplings() {
        for seed in 0..20 {
            let sampling = Sampling { seed: Some(seed), ..sampling.clone() };
            let add = filtered(
                &sampling,
                Custom(|c: &mut Candidates| [3, 4, 6].into_iter().for_each(|id| c.add(id, f64::NEG_INFINITY))),
            );
            let retain = filtered(&sampling, Custom(|c: &mut Candidates| c.retain(|id| ![3, 4, 6].contains(&id))));
            assert_eq!(add.unwrap(), retain.unwrap(), "{sampling:?}");
        }
        let nothing = Custom(|c: &mut Candidates| (0..8).for_each(|id| c.add(id, f64::NEG_INFINITY)));
        let error = filtered(&sampling, nothing).unwrap_err();
        assert!(matches!(error, Error::NoCandidates { position: 2 }), "{error}");
    }
}

#[test]
fn a_floor_never_leaves_less_than_the_best() {
    struct Floor(f32);
    impl Filter for Floor {
        fn apply(&mut self, candidates: &mut Candidates, _: History) -> Result<(), Error> {
            assert_eq!(candidates.items(), [Candidate { id: 3, logit: 1.75 }]);
            Ok(())
        }

        fn floor(&self, _: &[f32], _: f32) -> Option<f32> {
            Some(self.0)
        }
    }
    for floor in [f32::NAN, f32::INFINITY, 2.0] {
        assert_eq!(filtered(&Sampling::default(), Floor(floor)).unwrap(), 3);
    }
}

#[test]
fn log_probabilities_are_those_of_the_model() {
    let logits = [1.0f32, 4.0, -30.0, 4.0, 2.5];
    let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
    let expected = logits.map(|logit| f64::from(logit) - total.ln());
    for n in 0..8 {
        let sampling = Sampling { logprobs: Some(n), top_k: 1, temperature: 0.3, ..Sampling::default() };
        let mut chain = chain(&sampling, Vec::new()).unwrap();
        let pick = chain.sample(&logits, History { tokens: &[1], prompt: 1 }).unwrap();
        let ids: Vec<u32> = pick.top.iter().map(|top| top.id).collect();
        assert_eq!(ids, [1, 3, 4, 0, 2][..n.min(5)]);
        let all = pick.top.iter().map(|top| (top.id, top.logprob)).chain([(pick.id, pick.logprob.unwrap())]);
        for (id, logprob) in all {
            assert!((logprob - expected[id as usize]).abs() < 1e-12);
        }
    }
}

fn logits() -> impl Strategy<Value = Vec<f32>> {
    // Few different values, so that equals are common, or many.
    prop_oneof![
        prop::collection::vec((-4i8..4).prop_map(f32::from), 1..300),
        prop::collection::vec(-20.0f32..20.0, 1..300),
    ]
}

/// Ids, the most likely first; of equals, the lowest.
fn ranked(logits: &[f32]) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
    ids.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    ids
}

fn probabilities(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - most).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

proptest! {
    #[test]
    fn top_k_keeps_the_k_best(logits in logits(), k in 1usize..310) {
        let kept: BTreeSet<u32> = distribution(&sampling(|s| s.top_k = k), &logits, &[], 0).into_keys().collect();
        prop_assert_eq!(kept, ranked(&logits).into_iter().take(k).collect::<BTreeSet<_>>());
    }

    #[test]
    fn top_p_keeps_the_fewest_that_suffice(logits in logits(), p in 0.0..1.0) {
        let kept: BTreeSet<u32> = distribution(&sampling(|s| s.top_p = p), &logits, &[], 0).into_keys().collect();
        let ranked = ranked(&logits);
        prop_assert_eq!(&kept, &ranked[..kept.len()].iter().copied().collect::<BTreeSet<_>>());
        let sum = |n: usize| ranked[..n].iter().map(|&id| probabilities(&logits)[id as usize]).sum::<f64>();
        prop_assert!(sum(kept.len()) > p - 1e-9);
        prop_assert!(kept.len() == 1 || sum(kept.len() - 1) < p + 1e-9);
    }

    #[test]
    fn min_p_keeps_what_is_likely_enough(logits in logits(), p in 0.0..1.0, k in 0usize..300) {
        let found = distribution(&sampling(|s| (s.min_p, s.top_k) = (p, k)), &logits, &[], 0);
        let all = probabilities(&logits);
        let most = all.iter().copied().fold(0.0, f64::max);
        for id in ranked(&logits).into_iter().take(if k == 0 { usize::MAX } else { k }) {
            let share = all[id as usize] / most;
            prop_assert!((share - p).abs() < 1e-9 || found.contains_key(&id) == (share > p));
        }
    }

    #[test]
    fn a_filter_keeps_nothing_below_its_floor(
        logits in logits(), times in 1usize..40, k in 1usize..700, p in 0.0..=1.0, shift in -1e30f32..1e30
    ) {
        // More than there are groups of logits, and with a rounding of its own.
        let shift = if times % 2 == 0 { shift } else { 0.0 };
        let logits: Vec<f32> = logits.repeat(times).into_iter().map(|logit| logit + shift).collect();
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sampling = sampling(|s| (s.top_k, s.min_p, s.top_p, s.typical_p) = (k, p, p, p));
        let mut floors = 0;
        for mut filter in FILTERS.iter().filter_map(|row| (row.build)(&sampling, &TOKENIZER)) {
            let Some(floor) = filter.floor(&logits, most) else { continue };
            let mut candidates = Candidates::default();
            candidates.fill(&logits);
            filter.apply(&mut candidates, History { tokens: &[], prompt: 0 }).unwrap();
            prop_assert!(candidates.items().iter().all(|item| logits[item.id as usize] >= floor));
            floors += 1;
        }
        prop_assert!(floors > 0 || k > 512 && p == 0.0);
    }

    #[test]
    fn argmax_is_the_first_of_the_highest(logits in logits(), times in 1usize..40, odd in prop::option::of(0usize..12000)) {
        let mut logits = logits.repeat(times);
        let expected = match odd.filter(|&at| at < logits.len()) {
            Some(at) => {
                logits[at] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][at % 3];
                Err(at as u32)
            }
            None => Ok(ranked(&logits)[0]),
        };
        prop_assert_eq!(argmax(&logits), expected);
    }

    #[test]
    fn any_chain_leaves_a_distribution_and_repeats_its_pick(
        logits in logits(), k in 0usize..50, ps in [0.0..=1.0, 0.0..=1.0, 0.0..=1.0], temperature in 0.0..3.0, seed: u64
    ) {
        let [top_p, min_p, typical_p] = ps;
        let sampling = Sampling {
            top_k: k, top_p, min_p, typical_p, temperature, seed: Some(seed), ..Sampling::preset("quality").unwrap()
        };
        let tokens: Vec<u32> = (0..20).map(|i| i * 7 % logits.len() as u32).collect();
        let found = distribution(&sampling, &logits, &tokens, 3);
        prop_assert!(!found.is_empty() && (found.values().sum::<f64>() - 1.0).abs() < 1e-9);
        let mut used = chain(&sampling, Vec::new()).unwrap();
        for end in 3..20 {
            let history = History { tokens: &tokens[..end], prompt: 3 };
            let fresh = chain(&sampling, Vec::new()).unwrap().sample(&logits, history).unwrap().id;
            prop_assert_eq!(used.sample(&logits, history).unwrap().id, fresh);
        }
    }
}

#[test]
fn bad_words_are_forbidden_after_their_beginning_with_and_without_a_space() {
    let encode = |text: &str| TOKENIZER.encode(text, EncodeOptions { parse_special: true, add_special: false });
    let forbidden = |sampling: &Sampling, tokens: &[u32], prompt, last: u32| {
        distribution(sampling, &vec![0.0; TOKENIZER.len()], tokens, prompt)[&last] == 0.0
    };
    for word in ["cat", "  cat", "Once upon a", "the mat"] {
        let bad = sampling(|s| s.bad_words = vec![word.to_owned()]);
        let [bare, spaced] = ["", " "].map(|space| encode(&format!("{space}{}", word.trim_start())));
        let (last, before) = bare.split_last().unwrap();
        let ids = sampling(|s| s.bad_words_ids = vec![bare.clone()]);
        for space in [&[][..], &[9, 8, 7]] {
            let tokens = [space, before].concat();
            assert!(forbidden(&bad, &tokens, 0, *last) && forbidden(&ids, &tokens, tokens.len(), *last), "{word}");
            // It begins in the prompt.
            assert_eq!(forbidden(&bad, &tokens, tokens.len(), *last), before.is_empty(), "{word}");
        }
        if !before.is_empty() {
            assert!(!forbidden(&bad, &[&[9, 8], &before[1..]].concat(), 0, *last), "{word}");
        }
        if spaced.len() == bare.len() && spaced[0] != bare[0] {
            let (last, before) = spaced.split_last().unwrap();
            assert!(forbidden(&bad, before, 0, *last), "{word}");
        }
    }
}

#[test]
fn options_that_contradict_each_other_are_named() {
    let error = Sampling { min_tokens: 4, max_tokens: Some(3), ..Sampling::default() }.check().unwrap_err();
    assert_eq!(error.to_string(), "min_tokens = 4: expected at most max_tokens, 3");
    let error = Sampling { n: 4, best_of: Some(3), ..Sampling::default() }.check().unwrap_err();
    assert_eq!(error.to_string(), "best_of = 3: expected at least n, 4");
}

#[test]
fn options_out_of_range_are_named_with_what_is_allowed() {
    let wrong = [
        ("temperature", "-0.1"),
        ("temperature", "NaN"),
        ("temperature", "inf"),
        ("temperature", "warm"),
        ("top_k", "-1"),
        ("top_p", "1.01"),
        ("top_p", "-0.5"),
        ("min_p", "2"),
        ("typical_p", "NaN"),
        ("top_n_sigma", "-1"),
        ("top_n_sigma", "inf"),
        ("min_keep", "-1"),
        ("xtc_probability", "1.5"),
        ("xtc_threshold", "NaN"),
        ("dynatemp_range", "-0.1"),
        ("dynatemp_exponent", "inf"),
        ("mirostat", "1"),
        ("mirostat", "3"),
        ("mirostat_tau", "-1"),
        ("mirostat_tau", "NaN"),
        ("mirostat_eta", "1.1"),
        ("dry_multiplier", "-1"),
        ("dry_multiplier", "inf"),
        ("dry_base", "0.9"),
        ("dry_allowed_length", "2.5"),
        ("dry_penalty_last_n", "-1"),
        ("dry_sequence_breakers", ""),
        ("repetition_penalty", "0"),
        ("repeat_last_n", "many"),
        ("frequency_penalty", "2.5"),
        ("presence_penalty", "-2.5"),
        ("logit_bias", "5"),
        ("logit_bias", "5=101"),
        ("logit_bias", "-5=1"),
        ("seed", "-1"),
        ("logprobs", "21"),
        ("n", "0"),
        ("n", "1025"),
        ("best_of", "0"),
        ("prompt_logprobs", "21"),
        ("thinking_budget", "-1"),
        ("max_tokens", "0"),
        ("min_tokens", "-1"),
        ("stop_token_ids", "EOS"),
        ("bad_words", " "),
        ("bad_words_ids", ""),
        ("bad_words_ids", "3,-1"),
        ("stop", ""),
        ("ignore_eos", "maybe"),
        ("skip_special_tokens", "no"),
    ];
    for (name, text) in wrong {
        let param = params().find(|param| param.name == name).unwrap();
        let before = Sampling { temperature: 0.5, stop: vec!["a".into()], ..Sampling::default() };
        let mut sampling = before.clone();
        let error = param.set(&mut sampling, text).unwrap_err();
        assert_eq!(sampling, before, "{name}");
        assert!(matches!(error, Error::Option { field, .. } if field == name));
        let message = error.to_string();
        assert!(message.starts_with(&format!("{name} = ")) && message.contains("expected"), "{message}");
    }
    assert_eq!(wrong.map(|(name, _)| name).into_iter().collect::<BTreeSet<_>>(), params().map(|p| p.name).collect());
    let error = chain(&Sampling { top_p: f64::NAN, ..Sampling::default() }, Vec::new()).err().unwrap();
    assert_eq!(error.to_string(), "top_p = NaN: expected a number from 0 to 1");
}

#[test]
fn flags_fields_and_keys_are_the_same() {
    let json = serde_json::to_value(Sampling::default()).unwrap();
    let fields: BTreeSet<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, params().map(|param| param.name).collect());

    let text =
        r#"{"temperature": 0.5, "top_k": 3, "logit_bias": {"7": -1.5}, "stop": "\n", "seed": 18446744073709551615}"#;
    let by_field: Sampling = serde_json::from_str(text).unwrap();
    let mut by_flag = Sampling::default();
    for (name, text) in [
        ("temperature", "0.5"),
        ("top_k", "3"),
        ("logit_bias", "7=-1.5"),
        ("stop", "\n"),
        ("seed", "18446744073709551615"),
    ] {
        let param = params().find(|param| param.name == name).unwrap();
        param.set(&mut by_flag, text).unwrap();
        assert_eq!(param.show(&by_flag).unwrap(), text);
    }
    assert_eq!(by_field, by_flag);
    assert_eq!(serde_json::from_value::<Sampling>(serde_json::to_value(&by_field).unwrap()).unwrap(), by_field);
    assert!(serde_json::from_str::<Sampling>(r#"{"logit_bias": {"seven": 1}}"#).is_err());
    assert!(serde_json::from_str::<Sampling>(r#"{"stop": [1]}"#).is_err());
    let error = serde_json::from_str::<Sampling>(r#"{"top-k": 3}"#).unwrap_err().to_string();
    assert!(error.starts_with("unknown field `top-k`, expected one of `temperature`, `top_k`"), "{error}");
}

#[test]
fn presets_are_known_by_name() {
    for name in Sampling::presets() {
        Sampling::preset(name).unwrap().check().unwrap();
    }
    let error = Sampling::preset("best").unwrap_err();
    assert_eq!(error.to_string(), "no preset is called `best`; there are fast, balanced, quality");
}
