//! [`QuantizePlan`]: the type of every tensor of the result, from the header of the source.

use super::QuantizeError;
use super::mix::{Facts, Place, Quantization, Role, fallback, wanted};
use crate::models::gguf::{Array, Header, Metadata, TensorInfo, Value};
use crate::tensor::DType;

/// How a file is quantized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantizeOptions {
    /// The type or mix.
    pub to: &'static Quantization,
    /// One type for all matrices instead of a mix.
    pub pure: bool,
    /// Quantize tensors that are quantized already.
    pub allow_requantize: bool,
}

impl QuantizeOptions {
    /// The usual way.
    pub fn new(to: &'static Quantization) -> QuantizeOptions {
        QuantizeOptions { to, pure: false, allow_requantize: false }
    }
}

/// One tensor of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Its name.
    pub name: String,
    /// The length of a row first.
    pub shape: Vec<u64>,
    /// Its type in the source.
    pub from: DType,
    /// Its type in the result.
    pub to: DType,
    /// The type that it would have if its rows were a multiple of that type's blocks.
    pub instead_of: Option<DType>,
}

/// What a quantization does. Tensors are in the order of the source.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizePlan {
    /// How.
    pub options: QuantizeOptions,
    /// All tensors.
    pub tensors: Vec<PlannedTensor>,
    /// Bytes of the tensors in the source.
    pub bytes_before: u64,
    /// Bytes of the tensors in the result.
    pub bytes_after: u64,
    /// Elements of all tensors.
    pub elements: u64,
}

impl QuantizePlan {
    /// Plans for the file with this header.
    ///
    /// # Errors
    /// [`QuantizeError`]: no tensors, a part of a split model, or tensors that must not be quantized again.
    pub fn new(header: &Header, options: QuantizeOptions) -> Result<QuantizePlan, QuantizeError> {
        let metadata = header.metadata();
        let count = metadata.u64("split.count")?.unwrap_or(1);
        if count > 1 {
            return Err(QuantizeError::Split { count });
        }
        if header.tensors().is_empty() {
            return Err(QuantizeError::NoTensors);
        }
        QuantizePlan::of(header.tensors(), facts(metadata, header.tensors())?, options)
    }

    fn of(infos: &[TensorInfo], facts: Facts, options: QuantizeOptions) -> Result<QuantizePlan, QuantizeError> {
        let types = choose(infos, &facts, &options);
        let mut plan = QuantizePlan { options, tensors: Vec::new(), bytes_before: 0, bytes_after: 0, elements: 0 };
        for (info, (to, instead_of)) in infos.iter().zip(types) {
            if to != info.dtype && info.dtype.is_quantized() && !options.allow_requantize {
                return Err(QuantizeError::Requantize { tensor: info.name.clone(), dtype: info.dtype });
            }
            let elements = info.elements();
            plan.elements = plan.elements.saturating_add(elements);
            plan.bytes_before = plan.bytes_before.saturating_add(info.bytes);
            let bytes = (elements / to.block_len() as u64).saturating_mul(to.block_bytes() as u64);
            plan.bytes_after = plan.bytes_after.saturating_add(bytes);
            let (name, shape) = (info.name.clone(), info.shape.clone());
            plan.tensors.push(PlannedTensor { name, shape, from: info.dtype, to, instead_of });
        }
        Ok(plan)
    }

    /// Mean bits of an element of the result.
    pub fn bits(&self) -> f64 {
        self.bytes_after as f64 * 8.0 / self.elements.max(1) as f64
    }
}

