//! Products with block formats: integer codes under a scale, and perhaps a minimum, for each group of 32 weights.
//!
//! 16 rows at a time are unpacked, a format's own work, to groups of 32 columns in which a vector holds 4 columns of every row. What
//! multiplies them is one loop for all formats. The groups are unpacked once for all tokens and stay in the cache.

use super::stack::{Apart, Interleaved, Stack};
use super::{AHEAD, Column, Columns, Out, Rows, begin};
use crate::simd::{BYTES, Job, LANES, Simd};
use std::marker::PhantomData;

/// Groups of a block of 256, and running sums.
pub(crate) const GROUPS: usize = 8;

/// 32 columns of 16 rows: `w[row][col] = scale[row] * (code[row][col] - ZERO) + min[row]`, where both halves may have scales and minima of
/// their own.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Group {
    scales: Scales,
    /// Four columns of every row in each vector.
    codes: [[u8; BYTES]; GROUPS],
}

impl Group {
    pub const EMPTY: Group = Group { scales: Scales::EMPTY, codes: [[0; BYTES]; GROUPS] };
}

/// What the codes of a group are multiplied by.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Scales {
    pub scale: [f32; LANES],
    /// Of all columns in the first, or of the first and of the last 16 columns.
    pub min: [[f32; LANES]; 2],
    /// What the codes of the first and of the last 16 columns are multiplied by.
    pub halves: [[f32; LANES]; 2],
}

impl Scales {
    const EMPTY: Scales = Scales { scale: [0.0; LANES], min: [[0.0; LANES]; 2], halves: [[0.0; LANES]; 2] };
}

/// A number of each row.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Lanes([f32; LANES]);

/// A block format: how it is unpacked.
pub(crate) trait Blocks {
    /// Groups of 32 weights, and bytes, of a block.
    const GROUPS: usize;
    const BYTES: usize;
    /// What stands for zero, when codes are unsigned.
    const ZERO: i32 = 0;
    /// How groups are multiplied.
    type Kind: Kind;
    /// Where what a block has at `at` is found when rows are interleaved, in 16ths: the order of use, for the CPU to foresee.
    #[inline(always)]
    fn place(at: usize) -> usize {
        at
    }
    /// Unpacks one block of each of 16 rows.
    fn unpack<S: Simd>(simd: S, blocks: impl Stack, sink: &mut impl Sink<S>);
}

/// What else a group has beside codes and a scale: how it is multiplied, the same for many formats.
pub(crate) trait Kind {
    /// Codes are signed, and raised for [`Simd::dot_raised`].
    const SIGNED: bool = false;
    /// Weights have a minimum beside their scale; with [`Kind::HALVES`] each half has one.
    const MIN: bool = false;
    /// A further scale for each half.
    const HALVES: bool = false;
}

pub(crate) struct Unsigned;
impl Kind for Unsigned {}

pub(crate) struct Signed;
impl Kind for Signed {
    const SIGNED: bool = true;
}

pub(crate) struct Minimum;
impl Kind for Minimum {
    const MIN: bool = true;
}

pub(crate) struct Halves;
impl Kind for Halves {
    const HALVES: bool = true;
}

pub(crate) struct Minima;
impl Kind for Minima {
    const MIN: bool = true;
    const HALVES: bool = true;
}

/// What takes a block as it is unpacked.
pub(crate) trait Sink<S: Simd> {
    /// Where the scales of group `n` go, before any codes do.
    fn scales(&mut self, n: usize) -> &mut Scales;
    /// Takes the codes of group `n`, four columns of every row in each vector.
    fn codes(&mut self, simd: S, n: usize, codes: [S::B; GROUPS]);
}

/// Keeps groups for several tokens.
struct Keep<'a, W> {
    groups: &'a mut [Group],
    ahead: Ahead,
    format: PhantomData<W>,
}

impl<S: Simd, W: Blocks> Sink<S> for Keep<'_, W> {
    #[inline(always)]
    fn scales(&mut self, n: usize) -> &mut Scales {
        &mut self.groups[n].scales
    }
    #[inline(always)]
    fn codes(&mut self, simd: S, n: usize, codes: [S::B; GROUPS]) {
        self.ahead.fetch::<S, W>(simd, n);
        for k in 0..GROUPS {
            simd.store_bytes(codes[k], &mut self.groups[n].codes[k]);
        }
    }
}

