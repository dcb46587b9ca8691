//! Writes a model as a GGUF file, tensor by tensor: pieces of rows are decoded, encoded and checked by threads that live as long as the run,
//! and written in order. What is in memory is one tensor as it is read, and a few pieces for each thread.

use super::encode::importance_of;
use super::guard::ternarized;
use super::profile::{ConversionProfile, Laps, Stage};
use super::{Error, Plan};
use crate::receipt::{Provenance, SigningKey, hash_together};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use trine_kernels::tables;
use trine_model::GgufModel;
use trine_tensor::format::{Layout, Loss};
use trine_tensor::gguf::ShardedWriter;
use trine_tensor::receipt::SealedTensor;
use trine_tensor::{Bytes, File, Format, Replacement, TensorInfo, View, gguf};

/// Weights of a piece of work. A thread is done with it in far less than a second, in any format.
const PIECE: usize = 1 << 15;
/// Pieces that each thread has ahead.
const AHEAD: usize = 4;
/// Bytes read after which pages of the input are given back.
const RELEASE: u64 = 16 << 20;

/// Checks that the new file can be written, and is no file of the input.
///
/// # Errors
/// When it cannot, or is one.
pub fn check_output(input: &File, output: &Path) -> Result<(), Error> {
    let same = |a: &Path, b: &Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if input.files().iter().any(|file| same(file, output)) {
        return Err(Error::SameFile { path: input.path().display().to_string() });
    }
    if let Some(extension) = output.extension().filter(|extension| !extension.eq_ignore_ascii_case("gguf")) {
        let (path, extension) = (output.display().to_string(), extension.display().to_string());
        return Err(Error::Extension { path, extension });
    }
    Ok(Replacement::check(output)?)
}

/// Writes `model` to the GGUF file `output` as `plan` says, with a receipt if its provenance is known. `progress` gets how many bytes of the
/// input's tensors are done, and may break off. Each tensor is checked: its weights are finite, and after encoding they are the same but for
/// the rounding of the format. `profile` learns what each took. Gives the paths of the files, which are several if the plan has a size of shards that one would exceed.
///
/// # Errors
/// When a file cannot be read or written, or a format cannot hold the weights; then `output` stays as it was.
pub fn write(
    model: &GgufModel,
    plan: &Plan,
    output: &Path,
    provenance: Option<&Provenance>,
    profile: Option<&mut ConversionProfile>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Vec<PathBuf>, Error> {
    check_output(model.file(), output)?;
    let max = plan.shard_size.unwrap_or(u64::MAX);
    let files = provenance.map_or(Vec::new(), |provenance| provenance.files(model));
    let receipt =
        provenance.map(|provenance| (provenance.receipt(model, &files), provenance.sign.map(SigningKey::signer)));
    let mut writer = gguf::create_shards(output, &plan.metadata, plan.entries(), max, receipt)?;
    // Both the tensors and whoever waits for the hashes tell how far it is.
    let progress = RefCell::new(progress);
    let tell = |bytes: u64| (progress.borrow_mut())(bytes);
    let work = || tensors(model, plan, &mut writer, profile, &mut { tell });
    let wait = |()| match tell(plan.bytes_before()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Cancelled),
    };
    let ((), sources) = hash_together(&files, work, wait)?;
    if let Some(receipt) = writer.receipt_mut() {
        receipt.sources = sources;
    }
    Ok(if plan.replace { writer.finish() } else { writer.finish_new() }?)
}

