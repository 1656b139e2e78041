"""The page's libraries are the files that were pinned, and its policy lets nothing else run."""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest

WEB = Path(__file__).parent.parent.parent / "web"
VENDOR = WEB / "vendor"
SUMS = {name: digest for digest, name in (line.split() for line in (VENDOR / "SHA256SUMS").read_text().splitlines())}
INDEX = (WEB / "index.html").read_text()


@pytest.mark.parametrize("name", SUMS)
def test_a_library_is_the_file_that_was_pinned(name: str) -> None:
    assert sha256((VENDOR / name).read_bytes()).hexdigest() == SUMS[name]


def test_every_file_of_a_library_is_pinned_and_named_with_its_licence() -> None:
    files = {path.name for path in VENDOR.iterdir()} - {"README.md", "SHA256SUMS"}

    assert files == set(SUMS)
    assert all(f"`{name}`" in (VENDOR / "README.md").read_text() for name in files)


def test_the_policy_allows_the_style_sheet_in_the_page() -> None:
    style = re.search(r"<style>(.*?)</style>", INDEX, re.DOTALL)
    assert style

    digest = b64encode(sha256(style[1].encode()).digest()).decode()

    assert f"style-src 'self' 'sha256-{digest}';" in INDEX, "Put this hash into the policy in web/index.html"


def test_the_policy_allows_no_code_that_is_not_a_file_of_the_page() -> None:
    assert "default-src 'none'; script-src 'self'; " in INDEX
    assert "unsafe" not in INDEX
    assert re.findall(r"<script(.*?)>(.*?)</script>", INDEX) == [(' type="module" src="app.js"', "")]


@pytest.mark.parametrize("file", sorted(WEB.glob("*.js")), ids=lambda file: file.name)
def test_no_module_makes_html_of_text(file: Path) -> None:
    assert not re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", file.read_text()
    )
