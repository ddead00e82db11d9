"""Plans that were valid and failed in the run, and values that planning read wrongly: each was reported as a fault."""

from pathlib import Path

import pytest

from protocol.messages.checks import TcpCheck
from sflow_ctl.batch.slurm_time import slurm_time
from sflow_ctl.format.expressions.templates import EVALUATOR
from sflow_ctl.plan.deferred import DeferredValues, filled_in
from sflow_ctl.planner.numbers import as_int, as_seconds
from sflow_ctl.runtime.record.plan_file import decode_plan, encode_plan
from tests.unit.planner.planning import findings_of, plan_of

JOB = frozenset(("account", "partition"))
ONE = "workflow:\n  name: w\n  tasks:\n    - name: t\n      script: [x]\n      "


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("3-00:00", 259200), ("1-12:30", 131400), ("0-00:02", 120), ("2-06", 194400), ("1-00:00:05", 86405), ("2:30", 150)],
)  # fmt: skip
def test_public_03_days_and_hours_are_as_slurm_reads_them(written: str, seconds: int) -> None:
    assert as_seconds(written) == seconds
    assert slurm_time(written) == written


def test_public_03_every_field_of_time_reads_days(tmp_path: Path) -> None:
    limits = "workflow:\n  timeout: 3-00:00\n  stop_timeout: 0-01\n  stop_before_end: 10m\n"
    plan = plan_of(tmp_path, ONE.replace("workflow:\n", limits) + "timeout: 1-12:30\n")
    assert (plan.timeout_s, plan.stop_timeout_s, plan.tasks[0].timeout_s) == (259200, 3600, 131400)
    assert plan.stop_before_end_s == 600


ROUTER = """variables: {N: %d}
workflow:
  name: w
  tasks:
    - {name: etcd, script: [x]}
    - {name: prefill, replicas: {count: "${{ N }}"}, depends_on: [etcd], ports: {http: 1}, script: [x]}
    - name: router
      depends_on: [prefill]
      files:
        r.conf: "begin {%% for e in task.prefill.endpoints.http %%}server {{ e }};{%% endfor %%} end"
      script: ['echo ${{ task.prefill | length }}']
"""


def test_public_18_a_task_may_have_no_replicas(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ROUTER % 0)
    assert [task.name for task in plan.tasks] == ["etcd", "router"]
    router = plan.tasks[1]
    assert [dependency.task for dependency in router.depends_on] == ["etcd"]
    assert router.uses_ports == ()
    assert router.script == "echo 0"
    assert router.files[0].names is not None  # rendered once ports are known: a loop over nothing
    assert [task.name for task in plan_of(tmp_path, ROUTER % 1).tasks] == ["etcd", "prefill_0", "router"]


def test_public_18_a_file_with_statements_on_our_names_is_a_template(
    tmp_path: Path,
) -> None:
    text = "workflow: {name: w, tasks: [{name: a, script: [x], files: {f: '%s'}}]}\nvariables: {HOSTS: [n1, n2]}\n"
    ours = text % "{%% for host in variables.HOSTS %%}server ${{ host }};{%% endfor %%}".replace("%%", "%")
    assert [file.content for file in plan_of(tmp_path, ours).tasks[0].files] == ["server n1;server n2;"]
    chat = "{% for message in messages %}{{ message.content }}{% endfor %}"
    assert [file.content for file in plan_of(tmp_path, text % chat).tasks[0].files] == [chat]
    bare = plan_of(tmp_path, text % "{% for h in variables.HOSTS %}{{ h }}{% endfor %}")
    (warning,) = [one for one in bare.warnings if one.code == "bare-braces"]
    assert (warning.code, warning.hint) == ("bare-braces", "write ${{ h }}")


def test_public_18_a_failure_of_no_replica_and_a_run_of_nothing_are_refused(tmp_path: Path) -> None:
    nothing = "workflow: {name: w, tasks: [{name: a, replicas: {count: 0}, script: [x]}%s]}\n"
    assert [one.code for one in findings_of(tmp_path, nothing % "")] == ["nothing-to-run"]
    branch = ", {name: b, script: [x], depends_on: [{task: a, until: failed}]}"
    (finding,) = findings_of(tmp_path, nothing % branch)
    assert finding.code == "never-runs"
    assert '"b"' in finding.what
    (finding,) = findings_of(tmp_path, (nothing % "").replace("count: 0", "count: -1"))
    assert "replicas.count must be at least 0" in finding.what


