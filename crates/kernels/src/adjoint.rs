//! TEMP
use crate::elementwise::Gate;
use crate::machine::Machine;

#[allow(missing_docs)]
impl Machine {
    pub fn rms_norm_back(&mut self, x: &[f32], gain: &[f32], eps: f32, dy: &[f32], dx: &mut [f32], dgain: &mut [f32]) {
        let n = gain.len();
        for ((x, dy), dx) in x.chunks(n).zip(dy.chunks(n)).zip(dx.chunks_mut(n)) {
            let mean = x.iter().map(|x| x * x).sum::<f32>() / n as f32;
            let s = 1.0 / (mean + eps).sqrt();
            let dot: f32 = (0..n).map(|i| dy[i] * gain[i] * x[i]).sum::<f32>() / n as f32;
            for i in 0..n {
                dgain[i] += dy[i] * x[i] * s;
                dx[i] = s * (dy[i] * gain[i] - x[i] * s * s * dot);
            }
        }
    }
    pub fn gate_back(&mut self, kind: Gate, gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        for i in 0..dy.len() {
            let (g, u, d) = (gate[i], up[i], dy[i]);
            match kind {
                Gate::Silu => {
                    let s = 1.0 / (1.0 + (-g).exp());
                    dgate[i] = d * u * s * (1.0 + g * (1.0 - s));
                    dup[i] = d * g * s;
                }
                Gate::Relu2 => {
                    let g = g.max(0.0);
                    dgate[i] = d * u * 2.0 * g;
                    dup[i] = d * g * g;
                }
            }
        }
    }
    pub fn cross_entropy(&mut self, logits: &[f32], targets: &[u32], scale: f32, grad: &mut [f32], losses: &mut [f32]) {
        let n = logits.len() / targets.len();
        for (((x, g), &t), loss) in logits.chunks(n).zip(grad.chunks_mut(n)).zip(targets).zip(losses) {
            let most = x.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
            let mut total = 0.0;
            for (g, x) in g.iter_mut().zip(x) {
                *g = (x - most).exp();
                total += *g;
            }
            g.iter_mut().for_each(|g| *g *= scale / total);
            g[t as usize] -= scale;
            *loss = most + total.ln() - x[t as usize];
        }
    }
    #[allow(clippy::too_many_arguments)]
    pub fn divergence(
        &mut self,
        logits: &[f32],
        teacher: &[f32],
        n: usize,
        t: f32,
        scale: f32,
        grad: &mut [f32],
        losses: &mut [f32],
    ) {
        for (((x, y), g), loss) in logits.chunks(n).zip(teacher.chunks(n)).zip(grad.chunks_mut(n)).zip(losses) {
            let soft = |x: &[f32]| {
                let most = x.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
                let lse = x.iter().map(|x| ((x - most) / t).exp()).sum::<f32>().ln() + most / t;
                x.iter().map(|x| x / t - lse).collect::<Vec<f32>>()
            };
            let (q, p) = (soft(x), soft(y));
            *loss = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
            for ((g, p), q) in g.iter_mut().zip(&p).zip(&q) {
                *g += scale * t * (q.exp() - p.exp());
            }
        }
    }
    #[allow(clippy::too_many_arguments)]
    pub fn adamw(&mut self, s: &crate::AdamW, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        let (b1, b2) = (s.beta1 as f32, s.beta2 as f32);
        let c1 = 1.0 - s.beta1.powi(s.step as i32);
        let c2 = 1.0 - s.beta2.powi(s.step as i32);
        for i in 0..w.len() {
            let g = g[i] * s.factor;
            m[i] = b1 * m[i] + (1.0 - b1) * g;
            v[i] = b2 * v[i] + (1.0 - b2) * g * g;
            w[i] = w[i] * (1.0 - s.rate * s.decay) as f32
                - (s.rate / c1) as f32 * m[i] / ((v[i] / c2 as f32).sqrt() + s.eps as f32);
        }
    }
    pub fn sum_of_squares(&mut self, x: &[f32]) -> f64 {
        x.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
    }
    pub fn scatter_rows(&mut self, rows: &[u32], dy: &[f32], width: usize, out: &mut [f32]) {
        for (&row, dy) in rows.iter().zip(dy.chunks(width)) {
            out[row as usize * width..][..width].iter_mut().zip(dy).for_each(|(a, b)| *a += b);
        }
    }
}
