"""Reports in a real browser: no complaint, nothing wider than a phone, tables that sort, examples that filter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from kamerton.decide.report.run import write_report
from support import graded, synthetic
from support.chrome import BINARY, Chrome

MakeRun = Callable[..., Path]
pytestmark = [pytest.mark.browser, pytest.mark.skipif(BINARY is None, reason="no Chromium is installed")]

HOSTILE = """</script><script>document.title = "taken"</script><img src=x onerror="document.title='taken'">'"`${1}"""


def texts(browser: Chrome, selector: str) -> list[str]:
    return list(browser.run(f"[...document.querySelectorAll({selector!r})].map(one => one.innerText.trim())"))


def overflow(browser: Chrome) -> int:
    return int(browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
def test_a_run_opens_without_complaint_and_fits(browser: Chrome, shown_run: Path, width: int, dark: bool) -> None:
    browser.complaints.clear()
    browser.open(shown_run, width, dark=dark)
    assert browser.complaints == []
    assert overflow(browser) == 0
    assert browser.run("document.querySelectorAll('.js-plotly-plot .main-svg').length") >= 3


@pytest.mark.parametrize(("width", "dark"), [(1200, True), (390, False)])
def test_the_small_figures_of_rewards_stand_side_by_side_where_they_fit(
    browser: Chrome, reward_page: Path, width: int, dark: bool
) -> None:
    browser.complaints.clear()
    browser.open(reward_page, width, dark=dark)
    assert browser.complaints == []
    assert overflow(browser) == 0
    tops = "[...document.querySelectorAll('.small-figures figure')].map(one => one.getBoundingClientRect().top)"
    count = browser.run(f"new Set({tops}).size")
    assert count == (3 if width > 1000 else 6)


@pytest.fixture(scope="module")
def reward_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run on rewards."""
    run = graded.write_reward_run(tmp_path_factory.mktemp("rewards"), graded.answers(0.8), graded.answers(0.2, seed=1))
    return write_report(run)


def test_tables_sort_by_number_and_by_text(browser: Chrome, shown_run: Path) -> None:
    browser.open(shown_run)
    column = "#classes tbody td:nth-child(3)"
    before = texts(browser, column)
    browser.run("document.querySelectorAll('#classes th button')[2].click()")
    assert texts(browser, column) == sorted(before, key=float, reverse=True)
    browser.run("document.querySelectorAll('#classes th button')[2].click()")
    assert texts(browser, column) == sorted(before, key=float)
    browser.run("document.querySelectorAll('#classes th button')[0].click()")
    names = texts(browser, "#classes tbody th")
    assert names == sorted(names)


def test_examples_are_found_by_text_answer_and_kind(browser: Chrome, shown_run: Path) -> None:
    browser.open(shown_run)
    everything = browser.run("document.querySelectorAll('.browser li').length")
    assert everything == 200

    def shown(**query: str) -> int:
        browser.run("document.querySelector('.browser').open = true; document.querySelector('.filters').reset()")
        for name, value in query.items():
            browser.run(f"document.querySelector('.filters [name={name}]').value = {value!r}")
        browser.run("document.querySelector('.filters').dispatchEvent(new Event('input'))")
        count = browser.run("[...document.querySelectorAll('.browser li')].filter(row => row.offsetHeight > 0).length")
        assert texts(browser, ".filters output") == [f"{count} shown"]
        return int(count)

    assert shown() == 200
    assert shown(text="climber number 17 ") == 1
    assert shown(kind="wrong") + shown(kind="right") == 200
    assert 0 < shown(kind="fixed") < shown(kind="right")
    assert 0 < shown(kind="wrong", target="HUM") <= shown(target="HUM") < 200
    assert shown(text="no such words") == 0


def test_what_a_model_wrote_runs_nowhere(browser: Chrome, make_run: MakeRun) -> None:
    run = make_run(experiment=HOSTILE)
    for name, share in (("test", 0.5), ("base", 0.4)):
        table = synthetic.scores(share)
        for column in ("prompt", "target", "prediction", "label", "predicted_label"):
            texts_ = [HOSTILE if text == "ABBR" or column == "prompt" else text for text in table[column].to_pylist()]
            table = table.set_column(table.schema.get_field_index(column), column, pa.array(texts_))
        synthetic.write_scores(run, name, table.replace_schema_metadata(None))
    browser.complaints.clear()
    browser.open(write_report(run))
    assert browser.complaints == []
    assert browser.run("document.title") != "taken"
    assert browser.run("document.images.length") == 0
    browser.run("document.querySelector('.browser').open = true")
    assert HOSTILE in texts(browser, ".browser .prompt")[0]


def test_a_table_that_is_cut_shows_that_it_scrolls(browser: Chrome, shown_run: Path) -> None:
    browser.open(shown_run, 390)
    cut = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth)"
    assert browser.run(f"{cut}.length")
    for kind in ("local", "scroll"):  # a cover that moves with the table, over a shadow that stays
        assert browser.run(f"{cut}.every(one => getComputedStyle(one).backgroundAttachment.includes('{kind}'))")


def test_on_paper_everything_is_unfolded_but_the_long_list(browser: Chrome, shown_run: Path, tmp_path: Path) -> None:
    browser.complaints.clear()
    browser.open(shown_run)
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run("document.querySelectorAll('details:not([open], .browser)').length") == 0
    assert not browser.run("document.querySelector('.browser').open")
    browser.run("dispatchEvent(new Event('afterprint'))")
    browser.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    assert browser.complaints == []
