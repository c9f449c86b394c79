//! [`PackedMatrix`]: weights in the order in which the matrix kernels stream them.
//!
//! Rows stand in panels of 16, the lanes of a vector; missing rows of the last panel are zero. A panel is one sequential
//! stream. Its bytes per type, where *quads* are vectors of 16 rows × 4 consecutive weights, *nibbles* four vectors with
//! quads 0–3 in the low and 4–7 in the high halves of the bytes, *fifth* one vector with bit `i` of a byte belonging to quad
//! `i`, and an *h* stands for 16 halves (32 bytes):
//!
//! | type | group of | bytes of a group |
//! |---|---|---|
//! | f32 | 1 | 16 floats |
//! | f16 | 1 | h |
//! | bf16 | 2 | 16 pairs |
//! | q8_0 | 2 blocks | scales 2h, 2 × 8 quads (+128) |
//! | q4_0, iq4_nl | 2 blocks | scales 2h, 2 × nibbles |
//! | q5_0 | 2 blocks | scales 2h, 2 × (nibbles, fifth) |
//! | q4_1, q5_1 | 1 block | scale h, minimum h, nibbles (, fifth) |
//! | mxfp4 | 4 blocks | 4 × 16 exponents, 4 × nibbles |
//! | q4_K, q5_K | 256 | d h, −dmin h, 8 × (16 scales, 16 minimums), 8 × (nibbles (, fifth)) |
//! | iq4_xs | 256 | d h, 32 unused, 8 × 16 scales, 8 × nibbles |
//! | q6_K | 256 | d h, 32 unused, 16 × 16 scales, 8 × (nibbles, 2 vectors with upper bits of quads 0–3 and 4–7) |
//!
//! The types below four bits and the codebook types stand in `low_bits`. Other types stay row-major as in the file; their
//! kernels dequantize rows as they go. The layout, and so the size, does not depend on the instruction set.

mod low_bits;

mod panel;

use super::lanes::LANES;
use super::memory::{AlignedBuf, AllocError, Slab};
use super::pool::{Pool, PoolError};
use crate::backends::WeightSource;
use crate::tensor::DType;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Rows of a panel.
pub const PANEL_ROWS: usize = LANES;

/// What can go wrong when packing a matrix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Rows of this type cannot have this length, or the size overflows.
    #[error("a {rows} x {k} matrix of {dtype} cannot be packed: rows must be whole blocks of {} and the size must be addressable", dtype.block_len())]
    Shape {
        /// The weights' type.
        dtype: DType,
        /// Rows.
        rows: usize,
        /// Row length.
        k: usize,
    },
    /// The source is not as long as the shape says.
    #[error("a {rows} x {k} matrix of {dtype} takes {expected} bytes, but {actual} were given")]
    Length {
        /// The weights' type.
        dtype: DType,
        /// Rows.
        rows: usize,
        /// Row length.
        k: usize,
        /// Bytes of the shape.
        expected: usize,
        /// Bytes given.
        actual: usize,
    },
    /// No memory for the packed weights.
    #[error(transparent)]
    Alloc(#[from] AllocError),
    /// A thread fell.
    #[error("packing: {0}")]
    Pool(String),
}

/// How the kernels treat a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Floats against f32 activations.
    Float,
    /// Integers against [`DType::Q8A`] activations.
    Integer,
    /// Dequantized to f32 as it is used, against f32 activations.
    Generic,
}

/// Blocks of 32 in a group of an integer type's panel, and the group's bytes.
const fn group(dtype: DType) -> Option<(usize, usize)> {
    Some(match dtype {
        DType::Q8_0 => (2, 64 + 2 * 512),
        DType::Q4_0 | DType::Iq4Nl => (2, 64 + 2 * 256),
        DType::Q5_0 => (2, 64 + 2 * 320),
        DType::Q4_1 => (1, 64 + 256),
        DType::Q5_1 => (1, 64 + 320),
        DType::Mxfp4 => (4, 64 + 4 * 256),
        DType::Q4K => (8, 64 + 256 + 8 * 256),
        DType::Q5K => (8, 64 + 256 + 8 * 320),
        DType::Iq4Xs => (8, 64 + 128 + 8 * 256),
        DType::Q6K => (8, 64 + 256 + 8 * 384),
        other => return low_bits::group(other),
    })
}

