"""The page in real Chromium, in front of a server whose engine upper-cases. Debian's package is ``chromium``."""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install '.[dev]'")
expect = sync_api.expect
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Returns a function that opens the page of a server. An error in the browser fails the test.

    The browser reports every refused request as an error, too; those to the API are what some tests are for.
    """
    errors: list[str] = []

    def logged(message: Any) -> None:
        refused = message.text.startswith("Failed to load resource") and re.search("/v1/|readyz", str(message.location))
        if message.type == "error" and not refused:
            errors.append(message.text)

    with contextlib.ExitStack() as stack:

        def begin(running: Any, **options: Any) -> Any:
            context = stack.enter_context(browser.new_context(base_url=str(running.client.base_url), **options))
            page = context.new_page()
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("console", logged)
            page.goto("/")
            expect(page.locator("textarea:focus, input:focus")).to_have_count(1)  # what is typed earlier is lost
            return page

        yield begin
    assert errors == []


def shown(page: Any, part: str) -> Any:
    """A part of each panel that shows a model's answer."""
    return page.locator(f".answer:visible .{part}")


def entries(page: Any, name: str) -> list[str]:
    expect(page.get_by_label(name, exact=True)).to_be_visible()
    return [str(text) for text in page.get_by_label(name, exact=True).locator("option").all_inner_texts()]


def test_the_answer_and_its_latency_come_as_one_types(server: Any, open_page: Open) -> None:
    page = open_page(server)
    expect(page.locator("#text")).to_be_focused()
    for typed, answer in [("guten tag", "GUTEN TAG"), (" welt", "GUTEN TAG WELT")]:
        page.keyboard.type(typed)
        expect(shown(page, "output")).to_have_text(answer)
        expect(shown(page, "latency")).to_have_text(re.compile(r"^[\d.]+ (ms|s)$"))
    assert [entries(page, name) for name in ("From", "To", "Model")] == [["German"], ["English"], ["echo (int8)"]]
    for absent in ("#second", "#tasks", "#swap", "#key-form"):
        expect(page.locator(absent)).to_be_hidden()
    page.get_by_role("button", name="Clear").click()
    expect(shown(page, "output")).to_have_text("")
    expect(page.locator("#text")).to_be_focused()


def test_the_newest_answer_wins_and_the_request_before_is_aborted(server: Any, open_page: Open) -> None:
    page, held, failures = open_page(server), [], []
    page.route("**/v1/translate", lambda route: route.continue_() if held else held.append(route))
    page.on("requestfailed", lambda request: failures.append(request.failure))
    with page.expect_request("**/v1/translate"):
        page.keyboard.type("eins")
    page.keyboard.type(" zwei")
    expect(shown(page, "output")).to_have_text("EINS ZWEI")
    assert failures == ["net::ERR_ABORTED"]
    with contextlib.suppress(sync_api.Error):  # the browser no longer waits for it
        held[0].fulfill(json={"outputs": [{"text": "STALE", "finish_reason": "eos", "truncated": False}]})
    page.wait_for_timeout(200)
    expect(shown(page, "output")).to_have_text("EINS ZWEI")


def test_markup_in_a_text_is_shown_as_text(server: Any, open_page: Open) -> None:
    page = open_page(server)
    page.get_by_label("Text to translate").fill("<img src=x onerror=alert(1)> <b>fett</b>")
    expect(shown(page, "output")).to_have_text("<img src=x onerror=alert(1)> <b>FETT</b>")
    assert page.evaluate("document.images.length + document.querySelectorAll('.output *').length") == 0


def test_the_policy_stops_scripts_that_the_page_does_not_have(server: Any, browser: Any) -> None:
    with browser.new_context(base_url=str(server.client.base_url)) as context:
        page = context.new_page()
        page.goto("/")
        script = "document.body.append(Object.assign(document.createElement('img'), {src: 'http://127.0.0.1:9/x.png'}))"
        with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
            page.evaluate(script)
        with pytest.raises(sync_api.Error, match="TrustedHTML"):
            page.evaluate("document.body.innerHTML = '<b>x</b>'")


def test_a_pasted_document_keeps_its_layout(server: Any, open_page: Open) -> None:
    page = open_page(server)
    document = "# Titel\n\n- Guten Tag. Wie geht's?\n- 18,10 €\n\n    Ende.\n" * 20
    page.get_by_label("Text to translate").fill(document)
    expect(shown(page, "output")).to_contain_text("ENDE.")
    assert shown(page, "output").text_content() == document.upper()


