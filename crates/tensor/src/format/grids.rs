//! The grids of the IQ formats, found by the authors of ggml: `grids.bin`, which `golden/grids.py` writes, unpacked.

/// Points as 16 bits each: 8 numbers of 2 bits or 4 of 4 bits that count levels from the lowest.
static POINTS: &[u8] = include_bytes!("grids.bin");

/// Points of IQ2_XXS.
pub static IQ2_XXS: [[u8; 8]; 256] = points(0, &[8, 25, 43]);
/// Points of IQ2_XS.
pub static IQ2_XS: [[u8; 8]; 512] = points(256, &[8, 25, 43]);
/// Points of IQ2_S.
pub static IQ2_S: [[u8; 8]; 1024] = points(768, &[8, 25, 43]);
/// Points of IQ3_XXS.
pub static IQ3_XXS: [[u8; 4]; 256] = points(1792, &[4, 12, 20, 28, 36, 44, 52, 62]);
/// Points of IQ3_S.
pub static IQ3_S: [[u8; 4]; 512] = points(2048, &[1, 3, 5, 7, 9, 11, 13, 15]);
/// Points of IQ1_S and IQ1_M, each coordinate greater by 1.
pub static IQ1: [[u8; 8]; 2048] = points(2560, &[0, 1, 2]);

/// The `N` points after the first `skip` of the file.
const fn points<const N: usize, const WIDTH: usize>(skip: usize, levels: &[u8]) -> [[u8; WIDTH]; N] {
    let mut points = [[0; WIDTH]; N];
    let bits = 16 / WIDTH;
    let mut n = 0;
    while n < N {
        let packed = u16::from_le_bytes([POINTS[2 * (skip + n)], POINTS[2 * (skip + n) + 1]]);
        let mut i = 0;
        while i < WIDTH {
            points[n][i] = levels[packed as usize >> (bits * i) & ((1 << bits) - 1)];
            i += 1;
        }
        n += 1;
    }
    points
}
