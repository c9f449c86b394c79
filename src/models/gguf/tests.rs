//! Tests of the parser against files made by the writer and by hand, cut and damaged in every way.

use std::fs;

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::reader::Number;
use super::*;
use crate::tensor::DType;

/// A small file with every kind of value and a few tensors.
fn small() -> Vec<u8> {
    let mut writer = Writer::new();
    writer.set("general.architecture", "llama").unwrap();
    writer.set("a.u32", 7u32).unwrap();
    writer.set("a.tokens", vec!["a".to_string(), "äö".into(), String::new()]).unwrap();
    writer.set("a.scores", vec![0.5f32, -1.0]).unwrap();
    writer.set("a.flags", vec![true, false]).unwrap();
    writer.set("a.on", true).unwrap();
    writer.set("a.big", u64::MAX).unwrap();
    writer.set("a.types", vec![1i32, -3]).unwrap();
    writer.tensor("w", DType::Q4_0, &[64, 3]).unwrap();
    writer.tensor("empty", DType::F32, &[4, 0]).unwrap();
    writer.tensor("scalar", DType::F32, &[]).unwrap();
    let mut data = writer.start(Vec::new()).unwrap();
    data.write(&[7; 100]).unwrap();
    data.write(&[8; 8]).unwrap();
    data.write(&1.5f32.to_le_bytes()).unwrap();
    data.finish().unwrap()
}

/// Builds files that the writer refuses to write.
struct Raw(Vec<u8>);

impl Raw {
    fn new(version: u32, tensors: u64, entries: u64) -> Raw {
        Raw(b"GGUF".to_vec()).number(version).number(tensors).number(entries)
    }

    fn number(mut self, number: impl Number) -> Raw {
        number.put(&mut self.0);
        self
    }

    fn text(self, text: impl AsRef<[u8]>) -> Raw {
        let mut raw = self.number(text.as_ref().len() as u64);
        raw.0.extend_from_slice(text.as_ref());
        raw
    }

    fn tensor(self, name: &str, shape: &[u64], type_id: u32, offset: u64) -> Raw {
        let raw = self.text(name).number(shape.len() as u32);
        shape.iter().fold(raw, |raw, &n| raw.number(n)).number(type_id).number(offset)
    }

    /// Pads to the data and adds this much of them.
    fn data(mut self, bytes: usize) -> Vec<u8> {
        self.0.resize(self.0.len().next_multiple_of(32) + bytes, 0);
        self.0
    }
}

fn refusal(bytes: &[u8]) -> String {
    Gguf::from_bytes(bytes).expect_err("the file should be refused").to_string()
}

#[track_caller]
fn refused(bytes: &[u8], want: &str) {
    let message = refusal(bytes);
    assert!(message.contains(want), "{message:?} does not say {want:?}");
}

/// Everything that a user can do with an opened file stays in bounds; writing it again gives the same header.
fn check_sound(gguf: &Gguf) {
    for tensor in gguf.tensors() {
        assert_eq!(gguf.data(tensor).len() as u64, tensor.bytes);
        assert_eq!(tensor.offset % u64::from(gguf.alignment()), 0);
        assert_eq!(gguf.tensor(&tensor.name), Some(tensor));
        assert!(tensor.elements() < i64::MAX as u64);
    }
    for (key, value) in gguf.metadata().iter() {
        assert_eq!(gguf.metadata().get(key).map(Value::value_type), Some(value.value_type()));
        let _ = (value.to_string(), gguf.metadata().u32s(key), gguf.metadata().f32(key));
    }
}

