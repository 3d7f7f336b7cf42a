/* What the files of the kernel share: the shapes of its work and what a path must be able to do.
 *
 * The work. A query of q tokens meets vectors of 128 numbers; of every segment (a range of vectors) the largest similarity
 * with each token is wanted. Vectors are read once, in windows that stay in the first-level cache, and every tile of the
 * query passes over a window before the next one is read.
 *
 * The layout that makes it fast. A register holds one number for each of 16 (8, 4) tokens, and a few numbers of one vector
 * are broadcast against them. Sums then never have to be added up across a register, the scale of a vector is one
 * multiplication for all tokens, and running maxima stay in registers. A tile of the query is packed as
 * [plane][128 / depth][tokens][depth]: at each step, what the registers read lies side by side.
 */
#ifndef CLAMR_MAXSIM_H
#define CLAMR_MAXSIM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    WIDTH = 128,         /* numbers of a vector */
    UNIT = 16,           /* tokens are padded to a multiple of this */
    MAX_UNITS = 4,       /* units of the largest tile */
    WINDOW = 16384,      /* bytes of a window of prepared vectors: with a tile they fit a cache of 32 KiB or more */
    AHEAD = 16384,       /* bytes from a vector to the one that is fetched while it is multiplied */
    PLANE_BITS = 7       /* code = 128 * high + low */
};

#define ALWAYS static inline __attribute__((always_inline))

/* Loops over the parts of a block, whose bounds are constants once inlined: only unrolled do its sums stay in registers. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* One tile of a query, packed for a path. */
typedef struct {
    const void *packed;
    const int32_t *start; /* [tokens] what sums of codes start from */
    const float *weights; /* [tokens] what a residual counts, or NULL */
    int units;            /* tokens / UNIT */
    int planes;           /* 1 or 2 */
} Tile;

/* Some consecutive vectors of one segment, prepared for a path. */
typedef struct {
    const void *rows;
    const float *scales;
    const float *residuals;
    int count;
    uintptr_t ahead; /* address of what will be read AHEAD bytes later; perhaps beyond the end: only to be prefetched */
} Run;

typedef struct {
    int units;         /* largest tile of a scan */
    int code_bytes;    /* size of a packed code: 1 takes planes apart, 2 keeps a code whole */
    int depth;         /* numbers that are broadcast together */
    int bias;          /* what prepare() adds to every code */
    int row_bytes;     /* size of a prepared row */
    const void *(*prepare)(const int8_t *codes, int count, void *window);
    void (*scan)(const Tile *tile, const Run *run, float *best);
    int exact_units;   /* largest tile of an exact pass */
    void (*widen)(const uint16_t *halves, int count, float *window);
    void (*exact)(const Tile *tile, const Run *run, float *best);
} Path;

/* The start of block `number` of `size` vectors out of `count` >= size. The last block overlaps the one before: a vector
 * that is seen twice changes no maximum, and no block is ever short. */
ALWAYS int block_start(int number, int size, int count) {
    int start = number * size;
    return start + size <= count ? start : count - size;
}

/* Ask for the memory behind block `first` of `size` vectors, `bytes` a vector, while the processor multiplies. */
ALWAYS void fetch_ahead(const Run *run, int first, int size, int bytes) {
    UNROLL
    for (int line = 0; line < size * bytes; line += 64)
        __builtin_prefetch((const void *)(run->ahead + (uintptr_t)(first * bytes + line)));
}

/* A broadcast reads some bytes of a row as one integer. */
ALWAYS int32_t load32(const void *bytes) {
    int32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

#endif
