"""Format strings: `parse("mxint8")`, `parse("block(fixed(4,0),size=128,scale=bf16)")`.

The grammar is that of a Python call, read by Python's own parser and never evaluated.
"""

from __future__ import annotations

import ast
import difflib
from functools import lru_cache
from typing import Any

from quire.errors import FormatError
from quire.formats.base import Format
from quire.formats.presets import PRESETS
from quire.formats.registry import EXAMPLES, FAMILIES


def parse(text: str) -> Format:
    """The format that a string names: a preset, or a family with its parameters.

    Raises `FormatError` that shows the text, what is wrong in it and what is legal.
    """
    if not isinstance(text, str):
        raise FormatError(f"a format string is a str, not {type(text).__name__}: {text!r}")
    return _parse(text)


@lru_cache(maxsize=4096)
def _parse(text: str) -> Format:
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise FormatError(
            f"format {text!r} cannot be read: write a preset such as mxint8 or a call such as"
            " fixed(8,4)"
        ) from error
    value = _value(tree, text)
    if not isinstance(value, Format):
        raise FormatError(f"format {text!r} is a {type(value).__name__}, not a format")
    return value


def _value(node: ast.expr, text: str) -> Any:
    match node:
        case ast.Name(id=name):
            return _named(name, text)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            return _called(name, args, keywords, text)
        case ast.Constant(value=int() | str() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as value)):
            return -value
        case _:
            raise FormatError(f"format {text!r}: cannot read {ast.unparse(node)!r}")


def _named(name: str, text: str) -> Any:
    """A preset; or a word, such as the value of `special=`."""
    if name in PRESETS:
        return PRESETS[name]
    if name in FAMILIES:
        raise FormatError(f"format {text!r}: {name} takes parameters, for example {EXAMPLES[name]}")
    if name in ("ieee", "nan", "none"):
        return name
    raise FormatError(f"format {text!r}: {_unknown(name)}")


def _called(name: str, args: list[ast.expr], keywords: list[ast.keyword], text: str) -> Any:
    if name not in FAMILIES:
        raise FormatError(f"format {text!r}: {_unknown(name)}")
    positional = [_value(arg, text) for arg in args]
    named = {str(k.arg): _value(k.value, text) for k in keywords}
    try:
        return FAMILIES[name](*positional, **named)
    except TypeError as error:
        problem = str(error).split("() ")[-1]
        raise FormatError(f"format {text!r}: {name}() {problem}; write {EXAMPLES[name]}") from error


def _unknown(name: str) -> str:
    known = [*PRESETS, *FAMILIES]
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ";"
    return f"no format or family is named {name!r}{hint} `quire formats` lists them"