#[test]
fn reads_what_the_writer_wrote() {
    let gguf = Gguf::from_bytes(small()).unwrap();
    check_sound(&gguf);
    let meta = gguf.metadata();
    assert_eq!(meta.str("general.architecture"), Ok(Some("llama")));
    assert_eq!(meta.usize("a.u32"), Ok(Some(7)));
    assert_eq!(meta.strings("a.tokens").unwrap().unwrap(), ["a", "äö", ""]);
    assert_eq!(meta.u64("a.big"), Ok(Some(u64::MAX)));
    assert_eq!(&*meta.i32s("a.types").unwrap().unwrap(), [1, -3]);
    assert_eq!(meta.bools("a.flags").unwrap().unwrap(), [true, false]);
    assert_eq!(gguf.tensors().iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["w", "empty", "scalar"]);
    let w = gguf.tensor("w").unwrap();
    assert_eq!((w.bytes, w.elements(), gguf.data(w).len()), (108, 192, 108));
    assert_eq!(gguf.data(w)[99..101], [7, 8]);
    assert_eq!(gguf.data(gguf.tensor("scalar").unwrap()), 1.5f32.to_le_bytes());
    assert!(gguf.data(gguf.tensor("empty").unwrap()).is_empty());
    assert!(gguf.tensor("x").is_none());
    assert_eq!((gguf.version(), gguf.alignment(), gguf.path()), (3, 32, None));
    assert_eq!(gguf.file_size(), gguf.header().needed_size());
}

#[test]
fn can_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Gguf>();
    shared::<GgufError>();
}

#[test]
fn every_truncation_is_refused_and_shows_its_header_if_that_is_whole() {
    let whole = small();
    let header = Header::parse(&whole).unwrap();
    let mut complete_headers = 0;
    for length in 0..whole.len() {
        let cut = &whole[..length];
        assert!(Gguf::from_bytes(cut).is_err(), "the first {length} bytes were accepted");
        if let Ok(parsed) = Header::parse(cut) {
            complete_headers += 1;
            assert_eq!(parsed.tensors(), header.tensors());
            assert!(matches!(parsed.check_data(), Err(GgufError::DataMissing { .. })));
        }
    }
    assert!(complete_headers >= 160, "data and padding are 160 bytes, {complete_headers} cuts kept the header");
    refused(&whole[..whole.len() - 1], "the padding after tensor `scalar`");
    refused(&whole[..whole.len() - 30], "the data of tensor `scalar`");
    refused(&whole[..whole.len() - 100], "the data of tensor `w`");
}

