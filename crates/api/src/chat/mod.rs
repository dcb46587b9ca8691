//! Chats, whatever protocol they come by.

mod blocks;
mod messages;
mod request;
mod tools;
mod turn;

pub use blocks::{Block, Blocks, Step};
pub use request::{Chat, apply_template, read, read_one, refuse_foreign};
pub use tools::wrong_choice;
pub use trine_text::Delta;
pub use turn::{CallIds, Turn};
