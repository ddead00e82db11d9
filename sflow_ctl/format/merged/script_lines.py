"""Script lines that YAML reads as a mapping because of a colon: `- echo on: yes`. They are text again, as written.

Called for each file before it is merged.
"""

from typing import Any

import yaml

from protocol.errors import Finding
from sflow_ctl.format.field_lookup import dotted
from sflow_ctl.format.merged.items import Item
from sflow_ctl.format.yaml_source import Source

_BLOCK_SCALARS = ("|", ">")


def restore_lines(task: Item, warnings: list[Finding]) -> None:
    """Replace the mappings of one entry in a task's script by their source text."""
    script = task.body.get("script")
    if not isinstance(script, list):
        return
    lines = list(script)
    for index, line in enumerate(script):
        path = (*task.path, "script", index)
        if _is_line(line):
            lines[index] = _source_text(task.source, path, line)
            what = (
                f'"{lines[index]}" has a colon, so YAML reads a mapping: it is taken as a line of the script'
            )
            where = f"{task.source.where(path)}  {dotted(path)}"
            warnings.append(Finding("script-colon", what, where, "put the line in quotes"))
    task.body["script"] = lines


def _is_line(line: Any) -> bool:
    if not isinstance(line, dict) or len(line) != 1:
        return False
    ((key, value),) = line.items()
    return isinstance(key, str) and not isinstance(value, list | dict)


def _source_text(source: Source, path: tuple[str | int, ...], line: dict[str, Any]) -> str:
    ((key, value),) = line.items()
    parent, node = source.node(path[:-1]), source.node(path)
    if not isinstance(node, yaml.MappingNode) or not node.value:  # it came from an alias of a merge key
        return f"{key}:" if value is None else f"{key}: {value}"
    key_node, value_node = node.value[0]
    if isinstance(value_node, yaml.ScalarNode) and value_node.style in _BLOCK_SCALARS:
        return f"{key}: {value}"
    start = key_node.start_mark.index
    end = max(value_node.end_mark.index, key_node.end_mark.index + 1)
    is_block = isinstance(parent, yaml.SequenceNode) and not parent.flow_style
    if is_block and not node.flow_style:
        newline = source.text.find("\n", end if value is not None else key_node.end_mark.index)
        end = len(source.text) if newline < 0 else newline
    return source.text[start:end].rstrip()
