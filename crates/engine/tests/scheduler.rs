//! Thousands of random workloads, on a clock that only steps move: the budget is kept, nobody starves, no block is lost, and each answer is
//! the one it would be alone.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use trine_backend::{
    ActivationPrecision, BLOCK_LEN, Batch, CacheId, CacheType, DeviceInfo, KvBlock, KvBlocks, KvShape, Stage,
};
use trine_engine::{
    Clock, Engine, EngineOptions, Error, EventKind, FinishReason, PrefixCache, Request, Sampling, Scheduling, SeqId,
    Timing,
};
use trine_model::runner::{Output, Want};
use trine_model::{
    DeviceOptions, EMBEDDED, Language, ModelOptions, Runner, RunnerMemory, Spec, Workload, load, open_file,
};
use trine_text::Tokenizer;

/// Random numbers (SplitMix64).
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) % n
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }
}

/// A machine: microseconds of a step, of a row that generates, of a token of a prompt and of a thousand keys.
#[derive(Clone, Copy)]
struct Machine {
    step: u64,
    row: u64,
    token: u64,
    keys: u64,
}

const MACHINE: Machine = Machine { step: 20_000, row: 500, token: 2_000, keys: 100 };

/// A model whose cache holds the tokens themselves, and whose next token is a hash of all before it: a wrong block gives a wrong answer.
/// One with a window reads that from blocks of its own, too. A step moves the clock.
struct Hashing {
    spec: Arc<Spec>,
    cache: Vec<u32>,
    /// What a layer with a window keeps.
    window_cache: Vec<u32>,
    machine: Machine,
    now: Arc<AtomicU64>,
    steps: Arc<Mutex<Vec<Step>>>,
    /// Logits that it leaves out, or [`NOTHING`].
    missing: Arc<AtomicU64>,
}

/// A pass that does not touch its output.
const NOTHING: u64 = u64::MAX;

/// What a step did: tokens of prompts, sequences that generated, microseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    tokens: usize,
    rows: usize,
    took: u64,
}

/// The token that follows.
fn next(tokens: impl Iterator<Item = u32>, vocab: usize) -> usize {
    let hash = tokens.fold(7, |hash, token| Random(hash ^ u64::from(token)).below(u64::MAX));
    (hash >> 32) as usize % vocab
}

impl Runner for Hashing {
    fn forward(
        &mut self,
        _cache: CacheId,
        batch: &Batch,
        _want: Want,
        output: &mut Output,
    ) -> Result<(), trine_model::Error> {
        if self.missing.load(Relaxed) == NOTHING {
            return Ok(());
        }
        let vocab = self.spec.vocab_size;
        let mut step = Step { took: self.machine.step, ..Step::default() };
        output.values.clear();
        for span in batch.spans() {
            let blocks = &batch.blocks()[span.blocks.clone()];
            let window_blocks = &batch.blocks()[span.window_blocks.clone()];
            let in_blocks = |blocks: &[u32], at| blocks[at / BLOCK_LEN] as usize * BLOCK_LEN + at % BLOCK_LEN;
            let (place, window_place) = (|at| in_blocks(blocks, at), |at| in_blocks(window_blocks, at));
            for row in span.row..span.row + span.tokens {
                let at = batch.position(row);
                self.cache[place(at)] = batch.tokens()[row];
                if let Some(window) = window(&self.spec) {
                    self.window_cache[window_place(at)] = batch.tokens()[row];
                    // Calibration runs zeros after tokens that never were.
                    let first = if batch.tokens()[row] == 0 { at } else { (at + 1).saturating_sub(window) };
                    for at in first..=at {
                        assert_eq!(self.window_cache[window_place(at)], self.cache[place(at)], "position {at}");
                    }
                }
                step.took += self.machine.keys * at as u64 / 1000;
                if batch.outputs().contains(&(row as u32)) {
                    let start = output.values.len();
                    output.values.resize(start + vocab, 0.0);
                    output.values[start + next((0..=at).map(|at| self.cache[place(at)]), vocab)] = 1.0;
                }
            }
            if span.tokens == 1 {
                step.rows += 1;
                step.took += self.machine.row;
            } else {
                step.tokens += span.tokens;
                step.took += self.machine.token * span.tokens as u64;
            }
        }
        output.values.truncate(output.values.len().saturating_sub(self.missing.load(Relaxed) as usize));
        self.now.fetch_add(step.took, Relaxed);
        self.steps.lock().unwrap().push(step);
        Ok(())
    }

    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn device(&self) -> &DeviceInfo {
        unreachable!("the engine does not ask")
    }

