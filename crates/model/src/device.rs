//! The devices that models run on. Above `backend`, only this file and training name one.

use crate::plan::on_cpu;
use crate::{Error, MemoryPlan, ModelOptions, OnDevice, Result, Runner, Spec, Workload};
use std::fmt;
use std::iter;
use std::ops::ControlFlow;
use std::str::FromStr;
use trine_backend::profile::{Profile, Recorder};
use trine_backend::{Backend, Compare, Cpu, CpuOptions, CpuPlan, Found, Observe, Observer, PlanLog, Tolerance, tables};
use trine_tensor::File;

/// A kind of device.
pub struct Device {
    /// What `--device` calls it.
    pub name: &'static str,
    pub about: &'static str,
    /// The variants that this machine has, best first; empty where there is no such device. `name:variant` selects one.
    pub probe: fn() -> Vec<&'static str>,
    /// Loads a model. The name's variant is one that `probe` gave, or `None` for the best.
    pub load: Load,
    /// The memory that a model will take on it.
    pub plan: Plan,
    /// The CPU that encodes weights for it.
    pub encoder: fn(Option<&'static str>, &DeviceOptions) -> Result<Cpu>,
    /// Loads a model on a CPU and on this device, to run side by side. The error that each operation may have is the device's own.
    pub compare: LoadBeside,
}

/// Loads a model on a variant of a device.
type Load = fn(&File, Option<&'static str>, &DeviceOptions, ModelOptions, &mut OnBytes) -> Result<Box<dyn Runner>>;

/// Plans a model on a variant of a device.
type Plan =
    fn(&File, &Spec, Option<&'static str>, &DeviceOptions, &Workload, Option<&mut PlanLog>) -> Result<MemoryPlan>;

/// Loads a model on a CPU and on a variant of a device.
type LoadBeside =
    fn(&File, Cpu, Option<&'static str>, &DeviceOptions, &mut OnBytes) -> Result<(Box<dyn Runner>, Found)>;

type OnBytes<'a> = dyn FnMut(u64) -> ControlFlow<()> + 'a;

/// Every kind of device, the preferred first. A new one is a row here and an implementation of [`Backend`].
pub static DEVICES: &[Device] = &[Device {
    name: "cpu",
    about: "this machine's CPU; its variants are instruction sets",
    probe: || tables().map(|table| table.name).collect(),
    load: |file, isa, options, model, progress| {
        let mut cpu = cpu(isa, options)?;
        if let Some(timeline) = options.profile.as_ref().and_then(Recorder::timeline) {
            cpu.watch(timeline);
        }
        on(cpu, file, options, model, progress)
    },
    plan: |file, spec, isa, options, work, log| {
        on_cpu(CpuPlan::new(&cpu_options(isa, options))?, file, spec, work, log)
    },
    encoder: |isa, options| cpu(isa, options),
    compare: |file, reference, isa, options, progress| {
        // All instruction sets give the same bits.
        side_by_side(file, reference, cpu(isa, options)?, |_| 0.0, progress)
    },
}];

fn cpu(isa: Option<&str>, options: &DeviceOptions) -> Result<Cpu> {
    Ok(Cpu::new(cpu_options(isa, options))?)
}

fn cpu_options(isa: Option<&str>, options: &DeviceOptions) -> CpuOptions {
    let mut options = options.cpu.clone();
    if let Some(table) = isa.and_then(|isa| tables().find(|table| table.name == isa)) {
        options.table = table;
    }
    options
}

/// Which device: `auto`, the name of one of [`DEVICES`], or `name:variant`, such as `cpu:avx2`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceName {
    /// The first of [`DEVICES`] that this machine has.
    #[default]
    Auto,
    Named {
        name: &'static str,
        variant: Option<&'static str>,
    },
}

impl DeviceName {
    /// All names on this machine.
    fn all() -> impl Iterator<Item = DeviceName> {
        let named = DEVICES.iter().flat_map(|&Device { name, probe, .. }| {
            let variants = iter::once(None).chain(probe().into_iter().map(Some));
            variants.map(move |variant| DeviceName::Named { name, variant })
        });
        iter::once(DeviceName::Auto).chain(named)
    }

    fn find(&self) -> (&'static Device, Option<&'static str>) {
        let (device, variant) = match *self {
            DeviceName::Auto => (DEVICES.iter().find(|device| !(device.probe)().is_empty()), None),
            DeviceName::Named { name, variant } => (DEVICES.iter().find(|device| device.name == name), variant),
        };
        (device.expect("every machine has a CPU"), variant)
    }
}

impl FromStr for DeviceName {
    type Err = Error;

    fn from_str(text: &str) -> Result<DeviceName> {
        DeviceName::all().find(|name| name.to_string() == text).ok_or_else(|| {
            let names: Vec<String> = DeviceName::all().map(|name| name.to_string()).collect();
            Error::UnknownDevice { found: text.to_owned(), expected: format!("one of {}", names.join(", ")) }
        })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            DeviceName::Auto => f.write_str("auto"),
            DeviceName::Named { name, variant: None } => f.write_str(name),
            DeviceName::Named { name, variant: Some(variant) } => write!(f, "{name}:{variant}"),
        }
    }
}

/// Where to run a model, and how.
#[derive(Clone, Default)]
pub struct DeviceOptions {
    pub device: DeviceName,
    /// How to run on a CPU. An instruction set that `device` names takes precedence.
    pub cpu: CpuOptions,
    /// Where to record what every operation takes.
    pub profile: Option<Recorder>,
    /// Where to record what matrices are multiplied with; nothing is profiled then.
    pub observer: Option<Observer>,
}

/// Loads the model of `file` on the device that the options name. `progress` is told the bytes of weights that are loaded, and may break
/// off.
///
/// # Errors
/// As [`OnDevice::load`], and when the device cannot be had.
pub fn load(
    file: &File,
    options: &DeviceOptions,
    model: ModelOptions,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Box<dyn Runner>> {
    let (device, variant) = options.device.find();
    (device.load)(file, variant, options, model, progress)
}

/// The memory that the model of `file`, whose specification is `spec`, will take on the device that the options name. No weight is read.
///
/// # Errors
/// When its tensors are not those of such a model.
pub fn plan(file: &File, spec: &Spec, options: &DeviceOptions, work: &Workload) -> Result<MemoryPlan> {
    let (device, variant) = options.device.find();
    (device.plan)(file, spec, variant, options, work, None)
}

/// [`plan`] with each weight and value that it counts.
///
/// # Errors
/// Those of [`plan`].
pub fn plan_log(file: &File, spec: &Spec, options: &DeviceOptions, work: &Workload) -> Result<PlanLog> {
    let (device, variant) = options.device.find();
    let mut log = PlanLog::default();
    (device.plan)(file, spec, variant, options, work, Some(&mut log))?;
    Ok(log)
}

/// The CPU that encodes weights for the device that the options name.
pub(crate) fn encoder(options: &DeviceOptions) -> Result<Cpu> {
    let (device, variant) = options.device.find();
    (device.encoder)(variant, options)
}

/// Loads the model of `file` on two devices, which run every operation side by side; the first one that differs by more than it may is left in
/// the second value. The reference is a CPU. `progress` is that of [`load`].
///
/// # Errors
/// As [`load`], and when `reference` is not a CPU.
pub fn load_side_by_side(
    file: &File,
    reference: &DeviceName,
    device: &DeviceName,
    options: &DeviceOptions,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<(Box<dyn Runner>, Found)> {
    let isa = match *reference {
        DeviceName::Auto => None,
        DeviceName::Named { name: "cpu", variant } => variant,
        _ => {
            let (found, expected) = (reference.to_string(), "cpu, or cpu with a variant, as the reference".to_owned());
            return Err(Error::UnknownDevice { found, expected });
        }
    };
    let (device, variant) = device.find();
    (device.compare)(file, cpu(isa, options)?, variant, options, progress)
}

fn side_by_side<B>(
    file: &File,
    reference: Cpu,
    device: B,
    tolerance: Tolerance,
    progress: &mut OnBytes,
) -> Result<(Box<dyn Runner>, Found)>
where
    B: Backend + Send + 'static,
    B::Weight: Send,
{
    let (backend, found) = Compare::new(reference, device, tolerance);
    let runner = OnDevice::load(backend, file, ModelOptions::default(), progress)?;
    Ok((Box::new(runner), found))
}

/// Loads a model on a backend, which is observed or profiled if the options say so.
fn on<B>(
    backend: B,
    file: &File,
    options: &DeviceOptions,
    model: ModelOptions,
    progress: &mut OnBytes,
) -> Result<Box<dyn Runner>>
where
    B: Backend + Send + 'static,
    B::Weight: Send,
{
    if let Some(observer) = &options.observer {
        let backend = Observe::new(backend, observer.clone());
        return Ok(Box::new(OnDevice::load(backend, file, model, progress)?));
    }
    Ok(match &options.profile {
        Some(recorder) => {
            let backend = Profile::new(backend, recorder.clone());
            Box::new(OnDevice::load(backend, file, model, progress)?)
        }
        None => Box::new(OnDevice::load(backend, file, model, progress)?),
    })
}
