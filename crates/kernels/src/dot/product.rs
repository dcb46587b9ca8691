//! Products with block formats: integer codes under a scale, and perhaps a minimum, for each group of 32 weights.
//!
//! One loop multiplies the groups of all formats. The groups are unpacked once for all tokens and stay in the cache.

use super::block::{BlockFormat, BlockRows, GROUPS, Group, GroupKind, GroupSink, Scales};
use super::rows::{Interleaved, RowMajor};
use super::{AHEAD, prefetch_rows};
use crate::activations::{ActivationBlock, BlockActivations};
use crate::matrix::{Out, Rows};
use crate::simd::{Job, LANES, Simd};
use std::marker::PhantomData;

/// One float for each of 16 rows.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Lanes([f32; LANES]);

/// Stores groups for several tokens.
struct Store<'a, W> {
    groups: &'a mut [Group],
    prefetch: Prefetch,
    format: PhantomData<W>,
}

impl<S: Simd, W: BlockFormat> GroupSink<S> for Store<'_, W> {
    #[inline(always)]
    fn scales(&mut self, n: usize) -> &mut Scales {
        &mut self.groups[n].scales
    }
    #[inline(always)]
    fn codes(&mut self, simd: S, n: usize, codes: [S::B; GROUPS]) {
        self.prefetch.group::<S, W>(simd, n);
        for k in 0..GROUPS {
            simd.store_bytes(codes[k], &mut self.groups[n].codes[k]);
        }
    }
}

/// Multiplies groups by a single token, from the registers that they are unpacked to.
struct Multiply<'a, W> {
    scales: &'a mut [Scales; GROUPS],
    products: &'a mut [Lanes; GROUPS],
    /// The token's columns that the block meets.
    x: &'a [ActivationBlock],
    /// `None` where the CPU's own prefetcher does better.
    prefetch: Option<Prefetch>,
    format: PhantomData<W>,
}

impl<S: Simd, W: BlockFormat> GroupSink<S> for Multiply<'_, W> {
    #[inline(always)]
    fn scales(&mut self, n: usize) -> &mut Scales {
        &mut self.scales[n]
    }
    #[inline(always)]
    fn codes(&mut self, simd: S, n: usize, codes: [S::B; GROUPS]) {
        if let Some(prefetch) = self.prefetch {
            prefetch.group::<S, W>(simd, n);
        }
        let x = self.x[n..].first_chunk().expect("a column");
        let [products] = products::<S, W::Kind, 1>(simd, W::ZERO, &codes, &self.scales[n], x);
        simd.store(products, &mut self.products[n].0);
    }
}

/// Where the codes of a group are: in memory or in registers.
trait Codes<S: Simd> {
    fn vector(&self, simd: S, k: usize) -> S::B;
}

impl<S: Simd> Codes<S> for Group {
    #[inline(always)]
    fn vector(&self, simd: S, k: usize) -> S::B {
        simd.load_bytes(&self.codes[k])
    }
}

impl<S: Simd> Codes<S> for [S::B; GROUPS] {
    #[inline(always)]
    fn vector(&self, _: S, k: usize) -> S::B {
        self[k]
    }
}

/// The address, in the panel after this one, to prefetch while a block is multiplied. The rows of a panel are
/// contiguous and prefetched in order of memory: the CPU would not follow 16 streams of rows.
#[derive(Clone, Copy)]
struct Prefetch(*const u8);

impl Prefetch {
    /// Prefetches the share of group `n`: all shares at once would queue up.
    #[inline(always)]
    fn group<S: Simd, W: BlockFormat>(self, simd: S, n: usize) {
        let lines = (LANES * W::BYTES).div_ceil(64);
        for line in n * lines / W::GROUPS..(n + 1) * lines / W::GROUPS {
            simd.prefetch_l2(self.0.wrapping_add(64 * line));
        }
    }
}

/// Multiplies some rows by all tokens. `groups` is scratch for the unpacked groups of 16 rows, `[cols / 32]`.
#[inline(always)]
pub(crate) fn product<S: Simd, W: BlockFormat>(
    simd: S,
    w: &Rows,
    x: &BlockActivations,
    groups: &mut [Group],
    out: &mut Out,
) {
    if !w.interleaved || x.tokens > 1 {
        prefetch_rows(simd, w, LANES);
    }
    let mut row = w.range.start;
    while row < w.range.end {
        let count = LANES.min(w.range.end - row);
        let (start, blocks) = (w.row(row).as_ptr(), w.stride / W::BYTES);
        if w.interleaved && count == LANES {
            let rows = Interleaved::new(&w.bytes[(row - w.range.start) * w.stride..][..LANES * w.stride]);
            panel::<S, W, _>(simd, Panel { rows, blocks, start, row, count }, x, groups, out);
        } else {
            // Missing rows repeat the last one.
            let rows = std::array::from_fn(|i| w.row(row + i.min(count - 1)).as_ptr());
            panel::<S, W, _>(simd, Panel { rows: RowMajor::new(&rows), blocks, start, row, count }, x, groups, out);
        }
        row += count;
    }
}