def test_two_models_answer_side_by_side(start: Any, make_engine: Any, open_page: Open) -> None:
    page = open_page(start({"student": make_engine(), "teacher": make_engine()}))
    page.keyboard.type("ja")
    expect(shown(page, "output")).to_have_text(["JA", "JA"])
    expect(shown(page, "latency")).to_have_text([re.compile("ms"), re.compile("ms")])
    assert [page.locator("h2:visible").all_inner_texts()] == [["student", "teacher"]]
    lefts = [box["x"] for box in (panel.bounding_box() for panel in page.locator(".panel").all())]
    assert lefts[0] < lefts[1] < lefts[2]
    assert entries(page, "Compare with") == ["teacher (int8)", "nothing"]
    page.get_by_label("Compare with").select_option("nothing")
    expect(shown(page, "output")).to_have_text(["JA"])


def test_tasks_languages_and_models_are_those_of_the_server(start: Any, make_engine: Any, open_page: Open) -> None:
    engines = {name: make_engine("translation", *name.split("-")) for name in ("de-en", "en-de", "fr-en")}
    page = open_page(start({**engines, "titles": make_engine("summarization", None, None)}))
    assert entries(page, "From") == ["German", "English", "French"] and entries(page, "To") == ["English"]
    page.keyboard.type("hallo")
    expect(shown(page, "output")).to_have_text("HALLO")
    page.get_by_role("button", name="Swap the languages").click()
    expect(page.locator("h2:visible")).to_have_text("en-de")
    expect(page.locator("#text")).to_have_value("HALLO")
    page.get_by_label("From").select_option("French")
    expect(page.get_by_label("To", exact=True)).to_have_value("en")
    expect(page.locator("#swap")).to_be_hidden()
    with page.expect_request("**/v1/summarize"):
        page.get_by_text("Summarize", exact=True).click()
    expect(page.locator("h2:visible")).to_have_text("titles")
    expect(page.get_by_label("From")).to_be_hidden()


def test_a_model_that_names_no_languages_takes_any(start: Any, make_engine: Any, open_page: Open) -> None:
    page = open_page(start({"student": make_engine(), "teacher": make_engine("translation", None, None)}))
    page.keyboard.type("ja")
    expect(shown(page, "output")).to_have_text(["JA", "JA"])
    assert entries(page, "From") == ["German"] and entries(page, "To") == ["English"]
    alone = open_page(start({"teacher": make_engine("translation", None, None)}))
    alone.keyboard.type("ja")
    expect(shown(alone, "output")).to_have_text("JA")
    assert entries(alone, "From") == entries(alone, "To") == ["any language"]


NOTES = {
    "eins loop zwei": "The model began to repeat itself; the repetition was cut off.",
    "eins zwei drei vier fünf": "The output reached the model's length limit and may be incomplete.",
    "eins zwei": "",
}


def test_an_output_that_is_not_whole_has_a_note(server: Any, open_page: Open) -> None:
    page = open_page(server)
    for text, note in NOTES.items():
        page.get_by_label("Text to translate").fill(text)
        expect(shown(page, "output")).to_contain_text("EINS")
        expect(shown(page, "note")).to_have_text(note)


def test_a_summary_of_a_cut_text_has_a_note(start: Any, make_engine: Any, open_page: Open) -> None:
    page = open_page(start({"titles": make_engine("summarization", None, None)}))
    page.get_by_label("Text to summarize").fill("wort " * 12)
    expect(shown(page, "note")).to_contain_text("longer than the model reads; its end was cut off.")


ERRORS = [
    ({"max_body_bytes": 900}, "x" * 1000, r"^The text is too long for one request: the body has \d+ bytes, the limit"),
    ({"timeout_ms": 200}, "hold", "^The answer took longer than the server allows. A shorter text takes less time.$"),
    ({}, "boom", "^The server answered with error 500: the server failed at this request"),
]


@pytest.mark.parametrize(("settings", "text", "sentence"), ERRORS, ids=["413", "504", "500"])
def test_errors_are_sentences(start: Any, open_page: Open, settings: Any, text: str, sentence: str) -> None:
    page = open_page(start(**settings))
    page.get_by_label("Text to translate").fill(text)
    expect(shown(page, "note")).to_have_text(re.compile(sentence))
    expect(shown(page, "output")).to_have_text("")
    page.get_by_label("Text to translate").fill("x" * 899)
    page.context.set_offline(True)
    expect(shown(page, "note")).to_have_text("The server cannot be reached.")


def test_a_refused_text_is_told_why(server: Any, open_page: Open) -> None:
    page = open_page(server)
    mistakes = [{"message": "has 12 tokens, the limit is 9", "pointer": "/inputs/0"}]
    page.route("**/v1/translate", lambda route: route.fulfill(status=422, json={"detail": "x", "errors": mistakes}))
    page.keyboard.type("eins")
    expect(shown(page, "note")).to_have_text("The server cannot take this text: it has 12 tokens, the limit is 9.")


