//! `rope`: a pair of elements a thread.

use super::{StepArgs, ids, rows_of_f32};
use crate::backends::hip::launch::{Kernel, Launches};
use crate::backends::hip::view::{DevicePtr, DeviceView};
use crate::ops::{Rope, RopeMode, rope_angles};
use bytemuck::{Pod, Zeroable};

/// `ROPE_MOST_PAIRS`.
const MOST_PAIRS: usize = 128;

/// `RopeTable` of `kernels/common/rope.h`: turns per position, as the sum of two floats.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct RopeTable {
    hi: [f32; MOST_PAIRS],
    lo: [f32; MOST_PAIRS],
}

/// What the kernels need of a rotation.
pub(super) struct Rotation {
    pub table: RopeTable,
    /// Of cos and sin.
    pub scale: f32,
    pub n_dims: i32,
    pub neox: i32,
}

impl Rotation {
    /// The rotation without factors: the angle is linear in 1 / factor, which the kernels divide by.
    pub fn of(rope: &Rope) -> Result<Rotation, String> {
        if rope.n_dims / 2 > MOST_PAIRS {
            return Err(format!("it rotates up to {} elements of a head, not {}", 2 * MOST_PAIRS, rope.n_dims));
        }
        let (angles, scale) = rope_angles(rope, &[]);
        let mut table = RopeTable { hi: [0.0; MOST_PAIRS], lo: [0.0; MOST_PAIRS] };
        for (i, angle) in angles.iter().enumerate() {
            let turns = angle / std::f64::consts::TAU;
            table.hi[i] = turns as f32;
            table.lo[i] = (turns - f64::from(table.hi[i])) as f32;
        }
        Ok(Rotation { table, scale, n_dims: rope.n_dims as i32, neox: i32::from(rope.mode == RopeMode::Neox) })
    }
}

/// The address of the factors; 0 without.
pub(super) fn factors(view: Option<&DeviceView>) -> Result<DevicePtr, String> {
    let Some(view) = view else { return Ok(0) };
    rows_of_f32(&[*view])?;
    Ok(view.view.ptr)
}

pub(super) fn launches(op: &Rope, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let (x, result) = (s.operands[0], s.results[0]);
    rows_of_f32(&[x, result])?;
    let (positions, factors, rotation) = (ids(&s.operands[1])?, factors(s.operands.get(2))?, Rotation::of(op)?);
    let (pairs, tokens) = (x.ne(0).div_ceil(2) * x.ne(1), x.ne(2));
    if pairs * tokens > 0 {
        let grid = [tokens, pairs.div_ceil(256), 1];
        let launch = out.add(Kernel { file: "rope", name: "rope_f32" }, grid, 256);
        launch.arg(x.view).arg(result.view).arg(positions).arg(factors).arg(rotation.table).arg(rotation.scale);
        launch.arg(rotation.n_dims).arg(rotation.neox);
    }
    Ok(())
}

const _: () = assert!(size_of::<RopeTable>() == 1024, "as in rope.h");

#[cfg(test)]
mod tests {
    use super::super::testing::{dense, step};
    use super::*;
    use crate::tensor::DType;

    fn rope() -> Rope {
        Rope::new(RopeMode::Norm, 16)
    }

    #[test]
    fn turns_keep_the_angle_of_a_million_positions() {
        let rope = Rope { n_dims: 128, freq_base: 500000.0, ..rope() };
        let rotation = Rotation::of(&rope).unwrap();
        for (i, angle) in rope_angles(&rope, &[]).0.iter().enumerate() {
            let turns = f64::from(rotation.table.hi[i]) + f64::from(rotation.table.lo[i]);
            assert!((turns * std::f64::consts::TAU - angle).abs() * 1e6 < 1e-7, "pair {i}");
        }
    }

    #[test]
    fn a_token_is_rotated_by_pairs_and_long_heads_are_refused() {
        let (x, positions) = (dense(DType::F32, [128, 32, 5, 1]), dense(DType::I32, [5, 1, 1, 1]));
        let op = Rope { n_dims: 128, ..rope() };
        let out = step(&[x, positions], &[x], |s, out| launches(&op, s, out)).unwrap();
        assert_eq!(out.list[0].grid, [5, 8, 1]);
        assert!(Rotation::of(&Rope { n_dims: 512, ..rope() }).is_err());
    }
}