/// Quantized rows shorter than this are unpacked to f32. The rounding errors of quantized activations do not average out over a
/// short sum, and a model this narrow is small enough that exactness is worth more than memory.
const MIN_QUANTIZED_K: usize = 768;

/// The type in which rows of `k` weights of type `dtype` are packed.
pub const fn packed_type(dtype: DType, k: usize) -> DType {
    if dtype.is_quantized() && is_supported(dtype) && k < MIN_QUANTIZED_K { DType::F32 } else { dtype }
}

pub(crate) const fn class(dtype: DType) -> Class {
    match dtype {
        DType::F32 | DType::F16 | DType::Bf16 => Class::Float,
        t if group(t).is_some() => Class::Integer,
        _ => Class::Generic,
    }
}

/// How the kernels treat rows that stay in a file: as packed ones where they are packed in their own type.
pub(crate) fn class_in_place(dtype: DType, k: usize) -> Class {
    if packed_type(dtype, k) == dtype { class(dtype) } else { Class::Generic }
}

/// The type of activations that rows of `k` weights of this type are multiplied with on every level: [`DType::Q8A`] or [`DType::F32`].
pub const fn activation_type(weights: DType, k: usize) -> DType {
    match class(packed_type(weights, k)) {
        Class::Integer => DType::Q8A,
        Class::Float | Class::Generic => DType::F32,
    }
}

/// The type that a level does best with: [`activation_type`], or bf16 for weights of bf16 where it multiplies those faster.
pub const fn fast_activation_type(bf16_dots: bool, weights: DType, k: usize) -> DType {
    if bf16_dots && matches!(weights, DType::Bf16) && k >= MIN_QUANTIZED_K {
        DType::Bf16
    } else {
        activation_type(weights, k)
    }
}

/// Whether a matrix of this type is multiplied at all: plain floats and quantized types of a file, not integers.
pub const fn is_supported(weights: DType) -> bool {
    match weights {
        DType::F32 | DType::F16 | DType::Bf16 => true,
        DType::Q8A | DType::Q8K | DType::Q8_1 => false,
        t => t.is_quantized(),
    }
}

/// Bytes of a panel of 16 rows; for generic types, of 16 rows of the file. `None` if a row has a partial block.
pub(crate) fn panel_bytes(dtype: DType, k: usize) -> Option<usize> {
    if !k.is_multiple_of(dtype.block_len()) {
        return None;
    }
    match dtype {
        DType::F32 => k.checked_mul(64),
        DType::F16 | DType::Bf16 => k.div_ceil(2).checked_mul(64),
        _ => match group(dtype) {
            Some((blocks, bytes)) => (k / 32).div_ceil(blocks).checked_mul(bytes),
            None => dtype.row_bytes(k)?.checked_mul(PANEL_ROWS),
        },
    }
}

/// Bytes that [`PackedMatrix::pack`] allocates. `None` for shapes and types that cannot be packed.
pub fn packed_bytes(dtype: DType, rows: usize, k: usize) -> Option<usize> {
    if !is_supported(dtype) || !k.is_multiple_of(dtype.block_len()) {
        return None;
    }
    let dtype = packed_type(dtype, k);
    let bytes = match class(dtype) {
        Class::Generic => dtype.row_bytes(k)?.checked_mul(rows)?,
        Class::Float | Class::Integer => panel_bytes(dtype, k)?.checked_mul(rows.div_ceil(PANEL_ROWS))?,
    };
    isize::try_from(bytes).is_ok().then_some(bytes)
}

