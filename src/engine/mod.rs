//! Where models meet backends: [`Model`], [`Session`] with its KV cache, sampling and generation.

mod bench;
mod devices;
mod error;
mod generate;
mod load_times;
mod model;
mod perplexity;
mod placement;
mod profile;
mod roofline;
mod sampler;
mod session;
mod stop;
mod target;
mod verify;

pub use crate::backends::{BackendError, LoadParts};
pub use bench::{BenchResult, BenchTest, bench, bench_paced, read_bandwidth};
pub use devices::{DeviceReport, devices};
pub use error::EngineError;
pub use generate::{FinishReason, GenerateOptions, Generator, Piece, Summary};
pub use load_times::LoadTimes;
pub use model::{LoadOptions, LoadProgress, Model, ModelData};
pub use perplexity::{Perplexity, PerplexityOptions, negative_log_likelihood, perplexity};
pub use placement::{DeviceChoice, DeviceNameError, Placement, Stage, layers_bill, layers_that_fit};
pub use profile::{Profile, ProfilePhase, profile};
pub use roofline::{Limit, Roofline};
pub use sampler::{Sampler, SamplerError, SamplerOptions};
pub use session::{Cancel, DEFAULT_CHUNK, KvType, Session, SessionOptions};
pub use stop::StopStrings;
pub use target::{TARGETS, target};
pub use verify::{Verdict, VerifyOptions, verify};
