// Tokens that may be chosen: their order, their probabilities as integers, and the search for the one at which a sum is reached.
//
// A candidate's place is {bits of the logit in the order of the reals, ~id}: larger logits have larger places, of equal ones the smaller id.
// A probability is a mass, e^((logit − largest) / temperature) · 2^bits as an integer, with bits such that no sum of the vocabulary
// exceeds 2^63. Integers have the same sum in any order, and only integers and one product of doubles make a mass: sums, and with them
// what is chosen, are the same on every device, for any number of blocks. A mass errs by at most 2^-30 of itself and half a unit.
#pragma once
#include "portable.h"

#define SAMPLE_THREADS 256
#define SAMPLE_LARGEST 3.4028235e38f
#define SAMPLE_LEAST (-3.4028235e38f)

// What is summed.
#define BY_COUNT 0      // candidates
#define BY_MASS 1       // masses at temperature 1
#define BY_HOT_MASS 2   // masses at the temperature, of what min-p leaves

struct Sampling {
    double scale;  // 2^32 · log2(e) / temperature
    u64 top_p;     // in units of 2^-64, rounded up; all ones keeps all
    float min_p;   // ln(min-p); −inf keeps all
    u32 top_k;     // 0 keeps all
    int bits;      // of a mass
    u32 unused;
};

// ---- places ---------------------------------------------------------------------------------------------------------------------

// Floats as integers in the same order, −0 below +0.
DEVICE u32 order_key(float v) {
    const u32 b = float_to_bits(v);
    return b & 0x80000000u ? ~b : b | 0x80000000u;
}
DEVICE u64 place_of(float v, u32 id) { return (u64)order_key(v) << 32 | (u64)(~id); }
DEVICE u32 id_of(u64 place) { return ~(u32)place; }
DEVICE float logit_of(u64 place) {
    const u32 key = (u32)(place >> 32);
    return bits_to_float(key & 0x80000000u ? key ^ 0x80000000u : ~key);
}

// Ranges of top − logit, the first of them [0, 2^-9), then 128 an octave; the last one has all from about 2^7 on.
#define SAMPLE_BUCKETS 2048
DEVICE int bucket_of(float v, float top) {
    const int b = (int)(float_to_bits(top - v) >> 16) - ((127 - 9) << 7);
    return b < 0 ? 0 : min_of(b + 1, SAMPLE_BUCKETS - 1);
}

// ---- masses ---------------------------------------------------------------------------------------------------------------------

DEVICE u64 mul_high(u64 a, u64 b) {
    const u64 al = (u32)a, ah = a >> 32, bl = (u32)b, bh = b >> 32;
    const u64 low = al * bl, x = al * bh, y = ah * bl;
    const u64 middle = (low >> 32) + (u32)x + (u32)y;
    return ah * bh + (x >> 32) + (y >> 32) + (middle >> 32);
}

// 2^bits · 2^-y, to nearest, where y = (top − v) · scale / 2^32.
DEVICE u64 mass_of(float v, float top, double scale, int bits) {
    const double y = ((double)top - (double)v) * scale;
    if (!(y < 4294967296.0 * 100.0)) return 0u;
    const u64 q = (u64)y;
    const u32 x = 0u - (u32)q;
    // 2^(x / 2^32) in units of 2^-32 by its series (ln 2)^k / k!; x = 0 stands for 1.
    u64 r = 1ull << 33;
    if (x) {
        const u32 series[] = {1u, 30u, 437u, 5676u, 65509u, 661576u, 5726719u, 41309549u, 238388331u, 1031764991u, 2977044471u};
        u32 p = 0u;
#pragma unroll
        for (int i = 0; i < 11; i++) p = series[i] + (u32)((u64)p * x >> 32);
        r = (1ull << 32) + ((u64)p * x >> 32);
    }
    const int right = (int)(q >> 32) + 33 - bits;
    if (right <= 0) return r << -right;
    return right > 34 ? 0u : (r + (1ull << (right - 1))) >> right;
}

#define SAMPLE_NATURAL (4294967296.0 * 1.4426950408889634)

DEVICE u64 measure(float v, float top, int by, const Sampling& how) {
    if (by == BY_COUNT) return 1u;
    if (by == BY_MASS) return mass_of(v, top, SAMPLE_NATURAL, how.bits);
    return v >= top + how.min_p ? mass_of(v, top, how.scale, how.bits) : 0u;
}

// ---- sums and searches of a block -------------------------------------------------------------------------------------------------