/// Multiplies groups by the only token, from the registers that they are unpacked to.
struct Multiply<'a, W> {
    scales: &'a mut [Scales; GROUPS],
    products: &'a mut [Lanes; GROUPS],
    /// The token's columns that the block meets.
    x: &'a [Column],
    /// Nothing where the CPU follows what is read best alone.
    ahead: Option<Ahead>,
    format: PhantomData<W>,
}

impl<S: Simd, W: Blocks> Sink<S> for Multiply<'_, W> {
    #[inline(always)]
    fn scales(&mut self, n: usize) -> &mut Scales {
        &mut self.scales[n]
    }
    #[inline(always)]
    fn codes(&mut self, simd: S, n: usize, codes: [S::B; GROUPS]) {
        if let Some(ahead) = self.ahead {
            ahead.fetch::<S, W>(simd, n);
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
        simd.bytes(&self.codes[k])
    }
}

impl<S: Simd> Codes<S> for [S::B; GROUPS] {
    #[inline(always)]
    fn vector(&self, _: S, k: usize) -> S::B {
        self[k]
    }
}

/// The place in the panel behind this one that is to be fetched while a block is worked on. A panel's rows lie one behind the other, and
/// are fetched as they lie: 16 streams of rows would not all be foreseen.
#[derive(Clone, Copy)]
struct Ahead(*const u8);

impl Ahead {
    /// The part of group `n`. All at once would wait for each other.
    #[inline(always)]
    fn fetch<S: Simd, W: Blocks>(self, simd: S, n: usize) {
        let lines = (LANES * W::BYTES).div_ceil(64);
        for line in n * lines / W::GROUPS..(n + 1) * lines / W::GROUPS {
            simd.prefetch_second(self.0.wrapping_add(64 * line));
        }
    }
}

/// `x` has a scale for each 32 columns; `groups` is room to unpack into, for all columns.
#[inline(always)]
pub(crate) fn product<S: Simd, W: Blocks>(simd: S, w: &Rows, x: &Columns, groups: &mut [Group], out: &mut Out) {
    if !w.interleaved || x.tokens > 1 {
        begin(simd, w, LANES);
    }
    let mut row = w.range.start;
    while row < w.range.end {
        let count = LANES.min(w.range.end - row);
        let (start, blocks) = (w.row(row).as_ptr(), w.stride / W::BYTES);
        if w.interleaved && count == LANES {
            let stack = Interleaved::new(&w.bytes[(row - w.range.start) * w.stride..][..LANES * w.stride]);
            panel::<S, W, _>(simd, Panel { stack, blocks, start, row, count }, x, groups, out);
        } else {
            // Behind the last row it is repeated.
            let rows = std::array::from_fn(|i| w.row(row + i.min(count - 1)).as_ptr());
            panel::<S, W, _>(simd, Panel { stack: Apart::new(&rows), blocks, start, row, count }, x, groups, out);
        }
        row += count;
    }
}

/// 16 rows, or the last of a matrix.
#[derive(Clone, Copy)]
struct Panel<P> {
    /// The first block of each, and how many there are.
    stack: P,
    blocks: usize,
    start: *const u8,
    /// The first row, and how many there are.
    row: usize,
    count: usize,
}

impl<P: Stack> Panel<P> {
    #[inline(always)]
    fn block<W: Blocks>(&self, block: usize) -> P {
        assert!(block < self.blocks);
        // SAFETY: there are so many.
        unsafe { self.stack.block::<W>(block) }
    }

    /// What is far enough behind block `block` to be fetched with it.
    #[inline(always)]
    fn ahead<W: Blocks>(&self, block: usize) -> Ahead {
        Ahead(self.start.wrapping_add(LANES * (self.blocks + block) * W::BYTES + AHEAD))
    }
}

