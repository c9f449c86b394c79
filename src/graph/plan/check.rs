//! An independent checker of plans. It shares no helper with the planner and recomputes what lives from the steps alone.

use super::{Place, Plan};
use std::collections::BTreeMap;

/// A fault in a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// Two buffers share bytes while both are needed.
    #[error("at step {step} buffers b{a} and b{b} overlap")]
    Overlap {
        /// The step.
        step: usize,
        /// A buffer.
        a: u32,
        /// Another buffer.
        b: u32,
    },
    /// A buffer reaches beyond the arena.
    #[error("buffer b{buffer} ends at {end}, beyond the arena of {arena} bytes")]
    OutsideArena {
        /// The buffer.
        buffer: u32,
        /// Its end.
        end: usize,
        /// The arena's size.
        arena: usize,
    },
    /// A step reads a buffer that nothing has written.
    #[error("step {step} reads buffer b{buffer} before anything writes it")]
    ReadBeforeWrite {
        /// The step.
        step: usize,
        /// The buffer.
        buffer: u32,
    },
    /// A buffer is not aligned.
    #[error("buffer b{buffer} is at {offset}, not a multiple of {alignment}")]
    Misaligned {
        /// The buffer.
        buffer: u32,
        /// Its offset.
        offset: usize,
        /// The alignment.
        alignment: usize,
    },
    /// A value is larger than its buffer.
    #[error("step {step} uses {needed} bytes of buffer b{buffer}, which has {has}")]
    TooSmall {
        /// The step.
        step: usize,
        /// The buffer.
        buffer: u32,
        /// Bytes used.
        needed: usize,
        /// Bytes there are.
        has: usize,
    },
}

/// Checks that every buffer is inside the arena, aligned and large enough, written before it is read, and that no two buffers overlap
/// while the contents of both are still needed.
pub fn check(plan: &Plan) -> Result<(), CheckError> {
    for (i, b) in plan.buffers.iter().enumerate() {
        let end = b.offset.saturating_add(b.bytes);
        if end > plan.arena.bytes {
            return Err(CheckError::OutsideArena { buffer: i as u32, end, arena: plan.arena.bytes });
        }
        if b.offset % plan.arena.alignment != 0 {
            return Err(CheckError::Misaligned { buffer: i as u32, offset: b.offset, alignment: plan.arena.alignment });
        }
    }
    // For each buffer the steps at which its contents come into being and are used for the last time.
    let mut written: BTreeMap<u32, usize> = BTreeMap::new();
    let mut used: BTreeMap<u32, usize> = BTreeMap::new();
    for port in &plan.inputs {
        if let Place::Arena(b) = port.operand.place {
            written.insert(b.0, 0);
            used.insert(b.0, 0);
        }
    }
    for (s, step) in plan.steps.iter().enumerate() {
        for operand in &step.operands {
            let Place::Arena(b) = operand.place else { continue };
            if !written.contains_key(&b.0) {
                return Err(CheckError::ReadBeforeWrite { step: s, buffer: b.0 });
            }
            used.insert(b.0, s);
            check_size(plan, s, operand, b.0)?;
        }
        for result in &step.results {
            let Place::Arena(b) = result.place else { continue };
            written.entry(b.0).or_insert(s);
            used.insert(b.0, s);
            check_size(plan, s, result, b.0)?;
        }
    }
    for port in &plan.outputs {
        if let Place::Arena(b) = port.operand.place {
            used.insert(b.0, plan.steps.len());
        }
    }
    let lives: Vec<(u32, usize, usize)> = written.iter().map(|(&b, &from)| (b, from, used[&b])).collect();
    for (i, &(a, a_from, a_to)) in lives.iter().enumerate() {
        for &(b, b_from, b_to) in &lives[i + 1..] {
            let (x, y) = (&plan.buffers[a as usize], &plan.buffers[b as usize]);
            let same_time = a_from <= b_to && b_from <= a_to;
            let same_place = x.offset < y.offset + y.bytes && y.offset < x.offset + x.bytes;
            if same_time && same_place {
                return Err(CheckError::Overlap { step: a_from.max(b_from), a, b });
            }
        }
    }
    Ok(())
}

/// The furthest byte that an operand touches at the bounds must lie within its buffer.
fn check_size(plan: &Plan, step: usize, operand: &super::Operand, buffer: u32) -> Result<(), CheckError> {
    let sizes = operand.ty.shape.eval(&plan.bounds);
    if sizes.contains(&0) {
        return Ok(());
    }
    let strides = operand.layout.strides(&plan.bounds);
    let blocks = sizes[0] / operand.ty.dtype.block_len();
    let mut needed = operand.layout.offset(&plan.bounds) + operand.ty.dtype.block_bytes() + (blocks - 1) * strides[0];
    for i in 1..4 {
        needed += (sizes[i] - 1) * strides[i];
    }
    let has = plan.buffers[buffer as usize].bytes;
    if needed > has { Err(CheckError::TooSmall { step, buffer, needed, has }) } else { Ok(()) }
}
