"""The expressions of dynamic sizes in an exported program, which torch evaluates as Python.

It writes them with sympy's ``srepr``, ``Mul(Integer(2), Symbol('s0', integer=True))`` say, and reads
them back with ``sympify``, which is ``eval``. Only what is written so is let through.
"""

from __future__ import annotations

import ast
import re
from typing import Any

# Classes of sympy, and of torch's own `torch.utils._sympy.functions`.
_FUNCTIONS = frozenset(
    "Symbol Dummy Integer Float Rational Add Mul Pow Mod Max Min Abs Not And Or floor ceiling Equality "
    "Unequality GreaterThan LessThan StrictGreaterThan StrictLessThan Eq Ne Ge Le Gt Lt Piecewise "
    "ExprCondPair FloorDiv ModularIndexing Where PythonMod CleanDiv CeilToInt FloorToInt CeilDiv "
    "LShift RShift PowByNatural FloatPow FloatTrueDiv IntTrueDiv TruncToFloat TruncToInt RoundToInt "
    "RoundDecimal ToFloat Identity IsNonOverlappingAndDenseIndicator".split()
)
# What may stand in the string that is the first operand of these; others would evaluate it again.
_STRINGS = {
    "Symbol": re.compile(r"[A-Za-z_]\w*"),
    "Dummy": re.compile(r"[A-Za-z_]\w*"),
    "Float": re.compile(r"[-+.\deE]+"),
}
_POWERS = frozenset(("Pow", "PowByNatural", "FloatPow", "LShift"))
_PLAIN = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Name, ast.Load, ast.operator,
    ast.unaryop, ast.boolop, ast.cmpop, ast.keyword,
)  # fmt: skip
_LONGEST, _LARGEST_POWER = 10_000, 64


def is_plain_expression(text: Any) -> bool:
    """Whether an expression holds nothing but numbers, symbols, and functions of sizes.

    Towers of powers, which take for ever, are refused with the rest.
    """
    if not isinstance(text, str) or len(text) > _LONGEST:
        return False
    try:
        parts = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    strings = {id(p.args[0]) for p in parts if isinstance(p, ast.Call) and _takes_string(p)}
    return all(id(part) in strings or _is_plain(part) for part in parts)


def _takes_string(call: ast.Call) -> bool:
    wanted = _STRINGS.get(call.func.id) if isinstance(call.func, ast.Name) else None
    first = call.args[0] if call.args else None
    text = first.value if isinstance(first, ast.Constant) else None
    return wanted is not None and isinstance(text, str) and wanted.fullmatch(text) is not None


def _is_plain(part: ast.AST) -> bool:
    if isinstance(part, ast.Call):
        if not isinstance(part.func, ast.Name) or part.func.id not in _FUNCTIONS:
            return False
        return part.func.id not in _POWERS or (len(part.args) == 2 and _is_small(part.args[1]))
    if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Pow | ast.LShift):
        return _is_small(part.right)
    if isinstance(part, ast.Constant):
        return isinstance(part.value, int | float)
    return isinstance(part, _PLAIN)


def _is_small(power: ast.AST) -> bool:
    if isinstance(power, ast.Call) and len(power.args) == 1:  # Integer(2)
        power = power.args[0]
    if isinstance(power, ast.UnaryOp):
        power = power.operand
    number = power.value if isinstance(power, ast.Constant) else None
    return isinstance(number, int | float) and abs(number) <= _LARGEST_POWER
