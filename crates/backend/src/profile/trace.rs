//! The trace as a file for Perfetto and `chrome://tracing`: "Trace Event Format", the JSON object form.

use super::record::{Record, TraceEvent};
use super::recorder::Recorder;
use super::report::rate;
use serde::Serialize;
use std::cmp::Reverse;
use std::io::{self, Write};
use std::time::Duration;

/// The only process, and the thread that calls the others.
const PID: u32 = 1;
const TID: u32 = 1;

/// A span (`ph` X), a counter (C), metadata (M) or a point in time (i).
#[derive(Serialize)]
struct TensorInfo<'a, A> {
    name: &'a str,
    cat: &'a str,
    ph: &'a str,
    /// Microseconds since the recorder's first start.
    ts: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    pid: u32,
    tid: u32,
    args: A,
}

/// What is known about a span.
#[derive(Default, Serialize)]
struct Args<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    sequences: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tensor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shape: Option<&'a [usize]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(rename = "GB/s", skip_serializing_if = "Option::is_none")]
    bandwidth: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operations: Option<u64>,
    #[serde(rename = "GOPS", skip_serializing_if = "Option::is_none")]
    gops: Option<f64>,
}

#[derive(Serialize)]
struct Name<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Tasks {
    tasks: usize,
}

#[derive(Serialize)]
struct Memory {
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<u64>,
    activations: usize,
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1000.0
}

fn entry<'a, A>(name: &'a str, ph: &'a str, at: Duration, args: A) -> TensorInfo<'a, A> {
    TensorInfo { name, cat: "", ph, ts: micros(at), dur: None, pid: PID, tid: TID, args }
}

/// Names of the levels that the first row has.
const CATEGORIES: [&str; 4] = ["step", "pass", "layer", "operation"];
const OPERATIONS: u8 = 3;

fn span<'a>(record: &'a Record, event: &'a TraceEvent) -> TensorInfo<'a, Args<'a>> {
    let tensor = event.tensor.map(|tensor| &record.tensors[tensor as usize]);
    let some = |n: u64| Some(n).filter(|&n| n > 0);
    // A step that is about a tensor has its name, and writes it.
    let about = tensor.filter(|_| event.level == 0);
    let (name, bytes) = about.map_or((event.name, event.bytes), |tensor| (&tensor.name, tensor.bytes as u64));
    let args = Args {
        sequences: Some(event.sequences).filter(|&sequences| sequences > 0),
        tokens: Some(event.rows).filter(|&rows| rows > 0),
        layer: event.layer,
        tensor: tensor.map(|tensor| tensor.name.as_str()),
        format: tensor.map(|tensor| tensor.format),
        shape: tensor.map(|tensor| tensor.shape.as_slice()),
        bytes: some(bytes),
        bandwidth: rate(bytes, event.time),
        operations: some(event.operations),
        gops: rate(event.operations, event.time),
    };
    let (cat, dur) = (CATEGORIES[event.level as usize], Some(micros(event.time)));
    TensorInfo { cat, dur, ..entry(name, "X", event.start, args) }
}

impl Recorder {
    /// Writes the trace, which Perfetto (<https://ui.perfetto.dev>) and `chrome://tracing` open. When events were left out, its end says so.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_trace(&self, out: &mut impl Write) -> io::Result<()> {
        let mut record = self.lock();
        // A span stands before those inside it.
        record.events.sort_by_key(|event| (event.start, event.level, Reverse(event.time)));
        let (mut comma, left_out) = ("", record.left_out);
        write!(out, "{{\"displayTimeUnit\":\"ms\",\"otherData\":{{\"events_left_out\":{left_out}")?;
        for (name, value) in &record.notes {
            write!(out, ",\"{name}\":{value}")?;
        }
        write!(out, "}},\"traceEvents\":[")?;
        for (name, value) in [("process_name", "trine"), ("thread_name", record.options.thread)] {
            line(out, &mut comma, &entry(name, "M", Duration::ZERO, Name { name: value }))?;
        }
        for (thread, spans) in record.threads.iter().enumerate() {
            let (tid, name) = (TID + 1 + thread as u32, format!("thread {thread}"));
            let named = entry("thread_name", "M", Duration::ZERO, Name { name: &name });
            line(out, &mut comma, &TensorInfo { tid, ..named })?;
            for span in spans {
                let dur = Some(micros(span.time));
                let args = Args::default();
                line(
                    out,
                    &mut comma,
                    &TensorInfo { tid, dur, cat: "kernel", ..entry(span.name, "X", span.start, args) },
                )?;
            }
        }
        // The engine's own part of a loop is on a row of its own, too: its operations have more in them.
        let operations: Vec<&TraceEvent> = record.events.iter().filter(|event| event.level == OPERATIONS).collect();
        for (thread, spans) in self.timeline.spans().iter().enumerate() {
            let (tid, name) = (TID + 1 + thread as u32, format!("kernels of thread {thread}"));
            let named = entry("thread_name", "M", Duration::ZERO, Name { name: &name });
            line(out, &mut comma, &TensorInfo { tid, ..named })?;
            for span in spans {
                let at = record.at(span.start);
                let before = operations.partition_point(|event| event.start <= at);
                let name = before.checked_sub(1).map_or("other", |i| operations[i].name);
                let dur = Some(micros(span.end - span.start));
                let args = Tasks { tasks: span.tasks };
                line(out, &mut comma, &TensorInfo { tid, dur, cat: "kernel", ..entry(name, "X", at, args) })?;
            }
        }
        for event in &record.events {
            line(out, &mut comma, &span(&record, event))?;
        }
        for sample in &record.samples {
            let args = Memory { process: sample.resident, activations: sample.activations };
            line(out, &mut comma, &entry("memory", "C", sample.at, args))?;
        }
        if left_out > 0 {
            let name = format!("the trace is cut here: {left_out} events were left out");
            let end = record.events.last().map_or(Duration::ZERO, |last| last.start + last.time);
            line(out, &mut comma, &entry(&name, "i", end, Args::default()))?;
        }
        writeln!(out, "\n]}}")
    }
}

fn line(out: &mut impl Write, comma: &mut &str, entry: &impl Serialize) -> io::Result<()> {
    writeln!(out, "{comma}")?;
    *comma = ",";
    serde_json::to_writer(out, entry)?;
    Ok(())
}
