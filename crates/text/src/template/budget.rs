//! What one rendering may read and build, so that it ends soon and in bounded memory.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};

use super::iterators::Generator;

/// Bytes that one rendering may read and build altogether: fifty times a chat of a million tokens.
const LIMIT: usize = 1 << 28;

/// What an entry of a list or dictionary counts, besides what is in it.
pub(super) const ENTRY: usize = 32;

/// Bytes read and built so far.
#[derive(Default)]
struct Spent(usize);

/// Counts `bytes` more; fails at the limit.
pub(super) fn spend(state: &mut State, bytes: usize) -> Result<(), Error> {
    let spent = state.get_or_insert_extension_with(Spent::default);
    spent.0 = spent.0.saturating_add(bytes);
    if spent.0 > LIMIT {
        let message = format!("the template reads or builds more than {LIMIT} bytes");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    Ok(())
}

/// Counts a value's own length: of a text, or the entries of a list or dictionary.
pub(super) fn spend_flat(state: &mut State, value: &Value) -> Result<(), Error> {
    spend(state, own(value))
}

/// Counts a value with everything in it, as often as it is in it.
pub(super) fn spend_all(state: &mut State, value: &Value) -> Result<(), Error> {
    let mut todo = vec![value.clone()];
    while let Some(value) = todo.pop() {
        spend(state, own(&value))?;
        if let Some(generator) = value.downcast_object_ref::<Generator>() {
            todo.extend(generator.rest());
            continue;
        }
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => todo.extend(value.try_iter()?),
            ValueKind::Map => {
                for key in value.try_iter()? {
                    todo.push(value.get_item(&key)?);
                    todo.push(key);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn own(value: &Value) -> usize {
    match value.as_str() {
        Some(text) => text.len(),
        None => value.len().unwrap_or(0).saturating_add(1).saturating_mul(ENTRY),
    }
}
