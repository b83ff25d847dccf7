// Packs a weight for the contraction: taps in the order of the correlation, channels padded to whole tiles with zeros.
//
//   otherwise      packed (groups, taps, padded sources, padded results)
//   SOURCES_LAST   packed (groups, taps, padded results, padded sources)
//
// With TO_TF32, float32 weights are rounded as tensor cores read them.
//
// Blocks of the contraction then read weights in rows, whatever the layout of the weight. One thread an entry.

#include "pac.cuh"
#include "ptx.cuh"

struct packing {
    weight_strides weight;
    int groups, sources, results;                   // channels of one group
    int padded_sources, padded_results;
};

extern "C" __global__ void pac_pack(packing g, const scalar* __restrict__ weight, scalar* __restrict__ packed)
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
        if (source < g.sources && result < g.results)
            value = weight_at(weight, g.weight, group, result, source, tap / FILTER_WIDTH, tap % FILTER_WIDTH);
#if defined(TO_TF32)
        packed[at] = __uint_as_float(round_to_tf32(value));
#else
        packed[at] = narrow(value);
#endif
    }
}
