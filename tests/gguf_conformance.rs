//! The GGUF parser against files that others made: malformed, odd, and real ones; and the memory it takes to refuse them.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::Path;

use rocmforge::models::gguf::{Gguf, GgufError, Header, MetadataError};
use support::conformance;

/// Counts the bytes that each thread holds, and the most it ever held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

// SAFETY: every call is passed on to the system allocator unchanged; counting uses thread-locals that are initialised at
// compile time and have no destructor, so it neither allocates nor fails.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new block may exist together.
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The result and the most bytes that were held at once while making it.
fn measured<T>(make: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = make();
    (result, (PEAK.get() - before) as usize)
}

/// The rows of an `EXPECTED.tsv`, without the heading.
fn expected(folder: &Path) -> Vec<Vec<String>> {
    let table = fs::read_to_string(folder.join("EXPECTED.tsv")).unwrap();
    table.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// Opens or refuses a file, holding no more memory than a small multiple of the file: a count may not reserve more than
/// the file's own bytes can fill.
fn within_memory<'a, T>(path: &'a Path, open: impl FnOnce(&'a Path) -> Result<T, GgufError>) -> Result<T, String> {
    let size = fs::metadata(path).unwrap().len() as usize;
    let (result, peak) = measured(|| open(path));
    assert!(peak <= 16 * 1024 + 16 * size, "{}: {peak} bytes held for a file of {size}", path.display());
    result.map_err(|error| {
        let message = error.to_string();
        assert!(message.starts_with(&path.display().to_string()), "{message} does not name the path");
        message
    })
}

/// For each refused file, what the message must say: the field at fault, so that no file is refused for another reason.
const REASONS: &[(&str, &str)] = &[
    ("HEADER_BAD_MAGIC.seed1.gguf", "not a GGUF file"),
    ("HEADER_BAD_VERSION_0.seed1.gguf", "version 0"),
    ("HEADER_BAD_VERSION_1.seed1.gguf", "version 1"),
    ("HEADER_BAD_VERSION_FUTURE.seed1.gguf", "version 4"),
    ("HEADER_BAD_N_KV.seed1.gguf", "metadata entries: a count of 18446744073709551615"),
    ("HEADER_BAD_N_TENSORS.seed1.gguf", "tensors: a count of 18446744073709551615"),
    ("KV_BAD_KEY_SIZE.seed1.gguf", "metadata key number"),
    ("KV_EMPTY_KEY.seed1.gguf", "is empty"),
    ("KV_BAD_TYPE.seed1.gguf", "is not the number of a value type"),
    ("KV_DUPLICATE_KEY.seed1.gguf", "occurs twice"),
    ("KV_BAD_ALIGN.seed1.gguf", "the alignment 13 is not a power of two"),
    ("KV_WRONG_TYPE_ALIGN.seed1.gguf", "the alignment must be a u32"),
    ("TENSORS_BAD_NAME_SIZE.seed1.gguf", "bytes long, 63 are allowed"),
    ("TENSORS_BAD_N_DIMS.seed1.gguf", "dimensions, at most 4"),
    ("TENSORS_BAD_SHAPE.seed1.gguf", "does not fit 63 bits"),
    ("TENSORS_NE_TOO_BIG.seed1.gguf", "does not fit 63 bits"),
    ("TENSORS_NBYTES_TOO_BIG.seed1.gguf", "does not fit 64 bits"),
    ("TENSORS_NBYTES_PAD_WRAP.seed1.gguf", "end beyond 64 bits"),
    ("TENSORS_BAD_TYPE.seed1.gguf", "the unknown type 43"),
    ("TENSORS_BAD_OFFSET.seed1.gguf", "its offset"),
    ("TENSORS_DUPLICATE_NAME.seed1.gguf", "`my_tensor` occurs twice"),
    ("TENSORS_BAD_ALIGN.seed1.gguf", "the alignment 13"),
    ("TENSORS_INCONSISTENT_ALIGN.seed1.gguf", "its offset"),
    ("DATA_NOT_ENOUGH_DATA.seed1.gguf", "the padding after tensor `my_tensor_77`"),
    ("DATA_BAD_ALIGN.seed1.gguf", "the alignment 13"),
    ("DATA_INCONSISTENT_ALIGN.seed1.gguf", "its offset"),
    ("DATA_MEM_SIZE_OVERFLOW.seed1.gguf", "the tensor data needs"),
    ("align_0.gguf", "the alignment 0"),
    ("align_3.gguf", "the alignment 3"),
    ("align_i32.gguf", "the alignment must be a u32 but is i32"),
    ("align_string.gguf", "the alignment must be a u32 but is string"),
    ("array_bad_elem_type.gguf", "99 is not the number of a value type"),
    ("array_of_arrays.gguf", "arrays of arrays"),
    ("array_string_second_bad.gguf", "element 1 of the array of `a`"),
    ("array_u64_2_60.gguf", "the array of `a` needs 9223372036854775808 bytes"),
    ("array_u8_max.gguf", "the array of `a` needs 18446744073709551615 bytes"),
    ("data_truncated.gguf", "the data of tensor `t` ends at byte 96"),
    ("dims_i8_int64max_x2.gguf", "does not fit 63 bits"),
    ("dims_product_wraps_to_4.gguf", "does not fit 63 bits"),
    ("empty_file.gguf", "is empty"),
    ("ggml_magic_lmgg.gguf", "older than GGUF"),
    ("header_minus_1.gguf", "the number of metadata entries"),
    ("key_bad_utf8.gguf", "is not UTF-8"),
    ("key_empty.gguf", "is empty"),
    ("key_len_2_40.gguf", "metadata entries: a count of 1"),
    ("key_nul.gguf", "contains a NUL byte"),
    ("magic_version.gguf", "the number of tensors"),
    ("n_kv_max.gguf", "metadata entries: a count of"),
    ("n_tensors_max.gguf", "tensors: a count of"),
    ("name_duplicate.gguf", "tensor `a` occurs twice"),
    ("name_len_max.gguf", "tensors: a count of 1"),
    ("ndims_255.gguf", "255 dimensions"),
    ("ndims_max.gguf", "4294967295 dimensions"),
    ("offset_past_eof.gguf", "its offset"),
    ("offsets_overlap.gguf", "overlaps"),
    ("one_byte.gguf", "1 of the 4 bytes of the magic"),
    ("q4_0_row_31.gguf", "rows of 31 elements"),
    ("str_len_max_wraps_plus1.gguf", "the value of `general.name`"),
    ("tensor_1_TiB.gguf", "the data of tensor `t`"),
    ("type_13.gguf", "13 is not the number of a value type"),
    ("type_43_future.gguf", "the unknown type 43"),
    ("type_max.gguf", "4294967295 is not the number of a value type"),
];

fn assert_verdict<T>(file: &str, result: Result<T, String>, accept: bool) {
    match result {
        Ok(_) => assert!(accept, "{file} must be refused"),
        Err(message) => {
            assert!(!accept, "{file} must be accepted: {message}");
            let reason = REASONS.iter().find(|(name, _)| *name == file);
            let (_, want) = reason.unwrap_or_else(|| panic!("no reason is listed for {file}: {message}"));
            assert!(message.contains(want), "{file}: {message:?} does not say {want:?}");
        }
    }
}

#[test]
fn llama_cpp_handcrafted_files() {
    let Some(root) = conformance() else { return };
    let folder = root.join("gguf/llama.cpp-handcrafted");
    let rows = expected(&folder);
    assert_eq!(rows.len(), 34);
    for row in rows {
        let path = folder.join(&row[0]);
        let accept = row[2] == "accept";
        // Files whose name begins with DATA have tensor data, the others end behind the header.
        if row[4] == "1" {
            assert_verdict(&row[0], within_memory(&path, Gguf::open), accept);
        } else {
            assert_verdict(&row[0], within_memory(&path, Header::read), accept);
        }
    }
}

#[test]
fn files_that_attacked_other_parsers() {
    /// Accepted by llama.cpp, refused here: a key must be text without NUL.
    const STRICTER: &[&str] = &["key_bad_utf8.gguf", "key_nul.gguf"];
    let Some(root) = conformance() else { return };
    let folder = root.join("gguf/cve-and-parser-asserts");
    let rows = expected(&folder);
    assert_eq!(rows.len(), 42);
    for row in rows {
        let path = folder.join(&row[0]);
        let accept = |verdict: &str| verdict == "accept" && !STRICTER.contains(&row[0].as_str());
        assert_verdict(&row[0], within_memory(&path, Header::read), accept(&row[2]));
        assert_verdict(&row[0], within_memory(&path, Gguf::open), accept(&row[3]));
    }
    // Values that llama.cpp takes as they are open here too, and are refused when they are asked for.
    let gguf = Gguf::open(folder.join("bool_value_2.gguf")).unwrap();
    assert!(matches!(gguf.metadata().bool("a"), Err(MetadataError::Malformed { .. })));
    let gguf = Gguf::open(folder.join("str_bad_utf8.gguf")).unwrap();
    assert!(matches!(gguf.metadata().str("general.name"), Err(MetadataError::Malformed { .. })));
}

#[test]
fn models_and_vocabularies_open() {
    let Some(root) = conformance() else { return };
    let mut opened = 0;
    for folder in ["models", "tokenizers"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "gguf") {
                continue;
            }
            let gguf = Gguf::open(&path).unwrap();
            assert!(gguf.metadata().require_str("general.architecture").is_ok());
            let tokens = gguf.metadata().require_strings("tokenizer.ggml.tokens").unwrap().len();
            assert_eq!(gguf.metadata().require_i32s("tokenizer.ggml.token_type").unwrap().len(), tokens);
            let data: u64 = gguf.tensors().iter().map(|tensor| gguf.data(tensor).len() as u64).sum();
            assert_eq!(data, gguf.tensors().iter().map(|tensor| tensor.bytes).sum::<u64>());
            assert!(data == 0 || folder == "models");
            opened += 1;
        }
    }
    assert_eq!(opened, 31, "models and vocabularies");
}

