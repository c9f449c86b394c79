//! [`Simd`]: sixteen lanes of f32 or i32 on any instruction set, so that a kernel is written once.
//!
//! A value of a `Simd` type is a token: it exists only where the processor has the level, which is what makes its methods
//! sound to call. A [`Kernel`] runs inside [`Simd::vectorize`], the only place where target features are switched on; all
//! that a kernel calls in its loops is `#[inline(always)]`, so it is compiled with those features. Kernels use no closures in
//! their loops, as those would be compiled without.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// Work that is compiled for an instruction set. `run` must be `#[inline(always)]`.
pub(crate) trait Kernel {
    /// What the work returns.
    type Output;

    /// # Safety
    /// The kernel's own contract, which stands at its type.
    unsafe fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Vectors of 16 rows × 4 consecutive unsigned weights that a kernel multiplies, loaded when it asks for them.
pub(crate) trait Quads<S: Simd> {
    /// Whether all are loaded alike, so that a loop over them is as good as its unrolled form.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    const UNIFORM: bool;

    /// Quad `i`.
    ///
    /// # Safety
    /// There is one.
    unsafe fn quad(&self, s: S, i: usize) -> S::I;
}

/// Keeps loads before and after it apart. In an unrolled loop the compiler moves the loads of all rounds to the front, and on
/// sixteen registers spills most of what they load.
#[inline(always)]
pub(crate) fn apart() {
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
}

/// `n`, of which the compiler knows nothing: a loop up to it stays a loop. The other way to the same end as [`apart`], where
/// all rounds are alike.
#[inline(always)]
pub(crate) fn opaque(n: usize) -> usize {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        let mut n = n;
        // SAFETY: no instruction at all.
        unsafe { std::arch::asm!("/* {0} */", inout(reg) n, options(pure, nomem, nostack, preserves_flags)) };
        n
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    n
}

/// [`Simd::dot_bf16`] by two multiply-adds of f32.
#[inline(always)]
fn dot_bf16<S: Simd>(s: S, acc: S::F, a: S::I, b: S::I) -> S::F {
    let upper = s.splat_i(0xffff_0000u32 as i32);
    let sum = s.fma(s.from_bits(s.shl::<16>(a)), s.from_bits(s.shl::<16>(b)), acc);
    s.fma(s.from_bits(s.and(a, upper)), s.from_bits(s.and(b, upper)), sum)
}

/// Sixteen lanes of one instruction set level. Floating-point operations round as IEEE says; `fma` is fused except on
/// [`Portable`], where it rounds twice.
///
/// # Safety
/// Implementers compute exactly what each method says, for all 16 lanes.
pub(crate) unsafe trait Simd: Copy + Send + Sync + 'static {
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen i32, also seen as 64 bytes or 32 u16.
    type I: Copy;

    /// Rows of four vectors that a float kernel accumulates at a time: bounded by registers.
    const ROWS: usize;
    /// Tokens that one pass of an integer matrix kernel takes: bounded by registers.
    const TOKENS: usize;
    /// Tokens that one pass of a float matrix kernel takes.
    const FLOAT_TOKENS: usize;
    /// Whether small unsigned weights are shifted up to eight bits before a dot product, so that one stored activation sum
    /// serves as the offset of all formats ([`Simd::dot`]).
    const SHIFTED: bool;

    /// The token.
    ///
    /// # Safety
    /// The processor has the level (`Level::is_available`).
    unsafe fn assume() -> Self;

