//! The model that the crate carries, with the feature `bundled-model`: something to run where there is no file and no network.
//!
//! It is embedded in the compiled code instead of installed beside the program, because `cargo install` and a copied binary
//! bring no other files. It costs 5 MB of the binary; an application that brings its own models turns the feature off.
//! `tools/train_demo/README.md` tells what the model can do and how it is made.

use super::gguf::{Gguf, GgufError};

/// The name in the file's metadata.
pub const NAME: &str = "rocmforge-demo";

/// The GGUF file: a llama of 5 million parameters in Q8_0.
pub const GGUF: &[u8] = &FILE.0;

/// Puts the file where any of its elements can be read.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static FILE: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/rocmforge-demo-q8_0.gguf")));

/// The opened file. Nothing is copied.
///
/// # Errors
/// [`GgufError`], if memory for the header is short.
pub fn open() -> Result<Gguf, GgufError> {
    Gguf::from_static(GGUF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_file_is_whole_and_aligned() {
        let gguf = open().unwrap();
        assert_eq!(gguf.metadata().str("general.name"), Ok(Some(NAME)));
        assert!(GGUF.as_ptr().addr().is_multiple_of(64));
        let first = gguf.data(&gguf.tensors()[0]).as_ptr();
        assert!(GGUF.as_ptr_range().contains(&first), "the tensors are those of the program, not a copy");
    }
}