#[test]
fn a_real_model_reads_as_its_makers_say() {
    let Some(root) = conformance() else { return };
    let gguf = Gguf::open(root.join("models/stories260K.gguf")).unwrap();
    let meta = gguf.metadata();
    assert_eq!(meta.require_str("general.architecture"), Ok("llama"));
    assert_eq!(meta.require_u32("llama.embedding_length"), Ok(64));
    assert_eq!(meta.require_usize("llama.block_count"), Ok(5));
    assert_eq!(meta.u32("tokenizer.ggml.padding_token_id"), Ok(Some(u32::MAX)));
    assert_eq!(meta.f32("llama.rope.freq_base"), Ok(None));
    assert_eq!(meta.require_strings("tokenizer.ggml.tokens").unwrap().len(), 512);
    assert_eq!(meta.require_f32s("tokenizer.ggml.scores").unwrap().len(), 512);
    assert_eq!(gguf.tensors().len(), 48);
    let embedding = gguf.tensor("token_embd.weight").unwrap();
    assert_eq!((embedding.shape.as_slice(), embedding.bytes), ([64, 512].as_slice(), 64 * 512 * 4));
    let element = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    assert!(gguf.data(embedding).chunks_exact(4).map(element).all(|x| x.is_finite() && x.abs() < 10.0));
}

