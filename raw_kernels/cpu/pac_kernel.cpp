// The adaptive kernel as a result.

#include "pac.h"

EXPORTED int64_t pac_kernel_workspace(const Pac *call) {
    Workspace workspace = {};
    Adaptive(*call, workspace, false);
    return (int64_t)workspace.next;
}

EXPORTED void pac_kernel(const void *arguments, int64_t first, int64_t last, char *memory) {
    const Pac &call = *(const Pac *)arguments;
    Workspace workspace = {memory};
    const Adaptive adaptive(call, workspace, false);
    for (int64_t number = first; number < last; number++) {
        const Block block = block_of(call, number);
        pack_adaptive(call, block, adaptive);
        for (int64_t p = 0; p < block.length; p += TILE)
            // Without channels there is still a mask.
            for (int64_t channel = 0; channel < larger(call.kernel_channels, 1); channel++) {
                any_kernel(call, block, adaptive, p, channel);
                if (channel < call.kernel_channels) store_kernel_tile(call.kernel, block, p, channel, adaptive.values);
                if (call.output_mask && channel == 0) store_output_mask(call, block, p, adaptive.left);
            }
    }
}
