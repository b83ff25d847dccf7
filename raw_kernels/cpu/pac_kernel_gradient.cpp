// Gradients of the adaptive kernel that is a result.

#include "pac_gradient.h"

EXPORTED int64_t pac_kernel_gradient_workspace(const PacGradient *gradient) { return gradient_workspace(*gradient); }

EXPORTED void pac_kernel_gradient(const void *arguments, int64_t first, int64_t last, char *memory) {
    const PacGradient &gradient = *(const PacGradient *)arguments;
    gradient_blocks(gradient, first, last, memory, [&](const Block &block, const Adaptive &, const GradientBuffers &buffers, int64_t p, int64_t channel) {
        load_kernel_tile(gradient.grad_kernel, block, p, channel, buffers.grad_kernel);
    });
}
