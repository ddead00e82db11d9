#!/bin/sh
# nv-sflow 0.3.1: in a script line that contains the characters "task.", a swept variable has its plain value in every replica.
#
#   echo "plain ${{ variables.C }}"        each replica prints its own value
#   echo "mytask.py ${{ variables.C }}"    each replica prints the value that the variable has without a sweep
#
# The rest of the two lines is the same; a file called mytask.py is enough. A sweep over concurrencies whose command line names such a
# file measures one value several times, under different names, and nothing says so.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check nv-sflow==0.3.1
cd "$folder"
cat > sweep.yaml <<'YAML'
version: "0.1"
variables:
  C: {value: 4, domain: [1, 4]}
workflow:
  name: sweep
  tasks:
    - name: t
      replicas: {variables: [C], policy: parallel}
      script:
        - echo "plain ${{ variables.C }}"
        - echo "mytask.py ${{ variables.C }}"
YAML
venv/bin/sflow run -f sweep.yaml > output 2>&1 < /dev/null || { cat output; exit 1; }
lines=$(cat sflow_output/*/t_1/t_1.log sflow_output/*/t_4/t_4.log | sed 's/.* - //' | tr '\n' ',')
echo "nv-sflow 0.3.1, replicas t_1 and t_4: $lines"
test "$lines" = "plain 1,mytask.py 4,plain 4,mytask.py 4,"
