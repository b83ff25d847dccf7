// Packs a weight for the contraction: taps in the order of the correlation, channels padded with zeros to whole tiles.
//
//   without SOURCES_LAST   packed (groups, taps, padded sources, padded results)
//   with SOURCES_LAST      packed (groups, taps, padded results, padded sources)
//
// With TO_TF32, float32 weights are rounded to TF32.
//
// Narrow groups are merged, `merged_groups` of them into one, whose weights are zero between channels of different
// groups.
//
//               sources             4 groups of 2 x 2 merged into one of 8 x 8
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
    int groups, sources, results;                   // channels of one merged group
    int padded_sources, padded_results;
    int merged_groups;                              // number of groups merged into one
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
            // Channels and index of an original group.
            const int sources = g.sources / g.merged_groups, results = g.results / g.merged_groups;
            const int part = source / sources;
            if (result / results == part)
                value = weight_at(
                    weight, g.weight, group * g.merged_groups + part, result % results, source % sources,
                    tap / FILTER_WIDTH, tap % FILTER_WIDTH);
        }
#if defined(TO_TF32)
        packed[at] = __uint_as_float(round_to_tf32(value));
#else
        packed[at] = narrow(value);
#endif
    }
}
