//! Products with block formats: integer codes under a scale, and perhaps a minimum, for each group of 32 weights.
//!
//! 16 rows at a time are unpacked, a format's own work, to groups of 32 columns in which a vector holds 4 columns of every row. What
//! multiplies them is one loop for all formats. The groups are unpacked once for all tokens and stay in the cache.

use super::{Column, Columns, Out, Rows};
use crate::simd::{BYTES, LANES, Simd};

/// Groups of a block of 256, and running sums.
pub(crate) const GROUPS: usize = 8;

/// 32 columns of 16 rows: `w[row][col] = scale[row] * (code[row][col] - ZERO) + min[row]`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Group {
    /// Four columns of every row in each vector.
    pub codes: [[u8; BYTES]; GROUPS],
    pub scale: [f32; LANES],
    pub min: [f32; LANES],
    /// Integers by which the codes of the first and the last 16 columns are multiplied.
    pub halves: [[f32; LANES]; 2],
}

impl Group {
    pub const EMPTY: Group =
        Group { codes: [[0; BYTES]; GROUPS], scale: [0.0; LANES], min: [0.0; LANES], halves: [[0.0; LANES]; 2] };
}

/// A block format: how it is unpacked.
pub(crate) trait Blocks {
    /// Groups of 32 weights, and bytes, of a block.
    const GROUPS: usize;
    const BYTES: usize;
    /// What stands for zero, when codes are unsigned.
    const ZERO: i32 = 0;
    /// Codes are signed, and raised for [`Simd::dot_raised`].
    const SIGNED: bool = false;
    /// Weights have a minimum beside their scale.
    const MIN: bool = false;
    /// Groups have an integer scale for each half.
    const HALVES: bool = false;
    /// Unpacks one block of each of 16 rows.
    fn unpack<S: Simd>(simd: S, blocks: Stack, groups: &mut [Group]);
}

/// One block of each of 16 rows.
#[derive(Clone, Copy)]
pub(crate) struct Stack<'a> {
    rows: &'a [*const u8; LANES],
    /// Where the blocks begin, and their length.
    offset: usize,
    bytes: usize,
}

impl<'a> Stack<'a> {
    /// # Safety
    /// All rows have `bytes` bytes from `offset` on, which live as long as the result.
    unsafe fn new(rows: &'a [*const u8; LANES], offset: usize, bytes: usize) -> Stack<'a> {
        Stack { rows, offset, bytes }
    }

    /// `N` bytes of a row's block.
    #[inline(always)]
    fn get<const N: usize>(self, row: usize, at: usize) -> &'a [u8; N] {
        // Known to the compiler, unlike that a row is long enough.
        assert!(at + N <= self.bytes);
        // SAFETY: inside the block.
        unsafe { &*self.rows[row].add(self.offset + at).cast() }
    }
}

// Loops and not closures below: a closure would not always be inlined where the CPU's features are known.

/// 32 bytes of each of 16 rows as columns of 4 bytes.
#[inline(always)]
fn columns<S: Simd>(simd: S, blocks: Stack, at: usize) -> [S::B; 8] {
    let mut pairs = [simd.splat8(0); 8];
    for j in 0..8 {
        pairs[j] = simd.pair(blocks.get(j, at), blocks.get(j + 8, at));
    }
    simd.transpose8(pairs)
}

/// 16 bytes of each of 16 rows as columns of 4 bytes.
#[inline(always)]
fn quarters<S: Simd>(simd: S, blocks: Stack, at: usize) -> [S::B; 4] {
    let mut quads = [simd.splat8(0); 4];
    for j in 0..4 {
        let (a, b) = (blocks.get(j, at), blocks.get(j + 4, at));
        quads[j] = simd.quad([a, b, blocks.get(j + 8, at), blocks.get(j + 12, at)]);
    }
    simd.transpose4(quads)
}

