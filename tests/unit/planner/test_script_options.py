"""Options of Python programs in scripts: which are known, which calls are understood, and what is said of the others."""

from pathlib import Path

import pytest

from sflow_ctl.format.python_options import declared_options
from sflow_ctl.planner.judging.script_options import program_calls
from tests.unit.planner.planning import plan_of

PARSER = "import argparse, sys\nparser = argparse.ArgumentParser({})\n"
PROGRAM = PARSER.format("") + (
    "parser.add_argument('--batch-size', type=int)\nparser.add_argument('-l', '--lr')\n"
    "parser.add_argument('--amp', action=argparse.BooleanOptionalAction)\nparser.parse_args()\n"
)
HERE = "/project"


def calls(script: str, **variables: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.file, one.options) for one in program_calls(script, HERE, variables)]


def warnings(
    tmp_path: Path, script: str, program: str = PROGRAM, more: str = "", sweep: str = ""
) -> list[str]:
    (tmp_path / "train.py").write_text(program)
    text = f"{sweep}\nworkflow: {{name: w, tasks: [{{name: train, {more}script: ['{script}']}}]}}"
    plan = plan_of(tmp_path, text, workspace_dir=str(tmp_path), read_text=lambda path: Path(path).read_text())
    return [f"{one.what}; {one.hint}" for one in plan.warnings if one.code == "unknown-args"]


def test_an_unknown_option_is_named_with_the_one_that_was_meant(tmp_path: Path) -> None:
    assert warnings(tmp_path, "python train.py --bathc-size 3") == [
        'task "train": train.py takes no option --bathc-size; did you mean --batch-size?'
    ]


@pytest.mark.parametrize("options", ["--lr 1", "--no-amp", "--batch 3", "--help", "--lr=1", "-l 1", "-- --x"])
def test_known_options_are_none_of_our_business(tmp_path: Path, options: str) -> None:
    assert warnings(tmp_path, f"python train.py {options}") == []


def test_an_option_that_could_be_two_is_unknown(tmp_path: Path) -> None:
    program = PROGRAM + "parser.add_argument('--lr-decay')\n"
    (found,) = warnings(tmp_path, "python train.py --l 3", program)
    assert "takes no option --l" in found


def test_args_of_a_task_are_looked_at_as_they_are_rendered(tmp_path: Path) -> None:
    (found,) = warnings(tmp_path, "python train.py ${{ args }}", more="args: {lr: 1, momentum: 0.9}, ")
    assert "takes no option --momentum; it takes --amp, --batch-size, --lr, --no-amp" in found


def test_a_sweep_says_it_once(tmp_path: Path) -> None:
    sweep = "variables: {lr: 0}\nsweep: {axes: {lr: [1, 2, 3]}}"
    script = "python train.py --rate ${{ lr }}"
    assert len(warnings(tmp_path, script, sweep=sweep)) == 1


@pytest.mark.parametrize(
    "more",
    [
        "parser.parse_known_args()",
        "helpers.add_options(parser)",
        "parser.add_argument(*names)",
        "parser.add_argument('rest', nargs=argparse.REMAINDER)",
        "parser.add_argument('rest', nargs='...')",
        "words = list(sys.argv)",
        "sys.argv[1:] = ['--other']",
    ],
)
def test_a_program_that_may_take_more_is_not_judged(more: str) -> None:
    assert declared_options(PROGRAM).is_complete
    assert not declared_options(f"{PROGRAM}{more}\n").is_complete


@pytest.mark.parametrize(
    "options", ["parents=[base]", "prefix_chars='+'", "fromfile_prefix_chars='@'", "**more"]
)
def test_a_parser_with_options_from_elsewhere_is_not_judged(options: str) -> None:
    assert not declared_options(PARSER.format(options)).is_complete


@pytest.mark.parametrize("text", ["import click\n", "this is no Python", "x = 1\n"])
def test_a_file_without_a_parser_is_not_judged(text: str) -> None:
    found = declared_options(text)
    assert not found.is_complete
    assert found.takes("--anything")


def test_a_parser_handed_to_a_function_of_the_file_is_judged() -> None:
    program = (
        f"def more(parser):\n    parser.add_argument('--seed')\n{PROGRAM}more(parser)\nmain(sys.argv[1:])\n"
    )
    found = declared_options(program)
    assert found.is_complete
    assert found.takes("--seed")


def test_a_parser_that_takes_no_short_forms_refuses_them() -> None:
    found = declared_options(PROGRAM.replace("ArgumentParser()", "ArgumentParser(allow_abbrev=False)"))
    assert not found.takes("--batch")
    assert found.takes("--batch-size")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("python train.py --a 1 --b=2", [("/project/train.py", ("--a", "--b"))]),
        ("./train.py --a", [("/project/train.py", ("--a",))]),
        ("exec python3.11 -u -X dev sub/train.py --a", [("/project/sub/train.py", ("--a",))]),
        ("X=1 python /else/train.py --a", [("/else/train.py", ("--a",))]),
        ("torchrun --nproc-per-node 2 train.py --a", [("/project/train.py", ("--a",))]),
        ("if python train.py --a; then echo --b; fi", [("/project/train.py", ("--a",))]),
        ("python a.py --a && python b.py --b", [("/project/a.py", ("--a",)), ("/project/b.py", ("--b",))]),
        ("python a.py --a | tee --append x", [("/project/a.py", ("--a",))]),
        ("python a.py --a > out 2>&1", [("/project/a.py", ("--a",))]),
        (
            "python a.py \\\n  --a\npython b.py --b",
            [("/project/a.py", ("--a",)), ("/project/b.py", ("--b",))],
        ),
        ("cd sub\npython a.py --a", [("/project/sub/a.py", ("--a",))]),
        ('cd "$SFLOW_WORKSPACE_DIR"; python a.py --a', [("/w/a.py", ("--a",))]),
        ('python "${ROOT}/a.py" --a', [("/r/a.py", ("--a",))]),
        ('args=(--a 1)\nargs+=(--b)\npython a.py "${args[@]}"', [("/project/a.py", ("--a", "--b"))]),
        ("python a.py --a-$name 'it --b'", [("/project/a.py", ())]),
    ],
)
def test_programs_of_a_script(script: str, expected: list[tuple[str, tuple[str, ...]]]) -> None:
    assert calls(script, SFLOW_WORKSPACE_DIR="/w", ROOT="/r") == expected


@pytest.mark.parametrize(
    "script",
    [
        "python -m pytest a.py --a",
        "python -c 'x' a.py --a",
        "pytest a.py --a",
        "cd $SOMEWHERE\npython a.py --a",
        "cd\npython a.py --a",
        "python $(which a.py) --a",
        "python *.py --a",
        "cat <<END\npython a.py --a\nEND",
        "echo 'python a.py --a",
        "X=1",
        "",
    ],
)
def test_what_a_script_does_not_tell_is_not_judged(script: str) -> None:
    assert calls(script) == []


def test_a_program_that_is_not_there_yet_is_not_judged(tmp_path: Path) -> None:
    assert warnings(tmp_path, "python other.py --x") == []
