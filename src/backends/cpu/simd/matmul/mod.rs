//! Matrix products with packed weights: `out[t, n] = Σ_k W[n, k]·x[t, k]`.
//!
//! **Determinism.** Each output is computed by one fixed sequence of floating-point operations that depends on the weights'
//! type, `k` and the level only: integer types add `(dw·dx)·dot` block after block into one accumulator; float types sum
//! blocks of 32 products in ascending order and add the blocks in ascending order. Tokens beside it, panel ranges and
//! threads change nothing, so a token gets the same bits in a prompt and alone.
//!
//! **Error.** For integer types, against the exact product of the dequantized weights with the quantized activations: the
//! integer part is exact, and each block adds at most 3 roundings, so the error is at most `(K/32 + 3)·2^-24·Σ|terms|`, a term
//! being a block's share (its minimum's share apart). For float types it is `(K/32 + 33)·2^-24·Σ|w·x|`, with the activations that the
//! kernels are given: f32, or for weights of bf16 also bf16.

mod bf16;
mod codebook;
mod floats;
mod formats;
mod integers;
mod low_bits;

use super::isa::{Level, prefetch_distance};
use super::lanes::Simd;
use super::packed::{Class, PANEL_ROWS, PackedMatrix, class, class_in_place, packed_type, panel_bytes};
use crate::tensor::DType;
use std::ops::Range;

/// Scratch that unpacked panels may take: together with a few tokens' activations it stays in a core's second-level cache.
const TILE_BUDGET: usize = 400 << 10;
/// Activations that pass the unpacked panels together: they stay in that cache as well.
const TOKEN_BUDGET: usize = 256 << 10;
/// Panels that are unpacked at a time, at most.
const MAX_TILES: usize = 16;
/// Scratch that panels of rows in a file may take.
const PACK_BUDGET: usize = 192 << 10;
/// Tokens for which panels of rows in a file are packed one by one: each is still in the first-level cache when it is multiplied.
const FEW_TOKENS: usize = 8;

/// What a kernel gets: addresses and strides of one product.
#[derive(Clone, Copy)]
pub(crate) struct Args {
    pub dtype: DType,
    pub class: Class,
    /// The activations' type.
    pub activation: DType,
    /// The first packed byte of the matrix.
    pub weights: *const u8,
    pub rows: usize,
    pub k: usize,
    /// Activations, `x_row_bytes` apart.
    pub x: *const u8,
    pub x_row_bytes: usize,
    pub tokens: usize,
    /// Panels to compute, from..to.
    pub from: usize,
    pub to: usize,
    /// Outputs, `out_stride` floats from token to token.
    pub out: *mut f32,
    pub out_stride: usize,
    /// Bytes that kernels for few tokens prefetch ahead of the weights they read; 0 for none.
    pub ahead: usize,
    pub scratch: *mut u8,
    pub scratch_len: usize,
}

/// Bytes of scratch that [`matmul`] needs in each thread, for any number of tokens. It does not depend on the level. Zero for
/// types or lengths that cannot be packed.
pub fn scratch_bytes(dtype: DType, k: usize) -> usize {
    let dtype = packed_type(dtype, k);
    if panel_bytes(dtype, k).is_none() {
        return 0;
    }
    let tile = match class(dtype) {
        Class::Integer => k.div_ceil(32).saturating_mul(formats::tile_block_of(dtype)),
        Class::Float if dtype == DType::F32 => return 0,
        Class::Float => return floats::COLUMNS * 64,
        Class::Generic => return generic_scratch_bytes(k),
    };
    tile.saturating_mul((TILE_BUDGET / tile.max(1)).clamp(1, MAX_TILES))
}

/// [`scratch_bytes`] for rows that stay as the file has them: some panels, packed as they are used, and what these need; for types
/// without panels a tile, and one row as it comes from the dequantizer.
pub fn rows_scratch_bytes(dtype: DType, k: usize) -> usize {
    if class_in_place(dtype, k) == Class::Generic {
        return generic_scratch_bytes(k);
    }
    packing_bytes(dtype, k).saturating_add(scratch_bytes(dtype, k))
}

fn generic_scratch_bytes(k: usize) -> usize {
    k.saturating_mul(64 + 4).saturating_add(63) / 64 * 64
}

/// Bytes of the panels that are packed at a time from rows in a file.
fn packing_bytes(dtype: DType, k: usize) -> usize {
    let panel = panel_bytes(dtype, k).unwrap_or(0);
    panel.saturating_mul((PACK_BUDGET / panel.max(1)).clamp(1, MAX_TILES)).next_multiple_of(64)
}

