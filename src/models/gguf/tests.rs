//! Tests of the parser against files made by the writer and by hand.

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

#[test]
fn reads_what_the_writer_wrote() {
    let gguf = Gguf::from_bytes(small()).unwrap();
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
}
