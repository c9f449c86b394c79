//! What the integration tests share: where the conformance data stands, and how its files are read.
#![allow(dead_code)] // each test file uses a part of this

pub mod device;
pub mod eager;
pub mod emulator;
pub mod random_graph;
pub mod scripted;
pub mod shapes;
pub mod values;

use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

/// The folder of conformance data; `None` where there is none. Each test program says once which of the two it is.
///
/// # Panics
/// If `ROCMFORGE_CONFORMANCE` points to nothing.
pub fn conformance() -> Option<PathBuf> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(find_conformance).clone()
}

fn find_conformance() -> Option<PathBuf> {
    let named = std::env::var_os("ROCMFORGE_CONFORMANCE").map(PathBuf::from);
    let folder =
        named.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance"));
    let found = folder.is_dir();
    assert!(found || named.is_none(), "ROCMFORGE_CONFORMANCE is {}, which is no folder", folder.display());
    // Not `eprintln`, which the test harness keeps to itself when a test passes.
    let said = if found { "conformance data: tested against" } else { "conformance data absent: skipped," };
    let _ = writeln!(std::io::stderr(), "{said} {}", folder.display());
    found.then_some(folder)
}

/// A float64 matrix from a NumPy file: rows, columns, values.
pub fn read_npy(path: &std::path::Path) -> (usize, usize, Vec<f64>) {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(&bytes[..6], b"\x93NUMPY");
    let header_len = u16::from_le_bytes([bytes[8], bytes[9]]) as usize;
    let header = std::str::from_utf8(&bytes[10..10 + header_len]).unwrap();
    assert!(header.contains("'<f8'") && header.contains("'fortran_order': False"), "{header}");
    let shape = header.split("'shape': (").nth(1).unwrap().split(')').next().unwrap();
    let dims: Vec<usize> = shape.split(',').filter_map(|d| d.trim().parse().ok()).collect();
    let values = bytes[10 + header_len..].chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect();
    (dims[0], dims[1], values)
}

/// Largest and root-mean-square difference.
pub fn difference(found: &[f32], truth: &[f64]) -> (f64, f64) {
    assert_eq!(found.len(), truth.len());
    let differences = found.iter().zip(truth).map(|(&a, &b)| (a as f64 - b).abs());
    let max = differences.clone().fold(0.0, f64::max);
    let mean_square = differences.map(|d| d * d).sum::<f64>() / found.len() as f64;
    (max, mean_square.sqrt())
}

/// Index of the largest value.
pub fn argmax<T: PartialOrd + Copy>(values: &[T]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// The emulated devices, where there is a C++ compiler, and what a driver here has.
#[cfg(feature = "hip")]
pub fn hip_devices() -> Vec<rocmforge::backends::hip::HipBackend> {
    use rocmforge::backends::hip::HipBackend;
    let emulated = emulator::libraries().into_iter().flatten().map(|l| HipBackend::open_library(l).unwrap());
    emulated.chain(HipBackend::open(None).ok()).collect()
}

/// The prompt whose logits the conformance data states.
pub fn prompt_ids(conformance: &std::path::Path) -> Vec<u32> {
    let text = std::fs::read_to_string(conformance.join("reference/prompt-ids.txt")).unwrap();
    text.split(|c: char| !c.is_ascii_digit()).filter(|w| !w.is_empty()).map(|w| w.parse().unwrap()).collect()
}

/// Pseudo-random numbers in [-1, 1), the same on every machine.
pub fn uniform(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}
