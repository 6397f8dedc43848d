#!/usr/bin/env bash
# Run this once on a computer with an NVIDIA GPU and TensorRT: builds the plans of a pack, checks that the face on the GPU
# is the face on the CPU, measures, and prints a table to paste into an issue. Everything goes into a folder of its own.
#   export/verify_gpu.sh [PACK] [PRECISION...]     PACK: default the bundled cast; PRECISION: fp32 fp16 int8
# BATCHES="8 64" (default) are the numbers of avatars a call that are built and measured for the precision fp16.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}
pack=${1:-engine/assets/cast.avatar}
shift || true
precisions=("$@")
[ ${#precisions[@]} -gt 0 ] || precisions=(fp32 fp16 int8)

"$python" -c 'import tensorrt, pycuda.driver' 2>/dev/null || {
  echo "error: tensorrt and pycuda are needed: $python -m pip install '.[tensorrt,train]'" >&2
  exit 1
}
folder=$(mktemp -d "${TMPDIR:-/tmp}/mouthpiece-gpu.XXXXXX")
chmod 700 "$folder"
trap 'rm -rf "$folder"' EXIT

status=0
{
  echo "### Mouthpiece on $(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -n 1)"
  "$python" -c 'import tensorrt, pycuda, platform
print(f"TensorRT {tensorrt.__version__}, pycuda {pycuda.VERSION_TEXT}, Python {platform.python_version()}, {platform.platform()}")'
  git log -1 --format='commit %h' 2>/dev/null || true
  for precision in "${precisions[@]}"; do
    # A cache for each precision: the back end then finds no other.
    export MOUTHPIECE_PLANS="$folder/$precision"
    echo
    echo "#### $precision"
    echo '```'
    if "$python" -m export.trt "$pack" --precision "$precision" 2>&1; then
      "$python" -m export.compare "$pack" --backend tensorrt --precision "$precision" || status=1
      sizes=1
      if [ "$precision" = fp16 ]; then
        for size in ${BATCHES-8 64}; do
          "$python" -m export.trt "$pack" --precision "$precision" --batch "$size" 2>&1 || { status=1; continue; }
          "$python" -m export.compare "$pack" --backend tensorrt --precision "$precision" --batch "$size" || status=1
          sizes=$sizes,$size
        done
      fi
      "$python" -m export.bench "$pack" --backends tensorrt,onnxruntime-cuda,openvino --batches "$sizes" || status=1
    else
      status=1
    fi
    echo '```'
  done
  echo
  if [ $status = 0 ]; then echo "All checks passed."; else echo "**Something failed, see above.**"; fi
} | tee "$folder/report.md"
# The pipe's left side ran in a shell of its own: its verdict is in what it wrote.
grep -q '^All checks passed\.$' "$folder/report.md"
