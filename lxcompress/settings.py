"""Read YAML settings safely, and describe what is wrong with them in one sentence.

Only this module reads recipes, `--set` values and device profiles. A document has limits (MOST_BYTES and the constants
after it), because a few bytes of YAML can expand to gigabytes. Only the tags of plain values are accepted.
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Tag, ValidationError

from lxcompress.text import as_printable, decode_text, has_surrogate, read_bytes

MOST_BYTES = 1_000_000
MOST_DEPTH = 40
MOST_EXPANDED = 2_000_000
"""The limit of characters and nodes of a document with all aliases expanded."""
MOST_DIGITS = 60
"""The limit of characters of a number."""

_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")}
_NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
_READ_AS_TEXT = {f"tag:yaml.org,2002:{name}" for name in ("timestamp", "merge", "value")}
_TEXT = "tag:yaml.org,2002:str"
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class SettingsProblem(ValueError):  # noqa: N818 (a clause of the caller's sentence, not a complete error)
    """What is wrong with a YAML text, as a clause that follows the name of its file."""


@dataclass
class _Open:
    """A mapping or sequence that is being read."""

    value: dict[Any, Any] | list[Any]
    line: int
    start: int
    """the size of the document before this collection"""
    anchor: str | None
    key: Any = None
    has_key: bool = False
    merged: dict[Any, Any] | None = None
    lines: dict[Any, int] | None = None


def read_yaml_file(path: Path) -> Any:
    """Return the content of the YAML file `path`. Raises SettingsProblem, or OSError for a file that cannot be read."""
    try:
        text = decode_text(read_bytes(path, most_bytes=MOST_BYTES))
    except UnicodeDecodeError as problem:
        raise SettingsProblem(f"is not UTF-8 text (byte {problem.start}); save it as UTF-8") from None
    except ValueError as problem:
        raise SettingsProblem(f"cannot be read: {problem}") from None
    return parse_yaml(text)


def parse_yaml(text: str) -> Any:
    """Return the value of one YAML document; aliases share one object. Raises SettingsProblem.

    Dates stay text, keys must be text and distinct, and numbers, depth and aliases have limits.
    """
    if len(text) > MOST_BYTES:
        raise SettingsProblem(f"is longer than {MOST_BYTES:,} characters")
    if has_surrogate(text):
        raise SettingsProblem("has half of a surrogate pair, which is not a character; remove it")
    try:
        return _build(yaml.parse(text, Loader=_PARSER))
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line = f"line {mark.line + 1}: " if mark and mark.line else ""
        raise SettingsProblem(f"{line}is not valid YAML ({problem.problem or 'unknown'}); correct that line") from None
    except yaml.YAMLError as problem:
        reason = getattr(problem, "reason", None) or "unknown"
        raise SettingsProblem(f"is not valid YAML ({reason}, at {getattr(problem, 'position', 0)})") from None


def echo(value: object) -> str:
    """Return a value as Python writes it, shortened to fit in a sentence."""
    return as_printable(_ECHO.repr(value))


def nearest(name: str, known: Sequence[str], cutoff: float = 0.5) -> str | None:
    """Return the name in `known` that is most similar to `name`, or None if none is similar."""
    found = difflib.get_close_matches(name[:100], known, n=1, cutoff=cutoff)
    return found[0] if found else None


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return "did you mean X?", or the list of known names if none is similar."""
    near = nearest(name, known)
    return f"did you mean {near}?" if near else f"give one of {', '.join(known)}"


