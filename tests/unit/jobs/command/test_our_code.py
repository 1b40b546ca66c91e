"""What all processes of a job must share: every package of ours, Python, and the packages that a job names."""

import platform
from pathlib import Path

import pytest

from cluster.code import CODE_PACKAGES, Message, code_hash
from cluster.errors import TargetError


def test_an_edit_of_any_package_is_another_code(tmp_path):
    hashes = {code_hash(tmp_path)}
    for name in CODE_PACKAGES:
        (tmp_path / name).mkdir()
        Path(tmp_path / name / "module.py").write_text("", encoding="utf-8")
        code_hash.cache_clear()
        hashes.add(code_hash(tmp_path))
    (tmp_path / "jobs" / "preset.yaml").write_text("", encoding="utf-8")
    code_hash.cache_clear()
    hashes.add(code_hash(tmp_path))
    assert len(hashes) == 2 + len(CODE_PACKAGES)


def test_what_does_not_travel_is_not_compared(tmp_path):
    (tmp_path / "jobs").mkdir()
    before = code_hash(tmp_path)
    for name in ("secrets.py", "notes.txt"):
        (tmp_path / "jobs" / name).touch()
    code_hash.cache_clear()
    assert code_hash(tmp_path) == before


def test_a_message_is_opened_only_by_the_same_code_python_and_packages(monkeypatch):
    message = Message.of({"a": 1}, "numpy")
    assert message.open() == {"a": 1}
    assert Message({**message.versions, "numpy": "0.1"}, message.content).differences().startswith("numpy ")
    absent = Message({**message.versions, "no-such-package": "1.0"}, message.content)
    assert absent.differences() == "no-such-package missing, but 1.0 on the driver"
    monkeypatch.setattr(platform, "python_version_tuple", lambda: ("3", "1", "4"))
    other = Message({**message.versions, "code": "0123456789ab"}, b"never read")
    with pytest.raises(TargetError, match="has other versions than the driver") as caught:
        other.open()
    found = caught.value.details["found"]
    assert f"code {code_hash()}, but 0123456789ab on the driver" in found
    assert f"python 3.1, but {message.versions['python']} on the driver" in found