/// A matrix of `rows` rows of length `k`, packed for the kernels, or the rows of a file as they are.
pub struct PackedMatrix {
    /// The type of the rows that it was packed from.
    source: DType,
    dtype: DType,
    rows: usize,
    k: usize,
    data: Data,
}

enum Data {
    Packed(AlignedBuf),
    /// Rows of a file, packed or dequantized as they are used: the first byte, and what keeps them.
    Rows(*const u8, #[allow(dead_code)] Arc<dyn WeightSource>),
}

// SAFETY: rows of a file are only read, and kept by a source that is `Send` and `Sync`; packed data are owned.
unsafe impl Send for PackedMatrix {}
// SAFETY: as above.
unsafe impl Sync for PackedMatrix {}

/// Panels that a thread takes at a time when it packs.
const PANELS_AT_A_TIME: usize = 4;

impl PackedMatrix {
    /// Packs a row-major matrix as a file holds it.
    ///
    /// # Errors
    /// [`PackError`] if the type is not multiplied, the shape has partial blocks, `src` has another length, or memory lacks.
    pub fn pack(dtype: DType, rows: usize, k: usize, src: &[u8]) -> Result<PackedMatrix, PackError> {
        let mut packed = PackedMatrix::zeroed(dtype, rows, k)?;
        let expected =
            dtype.row_bytes(k).and_then(|r| r.checked_mul(rows)).ok_or(PackError::Shape { dtype, rows, k })?;
        if src.len() != expected {
            return Err(PackError::Length { dtype, rows, k, expected, actual: src.len() });
        }
        packed.pack_panels(0, src, None)?;
        Ok(packed)
    }

    /// A matrix of zeros, to be filled by [`pack_row`](PackedMatrix::pack_row).
    ///
    /// # Errors
    /// As [`pack`](PackedMatrix::pack).
    pub fn zeroed(dtype: DType, rows: usize, k: usize) -> Result<PackedMatrix, PackError> {
        PackedMatrix::zeroed_in(&mut Slab::default(), dtype, rows, k)
    }

    /// [`PackedMatrix::zeroed`] with memory from `slab`.
    pub(crate) fn zeroed_in(slab: &mut Slab, dtype: DType, rows: usize, k: usize) -> Result<PackedMatrix, PackError> {
        let bytes = packed_bytes(dtype, rows, k).ok_or(PackError::Shape { dtype, rows, k })?;
        Ok(PackedMatrix { source: dtype, dtype: packed_type(dtype, k), rows, k, data: Data::Packed(slab.take(bytes)?) })
    }

    /// The rows of the weight `name` of `source` as they stand there. Products with them have the bits of those with a packed
    /// matrix.
    ///
    /// # Errors
    /// As [`pack`](PackedMatrix::pack); [`PackError::Length`] with nothing given if the source has no such weight.
    pub(crate) fn in_place(
        dtype: DType,
        rows: usize,
        k: usize,
        source: Arc<dyn WeightSource>,
        name: &str,
    ) -> Result<PackedMatrix, PackError> {
        let shape = || PackError::Shape { dtype, rows, k };
        let row_bytes = dtype.row_bytes(k).filter(|_| is_supported(dtype)).ok_or_else(shape)?;
        let expected = row_bytes.checked_mul(rows).ok_or_else(shape)?;
        let bytes = source.bytes(name).unwrap_or_default();
        if bytes.len() != expected {
            return Err(PackError::Length { dtype, rows, k, expected, actual: bytes.len() });
        }
        let first = bytes.as_ptr();
        Ok(PackedMatrix { source: dtype, dtype, rows, k, data: Data::Rows(first, source) })
    }

