// Blocks on the host: a fiber for each thread that has to wait, one stack after another for those that need not.
//
// A wave's lanes are bits of a u64: `live` have not returned, `ready` could run now, `waiting` stand at the wave's barrier or shuffle,
// `at_block` at the block's. The thread that runs is in none of the last three.
#include "engine.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace host {

__thread Thread* current __attribute__((visibility("hidden"), tls_model("initial-exec"))) = nullptr;

namespace {

constexpr size_t STACK_BYTES = 256 << 10;
constexpr size_t GUARD_BYTES = 4 << 10;
constexpr u32 SCRATCH_BYTES = 16 << 10;
constexpr u32 RED_ZONE = 64;
constexpr u32 MAX_WAVES = MAX_THREADS / WAVE;
constexpr u8 UNINITIALIZED = 0xff, RED = 0xa5;

// ---- contexts -------------------------------------------------------------------------------------------------------------------

#ifdef __x86_64__
// A context is a stack pointer, below which lie the registers that a call preserves.
typedef void* Context;
extern "C" void host_switch(Context* save, Context* to) __attribute__((visibility("hidden")));
asm(R"(
.text
.hidden host_switch
.globl host_switch
.type host_switch, @function
host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq (%rsi), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size host_switch, .-host_switch
)");
void prepare(Context& context, u8* stack, size_t bytes, void (*entry)()) {
    void** top = (void**)(((size_t)(stack + bytes)) & ~(size_t)63);
    std::memset(top - 8, 0, 64);
    top[-2] = (void*)entry;  // returned to, with the stack as a call leaves it
    context = top - 8;
}
#else
typedef ucontext_t Context;
void host_switch(Context* save, Context* to) { swapcontext(save, to); }
void prepare(Context& context, u8* stack, size_t bytes, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = bytes;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
}
#endif

// ---- one block ------------------------------------------------------------------------------------------------------------------

struct Fiber {
    Context context;
    u8* stack;
};

struct Wave {
    u64 live, ready, waiting, at_block;
    const char* what;  // what those that wait wait at
    int line;
};

struct FullThread : Thread {
    Fiber* fiber;  // none before it starts
    u32 wave;
    u32 sequence;  // of shuffles, barriers and the like of its wave
    u32 value[2];  // given to shuffles, even and odd in sequence
    void* pointer;
};

struct Array {
    const void* key;
    u8* start;
    u64 bytes;
};

// What an OS thread needs for running blocks; reused.
struct Engine {
    Context main;
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<Fiber*> idle;
    Fiber* running;

    const Kernel* kernel;
    void* const* args;
    Block block;
    u32 threads, waves, live, arrived;
    int block_line;
    FullThread thread[MAX_THREADS];
    Wave wave[MAX_WAVES];
    std::unique_ptr<u8[]> scratch{new u8[MAX_WAVES * SCRATCH_BYTES]};

    std::unique_ptr<u8[]> lds{new u8[2 * LDS_BYTES + 64]};
    std::vector<Array> arrays;
    u64 lds_used;

