//! Where models meet backends: [`Model`], [`Session`] with its KV cache, sampling and generation.

mod error;
mod model;
mod session;

pub use error::EngineError;
pub use model::{LoadOptions, LoadProgress, Model};
pub use session::{Cancel, KvType, Session, SessionOptions};
