//! What holds for attention over every KV format: it agrees with double precision, and all instruction sets, thread counts and ways to cut
//! the work give the same bits.

mod common;

use common::{Random, bits, executors, fast_executors};
use trine_kernels::{
    Attention, AttentionBackward, AttentionOptions, CacheLines, CacheType, CpuExecutor, KV_FORMATS, KvLayout, Span,
};
use trine_tensor::Format;

/// A sequence to attend to: `[tokens, heads, head_dim]` each.
struct Heads {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

/// All positions, no cap.
const PLAIN: AttentionOptions = AttentionOptions { scale: 0.4, window: None, softcap: None, causal: true };

/// Attention of a batch of sequences, in steps of `step` tokens of each; `[sequences]` of `[tokens, heads, head_dim]`.
fn attention(
    executor: &mut CpuExecutor,
    layout: KvLayout,
    heads: usize,
    attend: AttentionOptions,
    sinks: &[f32],
    all: &[Heads],
    step: usize,
) -> Vec<Vec<f32>> {
    let (q_width, kv_width) = (heads * layout.head_dim, layout.n_kv_heads * layout.head_dim);
    let longest = all.iter().map(|one| one.q.len() / q_width).max().unwrap();
    let each = longest.div_ceil(layout.block_len);
    // Blocks of sequences alternate, later positions first.
    let blocks: Vec<u32> =
        (0..all.len()).flat_map(|i| (0..each).rev().map(move |b| (b * all.len() + i) as u32)).collect();
    let layout = KvLayout { blocks: blocks.len(), ..layout };
    let mut cache = CacheLines::zeroed(layout.bytes().unwrap());
    // What nobody wrote must not matter.
    bytemuck::cast_slice_mut::<_, u8>(&mut cache).fill(0xff);
    let mut out = vec![Vec::new(); all.len()];
    for start in (0..longest).step_by(step) {
        let (mut spans, mut rows, mut q, mut k, mut v) = (Vec::new(), 0, Vec::new(), Vec::new(), Vec::new());
        for (i, one) in all.iter().enumerate() {
            let end = (start + step).min(one.q.len() / q_width);
            if start < end {
                spans.push(Span {
                    row: rows,
                    tokens: end - start,
                    cached: start,
                    blocks: i * each..(i + 1) * each,
                    window_blocks: 0..0,
                    adapter: 0,
                });
                rows += end - start;
                q.extend_from_slice(&one.q[start * q_width..end * q_width]);
                k.extend_from_slice(&one.k[start * kv_width..end * kv_width]);
                v.extend_from_slice(&one.v[start * kv_width..end * kv_width]);
            }
        }
        executor.store(&k, &v, layout, &spans, &blocks, &mut cache);
        let job = Attention {
            q: &q,
            n_heads: heads,
            layout,
            cache: &cache,
            options: attend,
            sinks,
            spans: &spans,
            blocks: &blocks,
        };
        let mut result = vec![f32::NAN; q.len()];
        executor.attention(&job, &mut result);
        for span in &spans {
            out[span.blocks.start / each].extend_from_slice(&result[span.row * q_width..][..span.tokens * q_width]);
        }
    }
    out
}

/// Every cache type of one format, and some of two.
fn cache_types() -> Vec<CacheType> {
    let mixed = ["q8_0/q4_0", "q4_0/f32", "f16/q8_0"].map(|mixed| mixed.parse().unwrap());
    KV_FORMATS.iter().map(|format| CacheType::both(format)).chain(mixed).collect()
}

/// A head times the Hadamard matrix of its size, a power of two.
fn hadamard(x: &[f32]) -> Vec<f32> {
    if x.len() == 1 {
        return x.to_vec();
    }
    let (low, high) = x.split_at(x.len() / 2);
    let (low, high) = (hadamard(low), hadamard(high));
    let sums = low.iter().zip(&high).map(|(a, b)| a + b);
    sums.chain(low.iter().zip(&high).map(|(a, b)| a - b)).collect()
}

/// A sequence with the keys and values that the cache keeps: formats of blocks get them rotated.
fn kept(layout: KvLayout, one: &Heads) -> Heads {
    let dim = layout.head_dim;
    let keep = |format: &Format, x: &[f32]| {
        let group = if format.block > 1 { 1 << dim.trailing_zeros() } else { 1 };
        let rotate =
            |x: &[f32], factor: f32| -> Vec<f32> { x.chunks(group).flat_map(hadamard).map(|x| x * factor).collect() };
        // About the root of the group's size, so that its numbers stay as large as they are.
        let factor = 1.0 / (1 << (dim.trailing_zeros() / 2)) as f32;
        let row = |x: &[f32]| {
            let mut row = if group > 1 { rotate(x, factor) } else { x.to_vec() };
            row.resize(dim.next_multiple_of(format.block), 0.0);
            let bytes = format.encode(&row);
            (format.decode)(&bytes, &[], &mut row);
            row.truncate(dim);
            if group > 1 { rotate(&row, 1.0 / (group as f32 * factor)) } else { row }
        };
        x.chunks(dim).flat_map(row).collect()
    };
    let CacheType { keys, values } = layout.cache_type;
    Heads { q: one.q.clone(), k: keep(keys, &one.k), v: keep(values, &one.v) }
}

/// The same in double precision, for one token of a sequence.
fn exact_attention(
    layout: KvLayout,
    heads: usize,
    attend: AttentionOptions,
    sinks: &[f32],
    one: &Heads,
    token: usize,
) -> Vec<f64> {
    let dim = layout.head_dim;
    let window = attend.window.unwrap_or(usize::MAX);
    let len = one.q.len() / heads / dim;
    let end = if attend.causal { token + 1 } else { token.saturating_add(window).min(len) };
    let seen = (token + 1).saturating_sub(window)..end;
    let mut out = Vec::new();
    for head in 0..heads {
        let q = &one.q[(token * heads + head) * dim..][..dim];
        let at = |position: usize| (position * layout.n_kv_heads + head / (heads / layout.n_kv_heads)) * dim;
        let weight = |position: usize| {
            let product: f64 = q.iter().zip(&one.k[at(position)..]).map(|(&q, &k)| q as f64 * k as f64).sum();
            let score = product * attend.scale as f64;
            attend.softcap.map_or(score, |cap| cap as f64 * (score / cap as f64).tanh()).exp()
        };
        let (mut sums, mut total) = (vec![0.0; dim], sinks.get(head).map_or(0.0, |&sink| (sink as f64).exp()));
        for position in seen.clone() {
            let weight = weight(position);
            total += weight;
            sums.iter_mut().zip(&one.v[at(position)..]).for_each(|(sum, &v)| *sum += weight * v as f64);
        }
        out.extend(sums.iter().map(|sum| sum / total));
    }
    out
}

fn close(found: &[f32], exact: &[f64], how: &str) {
    assert_eq!(found.len(), exact.len());
    for (found, exact) in found.iter().zip(exact) {
        assert!((*found as f64 - exact).abs() < 3e-6, "{how}: {found} for {exact}");
    }
}

/// The last token of a sequence, those where a chunk of the cache ends, and some between agree with double precision.
fn agree(out: &[f32], layout: KvLayout, heads: usize, attend: AttentionOptions, sinks: &[f32], one: &Heads, how: &str) {
    let (one, width) = (kept(layout, one), heads * layout.head_dim);
    let last = out.len() / width - 1;
    for (token, out) in out.chunks(width).enumerate() {
        if token % 41 == 0 || (254..258).contains(&token) || token == last {
            close(out, &exact_attention(layout, heads, attend, sinks, &one, token), how);
        }
    }
}

#[test]
fn attention_agrees_with_double_precision_and_with_itself_in_every_bit() {
    let mut random = Random(5);
    for (heads, kv_heads, head_dim, longest) in [(4, 2, 20, 270), (4, 1, 64, 530), (3, 3, 48, 270), (5, 1, 128, 20)] {
        let mut sequence = |tokens: usize| {
            let mut floats = |heads: usize| random.floats(tokens * heads * head_dim);
            Heads { q: floats(heads), k: floats(kv_heads), v: floats(kv_heads) }
        };
        let all = [sequence(17), sequence(longest), sequence(1)];
        let large = longest * longest * heads * head_dim > 10_000_000;
        for cache_type in cache_types() {
            let layout =
                KvLayout { cache_type, n_kv_heads: kv_heads, head_dim, blocks: 0, block_len: 16, windowed: false };
            let how = cache_type.to_string();
            let mut first: Option<Vec<u32>> = None;
            for mut executor in if large { fast_executors() } else { executors() } {
                // One instruction set and number of threads each sees several ways to cut the work; all see one.
                let ways: &[_] = if executor.threads() == 2 { &[(16, 999), (64, 1), (32, 37)] } else { &[(32, 100)] };
                for &(block_len, step) in ways {
                    let out = attention(&mut executor, KvLayout { block_len, ..layout }, heads, PLAIN, &[], &all, step);
                    if first.is_none() {
                        out.iter().zip(&all).for_each(|(out, one)| agree(out, layout, heads, PLAIN, &[], one, &how));
                    }
                    let out = bits(&out.concat());
                    let how = format!(
                        "{cache_type}, {}, {} threads, {block_len}, {step}",
                        executor.table.name,
                        executor.threads()
                    );
                    assert!(*first.get_or_insert(out.clone()) == out, "{how}");
                }
            }
        }
    }
}

#[test]
fn windows_soft_caps_and_sinks_agree_with_double_precision_and_with_themselves_in_every_bit() {
    let mut random = Random(7);
    let cases: [(_, _, _, &[usize]); 3] =
        [(4, 2, 20, &[1, 17, 256, 300]), (1, 1, 48, &[255, 600]), (2, 1, 64, &[257, 600])];
    for (heads, kv_heads, head_dim, lengths) in cases {
        let sequence = |&tokens: &usize| {
            let mut floats = |heads: usize| random.floats(tokens * heads * head_dim);
            Heads { q: floats(heads), k: floats(kv_heads), v: floats(kv_heads) }
        };
        let all: Vec<Heads> = lengths.iter().map(sequence).collect();
        let longest = lengths[lengths.len() - 1];
        let layout = KvLayout {
            cache_type: CacheType::F32,
            n_kv_heads: kv_heads,
            head_dim,
            blocks: 0,
            block_len: 16,
            windowed: false,
        };
        // Every window, cap and sink, ahead and back, and some together where one is in reach of the other.
        let sinks: Vec<f32> = random.floats(heads).iter().map(|x| 3.0 * x).collect();
        for (window, softcap, causal, sinks) in [
            (None, None, true, &[][..]),
            (None, Some(30.0), true, &sinks),
            (Some(1), Some(2.0), true, &[]),
            (Some(7), None, true, &sinks),
            (Some(256), Some(2.0), true, &[]),
            (Some(290), None, true, &[]),
            (Some(1000), Some(30.0), true, &[]),
            (None, None, false, &[]),
            (Some(7), None, false, &sinks),
            (Some(270), Some(2.0), false, &[]),
        ] {
            let attend = AttentionOptions { window, softcap, causal, ..PLAIN };
            let mut first: Option<Vec<u32>> = None;
            for mut executor in if longest > 300 { fast_executors() } else { executors() } {
                // Who sees ahead needs the whole sequence.
                let step = if causal { [999, 100, 37][executor.threads() - 1] } else { 999 };
                let how = format!("{attend:?}, {}, {} threads, {step}", executor.table.name, executor.threads());
                let out = attention(&mut executor, layout, heads, attend, sinks, &all, step);
                if first.is_none() {
                    out.iter().zip(&all).for_each(|(out, one)| agree(out, layout, heads, attend, sinks, one, &how));
                }
                let out = bits(&out.concat());
                assert!(*first.get_or_insert(out.clone()) == out, "{how}");
            }
        }
        // A window that holds everything is none.
        let mut executor = executors().remove(0);
        let mut with = |window| {
            attention(&mut executor, layout, heads, AttentionOptions { window, ..PLAIN }, &[], &all, 999).concat()
        };
        assert_eq!(bits(&with(Some(longest))), bits(&with(None)));
    }
}

/// Sequences to go back through, in double precision.
struct Shape {
    lengths: &'static [usize],
    heads: usize,
    kv_heads: usize,
    dim: usize,
    attend: AttentionOptions,
}

impl Shape {
    /// For each token and head: where its row is, and where those of the keys that it sees are.
    fn rows(&self) -> Vec<(usize, Vec<usize>)> {
        let (mut rows, mut start) = (Vec::new(), 0);
        for &length in self.lengths {
            for token in 0..length {
                let first = (token + 1).saturating_sub(self.attend.window.unwrap_or(usize::MAX));
                for head in 0..self.heads {
                    let kv_head = head / (self.heads / self.kv_heads);
                    let at = |position: usize| ((start + position) * self.kv_heads + kv_head) * self.dim;
                    rows.push((((start + token) * self.heads + head) * self.dim, (first..token + 1).map(at).collect()));
                }
            }
            start += length;
        }
        rows
    }

