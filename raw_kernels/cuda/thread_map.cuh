// Mapping of the elements of a batch of images to threads.
//
// Blocks are two-dimensional. Consecutive threads in x access contiguous memory: channels if these are contiguous, else
// pixels. A thread handles one pixel and CHANNELS_PER_THREAD channels of it: contiguous ones with VECTORIZED, else one
// block width apart, so that the loads of consecutive threads are coalesced.

#pragma once

// Strides in elements; they may be negative. Arrays are read and written in place, in any layout.
struct image_strides {
    long long batch, channel, row, column;
};

// blockIdx.x enumerates images and blocks of pixels; blockIdx.y and blockIdx.z enumerate blocks of channels.
struct image_thread_map {
    int channels, columns, pixels;
    int pixel_blocks;                   // of one image
    int channels_last;                  // whether threadIdx.x indexes channels
};

struct position {
    int image, row, column;
    int channel, channel_step;
    bool valid;                         // false for threads beyond the last pixel or channel
};

__device__ inline position thread_position(const image_thread_map& t)
{
    const int pixel_in_block = t.channels_last ? threadIdx.y : threadIdx.x;
    const int channel_in_block = t.channels_last ? threadIdx.x : threadIdx.y;
    const int pixels = t.channels_last ? blockDim.y : blockDim.x;
    position p;
    p.image = blockIdx.x / t.pixel_blocks;
    const unsigned int pixel = blockIdx.x % t.pixel_blocks * pixels + pixel_in_block;
    p.row = pixel / t.columns;
    p.column = pixel % t.columns;
    const int channel_width = t.channels_last ? blockDim.x : blockDim.y;
    const long long block =
        (static_cast<long long>(blockIdx.z) * gridDim.y + blockIdx.y) * channel_width * CHANNELS_PER_THREAD;
#if defined(VECTORIZED)
    const long long channel = block + channel_in_block * CHANNELS_PER_THREAD;
    p.channel_step = 1;
#else
    const long long channel = block + channel_in_block;
    p.channel_step = channel_width;
#endif
    p.channel = static_cast<int>(channel);
    p.valid = pixel < static_cast<unsigned int>(t.pixels) && channel < t.channels;
    return p;
}

__device__ inline long long at_pixel(const image_strides& strides, int row, int column)
{
    return row * strides.row + column * strides.column;
}
