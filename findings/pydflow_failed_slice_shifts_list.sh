#!/bin/sh
# pydflow 1.8.134, debug mode: the list of a sliced step's results has no place for a slice that failed, so later results move forward.
#
# Four slices square 0, 1, 2, 3; the second raises, and the step has continue_on_failed=True. The next step receives [0, 4, 9]: index 1 is
# the square of 2. Nothing in the list says that a slice is missing, and the workflow ends as Succeeded, so results are paired with the
# wrong inputs.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check pydflow==1.8.134
cd "$folder"
cat > squares.py <<'PYTHON'
from dflow import Step, Workflow, argo_range, config
from dflow.python import OP, PythonOPTemplate, Slices

config["mode"] = "debug"


@OP.function
def square(number: int) -> {"value": int}:
    if number == 1:
        raise ValueError("this slice fails")
    return {"value": number * number}


@OP.function
def show(values: list) -> {"text": str}:
    return {"text": str(values)}


slices = Slices(input_parameter=["number"], output_parameter=["value"])
squares = Step(
    "square",
    template=PythonOPTemplate(square, slices=slices),
    parameters={"number": [0, 1, 2, 3]},
    with_param=argo_range(4),
    continue_on_failed=True,
)
values = squares.outputs.parameters["value"]
workflow = Workflow(name="squares")
workflow.add(squares)
workflow.add(Step("show", template=PythonOPTemplate(show), parameters={"values": values}))
workflow.submit()
workflow.wait()
(shown,) = workflow.query_step(name="show")
print("seen:", workflow.query_status(), shown.outputs.parameters["text"].value)
PYTHON
venv/bin/python squares.py > output 2>&1 < /dev/null || { cat output; exit 1; }
seen=$(sed -n 's/^seen: //p' output)
echo "pydflow 1.8.134, squares of 0, 1 (fails), 2, 3: $seen"
test "$seen" = "Succeeded [0, 4, 9]"
