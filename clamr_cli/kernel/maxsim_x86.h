/* Paths of x86-64: AVX-512 with VNNI, AVX with VNNI, and AVX2. Target attributes let one compilation serve every processor. */
#include <cpuid.h>
#include <immintrin.h>

#include "maxsim.h"

#define VNNI __attribute__((target("avx512f,avx512bw,avx512vnni")))
#define AVX2 __attribute__((target("avx2,fma,f16c")))

/* ---- AVX-512 VNNI: 16 tokens a register, four numbers a step ---- */

/* VPDPBUSD multiplies unsigned by signed bytes, so vectors become unsigned by adding 128; Tile.start takes that back. */
VNNI static const void *vnni_prepare(const int8_t *codes, int count, void *window) {
    const __m512i sign = _mm512_set1_epi8((char)0x80);
    for (int at = 0; at < count * WIDTH; at += 64) {
        __m512i signed_codes = _mm512_loadu_si512((const void *)(codes + at));
        _mm512_store_si512((void *)((char *)window + at), _mm512_xor_si512(signed_codes, sign));
    }
    return window;
}

/* sums += numbers * tokens. As an intrinsic, gcc 12 copies every sum before and after it: a third of the loop's time. */
VNNI ALWAYS __m512i vnni_add(__m512i sums, __m512i numbers, __m512i tokens) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(numbers), "v"(tokens));
    return sums;
}

/* `size` vectors against `units` registers of tokens; both are constants where this is inlined. */
VNNI ALWAYS void vnni_block(const Tile *tile, const Run *run, int first, __m512 *best, const int size, const int units) {
    const uint8_t *rows = (const uint8_t *)run->rows + (ptrdiff_t)first * WIDTH;
    const __m512i *packed = tile->packed;
    fetch_ahead(run, first, size, WIDTH);
    __m512i sums[16][MAX_UNITS];
    UNROLL
    for (int row = 0; row < size; row++)
        UNROLL
        for (int unit = 0; unit < units; unit++)
            sums[row][unit] = _mm512_load_si512(tile->start + unit * UNIT);
    for (int plane = 0;;) {
        for (int step = 0; step < WIDTH / 4; step++, packed += units) {
            __m512i tokens[MAX_UNITS];
            UNROLL
            for (int unit = 0; unit < units; unit++)
                tokens[unit] = _mm512_load_si512(packed + unit);
            UNROLL
            for (int row = 0; row < size; row++) {
                __m512i numbers = _mm512_set1_epi32(load32(rows + row * WIDTH + 4 * step));
                UNROLL
                for (int unit = 0; unit < units; unit++)
                    sums[row][unit] = vnni_add(sums[row][unit], numbers, tokens[unit]);
            }
        }
        if (++plane == tile->planes)
            break;
        UNROLL
        for (int row = 0; row < size; row++)
            UNROLL
            for (int unit = 0; unit < units; unit++)
                sums[row][unit] = _mm512_slli_epi32(sums[row][unit], PLANE_BITS);
    }
    UNROLL
    for (int row = 0; row < size; row++) {
        const __m512 scale = _mm512_set1_ps(run->scales[first + row]);
        UNROLL
        for (int unit = 0; unit < units; unit++) {
            __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[row][unit]), scale);
            if (tile->weights) {
                /* Not fused: every path rounds alike. */
                __m512 residual = _mm512_set1_ps(run->residuals[first + row]);
                value = _mm512_add_ps(value, _mm512_mul_ps(residual, _mm512_loadu_ps(tile->weights + unit * UNIT)));
            }
            best[unit] = _mm512_max_ps(best[unit], value);
        }
    }
}

VNNI ALWAYS void vnni_sweep(const Tile *tile, const Run *run, float *best, const int size, const int units) {
    __m512 maxima[MAX_UNITS];
    UNROLL
    for (int unit = 0; unit < units; unit++)
        maxima[unit] = _mm512_loadu_ps(best + unit * UNIT);
    for (int number = 0; number * size < run->count; number++)
        vnni_block(tile, run, block_start(number, size, run->count), maxima, size, units);
    UNROLL
    for (int unit = 0; unit < units; unit++)
        _mm512_storeu_ps(best + unit * UNIT, maxima[unit]);
}

/* `size` is the block that fills the registers; a run shorter than that takes smaller ones. */
VNNI ALWAYS void vnni_run(const Tile *tile, const Run *run, float *best, const int size, const int units) {
    if (run->count >= size)
        vnni_sweep(tile, run, best, size, units);
    else if (run->count >= 4)
        vnni_sweep(tile, run, best, 4, units);
    else
        vnni_sweep(tile, run, best, 1, units);
}

