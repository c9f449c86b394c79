//! A compute-graph runtime for language models.
//!
//! A model is written as a graph of plain ops, passes fuse it, a planner computes buffer lifetimes and one arena, and a
//! backend lowers the plan. `ARCHITECTURE.md` has the map.
//!
//! Text from a model:
//!
//! ```no_run
//! use rocmforge::engine::*;
//!
//! let model = Model::open("model.gguf", &LoadOptions::default(), &mut |_| true)?;
//! let ids = model.tokenizer()?.encode("Once upon a time", Default::default())?;
//! let mut session = Session::new(&model, &SessionOptions::default())?;
//! let sampler = Sampler::new(SamplerOptions::greedy())?;
//! for piece in Generator::start(&mut session, &ids, sampler, GenerateOptions::default(), &mut |_, _| ())? {
//!     print!("{}", piece?.text);
//! }
//! # Ok::<(), EngineError>(())
//! ```
//!
//! A graph of one's own, and how it would run:
//!
//! ```
//! use rocmforge::backends::cpu::CpuTarget;
//! use rocmforge::graph::{Builder, passes::PassOptions, plan::plan};
//! use rocmforge::tensor::{Bounds, DType, Dim, Shape, Sym};
//!
//! let bounds = Bounds { t: 512, s: 1, r: 1 };
//! let mut b = Builder::new("half of an mlp", bounds);
//! let x = b.input("x", DType::F32, Shape::new(&[Dim::from(64), Sym::T.into()]));
//! let w = b.weight("w", DType::Q8_0, Shape::new(&[64, 128]));
//! let y = b.mul_mat(w, x); // dequantize, matmul
//! let y = b.silu(y);
//! b.output("y", y);
//!
//! let plan = plan(&b.finish()?, bounds, &CpuTarget::new(4), &PassOptions::default())?;
//! let steps: Vec<&str> = plan.steps.iter().map(|s| s.op.name()).collect();
//! assert_eq!(steps, ["qmatmul"]); // the weight is read in its stored type, silu is applied to what it multiplies
//! assert_eq!(plan.bill.arena, 4 * 512 * (64 + 128));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/` has whole programs, `docs/embedding.md` what an application may rely on.
//!
//! The library never prints, never exits, never panics on a user's input and holds no global state. (The module `cli`, which
//! only the feature `cli` compiles, is the programs.)

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod backends;
#[cfg(feature = "cli")]
pub mod cli;
pub mod engine;
pub mod graph;
pub mod models;
pub mod ops;
pub mod tensor;
pub mod text;
