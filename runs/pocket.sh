#!/usr/bin/env bash
# Rebuilds the whole pocket from nothing: the base, three adapters and the router.
#
# Usage: runs/pocket.sh [WORK_FOLDER]        the base on a GPU (runs/pocket_base.sh: three runs of
#                                            under ten minutes), the rest on the same machine
#        runs/pocket.sh WORK_FOLDER toy      everything at toy scale: two minutes on one core
#
# Run again to go on. A base that lies in WORK_FOLDER/base already is taken as it is, so that it can
# come from another machine. WORK_FOLDER/model becomes what src/pointsman/pocket/model holds.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(realpath -m "${1:-$root/pocket-out}")
scale=${2:-full}
adapters="calendar claim-window provider-select"
if [ "$scale" = toy ]; then
    samples=60 sizes=320x256 per_image=3 from=1 rank=4 layers=1
else
    samples=15000 per_image=6 from=2 rank=16 layers=2
    # Small windows: what is learnt on them holds on larger ones, and they take half the time.
    sizes=544x416,576x432,608x448,640x448,640x480,672x480,704x512,736x512,800x576
fi
export PATH=$root/.venv/bin:$PATH

if [ ! -f "$work/base/config.json" ]; then
    "$root/runs/pocket_base.sh" "$work" "$([ "$scale" = toy ] && echo toy || echo all)"
fi

# Inside the model's folder, so that what router and adapters record is "base", not a path.
mkdir -p "$work/model" && cd "$work/model"
[ -d base ] || cp -r "$work/base" base
cp "$root/src/pointsman/pocket/model/pointsman.toml" .

pointsman data screens --out "$work/screens" -n $samples --seed 31 --per-image $per_image --sizes $sizes
for name in $adapters; do
    [ -f adapters/$name/adapter_config.json ] ||
        pointsman adapters train $name "$work/screens/$name.jsonl" --base base \
            --layers-from $from --rank $rank --alpha $((2 * rank)) --batch-size 16 \
            --out adapters/$name
done
pointsman data generate --out "$work/dataset" --config pointsman.toml \
    $(for name in $adapters; do echo --source $name="$work/screens/$name.jsonl"; done) \
    --out-of-scope "$work/screens/out-of-scope.jsonl"
pointsman data check "$work/dataset"
pointsman preprocess "$work/dataset" --base base --layers $layers --out "$work/features"
pointsman train "$work/features" --out router
pointsman inspect router
