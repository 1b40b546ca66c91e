"""The page about runs: what it tells of one, of several, and of those that are in no good state."""

import json
import re

import pytest
import yaml

from jobs.report import names
from jobs.run_report.page import report_page
from jobs.run_report.record import read_run
from musicvae.errors import ConfigError, DataError
from musicvae.training.examples import example_files
from musicvae.training.rank_records import RankError, RankRecord, RankRecords
from tests.support.pages.parsed_page import Page
from tests.support.runs.run_folders import LATENT, begun_run, some_examples, trained_run

HOSTILE = "a<script>alert(1)</script>&\"b'"


def page_of(*runs) -> Page:
    return Page(html_of(*runs))


def html_of(*runs) -> str:
    return report_page([read_run(run, number, run.name) for number, run in enumerate(runs)], runs[0].parent)


def test_one_run_with_everything(tmp_path):
    run = trained_run(tmp_path / "groove", "model.latent=12", "objective.beta=0.5")
    run.log_nonfinite({"step": 41, "window_ids": [1]})
    run.log_nonfinite({"step": 57, "window_ids": [1]})
    run.write_status("running", 100, 200, restarts=2, launch="a1")
    ranks = RankRecords(tmp_path / "groove" / "ranks")
    ranks.write(RankRecord(0, 2, "node-7", 1, 100, "training", "a1", 0, 0.0, 9, False, False))
    for rank, secondary in ((0, True), (1, False)):
        ranks.write_error(
            RankError(
                rank, 2, "node-8", 2, 61, "training", "a1", 0, 0.0, "memory", f"no room {rank}", "", secondary, None
            )
        )
    page = page_of(tmp_path / "groove")
    for words in (
        *("groove running", "100 of 200 steps", "71.00 best −ELBO, step 100", "11 of 12 active units", "2 restarts"),
        *("objective.beta 0.5 0.2", "model.latent 12 256", "c0ffeec0ffee with changes", "torch 2.13.0", "node-7"),
        *("2 steps without a finite gradient: 41, 57", "jobs/train.py --preset demo", "ffffffffffffffff"),
        "rank 1 on node-8 failed at step 61 (memory): no room 1",
        *("validation 5", "sample 3", "python 3.11.9"),
    ):
        assert words in page.text, words
    assert "no room 0" not in page.text, "it only followed from the other"
    grids = [value for name, value in page.attributes if value.startswith("drum grid")]
    assert len(grids) == 3 + 3 + 4
    bars = [value for name, value in page.attributes if name == "class" and value in ("active", "idle")]
    assert bars.count("idle") == 1 + 1, "one in the key"
    assert bars.count("active") == LATENT - 1 + 1


def test_the_newest_examples_are_shown_and_a_damaged_one_is_noted(tmp_path):
    run = trained_run(tmp_path / "run")
    example_files(run.examples)[100].write_bytes(b"torn")
    record = read_run(tmp_path / "run", 0, "run")
    assert record.examples_step == 80
    assert re.search(r"step-00000100\.npz cannot be used", page_of(tmp_path / "run").text)


def test_several_runs_side_by_side(tmp_path):
    paths = [tmp_path / name for name in ("first", "second", "third")]
    for path, overrides, floor in zip(paths, ([], ["objective.beta=1"], ["train.seed=3"]), (75, 70, 80), strict=True):
        trained_run(path, *overrides, floor=float(floor))
    page = page_of(*paths)
    assert "best −ELBO, nats 76.00 71.00 81.00" in page.text
    assert "objective.beta 0.2 1.0 0.2" in page.text
    assert "train.seed 0 0 3" in page.text
    assert "model.latent" not in page.text, "only what differs"
    assert [value for name, value in page.attributes if value == "best"] == ["best"]
    curves = html_of(*paths).count('class="curve"')
    assert curves == 3 * len(("elbo", "loss", "rec", "rec", "kl", "kl", "acc", "units", "norm", "rate", "speed")) + 4
    given = [value for name, value in page.attributes if name == "class" and value == "given"]
    assert len(given) == 3, "each window stands once, whatever the number of runs"
    made = [value for name, value in page.attributes if name == "class" and value.startswith("made")]
    assert made == ["made c0", "made c1", "made c2"] * 3


