"""Checkpoints of the reference code of pixel-adaptive convolution, NVlabs/pacnet."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from arrayops.layers.torch.base import PacModule
from arrayops.layers.torch.pac import PacConvTranspose2d


class LoadedState(NamedTuple):
    """What `load_pacnet_state_dict` did; ``print`` shows it as text.

    Each field is a list of names of state dict entries. ``flipped`` are filters of transposed convolutions, whose two
    spatial axes were reversed; ``reshaped`` are smoothing kernels, whose two leading axes were dropped; ``unchanged``
    are all others that were loaded. ``missing_keys`` and ``unexpected_keys`` are those of
    `torch.nn.Module.load_state_dict`; without ``strict=False`` they are empty.
    """

    flipped: list[str]
    reshaped: list[str]
    unchanged: list[str]
    missing_keys: list[str]
    unexpected_keys: list[str]

    def __str__(self) -> str:
        lines = (
            ("spatially reversed (filters of transposed convolutions)", self.flipped),
            ("leading axes dropped (smoothing kernels)", self.reshaped),
            ("loaded as they are", self.unchanged),
            ("missing in the state dict", self.missing_keys),
            ("not in the module", self.unexpected_keys),
        )
        return "\n".join(f"{len(names)} {what}: {', '.join(names)}" for what, names in lines if names)


def load_pacnet_state_dict(
    module: nn.Module, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
) -> LoadedState:
    """Load a state dict of the reference code (NVlabs/pacnet) into a module with layers of arrayops, and convert it.

    Entries keep their names. Two kinds are converted, for the layers of arrayops in ``module``:

    - filters of `PacConvTranspose2d` are spatially reversed: the reference code's transposed convolution applies them
      the other way round than `torch.nn.ConvTranspose2d` and `PacConvTranspose2d` do. Loaded without this, they give
      no error but wrong results;
    - smoothing kernels lose their two leading axes: (1, 1, sh, sw) becomes (sh, sw).

    Parameters
    ----------
    module : torch.nn.Module
        A layer of arrayops, or a network with such layers under the names that they have in the reference's network.
    state_dict : mapping of str to tensor
        As saved by the reference code; it is not modified.
    strict, assign : bool, default True, False
        As of `torch.nn.Module.load_state_dict`: whether missing and unexpected entries are an error, and whether
        the entries replace the parameters, instead of being copied to them.

    Returns
    -------
    LoadedState
        Names of the entries by what was done with them.

    Raises
    ------
    ValueError
        If the state dict is recognised as that of a module of arrayops, which has to be loaded by
        ``module.load_state_dict``. It is recognised by its smoothing kernels, or by the versions of layers that
        ``state_dict()`` and ``torch.save`` keep, but a dict made of its entries does not.
    RuntimeError
        As of `torch.nn.Module.load_state_dict`, if shapes do not match, or entries with ``strict``.

    Examples
    --------
    >>> import torch
    >>> from arrayops.layers.torch import PacConvTranspose2d, load_pacnet_state_dict
    >>> upsample = PacConvTranspose2d(16, 8, 5, stride=2, padding=2, output_padding=1)
    >>> checkpoint = {"weight": torch.rand(16, 8, 5, 5), "bias": torch.rand(8)}
    >>> print(load_pacnet_state_dict(upsample, checkpoint))
    1 spatially reversed (filters of transposed convolutions): weight
    1 loaded as they are: bias
    >>> torch.equal(upsample.weight, checkpoint["weight"].flip(2, 3))
    True
    """
    converted: OrderedDict[str, Any] = OrderedDict(state_dict)
    versions = {name: dict(entry) for name, entry in getattr(state_dict, "_metadata", {}).items()}
    flipped, reshaped = [], []
    # A layer that is part of a module under several names has an entry for each.
    for name, layer in module.named_modules(remove_duplicate=False):
        if not isinstance(layer, PacModule):
            continue
        prefix = f"{name}." if name else ""
        smooth_kernel = state_dict.get(f"{prefix}smooth_kernel")
        is_ours = isinstance(smooth_kernel, Tensor) and smooth_kernel.ndim == 2
        if isinstance(smooth_kernel, Tensor) and smooth_kernel.ndim == 4:
            converted[f"{prefix}smooth_kernel"] = smooth_kernel[0, 0]
            reshaped.append(f"{prefix}smooth_kernel")
        if isinstance(layer, PacConvTranspose2d):
            version = versions.setdefault(name, {})
            is_ours = is_ours or version.get("version") == PacConvTranspose2d._version
            version["version"] = PacConvTranspose2d._version
            # Also parts of a weight that torch.nn.utils computes, such as weight_v and weight_orig.
            names = f"{prefix}weight", f"{prefix}parametrizations.weight."
            for entry, tensor in state_dict.items():
                if entry.startswith(names) and isinstance(tensor, Tensor) and tensor.ndim == 4:
                    converted[entry] = tensor.flip(2, 3)
                    flipped.append(entry)
        if is_ours:
            raise ValueError(
                f"load_pacnet_state_dict: state_dict was saved by a layer of arrayops ({name or 'the module'}), "
                "expected one of the reference code: use module.load_state_dict"
            )
    converted._metadata = versions  # type: ignore[attr-defined]
    keys = module.load_state_dict(converted, strict=strict, assign=assign)
    changed = {*flipped, *reshaped, *keys.unexpected_keys}
    unchanged = [name for name in state_dict if name not in changed]
    return LoadedState(flipped, reshaped, unchanged, list(keys.missing_keys), list(keys.unexpected_keys))
