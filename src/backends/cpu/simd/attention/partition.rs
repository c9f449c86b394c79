//! A partition of a unit: the online softmax over its blocks.

use super::cache::Cache;
use super::unit::{Fetch, Scores, Unit, clear, cover};
use super::{BLOCK, PARTITION};
use crate::backends::cpu::simd::lanes::{Kernel, LANES, Simd};
use std::ops::Range;

/// Partition `p` of a unit, into the unit's `part` states.
pub(super) struct Partition<'a, C> {
    pub(super) unit: Unit<'a, C>,
    pub(super) p: usize,
}

impl<C: Cache> Kernel for Partition<'_, C> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S) {
        let unit = &self.unit;
        // SAFETY: rows and tokens are the unit's; positions are visible ones.
        unsafe {
            for row in 0..unit.rows() {
                clear(s, unit.state(unit.at.part, row), unit.dv());
            }
            let start = (self.p * PARTITION).max(unit.seen_from / BLOCK * BLOCK);
            let end = ((self.p + 1) * PARTITION).min(unit.seen_to);
            for block in (start..end).step_by(BLOCK) {
                attend(s, unit, block);
            }
        }
    }
}

/// Brings the states of all rows past the block at `block`.
#[inline(always)]
unsafe fn attend<C: Cache, S: Simd>(s: S, unit: &Unit<'_, C>, block: usize) {
    let (group, mut loaded) = (unit.args.group(), false);
    // Tokens that see the same part of the block share its loads.
    let mut t = 0;
    while t < unit.tokens {
        // SAFETY: tokens t .. next exist, and their rows; what they see is initialised.
        unsafe {
            let seen = visible(unit, t, block);
            let mut next = t + 1;
            while next < unit.tokens && visible(unit, next, block) == seen {
                next += 1;
            }
            if !seen.is_empty() {
                if !loaded {
                    unit.load_keys(s, block, block.max(unit.seen_from), (block + BLOCK).min(unit.seen_to));
                    loaded = true;
                }
                let rows = t * group..next * group;
                let columns = seen.start / LANES..seen.end.div_ceil(LANES);
                let mut scores = Scores { unit, next: fetch(unit, false, block + BLOCK) };
                cover(s, &mut scores, rows.clone(), columns);
                for row in rows.clone() {
                    unit.weigh(s, row, seen.start, seen.end);
                }
                unit.add_values(s, rows, block, seen, fetch(unit, true, block + 2 * BLOCK));
            }
            t = next;
        }
    }
}

/// The keys or values of the block at `block`, to be asked for ahead.
#[inline(always)]
fn fetch<C: Cache>(unit: &Unit<'_, C>, keys: bool, block: usize) -> Fetch {
    let a = unit.args;
    let rows = unit.seen_to.saturating_sub(block).min(BLOCK);
    let (at, strides, n) = if keys { (a.k, a.k_strides, a.d) } else { (a.v, a.v_strides, a.d_v) };
    let at = at.wrapping_add(unit.kv_head * strides[1] + block * strides[0]);
    Fetch::new(at, rows, n / C::DTYPE.block_len() * C::DTYPE.block_bytes(), strides[0])
}

/// What the unit's token `t` sees of a block, relative to it.
#[inline(always)]
unsafe fn visible<C: Cache>(unit: &Unit<'_, C>, t: usize, block: usize) -> Range<usize> {
    // SAFETY: the caller's token exists.
    let seen = unsafe { unit.args.seen(unit.first + t) };
    seen.start.clamp(block, block + BLOCK) - block..seen.end.clamp(block, block + BLOCK) - block
}