    /// Packs rows from `16·first` on, whole panels but for the matrix's last, shared out among a pool's threads.
    ///
    /// # Errors
    /// [`PackError::Pool`].
    ///
    /// # Panics
    /// If the rows are not in the matrix.
    pub(crate) fn pack_panels(&mut self, first: usize, src: &[u8], pool: Option<&Pool>) -> Result<(), PackError> {
        let (from, to, k) = (self.source, self.dtype, self.k);
        let rows_bytes = PANEL_ROWS * self.row_bytes();
        let Data::Packed(data) = &mut self.data else { return Ok(()) };
        let generic = class(to) == Class::Generic;
        let panel = if generic { rows_bytes } else { panel_bytes(to, k).expect("checked when the matrix was made") };
        if panel == 0 || src.is_empty() {
            return Ok(());
        }
        let pack = |(panels, src): (&mut [u8], &[u8])| {
            if generic {
                panels[..src.len()].copy_from_slice(src);
            } else {
                pack_rows(from, to, k, src, panels);
            }
        };
        let panels = data.as_mut_slice()[first * panel..].chunks_mut(PANELS_AT_A_TIME * panel);
        let work = panels.zip(src.chunks(PANELS_AT_A_TIME * rows_bytes));
        match pool {
            None => work.for_each(pack),
            Some(pool) => {
                let work = Mutex::new(work);
                let next = || work.lock().unwrap_or_else(PoisonError::into_inner).next();
                let packed = pool.run(&|_| {
                    while let Some(part) = next() {
                        pack(part);
                    }
                });
                packed.map_err(|error: PoolError| PackError::Pool(error.to_string()))?;
            }
        }
        Ok(())
    }

    /// Packs one row into a matrix made by [`zeroed`](PackedMatrix::zeroed); a row may be packed once.
    ///
    /// # Errors
    /// [`PackError::Length`] if the row has another length than the matrix's rows, [`PackError::Shape`] if there is no such row.
    pub fn pack_row(&mut self, row: usize, src: &[u8]) -> Result<(), PackError> {
        let (dtype, rows, k, row_bytes) = (self.source, self.rows, self.k, self.row_bytes());
        let to = self.dtype;
        let Data::Packed(data) = &mut self.data else { return Err(PackError::Shape { dtype, rows: row, k }) };
        if row >= rows {
            return Err(PackError::Shape { dtype, rows: row, k });
        }
        if src.len() != row_bytes {
            return Err(PackError::Length { dtype, rows: 1, k, expected: row_bytes, actual: src.len() });
        }
        let data = data.as_mut_slice();
        if class(to) == Class::Generic {
            data[row * row_bytes..][..row_bytes].copy_from_slice(src);
        } else {
            let panel = panel_bytes(to, k).expect("checked when the matrix was made");
            let mut floats = vec![0.0; if to == dtype { 0 } else { k }];
            let panel = &mut data[row / PANEL_ROWS * panel..][..panel];
            pack_row(to, converted(dtype, to, src, &mut floats), row % PANEL_ROWS, panel);
        }
        Ok(())
    }