    std::string failure;
    bool illegal_address;
};

__thread Engine* engine __attribute__((tls_model("initial-exec"))) = nullptr;

FullThread& self() { return *static_cast<FullThread*>(current); }

// Ends the block with an error. The other fibers are left where they are: nothing on them needs an end.
[[noreturn]] void fail(const std::string& what) {
    Engine& e = *engine;
    char place[96];
    std::snprintf(place, sizeof place, ", block (%d, %d, %d), thread %d: ", e.block.x, e.block.y, e.block.z, current ? current->id : 0);
    e.failure = std::string("kernel ") + e.kernel->name + place + what;
    Context dead;
    current = nullptr;
    host_switch(&dead, &e.main);
    __builtin_unreachable();
}

std::string threads_at(const Engine& e) {
    std::string out;
    char text[128];
    for (u32 w = 0; w < e.waves; w++) {
        const Wave& wave = e.wave[w];
        for (int kind = 0; kind < 2; kind++) {
            u64 lanes = kind ? wave.at_block : wave.waiting;
            if (!lanes) continue;
            std::snprintf(text, sizeof text, "; %d of the %d live threads of wave %u wait at %s (line %d)", __builtin_popcountll(lanes),
                          __builtin_popcountll(wave.live), w, kind ? "a barrier of the block" : wave.what,
                          kind ? e.block_line : wave.line);
            if (out.size() < 600) out += text;
        }
    }
    return out;
}

void entry();

// The next thread that could run: of this wave if there is one, of the next that has one otherwise.
FullThread* next_ready(Engine& e, u32 wave, int lane) {
    for (u32 i = 0; i < e.waves; i++) {
        u32 w = wave + i < e.waves ? wave + i : wave + i - e.waves;
        u64 ready = e.wave[w].ready;
        if (!ready) continue;
        u64 above = i == 0 && lane < 63 ? ready & (~0ull << (lane + 1)) : 0;
        return &e.thread[w * WAVE + __builtin_ctzll(above ? above : ready)];
    }
    return nullptr;
}

Fiber* idle_fiber(Engine& e) {
    if (e.idle.empty()) {
        u8* stack = (u8*)mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stack == MAP_FAILED) fail("the emulator has no memory for another stack");
        mprotect(stack, GUARD_BYTES, PROT_NONE);
        e.fibers.push_back(std::unique_ptr<Fiber>(new Fiber{{}, stack}));
        e.idle.push_back(e.fibers.back().get());
    }
    Fiber* fiber = e.idle.back();
    e.idle.pop_back();
    return fiber;
}

// Gives the OS thread to `next`; returns when this fiber is given it again.
void resume(Engine& e, Context* save, FullThread* next) {
    e.wave[next->wave].ready &= ~(1ull << next->lane);
    current = next;
    if (!next->fiber) {
        next->fiber = idle_fiber(e);
        // Tops of stacks at different offsets of a page, or they would share the cache's few lines of one set.
        size_t index = (size_t)next->id;
        prepare(next->fiber->context, next->fiber->stack, STACK_BYTES - index % 61 * 192, entry);
    }
    e.running = next->fiber;
    host_switch(save, &next->fiber->context);
}

void give_way(Engine& e, FullThread& t) {
    FullThread* next = next_ready(e, t.wave, t.lane);
    if (!next) fail("not all threads reach the same barrier" + threads_at(e));
    resume(e, &t.fiber->context, next);
}

void release_wave(Wave& wave) {
    wave.ready |= wave.waiting;
    wave.waiting = 0;
}

void release_block(Engine& e) {
    for (u32 w = 0; w < e.waves; w++) {
        e.wave[w].ready |= e.wave[w].at_block;
        e.wave[w].at_block = 0;
    }
    e.arrived = 0;
}

void finished(Engine& e, FullThread& t) {
    Wave& wave = e.wave[t.wave];
    wave.live &= ~(1ull << t.lane);
    e.live--;
    if (wave.waiting && wave.waiting == wave.live) release_wave(wave);
    if (e.arrived && e.arrived == e.live) release_block(e);
}

// What runs on a fiber: its thread, then threads that have not begun, for as long as one of those is next.
void entry() {
    Engine& e = *engine;
    Fiber* fiber = e.running;
    for (;;) {
        e.kernel->call(e.args);
        FullThread& t = self();
        finished(e, t);
        FullThread* next = e.live ? next_ready(e, t.wave, t.lane) : nullptr;
        if (e.live && !next) fail("not all threads reach the same barrier, this one returned" + threads_at(e));
        if (next && !next->fiber) {
            e.wave[next->wave].ready &= ~(1ull << next->lane);
            next->fiber = fiber;
            current = next;
            continue;
        }
        e.idle.push_back(fiber);
        if (next) {
            resume(e, &fiber->context, next);
        } else {
            current = nullptr;
            host_switch(&fiber->context, &e.main);
        }
        __builtin_unreachable();
    }
}