def test_n4_an_empty_list_of_nodes_is_refused(tmp_path: Path) -> None:
    (finding,) = findings_of(tmp_path, ONE + "resources: {nodes: {indices: []}}\n")
    assert finding.what == 'task "t": resources.nodes.indices is empty'
    assert finding.where is not None
    assert "w.yaml:7" in finding.where


def test_n6_a_node_without_gpus_is_not_a_fault(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ONE + "resources: {gpus: {count: 0}}\n")
    assert plan.tasks[0].placement.gpus == ()
    assert "CUDA_VISIBLE_DEVICES" not in plan.tasks[0].env
    backend = "backends: {cpu: {type: local, nodes: 2, gpus_per_node: 0}}\n"
    assert [node.gpus for node in plan_of(tmp_path, backend + ONE).nodes] == [0, 0]
    (finding,) = findings_of(tmp_path, backend + ONE + "resources: {gpus: {count: 1}}\n")
    assert finding.code == "gpus-do-not-fit"
    assert "have none" in finding.what


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("resources: {gpus: {count: -1}}", "resources.gpus.count"), ("resources: {nodes: {count: 0}}", "resources.nodes.count"),
        ("ports: {http: 0}", "ports.http"), ("timeout: soon", "timeout"), ("retries: {count: x, interval: 1}", "retries.count"),
        ("retries: {count: 1, interval: 5S}", "retries.interval"), ("success_exit_codes: [x]", "success_exit_codes.0"),
        ("restart: {policy: always, max: -1}\n      kind: service", "restart.max"),
    ],
)  # fmt: skip
def test_n6_and_l8_a_message_names_its_field(tmp_path: Path, field: str, name: str) -> None:
    (finding,) = findings_of(tmp_path, ONE + field + "\n")
    assert finding.what.startswith(f'task "t": {name} must '), finding.what


def test_l8_a_backends_message_names_its_field(tmp_path: Path) -> None:
    (finding,) = findings_of(tmp_path, "backends: {pool: {type: local, gpus_per_node: -1}}\n" + ONE)
    assert finding.what == 'backend "pool": gpus_per_node must be at least 0, is -1'
    assert as_int("2.0") == 2


def test_public_19_names_of_replicas_fit_a_file_system(tmp_path: Path) -> None:
    long = " ".join(f"--flag-{number}=value" for number in range(30))
    text = f'variables: {{A: {{value: a, domain: [a, "{long}", "{long}!"]}}}}\n{ONE}replicas: {{variables: [A]}}\n'
    names = [task.name for task in plan_of(tmp_path, text).tasks]
    assert len(set(names)) == 3
    assert names[0] == "t_a"
    for name in names:
        assert len(f"{name}/{name}.attempt-1000.rank-100000.log".partition("/")[2].encode()) <= 255


@pytest.mark.parametrize(
    ("script", "remedy"),
    [
        ("${{ tp-size }}", 'variables["tp-size"]'), ("${{ variables.tp-size }}", 'variables["tp-size"]'),
        ("${{ 2 * tp-size + 1 }}", 'variables["tp-size"]'),
        ("${{ task.vllm-server.nodes[0].name }}", 'task["vllm-server"]'),
        ("${{ artifacts.my-model.path }}", 'artifacts["my-model"]'),
    ],
)  # fmt: skip
def test_public_22_a_hyphen_in_an_expression_is_explained(tmp_path: Path, script: str, remedy: str) -> None:
    text = (
        'variables: {tp: 8, size: 2, tp-size: 4}\nartifacts: {my-model: {uri: "fs:///m"}}\n'
        "workflow:\n  name: w\n  tasks:\n    - {name: vllm-server, script: [x]}\n"
        f"    - {{name: c, script: ['echo {script}']}}\n"
    )
    (finding,) = findings_of(tmp_path, text)
    assert finding.code == "hyphen-in-name"
    assert finding.hint is not None
    assert remedy in finding.hint
    assert finding.where is not None
    assert "w.yaml:8" in finding.where


