"""Pages in Chromium, where playwright (the extra `browser`) and a Chromium of the system are.

axe-core comes with axe-playwright-python.
"""

import importlib.util
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the extra [browser] is missing")
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser):
    """Opens a page; at the end nothing was asked from elsewhere, nothing failed or was refused."""
    contexts, problems, requests = [], [], []

    def opened(path: Path, *, ready=True, before="", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
        if before:
            page.add_init_script(before)
        page.goto(path.as_uri())
        if ready:
            page.wait_for_selector("#app:not([hidden])")
        page.problems, page.requests = problems, requests
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not problems
    assert all(
        url.startswith(("file:", "data:image/png", "blob:", "data:audio")) for url in requests
    )
    files = {url for url in requests if url.startswith("file:")}
    assert all(url.endswith((".html", ".flac", ".wav")) for url in files)


@pytest.fixture
def serious_findings():
    """What axe-core calls serious or critical in a page, as (rule, elements)."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None:
        pytest.skip("axe-playwright-python (the extra [browser]) is missing")
    axe = Path(found.submodule_search_locations[0]) / "axe.min.js"

    def judged(page):
        page.evaluate(axe.read_text(encoding="utf-8"))
        violations = page.evaluate("axe.run()")["violations"]
        serious = [v for v in violations if v["impact"] in ("serious", "critical")]
        return [(v["id"], [node["html"] for node in v["nodes"]]) for v in serious]

    return judged