// Arrives at something that all live lanes of the wave must reach. True for the last one.
bool arrive(Engine& e, FullThread& t, const char* what, int line) {
    Wave& wave = e.wave[t.wave];
    u64 bit = 1ull << t.lane;
    t.sequence++;
    if (!wave.waiting) {
        wave.what = what;
        wave.line = line;
    } else if (wave.what != what || wave.line != line) {
        char text[96];
        std::snprintf(text, sizeof text, "the lanes of the wave part: this one is at %s (line %d)", what, line);
        fail(text + threads_at(e));
    }
    wave.waiting |= bit;
    return wave.waiting == wave.live;
}

const char SHUFFLE[] = "a shuffle", WAVE_BARRIER[] = "a barrier of the wave", TOGETHER[] = "a matrix operation";

u8* new_array(Engine& e, const void* key, u64 bytes) {
    u64 start = (e.lds_used + 15) & ~15ull;
    if (bytes > LDS_BYTES || start + bytes + RED_ZONE > 2 * LDS_BYTES) fail("more LDS than a block may have, 64 KiB");
    u8* at = (u8*)(((size_t)e.lds.get() + 63) & ~(size_t)63) + start;
    std::memset(at, UNINITIALIZED, bytes);
    std::memset(at + bytes, RED, RED_ZONE);
    e.arrays.push_back({key, at, bytes});
    e.lds_used = start + bytes + RED_ZONE;
    u64 all = 0;
    for (const Array& a : e.arrays) all += (a.bytes + 15) & ~15ull;
    if (all > LDS_BYTES) fail("more LDS than a block may have, 64 KiB");
    return at;
}

void check_red_zones(Engine& e) {
    for (const Array& a : e.arrays) {
        for (u32 i = 0; i < RED_ZONE; i++) {
            if (a.start[a.bytes + i] == RED) continue;
            char text[128];
            std::snprintf(text, sizeof text, ": written %u bytes past the end of an LDS array of %llu bytes", i, a.bytes);
            e.failure = std::string("kernel ") + e.kernel->name + text;
            return;
        }
    }
}

void run_block(Engine& e, Block block, u32 dynamic_lds) {
    e.block = block;
    e.threads = e.live = (u32)e.kernel->threads;
    e.waves = (e.threads + WAVE - 1) / WAVE;
    e.arrived = 0;
    e.arrays.clear();
    e.lds_used = 0;
    for (u32 w = 0; w < e.waves; w++) {
        u32 lanes = std::min<u32>(WAVE, e.threads - w * WAVE);
        u64 all = lanes == 64 ? ~0ull : (1ull << lanes) - 1;
        e.wave[w] = Wave{all, all, 0, 0, nullptr, 0};
    }
    for (u32 i = 0; i < e.threads; i++) {
        FullThread& t = e.thread[i];
        t.id = (int)i;
        t.lane = (int)(i % WAVE);
        t.block = &e.block;
        t.fiber = nullptr;
        t.wave = i / WAVE;
        t.sequence = 0;
    }
    if (dynamic_lds) new_array(e, nullptr, dynamic_lds);
    resume(e, &e.main, &e.thread[0]);
    if (e.failure.empty()) {
        check_red_zones(e);
    } else {
        e.idle.clear();
        for (auto& fiber : e.fibers) e.idle.push_back(fiber.get());
    }
}

// ---- a launch -------------------------------------------------------------------------------------------------------------------

struct Launch {
    const Kernel* kernel;
    void* const* args;
    Grid grid;
    u32 dynamic_lds;
    u64 blocks;
    std::atomic<u64> next{0};
    std::atomic<bool> failed{false};
    std::mutex lock;
    std::string failure;
    bool illegal_address = false;
};

std::mutex engines_lock;
std::vector<Engine*> engines;  // that no launch uses now