#[test]
fn every_cut_of_a_real_model_is_refused_in_little_memory() {
    let Some(root) = conformance() else { return };
    let whole = fs::read(root.join("models/stories260K.gguf")).unwrap();
    let header = Header::parse(&whole).unwrap();
    let header_end = header.data_start() as usize;
    let (_, full) = measured(|| Header::parse(&whole).map(drop));
    // Every cut of the header but for the longest arrays' middles, then a few thousand in the data.
    let in_header = (0..2000).chain((2000..header_end).step_by(7));
    for length in in_header.chain((header_end..whole.len()).step_by(397)).chain([whole.len() - 1]) {
        let cut = &whole[..length];
        let (parsed, peak) = measured(|| Header::parse(cut));
        assert!(peak <= full + 1024, "{peak} bytes held for the first {length}, {full} for all");
        match parsed {
            Ok(parsed) => assert!(matches!(parsed.check_data(), Err(GgufError::DataMissing { .. }))),
            Err(error) => assert!(length < header_end, "the first {length} bytes: {error}"),
        }
    }
    assert!(header.check_data().is_ok());
}

#[test]
fn counts_that_lie_reserve_nothing() {
    // A megabyte that claims as many entries as it could just hold, of which the first is already bad.
    let size = 1 << 20;
    let file = |tensors: u64, entries: u64, start: &[u8]| {
        let head = [b"GGUF".as_slice(), &3u32.to_le_bytes(), &tensors.to_le_bytes(), &entries.to_le_bytes(), start];
        let mut bytes = head.concat();
        bytes.resize(size, 0xff);
        bytes
    };
    let strings = |count: u64, text: &[u8]| {
        let head = [b"\x01\0\0\0\0\0\0\0a\x09\0\0\0\x08\0\0\0".as_slice(), &count.to_le_bytes(), text];
        file(0, 1, &head.concat())
    };
    let cases = [
        ("tensors", file((size as u64 - 24) / 24, 0, b"")),
        ("entries", file(0, (size as u64 - 24) / 14, b"")),
        ("strings, the first bad", strings((size as u64 - 100) / 8, b"")),
        ("strings, the second bad", strings((size as u64 - 100) / 8, b"\x02\0\0\0\0\0\0\0ok")),
    ];
    for (what, bytes) in cases {
        let (result, peak) = measured(|| Header::parse(&bytes).map(drop));
        assert!(result.is_err(), "{what}");
        assert!(peak < 4096, "{what}: {peak} bytes were held");
    }
}