/// The hashes of the tensors that [`write`](fn@write) would write.
pub(crate) fn rehearse(
    model: &GgufModel,
    plan: &Plan,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Vec<SealedTensor>, Error> {
    let mut writer = gguf::rehearse(plan.entries());
    tensors(model, plan, &mut writer, None, progress)?;
    Ok(writer.receipt().expect("it rehearses one").tensors.clone())
}

/// Writes all tensors.
fn tensors(
    model: &GgufModel,
    plan: &Plan,
    writer: &mut ShardedWriter,
    profile: Option<&mut ConversionProfile>,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<(), Error> {
    pooled(progress, profile, |pool| {
        for (i, tensor) in plan.tensors.iter().enumerate() {
            pool.next(tensor.bytes_before, model)?;
            let view = pool.read(&tensor.info, || {
                let view = model.read(i)?;
                Ok(if plan.ternarize && tensor.becomes_ternary() { ternarized(&view)?.0 } else { view })
            })?;
            let importance = importance_of(plan.imatrix.as_deref(), &tensor.info.name);
            pool.rewrite(view, importance, &tensor.info, tensor.bytes_before, writer)?;
        }
        pool.next(0, model)
    })
}

/// Runs `all` with threads that do its work.
pub(super) fn pooled(
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    mut profile: Option<&mut ConversionProfile>,
    all: impl FnOnce(&mut Pool) -> Result<(), Error>,
) -> Result<(), Error> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let ((jobs, received), (finished, done)) = (channel(), channel());
    let received = Mutex::new(received);
    let recorder = profile.as_ref().map(|profile| profile.recorder().clone());
    profile.iter().for_each(|profile| profile.start());
    let result = std::thread::scope(|scope| {
        for thread in 0..threads {
            let (received, finished) = (&received, finished.clone());
            let laps = Laps::new(recorder.as_ref(), thread);
            scope.spawn(move || work(received, &finished, laps));
        }
        let (spare, most, profile) = (Vec::new(), threads * AHEAD, profile.as_deref_mut());
        all(&mut Pool { jobs, done, spare, most, bytes: 0, size: 0, unreleased: 0, progress, profile })
    });
    profile.iter().for_each(|profile| profile.finish());
    result
}

/// What is done with all rows of a tensor.
struct Task {
    view: View,
    work: Work,
    /// How much each column matters, `[experts, cols]` or `[cols]`.
    importance: Option<Vec<f32>>,
}

impl Task {
    fn new(view: View, work: Work) -> Task {
        Task { view, work, importance: None }
    }

    /// Rows that have the same importance.
    fn rows_alike(&self) -> usize {
        let parts = self.importance.as_ref().map_or(1, |importance| importance.len() / self.view.cols());
        self.view.rows() / parts
    }

    /// How much the columns of these rows matter.
    fn importance_of(&self, rows: &Range<usize>) -> Option<&[f32]> {
        let cols = self.view.cols();
        Some(&self.importance.as_ref()?[rows.start / self.rows_alike() * cols..][..cols])
    }
}

#[derive(Clone, Copy)]
enum Work {
    /// Weights are checked, nothing is written.
    Check,
    /// The same, and the largest magnitude is found.
    Measure,
    /// Rows are encoded in a format; if it has one scale for the whole tensor, that of a weight of this magnitude.
    Encode(&'static Format, Option<f32>),
}

struct Job {
    task: Arc<Task>,
    rows: Range<usize>,
    /// A buffer for the encoded rows.
    out: Vec<u8>,
}

struct Done {
    job: Job,
    /// The encoded rows, within [`Job::out`].
    encoded: Range<usize>,
    result: Result<Loss, Error>,
    /// What the thread did, where that is wanted.
    times: [Duration; 3],
}

/// What a thread uses again for each piece.
#[derive(Default)]
struct Scratch {
    weights: Vec<f32>,
    again: Vec<f32>,
}

/// Takes pieces of work until there are no more.
fn work(jobs: &Mutex<Receiver<Job>>, done: &Sender<Done>, mut laps: Laps) {
    let mut scratch = Scratch::default();
    let next = || jobs.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).recv();
    while let Ok(mut job) = next() {
        let mut encoded = 0..0;
        laps.begin();
        let result = scratch.work(&mut job, &mut encoded, &mut laps);
        // Whoever broke off does not wait for it.
        let _ = done.send(Done { job, encoded, result, times: laps.times() });
    }
}

impl Scratch {
    fn work(&mut self, job: &mut Job, encoded: &mut Range<usize>, laps: &mut Laps) -> Result<Loss, Error> {
        let (view, rows) = (&job.task.view, job.rows.clone());
        let (cols, len) = (view.cols(), rows.len() * view.cols());
        let stride = view.format.row_bytes(cols).expect("whole blocks");
        let bytes = &view.bytes[rows.start * stride..rows.end * stride];
        view.check_rows(rows.start, bytes)?;
        // The encoder takes the scale from the largest weight, which is put before the others.
        let before = match job.task.work {
            Work::Encode(format, Some(scale)) => {
                self.weights.clear();
                self.weights.push(scale);
                format.block
            }
            _ => 0,
        };
        self.weights.resize(before + len, 0.0);
        let (ahead, weights) = self.weights.split_at_mut(before);
        if let Some((_, zeros)) = ahead.split_first_mut() {
            zeros.fill(0.0);
        }
        decode(view.format, bytes, view.tail(), cols, weights);
        if weights.iter().fold(false, |bad, w| bad | !w.is_finite()) {
            let found = weights.iter().copied().find(|w| !w.is_finite()).unwrap_or(f32::NAN);
            return Err(Error::NotFinite { tensor: view.name.clone(), found });
        }
        laps.lap(Stage::Decode);
        let mut loss = Loss::default();
        match job.task.work {
            Work::Check => {}
            Work::Measure => loss.add(weights, weights),
            Work::Encode(format, _) => {
                let stride = format.row_bytes(cols).expect("a format that fits");
                let (skip, size) = (before / format.block * format.bytes, rows.len() * stride);
                job.out.clear();
                job.out.resize(skip + size + format.tail, 0);
                let table = tables().next().expect("the scalar table is always there");
                let importance = job.task.importance_of(&rows);
                match format.layout {
                    Layout::Headed(_) => {
                        let rows = weights.chunks_exact(cols).zip(job.out.chunks_exact_mut(stride));
                        rows.for_each(|(weights, out)| table.encode(format, weights, importance, out));
                    }
                    _ => table.encode(format, &self.weights, importance, &mut job.out),
                }
                laps.lap(Stage::Encode);
                *encoded = skip..skip + size;
                let (bytes, tail) = job.out[skip..].split_at(size);
                self.again.resize(len, 0.0);
                decode(format, bytes, tail, cols, &mut self.again);
                loss.add(&self.weights[before..], &self.again);
                laps.lap(Stage::Check);
            }
        }
        Ok(loss)
    }
}

/// Decodes rows.
fn decode(format: &Format, bytes: &[u8], tail: &[u8], cols: usize, out: &mut [f32]) {
    match format.layout {
        Layout::Headed(_) => {
            let stride = format.row_bytes(cols).expect("whole blocks");
            let rows = bytes.chunks_exact(stride).zip(out.chunks_exact_mut(cols));
            rows.for_each(|(bytes, out)| (format.decode)(bytes, tail, out));
        }
        _ => (format.decode)(bytes, tail, out),
    }
}

/// Gets the rows of a piece, and what they became.
type Take<'a> = dyn FnMut(Range<usize>, &[u8]) -> Result<(), Error> + 'a;

/// Threads that work, and who waits for them.
pub(super) struct Pool<'a> {
    jobs: Sender<Job>,
    done: Receiver<Done>,
    /// Buffers that nobody uses.
    spare: Vec<Vec<u8>>,
    /// Pieces that are worked on at once.
    most: usize,
    /// Bytes of the tensors that are done, and of the one that is worked on.
    bytes: u64,
    size: u64,
    /// Bytes read since pages were given back.
    unreleased: u64,
    progress: &'a mut dyn FnMut(u64) -> ControlFlow<()>,
    profile: Option<&'a mut ConversionProfile>,
}