void run_some(Launch& launch, u64 at_most) {
    {
        std::lock_guard<std::mutex> guard(engines_lock);
        if (!engines.empty()) {
            engine = engines.back();
            engines.pop_back();
        }
    }
    if (!engine) engine = new Engine;
    Engine& e = *engine;
    e.kernel = launch.kernel;
    e.args = launch.args;
    e.failure.clear();
    e.illegal_address = false;
    while (at_most-- > 0 && !launch.failed.load(std::memory_order_relaxed)) {
        u64 i = launch.next.fetch_add(1, std::memory_order_relaxed);
        if (i >= launch.blocks) break;
        u64 row = i / launch.grid.x;
        Block block{(int)(i % launch.grid.x), (int)(row % launch.grid.y), (int)(row / launch.grid.y)};
        run_block(e, block, launch.dynamic_lds);
        if (!e.failure.empty()) {
            std::lock_guard<std::mutex> guard(launch.lock);
            if (!launch.failed.exchange(true)) {
                launch.failure = e.failure;
                launch.illegal_address = e.illegal_address;
            }
        }
    }
    std::lock_guard<std::mutex> guard(engines_lock);
    engines.push_back(engine);
    engine = nullptr;
}

// ---- memory errors --------------------------------------------------------------------------------------------------------------

struct sigaction previous[2];

void on_fault(int signal, siginfo_t* info, void* context) {
    if (current && engine) {
        engine->illegal_address = true;
        fail("memory access at " + describe_address(info->si_addr));
    }
    const struct sigaction& before = previous[signal == SIGBUS];
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(signal, info, context);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(signal);
    } else {
        ::signal(signal, SIG_DFL);  // happens again, and ends the process
    }
}

void watch_memory() {
    static std::once_flag once;
    std::call_once(once, [] {
        struct sigaction action = {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        sigaction(SIGSEGV, &action, &previous[0]);
        sigaction(SIGBUS, &action, &previous[1]);
    });
    // A handler's own stack, for when a fiber's is what ran out.
    stack_t stack;
    if (sigaltstack(nullptr, &stack) == 0 && stack.ss_flags & SS_DISABLE) {
        stack.ss_size = 64 << 10;
        stack.ss_sp = std::malloc(stack.ss_size);  // kept: a thread's end does not tell
        stack.ss_flags = 0;
        sigaltstack(&stack, nullptr);
    }
}

// ---- several OS threads ---------------------------------------------------------------------------------------------------------

// OS threads that help with a launch, one launch at a time. Never ends: the library is not unloaded.
struct Pool {
    std::mutex in_use;  // held by who launches
    std::mutex lock;
    std::condition_variable wake, done;
    Launch* launch = nullptr;
    u64 number = 0;
    u32 helpers = 0, active = 0;

    explicit Pool(u32 threads) : helpers(threads - 1) {
        for (u32 i = 0; i < helpers; i++) std::thread([this] { help(); }).detach();
    }
    void help() {
        watch_memory();
        u64 seen = 0;
        std::unique_lock<std::mutex> guard(lock);
        for (;;) {
            wake.wait(guard, [&] { return number != seen; });
            seen = number;
            Launch* mine = launch;
            if (!mine) continue;
            active++;
            guard.unlock();
            run_some(*mine, ~0ull);
            guard.lock();
            if (--active == 0) done.notify_all();
        }
    }
    void run(Launch& l) {
        {
            std::lock_guard<std::mutex> guard(lock);
            launch = &l;
            number++;
        }
        wake.notify_all();
        run_some(l, ~0ull);
        std::unique_lock<std::mutex> guard(lock);
        launch = nullptr;
        done.wait(guard, [&] { return active == 0; });
    }
};

u32 pool_threads() {
    if (const char* text = std::getenv("HIPHOST_THREADS")) return (u32)std::clamp(std::atoi(text), 1, 64);
    return std::clamp(std::thread::hardware_concurrency(), 1u, 16u);
}

void run_all(Launch& launch) {
    static const u32 threads = pool_threads();
    if (threads == 1 || launch.blocks == 1) return run_some(launch, ~0ull);
    // Waking others is worth it only where there is more to do than that takes.
    auto before = std::chrono::steady_clock::now();
    run_some(launch, 1);
    std::chrono::duration<double, std::micro> one = std::chrono::steady_clock::now() - before;
    if (one.count() * (double)(launch.blocks - 1) > 100.0) {
        static Pool* pool = new Pool(threads);
        std::unique_lock<std::mutex> mine(pool->in_use, std::try_to_lock);
        if (mine) return pool->run(launch);
    }
    run_some(launch, ~0ull);
}

}  // namespace

