#!/usr/bin/env bash
# Rebuilds the pocket's adapters and router on its base, with the product's own commands.
# About half an hour on 2 cores. Usage: runs/pocket.sh [WORK_FOLDER]; run again to go on.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(realpath -m "${1:-$root/pocket-out}")
sizes=640x448,640x480,720x512,800x576,704x480,576x416,608x448,672x512
adapters="calendar claim-window provider-select"
export PATH=$root/.venv/bin:$PATH

# Inside the model's folder, so that what the router and adapters record is "base", not a path.
cd "$root/src/pointsman/pocket/model"

pointsman data screens --out "$work/screens" -n 2000 --seed 11 --sizes $sizes
for name in $adapters; do
    [ -f "$work/adapters/$name/adapter_config.json" ] ||
        pointsman adapters train $name "$work/screens/$name.jsonl" --base base \
            --layers-from 4 --rank 8 --alpha 16 --out "$work/adapters/$name"
done
pointsman data generate --out "$work/dataset" --config pointsman.toml \
    $(for name in $adapters; do echo --source $name="$work/screens/$name.jsonl"; done) \
    --out-of-scope "$work/screens/out-of-scope.jsonl"
pointsman data check "$work/dataset"
pointsman preprocess "$work/dataset" --base base --layers 2,3,4 --out "$work/features"
pointsman train "$work/features" --out "$work/router"

rm -rf adapters router
cp -r "$work/adapters" "$work/router" .
