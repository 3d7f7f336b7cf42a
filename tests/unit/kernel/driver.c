/* Runs one job of the kernel without Python, so that it can be built for another processor and emulated.
 *
 * Standard input: eight int64 (scan, path, q, n, s, planes, bounds, 0), then tokens, steps, weights, offsets, vectors,
 * scales, residuals and segments [s, 2], all as the kernel reads them. Standard output: the maxima. The path -1 prints
 * which paths work, as one int64.
 */
#include <stdio.h>

#include "maxsim.c"

static void *taken(size_t size) {
    void *bytes = malloc(size ? size : 1);
    if (!bytes || fread(bytes, 1, size, stdin) != size)
        exit(2);
    return bytes;
}

int main(void) {
    int64_t *head = taken(8 * sizeof *head);
    const int scan = head[0] != 0;
    const size_t q = (size_t)head[2], n = (size_t)head[3], s = (size_t)head[4];
    if (head[1] < 0) {
        const int64_t usable = clamr_kernel_paths();
        return fwrite(&usable, sizeof usable, 1, stdout) != 1;
    }
    Job job = {.token_count = head[2], .vector_count = head[3], .segment_count = head[4], .stride = 2};
    job.path = (int32_t)head[1];
    job.planes = (int32_t)head[5];
    job.tokens = taken(q * WIDTH * (scan ? 2 : 4));
    job.steps = taken(q * 4);
    const float *weights = taken(q * 4);
    job.weights = head[6] ? weights : NULL;
    job.offsets = taken(q * 4);
    job.vectors = taken(n * WIDTH * (scan ? 1 : 2));
    job.scales = taken(n * 4);
    job.residuals = taken(n * 4);
    job.starts = taken(s * 16);
    job.ends = job.starts + 1;
    job.maxima = malloc(s * q * 4 + 1);
    if (!job.maxima || (scan ? clamr_kernel_scan(&job) : clamr_kernel_exact(&job)))
        return 3;
    return fwrite(job.maxima, 4, s * q, stdout) != s * q;
}
