// Sums of images over all axes but the channels, in float64: the gradient of a bias.

#include "task.h"
#include "vectors.h"
#include "window.h"

struct ChannelSums {
    const storage *images;
    double *partial;      // of every part: channels
    storage *result;
    Strides strides;
    int64_t count, channels, rows, columns;
    int64_t parts;        // of the rows of all images
    int64_t result_stride;
};

enum { AT_ONCE = 1024, SUMS = 8 };

// A block is a part: some rows of all images.
EXPORTED void add_channels(const void *arguments, int64_t first, int64_t last, char *) {
    const ChannelSums &call = *(const ChannelSums *)arguments;
    const int64_t rows = call.count * call.rows;
    for (int64_t part = first; part < last; part++) {
        double *sums = call.partial + part * call.channels;
        for (int64_t c = 0; c < call.channels; c++) sums[c] = 0;
        for (int64_t row = rows * part / call.parts; row < rows * (part + 1) / call.parts; row++) {
            const storage *source = call.images + row / call.rows * call.strides.image + row % call.rows * call.strides.row;
            if (call.strides.channel == 1)
                for (int64_t x = 0; x < call.columns; x++)
                    for (int64_t c = 0; c < call.channels; c++) sums[c] += widen(source[x * call.strides.column + c]);
            else
                for (int64_t c = 0; c < call.channels; c++) {
                    const storage *values = source + c * call.strides.channel;
                    // Lanes of sums, so that additions do not wait for each other.
                    double lanes[SUMS] = {};
                    int64_t x = 0;
                    if (call.strides.column == 1)
                        for (; x + SUMS <= call.columns; x += SUMS)
                            for (int lane = 0; lane < SUMS; lane++) lanes[lane] += widen(values[x + lane]);
                    double sum = 0;
                    for (; x < call.columns; x++) sum += widen(values[x * call.strides.column]);
                    for (int lane = 0; lane < SUMS; lane++) sum += lanes[lane];
                    sums[c] += sum;
                }
        }
    }
}

// A block is AT_ONCE channels: the sums of all parts, added in order.
EXPORTED void add_channel_parts(const void *arguments, int64_t first, int64_t last, char *) {
    const ChannelSums &call = *(const ChannelSums *)arguments;
    for (int64_t c = first * AT_ONCE; c < smaller(last * AT_ONCE, call.channels); c++) {
        double sum = 0;
        for (int64_t part = 0; part < call.parts; part++) sum += call.partial[part * call.channels + c];
        narrow(call.result[c * call.result_stride], sum);
    }
}

EXPORTED int64_t channels_at_once() { return AT_ONCE; }