VNNI static void vnni_scan(const Tile *tile, const Run *run, float *best) {
    switch (tile->units) {
    case 1: vnni_run(tile, run, best, 16, 1); break;
    case 2: vnni_run(tile, run, best, 8, 2); break;
    case 3: vnni_run(tile, run, best, 8, 3); break;
    default: vnni_run(tile, run, best, 6, 4); break;
    }
}

VNNI static void vnni_widen(const uint16_t *halves, int count, float *window) {
    for (int at = 0; at < count * WIDTH; at += 16)
        _mm512_store_ps(window + at, _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(halves + at))));
}

VNNI ALWAYS void wide_block(const Tile *tile, const Run *run, int first, __m512 *best, const int size, const int units) {
    const float *rows = (const float *)run->rows + (ptrdiff_t)first * WIDTH;
    const float *packed = tile->packed;
    fetch_ahead(run, first, size, 2 * WIDTH);
    __m512 sums[16][MAX_UNITS];
    UNROLL
    for (int row = 0; row < size; row++)
        UNROLL
        for (int unit = 0; unit < units; unit++)
            sums[row][unit] = _mm512_setzero_ps();
    for (int step = 0; step < WIDTH; step++, packed += units * UNIT) {
        __m512 tokens[MAX_UNITS];
        UNROLL
        for (int unit = 0; unit < units; unit++)
            tokens[unit] = _mm512_load_ps(packed + unit * UNIT);
        UNROLL
        for (int row = 0; row < size; row++) {
            __m512 number = _mm512_set1_ps(rows[row * WIDTH + step]);
            UNROLL
            for (int unit = 0; unit < units; unit++)
                sums[row][unit] = _mm512_fmadd_ps(number, tokens[unit], sums[row][unit]);
        }
    }
    UNROLL
    for (int row = 0; row < size; row++)
        UNROLL
        for (int unit = 0; unit < units; unit++)
            best[unit] = _mm512_max_ps(best[unit], sums[row][unit]);
}

VNNI ALWAYS void wide_sweep(const Tile *tile, const Run *run, float *best, const int size, const int units) {
    __m512 maxima[MAX_UNITS];
    UNROLL
    for (int unit = 0; unit < units; unit++)
        maxima[unit] = _mm512_loadu_ps(best + unit * UNIT);
    for (int number = 0; number * size < run->count; number++)
        wide_block(tile, run, block_start(number, size, run->count), maxima, size, units);
    UNROLL
    for (int unit = 0; unit < units; unit++)
        _mm512_storeu_ps(best + unit * UNIT, maxima[unit]);
}

VNNI ALWAYS void wide_run(const Tile *tile, const Run *run, float *best, const int size, const int units) {
    if (run->count >= size)
        wide_sweep(tile, run, best, size, units);
    else if (run->count >= 4)
        wide_sweep(tile, run, best, 4, units);
    else
        wide_sweep(tile, run, best, 1, units);
}

VNNI static void vnni_exact(const Tile *tile, const Run *run, float *best) {
    switch (tile->units) {
    case 1: wide_run(tile, run, best, 16, 1); break;
    case 2: wide_run(tile, run, best, 8, 2); break;
    case 3: wide_run(tile, run, best, 8, 3); break;
    default: wide_run(tile, run, best, 6, 4); break;
    }
}

static const Path vnni_path = {
    .units = 4, .code_bytes = 1, .depth = 4, .bias = 128, .row_bytes = WIDTH,
    .prepare = vnni_prepare, .scan = vnni_scan,
    .exact_units = 4, .widen = vnni_widen, .exact = vnni_exact,
};

/* ---- AVX2: 8 tokens a register, two numbers of 16 bits a step ---- */

/* VPMADDWD on 16 bits cannot saturate, as VPMADDUBSW on 8 bits can, and takes both planes of a query at once. */
AVX2 static const void *avx2_prepare(const int8_t *codes, int count, void *window) {
    for (int at = 0; at < count * WIDTH; at += 16) {
        __m128i bytes = _mm_loadu_si128((const void *)(codes + at));
        _mm256_store_si256((void *)((int16_t *)window + at), _mm256_cvtepi8_epi16(bytes));
    }
    return window;
}

