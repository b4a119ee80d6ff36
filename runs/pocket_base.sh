#!/usr/bin/env bash
# Trains the pocket's base from nothing: three runs of 560 seconds, each resuming from the last
# one's folder, then the export that load_base reads. An H100 and 16 cores see some 900 screens a
# second, two of them 1,400, four 2,400.
#
# Usage: runs/pocket_base.sh [WORK_FOLDER]             all of it, here
#        runs/pocket_base.sh WORK_FOLDER 1|2|3         one run, on whichever machine
#        runs/pocket_base.sh WORK_FOLDER export        the export alone; a CPU will do
#        runs/pocket_base.sh WORK_FOLDER more SEED     one run on from the base that is shipped
#        runs/pocket_base.sh WORK_FOLDER toy           a tiny model, 20 seconds on one core
#
# Where each run is another machine's, WORK_FOLDER/base-run travels to it and back: seven files,
# none above 16 MiB. weights-*.safetensors, progress.json and log.jsonl are needed; with
# optimiser-*.safetensors the momentum is kept, without them it starts anew.
# Drawing needs the packages font-roboto and font-source-sans-pro; FONTS names a folder with more of them, as
# NAME-Regular.ttf and NAME-Bold.ttf. PYTHON names the interpreter.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(realpath -m "${1:-$root/pocket-out}")
what=${2:-all}
default=$root/.venv/bin/python
python=${PYTHON:-$([ -x "$default" ] && echo "$default" || echo python3)}
# Drawing is one process for each core: none may start threads of its own.
export PYTHONPATH=$root/src:$root${PYTHONPATH:+:$PYTHONPATH} OMP_NUM_THREADS=1
# Canvases of all sizes would leave memory in pieces.
export PYTORCH_ALLOC_CONF=expandable_segments:True
# Twice: they are few beside the bundled ones.
fonts=(${FONTS:+--fonts "$FONTS" --fonts "$FONTS"})

# All GPUs of this machine train together.
gpus=$("$python" -c 'import torch; print(torch.cuda.device_count())')
start=("$python" -m)
[ "$gpus" -gt 1 ] && start+=(torch.distributed.run --standalone --nproc-per-node "$gpus" -m)

seed=1
run() {
    "${start[@]}" lab.pretrain --out "$work/base-run" --seed "$seed" \
        ${fonts[@]+"${fonts[@]}"} "$@"
}
export_base() { "$python" -m lab.pretrain.export "$work/base-run" "$work/base"; }

case $what in
    1) run --budget-seconds 560 --runs-left 3 ;;
    2) run --budget-seconds 560 --runs-left 2 ;;
    3) run --budget-seconds 560 --runs-left 1 ;;
    export) export_base ;;
    more)
        # Another seed than before: other screens. Full rates would undo what is learnt.
        seed=${3:?SEED of the screens, one not used yet}
        run --budget-seconds 540 --base "$root/src/pointsman/pocket/model/base" \
            --rate-share 0.5 --decay-share 1.0
        export_base
        ;;
    toy) run --toy --budget-seconds 20 && export_base ;;
    all)
        for left in 3 2 1; do run --budget-seconds 560 --runs-left $left; done
        export_base
        ;;
    *) echo "unknown part: $what" >&2 && exit 1 ;;
esac