    /// Runs the kernel compiled with the level's target features.
    ///
    /// # Safety
    /// The kernel's contract.
    unsafe fn vectorize<K: Kernel>(self, kernel: K) -> K::Output;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F;
    /// # Safety
    /// 16 floats are readable at `p` (no alignment needed).
    unsafe fn load(self, p: *const f32) -> Self::F;
    /// The first `n` lanes from `p`, zero above.
    /// # Safety
    /// `n` floats are readable at `p`, `n ≤ 16`.
    unsafe fn load_part(self, p: *const f32, n: usize) -> Self::F;
    /// # Safety
    /// 16 floats are writable at `p`.
    unsafe fn store(self, p: *mut f32, x: Self::F);
    /// # Safety
    /// `n` floats are writable at `p`, `n ≤ 16`.
    unsafe fn store_part(self, p: *mut f32, n: usize, x: Self::F);
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a·b + c`.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a > b ? a : b`, lane by lane; `b` where either is not a number.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a < b ? a : b`, lane by lane; `b` where either is not a number.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// The nearest integers, ties to even.
    fn round(self, a: Self::F) -> Self::F;
    /// `a·2^n` for integral `n` in −252 ..= 254 (two factors, each exact).
    fn scale2(self, a: Self::F, n: Self::F) -> Self::F;
    /// `a < b ? x : y`, lane by lane.
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F;
    /// The sum over lanes, as the tree ((0+8)+(4+12)) … of halves.
    fn reduce_add(self, a: Self::F) -> f32;
    /// The largest lane.
    fn reduce_max(self, a: Self::F) -> f32;
    /// The matrix of these 16 rows, transposed.
    fn transpose(self, rows: [Self::F; 16]) -> [Self::F; 16];
    /// The bits of the lanes.
    fn to_bits(self, a: Self::F) -> Self::I;
    /// The lanes of these bits.
    #[allow(clippy::wrong_self_convention)]
    fn from_bits(self, a: Self::I) -> Self::F;

    /// 16 half-precision numbers.
    /// # Safety
    /// 32 bytes are readable at `p`.
    unsafe fn load_f16(self, p: *const u16) -> Self::F;
    /// Rounds to nearest even.
    /// # Safety
    /// 32 bytes are writable at `p`.
    unsafe fn store_f16(self, p: *mut u16, x: Self::F);
    /// 16 bfloat16 numbers.
    /// # Safety
    /// 32 bytes are readable at `p`.
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16) -> Self::F {
        let mut wide = [0f32; LANES];
        for (i, x) in wide.iter_mut().enumerate() {
            // SAFETY: i < 16.
            *x = f32::from_bits(u32::from(unsafe { p.add(i).read_unaligned() }) << 16);
        }
        // SAFETY: 16 floats.
        unsafe { self.load(wide.as_ptr()) }
    }
    /// Rounds to bfloat16, to nearest even.
    /// # Safety
    /// 32 bytes are writable at `p`.
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, x: Self::F) {
        let mut wide = [0f32; LANES];
        // SAFETY: 16 floats; i < 16.
        unsafe {
            self.store(wide.as_mut_ptr(), x);
            for (i, x) in wide.into_iter().enumerate() {
                p.add(i).write_unaligned(half::bf16::from_f32(x).to_bits());
            }
        }
    }
    /// Sixteen rows of 16 two-byte elements, from byte `at` of each, transposed: element `i` of row `r` goes to `out[i·stride + r]`.
    /// # Safety
    /// 32 bytes are readable at each row's byte `at`, and 16 elements writable at each `out + i·stride`.
    #[inline(always)]
    unsafe fn transpose_u16(self, rows: &[*const u8; 16], at: usize, out: *mut u16, stride: usize) {
        for (r, row) in rows.iter().enumerate() {
            for i in 0..16 {
                // SAFETY: i < 16 and r < 16.
                unsafe { out.add(i * stride + r).write_unaligned(row.add(at).cast::<u16>().add(i).read_unaligned()) }
            }
        }
    }
    /// 16 signed bytes as floats.
    /// # Safety
    /// 16 bytes are readable at `p`.
    unsafe fn load_i8(self, p: *const u8) -> Self::F;
    /// 16 unsigned bytes as floats.
    /// # Safety
    /// 16 bytes are readable at `p`.
    unsafe fn load_u8(self, p: *const u8) -> Self::F;
    /// 16 unsigned bytes as i32.
    /// # Safety
    /// 16 bytes are readable at `p`.
    unsafe fn load_u8_i(self, p: *const u8) -> Self::I;

    /// Asks for the cache line of an address, which need not be readable, in the second-level cache.
    fn prefetch(self, p: *const u8);

    /// All i32 lanes `x`.
    fn splat_i(self, x: i32) -> Self::I;
    /// # Safety
    /// 64 bytes are readable at `p`.
    unsafe fn load_bytes(self, p: *const u8) -> Self::I;
    /// # Safety
    /// 64 bytes are writable at `p`.
    unsafe fn store_bytes(self, p: *mut u8, x: Self::I);
    /// The i32 lanes as floats, rounded to nearest even.
    fn to_f(self, a: Self::I) -> Self::F;
    /// The lanes rounded to i32, ties to even. Lanes are in range.
    fn to_i(self, a: Self::F) -> Self::I;
    /// The low bytes of the i32 lanes.
    /// # Safety
    /// 16 bytes are writable at `p`.
    unsafe fn store_low_bytes(self, p: *mut u8, x: Self::I);
    fn and(self, a: Self::I, b: Self::I) -> Self::I;
    fn or(self, a: Self::I, b: Self::I) -> Self::I;
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// The larger i32 lanes.
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// The sum of the i32 lanes, wrapping.
    fn reduce_add_i(self, a: Self::I) -> i32;
    /// The largest i32 lane.
    fn reduce_max_i(self, a: Self::I) -> i32;
    /// The i32 lanes shifted left.
    fn shl<const N: u32>(self, a: Self::I) -> Self::I;
    /// The i32 lanes shifted right, zeros entering.
    fn shr<const N: u32>(self, a: Self::I) -> Self::I;
    /// Each byte of `index` (0..16) replaced by that entry of the table.
    fn lookup(self, table: &[u8; 16], index: Self::I) -> Self::I;

    /// 32 signed bytes, widened to 16 bits: two neighbours a lane.
    /// # Safety
    /// 32 bytes are readable at `p`.
    #[inline(always)]
    unsafe fn load_i8_pairs(self, p: *const u8) -> Self::I {
        let mut pairs = [0u8; 64];
        for (i, pair) in pairs.chunks_exact_mut(2).enumerate() {
            // SAFETY: i < 32.
            let wide = i16::from(unsafe { p.cast::<i8>().add(i).read() });
            pair.copy_from_slice(&wide.to_ne_bytes());
        }
        // SAFETY: 64 bytes.
        unsafe { self.load_bytes(pairs.as_ptr()) }
    }
    /// Per lane: `acc` + the two products of the 16-bit halves of `a` and `b`. No sum leaves 32 bits.
    #[inline(always)]
    fn dot_pairs(self, acc: Self::I, a: Self::I, b: Self::I) -> Self::I {
        let (mut x, mut y, mut sums) = ([0i16; 32], [0i16; 32], [0i32; LANES]);
        // SAFETY: each array is 64 bytes.
        unsafe {
            self.store_bytes(x.as_mut_ptr().cast(), a);
            self.store_bytes(y.as_mut_ptr().cast(), b);
            self.store_bytes(sums.as_mut_ptr().cast(), acc);
            for (i, sum) in sums.iter_mut().enumerate() {
                let product = |j: usize| i32::from(x[j]).wrapping_mul(i32::from(y[j]));
                *sum = sum.wrapping_add(product(2 * i)).wrapping_add(product(2 * i + 1));
            }
            self.load_bytes(sums.as_ptr().cast())
        }
    }

    /// Per lane: `acc` + the two products of the bf16 halves of `a` and `b`, added one after the other in either order; numbers that are
    /// subnormal may count as zero.
    #[inline(always)]
    fn dot_bf16(self, acc: Self::F, a: Self::I, b: Self::I) -> Self::F {
        dot_bf16(self, acc, a, b)
    }

    /// The accumulator that [`Simd::dot`] starts from, for unsigned weights of `BITS` bits whose zero is `2^(BITS−1)`.
    /// `offset` holds −128·Σx of the activations of the dot product.
    /// # Safety
    /// `offset` is readable.
    unsafe fn dot_start<const BITS: u32>(self, offset: *const i32) -> Self::I;
    /// Per lane: `start` + Σ over quads of the four products of the lane's unsigned weight bytes with the quad's signed
    /// activation bytes. `N` quads of activations are at `x`, each in −127 ..= 127.
    ///
    /// `BITS` says what the weights are: with [`SHIFTED`](Simd::SHIFTED) the plain dot product of bytes 0..=255 (to be
    /// made of weights shifted up by `8 − BITS` if they have an offset); else weights are below `2^BITS`, and for `BITS = 8`
    /// the dot product is of `w − 128`.
    /// # Safety
    /// `4·N` bytes are readable at `x`.
    unsafe fn dot<const N: usize, const BITS: u32>(self, start: Self::I, w: &[Self::I; N], x: *const i8) -> Self::I;

    /// [`Simd::dot`] of the `N` quads from `from` on with each of `T` tokens: `x` points to the first token's `N` quads of
    /// activations, `offset` to the first token's offset ([`Simd::dot_start`]) or is null if the sums start from zero; tokens are
    /// `stride` bytes apart.
    /// # Safety
    /// The quads exist; `4·N` bytes at `x` and an offset are readable for each token.
    #[inline(always)]
    unsafe fn dots<W: Quads<Self>, const T: usize, const N: usize, const BITS: u32>(
        self,
        w: &W,
        from: usize,
        x: *const i8,
        offset: *const i32,
        stride: usize,
    ) -> [Self::I; T] {
        let zero = self.splat_i(0);
        let (mut quads, mut sums) = ([zero; N], [zero; T]);
        // SAFETY: the caller's promise.
        unsafe {
            for (i, quad) in quads.iter_mut().enumerate() {
                *quad = w.quad(self, from + i);
            }
            for (t, sum) in sums.iter_mut().enumerate() {
                let start = if offset.is_null() { zero } else { self.dot_start::<BITS>(offset.byte_add(t * stride)) };
                *sum = self.dot::<N, BITS>(start, &quads, x.add(t * stride));
            }
        }
        sums
    }

    /// Multiplies bytes as fast as the level can, in chains of which each step needs the one before: 64 products a chain, by
    /// the instruction that [`Simd::dot`] is made of. For the probe of what a machine can do.
    /// # Safety
    /// 4 bytes are readable at `x`.
    #[inline(always)]
    unsafe fn spin_bytes<const C: usize>(self, chains: &mut [Self::I; C], x: *const i8) {
        for chain in chains {
            // SAFETY: the caller's promise.
            *chain = unsafe { self.dot::<1, 8>(*chain, &[*chain], x) };
        }
    }
}

#[cfg(test)]
mod tests;
