//! A model file, or a folder with one: opened, mapped, checked once, and found by tensor name.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use crate::gguf::{self, Contents, Hints, Notes};
use crate::mapping::Mapping;
use crate::memory::zeroed;
use crate::safetensors::Unique;
use crate::{Bytes, Error, Format, Metadata, Result, View, safetensors};

/// How to open a file.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Map the file instead of reading it into memory of our own.
    pub mmap: bool,
    /// Ask for huge pages where the file is read.
    pub huge_pages: bool,
    /// What type numbers of GGUF mean that programs have given to several formats, where the file does not tell.
    pub layouts: Vec<&'static Format>,
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions { mmap: true, huge_pages: false, layouts: Vec::new() }
    }
}

/// What sort of file a model is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// GGUF.
    Gguf {
        /// 1, 2 or 3.
        version: u32,
    },
    /// Safetensors, one file or several.
    Safetensors,
}

/// A model at rest: tensors by name, and what is known about them.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    files: Vec<PathBuf>,
    kind: Kind,
    size: u64,
    metadata: Metadata,
    config: Option<serde_json::Value>,
    tensors: IndexMap<String, View>,
    notes: Notes,
}

const INDEX: &str = "model.safetensors.index.json";

/// Larger than any index of shards.
const MAX_INDEX: u64 = 32 << 20;
/// Larger than any config.json; as a tree it takes some thirty times its size.
const MAX_CONFIG: u64 = 1 << 20;

impl File {
    /// Maps and checks a file: GGUF or safetensors, whatever its name. In a folder, that is `model.safetensors`, the
    /// shards of `model.safetensors.index.json`, or the only `.safetensors` or `.gguf` file. With a piece of a split GGUF
    /// model the others are opened, too, and the `config.json` beside safetensors is read.
    ///
    /// The file must not change or be cut short while it is open: the system ends a program that touches what is gone.
    /// A file that another takes the place of, as [`crate::Writer`] does it, stays as it was for who has it open.
    pub fn open(path: impl AsRef<Path>) -> Result<File> {
        File::open_with(path, &OpenOptions::default())
    }

    /// As [`File::open`], with options.
    pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<File> {
        let path = path.as_ref();
        let is_dir = fs::metadata(path).map_err(|e| Error::Io(e).at(path))?.is_dir();
        let chosen = if is_dir { find(path).map_err(|e| e.at(path))? } else { path.to_path_buf() };
        if chosen.file_name().is_some_and(|name| name == INDEX) {
            return File::open_shards(path, &chosen, options);
        }
        File::read(path, &chosen, load(&chosen, options)?, Some(options)).map_err(|e| e.at(&chosen))
    }

    /// Checks a file that is in memory already, such as one that is part of a program; `name` stands for its path.
    ///
    /// # Errors
    /// As [`File::open`].
    pub fn from_bytes(name: impl AsRef<Path>, bytes: impl Into<Bytes>) -> Result<File> {
        let name = name.as_ref();
        File::read(name, name, (bytes.into(), None), None).map_err(|e| e.at(name))
    }

    /// Reads the header of the file `chosen`, and with `options` what belongs to it: a configuration, other pieces.
    fn read(path: &Path, chosen: &Path, loaded: Loaded, options: Option<&OpenOptions>) -> Result<File> {
        let (bytes, mapping) = loaded;
        let (mut size, mut files) = (bytes.len() as u64, vec![chosen.to_path_buf()]);
        let hints =
            options.map_or(Hints::default(), |options| Hints { layouts: &options.layouts, folder: chosen.parent() });
        let (kind, metadata, config, tensors, notes) = match sniff(&bytes)? {
            Magic::Gguf => {
                let opened = gguf::header(&bytes, mapping)?;
                let pieces = match gguf::Piece::of(&opened.metadata)? {
                    None => vec![opened],
                    Some(piece) => gguf::join(chosen, piece, opened, |path| {
                        let absent = || Error::Io(std::io::ErrorKind::NotFound.into());
                        let (bytes, mapping) = load(path, options.ok_or_else(absent)?)?;
                        size += bytes.len() as u64;
                        files.push(path.to_path_buf());
                        gguf::header(&bytes, mapping).map_err(|e| e.at(path))
                    })?,
                };
                let Contents { version, metadata, tensors, notes } = gguf::contents(pieces, hints)?;
                (Kind::Gguf { version }, metadata, None, tensors, notes)
            }
            Magic::Safetensors => {
                let mut tensors = safetensors::read(&bytes)?;
                map(&mut tensors, &mapping);
                let config = options.map_or(Ok(None), |_| config(chosen))?;
                (Kind::Safetensors, Metadata::new(), config, tensors, Notes::default())
            }
        };
        files.sort();
        Ok(File { path: path.to_path_buf(), files, kind, size, metadata, config, tensors, notes })
    }

