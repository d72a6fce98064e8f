"""Completion in shells."""

import shutil
import subprocess

import pytest

from jaxdet import __main__ as commands
from jaxdet import completion

# Words before the one that is completed, the word, and what must be among the answers.
CASES = [
    ("", "pred", "predict"),
    ("predict", "--rend", "--render"),
    ("prepare", "fl", "flir"),
    ("prepare gen1", "--so", "--source"),
    ("export", "--noth", ""),
]


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("shell") / "jaxdet.bash"
    path.write_text(completion.script("bash"))
    return path


@pytest.mark.parametrize(("before", "word", "wanted"), CASES)
def test_bash_completes_commands_and_flags(script, before, word, wanted):
    words = ["jaxdet", *before.split(), word]
    # As bash does it: the words, the place, and the function with command, word and the word before.
    lines = [
        f"source {script}",
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}",
        f"_shtab_jaxdet jaxdet {word} {words[-2]}",
        'echo "${COMPREPLY[@]}"',
    ]
    shell = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert wanted in shell.stdout.split() if wanted else not shell.stdout.strip()


def test_every_command_and_flag_is_in_the_script(script):
    text = script.read_text()
    for words, flags in commands.flags_of_all().items():
        for name, _, _ in flags.listed():
            assert f"--{name}" in text, (words, name)


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_shell_has_a_script(shell, capsys):
    assert completion.main([shell]) == 0
    text = capsys.readouterr().out
    assert "evaluate" in text
    if shell in ("bash", "zsh") and shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True)