impl Pool<'_> {
    /// Tells that so many bytes of a tensor are done, and asks whether to go on.
    fn proceed(&mut self, within: u64) -> Result<(), Error> {
        match (self.progress)(self.bytes + within) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    }

    /// Ends the work on a tensor, and begins that on the next, of so many bytes.
    pub fn next(&mut self, size: u64, model: &GgufModel) -> Result<(), Error> {
        if self.size > 0
            && let Some(profile) = &mut self.profile
        {
            profile.end_tensor();
        }
        self.unreleased += self.size;
        if self.unreleased > RELEASE {
            model.release();
            self.unreleased = 0;
        }
        self.bytes += std::mem::replace(&mut self.size, size);
        self.proceed(0)
    }

    /// Reads a tensor, which will be written in the format of `info`.
    pub fn read(&mut self, info: &TensorInfo, read: impl FnOnce() -> Result<View, Error>) -> Result<View, Error> {
        self.profile.iter_mut().for_each(|profile| profile.begin_tensor(info));
        let view = read()?;
        self.profile.iter_mut().for_each(|profile| profile.end_read(&view));
        Ok(view)
    }

    /// Writes a part of a tensor.
    pub fn write<T>(&mut self, write: impl FnOnce() -> T) -> T {
        match &mut self.profile {
            Some(profile) => profile.write(write),
            None => write(),
        }
    }

    /// Writes a tensor, which has `size` bytes, in the format of `info`.
    pub fn rewrite(
        &mut self,
        view: View,
        importance: Option<Vec<f32>>,
        info: &TensorInfo,
        size: u64,
        writer: &mut ShardedWriter,
    ) -> Result<(), Error> {
        let format = info.format;
        if view.format == format {
            let bytes = view.stored()?;
            let mut rest: Bytes = bytes;
            let view = view.by_rows();
            let stride = rest.len() / view.rows();
            self.run(Task::new(view, Work::Check), size, &mut |rows, _| {
                Ok(writer.part(&rest.split_to(rows.len() * stride))?)
            })?;
            return self.write(|| {
                writer.part(&rest)?;
                Ok(writer.end_tensor()?)
            });
        }
        let view = view.by_rows();
        let by_rows = format.matrix_layout().map_or(format, |layout| layout.rows);
        let scale = match by_rows.tail {
            0 => None,
            _ => Some(self.run(Task::new(view.clone(), Work::Measure), 0, &mut |_, _| Ok(()))?.largest()),
        };
        let importance = importance.filter(|_| scale.is_none());
        let has_zeros = importance.as_ref().is_some_and(|importance| importance.contains(&0.0));
        let task = Task { view, work: Work::Encode(by_rows, scale), importance };
        // The scale of a tensor as its format writes it.
        let tail = scale.map_or(Vec::new(), |scale| {
            let mut block = vec![0.0; by_rows.block];
            block[0] = scale;
            by_rows.encode(&block).split_off(by_rows.bytes)
        });
        let loss = if format.matrix_layout().is_some() {
            let mut whole = vec![0; info.size()? as usize];
            let body = whole.len() - format.tail;
            whole[body..].copy_from_slice(&tail);
            let loss = self.run(task, size, &mut |rows, encoded| {
                Ok(info.place_rows(rows.start, encoded, &mut whole[..body])?)
            })?;
            self.write(|| writer.tensor(&whole))?;
            loss
        } else {
            let loss = self.run(task, size, &mut |_, encoded| Ok(writer.part(encoded)?))?;
            self.write(|| {
                writer.part(&tail)?;
                writer.end_tensor()
            })?;
            loss
        };
        if format.encodes_trits() && !loss.is_ternary() {
            let (worst, nearest) = loss.worst();
            return Err(Error::NotTernary { tensor: info.name.clone(), format: format.name, worst, nearest });
        }
        loss.check(info).map_err(|error| match error {
            trine_tensor::Error::Lossy { tensor, format, weight, encoded } if has_zeros => {
                Error::Unimportant { tensor, format, weight, encoded }
            }
            other => other.into(),
        })
    }

    /// Does a task in pieces. `take` gets the rows of each and what they became, in order.
    fn run(&mut self, task: Task, size: u64, take: &mut Take) -> Result<Loss, Error> {
        let (rows, alike) = (task.view.rows(), task.rows_alike());
        // Pieces of equal size, none of which has rows of two experts.
        let most = (PIECE / task.view.cols()).clamp(1, alike);
        let each =
            if alike == rows { most } else { (1..=most).rev().find(|each| alike.is_multiple_of(*each)).unwrap_or(1) };
        let task = Arc::new(task);
        let mut ahead = (0..rows.div_ceil(each)).map(|i| i * each..rows.min((i + 1) * each));
        let mut pieces: VecDeque<Option<Done>> = VecDeque::new();
        let (mut loss, mut taken) = (Loss::default(), 0);
        loop {
            while pieces.len() < self.most
                && let Some(rows) = ahead.next()
            {
                let job = Job { task: task.clone(), rows, out: self.spare.pop().unwrap_or_default() };
                self.jobs.send(job).expect("threads wait for work");
                pieces.push_back(None);
            }
            if pieces.is_empty() {
                return Ok(loss);
            }
            let done = self.done.recv().expect("threads work");
            let index = done.job.rows.start / each - taken;
            pieces[index] = Some(done);
            while let Some(Some(_)) = pieces.front()
                && let Some(Some(Done { job, encoded, result, times })) = pieces.pop_front()
            {
                loss.merge(result?);
                self.profile.iter_mut().for_each(|profile| profile.threads(times));
                self.write(|| take(job.rows.clone(), &job.out[encoded]))?;
                self.spare.push(job.out);
                taken += 1;
                self.proceed(size * job.rows.end as u64 / rows as u64)?;
            }
        }
    }
}