def test_a_full_queue_is_told_and_the_text_is_sent_again(start: Any, open_page: Open) -> None:
    busy = start(queue_items=1, max_items=1)
    page = open_page(busy)
    waiting = busy.background("hold")
    page.keyboard.type("ja")
    expect(shown(page, "note")).to_contain_text("The server takes no more requests at the moment. It is asked again in")
    busy.engine.release.set()
    waiting.join()
    expect(shown(page, "output")).to_have_text("JA")
    expect(shown(page, "note")).to_have_text("")


def test_a_key_is_asked_for_where_one_is_needed(start: Any, open_page: Open) -> None:
    page = open_page(start(api_key="s3cret-ü"))
    key = page.get_by_label("API key")
    expect(page.locator("#key-note")).to_have_text("The server needs a key.")
    expect(key).to_be_focused()
    expect(page.locator("#choices")).to_be_hidden()
    key.fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#key-note")).to_have_text("The server does not accept this key.")
    key.fill("s3cret-ü")
    page.get_by_role("button", name="Use this key").click()
    expect(key).to_be_hidden()
    page.get_by_label("Text to translate").fill("ja")
    expect(shown(page, "output")).to_have_text("JA")


def test_the_page_waits_while_the_models_load(start: Any, make_engine: Any, open_page: Open) -> None:
    loaded, engine = threading.Event(), make_engine()

    def load(*_: Any) -> Any:
        loaded.wait(20)
        return engine

    page = open_page(start({"echo": engine}, ready=False, load=load))
    expect(page.locator("#server")).to_have_text("The server is not ready: the models are loading.")
    page.get_by_label("Text", exact=True).fill("ja")
    loaded.set()
    expect(shown(page, "output")).to_have_text("JA")


def test_the_keyboard_reaches_everything(start: Any, make_engine: Any, open_page: Open) -> None:
    engines = {"one": make_engine(), "two": make_engine(), "titles": make_engine("summarization", None, None)}
    page = open_page(start(engines))
    page.keyboard.type("ja")
    page.keyboard.press("Control+Enter")
    expect(shown(page, "output")).to_have_text(["JA", "JA"])
    reached = []
    for _ in range(6):
        page.keyboard.press("Shift+Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.value"))
    assert reached == ["clear", "second", "model", "target", "source", "translation"]
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Text to summarize")).to_be_visible()
    expect(page.locator("h2:visible")).to_have_text("titles")


def test_a_phone_shows_one_column_without_scrolling_sideways(start: Any, make_engine: Any, open_page: Open) -> None:
    engines = {"student": make_engine(), "teacher": make_engine(), "titles": make_engine("summarization", None, None)}
    page = open_page(start(engines), viewport={"width": 320, "height": 640}, has_touch=True, is_mobile=True)
    page.get_by_label("Text to translate").fill("wort" * 40)
    expect(shown(page, "output")).to_have_text(["WORT" * 40] * 2)
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    boxes = [panel.bounding_box() for panel in page.locator(".panel").all()]
    assert [box["y"] for box in boxes] == sorted({box["y"] for box in boxes})
    heights = [control.bounding_box()["height"] for control in page.locator("select:visible, button:visible").all()]
    assert min(heights) >= 24  # WCAG 2.2: size of a target


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_schemes(start: Any, make_engine: Any, open_page: Open, scheme: str) -> None:
    """At least 4.5 to 1, as WCAG 2 asks for."""
    engines = {"echo": make_engine(), "titles": make_engine("summarization", None, None)}
    page = open_page(start(engines), color_scheme=scheme)
    page.keyboard.type("eins loop zwei")
    expect(shown(page, "note")).to_contain_text("repeat")
    assert (luminance(style(page, "body", "background-color")) < 0.2) == (scheme == "dark")
    grounds = {".output": ".panel", ".note": ".panel", ".latency": ".panel", "h2": ".panel", ".choice label": "body"}
    for part, ground in {**grounds, "#tasks :checked + span": "#tasks :checked + span"}.items():
        dark, light = sorted(
            [luminance(style(page, part, "color")), luminance(style(page, ground, "background-color"))]
        )
        assert (light + 0.05) / (dark + 0.05) >= 4.5, part


def style(page: Any, selector: str, name: str) -> list[int]:
    """A computed colour as red, green and blue."""
    value = page.locator(f"{selector}:visible").first.evaluate(f"one => getComputedStyle(one)['{name}']")
    return [int(part) for part in re.findall(r"\d+", value)[:3]]


def luminance(colour: list[int]) -> float:
    """Relative luminance by WCAG 2."""
    linear = [part / 3294.6 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
