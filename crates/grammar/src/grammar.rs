use crate::filter::GrammarFilter;
use crate::vocabulary::first_line;
use crate::{Constraint, Error, Limits, Vocabulary, schema};
use llguidance::api::GrammarInit;
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{Logger, Matcher};
use std::sync::{Arc, Mutex};
use trine_engine::sample::Filter;

/// A constraint compiled for a vocabulary, to be used by any number of requests. Clones share it.
#[derive(Clone)]
pub struct Grammar(Arc<Mutex<Matcher>>);

/// Bytes of the stack on which a constraint is compiled: enough for [`Limits::depth`] levels.
const STACK: usize = 64 << 20;

impl Grammar {
    /// Compiles a constraint with the default [`Limits`].
    ///
    /// # Errors
    /// When the constraint is invalid, uses something that is not supported, or is too large.
    pub fn new(vocabulary: &Vocabulary, constraint: &Constraint) -> Result<Grammar, Error> {
        Grammar::with_limits(vocabulary, constraint, &Limits::default())
    }

    /// As [`Grammar::new`] with other limits.
    ///
    /// # Errors
    /// As [`Grammar::new`].
    pub fn with_limits(vocabulary: &Vocabulary, constraint: &Constraint, limits: &Limits) -> Result<Grammar, Error> {
        let compile = || {
            let source = constraint.lower(limits, Some(vocabulary))?;
            limits.stop.check()?;
            let (init, caps) = (GrammarInit::Serialized(source), InferenceCapabilities::default());
            let mut bounds = limits.of_parser();
            if matches!(constraint, Constraint::Gbnf(_) | Constraint::Lark(_)) {
                bounds.max_items_in_row = limits.ambiguous_row_items;
            }
            let parser = vocabulary.factory.create_parser_from_init_ext(init, Logger::new(0, 0), caps, bounds);
            limits.stop.check()?;
            let mut matcher = Matcher::new(parser);
            match matcher.is_accepting() {
                Ok(_) => Ok(Grammar(Arc::new(Mutex::new(matcher)))),
                Err(error) => {
                    let located = constraint.locate(refusal(constraint.what(), &error.to_string(), limits), limits);
                    // The place was not looked for to the end.
                    limits.stop.check().and(Err(located))
                }
            }
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("grammar".to_owned()).stack_size(STACK);
            let spawned = thread.spawn_scoped(scope, compile);
            let panicked = |_| invalid(constraint.what(), UNSUPPORTED.to_owned());
            spawned
                .map_err(|error| invalid(constraint.what(), format!("no thread to compile it: {error}")))
                .and_then(|thread| thread.join().map_err(panicked)?)
        })
    }

    /// A filter for one request. It goes before filters that change logits in other ways.
    pub fn filter(&self) -> Box<dyn Filter> {
        // Nothing panics while it is locked. What one request computes does not count for the limits of another.
        let matcher = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).deep_clone();
        Box::new(GrammarFilter::new(matcher))
    }
}

pub(crate) fn invalid(what: &'static str, problem: String) -> Error {
    Error::Invalid { what, problem }
}

/// An error of the compiler, by the limit that it names.
fn refusal(what: &'static str, problem: &str, limits: &Limits) -> Error {
    let limit = |name: &str, value: u64| Error::Limit { what, limit: format!("expected at most {value} {name}") };
    let has = |part: &str| problem.contains(part);
    if has("while processing") {
        return invalid(what, "no value satisfies a part that a reference leads to".to_owned());
    }
    if has("Unsatisfiable schema") {
        return schema::unsatisfiable();
    }
    if has("number of symbols) too big") {
        limit("symbols", limits.symbols as u64)
    } else if has("(grammar) too big") || has("fuel") || has("too many expressions") {
        limit("expressions to compile it", limits.compile_expressions)
    } else if has("too many states") {
        limit("states", limits.states as u64)
    } else if has("schema too large") || has("stack level exceeded") {
        limit("schemas", limits.schemas as u64)
    } else {
        invalid(what, placed(&plain(&first_line(&problem))))
    }
}

const UNSUPPORTED: &str = "not supported by the compiler of grammars";

/// A message without the words of Rust's debugging.
fn plain(problem: &str) -> String {
    let has = |part: &str| problem.contains(part);
    if has("patternProperty regexes") {
        "not supported, as a name may match several of `patternProperties`".to_owned()
    } else if problem.starts_with("panic") || has("Some(") || has("None") {
        UNSUPPORTED.to_owned()
    } else {
        problem.to_owned()
    }
}

/// A message whose place, such as `at 3(7)`, is written out.
fn placed(problem: &str) -> String {
    let place = problem.strip_prefix("at ").unwrap_or(problem).split_once("): ");
    let numbers = place.and_then(|(place, rest)| Some((place.split_once('(')?, rest)));
    match numbers {
        Some(((line, column), rest)) if line.parse::<u32>().is_ok() => format!("line {line}, column {column}: {rest}"),
        _ => problem.to_owned(),
    }
}