@pytest.mark.parametrize(
    ("script", "printed"),
    [('${{ variables["tp-size"] }}', "4"), ("${{ tp - size }}", "6"), ('${{ "tp-size" }}', "tp-size"), ("${{ tp-1 }}", "7")],
)  # fmt: skip
def test_public_22_other_hyphens_are_as_before(tmp_path: Path, script: str, printed: str) -> None:
    text = f"variables: {{tp: 8, size: 2, tp-size: 4}}\n{ONE}".replace("[x]", f"['{script}']")
    assert plan_of(tmp_path, text).tasks[0].script == printed


def test_public_24_variables_that_a_shell_sets_itself_are_warned_of(tmp_path: Path) -> None:
    variables = "variables: {SECONDS: 30, RANDOM: 42, UID: 7, IFS: x, PWD: /x}\n"
    warnings = plan_of(tmp_path, variables + ONE + "variables: {PPID: 1}\n").warnings
    shell = [one for one in warnings if one.code == "shell-variable"]
    assert [one.what.split('"')[1] for one in shell] == ["RANDOM", "IFS", "PWD", "PPID"]
    assert all("w.yaml:" in str(one.where) and one.hint for one in shell)


def test_public_24_a_variable_that_a_shell_cannot_name_is_warned_of(tmp_path: Path) -> None:
    text = "variables: {a-b: 1, c.d: 2, e: 3, f-g: 4}\nworkflow:\n  name: w\n  tasks:\n"
    script = "['echo $a-b', 'echo ${c.d} $e $f', 'echo ${{ variables[\"f-g\"] }}']"
    warnings = plan_of(tmp_path, f"{text}    - {{name: t, script: {script}}}\n").warnings
    assert [one.what for one in warnings] == [
        'task "t": a shell does not read $a-b as the variable "a-b"',
        'task "t": a shell does not read $c.d as the variable "c.d"',
    ]
    assert [str(one.where).partition("  ")[2] for one in warnings] == [
        "workflow.tasks[0].script[0]", "workflow.tasks[0].script[1]",
    ]  # fmt: skip


def test_public_22_hyphens_are_looked_for_beside_numbers_of_any_spelling(tmp_path: Path) -> None:
    """A version such as 1.10 beside a name with a hyphen was an internal error."""
    text = (
        "variables: {a-b: 1, V: 1.10, W: [2.50, {k: 1_0}], D: {value: 1.0, domain: [1.0]}}\n"
        "artifacts: {M: {uri: 'file://m', content: x}}\nbackends: {p: {type: local, nodes: 1}}\n"
        "workflow:\n  name: w\n  tasks:\n    - {name: t, variables: {X: 1.20}, script: ['cat $M ${{ V }} ${{ %s }}']}\n"
    )
    assert plan_of(tmp_path, text % "W[0]").tasks
    (finding,) = findings_of(tmp_path, text % "a-b")
    assert finding.code == "hyphen-in-name"


@pytest.mark.parametrize(
    ("line", "is_warned"),
    [
        ("echo x > /dev/stderr", True),
        ("echo x 2>/dev/stdout", True),
        ("exec &> /proc/self/fd/1", True),
        ('echo x > "/dev/fd/2"', True),
        ("echo x >| /dev/stdout", True),
        ("echo x | tee /dev/stderr", True),
        ("echo x >> /dev/stderr", False),
        ("echo x | tee -a /dev/stderr", False),
        ("echo x >&2", False),
        ("echo x > /dev/null", False),
        ("cat < /dev/stdin", False),
    ],
)
def test_public_01_a_redirection_that_empties_a_direct_log_is_warned_of(
    line: str, is_warned: bool, tmp_path: Path
) -> None:
    for log, expected in (("direct", is_warned), ("piped", False)):
        text = f"workflow: {{name: w, tasks: [{{name: a, log: {log}, script: ['{line}']}}]}}\n"
        assert [one.code for one in plan_of(tmp_path, text).warnings] == ["log-truncated"] * expected


TORCH = "backends: {pool: {type: local, nodes: %d}}\n" + ONE + "launcher: torchrun\n"


def test_l7_standalone_is_refused_on_several_nodes(tmp_path: Path) -> None:
    script = "['torchrun --nproc-per-node 2 --standalone train.py']"
    (finding,) = findings_of(tmp_path, (TORCH % 2).replace("[x]", script))
    assert finding.code == "launcher"
    assert "--standalone" in finding.what
    assert "2 nodes" in finding.what
    plan_of(tmp_path, (TORCH % 1).replace("[x]", script))
    plan_of(tmp_path, (TORCH % 2).replace("[x]", "['torchrun train.py && run --standalone']"))


