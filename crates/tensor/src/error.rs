//! What can be wrong with a model file.

use std::path::PathBuf;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What is wrong with a file, a tensor or a key. Messages say what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The error `source` is about the file `path`.
    #[error("{}: {source}", path.display())]
    In {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] std::io::Error),

    /// Neither a file nor a folder.
    #[error("expected a file or a folder, found something else (a device, a pipe or a socket)")]
    NotAFile,
    /// The file is neither GGUF nor safetensors.
    #[error("expected a GGUF or safetensors file, found one that begins with {found}")]
    NotAModel {
        /// The first bytes, for a human.
        found: String,
    },
    /// A folder without a model that could be meant.
    #[error(
        "expected model.safetensors, model.safetensors.index.json or a single .safetensors or .gguf file in this \
         folder, found {found}"
    )]
    Folder {
        /// The candidates that are there.
        found: String,
    },
    /// A GGUF version we do not read.
    #[error("GGUF version {found} is not supported, expected 1, 2 or 3")]
    Version {
        /// The version in the file.
        found: u32,
    },
    /// A GGUF file of a big-endian machine.
    #[error(
        "this is a big-endian GGUF file, expected a little-endian one: fetch the little-endian file of this model, or convert it with \
         gguf_convert_endian.py of llama.cpp"
    )]
    BigEndian,

    /// The file ends in the middle of `what`.
    #[error("the file ends inside {what}: expected {expected} more bytes, found {found}")]
    Truncated {
        /// The field that is cut.
        what: String,
        /// Bytes the field needs.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// More keys or tensors announced than the file has room for.
    #[error("the header announces {found} {what}, but the file has room for at most {room}")]
    Count {
        /// "keys" or "tensors".
        what: &'static str,
        /// The announced count.
        found: u64,
        /// The most that could follow.
        room: u64,
    },
    /// An array longer than the rest of the file.
    #[error("key {key:?}: an array of {found} elements, but the file has room for at most {room}")]
    ArrayLength {
        /// The key of the array.
        key: String,
        /// The announced count.
        found: u64,
        /// The most that could follow.
        room: u64,
    },
    /// A string longer than the rest of the file.
    #[error("{what}: a string of {found} bytes, but {left} are left in the file")]
    StringLength {
        /// Where the string is.
        what: String,
        /// The announced length.
        found: u64,
        /// Bytes left in the file.
        left: u64,
    },
    /// A key or tensor name that is empty, or longer than the 65535 bytes that GGUF allows.
    #[error("{what}: a name of {found} bytes, expected 1 to 65535")]
    NameLength {
        /// Where the name is.
        what: String,
        /// Its length in bytes.
        found: u64,
    },
    /// A string is not UTF-8.
    #[error("{what}: expected UTF-8, found an invalid byte at position {at}")]
    Utf8 {
        /// Where the string is.
        what: String,
        /// First invalid byte, counted from the start of the string.
        at: usize,
    },
    /// A metadata type number that GGUF does not define.
    #[error("key {key:?}: value type {found} is unknown, expected 0 to 12")]
    ValueType {
        /// The key.
        key: String,
        /// The type number.
        found: u32,
    },
    /// An array of arrays.
    #[error("key {key:?}: arrays of arrays are not supported")]
    NestedArray {
        /// The key.
        key: String,
    },
    /// A boolean that is neither 0 nor 1.
    #[error("key {key:?}: expected a boolean (0 or 1), found {found}")]
    Bool {
        /// The key.
        key: String,
        /// The byte.
        found: u8,
    },
    /// A key occurs twice.
    #[error("key {key:?} occurs twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A key is there with another type, or its value does not fit.
    #[error("key {key:?}: expected {expected}, found {found}")]
    Type {
        /// The key.
        key: String,
        /// The type asked for.
        expected: &'static str,
        /// Type (and for numbers value) in the file.
        found: String,
    },
    /// `general.alignment` is not a usable alignment.
    #[error("general.alignment: expected a power of two up to 16777216, found {found}")]
    Alignment {
        /// The value in the file.
        found: u32,
    },

    /// A tensor name occurs twice.
    #[error("tensor {tensor:?} occurs twice")]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
    },
    /// Too many dimensions.
    #[error("tensor {tensor:?}: {found} dimensions, expected at most {limit}")]
    Dimensions {
        /// The tensor.
        tensor: String,
        /// Number of dimensions.
        found: u64,
        /// The most there may be.
        limit: u64,
    },
    /// A dimension of zero.
    #[error("tensor {tensor:?}: a dimension of {shape:?} is zero")]
    ZeroDimension {
        /// The tensor.
        tensor: String,
        /// Its shape, rows before columns.
        shape: Vec<u64>,
    },
    /// The shape has more bytes than can be counted.
    #[error("tensor {tensor:?}: the size of {shape:?} in {format} overflows")]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// Its shape, rows before columns.
        shape: Vec<u64>,
        /// The name of its format.
        format: &'static str,
    },
    /// Rows that are not whole blocks.
    #[error("tensor {tensor:?}: rows of {cols} weights, expected a multiple of {block} for {format}")]
    Block {
        /// The tensor.
        tensor: String,
        /// Weights per row.
        cols: u64,
        /// Weights per block.
        block: usize,
        /// The name of its format.
        format: &'static str,
    },
    /// A tensor type we cannot read.
    #[error("tensor {tensor:?}: type {found} is not supported, expected one of {}", crate::format::names())]
    UnknownFormat {
        /// The tensor.
        tensor: String,
        /// The type number or name in the file.
        found: String,
    },
    /// A shape that a format of whole matrices cannot hold.
    #[error("tensor {tensor:?}: a matrix of {rows} rows of {cols} weights cannot be stored as {format}")]
    Order {
        /// The tensor.
        tensor: String,
        /// The name of its format.
        format: &'static str,
        /// Rows.
        rows: usize,
        /// Weights per row.
        cols: usize,
    },
    /// A tensor type that is known, and why it is not read.
    #[error("tensor {tensor:?}: type {id} is {name}: {remedy}")]
    RefusedFormat {
        /// The tensor.
        tensor: String,
        /// The type number.
        id: u32,
        /// What the number means.
        name: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A type number that could mean several things here.
    #[error("tensor {tensor:?}: type {id} could be {names}: choose one (--layout NAME)")]
    AmbiguousFormat {
        /// The tensor.
        tensor: String,
        /// The type number.
        id: u32,
        /// The formats that its bytes fit.
        names: String,
    },
    /// Two formats that a file cannot hold both.
    #[error("{first} and {second} have the same type number {id}: a GGUF file holds one of them")]
    SharedNumber {
        /// The type number.
        id: u32,
        /// One of them.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A matrix of TL1 or TL2 whose tiles are not known.
    #[error("tensor {tensor:?}: {format} of {rows} x {cols} can be read only with the tiles of its kernel: {why}")]
    NoTiles {
        /// The tensor.
        tensor: String,
        /// The name of its format.
        format: &'static str,
        /// Rows of the matrix.
        rows: usize,
        /// Its weights per row.
        cols: usize,
        /// Where they were looked for, or what to do.
        why: String,
    },
    /// A matrix of TL1 or TL2 in other tiles than its bytes have.
    #[error("tensor {tensor:?}: its bytes are no {format} with tiles of {found}: {}", better_tiles(better))]
    Tiles {
        /// The tensor.
        tensor: String,
        /// The name of its format.
        format: &'static str,
        /// Tiles in which its bytes are no ternary weights, or far from what trained weights are.
        found: crate::format::Tiles,
        /// Tiles in which they are what trained weights are.
        better: Option<crate::format::Tiles>,
    },
    /// A description of kernels that is not one.
    #[error("{what}: expected sections with m, k, bm, bk and bmm, all of them at least 1, found {line:?}")]
    KernelConfig {
        /// Where it is.
        what: &'static str,
        /// The line that is none of that.
        line: String,
    },
    /// A ternary weight that is not -1, 0 or 1.
    #[error(
        "tensor {tensor:?}: expected ternary weights, found the unused code 3 in row {row}; is the layout another? (--layout NAME)"
    )]
    NotTernary {
        /// The tensor.
        tensor: String,
        /// The first row that has one.
        row: usize,
    },
    /// A scale that is no number.
    #[error("tensor {tensor:?}: expected finite scales, found {found} in row {row}")]
    BadScale {
        /// The tensor.
        tensor: String,
        /// The first row that has one.
        row: usize,
        /// The scale.
        found: f32,
    },
    /// A tensor does not begin on a multiple of the alignment.
    #[error("tensor {tensor:?}: offset {offset} is not a multiple of the alignment {alignment}")]
    Misaligned {
        /// The tensor.
        tensor: String,
        /// Its offset in the data section.
        offset: u64,
        /// The alignment of the file.
        alignment: u64,
    },
    /// A tensor ends after the file does.
    #[error("tensor {tensor:?}: {expected} bytes at {offset} of the data section, which has {found} bytes")]
    PastEnd {
        /// The tensor.
        tensor: String,
        /// Its offset in the data section.
        offset: u64,
        /// Its size in bytes.
        expected: u64,
        /// Size of the data section in bytes.
        found: u64,
    },
    /// Two tensors share bytes.
    #[error("tensors {first:?} and {second:?} overlap")]
    Overlap {
        /// The one that begins first.
        first: String,
        /// The other.
        second: String,
    },
    /// Bytes of a safetensors file that belong to no tensor.
    #[error("bytes {from} to {to} of the data section belong to no tensor")]
    Gap {
        /// First byte of the gap.
        from: u64,
        /// One past its last byte.
        to: u64,
    },
    /// The bytes of a tensor are too many or too few for its shape.
    #[error("tensor {tensor:?}: expected {expected} bytes for {shape:?} in {format}, found {found}")]
    Length {
        /// The tensor.
        tensor: String,
        /// Its shape, rows before columns.
        shape: Vec<usize>,
        /// The name of its format.
        format: &'static str,
        /// Bytes its shape needs.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },

    /// A safetensors header that does not fit in the file.
    #[error("a header of {found} bytes, but {left} are left in the file")]
    HeaderLength {
        /// The announced length.
        found: u64,
        /// Bytes left in the file.
        left: u64,
    },
    /// JSON that is malformed, or not what was expected.
    #[error("{what}: {source}")]
    Json {
        /// What was being read.
        what: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A JSON file larger than anything it could hold.
    #[error("{what}: {found} bytes, expected at most {limit}")]
    JsonSize {
        /// What was being read.
        what: &'static str,
        /// Size in bytes.
        found: u64,
        /// The most we read.
        limit: u64,
    },
    /// A shard that is not a plain file name.
    #[error("shard {name:?}: expected the name of a file in the same folder")]
    ShardName {
        /// The name in the index.
        name: String,
    },
    /// The index promises a tensor that its shard does not hold.
    #[error("the index says that tensor {tensor:?} is in {shard:?}, but it is not")]
    ShardTensor {
        /// The tensor.
        tensor: String,
        /// The shard it should be in.
        shard: String,
    },

    /// A piece of a split model whose number is not below the number of pieces.
    #[error("split.no: expected a number below split.count, which is {count}, found {no}")]
    SplitNumber {
        /// Its number, counted from 0.
        no: u32,
        /// The number of pieces.
        count: u32,
    },
    /// A piece of a split model without a key that every piece has.
    #[error("key {key:?} is missing, which every piece of a split model has")]
    SplitKey {
        /// The key.
        key: &'static str,
    },
    /// A piece of a split model whose name does not tell those of the others.
    #[error(
        "this is piece {} of {count} of a split model: expected a file name that ends in {:?}, so that the others can be found",
        no + 1,
        crate::gguf::Piece::suffix(*no, *count)
    )]
    SplitName {
        /// Its number, counted from 0.
        no: u32,
        /// The number of pieces.
        count: u32,
    },
    /// A piece of a split model that is not beside the others.
    #[error("piece {} of {count} of a split model is missing", no + 1)]
    SplitMissing {
        /// Its number, counted from 0.
        no: u32,
        /// The number of pieces.
        count: u32,
    },
    /// A file in the place of a piece that says it is another, or none.
    #[error(
        "expected piece {} of {count} of a split model of {tensors} tensors, found {found}: the files are not of one set",
        no + 1
    )]
    SplitPiece {
        /// The number of the piece, counted from 0.
        no: u32,
        /// The number of pieces.
        count: u32,
        /// The number of tensors of all pieces.
        tensors: u32,
        /// What the file says it is.
        found: String,
    },
    /// A key with another value than in the first piece.
    #[error("key {key:?} has another value than in piece 1: the files are not of one set")]
    SplitMixed {
        /// The key.
        key: String,
    },
    /// The pieces have fewer or more tensors than they should have together.
    #[error("split.tensors.count: {expected} tensors announced, but the {count} pieces have {found}")]
    SplitTensors {
        /// The announced number.
        expected: u32,
        /// The number of pieces.
        count: u32,
        /// Tensors of all pieces.
        found: usize,
    },

    /// There is no tensor of this name.
    #[error("there is no tensor {tensor:?}; the nearest names are {near:?}")]
    NoTensor {
        /// The name asked for.
        tensor: String,
        /// Names that resemble it.
        near: Vec<String>,
    },
    /// There is no tensor of this name in a file that is one of several.
    #[error(
        "there is no tensor {tensor:?} in piece {no} of {count} of a model: name the folder of all pieces, or {index:?} in it"
    )]
    NotInShard {
        /// The tensor asked for.
        tensor: String,
        /// The number of the file, counted from 1.
        no: String,
        /// The number of files.
        count: String,
        /// The name of the file that names them all.
        index: String,
    },
    /// The file format has no type for this tensor.
    #[error("tensor {tensor:?}: {format} cannot be stored in a {kind} file")]
    NotStorable {
        /// The tensor.
        tensor: String,
        /// The name of its format.
        format: &'static str,
        /// "GGUF" or "safetensors".
        kind: &'static str,
    },
    /// A writer got too many or too few tensors.
    #[error("the header announces {expected} tensors, but {found} were written")]
    Unfinished {
        /// Tensors in the header.
        expected: usize,
        /// Tensors written.
        found: usize,
    },
}

fn better_tiles(better: &Option<crate::format::Tiles>) -> String {
    match better {
        None => "a code is none of -1, 0, 1: kernel_config.ini must be that of the bitnet.cpp that wrote the file"
            .to_owned(),
        Some(tiles) => format!("the zeros of its weights fit together in tiles of {tiles}; correct kernel_config.ini"),
    }
}

impl Error {
    /// Says which file this error is about.
    pub(crate) fn at(self, path: &std::path::Path) -> Error {
        match self {
            located @ Error::In { .. } => located,
            source => Error::In { path: path.to_path_buf(), source: Box::new(source) },
        }
    }

    /// The error itself, without the file it is about.
    pub fn cause(&self) -> &Error {
        match self {
            Error::In { source, .. } => source.cause(),
            cause => cause,
        }
    }
}
