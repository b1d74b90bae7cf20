"""The fixed texts of the smoke test, in our own words.

Golden receipts record the ids that a tokenizer makes of them, and the loss of each token. They are never to
be changed, not even by a comma: a new set would be a new version of the receipt.
"""

from __future__ import annotations

from typing import Final

FORWARD_TEXT: Final = (
    "Water is made of hydrogen and oxygen. It freezes at zero degrees and boils at one hundred "
    "degrees Celsius. The sun rises in the east and sets in the west. One, two, three, four, five, six."
)
"""What the model reads in one pass: plain English that any trained language model foresees well."""

USER_TEXT: Final = "What colour is the sky on a clear day?"
SYSTEM_TEXT: Final = "You answer in one short sentence."
ASSISTANT_TEXT: Final = "On a clear day the sky is blue."
"""A conversation, for chat templates; plain words that no template has a reason to escape."""

IMAGE_TEXT: Final = "Describe this picture in one sentence."
"""What follows the fixed picture."""

TEXTS: Final = (
    "The quick archive keeps every byte, and it doesn't forget; we've checked that twice.",
    "Über die Brücke führt kein Weg, außer dem über Straßenbahngleise: Größe, Maß, Fuß.",
    "归档保存每一个字节,十年以后也能重新运行模型。",
    "バックアップは毎晩動き、カタカナとひらがなと漢字を全部そのまま保存します。",
    "الأرشيف يحفظ كل حرف كما هو، من اليمين إلى اليسار.",
    "यह संग्रह हर अक्षर को जैसा है वैसा ही रखता है।",
    "Архив хранит каждую букву; проверка проходит каждую ночь.",
    "def area(r: float) -> float:\n\t# of a circle\n    return 3.14159 * r**2  # r >= 0\n",
    "if __name__ == '__main__':\n\tprint(f\"{area(2):.3f}\", [x for x in (1, 2)][-1], {'a': None})\n",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 and \U0001f44d\U0001f3fd too",
    "\U0001f1e8\U0001f1ff \u2764\ufe0f \U0001f3f3\ufe0f\u200d\U0001f308 1\ufe0f\u20e3",
    "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m \u1e69 \u0439 \uac01",
    "cafe\u0301 nai\u0308ve A\u030angstro\u0308m s\u0323\u0307 \u0438\u0306 \u1100\u1161\u11a8",
    "0 7 42 1984 3.14159 1,000,000 0x1F 6.022e23 \u0661\u0662\u0663 \u0967\u0968\u0969 \u00bd \u2167",
    "one two  three   four    five\t\ttabs \u00a0 and trailing   ",
    "first\nsecond\n\n\nfourth\r\nfifth\r\n\r\n  indented\n\tby a tab\n",
    "<|im_start|>user\nHello<|im_end|>\n<|endoftext|><|vision_start|><|image_pad|><|vision_end|><think>\n\n</think>",
    "<|im_start <|im_end||> < | endoftext | > <tool_call>{}</tool_call></think",
    "He said: \u201cno\u201d \u2014 then \u2026 (twice!) [or] {thrice}? ~\u20ac5/\u00a34*\u00a51^2 @#$%&",
    "\u2200x\u2208\u211d: x\u00b2\u22650 \u21d2 \u221a(x\u00b2)=|x| \u2211\u222b\u2202 \u03b1\u03b2\u03b3",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!!!!!!!!!!!!!!!!................----------------",
    " leading space, CamelCaseWords, snake_case_words, kebab-case-words, https://example.org/a?b=c#d",
    "it's IT'S I'm I'M you'll YOU'LL they'd don\u2019t",
    "Ti\u1ebfng Vi\u1ec7t c\u00f3 d\u1ea5u; T\u00fcrk\u00e7e \u0130\u0131",
    "\u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac",
    "\ud55c\uad6d\uc5b4 \ubb38\uc7a5; \u05e9\u05dc\u05d5\u05dd; \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
)
"""What a tokenizer is tried on: languages, code, joined emoji, composed and decomposed letters, digits,
runs of spaces, line ends, control tokens of Qwen and what only looks like them. Escapes stand where two
texts would look alike on a screen."""
