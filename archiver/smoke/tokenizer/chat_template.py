"""Whether the chat template renders a conversation.

A template is code: it runs in jinja's sandbox, and the parent of this process limits time and memory.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, Final

from archiver.archive.findings import Finding
from archiver.smoke.tokenizer.texts import ASSISTANT_TEXT, SYSTEM_TEXT, USER_TEXT
from archiver.smoke.tokenizer.tokenizer_file import json_of
from archiver.text import plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from archiver.smoke.checkpoint.files import Checkpoint


_LONGEST: Final = 2**20
"""Characters of a template, and of what it renders; the longest published ones have 60,000."""
TEMPLATE_HINT: Final = (
    "Compare chat_template.jinja, chat_template.json and tokenizer_config.json with upstream's."
)
PROCESSOR_TEMPLATE: Final = "chat_template.json"
_FOR_TOOLS: Final = "tool_use"
_NAMES: Final = ("default", _FOR_TOOLS)
"""Templates under other names (``rag`` …) want inputs of their own."""
_PART: Final = {"type": "text", "source_lang_code": "en", "target_lang_code": "de-DE"}
"""Beside its text; what only a translator's template looks at, the others leave alone."""
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


def processor_template(checkpoint: Checkpoint) -> Any:
    """Return the template of ``chat_template.json``, which no tokenizer reads but a processor; or None.

    Raises:
        DamageError: The file cannot be read as it should be.
    """
    content = json_of(checkpoint, PROCESSOR_TEMPLATE, dict[str, Any])
    return content.get("chat_template") if isinstance(content, dict) else None


def check_chat_template(tokenizer: Any, apart: Any = None) -> tuple[list[str], list[Finding]]:
    """Return what was seen to hold of the chat templates, and what is wrong with them.

    ``apart`` is what `processor_template` found.
    """
    templates = _templates(tokenizer.chat_template)
    named = {
        f"{PROCESSOR_TEMPLATE} {name}".strip(): template_of
        for name, template_of in _templates(apart).items()
    }
    templates |= {
        name: template_of
        for name, template_of in named.items()
        if template_of not in templates.values()
    }
    if not templates:
        return ["there is no chat template"], []
    findings = []
    for name, template in templates.items():
        if problem := _problem(tokenizer, name, template):
            message = f"The chat template{name and f' {printable(name, 40)}'} {problem}"
            findings.append(Finding("model-chat-template", message, hint=TEMPLATE_HINT))
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


def _problem(tokenizer: Any, name: str, template: Any) -> str:
    """Return what is wrong with the template, to follow its name in a sentence; ``""`` if it is sound."""
    if not isinstance(template, str):
        return "is not a text."
    if len(template) > _LONGEST:
        return f"has {len(template):,} characters; it was not tried."
    try:
        _try(tokenizer, name, template)
    except Exception as error:  # noqa: BLE001 - a template may make jinja raise anything
        return _described(error)
    return ""


def _described(error: Exception) -> str:
    if isinstance(error, _NotInItError):
        return "leaves out what the user says."
    if isinstance(error, MemoryError):
        return "wants more memory than there is."
    return f"cannot be rendered: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return printable(lines[0].rstrip("."), 200) + "."


def _try(tokenizer: Any, name: str, template: str) -> None:
    for tools in _tool_lists(name, template):
        for prompt in (False, True):
            text = _rendered(tokenizer, template, tools, add_generation_prompt=prompt)
            if not tokenizer(text, add_special_tokens=False)["input_ids"]:
                raise _NotInItError


def _tool_lists(name: str, template: str) -> Iterator[Sequence[Any]]:
    """Yield the tools to try a template with: for each turn, the ways to write them."""
    if not (_knows_tools(template) and name.endswith(_FOR_TOOLS)):
        yield (None,)
    if _knows_tools(template):
        yield ([_TOOL], [_TOOL["function"]])


def _rendered(
    tokenizer: Any, template: str, tools: Sequence[Any], *, add_generation_prompt: bool
) -> str:
    """Return the first way to write tools and conversation that the template takes."""
    first: Exception | None = None
    chats = tuple(_conversations(answered=not add_generation_prompt))
    for listed, chat in product(tools, chats):
        try:
            text = tokenizer.apply_chat_template(
                chat,
                chat_template=template,
                tokenize=False,
                tools=listed,
                add_generation_prompt=add_generation_prompt,
            )
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a template may make jinja raise anything
            first = first or error
            continue
        if USER_TEXT in text and len(text) <= _LONGEST:
            return str(text)
        first = first or _NotInItError()
    raise first or _NotInItError


def _conversations(*, answered: bool) -> Iterator[list[dict[str, Any]]]:
    """Yield one with a system's words, one without (some refuse them), as texts and as lists of parts."""
    system = {"role": "system", "content": SYSTEM_TEXT}
    chat = [{"role": "user", "content": USER_TEXT}]
    chat += [{"role": "assistant", "content": ASSISTANT_TEXT}] if answered else []
    for whole in ([system, *chat], chat):
        yield [dict(message) for message in whole]
    for whole in ([system, *chat], chat):
        yield [message | {"content": [_PART | {"text": message["content"]}]} for message in whole]
