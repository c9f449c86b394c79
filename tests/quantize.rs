//! `rocmforge quantize` and the library behind it: bytes against llama.cpp's files, and that nothing half-written is left.

mod support;

use rocmforge::engine::{DeviceChoice, LoadOptions, Model, Session, SessionOptions};
use rocmforge::models::gguf::{Gguf, Writer};
use rocmforge::models::quantize::{
    Quantization, QuantizeError, QuantizeOptions, QuantizePlan, quantize, quantize_file,
};
use rocmforge::tensor::DType;
use rocmforge::tensor::quant::dequantize_row;
use std::path::{Path, PathBuf};

fn options(name: &str) -> QuantizeOptions {
    QuantizeOptions::new(Quantization::from_name(name).unwrap())
}

fn in_memory(source: &Gguf, options: QuantizeOptions, threads: usize) -> Result<Gguf, QuantizeError> {
    let plan = QuantizePlan::new(source.header(), options)?;
    let bytes = quantize(source, &plan, threads, Vec::new(), &mut |_, _| true)?;
    Ok(Gguf::from_bytes(bytes)?)
}

fn asset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(name)
}

/// The demo model with full precision.
fn demo() -> Gguf {
    Gguf::open(asset("rocmforge-demo-f16.gguf")).unwrap()
}

/// A file with one matrix of these values and one norm.
fn small(values: &[f32], row: u64) -> Gguf {
    let mut writer = Writer::new();
    writer.set("general.architecture", "llama").unwrap();
    writer.tensor("blk.0.attn_q.weight", DType::F32, &[row, values.len() as u64 / row]).unwrap();
    writer.tensor("blk.0.attn_norm.weight", DType::F32, &[4]).unwrap();
    let mut writer = writer.start(Vec::new()).unwrap();
    let bytes = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    writer.write(&bytes(values)).unwrap();
    writer.write(&bytes(&[1.0, f32::NAN, 3.0, 4.0])).unwrap();
    Gguf::from_bytes(writer.finish().unwrap()).unwrap()
}

/// Names of tensors of `found` whose type or bytes differ from those of `expected`.
fn differing(found: &Gguf, expected: &Gguf) -> Vec<String> {
    assert_eq!(found.tensors().len(), expected.tensors().len());
    let differs = |info: &&rocmforge::models::gguf::TensorInfo| {
        let other = expected.tensor(&info.name).unwrap_or_else(|| panic!("{} is not expected", info.name));
        info.dtype != other.dtype || info.shape != other.shape || found.data(info) != expected.data(other)
    };
    found.tensors().iter().filter(differs).map(|info| format!("{} ({})", info.name, info.dtype)).collect()
}

#[test]
fn tensors_are_those_of_llama_cpp() {
    let Some(folder) = support::conformance() else { return };
    let open = |name: &str| Gguf::open(folder.join("models").join(name)).unwrap();
    let source = open("stories260K.gguf");
    for name in ["F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "Q4_K_M"] {
        let found = in_memory(&source, options(name), 0).unwrap();
        let expected = open(&format!("stories260K-{name}.gguf"));
        assert_eq!(differing(&found, &expected), [""; 0], "{name}");
        assert_eq!(found.metadata().u32("general.file_type"), expected.metadata().u32("general.file_type"), "{name}");
        assert_eq!(found.metadata().u32("general.quantization_version"), Ok(Some(2)), "{name}");
    }
}

/// stories260K with rows of 256 as the wide files have it: everything four times as wide and, where it can be, as high, with a
/// quarter of the weight, and zeros for the rest of the feed-forward layer.
fn widened(source: &Gguf, wide: &Gguf) -> Gguf {
    let mut writer = Writer::with_metadata(wide.metadata()).unwrap();
    for info in wide.tensors() {
        writer.tensor(&info.name, DType::F32, &info.shape).unwrap();
    }
    let mut writer = writer.start(Vec::new()).unwrap();
    for info in wide.tensors() {
        let narrow = source.tensor(&info.name).unwrap();
        let rows_of = |shape: &[u64]| shape.get(1).map_or(1, |&n| n as usize);
        let (width, height) = (narrow.shape[0] as usize, rows_of(&narrow.shape));
        let mut values = vec![0.0; width * height];
        dequantize_row(narrow.dtype, source.data(narrow), &mut values).unwrap();
        let shared = info.shape.len() == 2 && info.shape[0] as usize == 4 * width && info.name != "token_embd.weight";
        // 172 wide or high becomes 256 with zeros; everything else is repeated.
        let at = |i: usize, n: usize| if n == 172 { Some(i).filter(|&i| i < n) } else { Some(i % n) };
        for row in 0..rows_of(&info.shape) {
            for column in 0..info.shape[0] as usize {
                let value = at(row, height).zip(at(column, width)).map_or(0.0, |(r, c)| values[r * width + c]);
                writer.write(&(if shared { value / 4.0 } else { value }).to_le_bytes()).unwrap();
            }
        }
    }
    Gguf::from_bytes(writer.finish().unwrap()).unwrap()
}

