//! [`Vocab`]: the tokens of a model with their types, the special ids, and which tokens end a generation.

use super::byte_level;
use super::error::TokenizerError;
use super::spec::{TokenizerModel, VocabSpec};
use super::string_table::StringTable;

/// What a token is for, `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenType {
    /// No type or one that is not known; such tokens render as nothing.
    Undefined,
    /// Ordinary text (1).
    Normal,
    /// What stands for text that no token expresses (2).
    Unknown,
    /// Steers the model; found in text only on request, and rendered only on request (3).
    Control,
    /// Added by the model's makers: always found in text, always rendered (4).
    UserDefined,
    /// In the table without a use (5); renders as nothing.
    Unused,
    /// One byte, written `<0xAB>` (6).
    Byte,
}

/// Bits of a token's attributes: a token can have several, as in llama.cpp.
mod attr {
    pub(super) const UNKNOWN: u8 = 1;
    pub(super) const UNUSED: u8 = 2;
    pub(super) const NORMAL: u8 = 4;
    pub(super) const CONTROL: u8 = 8;
    pub(super) const USER_DEFINED: u8 = 16;
    pub(super) const BYTE: u8 = 32;
    pub(super) const STRIP_LEFT: u8 = 64;
    pub(super) const STRIP_RIGHT: u8 = 128;
}

/// How the text of an ordinary token stands for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// In the byte-level alphabet of GPT-2.
    ByteLevel,
    /// As it is, with ▁ for a space.
    Escaped,
}

/// The ids of the tokens with a role; `None` where a vocabulary has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Roles {
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) eot: Option<u32>,
    pub(super) eom: Option<u32>,
    pub(super) unk: Option<u32>,
    pub(super) sep: Option<u32>,
    pub(super) pad: Option<u32>,
    pub(super) mask: Option<u32>,
    pub(super) fim_pre: Option<u32>,
    pub(super) fim_suf: Option<u32>,
    pub(super) fim_mid: Option<u32>,
    pub(super) fim_pad: Option<u32>,
    pub(super) fim_rep: Option<u32>,
    pub(super) fim_sep: Option<u32>,
}

/// Texts by which a token without a metadata key is recognised, in order of preference.
const EOT: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];
const EOM: &[&str] = &["<|eom_id|>"];
const FIM_PRE: &[&str] = &[
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
];
const FIM_SUF: &[&str] = &[
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
];
const FIM_MID: &[&str] = &[
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
    "<|code_middle|>",
    "<|middle|>",
];
const FIM_PAD: &[&str] = &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"];
const FIM_REP: &[&str] = &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"];
const FIM_SEP: &[&str] = &["<|file_sep|>"];
/// Texts that always end a generation.
const END_OF_GENERATION: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
];
/// The channel markers of gpt-oss: part of the text that a caller must see.
const ALWAYS_RENDERED: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// The tokens of a model.
pub(super) struct Vocab {
    /// Tokens first; the BPE adds the texts of merges that are no tokens behind them.
    pub(super) table: StringTable,
    attrs: Vec<u8>,
    spelling: Spelling,
    pub(super) roles: Roles,
    /// Sorted.
    end_of_generation: Vec<u32>,
    pub(super) warnings: Vec<String>,
}

impl Vocab {
    /// Reads tokens, types and roles. What a spec leaves open is filled in as llama.cpp does.
    pub(super) fn new(spec: &VocabSpec, spelling: Spelling) -> Result<Vocab, TokenizerError> {
        let mut vocab = Vocab {
            table: table_of(&spec.tokens)?,
            attrs: attrs_of(spec)?,
            spelling,
            roles: Roles::default(),
            end_of_generation: Vec::new(),
            warnings: Vec::new(),
        };
        vocab.roles = vocab.roles_of(spec)?;
        vocab.detect_roles();
        vocab.detect_end_of_generation();
        vocab.set_strip_attributes(spec);
        Ok(vocab)
    }

