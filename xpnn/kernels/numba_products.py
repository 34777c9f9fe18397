r"""Small matrix products inside compiled code, with any steps between what is multiplied.

.. math:: C_{ro} \mathrel{+}= \sum_{s, t} A(r, s, t)\, B_{sto}

A is looked up at ``a + r * a_row + s * a_outer + t * a_inner``: windows of images, as they lie, are
such an A. The rows of B and C are contiguous, and a multiple of 16 numbers long. Four rows by 16
columns of C stay in registers while s and t run; by up to 64, where registers are as wide.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["LANES", "multiply"]

LANES = 16
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_BYTES = 4 * LANES
# With 16 registers of 8 numbers, four rows by 32 columns are already too many.
_VECTORS = 4 if binding.get_host_cpu_features().get("avx512f") else 1


def _tile(rows: int, vectors: int) -> Any:
    """Return a compiled function for ``rows`` rows and ``vectors`` times 16 columns of C."""

    @intrinsic
    def tile(
        typing: Any, a: Any, a_row: Any, a_outer: Any, a_inner: Any, b: Any, b_outer: Any,
        b_inner: Any, outer: Any, inner: Any, c: Any, c_row: Any, fresh: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            a, a_row, a_outer, a_inner, b, b_outer, b_inner, outer, inner, c, c_row, fresh = args
            integer = a.type

            def pointer(address: Any, what: Any) -> Any:
                return builder.inttoptr(address, what.as_pointer())

            def moved(address: Any, n: Any, step: Any) -> Any:
                n = ir.Constant(integer, n) if isinstance(n, int) else n
                return builder.add(address, builder.mul(n, step))

            def target(r: int, v: int) -> Any:
                at = moved(moved(c, r, c_row), v, ir.Constant(integer, _BYTES))
                return pointer(at, _VECTOR)

            is_fresh = builder.icmp_signed("!=", fresh, ir.Constant(integer, 0))
            zero = ir.Constant(_VECTOR, [0.0] * LANES)
            sums = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(vectors)]
                    for _ in range(rows)]  # fmt: skip
            for r in range(rows):
                for v in range(vectors):
                    there = builder.load(target(r, v), align=4)
                    builder.store(builder.select(is_fresh, zero, there), sums[r][v])
            with cgutils.for_range(builder, outer) as s:
                a_s, b_s = moved(a, s.index, a_outer), moved(b, s.index, b_outer)
                with cgutils.for_range(builder, inner) as t:
                    a_t, b_t = moved(a_s, t.index, a_inner), moved(b_s, t.index, b_inner)
                    row = [
                        builder.load(
                            pointer(moved(b_t, v, ir.Constant(integer, _BYTES)), _VECTOR), align=4
                        )
                        for v in range(vectors)
                    ]
                    for r in range(rows):
                        x = builder.load(pointer(moved(a_t, r, a_row), ir.FloatType()))
                        one = builder.insert_element(
                            ir.Constant(_VECTOR, ir.Undefined), x, ir.Constant(ir.IntType(32), 0)
                        )
                        mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
                        wide = builder.shuffle_vector(one, one, mask)
                        for v in range(vectors):
                            term = builder.fmul(wide, row[v], flags=("contract",))
                            total = builder.fadd(
                                builder.load(sums[r][v]), term, flags=("contract",)
                            )
                            builder.store(total, sums[r][v])
            for r in range(rows):
                for v in range(vectors):
                    builder.store(builder.load(sums[r][v]), target(r, v), align=4)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 12), generate

    return tile


_tile_4_4, _tile_4_3, _tile_4_2, _tile_4_1 = (_tile(4, v) for v in (4, 3, 2, 1))
_tile_1_4, _tile_1_3, _tile_1_2, _tile_1_1 = (_tile(1, v) for v in (4, 3, 2, 1))


@njit(nogil=True, cache=True, error_model="numpy")
def multiply(
    a, a_row, a_outer, a_inner, b, b_outer, b_inner, outer, inner, c, c_row, rows, columns, fresh
):
    """Add the products to C, or, if it is ``fresh``, write them there.

    Addresses and steps are in bytes; ``columns`` is a multiple of 16.
    """
    for first in range(0, columns, _VECTORS * LANES):
        vectors = min((columns - first) // LANES, _VECTORS)
        b_part, c_part, a_part = b + 4 * first, c + 4 * first, a
        r = 0
        while r < rows:
            if r + 4 <= rows:
                if vectors == 4:
                    _tile_4_4(a_part, a_row, a_outer, a_inner, b_part, b_outer, b_inner, outer,
                              inner, c_part, c_row, fresh)  # fmt: skip
                elif vectors == 3:
                    _tile_4_3(a_part, a_row, a_outer, a_inner, b_part, b_outer, b_inner, outer,
                              inner, c_part, c_row, fresh)  # fmt: skip
                elif vectors == 2:
                    _tile_4_2(a_part, a_row, a_outer, a_inner, b_part, b_outer, b_inner, outer,
                              inner, c_part, c_row, fresh)  # fmt: skip
                else:
                    _tile_4_1(a_part, a_row, a_outer, a_inner, b_part, b_outer, b_inner, outer,
                              inner, c_part, c_row, fresh)  # fmt: skip
                r, a_part, c_part = r + 4, a_part + 4 * a_row, c_part + 4 * c_row
            else:
                if vectors == 4:
                    _tile_1_4(a_part, a_row, a_outer, a_inner, b_part, b_outer, b_inner, outer,
                              inner, c_part, c_row, fresh)  # fmt: skip
                elif vectors == 3:
                    _tile_1_3(a_part, a_row, a_outer, a_inner, b_part, b_outer, b_inner, outer,
                              inner, c_part, c_row, fresh)  # fmt: skip
                elif vectors == 2:
                    _tile_1_2(a_part, a_row, a_outer, a_inner, b_part, b_outer, b_inner, outer,
                              inner, c_part, c_row, fresh)  # fmt: skip
                else:
                    _tile_1_1(a_part, a_row, a_outer, a_inner, b_part, b_outer, b_inner, outer,
                              inner, c_part, c_row, fresh)  # fmt: skip
                r, a_part, c_part = r + 1, a_part + a_row, c_part + c_row
