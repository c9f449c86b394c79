//! Dequantizing and quantizing, bit for bit against what ggml's C code gave.
//!
//! The data is no part of the repository; without it the tests say so and pass.

mod support;

use std::path::PathBuf;

use rocmforge::tensor::DType;
use rocmforge::tensor::quant::{can_quantize, dequantize_row, quantize_row};

fn quant_folder() -> Option<PathBuf> {
    Some(support::conformance()?.join("quant"))
}

fn read_f32(path: PathBuf) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Type, kind, and the path of `TYPE.KIND.q`, for every file of quantized bytes.
fn quantized_files(folder: &std::path::Path) -> Vec<(DType, String, PathBuf)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some((type_name, kind)) = name.strip_suffix(".q").and_then(|n| n.split_once('.')) else { continue };
        let dtype = DType::from_name(type_name).unwrap_or_else(|| panic!("{name}: no such type"));
        files.push((dtype, kind.to_owned(), path.clone()));
    }
    files.sort();
    files
}

#[test]
fn index_agrees_with_our_block_sizes() {
    let Some(folder) = quant_folder() else { return };
    let index = std::fs::read_to_string(folder.join("INDEX.tsv")).unwrap();
    let mut types = 0;
    for line in index.lines().skip(1) {
        let mut columns = line.split('\t');
        let dtype = DType::from_name(columns.next().unwrap()).unwrap_or_else(|| panic!("{line}"));
        let numbers: Vec<usize> = columns.take(3).map(|c| c.parse().unwrap()).collect();
        let ours = [dtype.ggml_id().unwrap() as usize, dtype.block_len(), dtype.block_bytes()];
        assert_eq!(numbers, ours, "{dtype}: id, block, bytes");
        types += 1;
    }
    assert_eq!(types, 29);
}

#[test]
fn dequantizing_gives_the_bits_of_ggml() {
    let Some(folder) = quant_folder() else { return };
    let mut compared = 0;
    for (dtype, kind, path) in quantized_files(&folder) {
        let answer = path.with_extension("f32");
        if !answer.exists() {
            continue; // q8_1 and q8_K: ggml never dequantizes them
        }
        let expected = read_f32(answer);
        let mut actual = vec![0.0; expected.len()];
        dequantize_row(dtype, &std::fs::read(&path).unwrap(), &mut actual).unwrap();
        for (i, (e, a)) in expected.iter().zip(&actual).enumerate() {
            assert!(
                e.to_bits() == a.to_bits(),
                "{dtype}.{kind}[{i}]: expected {e:e} ({:08x}), got {a:e} ({:08x})",
                e.to_bits(),
                a.to_bits()
            );
        }
        compared += 1;
    }
    assert!(compared >= 27 * 3, "only {compared} files compared");
}

#[test]
fn quantizing_gives_the_bytes_of_ggml() {
    let Some(folder) = quant_folder() else { return };
    let mut failures = Vec::new();
    let mut compared = 0;
    for (dtype, kind, path) in quantized_files(&folder) {
        let input = folder.join(format!("input.{kind}.f32"));
        if !can_quantize(dtype) || !input.exists() {
            continue;
        }
        let expected = std::fs::read(path).unwrap();
        let mut actual = vec![0xaa; expected.len()];
        quantize_row(dtype, &read_f32(input), &mut actual).unwrap();
        let block = dtype.block_bytes();
        let wrong = expected.chunks(block).zip(actual.chunks(block)).filter(|(e, a)| e != a).count();
        if wrong > 0 {
            let first = expected.iter().zip(&actual).position(|(e, a)| e != a).unwrap();
            let (e, a) = (expected[first], actual[first]);
            failures.push(format!(
                "{dtype}.{kind}: {wrong} of {} blocks; first in block {} byte {}: expected {e:02x}, got {a:02x}",
                expected.len() / block,
                first / block,
                first % block
            ));
        }
        compared += 1;
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(compared >= 22 * 2, "only {compared} files compared");
}
