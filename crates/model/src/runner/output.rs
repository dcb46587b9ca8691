use crate::Error;

/// What a forward pass gives for each output row of its batch.
#[derive(Clone, Copy, Debug)]
pub enum Want<'a> {
    /// All logits, `[outputs, vocab_size]`, in [`Output::values`].
    Logits,
    /// The `k` highest logits of each row, and the logarithm of the sum of all exponentials.
    Top {
        k: usize,
        /// Changes to the logits of each row before that: one for each output row, or none at all.
        edits: &'a [Edit<'a>],
    },
    /// Hidden states after the last norm, `[outputs, hidden_size]`, in [`Output::values`].
    Hidden,
    /// Hidden states before each layer, and after the last norm, `[n_layers + 1, outputs, hidden_size]`, in [`Output::values`]: what transformers
    /// returns with `output_hidden_states`.
    Layers,
}

impl Want<'_> {
    /// Checks that edits fit the output rows and the vocabulary, as a runner does before a pass.
    ///
    /// # Errors
    /// [`Error::BadEdit`].
    pub fn check(&self, outputs: usize, vocab_size: usize) -> Result<(), Error> {
        let Want::Top { edits, .. } = *self else { return Ok(()) };
        let wrong = |expected: String, found: String| Err(Error::BadEdit { expected, found });
        if !edits.is_empty() && edits.len() != outputs {
            return wrong(format!("one for each of {outputs} output rows, or none"), edits.len().to_string());
        }
        for edit in edits {
            if let Some(mask) = edit.mask.filter(|mask| mask.len() < vocab_size.div_ceil(64)) {
                return wrong(format!("a mask of {vocab_size} bits"), format!("{} words of 64", mask.len()));
            }
            let unfit = |&&(id, add): &&(u32, f32)| id as usize >= vocab_size || !add.is_finite();
            if let Some((id, add)) = edit.add.iter().find(unfit) {
                return wrong(format!("finite numbers for tokens below {vocab_size}"), format!("{add} for token {id}"));
            }
        }
        Ok(())
    }
}

/// Changes to one row of logits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edit<'a> {
    /// Bit `id % 64` of word `id / 64` says whether a token is allowed; without a mask, all are. It must have a bit for each token.
    pub mask: Option<&'a [u64]>,
    /// Finite numbers that are added to the logits of these tokens, which must be in the vocabulary.
    pub add: &'a [(u32, f32)],
}

/// A token and its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logit {
    pub id: u32,
    pub logit: f32,
}

/// What a forward pass gave. Its buffers are used again by the next one.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Rows of [`Want::Logits`], [`Want::Hidden`] or [`Want::Layers`].
    pub values: Vec<f32>,
    /// Of [`Want::Top`], for each row `ln(Σ exp(logit))` over the allowed tokens, after the edits.
    pub log_sum_exp: Vec<f64>,
    top: Vec<Logit>,
    /// Where the tokens of each row end.
    ends: Vec<usize>,
}

impl Output {
    /// The highest logits of an output row, highest first, equal ones by id: `k` of them, or as many as are allowed.
    ///
    /// # Panics
    /// When the pass had no such row, or was not asked for [`Want::Top`].
    pub fn top(&self, row: usize) -> &[Logit] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.top[start..self.ends[row]]
    }

    /// Forgets the last pass, as a runner does before the next.
    pub fn clear(&mut self) {
        self.values.clear();
        self.log_sum_exp.clear();
        self.top.clear();
        self.ends.clear();
    }

    /// What a runner does for [`Want::Top`] when `values` has all logits, `[outputs, vocab_size]`: takes the highest of each row, after the
    /// edits, and leaves no values.
    ///
    /// # Errors
    /// The first token whose logit is not finite.
    ///
    /// # Panics
    /// When [`Want::check`] has refused the edits.
    pub fn take_top(&mut self, vocab_size: usize, k: usize, edits: &[Edit]) -> Result<(), Logit> {
        let Output { values, log_sum_exp, top, ends } = self;
        for (i, row) in values.chunks_exact_mut(vocab_size).enumerate() {
            argmax(row).map_err(|id| Logit { id, logit: row[id as usize] })?;
            let edit = edits.get(i).copied().unwrap_or_default();
            for &(id, add) in edit.add {
                row[id as usize] += add;
                if !row[id as usize].is_finite() {
                    return Err(Logit { id, logit: row[id as usize] });
                }
            }
            let allowed = |id: u32| edit.mask.is_none_or(|mask| mask[id as usize / 64] >> (id % 64) & 1 == 1);
            let start = top.len();
            for (id, &logit) in (0..).zip(&*row) {
                let full = top.len() - start == k;
                if full && top.last().is_none_or(|last| logit <= last.logit) || !allowed(id) {
                    continue;
                }
                top.truncate(if full { top.len() - 1 } else { top.len() });
                let at = start + top[start..].partition_point(|other| other.logit >= logit);
                top.insert(at, Logit { id, logit });
            }
            ends.push(top.len());
            let allowed = || (0..).zip(&*row).filter(|(id, _)| allowed(*id)).map(|(_, &logit)| f64::from(logit));
            let most = allowed().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = allowed().map(|logit| libm::exp(logit - most)).sum();
            log_sum_exp.push(if most.is_finite() { most + libm::log(sum) } else { most });
        }
        values.clear();
        Ok(())
    }
}
/// Logits that are compared before the highest is located.
const BLOCK: usize = 1024;
/// Elements of the vectors that the compiler makes.
const LANES: usize = 16;

/// The token with the highest logit; the lowest id of equal ones; 0 without logits.
///
/// # Errors
/// The first token whose logit is not finite.
pub fn argmax(logits: &[f32]) -> Result<u32, u32> {
    let (mut most, mut at) = (f32::NEG_INFINITY, 0);
    for (i, block) in logits.chunks(BLOCK).enumerate() {
        let (mut highest, mut odd) = ([f32::NEG_INFINITY; LANES], [false; LANES]);
        let (chunks, rest) = block.as_chunks::<LANES>();
        for chunk in chunks.iter().map(<[f32; LANES]>::as_slice).chain([rest]) {
            for ((highest, odd), &x) in highest.iter_mut().zip(&mut odd).zip(chunk) {
                *highest = if x > *highest { x } else { *highest };
                *odd |= !x.is_finite();
            }
        }
        if odd.contains(&true) {
            let inside = block.iter().position(|x| !x.is_finite()).expect("there is one");
            return Err((i * BLOCK + inside) as u32);
        }
        let highest = highest.into_iter().fold(f32::NEG_INFINITY, f32::max);
        if highest > most {
            (most, at) = (highest, i * BLOCK);
        }
    }
    let inside = logits[at..].iter().position(|&x| x == most).unwrap_or(0);
    Ok((at + inside) as u32)
}
