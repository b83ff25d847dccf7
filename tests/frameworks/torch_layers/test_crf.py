"""PacCRF and PacCRFLoose beside mean-field inference written as loops over pixels, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def softmax(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores - scores.max(0))
    return exponentials / exponentials.sum(0)


def block_means(image: np.ndarray, blur: int) -> tuple[np.ndarray, list[int]]:
    """Means of blocks, of which those at the borders are cut off, and the size of what is cut off in front."""
    sizes = image.shape[1:]
    cut = [((-size) % blur + 1) // 2 for size in sizes]
    counts = [(size + 2 * padding - blur) // blur + 1 for size, padding in zip(sizes, cut, strict=True)]
    means = np.zeros((len(image), *counts))
    for i in range(counts[0]):
        for j in range(counts[1]):
            top, left = i * blur - cut[0], j * blur - cut[1]
            block = image[:, max(top, 0) : top + blur, max(left, 0) : left + blur]
            means[:, i, j] = block.mean((1, 2))
    return means, cut


def enlarged(image: np.ndarray, blur: int, cut: list[int], size: tuple[int, ...]) -> np.ndarray:
    """Bilinear interpolation between the centres of blocks."""
    found = np.zeros((len(image), *size))
    for y in range(size[0]):
        for x in range(size[1]):
            total = 0.0
            row, column = ((p + c + 0.5) / blur - 0.5 for p, c in zip((y, x), cut, strict=True))
            for i in (int(np.floor(row)), int(np.floor(row)) + 1):
                for j in (int(np.floor(column)), int(np.floor(column)) + 1):
                    weight = (1 - abs(row - i)) * (1 - abs(column - j))
                    at = min(max(i, 0), image.shape[1] - 1), min(max(j, 0), image.shape[2] - 1)
                    total = total + weight * image[:, at[0], at[1]]
            found[:, y, x] = total
    return found


def message(q: np.ndarray, guide: np.ndarray | None, weight: np.ndarray, dilation: int) -> np.ndarray:
    """Sum over the window of K W q; a weight with one filter is the same for all classes."""
    classes, rows, columns = q.shape
    sizes = weight.shape[2:]
    filters = weight if weight.shape[0] == classes else np.eye(classes)[:, :, None, None] * weight
    found = np.zeros_like(q)
    for y in range(rows):
        for x in range(columns):
            for i in range(sizes[0]):
                for j in range(sizes[1]):
                    u, v = y + (i - sizes[0] // 2) * dilation, x + (j - sizes[1] // 2) * dilation
                    if 0 <= u < rows and 0 <= v < columns:
                        k = 1.0
                        if guide is not None:
                            k = np.exp(-0.5 * ((guide[:, u, v] - guide[:, y, x]) ** 2).sum())
                        found[:, y, x] += k * filters[:, :, i, j] @ q[:, u, v]
    return found


def value(weight: Any) -> float:
    """A factor of a term, a parameter or a number."""
    return weight if isinstance(weight, float) else weight.item()


def one_step(crf: Any, kernels: list[dict[str, Any]], unary: Any, guides: list[Any], log_q: Any) -> np.ndarray:
    """log Q after a step with the weights of a PacCRF, for one image."""
    q = softmax(log_q)
    found = value(crf.unary_weight) * unary
    for i, (kernel, guide) in enumerate(zip(kernels, guides, strict=True)):
        blur, kind = kernel.get("blur", 1), kernel.get("compat_type", "4d")
        weight = crf.messengers[i].weight.detach().numpy()
        source, cut = block_means(q, blur)
        guide = None if kind == "na" else block_means(guide, blur)[0]
        term = message(source, guide, weight, kernel.get("dilation", 1))
        if kind == "2d":
            term = np.einsum("oc,chw->ohw", crf.compat[i].weight.detach().numpy()[:, :, 0, 0], term)
        term = enlarged(term, blur, cut, unary.shape[1:])
        factor = kernel.get("pairwise_weight", 1.0) * (-1 if kind == "potts" else 1)
        if kind == "potts" and not kernel.get("spatial_filter", True) and not crf.fixed_weighting:
            factor = value(crf.pairwise_weights[i])
        found = found - factor * term
    return found


def final(scores: np.ndarray, output: str) -> np.ndarray:
    return {"log_Q": scores, "softmax": softmax(scores), "log_softmax": np.log(softmax(scores))}[output]


kernel_settings = st.fixed_dictionaries(
    {
        "kernel_size": st.sampled_from([1, 3, 5, (3, 5)]),
        "dilation": st.integers(1, 2),
        "blur": st.integers(1, 4),
        "compat_type": st.sampled_from(["4d", "2d", "potts", "na"]),
        "spatial_filter": st.booleans(),
        "pairwise_weight": st.floats(0.1, 2),
    }
)


@settings(max_examples=40, deadline=None)
@given(
    kernels=st.lists(kernel_settings, min_size=1, max_size=2),
    loose=st.booleans(),
    fixed=st.booleans(),
    output=st.sampled_from(["log_Q", "softmax", "log_softmax"]),
    size=st.tuples(st.integers(2, 6), st.integers(2, 6)),
    seed=st.integers(0, 2**16),
)
def test_beside_loops(
    torch: Any, layers: Any, kernels: Any, loose: bool, fixed: bool, output: str, size: Any, seed: int
) -> None:
    torch.manual_seed(seed)
    kind = layers.PacCRFLoose if loose else layers.PacCRF
    crf = kind(3, 2, output, fixed_weighting=fixed, unary_weight=0.8, pairwise_kernels=kernels, dtype=torch.float64)
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    unary = torch.randn(2, 3, *size, dtype=torch.float64)
    guides = [torch.randn(2, 2, *size, dtype=torch.float64) for _ in kernels]
    found = crf(unary, guides).detach().numpy()
    for n in range(2):
        u, images = unary[n].numpy(), [guide[n].numpy() for guide in guides]
        log_q = u
        for step in crf.steps if loose else [crf, crf]:
            log_q = one_step(step, kernels, u, images, log_q)
        np.testing.assert_allclose(found[n], final(log_q, output), rtol=1e-10, atol=1e-10)


KERNELS = [{"kernel_size": 3, "compat_type": "potts", "spatial_filter": False}, {"compat_type": "na"}, {"blur": 2}]


@pytest.fixture
def crf(layers: Any) -> Any:
    return layers.PacCRF(3, 2, pairwise_kernels=KERNELS)


class TestArguments:
    def test_one_kernel_as_a_dict(self, torch: Any, layers: Any) -> None:
        unary, guide = torch.randn(1, 3, 6, 7), torch.randn(1, 2, 6, 7)
        torch.manual_seed(0)
        one = layers.PacCRF(3, 2, pairwise_kernels={"kernel_size": 5})
        torch.manual_seed(0)
        other = layers.PacCRF(3, 2)
        other.add_pairwise_kernel(kernel_size=5)
        torch.testing.assert_close(one(unary, guide), other(unary, guide))
        assert one.num_pairwise_kernels == other.num_pairwise_kernels == 1

    def test_added_to_each_step(self, torch: Any, layers: Any) -> None:
        loose = layers.PacCRFLoose(3, 4)
        loose.add_pairwise_kernel(5, blur=2, compat_type="2d")
        assert loose.num_pairwise_kernels == 1
        assert len({id(step.messengers[0]) for step in loose.steps}) == 4
        assert all(step.compat[0].weight.shape == (3, 3, 1, 1) for step in loose.steps)

    def test_without_kernels(self, torch: Any, layers: Any) -> None:
        unary = torch.randn(1, 3, 6, 7)
        torch.testing.assert_close(layers.PacCRF(3, 2, unary_weight=0.5)(unary, []), 0.5 * unary)

    def test_edge_kernels_are_reused(self, torch: Any, layers: Any, crf: Any) -> None:
        unary, guide = torch.randn(1, 3, 6, 7), torch.randn(1, 2, 6, 7)
        kernels = crf.compute_edge_kernel(guide)
        assert kernels[1] is None
        assert [tuple(kernel.shape) for kernel in (kernels[0], kernels[2])] == [(1, 1, 3, 3, 6, 7), (1, 1, 3, 3, 3, 4)]
        torch.testing.assert_close(crf(unary, None, kernels), crf(unary, [guide, None, guide]))

    def test_start(self, torch: Any, layers: Any, crf: Any) -> None:
        """Two calls of one step each are one of two."""
        unary, guide = torch.randn(1, 3, 6, 7), torch.randn(1, 2, 6, 7)
        step = layers.PacCRF(3, 1, pairwise_kernels=KERNELS)
        step.load_state_dict(crf.state_dict())
        torch.testing.assert_close(step(unary, guide, logQ=step(unary, guide)), crf(unary, guide))

    def test_added_where_the_others_are(self, torch: Any, layers: Any) -> None:
        crf = layers.PacCRF(3, 2).double()
        crf.add_pairwise_kernel(compat_type="2d")
        assert {parameter.dtype for parameter in crf.parameters()} == {torch.float64}

    @pytest.mark.parametrize("how", ["modules", "apply", "method"])
    def test_reset(self, torch: Any, layers: Any, how: str) -> None:
        """Also in the orders of a deferred initialisation, which resets each module by itself."""
        kernels = [{"compat_type": "2d"}, {"compat_type": "na"}, *KERNELS, {}]
        crf = layers.PacCRF(3, 2, perturbed_init=False, unary_weight=0.5, pairwise_kernels=kernels)
        expected = {name: tensor.clone() for name, tensor in crf.state_dict().items()}
        crf = layers.PacCRF(3, 2, "log_Q", False, unary_weight=0.5, pairwise_kernels=kernels, device="meta")
        crf.to_empty(device="cpu")
        for parameter in crf.state_dict().values():
            parameter.fill_(7)

        def reset(module: Any) -> None:
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()

        if how == "apply":
            crf.apply(reset)
        for module in crf.modules() if how == "modules" else [crf]:
            reset(module)
        for name, tensor in crf.state_dict().items():
            if name in ("messengers.1.weight", "messengers.3.weight"):  # of torch.nn.Conv2d: random
                assert tensor.abs().max() < 1
            else:
                torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)

    def test_only_the_weights_of_pooled_potts_terms_are_trained(self, torch: Any, layers: Any, crf: Any) -> None:
        crf(torch.randn(1, 3, 6, 7), torch.randn(1, 2, 6, 7)).sum().backward()
        assert [weight.grad is not None for weight in crf.pairwise_weights] == [True, False, False]
        # Every parameter that requires a gradient gets one, as DistributedDataParallel demands.
        assert all(parameter.requires_grad == (parameter.grad is not None) for parameter in crf.parameters())
        fixed = layers.PacCRF(3, 2, fixed_weighting=True, pairwise_kernels=KERNELS)
        assert "unary_weight" not in fixed.state_dict()
        assert fixed.unary_weight == 1.0
        fixed(torch.randn(1, 3, 6, 7), torch.randn(1, 2, 6, 7)).sum().backward()
        assert all(weight.grad is None for weight in fixed.pairwise_weights)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"channels": 0}, "channels is 0, expected at least 1"),
    ({"num_steps": 0}, "num_steps is 0, expected at least 1"),
    ({"final_output": "logits"}, "final_output is 'logits', expected 'log_Q' or 'softmax' or 'log_softmax'"),
    ({"unary_weight": "1"}, "unary_weight is '1', expected a number"),
    ({"pairwise_kernels": {"compat_type": "3d"}}, "compat_type is '3d', expected '4d' or '2d' or 'potts' or 'na'"),
    ({"pairwise_kernels": {"kernel_size": 4}}, "kernel_size is 4, expected odd numbers"),
    ({"pairwise_kernels": {"blur": 0}}, "blur is 0, expected at least 1"),
    ({"pairwise_kernels": {"pairwise_weight": None}}, "pairwise_weight is None, expected a number"),
]


@pytest.mark.parametrize(("changes", "text"), BAD)
@pytest.mark.parametrize("name", ["PacCRF", "PacCRFLoose"])
def test_bad_arguments(layers: Any, name: str, changes: Any, text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^PacCRF(Loose)?: {text}"):
        getattr(layers, name)(**{"channels": 3, "num_steps": 2, **changes})


def test_bad_inputs(torch: Any, layers: Any, crf: Any) -> None:
    unary, guide = torch.randn(1, 3, 6, 7), torch.randn(1, 2, 6, 7)
    with pytest.raises(ValueError, match="PacCRF: edge_feat and edge_kernel are both None"):
        crf(unary, None)
    with pytest.raises(ValueError, match="PacCRF: edge_feat has 2 entries, expected 3, one for each pairwise kernel"):
        crf(unary, [guide, guide])
    with pytest.raises(ValueError, match="PacCRF: edge_kernel has 1 entries, expected 3"):
        crf(unary, None, [guide])
    with pytest.raises(ValueError, match="PacCRF: edge_feat is None, expected a tensor, except for 'na'"):
        crf(unary, [None, None, guide])
    with pytest.raises(ValueError, match=r"PacCRF: unary is \(1, 4, 6, 7\), expected \(N, 3, H, W\)"):
        crf(torch.randn(1, 4, 6, 7), guide)
    with pytest.raises(ValueError, match=r"PacCRF: unary is \(3, 6, 7\), expected \(N, 3, H, W\)"):
        crf(unary[0], guide[0])
    with pytest.raises(ValueError, match=r"PacCRF: logQ is \(1, 3, 6, 6\), expected \(1, 3, 6, 7\)"):
        crf(unary, guide, logQ=unary[..., :6])
    loose = layers.PacCRFLoose(3, 2, pairwise_kernels=KERNELS)
    for each in (crf, loose):
        with pytest.raises(
            ValueError, match=r"edge_feat is \(1, 2, 6, 6\), expected height and width \(6, 7\) of unary"
        ):
            each(unary, [guide[..., :6], None, guide])
    with pytest.raises(ValueError, match="PacCRF: edge_feat and edge_kernel are both None"):
        loose(unary, None)


def test_initial_compatibility(torch: Any, layers: Any) -> None:
    for perturbed in (False, True):
        crf = layers.PacCRF(4, 1, perturbed_init=perturbed, pairwise_kernels={"compat_type": "2d"})
        difference = (crf.compat[0].weight[:, :, 0, 0] - (1 - torch.eye(4))).abs().max()
        assert (0 < difference <= 0.0005) if perturbed else difference == 0


def test_smooths_a_noisy_segmentation_along_edges(torch: Any, layers: Any) -> None:
    """Two regions with noisy scores: the CRF corrects nearly all pixels, and with an edge unknown many fewer."""
    truth = torch.zeros(1, 24, 24, dtype=torch.int64)
    truth[:, :, 12:] = 1
    random = torch.Generator().manual_seed(0)
    unary = torch.nn.functional.one_hot(truth, 2).movedim(-1, 1).float()
    unary = unary + 1.2 * torch.randn(unary.shape, generator=random)
    kernel = {"kernel_size": 5, "compat_type": "potts", "spatial_filter": False, "pairwise_weight": 0.5}
    crf = layers.PacCRF(2, 5, pairwise_kernels=kernel)
    wrong = [
        int((scores.argmax(1) != truth).sum())
        for scores in (unary, crf(unary, 5.0 * truth[:, None].float()), crf(unary, torch.zeros(1, 1, 24, 24)))
    ]
    assert wrong[0] > 100
    assert wrong[1] <= 3
    assert wrong[2] > wrong[1]
