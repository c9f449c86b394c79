//! `attention`: the kernel of its number of tokens and its layout; any other layout by the plain kernel.

use super::kv_append::scales_of;
use super::{StepArgs, ids};
use crate::backends::hip::arch::{Arch, Matrix};
use crate::backends::hip::launch::{Kernel, Launches};
use crate::backends::hip::view::{DevicePtr, DeviceView, Form};
use crate::graph::plan::{Operand, Place, Plan, Step};
use crate::ops::{Attention, FullAttention, Op};
use crate::tensor::{Bounds, DType};
use bytemuck::{Pod, Zeroable};

/// Up to so many tokens the positions of a token are shared among blocks.
const DECODE_TOKENS: usize = 8;
/// `DECODE_HEADS`, `SPLIT_POSITIONS`, `MAX_SPLITS` of attention_decode.hip, `PREFILL_ROWS` of attention_prefill.hip
/// and attention_prefill_matrix.hip.
const DECODE_HEADS: usize = 8;
const SPLIT_POSITIONS: usize = 128;
const MAX_SPLITS: usize = 256;
const PREFILL_ROWS: usize = 64;

/// Dynamic LDS of attention_prefill_mma_q8_0_… for a head size: twice `Rows<q8_0_t, …>::BYTES` of attention_prefill.hip, 24 bytes for
/// every 16 codes of 64 positions of K and V, or of 16.
fn staging_bytes(d: usize) -> usize {
    2 * 24 * d / 16 * if d > 128 { 16 } else { 64 }
}

/// `Strided` of `kernels/common/attention.h`.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
struct Strided {
    ptr: DevicePtr,
    nb: [i64; 3],
}

impl Strided {
    fn of(x: &DeviceView) -> Strided {
        Strided { ptr: x.view.ptr, nb: [x.view.nb[0], x.view.nb[1], x.view.nb[2]] }
    }
}

/// `AttentionArgs` of `kernels/common/attention.h`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct AttentionArgs {
    q: Strided,
    k: Strided,
    v: Strided,
    out: Strided,
    mask: Strided,
    kv_start: DevicePtr,
    kv_slot: DevicePtr,
    scratch: DevicePtr,
    scales: [DevicePtr; 2],
    scale: f32,
    softcap: f32,
    heads: i32,
    kv_heads: i32,
    tokens: i32,
    d: i32,
    d_v: i32,
    causal: i32,
    window: i32,
    positions: i32,
    splits: i32,
    parts: i32,
    early: i32,
    unused: i32,
}

const _: () = assert!(size_of::<AttentionArgs>() == 256);

/// What the choice of a kernel depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    tokens: usize,
    d: usize,
    d_v: usize,
    cache: DType,
    /// Rows of all tensors are elements side by side at multiples of 16 bytes (those of q8_0 in planes), and there is no mask.
    aligned: bool,
}

/// How an attention is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    /// A block a head and token.
    Plain,
    /// A block a kv head, token and run of positions; `width` is the head size that lanes are grouped for.
    Lanes { width: usize },
    /// The same by `mma.sync`.
    LanesMma,
    /// Tiles of tokens by `mma.sync`.
    TilesMma,
    /// Tiles of tokens by WMMA or MFMA.
    TilesMatrix,
}

/// The kernel for a shape.
fn variant(x: &Shape, matrix: Matrix) -> Variant {
    let narrow = x.d.max(x.d_v);
    let eights = x.d.is_multiple_of(8) && x.d_v.is_multiple_of(8);
    if !x.aligned || !eights || narrow > 256 {
        return Variant::Plain;
    }
    let square = x.d == x.d_v;
    let tiles: &[usize] = match (x.cache, matrix) {
        (DType::F16, Matrix::Mma | Matrix::Wmma | Matrix::Mfma) => &[64, 80, 96, 128, 256],
        (DType::Bf16, Matrix::Mma) => &[64, 128, 256],
        (DType::Q8_0, Matrix::Mma) => &[64, 96, 128, 256],
        _ => &[],
    };
    if square && x.tokens > DECODE_TOKENS && tiles.contains(&x.d) {
        return if matrix == Matrix::Mma { Variant::TilesMma } else { Variant::TilesMatrix };
    }
    if square && matrix == Matrix::Mma && x.cache != DType::F32 && (x.d == 64 || x.d == 128) {
        return Variant::LanesMma;
    }
    Variant::Lanes { width: narrow.next_power_of_two().max(64) }
}

