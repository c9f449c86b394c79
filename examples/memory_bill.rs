//! What a model will take, before a weight is read: the memory bill for several contexts, from the file's header alone.
//!
//! `cargo run --release --example memory_bill -- [model.gguf]`; without a file it takes the bundled model.

use rocmforge::backends::cpu::{CpuTarget, Level};
use rocmforge::graph::passes::PassOptions;
use rocmforge::graph::plan::plan;
use rocmforge::models::gguf::Header;
use rocmforge::models::{Config, GraphOptions, build};
use rocmforge::tensor::{Bounds, DType};
use std::error::Error;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    // Not `Gguf::open`: the header is enough, the tensors' data need not even be there.
    let header = match std::env::args().nth(1) {
        Some(path) => Header::read(path)?,
        None => bundled()?,
    };
    let config = Config::read(&header)?;
    println!("{}: {} layers, trained with {} tokens", config.name, config.n_layer, config.n_ctx_train);
    println!(
        "{:>8} {:>6} {:>12} {:>12} {:>12} {:>12} {:>12}",
        "context", "cache", "weights", "kv", "arena", "scratch", "all"
    );

    // A target is pure data about a machine; no thread is started.
    let target = CpuTarget::of_level(std::thread::available_parallelism().map_or(1, |n| n.get()), Level::best());
    let started = Instant::now();
    let mut plans = 0;
    for context in [512, 2048, 8192, 32768] {
        for kv_type in [DType::F16, DType::F32] {
            let bounds = Bounds { t: 512.min(context), s: context, r: 1 };
            let graph = build(&header, &GraphOptions { bounds, kv_type })?;
            let bill = plan(&graph, bounds, &target, &PassOptions::default())?.bill;
            println!(
                "{context:>8} {kv_type:>6} {:>12} {:>12} {:>12} {:>12} {:>12}",
                mib(bill.weights),
                mib(bill.kv),
                mib(bill.arena),
                mib(bill.scratch),
                mib(bill.allocated())
            );
            plans += 1;
        }
    }
    println!("{:.1} ms a plan; a session has one for prefill, as above, and a smaller one for decode", {
        started.elapsed().as_secs_f64() * 1e3 / f64::from(plans)
    });
    Ok(())
}

fn mib(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

#[cfg(feature = "bundled-model")]
fn bundled() -> Result<Header, Box<dyn Error>> {
    Ok(rocmforge::models::bundled::open()?.header().clone())
}

#[cfg(not(feature = "bundled-model"))]
fn bundled() -> Result<Header, Box<dyn Error>> {
    Err("name a GGUF file".into())
}
