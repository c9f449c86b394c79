// Products of a few matrices with one vector, read from planes: a wave takes rows in turn, its lanes own blocks of 32 elements of the row.
//
// out[n] = Σ_k w[n, k] · x[k] (+ bias[n]) (+ residual[n]), or act(gate · x) · (up · x); x may be normalised first:
// x[k] ← x[k] · norm[k] / √(mean(x²) + eps), of which the root multiplies the sums instead. For quantized weights x is rounded to signed
// bytes with a scale for 32 (max/127, to nearest even), for plain ones it stays f32. Each token is a block row of the grid (y).
//
// Bound by memory: a ring of blocks is in flight in each lane, and its first loads are issued before the kernel before this one has ended
// (weights do not depend on it). Each row is summed by lane, then over the wave in a fixed tree: the result depends on nothing else.
#pragma once
#include "planes.h"

#if defined(GPU_NVIDIA) && defined(MATVEC_WIDE)
#define MATVEC_THREADS 1024
#define MATVEC_BLOCKS 1
#elif defined(GPU_NVIDIA)
#define MATVEC_THREADS 512
#define MATVEC_BLOCKS 2
#else
#define MATVEC_THREADS 256
#define MATVEC_BLOCKS 4
#endif

struct Matvec {
    Planes w[3];         // glu: gate and up
    const float* bias[3];  // 0: none
    float* out[3];
    const float* x;
    const float* residual;  // 0: none; for the first matrix
    const float* norm;      // 0: none
    float eps;
    int count;     // matrices
    int k;
    int act;       // glu: 0 silu, 1 gelu, 2 relu
    int x_stride;  // elements between tokens
    int unused;
};

// Activations in LDS. Quantized: low halves [blocks][16 B], high halves [blocks][16 B], {d, d·Σq}[blocks]. Plain: the
// first four of every eight elements [k/8][16 B], the last four [k/8][16 B].
struct Activations {
    u8* lo;
    u8* hi;
    f32x2* scales;
};

template <bool PLAIN> DEVICE Activations activations_in(u8* lds, int k) {
    Activations a;
    a.lo = lds;
    a.hi = lds + (PLAIN ? k * 2 : k / 2);
    a.scales = (f32x2*)(lds + k);
    return a;
}

DEVICE void read8(const float* from, int chunk, float* v) {
    const f32x4 p = ((const f32x4*)from)[2 * chunk], q = ((const f32x4*)from)[2 * chunk + 1];
    v[0] = p.x, v[1] = p.y, v[2] = p.z, v[3] = p.w, v[4] = q.x, v[5] = q.y, v[6] = q.z, v[7] = q.w;
}

// Reads x, multiplies it by the norm's weights where asked, and leaves it in LDS as the rows want it; returns what the products are to be
// multiplied by: 1 / √(mean(x²) + eps), which is the same for the whole row and so need not be known before. All threads take part.
template <bool PLAIN> DEVICE float prepare_activations(const Matvec& a, const Activations& to, float* shared) {
    const float* x = a.x + (i64)block_y() * a.x_stride;
    const int chunks = a.k / 8;
    float squares = 0.0f;
    // Whole waves go round together, so that lanes can exchange.
    for (int base = 0; base < chunks; base += MATVEC_THREADS) {
        const int c = base + thread_id();
        const bool on = c < chunks;
        float v[8];
        if (on) {
            read8(x, c, v);
            if (a.norm) {
                float m[8];
                read8(a.norm, c, m);
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    squares = fma_f32(v[i], v[i], squares);
                    v[i] *= m[i];
                }
            }
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++) v[i] = 0.0f;
        }
        if (PLAIN) {
            if (on) {
                ((f32x4*)to.lo)[c] = f32x4{v[0], v[1], v[2], v[3]};
                ((f32x4*)to.hi)[c] = f32x4{v[4], v[5], v[6], v[7]};
            }
            continue;
        }
        // Four neighbouring lanes hold a block.
        float top = 0.0f;
        bool bad = false;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            top = max_of(top, abs_f32(v[i]));
            bad |= !(abs_f32(v[i]) <= 3.4028235e38f);
        }
        float flag = bad ? 1.0f : 0.0f;
        top = wave_max<4>(top);
        flag = wave_max<4>(flag);
        float inverse = 127.0f / top;
        if (!(inverse <= 3.4028235e38f)) inverse = 0.0f;
        float d = inverse == 0.0f ? 0.0f : top / 127.0f;
        int sum = 0;
        u32 packed[2] = {0u, 0u};
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int q = (int)round_even(v[i] * inverse);
            sum += q;
            packed[i / 4] |= (u32)(q & 255) << (8 * (i % 4));
        }
        sum = wave_sum<4>(sum);
        // A block with an infinity or a NaN makes every product with it NaN.
        if (flag > 0.0f) d = bits_to_float(0x7fc00000u);
        if (on) {
            u8* half = (c & 2) ? to.hi : to.lo;
            ((u32x2*)half)[(c / 4) * 2 + (c & 1)] = u32x2{packed[0], packed[1]};
            if ((c & 3) == 0) to.scales[c / 4] = f32x2{d, d * (float)sum};
        }
    }
    if (a.norm) {
        squares = wave_sum(squares);
        if (lane_id() == 0) shared[thread_id() / WAVE] = squares;
    }
    sync_threads();
    if (!a.norm) return 1.0f;
    squares = shared[0];
