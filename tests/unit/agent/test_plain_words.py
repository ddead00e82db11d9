"""Which scripts are started without bash, and with which variables."""

import pytest

from sflow_agent.launch.plain_words import MAX_CHARACTERS, is_obeyed, passed_on, plain_words


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("true", ("true",)),
        ("false\n", ("false",)),
        (
            "python train.py --lr=0.1 --on a,b:c@d%e+f",
            ("python", "train.py", "--lr=0.1", "--on", "a,b:c@d%e+f"),
        ),
        (" \tsleep  5\t\n", ("sleep", "5")),
        ("./run.sh -- -x", ("./run.sh", "--", "-x")),
        ("/usr/bin/true --help", ("/usr/bin/true", "--help")),
    ],
)
def test_one_command_of_plain_words_needs_no_bash(script: str, words: tuple[str, ...]) -> None:
    assert plain_words(script) == words


@pytest.mark.parametrize(
    "script",
    [
        "",
        "\n",
        "true --help",
        "false 1",
        "a; b",
        "a\nb",
        "\nsleep 5",
        "sleep 5\n\n",
        "a && b",
        "a | b",
        "a &",
        "a > b",
        "a 2>&1",
        "a < b",
        "echo a",
        "printf a",
        "test -f a",
        "[ -f a ]",
        "kill 1",
        "cd /",
        "exec a",
        "time a",
        "! a",
        "if a",
        "-x",
        "+x a",
        "A=1 b",
        "A+=1",
        "%1",
        "a $b",
        "a 'b'",
        'a "b"',
        "a \\b",
        "a `b`",
        "a ~",
        "a b*",
        "a b?",
        "a [b]",
        "a {b,c}",
        "a (b)",
        "a # b",
        "a ^b",
        "a\r",
        "a\u00a0b",
        "a\u2003b",
        "é",
        "a\0b",
        "a " + "b" * MAX_CHARACTERS,
    ],
)
def test_everything_else_is_bashs(script: str) -> None:
    assert plain_words(script) is None


@pytest.mark.parametrize(
    "variables",
    [
        {"BASH_ENV": "/etc/init.sh"},
        {"BASH_FUNC_true%%": "() { :; }"},
        {"SHELLOPTS": "xtrace"},
        {"BASHOPTS": "extdebug"},
        {"POSIXLY_CORRECT": ""},
        {"IFS": "x"},
        {"LC_ALL": "de_DE.UTF-8"},
    ],
)
def test_bash_is_started_for_a_variable_that_it_obeys(variables: dict[str, str]) -> None:
    assert not is_obeyed({"PATH": "/bin", "MY_BASH": "1", "LC_ALL": "C"})
    assert is_obeyed({"PATH": "/bin", **variables})


def test_a_program_gets_the_environment_that_bash_would_give_it() -> None:
    inherited = {"A": "1", "PS1": "$ ", "PS2": "> ", "PS3": "? ", "OLDPWD": "/gone", "_": "/bin/agent"}
    passed = passed_on(inherited, {"_": "/bin/a", "PWD": "/home", "OLDPWD": None, "HOME": None})
    assert passed == {"A": "1", "PS3": "? ", "_": "/bin/a", "PWD": "/home", "SHLVL": "0"}
    assert passed_on({"SHLVL": "7"}, {}) == {"SHLVL": "7"}


@pytest.mark.parametrize("level", ["", "x", "-1", "100", "07", "+1", " 1", "²", "٣"])
def test_a_level_of_shells_that_bash_would_change_is_bashs(level: str) -> None:
    assert passed_on({"SHLVL": level}, {}) is None