    fn limit_context(&mut self, _context_length: usize) {}

    fn has_adapter(&self, adapter: u32) -> bool {
        adapter == 0
    }

    fn set_activation_precision(&mut self, _precision: ActivationPrecision) {}

    fn kv_shape(&self, blocks: KvBlocks, _: CacheType) -> KvShape {
        kv_shape(&self.spec, blocks)
    }

    fn create_cache(&mut self, blocks: KvBlocks, _: CacheType) -> Result<CacheId, trine_model::Error> {
        self.cache = vec![u32::MAX; blocks.full * BLOCK_LEN];
        self.window_cache = vec![u32::MAX; blocks.window * BLOCK_LEN];
        Ok(CacheId(0))
    }

    fn release_cache(&mut self, _cache: CacheId) {}

    fn trim(&mut self) {}

    fn copy_block(&mut self, _cache: CacheId, _from: KvBlock, _to: KvBlock) {
        unreachable!("the engine does not copy")
    }

    fn read_block(&mut self, _cache: CacheId, _block: KvBlock, _out: &mut Vec<u8>) -> Result<(), trine_model::Error> {
        unreachable!("the engine does not swap")
    }

    fn write_block(&mut self, _cache: CacheId, _block: KvBlock, _bytes: &[u8]) {
        unreachable!("the engine does not swap")
    }

    fn enter(&mut self, _stage: Stage) {}

    fn memory(&self) -> RunnerMemory {
        RunnerMemory::default()
    }
}

/// What all engines share.
struct Model {
    spec: Arc<Spec>,
    tokenizer: Arc<Tokenizer>,
}

/// An engine, its clock in microseconds, and its steps.
struct Simulation {
    engine: Engine,
    now: Arc<AtomicU64>,
    steps: Arc<Mutex<Vec<Step>>>,
    missing: Arc<AtomicU64>,
    vocab: usize,
}

impl Model {
    fn new() -> Model {
        let file = open_file(EMBEDDED, &Default::default()).unwrap();
        let mut go_on = |_| ControlFlow::Continue(());
        let runner = load(&file, &DeviceOptions::default(), ModelOptions::default(), &mut go_on).unwrap();
        let mut spec = runner.spec().clone();
        spec.sizes.context_length = 40_000;
        Model { spec: Arc::new(spec), tokenizer: Arc::new(Language::of(&file).unwrap().tokenizer) }
    }

    fn simulate(&self, machine: Machine, options: &EngineOptions) -> Simulation {
        let (now, steps) = (Arc::<AtomicU64>::default(), Arc::<Mutex<Vec<Step>>>::default());
        let missing = Arc::<AtomicU64>::default();
        let runner = Hashing {
            spec: self.spec.clone(),
            cache: Vec::new(),
            window_cache: Vec::new(),
            machine,
            now: now.clone(),
            steps: steps.clone(),
            missing: missing.clone(),
        };
        let mut engine = Engine::new(Box::new(runner), self.tokenizer.clone(), options).unwrap();
        let clock = now.clone();
        engine.set_clock(Clock::new(move || Duration::from_micros(clock.load(Relaxed))));
        engine.calibrate().unwrap();
        steps.lock().unwrap().clear();
        Simulation { engine, now, steps, missing, vocab: self.spec.vocab_size }
    }
}

/// The shape of a cache of [`Hashing`], whose layer with a window is the second.
fn kv_shape(spec: &Spec, blocks: KvBlocks) -> KvShape {
    KvShape {
        n_layers: if window(spec).is_some() { 2 } else { 1 },
        windowed: [false, true].into(),
        n_kv_heads: 1,
        head_dim: 1,
        blocks,
        block_len: BLOCK_LEN,
        cache_type: CacheType::F32,
    }
}

