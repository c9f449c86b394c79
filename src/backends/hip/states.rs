//! [`HipStates`]: the KV caches of a session, in device memory; and [`CachePlanes`], how a cache of blocks lies there.

use super::ffi::{Buffer, GpuError, Stream};
use super::view::{DevicePtr, DeviceView, Form, View};
use super::{Turn, device_error, run_error};
use crate::backends::{BackendError, States};
use crate::graph::plan::Plan;
use crate::ops::TensorType;
use crate::tensor::DType;
use std::any::Any;
use std::sync::Arc;

/// Elements and bytes of a block of q8_0, and the bytes of its scale.
const LEN: usize = 32;
const BYTES: usize = 34;
const SCALE: usize = 2;

/// The KV caches of a session, in device memory.
pub(crate) struct HipStates {
    states: Vec<(String, TensorType, Buffer)>,
    stream: Arc<Stream>,
    turn: Turn,
}

impl HipStates {
    /// States for a plan, whose elements are zero.
    pub fn new(stream: &Arc<Stream>, turn: &Turn, plan: &Plan) -> Result<HipStates, BackendError> {
        let _turn = turn.take();
        let mut states = Vec::with_capacity(plan.states.len());
        for slot in &plan.states {
            let purpose = format!("KV cache \"{}\"", slot.name);
            let failed = |e| device_error(&purpose, slot.bytes, e);
            let buffer = zeroed(stream, slot.bytes).map_err(failed)?;
            if let Some(planes) = CachePlanes::of(&slot.ty, slot.bytes) {
                stream.memset(&buffer, 0..planes.codes(), 128).map_err(failed)?;
            }
            states.push((slot.name.clone(), slot.ty.clone(), buffer));
        }
        Ok(HipStates { states, stream: Arc::clone(stream), turn: turn.clone() })
    }

    /// Their addresses, if they are those of a plan with states of these names, types and bytes.
    pub fn addresses(&self, of: &[(String, TensorType, usize)]) -> Option<Vec<DevicePtr>> {
        let same = self.states.len() == of.len()
            && self.states.iter().zip(of).all(|(a, b)| a.0 == b.0 && a.1 == b.1 && a.2.len() == b.2);
        same.then(|| self.states.iter().map(|s| s.2.ptr()).collect())
    }
}

impl States for HipStates {
    fn bytes(&self) -> usize {
        self.states.iter().map(|s| s.2.len()).sum()
    }

    fn write(&mut self, index: usize, values: &[u8]) -> Result<(), BackendError> {
        let (name, ty, buffer) =
            self.states.get(index).filter(|s| values.len() <= s.2.len()).ok_or(BackendError::Foreign("states"))?;
        let _turn = self.turn.take();
        let failed = |e| run_error(name, e);
        let Some(planes) = CachePlanes::of(ty, buffer.len()) else {
            return self.stream.upload_now(buffer, 0, values).map_err(failed);
        };
        let Some((codes, scales)) = planes.split(values) else {
            let reason = format!("{} bytes are not whole rows of {}", values.len(), planes.row);
            return Err(BackendError::Input { name: name.clone(), reason });
        };
        self.stream.upload_now(buffer, 0, &codes).map_err(failed)?;
        self.stream.upload_now(buffer, planes.codes(), &scales).map_err(failed)
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// Device memory of zeros.
pub(crate) fn zeroed(stream: &Stream, bytes: usize) -> Result<Buffer, GpuError> {
    let buffer = Buffer::new(stream.device(), bytes)?;
    stream.memset(&buffer, 0..bytes, 0)?;
    Ok(buffer)
}

/// A cache of q8_0 in device memory: the codes of all its rows, then the scales of all blocks, in the order of the blocks of a file. A code is
/// q + 128; in a row the blocks' words of four codes take turns (`kernels/common/cache.h`). It takes as many bytes as its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CachePlanes {
    /// Elements of a row.
    row: usize,
    /// Blocks of all rows.
    blocks: usize,
}

impl CachePlanes {
    /// That of a state of this type and size, if it is one of q8_0.
    pub fn of(ty: &TensorType, bytes: usize) -> Option<CachePlanes> {
        let row = ty.shape.row().fixed().filter(|row| *row > 0 && row.is_multiple_of(LEN))?;
        (ty.dtype == DType::Q8_0).then_some(CachePlanes { row, blocks: bytes / BYTES })
    }

    /// Bytes of all codes: where the scales begin.
    fn codes(&self) -> usize {
        self.blocks * LEN
    }