    /// Opens every file that the index names.
    fn open_shards(path: &Path, index: &Path, options: &OpenOptions) -> Result<File> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: Unique<String>,
        }
        let json = |source| Error::Json { what: "the index of shards", source }.at(index);
        let Index { weight_map } = serde_json::from_slice(&read_small(index, MAX_INDEX)?).map_err(json)?;
        let mut shards = IndexMap::new();
        let (mut size, mut files) = (0, Vec::new());
        for name in weight_map.0.values() {
            if shards.contains_key(name) {
                continue;
            }
            // A name with a folder in it could reach files that are no part of the model.
            if name.contains(['/', '\\', ':']) || name.contains("..") || name.is_empty() {
                return Err(Error::ShardName { name: name.clone() }.at(index));
            }
            let shard = index.with_file_name(name);
            let (bytes, mapping) = load(&shard, options)?;
            size += bytes.len() as u64;
            files.push(shard.clone());
            let mut tensors = safetensors::read(&bytes).map_err(|e| e.at(&shard))?;
            map(&mut tensors, &mapping);
            shards.insert(name.clone(), tensors);
        }
        for (tensor, shard) in weight_map.0 {
            if !shards[&shard].contains_key(&tensor) {
                return Err(Error::ShardTensor { tensor, shard }.at(index));
            }
        }
        let mut tensors = IndexMap::new();
        for (name, view) in shards.into_values().flatten() {
            if tensors.insert(name.clone(), view).is_some() {
                return Err(Error::DuplicateTensor { tensor: name }.at(path));
            }
        }
        let (kind, metadata, config) = (Kind::Safetensors, Metadata::new(), config(index)?);
        let notes = Notes::default();
        Ok(File { path: path.to_path_buf(), files, kind, size, metadata, config, tensors, notes })
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files that the tensors are in: one, or all shards or pieces.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// What sort of file it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes of the file, or of all shards or pieces.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Names of the tensors in the order of the file.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The tensors in the order of the file.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &View> {
        self.tensors.values()
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A tensor by its name; the error for an unknown one tells the nearest names.
    pub fn view(&self, name: &str) -> Result<View> {
        self.tensors.get(name).cloned().ok_or_else(|| {
            let tensor = name.to_string();
            let alone = (self.kind == Kind::Safetensors && self.files.len() == 1).then(|| &self.files[0]);
            if let Some((prefix, no, count)) = alone.and_then(|path| gguf::numbered(path, ".safetensors")) {
                let [no, count] = [no, count].map(|number| number.trim_start_matches('0').to_string());
                let index = format!("{prefix}.safetensors.index.json");
                return Error::NotInShard { tensor, no, count, index }.at(&self.path);
            }
            let mut near: Vec<&str> = self.names().collect();
            near.sort_by_cached_key(|other| std::cmp::Reverse(resemblance(name, other)));
            let near = near.into_iter().take(3).map(str::to_string).collect();
            Error::NoTensor { tensor, near }.at(&self.path)
        })
    }

    /// The keys of a GGUF file, without those that make it a piece of a split model; none for safetensors.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// What was decided about type numbers of GGUF with several meanings, and why.
    pub fn notes(&self) -> &[String] {
        &self.notes.decided
    }

    /// What was assumed of them, since nothing in the file tells it.
    pub fn warnings(&self) -> &[String] {
        &self.notes.assumed
    }

    /// The `config.json` beside safetensors, when there is one.
    pub fn config(&self) -> Option<&serde_json::Value> {
        self.config.as_ref()
    }
}

