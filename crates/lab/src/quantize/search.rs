//! A mixture of formats for a given size, chosen by what each costs: errors of single tensors do not predict the quality of a model, so the
//! divergence of the whole model is measured with one group of its tensors quantized, and again for each group and format.

use super::encode::{Encoder, importance_of};
use super::guard::is_ternary;
use super::{Error, Recipe, plan};
use crate::divergence::{Chunks, DivergenceOptions, Reference, compare, run_chunk};
use crate::imatrix::stored_name;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use trine_model::{DeviceOptions, GgufModel, ModelOptions, Rewrite, load};
use trine_tensor::format::{
    BF16, F16, F32, I2_S, IQ4_NL, IQ4_XS, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, TQ1_0, TQ2_0,
    by_name,
};
use trine_tensor::{Format, TensorInfo, View};

/// The formats among which is chosen, from few bits to many.
pub static CANDIDATES: [&Format; 7] = [&Q2_K, &Q3_K, &IQ4_XS, &Q4_K, &Q5_K, &Q6_K, &Q8_0];

/// Those for rows that are not whole blocks of 256 weights.
static NARROW: [&Format; 6] = [&Q4_0, &IQ4_NL, &Q4_1, &Q5_0, &Q5_1, &Q8_0];
/// Those for matrices that are ternary already, besides their own: they hold these weights exactly, but for the rounding of a scale.
static TERNARY: [&Format; 2] = [&TQ1_0, &TQ2_0];
/// Those for ternary matrices that are stored as floats, before all others.
static TERNARY_OF_FLOATS: [&Format; 3] = [&TQ1_0, &TQ2_0, &I2_S];

/// Parts of a model's depth that are measured apart.
const RANGES: usize = 3;

/// Tensors that get the same format: those of one kind, in a range of layers.
#[derive(Clone, Debug)]
struct Group {
    name: String,
    tensors: Vec<TensorInfo>,
    /// Whether all are stored as floats, and have ternary weights.
    ternary_floats: bool,
}

/// What a format costs in a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    pub group: String,
    pub format: String,
    /// Divergence of the model with this group in this format from the model itself, nats per token.
    pub kl: f64,
    /// Bytes of the group's tensors.
    pub bytes: u64,
}

/// All costs of a model, and of what they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// Model, text and importance matrix as a text: costs of others are not used.
    pub of: String,
    pub costs: Vec<Cost>,
}

/// A mixture that was chosen.
#[derive(Clone, Debug)]
pub struct Found {
    /// The formats of tensors by their names.
    pub formats: BTreeMap<String, &'static Format>,
    /// Group, format, and what it costs.
    pub choices: Vec<Cost>,
    /// The sum of the divergences of all groups.
    pub predicted_kl: f64,
    /// Divergence of the whole mixture.
    pub measured_kl: f64,
}

/// What is measured with.
pub struct Measurement<'a> {
    pub model: &'a GgufModel<'a>,
    pub device: &'a DeviceOptions,
    pub chunks: &'a Chunks,
    pub options: DivergenceOptions,
    pub recipe: &'a Recipe,
}

/// Whose progress is told: how many of how many measurements are done.
type Progress<'a> = dyn FnMut(usize, usize) -> ControlFlow<()> + 'a;

