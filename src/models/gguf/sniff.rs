//! What a file that is not GGUF looks like, so that the error can say what to do with it.

/// Describes a file by its first bytes, none of which are `GGUF`'s magic. The text completes "not a GGUF file: it ...".
pub(super) fn looks_like(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "is empty (0 bytes)".into();
    }
    if bytes.len() < 4 && b"GGUF".starts_with(bytes) {
        return format!("ends after {} of the 4 bytes of the magic; the download or copy is incomplete", bytes.len());
    }
    if let Some((_, what)) = MAGICS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return format!("is {what}");
    }
    if is_safetensors(bytes) {
        return "is a safetensors file; convert it with llama.cpp's convert_hf_to_gguf.py".into();
    }
    let text = bytes.get(..bytes.len().min(256)).unwrap_or_default().trim_ascii_start();
    if text.first() == Some(&b'<') {
        return "is an HTML or XML page, probably an error or login page that was saved instead of the model".into();
    }
    if text.first() == Some(&b'{') {
        return "is JSON text".into();
    }
    if bytes.iter().take(4096).all(|&b| b == 0) {
        return "begins with zeros; the download or copy is incomplete".into();
    }
    let start: Vec<String> = bytes.iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("begins with the bytes {}, which is no format known here", start.join(" "))
}

const OLD_GGML: &str =
    "in a llama.cpp format older than GGUF; get a GGUF of the model, or convert it with an old llama.cpp";

const MAGICS: &[(&[u8], &str)] = &[
    (b"lmgg", OLD_GGML),
    (b"ggml", OLD_GGML),
    (b"fmgg", OLD_GGML),
    (b"tjgg", OLD_GGML),
    (b"algg", "a GGLA adapter file, older than GGUF"),
    (
        b"PK\x03\x04",
        "a zip archive, as PyTorch checkpoints are; convert the model with llama.cpp's convert_hf_to_gguf.py",
    ),
    (
        b"\x80\x02",
        "a Python pickle, as old PyTorch checkpoints are; convert the model with llama.cpp's convert_hf_to_gguf.py",
    ),
    (b"version https://git-lfs", "a git-lfs pointer, not the model itself; run `git lfs pull`"),
    (b"\x1f\x8b", "gzip-compressed; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed; unpack it first"),
    (b"\xfd7zXZ", "xz-compressed; unpack it first"),
    (b"BZh", "bzip2-compressed; unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x7fELF", "an ELF program"),
];

/// A little-endian header length that fits, then a JSON object.
fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return false };
    u64::from_le_bytes(*length) < 1 << 28 && rest.first() == Some(&b'{')
}

#[cfg(test)]
mod tests {
    use super::looks_like;

    #[test]
    fn names_what_people_pass_by_mistake() {
        let mut safetensors = 30u64.to_le_bytes().to_vec();
        safetensors.extend(b"{\"__metadata__\":{}}");
        let cases: &[(&[u8], &str)] = &[
            (b"", "is empty"),
            (b"GG", "2 of the 4 bytes"),
            (b"lmgg\0\0\0\0", "older than GGUF"),
            (&safetensors, "safetensors"),
            (b"PK\x03\x04rest", "zip archive"),
            (b"\x80\x02\x8a", "pickle"),
            (b"\n<!DOCTYPE html>", "HTML"),
            (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
            (b"{\"error\":1}", "JSON"),
            (&[0; 64], "zeros"),
            (b"\x01\x02\x03\x04", "01 02 03 04"),
        ];
        for (bytes, want) in cases {
            let got = looks_like(bytes);
            assert!(got.contains(want), "{bytes:?}: {got}");
        }
    }
}
