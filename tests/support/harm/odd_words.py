"""Arguments that shells, schedulers and careless quoting are known to change."""

from hypothesis import strategies as st

ODD_WORDS = (
    "",
    " ",
    "two words",
    "  spaces around  ",
    "it's",
    'a "quoted" word',
    "$(touch /tmp/harm)",
    "`id`",
    "$HOME ${PATH} $1",
    "a\nb",
    "\n",
    "\r\n",
    "\ttab",
    "back\\slash\\",
    "\\n",
    "*",
    "~",
    "!!",
    "# no comment",
    "a;b&c|d>e<f",
    "{a,b}",
    "[x]",
    "--option=value",
    "-",
    "Schlagzeug üben 🥁",
    "\u2028",
    "e\u0301",
    "'\n'",
    "$'\\012'",
    "%j",
    "\x01\x7f",
    "\udcff",
)


def odd_words() -> st.SearchStrategy[str]:
    """Any text that an argument can hold, bytes that are no UTF-8 among it."""
    plain = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
    broken = st.binary(max_size=10).map(lambda data: data.replace(b"\0", b"").decode(errors="surrogateescape"))
    return st.one_of(st.sampled_from(ODD_WORDS), plain, broken)
