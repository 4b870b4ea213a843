"""The page as a person meets it: what can be done on it, and what can be seen."""

from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.async_api import ConsoleMessage, Locator, Page, Request

Way = Literal["fetch", "EventSource"]
WAYS: tuple[Way, ...] = ("fetch", "EventSource")

_TELL_VIOLATIONS = (
    "addEventListener('securitypolicyviolation', (event) => console.error(event.violatedDirective, event.blockedURI))"
)


class Playground:
    def __init__(self, page: "Page", address: str) -> None:
        self.page = page
        self.address = address
        self.expected = ""  # a part of the one complaint that the test itself brings about
        self.asked: list[Any] = []  # the bodies of what was asked by POST
        self._complaints: list[str] = []
        self._listeners: dict[Any, Any] = {
            "console": self._hear,
            "pageerror": lambda error: self._complaints.append(f"uncaught: {error}"),
            "dialog": lambda dialog: self._complaints.append(f"a script ran: {dialog.message}"),
            "request": self._look,
        }

    async def open(self) -> Self:
        for event, listener in self._listeners.items():
            self.page.on(event, listener)
        await self.page.goto(self.address)
        await self.page.evaluate(_TELL_VIOLATIONS)
        await self.page.locator("#examples button").first.wait_for()
        return self

    async def leave(self) -> None:
        """As it was before, for whoever comes next."""
        for event, listener in self._listeners.items():
            self.page.remove_listener(event, listener)
        await self.page.unroute_all()
        await self.page.emulate_media(color_scheme="null", reduced_motion="null")
        await self.page.context.set_offline(False)
        await self.page.evaluate("sessionStorage.clear()")
        await self.page.goto("about:blank")  # ends what is still open

    def complaints(self) -> list[str]:
        """What the browser said against the page: errors, violations of its policy, requests to elsewhere."""
        return [said for said in self._complaints if not self.expected or self.expected not in said]

    def _hear(self, message: "ConsoleMessage") -> None:
        if message.type in ("error", "warning"):
            self._complaints.append(f"{message.type}: {message.text}")

    def _look(self, request: "Request") -> None:
        if not request.url.startswith(self.address):
            self._complaints.append(f"asked elsewhere: {request.url}")
        elif request.method == "POST" and urlsplit(request.url).path == "/chat":
            self.asked.append(request.post_data_json)

    # Doing

    async def choose(self, *, model: str | None = None, way: Way | None = None) -> None:
        if model is not None:
            await self.page.get_by_label("Model", exact=True).select_option(model)
        if way is not None:
            await self.page.get_by_role("form").get_by_text(way, exact=True).click()

    async def ask(self, text: str, *, model: str | None = None, way: Way | None = None) -> "Locator":
        """The turn that the question makes."""
        await self.choose(model=model, way=way)
        await self.question.fill(text)
        await self.question.press("Enter")
        return self.turns.last

    async def answer(self, text: str, *, model: str | None = None, way: Way | None = None) -> "Locator":
        """The same, once its answer is over, however that came."""
        turn = await self.ask(text, model=model, way=way)
        await self.over(turn)
        return turn

    async def over(self, turn: "Locator") -> None:
        await expect(turn.locator(".measures dl")).not_to_be_empty()
        await expect(self.page.locator("#state")).to_have_text("Ready")

    # Seeing

    @property
    def question(self) -> "Locator":
        return self.page.get_by_role("textbox", name="Your question")

    @property
    def turns(self) -> "Locator":
        return self.page.get_by_role("article")

    def button(self, name: str) -> "Locator":
        return self.page.get_by_role("button", name=name)


def expect(locator: "Locator") -> Any:
    """Playwright's assertions, which wait. Imported late: without playwright, no test gets here."""
    from playwright.async_api import expect as playwright_expect

    return playwright_expect(locator)
