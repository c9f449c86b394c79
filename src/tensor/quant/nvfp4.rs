//! `nvfp4`: NVIDIA's FP4, E2M1 values with a UE4M3 scale per 16, four groups a block. `x = d · v`.
//!
//! The second scale that NVFP4 has per tensor is a tensor of its own in the file.
//!
//! ```text
//! byte  0      4                        36
//!       | d: 4 | qs: 32                 |
//!
//! d[g]           scale of values 16·g .. 16·g + 16
//! qs[8·g + j]    bits 7..4               bits 3..0           g < 4, j < 8
//!                code of 16·g + 8 + j    code of 16·g + j
//! ```

use bytemuck::{Pod, Zeroable};

use super::fit::extreme;
use super::minifloat::{FP4_VALUES, f32_to_ue4m3, nearest_fp4, ue4m3_half_to_f32};
use super::{Block, Quantize};

/// 64 values of `nvfp4`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BlockNvfp4 {
    /// Scale of each group.
    pub d: [u8; 4],
    /// Two 4-bit codes a byte.
    pub qs: [u8; 32],
}

assert_layout!(BlockNvfp4, Nvfp4, 64);

impl Block<64> for BlockNvfp4 {
    fn dequantize(&self, y: &mut [f32; 64]) {
        let groups = y.as_chunks_mut::<16>().0.iter_mut().zip(self.qs.as_chunks::<8>().0).zip(self.d);
        for ((y, qs), d) in groups {
            let d = ue4m3_half_to_f32(d);
            for (j, q) in qs.iter().enumerate() {
                y[j] = f32::from(FP4_VALUES[usize::from(q & 15)]) * d;
                y[j + 8] = f32::from(FP4_VALUES[usize::from(q >> 4)]) * d;
            }
        }
    }
}

/// The scale takes each group's largest magnitude to 6, the largest E2M1 value.
impl Quantize<64> for BlockNvfp4 {
    fn quantize(x: &[f32; 64]) -> Self {
        let mut block = BlockNvfp4::zeroed();
        let groups = x.as_chunks::<16>().0.iter().zip(block.qs.as_chunks_mut::<8>().0).zip(&mut block.d);
        for ((x, qs), scale) in groups {
            *scale = f32_to_ue4m3(extreme(x).abs() / 6.0);
            let d = ue4m3_half_to_f32(*scale);
            *qs = std::array::from_fn(|j| nearest_fp4(x[j], d) | nearest_fp4(x[j + 8], d) << 4);
        }
        block
    }
}
