"""Chat templates as hostile programs: each attack ends soon, small, and in one sentence."""

from __future__ import annotations

import gc
import sys
import time
import tracemalloc

import pytest

from engine.chat_template import ChatTemplate
from engine.errors import CheckpointError, ConfigurationError

CHAT = [{"role": "user", "content": "Hi"}]

TOO_LONG = {
    "nested loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}"
    "{% endfor %}{% endfor %}",
    "numbers of one hash": "{% set d = dict.fromkeys(range(0, 60000 * __p__, __p__)) %}".replace(
        "__p__", str(sys.hash_info.modulus)
    ),
    "recursive macro": "{% macro f(n) %}{% for i in range(9) %}{{ f(n - 1) if n }}{% endfor %}{% endmacro %}"
    "{{ f(20) }}",
}
TOO_LARGE = {
    "string times": "{{ 'a' * 10**10 }}",
    "list times": "{{ ([1] * 10**9) | length }}",
    "power": "{{ 10 ** (10 ** 10) }}",
    "integer product": "{% set ns = namespace(x=2) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    **{
        f"doubling {name}": "{% set ns = namespace(x=[1] if __list__ else 'ab') %}{% for i in range(99) %}"
        "{% set ns.x = __step__ %}{% endfor %}".replace("__step__", step).replace("__list__", str(int("[" in step)))
        for name, step in {
            "plus": "ns.x + ns.x",
            "tilde": "ns.x ~ ns.x",
            "list": "[ns.x, ns.x]",
            "tuple": "(ns.x, ns.x)[:]",
            "dict": "{1: ns.x, 2: ns.x}",
            "call": "dict(a=ns.x, b=ns.x)",
        }.items()
    },
    "replace": "{% set a = 'a' * 9999 %}{{ a.replace('a', a) }}",
    "replace filter": "{% set a = 'a' * 9999 %}{{ a | replace('a', a) }}",
    "join": "{% set a = 'a' * 99999 %}{{ a.join(range(99999)) }}",
    "join filter": "{% set a = 'a' * 99999 %}{{ range(99999) | join(a) }}",
    "ljust": "{{ 'a'.ljust(10**10) }}",
    "zfill": "{{ 'a'.zfill(10**10) }}",
    "indent": "{{ ('\n' * 99999) | indent(99999) }}",
    "tojson indent": "{{ range(9) | list | tojson(indent=10**9) }}",
    "tojson separators": "{% set a = 'a' * 99999 %}{{ range(99999) | list | tojson(separators=(a, a)) }}",
    "percent width": "{{ '%9999999999d' % 1 }}",
    "percent star": "{{ '%*d' % (10**9, 1) }}",
    "format width": "{{ '{:9999999999}'.format(1) }}",
    "format nested": "{{ '{:{}}'.format(1, 10**9) }}",
    "round": "{{ 1.5 | round(10**9, 'ceil') }}",
    "sum of lists": "{{ ([[1] * 999] * 999) | sum(start=[]) }}",
    "output": "{% for i in range(9999) %}{{ 'a' * 99999 }}{% endfor %}",
    "captured output": "{% set x %}{% for i in range(9999) %}{{ 'a' * 99999 }}{% endfor %}{% endset %}",
    "many values": "{% for i in range(9999) %}{% set a = 'a' * 999999 %}{% endfor %}",
    "fresh texts": "{% set x = range(99999) | list %}{% set y %}{% for i in range(999) %}{{ x }}{% endfor %}"
    "{% endset %}",
    "range": "{{ range(10**9) | length }}",
    "loops joined": "{% for x in ['a' * 300000, 1] %}{{ ([loop] * 900) | join(attribute='previtem') }}{% endfor %}",
    "loops printed": "{% for x in ['a' * 400000, 1] %}{{ ('{0.previtem}' * 700).format(loop) }}{% endfor %}",
    "joiners joined": "{{ ([joiner('a' * 300000)] * 900) | join(attribute='sep') }}",
    "macros printed": "{% macro __a__() %}{% endmacro %}{{ [__a__] * 9999 }}".replace("__a__", "a" * 99999),
    "blocks joined": "{% block __a__ %}{% endblock %}{{ ([self.__a__] * 2500) | join(attribute='name') }}".replace(
        "__a__", "a" * 99999
    ),
    "blocks printed": "{% block __a__ %}{% endblock %}{{ ('{0.__a__.name}' * 9).format(self) }}".replace(
        "__a__", "a" * 29999
    ),
    **{
        f"search by {call}": f"{{{{ ('a' * 400000).{call}('a' * 9999 ~ 'b') }}}}"
        for call in ("rfind", "rindex", "rpartition", "rsplit", "strip", "lstrip", "rstrip")
    },
    "search by trim": "{{ ('a' * 400000) | trim('b' * 9999 ~ 'a') }}",
    "compare": "{% set a = 'a' * 999999 %}{{ 'b' in [a] * 99999 }}",
}
FORBIDDEN = {
    "class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "attr filter": "{{ '' | attr('__class__') | attr('__mro__') | first }}",
    "method outside the list": "{{ 'a'.expandtabs(10**9) }}",
    "integer method": "{{ (1).to_bytes(10**9, 'big') }}",
    "mutation": "{{ messages.append(messages) }}",
    "underscore name": "{{ namespace(_x=1) }}",
    "stored namespace": "{% set ns = namespace(x=1) %}{% set ns.x = [ns] %}",
    "include": "{% include '/etc/passwd' %}",
    "filter outside the list": "{{ 'a' | center(10**9) }}",
    "global outside the list": "{{ lipsum(n=10**6) }}",
    "format attribute": "{{ '{0.__class__}'.format(1) }}",
}
BROKEN = {
    "syntax": "{% for %}",
    "nesting": "{{ " + "(" * 50_000 + "1",
    "statements": "{% if 1 %}" * 300 + "{% endif %}" * 300,
    "huge integer": "{{ " + "9" * 9999 + " }}",
    "unknown filter": "{{ 1 | nothing }}",
    "error": "{{ 1 / 0 }}",
    "undefined": "{{ nothing.at.all }}",
    "type": "{{ 'a' + 1 }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
}
GENEROUS_S = 3.0
GENEROUS_BYTES = 200 << 20


