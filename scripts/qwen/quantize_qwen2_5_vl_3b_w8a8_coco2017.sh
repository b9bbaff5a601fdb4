#!/usr/bin/env bash
# INT8 SmoothQuant (W8A8) with an FP8 KV cache of Qwen2.5-VL-3B; see --help.
set -euo pipefail

FORMAT=int8_sq
TITLE="INT8 SmoothQuant (W8A8) with an FP8 KV cache of Qwen2.5-VL-3B"
SUFFIX=W8A8

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
quantize "$@"
