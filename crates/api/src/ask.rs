use crate::{Problem, Served};
use serde_json::Value;
use std::time::{Duration, Instant};
use trine_engine::{Error, PrefixCache, Prompt, Request, Sampling, Scheduling};
use trine_grammar::{Constraint, Stop};

/// What a body asks for.
pub struct Ask {
    /// The prompts, each answered on its own.
    pub prompts: Vec<Vec<u32>>,
    pub sampling: Sampling,
    /// The field that constrains answers, and how.
    pub constraint: Option<(&'static str, Constraint)>,
    pub scheduling: Scheduling,
    pub prefix_cache: PrefixCache,
    pub stream: bool,
    /// Whether the answer tells how far its prompt is read.
    pub progress: bool,
}

impl Ask {
    /// A request of the engine for each prompt. Compiles the constraint, which may take a while, unless it is told to stop.
    ///
    /// # Errors
    /// When the constraint is invalid or not supported, or the time of the request is over before it is compiled.
    pub fn requests(&self, served: &Served, stop: &Stop) -> Result<Vec<Request>, Problem> {
        let begun = Instant::now();
        let stop = stop.at(self.scheduling.timeout.and_then(|timeout| begun.checked_add(timeout)));
        let grammar = self.constraint.as_ref().map(|(field, constraint)| {
            served.grammars.compile_until(constraint, &stop).map_err(|error| Problem::field(field, error))
        });
        let took = begun.elapsed();
        if let Some(timeout) = self.scheduling.timeout.filter(|&timeout| grammar.is_some() && took > timeout) {
            return Err(Error::Timeout { took, timeout }.into());
        }
        let grammar = grammar.transpose()?;
        let request = |prompt: &Vec<u32>| Request {
            prompt: Prompt::Tokens(prompt.clone()),
            sampling: self.sampling.clone(),
            filters: grammar.iter().map(|grammar| grammar.filter()).collect(),
            adapter: 0,
            scheduling: self.scheduling.clone(),
            prefix_cache: self.prefix_cache.clone(),
            progress: self.progress,
        };
        Ok(self.prompts.iter().map(request).collect())
    }

    /// Answers to each prompt that are generated.
    pub fn answers(&self) -> usize {
        self.sampling.best_of.unwrap_or(self.sampling.n)
    }
}

/// When a request has its turn, and with whom it shares its keys and values.
pub fn scheduling(fields: &mut crate::Fields) -> Result<(Scheduling, PrefixCache), Problem> {
    let priority = fields.integer("priority")?.unwrap_or_default();
    let priority = i32::try_from(priority)
        .map_err(|_| Problem::field("priority", format_args!("expected a number of 32 bits, found {priority}")))?;
    let mut seconds = |name: &str| match fields.number(name)? {
        Some(seconds) if seconds > 0.0 => Duration::try_from_secs_f64(seconds)
            .map(Some)
            .map_err(|_| Problem::field(name, format_args!("expected seconds, found {seconds}"))),
        Some(seconds) => Err(Problem::field(name, format_args!("expected seconds above 0, found {seconds}"))),
        None => Ok(None),
    };
    let (timeout, queue_timeout) = (seconds("timeout")?, seconds("queue_timeout")?);
    let prefix_cache = match (fields.boolean("cache_prompt")?, fields.string("cache_salt")?) {
        (Some(false), _) => PrefixCache::Off,
        (_, Some(domain)) => PrefixCache::Domain(domain),
        _ => PrefixCache::default(),
    };
    Ok((Scheduling { priority, timeout, queue_timeout, ..Scheduling::default() }, prefix_cache))
}

/// A prompt of a body: a text, or the ids of its tokens.
pub fn prompt(value: Value) -> Option<Prompt> {
    let id = |id: &Value| id.as_u64()?.try_into().ok();
    match value {
        Value::String(text) => Some(Prompt::Text(text)),
        Value::Array(ids) => ids.iter().map(id).collect::<Option<_>>().map(Prompt::Tokens),
        _ => None,
    }
}

/// Prompts of a body: a text, the ids of its tokens, or a list of either.
pub fn prompts(value: Value) -> Option<Vec<Prompt>> {
    match value {
        Value::Array(none) if none.is_empty() => Some(Vec::new()),
        // A list of numbers is one text.
        Value::Array(all) if all.first().is_some_and(|first| !first.is_number()) => {
            all.into_iter().map(prompt).collect()
        }
        one => prompt(one).map(|prompt| vec![prompt]),
    }
}
