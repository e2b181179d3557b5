"""The page as Chromium shows it: at every width, in light and dark, pointed at, stepped through, without its script, printed."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.tracing.made import Made
from tests.tracing.page.samples import FILE, hostile, training, written

from advisor_mcp.declaration import Silent
from advisor_mcp.tracing.diagnosis import diagnose
from advisor_mcp.tracing.page.view import page as made_page
from advisor_mcp.tracing.reading import read_evidence

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
NAMES = ("ranks", "one", "hostile", "host alone", "busy")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages by name, as files."""
    folder = tmp_path_factory.mktemp("pages")
    ranks = read_evidence(written(folder), Silent()).timelines
    found = {
        "ranks": made_page(diagnose(ranks), diagnose(ranks), ["rank0.json", "rank1.json"]),
        "one": made_page(training().diagnosis(), None, ["trace.json"]),
        "hostile": made_page(hostile().diagnosis(), None, [FILE]),
        "host alone": made_page(Made().steps(0, 100, 250).operator("aten::mm", 10, 30).diagnosis(), None, ["cpu.json"]),
        "busy": made_page(Made().kernel("work", 0, 9).diagnosis(), None, ["busy.json"]),
    }
    for name, text in found.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8", errors="replace")
    return {name: folder / f"{name}.html" for name in found}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the dev extra has it)")
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium-headless-shell)")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def shown(browser: Any, pages: dict[str, Path]) -> Iterator[Any]:
    """Opens a page; at the end nothing may have gone wrong in it, and nothing but the file may have been asked for."""
    contexts: list[Any] = []
    wrong: list[str] = []
    asked: set[str] = set()

    def opened(name: str, width: int = 1200, scheme: str = "light", script: bool = True) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script
        )
        contexts.append(context)
        view = context.new_page()
        view.on("console", lambda message: wrong.append(message.text))
        view.on("pageerror", lambda error: wrong.append(str(error)))
        view.on("request", lambda request: asked.add(request.url.partition(":")[0]))
        view.goto(pages[name].as_uri())
        return view

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []
    assert asked <= {"file", "data"}


@pytest.mark.parametrize("name", NAMES)
def test_the_lead_comes_first_and_every_section_of_the_menu_is_there(shown: Any, name: str) -> None:
    view = shown(name)
    assert view.locator("main > section").first.inner_text().strip() != ""
    targets = view.eval_on_selector_all("nav a", "links => links.map(link => link.hash.slice(1))")
    assert [target for target in targets if view.locator(f"[id='{target}']").count() != 1] == []
    assert all(section.is_visible() for section in view.locator("main > section").all())


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_reaches_beyond_the_window(shown: Any, name: str, width: int) -> None:
    view = shown(name, width=width)
    view.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")
    assert view.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("width", [400, 1200])
def test_every_row_of_the_timeline_has_boxes_that_can_be_seen(shown: Any, width: int) -> None:
    view = shown("one", width=width)
    seen = view.eval_on_selector_all(
        ".track",
        """tracks => tracks.map(track => Array.from(track.querySelectorAll('rect'), rect => rect.getBoundingClientRect())
            .filter(area => area.width > 0.1 && area.height >= 4).length)""",
    )
    # a stream of kernels and one of collectives, idle time, and of the host ranges, operators and calls
    assert len(seen) == 6
    assert min(seen) > 0


def test_a_bar_for_every_rank_is_filled_by_its_four_parts(shown: Any) -> None:
    view = shown("ranks")
    bars = view.eval_on_selector_all(
        ".stack",
        """bars => bars.map(bar => [bar.getAttribute('aria-label').split(':')[0],
            Array.from(bar.querySelectorAll('rect'), one => one.getBoundingClientRect().width).reduce((a, b) => a + b)
                / bar.clientWidth])""",
    )
    assert [name for name, _ in bars] == ["Rank 0, GPU 0", "Rank 1, GPU 0"]
    assert [filled for _, filled in bars] == pytest.approx([1, 1], abs=0.005)


def test_names_that_hold_markup_are_text(shown: Any) -> None:
    view = shown("hostile")
    assert view.evaluate("window.owned") is None
    assert view.locator("img").count() == 0
    assert view.locator("code", has_text="<script>window.owned = 1</script>").count() > 0
    assert view.locator("#steps text", has_text="</script></svg>").count() > 0
    assert "<img src=x onerror=window.owned=4>.json" in view.locator("header").inner_text()


