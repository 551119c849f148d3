"""The page for people, in a headless Chromium. Skipped where selenium or the browser is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None,
    reason="needs chromium and its driver: apt-get install chromium chromium-driver",
)
PATIENCE = 60


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    profile = tmp_path_factory.mktemp("profile")
    for switch in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "no-proxy-server", "disable-gpu"):
        options.add_argument(f"--{switch}")
    options.add_argument(f"--user-data-dir={profile}")
    options.add_argument("--window-size=1100,900")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.implicitly_wait(0)
    yield driver
    driver.quit()


def at(browser: Any, name: str) -> Any:
    return browser.find_element(By.ID, name)


def until(browser: Any, condition: Any) -> Any:
    return WebDriverWait(browser, PATIENCE, 0.05).until(lambda _: condition())


def opened(browser: Any, url: str) -> None:
    browser.get(url)
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#model option"))


def say(browser: Any, text: str) -> None:
    at(browser, "prompt").send_keys(text, Keys.ENTER)


def answer(browser: Any) -> Any:
    return browser.find_elements(By.CSS_SELECTOR, "#talk article")[-1]


def written(browser: Any) -> Any:
    until(browser, lambda: at(browser, "talk").get_attribute("aria-busy") == "false")
    return answer(browser)


def complaints(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_a_chat_and_what_each_server_saw(browser: Any, secure: Any) -> None:
    opened(browser, secure.url)
    until(browser, lambda: "alice at 127.0.0.1" in at(browser, "cluster").text)
    assert browser.find_element(By.CSS_SELECTOR, "#cluster code").text == secure.trios["story"].digest
    say(browser, "<b>tell me</b>")
    made = written(browser)
    own, _ = browser.find_elements(By.CSS_SELECTOR, "#talk article .text")
    assert own.text == "<b>tell me</b>"  # a text, never markup
    assert made.find_element(By.CLASS_NAME, "text").text == "Hé😀."
    figures = made.find_element(By.CLASS_NAME, "figures").text
    for each in ("9 tokens", " s", "a second after the first", "between the servers", "rounds"):
        assert each in figures
    seen = made.find_element(By.CLASS_NAME, "seen")
    seen.find_element(By.TAG_NAME, "summary").click()
    rows = [row.text for row in seen.find_elements(By.CSS_SELECTOR, "tbody tr")]
    assert [row.split()[:2] for row in rows] == [["0:", "alice"], ["1:", "bob"], ["2:", "carol"]]
    noise = [
        row.find_element(By.CLASS_NAME, "bytes").text
        for row in seen.find_elements(By.CSS_SELECTOR, "tbody tr")
    ]
    assert all(len(bytes.fromhex(each)) == 24 for each in noise)
    assert complaints(browser) == []
    if "ONNXPUMA_SCREENSHOT" in os.environ:
        browser.save_screenshot(os.environ["ONNXPUMA_SCREENSHOT"])


def test_a_text_that_is_continued_and_stopped(browser: Any, kit: Any, endless: Path) -> None:
    with kit.plainly({"endless": endless}, seconds=0.05) as gateway:
        opened(browser, gateway.url)
        until(browser, lambda: at(browser, "prompt-label").text == "Text to continue")
        say(browser, "a")
        until(browser, lambda: "bab" in answer(browser).text)
        at(browser, "stop").click()
        made = written(browser)
        kept = made.find_element(By.CLASS_NAME, "text").text
        assert 3 <= len(kept) < 256
        at(browser, "fresh").click()
        assert browser.find_elements(By.CSS_SELECTOR, "#talk article") == []
        assert at(browser, "problem").text == ""
        assert complaints(browser) == []


def test_a_key_and_errors(browser: Any, kit: Any, folders: dict[str, Path], ring: Any) -> None:
    some = {name: folders[name] for name in ("vectors", "story")}
    with kit.plainly(some, keys=ring("k" * 20)) as gateway:
        browser.get(gateway.url)
        until(browser, lambda: at(browser, "entry").is_displayed())
        assert "API key" in at(browser, "problem").text
        at(browser, "key").send_keys("k" * 20, Keys.ENTER)
        until(browser, lambda: not at(browser, "entry").is_displayed())
        assert at(browser, "model").get_attribute("value") == "story"  # the first that writes
        say(browser, "x" * 70)
        written(browser)
        assert "the model has 64 positions" in at(browser, "problem").text
        say(browser, "again")
        assert written(browser).find_element(By.CLASS_NAME, "text").text == "Hé😀."
        assert at(browser, "problem").text == ""


def test_everything_has_a_name_for_those_who_do_not_see_it(browser: Any, plain: Any) -> None:
    opened(browser, plain.url)
    nameless = browser.execute_script(
        """return [...document.querySelectorAll("input, select, textarea, button")]
        .filter((each) => !each.labels?.length && !each.textContent.trim()).map((each) => each.outerHTML)"""
    )
    assert nameless == []
    assert browser.execute_script("return document.documentElement.lang") == "en"
    assert at(browser, "talk").get_attribute("aria-live") == "polite"
    assert at(browser, "problem").get_attribute("role") == "alert"
    assert browser.switch_to.active_element is not None