/// The window of its second layer, if it has one.
fn window(spec: &Spec) -> Option<usize> {
    spec.layer_kinds[1].window
}

fn greedy(max_tokens: usize) -> Sampling {
    Sampling { max_tokens: Some(max_tokens), ignore_eos: true, ..Sampling::greedy() }
}

/// The answer of a request that is alone.
fn alone(prompt: &[u32], max_tokens: usize, vocab: usize) -> Vec<u32> {
    let mut tokens = prompt.to_vec();
    for _ in 0..max_tokens {
        tokens.push(next(tokens.iter().copied(), vocab) as u32);
    }
    tokens.split_off(prompt.len())
}

/// What a request was answered.
#[derive(Default)]
struct Said {
    tokens: Vec<u32>,
    /// Microseconds at which it began and ended.
    first: Option<u64>,
    end: Option<(u64, FinishReason)>,
}

impl Simulation {
    fn now(&self) -> u64 {
        self.now.load(Relaxed)
    }

    fn step(&mut self, said: &mut HashMap<SeqId, Said>) {
        let now = self.now.clone();
        self.engine.step(&mut |event| {
            let (said, now) = (said.entry(event.sequence).or_default(), now.load(Relaxed));
            assert!(said.end.is_none(), "nothing follows the end");
            match event.kind {
                EventKind::Progress(_) | EventKind::Prompt { .. } => {}
                EventKind::Token { id, .. } => {
                    said.tokens.push(id);
                    said.first.get_or_insert(now);
                }
                EventKind::Finished { finish_reason, timing, .. } => {
                    let Timing { submitted, started, first_token, finished } = timing;
                    assert_eq!(first_token, said.first.map(Duration::from_micros));
                    assert!(submitted <= started.unwrap_or(finished) && started <= first_token.or(Some(finished)));
                    assert!(first_token <= Some(finished) && finished <= Duration::from_micros(now), "{timing:?}");
                    said.end = Some((now, finish_reason));
                }
            }
            ControlFlow::Continue(())
        });
    }
}