// ---- what kernels call ----------------------------------------------------------------------------------------------------------

void wait_block(int line) {
    Engine& e = *engine;
    FullThread& t = self();
    if (e.arrived && e.block_line != line) {
        char text[96];
        std::snprintf(text, sizeof text, "the threads of the block part: this one is at a barrier of the block (line %d)", line);
        fail(text + threads_at(e));
    }
    e.block_line = line;
    if (++e.arrived == e.live) return release_block(e);
    e.wave[t.wave].at_block |= 1ull << t.lane;
    give_way(e, t);
}

void wait_wave(int line) {
    Engine& e = *engine;
    FullThread& t = self();
    if (arrive(e, t, WAVE_BARRIER, line)) {
        e.wave[t.wave].waiting &= ~(1ull << t.lane);
        release_wave(e.wave[t.wave]);
    } else {
        give_way(e, t);
    }
}

u32 shuffle(u32 value, int from, int line) {
    Engine& e = *engine;
    FullThread& t = self();
    u32 slot = t.sequence & 1;
    t.value[slot] = value;
    if (arrive(e, t, SHUFFLE, line)) {
        e.wave[t.wave].waiting &= ~(1ull << t.lane);
        release_wave(e.wave[t.wave]);
    } else {
        give_way(e, t);
    }
    u32 index = t.wave * WAVE + (u32)from;
    // The source may have passed this shuffle, but not the next one: that waits for this thread.
    if ((u32)from >= WAVE || index >= e.threads || e.thread[index].sequence < t.sequence) {
        char text[128];
        std::snprintf(text, sizeof text, "a shuffle (line %d) from lane %d, which takes no part in it", line, from);
        fail(text);
    }
    return e.thread[index].value[slot];
}

void together(void* mine, void (*f)(void* const* lanes), int line) {
    Engine& e = *engine;
    FullThread& t = self();
    t.pointer = mine;
    if (!arrive(e, t, TOGETHER, line)) {
        give_way(e, t);
        return;
    }
    if (e.wave[t.wave].live != (WAVE == 64 ? ~0ull : 0xffffffffull)) fail("a matrix operation without all lanes of the wave");
    void* lanes[WAVE];
    for (u32 i = 0; i < WAVE; i++) lanes[i] = e.thread[t.wave * WAVE + i].pointer;
    f(lanes);
    e.wave[t.wave].waiting &= ~(1ull << t.lane);
    release_wave(e.wave[t.wave]);
}

u8* wave_scratch() { return &engine->scratch[self().wave * SCRATCH_BYTES]; }

void* lds(const void* key, u64 bytes) {
    Engine& e = *engine;
    for (const Array& a : e.arrays) {
        if (a.key == key) return a.start;
    }
    return new_array(e, key, bytes);
}

u8* dynamic_lds() {
    Engine& e = *engine;
    if (e.arrays.empty() || e.arrays[0].key) fail("dynamic LDS is used and was not asked for at the launch");
    return e.arrays[0].start;
}

std::vector<Kernel>& kernels() {
    static std::vector<Kernel>* all = new std::vector<Kernel>;
    return *all;
}

Register::Register(const Kernel& kernel) { kernels().push_back(kernel); }

std::string launch(const Kernel& kernel, Grid grid, u32 dynamic_lds, void* const* args, bool& illegal_address) {
    watch_memory();
    Launch l;
    l.kernel = &kernel;
    l.args = args;
    l.grid = grid;
    l.dynamic_lds = dynamic_lds;
    l.blocks = (u64)grid.x * grid.y * grid.z;
    if (dynamic_lds > LDS_BYTES) return std::string("kernel ") + kernel.name + ": more dynamic LDS than a block may have, 64 KiB";
    run_all(l);
    illegal_address = l.illegal_address;
    return l.failure;
}

}  // namespace host