#pragma unroll
    for (int i = 1; i < MATVEC_THREADS / WAVE; i++) squares += shared[i];
    return rsqrt_f32(squares / (float)a.k + a.eps);
}

// What a lane holds of a row: a block of 32 for quantized formats, 8 elements for F16 and BF16.
template <int F, bool PLAIN> struct Piece;
template <int F> struct Piece<F, false> {
    Block<F> block;
    struct X {
        u32x4 lo, hi;
        f32x2 scale;
    };
    static DEVICE_MEMBER X activation(const Activations& a, int i) {
        return X{((const u32x4*)a.lo)[i], ((const u32x4*)a.hi)[i], a.scales[i]};
    }
    DEVICE_MEMBER float dot(const X& x) const { return dot_block<F>(block, x.lo, x.hi, x.scale.x, x.scale.y); }
};
template <int F> struct Piece<F, true> {
    u32x4 q;
    struct X {
        f32x4 lo, hi;
    };
    static DEVICE_MEMBER X activation(const Activations& a, int i) { return X{((const f32x4*)a.lo)[i], ((const f32x4*)a.hi)[i]}; }
    DEVICE_MEMBER float dot(const X& x) const {
        float s = first(q.x) * x.lo.x;
        s = fma_f32(second(q.x), x.lo.y, s);
        s = fma_f32(first(q.y), x.lo.z, s);
        s = fma_f32(second(q.y), x.lo.w, s);
        s = fma_f32(first(q.z), x.hi.x, s);
        s = fma_f32(second(q.z), x.hi.y, s);
        s = fma_f32(first(q.w), x.hi.z, s);
        return fma_f32(second(q.w), x.hi.w, s);
    }
    static DEVICE_MEMBER float first(u32 v) { return F == FORMAT_F16 ? half_bits_to_float(v & 0xffffu) : bits_to_float(v << 16); }
    static DEVICE_MEMBER float second(u32 v) { return F == FORMAT_F16 ? half_bits_to_float(v >> 16) : bits_to_float(v & 0xffff0000u); }
};