    /// A vocabulary without tokens.
    pub(super) fn empty() -> Vocab {
        Vocab {
            table: StringTable::with_capacity(0),
            attrs: Vec::new(),
            spelling: Spelling::Escaped,
            roles: Roles::default(),
            end_of_generation: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Number of tokens.
    pub(super) fn len(&self) -> usize {
        self.attrs.len()
    }

    /// The id of the token with exactly this text.
    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        self.table.find(text).filter(|&id| (id as usize) < self.len())
    }

    /// The raw text of a token.
    pub(super) fn text(&self, id: u32) -> Option<&str> {
        if (id as usize) < self.len() { self.table.get(id) } else { None }
    }

    pub(super) fn token_type(&self, id: u32) -> Option<TokenType> {
        let bits = *self.attrs.get(id as usize)?;
        let order = [
            (attr::CONTROL, TokenType::Control),
            (attr::USER_DEFINED, TokenType::UserDefined),
            (attr::UNKNOWN, TokenType::Unknown),
            (attr::BYTE, TokenType::Byte),
            (attr::UNUSED, TokenType::Unused),
            (attr::NORMAL, TokenType::Normal),
        ];
        Some(order.iter().find(|(bit, _)| bits & bit != 0).map_or(TokenType::Undefined, |&(_, kind)| kind))
    }

    pub(super) fn ends_generation(&self, id: u32) -> bool {
        self.end_of_generation.binary_search(&id).is_ok()
    }

    pub(super) fn end_of_generation(&self) -> &[u32] {
        &self.end_of_generation
    }

    /// Ids of the tokens that are searched for in texts.
    pub(super) fn special_ids(&self) -> impl Iterator<Item = u32> + '_ {
        let wanted = attr::CONTROL | attr::USER_DEFINED | attr::UNKNOWN;
        (0..self.len() as u32).filter(move |&id| self.has(id, wanted))
    }

    pub(super) fn is_control_or_unknown(&self, id: u32) -> bool {
        self.has(id, attr::CONTROL | attr::UNKNOWN)
    }

    pub(super) fn strips_left(&self, id: u32) -> bool {
        self.has(id, attr::STRIP_LEFT)
    }

    pub(super) fn strips_right(&self, id: u32) -> bool {
        self.has(id, attr::STRIP_RIGHT)
    }

    /// Appends what a token stands for. Control and unknown tokens stand for nothing unless `special`.
    pub(super) fn render(&self, id: u32, special: bool, out: &mut Vec<u8>) -> Result<(), TokenizerError> {
        let Some(text) = self.text(id) else {
            return Err(TokenizerError::UnknownToken { id, vocab_size: self.len() });
        };
        if self.is_control_or_unknown(id) {
            if special {
                out.extend_from_slice(text.as_bytes());
            }
        } else if self.has(id, attr::USER_DEFINED) {
            out.extend_from_slice(text.as_bytes());
        } else if self.has(id, attr::NORMAL) {
            self.unspell(text, out);
        } else if self.has(id, attr::BYTE) {
            match parse_byte(text) {
                Some(byte) => out.push(byte),
                None => out.extend_from_slice(text.as_bytes()),
            }
        }
        Ok(())
    }

