"""Jinja's immutable sandbox with limits, for chat templates.

Set up as transformers sets it up, plus two limits:

- *Memory.* No value that a template can hold weighs more than the limit, where the weight of a list is that of all it
  contains, counted once per reference. So every single step in C (compare, join, print) is linear in the limit; those
  that are not, because they search backwards or meet numbers of one hash, are refused by size or done line by line.
  What multiplies (`*`, `**`, `replace`, `join`, padding) is refused by arithmetic before it runs. All that a rendering
  makes, together, is limited too. The limit grows with the conversation, which is the user's own.
- *Reach.* Methods of Python's own types and Jinja's filters are allow-lists; no loader, so no other file.

What transformers has and this has not: tools, documents, `lipsum`, `cycler` and filters for HTML pages.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Set, ValuesView
from datetime import datetime
from types import BuiltinMethodType, MethodType
from typing import Any, Never

import jinja2.ext
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.parser import Parser
from jinja2.runtime import BlockReference, Context, LoopContext, Macro, TemplateReference, markup_join, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Joiner, Namespace

from engine.sentences import say

MAX_OUTPUT_CHARS = 16 << 20

_BASE_WEIGHT = 1 << 20
_WEIGHT_PER_INPUT_CHAR = 8
_TOTAL_WEIGHTS = 64
_MAX_INT_BITS = 4096
_MAX_ROUND_DIGITS = 100
_MAX_DATE_FORMAT_CHARS = 200
_MAX_FIELD_CHARS = 1000
_MAX_COMPARED_CHARS = 1 << 30  # in one search: 0.1 s

_FILTERS = """
    abs attr capitalize count d default dictsort e escape first float groupby indent int items join last length list
    lower map max min reject rejectattr replace reverse round safe select selectattr sort string sum title trim
    unique upper wordcount
"""
_STR_METHODS = """
    capitalize casefold center count endswith find format index isalnum isalpha isascii isdecimal isdigit isidentifier
    islower isnumeric isprintable isspace istitle isupper join ljust lower lstrip partition removeprefix removesuffix
    replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase title upper zfill
