//! Jinja's functions, and what Hugging Face adds to them.

use minijinja::value::{Enumerator, Object, ObjectRepr, Rest, Tuple, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, State, Value};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use super::args::{Args, optional, optional_positional, positional};
use super::attributes::is_dict;
use super::budget::{ENTRY, spend};
use super::values::{iterate, wrong};

/// The longest range of Jinja's sandbox.
const LONGEST: usize = 100_000;

type Function = fn(&mut State, &Args) -> Result<Value, Error>;

pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    ("range", range),
    ("dict", |state, args| Ok(Value::from_pairs(dict(state, args)?))),
    ("namespace", namespace),
    ("cycler", Cycler::of),
    ("joiner", Joiner::of),
    ("lipsum", |_, args| Err(args.fail("random text is not supported: a chat has one prompt"))),
    ("raise_exception", |_, args| {
        let [message] = args.bind([positional("message")])?;
        Err(wrong(super::repr::str(&message)))
    }),
];

pub(super) fn install(environment: &mut Environment) {
    for &(name, function) in FUNCTIONS {
        let call =
            move |state: &mut State, args: Rest<ValueOrKwargs>| function(state, &Args::new(name, &args.into_values())?);
        environment.add_function(name, call);
    }
}

/// `range(start, stop, step)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) start: i64,
    stop: i64,
    step: i64,
    pub(super) len: usize,
}

impl Range {
    pub(super) fn new(start: i64, stop: i64, step: i64) -> Result<Range, Error> {
        let (from, to) = if step > 0 { (start, stop) } else { (stop, start) };
        let distance = (i128::from(to) - i128::from(from)).max(0).unsigned_abs();
        let len = match step {
            0 => return Err(wrong("range: expected another step than 0")),
            _ => usize::try_from(distance.div_ceil(step.unsigned_abs().into())).unwrap_or(usize::MAX),
        };
        if len > LONGEST {
            return Err(wrong(format!("range: expected at most {LONGEST} numbers, found {len}")));
        }
        Ok(Range { start, stop, step, len })
    }

    /// The part from one place to another, with a step.
    pub(super) fn slice(&self, [start, stop, step]: [i64; 3]) -> Result<Range, Error> {
        let at = |place: i64| self.start.saturating_add(place.saturating_mul(self.step));
        Range::new(at(start), at(stop), self.step.saturating_mul(step))
    }

    pub(super) fn get(&self, index: usize) -> Option<Value> {
        (index < self.len).then(|| Value::from(self.start + index as i64 * self.step))
    }
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(match key.as_str() {
            Some("start") => self.start.into(),
            Some("stop") => self.stop.into(),
            Some("step") => self.step.into(),
            Some(_) => return None,
            None => {
                let index = key.as_i64()?;
                return self.get(usize::try_from(if index < 0 { index + self.len as i64 } else { index }).ok()?);
            }
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let range = **self;
        Enumerator::Iter(Box::new((0..range.len).map(move |i| range.get(i).unwrap_or_default())))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.len)
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.len > 0
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter) -> fmt::Result {
        let Range { start, stop, step, .. } = **self;
        if step == 1 { write!(f, "range({start}, {stop})") } else { write!(f, "range({start}, {stop}, {step})") }
    }
}

fn range(_: &mut State, args: &Args) -> Result<Value, Error> {
    let [first, second, step] = args.bind([
        positional("start"),
        optional_positional("stop", Value::UNDEFINED),
        optional_positional("step", 1),
    ])?;
    let first = args.integer(&first)?;
    let (start, stop) = if args.positional.len() == 1 { (0, first) } else { (first, args.integer(&second)?) };
    Ok(Value::from_object(Range::new(start, stop, args.integer(&step)?)?))
}

/// The entries of `dict(of, **named)`.
fn dict(state: &mut State, args: &Args) -> Result<Vec<(Value, Value)>, Error> {
    let mut entries = Vec::new();
    match args.positional.as_slice() {
        [] => {}
        [of] if is_dict(of) => {
            for key in of.try_iter()? {
                let value = of.get_item(&key)?;
                entries.push((key, value));
            }
        }
        [of] => {
            for pair in iterate(state, of)? {
                let pair = <[Value; 2]>::try_from(iterate(state, &pair)?).map_err(|_| args.fail("expected pairs"))?;
                entries.push(pair.into());
            }
        }
        more => return Err(args.fail(format!("expected at most 1 argument, found {}", more.len()))),
    }
    entries
        .extend(args.names().into_iter().map(|name| (Value::from(name.as_str()), args.get(&name).unwrap_or_default())));
    spend(state, entries.len().saturating_mul(ENTRY))?;
    Ok(entries)
}

fn namespace(state: &mut State, args: &Args) -> Result<Value, Error> {
    let (entries,) = from_args(&[Value::from_pairs(dict(state, args)?)])?;
    minijinja::functions::namespace(entries)
}

/// `cycler(*items)`.
#[derive(Debug)]
pub(super) struct Cycler {
    items: Vec<Value>,
    at: AtomicUsize,
}

impl Cycler {
    fn of(state: &mut State, args: &Args) -> Result<Value, Error> {
        if let Some(name) = args.names().first() {
            return Err(args.fail(format!("unexpected argument `{name}`")));
        }
        if args.positional.is_empty() {
            return Err(args.fail("expected at least 1 argument, found 0"));
        }
        spend(state, args.positional.len().saturating_mul(ENTRY))?;
        Ok(Value::from_object(Cycler { items: args.positional.clone(), at: AtomicUsize::new(0) }))
    }

    fn current(&self) -> Value {
        self.items[self.at.load(Relaxed)].clone()
    }
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        Some(match key.as_str()? {
            "current" => self.current(),
            "pos" => self.at.load(Relaxed).into(),
            "items" => Tuple::from(self.items.clone()).into(),
            _ => return None,
        })
    }

    fn call_method(self: &Arc<Self>, _: &mut State, name: &str, args: &[Value]) -> Result<Value, Error> {
        let args = Args::new(name, args)?;
        args.none()?;
        match name {
            "next" => {
                let current = self.current();
                self.at.store((self.at.load(Relaxed) + 1) % self.items.len(), Relaxed);
                Ok(current)
            }
            "reset" => {
                self.at.store(0, Relaxed);
                Ok(().into())
            }
            _ => Err(minijinja::ErrorKind::UnknownMethod.into()),
        }
    }
}

/// `joiner(sep)`: nothing when it is called first, then `sep`.
#[derive(Debug)]
pub(super) struct Joiner {
    sep: Value,
    used: AtomicBool,
}

impl Joiner {
    fn of(_: &mut State, args: &Args) -> Result<Value, Error> {
        let [sep] = args.bind([optional("sep", ", ")])?;
        Ok(Value::from_object(Joiner { sep, used: AtomicBool::new(false) }))
    }
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "sep" => Some(self.sep.clone()),
            "used" => Some(self.used.load(Relaxed).into()),
            _ => None,
        }
    }

    fn call(self: &Arc<Self>, _: &mut State, args: &[Value]) -> Result<Value, Error> {
        Args::new("joiner", args)?.none()?;
        Ok(if self.used.swap(true, Relaxed) { self.sep.clone() } else { "".into() })
    }
}
