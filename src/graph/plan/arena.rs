//! Places buffers in one arena: of several orders of best fit the one with the smallest arena.

use super::Buffer;

/// Sets the offsets of `buffers`; returns the size of the arena and its lower bound.
pub(super) fn place(buffers: &mut [Buffer], alignment: usize) -> (usize, usize) {
    let size = |b: &Buffer| b.bytes.next_multiple_of(alignment);
    let mut best: Option<(usize, Vec<usize>)> = None;
    type Key = fn(&Buffer) -> (std::cmp::Reverse<usize>, usize);
    let orders: [Key; 3] = [
        |b| (std::cmp::Reverse(b.bytes), b.first),
        |b| (std::cmp::Reverse(b.bytes.saturating_mul(b.last - b.first + 1)), b.first),
        |b| (std::cmp::Reverse(usize::MAX - b.first), b.last),
    ];
    for key in orders {
        let mut order: Vec<usize> = (0..buffers.len()).collect();
        order.sort_by_key(|&i| key(&buffers[i]));
        let mut offsets = vec![0; buffers.len()];
        // Placed buffers by offset.
        let mut placed: Vec<usize> = Vec::with_capacity(buffers.len());
        let mut total = 0;
        for i in order {
            let offset = best_fit(buffers, &offsets, &placed, i, &size);
            offsets[i] = offset;
            total = total.max(offset + size(&buffers[i]));
            let at = placed.partition_point(|&p| offsets[p] < offset);
            placed.insert(at, i);
        }
        if best.as_ref().is_none_or(|(t, _)| total < *t) {
            best = Some((total, offsets));
        }
    }
    let (total, offsets) = best.unwrap_or_default();
    for (buffer, offset) in buffers.iter_mut().zip(offsets) {
        buffer.offset = offset;
    }
    (total, lower_bound(buffers, &size))
}

/// The smallest gap that holds buffer `i` among the placed buffers that live at the same time.
fn best_fit(
    buffers: &[Buffer],
    offsets: &[usize],
    placed: &[usize],
    i: usize,
    size: &dyn Fn(&Buffer) -> usize,
) -> usize {
    let (me, need) = (&buffers[i], size(&buffers[i]));
    let mut end = 0;
    let mut best: Option<(usize, usize)> = None;
    for &p in placed {
        let other = &buffers[p];
        if other.last < me.first || me.last < other.first {
            continue;
        }
        if offsets[p] > end {
            let gap = offsets[p] - end;
            if gap >= need && best.is_none_or(|(g, _)| gap < g) {
                best = Some((gap, end));
            }
        }
        end = end.max(offsets[p] + size(other));
    }
    best.map_or(end, |(_, offset)| offset)
}

/// The largest sum of bytes that live at one step.
fn lower_bound(buffers: &[Buffer], size: &dyn Fn(&Buffer) -> usize) -> usize {
    let steps = buffers.iter().map(|b| b.last + 1).max().unwrap_or(0);
    let mut change = vec![0isize; steps + 1];
    for b in buffers {
        change[b.first] += size(b) as isize;
        change[b.last + 1] -= size(b) as isize;
    }
    let mut live = 0;
    change
        .iter()
        .map(|c| {
            live += c;
            live
        })
        .max()
        .unwrap_or(0)
        .max(0) as usize
}
