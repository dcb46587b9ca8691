//! What a program or server needs to know of a sampling option to offer it: a new one appears there by itself.

use crate::Error;
use crate::sampling::Sampling;
use std::collections::BTreeMap;

/// A sampling option: a flag of the program, a field of a request and a key of the configuration, of the same name.
#[derive(Debug)]
pub struct Param {
    /// The field of [`Sampling`].
    pub name: &'static str,
    pub help: &'static str,
    /// Least and greatest allowed number; of a list, how many, and of [`Field::Biases`], each bias.
    pub range: (f64, f64),
    pub field: fn(&mut Sampling) -> Field<'_>,
}

/// A field of [`Sampling`], by type.
#[derive(Debug)]
pub enum Field<'a> {
    Float(&'a mut f64),
    Count(&'a mut usize),
    /// One of these numbers.
    Choice(&'a mut usize, &'static [usize]),
    /// A whole number, or no limit.
    Limit(&'a mut Option<usize>),
    Seed(&'a mut Option<u64>),
    Switch(&'a mut bool),
    Texts(&'a mut Vec<String>),
    /// Token ids.
    Ids(&'a mut Vec<u32>),
    /// Sequences of token ids, written `id,id`.
    Sequences(&'a mut Vec<Vec<u32>>),
    /// Numbers by token id, written `id=number`.
    Biases(&'a mut BTreeMap<u32, f64>),
}

impl Param {
    /// Sets the field from what a flag says. Of texts and biases, it adds one.
    ///
    /// # Errors
    /// [`Error::Option`] when the text is not of the field's type or not in its range. The field then stays as it was.
    pub fn set(&self, sampling: &mut Sampling, text: &str) -> Result<(), Error> {
        let mut changed = sampling.clone();
        let parsed = match (self.field)(&mut changed) {
            Field::Float(field) => text.parse().map(|value| *field = value).is_ok(),
            Field::Count(field) | Field::Choice(field, _) => text.parse().map(|value| *field = value).is_ok(),
            Field::Limit(field) => text.parse().map(|value| *field = Some(value)).is_ok(),
            Field::Seed(field) => text.parse().map(|value| *field = Some(value)).is_ok(),
            Field::Switch(field) => text.parse().map(|value| *field = value).is_ok(),
            Field::Texts(field) => {
                field.push(text.to_owned());
                true
            }
            Field::Ids(field) => text.parse().map(|id| field.push(id)).is_ok(),
            Field::Sequences(field) => {
                let ids: Result<_, _> = text.split(',').map(str::parse).collect();
                ids.map(|ids| field.push(ids)).is_ok()
            }
            Field::Biases(field) => text
                .split_once('=')
                .and_then(|(id, bias)| Some((id.parse().ok()?, bias.parse().ok()?)))
                .map(|(id, bias)| field.insert(id, bias))
                .is_some(),
        };
        if !parsed {
            return Err(self.wrong(sampling, text.to_owned()));
        }
        self.check(&changed)?;
        *sampling = changed;
        Ok(())
    }

    /// Empties a field that is a list, to which [`Param::set`] adds.
    pub fn clear(&self, sampling: &mut Sampling) {
        match (self.field)(sampling) {
            Field::Texts(field) => field.clear(),
            Field::Ids(field) => field.clear(),
            Field::Sequences(field) => field.clear(),
            Field::Biases(field) => field.clear(),
            _ => {}
        }
    }

    /// The field as a flag would say it; `None` when it has no value.
    pub fn show(&self, sampling: &Sampling) -> Option<String> {
        let ids = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        match (self.field)(&mut sampling.clone()) {
            Field::Float(field) => Some(field.to_string()),
            Field::Count(field) | Field::Choice(field, _) => Some(field.to_string()),
            Field::Limit(field) => field.map(|n| n.to_string()),
            Field::Seed(field) => field.map(|n| n.to_string()),
            Field::Switch(field) => Some(field.to_string()),
            Field::Texts(field) => (!field.is_empty()).then(|| field.join(",")),
            Field::Ids(field) => (!field.is_empty()).then(|| ids(field)),
            Field::Sequences(field) => {
                (!field.is_empty()).then(|| field.iter().map(|field| ids(field)).collect::<Vec<_>>().join(" "))
            }
            Field::Biases(field) => (!field.is_empty())
                .then(|| field.iter().map(|(id, bias)| format!("{id}={bias}")).collect::<Vec<_>>().join(",")),
        }
    }

    /// Maximum number of entries, if the field is a list.
    pub fn max_len(&self) -> Option<usize> {
        let is_list =
            matches!((self.field)(&mut Sampling::default()), Field::Texts(_) | Field::Ids(_) | Field::Sequences(_));
        is_list.then_some(self.range.1 as usize)
    }

    /// Whether the field is in its range.
    pub(crate) fn check(&self, sampling: &Sampling) -> Result<(), Error> {
        let within = |value: f64| value.is_finite() && (self.range.0..=self.range.1).contains(&value);
        // A stop string may be a line break.
        let empty = |text: &String| text.is_empty() || self.name == "bad_words" && text.trim().is_empty();
        let wrong = |value: String| Err(self.wrong(sampling, value));
        match (self.field)(&mut sampling.clone()) {
            Field::Float(&mut value) if !within(value) => wrong(value.to_string()),
            Field::Count(&mut value) | Field::Limit(&mut Some(value)) if !within(value as f64) => {
                wrong(value.to_string())
            }
            Field::Choice(value, known) if !known.contains(value) => wrong(value.to_string()),
            Field::Texts(texts) if !within(texts.len() as f64) || texts.iter().any(empty) => wrong(format!(
                "{} texts, {} of them empty",
                texts.len(),
                texts.iter().filter(|text| empty(text)).count()
            )),
            Field::Ids(ids) if !within(ids.len() as f64) => wrong(format!("{} ids", ids.len())),
            Field::Sequences(lists) if !within(lists.len() as f64) || lists.iter().any(Vec::is_empty) => {
                let empty = lists.iter().filter(|list| list.is_empty()).count();
                wrong(format!("{} sequences, {empty} of them empty", lists.len()))
            }
            Field::Biases(biases) => match biases.iter().find(|(_, bias)| !within(**bias)) {
                Some((id, bias)) => wrong(format!("{id}={bias}")),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn wrong(&self, sampling: &Sampling, value: String) -> Error {
        Error::Option { field: self.name, value, expected: self.expected(sampling) }
    }

    /// What values the field takes.
    pub fn expected(&self, sampling: &Sampling) -> String {
        let (least, most) = self.range;
        let range = if most.is_finite() { format!("from {least} to {most}") } else { format!("of at least {least}") };
        match (self.field)(&mut sampling.clone()) {
            Field::Float(_) => format!("a number {range}"),
            Field::Count(_) | Field::Limit(_) | Field::Seed(_) => format!("a whole number {range}"),
            Field::Choice(_, known) => known.iter().map(usize::to_string).collect::<Vec<_>>().join(" or "),
            Field::Switch(_) => "true or false".to_owned(),
            Field::Texts(_) => format!("at most {most} texts, none of them empty"),
            Field::Ids(_) => format!("at most {most} token ids from 0 to {}", u32::MAX),
            Field::Sequences(_) => format!("at most {most} sequences of token ids, none of them empty, as in 42,7"),
            Field::Biases(_) => format!("a token id and a number {range}, as in 42=-1.5"),
        }
    }
}