// Where a lane reads in a row: an address in each plane. Pieces that follow each other in a lane are WAVE pieces apart.
template <int F, bool PLAIN> struct Cursor {
    const u8 *quants, *high, *scales, *supers;
    typedef FormatOf<F> Is;
    static constexpr int quant_bytes = PLAIN ? 16 : Is::bytes ? 32 : 16;
    static constexpr int high_bytes = F == FORMAT_Q6_K ? 8 : 4;
    static constexpr int scale_bytes = F == FORMAT_Q4_1 || F == FORMAT_Q5_1 ? 4 : F == FORMAT_MXFP4 || F == FORMAT_IQ4_XS ? 1 : 2;
    static constexpr int super_bytes = Is::minimum ? 4 : 2;
    static_assert(WAVE % 8 == 0, "lanes of neighbouring pieces share super-blocks");

    DEVICE_MEMBER void start(const Planes& w, int row, int pieces) {
        const u32 first = (u32)row * (u32)pieces + (u32)lane_id();
        quants = w.quants + (u64)first * quant_bytes;
        if (PLAIN) return;
        if (Is::fifth || F == FORMAT_Q6_K) high = w.high + (u64)first * high_bytes;
        scales = w.scales + (u64)first * scale_bytes;
        if (Is::super_block) supers = w.supers + (u64)(first / 8u) * super_bytes;
    }
    DEVICE_MEMBER void advance(int turns) {
        quants += turns * WAVE * quant_bytes;
        if (PLAIN) return;
        if (Is::fifth || F == FORMAT_Q6_K) high += turns * WAVE * high_bytes;
        scales += turns * WAVE * scale_bytes;
        if (Is::super_block) supers += turns * (WAVE / 8) * super_bytes;
    }
};
template <int F> DEVICE void load_piece(const Cursor<F, true>& c, Piece<F, true>& to, int turn) {
    to.q = load_once((const u32x4*)(c.quants + turn * WAVE * 16));
}
template <int F> DEVICE void load_piece(const Cursor<F, false>& c, Piece<F, false>& to, int turn) {
    typedef Cursor<F, false> C;
    load_block_at<F>(to.block, c.quants + turn * WAVE * C::quant_bytes, c.high + turn * WAVE * C::high_bytes, c.scales + turn * WAVE * C::scale_bytes,
                     c.supers + turn * (WAVE / 8) * C::super_bytes);
}

// The end of a row: bias, residual or gate, and the result.
template <bool GLU> DEVICE void store_row(const Matvec& a, int p, int row, float gate, float total) {
    const i64 to = (i64)block_y() * a.w[p].rows + row;
    if (GLU) {
        total *= a.act == 0 ? silu(gate) : a.act == 1 ? gelu(gate) : max_of(gate, 0.0f);
    } else {
        if (a.bias[p]) total += a.bias[p][row];
        if (a.residual) total += a.residual[to];
    }
    a.out[p][to] = total;
}

// The rows that a wave takes, `count` at a time: `more` says whether there is a next group, `start` sets the cursors on it, `here` tells
// which it is, `next` goes on, and `store` ends a group with its sums. `prepare` waits for the kernel before, reads what it has left, and
// returns what the sums are to be multiplied by.

// Rows of the matrices p ≤ i < end_p, laid end to end: `first`, `first + stride` and so on; for GLU each row of the gate with that of `up`.
template <bool GLU> struct Rows {
    static constexpr int count = GLU ? 2 : 1;
    struct Place {
        int p, row;
    };
    const Matvec& a;
    int end_p, stride;
    int all, end;  // this row and all rows, of all matrices
    Place here;

    DEVICE_MEMBER Rows(const Matvec& a, int p, int end_p, int first, int stride) : a(a), end_p(end_p), stride(stride), all(first), end(0) {
        here = Place{p, first};
        for (int i = p; i < (GLU ? p + 1 : end_p); i++) end += a.w[i].rows;
    }
    template <bool PLAIN> DEVICE_MEMBER float prepare(const Activations& x, float* shared) const {
        pdl_wait();
        return prepare_activations<PLAIN>(a, x, shared);
    }
    // The rows of run `i` of `runs` that all rows are cut into, from row `first` of it on.
    DEVICE_MEMBER void run(int i, int runs, int first) {
        all = here.row = (int)((i64)end * i / runs) + first;
        end = (int)((i64)end * (i + 1) / runs);
    }
    DEVICE_MEMBER bool more() const { return all < end; }
    template <class C> DEVICE_MEMBER void start(C* cursor, int pieces) {
        if (!GLU) {
            while (here.p + 1 < end_p && here.row >= a.w[here.p].rows) here.row -= a.w[here.p++].rows;
        }
        cursor[0].start(a.w[here.p], here.row, pieces);
        if (GLU) cursor[count - 1].start(a.w[here.p + 1], here.row, pieces);
    }
    DEVICE_MEMBER void next() { all += stride, here.row += stride; }
    DEVICE_MEMBER void store(const Place& at, const float* sum) const { store_row<GLU>(a, at.p, at.row, sum[0], sum[count - 1]); }
};