#[test]
fn random_workloads_keep_the_budget_and_every_answer_is_the_one_alone() {
    let mut model = Model::new();
    let (mut cancelled, mut timed_out, mut preempted, mut mixed, mut reused) = (0, 0, 0, 0, [0, 0]);
    for seed in 0..2000 {
        let mut random = Random(seed);
        let machine = Machine {
            step: random.between(1_000, 60_000),
            row: random.between(0, 3_000),
            token: random.between(100, 4_000),
            keys: random.between(0, 2_000),
        };
        let context = 384;
        let target = random.between(20, 200) * 1000;
        let max_sequences = random.between(2, 8);
        let tightest = random.below(2) == 0;
        let max_batch_tokens = max_sequences + random.below(if tightest { 4 } else { 512 });
        let window = (random.below(2) == 0).then(|| random.between(1, 150) as usize);
        Arc::make_mut(&mut model.spec).layer_kinds[1].window = window;
        let prefill_chunk = random.between(16, 512) as usize;
        let work =
            Workload { context, sequences: 1, batch: prefill_chunk, cache_type: CacheType::F32, headless: false };
        let KvBlocks { full, window: in_window } = work.sequence_blocks(&model.spec);
        let more = random.below(16) as usize;
        let room = kv_shape(&model.spec, KvBlocks { full: full + more, window: in_window + more });
        let options = EngineOptions {
            context: Some(context),
            max_sequences: max_sequences as usize,
            max_batch_tokens: Some(max_batch_tokens as usize),
            prefill_chunk,
            itl_target: Some(Duration::from_micros(target)),
            cache_bytes: room.bytes(),
            ..EngineOptions::default()
        };
        let mut simulation = model.simulate(machine, &options);
        let vocab = simulation.vocab;
        let mut said = HashMap::new();
        let mut asked: Vec<(SeqId, Vec<u32>, usize, bool)> = Vec::new();
        let (mut to_come, mut spoken) = (random.between(1, 12), HashSet::new());
        let prefix: Vec<u32> = (0..200).map(|_| random.below(vocab as u64) as u32).collect();
        while to_come > 0 || !simulation.engine.is_idle() {
            if to_come > 0 && (simulation.engine.is_idle() || random.below(4) == 0) {
                to_come -= 1;
                let mut prompt = prefix[..random.below(200) as usize].to_vec();
                prompt.extend((0..random.between(1, 100)).map(|_| random.below(vocab as u64) as u32));
                let answer = random.between(1, 60) as usize;
                let timeout = |random: &mut Random| {
                    (random.below(8) == 0).then(|| Duration::from_millis(random.between(1, 4000)))
                };
                let scheduling = Scheduling {
                    client: random.below(3).to_string(),
                    priority: random.below(2) as i32,
                    queue_timeout: timeout(&mut random),
                    timeout: timeout(&mut random),
                    ..Scheduling::default()
                };
                let request = Request { scheduling, ..Request::new(prompt.clone(), greedy(answer)) };
                let id = simulation.engine.submit(request).unwrap();
                said.insert(id, Said::default());
                asked.push((id, prompt, answer, false));
            }
            if !asked.is_empty() && random.below(40) == 0 {
                let which = random.below(asked.len() as u64) as usize;
                let (id, _, _, gone) = &mut asked[which];
                *gone |= simulation.engine.cancel(*id).is_some();
            }
            let waiting = simulation.engine.load().waiting;
            let before: HashMap<SeqId, usize> = said.iter().map(|(&id, said)| (id, said.tokens.len())).collect();
            simulation.step(&mut said);
            let spoke = |id: &SeqId| said[id].tokens.len() > before[id];
            let both = before.iter().any(|(id, &tokens)| tokens > 0 && spoke(id) && spoken.contains(id));
            spoken = before.keys().copied().filter(spoke).collect();
            let step = simulation.steps.lock().unwrap().pop().unwrap_or_default();
            assert!(step.tokens + step.rows <= max_batch_tokens as usize, "{seed}: {step:?}");
            if both && step.tokens > 0 {
                mixed += 1;
                let keys = machine.keys * (context * (step.rows + step.tokens)) as u64 / 1000;
                let generating = machine.step + machine.row * step.rows as u64 + keys;
                // All but one may read prompts, a last token of which looks like a row.
                let share = if max_sequences > 2 { 0.7 } else { 0.23 };
                let most = (target as f64).max(generating as f64 / (1.0 - share));
                assert!(
                    step.took as f64 <= 1.1 * most + 2.0 * machine.token as f64,
                    "{seed}: {step:?}, at most {most}"
                );
            }
            preempted += usize::from(simulation.engine.load().waiting > waiting);
        }
        for (id, prompt, answer, gone) in asked {
            let said = &said[&id];
            let expected = alone(&prompt, answer, vocab);
            match &said.end {
                None => {
                    assert!(gone, "{seed}: a request was forgotten");
                    cancelled += 1;
                }
                Some((_, FinishReason::Failed(Error::Timeout { .. } | Error::QueueTimeout { .. }))) => timed_out += 1,
                Some((_, reason)) => {
                    assert!(matches!(reason, FinishReason::MaxTokens), "{seed}: {reason:?}");
                    assert_eq!(said.tokens.len(), answer, "{seed}");
                }
            }
            assert!(expected.starts_with(&said.tokens), "{seed}: {:?} for {expected:?}", said.tokens);
        }
        let load = simulation.engine.load();
        assert_eq!((load.used_blocks, load.running, load.waiting), (0, 0, 0), "{seed}");
        reused[usize::from(in_window < full)] += load.prefix_cache.hits;
    }
    assert!(reused.iter().all(|&tokens| tokens > 10_000), "{reused:?} tokens");
    assert!(
        cancelled > 100 && timed_out > 100 && preempted > 100 && mixed > 1000,
        "{cancelled} {timed_out} {preempted} {mixed}"
    );
}

fn options(max_sequences: usize) -> EngineOptions {
    EngineOptions { context: Some(2048), max_sequences, ..EngineOptions::default() }
}

fn prompt(seed: u64, len: usize) -> Vec<u32> {
    let mut random = Random(seed);
    (0..len).map(|_| random.below(1000) as u32).collect()
}

