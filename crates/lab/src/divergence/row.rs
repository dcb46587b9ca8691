//! Two predictions of one token.

/// What two predictions of a token have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compared {
    /// `Σ p (ln p - ln q)`, where `p` is the reference.
    pub kl: f64,
    /// `-ln p` and `-ln q` of the text's token.
    pub nats: [f64; 2],
    pub same_best: bool,
    pub top5: f64,
    /// Whether one has the text's token as the most likely and the other does not.
    pub flipped: bool,
}

impl Compared {
    /// The model's probability of the text's token less the reference's.
    pub fn delta_p(&self) -> f64 {
        libm::exp(-self.nats[1]) - libm::exp(-self.nats[0])
    }
}

/// Natural logarithms of the probabilities that logits stand for.
pub(super) fn log_probabilities(logits: &[f32], out: &mut Vec<f64>) {
    let most = logits.iter().fold(f32::NEG_INFINITY, |most, &logit| most.max(logit));
    let total: f64 = logits.iter().map(|&logit| libm::exp(f64::from(logit) - f64::from(most))).sum();
    let log_total = f64::from(most) + libm::log(total);
    out.clear();
    out.extend(logits.iter().map(|&logit| f64::from(logit) - log_total));
}

/// `KL(p ‖ q)` of two distributions, nats, given logits.
pub fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let (mut log_p, mut log_q) = (Vec::new(), Vec::new());
    log_probabilities(p, &mut log_p);
    log_probabilities(q, &mut log_q);
    kl(&log_p, &log_q)
}

fn kl(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(&p, &q)| libm::exp(p) * (p - q)).sum()
}

/// Compares the rows of `logits`, `[targets, vocab]`, with those that `reference` writes, as logarithms of probabilities, by several threads.
pub(super) fn compare(
    logits: &[f32],
    vocab: usize,
    targets: &[u32],
    threads: usize,
    reference: &(dyn Fn(usize, &mut Vec<f64>) + Sync),
) -> Vec<Compared> {
    let each = targets.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for (part, (rows, targets)) in logits.chunks(each * vocab).zip(targets.chunks(each)).enumerate() {
            running.push(scope.spawn(move || {
                let (mut p, mut q) = (Vec::new(), Vec::new());
                let rows = rows.chunks(vocab).zip(targets).enumerate();
                rows.map(|(i, (row, &target))| {
                    reference(part * each + i, &mut p);
                    log_probabilities(row, &mut q);
                    compare_row(&p, &q, target as usize)
                })
                .collect::<Vec<_>>()
            }));
        }
        running.into_iter().flat_map(|part| part.join().expect("it does not panic")).collect()
    })
}

fn compare_row(p: &[f64], q: &[f64], target: usize) -> Compared {
    let (best_p, best_q) = (best(p), best(q));
    let shared = best_p.iter().filter(|id| best_q.contains(id)).count();
    Compared {
        kl: kl(p, q),
        nats: [-p[target], -q[target]],
        same_best: best_p[0] == best_q[0],
        top5: shared as f64 / best_p.len() as f64,
        flipped: (best_p[0] == target) != (best_q[0] == target),
    }
}

/// The five most likely tokens, the most likely first; the lower id of equal ones.
fn best(row: &[f64]) -> Vec<usize> {
    const COUNT: usize = 5;
    let mut best: Vec<usize> = Vec::with_capacity(COUNT + 1);
    for (id, &value) in row.iter().enumerate() {
        if best.len() == COUNT && value <= row[best[COUNT - 1]] {
            continue;
        }
        best.insert(best.partition_point(|&other| row[other] >= value), id);
        best.truncate(COUNT);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_those_of_a_full_sort() {
        let mut random = fastrand::Rng::with_seed(3);
        for len in 1..40 {
            let row: Vec<f64> = (0..len).map(|_| f64::from(random.u8(0..9))).collect();
            let mut ids: Vec<usize> = (0..len).collect();
            ids.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
            ids.truncate(5);
            assert_eq!(best(&row), ids, "{row:?}");
        }
    }
}
