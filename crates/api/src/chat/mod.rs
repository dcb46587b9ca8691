//! Chats, whatever protocol they come by.

mod blocks;
mod calls;
mod cut;
mod messages;
mod request;
mod tools;
mod turn;

pub use blocks::{Block, Blocks, Step};
pub use calls::Calls;
pub use cut::arguments;
pub use messages::{NO_TEXT, REFUSAL_PART, TEXT_PART, check_ids};
pub use request::{Chat, apply_template, read, read_one, refuse_foreign, top_logprobs};
pub use tools::{check_parameters, check_type, wrong_choice};
pub use trine_text::Delta;
pub use turn::{CallIds, Turn};