#[test]
fn a_long_prompt_is_not_starved_by_short_ones() {
    let model = Model::new();
    for len in [200, 800, 2000] {
        let mut simulation = model.simulate(MACHINE, &options(4));
        let mut said = HashMap::new();
        let mut seed = 0;
        let short = |simulation: &mut Simulation, seed: &mut u64| {
            *seed += 1;
            simulation.engine.submit(Request::new(prompt(*seed, 20), greedy(10))).unwrap();
        };
        (0..12).for_each(|_| short(&mut simulation, &mut seed));
        let long = simulation.engine.submit(Request::new(prompt(0, len), greedy(4))).unwrap();
        while said.get(&long).is_none_or(|said: &Said| said.first.is_none()) {
            while simulation.engine.load().waiting < 8 {
                short(&mut simulation, &mut seed);
            }
            simulation.step(&mut said);
            assert!(simulation.now() < 200_000_000, "a prompt of {len} tokens waits for ever");
        }
        // Alone it takes 2 ms for each token.
        let alone = 2_000 * len as u64;
        let took = said[&long].first.unwrap();
        assert!(took < 12 * alone, "{len} tokens: {took} µs, alone {alone}");
    }
}

/// Sixteen clients of a machine that cannot serve them all at the target, whose weights take a fifth of it.
#[test]
fn many_prompts_get_the_time_that_serves_most() {
    let model = Model::new();
    let machine = Machine { step: 21_000, row: 3_900, token: 3_900, keys: 0 };
    // Tokens per second of answers, and the median time to first token.
    let run = |itl_target: Option<u64>| {
        let options = EngineOptions { itl_target: itl_target.map(Duration::from_millis), ..options(16) };
        let mut simulation = model.simulate(machine, &options);
        let (mut said, mut random) = (HashMap::<SeqId, Said>::new(), Random(3));
        let (mut sent, mut submitted) = (0, HashMap::new());
        while sent < 96 || !simulation.engine.is_idle() {
            let load = simulation.engine.load();
            for _ in load.running + load.waiting..16.min(load.running + load.waiting + 96 - sent) {
                let prompt = prompt(1000 + sent as u64, random.between(64, 512) as usize);
                let id = simulation.engine.submit(Request::new(prompt, greedy(random.between(64, 256) as usize)));
                submitted.insert(id.unwrap(), simulation.now());
                sent += 1;
            }
            simulation.step(&mut said);
        }
        let tokens: usize = said.values().map(|said| said.tokens.len()).sum();
        let mut first: Vec<u64> = submitted.iter().map(|(id, at)| said[id].first.unwrap() - at).collect();
        first.sort_unstable();
        (tokens as f64 / simulation.now() as f64 * 1e6, first[first.len() / 2] as f64 * 1e-6)
    };
    let ((limited, first), (unlimited, _)) = (run(Some(100)), run(None));
    // With the least share alone, 0.87 and 19 seconds.
    assert!(limited > 0.95 * unlimited && first < 6.0, "{limited} of {unlimited} tokens/s, {first} s");
}

#[test]
fn a_client_that_floods_gets_no_more_than_others() {
    let mut simulation = Model::new().simulate(MACHINE, &options(4));
    let (mut said, mut seed) = (HashMap::<SeqId, Said>::new(), 0);
    let mut requests: [Vec<SeqId>; 4] = Default::default();
    while simulation.now() < 60_000_000 {
        for (client, requests) in requests.iter_mut().enumerate() {
            let open = |id: &SeqId| said.get(id).is_none_or(|said| said.end.is_none());
            let wanted = if client == 0 { 300 } else { 4 };
            while requests.iter().filter(|id| open(id)).count() < wanted {
                seed += 1;
                let scheduling = Scheduling { client: client.to_string(), ..Scheduling::default() };
                let request = Request { scheduling, ..Request::new(prompt(seed, 60), greedy(20)) };
                requests.push(simulation.engine.submit(request).unwrap());
            }
        }
        simulation.step(&mut said);
    }
    let served = requests.map(|requests| {
        let tokens = |id: &SeqId| said.get(id).map_or(0, |said| 60 + said.tokens.len());
        requests.iter().map(tokens).sum::<usize>() as f64
    });
    let jain = served.iter().sum::<f64>().powi(2) / (4.0 * served.iter().map(|x| x * x).sum::<f64>());
    assert!(jain > 0.99 && served[0] > 5_000.0, "{jain}: {served:?}");
}