#[test]
fn damaged_bytes_never_lead_out_of_the_file() {
    let whole = small();
    let header_end = Header::parse(&whole).unwrap().data_start() as usize;
    let mut rng = Pcg64Mcg::seed_from_u64(7);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..60_000 {
        let mut bytes = whole.clone();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..header_end);
            match round % 4 {
                0 => bytes[at] = rng.random(),
                1 => bytes[at] ^= 1 << rng.random_range(0..8),
                2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.random_range(0..5)],
                _ => {
                    let end = (at + 8).min(header_end);
                    let fill = if rng.random() { 0xff } else { rng.random() };
                    bytes[at..end].fill(fill);
                }
            }
        }
        match Gguf::from_bytes(bytes) {
            Ok(gguf) => {
                check_sound(&gguf);
                accepted += 1;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    assert!(accepted > 1000 && refused > 10_000, "accepted {accepted}, refused {refused}: the damage tests nothing");
}

#[test]
fn odd_but_legal_files_open() {
    for version in [2, 3] {
        let gguf = Gguf::from_bytes(Raw::new(version, 0, 0).0).unwrap();
        assert_eq!((gguf.version(), gguf.tensors().len(), gguf.metadata().len()), (version, 0, 0));
    }
    let scalar = Gguf::from_bytes(Raw::new(3, 1, 0).tensor("t", &[], 0, 0).data(32)).unwrap();
    assert_eq!((scalar.tensors()[0].bytes, scalar.tensors()[0].elements()), (4, 1));
    let empty = Gguf::from_bytes(Raw::new(3, 1, 0).tensor("t", &[0, 5], 2, 0).data(0)).unwrap();
    assert_eq!((empty.tensors()[0].bytes, empty.tensors()[0].elements()), (0, 0));
    let longest = "n".repeat(63);
    assert!(Gguf::from_bytes(Raw::new(3, 1, 0).tensor(&longest, &[8], 0, 0).data(32)).is_ok());
    let unaligned = Raw::new(3, 0, 1).text("general.alignment").number(4u32).number(1u32).0;
    assert_eq!(Gguf::from_bytes(unaligned).unwrap().alignment(), 1);
}

#[test]
fn headers_that_lie_are_refused() {
    refused(&Raw::new(1, 0, 0).0, "GGUF version 1 is not supported");
    refused(&Raw::new(4, 0, 0).0, "GGUF version 4 is not supported");
    refused(&Raw::new(0, 0, 0).0, "GGUF version 0 is not supported");
    refused(&Raw::new(3u32.swap_bytes(), 0, 0).0, "big-endian (version 3");
    refused(&Raw::new(3, u64::MAX, 0).0, "tensors: a count of 18446744073709551615 at byte 24");
    refused(&Raw::new(3, 0, u64::MAX).0, "metadata entries: a count of");
    refused(&Raw::new(3, 0, 0).0[..23], "the number of metadata entries needs 8 bytes at byte 16");
}

#[test]
fn bad_entries_are_refused_by_name() {
    let one = || Raw::new(3, 0, 1);
    let tail = [0u8; 16];
    let padded = |raw: Raw| [raw.0.as_slice(), &tail].concat();
    refused(&padded(one().text("")), "metadata key number 0 at byte 24: is empty");
    refused(&padded(one().text(b"a\0b")), "contains a NUL byte");
    refused(&padded(one().text(b"\xff\xfe")), "is not UTF-8");
    refused(&padded(one().text("k".repeat(65536))), "65536 bytes long");
    refused(&padded(one().number(u64::MAX)), "metadata key number 0 needs 18446744073709551615 bytes");
    refused(&padded(one().text("a").number(13u32)), "`a` at byte 33: 13 is not the number of a value type");
    refused(&padded(one().text("a").number(8u32).number(1u64 << 40)), "the value of `a` needs 1099511627776 bytes");
    refused(&padded(one().text("a").number(9u32).number(9u32).number(1u64)), "arrays of arrays");
    refused(&padded(one().text("a").number(9u32).number(99u32).number(1u64)), "99 is not the number");
    refused(&padded(one().text("a").number(9u32).number(10u32).number(1u64 << 61)), "the array of `a`: a count of");
    refused(&padded(one().text("a").number(9u32).number(0u32).number(u64::MAX)), "the array of `a` needs");
    refused(&padded(one().text("a").number(9u32).number(8u32).number(3u64)), "the array of `a`: a count of 3");
    let twice = Raw::new(3, 0, 2).text("a").number(4u32).number(1u32).text("a").number(4u32).number(1u32);
    refused(&twice.0, "`a` occurs twice, as entries 0 and 1");
    for alignment in [0u32, 3, 33, 1 << 22, 1 << 31, u32::MAX] {
        let raw = one().text("general.alignment").number(4u32).number(alignment);
        refused(&raw.0, "is not a power of two");
    }
    let raw = one().text("general.alignment").number(5u32).number(32u32);
    refused(&raw.0, "metadata key `general.alignment` at byte 24: the alignment must");
    refused(&one().text("general.alignment").number(5u32).number(32u32).0, "must be a u32 but is i32");
}

#[test]
fn bad_tensors_are_refused_by_name() {
    let one = |shape: &[u64], type_id, offset| Raw::new(3, 1, 0).tensor("t", shape, type_id, offset).data(4096);
    refused(&one(&[1, 1, 1, 1, 1], 0, 0), "`t` at byte 24: has 5 dimensions");
    refused(&one(&[u64::MAX], 24, 0), "does not fit 63 bits");
    refused(&one(&[1 << 32, 1 << 32], 24, 0), "does not fit 63 bits");
    refused(&one(&[1 << 32, 1 << 32, 0], 24, 0), "does not fit 63 bits");
    refused(&one(&[1 << 62], 27, 0), "does not fit 64 bits");
    refused(&one(&[31], 2, 0), "rows of 31 elements, which q4_0 cannot store");
    refused(&one(&[32], 43, 0), "unknown type 43");
    refused(&one(&[32], 4, 0), "ggml no longer supports");
    refused(&one(&[32], u32::MAX, 0), "unknown type 4294967295");
    refused(&one(&[32], 0, 1), "no multiple of the alignment");
    refused(&one(&[32], 0, 64), "leaves a gap");
    refused(&one(&[1 << 40], 0, 0), "the data of tensor `t` ends at byte");
    refused(&Raw::new(3, 1, 0).tensor(&"n".repeat(64), &[1], 0, 0).data(32), "64 bytes long, 63 are allowed");
    refused(&Raw::new(3, 1, 0).tensor("a\0", &[1], 0, 0).data(32), "NUL");
    let two = |second: &str, offset| Raw::new(3, 2, 0).tensor("a", &[8], 0, 0).tensor(second, &[8], 0, offset).data(64);
    refused(&two("a", 32), "tensor `a` occurs twice, as entries 0 and 1");
    refused(&two("b", 0), "tensor `b` at byte 57: its offset 0 overlaps");
    assert!(Gguf::from_bytes(two("b", 32)).is_ok());
    let half = (1u64 << 63) - 32;
    let huge = Raw::new(3, 2, 0).tensor("a", &[half], 24, 0).tensor("b", &[half], 24, half);
    refused(&huge.data(64), "the tensor data needs 18446744073709551552 bytes");
}

#[test]
fn malformed_values_are_refused_when_asked_for() {
    let raw = Raw::new(3, 0, 5).text("bool").number(7u32).number(2u8).text("text").number(8u32).text(b"\xc3(");
    let raw = raw.text("bools").number(9u32).number(7u32).number(3u64).number(1u8).number(0u8).number(9u8);
    let raw = raw.text("texts").number(9u32).number(8u32).number(3u64).text("ok").text(b"\xff").text("ok");
    let gguf = Gguf::from_bytes(raw.text("after").number(4u32).number(5u32).0).unwrap();
    let meta = gguf.metadata();
    assert_eq!(meta.u32("after"), Ok(Some(5)), "what follows is read in step");
    let says = |error: MetadataError, want: &str| assert!(error.to_string().contains(want), "{error}");
    says(meta.bool("bool").unwrap_err(), "`bool` is a malformed bool: the byte 2 at byte 40 is neither 0 nor 1");
    says(meta.str("text").unwrap_err(), "not UTF-8");
    says(meta.bools("bools").unwrap_err(), "element 2, the byte 9");
    says(meta.strings("texts").unwrap_err(), "element 1, the text");
    says(meta.u32("bool").unwrap_err(), "malformed");
    assert_eq!(meta.get("texts").unwrap().type_name(), "array of string");
    assert!(Writer::with_metadata(meta).is_err());
}

#[test]
fn getters_check_types_and_ranges() {
    let entries: Vec<(String, Value)> = vec![
        ("u8".into(), 200u8.into()),
        ("i64".into(), (-1i64).into()),
        ("f64".into(), 0.5f64.into()),
        ("far".into(), 1e300f64.into()),
        ("u16s".into(), vec![1u16, 65535].into()),
        ("u32s".into(), vec![1u32, u32::MAX].into()),
        ("text".into(), "x".into()),
    ];
    let meta = Metadata::new(entries).unwrap();
    assert_eq!((meta.u32("u8"), meta.usize("u8"), meta.i32("u8")), (Ok(Some(200)), Ok(Some(200)), Ok(Some(200))));
    assert_eq!(meta.i32("i64"), Ok(Some(-1)));
    assert_eq!(meta.u64("i64").unwrap_err().to_string(), "metadata key `i64` is -1, which does not fit u64");
    assert_eq!(meta.f32("f64"), Ok(Some(0.5)));
    assert!(matches!(meta.f32("far"), Err(MetadataError::Range { .. })));
    assert_eq!(meta.f32("u8").unwrap_err().to_string(), "metadata key `u8` is u8, wanted f32");
    assert_eq!(&*meta.require_i32s("u16s").unwrap(), [1, 65535]);
    assert_eq!(&*meta.require_u32s("u32s").unwrap(), [1, u32::MAX]);
    let error = meta.i32s("u32s").unwrap_err().to_string();
    assert_eq!(error, "metadata key `u32s` is an array whose element 1 is 4294967295, which does not fit i32");
    assert_eq!(
        meta.strings("u16s").unwrap_err().to_string(),
        "metadata key `u16s` is array of u16, wanted array of string"
    );
    assert_eq!(meta.str("absent"), Ok(None));
    assert_eq!(meta.require_str("absent").unwrap_err().to_string(), "metadata key `absent` is missing (wanted string)");
    assert_eq!(meta.require_str("text"), Ok("x"));
    assert!(matches!(meta.require_bools("text"), Err(MetadataError::Type { .. })));
}

#[test]
fn values_are_shown_short() {
    let shown = |value: Value| value.to_string();
    assert_eq!(shown(vec![1u8, 2].into()), "[1, 2]");
    assert_eq!(shown(vec![0u32; 900].into()), "[0, 0, 0, 0, 0, 0, …] (900)");
    assert_eq!(shown("a\n".into()), "\"a\\n\"");
    assert!(shown("ä".repeat(100).as_str().into()).ends_with("… (200 bytes)"));
    assert_eq!(shown(vec!["a".to_string()].into()), "[\"a\"]");
}

#[test]
fn the_writer_refuses_what_cannot_be_read() {
    let mut writer = Writer::new();
    assert!(writer.set("", 1u32).is_err());
    assert!(writer.set("a\0", 1u32).is_err());
    assert!(writer.set("general.alignment", 3u32).is_err());
    assert!(writer.set("general.alignment", 64u64).is_err());
    assert!(writer.tensor(&"n".repeat(64), DType::F32, &[1]).is_err());
    assert!(writer.tensor("t", DType::Q4_0, &[31]).is_err());
    assert!(writer.tensor("t", DType::Q8A, &[32]).is_err());
    writer.tensor("t", DType::F32, &[2]).unwrap();
    let mut data = writer.clone().start(Vec::new()).unwrap();
    assert_eq!(data.expected().unwrap().name, "t");
    let error = data.write(&[0; 9]).unwrap_err().to_string();
    assert_eq!(error, "cannot write tensor `t`: 9 bytes were given, 8 of its 8 are left");
    data.write(&[0; 5]).unwrap();
    assert_eq!(data.finish().unwrap_err().to_string(), "cannot write tensor `t`: 3 of its 8 bytes were not given");
    let mut full = writer.clone().start(Vec::new()).unwrap();
    full.write(&[0; 8]).unwrap();
    assert!(full.write(&[0]).is_err());
    writer.tensor("t", DType::F32, &[2]).unwrap();
    assert!(matches!(writer.start(Vec::new()), Err(GgufError::DuplicateTensor { .. })));
}

#[test]
fn files_are_mapped_and_errors_name_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, small()).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    check_sound(&gguf);
    assert_eq!(gguf.path(), Some(path.as_path()));
    let fails = |path: &Path, want: &str| {
        let message = Gguf::open(path).unwrap_err().to_string();
        assert!(message.starts_with(&path.display().to_string()) && message.contains(want), "{message}");
        assert!(Header::read(path).is_err());
    };
    fails(folder.path(), "is not a file but a directory");
    fails(&folder.path().join("absent"), "cannot open the file");
    let other = folder.path().join("other");
    fs::write(&other, "").unwrap();
    fails(&other, "not a GGUF file: it is empty");
    fs::write(&other, "<html>").unwrap();
    fails(&other, "not a GGUF file: it is an HTML or XML page");
    let cut = folder.path().join("cut.gguf");
    fs::write(&cut, &small()[..small().len() - 1]).unwrap();
    assert!(Gguf::open(&cut).unwrap_err().to_string().contains("cut.gguf: the file is cut off"));
    assert_eq!(Header::read(&cut).unwrap().tensors().len(), 3);
    #[cfg(unix)]
    fails(Path::new("/dev/zero"), "a device, pipe or socket");
}

