/* Paths of 64-bit ARM: NEON with the dot-product instructions, and NEON as every such processor has it. */
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

#include "maxsim.h"

/* How a compiler is told to use SDOT in one function, if it can be told. */
#if defined(__ARM_FEATURE_DOTPROD)
#define DOTPROD
#elif defined(__clang__) && __clang_major__ >= 16
#define DOTPROD __attribute__((target("dotprod")))
#elif !defined(__clang__)
#define DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#endif

ALWAYS void neon_fold(const Tile *tile, const Run *run, int row, const int32x4_t *sums, float32x4_t *best) {
    UNROLL
    for (int part = 0; part < 4; part++) {
        float32x4_t value = vmulq_n_f32(vcvtq_f32_s32(sums[part]), run->scales[row]);
        if (tile->weights) /* Not fused: every path rounds alike. */
            value = vaddq_f32(value, vmulq_n_f32(vld1q_f32(tile->weights + 4 * part), run->residuals[row]));
        best[part] = vmaxq_f32(best[part], value);
    }
}

#if defined(DOTPROD)
/* ---- Dot products: 4 tokens a register, four numbers a step ---- */

/* SDOT takes signed bytes as they are. */
static const void *dot_prepare(const int8_t *codes, int count, void *window) {
    (void)count, (void)window;
    return codes;
}

DOTPROD ALWAYS void dot_block(const Tile *tile, const Run *run, int first, float32x4_t *best, const int size) {
    const int8_t *rows = (const int8_t *)run->rows + (ptrdiff_t)first * WIDTH;
    const int8_t *packed = tile->packed;
    int32x4_t sums[4][4];
    UNROLL
    for (int row = 0; row < size; row++)
        UNROLL
        for (int part = 0; part < 4; part++)
            sums[row][part] = vdupq_n_s32(0);
    for (int plane = 0;;) {
        for (int step = 0; step < WIDTH / 4; step++, packed += 4 * UNIT) {
            UNROLL
            for (int row = 0; row < size; row++) {
                int8x16_t numbers = vreinterpretq_s8_s32(vdupq_n_s32(load32(rows + row * WIDTH + 4 * step)));
                UNROLL
                for (int part = 0; part < 4; part++)
                    sums[row][part] = vdotq_s32(sums[row][part], vld1q_s8(packed + 16 * part), numbers);
            }
        }
        if (++plane == tile->planes)
            break;
        UNROLL
        for (int row = 0; row < size; row++)
            UNROLL
            for (int part = 0; part < 4; part++)
                sums[row][part] = vshlq_n_s32(sums[row][part], PLANE_BITS);
    }
    UNROLL
    for (int row = 0; row < size; row++)
        neon_fold(tile, run, first + row, sums[row], best);
}

DOTPROD ALWAYS void dot_sweep(const Tile *tile, const Run *run, float *best, const int size) {
    float32x4_t maxima[4] = {vld1q_f32(best), vld1q_f32(best + 4), vld1q_f32(best + 8), vld1q_f32(best + 12)};
    for (int number = 0; number * size < run->count; number++)
        dot_block(tile, run, block_start(number, size, run->count), maxima, size);
    for (int part = 0; part < 4; part++)
        vst1q_f32(best + 4 * part, maxima[part]);
}

DOTPROD static void dot_scan(const Tile *tile, const Run *run, float *best) {
    if (run->count >= 4)
        dot_sweep(tile, run, best, 4);
    else
        dot_sweep(tile, run, best, 1);
}
#endif

/* ---- Plain NEON: 4 tokens a register, one number of 16 bits a step ---- */

static const void *neon_prepare(const int8_t *codes, int count, void *window) {
    for (int at = 0; at < count * WIDTH; at += 8)
        vst1q_s16((int16_t *)window + at, vmovl_s8(vld1_s8(codes + at)));
    return window;
}