def test_public_26_too_large_scripts_and_variables_are_refused(tmp_path: Path) -> None:
    big = ONE.replace("[x]", """['echo small', 'echo ${{ "x" * 140000 }}']""")
    (finding,) = findings_of(tmp_path, big)
    assert finding.code == "script-too-large"
    assert "140" in finding.what
    assert finding.where is not None
    assert "script[1]" in finding.where
    (finding,) = findings_of(tmp_path, """variables: {BIG: '${{ "é" * 70000 }}'}\n""" + ONE)
    assert finding.code == "script-too-large"
    assert "$BIG has 140004 bytes" in finding.what
    plan_of(tmp_path, big.replace("140000", "130000"))
    many = "variables:\n" + "".join(f"  V{n}: '{'y' * 120000}'\n" for n in range(60))
    (finding,) = findings_of(tmp_path, many + ONE)
    assert "together has 72" in finding.what


def test_r18_files_that_cannot_travel_are_refused(tmp_path: Path) -> None:
    files = "".join(f"        f{number}: '${{{{ \"x\" * 900000 }}}}'\n" for number in range(10))
    (finding,) = findings_of(tmp_path, f"{ONE}files:\n{files}")
    assert finding.code == "files-too-large"
    assert finding.where is not None
    assert "files" in finding.where
    plan_of(tmp_path, f"{ONE}files:\n" + "".join(files.splitlines(keepends=True)[:9]))


def test_public_03_a_time_limit_of_0_is_none(tmp_path: Path) -> None:
    text = "workflow: {name: w, timeout: %s, tasks: [{name: a, timeout: %s, script: [x]}]}\n"
    for limit in ("0", "0s", "'00:00'"):
        plan = plan_of(tmp_path, text % (limit, limit))
        assert (plan.timeout_s, plan.tasks[0].timeout_s) == (None, None)
    plan = plan_of(tmp_path, text % ("1", "0.5"))
    assert (plan.timeout_s, plan.tasks[0].timeout_s) == (1.0, 0.5)


def test_public_04_a_late_expression_calculates_with_numbers(tmp_path: Path) -> None:
    """They were texts: `2 * A` was `1.501.50`."""
    plan = plan_of(
        tmp_path,
        "variables: {A: 1.50, L: [2.50]}\nworkflow:\n  name: w\n  tasks:\n"
        "    - {name: a, script: [x], outputs: [{pattern: 'n={n:d}'}]}\n"
        "    - {name: b, depends_on: [a], script: ['${{ A }} ${{ task.a.outputs.n * A }} ${{ L[0] + task.a.outputs.n }}']}\n",
    )
    values = DeferredValues(plan, {"a": {"n": 2}}, lambda _: None, EVALUATOR)
    filled = filled_in(plan.tasks[1], values.rendered(plan.tasks[1], {})).plan
    assert filled.argv[-1].endswith("1.50 3.0 4.5")
    recorded = decode_plan(b"".join(encode_plan(plan)))  # a resume reads it
    assert recorded.tasks[1].argv == plan.tasks[1].argv


OUTPUTS = (
    "variables: {C: {value: 1, domain: [1, 2]}}\nworkflow:\n  name: w\n  tasks:\n"
    "    - {name: m, script: [x], replicas: {variables: [C]}, outputs: [{pattern: 'r={rate:d}'}]}\n"
    "    - {name: n, script: [x], outputs: [{json: 'a.b'}, {csv: step, source: f.csv},\n"
    "      {pattern: '{p.q:d}'}], result: {z: 'z=(.)'}}\n"
    "    - {name: f, script: [x], result: {file: m.json}}\n"
    "    - {name: e, script: [x], outputs: [{pattern: '{${{ \"v\" }}:d}'}]}\n"
    "    - name: c\n      depends_on: [m, n, f, e]\n      script: ['%s']\n"
)


