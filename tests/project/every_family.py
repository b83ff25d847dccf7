"""One call of each family, forward and backward, with NumPy alone: what an installation must be able to do."""

import numpy as np

import arrayops as ao

ONES = np.ones((1, 2, 4, 4), np.float32)
WEIGHT = np.ones((2, 2, 3, 3), np.float32)
LABELS = np.arange(16).reshape(1, 4, 4) // 8

INNER = np.s_[:, :, 1:3, 1:3]
assert (ao.conv2d(ONES, WEIGHT, padding=1)[INNER] == 18).all()
assert (ao.conv2d_backward(ONES, ONES, WEIGHT, padding=1).input[INNER] == 18).all()
assert (ao.pac_conv2d(ONES, ONES, WEIGHT, padding="SAME")[INNER] == 18).all()
assert (ao.pac_conv2d_backward(ONES, ONES, ONES, WEIGHT, padding="SAME").weight[0, 0, 1, 1] == 16).all()
assert (ao.segment_mean(ONES, LABELS) == 1).all()
assert (ao.segment_mean_backward(np.ones((1, 2, 2), np.float32), ONES, LABELS).features == 0.125).all()
assert (ao.merge_feature_maps([ONES, ONES[:, :, :2, :2]], how="add") == 2).all()
assert (ao.merge_feature_maps_backward(ONES, [ONES, ONES[:, :, :2, :2]], how="add").maps[1] == 4).all()
print("one call of each family, forward and backward:", ao.__file__)