@pytest.fixture(autouse=True)
def _short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mechanism is the same; only the tests wait less."""
    monkeypatch.setattr("engine.chat_template.DEADLINE_S", 0.4)


def _fails(source: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        ChatTemplate(source, {}).render(CHAT)
    message = str(caught.value)
    assert message.startswith("The model's chat template cannot be used")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("source", TOO_LONG.values(), ids=TOO_LONG)
def test_deadline_holds_in_nested_work(source: str) -> None:
    before, tracer = time.thread_time(), sys.gettrace()
    message = _fails(source)
    assert time.thread_time() - before < GENEROUS_S
    assert "longer than" in message or "recursion" in message
    assert sys.gettrace() is tracer


@pytest.mark.parametrize("source", TOO_LARGE.values(), ids=TOO_LARGE)
def test_memory_stays_bounded(source: str) -> None:
    tracemalloc.start()
    try:
        before = time.thread_time()
        _fails(source)
        assert time.thread_time() - before < GENEROUS_S
        assert tracemalloc.get_traced_memory()[1] < GENEROUS_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("source", FORBIDDEN.values(), ids=FORBIDDEN)
def test_nothing_outside_the_lists_is_reachable(source: str) -> None:
    try:
        printed = ChatTemplate(source, {}).render(CHAT)
    except CheckpointError:
        return
    assert "class" not in printed
    assert len(printed) < 1000


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
def test_broken_template_is_one_sentence(source: str) -> None:
    _fails(source)


def test_longest_template_compiles_in_time_or_is_refused() -> None:
    before = time.thread_time()
    ChatTemplate("{{ a }}" * 36_000, {})
    assert time.thread_time() - before < 20.0
    with pytest.raises(CheckpointError, match="limit"):
        ChatTemplate("x" * (1 << 18) + "x", {})


def test_refusal_by_the_template_itself_is_the_conversations_fault() -> None:
    with pytest.raises(ConfigurationError, match="roles must alternate"):
        ChatTemplate("{{ raise_exception('roles must alternate') }}", {}).render(CHAT)


def test_long_conversations_stay_within_the_limits() -> None:
    chat = [{"role": "user", "content": "x" * 20_000} for _ in range(200)]
    source = (
        "{% set ns = namespace(kept=[], text='') %}{% for m in messages %}{% set ns.kept = ns.kept + [m] %}"
        "{% set ns.text = ns.text + m.content | trim %}{% endfor %}{{ ns.text }}"
    )
    assert len(ChatTemplate(source, {}).render(chat)) == 200 * 20_000


def test_ordinary_features_work() -> None:
    source = (
        "{%- macro turn(m) -%}<{{ m.role }}>{{ m['content'] | trim }}{%- endmacro -%}"
        "{%- for m in messages -%}{{ turn(m) }}{{ '%s-%d' % ('a', 3) }}{{ '{}:{:>3}'.format('b', 4) }}{%- endfor -%}"
        "{{ strftime_now('%Y') | length }}{{ dict(a=1) | tojson }}{{ [3, 1] | sort | join(',') }}"
        "{% set x %}c{{ bos_token }}{% endset %}{{ x }}{{ {'k': 'v'}.items() | list }}{{ (1, 2)[0] }}{{ 2 ** 3 * 2 }}"
    )
    assert ChatTemplate(source, {"bos_token": "<s>"}).render(CHAT) == (
        "<user>Hia-3b:  44{\"a\": 1}1,3c<s>[('k', 'v')]116"
    )


def test_the_deadline_holds_when_it_passes_in_a_garbage_collection() -> None:
    """What is raised in a collector's callback is lost, and Python then stops tracing: the loop would run on."""
    passed_in_callback, tracer = False, sys.gettrace()

    def slow_callback(_phase: str, _info: dict[str, int]) -> None:
        nonlocal passed_in_callback
        if sys.gettrace() is tracer:  # not rendering yet, or no more
            return
        end = time.thread_time() + 0.6
        while not passed_in_callback and time.thread_time() < end:
            sum(range(100))
        passed_in_callback = True

    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% set x = [[], []] %}{% endfor %}{% endfor %}"
    threshold = gc.get_threshold()
    gc.callbacks.append(slow_callback)
    gc.set_threshold(1)
    try:
        before = time.thread_time()
        assert "longer than" in _fails(loops)
        assert time.thread_time() - before < GENEROUS_S
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(slow_callback)
    assert passed_in_callback