ALWAYS void neon_block(const Tile *tile, const Run *run, int first, float32x4_t *best, const int size) {
    const int16_t *rows = (const int16_t *)run->rows + (ptrdiff_t)first * WIDTH;
    const int16_t *packed = tile->packed;
    int32x4_t sums[4][4];
    UNROLL
    for (int row = 0; row < size; row++)
        UNROLL
        for (int part = 0; part < 4; part++)
            sums[row][part] = vdupq_n_s32(0);
    for (int step = 0; step < WIDTH; step++, packed += UNIT) {
        UNROLL
        for (int row = 0; row < size; row++) {
            const int16_t number = rows[row * WIDTH + step];
            UNROLL
            for (int part = 0; part < 4; part++)
                sums[row][part] = vmlal_n_s16(sums[row][part], vld1_s16(packed + 4 * part), number);
        }
    }
    UNROLL
    for (int row = 0; row < size; row++)
        neon_fold(tile, run, first + row, sums[row], best);
}

ALWAYS void neon_sweep(const Tile *tile, const Run *run, float *best, const int size) {
    float32x4_t maxima[4] = {vld1q_f32(best), vld1q_f32(best + 4), vld1q_f32(best + 8), vld1q_f32(best + 12)};
    for (int number = 0; number * size < run->count; number++)
        neon_block(tile, run, block_start(number, size, run->count), maxima, size);
    for (int part = 0; part < 4; part++)
        vst1q_f32(best + 4 * part, maxima[part]);
}

static void neon_scan(const Tile *tile, const Run *run, float *best) {
    if (run->count >= 4)
        neon_sweep(tile, run, best, 4);
    else
        neon_sweep(tile, run, best, 1);
}

static void neon_widen(const uint16_t *halves, int count, float *window) {
    for (int at = 0; at < count * WIDTH; at += 4)
        vst1q_f32(window + at, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(halves + at))));
}

ALWAYS void fma_block(const Tile *tile, const Run *run, int first, float32x4_t *best, const int size) {
    const float *rows = (const float *)run->rows + (ptrdiff_t)first * WIDTH;
    const float *packed = tile->packed;
    float32x4_t sums[4][4];
    UNROLL
    for (int row = 0; row < size; row++)
        UNROLL
        for (int part = 0; part < 4; part++)
            sums[row][part] = vdupq_n_f32(0);
    for (int step = 0; step < WIDTH; step++, packed += UNIT) {
        UNROLL
        for (int row = 0; row < size; row++) {
            const float number = rows[row * WIDTH + step];
            UNROLL
            for (int part = 0; part < 4; part++)
                sums[row][part] = vfmaq_n_f32(sums[row][part], vld1q_f32(packed + 4 * part), number);
        }
    }
    UNROLL
    for (int row = 0; row < size; row++)
        UNROLL
        for (int part = 0; part < 4; part++)
            best[part] = vmaxq_f32(best[part], sums[row][part]);
}

ALWAYS void fma_sweep(const Tile *tile, const Run *run, float *best, const int size) {
    float32x4_t maxima[4] = {vld1q_f32(best), vld1q_f32(best + 4), vld1q_f32(best + 8), vld1q_f32(best + 12)};
    for (int number = 0; number * size < run->count; number++)
        fma_block(tile, run, block_start(number, size, run->count), maxima, size);
    for (int part = 0; part < 4; part++)
        vst1q_f32(best + 4 * part, maxima[part]);
}

static void neon_exact(const Tile *tile, const Run *run, float *best) {
    if (run->count >= 4)
        fma_sweep(tile, run, best, 4);
    else
        fma_sweep(tile, run, best, 1);
}

static const Path neon_path = {
    .units = 1, .code_bytes = 2, .depth = 1, .bias = 0, .row_bytes = 2 * WIDTH,
    .prepare = neon_prepare, .scan = neon_scan,
    .exact_units = 1, .widen = neon_widen, .exact = neon_exact,
};

#if defined(DOTPROD)
static const Path dot_path = {
    .units = 1, .code_bytes = 1, .depth = 4, .bias = 0, .row_bytes = WIDTH,
    .prepare = dot_prepare, .scan = dot_scan,
    .exact_units = 1, .widen = neon_widen, .exact = neon_exact,
};

static int dot_works(void) {
#if defined(__APPLE__)
    return 1; /* every 64-bit Apple computer has them */
#elif defined(__linux__) && defined(HWCAP_ASIMDDP)
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
    return 0;
#endif
}
#endif
