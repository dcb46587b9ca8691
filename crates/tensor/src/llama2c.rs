//! The `.bin` files of llama2.c, in the first version of its export: seven integers, and float32 matrices of all layers, one kind after another.

use std::path::Path;

use crate::file::load;
use crate::format::F32;
use crate::{Bytes, Error, File, Metadata, OpenOptions, Result, View};

/// Numbers of a header.
const HEADER: usize = 7;
/// What llama2.c has in its code.
const EPS: f32 = 1e-5;

/// Opens a file of llama2.c as the GGUF file that it would be. It has no tokenizer.
///
/// # Errors
/// When it cannot be read, or its size is not that of a model with its header.
pub fn open(path: &Path) -> Result<File> {
    let (bytes, mapping) = load(path, &OpenOptions::default())?;
    let (metadata, mut tensors) = read(&bytes).map_err(|error| error.at(path))?;
    tensors.iter_mut().for_each(|view| view.mapping.clone_from(&mapping));
    Ok(File::of_tensors(path, bytes.len() as u64, metadata, tensors))
}

fn read(bytes: &Bytes) -> Result<(Metadata, Vec<View>)> {
    let malformed = |expected: &str, found: String| Error::malformed("the header", expected.to_owned(), found);
    let header: Vec<i64> = bytes.as_chunks().0.iter().take(HEADER).map(|&b| i64::from(i32::from_le_bytes(b))).collect();
    let &[dim, hidden, layers, heads, kv_heads, vocab, context] = &header[..] else {
        return Err(malformed("seven integers", format!("{} bytes", bytes.len())));
    };
    // A negative number says that the head is another matrix than the embedding.
    let (tied, vocab) = (vocab > 0, vocab.abs());
    let sane = [dim, hidden, layers, heads, kv_heads, vocab, context].iter().all(|n| (1..=1 << 24).contains(n));
    if !sane || dim % heads != 0 || heads % kv_heads != 0 || dim / heads % 2 != 0 {
        let expected = "the sizes of a model, as llama2.c's export of version 0 begins";
        return Err(malformed(expected, format!("{header:?}")));
    }
    let [dim, hidden, layers, heads, kv_heads, vocab, context] =
        [dim, hidden, layers, heads, kv_heads, vocab, context].map(|n| n as usize);
    let (head_dim, kv_dim) = (dim / heads, dim / heads * kv_heads);
    let mut at = 4 * HEADER;
    let mut tensors = Vec::new();
    let mut take = |names: &dyn Fn(usize) -> String, count: usize, shape: &[usize]| -> Result<()> {
        let size = 4 * shape.iter().product::<usize>();
        for i in 0..count {
            let name = names(i);
            if at + size > bytes.len() {
                let place = format!("tensor {name:?}");
                return Err(Error::Truncated { place, expected: (at + size) as u64, found: bytes.len() as u64 });
            }
            tensors.push(View::new(name, &F32, shape.to_vec(), bytes.slice(at..at + size))?);
            at += size;
        }
        Ok(())
    };
    let layer = |part: &'static str| move |i: usize| format!("blk.{i}.{part}.weight");
    take(&|_| "token_embd.weight".to_owned(), 1, &[vocab, dim])?;
    take(&layer("attn_norm"), layers, &[dim])?;
    take(&layer("attn_q"), layers, &[dim, dim])?;
    take(&layer("attn_k"), layers, &[kv_dim, dim])?;
    take(&layer("attn_v"), layers, &[kv_dim, dim])?;
    take(&layer("attn_output"), layers, &[dim, dim])?;
    take(&layer("ffn_norm"), layers, &[dim])?;
    take(&layer("ffn_gate"), layers, &[hidden, dim])?;
    take(&layer("ffn_down"), layers, &[dim, hidden])?;
    take(&layer("ffn_up"), layers, &[hidden, dim])?;
    take(&|_| "output_norm.weight".to_owned(), 1, &[dim])?;
    // Cosines and sines of rotations, which follow from the sizes.
    at += 4 * 2 * (context * head_dim / 2);
    if !tied {
        let size = 4 * vocab * dim;
        let head = bytes.get(at..at + size).map(|_| bytes.slice(at..at + size));
        let found = bytes.len() as u64;
        let head = head.ok_or(Error::Truncated { place: "the head".into(), expected: (at + size) as u64, found })?;
        tensors.push(View::new("output.weight", &F32, vec![vocab, dim], head)?);
        at += size;
    }
    if at != bytes.len() {
        return Err(Error::malformed("the file", format_args!("{at} bytes, as its header says"), bytes.len()));
    }
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "llama");
    for (key, value) in [
        ("block_count", layers),
        ("context_length", context),
        ("embedding_length", dim),
        ("feed_forward_length", hidden),
        ("attention.head_count", heads),
        ("attention.head_count_kv", kv_heads),
        ("attention.key_length", head_dim),
        ("attention.value_length", head_dim),
        ("rope.dimension_count", head_dim),
        ("vocab_size", vocab),
    ] {
        metadata.insert(format!("llama.{key}"), value as u32);
    }
    metadata.insert("llama.attention.layer_norm_rms_epsilon", EPS);
    metadata.insert("llama.rope.freq_base", 10000f32);
    Ok((metadata, tensors))
}