/// 16 rows, or the last rows of a matrix.
#[derive(Clone, Copy)]
struct Panel<P> {
    /// The first block of each row.
    rows: P,
    blocks: usize,
    start: *const u8,
    /// The first row, of `count`.
    row: usize,
    count: usize,
}

impl<P: BlockRows> Panel<P> {
    #[inline(always)]
    fn block<W: BlockFormat>(&self, block: usize) -> P {
        assert!(block < self.blocks);
        // SAFETY: `block` is in bounds.
        unsafe { self.rows.block::<W>(block) }
    }

    /// What to prefetch while block `block` is multiplied.
    #[inline(always)]
    fn prefetch<W: BlockFormat>(&self, block: usize) -> Prefetch {
        Prefetch(self.start.wrapping_add(LANES * (self.blocks + block) * W::BYTES + AHEAD))
    }
}

/// A panel by all tokens.
#[inline(always)]
fn panel<S: Simd, W: BlockFormat, P: BlockRows>(
    simd: S,
    panel: Panel<P>,
    x: &BlockActivations,
    groups: &mut [Group],
    out: &mut Out,
) {
    if x.tokens == 1 {
        return dot_one::<S, W, P>(simd, panel, x, out);
    }
    let unpack: &dyn Fn(usize, &mut [Group]) =
        &|block, groups| simd.call(Unpack { panel: &panel, block, groups, format: PhantomData::<W> });
    let mut token = 0;
    while token < x.tokens {
        let (block, zero, row, count) = (W::GROUPS, W::ZERO, panel.row, panel.count);
        let tile = Tile { unpack, groups, block, zero, x, token, row, count, out, kind: PhantomData::<W::Kind> };
        token += match x.tokens - token {
            8.. if S::WIDE => tile.multiply::<S, 8>(simd),
            4.. => tile.multiply::<S, 4>(simd),
            2.. => tile.multiply::<S, 2>(simd),
            _ => tile.multiply::<S, 1>(simd),
        };
    }
}

/// 16 rows by a single token.
#[inline(always)]
fn dot_one<S: Simd, W: BlockFormat, P: BlockRows>(simd: S, panel: Panel<P>, x: &BlockActivations, out: &mut Out) {
    let mut y = [[simd.splat(0.0)]; GROUPS];
    let (mut scales, mut products) = ([Scales::EMPTY; GROUPS], [Lanes([0.0; LANES]); GROUPS]);
    for block in 0..panel.blocks {
        let x = &x.blocks[block * W::GROUPS..][..W::GROUPS];
        let prefetch = (!P::SEQUENTIAL).then(|| panel.prefetch::<W>(block));
        let format = PhantomData;
        let mut sink = Multiply::<W> { scales: &mut scales, products: &mut products, x, prefetch, format };
        W::unpack(simd, panel.block::<W>(block), &mut sink);
        for (n, x) in x.as_chunks().0.iter().enumerate() {
            let (products, y) = ([simd.load(&products[n].0)], &mut y[(block * W::GROUPS + n) % GROUPS]);
            add::<S, W::Kind, 1>(simd, &scales[n], products, x, y);
        }
    }
    finish(simd, panel.row, panel.count, &y, x.first, out);
}

/// A block of 16 rows, unpacked for several tokens.
struct Unpack<'a, W, P> {
    panel: &'a Panel<P>,
    block: usize,
    groups: &'a mut [Group],
    format: PhantomData<W>,
}

impl<W: BlockFormat, P: BlockRows> Job for Unpack<'_, W, P> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Unpack { panel, block, groups, format } = self;
        W::unpack(simd, panel.block::<W>(block), &mut Store { groups, prefetch: panel.prefetch::<W>(block), format });
    }
}

/// 16 rows by some tokens: the same code for all formats of a kind.
struct Tile<'a, 'o, K> {
    /// Unpacks a block; called by the first tile of tokens, for all.
    unpack: &'a dyn Fn(usize, &mut [Group]),
    groups: &'a mut [Group],
    /// [`BlockFormat::GROUPS`] and [`BlockFormat::ZERO`].
    block: usize,
    zero: i32,
    x: &'a BlockActivations<'a>,
    token: usize,
    row: usize,
    count: usize,
    out: &'a mut Out<'o>,
    kind: PhantomData<K>,
}

impl<K: GroupKind> Tile<'_, '_, K> {
    /// Multiplies by `T` tokens.
    #[inline(always)]
    fn multiply<S: Simd, const T: usize>(self, simd: S) -> usize {
        simd.call(TokenTile::<K, T>(self));
        T
    }
}

