"""What the playground's files must not hold, whatever they come to be."""

import re
from html.parser import HTMLParser
from importlib.resources import files

FOLDER = files("gateway") / "playground"


class Addresses(HTMLParser):
    """Every address in a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attributes if name in ("src", "href", "action")]


def test_it_holds_no_address_of_elsewhere():
    parser = Addresses()
    parser.feed((FOLDER / "index.html").read_text("utf-8"))
    assert parser.found
    assert all(address.startswith("/playground/") for address in parser.found)
    for file in FOLDER.iterdir():
        if file.name.endswith(".css"):
            assert "url(" not in file.read_text("utf-8")
            assert "@import" not in file.read_text("utf-8")


def test_no_script_makes_elements_of_markup():
    for file in FOLDER.iterdir():
        if file.name.endswith(".js"):
            assert not re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", file.read_text("utf-8")
            )
