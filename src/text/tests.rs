//! Tokenizers over small made-up vocabularies, and metadata that is wrong.

use std::borrow::Cow;

use proptest::prelude::*;

use super::byte_level::byte_to_char;
use super::*;
use crate::models::gguf::{Array, Metadata, Value};

const PLAIN: EncodeOptions = EncodeOptions { add_bos: Some(false), add_eos: Some(false), parse_special: false };
const PARSE: EncodeOptions = EncodeOptions { parse_special: true, ..PLAIN };

/// Tokens with a type and a score.
fn listed<'a>(model: TokenizerModel, tokens: &[(&str, i32, f32)]) -> VocabSpec<'a> {
    VocabSpec {
        model,
        tokens: tokens.iter().map(|token| token.0.to_owned()).collect(),
        token_types: Some(tokens.iter().map(|token| token.1).collect()),
        scores: Some(tokens.iter().map(|token| token.2).collect()),
        ..VocabSpec::default()
    }
}

/// Ids 0–2 are `<unk>`, `<s>`, `</s>`, 3–258 the bytes, then the given tokens.
fn spm<'a>(tokens: &[(&str, i32, f32)]) -> VocabSpec<'a> {
    let bytes: Vec<String> = (0..256).map(|byte| format!("<0x{byte:02X}>")).collect();
    let mut all = vec![("<unk>", 2, 0.0), ("<s>", 3, 0.0), ("</s>", 3, 0.0)];
    all.extend(bytes.iter().map(|byte| (byte.as_str(), 6, 0.0)));
    all.extend(tokens);
    listed(TokenizerModel::Llama, &all)
}

/// Ids 0–255 are the bytes, then the given tokens.
fn bpe<'a>(pre: &'a str, tokens: &[(&str, i32)], merges: &[&str]) -> VocabSpec<'a> {
    let bytes: Vec<String> = (0..=255).map(|byte| byte_to_char(byte).to_string()).collect();
    let mut all: Vec<(&str, i32, f32)> = bytes.iter().map(|byte| (byte.as_str(), 1, 0.0)).collect();
    all.extend(tokens.iter().map(|token| (token.0, token.1, 0.0)));
    VocabSpec {
        pre: Some(pre.into()),
        scores: None,
        merges: Some(merges.iter().map(|merge| (*merge).to_owned()).collect()),
        ..listed(TokenizerModel::Gpt2, &all)
    }
}

fn bert<'a>() -> VocabSpec<'a> {
    let tokens = [
        ("[PAD]", 3, 0.0),
        ("[UNK]", 3, 0.0),
        ("[CLS]", 3, 0.0),
        ("[SEP]", 3, 0.0),
        ("▁hello", 1, 0.0),
        ("▁token", 1, 0.0),
        ("ization", 1, 0.0),
        ("▁,", 1, 0.0),
        ("▁'", 1, 0.0),
        ("▁s", 1, 0.0),
        ("▁中", 1, 0.0),
        ("▁tok", 1, 0.0),
    ];
    VocabSpec { bos: Some(2), sep: Some(3), unk: Some(1), scores: None, ..listed(TokenizerModel::Bert, &tokens) }
}

fn built(spec: &VocabSpec) -> Tokenizer {
    Tokenizer::new(spec).unwrap()
}

fn texts(tokenizer: &Tokenizer, text: &str, opts: EncodeOptions) -> Vec<String> {
    let ids = tokenizer.encode(text, opts).unwrap();
    ids.iter().map(|&id| tokenizer.token(id).unwrap().to_owned()).collect()
}

#[test]
fn scores_decide_what_is_joined_first() {
    let tokenizer = built(&spm(&[
        ("▁", 1, -9.0),
        ("a", 1, -9.0),
        ("b", 1, -9.0),
        ("ab", 1, -2.0),
        ("▁a", 1, -1.0),
        ("bab", 1, -3.0),
        ("▁▁", 1, -4.0),
    ]));
    assert_eq!(tokenizer.kind(), TokenizerKind::SentencePiece);
    assert_eq!(texts(&tokenizer, "abab", PLAIN), ["▁a", "bab"]);
    assert_eq!(texts(&tokenizer, "b ab", PLAIN), ["▁", "b", "▁a", "b"]);
    assert_eq!(texts(&tokenizer, " a", PLAIN), ["▁", "▁a"]);
    assert_eq!(texts(&tokenizer, "é", PLAIN), ["▁", "<0xC3>", "<0xA9>"]);
    assert_eq!(texts(&tokenizer, "a", EncodeOptions::default()), ["<s>", "▁a"]);
    assert_eq!(texts(&tokenizer, "a</s>a", PARSE), ["▁a", "</s>", "▁a"]);
    assert_eq!(texts(&tokenizer, "<s>", PLAIN).len(), 4);
    for text in ["", "a", " a", "  ab b", "é\n\0🦙 a"] {
        let ids = tokenizer.encode(text, PLAIN).unwrap();
        assert_eq!(tokenizer.decode(&ids, DecodeOptions::default()).unwrap(), text);
    }
}

