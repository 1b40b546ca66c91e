"""What axe-core, an automatic accessibility checker, says of the page in a browser.

Its licence (MPL-2.0) is not that of the project, so it is no part of it: `.ci/run` installs it.
"""

from tests.support.commands import CHECKOUT
from tests.support.pages.gallery_browser import GalleryBrowser
from tests.support.requirements import skip_or_fail

AXE = CHECKOUT / ".venv" / "node_modules" / "axe-core" / "axe.min.js"
CHECK = """
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
    .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html, failureSummary }) => html + failureSummary)}`)"""


def serious_problems(browser: GalleryBrowser) -> list[str]:
    """What it calls serious or critical, with the first elements of each."""
    if not AXE.exists():
        skip_or_fail("there is no axe-core (npm install --no-save --prefix .venv axe-core)")
    browser.run(AXE.read_text(encoding="utf-8"))
    return browser.run_async(CHECK)
