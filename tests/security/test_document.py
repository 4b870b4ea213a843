"""`.github/docs/security.md` is true: the tests that it names exist, and its lists are those that tests hold to."""

import ast
import re
from pathlib import Path

from tests.test_architecture import PATHS, tree_of
from tests.test_readme import README, ROOT, document

from .test_client_headers import UPSTREAM_GETS
from .test_hostile_upstream import CLIENTS_GET

PAGE = document("security.md")
HERE = Path(__file__).parent


def names_of_tests(folder: Path) -> set[str]:
    text = "\n".join([path.read_text(encoding="utf-8") for path in folder.rglob("test_*.py")])
    return set(re.findall(r"^(?:async )?def (test_\w+)\(", text, re.MULTILINE))


def test_the_tests_that_it_names_exist() -> None:
    named = re.findall(r"`(test_\w+)`", PAGE)
    assert len(named) > 40
    assert len(set(named)) == len(named)
    assert set(named) <= names_of_tests(ROOT / "tests")


def test_every_threat_names_a_test() -> None:
    table = PAGE.split("| Who |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(table) > 10
    assert [row for row in table if "`test_" not in row.rpartition(" | ")[2]] == []


def test_every_attacker_of_this_folder_is_in_it() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    files = [path for path in HERE.glob("test_*.py") if path.read_text().startswith('"""Attacker: ')]
    assert len(files) >= 8
    for path in files:
        assert named & set(re.findall(r"def (test_\w+)\(", path.read_text())), path.name


def fields_in(paragraph: str) -> set[str]:
    names = re.findall(r"`([A-Za-z-]+)`", paragraph.partition(": ")[2])
    return {name.lower() for name in names if name[0].isupper()}


def test_its_lists_of_fields_are_those_of_the_tests() -> None:
    (upstreams,) = (part for part in PAGE.split("\n\n") if part.startswith("An upstream gets these fields"))
    (clients,) = (part for part in PAGE.split("\n\n") if part.startswith("Clients get these fields"))
    assert fields_in(upstreams) == UPSTREAM_GETS
    assert fields_in(clients) - {"allow", "www-authenticate", "accept-encoding"} == CLIENTS_GET


def test_it_is_linked() -> None:
    assert ".github/docs/security.md" in README
    assert "docs/security.md" in (ROOT / ".github" / "SECURITY.md").read_text()


# Secrets in the code


def compared(tree: ast.AST) -> list[str]:
    """Comparisons of what a `Secret` reveals, or of a hash, other than by `hmac.compare_digest`."""
    secret = re.compile(r"\.reveal\(\)|_hash\(|\btoken\b|\bticket\b(?! is)")
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            text = ast.unparse(node)
            if secret.search(text):
                found.append(text)
    return found


def test_secrets_are_compared_in_constant_time() -> None:
    """Keys, tickets and tokens. What a lookup compares is a hash, whose bits nobody can choose."""
    found = [(module, where) for module in PATHS for where in compared(tree_of(module))]
    assert found == [("gateway.config.schema", "self.url.reveal() != _MEMORY")]
    for name in ("admission.auth", "streams.tickets", "handlers.metrics", "config.schema"):
        assert "hmac.compare_digest(" in PATHS[f"gateway.{name}"].read_text(encoding="utf-8"), name


def test_such_a_comparison_is_found() -> None:
    for line in ("key.reveal() == offered", "_hash(a) != b", "token == x"):
        assert compared(ast.parse(line)) == [line]
