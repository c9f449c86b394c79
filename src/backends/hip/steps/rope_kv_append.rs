//! `rope_kv_append`: a pair of elements of Q, K or V a thread.

use super::kv_append::{cache, cache_type};
use super::rope::{Rotation, factors};
use super::{StepArgs, ids, rows_of_f32};
use crate::backends::hip::launch::{Kernel, Launches};
use crate::ops::RopeKvAppend;

pub(super) fn launches(op: &RopeKvAppend, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let (q, k, v, result) = (s.operands[0], s.operands[1], s.operands[2], s.results[0]);
    let (k_state, v_state) = (s.operands[3], s.operands[4]);
    rows_of_f32(&[q, k, v, result])?;
    let (positions, slots) = (ids(&s.operands[5])?, ids(&s.operands[6])?);
    let (factors, rotation) = (factors(s.operands.get(7))?, Rotation::of(&op.rope)?);
    if q.ne(0) != k.ne(0) {
        return Err(format!("heads of Q have {} elements, those of K {}", q.ne(0), k.ne(0)));
    }
    let pairs = q.ne(0).div_ceil(2) * (q.ne(1) + k.ne(1)) + v.ne(0).div_ceil(2) * v.ne(1);
    let grid = [q.ne(2), pairs.div_ceil(256), 1];
    if q.ne(2) * pairs == 0 {
        return Ok(());
    }
    let launch = out.add(Kernel { file: "rope_kv_append", name: "rope_kv_append" }, grid, 256);
    launch.arg(q.view).arg(k.view).arg(v.view).arg(result.view).arg(cache(&k_state)?).arg(cache(&v_state)?);
    launch.arg(positions).arg(slots).arg(factors).arg(rotation.table).arg(rotation.scale);
    launch.arg(rotation.n_dims).arg(rotation.neox).arg(cache_type(&k_state)?).arg(cache_type(&v_state)?);
    launch.arg(s.fault).arg(s.index);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{dense, step, strided};
    use super::*;
    use crate::ops::{Case, Op, OpDef};
    use crate::tensor::DType;

    #[test]
    fn a_launch_does_not_depend_on_how_full_the_cache_is() {
        let Some(Case { op: Op::RopeKvAppend(op), .. }) = RopeKvAppend::cases().into_iter().next() else {
            unreachable!()
        };
        let launches = |filled| {
            let state = strided(DType::F16, [64, filled, 8, 1], [2, 128, 128 * 512, 128 * 512 * 8]);
            let (q, k) = (dense(DType::F32, [64, 32, 1, 1]), dense(DType::F32, [64, 8, 1, 1]));
            let ids = dense(DType::I32, [1, 1, 1, 1]);
            step(&[q, k, k, state, state, ids, ids], &[q, state, state], |s, out| launches(&op, s, out)).unwrap()
        };
        assert_eq!(launches(3), launches(400));
        assert_eq!(launches(3).list[0].grid, [1, 6, 1]);
    }
}
