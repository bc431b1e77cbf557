"""What a transformed run is called: `name[:key=value,...]`, read into a `Transform` and written in one canonical form.

    lowercase                                    str.lower() of Python (arXiv 2012.07805)
    perturb:kind=K[,rate=X][,seed=S][,copy=I]    random changes of words or characters, see `perturb`
    shuffle[:unit=U][,seed=S][,copy=I]           words, sentences or lines in another order (cf. arXiv 2310.17623)
    prefix:label=L[,shots=N][,seed=S]            documents of that label are fed before every window (arXiv 2406.15968)
    prefix:label=L,file=F                        the same with the text of a file; the label only says what it is
    unprompted                                   the completion's own tokens, fed without the prompt
    windows[:prefix=P][,suffix=S][,offset=O]     P + S tokens at a time, the last S scored (arXiv 2202.07646)
    orders[:shards=R][,permutations=M][,seed=S]  a benchmark's items in M other orders (arXiv 2310.17623)
    external[:kind=NAME][,copy=I]                texts changed elsewhere (paraphrases, translations, mask filling)

The canonical form leaves out keys at their default, and `copy` comes last: runs that differ in nothing else are draws
of one transform.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from operators.transform.perturb import KINDS
from operators.transform.shuffle import UNITS

Value = str | int | float

_MAX_SEED, _MAX_COPY, _MAX_SHOTS, _MAX_TOKENS = 2**63 - 1, 9999, 1000, 1 << 20
_KIND_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class TransformError(ValueError):
    """A transform as given is none; the message lists every fault and what there is to choose from."""


@dataclass(frozen=True)
class _Key:
    """`parse` raises ValueError with what was expected. `default` is None for a key that may be left out for good."""

    name: str
    parse: Callable[[str], Value]
    default: Value | None = None
    is_needed: bool = False


@dataclass(frozen=True)
class Transform:
    """A transform by name, with the keys that are not at their default, in canonical order."""

    name: str
    values: tuple[tuple[str, Value], ...] = ()

    @property
    def canonical(self) -> str:
        """The one spelling of this transform; `parse_transform` reads it back."""
        items = ",".join(f"{key}={_spelt(value)}" for key, value in self.values)
        return f"{self.name}:{items}" if items else self.name

    def get(self, key: str) -> Value | None:
        """The value of a key, by default its default; None where it has neither."""
        given = dict(self.values)
        if key in given:
            return given[key]
        if (self.name, key) == ("perturb", "rate"):
            return KINDS[str(given["kind"])].rate
        return next((k.default for k in _KEYS[self.name] if k.name == key), None)

    def number(self, key: str) -> int:
        """A key that counts something."""
        value = self.get(key)
        if not isinstance(value, int):
            raise ValueError(f"{self.name} has no number {key!r}")
        return value

    @property
    def has_copies(self) -> bool:
        """Whether several draws of it differ."""
        return self.name in ("perturb", "shuffle")

    def copy(self, number: int) -> Transform:
        """The draw of this number, from 1.

        Raises:
            TransformError: its draws would not differ, or the number is none.
        """
        if not self.has_copies:
            raise TransformError(f"{self.name} has one outcome, so no copies; perturb and shuffle have")
        others = tuple(item for item in self.values if item[0] != "copy")
        return parse_transform(Transform(self.name, (*others, ("copy", number))).canonical)


def parse_transform(spec: str | Mapping[str, object]) -> Transform:
    """Read a transform as written on the command line, or a mapping `{name: perturb, kind: swap_words}`.

    Raises:
        TransformError: every fault of it.
    """
    if isinstance(spec, Mapping):
        spec = _written(spec)
    name, colon, rest = spec.strip().partition(":")
    if name not in _KEYS:
        raise TransformError(f"no transform {name!r}: choose {', '.join(_KEYS)}")
    faults: list[str] = []
    given = _items(name, rest.split(",") if colon else [], faults)
    if "file" in given and (clash := {"shots", "seed"} & set(given)):
        faults.append(f"file and {' and '.join(sorted(clash))}: a file is taken whole, nothing is drawn")
    if faults:
        raise TransformError("; ".join(faults))
    plain = Transform(name, tuple(item for item in given.items() if item[0] == "kind"))
    values = ((key.name, given[key.name]) for key in _KEYS[name] if key.name in given)
    return Transform(name, tuple((k, v) for k, v in values if k == "kind" or v != plain.get(k)))


def _written(fields: Mapping[str, object]) -> str:
    items = [f"{key}={value}" for key, value in fields.items() if key != "name"]
    return f"{fields.get('name', '')}" + (f":{','.join(items)}" if items else "")


def _items(name: str, items: list[str], faults: list[str]) -> dict[str, Value]:
    keys = {key.name: key for key in _KEYS[name]}
    given: dict[str, Value] = {}
    for item in items:
        key, equals, text = (part.strip() for part in item.partition("="))
        if key not in keys:
            faults.append(f"{name} has no key {key!r}; its keys: {', '.join(keys) or 'none'}")
        elif not equals or key in given:
            faults.append(f"{key}: " + ("given twice" if key in given else f"expected {key}=VALUE"))
        else:
            try:
                given[key] = keys[key].parse(text)
            except ValueError as error:
                faults.append(f"{key}={text}: {error}")
    spelt = {item.partition("=")[0].strip() for item in items}
    missing = [key for key in keys.values() if key.is_needed and key.name not in spelt]
    faults += [f"{name} needs {key.name}: {_expected(key)}" for key in missing]
    return given


def _expected(key: _Key) -> str:
    """What a key says of values that it does not take."""
    try:
        return str(key.parse(""))
    except ValueError as error:
        return str(error)


def _spelt(value: Value) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _one_of(names: Iterable[str], note: str = "") -> Callable[[str], str]:
    known = tuple(names)

    def parse(text: str) -> str:
        if text not in known:
            raise ValueError(f"choose {', '.join(known)}{note}")
        return text

    return parse


def _count(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,19}", text) or not low <= int(text) <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return int(text)

    return parse


def _rate(text: str) -> float:
    if not re.fullmatch(r"[0-9]*\.?[0-9]+([eE]-?[0-9]{1,2})?", text) or not 0 < float(text) <= 1:
        raise ValueError("expected a share above 0, at most 1, such as 0.25")
    return float(text)


def _file(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("expected a path or URI without a comma")
    return text


def _free_name(text: str) -> str:
    if not _KIND_NAME.fullmatch(text):
        raise ValueError("expected a name of letters, digits, '.', '_' or '-'")
    return text


_SEED = _Key("seed", _count(0, _MAX_SEED), 0)
_COPY = _Key("copy", _count(1, _MAX_COPY), 1)
_NO_SYNONYMS = " (no synonyms: they need a lexicon; change the texts elsewhere and use external)"

# In canonical order.
_KEYS: Mapping[str, tuple[_Key, ...]] = {
    "lowercase": (),
    "perturb": (_Key("kind", _one_of(KINDS, _NO_SYNONYMS), is_needed=True), _Key("rate", _rate), _SEED, _COPY),
    "shuffle": (_Key("unit", _one_of(UNITS), "words"), _SEED, _COPY),
    "prefix": (
        _Key("label", _count(0, 1), is_needed=True),
        _Key("file", _file),
        _Key("shots", _count(1, _MAX_SHOTS), 7),
        _SEED,
    ),
    "unprompted": (),
    "windows": (
        _Key("prefix", _count(1, _MAX_TOKENS), 50),
        _Key("suffix", _count(1, _MAX_TOKENS), 50),
        _Key("offset", _count(0, _MAX_TOKENS), 0),
    ),
    "orders": (_Key("shards", _count(2, 10_000), 50), _Key("permutations", _count(1, 100_000), 250), _SEED),
    "external": (_Key("kind", _free_name), _COPY),
}