/// Bytes that two names share at their beginning and end.
fn resemblance(a: &str, b: &str) -> usize {
    let same = |(x, y): &(u8, u8)| x == y;
    let start = a.bytes().zip(b.bytes()).take_while(same).count();
    let end = a.bytes().rev().zip(b.bytes().rev()).take_while(same).count();
    start + end
}

/// The file that a folder stands for.
fn find(folder: &Path) -> Result<PathBuf> {
    let named = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
    if let Some(path) = named("model.safetensors").or_else(|| named(INDEX)) {
        return Ok(path);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() && path.extension().is_some_and(|e| e == "safetensors" || e == "gguf") {
            files.push(path);
        }
    }
    files.sort();
    for extension in ["safetensors", "gguf"] {
        let these: Vec<_> = files.iter().filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
        match these[..] {
            [] => {}
            [only] => return Ok(only.clone()),
            _ => match gguf::only_set(&these) {
                Some(first) => return Ok(first),
                None => break,
            },
        }
    }
    let names: Vec<_> = files.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy()).collect();
    Err(Error::Folder { found: if names.is_empty() { "none".to_string() } else { names.join(", ") } })
}

/// A file's bytes, mapped or read, and the mapping.
type Loaded = (Bytes, Option<Mapping>);

/// Tells tensors what they are ranges of.
fn map(tensors: &mut IndexMap<String, View>, mapping: &Option<Mapping>) {
    tensors.values_mut().for_each(|view| view.mapping = mapping.clone());
}

fn load(path: &Path, options: &OpenOptions) -> Result<Loaded> {
    let load = || {
        // Opening a pipe would wait for somebody to write.
        if !fs::metadata(path)?.is_file() {
            return Err(Error::NotAFile);
        }
        let mut file = fs::File::open(path)?;
        if options.mmap {
            let mapping = Mapping::new(file)?;
            return Ok((Bytes::from_owner(mapping.clone()), Some(mapping)));
        }
        let len = file.metadata()?.len();
        let too_large = |_| std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let mut bytes = zeroed(usize::try_from(len).map_err(too_large)?, options.huge_pages)?;
        file.read_exact(&mut bytes)?;
        Ok((bytes.freeze(), None))
    };
    load().map_err(|e| e.at(path))
}

enum Magic {
    Gguf,
    Safetensors,
}

/// Tells the two kinds of files apart. Safetensors have no magic number, but always `{` after the length.
fn sniff(bytes: &[u8]) -> Result<Magic> {
    if bytes.starts_with(gguf::MAGIC) {
        Ok(Magic::Gguf)
    } else if bytes.get(8) == Some(&b'{') {
        Ok(Magic::Safetensors)
    } else if bytes.is_empty() {
        Err(Error::NotAModel { found: "nothing: it is empty".to_string() })
    } else {
        Err(Error::NotAModel { found: format!("\"{}\"", bytes[..bytes.len().min(12)].escape_ascii()) })
    }
}

/// The `config.json` in the folder of `model`.
fn config(model: &Path) -> Result<Option<serde_json::Value>> {
    let path = model.with_file_name("config.json");
    if !path.is_file() {
        return Ok(None);
    }
    let json = |source| Error::Json { what: "the configuration", source }.at(&path);
    serde_json::from_slice(&read_small(&path, MAX_CONFIG)?).map(Some).map_err(json)
}

/// All bytes of a file that comes with a model.
///
/// # Errors
/// When it is no file, cannot be read, or has more than `limit` bytes.
pub fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let read = || {
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(Error::NotAFile);
        }
        let found = metadata.len();
        if found > limit {
            return Err(Error::JsonSize { what: "the file", found, limit });
        }
        Ok(fs::read(path)?)
    };
    read().map_err(|e| e.at(path))
}
