"""A real browser, and a real server on loopback for it to visit. Both are skipped, with the reason, where absent."""

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
AXE_PATH = "/axe.js"
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
SCREENS = {"phone": (390, 844), "desktop": (1280, 800)}


@dataclass
class Site:
    """Documents by path, each with its headers; ``posted`` is what forms have sent."""

    url: str
    documents: dict[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)
    posted: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)


@dataclass
class Windows:
    """The browser's, one for each way of looking and kept open: making one costs five times what a test does in it."""

    browser: Browser
    opened: dict[tuple[str, str, bool], Page] = field(default_factory=dict)

    def window(self, screen: str, colour_scheme: Literal["light", "dark"], *, javascript: bool) -> Page:
        key = (screen, colour_scheme, javascript)
        if key not in self.opened:
            width, height = SCREENS[screen]
            context: BrowserContext = self.browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=colour_scheme,
                java_script_enabled=javascript,
                bypass_csp=javascript,
                has_touch=screen == "phone",
                is_mobile=screen == "phone",
            )
            self.opened[key] = context.new_page()
        return self.opened[key]


@dataclass(frozen=True)
class View:
    """One way of looking at a page."""

    windows: Windows
    screen: str
    colour_scheme: Literal["light", "dark"]

    @property
    def name(self) -> str:
        return f"{self.screen}-{self.colour_scheme}"

    @contextmanager
    def visit(self, url: str, *, javascript: bool = False, complaints: Sequence[str] = ()) -> Iterator[Page]:
        """The page, opened; afterwards it is checked that the browser had no other ``complaints`` in its console.

        With JavaScript the policy is lifted as well, so that a check can be put into the page.
        """
        page = self.windows.window(self.screen, self.colour_scheme, javascript=javascript)
        heard: list[str] = []
        listeners: dict[Any, Callable[[Any], None]] = {
            "console": lambda message: heard.append(message.text),
            "pageerror": lambda error: heard.append(str(error)),
            "requestfailed": lambda request: heard.append(f"{request.url} failed"),
        }
        for event, listener in listeners.items():
            page.on(event, listener)
        try:
            page.goto(url)
            yield page
            assert heard == list(complaints)
        finally:
            for event, listener in listeners.items():
                page.remove_listener(event, listener)


@pytest.fixture(scope="module")
def windows() -> Iterator[Windows]:
    # Closed with the module: while it is open, no other event loop runs in this thread.
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium on the path")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield Windows(launched)
        launched.close()


@pytest.fixture(params=[(screen, scheme) for screen in SCREENS for scheme in ("light", "dark")], ids="-".join)
def view(request: pytest.FixtureRequest, windows: Windows) -> View:
    """Every screen in every colour scheme, one after the other."""
    return View(windows, *request.param)


@pytest.fixture
def site(server: Site) -> Site:
    """Nothing is there yet."""
    server.documents.clear()
    server.posted.clear()
    return server


@pytest.fixture(scope="module")
def server() -> Iterator[Site]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document, headers = served.documents.get(self.path, ("", {}))
            if self.path == AXE_PATH:
                # From an address that stays the same: what the browser made of it is used again.
                document, headers = AXE.read_text(), {"Cache-Control": "max-age=3600"}
            # A browser asks for an icon by itself, once the policy is lifted.
            self.send_response(200 if document else 204 if self.path == "/favicon.ico" else 404)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(document.encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            served.posted.append((self.path, parse_qs(body)))
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        served = Site(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield served
        server.shutdown()
        thread.join()


def picture(page: Page, name: str) -> None:
    """The whole page as an image in ``build/screenshots``, for people to look at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    if page.locator("iframe").count():  # lays itself out a little later than the page around it
        page.wait_for_timeout(300)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


# Elements whose text does not fit (unless cut on purpose, with an ellipsis), or that stand outside the page.
_CUT = """() => {
  const width = document.documentElement.clientWidth;
  const shown = element => element.checkVisibility() && !element.closest("svg")
    && getComputedStyle(element).clipPath === "none";  // what only a screen reader sees
  const ellipsis = style => style.textOverflow === "ellipsis" || style.webkitLineClamp !== "none";
  return [...document.body.querySelectorAll("*")].filter(shown).filter(element => {
    const box = element.getBoundingClientRect(), style = getComputedStyle(element);
    const overflows = style.display !== "inline" && !ellipsis(style)
      && (element.scrollWidth > element.clientWidth + 1 || element.scrollHeight > element.clientHeight + 1);
    return box.left < -0.5 || box.right > width + 0.5 || (overflows && style.overflow !== "visible");
  }).map(element => element.outerHTML.slice(0, 120));
}"""


def check_layout(page: Page) -> None:
    """Nothing scrolls sideways, nothing is cut, and the page's own style was let in by its policy."""
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.evaluate(_CUT) == []
    assert page.evaluate("getComputedStyle(document.body).marginTop") == "0px"


def check_accessibility(page: Page) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm install --prefix tests/browser --no-package-lock")
    page.add_script_tag(url=AXE_PATH)
    found = page.evaluate("axe.run({iframes: false})")
    assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]] == []