/// The blocks that share a kv head's query heads: a block takes eight, with heads of more than 128 elements four.
fn parts(group: usize, d: usize) -> usize {
    group.div_ceil(if d > 128 { DECODE_HEADS / 2 } else { DECODE_HEADS })
}

/// The blocks that share a token's positions: together they are the device's compute units.
fn splits(tokens: usize, kv_heads: usize, parts: usize, arch: &Arch) -> usize {
    if tokens > DECODE_TOKENS { 1 } else { (arch.units / (tokens * kv_heads * parts).max(1)).clamp(1, MAX_SPLITS) }
}

/// Tickets, then (max, sum) of every split's heads, then their Σ p v (attention_decode.hip).
pub(super) fn scratch_bytes(step: &Step, bounds: &Bounds, arch: &Arch) -> usize {
    let size = |slot: usize, dim: usize| step.operands[slot].ty.shape.dim(dim).eval(bounds);
    let (heads, kv_heads, d, d_v) = (size(0, 1), size(1, 2).max(1), size(1, 0), size(2, 0));
    let group = heads / kv_heads;
    let parts = parts(group, d.max(d_v));
    let of = |tokens: usize| {
        let (units, splits) = (tokens * kv_heads * parts, splits(tokens, kv_heads, parts, arch));
        (units * 4).next_multiple_of(256) + units * splits * (DECODE_HEADS * 8 + group.div_ceil(parts.max(1)) * d_v * 4)
    };
    (1..=size(0, 2).min(DECODE_TOKENS)).map(of).max().unwrap_or(0)
}

/// Whether the step may read its caches and tables before the steps before it have ended: the tables are inputs of the run, and all that
/// the plan writes into the caches is the position of its one token, the last that this sees.
pub(super) fn early(step: &Step, plan: &Plan) -> bool {
    let (Op::Attention(op), [_, k, v, start, slot, ..]) = (&step.op, &step.operands[..]) else { return false };
    let writers = |place: Place| plan.steps.iter().filter(move |s| s.results.iter().any(|r| r.place == place));
    let is_input = |o: &Operand| plan.inputs.iter().any(|p| p.operand.place == o.place);
    let lasts = |o: &Operand| matches!(o.place, Place::Arena(_)) && is_input(o) && writers(o.place).next().is_none();
    let same = |o: &Operand| o.place == slot.place && o.layout == slot.layout;
    let is_cache =
        |o: &Operand| matches!(o.place, Place::State(_)) && writers(o.place).all(|s| s.operands.iter().any(same));
    plan.bounds.t == 1 && op.causal && lasts(start) && lasts(slot) && is_cache(k) && is_cache(v)
}

/// Whether rows are elements side by side at multiples of 16 bytes, or blocks in planes.
fn rows_of_16(x: &DeviceView) -> bool {
    let elements = x.view.nb[0] == x.dtype.block_bytes() as i64;
    match x.form {
        Form::Planes { .. } => x.view.nb[0] == x.dtype.block_len() as i64,
        _ if x.dtype.block_len() > 1 => false,
        _ => elements && x.view.nb[1] % 16 == 0 && x.view.nb[2] % 16 == 0 && x.view.ptr.is_multiple_of(16),
    }
}

/// The positions that a cache has room for; `filled` where its layout does not say.
fn capacity(cache: &DeviceView) -> usize {
    let (filled, [_, row, head, _]) = (cache.ne(1), cache.view.nb);
    let all = head.checked_div(row).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    if cache.ne(2) > 0 && head >= row { all.max(filled) } else { filled }
}

