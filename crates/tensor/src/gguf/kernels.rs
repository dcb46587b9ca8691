//! Which tiles the matrices of TL1 and TL2 have, of which bitnet.cpp records nothing.

use std::collections::HashMap;
use std::path::Path;

use super::dialect::{KERNELS, Notes};
use super::evidence::{self, Matrix, Verdict};
use crate::format::{Kernels, Tiles, tiles};
use crate::view::matrix;
use crate::{Entry, Error, Metadata, Result, file::read_small};

/// Where tiles are looked up, each read when it is first asked.
#[derive(Default)]
pub(super) struct Sources {
    known: Option<Known>,
    settled: HashMap<(&'static str, [usize; 2]), Tiles>,
}

/// Tiles that somebody wrote down: in the metadata, and in the folder if there is such a file.
struct Known {
    ours: Kernels,
    ini: Option<Kernels>,
}

const INI: &str = "kernel_config.ini";
const BESIDE: &str = "put the kernel_config.ini of the bitnet.cpp that wrote the file beside it";

impl Sources {
    /// The tiles of a matrix: from the metadata, from the folder, bitnet.cpp's own, or those that the weights of the matrices of its shape,
    /// which are `alike`, prove.
    pub fn tiles<'a>(
        &mut self,
        entry: &Entry,
        metadata: &Metadata,
        folder: Option<&Path>,
        alike: impl FnOnce([usize; 2]) -> Vec<Matrix<'a>>,
        notes: &mut Notes,
    ) -> Result<Tiles> {
        let shape = matrix(&entry.shape);
        let key = (entry.format.name, shape);
        if let Some(&tiles) = self.settled.get(&key) {
            return Ok(tiles);
        }
        if self.known.is_none() {
            self.known = Some(Known::read(metadata, folder)?);
        }
        let tiles = self.known.as_ref().expect("just read").settle(entry, &alike(shape), notes)?;
        self.settled.insert(key, tiles);
        Ok(tiles)
    }
}

impl Known {
    fn read(metadata: &Metadata, folder: Option<&Path>) -> Result<Known> {
        let parse = |what, text: &str| tiles::parse(text).map_err(|line| Error::KernelConfig { what, line });
        let ours =
            metadata.str(KERNELS)?.map_or(Ok(Kernels::new()), |text| parse("the key trine.kernel_config", text))?;
        let path = folder.map(|folder| folder.join(INI)).filter(|path| path.is_file());
        let read = |path: &Path| {
            let text = read_small(path, 1 << 16)?;
            parse("the tiles of kernels", &String::from_utf8_lossy(&text)).map_err(|e| e.at(path))
        };
        Ok(Known { ours, ini: path.as_deref().map(read).transpose()? })
    }

    fn settle(&self, entry: &Entry, alike: &[Matrix], notes: &mut Notes) -> Result<Tiles> {
        let (format, shape) = (entry.format, matrix(&entry.shape));
        let [rows, cols] = shape;
        let told = |tiles: Tiles, why: &str| format!("{format} of {rows} x {cols} has tiles of {tiles}: {why}");
        let contradicted =
            |found, better| Error::Tiles { tensor: entry.name.clone(), format: format.name, found, better };
        let fit = |tiles: &Tiles| tiles.misfit(format, shape).is_none();
        if let Some(tiles) = of(&self.ours, shape).find(fit) {
            notes.decided.push(told(tiles, "the key trine.kernel_config says so"));
            return match evidence::tiles(alike, format, Some(tiles), Vec::new()) {
                Verdict::NotTernary => Err(contradicted(tiles, None)),
                _ => Ok(tiles),
            };
        }
        let ini = self.ini.as_deref().unwrap_or_default();
        let written = of(ini, shape).find(fit);
        if let (None, Some(wrong)) = (written, of(ini, shape).find_map(|tiles| tiles.misfit(format, shape))) {
            return Err(self.unknown(entry, Some(wrong)));
        }
        let all = || Tiles::all(format, shape);
        let usual = tiles::preset(format, shape).filter(fit);
        let source = if written.is_some() { INI } else { "bitnet.cpp's setup for such a model" };
        match (written.or(usual), evidence::tiles(alike, format, written.or(usual), all())) {
            (Some(tiles), Verdict::Proved(proved)) if tiles == proved => {
                notes.decided.push(told(tiles, &format!("{source} says so, and the zeros of its weights agree")));
                Ok(tiles)
            }
            (Some(tiles), Verdict::Open) => {
                let why = format!(
                    "{source} says so, and its weights tell nothing; where the model answers nonsense, {BESIDE}"
                );
                notes.assumed.push(told(tiles, &why));
                Ok(tiles)
            }
            (Some(tiles), Verdict::Proved(better) | Verdict::Likelier(better)) if written.is_some() => {
                Err(contradicted(tiles, Some(better)))
            }
            (Some(tiles), Verdict::NotTernary) if written.is_some() => Err(contradicted(tiles, None)),
            (_, Verdict::Proved(tiles)) => {
                notes.decided.push(told(tiles, "the zeros of its weights fit together in these, and not in others"));
                Ok(tiles)
            }
            _ => Err(self.unknown(entry, None)),
        }
    }

    /// The error of a matrix whose tiles are not known, and what is `wrong` with the section that says them.
    fn unknown(&self, entry: &Entry, wrong: Option<String>) -> Error {
        let [rows, cols] = matrix(&entry.shape);
        let sections = |ini: &Kernels| {
            let sections = ini.iter().map(|([m, k], _)| format!("{m} x {k}")).collect::<Vec<_>>().join(", ");
            if sections.is_empty() { "none".to_owned() } else { sections }
        };
        let why = match (wrong, &self.ini) {
            (Some(wrong), _) => format!("the section of {INI} for it cannot be: {wrong}"),
            (None, Some(ini)) => format!("the sections of {INI} are for {}, none for it: {BESIDE}", sections(ini)),
            (None, None) => BESIDE.to_owned(),
        };
        Error::NoTiles { tensor: entry.name.clone(), format: entry.format.name, rows, cols, why }
    }
}

/// The tiles that are known for a shape.
fn of(kernels: &[([usize; 2], Tiles)], shape: [usize; 2]) -> impl Iterator<Item = Tiles> {
    kernels.iter().filter(move |(known, _)| *known == shape).map(|&(_, tiles)| tiles)
}