    fn unspell(&self, text: &str, out: &mut Vec<u8>) {
        for c in text.chars() {
            let byte = match self.spelling {
                Spelling::ByteLevel => byte_level::char_to_byte(c),
                Spelling::Escaped => (c == '▁').then_some(b' '),
            };
            match byte {
                Some(byte) => out.push(byte),
                None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    fn has(&self, id: u32, bits: u8) -> bool {
        self.attrs.get(id as usize).is_some_and(|attrs| attrs & bits != 0)
    }

    /// The roles that the metadata gives, over the defaults of the model kind.
    fn roles_of(&self, spec: &VocabSpec) -> Result<Roles, TokenizerError> {
        let defaults = match spec.model {
            TokenizerModel::Llama => Roles { bos: Some(1), eos: Some(2), unk: Some(0), ..Roles::default() },
            TokenizerModel::Bert => Roles {
                bos: Some(101),
                unk: Some(100),
                sep: Some(102),
                pad: Some(0),
                mask: Some(103),
                ..Roles::default()
            },
            TokenizerModel::Gpt2 | TokenizerModel::Gemma4 | TokenizerModel::None => Roles::default(),
        };
        let role = |given: Option<u32>, default: Option<u32>, key: &'static str| match given {
            // Converters write -1 for "there is none".
            None | Some(u32::MAX) => Ok(default.filter(|&id| (id as usize) < self.len())),
            Some(id) if (id as usize) < self.len() => Ok(Some(id)),
            Some(id) => Err(TokenizerError::SpecialOutOfRange { key, id, vocab_size: self.len() }),
        };
        Ok(Roles {
            bos: role(spec.bos, defaults.bos, "tokenizer.ggml.bos_token_id")?,
            eos: role(spec.eos, defaults.eos, "tokenizer.ggml.eos_token_id")?,
            eot: role(spec.eot, None, "tokenizer.ggml.eot_token_id")?,
            eom: role(spec.eom, None, "tokenizer.ggml.eom_token_id")?,
            unk: role(spec.unk, defaults.unk, "tokenizer.ggml.unknown_token_id")?,
            sep: role(spec.sep, defaults.sep, "tokenizer.ggml.seperator_token_id")?,
            pad: role(spec.pad, defaults.pad, "tokenizer.ggml.padding_token_id")?,
            mask: role(spec.mask, defaults.mask, "tokenizer.ggml.mask_token_id")?,
            fim_pre: role(spec.fim_pre, None, "tokenizer.ggml.fim_pre_token_id")?,
            fim_suf: role(spec.fim_suf, None, "tokenizer.ggml.fim_suf_token_id")?,
            fim_mid: role(spec.fim_mid, None, "tokenizer.ggml.fim_mid_token_id")?,
            fim_pad: role(spec.fim_pad, None, "tokenizer.ggml.fim_pad_token_id")?,
            fim_rep: role(spec.fim_rep, None, "tokenizer.ggml.fim_rep_token_id")?,
            fim_sep: role(spec.fim_sep, None, "tokenizer.ggml.fim_sep_token_id")?,
        })
    }

    /// Fills roles that the metadata leaves open by well-known texts; such a token becomes a control token.
    fn detect_roles(&mut self) {
        let mut roles = self.roles;
        let open: [(&mut Option<u32>, &[&str]); 8] = [
            (&mut roles.eot, EOT),
            (&mut roles.eom, EOM),
            (&mut roles.fim_pre, FIM_PRE),
            (&mut roles.fim_suf, FIM_SUF),
            (&mut roles.fim_mid, FIM_MID),
            (&mut roles.fim_pad, FIM_PAD),
            (&mut roles.fim_rep, FIM_REP),
            (&mut roles.fim_sep, FIM_SEP),
        ];
        for (role, texts) in open {
            if role.is_none() {
                *role = texts.iter().find_map(|text| self.find(text.as_bytes()));
                role.iter().for_each(|&id| self.make_control(id));
            }
        }
        self.roles = roles;
    }

    fn detect_end_of_generation(&mut self) {
        let roles = self.roles;
        let mut ends: Vec<u32> = [roles.fim_pad, roles.fim_rep, roles.fim_sep].into_iter().flatten().collect();
        for text in END_OF_GENERATION {
            if let Some(id) = self.find(text.as_bytes()) {
                self.make_control(id);
                ends.push(id);
            }
        }
        for text in ALWAYS_RENDERED {
            if let Some(id) = self.find(text.as_bytes()) {
                self.attrs[id as usize] = attr::USER_DEFINED;
            }
        }
        ends.extend([roles.eos, roles.eot, roles.eom].into_iter().flatten());
        ends.sort_unstable();
        ends.dedup();
        self.end_of_generation = ends;

        // Where turns end with <|return|> and calls with <|call|>, <|end|> only separates messages.
        let ends_with = |text: &str| self.find(text.as_bytes()).is_some_and(|id| self.ends_generation(id));
        let has_call = ends_with("<|call|>") || ends_with("<|calls|>");
        if has_call && (ends_with("<|return|>") || ends_with("<|flush|>")) {
            self.continue_after("<|end|>", attr::USER_DEFINED);
        }
        if self.find(b"<|tool_response>").is_some_and(|id| self.ends_generation(id)) {
            self.continue_after("</s>", attr::NORMAL);
        }
    }

    /// Takes a token off the end-of-generation list and gives it another type.
    fn continue_after(&mut self, text: &str, attrs: u8) {
        if let Some(id) = self.find(text.as_bytes())
            && let Ok(at) = self.end_of_generation.binary_search(&id)
        {
            self.end_of_generation.remove(at);
            self.attrs[id as usize] = attrs;
        }
    }

    fn make_control(&mut self, id: u32) {
        if !self.has(id, attr::CONTROL) {
            let text = self.text(id).unwrap_or_default();
            self.warnings.push(format!(
                "token {id} \"{text}\" is not marked as a control token in the file; it is taken for one"
            ));
            self.attrs[id as usize] |= attr::CONTROL;
        }
    }

    /// Which tokens swallow the white space beside them is not in GGUF files: it is known by model.
    fn set_strip_attributes(&mut self, spec: &VocabSpec) {
        let name = spec.name.to_ascii_lowercase();
        let pre = spec.pre.as_deref().unwrap_or_default();
        let by_pre = ["jina-v2-de", "jina-v2-es", "jina-v2-code"].iter().any(|known| pre.contains(known));
        let by_architecture = ["nomic-bert-moe", "jina-bert-v3"].iter().any(|known| spec.architecture.contains(known));
        if by_pre || by_architecture {
            self.set_attr("<mask>", attr::STRIP_LEFT, true);
        } else if name.contains("phi-3") || name.contains("phi3") {
            for id in self.special_ids().collect::<Vec<_>>() {
                self.attrs[id as usize] |= attr::STRIP_RIGHT;
            }
            self.set_attr("</s>", attr::STRIP_RIGHT, true);
            for text in ["<unk>", "<s>", "<|endoftext|>"] {
                self.set_attr(text, attr::STRIP_RIGHT, false);
            }
        } else if name.contains("modern-bert") {
            self.set_attr("[MASK]", attr::STRIP_LEFT, true);
        }
    }

    fn set_attr(&mut self, text: &str, bit: u8, on: bool) {
        if let Some(id) = self.find(text.as_bytes()) {
            let attrs = &mut self.attrs[id as usize];
            *attrs = if on { *attrs | bit } else { *attrs & !bit };
        }
    }
}

const TOKENS: &str = "tokenizer.ggml.tokens";

fn table_of(tokens: &[String]) -> Result<StringTable, TokenizerError> {
    let malformed = |reason| TokenizerError::Malformed { key: TOKENS, reason };
    if tokens.is_empty() {
        return Err(malformed("the list is empty".into()));
    }
    // Ids are 31-bit in llama.cpp; the BPE needs room for the texts of merges behind the tokens.
    if tokens.len() > (1 << 28) {
        return Err(malformed(format!("{} tokens are more than any vocabulary has", tokens.len())));
    }
    let mut table = StringTable::with_capacity(tokens.len());
    for (id, token) in tokens.iter().enumerate() {
        let (first, new) = if token.is_empty() { table.insert(&format!("[EMPTY_{id}]")) } else { table.insert(token) };
        if !new {
            return Err(malformed(format!("token {id} \"{}\" is the same as token {first}", token.escape_debug())));
        }
    }
    Ok(table)
}

fn attrs_of(spec: &VocabSpec) -> Result<Vec<u8>, TokenizerError> {
    let Some(types) = &spec.token_types else {
        return Ok(vec![attr::NORMAL; spec.tokens.len()]);
    };
    if types.len() != spec.tokens.len() {
        let reason = format!("{} types for {} tokens", types.len(), spec.tokens.len());
        return Err(TokenizerError::Malformed { key: "tokenizer.ggml.token_type", reason });
    }
    let attrs_of_type = |&kind: &i32| match kind {
        1 => attr::NORMAL,
        2 => attr::UNKNOWN,
        3 => attr::CONTROL,
        4 => attr::USER_DEFINED,
        5 => attr::UNUSED,
        6 => attr::BYTE,
        _ => 0,
    };
    Ok(types.iter().map(attrs_of_type).collect())
}

/// The byte of `<0xAB>`.
fn parse_byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 && digits.bytes().all(|c| c.is_ascii_hexdigit()) {
        u8::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}
