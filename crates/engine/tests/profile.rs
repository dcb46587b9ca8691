//! A profile changes nothing and leaves nothing out.

mod golden;

use golden::{folder, open, open_on, prompts};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use trine_backend::profile::{DECODE, PREFILL, Part, Profile, ProfileReport, Recorder, RecorderOptions};
use trine_backend::{CacheType, Cpu, CpuOptions};
use trine_engine::{Engine, EngineOptions, EventKind, Request, Sampling, SeqId};
use trine_tensor::format::by_name;

fn device(recorder: &Recorder) -> Profile<Cpu> {
    let mut cpu = Cpu::new(CpuOptions { threads: 2, ..CpuOptions::default() }).unwrap();
    recorder.timeline().iter().for_each(|timeline| cpu.watch(timeline));
    Profile::new(cpu, recorder.clone())
}

/// A token, with the bits of what was likely in its place.
type Said = (u32, Vec<u64>);

/// Answers prompts together, in small pieces: the tokens of each, and how many steps it took. Whose turn it is depends on the time.
fn answer(engine: &mut Engine, prompts: &[Vec<u32>]) -> (Vec<Vec<Said>>, usize) {
    let sampling =
        Sampling { max_tokens: Some(9), logprobs: Some(20), ignore_eos: true, ..Sampling::preset("quality").unwrap() };
    for prompt in prompts {
        engine.submit(Request::new(prompt.clone(), sampling.clone())).unwrap();
    }
    let (mut said, mut steps) = (BTreeMap::<SeqId, Vec<Said>>::new(), 0);
    while !engine.is_idle() {
        engine.step(&mut |event| {
            if let EventKind::Token { id, top, .. } = event.kind {
                let bits = top.iter().map(|top| top.logprob.to_bits()).collect();
                said.entry(event.sequence).or_default().push((id, bits));
            }
            ControlFlow::Continue(())
        });
        steps += 1;
    }
    (said.into_values().collect(), steps)
}

const OPTIONS: EngineOptions = EngineOptions {
    context: None,
    max_sequences: 4,
    prefill_chunk: 16,
    max_batch_tokens: None,
    cache_bytes: None,
    cache_type: CacheType::F32,
    seed: 1,
    itl_target: None,
    max_queued: None,
    max_queued_tokens: None,
    disk_cache: None,
};

/// A profile of the golden `name`: its report, its trace, the steps and the time that they took.
fn profile(name: &str, options: RecorderOptions) -> (ProfileReport, Value, usize, Duration) {
    let prompts: Vec<Vec<u32>> = prompts(name).into_iter().map(|(prompt, _)| prompt).collect();
    let recorder = Recorder::new(options);
    let mut engine = open_on(&folder(name), device(&recorder), &OPTIONS).unwrap();
    // What happens before the start does not count.
    let (expected, _) = answer(&mut open(&folder(name), 2, &OPTIONS).unwrap(), &prompts);
    let begin = Instant::now();
    recorder.start();
    let (said, steps) = answer(&mut engine, &prompts);
    recorder.stop();
    let wall = begin.elapsed();
    assert_eq!(said, expected, "{name}: the profiled device gives other bits");
    let mut trace = Vec::new();
    recorder.write_trace(&mut trace).unwrap();
    (recorder.report(), serde_json::from_slice(&trace).unwrap(), steps, wall)
}

fn spans<'a>(trace: &'a Value, cat: &'a str) -> impl Iterator<Item = &'a Value> {
    let events = trace["traceEvents"].as_array().unwrap();
    events.iter().filter(move |event| event["ph"] == "X" && event["cat"] == cat)
}

#[test]
fn a_profile_accounts_for_all_the_time_and_changes_no_bit() {
    for name in ["llama", "qwen2", "qwen3", "bitnet", "bitnet-b1.58"] {
        let (report, trace, steps, wall) = profile(name, RecorderOptions::default());
        let [prefill, decode] = [PREFILL, DECODE].map(|phase| report.phase(phase));
        for (phase, time) in [(PREFILL, &prefill), (DECODE, &decode)] {
            assert_eq!(time.parts.iter().sum::<Duration>(), time.time, "{name}");
            let operations: Duration =
                report.operations.iter().filter(|operation| operation.phase == phase).map(|o| o.time).sum();
            let device = [Part::Products, Part::Attention, Part::Norms, Part::Other];
            assert_eq!(operations, device.iter().map(|&part| time.parts[part as usize]).sum(), "{name}");
            assert!(operations > Duration::ZERO && operations < time.time, "{name}");
        }
        assert!(report.time() == prefill.time + decode.time && report.time() <= wall);
        assert_eq!((prefill.passes + decode.passes, report.steps), (steps as u64, steps as u64));
        assert_eq!((spans(&trace, "step").count(), report.left_out), (steps, 0));
        // A step tells how large its batch is: each sequence has one token in it at least.
        for step in spans(&trace, "step") {
            let [sequences, tokens] = ["sequences", "tokens"].map(|name| step["args"][name].as_u64().unwrap());
            assert!((1..=4).contains(&sequences) && tokens >= sequences, "{step}");
        }
        let tokens: u64 = spans(&trace, "step").map(|step| step["args"]["tokens"].as_u64().unwrap()).sum();
        assert_eq!(tokens, prefill.tokens + decode.tokens);
        let calls: u64 = report.operations.iter().map(|operation| operation.calls).sum();
        assert_eq!(spans(&trace, "operation").count() as u64, calls);
    }
}