/// `out[t·out_stride + n] = Σ_k W[n, k]·x[t, k]` for the rows `n` of `panels` and `t` in `0..tokens`.
///
/// `x` points to rows of `activation`, a type that the matrix is multiplied with ([`PackedMatrix::takes`]), `x_row_bytes` apart. Nothing
/// is allocated.
///
/// # Panics
/// If the matrix does not take such activations, the scratch is too short or not aligned to 64 bytes, or `panels` is beyond the matrix: before anything is written.
///
/// # Safety
/// - `x`: `tokens` rows of `k` activations are readable and aligned for their type (any alignment for Q8A).
/// - `out`: for each token, the floats of the panels' rows ([`PackedMatrix::rows_of`]) are writable, and no other thread touches
///   them meanwhile; they do not overlap `x` or the scratch.
#[allow(clippy::too_many_arguments)]
pub unsafe fn matmul(
    level: Level,
    w: &PackedMatrix,
    x: *const u8,
    activation: DType,
    x_row_bytes: usize,
    tokens: usize,
    panels: Range<usize>,
    out: *mut f32,
    out_stride: usize,
    scratch: &mut [u8],
) {
    assert!(panels.start <= panels.end && panels.end <= w.panels(), "panels {panels:?} of {}", w.panels());
    assert!(w.takes(activation), "{} times {activation}", w.dtype());
    let in_place = w.is_in_place();
    let needed = if in_place { rows_scratch_bytes(w.dtype(), w.k()) } else { scratch_bytes(w.dtype(), w.k()) };
    assert!(scratch.len() >= needed, "matmul scratch: {} bytes", scratch.len());
    assert!(scratch.is_empty() || (scratch.as_ptr() as usize).is_multiple_of(64), "matmul scratch is not aligned");
    if panels.is_empty() || tokens == 0 {
        return;
    }
    let args = Args {
        dtype: w.dtype(),
        class: w.class(),
        activation,
        weights: w.as_ptr(),
        rows: w.rows(),
        k: w.k(),
        x,
        x_row_bytes,
        tokens,
        from: panels.start,
        to: panels.end,
        out,
        out_stride,
        ahead: prefetch_distance(),
        scratch: scratch.as_mut_ptr(),
        scratch_len: scratch.len(),
    };
    // SAFETY: the table is of an available level; `args` describes the matrix, whose layout is its type's, and the caller's buffers.
    unsafe {
        if in_place && args.class != Class::Generic {
            return packing(level, w, &args);
        }
        (kernel(level, &args))(&args)
    }
}

/// The level's kernel for these types.
fn kernel(level: Level, args: &Args) -> unsafe fn(&Args) {
    let kernels = level.kernels();
    if args.activation == DType::Bf16 { kernels.matmul_bf16 } else { kernels.matmul }
}

/// Products with rows in a file: packed into the beginning of the scratch, some panels at a time, and multiplied there.
///
/// # Safety
/// The contract of [`matmul`]; the level is available.
unsafe fn packing(level: Level, w: &PackedMatrix, args: &Args) {
    let panel = panel_bytes(args.dtype, args.k).expect("checked when the matrix was made");
    let room = packing_bytes(args.dtype, args.k);
    let at_a_time = if args.tokens <= FEW_TOKENS { 1 } else { (room / panel.max(1)).max(1) };
    let mut first = args.from;
    while first < args.to {
        let count = at_a_time.min(args.to - first);
        // SAFETY: the scratch is ours alone and begins with room for the panels; what follows is what the kernel needs. The kernel
        // sees a matrix of the rows from panel `first` on, which are as many panels as are packed or more.
        unsafe {
            w.pack_into(first..first + count, std::slice::from_raw_parts_mut(args.scratch, count * panel));
            (kernel(level, args))(&Args {
                weights: args.scratch,
                rows: args.rows - first * PANEL_ROWS,
                from: 0,
                to: count,
                out: args.out.add(first * PANEL_ROWS),
                ahead: 0,
                scratch: args.scratch.add(room),
                scratch_len: args.scratch_len - room,
                ..*args
            });
        }
        first += count;
    }
}

/// # Safety
/// The contract of [`matmul`]; the level of `S` is available.
pub(crate) unsafe fn run<S: Simd>(args: &Args) {
    // SAFETY: the caller's promises.
    unsafe {
        let s = S::assume();
        match args.class {
            Class::Integer => integers::run(s, args),
            Class::Float => floats::run(s, args),
            Class::Generic => floats::run_generic(s, args),
        }
    }
}

/// # Safety
/// The contract of [`matmul`] for weights and activations of bf16; the level of `S` is available.
pub(crate) unsafe fn run_bf16<S: Simd>(args: &Args) {
    // SAFETY: the caller's promises.
    unsafe { bf16::run(S::assume(), args) }
}

/// Groups of tokens that kernels are instantiated for, largest first, up to `max`.
#[derive(Clone, Copy)]
struct Tokens {
    at: usize,
    end: usize,
    max: usize,
}

impl Iterator for Tokens {
    /// First token and count.
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        let left = self.end - self.at;
        let count = [8, 6, 4, 2, 1].into_iter().find(|&n| n <= left && n <= self.max)?;
        let at = self.at;
        self.at += count;
        Some((at, count))
    }
}

impl Args {
    fn tokens(&self, max: usize) -> Tokens {
        Tokens { at: 0, end: self.tokens, max }
    }

    /// Tokens that pass unpacked panels together.
    fn tokens_at_a_time(&self) -> usize {
        (TOKEN_BUDGET / self.x_row_bytes.max(1)).max(8) / 8 * 8
    }

    /// Rows of a panel that exist.
    fn rows_from(&self, panel: usize) -> usize {
        self.rows - panel * PANEL_ROWS
    }
}

#[cfg(test)]
mod tests;
