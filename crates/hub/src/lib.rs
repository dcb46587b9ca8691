//! Models of a hub that speaks Hugging Face's protocol, in the cache folder of its Python library.
//!
//! [`Hub::plan`] asks what a repository has and chooses what a model needs, [`Hub::pull`] downloads it: in several ranges at once, which
//! are continued after a broken connection or another run, checked by size and hash, and moved to their name when complete. [`Cache`]
//! finds, lists and removes models, whoever downloaded them. Nothing here reads variables of the environment.

mod cache;
mod download;
mod error;
mod hash;
mod http;
mod hub;
mod listing;
mod name;
mod part;
mod progress;
mod select;

pub use cache::{Cache, CachedFile, CachedModel, Removed};
pub use error::{Error, Result};
pub use http::{DEFAULT_ENDPOINT, HubOptions};
pub use hub::{Hub, Plan, PlannedFile, Pulled};
pub use name::{Reference, Repo};
pub use progress::{Progress, Retry};