    /// The weights of a row, and the derivatives of its capped scores by the others.
    fn weights(&self, q: &[f64], k: &[f64], seen: &[usize]) -> (Vec<f64>, Vec<f64>) {
        let (scale, cap) = (self.attend.scale as f64, self.attend.softcap.map(f64::from));
        let scores = seen.iter().map(|&at| dot(q, &k[at..]) * scale);
        let tanh = |score: f64| cap.map_or(0.0, |cap| (score / cap).tanh());
        let (mut weights, slopes): (Vec<f64>, Vec<f64>) =
            scores.map(|score| (cap.map_or(score, |cap| cap * tanh(score)).exp(), 1.0 - tanh(score).powi(2))).unzip();
        let total: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= total);
        (weights, slopes)
    }

    fn forward(&self, [q, k, v]: &[Vec<f64>; 3]) -> Vec<f64> {
        let mut out = vec![0.0; q.len()];
        for (row, seen) in self.rows() {
            let (weights, _) = self.weights(&q[row..][..self.dim], k, &seen);
            for (weight, at) in weights.iter().zip(seen) {
                (0..self.dim).for_each(|d| out[row + d] += weight * v[at + d]);
            }
        }
        out
    }

    fn backward(&self, [q, k, v]: &[Vec<f64>; 3], dout: &[f64]) -> [Vec<f64>; 3] {
        let [mut dq, mut dk, mut dv] = [q, k, v].map(|x| vec![0.0; x.len()]);
        for (row, seen) in self.rows() {
            let (q, dout) = (&q[row..][..self.dim], &dout[row..][..self.dim]);
            let (weights, slopes) = self.weights(q, k, &seen);
            let above: Vec<f64> = seen.iter().map(|&at| dot(dout, &v[at..])).collect();
            let mean = dot(&weights, &above);
            for (i, at) in seen.into_iter().enumerate() {
                let score = weights[i] * (above[i] - mean) * slopes[i] * self.attend.scale as f64;
                for d in 0..self.dim {
                    dq[row + d] += score * k[at + d];
                    dk[at + d] += score * q[d];
                    dv[at + d] += weights[i] * dout[d];
                }
            }
        }
        [dq, dk, dv]
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn gradients_agree_with_double_precision_and_with_themselves_in_every_bit() {
    let mut random = Random(8);
    let cases: [(_, _, _, &[usize]); 3] =
        [(4, 2, 20, &[1, 2, 17, 65, 150]), (1, 1, 32, &[300, 600]), (3, 1, 48, &[1, 2, 65])];
    for (heads, kv_heads, dim, lengths) in cases {
        let tokens: usize = lengths.iter().sum();
        let mut floats = |heads: usize| random.floats(tokens * heads * dim);
        let x = [floats(heads), floats(kv_heads), floats(kv_heads)];
        let dout = floats(heads);
        let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let (exact_x, exact_dout) = (x.each_ref().map(|x| wide(x)), wide(&dout));
        let span = |i: usize| Span {
            row: lengths[..i].iter().sum(),
            tokens: lengths[i],
            cached: 0,
            blocks: 0..0,
            window_blocks: 0..0,
            adapter: 0,
        };
        let spans: Vec<Span> = (0..lengths.len()).map(span).collect();
        let large = tokens > 300;
        for (window, softcap) in
            [(None, None), (None, Some(2.0)), (Some(1), None), (Some(7), Some(2.0)), (Some(100), None)]
        {
            let shape = Shape { lengths, heads, kv_heads, dim, attend: AttentionOptions { window, softcap, ..PLAIN } };
            let attend = shape.attend;
            let exact_out = shape.forward(&exact_x);
            let exact = shape.backward(&exact_x, &exact_dout);
            if !large {
                // What the output times its gradient grows by in some direction.
                let mut direction = |x: &Vec<f64>| x.iter().map(|_| random.float() as f64).collect::<Vec<f64>>();
                let direction = exact_x.each_ref().map(&mut direction);
                let moved = |by: f64| {
                    let x = [0, 1, 2].map(|i| exact_x[i].iter().zip(&direction[i]).map(|(x, d)| x + by * d).collect());
                    dot(&exact_dout, &shape.forward(&x))
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let expected: f64 = exact.iter().zip(&direction).map(|(grad, d)| dot(grad, d)).sum();
                assert!((slope - expected).abs() < 1e-6 * (1.0 + expected.abs()), "{slope} for {expected}");
            }
            let out: Vec<f32> = exact_out.iter().map(|&x| x as f32).collect();
            let [q, k, v] = &x;
            let job = AttentionBackward {
                q,
                k,
                v,
                out: &out,
                dout: &dout,
                n_heads: heads,
                n_kv_heads: kv_heads,
                head_dim: dim,
                options: attend,
                spans: &spans,
            };
            let mut first: Option<[Vec<u32>; 3]> = None;
            for mut executor in if large { fast_executors() } else { executors() } {
                let how = format!("{heads}, {attend:?}, {}, {} threads", executor.table.name, executor.threads());
                let mut grads = x.each_ref().map(|x| vec![f32::NAN; x.len()]);
                let [dq, dk, dv] = &mut grads;
                executor.attention_back(&job, dq, dk, dv);
                if first.is_none() {
                    for (found, exact) in grads.iter().zip(&exact) {
                        for (found, exact) in found.iter().zip(exact) {
                            let error = (*found as f64 - exact).abs();
                            assert!(error < 1e-5 * (1.0 + exact.abs()), "{found} for {exact}: {how}");
                        }
                    }
                }
                let grads = grads.map(|grad| bits(&grad));
                assert!(*first.get_or_insert(grads.clone()) == grads, "{how}");
            }
        }
    }
}

#[test]
fn sixteen_thousand_positions_are_attended_to() {
    let mut random = Random(6);
    let (heads, head_dim, positions, new) = (4, 32, 1 << 14, 3);
    let kv = random.floats(positions * head_dim);
    let q = random.floats(new * heads * head_dim);
    let blocks: Vec<u32> = (0..positions as u32 / 16).rev().collect();
    for cache_type in cache_types() {
        let layout =
            KvLayout { cache_type, n_kv_heads: 1, head_dim, blocks: blocks.len(), block_len: 16, windowed: false };
        let bytes = cache_type.formats().map(|format| format.row_bytes(positions * head_dim).unwrap());
        let strip = ((bytes[0] + bytes[1]) * 16 / positions).next_multiple_of(64);
        assert_eq!(layout.bytes(), Some(strip * positions / 16));
        // All queries of the sequence, of which only the last are looked at.
        let mut padded = vec![0.0; (positions - new) * heads * head_dim];
        padded.extend_from_slice(&q);
        let one = kept(layout, &Heads { q: padded, k: kv.clone(), v: kv.clone() });
        let exact: Vec<f64> = (positions - new..positions)
            .flat_map(|token| exact_attention(layout, heads, PLAIN, &[], &one, token))
            .collect();
        let mut first: Option<Vec<u32>> = None;
        for mut executor in executors() {
            let mut cache = CacheLines::zeroed(layout.bytes().unwrap());
            let span = |tokens, cached| {
                [Span { row: 0, tokens, cached, blocks: 0..blocks.len(), window_blocks: 0..0, adapter: 0 }]
            };
            executor.store(&kv, &kv, layout, &span(positions, 0), &blocks, &mut cache);
            let spans = span(new, positions - new);
            let job = Attention {
                q: &q,
                n_heads: heads,
                layout,
                cache: &cache,
                options: PLAIN,
                sinks: &[],
                spans: &spans,
                blocks: &blocks,
            };
            let mut out = vec![f32::NAN; q.len()];
            executor.attention(&job, &mut out);
            close(&out, &exact, &cache_type.to_string());
            let out = bits(&out);
            assert_eq!(*first.get_or_insert(out.clone()), out, "{cache_type}, {}", executor.table.name);
        }
    }
}

#[test]
fn a_key_or_value_that_is_not_finite_is_seen() {
    for cache_type in cache_types() {
        for mut executor in executors() {
            let layout =
                KvLayout { cache_type, n_kv_heads: 1, head_dim: 32, blocks: 0, block_len: 16, windowed: false };
            for bad in [f32::NAN, f32::INFINITY] {
                let mut one = Heads { q: vec![1.0; 20 * 32], k: vec![1.0; 20 * 32], v: vec![1.0; 20 * 32] };
                one.v[7 * 32 + 3] = bad;
                let out = attention(&mut executor, layout, 1, PLAIN, &[], &[one], 20).concat();
                assert!((0..20).all(|token| out[token * 32 + 3].is_finite() == (token < 7)), "{cache_type}");
            }
        }
    }
}
