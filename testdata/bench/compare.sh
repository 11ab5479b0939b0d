#!/bin/bash
# Build one closure's squashfs with mksquashfs, as nixpkgs calls it, and with isopress, and print a
# table in Markdown: size, time, memory. Both run here and now, one after the other.
#
#   testdata/bench/compare.sh CLOSURE [COMPRESSION...]
#
#   CLOSURE       a directory with store-paths and registration (testdata/make-closure)
#   COMPRESSION   zstd:LEVEL, xz, gzip:LEVEL, lz4 (default: zstd:19)
#
# Environment: MKSQUASHFS and ISOPRESS name the programs (default: mksquashfs on PATH, bin/isopress),
# JOBS the processors for each (2), TMPDIR where the images go, about three times the result.
set -euo pipefail
closure=${1:?usage: compare.sh CLOSURE [COMPRESSION...]}; shift
[ $# -gt 0 ] || set -- zstd:19
here=$(cd "$(dirname "$0")" && pwd)
mksquashfs=${MKSQUASHFS:-mksquashfs}
isopress=${ISOPRESS:-$here/../../bin/isopress}
jobs=${JOBS:-2}

die() { echo "compare.sh: $*" >&2; exit 1; }
command -v "$mksquashfs" >/dev/null || die "$mksquashfs: not found (Debian: apt install squashfs-tools)"
command -v "$isopress" >/dev/null || die "$isopress: not found: go build -o bin/ ./cmd/..."
[ -x /usr/bin/time ] || die "/usr/bin/time: not found (Debian: apt install time)"
for f in store-paths registration; do [ -r "$closure/$f" ] || die "$closure/$f: not found"; done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mapfile -t paths < "$closure/store-paths"
cp "$closure/registration" "$work/nix-path-registration"

# measure NAME COMMAND...: run what makes $work/image, and print its row.
measure() {
  local name=$1 size; shift
  rm -f "$work/image"
  /usr/bin/time -f '%e %U %S %M' -o "$work/time" "$@" >"$work/log" 2>&1 ||
    { tail -n 20 "$work/log" >&2; die "$name failed"; }
  size=$(stat -c %s "$work/image")
  tail -n 1 "$work/time" | awk -v name="$name" -v size="$size" -v first="${first:-$size}" '{
    printf "| %s | %d | %.4f | %.1f | %.1f | %.0f |\n", name, size, size / first, $1, $2 + $3, $4 / 1024 }'
}

mksquashfs_flags() {
  local codec=${1%%:*} level=${1#*:}
  case $1 in
    zstd:* | gzip:*) echo "-comp $codec -Xcompression-level $level" ;;
    xz) echo "-comp xz -Xbcj x86" ;;
    lz4:hc) echo "-comp lz4 -Xhc" ;;
    *) echo "-comp $codec" ;;
  esac
}

# Both read the same files; neither shall pay for the disk.
find "${paths[@]}" -type f -exec cat {} + >/dev/null

"$mksquashfs" -version 2>/dev/null | head -n 1 || true
"$isopress" version
echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) processors, $jobs used;" \
  "Linux $(uname -r); ${#paths[@]} store paths, $(du -sbc "${paths[@]}" | tail -n 1 | cut -f 1) bytes"
for c in "$@"; do
  first=
  echo
  echo "| $c | bytes | ratio | wall s | CPU s | peak MiB |"
  echo "|---|--:|--:|--:|--:|--:|"
  # shellcheck disable=SC2046 # the flags are words
  (cd "$work" && measure mksquashfs "$mksquashfs" nix-path-registration "${paths[@]}" "$work/image" \
    -no-hardlinks -keep-as-directory -all-root -b 1048576 $(mksquashfs_flags "$c") \
    -processors "$jobs" -no-progress -quiet)
  first=$(stat -c %s "$work/image")
  measure isopress "$isopress" squashfs --closure "$closure/store-paths" --registration "$closure/registration" \
    --compression "$c" -j "$jobs" -o "$work/image"
done
