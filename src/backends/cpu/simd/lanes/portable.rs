//! Sixteen lanes as plain arrays: the level every machine has, and the yardstick for the others.

use super::{Kernel, LANES, Simd};
use half::f16;

#[derive(Clone, Copy)]
pub(crate) struct Portable(());

/// 64 bytes as 16 lanes.
type Ints = [i32; LANES];

macro_rules! lanewise {
    ($i:ident => $e:expr) => {{
        let mut out = [Default::default(); LANES];
        let mut $i = 0;
        while $i < LANES {
            out[$i] = $e;
            $i += 1;
        }
        out
    }};
}

// SAFETY: each method computes lane by lane what the trait says; pointers are used within the callers' promises.
#[allow(clippy::needless_range_loop)]
unsafe impl Simd for Portable {
    type F = [f32; LANES];
    type I = Ints;

    const ROWS: usize = 1;
    const TOKENS: usize = 4;
    const FLOAT_TOKENS: usize = 4;
    const SHIFTED: bool = true;

    #[inline(always)]
    unsafe fn assume() -> Self {
        Portable(())
    }

    #[inline(always)]
    unsafe fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        unsafe fn inner<K: Kernel>(s: Portable, kernel: K) -> K::Output {
            // SAFETY: the caller's promise is the kernel's contract.
            unsafe { kernel.run(s) }
        }
        // SAFETY: as above.
        unsafe { inner(self, kernel) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<Self::F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, n: usize) -> Self::F {
        let mut out = [0.0; LANES];
        for i in 0..n {
            // SAFETY: i < n.
            out[i] = unsafe { p.add(i).read_unaligned() };
        }
        out
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: Self::F) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<Self::F>().write_unaligned(x) }
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize, x: Self::F) {
        for i in 0..n {
            // SAFETY: i < n.
            unsafe { p.add(i).write_unaligned(x[i]) }
        }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        lanewise!(i => a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        lanewise!(i => a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        lanewise!(i => a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        lanewise!(i => a[i] / b[i])
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        // Not `mul_add`: without a fused instruction that is a slow function call.
        lanewise!(i => a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        lanewise!(i => if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        lanewise!(i => if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        lanewise!(i => a[i].round_ties_even())
    }
    #[inline(always)]
    fn scale2(self, a: Self::F, n: Self::F) -> Self::F {
        lanewise!(i => {
            let n = n[i] as i32;
            let h = n >> 1;
            a[i] * f32::from_bits(((h + 127) << 23) as u32) * f32::from_bits(((n - h + 127) << 23) as u32)
        })
    }
    #[inline(always)]
    fn select_lt(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        lanewise!(i => if a[i] < b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    fn reduce_add(self, a: Self::F) -> f32 {
        let mut v = a;
        let mut half = LANES / 2;
        while half > 0 {
            for i in 0..half {
                v[i] += v[i + half];
            }
            half /= 2;
        }
        v[0]
    }
    #[inline(always)]
    fn reduce_max(self, a: Self::F) -> f32 {
        let mut m = a[0];
        for x in a {
            m = if x > m { x } else { m };
        }
        m
    }
    #[inline(always)]
    fn transpose(self, rows: [Self::F; 16]) -> [Self::F; 16] {
        let mut out = rows;
        for i in 0..LANES {
            for j in 0..LANES {
                out[i][j] = rows[j][i];
            }
        }
        out
    }
    #[inline(always)]
    fn to_bits(self, a: Self::F) -> Self::I {
        lanewise!(i => a[i].to_bits() as i32)
    }
    #[inline(always)]
    fn from_bits(self, a: Self::I) -> Self::F {
        lanewise!(i => f32::from_bits(a[i] as u32))
    }

    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16) -> Self::F {
        // SAFETY: i < 16, and 16 numbers are readable.
        lanewise!(i => f16::from_bits(unsafe { p.add(i).read_unaligned() }).to_f32())
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u16, x: Self::F) {
        for i in 0..LANES {
            // SAFETY: i < 16, and 16 numbers are writable.
            unsafe { p.add(i).write_unaligned(f16::from_f32(x[i]).to_bits()) }
        }
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const u8) -> Self::F {
        // SAFETY: i < 16, and 16 bytes are readable.
        lanewise!(i => f32::from(unsafe { *p.add(i) } as i8))
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8) -> Self::F {
        // SAFETY: i < 16, and 16 bytes are readable.
        lanewise!(i => f32::from(unsafe { *p.add(i) }))
    }
    #[inline(always)]
    unsafe fn load_u8_i(self, p: *const u8) -> Self::I {
        // SAFETY: i < 16, and 16 bytes are readable.
        lanewise!(i => i32::from(unsafe { *p.add(i) }))
    }

    #[inline(always)]
    fn prefetch(self, _: *const u8) {}

    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8) -> Self::I {
        // SAFETY: the caller's promise; the bytes of a lane are little-endian, as the formats have them.
        lanewise!(i => i32::from_le_bytes(unsafe { p.add(4 * i).cast::<[u8; 4]>().read() }))
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, x: Self::I) {
        for i in 0..LANES {
            // SAFETY: the caller's promise.
            unsafe { p.add(4 * i).cast::<[u8; 4]>().write(x[i].to_le_bytes()) }
        }
    }
    #[inline(always)]
    fn to_f(self, a: Self::I) -> Self::F {
        lanewise!(i => a[i] as f32)
    }
    #[inline(always)]
    fn to_i(self, a: Self::F) -> Self::I {
        lanewise!(i => a[i].round_ties_even() as i32)
    }
    #[inline(always)]
    unsafe fn store_low_bytes(self, p: *mut u8, x: Self::I) {
        for i in 0..LANES {
            // SAFETY: i < 16, and 16 bytes are writable.
            unsafe { *p.add(i) = x[i] as u8 }
        }
    }
    #[inline(always)]
    fn and(self, a: Self::I, b: Self::I) -> Self::I {
        lanewise!(i => a[i] & b[i])
    }
    #[inline(always)]
    fn or(self, a: Self::I, b: Self::I) -> Self::I {
        lanewise!(i => a[i] | b[i])
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        lanewise!(i => a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I {
        lanewise!(i => a[i].max(b[i]))
    }
    #[inline(always)]
    fn reduce_add_i(self, a: Self::I) -> i32 {
        let mut sum = 0i32;
        for x in a {
            sum = sum.wrapping_add(x);
        }
        sum
    }
    #[inline(always)]
    fn reduce_max_i(self, a: Self::I) -> i32 {
        let mut m = a[0];
        for x in a {
            m = m.max(x);
        }
        m
    }
    #[inline(always)]
    fn shl<const N: u32>(self, a: Self::I) -> Self::I {
        lanewise!(i => a[i] << N)
    }
    #[inline(always)]
    fn shr<const N: u32>(self, a: Self::I) -> Self::I {
        lanewise!(i => ((a[i] as u32) >> N) as i32)
    }
    #[inline(always)]
    fn lookup(self, table: &[u8; 16], index: Self::I) -> Self::I {
        lanewise!(i => {
            let b = index[i].to_le_bytes();
            i32::from_le_bytes([
                table[usize::from(b[0] & 15)],
                table[usize::from(b[1] & 15)],
                table[usize::from(b[2] & 15)],
                table[usize::from(b[3] & 15)],
            ])
        })
    }

    #[inline(always)]
    unsafe fn dot_start<const BITS: u32>(self, offset: *const i32) -> Self::I {
        // SAFETY: the caller's promise.
        [unsafe { offset.read_unaligned() }; LANES]
    }
    #[inline(always)]
    unsafe fn dot<const N: usize, const BITS: u32>(self, start: Self::I, w: &[Self::I; N], x: *const i8) -> Self::I {
        let mut acc = start;
        for q in 0..N {
            for c in 0..4 {
                // SAFETY: 4·q + c < 4·N.
                let x = i32::from(unsafe { *x.add(4 * q + c) });
                for i in 0..LANES {
                    acc[i] = acc[i].wrapping_add(((w[q][i] >> (8 * c)) & 255) * x);
                }
            }
        }
        acc
    }
}
