/* Maxima of a query's similarities within segments of many vectors. See maxsim.h for the plan of the work.
 *
 * Plain C11 without Python's headers: the library is loaded with ctypes, which releases the interpreter's lock, and
 * several threads may call it at once. Nothing is global but constants. Compile with -ffp-contract=off: scans promise the
 * same bits on every path, so no product may be fused with a sum behind the source's back.
 */
#include <math.h>
#include <stdlib.h>

#include "maxsim.h"

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

/* ---- The path of any processor; compilers turn its inner loops into what vectors the target has ---- */

static const void *scalar_prepare(const int8_t *codes, int count, void *window) {
    (void)count, (void)window;
    return codes;
}

static float larger(float left, float right) { return left > right ? left : right; }

static void scalar_scan(const Tile *tile, const Run *run, float *best) {
    for (int row = 0; row < run->count; row++) {
        const int8_t *codes = (const int8_t *)run->rows + (ptrdiff_t)row * WIDTH;
        const int16_t *packed = tile->packed;
        int32_t sums[UNIT] = {0};
        for (int step = 0; step < WIDTH; step++, packed += UNIT)
            for (int token = 0; token < UNIT; token++)
                sums[token] += codes[step] * packed[token];
        for (int token = 0; token < UNIT; token++) {
            float value = (float)sums[token] * run->scales[row];
            if (tile->weights)
                value += run->residuals[row] * tile->weights[token];
            best[token] = larger(best[token], value);
        }
    }
}