// Sums the rows until there are no more, and returns what is then next. TURNS pieces of each row of a group are in flight in a lane. `ahead`:
// prepare when the first loads are on their way; `scale` is what that says.
template <int F, int TURNS, class R> DEVICE R matvec_rows(int k, R rows, const Activations& x, float* shared, bool ahead, float& scale) {
    constexpr bool PLAIN = FormatOf<F>::plain;
    const int pieces = PLAIN ? k / 8 : k / 32;
    const int lane = lane_id();
    Piece<F, PLAIN> ring[R::count][TURNS];
    Cursor<F, PLAIN> cursor[R::count];
    int piece = lane;  // the first of this lane's next
    auto load = [&]() {
#pragma unroll
        for (int t = 0; t < TURNS; t++) {
            if (piece + t * WAVE < pieces) {
#pragma unroll
                for (int r = 0; r < R::count; r++) load_piece<F>(cursor[r], ring[r][t], t);
            }
        }
    };
    if (rows.more()) {
        rows.start(cursor, pieces);
        load();
    }
    if (ahead) scale = rows.template prepare<PLAIN>(x, shared);
    float sum[R::count];
#pragma unroll
    for (int r = 0; r < R::count; r++) sum[r] = 0.0f;
    while (rows.more()) {
#pragma unroll
        for (int t = 0; t < TURNS; t++) {
            if (piece + t * WAVE < pieces) {
                const typename Piece<F, PLAIN>::X v = Piece<F, PLAIN>::activation(x, piece + t * WAVE);
#pragma unroll
                for (int r = 0; r < R::count; r++) sum[r] += ring[r][t].dot(v);
            }
        }
        piece += TURNS * WAVE;
        if (piece - lane < pieces) {
#pragma unroll
            for (int r = 0; r < R::count; r++) cursor[r].advance(TURNS);
            load();
            continue;
        }
        const typename R::Place done = rows.here;
        piece = lane;
        rows.next();
        if (rows.more()) {
            rows.start(cursor, pieces);
            load();
        }
#pragma unroll
        for (int r = 0; r < R::count; r++) sum[r] = wave_sum(sum[r]) * scale;
        if (lane == 0) rows.store(done, sum);
#pragma unroll
        for (int r = 0; r < R::count; r++) sum[r] = 0.0f;
    }
    return rows;
}

// Pieces in flight, of one row or of two: as many as fit 64 registers.
template <int F, bool TWO_ROWS> struct Turns {
    static constexpr int value = (F == FORMAT_Q8_0 || F == FORMAT_Q6_K ? 2 : 4) / (TWO_ROWS ? 2 : 1);
};

template <int F, bool GLU> DEVICE void matvec(const Matvec& a, int blocks, u8* lds, float* shared) {
    pdl_trigger();
    const Activations x = activations_in<FormatOf<F>::plain>(lds, a.k);
    const int waves = MATVEC_THREADS / WAVE, wave = thread_id() / WAVE;
    float scale = 1.0f;
    if (FormatOf<F>::plain) {
        // Each block has rows that lie side by side: of plain weights a wave's loads are few, and memory serves neighbours faster.
        Rows<GLU> rows(a, 0, a.count, 0, waves);
        rows.run(block_x(), blocks, wave);
        matvec_rows<F, Turns<F, GLU>::value>(a.k, rows, x, shared, true, scale);
    } else {
        const Rows<GLU> rows(a, 0, a.count, block_x() * waves + wave, blocks * waves);
        matvec_rows<F, Turns<F, GLU>::value>(a.k, rows, x, shared, true, scale);
    }
}

// The first `split` matrices have one format, the others another: their rows are dealt to the waves as if they were one matrix.
template <int F, int G> DEVICE void matvec_two(const Matvec& a, int split, int blocks, u8* lds, float* shared) {
    pdl_trigger();
    const Activations x = activations_in<false>(lds, a.k);
    const int waves = MATVEC_THREADS / WAVE, stride = blocks * waves, mine = block_x() * waves + thread_id() / WAVE;
    const Rows<false> rows(a, 0, split, mine, stride);
    float scale = 1.0f;
    matvec_rows<F, Turns<F, false>::value>(a.k, rows, x, shared, true, scale);
    int before = 0;
    for (int p = 0; p < split; p++) before += a.w[p].rows;
    const int start = mine - before % stride;
    const Rows<false> rest(a, split, a.count, start < 0 ? start + stride : start, stride);
    matvec_rows<G, Turns<G, false>::value>(a.k, rest, x, shared, false, scale);
}
