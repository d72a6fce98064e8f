"""Wrong flags and configs: one line that names what is wrong, and status 1."""

import subprocess
import sys

import pytest

from jaxdet import cli
from jaxdet.errors import InputError

CONFIG = """
from jaxdet import config as c

def get_config(arg="b1"):
    c.parse(arg, ("b1", "b3"))
    cfg = c.base()
    cfg.optim = c.adamw(lr=1e-3, weight_decay=0.0)
    return cfg
"""


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--config={tmp}/good.py:b9"], "'b9' is not one of b1, b3"),
        (["--config={tmp}/none.py"], "none.py: no such file"),
        (["--config={tmp}/raises.py"], "out of order"),
        (["--config={tmp}/key.py"], "key.py, line 1: KeyError 'gone'"),
        (["--config={tmp}/empty.py"], "defines no get_config()"),
        (["--config={tmp}/syntax.py"], "syntax.py, line 1"),
        (["--config={tmp}/good.py", "--config.optim.lrr=1"], "no key 'lrr' (did you mean 'lr'?)"),
        (["--config={tmp}/good.py", "--config.nothing.lr=1"], "no key 'nothing'"),
        (["--config={tmp}/good.py", "--config.optim.lr=fast"], "--config.optim.lr=fast"),
        (["--number=x"], "--number=x"),
        (["--nothing=1"], "'nothing'"),
        (["--numbr=1"], "did you mean --number?"),
        (["mine.raw"], "'mine.raw' belongs to no flag"),
        (["--config.optim.lr=1"], "without --config"),
        (["--config={tmp}/good.py", "--config.optim=1"], "a block of"),
        (["--config={tmp}/other.py"], "returns a dict"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, capsys, flags, said):
    (tmp_path / "good.py").write_text(CONFIG)
    (tmp_path / "raises.py").write_text("raise ValueError('out of order')")
    (tmp_path / "key.py").write_text("{}['gone']")
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "other.py").write_text("def get_config():\n    return {}")
    (tmp_path / "syntax.py").write_text("def get_config(:")

    def define(flags):
        flags.config_file()
        flags.integer("number", 1, "a number")

    main = cli.Command(define, lambda flags: pytest.fail("it ran"), "usage")
    assert main([flag.format(tmp=tmp_path) for flag in flags]) == 1
    captured = capsys.readouterr()
    assert not captured.out
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_a_right_config_with_an_override_reaches_the_command(tmp_path):
    (tmp_path / "good.py").write_text(CONFIG)
    seen = []
    main = cli.Command(lambda flags: flags.config_file(), lambda flags: seen.append(flags.config), "usage")
    assert main([f"--config={tmp_path}/good.py:b3", "--config.optim.lr=0.5"]) == 0
    assert seen[0].optim.lr == 0.5


def test_a_flag_is_true_alone_and_false_with_no_before_it():
    seen = []

    def define(flags):
        flags.boolean("fast", False, "")
        flags.boolean("keep", True, "")

    main = cli.Command(define, lambda flags: seen.append((flags.fast, flags.keep)), "usage")
    for argv in ([], ["--fast"], ["--fast=false", "--nokeep"], ["--fast=true", "--keep=true"]):
        assert main(argv) == 0
    assert seen == [(False, True), (True, True), (False, False), (True, True)]


def test_control_characters_of_an_error_do_not_reach_the_terminal(capsys):
    def run(_):
        raise InputError("a name \x1b[2J with an escape")

    assert cli.Command(lambda flags: None, run, "usage")([]) == 1
    assert capsys.readouterr().err == "error: a name \\x1b[2J with an escape\n"


def test_a_closed_pipe_is_no_failure():
    script = (
        "import sys; from jaxdet import cli; "
        "sys.exit(cli.Command(lambda f: None, lambda f: [print('line') for _ in range(10**6)], '')())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == b"line\n"
        child.stdout.close()
        assert (child.wait(60), child.stderr.read()) == (0, b"")


def test_output_that_nobody_reads_or_can_read_ends_with_status_0():
    say = "import sys, time; from jaxdet import cli; time.sleep(0.2); cli.say('x' * 100_000)"
    command = [sys.executable, "-c", say]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
    run = "import sys; from jaxdet import cli; sys.exit(cli.Command(lambda f: None, lambda f: None, 'x')([]))"
    done = subprocess.run(["sh", "-c", f'{sys.executable} -c "{run}" >&-'], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("kind", ["a file in its place", "no folder can be made"])
def test_a_cache_that_cannot_be_written_is_one_line_and_no_fault(tmp_path, monkeypatch, caplog, kind):
    place = tmp_path / "file"
    place.write_text("")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(place if kind.startswith("a file") else place / "x"))
    updates = {}
    monkeypatch.setattr("jax.config.update", updates.__setitem__)
    assert cli.Command(lambda flags: None, lambda flags: None, "")([]) == 0
    assert updates["jax_enable_compilation_cache"] is False
    (line,) = [line for line in caplog.messages if "JAX_COMPILATION_CACHE_DIR" in line]
    assert "compiled at every start" in line
