"""Messages about packages that are missing name packages that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


def named_packages() -> set[str]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    return {re.split(r"[<>=;\[]", one)[0] for packages in extras for one in packages}


@pytest.mark.parametrize("folder", ["tweetcrawler", "docs"])
def test_a_message_names_the_package_and_no_extra_of_a_project_that_is_on_no_index(
    folder: str,
) -> None:
    texts = {
        path: path.read_text("utf-8")
        for path in (PROJECT / folder).rglob("*")
        if path.suffix in (".py", ".md")
    }
    assert [p for p, text in texts.items() if re.search(r"pip install '?tweetcrawler", text)] == []
    calls = "\n".join(texts.values())
    named = set(re.findall(r'PackageMissing\("[\w ]+", "([\w-]+)"', calls))
    installed = re.findall(r"pip install ([\w -]+?)(?=[`\n]|  )", calls)
    named |= {package for line in installed for package in line.split()}
    assert len(named) > 2
    assert named <= named_packages()
