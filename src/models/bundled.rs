//! The model that the crate carries, with the feature `bundled-model`: something to run where there is no file and no network.
//!
//! It is embedded and not installed beside the program, so that `cargo install` and a copied binary have it too.
//! `tools/train_demo/README.md` tells what it can do and how it is made.

/// The name in the file's metadata.
pub const NAME: &str = "rocmforge-demo";

/// The GGUF file: a llama of 5 million parameters in Q8_0, for [`Gguf::from_bytes`](super::gguf::Gguf::from_bytes).
pub const GGUF: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/rocmforge-demo-q8_0.gguf"));

#[cfg(test)]
mod tests {
    use super::super::gguf::Gguf;

    #[test]
    fn the_bundled_file_is_whole() {
        let gguf = Gguf::from_bytes(super::GGUF).unwrap();
        assert_eq!(gguf.metadata().str("general.name"), Ok(Some(super::NAME)));
    }
}