// LDS.
struct Sums {
    u32* low;    // 256 sums of digits, in two halves
    u32* high;
    u32* count;  // 256: how many have a digit
    u64* one;    // 256: one of them
    u64* waves;  // SAMPLE_THREADS / WAVE
    u64* found;  // 2
};
#define SAMPLE_SUMS(name)                                                                                          \
    LDS(u32, name##_digits, 3 * 256);                                                                              \
    LDS(u64, name##_ones, 256);                                                                                    \
    LDS(u64, name##_waves, SAMPLE_THREADS / WAVE + 2);                                                             \
    const Sums name = {name##_digits, name##_digits + 256, name##_digits + 512, name##_ones, name##_waves, name##_waves + SAMPLE_THREADS / WAVE}

// Adds to a sum that has two halves. Sums do not depend on the order: whoever wraps the lower half carries.
DEVICE void add_halves(u32* low, u32* high, u64 v) {
    const u32 l = (u32)v;
    const u32 carry = l != 0u && atomic_add(low, l) + l < l ? 1u : 0u;
    const u32 h = (u32)(v >> 32) + carry;
    if (h != 0u) atomic_add(high, h);
}

DEVICE u64 shfl_u64(u64 v, int lane) {
    const u32 low = (u32)shfl((int)(u32)v, lane), high = (u32)shfl((int)(u32)(v >> 32), lane);
    return (u64)high << 32 | low;
}

// A value of each thread of the block, and the sums of them.
struct Scan {
    u64 mine;
    u64 sum;    // of this thread's and those of the threads before it
    u64 total;
};

DEVICE Scan scan(u64 mine, const Sums& s) {
    u64 sum = mine;
#pragma unroll
    for (int d = 1; d < WAVE; d *= 2) {
        const u64 v = shfl_u64(sum, max_of(lane_id() - d, 0));
        if (lane_id() >= d) sum += v;
    }
    const int wave = thread_id() / WAVE;
    if (lane_id() == WAVE - 1) s.waves[wave] = sum;
    sync_threads();
    u64 total = 0u;
#pragma unroll
    for (int w = 0; w < SAMPLE_THREADS / WAVE; w++) {
        if (w == wave) sum += total;
        total += s.waves[w];
    }
    return Scan{mine, sum, total};
}

struct Crossing {
    int thread;  // the first with which the sum reaches the target; any if none
    u64 before;  // the sum of the threads before it
};

// Once after each scan, or the next scan follows a barrier. All threads get the same.
DEVICE Crossing crossing(const Scan& of, u64 target, const Sums& s) {
    if (of.sum >= target && of.sum - of.mine < target) s.found[0] = (u64)thread_id(), s.found[1] = of.sum - of.mine;
    sync_threads();
    return Crossing{(int)(s.found[0] & (SAMPLE_THREADS - 1)), s.found[1]};
}

DEVICE u64 block_total(u64 mine, const Sums& s) {
    const u64 total = scan(mine, s).total;
    sync_threads();
    return total;
}

// Candidates in a list, or those in a range of the logits.
struct Candidates {
    const u64* list;  // places; null: the logits
    const float* logits;
    int n;      // of the list or the logits
    float top;  // the largest logit
    u32 least;  // the least order_key
    int from, to;  // buckets

    // The place of a candidate; 0 if it is none.
    DEVICE_MEMBER u64 at(int i) const { return list ? list[i] : of_logit(logits[i], i); }
    DEVICE_MEMBER u64 of_logit(float v, int i) const {
        if (!(v >= SAMPLE_LEAST) || order_key(v) < least) return 0u;
        const int bucket = bucket_of(v, top);
        return bucket >= from && bucket <= to ? place_of(v, (u32)i) : 0u;
    }
};

// The sum of those at `cut` or before it in the order.
DEVICE u64 sum_of(const Candidates& c, int by, u64 cut, const Sampling& how, const Sums& s) {
    u64 sum = 0u;
    for (int i = thread_id(); i < c.n; i += SAMPLE_THREADS) {
        const u64 place = c.at(i);
        if (place != 0u && place >= cut) sum += measure(logit_of(place), c.top, by, how);
    }
    return block_total(sum, s);
}

// The place of the first candidate in the order, at `cut` or before it, with which the sum reaches `target` (at least 1, at most their
// sum): digit by digit of the place, eight bits at a time from bit `open` on, where all of them have the same bits above. With `few`
// it ends where at most so many candidates have the same bits, and gives a place of which the first with that sum is not behind.
DEVICE u64 search(const Candidates& c, int by, u64 cut, u64 target, int open, u32 few, const Sampling& how, const Sums& s) {
    const int t = thread_id();
    u64 prefix = 0u;
    bool begun = false;
    while (open > 0) {
        const int width = min_of(open, 8), shift = open - width;
        s.low[t] = 0u, s.high[t] = 0u, s.count[t] = 0u;
        sync_threads();
        for (int i = t; i < c.n; i += SAMPLE_THREADS) {
            const u64 place = c.at(i);
            if (place == 0u || place < cut || (begun && (place >> open) != (prefix >> open))) continue;
            const int digit = (int)(place >> shift) & ((1 << width) - 1);
            if (by != BY_COUNT) add_halves(&s.low[digit], &s.high[digit], measure(logit_of(place), c.top, by, how));
            atomic_add(&s.count[digit], 1u);
            s.one[digit] = place;
        }
        sync_threads();
        // Thread t has the digit 255 − t, so that larger places come first.
        const u64 mine = by == BY_COUNT ? (u64)s.count[255 - t] : (u64)s.high[255 - t] << 32 | s.low[255 - t];
        const Crossing found = crossing(scan(mine, s), target, s);
        const int digit = 255 - found.thread;
        const u64 one = s.one[digit];
        const u32 count = s.count[digit];
        sync_threads();
        if (count == 1u) return one;
        // Whichever it is: the bits that are settled are those of all.
        prefix = one >> shift << shift;
        if (count <= few) break;
        target -= found.before;
        open = shift, begun = true;
    }
    return prefix;
}