#[test]
fn lower_priority_values_run_first_and_preempt_nobody_who_has_room() {
    let mut simulation = Model::new().simulate(MACHINE, &options(2));
    let submit = |simulation: &mut Simulation, seed, priority| {
        let scheduling = Scheduling { priority, ..Scheduling::default() };
        simulation.engine.submit(Request { scheduling, ..Request::new(prompt(seed, 40), greedy(8)) }).unwrap()
    };
    let mut said = HashMap::new();
    let first: Vec<SeqId> = (0..2).map(|seed| submit(&mut simulation, seed, 5)).collect();
    simulation.step(&mut said);
    let order: Vec<SeqId> =
        [3, 1, 2, -1].map(|priority| submit(&mut simulation, (9 + priority) as u64, priority)).into();
    while !simulation.engine.is_idle() {
        simulation.step(&mut said);
    }
    let mut ids: Vec<SeqId> = said.keys().copied().collect();
    ids.sort_by_key(|id| (said[id].first, *id));
    assert_eq!(ids, [first[0], first[1], order[1], order[3], order[0], order[2]]);
}

#[test]
fn whoever_waits_too_long_or_takes_too_long_is_told_so_and_the_queue_is_bounded() {
    let model = Model::new();
    let bounded = EngineOptions { max_queued: Some(2), max_queued_tokens: Some(100), ..options(1) };
    let bounded = EngineOptions { itl_target: None, ..bounded };
    let mut simulation = model.simulate(MACHINE, &bounded);
    let request = |len| Request::new(prompt(1, len), greedy(100));
    let with = |scheduling| Request { scheduling, ..request(40) };
    let second = Some(Duration::from_secs(1));
    let runs = simulation.engine.submit(with(Scheduling { timeout: second, ..Scheduling::default() })).unwrap();
    let mut said = HashMap::new();
    simulation.step(&mut said);
    let waits = with(Scheduling { queue_timeout: Some(Duration::from_millis(500)), ..Scheduling::default() });
    let waits = simulation.engine.submit(waits).unwrap();
    let error = simulation.engine.submit(request(70)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "40 tokens of prompts wait already, and with 70 more there would be more than 100: try again later"
    );
    simulation.engine.submit(request(20)).unwrap();
    let error = simulation.engine.submit(request(1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "2 requests wait already, and with 1 more there would be more than 2: try again later"
    );
    while !simulation.engine.is_idle() {
        simulation.step(&mut said);
    }
    let end = |id: &SeqId| said[id].end.as_ref().unwrap();
    let (at, reason) = end(&waits);
    assert!(matches!(reason, FinishReason::Failed(Error::QueueTimeout { .. })), "{reason:?}");
    assert!((600_000..650_000).contains(at), "{at}");
    let (at, reason) = end(&runs);
    assert!(matches!(reason, FinishReason::Failed(Error::Timeout { .. })), "{reason:?}");
    assert!((1_000_000..1_100_000).contains(at) && said[&runs].tokens.len() > 30, "{at}");
    assert_eq!(simulation.engine.load().used_blocks, 0);
}

/// Requests with 1500 tokens in common, after a step. `change` is told which of them it changes.
fn with_a_beginning_in_common(
    model: &Model,
    max_sequences: usize,
    change: impl Fn(usize, &mut Request),
) -> (Simulation, Vec<(SeqId, Vec<u32>)>) {
    let mut simulation = model.simulate(MACHINE, &options(max_sequences));
    let asked = (0..8).map(|i| {
        let prompt = [prompt(1, 1500), prompt(100 + i as u64, 16)].concat();
        let mut request = Request::new(prompt.clone(), greedy(4));
        change(i, &mut request);
        (simulation.engine.submit(request).unwrap(), prompt)
    });
    let asked = asked.collect();
    simulation.step(&mut HashMap::new());
    (simulation, asked)
}

#[test]
fn a_beginning_that_another_computes_is_waited_for() {
    let model = Model::new();
    // Full blocks are shared.
    let own = 1516 - 1500 / BLOCK_LEN * BLOCK_LEN;
    for (max_sequences, first_goes) in [(8, false), (8, true), (3, false), (2, true), (1, false)] {
        let (mut simulation, asked) = with_a_beginning_in_common(&model, max_sequences, |_, _| {});
        let mut said = HashMap::new();
        assert_eq!(simulation.engine.load().running, 1);
        // One that shares nothing goes before those that wait.
        let other = simulation.engine.submit(Request::new(prompt(2, 40), greedy(4))).unwrap();
        let mut expected = 1516 + 7 * own + 40;
        if first_goes {
            simulation.step(&mut said);
            let computed = simulation.engine.prompt_progress(asked[0].0).unwrap().0;
            assert!((BLOCK_LEN..1500).contains(&computed));
            simulation.engine.cancel(asked[0].0).unwrap();
            expected = expected - own + computed % BLOCK_LEN;
        }
        while !simulation.engine.is_idle() {
            simulation.step(&mut said);
        }
        let computed: usize = simulation.steps.lock().unwrap().iter().map(|step| step.tokens).sum();
        assert_eq!(computed, expected, "{max_sequences} sequences");
        for (id, prompt) in &asked[usize::from(first_goes)..] {
            assert_eq!(said[id].tokens, alone(prompt, 4, simulation.vocab));
            assert!(max_sequences == 1 || said[&other].first < said[id].first);
        }
    }
}

#[test]
fn nobody_waits_for_a_beginning_that_comes_late_or_never() {
    let model = Model::new();
    let running = |change: &dyn Fn(usize, &mut Request)| {
        with_a_beginning_in_common(&model, 8, |i, request| change(i, request)).0.engine.load().running
    };
    assert_eq!(running(&|_, request| request.prefix_cache = PrefixCache::Off), 8);
    assert_eq!(running(&|i, request| request.prefix_cache = PrefixCache::Domain((i % 3).to_string())), 3);
    assert_eq!(running(&|i, request| request.sampling.prompt_logprobs = (i == 0).then_some(0)), 2);
    assert_eq!(running(&|i, request| request.scheduling.queue_timeout = (i > 5).then_some(Duration::ZERO)), 3);
    // A more urgent one does not wait for one that others may keep waiting, and nobody for those that rest.
    let (mut simulation, asked) = with_a_beginning_in_common(&model, 8, |_, _| {});
    let mut said = HashMap::new();
    let scheduling = Scheduling { priority: -1, ..Scheduling::default() };
    let urgent = Request { scheduling, ..Request::new(asked[0].1.clone(), greedy(4)) };
    let urgent = simulation.engine.submit(urgent).unwrap();
    simulation.step(&mut said);
    assert_eq!(simulation.engine.load().running, 2);
    assert!([asked[0].0, urgent].iter().all(|&id| simulation.engine.pause(id, true)));
    simulation.step(&mut said);
    let load = simulation.engine.load();
    assert_eq!((load.running, load.waiting), (3, 6));
}

#[test]
fn a_runner_that_gives_too_few_logits_is_an_error_of_its_requests() {
    let model = Model::new();
    let mut simulation = model.simulate(MACHINE, &EngineOptions { itl_target: None, ..options(2) });
    let vocab = model.spec.vocab_size;
    simulation.engine.submit(Request::new(prompt(1, 20), greedy(1))).unwrap();
    let mut said = HashMap::new();
    simulation.step(&mut said);
    // The second leaves what the first pass gave.
    for (missing, found) in [(1, vocab - 1), (NOTHING, 0)] {
        let id = simulation.engine.submit(Request::new(prompt(1, 20), greedy(4))).unwrap();
        simulation.missing.store(missing, Relaxed);
        simulation.step(&mut said);
        let Some((_, FinishReason::Failed(error))) = &said[&id].end else { panic!("it did not fail") };
        assert!(error.to_string().ends_with(&format!("output rows, found {found} from the runner")), "{error}");
        assert_eq!(simulation.engine.load().running, 0);
    }
}