#[test]
fn foreign_tensor_infos_do_not_panic() {
    let gguf = Gguf::from_bytes(small()).unwrap();
    let mut info = gguf.tensors()[0].clone();
    info.bytes = u64::MAX;
    assert!(gguf.data(&info).is_empty());
    info.offset = u64::MAX;
    assert!(gguf.data(&info).is_empty());
}

fn any_value() -> impl Strategy<Value = Value> {
    let float = -1e30f32..1e30;
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<bool>().prop_map(Value::Bool),
        any::<String>().prop_map(Value::String),
        float.clone().prop_map(Value::F32),
        (-1e300f64..1e300).prop_map(Value::F64),
        proptest::collection::vec(any::<u8>(), 0..9).prop_map(Value::from),
        proptest::collection::vec(any::<i16>(), 0..9).prop_map(Value::from),
        proptest::collection::vec(any::<u32>(), 0..9).prop_map(Value::from),
        proptest::collection::vec(any::<i64>(), 0..9).prop_map(Value::from),
        proptest::collection::vec(any::<bool>(), 0..9).prop_map(Value::from),
        proptest::collection::vec(any::<String>(), 0..9).prop_map(Value::from),
        proptest::collection::vec(float, 0..9).prop_map(Value::from),
    ]
}

fn any_tensor() -> impl Strategy<Value = (DType, Vec<u64>)> {
    let stored: Vec<DType> = DType::ALL.iter().copied().filter(|t| t.ggml_id().is_some()).collect();
    (proptest::sample::select(stored), proptest::collection::vec(0u64..4, 0..=4)).prop_map(|(dtype, mut shape)| {
        match shape.first_mut() {
            Some(row) => *row *= dtype.block_len() as u64,
            None if dtype.is_quantized() => shape.push(dtype.block_len() as u64),
            None => {}
        }
        (dtype, shape)
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        entries in proptest::collection::btree_map("[a-z.ä_]{1,20}", any_value(), 0..12),
        tensors in proptest::collection::btree_map("[a-z0-9.]{0,31}", any_tensor(), 0..8),
        alignment in proptest::option::of(0u32..13),
        fill in any::<u8>(),
    ) {
        let mut writer = Writer::new();
        for (key, value) in &entries {
            writer.set(key, value.clone()).unwrap();
        }
        if let Some(power) = alignment {
            writer.set("general.alignment", 1u32 << power).unwrap();
        }
        for (name, (dtype, shape)) in &tensors {
            writer.tensor(name, *dtype, shape).unwrap();
        }
        let mut data = writer.start(Vec::new()).unwrap();
        while let Some(info) = data.expected() {
            let byte = fill.wrapping_add(info.name.len() as u8);
            data.write(&vec![byte; info.bytes as usize]).unwrap();
        }
        let gguf = Gguf::from_bytes(data.finish().unwrap()).unwrap();
        check_sound(&gguf);
        prop_assert_eq!(gguf.alignment(), alignment.map_or(32, |power| 1 << power));
        prop_assert_eq!(gguf.metadata().len(), entries.len() + usize::from(alignment.is_some()));
        for (key, value) in &entries {
            prop_assert_eq!(gguf.metadata().get(key), Some(value));
        }
        prop_assert_eq!(gguf.tensors().len(), tensors.len());
        for (name, (dtype, shape)) in &tensors {
            let info = gguf.tensor(name).unwrap();
            prop_assert_eq!((info.dtype, &info.shape), (*dtype, shape));
            let byte = fill.wrapping_add(name.len() as u8);
            prop_assert!(gguf.data(info).iter().all(|&b| b == byte));
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(body in proptest::collection::vec(any::<u8>(), 0..300), counts in any::<(u8, u8)>()) {
        let mut raw = Raw::new(3, u64::from(counts.0 % 4), u64::from(counts.1 % 4));
        raw.0.extend(body);
        if let Ok(gguf) = Gguf::from_bytes(raw.0) {
            check_sound(&gguf);
        }
    }
}
