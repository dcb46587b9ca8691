//! The memory and work of a run, before it starts: a step is run on a backend of sizes, without numbers.

use crate::adjoint::{Adjoint, Rounding};
use crate::config::{Config, WeightQuantization};
use crate::data::Documents;
use crate::setup::{cpu_options, formats, language};
use crate::tape::{Parameter, Tape};
use crate::teacher::TeacherPlan;
use crate::{Result, init};
use trine_backend::{BLOCK_LEN, Backend, Batch, CacheId, CacheType, CpuPlan, Error, KvShape, Role, WeightBytes};
use trine_model::{Language, Model, Sizes, Spec, open_file};
use trine_tensor::format::F32;
use trine_tensor::{File, OpenOptions, memory};

/// Estimates for a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    pub parameters: u64,
    pub memory: PlanMemory,
    /// Floating-point operations of matrix products per token, forward and backward.
    pub flops_per_token: f64,
    pub steps: u64,
    /// Target tokens of all steps.
    pub tokens: u64,
}

/// Memory by purpose, in bytes: what a process takes that runs it, within 5 % and a few MiB. The pages of texts and checkpoints that it reads, which
/// the system may take back, do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PlanMemory {
    /// Master weights and effective weights.
    pub weights: u64,
    pub gradients: u64,
    pub optimizer: u64,
    /// Activations that the backward pass needs, and those in use; what kernels need; and copies of a weight that is updated, quantized or written.
    pub activations: u64,
    /// The weights, activations and logits of the teacher.
    pub teacher: u64,
    /// What the process had before: the program itself, and the vocabulary. 0 where the system does not tell.
    pub program: u64,
    pub total: u64,
}

/// Layers that are run one by one. More would take long, and every layer takes as much as the one before.
const LAYERS: usize = 128;
/// The tokens of a pass that is run: of one that has more, some of its sequences.
const TOKENS: usize = 1 << 22;

/// Estimates memory and work without starting the run.
///
/// # Errors
/// When the configuration is invalid, or the tokenizer or a model cannot be read.
pub fn plan(config: &Config) -> Result<Plan> {
    config.check()?;
    // Whether all files are there.
    Documents::open(&config.data.files, &config.data.separator, &config.data.field)?;
    let (steps, batch, sequence) = (config.train.steps, config.train.batch, config.train.sequence);
    let language = language(config)?;
    let (file, spec) = match &config.model.from {
        Some(path) => {
            let file = open_file(path, &OpenOptions::default())?;
            let spec = Spec::of(&file)?;
            (file, spec)
        }
        None => {
            let sizes = init::sizes(&config.model, Language::of_metadata(&language)?.tokenizer.len(), sequence)?;
            let file = init::shapes(&Sizes { n_layers: sizes.n_layers.min(LAYERS), ..sizes })?;
            let mut spec = Spec::of(&file)?;
            spec.sizes.n_layers = sizes.n_layers;
            (file, spec)
        }
    };
    formats(config, &spec)?;
    let pass = PlannedPass::of(config);
    let teacher = config.distill.as_ref();
    let teacher = teacher.map(|distill| TeacherPlan::new(distill, config, &pass, &language)).transpose()?;
    let needs = |layers| {
        let mut spec = spec.clone();
        spec.sizes.n_layers = layers;
        Needs::of(config, &file, &spec, &pass, teacher.as_ref())
    };
    let needs = match spec.n_layers {
        layers if layers <= LAYERS => needs(layers)?,
        layers => needs(LAYERS / 2)?.extended(&needs(LAYERS)?, layers),
    };
    let Needs { parameters, effective, states, products, activations } = needs;
    let mut memory = PlanMemory {
        weights: 4 * parameters + effective,
        gradients: 4 * parameters,
        optimizer: 4 * states,
        activations,
        teacher: teacher.map_or(0, |teacher| teacher.bytes),
        program: memory::resident().unwrap_or(0),
        total: 0,
    };
    let PlanMemory { weights, gradients, optimizer, activations, teacher, program, .. } = memory;
    memory.total = weights + gradients + optimizer + activations + teacher + program;
    let attention = 4.0 * (sequence as f64 + 1.0) / 2.0 * (spec.n_layers * spec.n_heads * spec.head_dim) as f64;
    Ok(Plan {
        parameters,
        memory,
        flops_per_token: 3.0 * (2.0 * products as f64 + attention),
        steps,
        tokens: steps * (batch * sequence) as u64,
    })
}

/// The tokens of a pass.
pub(crate) struct PlannedPass {
    pub batch: Batch,
    /// KV blocks of the batch.
    pub blocks: usize,
    /// Sequences of the batch, and of the real one.
    sequences: [u64; 2],
}

