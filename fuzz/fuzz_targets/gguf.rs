//! Any bytes are refused with an error or parse into a file whose every tensor and value can be used, and which the writer
//! writes again with the same meaning.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rocmforge::models::gguf::{Gguf, Header, Metadata, Value, Writer};

fuzz_target!(|bytes: &[u8]| {
    let header = match Header::parse(bytes) {
        Ok(header) => header,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(Gguf::from_bytes(bytes).is_err());
            return;
        }
    };
    read_all(header.metadata());
    let gguf = match Gguf::from_bytes(bytes) {
        Ok(gguf) => gguf,
        Err(error) => {
            assert_eq!(header.check_data().expect_err("only the data can be wrong").to_string(), error.to_string());
            return;
        }
    };
    for tensor in gguf.tensors() {
        assert_eq!(gguf.data(tensor).len() as u64, tensor.bytes);
        assert_eq!(tensor.offset % u64::from(gguf.alignment()), 0);
        assert_eq!(gguf.tensor(&tensor.name), Some(tensor));
    }
    if header.metadata().iter().all(|(_, value)| !matches!(value, Value::Malformed { .. })) {
        write_again(&gguf);
    }
});

/// Asks for every value in every type.
fn read_all(metadata: &Metadata) {
    for (key, value) in metadata.iter() {
        assert!(metadata.get(key).is_some());
        let _ = (value.to_string(), value.type_name(), metadata.str(key), metadata.bool(key), metadata.f32(key));
        let _ = (metadata.u32(key), metadata.i32(key), metadata.u64(key), metadata.usize(key));
        let _ = (metadata.strings(key), metadata.f32s(key), metadata.bools(key));
        let _ = (metadata.u32s(key), metadata.i32s(key));
    }
}

fn write_again(gguf: &Gguf) {
    let mut writer = Writer::with_metadata(gguf.metadata()).expect("what was read can be written");
    for tensor in gguf.tensors() {
        writer.tensor(&tensor.name, tensor.dtype, &tensor.shape).expect("what was read can be written");
    }
    let mut data = writer.start(Vec::new()).expect("what was read can be written");
    for tensor in gguf.tensors() {
        data.write(gguf.data(tensor)).expect("the sizes are the same");
    }
    let again = Gguf::from_bytes(data.finish().expect("all data are written")).expect("what was written can be read");
    assert_eq!(again.tensors(), gguf.tensors());
    // As text, where NaN equals itself.
    assert_eq!(format!("{:?}", again.metadata()), format!("{:?}", gguf.metadata()));
    for (a, b) in again.tensors().iter().zip(gguf.tensors()) {
        assert_eq!(again.data(a), gguf.data(b));
    }
}
