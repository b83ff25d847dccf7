// Packs a weight for the contraction: taps in the order of the correlation, channels padded with zeros to whole tiles.
//
//   otherwise      packed (groups, taps, padded sources, padded results)
//   SOURCES_LAST   packed (groups, taps, padded results, padded sources)
//
// With TO_TF32, float32 weights are rounded to TF32.
//
// Narrow groups are merged, `span` of them into one: its weights are zero between channels of different groups.
//
//               sources             span = 4 groups of 2 x 2 as one of 8 x 8
//             # # . . . . . .
//   results   # # . . . . . .
//             . . # # . . . .
//             . . # # . . . .
//
// Blocks of the contraction then read contiguous rows of weights, whatever the layout of the weight. One thread for
// each entry of the result.

#include "window.cuh"
#include "ptx.cuh"

struct packing {
    weight_strides weight;
    int groups, sources, results;                   // channels of one merged group of `span` groups
    int padded_sources, padded_results;
    int span;
};

extern "C" __global__ void pack_weights(packing g, const scalar* __restrict__ weight, scalar* __restrict__ packed)
{
    const long long count =
        static_cast<long long>(g.groups) * FILTER_TAPS * g.padded_sources * g.padded_results;
    for (long long at = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; at < count;
         at += static_cast<long long>(gridDim.x) * blockDim.x) {
#if defined(SOURCES_LAST)
        const int source = at % g.padded_sources, result = at / g.padded_sources % g.padded_results;
#else
        const int result = at % g.padded_results, source = at / g.padded_results % g.padded_sources;
#endif
        const long long rest = at / g.padded_sources / g.padded_results;
        const int tap = rest % FILTER_TAPS, group = rest / FILTER_TAPS;
        accumulator value = 0;
        if (source < g.sources && result < g.results) {
            const int sources = g.sources / g.span, results = g.results / g.span, part = source / sources;
            if (result / results == part)
                value = weight_at(
                    weight, g.weight, group * g.span + part, result % results, source % sources, tap / FILTER_WIDTH,
                    tap % FILTER_WIDTH);
        }
#if defined(TO_TF32)
        packed[at] = __uint_as_float(round_to_tf32(value));
#else
        packed[at] = narrow(value);
#endif
    }
}
