"""The page in a real browser: no error, every heading and plot shown."""

import shutil

import pytest
from synthetic_run import healthy_rows, summary_of, write_run

from jepalm.report.comparison import compare
from jepalm.report.plots.catalogue import ALL_PLOTS
from jepalm.report.plots.compare import COMPARISON_PLOTS
from jepalm.report.render.run import run_document
from jepalm.report.render.several import comparison_document
from jepalm.report.render.write import write

pytestmark = pytest.mark.page

RUN_SECTIONS = [
    "The run",
    "The article's three findings",
    "Verdicts",
    "Quality on held-out prompts",
    "The article's plots, on this run",
    "Curves and embedding health",
    "Samples as they evolved",
    "Config",
]
COMPARISON_SECTIONS = ["Metrics side by side", "Config difference", "Overlaid curves", "Verdicts of each run"]
CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1100,1400",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium and chromedriver here: install Debian's chromium and chromium-driver")
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed: pip install .[dev]"
    )
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory, report):
    root = tmp_path_factory.mktemp("runs")
    runs = [write_run(root / name, healthy_rows(500)) for name in ("a", "b")]
    runs.append(write_run(root / "empty", None, status="created"))
    summaries = [summary_of(run) for run in runs]
    return {
        "run": report / "report.html",
        "empty": write(run_document(summaries[2]), runs[2] / "report"),
        "comparison": write(comparison_document(compare(summaries)), runs[0] / "report" / "compare"),
    }


@pytest.mark.parametrize(
    ("name", "sections", "plots"),
    [
        ("run", RUN_SECTIONS, ALL_PLOTS),
        ("empty", [RUN_SECTIONS[0], *RUN_SECTIONS[2:]], ()),
        ("comparison", COMPARISON_SECTIONS, COMPARISON_PLOTS),
    ],
)
def test_page_has_no_error_and_shows_every_heading_and_plot(browser, pages, name, sections, plots):
    browser.get(pages[name].as_uri())
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert severe == []
    headings = [heading for heading in browser.find_elements("tag name", "h2") if heading.is_displayed()]
    assert [heading.text for heading in headings] == sections
    drawn = browser.find_elements("css selector", "figure > svg")
    assert len(drawn) == len(plots)
    for figure, name_of_plot in zip(drawn, plots, strict=True):
        assert browser.find_element("id", f"plot-{name_of_plot}").is_displayed()
        assert figure.is_displayed()
        assert figure.size["width"] > 300
        assert figure.size["height"] > 80


def test_generated_text_does_not_run(browser, pages):
    browser.get(pages["run"].as_uri())
    assert browser.title == "one"
    assert browser.find_elements("css selector", "script, .verbatim img") == []


def test_plots_follow_a_dark_page(browser, pages):
    colours = []
    for scheme in ("light", "dark"):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        browser.get(pages["run"].as_uri())
        title = browser.find_element("css selector", "#plot-r2 svg text")
        colours.append((title.value_of_css_property("fill"), browser.execute_script(
            "return getComputedStyle(document.body).backgroundColor")))  # fmt: skip
    assert colours[0] != colours[1]
    assert colours[0][0] != colours[1][0]


def test_page_does_not_overflow_a_phone(browser, pages):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True},
    )
    browser.get(pages["run"].as_uri())
    widest = browser.execute_script("return document.documentElement.scrollWidth")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert widest <= 390