#[test]
fn super_blocks_are_those_of_llama_cpp() {
    let Some(folder) = support::conformance() else { return };
    let open = |name: &str| Gguf::open(folder.join("models").join(format!("{name}.gguf"))).unwrap();
    let source = widened(&open("stories260K"), &open("wide-F16"));
    let mixes = ["F16", "BF16", "Q8_0", "Q6_K", "Q4_K_M"];
    let pure = ["Q5_K_S", "Q4_K_S", "Q3_K_S", "Q2_K", "Q4_0", "IQ4_NL", "IQ4_XS", "MXFP4"];
    let cases = mixes.iter().map(|name| (*name, false)).chain(pure.iter().map(|name| (*name, true)));
    for (name, pure) in cases {
        let found = in_memory(&source, QuantizeOptions { pure, ..options(name) }, 0).unwrap();
        assert_eq!(differing(&found, &open(&format!("wide-{name}"))), [""; 0], "{name}");
    }
}

#[test]
fn q8_0_of_the_demo_model_is_the_shipped_file() {
    let found = in_memory(&demo(), options("Q8_0"), 0).unwrap();
    assert_eq!(differing(&found, &Gguf::open(asset("rocmforge-demo-q8_0.gguf")).unwrap()), [""; 0]);
}

#[test]
fn every_type_is_written_and_runs() {
    let source = demo();
    let load = LoadOptions { device: DeviceChoice::Cpu, threads: 1, ..LoadOptions::default() };
    for q in Quantization::ALL {
        let plan = QuantizePlan::new(source.header(), options(q.name)).unwrap();
        let found = in_memory(&source, options(q.name), 0).unwrap();
        assert_eq!(found.metadata().u32("general.file_type"), Ok(Some(q.file_type)), "{}", q.name);
        assert_eq!(found.metadata().get("tokenizer.ggml.tokens"), source.metadata().get("tokenizer.ggml.tokens"));
        assert_eq!(found.tensors().iter().map(|t| t.bytes).sum::<u64>(), plan.bytes_after, "{}", q.name);
        for (info, tensor) in found.tensors().iter().zip(&plan.tensors) {
            assert_eq!((&info.name, info.dtype, &info.shape), (&tensor.name, tensor.to, &tensor.shape), "{}", q.name);
            if q.name != "F32" {
                assert_eq!(info.dtype == DType::F32, info.shape.len() == 1, "{}: {}", q.name, info.name);
            }
        }
        let model = Model::from_gguf(found, &load, &mut |_| true).unwrap();
        let mut session = Session::new(&model, &SessionOptions { context: 32, ..SessionOptions::default() }).unwrap();
        session.prefill(&[300, 301, 302], &mut |_, _| ()).unwrap();
        assert!(session.logits().iter().all(|x| x.is_finite()), "{}", q.name);
    }
}

#[test]
fn threads_do_not_change_a_byte() {
    let source = demo();
    for name in ["Q4_K_M", "Q4_0"] {
        let [one, three] = [1, 3].map(|threads| in_memory(&source, options(name), threads).unwrap());
        assert_eq!(differing(&one, &three), [""; 0], "{name}");
    }
}

#[test]
fn tensors_larger_than_the_buffers_are_whole() {
    // More than one batch of 4 Mi elements, and the last piece is short.
    let elements = (4 << 20) + (8 << 10) + 96;
    let values = support::uniform(7, elements);
    let found = in_memory(&small(&values, 32), options("Q8_0"), 0).unwrap();
    let mut back = vec![0.0; elements];
    dequantize_row(DType::Q8_0, found.data(&found.tensors()[0]), &mut back).unwrap();
    let worst = values.iter().zip(&back).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
    assert!(worst < 1.0 / 254.0 + 1e-3, "{worst}");
}