#[test]
fn the_space_before_a_text_is_the_models_choice() {
    let mut spec = spm(&[("▁", 1, -9.0), ("a", 1, -9.0), ("▁a", 1, -1.0)]);
    spec.add_space_prefix = Some(false);
    let tokenizer = built(&spec);
    assert_eq!(texts(&tokenizer, "a a", PLAIN), ["a", "▁a"]);
    let space = tokenizer.encode(" a", PLAIN).unwrap();
    assert_eq!(tokenizer.decode(&space, DecodeOptions::default()).unwrap(), " a");
}

#[test]
fn a_byte_without_a_token_is_an_error_of_the_text() {
    let spec = listed(
        TokenizerModel::Llama,
        &[("<unk>", 2, 0.0), ("<s>", 3, 0.0), ("</s>", 3, 0.0), ("▁", 1, 0.0), ("a", 1, 0.0)],
    );
    let tokenizer = built(&spec);
    assert!(tokenizer.warnings().iter().any(|warning| warning.contains("bytes have no token")));
    assert_eq!(texts(&tokenizer, "a", PLAIN), ["▁", "a"]);
    assert_eq!(tokenizer.encode("b", PLAIN), Err(TokenizerError::NoByteToken { byte: b'b' }));
}

#[test]
fn merges_go_by_rank_within_words() {
    let tokens = [("he", 1), ("ll", 1), ("llo", 1), ("hello", 1), ("Ġhe", 1), ("<|im_end|>", 3), ("<tool>", 4)];
    let tokenizer = built(&bpe("gpt-2", &tokens, &["l l", "h e", "ll o", "Ġ he", "x y", "he llo"]));
    assert_eq!(tokenizer.kind(), TokenizerKind::Bpe);
    assert_eq!(texts(&tokenizer, "hello hello", PLAIN), ["hello", "Ġhe", "llo"]);
    // xy is a merge and no token: it ends as the tokens of its bytes.
    assert_eq!(texts(&tokenizer, "xy", PLAIN), ["x", "y"]);
    assert_eq!(texts(&tokenizer, "é", PLAIN), ["Ã", "©"]);
    assert_eq!(texts(&tokenizer, "he<tool>he", PLAIN), ["he", "<tool>", "he"]);
    assert_eq!(texts(&tokenizer, "<|im_end|>", PARSE), ["<|im_end|>"]);
    assert_eq!(texts(&tokenizer, "<|im_end|>", PLAIN).len(), 10);
    let end = tokenizer.token_id("<|im_end|>").unwrap();
    assert!(tokenizer.is_end_of_generation(end));
    assert_eq!((tokenizer.eot(), tokenizer.end_of_generation()), (Some(end), &[end][..]));
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.adds_bos()), (None, None, false));
    assert_eq!(tokenizer.token_type(end), Some(TokenType::Control));
    assert_eq!(tokenizer.token_bytes(tokenizer.token_id("Ġhe").unwrap()).as_deref(), Some(&b" he"[..]));
    assert!(tokenizer.encode("a", EncodeOptions { add_bos: Some(true), ..PLAIN }).is_err());
}

#[test]
fn words_that_are_tokens_can_win_over_merges() {
    let tokens = [("ab", 1), ("abc", 1)];
    let merges = ["b c", "a b"];
    assert_eq!(texts(&built(&bpe("gpt-2", &tokens, &merges)), "abc", PLAIN), ["a", "b", "c"]);
    let whole = built(&bpe("llama-bpe", &tokens, &merges));
    assert_eq!(texts(&whole, "abc", PLAIN), ["abc"]);
    assert!(whole.warnings().iter().any(|warning| warning.contains("BOS")));
    assert!(!whole.adds_bos());
}

#[test]
fn a_file_without_a_pretokenizer_gets_the_default_and_a_warning() {
    let mut spec = bpe("gpt-2", &[], &["a b"]);
    spec.pre = None;
    let tokenizer = built(&spec);
    assert!(tokenizer.warnings().iter().any(|warning| warning.contains("tokenizer.ggml.pre")));
    spec.pre = Some("from-the-future".into());
    let error = Tokenizer::new(&spec).unwrap_err().to_string();
    assert!(error.contains("from-the-future") && error.contains("llama-bpe"), "{error}");
}

