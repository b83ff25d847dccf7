// Strides of features (one entry for each pixel) and of pooled features (one entry for each segment).

#pragma once

// Distance between neighbouring indices in elements; may be negative.
struct segment_strides {
    long long image, entry, channel;
};