    /// The type in which the weights are packed: [`packed_type`] of the rows that it was packed from.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Rows: outputs of the product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Row length: inputs of the product.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Panels: units of work that threads may share out.
    pub fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL_ROWS)
    }

    /// The rows of these panels.
    pub fn rows_of(&self, panels: Range<usize>) -> Range<usize> {
        panels.start * PANEL_ROWS..(panels.end * PANEL_ROWS).min(self.rows)
    }

    /// Bytes allocated: [`packed_bytes`] of the shape, or none for rows of a file.
    pub fn bytes(&self) -> usize {
        match &self.data {
            Data::Packed(data) => data.len(),
            Data::Rows(..) => 0,
        }
    }

    /// How the kernels treat it.
    pub(crate) fn class(&self) -> Class {
        match self.data {
            Data::Packed(_) => class(self.dtype),
            Data::Rows(..) => class_in_place(self.dtype, self.k),
        }
    }

    /// Whether its rows stay in a file.
    pub(crate) fn is_in_place(&self) -> bool {
        matches!(self.data, Data::Rows(..))
    }

    /// Packs panels of a matrix in a file whose class is not generic into `dst`, [`panel_bytes`] each.
    ///
    /// # Panics
    /// If `panels` is beyond the matrix or `dst` has another length; never for a matrix whose shape was checked.
    pub(crate) fn pack_into(&self, panels: Range<usize>, dst: &mut [u8]) {
        let Data::Rows(first, _) = self.data else { return };
        let (rows, row_bytes) = (self.rows_of(panels), self.row_bytes());
        assert!(rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        // SAFETY: the source, which is kept, holds as many rows from `first` on as the matrix has.
        let src = unsafe { std::slice::from_raw_parts(first.add(rows.start * row_bytes), rows.len() * row_bytes) };
        // What no row fills is zero: missing rows, and blocks that a group lacks.
        if !panel::fills(self.dtype, self.k) || !rows.len().is_multiple_of(PANEL_ROWS) {
            dst.fill(0);
        }
        pack_rows(self.source, self.dtype, self.k, src, dst);
    }

    /// The type of activations that every level multiplies it with at its best precision.
    pub fn activation_type(&self) -> DType {
        if self.class() == Class::Integer { DType::Q8A } else { DType::F32 }
    }

    /// Whether it is multiplied with activations of this type: of [`activation_type`](PackedMatrix::activation_type), and bf16 by bf16.
    pub fn takes(&self, activation: DType) -> bool {
        activation == self.activation_type() || (self.dtype == DType::Bf16 && activation == DType::Bf16)
    }

    pub(crate) fn row_bytes(&self) -> usize {
        self.source.row_bytes(self.k).expect("checked when the matrix was made")
    }

    /// The first byte, as kernels address it.
    pub(crate) fn as_ptr(&self) -> *const u8 {
        match &self.data {
            Data::Packed(data) => data.as_ptr(),
            Data::Rows(first, _) => *first,
        }
    }
}

impl fmt::Debug for PackedMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedMatrix({} x {} of {}, {} bytes)", self.rows, self.k, self.dtype, self.bytes())
    }
}

/// Packs rows of `k` weights from a panel's first on into panels, which are zero where no row fills them.
fn pack_rows(from: DType, to: DType, k: usize, src: &[u8], panels: &mut [u8]) {
    let row_bytes = from.row_bytes(k).expect("checked when the matrix was made");
    let panel = panel_bytes(to, k).expect("checked when the matrix was made");
    let rows_bytes = PANEL_ROWS * row_bytes;
    let mut floats = vec![0.0; if to == from { 0 } else { k }];
    for (panel, src) in panels.chunks_exact_mut(panel).zip(src.chunks(rows_bytes)) {
        if to == from && src.len() == rows_bytes && panel::pack(to, k, src, panel) {
            continue;
        }
        for (r, row) in src.chunks_exact(row_bytes).enumerate() {
            pack_row(to, converted(from, to, row, &mut floats), r, panel);
        }
    }
}

/// A row's bytes in the type in which it is packed; `floats` holds a row if that is another.
fn converted<'a>(from: DType, to: DType, row: &'a [u8], floats: &'a mut [f32]) -> &'a [u8] {
    if from == to {
        return row;
    }
    crate::tensor::quant::dequantize_row(from, row, floats).expect("a row of whole blocks and as many floats");
    bytemuck::cast_slice(floats)
}

/// Panel ranges of nearly equal size for `threads` threads: the range of thread `tid`.
pub fn share(panels: usize, tid: usize, threads: usize) -> Range<usize> {
    let (each, more) = (panels / threads, panels % threads);
    let start = tid * each + tid.min(more);
    start..start + each + usize::from(tid < more)
}

/// Writes row `r` (0..16) of a panel that is zero where the row goes.
fn pack_row(dtype: DType, row: &[u8], r: usize, panel: &mut [u8]) {
    match dtype {
        DType::F32 => interleave::<4>(row, r, panel, 64),
        DType::F16 => interleave::<2>(row, r, panel, 32),
        DType::Bf16 => {
            interleave::<4>(row, r, panel, 64);
            if row.len() % 4 == 2 {
                let at = row.len() / 4 * 64 + r * 4;
                panel[at..at + 2].copy_from_slice(&row[row.len() - 2..]);
            }
        }
        _ => pack_blocks(dtype, row, r, panel),
    }
}

