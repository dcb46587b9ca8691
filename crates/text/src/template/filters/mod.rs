//! Jinja's filters, with the signatures of its documentation.

mod lists;
mod map;
mod numbers;
mod order;
mod strings;
mod urlize;

pub(super) use lists::joined;
pub(super) use strings::replaced;

use minijinja::{Error, State, Value};

use super::args::{Args, optional, required};
use super::{json, pprint, wrap};

pub(super) type Filter = fn(&mut State, &Args) -> Result<Value, Error>;

/// The largest number that a filter takes for a length.
const LONGEST: i64 = 100_000;

/// Every filter; a new one is a function and a row.
const FILTERS: &[(&str, Filter)] = &[
    ("abs", numbers::abs),
    ("attr", map::attr),
    ("batch", lists::batch),
    ("capitalize", strings::capitalize),
    ("center", strings::center),
    ("count", lists::length),
    ("d", default),
    ("default", default),
    ("dictsort", order::dictsort),
    ("e", strings::escape),
    ("escape", strings::escape),
    ("filesizeformat", numbers::filesizeformat),
    ("first", lists::first),
    ("float", numbers::float),
    ("forceescape", strings::forceescape),
    ("format", strings::format),
    ("groupby", order::groupby),
    ("indent", strings::indent),
    ("int", numbers::int),
    ("items", lists::items),
    ("join", lists::join),
    ("last", lists::last),
    ("length", lists::length),
    ("list", lists::list),
    ("lower", strings::lower),
    ("map", map::map),
    ("max", order::max),
    ("min", order::min),
    ("pprint", pprint::pprint),
    ("random", lists::random),
    ("reject", map::reject),
    ("rejectattr", map::rejectattr),
    ("replace", strings::replace),
    ("reverse", lists::reverse),
    ("round", numbers::round),
    ("safe", strings::safe),
    ("select", map::select),
    ("selectattr", map::selectattr),
    ("slice", lists::slice),
    ("sort", order::sort),
    ("string", strings::string),
    ("striptags", strings::striptags),
    ("sum", lists::sum),
    ("title", strings::title),
    ("tojson", json::tojson),
    ("trim", strings::trim),
    ("truncate", strings::truncate),
    ("unique", order::unique),
    ("upper", strings::upper),
    ("urlencode", strings::urlencode),
    ("urlize", urlize::urlize),
    ("wordcount", strings::wordcount),
    ("wordwrap", wrap::wordwrap),
    ("xmlattr", strings::xmlattr),
];

/// The filter of this name.
pub(super) fn find(name: &str) -> Option<Filter> {
    FILTERS.iter().find(|(known, _)| *known == name).map(|&(_, filter)| filter)
}

fn default(_: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, default, boolean] =
        args.bind([required("value"), optional("default_value", ""), optional("boolean", false)])?;
    Ok(if value.is_undefined() || boolean.is_true() && !value.is_true() { default } else { value })
}