#[test]
fn gemma4_merges_text_with_escaped_spaces() {
    let mut tokens =
        vec![("<bos>", 3, 0.0), ("a", 1, 0.0), ("▁", 1, 0.0), ("▁a", 1, 0.0), ("\n\n", 1, 0.0), ("\n", 1, 0.0)];
    let bytes: Vec<String> = (0..256).map(|byte| format!("<0x{byte:02X}>")).collect();
    tokens.extend(bytes.iter().map(|byte| (byte.as_str(), 6, 0.0)));
    let spec = VocabSpec {
        bos: Some(0),
        merges: Some(vec!["▁ a".to_owned()].into()),
        ..listed(TokenizerModel::Gemma4, &tokens)
    };
    let tokenizer = built(&spec);
    assert_eq!(
        texts(&tokenizer, "a a\n\né", EncodeOptions::default()),
        ["<bos>", "a", "▁a", "\n\n", "<0xC3>", "<0xA9>"]
    );
    let ids = tokenizer.encode("a a\n\né", PLAIN).unwrap();
    assert_eq!(tokenizer.decode(&ids, DecodeOptions::default()).unwrap(), "a a\n\né");
}

#[test]
fn word_piece_takes_the_longest_token() {
    let tokenizer = built(&bert());
    assert_eq!(tokenizer.kind(), TokenizerKind::WordPiece);
    let all = ["[CLS]", "▁hello", "▁,", "▁token", "ization", "[UNK]", "[SEP]"];
    assert_eq!(texts(&tokenizer, "Héllo,  TOKENization tokens\u{200d}", EncodeOptions::default()), all);
    assert_eq!(texts(&tokenizer, "hello中hello", PLAIN), ["▁hello", "▁中", "▁hello"]);
    assert_eq!(texts(&tokenizer, " \t\0\u{fffd}", PLAIN), [""; 0]);
    let ids = tokenizer.encode("hello, token's", PLAIN).unwrap();
    assert_eq!(tokenizer.decode(&ids, DecodeOptions::default()).unwrap(), " hello, token's");
    let raw = DecodeOptions { clean_spaces: Some(false), ..DecodeOptions::default() };
    assert_eq!(tokenizer.decode(&ids, raw).unwrap(), " hello , token ' s");
    let cased = built(&VocabSpec { lowercase: Some(false), ..bert() });
    assert_eq!(texts(&cased, "Hello hello", PLAIN), ["[UNK]", "▁hello"]);
}

#[test]
fn longer_special_tokens_are_found_first_and_may_swallow_spaces() {
    let tokens = [("▁", 1, -9.0), ("a", 1, -9.0), ("<x>", 4, 0.0), ("<x><y>", 4, 0.0), ("<|end|>", 3, 0.0)];
    let mut spec = spm(&tokens);
    spec.name = "Phi-3 mini".into();
    let tokenizer = built(&spec);
    assert_eq!(texts(&tokenizer, "<x><x><y>  \na", PLAIN), ["<x>", "<x><y>", "▁", "a"]);
    assert_eq!(texts(&tokenizer, "a <|end|>\n a", PARSE), ["▁", "a", "▁", "<|end|>", "▁", "a"]);
    assert_eq!(texts(&tokenizer, "<s> a", PARSE), ["<s>", "▁", "▁", "a"]);
}

#[test]
fn a_stream_never_splits_a_character() {
    let tokenizer = built(&bpe("gpt-2", &[("<|im_end|>", 3)], &[]));
    let ids = tokenizer.encode("né🦙", PLAIN).unwrap();
    let mut stream = tokenizer.stream(DecodeOptions::default());
    let pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    assert_eq!(pieces, ["n", "", "é", "", "", "", "🦙"]);
    assert_eq!(stream.finish(), "");
    assert_eq!(stream.push(ids[1]).unwrap(), "");
    assert_eq!(stream.push(ids[0]).unwrap(), "\u{fffd}n");
    assert_eq!(stream.push(ids[3]).unwrap(), "");
    assert_eq!(stream.finish(), "\u{fffd}");
    assert!(stream.push(999_999).is_err());
    let mut owned = StreamDecoder::new(std::sync::Arc::new(built(&bpe("gpt-2", &[], &[]))), DecodeOptions::default());
    assert_eq!(owned.push(65).unwrap(), "A");
}

