#!/bin/sh
# executorlib 1.11.0: with cache_directory, a function that was edited in its module still gives the result of the old code.
#
# The key of a cached result has the arguments and the pickled function in it, and a function of an imported module is pickled by its name.
# Defined in the script itself the same function is pickled with its code, and the edit is seen.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check "executorlib[cache]==1.11.0"
cd "$folder"
cat > function.py <<'PYTHON'
def scaled(number):
    return 2 * number
PYTHON
cat > run.py <<'PYTHON'
if __name__ == "__main__":
    from executorlib import SingleNodeExecutor

    with SingleNodeExecutor(cache_directory=CACHE, max_workers=1) as executor:
        print(executor.submit(scaled, 4).result())
PYTHON
in_module() { { echo 'from function import scaled'; sed 's/CACHE/"of_module"/' run.py; } > module.py && venv/bin/python module.py; }
in_script() { { cat function.py; sed 's/CACHE/"of_script"/' run.py; } > script.py && venv/bin/python script.py; }
seen="module $(in_module), script $(in_script)"
sed -i 's/2 \* number/30 * number/' function.py
rm -rf __pycache__
seen="$seen; edited: module $(in_module), script $(in_script)"
echo "executorlib 1.11.0, 2 * 4 and then 30 * 4: $seen"
test "$seen" = "module 8, script 8; edited: module 8, script 120"
