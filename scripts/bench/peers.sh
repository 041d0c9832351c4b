#!/bin/sh
# Makes the environments of the peers that `make bench-train` and `labels.py` measure against, each in its own folder.
#
#   scripts/bench/peers.sh [FOLDER]      default: ~/.cache/kamerton/peers; an environment that is there stays as it is
#
# torch goes in first, from whatever index pip is told to use, so that everything else settles for that build.
set -eu
folder=${1:-$HOME/.cache/kamerton/peers}
python=${PYTHON:-python3}
torch=torch==2.13.0
mkdir -p "$folder"

make_environment() { # NAME PACKAGE...
    name=$1
    shift
    test -e "$folder/$name/.made" && return
    "$python" -m venv "$folder/$name"
    pip="$folder/$name/bin/python -m pip --disable-pip-version-check"
    $pip install --quiet "$torch"
    $pip install --quiet "$torch" "$@"
}

made() { touch "$folder/$1/.made"; }

make_environment trl trl==1.16.0 transformers==5.23.0 peft==0.21.2 datasets
made trl

make_environment litgpt litgpt==0.5.13 requests # LitGPT imports requests without asking for it
made litgpt

make_environment lmeval "lm_eval[hf]==0.4.13" transformers==5.23.0
made lmeval

make_environment llamafactory llamafactory==0.9.5
if ! test -e "$folder/llamafactory/.made"; then
    # Its torchvision and torchaudio are builds for CUDA. It does without the first and imports the second unused.
    "$folder/llamafactory/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio
    site=$("$folder/llamafactory/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    touch "$site/torchaudio.py"
    made llamafactory
fi
