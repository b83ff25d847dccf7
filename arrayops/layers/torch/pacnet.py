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


def load_pacnet_state_dict(module: nn.Module, state_dict: Mapping[str, Any], strict: bool = True) -> LoadedState:
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
    strict : bool, default True
        As of `torch.nn.Module.load_state_dict`: whether missing and unexpected entries are an error.

    Returns
    -------
    LoadedState
        Names of the entries by what was done with them.

    Raises
    ------
    ValueError
        If the state dict was saved by a module of arrayops: it has to be loaded by ``module.load_state_dict``.
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
    for name, layer in module.named_modules():
        if not isinstance(layer, PacModule):
            continue
        prefix = f"{name}." if name else ""
        weight, smooth_kernel = (state_dict.get(f"{prefix}{entry}") for entry in ("weight", "smooth_kernel"))
        is_ours = isinstance(smooth_kernel, Tensor) and smooth_kernel.ndim == 2
        if isinstance(smooth_kernel, Tensor) and smooth_kernel.ndim == 4:
            converted[f"{prefix}smooth_kernel"] = smooth_kernel[0, 0]
            reshaped.append(f"{prefix}smooth_kernel")
        if isinstance(layer, PacConvTranspose2d):
            version = versions.setdefault(name, {})
            is_ours = is_ours or version.get("version") == layer._version
            version["version"] = layer._version
            if isinstance(weight, Tensor) and weight.ndim == 4:
                converted[f"{prefix}weight"] = weight.flip(2, 3)
                flipped.append(f"{prefix}weight")
        if is_ours:
            raise ValueError(
                f"load_pacnet_state_dict: state_dict was saved by a layer of arrayops ({name or 'the module'}), "
                "expected one of the reference code: use module.load_state_dict"
            )
    converted._metadata = versions  # type: ignore[attr-defined]
    keys = module.load_state_dict(converted, strict=strict)
    changed = {*flipped, *reshaped, *keys.unexpected_keys}
    unchanged = [name for name in state_dict if name not in changed]
    return LoadedState(flipped, reshaped, unchanged, list(keys.missing_keys), list(keys.unexpected_keys))
