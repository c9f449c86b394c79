//! Any vocabulary is refused with an error or gives a tokenizer that takes any text: ids lie in the vocabulary, streaming
//! equals decoding whole, and where every byte has a token the text comes back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rocmforge::text::pretokenizer;
use rocmforge::text::{DecodeOptions, EncodeOptions, Tokenizer, TokenizerModel, VocabSpec};

// Fields of the input, separated by the byte 0xFF: settings, tokens (separated by line ends), merges (likewise), text.
fuzz_target!(|bytes: &[u8]| {
    let fields: Vec<&[u8]> = bytes.splitn(4, |&byte| byte == 0xFF).collect();
    let &[settings, tokens, merges, text] = fields.as_slice() else { return };
    let text = String::from_utf8_lossy(text);
    let lines = |bytes: &[u8]| -> Vec<String> { String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect() };
    let setting = |index: usize| settings.get(index).copied().unwrap_or(0);
    let id = |index: usize| match setting(index) {
        0 => None,
        1 => Some(u32::MAX),
        byte => Some(u32::from(byte) - 2),
    };
    let flag = |index: usize| [None, Some(false), Some(true)][usize::from(setting(index) % 3)];

    let models = [TokenizerModel::Llama, TokenizerModel::Gpt2, TokenizerModel::Gemma4, TokenizerModel::Bert];
    let model = models[usize::from(setting(0)) % models.len()];
    let names: Vec<&str> = pretokenizer::known().collect();
    let mut all: Vec<String> = Vec::new();
    let with_bytes = setting(1) % 2 == 1;
    if with_bytes {
        all.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    }
    all.extend(lines(tokens));
    let types = all.iter().enumerate().map(|(i, _)| if with_bytes && i < 256 { 6 } else { i32::from(setting(8 + i % 8)) % 8 });
    let scores = (0..all.len()).map(|i| f32::from(setting(16 + i % 8)));
    let spec = VocabSpec {
        model,
        pre: Some(names[usize::from(setting(2)) % names.len()].into()),
        name: if setting(3) % 2 == 0 { "".into() } else { "phi-3".into() },
        token_types: Some(types.collect()),
        scores: Some(scores.collect()),
        merges: Some(lines(merges).into()),
        bos: id(4),
        eos: id(5),
        unk: id(6),
        sep: id(7),
        add_bos: flag(24),
        add_eos: flag(25),
        add_space_prefix: flag(26),
        lowercase: flag(27),
        tokens: all.into(),
        ..VocabSpec::default()
    };
    let tokenizer = match Tokenizer::new(&spec) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    for parse_special in [false, true] {
        let Ok(ids) = tokenizer.encode(&text, EncodeOptions { parse_special, ..EncodeOptions::default() }) else { continue };
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        for special in [false, true] {
            let options = DecodeOptions { special, clean_spaces: Some(false), continuation: false };
            let whole = tokenizer.decode(&ids, options).expect("the ids are in the vocabulary");
            let mut stream = tokenizer.stream(options);
            let mut streamed: String =
                ids.iter().map(|&id| stream.push(id).expect("the ids are in the vocabulary")).collect();
            streamed.push_str(&stream.finish());
            assert_eq!(streamed, whole);
            let _ = tokenizer.decode(&ids, DecodeOptions { clean_spaces: Some(true), ..options });
        }
    }
});
