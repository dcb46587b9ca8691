//! Chats, whatever protocol they come by.

mod blocks;
mod messages;
mod request;
mod turn;

pub use blocks::{Block, Blocks, Step};
pub use request::{Chat, read};
pub use turn::{Delta, Turn};