impl Measurement<'_> {
    /// Matrices of one kind in a third of the layers; the embedding and the head are groups of their own.
    fn groups(&self) -> Result<Vec<Group>, Error> {
        let layers = self.model.spec().n_layers;
        let size = layers.div_ceil(RANGES);
        let plan = plan(self.model, &Recipe { imatrix: self.recipe.imatrix.clone(), ..Recipe::default() })?;
        let mut groups: Vec<Group> = Vec::new();
        for (i, tensor) in plan.tensors.iter().enumerate().filter(|(_, tensor)| tensor.is_matrix()) {
            let name = match tensor.info.name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
                Some((layer, part)) => {
                    let first = layer.parse::<usize>().unwrap_or(0) / size * size;
                    format!("{part} in layers {first}-{}", (first + size).min(layers) - 1)
                }
                None => tensor.info.name.clone(),
            };
            let at = groups.iter().position(|group| group.name == name).unwrap_or(groups.len());
            if at == groups.len() {
                let ternary_floats = tensor.info.name.starts_with("blk.");
                groups.push(Group { name, tensors: Vec::new(), ternary_floats });
            }
            let group = &mut groups[at];
            let is_float = [&F32, &F16, &BF16].contains(&tensor.from);
            group.ternary_floats = group.ternary_floats && is_float && is_ternary(&self.model.read(i)?);
            group.tensors.push(tensor.info.clone());
        }
        groups.retain(|group| !group.candidates().is_empty());
        Ok(groups)
    }

    /// Bytes of tensors that no choice is about.
    fn rest(&self, groups: &[Group]) -> Result<u64, Error> {
        let all: u64 = self.model.tensors().iter().map(TensorInfo::size).sum::<trine_tensor::Result<u64>>()?;
        Ok(all - groups.iter().map(Group::now).sum::<Result<u64, Error>>()?)
    }

    /// Bytes of all tensors with the smallest formats, and with the largest.
    ///
    /// # Errors
    /// When a size overflows.
    pub fn sizes(&self) -> Result<[u64; 2], Error> {
        let groups = self.groups()?;
        let [mut least, mut most] = [self.rest(&groups)?; 2];
        for group in &groups {
            let sizes =
                group.candidates().into_iter().map(|format| group.bytes(format)).collect::<Result<Vec<_>, _>>()?;
            least += sizes.iter().min().copied().unwrap_or(0);
            most += sizes.iter().max().copied().unwrap_or(0);
        }
        Ok([least, most])
    }

    /// The model's own logits.
    fn reference(&self) -> Result<Vec<Vec<f32>>, Error> {
        let mut runner = self.load(HashMap::new())?;
        let all = (0..self.chunks.len()).map(|chunk| run_chunk(&mut *runner, self.chunks, chunk, &self.options));
        Ok(all.collect::<Result<_, _>>()?)
    }

    /// The model with some tensors in other formats.
    fn load(&self, formats: HashMap<String, &'static Format>) -> Result<Box<dyn trine_model::Runner>, Error> {
        let rewrite = (!formats.is_empty()).then(|| rewriting(formats, self.recipe)).transpose()?;
        let options = ModelOptions { gguf_names: true, rewrite, ..ModelOptions::default() };
        Ok(load(self.model.file(), self.device, options, &mut |_| ControlFlow::Continue(()))?)
    }

    fn divergence(&self, reference: &[Vec<f32>], formats: HashMap<String, &'static Format>) -> Result<f64, Error> {
        let mut runner = self.load(formats)?;
        let mut go_on = |_, _| ControlFlow::Continue(());
        Ok(compare(Reference::Logits(reference), &mut *runner, self.chunks, &self.options, &mut go_on)?.mean_kl)
    }

    /// Measures what `known` lacks, and adds it.
    ///
    /// # Errors
    /// When the model cannot be run, or `progress` breaks off; what was measured is then in `known`.
    pub fn measure(&self, known: &mut Costs, progress: &mut Progress) -> Result<(), Error> {
        let groups = self.groups()?;
        let has = |known: &Costs, group: &Group, format: &Format| {
            known.costs.iter().any(|cost| cost.group == group.name && cost.format == format.name)
        };
        let open = |group: &Group| -> Vec<&'static Format> {
            group.candidates().into_iter().filter(|format| !has(known, group, format)).collect()
        };
        let todo: Vec<(&Group, Vec<&'static Format>)> = groups.iter().map(|group| (group, open(group))).collect();
        let total = todo.iter().map(|(_, formats)| formats.len()).sum();
        if total == 0 {
            return Ok(());
        }
        let (reference, mut done) = (self.reference()?, 0);
        for (group, formats) in todo {
            for format in formats {
                if progress(done, total).is_break() {
                    return Err(Error::Cancelled);
                }
                let kl = self.divergence(&reference, group.formats(format))?;
                let (group, format, bytes) = (group.name.clone(), format.name.to_owned(), group.bytes(format)?);
                known.costs.push(Cost { group, format, kl, bytes });
                done += 1;
            }
        }
        Ok(())
    }

    /// Chooses the mixture of least divergence whose tensors take at most `bytes`, those that no choice is about included, and measures it.
    ///
    /// # Errors
    /// When even the smallest formats take more.
    pub fn choose(&self, known: &Costs, bytes: u64) -> Result<Found, Error> {
        let groups = self.groups()?;
        let rest = self.rest(&groups)?;
        let options: Vec<Vec<&Cost>> = groups.iter().map(|group| group.options(known)).collect();
        let least = rest + options.iter().filter_map(|costs| costs.iter().map(|cost| cost.bytes).min()).sum::<u64>();
        let budget =
            bytes.checked_sub(rest).filter(|_| least <= bytes).ok_or(Error::TooSmall { least, asked: bytes })?;
        let picked = pick(&options, budget);
        let choices: Vec<Cost> = picked.into_iter().cloned().collect();
        let mut formats = BTreeMap::new();
        for (group, cost) in groups.iter().zip(&choices) {
            let format = by_name(&cost.format).expect("it was measured");
            formats.extend(group.formats(format));
        }
        let measured_kl = self.divergence(&self.reference()?, formats.clone().into_iter().collect())?;
        Ok(Found { formats, predicted_kl: choices.iter().map(|cost| cost.kl).sum(), choices, measured_kl })
    }
}