fn named(table: &[(DType, &'static str)], dtype: DType) -> Result<&'static str, String> {
    let found = table.iter().find(|(d, _)| *d == dtype);
    found.map(|(_, name)| *name).ok_or_else(|| format!("there is no attention kernel for a cache of {dtype}"))
}

pub(super) fn launches(op: &Attention, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    attend(op, (ids(&s.operands[3])?, ids(&s.operands[4])?), s.operands.get(5), s, out)
}

/// Attention in which every token sees all positions.
pub(super) fn full_launches(op: &FullAttention, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    attend(&op.attention(), (0, 0), s.operands.get(3), s, out)
}

/// Attention with the tables of what a token sees, or with none (address 0).
fn attend(
    op: &Attention,
    (kv_start, kv_slot): (DevicePtr, DevicePtr),
    mask: Option<&DeviceView>,
    s: &StepArgs<'_>,
    out: &mut Launches,
) -> Result<(), String> {
    let (q, k, v, result) = (&s.operands[0], &s.operands[1], &s.operands[2], &s.results[0]);
    let (heads, kv_heads, tokens) = (q.ne(1), k.ne(2), q.ne(2));
    let in_planes = |x: &DeviceView| matches!(x.form, Form::Planes { .. });
    if in_planes(k) != in_planes(v) {
        return Err(format!("one of K and V is a state of {}, the other is not", k.dtype));
    }
    if k.dtype != v.dtype || !matches!(k.dtype, DType::F32 | DType::F16 | DType::Bf16 | DType::Q8_0) {
        return Err(format!("caches of {} and {}, which must be the same: f32, f16, bf16 or q8_0", k.dtype, v.dtype));
    }
    let (d, d_v) = (k.ne(0), v.ne(0));
    if let Some(part) = [d, d_v].iter().find(|d| !d.is_multiple_of(k.dtype.block_len())) {
        return Err(format!("a cache of {} with heads of {part} elements, which 32 must divide", k.dtype));
    }
    if d.max(d_v) > 256 {
        return Err(format!("heads of {} elements, at most 256", d.max(d_v)));
    }
    if [k, v].iter().any(|x| in_planes(x) && i32::try_from(x.view.nb[1]).is_err()) {
        return Err("positions of a cache that lie 2 GiB and more apart".to_string());
    }
    if heads * tokens * kv_heads == 0 {
        return Ok(());
    }
    let group = heads / kv_heads;
    let aligned = mask.is_none() && [q, k, v, result].iter().all(|x| rows_of_16(x));
    let shape = Shape { tokens, d, d_v, cache: k.dtype, aligned };
    let variant = variant(&shape, s.arch.matrix);
    // A captured launch must not change with the positions that are filled.
    let room = if op.causal { capacity(k).min(capacity(v)) } else { k.ne(1) };
    let parts = parts(group, d.max(d_v));
    let splits = splits(tokens, kv_heads, parts, s.arch).min(room.div_ceil(SPLIT_POSITIONS).max(1));
    let args = AttentionArgs {
        q: Strided::of(q),
        k: Strided::of(k),
        v: Strided::of(v),
        out: Strided::of(result),
        mask: mask.map(Strided::of).unwrap_or_default(),
        kv_start,
        kv_slot,
        scratch: s.scratch,
        scales: [scales_of(k), scales_of(v)],
        scale: op.scale,
        softcap: op.softcap,
        heads: heads as i32,
        kv_heads: kv_heads as i32,
        tokens: tokens as i32,
        d: d as i32,
        d_v: d_v as i32,
        causal: op.causal as i32,
        window: i32::try_from(op.window).unwrap_or(i32::MAX),
        positions: i32::try_from(room).map_err(|_| format!("a cache of {room} positions"))?,
        splits: splits as i32,
        parts: parts as i32,
        early: i32::from(s.early && tokens == 1),
        unused: 0,
    };
    let mut lds = 0;
    let each = group.div_ceil(parts);
    let (kernel, grid, threads) = match variant {
        Variant::Plain => {
            let blocks = k.dtype == DType::Q8_0 && k.form == Form::Whole;
            let name = if blocks { "attention_plain_q8_0_blocks" } else { named(&PLAIN, k.dtype)? };
            (Kernel { file: "attention_plain", name }, [heads, tokens, 1], 128)
        }
        Variant::Lanes { width } => {
            let name = lanes_kernel(k.dtype, width, each)?;
            (Kernel { file: "attention_decode", name }, [splits, kv_heads * parts, tokens], 256)
        }
        Variant::LanesMma => {
            let name = lanes_mma_kernel(k.dtype, d, each)?;
            (Kernel { file: "attention_decode", name }, [splits, kv_heads * parts, tokens], 256)
        }
        Variant::TilesMma => {
            let name = tiles_mma_kernel(k.dtype, d)?;
            if k.dtype == DType::Q8_0 {
                lds = staging_bytes(d);
            }
            let tiles = (tokens * group).div_ceil(PREFILL_ROWS);
            (Kernel { file: "attention_prefill", name }, [kv_heads, tiles, 1], 128)
        }
        Variant::TilesMatrix => {
            let name = tiles_matrix_kernel(d)?;
            let tiles = (tokens * group).div_ceil(PREFILL_ROWS);
            (Kernel { file: "attention_prefill_matrix", name }, [kv_heads, tiles, 1], 4 * s.arch.wave as u32)
        }
    };
    out.add(kernel, grid, threads).lds(lds).arg(args);
    Ok(())
}

/// Names by the cache's type.
type Names = [(DType, &'static str); 4];

const PLAIN: Names = [
    (DType::F32, "attention_plain_f32"),
    (DType::F16, "attention_plain_f16"),
    (DType::Bf16, "attention_plain_bf16"),
    (DType::Q8_0, "attention_plain_q8_0"),
];
/// (head size, query heads, names), the fewer heads first.
type Kernels = &'static [(DType, &'static str)];
const LANES_MMA: [(usize, usize, Kernels); 4] = [
    (64, 4, &[(DType::Q8_0, "attention_decode_mma_q8_0_64_4")]),
    (128, 4, &[(DType::Q8_0, "attention_decode_mma_q8_0_128_4")]),
    (
        64,
        8,
        &[
            (DType::F16, "attention_decode_mma_f16_64"),
            (DType::Bf16, "attention_decode_mma_bf16_64"),
            (DType::Q8_0, "attention_decode_mma_q8_0_64_8"),
        ],
    ),
    (
        128,
        8,
        &[
            (DType::F16, "attention_decode_mma_f16_128"),
            (DType::Bf16, "attention_decode_mma_bf16_128"),
            (DType::Q8_0, "attention_decode_mma_q8_0_128_8"),
        ],
    ),
];

fn lanes_mma_kernel(cache: DType, d: usize, heads: usize) -> Result<&'static str, String> {
    let fits = LANES_MMA.iter().filter(|(size, most, _)| *size == d && *most >= heads);
    let found = fits.flat_map(|(.., names)| names.iter()).find(|(of, _)| *of == cache);
    found.map(|(_, name)| *name).ok_or_else(|| format!("{heads} query heads of {d} elements over a cache of {cache}"))
}

macro_rules! names {
    ($kernel:literal, $size:literal) => {
        [
            (DType::F32, concat!("attention_", $kernel, "_f32_", $size)),
            (DType::F16, concat!("attention_", $kernel, "_f16_", $size)),
            (DType::Bf16, concat!("attention_", $kernel, "_bf16_", $size)),
            (DType::Q8_0, concat!("attention_", $kernel, "_q8_0_", $size)),
        ]
    };
}

/// (width, query heads, names), the fewer heads first.
const LANES: [(usize, usize, Names); 8] = [
    (64, 1, names!("decode", "64_1")),
    (64, 4, names!("decode", "64_4")),
    (64, 8, names!("decode", "64_8")),
    (128, 1, names!("decode", "128_1")),
    (128, 4, names!("decode", "128_4")),
    (128, 8, names!("decode", "128_8")),
    (256, 1, names!("decode", "256_1")),
    (256, 4, names!("decode", "256_4")),
];

fn lanes_kernel(cache: DType, width: usize, heads: usize) -> Result<&'static str, String> {
    let found = LANES.iter().find(|(w, h, _)| *w == width && *h >= heads);
    let (.., names) = found.ok_or_else(|| format!("{heads} query heads of {width} elements"))?;
    named(names, cache)
}

const TILES_MMA: [(usize, Names); 5] = [
    (64, names!("prefill_mma", "64")),
    (80, names!("prefill_mma", "80")),
    (96, names!("prefill_mma", "96")),
    (128, names!("prefill_mma", "128")),
    (256, names!("prefill_mma", "256")),
];

fn tiles_mma_kernel(cache: DType, d: usize) -> Result<&'static str, String> {
    let found = TILES_MMA.iter().find(|(size, _)| *size == d);
    named(&found.ok_or_else(|| format!("heads of {d} elements"))?.1, cache)
}

