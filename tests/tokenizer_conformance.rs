//! Token ids against llama.cpp's: its own test vectors, and longer texts, for nine vocabularies.
//!
//! llama.cpp's `test-tokenizer-0` made the vectors with `add_special` and `parse_special` off.

mod support;

use std::fs;

use rocmforge::models::gguf::Gguf;
use rocmforge::text::{DecodeOptions, EncodeOptions, Tokenizer, TokenizerKind};
use support::conformance;

const VOCABULARIES: [&str; 9] =
    ["bert-bge", "deepseek-llm", "gpt-2", "llama-bpe", "llama-spm", "mpt", "phi-3", "qwen2", "starcoder"];
const PLAIN: EncodeOptions = EncodeOptions { add_bos: Some(false), add_eos: Some(false), parse_special: false };

fn tokenizer(folder: &std::path::Path, name: &str) -> Tokenizer {
    let gguf = Gguf::open(folder.join(format!("tokenizers/ggml-vocab-{name}.gguf"))).unwrap();
    let tokenizer = Tokenizer::from_gguf(gguf.metadata()).unwrap();
    assert_eq!(tokenizer.token(0).is_some(), tokenizer.vocab_size() > 0);
    tokenizer
}

/// Decoding whole and in a stream, and back to the text where the kind loses nothing.
fn check_decoding(tokenizer: &Tokenizer, name: &str, text: &str, ids: &[u32]) {
    let whole = tokenizer.decode(ids, DecodeOptions::default()).unwrap();
    if tokenizer.kind() == TokenizerKind::WordPiece {
        // What WordPiece keeps is the sequence of letters; case, accents, spaces and characters without a token are lost.
        let letters = |text: &str| -> String {
            text.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric() || c.is_ascii_punctuation()).collect()
        };
        if text.is_ascii() {
            assert_eq!(letters(&whole), letters(text), "{name}");
        }
    } else {
        assert_eq!(whole, text, "{name}");
    }
    let options = DecodeOptions { clean_spaces: Some(false), ..DecodeOptions::default() };
    let mut stream = tokenizer.stream(options);
    let mut streamed: String = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    streamed.push_str(&stream.finish());
    assert_eq!(streamed, tokenizer.decode(ids, options).unwrap(), "{name}");
}

#[test]
fn vectors_of_llama_cpp() {
    let Some(folder) = conformance() else { return };
    let mut cases = 0;
    for name in VOCABULARIES {
        let tokenizer = tokenizer(&folder, name);
        let read =
            |end: &str| fs::read_to_string(folder.join(format!("tokenizers/ggml-vocab-{name}.gguf.{end}"))).unwrap();
        let (inputs, outputs) = (read("inp"), read("out"));
        // A separator also ends the last case.
        let separator = "\n__ggml_vocab_test__\n";
        let inputs: Vec<&str> = inputs.strip_suffix(separator).unwrap_or(&inputs).split(separator).collect();
        let outputs: Vec<&str> = outputs.lines().collect();
        assert_eq!(inputs.len(), outputs.len(), "{name}");
        for (input, output) in inputs.iter().zip(outputs) {
            let expected: Vec<u32> = output.split_whitespace().map(|id| id.parse().unwrap()).collect();
            let ids = tokenizer.encode(input, PLAIN).unwrap();
            assert_eq!(ids, expected, "{name}: {input:?}");
            check_decoding(&tokenizer, name, input, &ids);
            cases += 1;
        }
    }
    assert_eq!(cases, 9 * 46);
}

#[test]
fn longer_texts() {
    let Some(folder) = conformance() else { return };
    for name in VOCABULARIES {
        let tokenizer = tokenizer(&folder, name);
        for text_name in ["tinyshakespeare", "tinystories_sample"] {
            let text = fs::read_to_string(folder.join(format!("texts/{text_name}.txt"))).unwrap();
            let text = &text[..text.len().min(1 << 16)];
            let ids = fs::read(folder.join(format!("tokenizers/{name}.{text_name}.64k.u32"))).unwrap();
            let expected: Vec<u32> = ids.chunks_exact(4).map(|id| u32::from_le_bytes(id.try_into().unwrap())).collect();
            let ids = tokenizer.encode(text, PLAIN).unwrap();
            let differs = ids.iter().zip(&expected).position(|(a, b)| a != b);
            assert_eq!((differs, ids.len()), (None, expected.len()), "{name} {text_name}");
            check_decoding(&tokenizer, name, text, &ids);
        }
    }
}

