"""Local servers run this package and nothing of the user's folder; their last words reach the user."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

import onnxpuma
from onnxpuma.errors import PeerLostError, TransportError
from onnxpuma.mpc.ring import native
from onnxpuma.roles.local import isolated
from onnxpuma.roles.local.cluster import LocalCluster

pytestmark = pytest.mark.usefixtures("own_interpreters")

ROOT = Path(onnxpuma.__file__).parent.parent
STRAY = ("random", "json", "logging", "numpy", "onnx", "onnxruntime", "zmq", "tomlkit", "sitecustomize")


@pytest.fixture
def stray(tmp_path: Path) -> Path:
    """A folder with modules that leave a trace when they run, and with a package of our name."""
    folder = tmp_path / "stray"
    (folder / "onnxpuma").mkdir(parents=True)
    trace = "from pathlib import Path; Path({!r}).touch(); raise SystemExit('a stray module runs')"
    for name in (*STRAY, "onnxpuma/__init__"):
        (folder / f"{name}.py").write_text(trace.format(str(tmp_path / "ran")))
    return folder


def test_a_stray_module_in_the_users_folder_is_not_run(stray: Path, model_dir: Path) -> None:
    """The parent has the folder on its path in every possible way, once its own modules are loaded."""
    script = f"""
        import os, sys
        sys.path[0] = {str(ROOT)!r}
        from onnxpuma.roles.local.cluster import LocalCluster
        sys.path[:0] = ["", os.getcwd(), "."]
        os.environ["PYTHONPATH"] = os.getcwd()
        LocalCluster({str(model_dir)!r}).close()
    """
    done = subprocess.run(
        [sys.executable, "-B", "-c", textwrap.dedent(script)],
        cwd=stray,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert not (stray.parent / "ran").exists()


def test_python_m_in_a_folder_of_stray_modules_runs_none_of_them(stray: Path) -> None:
    """A package of our name would run: Python finds it there before any line of ours."""
    (stray / "onnxpuma" / "__init__.py").unlink()
    (stray / "onnxpuma").rmdir()
    done = subprocess.run(
        [sys.executable, "-m", "onnxpuma", "--version"],
        cwd=stray,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert onnxpuma.__version__ in done.stdout
    assert not (stray.parent / "ran").exists()


def test_a_checkout_is_not_run_in_place_of_the_package_that_is_loaded(tmp_path: Path) -> None:
    other = tmp_path / "checkout" / "onnxpuma"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise SystemExit('the other package')")
    (tmp_path / "empty").mkdir()
    with (tmp_path / "log").open("wb") as log:
        before = Path.cwd()
        os.chdir(tmp_path / "checkout")
        try:
            process = isolated.start("onnxpuma.cli", [], tmp_path / "empty", log)
        finally:
            os.chdir(before)
    said, _ = process.communicate(timeout=60)
    assert b"the other package" not in (tmp_path / "log").read_bytes() + said
    assert b"keygen" in (tmp_path / "log").read_bytes() + said


@pytest.mark.parametrize("by_name", [False, True])
def test_of_the_path_only_the_users_own_folders_are_left_out(
    by_name: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """python -m runs code that lies among installed modules."""
    here, there, installed = (tmp_path / name for name in ("here", "there", "installed"))
    for folder in (here, there, installed):
        folder.mkdir()
    monkeypatch.chdir(here)
    main = ModuleType("__main__")
    main.__file__ = str(there / "script.py")
    main.__spec__ = ModuleSpec("script", None) if by_name else None
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "path", ["", ".", str(here), str(there), "relative", str(installed)])
    assert isolated._paths() == [str(there)] * by_name + [str(installed)]


def test_servers_run_in_an_empty_folder_of_their_own(cluster: LocalCluster) -> None:
    for pid in cluster.pids:
        try:
            place = Path(os.readlink(f"/proc/{pid}/cwd"))
        except PermissionError:  # only root sees this of a secluded process
            assert os.getuid() != 0
            continue
        assert place.is_relative_to(cluster.folder)
        assert not list(place.iterdir())
    assert stat.S_IMODE(cluster.folder.stat().st_mode) == 0o700
    for name in ("alice", "bob", "carol", "client"):
        assert stat.S_IMODE((cluster.folder / f"{name}.secret").stat().st_mode) == 0o600


def test_a_model_named_from_the_users_folder_is_found(
    model_path: Path, feed: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model_path.parent)
    with onnxpuma.InferenceSession(model_path.name) as session:
        assert session.run(["y"], feed)[0].shape == (2, 8)


def test_servers_without_the_kernel_are_said_to_be_slow(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if this process has the kernel."""
    monkeypatch.setenv("ONNXPUMA_NO_NATIVE", "1")
    monkeypatch.setattr(native, "_warned", False)
    with pytest.warns(RuntimeWarning, match="numpy computes ring products, many times slower"):
        LocalCluster(model_dir).close()


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes servers run this line of Python instead of their own code."""

    def die(line: str) -> None:
        start = isolated._START.replace("module, init", f"{line}\nmodule, init", 1)
        monkeypatch.setattr(isolated, "_START", start)

    return die


def test_the_last_words_of_a_dying_server_are_shown(model_dir: Path, dying: Callable[[str], None]) -> None:
    dying("import no_such_module_here")
    with pytest.raises(PeerLostError) as raised:
        LocalCluster(model_dir)
    assert "ended while starting, exit status 1: ModuleNotFoundError" in raised.value.message
    assert "no_such_module_here" in raised.value.message
    assert "Traceback" in raised.value.hint


def test_a_server_that_is_killed_names_the_signal(model_dir: Path, dying: Callable[[str], None]) -> None:
    dying(f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})")
    with pytest.raises(PeerLostError, match="ended while starting, killed by SIGKILL") as raised:
        LocalCluster(model_dir)
    assert raised.value.hint


def test_last_words_are_no_commands_to_the_terminal(model_dir: Path, dying: Callable[[str], None]) -> None:
    dying("sys.exit('\\x1b[2J\\x1b]0;title\\x07 gone')")
    with pytest.raises(PeerLostError) as raised:
        LocalCluster(model_dir)
    assert "gone" in raised.value.message
    assert "\x1b" not in str(raised.value)
    assert "\x07" not in str(raised.value)


def test_a_server_that_dies_later_on_is_said_to_be_dead(model_dir: Path, feed: dict[str, object]) -> None:
    with LocalCluster(model_dir) as cluster, cluster.client() as client:
        client.run(feed)
        os.kill(cluster.pids[1], signal.SIGKILL)
        with pytest.raises(TransportError, match="party 1 has ended, killed by SIGKILL") as raised:
            client.run(feed, timeout=10)
        assert "is done after" in raised.value.hint