const TILES_MATRIX: [(usize, &str); 5] = [
    (64, "attention_prefill_matrix_f16_64"),
    (80, "attention_prefill_matrix_f16_80"),
    (96, "attention_prefill_matrix_f16_96"),
    (128, "attention_prefill_matrix_f16_128"),
    (256, "attention_prefill_matrix_f16_256"),
];

fn tiles_matrix_kernel(d: usize) -> Result<&'static str, String> {
    let found = TILES_MATRIX.iter().find(|(size, _)| *size == d);
    found.map(|(_, name)| *name).ok_or_else(|| format!("heads of {d} elements"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{dense, planes, step, strided};
    use super::*;
    use crate::backends::hip::HipTarget;
    use crate::graph::passes::PassOptions;
    use crate::graph::plan::plan;
    use crate::graph::text::parse;

    fn shape(tokens: usize, d: usize, cache: DType) -> Shape {
        Shape { tokens, d, d_v: d, cache, aligned: true }
    }

    #[test]
    fn the_kernel_follows_from_tokens_sizes_type_layout_and_device() {
        let x = shape(1, 128, DType::F16);
        for (shape, matrix, expected) in [
            (x, Matrix::Mma, Variant::LanesMma),
            (x, Matrix::Wmma, Variant::Lanes { width: 128 }),
            (Shape { tokens: 9, ..x }, Matrix::Mma, Variant::TilesMma),
            (Shape { tokens: 9, cache: DType::F32, ..x }, Matrix::Mma, Variant::Lanes { width: 128 }),
            (Shape { tokens: 9, d: 72, d_v: 72, ..x }, Matrix::Mma, Variant::Lanes { width: 128 }),
            (Shape { tokens: 9, cache: DType::Bf16, ..x }, Matrix::Mma, Variant::TilesMma),
            (Shape { tokens: 9, ..x }, Matrix::Wmma, Variant::TilesMatrix),
            (Shape { tokens: 512, d: 80, d_v: 80, ..x }, Matrix::Mfma, Variant::TilesMatrix),
            (Shape { tokens: 8, ..x }, Matrix::Mfma, Variant::Lanes { width: 128 }),
            (Shape { tokens: 9, ..x }, Matrix::None, Variant::Lanes { width: 128 }),
            (Shape { tokens: 9, d_v: 64, ..x }, Matrix::Wmma, Variant::Lanes { width: 128 }),
            (Shape { tokens: 9, d: 72, d_v: 72, ..x }, Matrix::Mfma, Variant::Lanes { width: 128 }),
            (Shape { tokens: 9, cache: DType::Bf16, ..x }, Matrix::Wmma, Variant::Lanes { width: 128 }),
            (Shape { tokens: 9, cache: DType::F32, ..x }, Matrix::Mfma, Variant::Lanes { width: 128 }),
            (Shape { tokens: 9, aligned: false, ..x }, Matrix::Wmma, Variant::Plain),
            (Shape { tokens: 9, cache: DType::Bf16, ..x }, Matrix::None, Variant::Lanes { width: 128 }),
            (Shape { d_v: 64, ..x }, Matrix::Mma, Variant::Lanes { width: 128 }),
            (Shape { d: 32, d_v: 32, ..x }, Matrix::Mma, Variant::Lanes { width: 64 }),
            (Shape { d: 200, d_v: 136, ..x }, Matrix::Mma, Variant::Lanes { width: 256 }),
            (Shape { d: 100, d_v: 100, ..x }, Matrix::Mma, Variant::Plain),
            (Shape { aligned: false, ..x }, Matrix::Mma, Variant::Plain),
            (Shape { cache: DType::Q8_0, ..x }, Matrix::Mma, Variant::LanesMma),
            (Shape { cache: DType::Q8_0, aligned: false, ..x }, Matrix::Mma, Variant::Plain),
            (Shape { cache: DType::Q8_0, ..x }, Matrix::Wmma, Variant::Lanes { width: 128 }),
            (Shape { cache: DType::Q8_0, ..shape(1, 256, x.cache) }, Matrix::Mma, Variant::Lanes { width: 256 }),
            (Shape { cache: DType::Q8_0, ..shape(9, 96, x.cache) }, Matrix::Mma, Variant::TilesMma),
            (Shape { cache: DType::Q8_0, ..shape(9, 64, x.cache) }, Matrix::Mfma, Variant::Lanes { width: 64 }),
        ] {
            assert_eq!(variant(&shape, matrix), expected, "{shape:?} {matrix:?}");
        }
    }

    #[test]
    fn tiles_are_64_rows_of_tokens_and_heads() {
        let op = Attention { scale: 0.125, causal: true, window: 0, softcap: 0.0 };
        let (cache, q) = (dense(DType::F16, [64, 200, 2, 1]), dense(DType::F32, [64, 14, 19, 1]));
        let ids = dense(DType::I32, [19, 1, 1, 1]);
        let launches = step(&[q, cache, cache, ids, ids], &[q], |s, out| launches(&op, s, out)).unwrap();
        let only = &launches.list[0];
        // 19 tokens of 7 heads.
        assert_eq!(
            (only.kernel.file, only.kernel.name, only.grid, only.threads),
            ("attention_prefill_matrix", "attention_prefill_matrix_f16_64", [2, 3, 1], 128)
        );
    }

    #[test]
    fn a_decode_launch_does_not_depend_on_how_full_the_cache_is() {
        let op = Attention { scale: 0.125, causal: true, window: 0, softcap: 0.0 };
        let launches = |filled: usize| {
            let cache = strided(DType::F16, [64, filled, 2, 1], [2, 128, 128 * 4096, 2 * 128 * 4096]);
            let q = dense(DType::F32, [64, 14, 1, 1]);
            let ids = dense(DType::I32, [1, 1, 1, 1]);
            step(&[q, cache, cache, ids, ids], &[q], |s, out| launches(&op, s, out)).unwrap()
        };
        assert_eq!(launches(3), launches(4000));
        let only = &launches(3).list[0];
        assert_eq!((only.kernel.name, only.grid, only.threads), ("attention_decode_f16_64_8", [32, 2, 1], 256));
    }

    #[test]
    fn caches_of_blocks_are_read_in_planes_and_other_blocks_one_by_one() {
        let op = Attention { scale: 0.125, causal: true, window: 0, softcap: 0.0 };
        let launches = |k: DeviceView, v: DeviceView| {
            let (q, ids) = (dense(DType::F32, [k.ne(0), 8, 1, 1]), dense(DType::I32, [1, 1, 1, 1]));
            step(&[q, k, v, ids, ids], &[q], |s, out| launches(&op, s, out))
        };
        let name = |x| launches(x, x).unwrap().list[0].kernel.name;
        let blocks = dense(DType::Q8_0, [96, 100, 2, 1]);
        assert_eq!(name(planes(96, 100, 4096, 2)), "attention_decode_q8_0_128_4");
        assert_eq!(name(blocks), "attention_plain_q8_0_blocks");
        assert!(launches(planes(96, 100, 4096, 2), blocks).unwrap_err().contains("a state of q8_0"));
        let refused = launches(planes(80, 4, 8, 2), planes(80, 4, 8, 2)).unwrap_err();
        assert!(refused.contains("q8_0") && refused.contains("80 elements"), "{refused}");
    }

    #[test]
    fn four_query_heads_over_q8_0_have_a_kernel_of_their_own() {
        let name = |cache, heads| lanes_mma_kernel(cache, 128, heads).unwrap();
        assert_eq!(name(DType::Q8_0, 3), "attention_decode_mma_q8_0_128_4");
        assert_eq!(name(DType::Q8_0, 5), "attention_decode_mma_q8_0_128_8");
        assert_eq!(name(DType::F16, 3), "attention_decode_mma_f16_128");
        assert!(lanes_mma_kernel(DType::F32, 128, 1).is_err() && lanes_mma_kernel(DType::F16, 96, 1).is_err());
    }

    #[test]
    fn sixteen_query_heads_are_two_blocks_and_wide_ones_four() {
        assert_eq!((parts(1, 64), parts(7, 64), parts(8, 128), parts(9, 128), parts(16, 128)), (1, 1, 1, 2, 2));
        assert_eq!((parts(4, 256), parts(8, 256), parts(16, 256)), (1, 2, 4));
    }

    #[test]
    fn splits_fill_the_device_and_no_more() {
        let arch = Arch::of("sm_90").unwrap();
        assert_eq!([1, 2, 8, 9].map(|tokens| splits(tokens, 8, 1, &arch)), [16, 8, 2, 1]);
        assert_eq!(splits(1, 1000, 1, &arch), 1);
        assert!(splits(1, 1, 1, &Arch::of("gfx942").unwrap()) <= MAX_SPLITS);
    }

    /// Which attention steps of a decode plan of `text` read early.
    fn early_steps(text: &str) -> Vec<bool> {
        let graph = parse(text).unwrap();
        let bounds = Bounds { t: 1, s: 64, r: 1 };
        let target = HipTarget::of("sm_90").unwrap();
        let plan = plan(&graph, bounds, &target, &PassOptions::default()).unwrap();
        let attention = plan.steps.iter().filter(|s| matches!(s.op, Op::Attention(_)));
        attention.map(|s| early(s, &plan)).collect()
    }

    #[test]
    fn caches_are_read_early_where_only_the_tokens_own_position_is_written() {
        let graph = |body: &str| {
            format!(
                "graph \"early\" (T <= 1, S <= 64, R <= 1) {{
  n0 \"q\" = input : f32[64, 4, T]
  n1 \"k\" = state : f16[64, S, 2]
  n2 \"v\" = state : f16[64, S, 2]
  n3 \"kv_start\" = input : i32[T]
  n4 \"kv_slot\" = input : i32[T]
  n5 \"other\" = input : i32[T]
  n6 \"x\" = input : f32[64, 2, T]
  n7 \"keys\" = input : f16[64, S, 2]
{body}
  output \"y\" = n10
}}
"
            )
        };
        let attention = |k: &str| format!("  n10 = attention(n0, {k}, n9, n3, n4) {{scale=0.125}}");
        let appended = |slots: &str| format!("  n8 = kv_append(n1, n6, {slots})\n  n9 = kv_append(n2, n6, n4)\n");
        assert_eq!(early_steps(&graph(&(appended("n4") + &attention("n8")))), [true]);
        assert_eq!(early_steps(&graph(&(appended("n5") + &attention("n8")))), [false]);
        assert_eq!(early_steps(&graph(&(appended("n4") + &attention("n7")))), [false]);
    }

    #[test]
    fn caches_of_two_types_are_refused() {
        let op = Attention { scale: 1.0, causal: true, window: 0, softcap: 0.0 };
        let (q, ids) = (dense(DType::F32, [64, 2, 1, 1]), dense(DType::I32, [1, 1, 1, 1]));
        let (k, v) = (dense(DType::F16, [64, 8, 2, 1]), dense(DType::F32, [64, 8, 2, 1]));
        let refused = step(&[q, k, v, ids, ids], &[q], |s, out| launches(&op, s, out));
        assert!(refused.unwrap_err().contains("must be the same"));
    }
}