    /// What a view of blocks, `offset` bytes into the state, is of the codes.
    pub fn view(&self, of: DeviceView, offset: usize) -> DeviceView {
        let row = (self.row / LEN * BYTES) as i64;
        let View { ptr, ne, nb } = of.view;
        let whole = of.ne(0) == self.row && nb[0] == BYTES as i64 && nb[1..].iter().all(|n| n % row == 0);
        if !whole || offset as i64 % row != 0 {
            return DeviceView { form: Form::PartsOfRows, ..of };
        }
        let (state, block) = (ptr - offset as u64, offset / BYTES);
        let codes = View { ptr: state + (block * LEN) as u64, ne, nb: nb.map(|n| n / BYTES as i64 * LEN as i64) };
        let scales = state + (self.codes() + block * SCALE) as u64;
        DeviceView { view: codes, form: Form::Planes { scales }, ..of }
    }

    /// The codes and the scales of whole rows of blocks.
    fn split(&self, rows: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let blocks = self.row / LEN;
        if !rows.len().is_multiple_of(blocks * BYTES) {
            return None;
        }
        let count = rows.len() / BYTES;
        let (mut codes, mut scales) = (Vec::with_capacity(count * LEN), Vec::with_capacity(count * SCALE));
        for row in rows.chunks_exact(blocks * BYTES) {
            for word in 0..LEN / 4 {
                for block in row.chunks_exact(BYTES) {
                    codes.extend(block[SCALE + 4 * word..][..4].iter().map(|q| q ^ 0x80));
                }
            }
            scales.extend(row.chunks_exact(BYTES).flat_map(|block| &block[..SCALE]));
        }
        Some((codes, scales))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Shape;

    fn planes() -> CachePlanes {
        let ty = TensorType::new(DType::Q8_0, Shape::new(&[64, 10, 2]));
        CachePlanes::of(&ty, 64 * 20 / 32 * 34).unwrap()
    }

    #[test]
    fn words_of_the_blocks_of_a_row_take_turns_and_scales_follow() {
        // Two rows of two blocks: scales 0x0100, 0x0302, …, elements −128, −127, … of both blocks of a row.
        let mut rows = Vec::new();
        for block in 0..4u8 {
            rows.extend([2 * block, 2 * block + 1]);
            rows.extend((0..32).map(|i| (32 * (block % 2) + i) ^ 0x80));
        }
        let (codes, scales) = planes().split(&rows).unwrap();
        assert_eq!(scales, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(codes[..16], [0, 1, 2, 3, 32, 33, 34, 35, 4, 5, 6, 7, 36, 37, 38, 39]);
        assert_eq!(codes[..64], codes[64..]);
        assert!(planes().split(&rows[..34]).is_none() && planes().split(&rows[..69]).is_none());
        assert_eq!(planes().split(&[]), Some((Vec::new(), Vec::new())));
    }

    #[test]
    fn views_of_whole_rows_become_views_of_codes() {
        let base = 1 << 20;
        let of = |ne: [i32; 4], nb: [i64; 4], offset: u64| {
            let view = View { ptr: base + offset, ne, nb };
            planes().view(DeviceView { view, dtype: DType::Q8_0, form: Form::Whole }, offset as usize)
        };
        // From position 3 of head 1 on.
        let rows = of([64, 4, 1, 1], [34, 68, 680, 1360], 13 * 68);
        assert_eq!((rows.view.ptr, rows.view.nb), (base + 13 * 64, [32, 64, 640, 1280]));
        assert_eq!(rows.form, Form::Planes { scales: base + 20 * 64 + 13 * 4 });
        // Heads before positions.
        assert_eq!(of([64, 2, 10, 1], [34, 680, 68, 1360], 0).view.nb, [32, 640, 64, 1280]);
        for (ne, nb, offset) in [
            ([32, 10, 2, 1], [34, 68, 680, 1360], 0),
            ([64, 10, 2, 1], [34, 68, 680, 1360], 34),
            ([128, 10, 1, 1], [34, 136, 1360, 1360], 0),
            ([2, 64, 1, 1], [68, 34, 680, 1360], 0),
        ] {
            assert_eq!(of(ne, nb, offset).form, Form::PartsOfRows, "{ne:?} {nb:?} {offset}");
        }
    }

    #[test]
    fn other_types_have_no_planes() {
        let f16 = TensorType::new(DType::F16, Shape::new(&[64, 10, 2]));
        assert_eq!(CachePlanes::of(&f16, 2560), None);
    }
}
