"""What docs/loading.md says: its statements, by the system that they are for, and its tables; placeholders are filled in here."""

import re

from stack import ROOT

TEXT = (ROOT / "docs/loading.md").read_text()


def statements(system, **values):
    """The fences marked with a system's name, one after another, with every `<placeholder>` replaced. Spaces are underscores here."""
    fences = re.findall(rf"^```\w+ {system}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
    assert fences, f"docs/loading.md has no statements for {system}"
    return [_filled(fence, values) for fence in fences]


def _filled(fence, values):
    def value(found):
        name = found.group(1).replace(" ", "_")
        assert name in values, f"docs/loading.md names <{found.group(1)}>, which nobody fills in"
        return values[name]

    return re.sub(r"<([a-z][a-z ]*)>", value, fence)


def cost(system, version):
    """The type of the cost columns, as the guide's own table gives it."""
    row = re.search(rf"^\| {system} \| `([^`]+)` \| `([^`]+)` \|$", TEXT, re.MULTILINE)
    return row.group(1 if version == "v1" else 2)


def columns(definition):
    """Name, type and whether it is NOT NULL of each column between a definition's outer brackets."""
    inside = definition[definition.index("(\n") + 2 : definition.index("\n)")]
    parts = re.split(r",\s*(?![^()]*\))", inside.strip())
    found = (re.fullmatch(r"(\w+) (.+?)( NOT NULL)?", part.strip()) for part in parts)
    return [(column.group(1), column.group(2), column.group(3) is not None) for column in found]
