#!/usr/bin/env bash
# Rebuilds the whole pocket from nothing: the base, three adapters and the router.
#
# Usage: runs/pocket.sh [WORK_FOLDER]        the base on a GPU (runs/pocket_base.sh: three runs of
#                                            under ten minutes), the rest on the same machine; the
#                                            adapters take some 20 minutes with a GPU for each
#        runs/pocket.sh WORK_FOLDER toy      everything at toy scale: two minutes on one core
#
# Run again to go on. A base that lies in WORK_FOLDER/base already is taken as it is, so that it can
# come from another machine. WORK_FOLDER/model becomes what src/pointsman/pocket/model holds.
# PYTHON names the interpreter, where there is no .venv.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(realpath -m "${1:-$root/pocket-out}")
scale=${2:-full}
adapters="calendar claim-window provider-select"
# Epochs of each; the tasks of which it sees all samples, and those of which it sees them twice: what
# is hardest is asked least. Of the rest, which is learnt at once, every fourth.
declare -A epochs=([calendar]=3 [claim-window]=2.1 [provider-select]=2.3)
declare -A all_of=([calendar]="next-month|previous-month|rank" [claim-window]="none"
    [provider-select]="row|rank")
declare -A twice=([calendar]="other-month" [claim-window]="rank|type" [provider-select]="none")
sizes=544x416,576x432,608x448,640x448,640x480,672x480,704x512,736x512,768x544,800x576
if [ "$scale" = toy ]; then
    samples=60 routed=60 each=3 sizes=320x256 from=1 layers=1 workers=1
    training="--rank 4 --alpha 8 --batch-size 4"
    epochs=([calendar]=1 [claim-window]=1 [provider-select]=1)
else
    samples=1200000 routed=20000 each=6 from=2 layers=1,2 workers=$(nproc)
    # Large windows and upright ones too, for what is asked of the adapters; the router needs few.
    all_sizes=$sizes,832x608,864x640,896x560,928x672,960x640,1024x640,1024x768,1088x704,1152x736
    all_sizes=$all_sizes,1216x768,1280x720,1280x800,544x720,608x800,656x896,704x960,768x1024,896x1152
    training="--rank 32 --alpha 64 --batch-size 128 --learning-rate 1.8e-3"
fi
default=$root/.venv/bin/python
export PYTHON=${PYTHON:-$([ -x "$default" ] && echo "$default" || echo python3)}
export PYTHONPATH=$root/src:$root${PYTHONPATH:+:$PYTHONPATH}
screens() { "$PYTHON" -m lab.screens "$@"; }
pointsman() { "$PYTHON" -m pointsman "$@"; }

if [ ! -f "$work/base/config.json" ]; then
    "$root/runs/pocket_base.sh" "$work" "$([ "$scale" = toy ] && echo toy || echo all)"
fi

# Inside the model's folder, so that what router and adapters record is "base", not a path.
mkdir -p "$work/model" && cd "$work/model"
[ -d base ] || cp -r "$work/base" base
cp "$root/src/pointsman/pocket/model/pointsman.toml" .

# What the adapters learn from, and other screens for the router.
screens --out "$work/screens" -n $samples --seed 37 --per-image $each --vary \
    --out-of-scope 0.03 --sizes "${all_sizes:-$sizes}" --workers $workers
screens --out "$work/routed" -n $routed --seed 43 --per-image $each --vary \
    --sizes "$sizes" --workers $workers
train_adapter() {
    local name=$1 chosen=$work/screens/$1-chosen.jsonl  # beside the pictures that it names
    if [ ! -f adapters/$name/adapter_config.json ]; then
        awk '/"task": "('"${twice[$name]}"')"/ { print; print; next }
            /"task": "('"${all_of[$name]}"')"/ || NR % 4 == 0' \
            "$work/screens/$name.jsonl" > "$chosen"
        pointsman adapters train $name "$chosen" --base base --epochs ${epochs[$name]} \
            --layers-from $from $training --out adapters/$name
    fi
    # As the base's own weights: half of the bytes.
    "$PYTHON" - adapters/$name/adapter_model.safetensors <<'PYTHON'
import sys
import torch
from safetensors.torch import load_file, save_file
tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(sys.argv[1]).items()}
save_file(tensors, sys.argv[1], {"format": "pt"})
PYTHON
}
# Side by side on the GPUs there are; on a CPU one after the other.
gpus=($("$PYTHON" -c '
import os, torch
count, given = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
print(*(given.split(",")[:count] if given else range(count)))'))
started=()
for name in $adapters; do
    if [ ${#gpus[@]} -eq 0 ]; then
        train_adapter $name
    else
        CUDA_VISIBLE_DEVICES=${gpus[${#started[@]} % ${#gpus[@]}]} train_adapter $name &
        started+=($!)
    fi
done
for job in ${started[@]+"${started[@]}"}; do wait "$job"; done
pointsman data generate --out "$work/dataset" --config pointsman.toml \
    $(for name in $adapters; do echo --source $name="$work/routed/$name.jsonl"; done) \
    --out-of-scope "$work/routed/out-of-scope.jsonl"
pointsman data check "$work/dataset"
pointsman preprocess "$work/dataset" --base base --layers $layers --out "$work/features"
pointsman train "$work/features" --out router --coverage 0.99
pointsman seal router --config pointsman.toml
pointsman inspect router
