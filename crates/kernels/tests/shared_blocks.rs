//! Sequences that begin with the same blocks: attention over all of them at once has the bits of each alone.

mod common;

use common::{Random, bits, executors};
use trine_kernels::{
    Attention, AttentionOptions, CacheLine, CacheLines, CacheType, CpuExecutor, KV_FORMATS, KvLayout, Span,
};

/// A sequence that begins with `shared` positions of an earlier one: how many it has in the cache, and how many are new.
struct Sequence {
    of: usize,
    shared: usize,
    cached: usize,
    tokens: usize,
}

const fn sequence(of: usize, shared: usize, cached: usize, tokens: usize) -> Sequence {
    Sequence { of, shared, cached, tokens }
}

/// A long beginning and a shorter one, in turn and with tokens of a proposal; prompts, and sequences that share nothing.
const SEQUENCES: [Sequence; 10] = [
    sequence(0, 0, 900, 1),
    sequence(0, 0, 700, 1),
    sequence(0, 768, 776, 1),
    sequence(1, 576, 600, 3),
    sequence(0, 288, 300, 40),
    sequence(0, 768, 1040, 1),
    sequence(1, 576, 576, 1),
    sequence(0, 0, 20, 1),
    sequence(0, 864, 864, 7),
    sequence(4, 192, 255, 2),
];

/// Heads of queries, of keys and values, and their size.
type Shape = (usize, usize, usize);

/// The block tables of all sequences, their spans, and the number of blocks. Where there is a window, there are no blocks before it.
fn tables(block_len: usize, window: Option<usize>) -> (Vec<u32>, Vec<Span>, usize) {
    let (mut blocks, mut spans, mut next, mut row) = (Vec::new(), Vec::<Span>::new(), 0, 0);
    for &Sequence { of, shared, cached, tokens } in &SEQUENCES {
        let (start, len) = (blocks.len(), (cached + tokens).div_ceil(block_len));
        let shared = shared / block_len;
        if shared > 0 {
            blocks.extend_from_within(spans[of].blocks.start..spans[of].blocks.start + shared);
        }
        let new = next..next + (len - shared) as u32;
        // Later positions first.
        blocks.extend(new.clone().rev());
        next = new.end;
        let range = start..blocks.len();
        spans.push(Span { row, tokens, cached, blocks: range.clone(), window_blocks: range, adapter: 0 });
        row += tokens;
    }
    if let Some(window) = window {
        for span in &mut spans {
            let gone = (span.cached + 1).saturating_sub(window) / block_len;
            let start = blocks.len();
            blocks.extend(std::iter::repeat_n(u32::MAX, gone));
            blocks.extend_from_within(span.blocks.start + gone..span.blocks.end);
            span.window_blocks = start..blocks.len();
        }
    }
    (blocks, spans, next as usize)
}

/// Writes random keys and values of all positions.
fn filled(executor: &mut CpuExecutor, layout: KvLayout, blocks: &[u32], spans: &[Span]) -> CacheLines {
    let mut cache = CacheLines::zeroed(layout.bytes().unwrap());
    for (i, (span, sequence)) in spans.iter().zip(&SEQUENCES).enumerate() {
        let mut random = Random(i as u64);
        let tokens = span.cached + span.tokens - sequence.shared;
        let mut floats = || random.floats(tokens * layout.n_kv_heads * layout.head_dim);
        let all = Span { row: 0, tokens, cached: sequence.shared, window_blocks: 0..0, ..span.clone() };
        let layout = KvLayout { windowed: false, ..layout };
        executor.store(&floats(), &floats(), layout, &[all], blocks, &mut cache);
    }
    cache
}

/// Compares the attention of all sequences at once with that of each alone.
fn compare(
    executor: &mut CpuExecutor,
    (heads, _, dim): Shape,
    layout: KvLayout,
    options: AttentionOptions,
    (blocks, spans): (&[u32], &[Span]),
    cache: &[CacheLine],
) {
    let rows: usize = spans.iter().map(|span| span.tokens).sum();
    let q = Random(99).floats(rows * heads * dim);
    let sinks = Random(98).floats(heads);
    let mut attend = |spans: &[Span]| {
        let mut out = vec![f32::NAN; q.len()];
        let job = Attention { q: &q, n_heads: heads, layout, cache, options, sinks: &sinks, spans, blocks };
        executor.attention(&job, &mut out);
        bits(&out)
    };
    let found = attend(spans);
    let name = |threads| format!("{}, {options:?}, {dim}, {threads} threads", layout.cache_type);
    for (i, span) in spans.iter().enumerate() {
        let expected = attend(std::slice::from_ref(span));
        let range = span.row * heads * dim..(span.row + span.tokens) * heads * dim;
        assert!(found[range.clone()].iter().all(|&bits| !f32::from_bits(bits).is_nan()));
        assert!(found[range.clone()] == expected[range], "sequence {i}: {}", name(executor.threads()));
    }
}

const PLAIN: AttentionOptions = AttentionOptions { scale: 0.4, window: None, softcap: None, causal: true };

#[test]
fn sequences_with_the_same_blocks_have_the_bits_of_each_alone() {
    let mixed = ["q8_0/q4_0", "q4_0/f32", "f16/q8_0"].map(|mixed| mixed.parse().unwrap());
    let cache_types: Vec<CacheType> = KV_FORMATS.iter().map(|format| CacheType::both(format)).chain(mixed).collect();
    for (shape, block_len, cache_types) in
        [((4, 2, 20), 16, &cache_types[..]), ((3, 3, 64), 32, &[CacheType::F32]), ((8, 1, 48), 96, &[CacheType::F32])]
    {
        for &cache_type in cache_types {
            let (_, n_kv_heads, head_dim) = shape;
            for window in [None, Some(7), Some(300), Some(700)] {
                let (blocks, spans, count) = tables(block_len, window);
                let windowed = window.is_some();
                let layout = KvLayout { cache_type, n_kv_heads, head_dim, blocks: count, block_len, windowed };
                let options = AttentionOptions { window, softcap: window.map(|_| 2.0), ..PLAIN };
                for mut executor in executors() {
                    let cache = filled(&mut executor, layout, &blocks, &spans);
                    compare(&mut executor, shape, layout, options, (&blocks, &spans), &cache);
                }
            }
        }
    }
}
