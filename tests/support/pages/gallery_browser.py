"""A gallery in chromium: keys, clicks, and what it asked the network and said on the console."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

DESKTOP, LAPTOP, LARGE = (1440, 900), (1280, 720), (1920, 1080)
UPRIGHT, SIDEWAYS = PHONES = (390, 844), (844, 390)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
PATIENCE_SECONDS = 60
"""Machines that test are small and busy."""


def missing_browser() -> str:
    """What a browser test needs and this machine lacks; empty: nothing."""
    return ", ".join(name for name in ("chromium", "chromedriver") if shutil.which(name) is None)


class GalleryBrowser:
    """Chromium with one window. `console` and `requests` tell what came since the last page was opened."""

    def __init__(self, driver: webdriver.Chrome, downloads: Path) -> None:
        self.driver = driver
        self.downloads = downloads

    def open(self, page: Path, size: tuple[int, int] = DESKTOP, *, dark: bool = False, sharpness: float = 1) -> None:
        """Opens a page from disk, in a window of so many CSS pixels; a phone is touched."""
        touch = size in PHONES
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": sharpness, "mobile": touch}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.console(), self.requests()
        self.driver.get(page.as_uri())

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of JavaScript that returns one; what the page's scripts declare is at hand."""
        return self.driver.execute_script(script, *arguments)

    def run_async(self, script: str, *arguments: Any) -> Any:
        """The value of asynchronous JavaScript, which has the arguments as `given`."""
        call = "const given = [...arguments], done = given.pop();"
        return self.driver.execute_async_script(f"{call} (async () => {{ {script} }})().then(done)", *arguments)

    def shown(self) -> list[int]:
        """The numbers in the ids of the grooves that pass the filters, in the order of the wall."""
        ids = self.run("return wall.items.map((item) => grooves.ids[item])")
        return [int(name.removeprefix("groove-")) for name in ids]

    def wait_for(self, script: str) -> None:
        """Waits until an expression holds."""
        WebDriverWait(self.driver, PATIENCE_SECONDS).until(lambda _: self.run(f"return {script}"))

    def press(self, *keys: str) -> None:
        """Presses keys one after the other, whatever has the focus."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def tap(self, selector: str, x: float = 0, y: float = 0) -> None:
        """Touches an element with a finger, so far from its middle."""
        box = self.run("return document.querySelector(arguments[0]).getBoundingClientRect().toJSON()", selector)
        point = {"x": box["x"] + box["width"] / 2 + x, "y": box["y"] + box["height"] / 2 + y}
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def element(self, selector: str) -> WebElement:
        """The first element of a CSS selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def type_into(self, selector: str, text: str) -> None:
        """Puts text in place of what a field holds."""
        field = self.element(selector)
        field.clear()
        field.send_keys(text)

    def downloaded(self, name: str) -> bytes:
        """The content of a file that the page saves; it is taken away."""
        path = self.downloads / name
        WebDriverWait(self.driver, PATIENCE_SECONDS).until(lambda _: path.exists())
        content = path.read_bytes()
        path.unlink()
        return content

    def console(self) -> list[str]:
        """What the page complained of: errors and warnings of every kind."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Every address that was asked for."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in sent]


@contextmanager
def gallery_browser(folder: Path) -> Iterator[GalleryBrowser]:
    """Chromium with a fresh profile; it and what it saves lie in an empty folder."""
    downloads = folder / "downloads"
    downloads.mkdir()
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.add_experimental_option(
        "prefs",
        {
            "download.default_directory": str(downloads),
            "profile.default_content_setting_values.automatic_downloads": 1,
        },
    )
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
    driver.set_script_timeout(PATIENCE_SECONDS)
    try:
        yield GalleryBrowser(driver, downloads)
    finally:
        driver.quit()
