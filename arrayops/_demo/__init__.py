"""The demo behind ``python -m arrayops demo``: guided upsampling of a measured disparity map.

It requires the packages of the ``examples`` extra and imports them only when it runs.
"""
