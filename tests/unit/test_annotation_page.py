"""The annotation page in a real browser, from a file: what a person sees, does and gets. Needs Chromium and driver."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from safety_heads.annotation import COLUMNS, page

TEMPLATE = (Path(__file__).parents[2] / "report/annotation_page.html").read_text()
HOSTILE = "</script><img src=x onerror=\"document.title='ran'\"><script>document.title='ran'</script>&lt; \u2028"
RESPONSES = ["first answer", HOSTILE, "", "a long answer " * 2000, "\u0627\u0644\u062c\u0648\u0627\u0628 \x07\u202e"]


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    service = shutil.which("chromedriver")
    if not (program and service):
        pytest.fail("Chromium and its driver are needed on the path, on Debian: apt-get install chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for switch in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=900,1000"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(service))
    yield driver
    driver.quit()


class Page:
    """The page in the browser, and what a person does with it."""

    def __init__(self, driver: webdriver.Chrome, folder: Path, responses: list[str]) -> None:
        self.driver, self.folder, self.n = driver, folder, len(responses)
        rows = {"id": [f"id{n}" for n in range(self.n)], "query": [f"query {n}" for n in range(self.n)]}
        sample = pd.DataFrame({**rows, "response": responses, "weight": [n + 0.1 for n in range(1, self.n + 1)]})
        (folder / "page.html").write_text(page(TEMPLATE, sample, folder.name), encoding="utf-8")
        self.open()

    def open(self) -> None:
        self.driver.get((self.folder / "page.html").as_uri())

    def press(self, *keys: str) -> None:
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def part(self, name: str):
        return self.driver.find_element(By.ID, name)

    @property
    def count(self) -> str:
        return self.part("count").text

    @property
    def pressed(self) -> list[str]:
        buttons = self.driver.find_elements(By.CSS_SELECTOR, "#labels button[aria-pressed=true]")
        return [button.get_attribute("data-label") for button in buttons]

    def export(self) -> pd.DataFrame:
        self.part("export").click()
        path, deadline = self.folder / f"labels-{self.folder.name}.csv", time.monotonic() + 30
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return pd.read_csv(path, dtype=str, keep_default_na=False)

    def problems(self) -> list[str]:
        """Console messages, and requests for anything but the page itself and the file it exports."""
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        own = ((self.folder / "page.html").as_uri(), "blob:")
        assert own[0] in asked  # the log is on
        return said + [url for url in asked if not url.startswith(own)]


@pytest.fixture
def opened(driver, tmp_path) -> Page:
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    for log in ("browser", "performance"):
        driver.get_log(log)  # what the test before left
    return Page(driver, tmp_path, RESPONSES)


def test_an_answer_is_hidden_until_asked_for_and_nothing_is_labelled_unseen(opened):
    assert opened.part("query").text == "query 0" and not opened.part("answer").is_displayed()
    assert opened.part("answer").get_attribute("textContent") == ""
    opened.press("2")  # shows, and labels nothing
    assert opened.part("answer").text == "first answer" and opened.count == "0 of 5 labelled · answer 1"
    opened.press(Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert not opened.part("answer").is_displayed()
    opened.part("show").click()
    assert opened.part("answer").text == "first answer" and opened.problems() == []


def test_labels_by_keyboard_undo_and_export(opened):
    opened.press(Keys.SPACE, "1", Keys.SPACE, "2", Keys.SPACE, "3")
    assert opened.count == "3 of 5 labelled · answer 4" and opened.part("bar").get_attribute("value") == "3"
    opened.press("u")
    assert opened.count == "2 of 5 labelled · answer 3" and opened.pressed == []
    opened.press("k", "k", Keys.SPACE)
    assert opened.pressed == ["complied"]
    opened.press("4", Keys.CONTROL + "z")  # labelled anew, and back
    assert opened.pressed == ["complied"] and opened.part("query").text == "query 0"
    opened.press("j", "j", "j", Keys.ENTER, "4")
    found = opened.export()
    assert found.columns.tolist() == list(COLUMNS) and found["id"].tolist() == [f"id{n}" for n in range(5)]
    assert found["label"].tolist() == ["complied", "refused", "", "unclear", ""]
    assert found["weight"].tolist() == ["1.1", "2.1", "3.1", "4.1", "5.1"] and set(found["sample"]) == {
        opened.folder.name
    }
    seconds = found["seconds"].replace("", None)
    assert seconds.isna().tolist() == [False, False, True, False, True] and seconds.dropna().astype(float).ge(0).all()
    assert opened.problems() == []


def test_a_reload_keeps_labels_place_and_undo(opened):
    opened.press(Keys.SPACE, "1", Keys.SPACE, "2")
    opened.open()
    assert opened.count == "2 of 5 labelled · answer 3" and "Your labels were kept" in opened.part("status").text
    assert not opened.part("answer").is_displayed()
    opened.press("u")
    assert opened.count == "1 of 5 labelled · answer 2"
    opened.press(Keys.SPACE, "4", *[Keys.SPACE, "3"] * 3)
    assert opened.count.startswith("5 of 5") and "All answers are labelled" in opened.part("status").text
    assert opened.export()["label"].tolist() == ["complied", "unclear", "degenerate", "degenerate", "degenerate"]
    assert opened.problems() == []


def test_another_sample_has_labels_of_its_own(opened, tmp_path):
    opened.press(Keys.SPACE, "1")
    (tmp_path / "other").mkdir()
    assert Page(opened.driver, tmp_path / "other", RESPONSES).count.startswith("0 of 5")


def test_labels_by_mouse(opened):
    opened.part("show").click()
    opened.driver.find_element(By.CSS_SELECTOR, "[data-label=refused]").click()
    assert opened.count == "1 of 5 labelled · answer 2"
    opened.part("undo").click()
    opened.part("next").click()
    assert opened.count == "0 of 5 labelled · answer 2" and not opened.part("answer").is_displayed()


def test_a_hostile_answer_is_only_text(opened):
    title = opened.driver.title
    opened.press("j", Keys.SPACE)
    assert opened.part("answer").get_attribute("textContent") == HOSTILE
    assert not opened.driver.find_elements(By.CSS_SELECTOR, "img, #answer *, #query *")
    assert opened.driver.title == title and opened.problems() == []


def test_the_content_policy_stops_what_would_slip_through(opened):
    """Markup put into the page by force cannot run, so one mistake in escaping would not be enough."""
    title = opened.driver.title
    opened.driver.execute_script("document.getElementById('answer').innerHTML = arguments[0]", HOSTILE)
    opened.driver.execute_script("document.getElementById('show').click()")
    time.sleep(0.3)
    assert opened.driver.title == title
    assert any("Content Security Policy" in message for message in opened.problems())


def test_odd_answers_are_shown_within_the_page(opened):
    for n, text in enumerate(RESPONSES):
        opened.press(Keys.SPACE)
        assert opened.part("answer").get_attribute("textContent") == (text or "(empty)"), n
        assert opened.driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        assert opened.part("labels").location["y"] < 1500  # a long answer scrolls in its own box
        opened.press(Keys.ARROW_RIGHT)


def test_every_control_has_a_name_and_is_reached_by_tab(opened):
    opened.press(Keys.SPACE, "1", Keys.SPACE)
    reached = []
    for _ in range(14):
        opened.press(Keys.TAB)
        focused = opened.driver.switch_to.active_element
        reached.append((focused.aria_role, focused.accessible_name))
    named = {name for role, name in reached if role == "button"}
    assert {"1 Complied", "2 Refused", "3 Degenerate", "4 Can't tell", "Previous answer", "Next answer"} <= named
    assert opened.part("bar").accessible_name == "Answers labelled" and opened.part("status").aria_role == "status"