@pytest.mark.parametrize(
    ("expression", "code", "hint"),
    [
        ("task.m.outputs.rate", "outputs-of-replicas", 'task["m"][0].outputs'),
        ('task["m"].outputs', "outputs-of-replicas", "map(attribute="),
        ("task.m_1.outputs.rat", "no-such-output", 'did you mean "rate"?'),
        ("task.m[1].outputs[\"rat\"]", "no-such-output", 'did you mean "rate"?'),
        ("task.n.outputs.a", "no-such-output", "it has b, p.q, step, z"),
    ],
)  # fmt: skip
def test_public_n4_outputs_that_cannot_come_are_refused(
    expression: str, code: str, hint: str, tmp_path: Path
) -> None:
    (finding,) = findings_of(tmp_path, OUTPUTS % f"${{{{ {expression} }}}}")
    assert finding.code == code
    assert hint in str(finding.hint)
    assert "workflow.tasks[4].script[0]" in str(finding.where)


@pytest.mark.parametrize(
    "expression",
    [
        "task.m[0].outputs.rate",
        'task["m_2"].outputs["rate"]',
        "task.m | map(attribute=\"outputs.rate\") | sum",
        "task.n.outputs.b.deep",
        "task.n.outputs.step",
        "task.n.outputs.z",
        "task.n.outputs.p",
        'task.n.outputs.get("a")',
        "task.n.outputs.a | default(1)",
        "task.n.outputs.a is defined",
        "task.f.outputs.anything",
        "task.e.outputs.anything",
    ],
)  # fmt: skip
def test_public_n4_outputs_that_may_come_are_accepted(expression: str, tmp_path: Path) -> None:
    assert plan_of(tmp_path, OUTPUTS % f"${{{{ {expression} }}}}").tasks[-1].deferred


@pytest.mark.parametrize(
    "field",
    [
        "retries: %s",
        "retries: {count: 1, interval: %s}",
        "retries: {count: 1, interval: 1, backoff: %s}",
        "timeout: %s",
        "replicas: %s",
        "resources: {gpus: {count: %s}}",
        "resources: {nodes: {count: %s}}",
        "ports: {http: %s}",
        "success: {files: [{path: a, min_bytes: %s}]}",
    ],
)
def test_public_n4_numbers_beyond_measure_are_refused(field: str, tmp_path: Path) -> None:
    text = f"workflow: {{name: w, tasks: [{{name: a, script: [x], {field % ('1' + '0' * 400)}}}]}}\n"
    (finding,) = findings_of(tmp_path, text)
    assert finding.code in ("wrong-value", "sweep-size", "nodes-do-not-fit", "too-many-ports")


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_public_11_a_host_may_be_written_as_an_endpoint_has_it(host: str, tmp_path: Path) -> None:
    probes = f"{{readiness: {{tcp_port: {{port: 80, host: '{host}'}}}}}}"
    text = f"workflow: {{name: w, tasks: [{{name: a, script: [x], probes: {probes}}}]}}\n"
    (check,) = plan_of(tmp_path, text).tasks[0].probes[0].checks
    assert isinstance(check, TcpCheck)
    assert check.host == "::1"


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ("replicas: {count: 1000000000}", "more than 1000000 replicas"),
        ("resources: {gpus: {count: 1000000000}}", "must be at most 100000"),
        ("resources: {nodes: {count: 1000000000}}", "must be at most 100000"),
        ("resources: {gpus: {count: '${{ 10 ** 12 }}'}}", "must be at most 100000"),
        ("launcher: {type: torchrun, nproc: 1000000000}", "must be at most 100000"),
    ],
)
def test_s2_a_number_that_would_fill_the_memory_is_refused(tmp_path: Path, more: str, what: str) -> None:
    assert what in str(findings_of(tmp_path, ONE + more + "\n"))


@pytest.mark.parametrize("field", ["nodes", "gpus_per_node"])
def test_s2_a_backend_is_not_larger_than_any_machine(tmp_path: Path, field: str) -> None:
    backend = f"backends: [{{name: l, type: local, {field}: 1000000000}}]\n"
    (finding,) = findings_of(tmp_path, backend + ONE + "timeout: 5\n")
    assert "must be at most 100000" in str(finding)


@pytest.mark.parametrize("option", ["nodes_override", "gpus_per_node_override"])
def test_s2_an_option_is_not_larger_than_any_machine(tmp_path: Path, option: str) -> None:
    (finding,) = findings_of(tmp_path, ONE + "timeout: 5\n", **{option: 10**9})
    assert "must be at most 100000" in str(finding)
