"""`sflow-ctl run --dry-run` of thousands of tasks, whole process, with and without expressions."""

from pathlib import Path

from bench.measure import SFLOW_CTL, interleaved, report, scratch, seconds, sized


def plain(count: int) -> str:
    """Tasks written out one by one, in layers of ten."""
    lines = ['version: "0.1"', "workflow:", "  name: many", "  tasks:"]
    for index in range(count):
        lines += [f"    - name: task_{index}", f'      script: ["echo task {index}"]']
        if index >= 10:
            lines.append(f"      depends_on: [task_{index - 10}]")
    return "\n".join(lines) + "\n"


def expressions(count: int) -> str:
    """Tasks whose scripts and timeouts are computed."""
    lines = [
        'version: "0.1"',
        "variables: {BASE: {type: integer, value: 7}}",
        "workflow:",
        "  name: many",
        "  tasks:",
    ]
    for index in range(count):
        lines += [
            f"    - name: task_{index}",
            f'      script: ["echo ${{{{ variables.BASE * {index} }}}} on ${{{{ task.task_{index}.nodes[0].name }}}}"]',
            '      timeout: "${{ BASE * 10 }}"',
        ]
    return "\n".join(lines) + "\n"


def a_megabyte() -> str:
    """One megabyte of YAML: tasks with long scripts."""
    lines = ['version: "0.1"', "workflow:", "  name: long", "  tasks:"]
    size = 0
    index = 0
    while size < sized(1_000_000, 10_000):
        more = [
            f"    - name: task_{index}",
            "      script:",
            *(f'        - "echo line {n} of a script"' for n in range(20)),
        ]
        size += sum(len(line) + 1 for line in more)
        lines += more
        index += 1
    return "\n".join(lines) + "\n"


def main() -> None:
    """Seconds of a whole process."""
    with scratch() as cwd:

        def dry_run(text: str, name: str) -> float:
            file = Path(cwd / f"{name}.yaml")
            if not file.exists():
                file.write_text(text)
            return seconds([*SFLOW_CTL, "run", "--dry-run", file], cwd)

        results = interleaved(
            {
                "10 tasks": lambda: dry_run(plain(10), "a"),
                "1,000 tasks": lambda: dry_run(plain(sized(1000, 20)), "b"),
                "5,000 tasks": lambda: dry_run(plain(sized(5000, 20)), "c"),
                "5,000 tasks with expressions": lambda: dry_run(expressions(sized(5000, 20)), "e"),
                "10,000 tasks with expressions": lambda: dry_run(expressions(sized(10_000, 20)), "d"),
                "1 MB file": lambda: dry_run(a_megabyte(), "f"),
            },
            5,
        )
    report("plan_speed", "s", results)


if __name__ == "__main__":
    main()
