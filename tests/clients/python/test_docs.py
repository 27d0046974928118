"""The pages hold together: links lead somewhere, and every setting, target and metric that a page names exists."""

import re

import pytest

from stack import ROOT

PAGES = sorted([ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def prose(page):
    """A page without its fenced blocks and comments."""
    text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def anchors(page):
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in anchors(found), f"{target}: {found.name} has no such heading"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_setting_that_a_page_names_exists():
    known = set(re.findall(r"`((?:TRACELIFT|CLICKHOUSE|BLOB|S3)_\w+)`", (ROOT / "docs/configuration.md").read_text()))
    # What the file of `make up` sets, what make takes, and what the changelog names as renamed.
    known |= {"TRACELIFT_URL", "TRACELIFT_PROJECT_ID"}
    known |= set(re.findall(r"^([A-Z_]+)\s*\?=", (ROOT / "Makefile").read_text(), re.MULTILINE))
    known |= set(re.findall(r"`(TRACELIFT_\w+)`", (ROOT / "CHANGELOG.md").read_text()))
    for page in PAGES:
        if "adr" in page.parts or page.name in ("CHANGELOG.md", "ARCHITECTURE.md"):
            continue  # decisions and history may name what is gone
        named = set(re.findall(r"\b((?:TRACELIFT|CLICKHOUSE|BLOB)_[A-Z_]+[A-Z])\b", page.read_text()))
        assert named <= known, f"{page.name} names {named - known}"


def test_every_make_target_that_a_page_names_exists():
    targets = set(re.findall(r"^([a-z][\w-]*)(?: [\w-]+)*:(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"(?:`|^)make ([a-z][\w-]*)", page.read_text(), re.MULTILINE))
        assert named <= targets, f"{page.name} names {named - targets}"


def test_every_make_target_and_metric_is_documented():
    development = (ROOT / "docs/development.md").read_text()
    for target in re.findall(r"^#   make ([\w-]+)", (ROOT / "Makefile").read_text(), re.MULTILINE):
        assert f"make {target}" in development, f"docs/development.md lacks make {target}"
    operations = (ROOT / "docs/operations.md").read_text()
    sources = [path for part in ("services", "crates") for path in (ROOT / part).rglob("*.rs")]
    metrics = {name for path in sources for name in re.findall(r'"(tracelift_[a-z_]+_total)"', path.read_text())}
    missing = {name for name in metrics if f"`{name}`" not in operations}
    assert len(metrics) >= 10 and not missing, f"docs/operations.md lacks {missing}"