#[test]
fn values_that_no_type_can_hold_are_named() {
    let mut values = support::uniform(1, 64 * 256);
    let _ = in_memory(&small(&values, 256), options("Q4_K_M"), 0).unwrap();
    values[8200] = f32::NAN;
    values[9000] = f32::INFINITY;
    for name in ["Q4_K_M", "Q8_0", "F16"] {
        let error = in_memory(&small(&values, 256), options(name), 0).unwrap_err();
        let QuantizeError::Value { tensor, index: 8200, value, .. } = &error else { panic!("{name}: {error}") };
        assert!(tensor == "blk.0.attn_q.weight" && value.is_nan());
    }
    assert!(in_memory(&small(&values, 256), options("BF16"), 0).is_ok());
    values = vec![65519.0; 256];
    assert!(in_memory(&small(&values, 32), options("F16"), 0).is_ok());
    values[255] = -65520.0;
    let error = in_memory(&small(&values, 32), options("F16"), 0).unwrap_err();
    assert!(matches!(error, QuantizeError::Value { index: 255, .. }), "{error}");
}

#[test]
fn quantized_sources_need_consent() {
    let source = Gguf::open(asset("rocmforge-demo-q8_0.gguf")).unwrap();
    let error = in_memory(&source, options("Q4_0"), 0).unwrap_err();
    let QuantizeError::Requantize { tensor, dtype: DType::Q8_0 } = error else { panic!("{error}") };
    assert_eq!(tensor, "token_embd.weight");
    let allowed = QuantizeOptions { allow_requantize: true, ..options("Q4_0") };
    assert_eq!(in_memory(&source, allowed, 0).unwrap().tensor("blk.0.attn_q.weight").unwrap().dtype, DType::Q4_0);
    // Nothing is to be done to it.
    assert_eq!(differing(&in_memory(&source, options("Q8_0"), 0).unwrap(), &source), [""; 0]);
}

/// The names in a folder, hidden ones too.
fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    std::fs::read_dir(folder).unwrap().map(name).collect()
}

#[test]
fn a_failure_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.gguf");
    let source = demo();
    let plan = QuantizePlan::new(source.header(), options("Q4_0")).unwrap();
    let mut calls = 0;
    let mut cancel = |_, _| {
        calls += 1;
        calls < 9
    };
    let error = quantize_file(&source, &plan, 0, &out, &mut cancel).unwrap_err();
    assert!(matches!(error, QuantizeError::Cancelled), "{error}");
    assert_eq!(names(folder.path()), [""; 0]);

    std::fs::write(&out, "before").unwrap();
    assert!(quantize_file(&source, &plan, 0, &out, &mut |_, _| false).is_err());
    assert_eq!((names(folder.path()), std::fs::read(&out).unwrap()), (vec!["out.gguf".into()], b"before".to_vec()));

    let mut seen = Vec::new();
    let mut progress = |done, total| {
        seen.push((done, total));
        assert_eq!(std::fs::read(&out).unwrap(), b"before", "not before it is complete");
        true
    };
    quantize_file(&source, &plan, 0, &out, &mut progress).unwrap();
    assert!(seen.is_sorted() && seen.last() == Some(&(plan.bytes_before, plan.bytes_before)), "{:?}", seen.last());
    assert_eq!(names(folder.path()), ["out.gguf"]);
    assert_eq!(Gguf::open(&out).unwrap().metadata().u32("general.file_type"), Ok(Some(2)));
}

#[test]
fn the_source_and_folders_are_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.gguf");
    std::fs::copy(asset("rocmforge-demo-f16.gguf"), &path).unwrap();
    let source = Gguf::open(&path).unwrap();
    let plan = QuantizePlan::new(source.header(), options("Q4_0")).unwrap();
    let attempt = |out: &Path| quantize_file(&source, &plan, 0, out, &mut |_, _| true).unwrap_err();
    let same = folder.path().join(".").join("in.gguf");
    assert!(matches!(attempt(&same), QuantizeError::SameFile { .. }));
    assert!(matches!(attempt(folder.path()), QuantizeError::NotAFile { .. }));
    assert!(matches!(attempt(&folder.path().join("absent/out.gguf")), QuantizeError::Io { .. }));
    #[cfg(unix)]
    {
        let link = folder.path().join("link.gguf");
        std::os::unix::fs::symlink("in.gguf", &link).unwrap();
        assert!(matches!(attempt(&link), QuantizeError::SameFile { .. }));
        assert!(matches!(attempt(Path::new("/dev/null")), QuantizeError::NotAFile { .. }));
    }
    assert_eq!(std::fs::metadata(&path).unwrap().len(), demo().file_size());
}