/// Elements of `N` bytes, each 16 rows beside each other.
fn interleave<const N: usize>(row: &[u8], r: usize, panel: &mut [u8], stride: usize) {
    for (e, dst) in row.chunks_exact(N).zip(panel.chunks_exact_mut(stride)) {
        dst[r * N..(r + 1) * N].copy_from_slice(e);
    }
}

fn pack_blocks(dtype: DType, row: &[u8], r: usize, panel: &mut [u8]) {
    let (sub, group_bytes) = group(dtype).expect("only integer types come here");
    let blocks_bytes = dtype.block_bytes() * (sub * 32 / dtype.block_len()).max(1);
    for (src, dst) in row.chunks(blocks_bytes).zip(panel.chunks_exact_mut(group_bytes)) {
        match dtype {
            DType::Q8_0 => each_block(src, 34, |j, b| {
                put_half(&mut dst[32 * j..], r, &b[..2]);
                let quads = &mut dst[64 + 512 * j..][..512];
                for (q, quad) in b[2..].chunks_exact(4).zip(quads.chunks_exact_mut(64)) {
                    for c in 0..4 {
                        quad[4 * r + c] = q[c] ^ 0x80;
                    }
                }
            }),
            DType::Q4_0 | DType::Iq4Nl => each_block(src, 18, |j, b| {
                put_half(&mut dst[32 * j..], r, &b[..2]);
                put_file_nibbles(&mut dst[64 + 256 * j..][..256], r, &b[2..18]);
            }),
            DType::Q5_0 => each_block(src, 22, |j, b| {
                put_half(&mut dst[32 * j..], r, &b[..2]);
                let at = &mut dst[64 + 320 * j..][..320];
                put_file_nibbles(at, r, &b[6..22]);
                put_fifth(&mut at[256..], r, u32::from_le_bytes([b[2], b[3], b[4], b[5]]));
            }),
            DType::Q4_1 => {
                put_half(dst, r, &src[..2]);
                put_half(&mut dst[32..], r, &src[2..4]);
                put_file_nibbles(&mut dst[64..], r, &src[4..20]);
            }
            DType::Q5_1 => {
                put_half(dst, r, &src[..2]);
                put_half(&mut dst[32..], r, &src[2..4]);
                put_file_nibbles(&mut dst[64..], r, &src[8..24]);
                put_fifth(&mut dst[320..], r, u32::from_le_bytes([src[4], src[5], src[6], src[7]]));
            }
            DType::Mxfp4 => each_block(src, 17, |j, b| {
                dst[16 * j + r] = b[0];
                put_file_nibbles(&mut dst[64 + 256 * j..][..256], r, &b[1..17]);
            }),
            DType::Q4K | DType::Q5K => pack_q4_k(dtype, src, r, dst),
            DType::Iq4Xs => {
                put_half(dst, r, &src[..2]);
                let high = u16::from_le_bytes([src[2], src[3]]);
                for j in 0..8 {
                    let low = (src[4 + j / 2] >> (4 * (j % 2))) & 15;
                    let scale = low | (((high >> (2 * j)) & 3) as u8) << 4;
                    dst[64 + 16 * j + r] = scale.wrapping_sub(32);
                    put_file_nibbles(&mut dst[192 + 256 * j..][..256], r, &src[8 + 16 * j..][..16]);
                }
            }
            DType::Q6K => pack_q6_k(src, r, dst),
            _ => low_bits::pack(dtype, src, r, dst),
        }
    }
}

fn each_block(src: &[u8], bytes: usize, mut f: impl FnMut(usize, &[u8])) {
    for (j, b) in src.chunks_exact(bytes).enumerate() {
        f(j, b);
    }
}

/// Row `r` of 16 halves.
fn put_half(dst: &mut [u8], r: usize, half: &[u8]) {
    dst[2 * r..2 * r + 2].copy_from_slice(half);
}