#[test]
fn well_known_texts_end_a_generation() {
    let tokens = [("<|return|>", 3), ("<|call|>", 3), ("<|end|>", 3), ("<|channel|>", 3), ("<|endoftext|>", 1)];
    let tokenizer = built(&bpe("gpt-4o", &tokens, &[]));
    let ends: Vec<&str> = tokenizer.end_of_generation().iter().map(|&id| tokenizer.token(id).unwrap()).collect();
    assert_eq!(ends, ["<|return|>", "<|call|>", "<|endoftext|>"]);
    let channel = tokenizer.token_id("<|channel|>").unwrap();
    assert_eq!(tokenizer.decode(&[channel], DecodeOptions::default()).unwrap(), "<|channel|>");
    assert_eq!(tokenizer.token_type(tokenizer.token_id("<|endoftext|>").unwrap()), Some(TokenType::Control));
    assert!(tokenizer.warnings().iter().any(|warning| warning.contains("<|endoftext|>")));
}

#[test]
fn unused_and_untyped_tokens_render_as_nothing() {
    let tokenizer = built(&bpe("gpt-2", &[("<unused>", 5), ("<odd>", 77)], &[]));
    assert_eq!(tokenizer.decode(&[256, 257, 65], DecodeOptions::default()).unwrap(), "A");
    assert_eq!(tokenizer.token_type(257), Some(TokenType::Undefined));
}

#[test]
fn a_file_without_a_tokenizer_says_so() {
    let tokenizer = built(&VocabSpec::default());
    assert_eq!((tokenizer.kind(), tokenizer.vocab_size()), (TokenizerKind::None, 0));
    assert_eq!(tokenizer.encode("a", PLAIN), Err(TokenizerError::NoTokenizer));
    assert_eq!(tokenizer.decode(&[1], DecodeOptions::default()), Err(TokenizerError::NoTokenizer));
}

#[test]
fn wrong_specs_are_refused_by_key() {
    let refused = |spec: &VocabSpec, key: &str| {
        let error = Tokenizer::new(spec).unwrap_err().to_string();
        assert!(error.contains(key), "{error} should name {key}");
    };
    let good = spm(&[("▁", 1, 0.0)]);
    assert!(Tokenizer::new(&good).is_ok());
    refused(&VocabSpec { tokens: Cow::Borrowed(&[]), ..good.clone() }, "tokenizer.ggml.tokens");
    refused(&VocabSpec { scores: Some(vec![0.0].into()), ..good.clone() }, "tokenizer.ggml.scores");
    refused(&VocabSpec { scores: Some(vec![f32::NAN; 260].into()), ..good.clone() }, "tokenizer.ggml.scores");
    refused(&VocabSpec { token_types: Some(vec![1].into()), ..good.clone() }, "tokenizer.ggml.token_type");
    refused(&VocabSpec { bos: Some(260), ..good.clone() }, "tokenizer.ggml.bos_token_id");
    refused(&VocabSpec { eos: Some(1 << 31), ..good.clone() }, "tokenizer.ggml.eos_token_id");
    refused(&spm(&[("a", 1, 0.0), ("a", 1, 0.0)]), "tokenizer.ggml.tokens");
    let none = VocabSpec { pad: Some(u32::MAX), sep: Some(u32::MAX), ..good };
    assert_eq!(built(&none).pad(), None);

    let good = bpe("gpt-2", &[], &[]);
    refused(&VocabSpec { merges: None, ..good.clone() }, "tokenizer.ggml.merges");
    refused(&bpe("gpt-2", &[], &["ab"]), "tokenizer.ggml.merges");
    refused(&bpe("gpt-2", &[], &[""]), "tokenizer.ggml.merges");
    refused(&VocabSpec { add_bos: Some(true), ..good.clone() }, "tokenizer.ggml.bos_token_id");
    refused(&VocabSpec { add_eos: Some(true), ..good }, "tokenizer.ggml.eos_token_id");
    refused(&VocabSpec { sep: None, ..bert() }, "tokenizer.ggml.seperator_token_id");
    refused(&VocabSpec { unk: None, ..bert() }, "tokenizer.ggml.unknown_token_id");
}