/// A tile whose number of tokens is constant.
struct TokenTile<'a, 'o, K, const T: usize>(Tile<'a, 'o, K>);

impl<K: GroupKind, const T: usize> Job for TokenTile<'_, '_, K, T> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Tile { unpack, groups, block: len, zero, x, token, row, count, out, .. } = self.0;
        let mut y = [[simd.splat(0.0); T]; GROUPS];
        for (block, columns) in x.blocks.chunks_exact(len * x.tokens).enumerate() {
            // One tile for all tokens keeps the groups in the innermost cache.
            let at = if T == x.tokens { 0 } else { block * len };
            let groups = &mut groups[at..at + len];
            if token == 0 {
                unpack(block, groups);
            }
            for (n, group) in groups.iter().enumerate() {
                let x = columns[n * x.tokens + token..].first_chunk().expect("a column for each token");
                let products = products::<S, K, T>(simd, zero, group, &group.scales, x);
                add::<S, K, T>(simd, &group.scales, products, x, &mut y[(block * len + n) % GROUPS]);
            }
        }
        finish(simd, row, count, &y, x.first + token, out);
    }
}

/// Adds the running sums up.
#[inline(always)]
fn finish<S: Simd, const T: usize>(
    simd: S,
    row: usize,
    count: usize,
    y: &[[S::F; T]; GROUPS],
    token: usize,
    out: &mut Out,
) {
    for t in 0..T {
        let even = simd.add(simd.add(y[0][t], y[4][t]), simd.add(y[2][t], y[6][t]));
        let odd = simd.add(simd.add(y[1][t], y[5][t]), simd.add(y[3][t], y[7][t]));
        let mut lanes = [0.0; LANES];
        simd.store(simd.add(even, odd), &mut lanes);
        out.write(token + t, row, &lanes[..count]);
    }
}

/// The sums of products of a group, before any scale but those of its halves.
#[inline(always)]
fn products<S: Simd, K: GroupKind, const T: usize>(
    simd: S,
    zero: i32,
    codes: &impl Codes<S>,
    scales: &Scales,
    x: &[ActivationBlock; T],
) -> [S::F; T] {
    let mut products = [simd.splat(0.0); T];
    let mut start = [[simd.zero_i32(); T]; 2];
    for t in 0..T {
        let zero = if K::SIGNED { S::BIAS } else { zero };
        if zero != 0 {
            let [low, high] = x[t].halves;
            start[0][t] = simd.splat_i32(-zero * if K::HALVES { low } else { low + high });
            start[1][t] = simd.splat_i32(-zero * high);
        }
    }
    let [mut low, mut high] = start;
    if K::HALVES {
        for k in 0..4 {
            let (a, b) = (codes.vector(simd, k), codes.vector(simd, k + 4));
            for t in 0..T {
                low[t] = simd.dot(low[t], a, simd.splat_i8x4(four(&x[t], k)));
                high[t] = simd.dot(high[t], b, simd.splat_i8x4(four(&x[t], k + 4)));
            }
        }
        let (first, second) = (simd.load(&scales.halves[0]), simd.load(&scales.halves[1]));
        for t in 0..T {
            // Where scales of halves are integers, both products and their sum are below 2^24: exact.
            products[t] = simd.fma(simd.to_f32(low[t]), first, simd.mul(simd.to_f32(high[t]), second));
        }
    } else {
        for k in 0..GROUPS {
            let codes = codes.vector(simd, k);
            for t in 0..T {
                let q = simd.splat_i8x4(four(&x[t], k));
                low[t] = if K::SIGNED { simd.dot_biased(low[t], codes, q) } else { simd.dot(low[t], codes, q) };
            }
        }
        for t in 0..T {
            products[t] = simd.to_f32(low[t]);
        }
    }
    products
}

/// `y` plus the products of a group.
#[inline(always)]
fn add<S: Simd, K: GroupKind, const T: usize>(
    simd: S,
    scales: &Scales,
    products: [S::F; T],
    x: &[ActivationBlock; T],
    y: &mut [S::F; T],
) {
    let (scale, min) = (simd.load(&scales.scale), simd.load(&scales.min[0]));
    for t in 0..T {
        let both = simd.mul(scale, simd.splat(x[t].scale));
        y[t] = simd.fma(both, products[t], y[t]);
        if K::MIN && K::HALVES {
            let [low, high] = x[t].halves;
            y[t] = simd.fma(min, simd.splat(x[t].scale * low as f32), y[t]);
            y[t] = simd.fma(simd.load(&scales.min[1]), simd.splat(x[t].scale * high as f32), y[t]);
        } else if K::MIN {
            y[t] = simd.fma(min, simd.splat(x[t].sum), y[t]);
        }
    }
}

/// Activations `4k..4k + 4` of a block.
#[inline(always)]
fn four(x: &ActivationBlock, k: usize) -> &[i8; 4] {
    &x.q.as_chunks().0[k]
}
