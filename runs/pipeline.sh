#!/usr/bin/env bash
# The whole pipeline from nothing, at toy scale: minutes on 2 cores. A line per stage.
# Usage: runs/pipeline.sh [WORK_FOLDER]; run again to go on where it stopped.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
export PATH=$root/.venv/bin:$PATH PYTHONPATH=$root  # lab/ draws the screens
mkdir -p "${1:-pipeline-out}" && cd "${1:-pipeline-out}"

cat > pointsman.toml <<TOML
base = "$(python -c 'import pointsman.pocket as p; print(p.__path__[0])')/model/base"
router = "router"
[adapters]
calendar = "adapters/calendar"
claim-window = "adapters/claim-window"
provider-select = "adapters/provider-select"
TOML

# 1. Data: one training set for each adapter, as a user would already have
python -m lab.screens --out screens -n 300 --seed 1 --sizes 640x448,576x416
# 2. Adapters: a LoRA each, leaving the lower half of the base alone
for name in calendar claim-window provider-select; do
    [ -f adapters/$name/adapter_config.json ] ||
        pointsman adapters train $name screens/$name.jsonl --config pointsman.toml \
            --layers-from 4 --out adapters/$name
done
# 3. Routing data: merged, labelled, split
pointsman data generate --config pointsman.toml --out dataset --out-of-scope screens/out-of-scope.jsonl \
    --source calendar=screens/calendar.jsonl --source claim-window=screens/claim-window.jsonl \
    --source provider-select=screens/provider-select.jsonl
# 4. Data health
pointsman data check dataset
# 5. Features: one early-stopped forward for each sample
pointsman preprocess dataset --config pointsman.toml --layers 2,3,4 --out features
# 6. The head, sealed with its label map into a router
pointsman train features --out router
# 7. The adapters' files, sealed into the router
pointsman seal router --config pointsman.toml
pointsman inspect router
# 8. Evaluation: routing, and clicks of routed, oracle, base and wrong adapter
pointsman evaluate --config pointsman.toml --data dataset --by stratum --out evaluation
# 9. One request, routed and answered
pointsman generate "$(ls dataset/images/* | head -1)" "Click the first one" --config pointsman.toml
