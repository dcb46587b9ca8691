//! The tiles of TL1 and TL2 matrices, which bitnet.cpp does not record in the file.

use std::collections::HashMap;
use std::path::Path;

use super::evidence::{self, TernaryMatrix, TilesVerdict};
use super::notes::Notes;
use crate::error::in_tensor;
use crate::format::{KernelTiles, Tiles, tiles};
use crate::small::read_small;
use crate::view::matrix;
use crate::{Error, Metadata, Result, TensorInfo};

/// The key with the tiles of TL1 and TL2, in the syntax of `kernel_config.ini`.
pub(super) const KERNELS: &str = "trine.kernel_config";

/// The sources of tiles, read when first needed, and the tiles found so far by format and shape.
#[derive(Default)]
pub(super) struct Sources {
    recorded: Option<Recorded>,
    found: HashMap<(&'static str, [usize; 2]), Tiles>,
}

/// Tiles that are written in the metadata, and in the folder's `kernel_config.ini` if there is one.
struct Recorded {
    metadata: KernelTiles,
    ini: Option<KernelTiles>,
}

const INI: &str = "kernel_config.ini";
const BESIDE: &str = "put the kernel_config.ini of the bitnet.cpp that wrote the file beside it";

impl Sources {
    /// The tiles of a matrix: from the metadata, from the folder, bitnet.cpp's presets, or proved by the weights of all matrices of its
    /// shape (`alike`).
    pub fn tiles<'a>(
        &mut self,
        info: &TensorInfo,
        metadata: &Metadata,
        folder: Option<&Path>,
        alike: impl FnOnce([usize; 2]) -> Vec<TernaryMatrix<'a>>,
        notes: &mut Notes,
    ) -> Result<Tiles> {
        let shape = matrix(&info.shape);
        let key = (info.format.name, shape);
        if let Some(&tiles) = self.found.get(&key) {
            return Ok(tiles);
        }
        if self.recorded.is_none() {
            self.recorded = Some(Recorded::read(metadata, folder)?);
        }
        let tiles = self.recorded.as_ref().expect("just read").find(info, &alike(shape), notes)?;
        self.found.insert(key, tiles);
        Ok(tiles)
    }
}

impl Recorded {
    fn read(metadata: &Metadata, folder: Option<&Path>) -> Result<Recorded> {
        let parse = |place: &str, text: &str| {
            let expected = "sections with m, k, bm, bk and bmm, all of them at least 1";
            tiles::parse(text).map_err(|line| Error::malformed(place, expected, format_args!("{line:?}")))
        };
        let key = crate::error::in_key(KERNELS);
        let metadata = metadata.str(KERNELS)?.map_or(Ok(KernelTiles::new()), |text| parse(&key, text))?;
        let path = folder.map(|folder| folder.join(INI)).filter(|path| path.is_file());
        let read = |path: &Path| {
            let text = read_small(path, 1 << 16)?;
            parse(INI, &String::from_utf8_lossy(&text)).map_err(|e| e.at(path))
        };
        Ok(Recorded { metadata, ini: path.as_deref().map(read).transpose()? })
    }

    fn find(&self, info: &TensorInfo, alike: &[TernaryMatrix], notes: &mut Notes) -> Result<Tiles> {
        let (format, shape) = (info.format, matrix(&info.shape));
        let [rows, cols] = shape;
        let note = |tiles: Tiles, why: &str| format!("{format} of {rows} x {cols} has tiles of {tiles}: {why}");
        let contradicted = |tiles: Tiles, better: Option<Tiles>| {
            let expected = format_args!("{format} with tiles of {tiles}");
            let found = match better {
                None => "a code that is none of -1, 0, 1: kernel_config.ini must be that of the bitnet.cpp that wrote the file".to_owned(),
                Some(tiles) => format!("zeros that are plausible only in tiles of {tiles}: correct kernel_config.ini"),
            };
            Error::malformed(in_tensor(&info.name), expected, found)
        };
        let fit = |tiles: &Tiles| tiles.misfit(format, shape).is_none();
        if let Some(tiles) = of(&self.metadata, shape).find(fit) {
            notes.decided.push(note(tiles, "the key trine.kernel_config has them"));
            return match evidence::tiles(alike, format, Some(tiles), Vec::new()) {
                TilesVerdict::NotTernary => Err(contradicted(tiles, None)),
                _ => Ok(tiles),
            };
        }
        let ini = self.ini.as_deref().unwrap_or_default();
        let written = of(ini, shape).find(fit);
        if let (None, Some(wrong)) = (written, of(ini, shape).find_map(|tiles| tiles.misfit(format, shape))) {
            return Err(self.unknown(info, Some(wrong)));
        }
        let all = || Tiles::all(format, shape);
        let usual = tiles::preset(format, shape).filter(fit);
        let source = if written.is_some() { INI } else { "bitnet.cpp's preset for this model" };
        match (written.or(usual), evidence::tiles(alike, format, written.or(usual), all())) {
            (Some(tiles), TilesVerdict::Proved(proved)) if tiles == proved => {
                notes
                    .decided
                    .push(note(tiles, &format!("{source} has them, and the positions of zeros in the weights agree")));
                Ok(tiles)
            }
            (Some(tiles), TilesVerdict::Open) => {
                let why =
                    format!("{source} has them, and the weights prove nothing; if the output is nonsense, {BESIDE}");
                notes.assumed.push(note(tiles, &why));
                Ok(tiles)
            }
            (Some(tiles), TilesVerdict::Proved(better) | TilesVerdict::Likelier(better)) if written.is_some() => {
                Err(contradicted(tiles, Some(better)))
            }
            (Some(tiles), TilesVerdict::NotTernary) if written.is_some() => Err(contradicted(tiles, None)),
            (_, TilesVerdict::Proved(tiles)) => {
                notes.decided.push(note(tiles, "the positions of zeros in the weights are plausible in these only"));
                Ok(tiles)
            }
            _ => Err(self.unknown(info, None)),
        }
    }

    /// The error for a matrix whose tiles are unknown, or whose section in the file is `wrong`.
    fn unknown(&self, info: &TensorInfo, wrong: Option<String>) -> Error {
        let [rows, cols] = matrix(&info.shape);
        let sections = |ini: &KernelTiles| {
            let sections = ini.iter().map(|([m, k], _)| format!("{m} x {k}")).collect::<Vec<_>>().join(", ");
            if sections.is_empty() { "none".to_owned() } else { sections }
        };
        let why = match (wrong, &self.ini) {
            (Some(wrong), _) => format!("a wrong section in {INI}: {wrong}"),
            (None, Some(ini)) => format!("sections in {INI} for {} only: {BESIDE}", sections(ini)),
            (None, None) => format!("none: {BESIDE}"),
        };
        let place = format!("{}: {} of {rows} x {cols}", in_tensor(&info.name), info.format);
        Error::malformed(place, "the tiles of its kernel", why)
    }
}

/// The tiles recorded for a shape.
fn of(kernels: &[([usize; 2], Tiles)], shape: [usize; 2]) -> impl Iterator<Item = Tiles> {
    kernels.iter().filter(move |(known, _)| *known == shape).map(|&(_, tiles)| tiles)
}
