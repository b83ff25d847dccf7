// Places of features: pixels, or the segments of their tables.

#pragma once

// Elements from one index to the next, of either sign.
struct segment_strides {
    long long image, entry, channel;
};
