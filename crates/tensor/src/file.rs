//! Opening a model file, or a folder with one.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use crate::error::in_tensor;
use crate::folder::{INDEX, find};
use crate::gguf::{self, Contents, Hints, Notes};
use crate::mapping::Mapping;
use crate::memory::zeroed;
use crate::safetensors::Unique;
use crate::small::{LFS_POINTER, is_lfs_pointer, read_optional, read_small};
use crate::{Bytes, Error, Format, Metadata, Result, View, safetensors};

/// Options for [`File::open_with`].
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Map the file instead of reading it into allocated memory.
    pub mmap: bool,
    /// Request huge pages for memory that the file is read into.
    pub huge_pages: bool,
    /// Formats of GGUF type numbers that stand for several formats, where the file does not determine one, and formats of the program's own,
    /// whose numbers are read as these.
    pub layouts: Vec<&'static Format>,
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions { mmap: true, huge_pages: false, layouts: Vec::new() }
    }
}

/// The file format of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// `version` is 1, 2 or 3.
    Gguf { version: u32 },
    /// One file or several.
    Safetensors,
}

/// An open model: its tensors by name, and its metadata.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    files: Vec<PathBuf>,
    format: FileFormat,
    size: u64,
    metadata: Metadata,
    config: Option<serde_json::Value>,
    tensors: IndexMap<String, View>,
    notes: Notes,
}

/// Larger than any index of shards, in bytes.
const MAX_INDEX: u64 = 32 << 20;
/// Larger than any config.json, in bytes. Parsed, it takes about thirty times its size.
const MAX_CONFIG: u64 = 1 << 20;

impl File {
    /// Maps and checks a file, which is GGUF or safetensors by its content. For a folder, this is `model.safetensors`, the
    /// shards of `model.safetensors.index.json`, or the only `.safetensors` or `.gguf` file, in the folder within it that
    /// sentence-transformers' `modules.json` names for the transformer, if there is one. A shard of a split GGUF model
    /// opens all shards. A `config.json` in the folder of safetensors is read too.
    ///
    /// The file must not be changed or truncated while it is open: the system kills a program that reads a missing page.
    /// A file may be replaced, as [`crate::Writer`] does: whoever has the old file open keeps its content.
    ///
    /// # Errors
    /// When the file cannot be read, or is malformed.
    pub fn open(path: impl AsRef<Path>) -> Result<File> {
        File::open_with(path, &OpenOptions::default())
    }

    /// As [`File::open`], with options.
    pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<File> {
        let path = path.as_ref();
        let is_dir = fs::metadata(path).map_err(|error| Error::of_path(error).at(path))?.is_dir();
        let chosen = if is_dir { find(path).map_err(|e| e.at(path))? } else { path.to_path_buf() };
        if chosen.file_name().is_some_and(|name| name == INDEX) {
            return File::open_shards(path, &chosen, options);
        }
        File::read(path, &chosen, load(&chosen, options)?, Some(options)).map_err(|e| e.at(&chosen))
    }

    /// Checks a file that is in memory, such as one embedded in the program. `name` is used as its path.
    ///
    /// # Errors
    /// As [`File::open`].
    pub fn from_bytes(name: impl AsRef<Path>, bytes: impl Into<Bytes>) -> Result<File> {
        let name = name.as_ref();
        File::read(name, name, (bytes.into(), None), None).map_err(|e| e.at(name))
    }

    /// Reads the header of the file `chosen`. With `options`, opens the files that belong to it: the configuration and other shards.
    fn read(path: &Path, chosen: &Path, loaded: FileBytes, options: Option<&OpenOptions>) -> Result<File> {
        let (bytes, mapping) = loaded;
        let (mut size, mut files) = (bytes.len() as u64, vec![chosen.to_path_buf()]);
        let hints =
            options.map_or(Hints::default(), |options| Hints { layouts: &options.layouts, folder: chosen.parent() });
        let (format, metadata, config, tensors, notes) = match detect(&bytes)? {
            Detected::Gguf => {
                let opened = gguf::header(&bytes, mapping)?;
                let shards = match gguf::Shard::of(&opened.metadata)? {
                    None => vec![opened],
                    Some(shard) => gguf::join(chosen, shard, opened, |path| {
                        let absent = || Error::Io(io::ErrorKind::NotFound.into());
                        let (bytes, mapping) = load(path, options.ok_or_else(absent)?)?;
                        size += bytes.len() as u64;
                        files.push(path.to_path_buf());
                        gguf::header(&bytes, mapping).map_err(|e| e.at(path))
                    })?,
                };
                let Contents { version, metadata, tensors, notes } = gguf::contents(shards, hints)?;
                (FileFormat::Gguf { version }, metadata, None, tensors, notes)
            }
            Detected::Safetensors => {
                let mut tensors = safetensors::read(&bytes)?;
                set_mapping(&mut tensors, &mapping);
                let config = options.map_or(Ok(None), |_| config(chosen))?;
                (FileFormat::Safetensors, Metadata::new(), config, tensors, Notes::default())
            }
        };
        files.sort();
        Ok(File { path: path.to_path_buf(), files, format, size, metadata, config, tensors, notes })
    }