"""
_SEARCHES_BACKWARDS = ("rfind", "rindex", "rpartition", "rsplit", "strip", "lstrip", "rstrip")
_CONTAINER_METHODS = "copy count get index items keys values"

# What weighs nothing by itself and yet shows a name or an item of any length.
_HOLDERS = (Namespace, LoopContext, Joiner, Macro, BlockReference, TemplateReference)


class RefusedError(TemplateError):
    """The template called `raise_exception`."""


class LimitError(TemplateError):
    """A value would pass a limit."""


class _BoundedCode(CodeGenerator):
    """Sends what Jinja compiles to plain Python expressions through the environment's limits."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        """`a ~ b`: checks the sum of the lengths."""
        markup = "context.eval_ctx.autoescape" if frame.eval_ctx.volatile else str(frame.eval_ctx.autoescape)
        self.write(f"environment.join_parts({markup}, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        """`[a, b]`: checks the weight."""
        self._checked(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        """`{a: b}`: checks the weight."""
        self._checked(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        """`(a, b)`: checks the weight, unless it is an assignment's target."""
        if node.ctx == "load":
            self._checked(super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def _checked(self, write: Callable[[Any, Frame], None], node: nodes.Node, frame: Frame) -> None:
        self.write("environment.check(")
        write(node, frame)
        self.write(")")


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}`: marks the assistant's text for training; here only its content counts."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own declaration

    def parse(self, parser: Parser) -> nodes.Node:
        """The content, in a scope of its own as in transformers."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Namespace(Namespace):
    """Jinja's namespace without underscore names (CVE-free as in transformers) and without a recursive repr."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Jinja's own signature trick
        self, args = args[0], args[1:]
        attributes = dict(*args, **kwargs)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:  # noqa: ANN401
        _check_name(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox of transformers' chat templates, with limits."""

    code_generator_class = _BoundedCode
    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            finalize=self._printed,
            extensions=[_GenerationTag, jinja2.ext.loopcontrols],
        )
        self.limit = _BASE_WEIGHT
        self._left = 0
        self.concat = self._join_output  # type: ignore[method-assign]
        own: dict[str, Callable[..., Any]] = {
            "join": self._join,
            "replace": self._replace,
            "indent": self._indent,
            "sum": _sum,
            "round": _round,
            "trim": _trim,
        }
        self.filters = {
            name: self._bounded_filter(value, own.get(name))
            for name, value in self.filters.items()
            if name in _FILTERS.split()
        }
        self.filters["tojson"] = self._tojson
        for name in ("lipsum", "cycler"):
            del self.globals[name]
        self.globals.update(
            raise_exception=_refuse, strftime_now=_strftime_now, dict=_TemplateDict(), namespace=_Namespace
        )

    def start(self, input_weight: int) -> None:
        """Set the limits for one rendering."""
        self.limit = _BASE_WEIGHT + _WEIGHT_PER_INPUT_CHAR * input_weight
        self._left = self.limit * _TOTAL_WEIGHTS

    def allow(self, weight: int) -> None:
        """Refuse what would weigh more than one value may."""
        if weight > self.limit:
            raise LimitError(say("it makes a value of more than {limit} characters", limit=self.limit))

    def check(self, value: Any) -> Any:  # noqa: ANN401
        """The value, once its weight is known to be within both limits."""
        self._left -= weight_of(value, self.limit)
        if self._left < 0:
            raise LimitError(say("it makes more than {limit} characters of values", limit=self.limit * _TOTAL_WEIGHTS))
        return value

    def join_parts(self, markup: bool, parts: tuple[Any, ...]) -> str:
        """What `~` does."""
        self.allow(sum(weight_of(part, self.limit) for part in parts))
        joined: str = self.check(markup_join(parts) if markup else str_join(parts))
        return joined

    def _join_output(self, parts: Iterable[str]) -> str:
        """What a macro, a block or the whole template has printed."""
        printed: list[str] = []
        chars = 0
        for part in parts:
            chars += len(part)
            if chars > min(self.limit, MAX_OUTPUT_CHARS):
                raise LimitError(say("it prints more than {limit} characters", limit=min(self.limit, MAX_OUTPUT_CHARS)))
            printed.append(part)
        return str(self.check("".join(printed)))

    def _printed(self, value: Any) -> Any:  # noqa: ANN401
        """What `{{ value }}` prints."""
        return value if isinstance(value, str) else self.check(str(value))

    # ---- operators and calls ----

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401
        """An operator, once its result is known to be small enough."""
        if operator == "*":
            self._allow_times(left, right)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _allow_bits(left.bit_length() * max(right, 0))
        elif operator == "%" and isinstance(left, str):
            self._allow_format(left, right, "%")
        return self.check(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401, N805
        """A function, macro or method, once it is known to be harmless."""
        method = getattr(__obj, "__wrapped__", __obj)
        if isinstance(method, (BuiltinMethodType, MethodType)):
            args = __self._allow_method(method.__self__, method.__name__, args, kwargs)
        return __self.check(super().call(__context, __obj, *args, **kwargs))

    def _allow_method(self, owner: object, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """Refuse methods outside the lists and results that are too large; returns the arguments to use."""
        if isinstance(owner, str):
            if name not in _STR_METHODS.split():
                raise SecurityError(say("it calls str.{name}", name=name))
            if name == "join" and args:
                args = (self._allow_join(args[0], owner), *args[1:])
            elif name == "replace" and len(args) >= 2:
                self._allow_replace(owner, str(args[0]), str(args[1]))
            elif name == "format":
                self._allow_format(owner, (args, kwargs), "{")
            elif name in _SEARCHES_BACKWARDS and args:
                _allow_search(owner, args[0])
            elif name in ("center", "ljust", "rjust", "zfill") and args and isinstance(args[0], int):
                self.allow(args[0])
        elif not self._is_harmless(owner, name):
            raise SecurityError(say("it calls {kind}.{name}", kind=type(owner).__name__, name=name))
        return args

    def _is_harmless(self, owner: object, name: str) -> bool:
        """Whether a method of something that is no string may be called."""
        if isinstance(owner, (list, tuple, dict)):
            return name in _CONTAINER_METHODS.split()
        return not isinstance(owner, (int, float, bytes, Generator))

    def _allow_times(self, left: object, right: object) -> None:
        if isinstance(left, int) and isinstance(right, int):
            _allow_bits(left.bit_length() + right.bit_length())
        for value, times in ((left, right), (right, left)):
            if isinstance(times, int) and isinstance(value, (str, list, tuple)):
                self.allow(weight_of(value, self.limit) * max(times, 0))

    def _allow_format(self, pattern: str, values: object, mark: str) -> None:
        """Only widths written out, of three digits; each field may print all the values."""
        if "*" in pattern or re.search(r"\d{4}|\{[^{}]*\{", pattern):
            raise SecurityError(say("it uses a format with computed or large widths"))
        self.allow(len(pattern) + pattern.count(mark) * (_MAX_FIELD_CHARS + weight_of(values, self.limit)))

    def _allow_replace(self, text: str, old: str, new: str) -> None:
        self.allow(len(text) + (text.count(old) + 1) * len(new))

    def _allow_join(self, values: Iterable[Any], separator: str) -> list[Any]:
        items = list(values)
        self.allow(weight_of(items, self.limit) + len(items) * len(separator))
        return items

    # ---- filters ----

    def _bounded_filter(self, call: Callable[..., Any], allow: Callable[..., Any] | None) -> Callable[..., Any]:
        """A filter whose arguments are allowed before and whose result is weighed after."""
        skip = 1 if hasattr(call, "jinja_pass_arg") else 0

        @functools.wraps(call)
        def bounded(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            if allow is not None:
                args = (*args[:skip], allow(*args[skip:], **kwargs), *args[skip + 1 :])
            return self.check(call(*args, **kwargs))

        return bounded

    def _join(self, value: Iterable[Any], d: str = "", attribute: object = None) -> list[Any]:  # noqa: ARG002
        return self._allow_join(value, str(d))

    def _replace(self, s: Any, old: Any, new: Any, count: int | None = None) -> str:  # noqa: ANN401, ARG002
        self._allow_replace(str(s), str(old), str(new))
        return str(s)

    def _indent(self, s: Any, width: int | str = 4, *_flags: bool, **_named: bool) -> str:  # noqa: ANN401
        step = len(width) if isinstance(width, str) else max(int(width), 0)
        self.allow(len(str(s)) + (len(str(s).splitlines()) + 1) * step)
        return str(s)

    def _tojson(
        self,
        x: Any,  # noqa: ANN401
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """Transformers' own `tojson`: without HTML escapes; counted while it is written."""
        self.allow(indent or 0)
        encoder = json.JSONEncoder(
            ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )  # fmt: skip
        return self._join_output(encoder.iterencode(x))


class _TemplateDict:
    """`dict(...)` without the type's attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:  # noqa: ANN401
        return dict(*args, **kwargs)

    def fromkeys(self, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:  # noqa: ANN401
        made: dict[Any, Any] = {}
        for key in keys:  # not in C: numbers of one hash take a square number of comparisons
            made[key] = value
        return made


def _refuse(message: object) -> Never:
    raise RefusedError(str(message)[:500])


def _strftime_now(form: str) -> str:
    if len(form) > _MAX_DATE_FORMAT_CHARS:
        raise LimitError(say("it uses a date format of more than {limit} characters", limit=_MAX_DATE_FORMAT_CHARS))
    return datetime.now().strftime(form)


def _sum(iterable: Any, attribute: object = None, start: Any = 0) -> Any:  # noqa: ANN401, ARG001
    if not isinstance(start, (int, float)):
        raise SecurityError(say("it sums values that are not numbers"))
    return iterable


def _round(value: Any, precision: int = 0, method: str = "common") -> Any:  # noqa: ANN401, ARG001
    if abs(int(precision)) > _MAX_ROUND_DIGITS:
        raise LimitError(say("it rounds to {precision} digits", precision=precision))
    return value


def _trim(value: Any, chars: str | None = None) -> Any:  # noqa: ANN401
    _allow_search(str(value), chars)
    return value


def _allow_search(text: str, sought: object) -> None:
    """Refuse a search that may compare every character with every other."""
    if isinstance(sought, str) and len(text) * len(sought) > _MAX_COMPARED_CHARS:
        raise LimitError(say("it searches for {number} characters", number=len(sought)))


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(say("it stores the underscore name {name}", name=repr(name)))


def _allow_bits(bits: int) -> None:
    if bits > _MAX_INT_BITS:
        raise LimitError(say("it makes an integer of {bits} bits", bits=bits))


def weight_of(value: object, limit: int) -> int:
    """Characters and items in a value and all it contains, each counted once per reference.

    Raises:
        LimitError: The weight passes the limit; counting stops there.
    """
    total = 0
    stack: list[Any] = [value]
    while stack:
        item = stack.pop()
        total += 1
        if isinstance(item, (str, bytes)):
            total += len(item)
        elif isinstance(item, int):
            _allow_bits(item.bit_length())
        elif isinstance(item, (Mapping, Set, ValuesView, list, tuple)):
            total += len(item)
            if total <= limit:
                stack.extend(item)
                stack.extend(item.values() if isinstance(item, Mapping) else ())
        elif isinstance(item, _HOLDERS) and item is not value:
            raise SecurityError(say("it stores a {kind} inside another value", kind=type(item).__name__.strip("_")))
        if total > limit:
            raise LimitError(say("it makes a value of more than {limit} characters", limit=limit))
    return total
