//! What the fuzzer calls with any bytes, and `crates/trine/tests/mutations.rs` with those that it found worth keeping. Nothing may panic, hang,
//! or take memory that the bytes do not justify.

// Each target uses one of them.
#![allow(dead_code)]

use serde_json::json;
use std::cell::RefCell;
use std::ops::ControlFlow;
use trine::backend::{Backend, Batch, CacheType, Cpu, CpuOptions};
use trine::model::{Language, Model, ModelOptions, Spec};
use trine::tensor::File;
use trine::text::{EncodeOptions, OwnedVocab, Template, Tokenizer};

/// Text with words, spaces, digits, marks, several scripts, and the names of special tokens.
const TEXT: &str = "Hello  world's 123456 <s></s><|im_end|>\n\n\t naïve ☃ 你好 🦙\u{0}\u{feff} <0x0A>▁ aab";

/// A GGUF file.
pub fn gguf(bytes: &[u8]) {
    if let Ok(file) = File::from_bytes("fuzz.gguf", bytes.to_vec()) {
        touch(&file);
        model(&file);
    }
}

/// A safetensors file.
pub fn safetensors(bytes: &[u8]) {
    if let Ok(file) = File::from_bytes("fuzz.safetensors", bytes.to_vec()) {
        touch(&file);
    }
}

/// A `tokenizer.json`, and after a NUL byte its `tokenizer_config.json`; a GGUF file with a vocabulary; or a `tokenizer.model`.
pub fn tokenizer(bytes: &[u8]) {
    let tokenizer = if bytes.starts_with(b"GGUF") {
        File::from_bytes("fuzz.gguf", bytes.to_vec()).ok().and_then(|file| Some(Language::of(&file).ok()?.tokenizer))
    } else if bytes.starts_with(b"{") {
        let mut parts = bytes.splitn(2, |&byte| byte == 0);
        let (json, config) = (parts.next().unwrap_or_default(), parts.next());
        let _ = OwnedVocab::from_json(json, config).and_then(OwnedVocab::for_gguf);
        Tokenizer::from_json(json, config).ok()
    } else {
        let _ = OwnedVocab::from_model(bytes, None).and_then(OwnedVocab::for_gguf);
        Tokenizer::from_model(bytes, None).ok()
    };
    if let Some(tokenizer) = tokenizer {
        speak(&tokenizer);
    }
}

/// A chat template, rendered for chats of several kinds.
pub fn template(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else { return };
    let Ok(template) = Template::new(source, "<s>", "</s>") else { return };
    let chats = [
        json!([{"role": "user", "content": "Hi"}]),
        json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image"}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": [1, 2.5, true, null]}}}
            ]},
            {"role": "tool", "tool_call_id": "1", "name": "f", "content": "42 ☃"},
        ]),
    ];
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    for (chat, tools) in chats.iter().zip([None, Some(&tools)]) {
        let _ = template.render(chat, tools, true, &serde_json::Map::new());
    }
}

/// As much of a model as `file` is, up to the logits of its first token; says whether it has them.
pub fn model(file: &File) -> bool {
    let language = Language::of(file);
    if let Ok(language) = &language {
        speak(&language.tokenizer);
    }
    let Ok(spec) = Spec::of(file) else { return false };
    let _ = trine::parameters(file);
    let _ = trine::Options::default().plan(file).map(|memory| memory.total());
    let _ = language.map(|language| language.check(&spec));
    thread_local! {
        static CPU: RefCell<Cpu> =
            RefCell::new(Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() }).expect("one thread"));
    }
    CPU.with_borrow_mut(|cpu| {
        let model = Model::load(cpu, file, ModelOptions::default(), &mut |_| ControlFlow::Continue(()));
        model.is_ok_and(|model| first_token(cpu, &model))
    })
}

/// Whether the logits of token 0 are finite.
fn first_token(cpu: &mut Cpu, model: &Model<Cpu>) -> bool {
    let Ok(cache) = cpu.create_cache(model.spec().kv_shape(1, CacheType::F32)) else { return false };
    let (mut batch, mut logits) = (Batch::new(), Vec::new());
    batch.push(&[0], 0, &[0], 1);
    let result = model.forward(cpu, cache, &batch).map(|out| cpu.to_host(&out, &mut logits));
    cpu.release_cache(cache);
    matches!(result, Ok(Ok(()))) && logits.iter().all(|x| x.is_finite())
}

/// Reads everything that a file says.
pub fn touch(file: &File) {
    for view in file.tensors() {
        assert_eq!(view.decode().len(), view.rows() * view.cols());
    }
    let metadata = file.metadata();
    for (key, _) in metadata.iter() {
        let _ = (metadata.u32(key), metadata.f32(key), metadata.str(key), metadata.strs(key), metadata.i32s(key));
    }
    assert!(file.view("no such tensor").is_err());
}

/// Encodes and decodes.
fn speak(tokenizer: &Tokenizer) {
    for parse_special in [false, true] {
        let ids = tokenizer.encode(TEXT, EncodeOptions { parse_special, add_special: true });
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.len()));
        let _ = (tokenizer.decode(&ids), tokenizer.decode_with_special(&ids));
    }
    let _ = tokenizer.decode(&[0, 1, u32::MAX]);
}
