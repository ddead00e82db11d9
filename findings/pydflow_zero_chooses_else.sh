#!/bin/sh
# pydflow 1.8.134, debug mode: if_expression with a true condition gives the value of "else" when the value of "then" is zero.
#
#   if_expression(_if=first < 5, _then=first, _else=second)     with second = 7
#
# gives 3 for first = 3, and 7 for first = 0, although 0 < 5 is true as well.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check pydflow==1.8.134
cd "$folder"
cat > branch.py <<'PYTHON'
import sys

from dflow import OutputParameter, Step, Steps, Workflow, config, if_expression
from dflow.python import OP, PythonOPTemplate

config["mode"] = "debug"


@OP.function
def give(number: int) -> {"value": int}:
    return {"value": number}


first = Step("first", template=PythonOPTemplate(give), parameters={"number": int(sys.argv[1])})
second = Step("second", template=PythonOPTemplate(give), parameters={"number": 7})
branch = Steps("branch")
branch.add(first)
branch.add(second)
branch.outputs.parameters["chosen"] = OutputParameter(type=int)
branch.outputs.parameters["chosen"].value_from_expression = if_expression(
    _if=first.outputs.parameters["value"] < 5,
    _then=first.outputs.parameters["value"],
    _else=second.outputs.parameters["value"],
)
chosen = Step("branch", template=branch)
number = chosen.outputs.parameters["chosen"]
workflow = Workflow(name="branch")
workflow.add(chosen)
workflow.add(Step("show", template=PythonOPTemplate(give), parameters={"number": number}))
workflow.submit()
workflow.wait()
(shown,) = workflow.query_step(name="show")
print("seen:", workflow.query_status(), shown.outputs.parameters["value"].value)
PYTHON
for number in 3 0; do
    venv/bin/python branch.py "$number" > output 2>&1 < /dev/null || { cat output; exit 1; }
    seen="$seen$number gives $(sed -n 's/^seen: Succeeded //p' output), "
done
echo "pydflow 1.8.134, first < 5 ? first : 7: $seen"
test "$seen" = "3 gives 3, 0 gives 7, "
