//! A model that follows a script: after each token comes a certain other one. So what generates and scores can be
//! tested to the letter without any file from outside.
//!
//! Embeddings are one-hot, attention and feed-forward add nothing, and row `b` of the output matrix is large at `a`
//! wherever `b` follows `a`. The vocabulary is SentencePiece-like, with a token for each byte.

use rocmforge::models::gguf::{Array, Value, Writer};
use rocmforge::tensor::DType;
use std::path::{Path, PathBuf};

/// `<unk>`, `<s>`, `</s>`, then the 256 bytes, then the words.
pub const BOS: u32 = 1;
/// The token that ends a text.
pub const EOS: u32 = 2;
const FIRST_WORD: usize = 3 + 256;
/// The logit of the token that comes next; the others have 0.
pub const LOGIT: f32 = 8.0;

/// What follows what. `<0xC3>` is a byte token.
const SCRIPT: &[&[&str]] = &[
    &["▁Count", "▁one", "▁two", "▁three", "</s>"],
    &["▁loop", "▁tick", "▁tock", "▁tick"],
    &["▁chat", "▁hi", "<0x0A>", "Us", "er:", "▁more", "▁tick"],
    &["▁say", "▁caf", "<0xC3>", "<0xA9>", "▁now", "</s>"],
];

/// The words with all their beginnings, which SentencePiece merging goes through.
fn words() -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in SCRIPT.iter().copied().flatten().filter(|word| !word.starts_with('<')) {
        for (at, c) in word.char_indices() {
            let beginning = &word[..at + c.len_utf8()];
            if !words.iter().any(|w| w == beginning) {
                words.push(beginning.to_string());
            }
        }
    }
    words
}

/// All tokens in order.
fn tokens() -> Vec<String> {
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    ["<unk>", "<s>", "</s>"].map(str::to_string).into_iter().chain(bytes).chain(words()).collect()
}

/// The id of a token by its raw text.
pub fn id(token: &str) -> u32 {
    tokens().iter().position(|t| t == token).unwrap() as u32
}

/// The number of tokens.
pub fn vocabulary() -> usize {
    tokens().len()
}

/// What a scripted file is like.
#[derive(Clone)]
pub struct Scripted {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// `llama.context_length`.
    pub context: u32,
    /// With tensors, or only the vocabulary.
    pub tensors: bool,
    /// A tensor to leave out.
    pub without: Option<&'static str>,
}

impl Default for Scripted {
    fn default() -> Self {
        Scripted { architecture: "llama", context: 64, tensors: true, without: None }
    }
}

impl Scripted {
    /// Writes the file into a folder.
    pub fn write(&self, folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, self.bytes()).unwrap();
        path
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let tokens = tokens();
        let (width, count) = (tokens.len().next_multiple_of(32), tokens.len());
        let mut writer = self.header(width, &tokens);
        if !self.tensors {
            return writer.start(Vec::new()).unwrap().finish().unwrap();
        }
        let mut data: Vec<Vec<f32>> = Vec::new();
        let mut add = |name: &str, shape: &[usize], values: Vec<f32>| {
            if Some(name) == self.without {
                return;
            }
            assert_eq!(values.len(), shape.iter().product::<usize>());
            writer.tensor(name, DType::F32, &shape.iter().map(|&n| n as u64).collect::<Vec<_>>()).unwrap();
            data.push(values);
        };
        let zeros = |n: usize| vec![0.0; n];
        add("token_embd.weight", &[width, count], one_hot(width, count));
        add("output_norm.weight", &[width], vec![1.0; width]);
        add("output.weight", &[width, count], successors(width, &tokens));
        add("blk.0.attn_norm.weight", &[width], vec![1.0; width]);
        add("blk.0.ffn_norm.weight", &[width], vec![1.0; width]);
        for name in ["attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up"] {
            let out = if name.starts_with("ffn") { 32 } else { 8 };
            add(&format!("blk.0.{name}.weight"), &[width, out], zeros(width * out));
        }
        add("blk.0.attn_output.weight", &[8, width], zeros(8 * width));
        add("blk.0.ffn_down.weight", &[32, width], zeros(32 * width));
        let mut out = writer.start(Vec::new()).unwrap();
        for values in data {
            out.write(&values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
        }
        out.finish().unwrap()
    }

    fn header(&self, width: usize, tokens: &[String]) -> Writer {
        let mut writer = Writer::new();
        let mut set = |key: &str, value: Value| {
            writer.set(key, value).unwrap();
        };
        let arch = self.architecture;
        set("general.architecture", Value::String(arch.into()));
        set("general.name", Value::String("scripted".into()));
        let sizes = [
            ("block_count", 1),
            ("embedding_length", width as u32),
            ("feed_forward_length", 32),
            ("context_length", self.context),
            ("attention.head_count", 1),
            ("attention.head_count_kv", 1),
            ("attention.key_length", 8),
            ("attention.value_length", 8),
            ("rope.dimension_count", 8),
        ];
        for (key, size) in sizes {
            set(&format!("{arch}.{key}"), Value::U32(size));
        }
        set(&format!("{arch}.attention.layer_norm_rms_epsilon"), Value::F32(1e-12));
        set("tokenizer.ggml.model", Value::String("llama".into()));
        set("tokenizer.ggml.tokens", Value::Array(Array::String(tokens.to_vec())));
        // Longer words first, as merging by score needs it.
        let scores = tokens.iter().map(|token| token.chars().count() as f32 - 100.0).collect();
        set("tokenizer.ggml.scores", Value::Array(Array::F32(scores)));
        let kind = |index: usize| match index {
            0 => 2,
            1 | 2 => 3,
            _ if index < FIRST_WORD => 6,
            _ => 1,
        };
        set("tokenizer.ggml.token_type", Value::Array(Array::I32((0..tokens.len()).map(kind).collect())));
        set("tokenizer.ggml.bos_token_id", Value::U32(BOS));
        set("tokenizer.ggml.eos_token_id", Value::U32(EOS));
        set("tokenizer.ggml.unknown_token_id", Value::U32(0));
        writer
    }
}

fn one_hot(width: usize, count: usize) -> Vec<f32> {
    let mut values = vec![0.0; width * count];
    (0..count).for_each(|row| values[row * width + row] = 1.0);
    values
}

fn successors(width: usize, tokens: &[String]) -> Vec<f32> {
    let at = |text: &str| tokens.iter().position(|t| t == text).unwrap();
    let mut values = vec![0.0; width * tokens.len()];
    for pair in SCRIPT.iter().flat_map(|line| line.windows(2)) {
        // RMSNorm makes sqrt(width) of the 1 in a one-hot row.
        values[at(pair[1]) * width + at(pair[0])] = LOGIT / (width as f32).sqrt();
    }
    values
}
