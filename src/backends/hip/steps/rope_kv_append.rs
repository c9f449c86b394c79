//! `rope_kv_append`: a pair of elements of Q, K or V a thread; for caches of blocks an element of K or V.

use super::kv_append::{cache, cache_type, scales_of};
use super::rope::{Rotation, factors};
use super::{StepArgs, ids, rows_of_f32};
use crate::backends::hip::launch::{Kernel, Launches};
use crate::ops::RopeKvAppend;
use crate::tensor::DType;

pub(super) fn launches(op: &RopeKvAppend, s: &StepArgs<'_>, out: &mut Launches) -> Result<(), String> {
    let (q, k, v, result) = (s.operands[0], s.operands[1], s.operands[2], s.results[0]);
    let (k_state, v_state) = (s.operands[3], s.operands[4]);
    rows_of_f32(&[q, k, v, result])?;
    let (positions, slots) = (ids(&s.operands[5])?, ids(&s.operands[6])?);
    let (factors, rotation) = (factors(s.operands.get(7))?, Rotation::of(&op.rope)?);
    if q.ne(0) != k.ne(0) {
        return Err(format!("heads of Q have {} elements, those of K {}", q.ne(0), k.ne(0)));
    }
    let (k_type, v_type) = (cache_type(&k_state)?, cache_type(&v_state)?);
    let blocks = [k_state, v_state].map(|state| state.dtype == DType::Q8_0);
    if blocks[0] != blocks[1] {
        return Err(format!("caches of {} and {}: of q8_0 are both or none", k_state.dtype, v_state.dtype));
    }
    let of_q = q.ne(0).div_ceil(2) * q.ne(1);
    let (name, threads) = if blocks[0] {
        ("rope_kv_append_blocks", of_q.next_multiple_of(32) + k.ne(0) * k.ne(1) + v.ne(0) * v.ne(1))
    } else {
        ("rope_kv_append", of_q + k.ne(0).div_ceil(2) * k.ne(1) + v.ne(0).div_ceil(2) * v.ne(1))
    };
    let grid = [q.ne(2), threads.div_ceil(256), 1];
    if q.ne(2) * threads == 0 {
        return Ok(());
    }
    let launch = out.add(Kernel { file: "rope_kv_append", name }, grid, 256);
    launch.arg(q.view).arg(k.view).arg(v.view).arg(result.view).arg(cache(&k_state)?).arg(cache(&v_state)?);
    if blocks[0] {
        launch.arg(scales_of(&k_state)).arg(scales_of(&v_state));
    }
    launch.arg(positions).arg(slots).arg(factors).arg(rotation.table).arg(rotation.scale);
    launch.arg(rotation.n_dims).arg(rotation.neox);
    if !blocks[0] {
        launch.arg(k_type).arg(v_type);
    }
    launch.arg(s.fault).arg(s.index);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{dense, planes, step, strided};
    use super::*;
    use crate::ops::{Case, Op, OpDef};

    /// The launches for caches of these types, with so many positions filled.
    fn of_caches(types: [DType; 2], filled: usize) -> Result<Launches, String> {
        let Some(Case { op: Op::RopeKvAppend(op), .. }) = RopeKvAppend::cases().into_iter().next() else {
            unreachable!()
        };
        let states = types.map(|dtype| {
            if dtype == DType::Q8_0 {
                return planes(64, filled, 512, 8);
            }
            let row = dtype.row_bytes(64).unwrap() as i64;
            strided(dtype, [64, filled, 8, 1], [dtype.block_bytes() as i64, row, row * 512, row * 512 * 8])
        });
        let (q, k) = (dense(DType::F32, [64, 32, 1, 1]), dense(DType::F32, [64, 8, 1, 1]));
        let ids = dense(DType::I32, [1, 1, 1, 1]);
        let results = [q, states[0], states[1]];
        step(&[q, k, k, states[0], states[1], ids, ids], &results, |s, out| launches(&op, s, out))
    }

    #[test]
    fn a_launch_does_not_depend_on_how_full_the_cache_is() {
        for dtype in [DType::F16, DType::Q8_0] {
            assert_eq!(of_caches([dtype; 2], 3), of_caches([dtype; 2], 400));
        }
        assert_eq!(of_caches([DType::F16; 2], 3).unwrap().list[0].grid, [1, 6, 1]);
    }

    #[test]
    fn caches_of_blocks_take_a_thread_an_element() {
        let launches = of_caches([DType::Q8_0; 2], 3).unwrap();
        let only = &launches.list[0];
        assert_eq!((only.kernel.name, only.grid), ("rope_kv_append_blocks", [1, 8, 1]));
        let mixed = of_caches([DType::Q8_0, DType::F16], 3);
        assert!(mixed.unwrap_err().contains("q8_0 and f16"));
    }
}