    /// Opens all files that the index lists.
    fn open_shards(path: &Path, index: &Path, options: &OpenOptions) -> Result<File> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: Unique<String>,
        }
        let json = |source| Error::Json { place: "the index of shards", source }.at(index);
        let Index { weight_map } = serde_json::from_slice(&read_small(index, MAX_INDEX)?).map_err(json)?;
        let mut shards = IndexMap::new();
        let (mut size, mut files) = (0, Vec::new());
        for name in weight_map.0.values() {
            if shards.contains_key(name) {
                continue;
            }
            if name.contains(['/', '\\', ':']) || name.contains("..") || name.is_empty() {
                return Err(Error::shard_name(name).at(index));
            }
            let shard = index.with_file_name(name);
            let (bytes, mapping) = load(&shard, options)?;
            size += bytes.len() as u64;
            files.push(shard.clone());
            let mut tensors = safetensors::read(&bytes).map_err(|e| e.at(&shard))?;
            set_mapping(&mut tensors, &mapping);
            shards.insert(name.clone(), tensors);
        }
        for (tensor, shard) in weight_map.0 {
            if !shards[&shard].contains_key(&tensor) {
                let expected = format_args!("a tensor of this name in {shard:?}, as listed in the index");
                return Err(Error::malformed(in_tensor(&tensor), expected, "none").at(index));
            }
        }
        let mut tensors = IndexMap::new();
        for (name, view) in shards.into_values().flatten() {
            if tensors.insert(name.clone(), view).is_some() {
                return Err(Error::duplicate(in_tensor(&name)).at(path));
            }
        }
        let (format, metadata, config) = (FileFormat::Safetensors, Metadata::new(), config(index)?);
        let notes = Notes::default();
        Ok(File { path: path.to_path_buf(), files, format, size, metadata, config, tensors, notes })
    }

    /// The tensors of a file of another kind, as the GGUF file that they would be.
    pub(crate) fn of_tensors(path: &Path, size: u64, metadata: Metadata, tensors: Vec<View>) -> File {
        let tensors = tensors.into_iter().map(|view| (view.name.clone(), view)).collect();
        let (format, files) = (FileFormat::Gguf { version: 3 }, vec![path.to_owned()]);
        File { path: path.to_owned(), files, format, size, metadata, config: None, tensors, notes: Notes::default() }
    }

    /// The path that was opened: a file or a folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files that hold the tensors: one, or all shards.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    pub fn format(&self) -> FileFormat {
        self.format
    }

    /// The size of all [`files`](File::files) together, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the file is mapped, not read into memory.
    pub fn is_mapped(&self) -> bool {
        self.tensors.values().any(|view| view.mapping.is_some())
    }

    /// Gives back the memory of mapped pages, for whoever goes through a large file once. Bytes stay valid, and are read again when they are
    /// used.
    pub fn release(&self) {
        // Shards follow one another, but for the order of an index.
        let mut last: Option<&Mapping> = None;
        for mapping in self.tensors.values().filter_map(|view| view.mapping.as_ref()) {
            if !last.is_some_and(|last| last.is(mapping)) {
                mapping.release();
            }
            last = Some(mapping);
        }
    }

    /// The names of the tensors, in the order of the file.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The tensors, in the order of the file.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &View> {
        self.tensors.values()
    }

    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// When there is none. The error lists similar names.
    pub fn view(&self, name: &str) -> Result<View> {
        self.tensors.get(name).cloned().ok_or_else(|| {
            let tensor = name.to_string();
            let alone = (self.format == FileFormat::Safetensors && self.files.len() == 1).then(|| &self.files[0]);
            if let Some((prefix, no, count)) = alone.and_then(|path| gguf::numbered(path, ".safetensors")) {
                let [no, count] = [no, count].map(|number| number.trim_start_matches('0').to_string());
                let index = format!("{prefix}.safetensors.index.json");
                let hint = format!("this is shard {no} of {count}; open the folder of all shards, or {index:?} in it");
                return Error::NoTensor { tensor, hint }.at(&self.path);
            }
            let similar = most_similar(name, self.names().collect());
            let hint = match similar.is_empty() {
                true => "the file has no tensors".to_owned(),
                false => format!("the most similar names are {similar:?}"),
            };
            Error::NoTensor { tensor, hint }.at(&self.path)
        })
    }

    /// The metadata of a GGUF file, without the keys that describe shards and layouts. Empty for safetensors.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The same tensors with other keys, to see what model they would be.
    pub fn with_metadata(mut self, metadata: Metadata) -> File {
        self.metadata = metadata;
        self
    }

    /// How type numbers of GGUF with several meanings were resolved, and why.
    pub fn notes(&self) -> &[String] {
        &self.notes.decided
    }

    /// Assumptions about such type numbers that nothing in the file proves.
    pub fn warnings(&self) -> &[String] {
        &self.notes.assumed
    }

    /// The `config.json` in the folder of safetensors, if there is one.
    pub fn config(&self) -> Option<&serde_json::Value> {
        self.config.as_ref()
    }
}

