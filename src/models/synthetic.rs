//! [`Synthetic`]: a model of a known shape with random weights, made in memory and written to a file where another program shall read
//! it. It measures speed and says nothing sensible.
//!
//! Weights are normally distributed with standard deviation 0.02, quantized by the type's own quantizer, so every block is one that
//! a file could have. What is quantized is a bank of some thousand blocks for each type; a pool draws from the bank at random until it
//! is as large as the largest tensor of the type, and tensors are ranges of the pool. So a model of 5 GB takes under 1 GB and a second.

use super::gguf::{GgufError, Header, Value, Writer};
use super::quantize::{Quantization, QuantizationNameError, QuantizeError, QuantizeOptions, QuantizePlan, write_new};
use crate::tensor::DType;
use crate::tensor::quant::{QuantError, quantize_row};
use memmap2::MmapMut;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use rayon::prelude::*;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

/// The shape of a model.
#[derive(Clone, Copy, Debug)]
struct Preset {
    name: &'static str,
    architecture: &'static str,
    layers: u64,
    n_embd: u64,
    heads: u64,
    kv_heads: u64,
    n_ff: u64,
    vocabulary: u64,
    freq_base: f32,
    tied: bool,
    bias: bool,
}

const PRESETS: &[Preset] = &[
    Preset {
        name: "llama-8b",
        architecture: "llama",
        layers: 32,
        n_embd: 4096,
        heads: 32,
        kv_heads: 8,
        n_ff: 14336,
        vocabulary: 128_256,
        freq_base: 5e5,
        tied: false,
        bias: false,
    },
    Preset {
        name: "llama-1b",
        architecture: "llama",
        layers: 16,
        n_embd: 2048,
        heads: 32,
        kv_heads: 8,
        n_ff: 8192,
        vocabulary: 128_256,
        freq_base: 5e5,
        tied: true,
        bias: false,
    },
    Preset {
        name: "qwen2.5-0.5b",
        architecture: "qwen2",
        layers: 24,
        n_embd: 896,
        heads: 14,
        kv_heads: 2,
        n_ff: 4864,
        vocabulary: 151_936,
        freq_base: 1e6,
        tied: true,
        bias: true,
    },
    Preset {
        name: "small",
        architecture: "llama",
        layers: 4,
        n_embd: 1024,
        heads: 16,
        kv_heads: 4,
        n_ff: 4096,
        vocabulary: 32_000,
        freq_base: 1e4,
        tied: true,
        bias: false,
    },
    Preset {
        name: "tiny",
        architecture: "llama",
        layers: 4,
        n_embd: 256,
        heads: 4,
        kv_heads: 2,
        n_ff: 512,
        vocabulary: 1024,
        freq_base: 1e4,
        tied: true,
        bias: false,
    },
];

/// Why there is no such model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyntheticError {
    /// The name is not `SHAPE:TYPE`, or there is no such shape.
    #[error("\"{0}\" is no SHAPE:TYPE such as llama-8b:Q4_K_M; shapes are {list}", list = shapes())]
    Name(String),
    /// There is no such type.
    #[error(transparent)]
    Type(#[from] QuantizationNameError),
    /// The type cannot be written.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// The header cannot be made.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Too little memory.
    #[error("random weights of type {dtype}: could not allocate {bytes} bytes")]
    OutOfMemory {
        /// The type.
        dtype: DType,
        /// How much.
        bytes: usize,
    },
}

impl From<QuantError> for SyntheticError {
    fn from(error: QuantError) -> SyntheticError {
        SyntheticError::Quantize(error.into())
    }
}

fn shapes() -> String {
    PRESETS.iter().map(|p| p.name).collect::<Vec<_>>().join(", ")
}

/// Tensors of a pool begin at multiples of this many blocks, so that their bytes are aligned as in a file.
const STEP: usize = 32;

/// Blocks of a bank, each as large as what is drawn at a time.
const BANK: usize = 4096;

/// A header with random weights.
#[derive(Debug)]
pub struct Synthetic {
    header: Header,
    /// Bytes of each type: memory that the threads which fill it are the first to touch.
    pools: HashMap<DType, MmapMut>,
    /// Norms are near 1, unlike other tensors of their type. In words for their alignment.
    norm: Vec<u64>,
    /// Where each tensor begins in its pool.
    places: HashMap<String, usize>,
}

