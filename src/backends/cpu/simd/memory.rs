//! Aligned zeroed memory ([`AlignedBuf`]), one mapping for many buffers ([`Slab`]), and [`Ptr`], the view through which threads write disjoint parts of it.

use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

/// Alignment of every buffer: a cache line, and one AVX-512 register.
pub const ALIGN: usize = 64;
/// Alignment of large buffers: a huge page.
const HUGE_ALIGN: usize = 2 << 20;
/// From this size on a buffer is mapped by itself and huge pages are asked for.
const HUGE_FROM: usize = 4 << 20;

/// The memory was not to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("could not allocate {bytes} bytes ({:.1} MiB): free memory, or use a smaller context or model", *bytes as f64 / (1 << 20) as f64)]
pub struct AllocError {
    /// The size that was asked for.
    pub bytes: usize,
}

enum Backing {
    /// `len == 0`: nothing is owned.
    Empty,
    Heap(Layout),
    /// Keeps the pages; `ptr` points into them, and no other buffer has this part.
    Map(#[allow(dead_code)] Arc<memmap2::MmapMut>),
}

/// Zeroed bytes, aligned to [`ALIGN`]; from 4 MiB on aligned to 2 MiB with huge pages asked for where the system has them.
/// Pages of such a large buffer are taken from the system when first written.
pub struct AlignedBuf {
    ptr: NonNull<u8>,
    len: usize,
    backing: Backing,
}

// SAFETY: the buffer is owned memory without interior references; access follows the borrow of the buffer.
unsafe impl Send for AlignedBuf {}
// SAFETY: as above; shared access through `&self` only reads.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// `len` zeroed bytes.
    ///
    /// # Errors
    /// [`AllocError`] if the system refuses, or if `len` is absurd; never aborts.
    pub fn zeroed(len: usize) -> Result<AlignedBuf, AllocError> {
        let error = AllocError { bytes: len };
        if len == 0 {
            let ptr = NonNull::new(std::ptr::without_provenance_mut(ALIGN)).expect("ALIGN is not zero");
            return Ok(AlignedBuf { ptr, len, backing: Backing::Empty });
        }
        if len >= HUGE_FROM {
            return AlignedBuf::mapped(len).ok_or(error);
        }
        let layout = Layout::from_size_align(len, ALIGN).map_err(|_| error.clone())?;
        // SAFETY: the layout's size is not zero.
        let ptr = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).ok_or(error)?;
        Ok(AlignedBuf { ptr, len, backing: Backing::Heap(layout) })
    }

    fn mapped(len: usize) -> Option<AlignedBuf> {
        let total = len.checked_add(HUGE_ALIGN)?;
        isize::try_from(total).ok()?;
        let mut map = memmap2::MmapOptions::new().len(total).map_anon().ok()?;
        let start = map.as_mut_ptr();
        let skip = start.align_offset(HUGE_ALIGN);
        // `align_offset` may give up with `usize::MAX`, which is not in bounds.
        if skip > HUGE_ALIGN {
            return None;
        }
        // Only a hint: without huge pages the buffer is slower, not wrong. A last page that the buffer does not fill stays small,
        // so that no more memory is taken than was asked for.
        #[cfg(target_os = "linux")]
        let _ = map.advise_range(memmap2::Advice::HugePage, skip, len / HUGE_ALIGN * HUGE_ALIGN);
        // SAFETY: skip ≤ HUGE_ALIGN and the map holds len + HUGE_ALIGN bytes.
        let ptr = NonNull::new(unsafe { start.add(skip) })?;
        Some(AlignedBuf { ptr, len, backing: Backing::Map(Arc::new(map)) })
    }

    /// Bytes in the buffer: what was asked for.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the buffer holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: ptr points to len initialised bytes that live as long as self.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }

    /// The bytes, writable.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and self is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }

    /// The first byte, for reading.
    pub fn as_ptr(&self) -> *const u8 {
        self.ptr.as_ptr()
    }

    /// A copyable view through which several threads may write. The caller keeps the buffer alive while it is used, and
    /// makes no slice of the buffer meanwhile.
    pub fn view(&mut self) -> Ptr<u8> {
        Ptr::new(self.ptr.as_ptr())
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        if let Backing::Heap(layout) = self.backing {
            // SAFETY: ptr came from the global allocator with this layout and is released once.
            unsafe { std::alloc::dealloc(self.ptr.as_ptr(), layout) }
        }
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.len)
    }
}

/// Memory for many buffers in one mapping, one behind the other in the order in which they are taken: huge pages hold several small
/// buffers, and reading them in that order is one stream.
#[derive(Default)]
pub struct Slab {
    /// What is left of the mapping.
    left: Option<AlignedBuf>,
}

impl Slab {
    /// Memory for buffers of these sizes.
    ///
    /// # Errors
    /// As [`AlignedBuf::zeroed`].
    pub fn new(sizes: impl Iterator<Item = usize>) -> Result<Slab, AllocError> {
        let total =
            sizes.fold(0usize, |sum, len| sum.saturating_add(len.checked_next_multiple_of(ALIGN).unwrap_or(len)));
        let left = if total < HUGE_FROM { None } else { Some(AlignedBuf::zeroed(total)?) };
        Ok(Slab { left })
    }

