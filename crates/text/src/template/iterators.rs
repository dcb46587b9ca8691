//! What Python iterates over but does not keep as a list.

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::attributes::is_dict;

/// A generator: without a length, always true, and read once.
#[derive(Debug)]
pub(super) struct Generator(Mutex<VecDeque<Value>>);

impl Generator {
    pub(super) fn of(values: impl IntoIterator<Item = Value>) -> Value {
        Value::from_object(Generator(Mutex::new(values.into_iter().collect())))
    }

    /// What is not read yet.
    pub(super) fn rest(&self) -> Vec<Value> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Value>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let generator = self.clone();
        Enumerator::Iter(Box::new(std::iter::from_fn(move || generator.lock().pop_front())))
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("<generator object>")
    }
}

/// The keys, values or items of a dictionary: iterated over as often as one likes, but not a list.
#[derive(Debug)]
pub(super) struct DictView {
    /// `keys`, `values` or `items`.
    pub(super) name: &'static str,
    pub(super) values: Vec<Value>,
}

impl Object for DictView {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.values.clone())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.values.len())
    }
}

/// A group of `groupby`: a named tuple.
#[derive(Debug)]
pub(super) struct GroupTuple {
    /// The common value of the items, `grouper`.
    pub(super) key: Value,
    /// `list`.
    pub(super) items: Value,
}

impl Object for GroupTuple {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match (key.as_usize(), key.as_str()) {
            (Some(0), _) | (_, Some("grouper")) => Some(self.key.clone()),
            (Some(1), _) | (_, Some("list")) => Some(self.items.clone()),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(2)
    }
}

/// Whether a value is a tuple of Python's.
pub(super) fn is_tuple(value: &Value) -> bool {
    value.is_tuple() || value.downcast_object_ref::<GroupTuple>().is_some()
}

/// Whether a value is a list or tuple of Python's, which has entries by number and is sliced.
pub(super) fn is_list(value: &Value) -> bool {
    match value.as_object() {
        Some(object) => object.repr() == ObjectRepr::Seq,
        None => false,
    }
}

/// Whether a value is one of those that Python iterates over but cannot write as JSON.
pub(super) fn is_iterator(value: &Value) -> bool {
    value.downcast_object_ref::<Generator>().is_some() || value.downcast_object_ref::<DictView>().is_some()
}

/// Whether a value can be a key of a dictionary.
pub(super) fn is_hashable(value: &Value) -> bool {
    !is_dict(value) && (!is_list(value) || is_tuple(value))
}
