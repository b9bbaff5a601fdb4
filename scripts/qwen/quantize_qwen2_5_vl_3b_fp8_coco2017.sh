#!/usr/bin/env bash
# FP8 with an FP8 KV cache of Qwen2.5-VL-3B; see --help.
set -euo pipefail

FORMAT=fp8
TITLE="FP8 with an FP8 KV cache of Qwen2.5-VL-3B"
SUFFIX=FP8

# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
quantize "$@"