#[test]
fn metadata_of_the_wrong_type_is_refused() {
    let strings = |list: &[&str]| Value::Array(Array::String(list.iter().map(|text| (*text).to_owned()).collect()));
    let model = |name: &str| ("tokenizer.ggml.model".to_owned(), Value::String(name.into()));
    let tokenizer = |entries: Vec<(String, Value)>| Tokenizer::from_gguf(&Metadata::new(entries).unwrap());
    let refused = |entries: Vec<(String, Value)>, words: &str| {
        let error = tokenizer(entries).unwrap_err().to_string();
        assert!(error.contains(words), "{error} should contain {words}");
    };
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    refused(vec![], "tokenizer.ggml.model");
    refused(vec![(key("model"), Value::U32(3))], "tokenizer.ggml.model");
    for name in ["t5", "rwkv", "plamo2", "magic"] {
        refused(vec![model(name)], name);
    }
    refused(vec![model("llama")], "tokenizer.ggml.tokens");
    refused(vec![model("llama"), (key("tokens"), Value::U32(1))], "tokenizer.ggml.tokens");
    let tokens = || (key("tokens"), strings(&["<unk>", "<s>", "</s>", "a"]));
    refused(vec![model("llama"), tokens(), (key("scores"), strings(&["1"]))], "tokenizer.ggml.scores");
    refused(vec![model("llama"), tokens(), (key("token_type"), Value::Bool(true))], "tokenizer.ggml.token_type");
    refused(vec![model("llama"), tokens(), (key("bos_token_id"), Value::U32(4))], "tokenizer.ggml.bos_token_id");
    refused(vec![model("llama"), tokens(), (key("add_bos_token"), Value::U32(1))], "tokenizer.ggml.add_bos_token");
    refused(vec![model("gpt2"), tokens(), (key("merges"), Value::U32(1))], "tokenizer.ggml.merges");
    let minus_one = (key("bos_token_id"), Value::I32(-1));
    let scores = (key("scores"), Value::Array(Array::I32(vec![0, -1, -2, -3])));
    assert_eq!(tokenizer(vec![model("llama"), tokens(), minus_one, scores]).unwrap().bos(), Some(1));
    assert_eq!(tokenizer(vec![model("none")]).unwrap().kind(), TokenizerKind::None);
}

#[test]
fn monotonous_megabytes_take_seconds_at_most() {
    let started = std::time::Instant::now();
    let double: Vec<(String, f32)> = (0..12).map(|n| ("a".repeat(1 << n), -(n as f32))).collect();
    let tokens: Vec<(&str, i32, f32)> = double.iter().map(|(text, score)| (text.as_str(), 1, *score)).collect();
    let merges: Vec<String> = double.windows(2).map(|pair| format!("{0} {0}", pair[0].0)).collect();
    let merges: Vec<&str> = merges.iter().map(String::as_str).collect();
    let bpe_tokens: Vec<(&str, i32)> = tokens[1..].iter().map(|token| (token.0, 1)).collect();
    let tokenizers = [built(&spm(&tokens)), built(&bpe("llama-bpe", &bpe_tokens, &merges)), built(&bert())];
    for tokenizer in &tokenizers {
        for character in ["a", " ", "\0", "7", "\n", "<"] {
            let ids = tokenizer.encode(&character.repeat(1 << 18), PARSE).unwrap();
            assert!(tokenizer.kind() != TokenizerKind::Bpe || character != "a" || ids.len() == 1 << 18 >> 11);
        }
    }
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

proptest! {
    #[test]
    fn lossless_kinds_give_the_text_back(text in "(?s)[ab \\n<x>é🦙\\PC]{0,40}", parse_special: bool) {
        let sentence = built(&spm(&[("▁", 1, -9.0), ("a", 1, -9.0), ("ab", 1, -2.0), ("▁a", 1, -1.0), ("bb", 1, -3.0), ("<x>", 4, 0.0)]));
        let pairs = built(&bpe("qwen2", &[("ab", 1), ("abb", 1), ("Ġa", 1), ("<x>", 4)], &["a b", "Ġ a", "ab b"]));
        for tokenizer in [sentence, pairs] {
            let ids = tokenizer.encode(&text, EncodeOptions { parse_special, ..PLAIN }).unwrap();
            let whole = tokenizer.decode(&ids, DecodeOptions::default()).unwrap();
            // A space is put before each stretch after a special token and removed only before the first.
            if tokenizer.kind() == TokenizerKind::Bpe || !text.contains("<x>") {
                prop_assert_eq!(&whole, &text);
            }
            let mut stream = tokenizer.stream(DecodeOptions::default());
            let mut streamed: String = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
            streamed.push_str(&stream.finish());
            prop_assert_eq!(streamed, whole);
        }
    }

    #[test]
    fn streams_of_any_ids_equal_whole_decoding(ids in proptest::collection::vec(0u32..256, 0..24)) {
        let tokenizer = built(&bpe("gpt-2", &[], &[]));
        let mut stream = tokenizer.stream(DecodeOptions::default());
        let mut streamed: String = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
        streamed.push_str(&stream.finish());
        prop_assert_eq!(streamed, tokenizer.decode(&ids, DecodeOptions::default()).unwrap());
    }
}

#[test]
fn tokenizers_are_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Tokenizer>();
    shared::<StreamDecoder<std::sync::Arc<Tokenizer>>>();
}
