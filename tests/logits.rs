//! Logits of real models, on the CPU and on a GPU where there is one: against float64 truth and llama.cpp's error, for any chunking and number of
//! threads.

mod support;

use rocmforge::engine::{DeviceChoice, KvType, LoadOptions, Model, Session, SessionOptions};
use std::path::Path;

fn open_on(device: DeviceChoice, path: &Path, threads: usize) -> Model {
    Model::open(path, &LoadOptions { device, threads, ..LoadOptions::default() }, &mut |_| true).unwrap()
}

fn open(path: &Path, threads: usize) -> Model {
    open_on(DeviceChoice::Cpu, path, threads)
}

/// Where models run, each with the tokens that are evaluated at once: a GPU has other kernels for one token than for many.
fn ways() -> Vec<(DeviceChoice, usize)> {
    let cpu = (DeviceChoice::Cpu, 512);
    if has_gpu() { vec![cpu, (DeviceChoice::Gpu(None), 512), (DeviceChoice::Gpu(None), 1)] } else { vec![cpu] }
}

#[cfg(feature = "hip")]
fn has_gpu() -> bool {
    rocmforge::backends::hip::HipBackend::open(None).is_ok()
}

#[cfg(not(feature = "hip"))]
fn has_gpu() -> bool {
    false
}

fn logits(model: &Model, ids: &[u32], chunk: usize) -> Vec<f32> {
    let options = SessionOptions { context: 64, chunk, kv_type: KvType::F32, ..Default::default() };
    let mut session = Session::new(model, &options).unwrap();
    assert_eq!(session.memory(), session.allocated(), "predicted and allocated memory differ");
    let mut all = Vec::new();
    session.prefill_all(ids, &mut |_, row| all.extend_from_slice(row)).unwrap();
    all
}

/// The files of the models and the names of their answers.
const MODELS: [(&str, &str); 20] = [
    ("stories260K", "stories260K"),
    ("stories260K-F16", "stories260K-F16"),
    ("stories260K-Q4_0", "stories260K-Q4_0"),
    ("stories260K-Q4_1", "stories260K-Q4_1"),
    ("stories260K-Q5_0", "stories260K-Q5_0"),
    ("stories260K-Q5_1", "stories260K-Q5_1"),
    ("stories260K-Q8_0", "stories260K-Q8_0"),
    ("stories260K-Q4_K_M", "stories260K-Q4_K_M"),
    ("stories260K-IQ4_NL", "stories260K-IQ4_NL"),
    ("wide-BF16", "wide-BF16"),
    ("wide-Q2_K", "wide-Q2_K"),
    ("wide-Q3_K_S", "wide-Q3_K_S"),
    ("wide-Q4_K_S", "wide-Q4_K_S"),
    ("wide-Q4_K_M", "wide-Q4_K_M"),
    ("wide-Q5_K_S", "wide-Q5_K_S"),
    ("wide-Q6_K", "wide-Q6_K"),
    ("wide-IQ4_XS", "wide-IQ4_XS"),
    ("wide-MXFP4", "wide-MXFP4"),
    ("wide-Q8_0", "wide-Q8_0"),
    ("wide-F16", "wide-F16"),
];

#[test]
fn error_is_at_most_that_of_llama_cpp() {
    let Some(folder) = support::conformance() else { return };
    let ids = support::prompt_ids(&folder);
    let (ways, mut worse) = (ways(), Vec::new());
    for (file, answer) in MODELS {
        let truth_file = folder.join(format!("reference/logits.{answer}.npy"));
        let peer_file = folder.join(format!("reference/logits-llama.cpp.{answer}.f32"));
        if !truth_file.exists() || !peer_file.exists() {
            continue;
        }
        let (rows, columns, truth) = support::read_npy(&truth_file);
        let peer: Vec<f32> = std::fs::read(peer_file)
            .unwrap()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        let (peer_max, peer_rms) = support::difference(&peer, &truth);
        let right: Vec<usize> = truth.chunks_exact(columns).map(support::argmax).collect();
        let agree = |x: &[f32]| x.chunks_exact(columns).zip(&right).filter(|(x, r)| support::argmax(x) == **r).count();
        let theirs = agree(&peer);
        for &(device, chunk) in &ways {
            let found = logits(&open_on(device, &folder.join(format!("models/{file}.gguf")), 2), &ids, chunk);
            let ((max, rms), ours) = (support::difference(&found, &truth), agree(&found));
            eprintln!(
                "{file:20} {device:?} by {chunk:3}: max {max:.3e} ({peer_max:.3e}) rms {rms:.3e} ({peer_rms:.3e}) argmax {ours} ({theirs}) of {rows}"
            );
            let bound = if file == "stories260K" { 2e-5 } else { peer_max };
            if max > bound || rms > peer_rms.max(if file == "stories260K" { 2e-5 } else { 0.0 }) || ours < theirs {
                worse.push((file, device, chunk));
            }
        }
    }
    assert!(worse.is_empty(), "less exact than llama.cpp: {worse:?}");
}

#[test]
fn threads_and_chunks_do_not_change_logits() {
    let Some(folder) = support::conformance() else { return };
    let ids = support::prompt_ids(&folder);
    for file in ["stories260K.gguf", "stories260K-Q8_0.gguf", "wide-Q4_K_M.gguf", "wide-Q2_K.gguf"] {
        let path = folder.join("models").join(file);
        let one = logits(&open(&path, 1), &ids, 512);
        for threads in [2, 3] {
            assert_eq!(one, logits(&open(&path, threads), &ids, 512), "{file} with {threads} threads");
        }
        for chunk in [1, 7] {
            assert_eq!(one, logits(&open(&path, 2), &ids, chunk), "{file} in chunks of {chunk}");
        }
    }
}
