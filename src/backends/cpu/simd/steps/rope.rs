//! `rope`: cos and sin once a token, then every head.

use super::{Extra, View, Worker};
use crate::backends::cpu::simd::vector::{self, RopePairs};
use crate::ops::{Rope, RopeMode};

/// # Safety
/// The module's contract.
pub(super) unsafe fn run(op: &Rope, extra: &Extra, x: &[View], out: &View, worker: &mut Worker<'_>) {
    let Extra::Angles(angles, scale) = extra else { return };
    // SAFETY: positions are an input vector, factors a weight or a vector written by an earlier step.
    let (positions, factors) = unsafe { (x[1].i32s(), x.get(2).map(|f| f.f32_row(0))) };
    let half = op.n_dims / 2;
    let (tokens, heads) = if out.ne[2] >= worker.threads {
        (worker.share(out.ne[2]), 0..out.ne[1])
    } else {
        (0..out.ne[2], worker.share(out.ne[1]))
    };
    let Ok(table) = bytemuck::try_cast_slice_mut::<u8, f32>(&mut worker.scratch[..half * 8]) else { return };
    let (cos, sin) = table.split_at_mut(half);
    for t in tokens {
        fill_table(positions[t], angles, factors, *scale, cos, sin);
        for head in heads.clone() {
            let (from, to) = (x[0].at(0, head, t, 0) as *const f32, out.at(0, head, t, 0) as *mut f32);
            let pairs = match op.mode {
                RopeMode::Norm => RopePairs::Interleaved,
                RopeMode::Neox => RopePairs::Halves,
            };
            // SAFETY: heads of ne[0] elements; in place they are the same.
            unsafe { vector::rope(worker.level, pairs, from, cos.as_ptr(), sin.as_ptr(), half, to, out.ne[0]) }
        }
    }
}

/// cos and sin of a position. The angle is linear in 1 / factor.
pub(super) fn fill_table(
    position: i32,
    angles: &[f64],
    factors: Option<&[f32]>,
    scale: f32,
    cos: &mut [f32],
    sin: &mut [f32],
) {
    for (i, &angle) in angles.iter().enumerate() {
        let (s, c) = (position as f64 * angle / factors.map_or(1.0, |f| f[i] as f64)).sin_cos();
        cos[i] = c as f32 * scale;
        sin[i] = s as f32 * scale;
    }
}