/// Sixteen bytes in the order of ggml's 32-blocks: elements 0–15 in the low halves, 16–31 in the high halves.
fn put_file_nibbles(dst: &mut [u8], r: usize, bytes: &[u8]) {
    for (b, v) in bytes.chunks_exact(4).zip(dst.chunks_exact_mut(64)) {
        v[4 * r..4 * r + 4].copy_from_slice(b);
    }
}

/// 32 weights, the low four bits of each.
fn put_nibbles(dst: &mut [u8], r: usize, q: &[u8; 32]) {
    for v in 0..4 {
        for c in 0..4 {
            dst[64 * v + 4 * r + c] = (q[4 * v + c] & 15) | (q[16 + 4 * v + c] & 15) << 4;
        }
    }
}

/// Bit `i` of `bits` is the fifth bit of weight `i`.
fn put_fifth(dst: &mut [u8], r: usize, bits: u32) {
    for c in 0..4 {
        dst[4 * r + c] = (0..8).fold(0, |byte, quad| byte | (((bits >> (4 * quad + c)) & 1) as u8) << quad);
    }
}

/// d, dmin: f16 | 12 bytes of 6-bit scales and minimums | (q5_K: 32 bytes of fifth bits) | 128 bytes of nibbles, 64 weights
/// to 32 bytes.
fn pack_q4_k(dtype: DType, src: &[u8], r: usize, dst: &mut [u8]) {
    let (fifth, qs) = if dtype == DType::Q5K { (Some(&src[16..48]), &src[48..176]) } else { (None, &src[16..144]) };
    put_half(dst, r, &src[..2]);
    put_half(&mut dst[32..], r, &[src[2], src[3] ^ 0x80]);
    let s = &src[4..16];
    let stride = if fifth.is_some() { 320 } else { 256 };
    for j in 0..8 {
        let (scale, min) = match j {
            0..4 => (s[j] & 63, s[j + 4] & 63),
            _ => ((s[j + 4] & 15) | (s[j - 4] >> 6) << 4, (s[j + 4] >> 4) | (s[j] >> 6) << 4),
        };
        dst[64 + 32 * j + r] = scale;
        dst[64 + 32 * j + 16 + r] = min;
        let mut q = [0; 32];
        for (q, b) in q.iter_mut().zip(&qs[32 * (j / 2)..][..32]) {
            *q = (b >> (4 * (j % 2))) & 15;
        }
        let at = &mut dst[320 + stride * j..][..stride];
        put_nibbles(at, r, &q);
        if let Some(fifth) = fifth {
            let bits = fifth.iter().enumerate().fold(0, |bits, (i, b)| bits | u32::from((b >> j) & 1) << i);
            put_fifth(&mut at[256..], r, bits);
        }
    }
}