AVX2 ALWAYS void avx2_fold(const Tile *tile, const Run *run, int row, const __m256i *sums, __m256 *best) {
    const __m256 scale = _mm256_set1_ps(run->scales[row]);
    UNROLL
    for (int half = 0; half < 2; half++) {
        __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[half]), scale);
        if (tile->weights) { /* Not fused: every path rounds alike. */
            __m256 residual = _mm256_set1_ps(run->residuals[row]);
            value = _mm256_add_ps(value, _mm256_mul_ps(residual, _mm256_loadu_ps(tile->weights + half * 8)));
        }
        best[half] = _mm256_max_ps(best[half], value);
    }
}

AVX2 ALWAYS void avx2_block(const Tile *tile, const Run *run, int first, __m256 *best, const int size) {
    const int16_t *rows = (const int16_t *)run->rows + (ptrdiff_t)first * WIDTH;
    const __m256i *packed = tile->packed;
    fetch_ahead(run, first, size, WIDTH);
    __m256i sums[4][2];
    UNROLL
    for (int row = 0; row < size; row++)
        sums[row][0] = sums[row][1] = _mm256_setzero_si256();
    for (int step = 0; step < WIDTH / 2; step++, packed += 2) {
        const __m256i left = _mm256_load_si256(packed), right = _mm256_load_si256(packed + 1);
        UNROLL
        for (int row = 0; row < size; row++) {
            __m256i numbers = _mm256_set1_epi32(load32(rows + row * WIDTH + 2 * step));
            sums[row][0] = _mm256_add_epi32(sums[row][0], _mm256_madd_epi16(numbers, left));
            sums[row][1] = _mm256_add_epi32(sums[row][1], _mm256_madd_epi16(numbers, right));
        }
    }
    UNROLL
    for (int row = 0; row < size; row++)
        avx2_fold(tile, run, first + row, sums[row], best);
}

AVX2 ALWAYS void avx2_sweep(const Tile *tile, const Run *run, float *best, const int size) {
    __m256 maxima[2] = {_mm256_loadu_ps(best), _mm256_loadu_ps(best + 8)};
    for (int number = 0; number * size < run->count; number++)
        avx2_block(tile, run, block_start(number, size, run->count), maxima, size);
    _mm256_storeu_ps(best, maxima[0]);
    _mm256_storeu_ps(best + 8, maxima[1]);
}

AVX2 static void avx2_scan(const Tile *tile, const Run *run, float *best) {
    if (run->count >= 4)
        avx2_sweep(tile, run, best, 4);
    else
        avx2_sweep(tile, run, best, 1);
}

AVX2 static void avx2_widen(const uint16_t *halves, int count, float *window) {
    for (int at = 0; at < count * WIDTH; at += 8)
        _mm256_store_ps(window + at, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(halves + at))));
}

AVX2 ALWAYS void fma_block(const Tile *tile, const Run *run, int first, __m256 *best, const int size) {
    const float *rows = (const float *)run->rows + (ptrdiff_t)first * WIDTH;
    const float *packed = tile->packed;
    fetch_ahead(run, first, size, 2 * WIDTH);
    __m256 sums[6][2];
    UNROLL
    for (int row = 0; row < size; row++)
        sums[row][0] = sums[row][1] = _mm256_setzero_ps();
    for (int step = 0; step < WIDTH; step++, packed += UNIT) {
        const __m256 left = _mm256_load_ps(packed), right = _mm256_load_ps(packed + 8);
        UNROLL
        for (int row = 0; row < size; row++) {
            __m256 number = _mm256_set1_ps(rows[row * WIDTH + step]);
            sums[row][0] = _mm256_fmadd_ps(number, left, sums[row][0]);
            sums[row][1] = _mm256_fmadd_ps(number, right, sums[row][1]);
        }
    }
    UNROLL
    for (int row = 0; row < size; row++) {
        best[0] = _mm256_max_ps(best[0], sums[row][0]);
        best[1] = _mm256_max_ps(best[1], sums[row][1]);
    }
}

AVX2 ALWAYS void fma_sweep(const Tile *tile, const Run *run, float *best, const int size) {
    __m256 maxima[2] = {_mm256_loadu_ps(best), _mm256_loadu_ps(best + 8)};
    for (int number = 0; number * size < run->count; number++)
        fma_block(tile, run, block_start(number, size, run->count), maxima, size);
    _mm256_storeu_ps(best, maxima[0]);
    _mm256_storeu_ps(best + 8, maxima[1]);
}