impl Group {
    /// Whether all tensors can have the format.
    fn fits(&self, format: &'static Format) -> bool {
        self.tensors.iter().all(|info| TensorInfo { format, ..info.clone() }.size().is_ok())
    }

    fn bytes(&self, format: &'static Format) -> Result<u64, Error> {
        let sizes = self.tensors.iter().map(|info| TensorInfo { format, ..info.clone() }.size());
        Ok(sizes.sum::<trine_tensor::Result<u64>>()?)
    }

    /// Bytes in the formats of the input.
    fn now(&self) -> Result<u64, Error> {
        Ok(self.tensors.iter().map(TensorInfo::size).sum::<trine_tensor::Result<u64>>()?)
    }

    fn formats(&self, format: &'static Format) -> HashMap<String, &'static Format> {
        self.tensors.iter().map(|info| (info.name.clone(), format)).collect()
    }

    /// The formats among which is chosen for it.
    fn candidates(&self) -> Vec<&'static Format> {
        let fitting = |formats: &[&'static Format]| -> Vec<&'static Format> {
            formats.iter().copied().filter(|format| self.fits(format)).collect()
        };
        let own = self.tensors[0].format;
        if own.ternary && self.tensors.iter().all(|info| info.format == own) {
            let others = fitting(&TERNARY).into_iter().filter(|format| *format != own);
            return others.chain([own]).collect();
        }
        let exact = if self.ternary_floats { fitting(&TERNARY_OF_FLOATS) } else { Vec::new() };
        let others = if self.fits(CANDIDATES[0]) { fitting(&CANDIDATES) } else { fitting(&NARROW) };
        [exact, others].concat()
    }

    /// What it may cost, without formats that are larger than another and no better.
    fn options<'a>(&self, known: &'a Costs) -> Vec<&'a Cost> {
        let mut costs: Vec<&Cost> = known.costs.iter().filter(|cost| cost.group == self.name).collect();
        let candidates = self.candidates();
        // Those that another version of the program measured are no longer chosen.
        costs.retain(|cost| candidates.iter().any(|format| format.name == cost.format));
        costs.sort_by(|a, b| a.bytes.cmp(&b.bytes).then(a.kl.total_cmp(&b.kl)));
        let mut best = f64::INFINITY;
        costs.retain(|cost| {
            let better = cost.kl < best;
            best = best.min(cost.kl);
            better
        });
        costs
    }
}

/// Parts into which the bytes are divided that are left to choose about.
const UNITS: u64 = 1 << 16;