/// 128 bytes of low nibbles | 64 bytes of upper bit pairs | 16 signed scales | d: f16; two halves of 128 weights each.
fn pack_q6_k(src: &[u8], r: usize, dst: &mut [u8]) {
    put_half(dst, r, &src[208..210]);
    for (j, &scale) in src[192..208].iter().enumerate() {
        dst[64 + 16 * j + r] = scale;
    }
    for j in 0..8 {
        let (half, part) = (j / 4, j % 4);
        let low = &src[64 * half + 32 * (part % 2)..][..32];
        let high = &src[128 + 32 * half..][..32];
        let mut q = [0; 32];
        for i in 0..32 {
            q[i] = (low[i] >> (4 * (part / 2))) & 15;
        }
        let at = &mut dst[320 + 384 * j..][..384];
        put_nibbles(at, r, &q);
        for quad in 0..8 {
            for c in 0..4 {
                let bits = (high[4 * quad + c] >> (2 * part)) & 3;
                at[256 + 64 * (quad / 4) + 4 * r + c] |= bits << (2 * (quad % 4));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(matrix: &PackedMatrix) -> &[u8] {
        match &matrix.data {
            Data::Packed(data) => data.as_slice(),
            Data::Rows(..) => &[],
        }
    }

    #[test]
    fn what_is_predicted_is_allocated() {
        for &dtype in DType::ALL {
            for (rows, k) in [(1, 256), (16, 512), (33, 768), (5, 2816), (0, 256), (7, 0)] {
                let predicted = packed_bytes(dtype, rows, k);
                assert_eq!(predicted.is_some(), is_supported(dtype), "{dtype}");
                let Some(bytes) = predicted else { continue };
                let src = vec![0x5au8; dtype.row_bytes(k).unwrap() * rows];
                let packed = PackedMatrix::pack(dtype, rows, k, &src).unwrap();
                assert_eq!(packed.bytes(), bytes, "{dtype} {rows} x {k}");
            }
        }
    }

    #[test]
    fn packing_costs_little_memory() {
        for t in [DType::Q8_0, DType::Q4_0, DType::Q5_0, DType::Q4K, DType::Q5K, DType::Q6K, DType::Iq4Xs, DType::Mxfp4]
        {
            let (file, packed) = (t.row_bytes(2048).unwrap() * 512, packed_bytes(t, 512, 2048).unwrap());
            assert!(packed <= file * 31 / 30, "{t}: {file} -> {packed}");
        }
    }

    #[test]
    fn bad_shapes_and_lengths_are_errors() {
        assert_eq!(packed_bytes(DType::Q4_0, 4, 33), None);
        assert_eq!(packed_bytes(DType::F32, usize::MAX, 64), None);
        assert_eq!(packed_bytes(DType::I32, 4, 32), None);
        let e = PackedMatrix::pack(DType::Q4_0, 2, 64, &[0; 71]).unwrap_err();
        assert!(e.to_string().contains("72") && e.to_string().contains("71"), "{e}");
        assert!(matches!(PackedMatrix::pack(DType::I8, 2, 64, &[0; 128]), Err(PackError::Shape { .. })));
        let mut m = PackedMatrix::zeroed(DType::Q8_0, 3, 32).unwrap();
        assert!(m.pack_row(3, &[0; 34]).is_err());
        assert!(m.pack_row(2, &[0; 33]).is_err());
    }

    #[test]
    fn rows_packed_singly_make_the_same_matrix() {
        let pool = Pool::new(3).unwrap();
        // 800 is an odd number of blocks of 32, 33 no block at all; 163 rows are more than a thread takes at a time.
        let shapes = [(19, 768), (35, 800), (32, 33), (163, 1024)];
        for (&dtype, (rows, k)) in DType::ALL.iter().flat_map(|t| shapes.map(|shape| (t, shape))) {
            if packed_bytes(dtype, rows, k).is_none() {
                continue;
            }
            let row = dtype.row_bytes(k).unwrap();
            let src: Vec<u8> = (0..row * rows).map(|i| (i * 31 + i / 7) as u8).collect();
            let whole = PackedMatrix::pack(dtype, rows, k, &src).unwrap();
            let mut singly = PackedMatrix::zeroed(dtype, rows, k).unwrap();
            for r in (0..rows).rev() {
                singly.pack_row(r, &src[r * row..][..row]).unwrap();
            }
            assert!(bytes(&whole) == bytes(&singly), "{dtype} {rows} x {k}");
            let mut parts = PackedMatrix::zeroed(dtype, rows, k).unwrap();
            parts.pack_panels(1, &src[16 * row..], Some(&pool)).unwrap();
            parts.pack_panels(0, &src[..16 * row], Some(&pool)).unwrap();
            assert!(bytes(&parts) == bytes(&singly), "{dtype} {rows} x {k}");
        }
    }

    #[test]
    fn shares_cover_all_panels_once() {
        for (panels, threads) in [(0, 1), (1, 3), (7, 3), (64, 5)] {
            let all: Vec<usize> = (0..threads).flat_map(|t| share(panels, t, threads)).collect();
            assert_eq!(all, (0..panels).collect::<Vec<_>>());
        }
    }
}