def test_runs_on_other_shards_have_windows_of_their_own(tmp_path):
    trained_run(tmp_path / "one")
    other = trained_run(tmp_path / "two")
    other.config.write_text(other.config.read_text().replace("f" * 16, "e" * 16))
    page = page_of(tmp_path / "one", tmp_path / "two")
    assert len([value for name, value in page.attributes if value == "given"]) == 4
    assert "shards ffffffffffffffff eeeeeeeeeeeeeeee" in page.text


@pytest.mark.parametrize("state", ["running", "finished", "preempted", "interrupted", "diverged", "failed"])
def test_a_run_in_any_state(tmp_path, state):
    run = trained_run(tmp_path / "run", steps=20)
    run.finish_status(state)
    with run.metrics.open("a") as file:
        file.write('{"step": 21, "lo')
    assert f"run {state}" in page_of(tmp_path / "run").text


def test_a_run_that_has_only_begun(tmp_path):
    begun_run(tmp_path / "run")
    page = page_of(tmp_path / "run")
    assert "run begun" in page.text
    assert "There are no figures yet" in page.text
    begun_run(tmp_path / "other", "train.seed=1")
    assert "train.seed 0 1" in page_of(tmp_path / "run", tmp_path / "other").text


def test_damage_is_noted_and_the_rest_is_shown(tmp_path):
    run = trained_run(tmp_path / "run")
    run.status.write_text("{")
    lines = run.metrics.read_text().splitlines()
    lines[3] = "damaged"
    run.metrics.write_text("\n".join(lines) + "\n")
    run.feel.write_bytes(b"no")
    page = page_of(tmp_path / "run")
    assert "1 lines of metrics.jsonl are damaged" in page.text
    assert "status.json cannot be read" in page.text
    assert "feel.safetensors cannot be used" in page.text
    assert "best −ELBO, step 100" in page.text


def test_an_older_run_lacks_settings_that_are_new(tmp_path):
    run = trained_run(tmp_path / "run")
    config = run.read_config()
    del config["settings"]["train"]["clip"]
    config["settings"]["train"]["forgotten"] = 3
    run.config.write_text(yaml.safe_dump(config))
    page = page_of(tmp_path / "run")
    assert "train.forgotten 3" in page.text


def test_hostile_names_are_text_and_nothing_comes_from_elsewhere(tmp_path):
    run = trained_run(tmp_path / "run")
    run.config.write_text(run.config.read_text().replace("jobs/train.py --preset demo", json.dumps(HOSTILE)[1:-1]))
    record = read_run(tmp_path / "run", 0, HOSTILE)
    html = report_page([record], record.path)
    page = Page(html)
    assert page.loads_nothing()
    assert page.links == ["metrics.jsonl", "config.yaml", "status.json"]
    assert HOSTILE in " ".join(page.words)
    assert not re.search(r"url\(|@import|https?:", html)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no run in"):
        read_run(tmp_path / "absent", 0, "absent")
    (tmp_path / "config.yaml").write_text("run_id: 1\n")
    with pytest.raises(DataError, match="is damaged"):
        read_run(tmp_path, 0, "damaged")


def test_names_are_as_short_as_they_can_be(tmp_path):
    assert names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    assert names([tmp_path / "x" / "a", tmp_path / "y" / "a"]) == ["x/a", "y/a"]
    with pytest.raises(ConfigError, match="given twice"):
        names([tmp_path / "a", tmp_path / "b" / ".." / "a"])


def test_examples_without_windows_of_their_own(tmp_path):
    run = begun_run(tmp_path / "run")
    some_examples(seed=0).save(run.examples, 5)
    page = page_of(tmp_path / "run")
    assert "feel.safetensors cannot be used" in page.text
    assert "KL of each latent dimension" in page.text