CONTRASTS = """() => {
    const numbers = text => text.match(/[\\d.]+/g).map(Number);
    const bright = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ratio = (one, other) => {
        const [low, high] = [bright(numbers(one)), bright(numbers(other))].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
    };
    const ground = element => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if (numbers(colour)[3] !== 0) return colour;
        }
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const element = node.parentElement;
        const style = getComputedStyle(element);
        if (!node.data.trim() || ['SCRIPT', 'STYLE', 'title'].includes(element.tagName) || !element.getClientRects().length) continue;
        if (element.tagName !== 'text') { found.push([element.className, ratio(style.color, ground(element))]); continue; }
        // letters on a pattern have a rim of its ground colour, letters on one colour are on that of their box
        const kind = element.getAttribute('class')?.replace('on-', '');
        const box = kind && document.querySelector(`rect.k-${kind}`);
        const under = style.stroke !== 'none' ? style.stroke : box ? getComputedStyle(box).fill : ground(element);
        found.push([element.getAttribute('class') ?? 'axis', ratio(style.fill, under)]);
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["ranks", "one", "host alone"])
def test_all_text_stands_out_from_what_is_behind_it(shown: Any, name: str, scheme: str) -> None:
    view = shown(name, scheme=scheme)
    view.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")
    found = view.evaluate(CONTRASTS)
    assert len(found) > 50
    # WCAG 2.2, success criterion 1.4.3, level AA
    assert [(what, round(ratio, 2)) for what, ratio in found if ratio < 4.5] == []


def test_dark_is_dark(shown: Any) -> None:
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    assert shown("one", scheme="light").evaluate(ground) == "rgb(255, 255, 255)"
    assert shown("one", scheme="dark").evaluate(ground) == "rgb(18, 22, 29)"


def test_pointing_at_a_box_says_what_it_is_and_leaving_takes_it_away(shown: Any) -> None:
    view = shown("one")
    tip, track = view.locator("#tip"), view.locator(".lane.idle .track")
    track.scroll_into_view_if_needed()
    assert not tip.is_visible()
    area = track.bounding_box()
    # of the longest step, 1,600 microseconds, the first 700 are a wait for data
    view.mouse.move(area["x"] + area["width"] * 0.1, area["y"] + 10)
    assert tip.inner_text().splitlines()[:2] == ["before Memcpy HtoD", "Waiting for data"]
    view.mouse.move(2, 2)
    assert not tip.is_visible()


def test_a_row_is_stepped_through_with_the_keyboard(shown: Any) -> None:
    view = shown("one")
    tip, track = view.locator("#tip"), view.locator(".track").nth(0)
    track.focus()
    told = []
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowLeft", "End"):
        view.keyboard.press(key)
        told.append(tip.inner_text().splitlines()[0])
    assert told[0] != told[1] != told[2]
    assert told[3] == told[1]
    assert view.locator(".track .on").count() == 1
    view.keyboard.press("Escape")
    assert not tip.is_visible()


def test_zooming_widens_the_timeline_alone(shown: Any) -> None:
    view = shown("one", width=400)
    lanes = view.locator("#lanes")
    width = lanes.evaluate("one => one.scrollWidth")
    view.get_by_role("button", name="Zoom in").click()
    assert lanes.evaluate("one => one.scrollWidth") == pytest.approx(2 * width, abs=4)
    assert view.locator("#zoom").inner_text() == "2×"
    assert view.evaluate("document.documentElement.scrollWidth") == 400
    view.get_by_role("button", name="Show all").click()
    assert lanes.evaluate("one => one.scrollWidth") == width


def test_without_its_script_the_page_says_the_same(shown: Any) -> None:
    with_script, without = shown("one"), shown("one", script=False)
    tools = "Zoom of the timeline"
    assert with_script.get_by_role("group", name=tools).is_visible()
    assert not without.locator(f"[aria-label='{tools}']").is_visible()
    for section in ("doubts", "split", "idle", "findings", "steps", "kernels", "glossary", "method"):
        assert without.locator(f"#{section}").inner_text() == with_script.locator(f"#{section}").inner_text()
    assert without.locator(".track rect").count() == with_script.locator(".track rect").count()


@pytest.mark.parametrize("name", NAMES)
def test_the_page_can_be_found_ones_way_in_without_seeing_it(shown: Any, name: str) -> None:
    view = shown(name)
    assert {role: view.get_by_role(role).count() for role in ("banner", "navigation", "main", "contentinfo")} == {
        "banner": 1, "navigation": 1, "main": 1, "contentinfo": 1,
    }  # fmt: skip
    graphics = "svg:not(svg svg):not([aria-hidden='true'])"
    assert view.locator(f"{graphics}:not([role='img'][aria-label])").count() == 0
    assert view.locator("table:not(:has(thead th[scope='col']))").count() == 0
    levels = view.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = view.eval_on_selector_all("[id]", "all => all.map(one => one.id)")
    assert len(ids) == len(set(ids))
    named = view.eval_on_selector_all("[aria-labelledby]", "all => all.map(one => one.getAttribute('aria-labelledby'))")
    assert set(named) <= set(ids)


def test_no_kind_of_box_is_told_by_its_colour_alone(shown: Any) -> None:
    view = shown("one")
    kinds = view.eval_on_selector_all(".track rect", "all => [...new Set(all.map(one => one.getAttribute('class')))]")
    listed = view.eval_on_selector_all(
        "#timeline .legend li",
        "all => all.map(one => [one.querySelector('rect').getAttribute('class'), one.innerText])",
    )
    assert {kind for kind, _ in listed} == set(kinds)
    assert all(text.strip() for _, text in listed)
    # of the four parts of the time each has another pattern
    fills = view.eval_on_selector_all("#split .swatch rect", "all => all.map(one => getComputedStyle(one).fill)")
    assert [fill.partition("(")[0] for fill in fills] == ["rgb", "url", "url", "url"]
    assert len(set(fills)) == 4


def test_a_printed_page_holds_what_was_folded_away(shown: Any) -> None:
    view = shown("one")
    assert view.locator("details:not([open])").count() > 0
    view.pdf()
    assert view.locator("details:not([open])").count() == 0
    view.emulate_media(media="print")
    assert not view.locator("nav").is_visible()