#[test]
fn a_trace_has_the_fields_of_the_format_and_its_spans_lie_inside_each_other() {
    let options = RecorderOptions { resident: || Some(7 << 20), ..RecorderOptions::default() };
    let (_, trace, _, _) = profile("bitnet-b1.58", options);
    assert_eq!((&trace["displayTimeUnit"], &trace["otherData"]["events_left_out"]), (&"ms".into(), &0.into()));
    let end = |event: &Value| event["ts"].as_f64().unwrap() + event["dur"].as_f64().unwrap();
    // Outer spans stand first, so the last of each level is the one around this.
    let (mut around, mut counters) = ([const { None::<&Value> }; 4], 0);
    for event in trace["traceEvents"].as_array().unwrap() {
        assert!(event["pid"].is_u64() && event["tid"].is_u64() && event["ts"].as_f64().unwrap() >= 0.0, "{event}");
        match event["ph"].as_str().unwrap() {
            "X" => {
                let level = ["step", "pass", "layer", "operation"].iter().position(|cat| event["cat"] == *cat).unwrap();
                for outer in around[..level].iter().flatten().filter(|outer| end(outer) > event["ts"].as_f64().unwrap())
                {
                    // Rounding of three decimals of a microsecond.
                    assert!(end(event) <= end(outer) + 1e-3, "{event} in {outer}");
                }
                around[level] = Some(event);
            }
            "C" => {
                assert_eq!((&event["name"], &event["args"]["process"]), (&"memory".into(), &(7 << 20).into()));
                assert!(event["args"]["activations"].as_u64().unwrap() > 0);
                counters += 1;
            }
            other => assert_eq!(other, "M"),
        }
    }
    assert!(counters > 1);
    let is_down = |name: &Value| name.as_str().is_some_and(|name| name.contains(".1.") && name.contains("down"));
    let down = spans(&trace, "operation").find(|event| is_down(&event["args"]["tensor"])).unwrap();
    let args = &down["args"];
    assert_eq!((&down["name"], &args["layer"]), (&"linear".into(), &1.into()));
    let [rows, cols] = [0, 1].map(|i| args["shape"][i].as_u64().unwrap());
    let tokens = args["tokens"].as_u64().unwrap();
    let weights = by_name(args["format"].as_str().unwrap()).unwrap().size(rows, cols).unwrap();
    assert_eq!(args["bytes"], weights + 4 * tokens * (rows + cols));
    assert_eq!(args["operations"], 2 * tokens * rows * cols);
    for (rate, count) in [("GB/s", "bytes"), ("GOPS", "operations")] {
        let expected = args[count].as_f64().unwrap() / down["dur"].as_f64().unwrap() / 1e3;
        assert!((args[rate].as_f64().unwrap() / expected - 1.0).abs() < 1e-6, "{down}");
    }
}

#[test]
fn a_trace_that_is_cut_says_so_and_the_report_is_whole() {
    let (whole, ..) = profile("llama", RecorderOptions::default());
    let (report, trace, ..) = profile("llama", RecorderOptions { events: 50, ..RecorderOptions::default() });
    let spans = trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X").count();
    assert_eq!((spans, &trace["otherData"]["events_left_out"]), (50, &report.left_out.into()));
    assert!(report.left_out > 0);
    let last = trace["traceEvents"].as_array().unwrap().last().unwrap();
    assert!(last["ph"] == "i" && last["name"].as_str().unwrap().contains(&report.left_out.to_string()), "{last}");
    let calls = |report: &ProfileReport| report.operations.iter().map(|operation| operation.calls).sum::<u64>();
    assert_eq!(calls(&report), calls(&whole));
    let (_, shallow, steps, _) = profile("llama", RecorderOptions { depth: 1, ..RecorderOptions::default() });
    let all = shallow["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X").count();
    assert_eq!(all, steps);
}

#[test]
fn the_last_level_has_what_each_thread_does_of_the_operations() {
    let (_, trace, ..) = profile("llama", RecorderOptions { depth: 5, ..RecorderOptions::default() });
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |category: &'static str| events.iter().filter(move |event| event["cat"] == category);
    let time = |event: &Value| (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap());
    for tid in [2, 3] {
        let spans: Vec<&Value> = of("kernel").filter(|event| event["tid"] == tid).collect();
        // Few loops of so small a model are worth another thread.
        assert!(tid == 3 || !spans.is_empty());
        for span in spans {
            let (start, dur) = time(span);
            let inside = of("operation").any(|operation| {
                let (begin, long) = time(operation);
                operation["name"] == span["name"] && begin <= start && start + dur <= begin + long + 1.0
            });
            assert!(inside && span["args"]["tasks"].as_u64() > Some(0), "{span}");
        }
    }
    assert!(events.iter().any(|event| event["args"]["name"] == "kernels of thread 1"));
    let (_, usual, ..) = profile("llama", RecorderOptions::default());
    assert!(!usual.to_string().contains("kernel"));
}

#[test]
fn the_snapshot_counts_what_the_file_and_the_cache_hold() {
    let recorder = Recorder::default();
    let file = trine_tensor::File::open(folder("llama")).unwrap();
    let engine = open_on(&folder("llama"), device(&recorder), &OPTIONS).unwrap();
    let memory = recorder.report().memory;
    let weights: u64 = file.tensors().map(|view| view.bytes.len() as u64).sum();
    assert_eq!(memory.weights.iter().map(|&(_, _, bytes)| bytes).sum::<u64>(), weights);
    let (spec, blocks) = (engine.spec(), engine.load().blocks * trine_engine::BLOCK_LEN);
    assert_eq!(memory.kv_cache as usize, spec.n_layers * blocks * spec.n_kv_heads * spec.head_dim * 8);
    assert!(memory.biggest.len() == 10 && memory.biggest.is_sorted_by(|a, b| a.bytes >= b.bytes));
    assert_eq!(memory.resident, None);
}
