//! OpenAI's `/v1/responses`, without state: nothing is stored.

mod answer;
mod request;

pub use request::response;