def first_problem(
    error: ValidationError,
    kind: type[BaseModel],
    *,
    remedy: str = "",
    added_tags: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> str:
    """Return the first validation problem as one sentence; unknown keys come first, because they explain the others.

    `remedy` is another way to give a value than in the file, such as " or give --set {key}=VALUE". `added_tags` maps
    the key of a section to the kinds of it that are not in its type.
    """
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    first = problems[0]
    steps, section = _follow(kind, first["loc"])
    key = _dotted(steps) or "the file"
    others = len(problems) - 1
    more = f" ({others} more problem{'s' * (others > 1)} after it)" if others else ""
    if first["type"] in ("union_tag_not_found", "union_tag_invalid"):
        tags = (*_tagged(section), *added_tags.get(key, ()))
        return f"{_tag_problem(first, key, tags, remedy)}{more}"
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key; {_known_keys(steps, _follow(kind, first['loc'][:-1])[1])}{more}"
    if first["type"] == "missing":
        return f"{key}: is missing; add it{remedy.format(key=key)}{more}"
    message = first["msg"].removeprefix("Value error, ")
    is_section = isinstance(first["input"], (Mapping, BaseModel))
    problem = f"{message[:1].lower()}{message[1:]}" + ("" if is_section else f", got {echo(first['input'])}")
    field = _dotted([step for step in steps if isinstance(step, str)])
    return f"{key}: {problem}; {_nearest_choice(first)}correct it{remedy.format(key=field)}{more}"


def _dotted(steps: Sequence[int | str]) -> str:
    """Return a key with dots, its steps shortened to fit in a sentence."""
    texts = [str(step) for step in steps]
    return ".".join(text if len(text) <= 40 and text.isprintable() else echo(text) for text in texts)


def _tag_problem(problem: Mapping[str, Any], key: str, tags: Sequence[str], remedy: str) -> str:
    """Return the problem of a section whose kind is missing or unknown; `tags` are the known kinds."""
    tag = str(problem["ctx"]["discriminator"]).strip("'")
    given = problem["input"].get(tag) if isinstance(problem["input"], Mapping) else None
    if problem["type"] == "union_tag_not_found":
        return f"{key}.{tag}: is missing; it is one of {', '.join(tags)}; add it{remedy.format(key=f'{key}.{tag}')}"
    near = nearest(given, tags) if isinstance(given, str) else None
    meant = f"did you mean {near}? " if near else ""
    wrong = f"should be one of {', '.join(tags)}, got {echo(given)}"
    return f"{key}.{tag}: {wrong}; {meant}correct it{remedy.format(key=f'{key}.{tag}')}"


def _known_keys(steps: Sequence[int | str], section: Any) -> str:
    """Return the key of `section` that is most similar to the last of `steps`, or all its keys."""
    models = [option for option in _options(section) if _is_model(option)]
    known = list(models[0].model_fields) if models else []
    near = nearest(str(steps[-1]), known)
    prefix = _dotted(steps[:-1])
    dotted = [f"{prefix}.{name}" if prefix else name for name in ([near] if near else sorted(known))]
    return f"did you mean {dotted[0]}?" if near else f"known here: {', '.join(dotted)}"


def _nearest_choice(problem: Mapping[str, Any]) -> str:
    """Return "did you mean X? " for a text that is similar to a choice of a Literal, else an empty text."""
    if problem["type"] != "literal_error" or not isinstance(problem["input"], str):
        return ""
    choices = [choice.strip("'") for choice in str(problem["ctx"]["expected"]).replace(" or ", ", ").split(", ")]
    near = nearest(problem["input"], choices)
    return f"did you mean {near}? " if near else ""


def _follow(kind: Any, loc: Sequence[int | str]) -> tuple[list[int | str], Any]:
    """Return the keys of `loc` without the tags of unions that pydantic inserts, and the type at their end."""
    steps: list[int | str] = []
    current = kind
    for step in loc:
        options = list(_options(current))
        tagged = _tagged(current)
        if isinstance(step, str) and step in tagged and len(options) > 1:
            current = tagged[step]
            continue
        steps.append(step)
        models = [option for option in options if _is_model(option)]
        field = models[0].model_fields.get(str(step)) if len(models) == 1 else None
        if field is not None:
            current = field.annotation
        else:
            inner = next((get_args(option) for option in options if get_origin(option) in (tuple, list, dict)), ())
            current = next((part for part in reversed(inner) if part is not Ellipsis), None)
    return steps, current


def _options(annotation: Any) -> Iterator[Any]:
    """Yield the types that a value of `annotation` may have: the members of a union without None."""
    if get_origin(annotation) is Annotated:
        yield from _options(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _options(member)
    elif annotation is not NoneType and annotation is not None:
        yield annotation


def _is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    """Return whether an annotation is a section of settings; Python 3.10 takes tuple[int, ...] for a class too."""
    return get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _tagged(annotation: Any) -> dict[str, Any]:
    """Return the tag of each member of a discriminated union: its pydantic Tag, or its Literal `kind`."""
    found: dict[str, Any] = {}
    if get_origin(annotation) is Annotated:
        inner, *notes = get_args(annotation)
        tags = [note.tag for note in notes if isinstance(note, Tag)]
        return {tags[0]: inner} if tags else _tagged(inner)
    if get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            found |= _tagged(member)
    elif _is_model(annotation) and "kind" in annotation.model_fields:
        literal = annotation.model_fields["kind"].annotation
        if get_origin(literal) is Literal:
            found[get_args(literal)[0]] = annotation
    return found


def _build(events: Iterator[yaml.Event]) -> Any:
    """Return the document of the events, in a loop without recursion, so that deep documents need no stack."""
    open_: list[_Open] = []
    anchors: dict[str, tuple[Any, int]] = {}
    size = documents = 0
    result: Any = None

    for event in events:
        assert event.start_mark is not None, "a parsed event has its position"
        line = event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise SettingsProblem(f"line {line} begins a second document; keep one")
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise SettingsProblem(
                    f"line {line}: *{str(event.anchor)[:40]} refers to nothing that is complete before it"
                )
            value, cost = anchors[event.anchor]
            size += cost
            result = _put(open_, value, line)
        elif isinstance(event, yaml.ScalarEvent):
            is_key = bool(open_) and isinstance(open_[-1].value, dict) and not open_[-1].has_key
            value = _scalar(event, line, is_key=is_key)
            size += 1 + len(event.value)
            if event.anchor:
                anchors[event.anchor] = (value, 1 + len(event.value))
            result = _put(open_, value, line)
        elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            if event.tag is not None and event.tag not in _PLAIN_TAGS:
                raise _unread_tag(line, event.tag)
            if len(open_) >= MOST_DEPTH:
                raise SettingsProblem(f"line {line} is nested deeper than {MOST_DEPTH} levels")
            value = [] if isinstance(event, yaml.SequenceStartEvent) else {}
            open_.append(_Open(value, line, size, event.anchor, lines={}))
            anchors.pop(event.anchor or "", None)
            size += 1
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            ended = open_.pop()
            if ended.merged and isinstance(ended.value, dict):
                ended.value.update({key: merged for key, merged in ended.merged.items() if key not in ended.value})
            if ended.anchor:
                anchors[ended.anchor] = (ended.value, size - ended.start)
            result = _put(open_, ended.value, ended.line)
        if size > MOST_EXPANDED:
            raise SettingsProblem(f"line {line}: its aliases expand to more than {MOST_EXPANDED:,} characters")
    return result


def _put(open_: list[_Open], value: Any, line: int) -> Any:
    """Put a complete value into the innermost open collection, and return the value."""
    if not open_:
        return value
    holder = open_[-1]
    if isinstance(holder.value, list):
        holder.value.append(value)
    elif not holder.has_key:
        assert holder.lines is not None
        if not isinstance(value, str):
            raise SettingsProblem(f"line {line} has the key {echo(value)}, expected a name; quote it to make it one")
        if value in holder.lines:
            first = holder.lines[value]
            raise SettingsProblem(f"line {line} gives {_dotted([value])} again (first in line {first}); keep one")
        holder.lines[value] = line
        holder.key, holder.has_key = value, True
    else:
        if holder.key == "<<":
            _merge(holder, value, line)
        else:
            holder.value[holder.key] = value
        holder.has_key = False
    return value


def _merge(holder: _Open, value: Any, line: int) -> None:
    """Keep the keys that `<<` adds; earlier mappings win over later ones, and the mapping's own keys over all."""
    sources = value if isinstance(value, list) else [value]
    holder.merged = holder.merged or {}
    for source in sources:
        if not isinstance(source, dict):
            raise SettingsProblem(f"line {line}: << merges mappings, got {echo(source)}")
        for key, merged in source.items():
            holder.merged.setdefault(key, merged)


_ECHO = reprlib.Repr()
_ECHO.maxlevel, _ECHO.maxstring, _ECHO.maxother, _ECHO.maxlong = 3, 60, 60, 40
_ECHO.maxdict = _ECHO.maxlist = _ECHO.maxtuple = 3
_RESOLVER = yaml.resolver.Resolver()
_CONSTRUCTOR = yaml.constructor.SafeConstructor()


def _scalar(event: yaml.ScalarEvent, line: int, *, is_key: bool) -> Any:
    """Return the value of a scalar: text, a number, true, false or null."""
    tag = event.tag
    if has_surrogate(event.value) or "\0" in event.value:
        raise SettingsProblem(f"line {line} has a character that text cannot contain in {echo(event.value)}; remove it")
    if is_key and (tag is None or tag == "!"):
        return event.value
    if tag is None or tag == "!":
        tag = _RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit)
        tag = _TEXT if tag in _READ_AS_TEXT else tag
    if tag not in _PLAIN_TAGS:
        raise _unread_tag(line, tag)
    if tag == _TEXT:
        return event.value
    if tag in _NUMBERS and len(event.value) > MOST_DIGITS:
        raise SettingsProblem(f"line {line} has a number of {len(event.value):,} characters; at most {MOST_DIGITS}")
    name = tag.rpartition(":")[2]
    construct = {
        "int": _CONSTRUCTOR.construct_yaml_int,
        "float": _CONSTRUCTOR.construct_yaml_float,
        "bool": _CONSTRUCTOR.construct_yaml_bool,
        "null": _CONSTRUCTOR.construct_yaml_null,
    }.get(name)
    try:
        if construct is not None:
            return construct(yaml.ScalarNode(tag, event.value))
    except (ValueError, KeyError, IndexError, OverflowError):  # PyYAML raises these for !!int x, 0b_, !!bool x
        raise SettingsProblem(f"line {line}: {echo(event.value)} is not a value of the kind {name}") from None
    raise SettingsProblem(f"line {line}: {echo(event.value)} is not a value of the kind {name}")


def _unread_tag(line: int, tag: str) -> SettingsProblem:
    short = echo(tag.replace("tag:yaml.org,2002:", "!!")).strip("'")
    return SettingsProblem(f"line {line}: is not valid YAML (the tag {short} is not supported); give a plain value")