AVX2 static void avx2_exact(const Tile *tile, const Run *run, float *best) {
    if (run->count >= 6)
        fma_sweep(tile, run, best, 6);
    else
        fma_sweep(tile, run, best, 1);
}

static const Path avx2_path = {
    .units = 1, .code_bytes = 2, .depth = 2, .bias = 0, .row_bytes = 2 * WIDTH,
    .prepare = avx2_prepare, .scan = avx2_scan,
    .exact_units = 1, .widen = avx2_widen, .exact = avx2_exact,
};

/* ---- AVX-VNNI, the dot products of processors without AVX-512: 8 tokens a register, four numbers a step ---- */

#if __GNUC__ >= 11 || (defined(__clang__) && __clang_major__ >= 12)
#define AVX_VNNI __attribute__((target("avx2,fma,f16c,avxvnni")))

AVX2 static const void *short_prepare(const int8_t *codes, int count, void *window) {
    const __m256i sign = _mm256_set1_epi8((char)0x80);
    for (int at = 0; at < count * WIDTH; at += 32) {
        __m256i signed_codes = _mm256_loadu_si256((const void *)(codes + at));
        _mm256_store_si256((void *)((char *)window + at), _mm256_xor_si256(signed_codes, sign));
    }
    return window;
}

/* As vnni_add(), in the encoding that needs no AVX-512. */
AVX_VNNI ALWAYS __m256i short_add(__m256i sums, __m256i numbers, __m256i tokens) {
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sums) : "x"(numbers), "x"(tokens));
    return sums;
}

AVX_VNNI ALWAYS void short_block(const Tile *tile, const Run *run, int first, __m256 *best, const int size) {
    const uint8_t *rows = (const uint8_t *)run->rows + (ptrdiff_t)first * WIDTH;
    const __m256i *packed = tile->packed;
    fetch_ahead(run, first, size, WIDTH);
    __m256i sums[5][2];
    UNROLL
    for (int row = 0; row < size; row++) {
        sums[row][0] = _mm256_load_si256((const void *)tile->start);
        sums[row][1] = _mm256_load_si256((const void *)(tile->start + 8));
    }
    for (int plane = 0;;) {
        for (int step = 0; step < WIDTH / 4; step++, packed += 2) {
            const __m256i left = _mm256_load_si256(packed), right = _mm256_load_si256(packed + 1);
            UNROLL
            for (int row = 0; row < size; row++) {
                __m256i numbers = _mm256_set1_epi32(load32(rows + row * WIDTH + 4 * step));
                sums[row][0] = short_add(sums[row][0], numbers, left);
                sums[row][1] = short_add(sums[row][1], numbers, right);
            }
        }
        if (++plane == tile->planes)
            break;
        UNROLL
        for (int row = 0; row < size; row++) {
            sums[row][0] = _mm256_slli_epi32(sums[row][0], PLANE_BITS);
            sums[row][1] = _mm256_slli_epi32(sums[row][1], PLANE_BITS);
        }
    }
    UNROLL
    for (int row = 0; row < size; row++)
        avx2_fold(tile, run, first + row, sums[row], best);
}

AVX_VNNI ALWAYS void short_sweep(const Tile *tile, const Run *run, float *best, const int size) {
    __m256 maxima[2] = {_mm256_loadu_ps(best), _mm256_loadu_ps(best + 8)};
    for (int number = 0; number * size < run->count; number++)
        short_block(tile, run, block_start(number, size, run->count), maxima, size);
    _mm256_storeu_ps(best, maxima[0]);
    _mm256_storeu_ps(best + 8, maxima[1]);
}

AVX_VNNI static void short_scan(const Tile *tile, const Run *run, float *best) {
    if (run->count >= 5)
        short_sweep(tile, run, best, 5);
    else
        short_sweep(tile, run, best, 1);
}

static const Path avxvnni_path = {
    .units = 1, .code_bytes = 1, .depth = 4, .bias = 128, .row_bytes = WIDTH,
    .prepare = short_prepare, .scan = short_scan,
    .exact_units = 1, .widen = avx2_widen, .exact = avx2_exact,
};

#endif

static int vnni_works(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vnni");
}

static int avx2_works(void) {
    unsigned int a, b, c, d;
    /* Not every compiler's __builtin_cpu_supports knows F16C. */
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) &&
           (c & bit_F16C);
}

#if defined(AVX_VNNI)
static int avxvnni_works(void) {
    unsigned int a, b, c, d;
    return avx2_works() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 4));
}
#endif