impl Synthetic {
    /// The model of a name such as `llama-8b:Q4_K_M`: a shape, and a type or mix as `quantize` takes them.
    ///
    /// # Errors
    /// [`SyntheticError`].
    pub fn new(name: &str) -> Result<Synthetic, SyntheticError> {
        let unknown = || SyntheticError::Name(name.to_string());
        let (shape, mix) = name.split_once(':').ok_or_else(unknown)?;
        let preset = PRESETS.iter().find(|p| p.name == shape).ok_or_else(unknown)?;
        let mix = Quantization::from_name(mix)?;
        let header = header(preset, mix)?;
        let mut most: HashMap<DType, usize> = HashMap::new();
        for tensor in header.tensors() {
            let blocks = (tensor.elements() / tensor.dtype.block_len() as u64) as usize;
            let entry = most.entry(tensor.dtype).or_default();
            *entry = blocks.max(*entry);
        }
        let mut random = Pcg64::seed_from_u64(1);
        let mut places = HashMap::new();
        for tensor in header.tensors() {
            let slack = slack(most[&tensor.dtype]) / STEP;
            let start = random.random_range(0..=slack) * STEP * tensor.dtype.block_bytes();
            places.insert(tensor.name.clone(), if is_norm(&tensor.name) { 0 } else { start });
        }
        let pool = |(dtype, blocks): (DType, usize)| Ok((dtype, pool(dtype, blocks + slack(blocks))?));
        let pools = most.into_iter().map(pool).collect::<Result<_, SyntheticError>>()?;
        let near_one: Vec<f32> = normal(&mut random, preset.n_embd as usize).iter().map(|x| 1.0 + x).collect();
        let mut norm = vec![0; near_one.len().div_ceil(2)];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut norm);
        bytes[..4 * near_one.len()].copy_from_slice(bytemuck::cast_slice(&near_one));
        Ok(Synthetic { header, pools, norm, places })
    }

    /// Metadata and tensors, as a file would have them, without a tokenizer.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes of a tensor.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        let tensor = self.header.tensor(name)?;
        let bytes: &[u8] =
            if is_norm(name) { bytemuck::cast_slice(&self.norm) } else { self.pools.get(&tensor.dtype)? };
        let start = *self.places.get(name)?;
        bytes.get(start..)?.get(..usize::try_from(tensor.bytes).ok()?)
    }

    /// Writes it as a GGUF file and returns the output, flushed. `progress` gets bytes of the tensors done and in all; it returns
    /// `false` to cancel.
    ///
    /// # Errors
    /// [`QuantizeError::Cancelled`], or [`QuantizeError::Gguf`] with the output's error.
    pub fn write<W: Write>(&self, out: W, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<W, QuantizeError> {
        const PIECE: usize = 16 << 20;
        let mut writer = Writer::with_metadata(self.header.metadata())?;
        for tensor in self.header.tensors() {
            writer.tensor(&tensor.name, tensor.dtype, &tensor.shape)?;
        }
        let mut writer = writer.start(out)?;
        let total = self.header.tensors().iter().map(|tensor| tensor.bytes).sum();
        let mut done = 0;
        for tensor in self.header.tensors() {
            let bytes = self.bytes(&tensor.name).expect("every tensor of the header has bytes");
            for piece in bytes.chunks(PIECE) {
                writer.write(piece)?;
                done += piece.len() as u64;
                if !progress(done, total) {
                    return Err(QuantizeError::Cancelled);
                }
            }
        }
        Ok(writer.finish()?)
    }

    /// [`Synthetic::write`] into a file, which appears under its name only when it is complete.
    ///
    /// # Errors
    /// Those of [`Synthetic::write`], or the file system's.
    pub fn write_file(&self, path: &Path, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<(), QuantizeError> {
        write_new(path, None, |out| self.write(out, progress))
    }
}

fn is_norm(name: &str) -> bool {
    name.ends_with("_norm.weight")
}

/// Blocks by which a pool is larger than its largest tensor, so that tensors can begin at different places.
fn slack(blocks: usize) -> usize {
    blocks.div_ceil(16).next_multiple_of(STEP)
}

fn header(preset: &Preset, mix: &'static Quantization) -> Result<Header, SyntheticError> {
    let wide = describe(preset, mix, |_| DType::F16)?;
    let plan = QuantizePlan::new(&wide, QuantizeOptions::new(mix))?;
    let types: HashMap<&str, DType> = plan.tensors.iter().map(|t| (t.name.as_str(), t.to)).collect();
    describe(preset, mix, |name| types.get(name).copied().unwrap_or(DType::F16))
}

/// The header with the types that `matrix` gives to matrices; norms and biases are f32.
fn describe(preset: &Preset, mix: &Quantization, matrix: impl Fn(&str) -> DType) -> Result<Header, SyntheticError> {
    let Preset { architecture, n_embd, heads, kv_heads, n_ff, vocabulary, .. } = *preset;
    let head = n_embd / heads;
    let mut writer = Writer::new();
    writer.set("general.architecture", architecture)?;
    writer.set("general.name", format!("{} {} of random weights", preset.name, mix.name).as_str())?;
    writer.set("general.file_type", Value::U32(mix.file_type))?;
    writer.set("tokenizer.ggml.model", "no_vocab")?;
    for (key, size) in [
        ("block_count", preset.layers),
        ("context_length", 32768),
        ("embedding_length", n_embd),
        ("feed_forward_length", n_ff),
        ("attention.head_count", heads),
        ("attention.head_count_kv", kv_heads),
        ("rope.dimension_count", head),
        ("vocab_size", vocabulary),
    ] {
        writer.set(&format!("{architecture}.{key}"), Value::U32(size as u32))?;
    }
    writer.set(&format!("{architecture}.rope.freq_base"), Value::F32(preset.freq_base))?;
    writer.set(&format!("{architecture}.attention.layer_norm_rms_epsilon"), Value::F32(1e-6))?;
    let mut add = |name: &str, shape: &[u64]| {
        let dtype = if shape.len() == 1 { DType::F32 } else { matrix(name) };
        writer.tensor(name, dtype, shape).map(|_| ())
    };
    add("token_embd.weight", &[n_embd, vocabulary])?;
    add("output_norm.weight", &[n_embd])?;
    if !preset.tied {
        add("output.weight", &[n_embd, vocabulary])?;
    }
    for layer in 0..preset.layers {
        let blk = |part: &str| format!("blk.{layer}.{part}");
        add(&blk("attn_norm.weight"), &[n_embd])?;
        for (part, rows) in [("attn_q", heads * head), ("attn_k", kv_heads * head), ("attn_v", kv_heads * head)] {
            add(&blk(&format!("{part}.weight")), &[n_embd, rows])?;
            if preset.bias {
                add(&blk(&format!("{part}.bias")), &[rows])?;
            }
        }
        add(&blk("attn_output.weight"), &[heads * head, n_embd])?;
        add(&blk("ffn_norm.weight"), &[n_embd])?;
        add(&blk("ffn_gate.weight"), &[n_embd, n_ff])?;
        add(&blk("ffn_up.weight"), &[n_embd, n_ff])?;
        add(&blk("ffn_down.weight"), &[n_ff, n_embd])?;
    }
    let mut bytes = Vec::new();
    writer.start(&mut bytes)?;
    Ok(Header::parse(&bytes)?)
}

/// `blocks` random blocks.
fn pool(dtype: DType, blocks: usize) -> Result<MmapMut, SyntheticError> {
    let (bank, drawn) = (bank(dtype)?, blocks_drawn(dtype) * dtype.block_bytes());
    let bytes = blocks * dtype.block_bytes();
    let mut pool = MmapMut::map_anon(bytes).map_err(|_| SyntheticError::OutOfMemory { dtype, bytes })?;
    pool.par_chunks_mut(4096 * drawn).enumerate().for_each(|(i, chunk)| {
        let mut random = Pcg64::seed_from_u64(i as u64);
        for target in chunk.chunks_mut(drawn) {
            let start = random.random_range(0..BANK) * drawn;
            target.copy_from_slice(&bank[start..start + target.len()]);
        }
    });
    Ok(pool)
}

/// Blocks that are drawn at a time: an element of a plain type is not worth a random number.
fn blocks_drawn(dtype: DType) -> usize {
    32usize.div_ceil(dtype.block_len())
}

/// Quantized normal numbers, [`BANK`] times what is drawn at a time.
fn bank(dtype: DType) -> Result<Vec<u8>, QuantError> {
    let blocks = blocks_drawn(dtype);
    let (len, row) = (64 * blocks * dtype.block_len(), 64 * blocks * dtype.block_bytes());
    let mut bytes = vec![0; BANK / 64 * row];
    let rows = bytes.par_chunks_mut(row).enumerate();
    rows.try_for_each(|(i, row)| {
        let mut random = Pcg64::seed_from_u64(!(i as u64));
        quantize_row(dtype, &normal(&mut random, len), row)
    })?;
    Ok(bytes)
}

/// Normal numbers of standard deviation 0.02 (Box and Muller 1958).
fn normal(random: &mut Pcg64, n: usize) -> Vec<f32> {
    let one = |_| {
        let (u, v): (f32, f32) = (1.0 - random.random::<f32>(), random.random());
        0.02 * (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
    };
    (0..n).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::gguf::Gguf;
    use crate::models::{GraphOptions, build};
    use crate::tensor::Bounds;
    use crate::tensor::quant::dequantize_row;

    #[test]
    fn weights_of_every_type_are_small_normal_numbers() {
        for mix in Quantization::ALL {
            let model = Synthetic::new(&format!("tiny:{}", mix.name)).unwrap();
            for tensor in model.header().tensors() {
                let bytes = model.bytes(&tensor.name).unwrap();
                assert_eq!(bytes.len() as u64, tensor.bytes, "{}", tensor.name);
                assert!(bytes.as_ptr().addr().is_multiple_of(8));
                let mut values = vec![0.0; tensor.elements() as usize];
                dequantize_row(tensor.dtype, bytes, &mut values).unwrap();
                let n = values.len() as f32;
                let mean = values.iter().sum::<f32>() / n;
                let deviation = (values.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n).sqrt();
                let center = if is_norm(&tensor.name) { 1.0 } else { 0.0 };
                // One bit a weight keeps the mean of absolute values, 0.016; three values keep less.
                let good = (mean - center).abs() < 0.005 && (0.005..0.04).contains(&deviation);
                assert!(good, "{} {}: {mean} ± {deviation}", tensor.name, tensor.dtype);
            }
        }
    }

    #[test]
    fn a_written_file_has_the_same_tensors() {
        let model = Synthetic::new("tiny:Q4_K_M").unwrap();
        let mut calls = Vec::new();
        let file = model
            .write(Vec::new(), &mut |done, total| {
                calls.push((done, total));
                true
            })
            .unwrap();
        let total: u64 = model.header().tensors().iter().map(|t| t.bytes).sum();
        assert_eq!(calls.last(), Some(&(total, total)));
        let gguf = Gguf::from_bytes(file).unwrap();
        assert_eq!(gguf.tensors().len(), model.header().tensors().len());
        for tensor in gguf.tensors() {
            assert_eq!(Some(gguf.data(tensor)), model.bytes(&tensor.name), "{}", tensor.name);
        }
        assert!(matches!(model.write(Vec::new(), &mut |_, _| false), Err(QuantizeError::Cancelled)));
    }

    #[test]
    fn shapes_are_models() {
        let bounds = Bounds { t: 1, s: 1, r: 1 };
        for preset in PRESETS {
            let mix = Quantization::from_name("Q4_K_M").unwrap();
            let header = header(preset, mix).unwrap();
            build(&header, &GraphOptions { bounds, kv_type: DType::F16 }).unwrap();
            if preset.name == "llama-8b" {
                let bytes: u64 = header.tensors().iter().map(|t| t.bytes).sum();
                assert!((4.9e9..4.95e9).contains(&(bytes as f64)), "{bytes}");
                assert_eq!(header.tensor("output.weight").unwrap().dtype, DType::Q6K);
                assert_eq!(header.tensor("blk.0.attn_v.weight").unwrap().dtype, DType::Q6K);
            }
        }
    }

    #[test]
    fn unknown_names_are_explained() {
        for bad in ["llama-8b", "llama-9b:Q8_0", ""] {
            assert!(Synthetic::new(bad).unwrap_err().to_string().contains("qwen2.5-0.5b"), "{bad}");
        }
        assert!(Synthetic::new("tiny:Q9").unwrap_err().to_string().contains("Q9"));
    }
}
