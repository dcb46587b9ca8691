//! OpenAI's `/v1/responses`, without state: nothing is stored.

mod answer;
mod input;
mod request;
mod tools;

pub use request::{input_tokens, response};