impl PlannedPass {
    /// A micro-batch in which each sequence is one document.
    fn of(config: &Config) -> PlannedPass {
        let (sequence, all) = (config.train.sequence, config.train.micro_batch.unwrap_or(config.train.batch));
        let sequences = all.min((TOKENS / sequence).max(1));
        let (ids, each, mut batch) = (vec![0; sequence], sequence.div_ceil(BLOCK_LEN), Batch::new());
        for first in (0..sequences * each).step_by(each) {
            let blocks: Vec<u32> = (first..first + each).map(|block| block as u32).collect();
            batch.push(&ids, 0, &blocks, sequence);
        }
        PlannedPass { batch, blocks: sequences * each, sequences: [sequences, all].map(|n| n as u64) }
    }

    /// What takes these bytes for the batch, for the real one.
    pub fn scaled(&self, bytes: u64) -> u64 {
        let [sequences, all] = self.sequences;
        if all > sequences { (bytes / sequences).saturating_mul(all) } else { bytes }
    }

    /// Creates a cache for a model.
    ///
    /// # Errors
    /// As [`Backend::create_cache`].
    pub fn cache<B: Backend>(&self, backend: &mut B, spec: &Spec) -> std::result::Result<CacheId, Error> {
        backend.create_cache(spec.kv_shape(self.blocks, CacheType::F32))
    }
}

/// What a model needs that is trained.
struct Needs {
    parameters: u64,
    /// Bytes of effective weights.
    effective: u64,
    /// Elements of optimizer states.
    states: u64,
    /// Weights that each token is multiplied by.
    products: u64,
    /// Bytes.
    activations: u64,
}

impl Needs {
    /// Runs a step of a model, and what happens between steps.
    fn of(
        config: &Config,
        file: &File,
        spec: &Spec,
        pass: &PlannedPass,
        teacher: Option<&TeacherPlan>,
    ) -> Result<Needs> {
        let mut tape = Tape::of(CpuPlan::new(&cpu_options(config))?, config);
        let blends = config.quantization.warm_in > 0 && config.quantization.weights == WeightQuantization::Ternary;
        if blends {
            tape.set_inner(Rounding::Blend(0.0));
        }
        let model = Model::load_shapes(&mut tape, file, spec, false)?;
        let loaded = tape.device.activations();
        let cache = pass.cache(&mut tape, spec)?;

        let logits = model.forward(&mut tape, cache, &pass.batch)?;
        let mut dlogits = tape.device.cross_entropy(logits.value(), &[], 1.0, &mut Vec::new());
        if let Some(teacher) = teacher {
            teacher.plan_logits(&mut tape.device, logits.value(), &mut dlogits);
        }
        tape.backward(logits, dlogits)?;
        if config.data.validation > 0.0 {
            let logits = tape.no_grad(|tape| model.forward(tape, cache, &pass.batch))?;
            tape.device.cross_entropy(logits.value(), &[], 0.0, &mut Vec::new());
        }
        let mut copies = 0;
        for i in 0..tape.params.len() {
            tape.effective_weights(i);
            let param = &tape.params[i];
            let (weight, rule, len) =
                (param.effective(), config.optimizer.name.rule(param.is_inner()), param.len() as u64);
            let effective = weight.format().size(weight.rows() as u64, weight.cols() as u64).unwrap_or(0);
            // Quantized by way of floats, updated, or decoded and encoded again.
            let floats = if blends || weight.format() == &F32 && param.is_inner() { 4 * len } else { 0 };
            let updated = (rule.scratch)([weight.rows(), weight.cols()]) as u64;
            copies = copies.max(effective + floats).max(updated).max(4 * len + effective);
        }
        let kv_cache =
            KvShape { n_layers: 1, ..spec.kv_shape(pass.blocks, CacheType::F32) }.bytes().unwrap_or(usize::MAX) as u64;
        let activations = tape.device.activations() - loaded;

        let has_head = tape.params.iter().any(|param| param.role == Role::Head);
        let is_product =
            |param: &&Parameter<CpuPlan>| param.shape.len() == 2 && !(has_head && param.role == Role::Embedding);
        let len = |param: &Parameter<CpuPlan>| param.len() as u64;
        let states =
            |param: &Parameter<CpuPlan>| config.optimizer.name.rule(param.is_inner()).states.len() as u64 * len(param);
        let WeightBytes { mapped, held, copied, .. } = tape.device.weights();
        Ok(Needs {
            parameters: tape.params.iter().map(len).sum(),
            effective: mapped + held + copied,
            states: tape.params.iter().map(states).sum(),
            products: tape.params.iter().filter(is_product).map(len).sum(),
            activations: pass.scaled(activations + kv_cache) + copies,
        })
    }

    /// What `layers` need, where these are the needs of half of [`LAYERS`], and `all` those of all of them.
    fn extended(&self, all: &Needs, layers: usize) -> Needs {
        let more = |need: fn(&Needs) -> u64| {
            need(all) + (need(all) - need(self)) / (LAYERS / 2) as u64 * (layers - LAYERS) as u64
        };
        Needs {
            parameters: more(|needs| needs.parameters),
            effective: more(|needs| needs.effective),
            states: more(|needs| needs.states),
            products: more(|needs| needs.products),
            activations: more(|needs| needs.activations),
        }
    }
}
