use std::time::Instant;
use trine_kernels::*;
fn med(mut f: impl FnMut(), n: usize) -> (f64, f64) {
    f();
    let mut t: Vec<f64> = (0..n).map(|_| { let s = Instant::now(); f(); s.elapsed().as_secs_f64() }).collect();
    t.sort_by(f64::total_cmp);
    (t[n / 2], t[0])
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let what = args.get(1).map(|s| s.as_str()).unwrap_or("all").to_owned();
    let isa = args.get(2).map(|s| s.as_str()).unwrap_or("avx512").to_owned();
    let (heads, kvh, dim) = (20, 5, 128);
    for threads in [1, 2] {
        let mut m = Machine::new(table(&isa).unwrap(), threads).unwrap();
        // bandwidth: sum of a 256 MB buffer through a float product? use add over big buffers
        for &format in KV_FORMATS {
            if what != "prefill" {
            let ctx: usize = std::env::var("CTX").map_or(16384, |c| c.parse().unwrap());
            let layout = KvLayout { format, heads: kvh, head_dim: dim, blocks: ctx / 16, block_len: 16 };
            let bytes = layout.bytes().unwrap();
            let layers = if ctx < 4096 { 1 } else { (256 << 20) / bytes + 1 };
            let mut caches: Vec<Lines> = (0..layers).map(|_| Lines::zeroed(bytes)).collect();
            let blocks: Vec<u32> = (0..ctx as u32 / 16).collect();
            let kv: Vec<f32> = (0..ctx * kvh * dim).map(|i| ((i * 7919) % 1000) as f32 / 1000.0 - 0.5).collect();
            let spans = [Span { row: 0, tokens: ctx, cached: 0, blocks: 0..blocks.len() }];
            for c in &mut caches { m.store(&kv, &kv, layout, &spans, &blocks, c); }
            let q: Vec<f32> = (0..heads * dim).map(|i| ((i * 31) % 100) as f32 / 100.0 - 0.5).collect();
            let mut out = vec![0.0; q.len()];
            let spans = [Span { row: 0, tokens: 1, cached: ctx - 1, blocks: 0..blocks.len() }];
            let mut i = 0;
            let (t, best) = med(|| { i += 1; let job = Attention { q: &q, heads, layout, cache: &caches[i % layers], scale: 0.088, spans: &spans, blocks: &blocks }; m.attention(&job, &mut out); }, 40);
            println!("{isa} {threads}t {format} decode 16K: {:.0} us, {:.1} GB/s (best {:.1}), {:.1} GFLOP/s", t * 1e6, bytes as f64 / t / 1e9, bytes as f64 / best / 1e9, 4.0 * (ctx * heads * dim) as f64 / t / 1e9);
            }
            if what != "decode" {
            let n = 512;
            let layout = KvLayout { format, heads: kvh, head_dim: dim, blocks: n / 16, block_len: 16 };
            let blocks: Vec<u32> = (0..n as u32 / 16).collect();
            let mut cache = Lines::zeroed(layout.bytes().unwrap());
            let kv: Vec<f32> = (0..n * kvh * dim).map(|i| ((i * 7919) % 1000) as f32 / 1000.0 - 0.5).collect();
            let q: Vec<f32> = (0..n * heads * dim).map(|i| ((i * 31) % 100) as f32 / 100.0 - 0.5).collect();
            let mut out = vec![0.0; q.len()];
            let spans = [Span { row: 0, tokens: n, cached: 0, blocks: 0..blocks.len() }];
            let (ts, _) = med(|| m.store(&kv, &kv, layout, &spans, &blocks, &mut cache), 20);
            let (t, best) = med(|| { let job = Attention { q: &q, heads, layout, cache: &cache, scale: 0.088, spans: &spans, blocks: &blocks }; m.attention(&job, &mut out); }, 20);
            let flops = 4.0 * (n * (n + 1) / 2 * heads * dim) as f64;
            println!("{isa} {threads}t {format} prefill 512: {:.0} us, {:.1} GFLOP/s (best {:.1}); store {:.0} us", t * 1e6, flops / t / 1e9, flops / best / 1e9, ts * 1e6);
            }
        }
        if what != "prefill" {
            // read bandwidth: an f32 product with one token over 256 MB
            let (rows, cols) = (65536, 1024);
            let w = vec![1.0f32; rows * cols];
            let x = vec![1.0f32; cols];
            let mut out = vec![0.0; rows];
            let (t, best) = med(|| m.product(Matrix { format: trine_tensor::format::by_name("F32").unwrap(), rows, cols, bytes: bytemuck::cast_slice(&w) }, Input::Floats(&x), &mut out), 9);
            println!("{threads}t f32 product reads {:.1} GB/s (best {:.1})", 4.0 * (rows * cols) as f64 / t / 1e9, 4.0 * (rows * cols) as f64 / best / 1e9);
        }
    }
}
