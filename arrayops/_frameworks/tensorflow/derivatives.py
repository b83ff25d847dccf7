"""Derivatives of calls of tensors, where TensorFlow asks for more of them than the user does.

TensorFlow passes zeros as the cotangent of a result that is not used. And it builds graphs of derivatives that nobody
has asked for. So a cotangent which has no derivative is an error only if it is not zero, when that is known.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from arrayops._call.derivatives import derivatives, refused_cotangents
from arrayops._call.dispatch import dispatch
from arrayops._core.op import Op
from arrayops._frameworks.tensorflow.callbacks import name_of_refusal
from arrayops._frameworks.tensorflow.private import executing_eagerly


def tensor_derivatives(
    op: Op,
    arrays: Sequence[Any],
    parameters: Any,
    saved: Sequence[Any],
    wanted: Sequence[bool],
    cotangents: Sequence[Any],
) -> list[Any]:
    """`derivatives` of a call of tensors, eager or symbolic.

    Raises
    ------
    NotImplementedError
        If a cotangent that has no derivative is not zero; in a graph it is raised when the derivatives are computed.
    """
    errors = refused_cotangents(op, arrays, parameters)
    refused = {i: error for i, error in errors.items() if cotangents[i] is not None}
    kept = [None if i in refused else cotangent for i, cotangent in enumerate(cotangents)]
    terms = derivatives(op, arrays, parameters, saved, wanted, kept, dispatch, tf.zeros_like)
    for i, error in refused.items():
        if not executing_eagerly():
            zero = _zero_or_error(cotangents[i], error)
            terms = [
                None if not yes else _plus(tf.zeros_like(array) if term is None else term, zero)
                for term, array, yes in zip(terms, arrays, wanted, strict=True)
            ]
        elif bool(tf.reduce_any(cotangents[i] != 0)):
            raise error
    return terms


def _zero_or_error(cotangent: Any, error: NotImplementedError) -> Any:
    """The number 0 in a graph; computing it raises ``error`` unless the cotangent is zero."""
    (zero,) = tf.raw_ops.PyFuncStateless(input=[cotangent], token=name_of_refusal(error), Tout=[tf.float32])
    zero.set_shape(())
    return zero


def _plus(term: Any, zero: Any) -> Any:
    return term + tf.cast(zero, term.dtype)