/// The program.
#[cfg(all(feature = "cli", unix))]
mod program {
    use super::{asset, names};
    use rocmforge::models::gguf::Gguf;
    use std::path::Path;
    use std::process::{Command, Output};

    /// Runs a line of shell with `$Q` for `rocmforge quantize` and `$IN` for the demo model in F16.
    fn shell(folder: &Path, line: &str) -> (Output, String) {
        let program = format!("{} quantize", env!("CARGO_BIN_EXE_rocmforge"));
        let mut command = Command::new("sh");
        command.current_dir(folder).args(["-c", line]).env("Q", program);
        let output = command.env("IN", asset("rocmforge-demo-f16.gguf")).output().unwrap();
        let stderr = String::from_utf8(output.stderr.clone()).unwrap();
        assert!(!stderr.contains("panicked"), "{stderr}");
        (output, stderr)
    }

    #[track_caller]
    fn fails(folder: &Path, line: &str, status: i32, words: &[&str]) {
        let (output, stderr) = shell(folder, line);
        assert_eq!(output.status.code(), Some(status), "{line}: {stderr}");
        for word in words.iter().chain(&["error: ", "hint: "]) {
            assert!(stderr.contains(word), "{line}: {stderr:?} lacks {word:?}");
        }
        assert_eq!(names(folder), [""; 0], "{line}");
    }

    #[test]
    fn files_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let (output, stderr) = shell(folder.path(), "$Q $IN out.gguf q4_k_m");
        assert!(output.status.success() && stderr.contains("bits a weight"), "{stderr}");
        assert!(output.stdout.is_empty());
        assert_eq!(names(folder.path()), ["out.gguf"]);
        let file = Gguf::open(folder.path().join("out.gguf")).unwrap();
        assert_eq!(file.metadata().u32("general.file_type"), Ok(Some(15)));
        let (piped, stderr) = shell(folder.path(), "cat $IN | $Q - - Q4_K_M --quiet -t 1");
        assert_eq!(stderr, "");
        assert!(piped.stdout == std::fs::read(folder.path().join("out.gguf")).unwrap());
        let (dry, _) = shell(folder.path(), "$Q $IN none.gguf Q4_K_M --dry-run");
        let dry = String::from_utf8(dry.stdout).unwrap();
        assert!(dry.contains("blk.0.attn_q.weight") && dry.contains("f16 → q4_K"), "{dry}");
        assert_eq!(names(folder.path()), ["out.gguf"]);
    }

    #[test]
    fn failures_are_explained_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fails(folder, "$Q $IN out.gguf Q9", 2, &["Q9"]);
        fails(folder, "$Q $IN out.gguf IQ2_XS", 2, &["importance matrix"]);
        fails(folder, "$Q absent.gguf out.gguf Q4_0", 1, &["absent.gguf"]);
        fails(folder, "$Q $IN no/such/out.gguf Q4_0", 1, &["no/such/out.gguf"]);
        fails(folder, "$Q $IN . Q4_0", 1, &["directory"]);
        fails(folder, "$Q $IN $IN Q4_0", 1, &["would replace the file that is read"]);
        fails(folder, "trap '' XFSZ; ulimit -f 1000; $Q $IN out.gguf Q4_0", 1, &["cannot write out.gguf"]);
        if Path::new("/dev/full").exists() {
            fails(folder, "$Q $IN - Q4_0 > /dev/full", 1, &["cannot write stdout", "No space left"]);
            fails(folder, "$Q $IN /dev/full Q4_0", 1, &["/dev/full is a device"]);
        }
    }

    #[test]
    fn help_lists_the_types() {
        let (output, _) = shell(Path::new("."), "$Q --help");
        let help = String::from_utf8(output.stdout).unwrap();
        for word in ["Q4_K_M      4.89", "Q8_0        8.50", "MXFP4", "Examples:"] {
            assert!(help.contains(word), "{help}");
        }
    }
}