/// One option for each group, whose divergences have the least sum that fits into `budget`: a knapsack with one thing out of each group,
/// filled in units of a 65,536th of what is left when all groups have their smallest option, and exactly when fewer bytes are left than that.
fn pick<'a>(options: &[Vec<&'a Cost>], budget: u64) -> Vec<&'a Cost> {
    let smallest = |costs: &[&Cost]| costs.iter().map(|cost| cost.bytes).min().unwrap_or(0);
    let left = budget.saturating_sub(options.iter().map(|costs| smallest(costs)).sum());
    let unit = left.div_ceil(UNITS).max(1);
    let room = (left / unit) as usize;
    let units = |costs: &[&Cost], option: usize| ((costs[option].bytes - smallest(costs)).div_ceil(unit)) as usize;

    // The least sum of the groups so far within so many units, and what the last group has in it.
    let mut least = vec![0.0; room + 1];
    let mut chosen: Vec<Vec<usize>> = Vec::new();
    for costs in options {
        let best = |within: usize| -> (f64, usize) {
            let fitting = (0..costs.len()).filter(|&option| units(costs, option) <= within);
            let sums = fitting.map(|option| (least[within - units(costs, option)] + costs[option].kl, option));
            sums.min_by(|a, b| a.0.total_cmp(&b.0)).expect("the smallest takes no unit")
        };
        let (sums, options) = (0..=room).map(best).unzip();
        least = sums;
        chosen.push(options);
    }

    let mut within = room;
    let mut picked: Vec<&Cost> = Vec::new();
    for (costs, chosen) in options.iter().zip(chosen).rev() {
        picked.push(costs[chosen[within]]);
        within -= units(costs, chosen[within]);
    }
    picked.reverse();
    picked
}

/// Puts tensors into other formats as they are loaded.
///
/// # Errors
/// When the system cannot start threads.
pub fn rewriting(formats: HashMap<String, &'static Format>, recipe: &Recipe) -> Result<Rewrite, Error> {
    let (encoder, imatrix) = (Encoder::new()?, recipe.imatrix.clone());
    Ok(Rewrite::new(move |view: View| {
        let name = stored_name(|name| formats.contains_key(name), view.name.clone());
        let Some(format) = formats.get(&name) else { return Ok(view) };
        let importance = importance_of(imatrix.as_deref(), &name);
        encoder.encode(&view, format, importance.as_deref()).map_err(|error| match error {
            Error::File(error) => error,
            other => trine_tensor::Error::Malformed {
                place: format!("tensor `{}`", view.name),
                expected: "finite weights".to_owned(),
                found: other.to_string(),
            },
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least sum of all choices that fit, by trying each; where bytes are counted in units, a little more.
    #[test]
    fn choices_are_the_best_of_all() {
        let mut random = fastrand::Rng::with_seed(5);
        for round in 0..200 {
            let size = if round % 2 == 0 { 1 } else { 1_000_000 };
            let groups: Vec<Vec<Cost>> = (0..4)
                .map(|_| {
                    let scale = random.f64() * 3.0;
                    let weights = size * random.u64(50..500);
                    (2..8)
                        .map(|bits| {
                            let kl = scale * f64::powi(0.4, bits) * (0.8 + 0.4 * random.f64());
                            let bytes = weights * bits as u64;
                            Cost { group: String::new(), format: String::new(), kl, bytes }
                        })
                        .collect()
                })
                .collect();
            let options: Vec<Vec<&Cost>> = groups.iter().map(|group| group.iter().collect()).collect();
            let sum = |of: &dyn Fn(&Cost) -> u64, costs: &[&Cost]| costs.iter().map(|cost| of(cost)).sum::<u64>();
            let least: u64 = options.iter().map(|costs| costs[0].bytes).sum();
            let budget = least + random.u64(0..least);
            let kl = |costs: &[&Cost]| costs.iter().map(|cost| cost.kl).sum::<f64>();
            let mut best = f64::INFINITY;
            for code in 0..6usize.pow(4) {
                let all: Vec<&Cost> = (0..4).map(|i| options[i][code / 6usize.pow(i as u32) % 6]).collect();
                if sum(&|cost| cost.bytes, &all) <= budget {
                    best = best.min(kl(&all));
                }
            }
            let picked = pick(&options, budget);
            assert!(sum(&|cost| cost.bytes, &picked) <= budget);
            let allowed = if size == 1 { 1.0 + 1e-12 } else { 1.001 };
            assert!(kl(&picked) <= allowed * best, "{} {best}", kl(&picked));
        }
    }
}
