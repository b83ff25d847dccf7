"""Tasks keep the plans whose memory they read: of threads that make the same plan at once, one has it in the cache."""

import gc
import weakref
from unittest import mock

import pytest

import arrayops as ao
import conv_cases
import pac_cases
from arrayops._backends.cpu.conv.correlation_kernels import correlation
from arrayops._backends.cpu.conv.weight_gradient_kernels import weight_gradient as conv_weight_gradient
from arrayops._backends.cpu.engine.work import Work
from arrayops._backends.cpu.pac.forward import forward
from arrayops._backends.cpu.pac.gradient import gradient
from arrayops._backends.cpu.pac.plan import Plan
from arrayops._backends.cpu.pac.weight_gradient import weight_gradient
from arrayops._backends.cpu.window.phases import Phases
from case import Case
from same_bits import bits
from strategies import FLOAT32

CACHES = correlation, conv_weight_gradient, forward, gradient, weight_gradient
CALLS = {
    "conv2d": lambda: conv_cases.build("conv2d", FLOAT32, padding=1),
    "conv_transpose2d": lambda: conv_cases.build("conv_transpose2d", FLOAT32, stride=2),
    "pac_conv2d": lambda: pac_cases.build("pac_conv2d", dtype=FLOAT32, padding=1),
    "shared filter": lambda: pac_cases.build("pac_conv2d", dtype=FLOAT32, padding=1, shared_filters=True),
    "pac_pool2d": lambda: pac_cases.build("pac_pool2d", dtype=FLOAT32, padding=1),
    "pac_kernel2d": lambda: pac_cases.build("pac_kernel2d", dtype=FLOAT32, padding=1),
}


@pytest.mark.parametrize("name", CALLS)
def test_plans_live_as_long_as_their_tasks(name: str) -> None:
    case: Case = CALLS[name]()
    found = case.call(ao)
    grad = case.grad((found[0] if isinstance(found, tuple) else found).shape)
    want = bits(case, grad)
    plans: list[weakref.ref[object]] = []
    run, begin_pac, begin_conv = Work.run, Plan.__init__, Phases.__init__

    def pac_plan(self: Plan, *arguments: object) -> None:
        begin_pac(self, *arguments)
        plans.append(weakref.ref(self))

    def conv_phases(self: Phases, *arguments: object, **keywords: object) -> None:
        begin_conv(self, *arguments, **keywords)
        plans.append(weakref.ref(self))

    def run_without_caches(work: Work) -> None:
        for cache in CACHES:
            cache.cache_clear()
        gc.collect()
        assert plans
        assert all(plan() is not None for plan in plans)
        run(work)
        plans.clear()

    for cache in CACHES:
        cache.cache_clear()
    with (
        mock.patch.object(Plan, "__init__", pac_plan),
        mock.patch.object(Phases, "__init__", conv_phases),
        mock.patch.object(Work, "run", run_without_caches),
    ):
        assert bits(case, grad) == want
