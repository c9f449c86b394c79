//! The pre-tokenizers of llama.cpp by name.

use super::Spaces::{LeaveOne, PowersOfTwo};
use super::Stage::{DigitTriples, NumberTriples, Regex, Words};
use super::{Pretokenizer, Stage};

/// The pre-tokenizer with this name.
pub fn find(name: &str) -> Option<&'static Pretokenizer> {
    TABLE.iter().find(|entry| entry.names.contains(&name))
}

/// All names, in the order of the table.
pub fn known() -> impl Iterator<Item = &'static str> {
    TABLE.iter().flat_map(|entry| entry.names.iter().copied())
}

const GPT2: Stage = Words(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+", LeaveOne);
const LLAMA3_WORDS: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+";
const LLAMA3: Stage = Words(LLAMA3_WORDS, LeaveOne);
const QWEN2: Stage = Words(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
    LeaveOne,
);
const DEEPSEEK3: &[Stage] = &[
    Regex(r"\p{N}{1,3}"),
    Regex(r"[\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+"),
    Words(
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+"##,
        LeaveOne,
    ),
];
const NUMBER_THEN_GPT2: &[Stage] = &[Regex(r"\p{N}"), GPT2];
const BLOOM: Stage = Regex(r" ?[^(\s|.,!?\x{2026}\x{3002}\x{ff0c}\x{3001}\x{964}\x{6d4}\x{60c})]+");
/// The cased letters of DeepSeek's first tokenizer, as listed there.
const DEEPSEEK_LETTERS: &str = r"\s?[A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af}\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1}\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5}\x{13f8}-\x{13fd}\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77}\x{1d79}-\x{1d9a}\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d}\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}\x{1f5d}\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc}\x{1fbe}\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc}\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec}\x{1ff2}-\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107}\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d}\x{2124}\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}\x{2139}\x{213c}-\x{213f}\x{2145}-\x{2149}\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4}\x{2ceb}-\x{2cee}\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787}\x{a78b}-\x{a78e}\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a}\x{ff41}-\x{ff5a}\x{10400}-\x{1044f}\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2}\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df}\x{1e900}-\x{1e943}]+";
/// CJK as DeepSeek's first tokenizers have it. llama.cpp never finds white space by code point, hence the difference.
const DEEPSEEK_CJK: Stage = Regex(r"[[\x{800}-\x{9fa5}\x{ac00}-\x{d7ff}]--\s]+");
const LINES: &[Stage] = &[Regex(r"[^\n]+|\n+")];

const GPT2_LIKE: Pretokenizer = Pretokenizer {
    names: &[],
    stages: &[GPT2],
    ignore_merges: false,
    add_bos: false,
    always_bos: false,
    clean_spaces: true,
    byte_level: true,
    whole_newlines: false,
    merges_optional: false,
};
/// The same for a model whose detokenizer leaves spaces alone, as nearly all newer ones do.
const VERBATIM: Pretokenizer = Pretokenizer { clean_spaces: false, ..GPT2_LIKE };

static TABLE: &[Pretokenizer] = &[
    Pretokenizer {
        names: &["default"],
        stages: &[Regex(r"[\p{P}$+<=>^~|]+"), GPT2, Regex(r"\p{N}+"), Regex("[0-9][0-9][0-9]")],
        ..GPT2_LIKE
    },
    Pretokenizer {
        names: &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "gigachat",
            "jina-v2-es",
            "jina-v2-de",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "jina-v1-en",
            "jina-v2-code",
            "roberta-bpe",
            "exaone4",
            "mpt",
            "olmo",
            "jais",
        ],
        ..GPT2_LIKE
    },
    Pretokenizer { names: &["trillion", "granite-docling"], ..VERBATIM },
    Pretokenizer {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        stages: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
        ..GPT2_LIKE
    },
    Pretokenizer { names: &["dbrx", "smaug-bpe", "chatglm-bpe", "glm4"], stages: &[LLAMA3], ..GPT2_LIKE },
    Pretokenizer { names: &["jais-2"], stages: &[Words(LLAMA3_WORDS, PowersOfTwo)], ..GPT2_LIKE },
    Pretokenizer {
        names: &["minicpm5"],
        stages: &[
            Regex(r"\p{N}{1,3}"),
            Words(
                r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
                LeaveOne,
            ),
        ],
        ignore_merges: true,
        ..GPT2_LIKE
    },
    Pretokenizer {
        names: &["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "hunyuan", "solar-open", "grok-2"],
        stages: &[QWEN2],
        ..VERBATIM
    },
    Pretokenizer { names: &["stablelm2", "megrez"], stages: &[QWEN2], ..GPT2_LIKE },
    Pretokenizer {
        names: &["qwen35"],
        stages: &[Words(
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+",
            LeaveOne,
        )],
        ..VERBATIM
    },
    Pretokenizer { names: &["laguna"], stages: &[LINES[0], QWEN2], ..VERBATIM },
    Pretokenizer {
        names: &["ufakzeka"],
        stages: &[Words(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+", LeaveOne)],
        ..VERBATIM
    },
    Pretokenizer {
        names: &["deepseek-llm"],
        stages: &[
            Regex(r"[\r\n]"),
            Regex(DEEPSEEK_LETTERS),
            Regex(r"\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3001}-\x{3002}]+"),
            Regex(r"\s+$"),
            DEEPSEEK_CJK,
            Regex(r"\p{N}+"),
        ],
        ..VERBATIM
    },
    Pretokenizer {
        names: &["deepseek-coder"],
        stages: &[Regex(r"[\r\n]"), Regex(r"\s?\p{L}+"), Regex(r"\s?\p{P}+"), DEEPSEEK_CJK, Regex(r"\p{N}")],
        ..VERBATIM
    },
    Pretokenizer { names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], stages: DEEPSEEK3, ..VERBATIM },
    Pretokenizer {
        names: &["spark2_5"],
        stages: &[
            DEEPSEEK3[0],
            DEEPSEEK3[1],
            Words(
                r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]"##,
                LeaveOne,
            ),
            Regex(r"\p{N}"),
        ],
        ..VERBATIM
    },
    Pretokenizer {
        names: &["youtu"],
        stages: &[
            Regex(
                r"[\x{ac00}-\x{d7a3}\x{3131}-\x{318e}]+|[\x{ff01}\x{2026}\x{201c}\x{201d}\x{2018}\x{2019}\x{2014}\x{ff1a}\x{ff1b}\x{ff0c}\x{3001}-\x{303f}\x{fe30}-\x{fe4f}]+|[\x{3105}-\x{312f}]+|[\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+",
            ),
            // llama.cpp does not tell the kinds of letters apart, so the two alternatives of the original are one.
            Words(
                r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
                LeaveOne,
            ),
        ],
        ignore_merges: true,
        ..VERBATIM
    },
    Pretokenizer {
        names: &["falcon"],
        stages: &[Regex(r"[\p{P}$+<=>^~|`]+"), GPT2, Regex("[0-9][0-9][0-9]")],
        ..GPT2_LIKE
    },
    Pretokenizer {
        names: &["starcoder", "refact", "codeshell", "exaone", "minerva-7b", "mellum2"],
        stages: NUMBER_THEN_GPT2,
        ..GPT2_LIKE
    },
    Pretokenizer { names: &["command-r", "smollm"], stages: NUMBER_THEN_GPT2, ..VERBATIM },
    Pretokenizer { names: &["bloom", "gpt3-finnish"], stages: &[BLOOM], ..GPT2_LIKE },
    Pretokenizer { names: &["poro-chat"], stages: &[BLOOM], ..VERBATIM },
    Pretokenizer { names: &["viking"], stages: &[BLOOM, Regex(r"\p{N}")], ..VERBATIM },
    Pretokenizer {
        names: &["tekken"],
        stages: &[Words(
            r"[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]*[\p{L}&&[^A-Z]]+|[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]+[\p{L}&&[^A-Z]]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
            LeaveOne,
        )],
        ignore_merges: true,
        add_bos: true,
        ..VERBATIM
    },
    Pretokenizer {
        names: &["chameleon"],
        stages: &[
            Regex("<sentinel:[0-9]+>"),
            Regex("(?:IMGIMG)[A-I]{1,4}Z"),
            Regex("[\t\n]|    |  "),
            Regex(r"\p{N}"),
            Regex(r"[\p{P}!-/:-@\[-`{-~]"),
            GPT2,
        ],
        add_bos: true,
        ..VERBATIM
    },
    Pretokenizer {
        names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        stages: &[Words(
            r"[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]*[\p{L}&&[^A-Z]]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{L}&&[^a-z]]+[\p{L}&&[^A-Z]]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
            LeaveOne,
        )],
        ..VERBATIM
    },
    Pretokenizer {
        names: &["granite-embed-multi-97m"],
        stages: &[Words(
            r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}&&[^a-z]]*[\p{L}\p{M}&&[^A-Z]]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}&&[^a-z]]+[\p{L}\p{M}&&[^A-Z]]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
            LeaveOne,
        )],
        ignore_merges: true,
        ..VERBATIM
    },
    Pretokenizer {
        names: &["tiny_aya", "cohere2moe"],
        stages: &[
            NumberTriples,
            // As for youtu: all letters are alike.
            Words(
                r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
                LeaveOne,
            ),
        ],
        ..VERBATIM
    },
    Pretokenizer {
        names: &["kimi-k2"],
        stages: &[Words(
            r"[\x{4e00}-\x{9fff}\x{3400}-\x{4dbf}\x{20000}-\x{2a6df}\x{2a700}-\x{2ebef}\x{f900}-\x{faff}\x{2f800}-\x{2fa1f}]+|[^\r\n\p{L}\p{N}]?[\p{L}--[\x{4e00}-\x{9fff}\x{3400}-\x{4dbf}\x{20000}-\x{2a6df}\x{2a700}-\x{2ebef}\x{f900}-\x{faff}\x{2f800}-\x{2fa1f}]]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
            LeaveOne,
        )],
        merges_optional: true,
        ..VERBATIM
    },
    Pretokenizer { names: &["superbpe"], stages: &[Regex(r"\p{N}+"), DigitTriples], ..VERBATIM },
    Pretokenizer {
        names: &["bailingmoe", "bailingmoe2", "llada-moe"],
        stages: &[Words(
            r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]",
            LeaveOne,
        )],
        ..VERBATIM
    },
    Pretokenizer {
        names: &["seed-coder"],
        stages: &[Words(
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+",
            LeaveOne,
        )],
        ..VERBATIM
    },
    Pretokenizer {
        names: &["afmoe"],
        stages: &[
            NumberTriples,
            Regex(
                r"[\x{4e00}-\x{9fff}\x{3400}-\x{4dbf}\x{f900}-\x{faff}\x{3040}-\x{309f}\x{30a0}-\x{30ff}\x{ff65}-\x{ff9f}\x{2f00}-\x{2fdf}\x{e40}-\x{e7f}\x{e80}-\x{eff}\x{1780}-\x{17ff}\x{1000}-\x{109f}\x{aa60}-\x{aa7f}\x{a9e0}-\x{a9ff}\x{ac00}-\x{d7af}\x{1100}-\x{11ff}]+",
            ),
            DEEPSEEK3[2],
        ],
        ..VERBATIM
    },
    Pretokenizer {
        names: &["exaone-moe"],
        stages: &[Words(
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]",
            LeaveOne,
        )],
        ..GPT2_LIKE
    },
    Pretokenizer {
        names: &["gemma4", "granite-embed-multi-311m"],
        stages: LINES,
        add_bos: true,
        always_bos: true,
        byte_level: false,
        whole_newlines: true,
        ..GPT2_LIKE
    },
    Pretokenizer { names: &["sarvam-moe"], stages: LINES, byte_level: false, ..VERBATIM },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let mut names: Vec<_> = known().collect();
        assert!(names.len() > 80);
        assert!(names.iter().all(|name| find(name).is_some()));
        assert!(find("llama-bpe").is_some_and(|entry| entry.ignore_merges && entry.add_bos));
        assert!(find("no such thing").is_none());
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