/* IEEE 754 binary16 to binary32, which holds every such number. */
static float half_value(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, rest = half & 0x7fffu;
    uint32_t bits;
    float value;
    if (rest < 0x0400u) { /* zero and subnormals: multiples of 2**-24 */
        value = (float)rest * 0x1p-24f;
        memcpy(&bits, &value, sizeof bits);
    } else if (rest < 0x7c00u) {
        bits = (rest << 13) + 0x38000000u; /* the exponent's bias, 15, becomes 127 */
    } else {
        bits = 0x7f800000u | (rest << 13);
    }
    bits |= sign;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void scalar_widen(const uint16_t *halves, int count, float *window) {
    for (int at = 0; at < count * WIDTH; at++)
        window[at] = half_value(halves[at]);
}

static void scalar_exact(const Tile *tile, const Run *run, float *best) {
    for (int row = 0; row < run->count; row++) {
        const float *numbers = (const float *)run->rows + (ptrdiff_t)row * WIDTH;
        const float *packed = tile->packed;
        float sums[UNIT] = {0};
        for (int step = 0; step < WIDTH; step++, packed += UNIT)
            for (int token = 0; token < UNIT; token++)
                sums[token] += numbers[step] * packed[token];
        for (int token = 0; token < UNIT; token++)
            best[token] = larger(best[token], sums[token]);
    }
}

static const Path scalar_path = {
    .units = 1, .code_bytes = 2, .depth = 1, .bias = 0, .row_bytes = WIDTH,
    .prepare = scalar_prepare, .scan = scalar_scan,
    .exact_units = 1, .widen = scalar_widen, .exact = scalar_exact,
};

/* ---- Which paths there are ---- */

#if defined(__x86_64__)
#include "maxsim_x86.h"
#elif defined(__aarch64__) && defined(__ARM_NEON)
#include "maxsim_arm.h"
#endif

/* The numbers are part of the interface. */
enum { SCALAR = 0, AVX2_PATH = 1, AVX512VNNI = 2, NEON = 3, NEON_DOTPROD = 4, AVXVNNI = 5, PATHS = 6 };

/* The path of a number, or NULL where this processor cannot run it. */
static const Path *find_path(int number) {
    switch (number) {
    case SCALAR: return &scalar_path;
#if defined(__x86_64__)
    case AVX2_PATH: return avx2_works() ? &avx2_path : NULL;
    case AVX512VNNI: return vnni_works() ? &vnni_path : NULL;
#if defined(AVX_VNNI)
    case AVXVNNI: return avxvnni_works() ? &avxvnni_path : NULL;
#endif
#elif defined(__aarch64__) && defined(__ARM_NEON)
    case NEON: return &neon_path;
#if defined(DOTPROD)
    case NEON_DOTPROD: return dot_works() ? &dot_path : NULL;
#endif
#endif
    default: return NULL;
    }
}

/* ---- What a caller asks ---- */

typedef struct {
    const void *tokens;      /* [q, 128] int16 codes for a scan, float for an exact pass */
    const float *steps;      /* [q] what maxima of a scan are multiplied by */
    const float *weights;    /* [q] what residuals count, or NULL */
    const float *offsets;    /* [q] what is added to the maxima of a scan */
    const void *vectors;     /* [n, 128] int8 codes for a scan, IEEE binary16 for an exact pass */
    const float *scales;     /* [n] */
    const float *residuals;  /* [n], read only with weights */
    const int64_t *starts;   /* start of segment i is starts[i * stride] */
    const int64_t *ends;     /* and its end ends[i * stride] */
    float *maxima;           /* [s, q] the result */
    int64_t token_count;     /* q */
    int64_t vector_count;    /* n */
    int64_t segment_count;   /* s */
    int64_t stride;
    int32_t planes;          /* 1 or 2 */
    int32_t path;
} Job;

enum { DONE = 0, BAD_PATH = -1, BAD_SEGMENT = -2, BAD_COUNT = -3, NO_MEMORY = -4 };

/* More tokens than any query has; keeps sizes far from the range of size_t. */
enum { MOST_TOKENS = 1 << 20 };

/* ---- Packing a query ---- */

/* A query packed for a path, and the memory of a pass. */
typedef struct {
    const Path *path;
    void *block;      /* what was allocated */
    char *packed;     /* tiles, one after another */
    int32_t *start;   /* [padded] */
    float *weights;   /* [padded] */
    float *best;      /* [padded] running maxima of a segment */
    void *window;     /* prepared vectors */
    int64_t padded;   /* q rounded up to whole units */
    int units;        /* of a full tile */
    int token_bytes;  /* packed bytes of a token */
    int planes;       /* that are packed one after another */
} Pass;

static int allocate(Pass *pass, int64_t tokens) {
    enum { LINE = 64 };
    pass->padded = (tokens + UNIT - 1) / UNIT * UNIT;
    const size_t count = (size_t)pass->padded;
    /* Whole units keep every part on a cache line. */
    const size_t packed = count * (size_t)pass->token_bytes, words = count * sizeof(float);
    pass->block = calloc(1, LINE + packed + 3 * words + WINDOW);
    if (!pass->block)
        return NO_MEMORY;
    char *at = (char *)pass->block + (LINE - (uintptr_t)pass->block % LINE) % LINE;
    pass->packed = at;
    pass->start = (int32_t *)(at + packed);
    pass->weights = (float *)(at + packed + words);
    pass->best = (float *)(at + packed + 2 * words);
    pass->window = at + packed + 3 * words;
    return DONE;
}

static int tile_tokens(const Pass *pass, int64_t first) {
    const int64_t left = pass->padded - first, full = (int64_t)pass->units * UNIT;
    return (int)(left < full ? left : full);
}

/* code = 128 * high + low with low in -64..63 */
static int high_plane(int code) { return (code + 64 + 128 * 256) / 128 - 256; }

/* Where a tile keeps number `at` of its token `token` in plane `plane`, counted in numbers. */
static size_t packed_place(int plane, int at, int token, int tokens, int depth) {
    return (((size_t)plane * WIDTH + at) / depth * tokens + token) * depth + at % depth;
}

static void pack_codes(Pass *pass, const int16_t *codes, int64_t first, int64_t count) {
    const int tokens = tile_tokens(pass, first), depth = pass->path->depth;
    char *packed = pass->packed + first * pass->token_bytes;
    for (int token = 0; token < tokens && first + token < count; token++) {
        int32_t start = 0;
        for (int at = 0; at < WIDTH; at++) {
            const int code = codes[(first + token) * WIDTH + at];
            const int high = pass->planes == 2 ? high_plane(code) : code, low = code - 128 * high;
            if (pass->path->code_bytes == 2) {
                ((int16_t *)packed)[packed_place(0, at, token, tokens, depth)] = (int16_t)code;
                continue;
            }
            ((int8_t *)packed)[packed_place(0, at, token, tokens, depth)] = (int8_t)high;
            if (pass->planes == 2)
                ((int8_t *)packed)[packed_place(1, at, token, tokens, depth)] = (int8_t)low;
            /* The sum of the first plane, and with it this start, is multiplied by 128 before the second plane. */
            start -= pass->path->bias * high + (pass->planes == 2 ? pass->path->bias / 128 * low : 0);
        }
        pass->start[first + token] = start;
    }
}

static void pack_floats(Pass *pass, const float *tokens, int64_t first, int64_t count) {
    const int width = tile_tokens(pass, first);
    float *packed = (float *)(pass->packed + first * pass->token_bytes);
    for (int token = 0; token < width && first + token < count; token++)
        for (int at = 0; at < WIDTH; at++)
            packed[packed_place(0, at, token, width, 1)] = tokens[(first + token) * WIDTH + at];
}

/* ---- Passing over the vectors ---- */

/* Which vectors the window holds: first..first + count. */
typedef struct {
    const void *rows;
    int64_t first;
    int64_t count;
} Window;

static int64_t start_of(const Job *job, int64_t segment) { return job->starts[segment * job->stride]; }
static int64_t end_of(const Job *job, int64_t segment) { return job->ends[segment * job->stride]; }

/* How many vectors from `first`, which lies in `segment`, are wanted one after another, up to `most`. */
static int64_t wanted(const Job *job, int64_t segment, int64_t first, int64_t most) {
    int64_t end = end_of(job, segment);
    while (end - first < most && ++segment < job->segment_count && start_of(job, segment) == end)
        end = end_of(job, segment);
    return end - first < most ? end - first : most;
}

static void fill_window(const Job *job, const Pass *pass, Window *window, int64_t segment, int64_t first, int scan) {
    const int64_t row_bytes = scan ? pass->path->row_bytes : (int64_t)(WIDTH * sizeof(float));
    window->first = first;
    window->count = wanted(job, segment, first, WINDOW / row_bytes);
    if (scan) {
        window->rows = pass->path->prepare((const int8_t *)job->vectors + first * WIDTH, (int)window->count, pass->window);
    } else {
        pass->path->widen((const uint16_t *)job->vectors + first * WIDTH, (int)window->count, pass->window);
        window->rows = pass->window;
    }
}

static void all_tiles(const Job *job, const Pass *pass, const Run *run, int scan) {
    for (int64_t first = 0; first < pass->padded; first += (int64_t)pass->units * UNIT) {
        const Tile tile = {
            .packed = pass->packed + first * pass->token_bytes,
            .start = pass->start + first,
            .weights = scan && job->weights ? pass->weights + first : NULL,
            .units = tile_tokens(pass, first) / UNIT,
            .planes = pass->planes,
        };
        (scan ? pass->path->scan : pass->path->exact)(&tile, run, pass->best + first);
    }
}

static void finish(const Job *job, const Pass *pass, int64_t segment, int scan) {
    float *maxima = job->maxima + segment * job->token_count;
    if (scan && start_of(job, segment) < end_of(job, segment))
        for (int64_t token = 0; token < job->token_count; token++)
            maxima[token] = pass->best[token] * job->steps[token] + job->offsets[token];
    else
        memcpy(maxima, pass->best, (size_t)job->token_count * sizeof *maxima);
}

static void all_segments(const Job *job, const Pass *pass, int scan) {
    const int64_t row_bytes = scan ? pass->path->row_bytes : (int64_t)(WIDTH * sizeof(float));
    Window window = {0};
    for (int64_t segment = 0; segment < job->segment_count; segment++) {
        for (int64_t token = 0; token < pass->padded; token++)
            pass->best[token] = -INFINITY;
        for (int64_t at = start_of(job, segment), end = end_of(job, segment); at < end;) {
            if (at < window.first || at >= window.first + window.count)
                fill_window(job, pass, &window, segment, at, scan);
            const int64_t held = window.first + window.count;
            const Run run = {
                .rows = (const char *)window.rows + (at - window.first) * row_bytes,
                .scales = scan ? job->scales + at : NULL,
                .residuals = scan && job->weights ? job->residuals + at : NULL,
                .count = (int)((end < held ? end : held) - at),
                .ahead = (uintptr_t)job->vectors + (uintptr_t)at * WIDTH * (scan ? 1 : 2) + AHEAD,
            };
            all_tiles(job, pass, &run, scan);
            at += run.count;
        }
        finish(job, pass, segment, scan);
    }
}

/* ---- The interface ---- */

/* Everything that addresses are computed from; what they point at is the caller's word. */
static int check(const Job *job) {
    if (job->token_count < 1 || job->token_count > MOST_TOKENS || job->vector_count < 0 || job->segment_count < 0 ||
        job->planes < 1 || job->planes > 2)
        return BAD_COUNT;
    for (int64_t segment = 0; segment < job->segment_count; segment++) {
        const int64_t start = start_of(job, segment), end = end_of(job, segment);
        if (start < 0 || end < start || end > job->vector_count)
            return BAD_SEGMENT;
    }
    return DONE;
}

static int run_job(const Job *job, int scan) {
    Pass pass = {.path = find_path(job->path)};
    int state = pass.path ? check(job) : BAD_PATH;
    if (state != DONE)
        return state;
    const int code_bytes = pass.path->code_bytes;
    pass.units = scan ? pass.path->units : pass.path->exact_units;
    /* Codes of two bytes are multiplied whole. */
    pass.planes = scan && code_bytes == 1 ? job->planes : 1;
    pass.token_bytes = WIDTH * (scan ? code_bytes * pass.planes : (int)sizeof(float));
    state = allocate(&pass, job->token_count);
    if (state != DONE)
        return state;
    for (int64_t first = 0; first < pass.padded; first += (int64_t)pass.units * UNIT) {
        if (scan)
            pack_codes(&pass, job->tokens, first, job->token_count);
        else
            pack_floats(&pass, job->tokens, first, job->token_count);
    }
    if (job->weights)
        memcpy(pass.weights, job->weights, (size_t)job->token_count * sizeof(float));
    all_segments(job, &pass, scan);
    free(pass.block);
    return DONE;
}

/* Changes with the Job's layout or the meaning of a number. */
EXPORT int32_t clamr_kernel_version(void) { return 1; }

/* Bit i is set where path i works on this processor. */
EXPORT int32_t clamr_kernel_paths(void) {
    int32_t usable = 0;
    for (int number = 0; number < PATHS; number++)
        usable |= (find_path(number) != NULL) << number;
    return usable;
}

/* Maxima of the codes' similarities, or of their bounds. Returns DONE or what is wrong with the job. */
EXPORT int32_t clamr_kernel_scan(const Job *job) { return run_job(job, 1); }

/* Maxima of the similarities of binary16 vectors, multiplied and summed in float. */
EXPORT int32_t clamr_kernel_exact(const Job *job) { return run_job(job, 0); }
