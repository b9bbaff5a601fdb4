# Shared by the scripts of this folder. Each sets FORMAT, TITLE and SUFFIX, and calls `quantize "$@"`.
# shellcheck shell=bash

usage() {
    cat <<EOF
Usage: $(basename "$0") [OPTION]... [-- HF_PTQ_OPTION...]

$TITLE,
by ModelOpt's hf_ptq.py with this project's patches, calibrated with captions of
COCO 2017. The checkpoint appears when it is complete, and is then checked.

  --model MODEL        folder, or name on the Hugging Face hub  [Qwen/Qwen2.5-VL-3B-Instruct]
  --output DIR         new folder for the checkpoint  [./Qwen2.5-VL-3B-Instruct-$SUFFIX]
  --captions FILE      one caption a line  [\$COCO2017_CAPTIONS_LOCAL_PATH, or
                       datasets/vlm-quantize-calib/coco2017_captions.txt]
  --calib-size N       captions to calibrate with  [4096]
  --calib-seq N        longest caption, in tokens  [512]
  --batch-size N       captions in a batch; 0: as many as fit  [0]
  --kv-cache FORMAT    fp8 or none  [fp8]
  --python PYTHON      the Python that has the patched ModelOpt  [python3]
  --hf-ptq FILE        hf_ptq.py of the patched tree  [from extern/Model-Optimizer]
  --checkpoint COMMAND the command that checks the checkpoint  [checkpoint]
  --unpatched          accept a ModelOpt that is not of this project's series
  --help               show this text

Options after -- go to hf_ptq.py, such as --attn_implementation eager.

Before:  patchset apply modelopt && patchset build modelopt
         python3 -m pip install dist/nvidia_modelopt-*.whl accelerate transformers

Example: $(basename "$0") --model ./Qwen2.5-VL-3B-Instruct --output ./out --captions captions.txt

With the wheel alone, without the patched tree: checkpoint quantize --help
EOF
}

fail() {
    echo "error: $1" >&2
    echo "remedy: $2" >&2
    exit "${3:-1}"
}

need_value() {
    [ "$#" -ge 2 ] || fail "$1 needs a value" "see --help" 2
}

# Print the path of the patched tree's example script; older releases have it in another folder.
find_script() {
    local folder
    for folder in hf_ptq llm_ptq; do
        if [ -f "$ROOT/extern/Model-Optimizer/examples/$folder/hf_ptq.py" ]; then
            echo "$ROOT/extern/Model-Optimizer/examples/$folder/hf_ptq.py"
            return
        fi
    done
    fail "extern/Model-Optimizer has no examples/hf_ptq/hf_ptq.py" \
        "patchset apply modelopt --source submodule, name one with --hf-ptq, or use checkpoint quantize" 7
}

# Refuse a ModelOpt that is not of the series, by its version.
check_modelopt() {
    local version
    version=$("$PYTHON" -c 'import importlib.metadata as m; print(m.version("nvidia-modelopt"))' 2>/dev/null) ||
        fail "$PYTHON has no nvidia-modelopt" \
            "patchset build modelopt, and install the wheel from dist/ there, or name another with --python" 9
    case $version in
        *+patchset.*) ;;
        *)
            [ -n "$UNPATCHED" ] || fail "$PYTHON has nvidia-modelopt $version, which is not of this project's series" \
                "patchset build modelopt, and install the wheel from dist/; or go on with --unpatched" 9
            ;;
    esac
    echo "nvidia-modelopt $version"
}

# Refuse upstream's own script: it would export for TensorRT-LLM.
check_script() {
    grep -q unified_hf_export "$SCRIPT" || fail "$SCRIPT is not patched" "patchset apply modelopt --source submodule" 9
}

quantize() {
    ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
    PYTHON=python3 SCRIPT='' UNPATCHED='' CHECK=(checkpoint check)
    local model=Qwen/Qwen2.5-VL-3B-Instruct output="./Qwen2.5-VL-3B-Instruct-$SUFFIX"
    local captions=${COCO2017_CAPTIONS_LOCAL_PATH:-datasets/vlm-quantize-calib/coco2017_captions.txt}
    local size=4096 length=512 batch=0 cache=fp8
    while [ "$#" -gt 0 ]; do
        case $1 in
            --model) need_value "$@"; model=$2; shift ;;
            --output) need_value "$@"; output=${2%/}; shift ;;
            --captions) need_value "$@"; captions=$2; shift ;;
            --calib-size) need_value "$@"; size=$2; shift ;;
            --calib-seq) need_value "$@"; length=$2; shift ;;
            --batch-size) need_value "$@"; batch=$2; shift ;;
            --kv-cache) need_value "$@"; cache=$2; shift ;;
            --python) need_value "$@"; PYTHON=$2; shift ;;
            --hf-ptq) need_value "$@"; SCRIPT=$2; shift ;;
            --checkpoint) need_value "$@"; CHECK=("$2" check); shift ;;
            # The option's name when the check was a command of `regression`.
            --regression) need_value "$@"; CHECK=("$2" check-checkpoint); shift ;;
            --unpatched) UNPATCHED=yes ;;
            -h | --help) usage; exit 0 ;;
            --) shift; break ;;
            *) fail "unknown option $1" "see --help" 2 ;;
        esac
        shift
    done
    local number
    for number in "$size" "$length" "$batch"; do
        [[ $number =~ ^[0-9]+$ ]] || fail "$number is not a number" "see --help" 2
    done
    [ -r "$captions" ] && [ -f "$captions" ] || fail "$captions is not a file that can be read" \
        "name a text file with one caption a line with --captions, or set COCO2017_CAPTIONS_LOCAL_PATH" 2
    [ ! -e "$output" ] || fail "$output exists already" "name another folder with --output, or remove it" 2
    command -v "${CHECK[0]}" >/dev/null || fail "the command ${CHECK[0]} is not installed" \
        "install this project (python3 -m pip install -e '$ROOT[checkpoint]'), or name its command with --checkpoint" 9
    check_modelopt
    [ -n "$SCRIPT" ] || SCRIPT=$(find_script)
    check_script

    mkdir -p "$(dirname "$output")"
    PARTIAL="$(dirname "$output")/.$(basename "$output").partial"
    rm -rf "$PARTIAL"
    trap 'rm -rf "$PARTIAL"' EXIT
    trap 'exit 130' INT TERM
    COCO2017_CAPTIONS_LOCAL_PATH=$captions "$PYTHON" "$SCRIPT" \
        --pyt_ckpt_path "$model" --export_path "$PARTIAL" --qformat "$FORMAT" --kv_cache_qformat "$cache" \
        --dataset coco2017_captions_local --calib_size "$size" --calib_seq "$length" --batch_size "$batch" "$@" ||
        fail "hf_ptq.py failed" "its output is above; nothing was written" 11
    mv "$PARTIAL" "$output"
    "${CHECK[@]}" "$output"
}
