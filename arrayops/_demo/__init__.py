"""The demo behind ``python -m arrayops demo``: guided upsampling of a measured disparity map.

It needs the packages of the ``examples`` extra, and imports them only when it runs.
"""
