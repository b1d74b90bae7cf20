"""Whether the chat template renders a conversation.

A template is code: it runs in jinja's sandbox, where time, memory and length are limited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from archiver.archive.finding import Finding
from archiver.smoke.tokens.texts import ASSISTANT_TEXT, SYSTEM_TEXT, USER_TEXT
from archiver.smoke.tokens.time_limit import TimeUpError, memory_limit, time_limit
from archiver.text import plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

_SECONDS: Final = 10.0
_LONGEST: Final = 2**20
"""Characters of a template, and of what it renders; the longest published ones have 60,000."""
_HINT: Final = "Compare chat_template.jinja and tokenizer_config.json with upstream's."
_NAMES: Final = ("default", "tool_use")
"""Templates under other names (``rag`` …) want inputs of their own."""
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a town today.",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string", "description": "The town's name."}},
            "required": ["town"],
        },
    },
}


class _NotInItError(Exception):
    """What was rendered does not contain what the user said."""


def check_chat_template(tokenizer: Any) -> tuple[list[str], list[Finding]]:
    """What was seen to hold of the chat templates, and what is wrong with them."""
    templates = _templates(tokenizer.chat_template)
    if not templates:
        return ["there is no chat template"], []
    findings = []
    for name, template in templates.items():
        if problem := _problem(tokenizer, template):
            message = f"The chat template{name and f' {printable(name, 40)}'} {problem}"
            findings.append(Finding("model-chat-template", message, hint=_HINT))
    if findings:
        return [], findings
    tools = any(_knows_tools(template) for template in templates.values())
    extra = ", also with a tool" if tools else ""
    many = plural(len(templates), "chat template")
    return [f"{many} rendered a conversation, with and without the prompt for an answer{extra}"], []


def _templates(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        return {"": given} if given else {}
    known = {name: given[name] for name in _NAMES if name in given}
    return known or given


def _knows_tools(template: Any) -> bool:
    return isinstance(template, str) and "tools" in template


def _problem(tokenizer: Any, template: Any) -> str:
    """What is wrong with the template, to follow its name in a sentence; ``""`` if it is sound."""
    if not isinstance(template, str):
        return "is not a text."
    if len(template) > _LONGEST:
        return f"has {len(template):,} characters; it was not tried."
    try:
        with memory_limit(), time_limit(_SECONDS):
            _try(tokenizer, template)
    except Exception as error:  # noqa: BLE001 - a template may make jinja raise anything
        return _told(error)
    return ""


def _told(error: Exception) -> str:
    if isinstance(error, _NotInItError):
        return "leaves out what the user says."
    if isinstance(error, TimeUpError):
        return f"did not come to an end within {_SECONDS:.0f} seconds."
    if isinstance(error, MemoryError):
        return "wants more than 512 MiB of memory."
    return f"cannot be rendered: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return printable(lines[0].rstrip("."), 200) + "."


def _try(tokenizer: Any, template: str) -> None:
    _refuse_powers(template)
    for tools in (None, [_TOOL]) if _knows_tools(template) else (None,):
        for prompt in (False, True):
            text = _rendered(tokenizer, template, tools=tools, add_generation_prompt=prompt)
            if not tokenizer(text, add_special_tokens=False)["input_ids"]:
                raise _NotInItError


def _refuse_powers(template: str) -> None:
    """``10**10**10`` is one step to Python, which no time limit interrupts."""
    from jinja2 import Environment, TemplateError  # noqa: PLC0415 - of the extra

    if any(value == "**" for _, kind, value in Environment().lex(template) if kind == "operator"):  # noqa: S701 - only split into words, never rendered
        raise TemplateError("It computes powers, which no template needs")


def _rendered(tokenizer: Any, template: str, **options: Any) -> str:
    """The first way to write the conversation that the template takes."""
    first: Exception = _NotInItError()
    for number, chat in enumerate(_conversations(answered=not options["add_generation_prompt"])):
        try:
            text = tokenizer.apply_chat_template(
                chat, chat_template=template, tokenize=False, **options
            )
        except (TimeUpError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - a template may make jinja raise anything
            first = error if number == 0 else first
            continue
        if USER_TEXT in text and len(text) <= _LONGEST:
            return str(text)
    raise first


def _conversations(*, answered: bool) -> Iterator[list[dict[str, Any]]]:
    """With a system's words or without (some templates refuse them), as texts or as lists of parts."""
    system = {"role": "system", "content": SYSTEM_TEXT}
    chat = [{"role": "user", "content": USER_TEXT}]
    chat += [{"role": "assistant", "content": ASSISTANT_TEXT}] if answered else []
    for whole in ([system, *chat], chat):
        yield [dict(message) for message in whole]
    for whole in ([system, *chat], chat):
        yield [one | {"content": [{"type": "text", "text": one["content"]}]} for one in whole]