/// A panel by all tokens.
#[inline(always)]
fn panel<S: Simd, W: Blocks, P: Stack>(simd: S, panel: Panel<P>, x: &Columns, groups: &mut [Group], out: &mut Out) {
    if x.tokens == 1 {
        return one::<S, W, P>(simd, panel, x, out);
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

/// 16 rows by the only token.
#[inline(always)]
fn one<S: Simd, W: Blocks, P: Stack>(simd: S, panel: Panel<P>, x: &Columns, out: &mut Out) {
    let mut y = [[simd.splat(0.0)]; GROUPS];
    let (mut scales, mut products) = ([Scales::EMPTY; GROUPS], [Lanes([0.0; LANES]); GROUPS]);
    for block in 0..panel.blocks {
        let x = &x.columns[block * W::GROUPS..][..W::GROUPS];
        let ahead = (!P::ONE_STREAM).then(|| panel.ahead::<W>(block));
        let format = PhantomData;
        let mut sink = Multiply::<W> { scales: &mut scales, products: &mut products, x, ahead, format };
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

impl<W: Blocks, P: Stack> Job for Unpack<'_, W, P> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Unpack { panel, block, groups, format } = self;
        W::unpack(simd, panel.block::<W>(block), &mut Keep { groups, ahead: panel.ahead::<W>(block), format });
    }
}

/// 16 rows by some tokens: the same code for all formats of a kind.
struct Tile<'a, 'o, K> {
    /// Unpacks a block; the first tile of tokens has it done for all.
    unpack: &'a dyn Fn(usize, &mut [Group]),
    groups: &'a mut [Group],
    /// [`Blocks::GROUPS`] and [`Blocks::ZERO`].
    block: usize,
    zero: i32,
    x: &'a Columns<'a>,
    token: usize,
    row: usize,
    count: usize,
    out: &'a mut Out<'o>,
    kind: PhantomData<K>,
}

impl<K: Kind> Tile<'_, '_, K> {
    /// Multiplies by `T` tokens.
    #[inline(always)]
    fn multiply<S: Simd, const T: usize>(self, simd: S) -> usize {
        simd.call(Many::<K, T>(self));
        T
    }
}

/// A tile of `T` tokens.
struct Many<'a, 'o, K, const T: usize>(Tile<'a, 'o, K>);

impl<K: Kind, const T: usize> Job for Many<'_, '_, K, T> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Tile { unpack, groups, block: len, zero, x, token, row, count, out, .. } = self.0;
        let mut y = [[simd.splat(0.0); T]; GROUPS];
        for (block, columns) in x.columns.chunks_exact(len * x.tokens).enumerate() {
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
        out.put(token + t, row, &lanes[..count]);
    }
}

/// The sums of products of a group, before any scale but those of its halves.
#[inline(always)]
fn products<S: Simd, K: Kind, const T: usize>(
    simd: S,
    zero: i32,
    codes: &impl Codes<S>,
    scales: &Scales,
    x: &[Column; T],
) -> [S::F; T] {
    let mut products = [simd.splat(0.0); T];
    let mut start = [[simd.zero(); T]; 2];
    for t in 0..T {
        let zero = if K::SIGNED { S::RAISED } else { zero };
        if zero != 0 {
            let [low, high] = x[t].halves;
            start[0][t] = simd.splat_int(-zero * if K::HALVES { low } else { low + high });
            start[1][t] = simd.splat_int(-zero * high);
        }
    }
    let [mut low, mut high] = start;
    if K::HALVES {
        for k in 0..4 {
            let (a, b) = (codes.vector(simd, k), codes.vector(simd, k + 4));
            for t in 0..T {
                low[t] = simd.dot(low[t], a, simd.splat4(four(&x[t], k)));
                high[t] = simd.dot(high[t], b, simd.splat4(four(&x[t], k + 4)));
            }
        }
        let (first, second) = (simd.load(&scales.halves[0]), simd.load(&scales.halves[1]));
        for t in 0..T {
            // Where scales of halves are integers, both products and their sum are below 2^24: exact.
            products[t] = simd.fma(simd.to_float(low[t]), first, simd.mul(simd.to_float(high[t]), second));
        }
    } else {
        for k in 0..GROUPS {
            let codes = codes.vector(simd, k);
            for t in 0..T {
                let q = simd.splat4(four(&x[t], k));
                low[t] = if K::SIGNED { simd.dot_raised(low[t], codes, q) } else { simd.dot(low[t], codes, q) };
            }
        }
        for t in 0..T {
            products[t] = simd.to_float(low[t]);
        }
    }
    products
}

/// `y` plus the products of a group.
#[inline(always)]
fn add<S: Simd, K: Kind, const T: usize>(
    simd: S,
    scales: &Scales,
    products: [S::F; T],
    x: &[Column; T],
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

/// Bytes `4k..4k + 4`.
#[inline(always)]
fn four(x: &Column, k: usize) -> &[i8; 4] {
    &x.q.as_chunks().0[k]
}