/// The half-precision number of each row at `at`.
#[inline(always)]
fn halves<S: Simd>(simd: S, blocks: Stack, at: usize) -> S::F {
    let mut bytes = [[0; 2]; LANES];
    for row in 0..LANES {
        bytes[row] = *blocks.get(row, at);
    }
    simd.load_f16(bytes.as_flattened())
}

pub(crate) struct Q8_0;
impl Blocks for Q8_0 {
    const GROUPS: usize = 1;
    const BYTES: usize = 34;
    const SIGNED: bool = true;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: Stack, groups: &mut [Group]) {
        let group = &mut groups[0];
        let columns = columns(simd, blocks, 2);
        for k in 0..8 {
            simd.store_bytes(simd.raise(columns[k]), &mut group.codes[k]);
        }
        simd.store(halves(simd, blocks, 0), &mut group.scale);
    }
}

pub(crate) struct Q4_0;
impl Blocks for Q4_0 {
    const GROUPS: usize = 1;
    const BYTES: usize = 18;
    const ZERO: i32 = 8;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: Stack, groups: &mut [Group]) {
        let group = &mut groups[0];
        let columns = quarters(simd, blocks, 2);
        for k in 0..4 {
            simd.store_bytes(simd.shift_mask(columns[k], 0, 0x0f), &mut group.codes[k]);
            simd.store_bytes(simd.shift_mask(columns[k], 4, 0x0f), &mut group.codes[k + 4]);
        }
        simd.store(halves(simd, blocks, 0), &mut group.scale);
    }
}