/// A file's bytes, and the mapping if they were not read.
pub(crate) type FileBytes = (Bytes, Option<Mapping>);

fn set_mapping(tensors: &mut IndexMap<String, View>, mapping: &Option<Mapping>) {
    tensors.values_mut().for_each(|view| view.mapping = mapping.clone());
}

pub(crate) fn load(path: &Path, options: &OpenOptions) -> Result<FileBytes> {
    let load = || {
        // Opening a pipe would block until something is written to it.
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(Error::not_a_file(&metadata));
        }
        let mut file = fs::File::open(path)?;
        if options.mmap {
            let mapping = Mapping::new(file)?;
            return Ok((Bytes::from_owner(mapping.clone()), Some(mapping)));
        }
        let len = file.metadata()?.len();
        let too_large = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        let mut bytes = zeroed(usize::try_from(len).map_err(too_large)?, options.huge_pages)?;
        file.read_exact(&mut bytes)?;
        Ok((bytes.freeze(), None))
    };
    load().map_err(|e| e.at(path))
}

enum Detected {
    Gguf,
    Safetensors,
}

/// Detects the file format. Safetensors have no magic number, but always `{` after the length of the header.
fn detect(bytes: &[u8]) -> Result<Detected> {
    if bytes.starts_with(gguf::MAGIC) {
        Ok(Detected::Gguf)
    } else if bytes.get(8) == Some(&b'{') {
        Ok(Detected::Safetensors)
    } else if is_lfs_pointer(bytes) {
        Err(Error::NotAModel { found: LFS_POINTER.to_string() })
    } else if bytes.is_empty() {
        Err(Error::NotAModel { found: "an empty file".to_string() })
    } else {
        Err(Error::NotAModel {
            found: format!("one that begins with \"{}\"", bytes[..bytes.len().min(12)].escape_ascii()),
        })
    }
}

/// The `config.json` in the folder of the file `model`.
fn config(model: &Path) -> Result<Option<serde_json::Value>> {
    let path = model.with_file_name("config.json");
    let Some(bytes) = read_optional(&path, MAX_CONFIG)? else { return Ok(None) };
    let json = |source| Error::Json { place: "the configuration", source }.at(&path);
    serde_json::from_slice(&bytes).map(Some).map_err(json)
}

/// Names that resemble `name`, the most similar first, at most three.
fn most_similar<S: AsRef<str>>(name: &str, mut names: Vec<S>) -> Vec<S> {
    names.sort_by_cached_key(|other| std::cmp::Reverse(resemblance(name, other.as_ref())));
    names.truncate(3);
    names
}

/// The length of the common prefix and suffix of two names, in bytes.
fn resemblance(a: &str, b: &str) -> usize {
    let same = |(x, y): &(u8, u8)| x == y;
    let start = a.bytes().zip(b.bytes()).take_while(same).count();
    let end = a.bytes().rev().zip(b.bytes().rev()).take_while(same).count();
    start + end
}
