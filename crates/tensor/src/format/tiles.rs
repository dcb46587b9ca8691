//! The tiles that determine the order of TL1 and TL2. They are constants in a build of bitnet.cpp, which does not record them in files.

use std::fmt;
use std::num::NonZero;

use super::Format;

/// The tiles of a matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tiles {
    /// Rows per tile: `BM`.
    pub rows: usize,
    /// Columns per tile: `BK`.
    pub cols: usize,
    /// Rows per step of a kernel: `bm`.
    pub step: usize,
}

/// Tiles by the shape of matrices, `[rows, cols]`.
pub type KernelTiles = Vec<([usize; 2], Tiles)>;

/// The presets of bitnet.cpp's `setup_env.py` for its models: type, `[rows, columns]`, `[BM, BK, bm]`.
#[rustfmt::skip]
static PRESETS: &[(&str, [usize; 2], [usize; 3])] = &[
    ("TL1", [1536, 4096], [256, 128, 32]), ("TL1", [1536, 1536], [128, 64, 64]), ("TL1", [4096, 1536], [256, 128, 32]),
    ("TL1", [3200, 8640], [160, 64, 32]), ("TL1", [3200, 3200], [320, 128, 64]), ("TL1", [8640, 3200], [320, 64, 32]),
    ("TL1", [14336, 4096], [256, 128, 32]), ("TL1", [4096, 14336], [128, 64, 64]),
    ("TL1", [1024, 4096], [256, 128, 32]), ("TL1", [4096, 4096], [128, 64, 64]),
    ("TL2", [1536, 4096], [256, 96, 32]), ("TL2", [1536, 1536], [128, 192, 32]), ("TL2", [4096, 1536], [256, 96, 32]),
    ("TL2", [3200, 8640], [160, 96, 32]), ("TL2", [3200, 3200], [320, 96, 32]), ("TL2", [8640, 3200], [320, 96, 32]),
    ("TL2", [14336, 4096], [256, 96, 32]), ("TL2", [4096, 14336], [128, 96, 32]),
    ("TL2", [1024, 4096], [256, 96, 32]), ("TL2", [4096, 4096], [128, 96, 32]),
];

/// The preset of bitnet.cpp for a shape.
pub(crate) fn preset(format: &Format, shape: [usize; 2]) -> Option<Tiles> {
    let found = PRESETS.iter().find(|(name, known, _)| *name == format.name && *known == shape);
    found.map(|&(.., [rows, cols, step])| Tiles { rows, cols, step })
}

impl fmt::Display for Tiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tiles { rows, cols, step } = self;
        write!(f, "{rows} x {cols}, {step} rows at once (bm = {rows}, bk = {cols}, bmm = {step})")
    }
}

impl Tiles {
    /// The tiles for writing a matrix; `None` if none fit.
    pub(crate) fn choose(format: &Format, [rows, cols]: [usize; 2]) -> Option<Tiles> {
        let widths: &[usize] = if format.name == "TL1" { &[128, 64, 32, 16, 8] } else { &[96] };
        let tall = [256, 160, 128, 96, 64, 32].into_iter().find(|&n| rows.is_multiple_of(n))?;
        let fits = |&width: &usize| Tiles { rows: tall, cols: width, step: 32 };
        widths.iter().map(fits).find(|tiles| tiles.misfit(format, [rows, cols]).is_none())
    }

    /// Why a matrix of this shape cannot have these tiles, in the names of `kernel_config.ini`; `None` if it can.
    pub(crate) fn misfit(&self, format: &Format, [m, k]: [usize; 2]) -> Option<String> {
        let Tiles { rows: bm, cols: bk, step: bmm } = *self;
        let multiple = |n: usize, of: usize| of != 0 && n.is_multiple_of(of);
        let steps: &[usize] = if format.name == "TL1" { &[16, 32, 64] } else { &[32] };
        let wrong = if !steps.contains(&bmm) {
            format!("bmm = {bmm}, expected one of {steps:?}")
        } else if !multiple(bm, bmm) {
            format!("bm = {bm}, expected a multiple of bmm = {bmm}")
        } else if !multiple(m, bm) {
            format!("bm = {bm}, expected a divisor of m = {m}")
        } else if format.name == "TL1" {
            match multiple(bk, 256 / bmm) && multiple(k, bk) {
                true => return None,
                false => format!("bk = {bk}, expected a multiple of {} that divides k = {k}", 256 / bmm),
            }
        } else {
            // 24 columns by 32 rows share words of signs. The columns after the last tile are stored in pairs, 32 columns at a time.
            match multiple(bk, 24) && k % bk <= 256 && k % bk % 32 == 0 {
                true => return None,
                false => format!(
                    "bk = {bk}, expected a multiple of 24 that leaves a multiple of 32, at most 256, of k = {k}"
                ),
            }
        };
        Some(wrong)
    }

    /// All tiles that a build of bitnet.cpp may have for a matrix of this shape.
    pub(crate) fn all(format: &Format, shape: [usize; 2]) -> Vec<Tiles> {
        let widths: &[usize] =
            if format.name == "TL1" { &[16, 32, 64, 96, 128, 160, 256, 512] } else { &[24, 48, 96, 192, 384] };
        let tall = [16, 32, 64, 96, 128, 160, 192, 256, 320, 384, 512];
        let all = tall.into_iter().flat_map(|rows| widths.iter().map(move |&cols| (rows, cols)));
        let all = all.flat_map(|(rows, cols)| [16, 32, 64].map(|step| Tiles { rows, cols, step }));
        all.filter(|tiles| tiles.cols <= shape[1] && tiles.misfit(format, shape).is_none()).collect()
    }
}

/// Parses `kernel_config.ini` of bitnet.cpp: sections with `m`, `k`, `bm`, `bk` and `bmm`, all of them at least 1. `Err` has the invalid line.
pub(crate) fn parse(text: &str) -> Result<KernelTiles, String> {
    let mut kernels = KernelTiles::new();
    let mut section: Option<[Option<usize>; 5]> = None;
    let mut close = |section: Option<[Option<usize>; 5]>| match section {
        Some([Some(m), Some(k), Some(rows), Some(cols), Some(step)]) => {
            kernels.push(([m, k], Tiles { rows, cols, step }));
            Ok(())
        }
        Some(_) => Err("a section without all of m, k, bm, bk and bmm".to_owned()),
        None => Ok(()),
    };
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if line.starts_with('[') {
            close(section.replace([None; 5]))?;
            continue;
        }
        let wrong = || line.chars().take(80).collect::<String>();
        let (key, value) = line.split_once('=').ok_or_else(wrong)?;
        let value = value.trim().parse::<NonZero<usize>>().map_err(|_| wrong())?.get();
        let i = ["m", "k", "bm", "bk", "bmm"].iter().position(|name| *name == key.trim()).ok_or_else(wrong)?;
        section.as_mut().ok_or_else(wrong)?[i] = Some(value);
    }
    close(section)?;
    Ok(kernels)
}

/// The inverse of [`parse`].
pub(crate) fn print(kernels: &KernelTiles) -> String {
    let section = |(i, ([m, k], tiles)): (usize, &([usize; 2], Tiles))| {
        let Tiles { rows, cols, step } = tiles;
        format!("[Kernels_{i}]\nm = {m}\nk = {k}\nbm = {rows}\nbk = {cols}\nbmm = {step}\n")
    };
    kernels.iter().enumerate().map(section).collect::<Vec<_>>().join("\n")
}
