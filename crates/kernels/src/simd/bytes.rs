//! Vectors of 64 bytes: loads, shifts, table lookups.

/// Bytes of [`SimdBytes::B`].
pub(crate) const BYTES: usize = 64;

/// Operations on 64 bytes, which unpack the codes of quantized weights.
pub(crate) trait SimdBytes: Copy {
    /// 64 bytes, signed or unsigned as the operation says.
    type B: Copy;

    fn load_bytes(self, x: &[u8; BYTES]) -> Self::B;
    /// Fewer than 64 bytes, then zeros.
    #[inline(always)]
    fn load_partial(self, x: &[u8]) -> Self::B {
        let mut all = [0; BYTES];
        all[..x.len()].copy_from_slice(x);
        self.load_bytes(&all)
    }
    /// 32 bytes, then 32 others.
    fn load_halves(self, low: &[u8; 32], high: &[u8; 32]) -> Self::B;
    fn load_quarters(self, x: [&[u8; 16]; 4]) -> Self::B;
    fn store_bytes(self, a: Self::B, out: &mut [u8; BYTES]);
    fn splat_u8(self, x: u8) -> Self::B;
    /// 4 bytes, repeated 16 times.
    fn splat_i8x4(self, x: &[i8; 4]) -> Self::B;
    fn or(self, a: Self::B, b: Self::B) -> Self::B;
    /// Every byte shifted right by `n` in 0..8, and masked by `mask`, which must clear what the
    /// shift brings in from a neighbour.
    fn shr_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B;
    /// Every byte shifted left by `n`, and masked likewise.
    fn shl_mask(self, a: Self::B, n: u32, mask: u8) -> Self::B;
    /// The entry of the table for each byte, which is below 16.
    fn lookup(self, table: &[u8; 16], a: Self::B) -> Self::B;
    /// The points of a grid with the indices `low + 256 * high`, byte by byte: `WIDTH` bytes of every lane for its
    /// four points, one after the other, 4 bytes in each vector.
    #[inline(always)]
    fn grid_points<const WIDTH: usize, const N: usize>(
        self,
        grid: &Grid<WIDTH, N>,
        low: Self::B,
        high: Self::B,
    ) -> [Self::B; WIDTH] {
        let (mut indices, mut bytes, mut points) = ([[0; BYTES]; 2], [[0; BYTES]; WIDTH], [low; WIDTH]);
        self.store_bytes(low, &mut indices[0]);
        self.store_bytes(high, &mut indices[1]);
        for i in 0..BYTES {
            let index = indices[0][i] as usize | (indices[1][i] as usize) << 8;
            let point = &grid.points.as_flattened()[index % (BYTES * N)];
            for (j, four) in point.as_chunks::<4>().0.iter().enumerate() {
                bytes[i % 4 * (WIDTH / 4) + j].as_chunks_mut().0[i / 4] = *four;
            }
        }
        for k in 0..WIDTH {
            points[k] = self.load_bytes(&bytes[k]);
        }
        points
    }
    /// Byte `j` of each lane of 4 bytes: those 8 bits of the lane that begin at bit `at[j]`, masked by `mask[j]`,
    /// which clears all bits beyond the lane.
    fn bit_fields(self, a: Self::B, at: [u32; 4], mask: [u8; 4]) -> Self::B;
    /// Bits `4 n..4 n + 4` of each lane of 4 bytes, a byte for each: `value`, a power of two, where the bit is set, or 0.
    fn expand_bits(self, a: Self::B, n: u32, value: u8) -> Self::B;
    /// For each byte, five trits packed as a fixed-point fraction of 256: trit `n` is the high byte
    /// of `3 * (byte * 3^n mod 256)`.
    fn trits(self, a: Self::B) -> [Self::B; 5];
    /// Rows of 8 groups of 4 bytes, two in each input (`j` and `j + 8`), to columns: output `c` has
    /// group `c` of each of the 16 rows.
    fn transpose8(self, rows: [Self::B; 8]) -> [Self::B; 8];
    /// The same for 4 groups: input `j` has rows `j`, `j + 4`, `j + 8` and `j + 12`.
    fn transpose4(self, rows: [Self::B; 4]) -> [Self::B; 4];
}

/// `64 N` points of `WIDTH` coordinates.
pub(crate) struct Grid<const WIDTH: usize, const N: usize> {
    pub points: [[[u8; WIDTH]; BYTES]; N],
    /// The same in 16 bits each: first the low bytes of all, then the high ones.
    pub packed: [[[u8; BYTES]; N]; 2],
}

/// For [`SimdBytes::expand_bits`]: which byte of 16 holds the bits of each.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
pub(super) fn bit_sources(n: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    for i in 0..16 {
        bytes[i] = (i / 4 * 4) as u8 + n as u8 / 2;
    }
    bytes
}

/// For [`SimdBytes::expand_bits`]: the mask of each bit in its byte.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
pub(super) fn bit_masks(n: u32) -> [i8; 4] {
    let first = 1u8 << (n % 2 * 4);
    [first as i8, (first << 1) as i8, (first << 2) as i8, (first << 3) as i8]
}