fn facts(metadata: &Metadata, infos: &[TensorInfo]) -> Result<Facts, QuantizeError> {
    let architecture = metadata.str("general.architecture")?.unwrap_or_default().to_owned();
    // Some models have one number a layer; the first is llama.cpp's choice too.
    let number = |key: &str| match metadata.get(&format!("{architecture}.{key}")) {
        Some(Value::Array(Array::I32(list))) => list.first().and_then(|&n| usize::try_from(n).ok()),
        Some(Value::Array(Array::U32(list))) => list.first().and_then(|&n| usize::try_from(n).ok()),
        value => value.and_then(Value::as_integer).and_then(|n| usize::try_from(n).ok()),
    };
    let heads = number("attention.head_count").unwrap_or(0);
    let kv_heads = number("attention.head_count_kv").unwrap_or(heads);
    Ok(Facts {
        layers: number("block_count").unwrap_or(0),
        heads_per_kv_head: heads.checked_div(kv_heads).unwrap_or(0),
        experts: number("expert_count").unwrap_or(0),
        tied: infos.iter().all(|info| info.name != "output.weight"),
        value_tensors: infos.iter().filter(|info| Role::of(&info.name) == Role::AttnV).count(),
        architecture,
    })
}

/// The layer in `blk.LAYER.rest`.
fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// The type of each tensor, and the type that it replaces because of the row length.
fn choose(infos: &[TensorInfo], facts: &Facts, options: &QuantizeOptions) -> Vec<(DType, Option<DType>)> {
    let mut types: Vec<_> = infos.iter().map(|info| (info.dtype, None)).collect();
    // Layers are counted in their order, not in that of the file.
    let mut order: Vec<usize> = (0..infos.len()).collect();
    order.sort_by_key(|&i| (layer(&infos[i].name), infos[i].name.as_str()));
    let (mut values, mut downs) = (0, 0);
    for i in order {
        let info = &infos[i];
        if !is_matrix(info) {
            continue;
        }
        let role = Role::of(&info.name);
        let index = match role {
            Role::AttnV => post_increment(&mut values),
            // Experts may be one tensor each.
            Role::FfnDown if facts.experts > 1 => layer(&info.name).unwrap_or(0),
            Role::FfnDown => post_increment(&mut downs),
            _ => 0,
        };
        let place = Place { role, shape: &info.shape, index };
        let wanted = if options.pure { options.to.base } else { wanted(options.to, facts, place) };
        let to = fallback(wanted, info.shape.first().copied().unwrap_or(1));
        types[i] = (to, (to != wanted).then_some(wanted));
    }
    types
}

fn post_increment(n: &mut usize) -> usize {
    *n += 1;
    *n - 1
}