/// Scales and minima of Q4_K and Q5_K: `d` and `dmin` in half precision, then eight pairs of 6 bits in 12 bytes.
#[inline(always)]
fn six_bits<S: Simd>(simd: S, blocks: Stack, groups: &mut [Group]) {
    let [d, a, b, c] = quarters(simd, blocks, 0);
    let [d, min] = simd.two_f16(d);
    let min = simd.sub(simd.splat(0.0), min);
    let scales = [simd.shift_mask(a, 0, 0x3f), simd.or(simd.shift_mask(c, 0, 0x0f), simd.shift_mask(a, 2, 0x30))];
    let mins = [simd.shift_mask(b, 0, 0x3f), simd.or(simd.shift_mask(c, 4, 0x0f), simd.shift_mask(b, 2, 0x30))];
    for (i, group) in groups.iter_mut().enumerate() {
        let (scale, six) = (simd.byte(scales[i / 4], i as u32 % 4), simd.byte(mins[i / 4], i as u32 % 4));
        simd.store(simd.mul(d, simd.to_float(scale)), &mut group.scale);
        simd.store(simd.mul(min, simd.to_float(six)), &mut group.min);
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct Q4_K;
impl Blocks for Q4_K {
    const GROUPS: usize = 8;
    const BYTES: usize = 144;
    const MIN: bool = true;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: Stack, groups: &mut [Group]) {
        six_bits(simd, blocks, groups);
        for (i, [even, odd]) in groups.as_chunks_mut().0.iter_mut().enumerate() {
            let columns = columns(simd, blocks, 16 + 32 * i);
            for k in 0..8 {
                simd.store_bytes(simd.shift_mask(columns[k], 0, 0x0f), &mut even.codes[k]);
                simd.store_bytes(simd.shift_mask(columns[k], 4, 0x0f), &mut odd.codes[k]);
            }
        }
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct Q5_K;
impl Blocks for Q5_K {
    const GROUPS: usize = 8;
    const BYTES: usize = 176;
    const MIN: bool = true;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: Stack, groups: &mut [Group]) {
        six_bits(simd, blocks, groups);
        // Bit `i` of each byte is the fifth of group `i`.
        let fifth = columns(simd, blocks, 16);
        for (pair, [even, odd]) in groups.as_chunks_mut().0.iter_mut().enumerate() {
            let columns = columns(simd, blocks, 48 + 32 * pair);
            for (half, group) in [even, odd].into_iter().enumerate() {
                let bit = 2 * pair as u32 + half as u32;
                for k in 0..8 {
                    let low = simd.shift_mask(columns[k], 4 * half as u32, 0x0f);
                    let high = match bit {
                        0..4 => simd.lift_mask(fifth[k], 4 - bit, 0x10),
                        _ => simd.shift_mask(fifth[k], bit - 4, 0x10),
                    };
                    simd.store_bytes(simd.or(low, high), &mut group.codes[k]);
                }
            }
        }
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct Q6_K;
impl Blocks for Q6_K {
    const GROUPS: usize = 8;
    const BYTES: usize = 210;
    const ZERO: i32 = 32;
    const HALVES: bool = true;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: Stack, groups: &mut [Group]) {
        let d = halves(simd, blocks, 208);
        let scales = quarters(simd, blocks, 192);
        for (i, group) in groups.iter_mut().enumerate() {
            simd.store(d, &mut group.scale);
            for (half, out) in group.halves.iter_mut().enumerate() {
                let scale = simd.signed_byte(scales[i / 2], 2 * (i as u32 % 2) + half as u32);
                simd.store(simd.to_float(scale), out);
            }
        }
        for (half, groups) in groups.chunks_exact_mut(4).enumerate() {
            let low = [columns(simd, blocks, 64 * half), columns(simd, blocks, 64 * half + 32)];
            let high = columns(simd, blocks, 128 + 32 * half);
            for (quarter, group) in groups.iter_mut().enumerate() {
                for k in 0..8 {
                    let low = simd.shift_mask(low[quarter % 2][k], 4 * (quarter as u32 / 2), 0x0f);
                    let high = match quarter {
                        0 => simd.lift_mask(high[k], 4, 0x30),
                        1 => simd.lift_mask(high[k], 2, 0x30),
                        2 => simd.shift_mask(high[k], 0, 0x30),
                        _ => simd.shift_mask(high[k], 2, 0x30),
                    };
                    simd.store_bytes(simd.or(low, high), &mut group.codes[k]);
                }
            }
        }
    }
}

/// `x` has a scale for each 32 columns; `groups` is room to unpack into, for all columns.
#[inline(always)]
pub(crate) fn product<S: Simd, W: Blocks>(simd: S, w: &Rows, x: &Columns, groups: &mut [Group], out: &mut Out) {
    let mut row = w.range.start;
    while row < w.range.end {
        let count = LANES.min(w.range.end - row);
        // Behind the last row it is repeated.
        let rows: [&[u8]; LANES] = std::array::from_fn(|i| w.row(row + i.min(count - 1)));
        let mut token = 0;
        while token < x.tokens {
            let left = x.tokens - token;
            let size = match left {
                8.. if S::WIDE => 8,
                4.. => 4,
                2.. => 2,
                _ => 1,
            };
            let panel = Panel { rows: &rows, row, count, first: token == 0, last: left == size };
            match size {
                8 => tile::<S, W, 8>(simd, panel, x, token, groups, out),
                4 => tile::<S, W, 4>(simd, panel, x, token, groups, out),
                2 => tile::<S, W, 2>(simd, panel, x, token, groups, out),
                _ => tile::<S, W, 1>(simd, panel, x, token, groups, out),
            }
            token += size;
        }
        row += count;
    }
}

/// 16 rows, or the last of a matrix.
struct Panel<'a> {
    rows: &'a [&'a [u8]; LANES],
    /// The first, and how many there are.
    row: usize,
    count: usize,
    /// These tokens are the first: the rows are not unpacked yet.
    first: bool,
    /// These tokens are the last: what is unpacked may be overwritten.
    last: bool,
}

/// 16 rows by `T` tokens.
#[inline(always)]
fn tile<S: Simd, W: Blocks, const T: usize>(
    simd: S,
    panel: Panel,
    x: &Columns,
    token: usize,
    groups: &mut [Group],
    out: &mut Out,
) {
    let mut y = [[simd.splat(0.0); T]; GROUPS];
    let stride = panel.rows[0].len();
    let pointers = panel.rows.map(|row| row.as_ptr());
    for block in 0..stride / W::BYTES {
        // One tile for all tokens keeps the groups in the innermost cache.
        let at = if panel.first && panel.last { 0 } else { block * W::GROUPS };
        let groups = &mut groups[at..at + W::GROUPS];
        if panel.first {
            // SAFETY: the rows have `stride` bytes, which are whole blocks.
            let blocks = unsafe { Stack::new(&pointers, block * W::BYTES, W::BYTES) };
            W::unpack(simd, blocks, groups);
            // The panel behind this one, a line at a time: 16 streams of rows would not all be foreseen.
            let next = pointers[0].wrapping_add(LANES * (stride + block * W::BYTES));
            for line in (0..LANES * W::BYTES).step_by(64) {
                simd.prefetch(next.wrapping_add(line));
            }
        }
        for (i, group) in groups.iter().enumerate() {
            let g = block * W::GROUPS + i;
            let x = x.columns[g * x.tokens + token..].first_chunk().expect("a column for each token");
            add::<S, W, T>(simd, group, x, &mut y[g % GROUPS]);
        }
    }
    for t in 0..T {
        let even = simd.add(simd.add(y[0][t], y[4][t]), simd.add(y[2][t], y[6][t]));
        let odd = simd.add(simd.add(y[1][t], y[5][t]), simd.add(y[3][t], y[7][t]));
        let mut lanes = [0.0; LANES];
        simd.store(simd.add(even, odd), &mut lanes);
        out.put(token + t, panel.row, &lanes[..panel.count]);
    }
}

/// `y` plus the products of a group.
#[inline(always)]
fn add<S: Simd, W: Blocks, const T: usize>(simd: S, group: &Group, x: &[Column; T], y: &mut [S::F; T]) {
    let mut products = [simd.splat(0.0); T];
    let mut start = [[simd.zero(); T]; 2];
    for t in 0..T {
        let zero = if W::SIGNED { S::RAISED } else { W::ZERO };
        if zero != 0 {
            let [low, high] = x[t].halves;
            start[0][t] = simd.splat_int(-zero * if W::HALVES { low } else { low + high });
            start[1][t] = simd.splat_int(-zero * high);
        }
    }
    let [mut low, mut high] = start;
    if W::HALVES {
        for k in 0..4 {
            let (a, b) = (simd.bytes(&group.codes[k]), simd.bytes(&group.codes[k + 4]));
            for t in 0..T {
                low[t] = simd.dot(low[t], a, simd.splat4(four(&x[t], k)));
                high[t] = simd.dot(high[t], b, simd.splat4(four(&x[t], k + 4)));
            }
        }
        let (first, second) = (simd.load(&group.halves[0]), simd.load(&group.halves[1]));
        for t in 0..T {
            // Both products and their sum are below 2^24: exact.
            products[t] = simd.fma(simd.to_float(low[t]), first, simd.mul(simd.to_float(high[t]), second));
        }
    } else {
        for k in 0..GROUPS {
            let codes = simd.bytes(&group.codes[k]);
            for t in 0..T {
                let q = simd.splat4(four(&x[t], k));
                low[t] = if W::SIGNED { simd.dot_raised(low[t], codes, q) } else { simd.dot(low[t], codes, q) };
            }
        }
        for t in 0..T {
            products[t] = simd.to_float(low[t]);
        }
    }
    let (scale, min) = (simd.load(&group.scale), simd.load(&group.min));
    for t in 0..T {
        let both = simd.mul(scale, simd.splat(x[t].scale));
        y[t] = simd.fma(both, products[t], y[t]);
        if W::MIN {
            y[t] = simd.fma(min, simd.splat(x[t].sum), y[t]);
        }
    }
}

/// Bytes `4k..4k + 4`.
#[inline(always)]
fn four(x: &Column, k: usize) -> &[i8; 4] {
    &x.q.as_chunks().0[k]
}