    /// The next `len` zeroed bytes; from elsewhere where the mapping has no room.
    ///
    /// # Errors
    /// As [`AlignedBuf::zeroed`].
    pub fn take(&mut self, len: usize) -> Result<AlignedBuf, AllocError> {
        let size = len.checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX);
        match &mut self.left {
            Some(AlignedBuf { ptr, len: left, backing: Backing::Map(map) }) if len > 0 && size <= *left => {
                let taken = AlignedBuf { ptr: *ptr, len, backing: Backing::Map(Arc::clone(map)) };
                // SAFETY: size ≤ left, so the result lies within the mapping or at its end.
                *ptr = unsafe { ptr.add(size) };
                *left -= size;
                Ok(taken)
            }
            _ => AlignedBuf::zeroed(len),
        }
    }
}

/// A raw pointer that may cross threads: a part of an arena, handed to kernels. Whoever dereferences it answers for bounds,
/// lifetime and disjointness; this type only moves the address about.
pub struct Ptr<T>(*mut T, PhantomData<*mut T>);

impl<T> Clone for Ptr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Ptr<T> {}

// SAFETY: only the address crosses; every use of the memory is an unsafe operation with its own contract.
unsafe impl<T: Send> Send for Ptr<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Ptr<T> {}

impl<T> Ptr<T> {
    /// A view of what `p` points to.
    pub fn new(p: *mut T) -> Ptr<T> {
        Ptr(p, PhantomData)
    }

    /// The pointer, for writing.
    pub fn as_mut_ptr(self) -> *mut T {
        self.0
    }

    /// The pointer, for reading.
    pub fn as_ptr(self) -> *const T {
        self.0
    }

    /// The view `count` elements on.
    ///
    /// # Safety
    /// The result must lie within (or at the end of) the same allocation.
    #[must_use]
    #[allow(clippy::should_implement_trait)]
    pub unsafe fn add(self, count: usize) -> Ptr<T> {
        // SAFETY: the caller's promise is that of `pointer::add`.
        Ptr::new(unsafe { self.0.add(count) })
    }

    /// The same address as another type.
    #[must_use]
    pub fn cast<U>(self) -> Ptr<U> {
        Ptr::new(self.0.cast())
    }

    /// `len` elements for reading.
    ///
    /// # Safety
    /// They are initialised, aligned and alive, and nobody writes them during `'a`.
    pub unsafe fn slice<'a>(self, len: usize) -> &'a [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.0, len) }
    }

    /// `len` elements for writing.
    ///
    /// # Safety
    /// They are initialised, aligned and alive, and nobody else touches them during `'a`.
    pub unsafe fn slice_mut<'a>(self, len: usize) -> &'a mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0, len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_zeroed_aligned_and_as_long_as_asked() {
        for len in [0, 1, 63, 4096, (4 << 20) - 1, 4 << 20, (5 << 20) + 7] {
            let mut b = AlignedBuf::zeroed(len).unwrap();
            assert_eq!((b.len(), b.as_slice().len()), (len, len));
            assert_eq!(b.as_ptr() as usize % ALIGN, 0);
            if len >= HUGE_FROM {
                assert_eq!(b.as_ptr() as usize % HUGE_ALIGN, 0);
            }
            assert!(b.as_slice().iter().all(|&x| x == 0));
            b.as_mut_slice().fill(7);
            assert!(b.as_slice().iter().all(|&x| x == 7));
        }
    }

    #[test]
    fn a_slab_gives_its_memory_in_order() {
        let sizes = [3 << 20, 1, 64, 0, (2 << 20) + 3];
        let mut slab = Slab::new(sizes.into_iter()).unwrap();
        let mut buffers: Vec<AlignedBuf> = sizes.iter().map(|&len| slab.take(len).unwrap()).collect();
        for (i, (b, len)) in buffers.iter_mut().zip(sizes).enumerate() {
            assert_eq!((b.len(), b.as_ptr() as usize % ALIGN), (len, 0));
            assert!(b.as_slice().iter().all(|&x| x == 0));
            b.as_mut_slice().fill(i as u8 + 1);
        }
        assert_eq!(buffers[1].as_ptr() as usize - buffers[0].as_ptr() as usize, 3 << 20);
        // More than was announced comes from elsewhere, and buffers outlive the slab.
        let more = slab.take(100).unwrap();
        drop(slab);
        assert!(more.as_slice().iter().all(|&x| x == 0));
        for (i, b) in buffers.iter().enumerate() {
            assert!(b.as_slice().iter().all(|&x| x == i as u8 + 1));
        }
        assert!(Slab::new([usize::MAX, 64].into_iter()).is_err());
    }

    #[test]
    fn impossible_sizes_are_errors() {
        for len in [usize::MAX, isize::MAX as usize, 1 << 60] {
            let e = AlignedBuf::zeroed(len).unwrap_err();
            assert_eq!(e.bytes, len);
            assert!(e.to_string().contains("MiB"));
        }
    }
}