/// Whether a tensor is a matrix that can bear rounding. Norms, biases, routers, positions and convolutions are small and
/// stay as they are.
fn is_matrix(info: &TensorInfo) -> bool {
    const KEPT: &[&str] = &[
        "_norm.weight",
        "ffn_gate_inp.weight",
        "ffn_gate_tid2eid.weight",
        "altup",
        "laurel",
        "per_layer_model_proj",
        "ssm_conv1d",
        "shortconv.conv.weight",
        "indexer.k_proj.weight",
        "indexer.q_proj.weight",
        "time_mix_first.weight",
        "time_mix_w0.weight",
        "time_mix_w1.weight",
        "time_mix_w2.weight",
        "time_mix_v0.weight",
        "time_mix_v1.weight",
        "time_mix_v2.weight",
        "time_mix_a0.weight",
        "time_mix_a1.weight",
        "time_mix_a2.weight",
        "time_mix_g1.weight",
        "time_mix_g2.weight",
        "time_mix_decay_w1.weight",
        "time_mix_decay_w2.weight",
        "time_mix_lerp_fused.weight",
        "attn_rel_b.weight",
        ".position_embd",
        "sam.pos_embd",
        "sam.neck.",
        "sam.net_",
        ".rel_pos",
        ".patch_embd",
        ".patch_merger",
        "a.rvq.codebook",
        "mm.a.code_embd",
    ];
    let name = info.name.as_str();
    info.dtype.is_weight()
        && info.shape.iter().skip(1).any(|&n| n > 1)
        && name.ends_with("weight")
        && !matches!(name, "position_embd.weight" | "token_types.weight")
        && !KEPT.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: String, shape: &[u64]) -> TensorInfo {
        let bytes = 2 * shape.iter().product::<u64>();
        TensorInfo { name, dtype: DType::F16, shape: shape.to_vec(), offset: 0, bytes }
    }

    /// Llama 3 8B, as its files have it.
    fn llama_3_8b() -> (Vec<TensorInfo>, Facts) {
        let (d, kv, ff) = (4096, 1024, 14336);
        let mut infos =
            vec![info("token_embd.weight".into(), &[d, 128_256]), info("output.weight".into(), &[d, 128_256])];
        infos.push(info("output_norm.weight".into(), &[d]));
        for layer in 0..32 {
            let shapes: [(&str, &[u64]); 9] = [
                ("attn_norm", &[d]),
                ("attn_q", &[d, d]),
                ("attn_k", &[d, kv]),
                ("attn_v", &[d, kv]),
                ("attn_output", &[d, d]),
                ("ffn_norm", &[d]),
                ("ffn_gate", &[d, ff]),
                ("ffn_up", &[d, ff]),
                ("ffn_down", &[ff, d]),
            ];
            infos.extend(shapes.map(|(name, shape)| info(format!("blk.{layer}.{name}.weight"), shape)));
        }
        let facts = Facts {
            architecture: "llama".into(),
            layers: 32,
            heads_per_kv_head: 4,
            experts: 0,
            tied: false,
            value_tensors: 32,
        };
        (infos, facts)
    }

    fn planned(name: &str) -> QuantizePlan {
        let (infos, facts) = llama_3_8b();
        QuantizePlan::of(&infos, facts, QuantizeOptions::new(Quantization::from_name(name).unwrap())).unwrap()
    }

    #[test]
    fn the_stated_bits_are_those_of_llama_3_8b() {
        let mut wrong = Vec::new();
        for q in Quantization::ALL {
            let bits = planned(q.name).bits();
            if (bits - q.bits).abs() > 0.0051 {
                wrong.push(format!("{}: {bits:.2}, not {:.2}", q.name, q.bits));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn q4_k_m_of_llama_3_8b() {
        let plan = planned("Q4_K_M");
        let of = |name: &str| plan.tensors.iter().find(|t| t.name == name).unwrap().to;
        assert_eq!((of("output.weight"), of("token_embd.weight")), (DType::Q6K, DType::Q4K));
        assert_eq!((of("output_norm.weight"), of("blk.3.attn_q.weight")), (DType::F16, DType::Q4K));
        assert_eq!((of("blk.0.attn_v.weight"), of("blk.4.attn_v.weight")), (DType::Q6K, DType::Q4K));
        assert_eq!((of("blk.31.ffn_down.weight"), of("blk.10.ffn_down.weight")), (DType::Q6K, DType::Q4K));
    }

    #[test]
    fn layers_are_counted_in_their_order() {
        let (mut infos, facts) = llama_3_8b();
        let q = QuantizeOptions::new(Quantization::from_name("Q4_K_M").unwrap());
        let mut sorted = QuantizePlan::of(&infos, facts.clone(), q).unwrap().tensors;
        infos.reverse();
        let mut reversed = QuantizePlan::of(&infos, facts, q).unwrap().tensors;
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        reversed.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(sorted, reversed);
    }

    #[test]
    fn a_tied_embedding_is_treated_as_the_output() {
        let (mut infos, mut facts) = llama_3_8b();
        infos.retain(|info| info.name != "output.weight");
        facts.tied = true;
        let q = QuantizeOptions::new(Quantization::from_name("Q4_0").unwrap());
        let plan = QuantizePlan::of(&infos, facts.clone(), q).unwrap();
        assert_eq!((plan.tensors[0].name.as_str(), plan.tensors[0].to), ("token_embd.weight", DType::Q6K));
        let pure = QuantizePlan::of(&infos, facts, QuantizeOptions { pure: true, ..q }).unwrap();
        assert_eq!(pure.tensors[0].to, DType::Q4_0);
    }
}