#[test]
fn special_tokens_of_real_models() {
    let Some(folder) = conformance() else { return };
    let parse = EncodeOptions { parse_special: true, ..PLAIN };

    let llama3 = tokenizer(&folder, "llama-bpe");
    assert_eq!(
        (llama3.bos(), llama3.eos(), llama3.adds_bos(), llama3.adds_eos()),
        (Some(128000), Some(128001), true, false)
    );
    assert!(
        llama3.is_end_of_generation(128009) && llama3.is_end_of_generation(128001) && !llama3.is_end_of_generation(5)
    );
    assert_eq!(llama3.encode("Hi", EncodeOptions::default()).unwrap()[0], 128000);
    assert_eq!(llama3.encode("<|eot_id|>Hello", parse).unwrap(), [128009, 9906]);
    assert!(llama3.encode("<|eot_id|>", PLAIN).unwrap().len() > 1);
    let shown = DecodeOptions { special: true, ..DecodeOptions::default() };
    assert_eq!(llama3.decode(&[128009, 9906], shown).unwrap(), "<|eot_id|>Hello");
    assert_eq!(llama3.decode(&[128009, 9906], DecodeOptions::default()).unwrap(), "Hello");
    assert!(llama3.decode(&[u32::MAX], shown).unwrap_err().to_string().contains("4294967295"));

    let llama2 = tokenizer(&folder, "llama-spm");
    assert_eq!(llama2.encode("Hello", EncodeOptions::default()).unwrap(), [1, 15043]);
    assert_eq!(llama2.encode("", EncodeOptions::default()).unwrap(), [1]);
    assert_eq!(llama2.encode("<s>Hello", parse).unwrap(), [1, 15043]);
    let later = DecodeOptions { continuation: true, ..DecodeOptions::default() };
    assert_eq!(llama2.decode(&[15043], DecodeOptions::default()).unwrap(), "Hello");
    assert_eq!(llama2.decode(&[15043], later).unwrap(), " Hello");

    // Phi-3's special tokens swallow the white space after them.
    let phi3 = tokenizer(&folder, "phi-3");
    let user = phi3.token_id("<|user|>").unwrap();
    assert_eq!(phi3.encode("<|user|>\n \tHello", parse).unwrap(), [user, 15043]);
    assert!(phi3.is_end_of_generation(phi3.token_id("<|end|>").unwrap()));

    let qwen2 = tokenizer(&folder, "qwen2");
    assert!(!qwen2.adds_bos());
    assert!(qwen2.is_end_of_generation(qwen2.token_id("<|im_end|>").unwrap()));

    let bert = tokenizer(&folder, "bert-bge");
    assert_eq!(bert.encode("Hello world", EncodeOptions::default()).unwrap(), [101, 7592, 2088, 102]);
    assert_eq!(bert.encode("[MASK]", parse).unwrap(), [103]);
    assert_eq!(bert.decode(&[7592, 1010, 2088, 999], DecodeOptions::default()).unwrap(), " hello, world!");
}

#[test]
fn the_tokenizer_of_stories260k() {
    let Some(folder) = conformance() else { return };
    let gguf = Gguf::open(folder.join("models/stories260K.gguf")).unwrap();
    let tokenizer = Tokenizer::from_gguf(gguf.metadata()).unwrap();
    assert_eq!((tokenizer.pad(), tokenizer.sep(), tokenizer.bos()), (None, None, Some(1)));
    let text = "Once upon a time, there was a little dog.";
    let ids = tokenizer.encode(text, PLAIN).unwrap();
    assert_eq!(tokenizer.decode(&ids, DecodeOptions::default()).unwrap(), text);
}
